//! Where the demo finds the helper's programs.

use std::env;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The programs of a complete installation.
#[derive(Debug)]
pub(super) struct Programs {
    /// This program.
    pub(super) sailplane: PathBuf,
    /// The identity-switch helper.
    pub(super) switch: PathBuf,
    /// Its unprivileged half.
    pub(super) broker: PathBuf,
    /// What only root asks of it.
    pub(super) admin: PathBuf,
    /// Its verifier.
    pub(super) verify: PathBuf,
    /// What reads its policy.
    pub(super) policy: PathBuf,
    /// What asks the name service.
    pub(super) names: PathBuf,
    pub(super) names_nss: PathBuf,
    /// The agent in the sandbox.
    pub(super) job: PathBuf,
}

/// A program is missing.
#[derive(Debug, Error)]
pub(super) enum MissingProgram {
    /// It is in none of the places.
    #[error("{name} is not in {}", places(.looked))]
    NotFound {
        /// The program.
        name: &'static str,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// We do not know where we are ourselves.
    #[error("cannot find out where this program is")]
    Own(#[source] std::io::Error),
}

fn places(folders: &[PathBuf]) -> String {
    let words: Vec<String> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    words.join(" or ")
}

impl Programs {
    /// Looks beside this program, where cargo puts the helper, and where a site has it; or in `given` alone.
    pub(super) fn find(given: Option<&Path>) -> Result<Self, MissingProgram> {
        let sailplane = env::current_exe().map_err(MissingProgram::Own)?;
        let mut folders = Vec::new();
        match (given, sailplane.parent()) {
            (Some(given), _) => folders.push(given.to_owned()),
            (None, Some(beside)) => {
                folders.push(beside.to_owned());
                folders.push(beside.with_file_name("setuid"));
            }
            (None, None) => {}
        }
        if given.is_none() {
            folders.push(PathBuf::from("/usr/lib/sailplane"));
        }
        let find = |name: &'static str| {
            let candidates = folders.iter().map(|folder| folder.join(name));
            candidates
                .into_iter()
                .find(|path| path.is_file())
                .ok_or_else(|| MissingProgram::NotFound {
                    name,
                    looked: folders.clone(),
                })
        };
        Ok(Self {
            switch: find("sailplane-switch")?,
            broker: find("sailplane-broker")?,
            admin: find("sailplane-admin")?,
            verify: find("sailplane-verify")?,
            policy: find("sailplane-policy")?,
            names: find("sailplane-names")?,
            names_nss: find("sailplane-names-nss")?,
            job: find("sailplane-job")?,
            sailplane,
        })
    }
}
