//! `voms-trust`: the node believes the VOMS servers of the VOs that it is to serve.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use credential::{Blame, TrustStore, VerifyOptions, VomsOptions, inspect_bundle, verify_proxy};

use super::super::simple::{float, gather_and_judge, probe};
use super::{Directory, ca_directory, voms_directory};
use crate::check::Check;
use crate::outcome::{Failure, Outcome, Whose};
use crate::probe::{Context, Probe, Running};

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    probe(
        Check::new(
            "voms-trust",
            "VOMS servers that are believed, and the pilot's own attributes",
        ),
        run,
    )
}

fn run(context: &Context) -> Running<'_> {
    let setup = context.setup();
    let directory = voms_directory(setup, context.knobs());
    let authorities = ca_directory(setup).path;
    let proxy = setup.pilot_proxy.clone();
    let wanted = context.knobs().list("SAILPLANE_CHECK_VOS").to_vec();
    let vos = wanted.clone();
    Box::pin(gather_and_judge(
        context,
        move || gather(directory, &authorities, proxy.as_deref(), &vos),
        move |facts| judge(facts, &wanted),
    ))
}

#[derive(Debug, Clone)]
struct Facts {
    directory: Directory,
    /// The VOs that have servers in it; `None`: it cannot be read.
    known: Option<Vec<String>>,
    /// Of the pilot's proxy, if it has attributes: how many, or what is wrong with them and whose it is.
    own: Option<Result<usize, (String, bool)>>,
}

fn gather(
    directory: Directory,
    authorities: &Path,
    proxy: Option<&Path>,
    wanted: &[String],
) -> Facts {
    let known = fs::read_dir(&directory.path).ok().map(|entries| {
        let mut known: Vec<String> = entries
            .flatten()
            .filter(|entry| has_server(&entry.path()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        known.extend(
            wanted
                .iter()
                .filter(|vo| has_server(&directory.path.join(vo)))
                .cloned(),
        );
        known.sort_unstable();
        known.dedup();
        known
    });
    let own = proxy
        .filter(|_| known.is_some())
        .and_then(|path| own_attributes(path, authorities, &directory.path));
    Facts {
        directory,
        known,
        own,
    }
}

fn has_server(folder: &PathBuf) -> bool {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| {
            let path = entry.path();
            path.extension()
                .is_some_and(|extension| extension == "lsc" || extension == "pem")
        })
}

fn own_attributes(
    proxy: &Path,
    authorities: &Path,
    directory: &Path,
) -> Option<Result<usize, (String, bool)>> {
    let bundle = fs::read(proxy).ok()?;
    let seen = inspect_bundle(&bundle).ok()?;
    if !seen
        .certificates
        .iter()
        .any(|certificate| certificate.has_attributes)
    {
        return None;
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
    let mut options = VerifyOptions::at(now);
    options.accept_gt3 = true;
    options.accept_legacy = true;
    options.voms = Some(VomsOptions::load(directory));
    match verify_proxy(&bundle, &TrustStore::load(authorities), &options) {
        Ok(verified) => Some(Ok(verified.fqans().len())),
        // What is wrong with the proxy itself is another check's to say.
        Err(error) if error.code().starts_with("ac.") => {
            Some(Err((error.to_string(), error.blame() == Blame::Site)))
        }
        Err(_) => None,
    }
}

fn judge(facts: &Facts, wanted: &[String]) -> Outcome {
    let path = facts.directory.path.display();
    let hint =
        "install the VO's files (HOST.lsc below its name; packages wlcg-voms-*, osg vo-client)";
    let Some(known) = &facts.known else {
        if !facts.directory.is_needed {
            return Outcome::skipped(format!(
                "there is no directory of VOMS servers, {path}, and none is configured"
            ));
        }
        let why = format!(
            "the directory of VOMS servers {path} (named by {}) cannot be read",
            facts.directory.said_by
        );
        return Outcome::failed(Failure::site(why, hint).kind("WN_Resource"));
    };
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|vo| !known.contains(vo))
        .map(String::as_str)
        .collect();
    let outcome = if !missing.is_empty() {
        let why = format!(
            "no VOMS server of {} is believed here: {path} has no file for it",
            missing.join(", ")
        );
        Outcome::failed(Failure::site(why, hint).kind("WN_Resource"))
    } else if let Some(Err((why, is_sites))) = &facts.own {
        let whose = if *is_sites {
            Whose::Site
        } else {
            Whose::Frontend
        };
        let why = format!("the attributes of the pilot's proxy are not believed here: {why}");
        Outcome::failed(Failure::new(whose, why, hint).kind("VO_Proxy"))
    } else {
        Outcome::passed()
    };
    let count = |number: usize| float(u64::try_from(number).unwrap_or(u64::MAX));
    let outcome = outcome.number("vos", count(known.len()), "", None);
    match &facts.own {
        Some(Ok(attributes)) => outcome.number("own_attributes", count(*attributes), "", None),
        _ => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vo_without_a_server_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("atlas")).unwrap();
        fs::create_dir_all(folder.path().join("empty")).unwrap();
        fs::write(folder.path().join("atlas/voms.example.lsc"), "/CN=x\n").unwrap();
        let directory = |path: &Path, is_needed| Directory {
            path: path.to_owned(),
            said_by: "test".into(),
            is_needed,
        };
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let facts = gather(directory(folder.path(), true), Path::new("/x"), None, &[]);
        assert_eq!(facts.known.as_deref(), Some(&["atlas".to_owned()][..]));
        assert!(judge(&facts, &words("atlas")).is_passed());
        assert!(
            judge(&facts, &words("atlas empty cms"))
                .failure()
                .unwrap()
                .why
                .contains("of empty, cms")
        );
        let gone = gather(
            directory(Path::new("/no/such"), true),
            Path::new("/x"),
            None,
            &[],
        );
        assert!(judge(&gone, &[]).failure().is_some());
        let gone = gather(
            directory(Path::new("/no/such"), false),
            Path::new("/x"),
            None,
            &[],
        );
        assert!(judge(&gone, &[]).failure().is_none());
    }
}
