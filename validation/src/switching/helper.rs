//! `switch-helper`: the program that changes accounts is there, and nothing takes its setuid bit's effect away.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::builtin::node::mounts::{self, Mount};
use crate::builtin::node::status;
use crate::outcome::{Failure, Outcome};
use crate::setup::SwitchOffer;

/// What is to be seen from outside.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    path: PathBuf,
    /// `the identity-switch helper`, ...
    what: &'static str,
    /// Owner and mode.
    file: Option<(u32, u32)>,
    is_executable: bool,
    mount: Option<Mount>,
    no_new_privileges: bool,
    /// `/proc/self/uid_map`
    uid_map: String,
}

/// Looks at what is offered; nothing if nothing is.
pub(super) fn gather(offer: &SwitchOffer) -> Option<Facts> {
    let (path, what) = match offer {
        SwitchOffer::Helper(path) => (path, "the identity-switch helper"),
        SwitchOffer::Glexec(path) => (path, "the site's gLExec"),
        SwitchOffer::Sudo(path) => (path, "sudo"),
        SwitchOffer::Nothing => return None,
    };
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    Some(Facts {
        file: fs::metadata(path)
            .ok()
            .map(|facts| (facts.uid(), facts.mode() & 0o7777)),
        is_executable: access(path, AccessFlags::X_OK).is_ok() && path.is_file(),
        mount: mount_of(&real),
        path: path.clone(),
        what,
        no_new_privileges: status::number(&text("/proc/self/status"), "NoNewPrivs") == Some(1),
        uid_map: text("/proc/self/uid_map"),
    })
}

fn mount_of(real: &Path) -> Option<Mount> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts::of(&mounts::parse(&text), real).cloned()
}

/// Judges it.
pub(super) fn judge(facts: &Facts) -> Outcome {
    let name = format!("{} {}", facts.what, facts.path.display());
    let site =
        |why: String, hint: String| Outcome::failed(Failure::site(why, hint).kind("WN_Resource"));
    let Some((uid, mode)) = facts.file else {
        return site(
            format!("{name} is not there, or the pilot cannot get to it"),
            "install it, or correct SAILPLANE_SWITCH (`none` if the site has nothing)".to_owned(),
        );
    };
    if let Some(mount) = facts.mount.as_ref().filter(|mount| mount.has("noexec")) {
        return site(
            format!(
                "the pilot may not execute {name}: it is on a file system that is mounted noexec ({})",
                mount.words()
            ),
            "install it elsewhere, or mount that without noexec and nosuid".to_owned(),
        );
    }
    if !facts.is_executable {
        return site(
            format!("the pilot may not execute {name}: it has mode {mode:04o}"),
            format!(
                "chmod o+x {}, or put the pilot's account into its group",
                facts.path.display()
            ),
        );
    }
    if !is_initial(&facts.uid_map) {
        return site(
            format!("{name} cannot change accounts: the pilot runs in a user namespace, where root is not root"),
            "start pilots outside of such containers, or offer no helper there (SAILPLANE_SWITCH = none)".to_owned(),
        );
    }
    // A gLExec may be configured to log only; ours says so itself.
    let is_setuid = uid == 0 && mode & 0o4000 != 0;
    if !is_setuid {
        return site(
            format!(
                "{name} cannot change accounts: it belongs to uid {uid} and has mode {mode:04o}, and has to be setuid root"
            ),
            format!(
                "chown root {0} && chmod u+s {0}; copying loses the bit",
                facts.path.display()
            ),
        );
    }
    if let Some(mount) = facts.mount.as_ref().filter(|mount| mount.has("nosuid")) {
        return site(
            format!(
                "{name} cannot change accounts: it is on a file system that is mounted nosuid ({})",
                mount.words()
            ),
            "install it elsewhere, or mount that without nosuid".to_owned(),
        );
    }
    if facts.no_new_privileges {
        return site(
            format!("{name} cannot change accounts: the pilot runs with no_new_privs, so that setuid bits do nothing"),
            "take it off the batch system's jobs (systemd: NoNewPrivileges=no; containers: without no-new-privileges; not in Apptainer)".to_owned(),
        );
    }
    Outcome::passed().text("program", facts.path.display().to_string())
}

/// Whether this is the node's own user namespace, in which all numbers mean themselves.
fn is_initial(uid_map: &str) -> bool {
    let words: Vec<&str> = uid_map.split_whitespace().collect();
    words.is_empty() || words == ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            path: "/usr/lib/sailplane/sailplane-switch".into(),
            what: "the identity-switch helper",
            file: Some((0, 0o4755)),
            is_executable: true,
            mount: mounts::parse("1 2 0:3 / / rw - ext4 /dev/sda rw").pop(),
            no_new_privileges: false,
            uid_map: "         0          0 4294967295\n".into(),
        }
    }

    #[test]
    fn what_takes_the_bit_away_is_named() {
        assert!(judge(&facts()).is_passed());
        let why = |facts: Facts| judge(&facts).failure().unwrap().why.clone();
        assert!(
            why(Facts {
                file: None,
                ..facts()
            })
            .contains("is not there")
        );
        assert!(
            why(Facts {
                file: Some((0, 0o755)),
                ..facts()
            })
            .contains("mode 0755")
        );
        assert!(
            why(Facts {
                file: Some((500, 0o4755)),
                ..facts()
            })
            .contains("uid 500")
        );
        assert!(
            why(Facts {
                is_executable: false,
                ..facts()
            })
            .contains("may not execute")
        );
        let nosuid = mounts::parse("1 2 0:3 / /usr rw,nosuid - ext4 /dev/sda rw").pop();
        assert!(
            why(Facts {
                mount: nosuid,
                ..facts()
            })
            .contains("nosuid (ext4 on /usr)")
        );
        assert!(
            why(Facts {
                no_new_privileges: true,
                ..facts()
            })
            .contains("no_new_privs")
        );
        assert!(
            why(Facts {
                uid_map: "0 1000 1\n".into(),
                ..facts()
            })
            .contains("user namespace")
        );
    }
}
