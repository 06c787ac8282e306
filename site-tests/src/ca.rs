//! A throw-away certificate authority and the proxies of its users.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process;

/// What kind of proxy `grid-proxy-init` shall make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// An ordinary one for this many minutes.
    Minutes(u32),
    /// A limited one for twelve hours.
    Limited,
    /// One that has ended a day ago.
    Expired,
}

/// The authority: a folder with trust anchors and users' keys.
#[derive(Debug, Clone)]
pub struct TestCa {
    dir: PathBuf,
}

impl TestCa {
    /// Makes an authority in `dir`, or takes the one that is there. The users are alice, bob and carol; their keys
    /// belong to `owner`. One whose keys belong to the number that `owner` had before it was made anew is replaced.
    ///
    /// # Errors
    /// When the script fails, with what it said.
    pub fn at(dir: &Path, owner: &str) -> Result<Self> {
        let (uid, _) = process::ensure_account(owner)?;
        let (complete, mark) = (dir.join("complete"), uid.to_string());
        if std::fs::read_to_string(&complete).ok().as_ref() != Some(&mark) {
            if dir.exists() {
                std::fs::remove_dir_all(dir)
                    .with_context(|| format!("remove {}", dir.display()))?;
            }
            process::output(
                process::pool_script("test-ca")
                    .arg("make")
                    .arg(dir)
                    .args(["--owner", owner]),
            )?;
            std::fs::write(&complete, mark)?;
        }
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// Folder of trust anchors, for `certdir`.
    #[must_use]
    pub fn certificates(&self) -> PathBuf {
        self.dir.join("certificates")
    }

    /// A user's name as grid-mapfiles write it.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn subject(&self, user: &str) -> Result<String> {
        let path = self.dir.join("users").join(user).join("subject");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// Makes a proxy of `user` at `file`, with mode 0600, owned by the owner of the user's key.
    ///
    /// # Errors
    /// When `grid-proxy-init` fails, with what it said.
    pub fn proxy(&self, user: &str, kind: ProxyKind, file: &Path) -> Result<()> {
        let mut command = process::pool_script("test-ca");
        command.arg("proxy").arg(&self.dir).arg(user).arg(file);
        match kind {
            ProxyKind::Minutes(minutes) => {
                command.args(["--valid", &format!("{}:{}", minutes / 60, minutes % 60)])
            }
            ProxyKind::Limited => command.arg("--limited"),
            ProxyKind::Expired => command.args(["--expired", "--valid", "1:00"]),
        };
        process::output(&mut command).map(drop)
    }

    /// Folder of the VOMS servers that a site trusts, for `vomsdir`; there after the first [`Self::voms_proxy`].
    #[must_use]
    pub fn voms_servers(&self) -> PathBuf {
        self.dir.join("vomsdir")
    }

    /// Makes a proxy of `user` at `file` like [`Self::proxy`], with attributes of the VO `sailplane.test`.
    ///
    /// # Errors
    /// When `voms-proxy-fake` fails, with what it said.
    pub fn voms_proxy(&self, user: &str, file: &Path) -> Result<()> {
        let mut command = process::pool_script("test-ca");
        command.arg("voms").arg(&self.dir).arg(user).arg(file);
        command.args([
            "/sailplane.test/Role=NULL/Capability=NULL",
            "/sailplane.test/production/Role=NULL/Capability=NULL",
        ]);
        process::output(&mut command).map(drop)
    }
}
