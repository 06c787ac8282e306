//! `switch-path`: every directory on the way to where jobs work can be entered by the pilot and by the accounts of the jobs.
//! What the pilot owns is mended; what it does not is named, with owner and mode.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access, geteuid};

use crate::outcome::{Failure, Outcome, Whose};

/// Somebody who has to get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The pilot.
    Caller,
    /// An account that is not known yet: everybody has to be let through.
    Anybody,
}

/// A directory that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Obstacle {
    path: PathBuf,
    who: Who,
    /// Owner, group and mode; nothing if not even these can be seen.
    rights: Option<(u32, u32, u32)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    obstacles: Vec<Obstacle>,
    /// Opened for everybody by us: path, mode before, mode after.
    mended: Vec<(PathBuf, u32, u32)>,
    /// Paths that are not there, and what for.
    missing: Vec<(PathBuf, &'static str)>,
}

/// Looks at the way to each path; `what` says what it is. Mends what the pilot owns, but for `private`: what else lies in the
/// account's home is not for everybody to get at.
pub(super) fn gather(
    paths: &[(PathBuf, &'static str)],
    who: &[Who],
    private: Option<&Path>,
) -> Facts {
    let mut facts = Facts::default();
    let us = geteuid();
    for (path, what) in paths {
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                facts.missing.push((path.clone(), what));
                continue;
            }
            // A directory before it is closed to us: the way is walked as far as it goes.
            Err(_) => path.clone(),
        };
        let folders: Vec<&Path> = real
            .ancestors()
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        for folder in folders
            .into_iter()
            .rev()
            .filter(|folder| folder.is_dir() || !folder.exists())
        {
            let may_mend = !us.is_root() && private != Some(folder);
            let owner = may_mend.then_some(us.as_raw());
            look(folder, who, owner, &mut facts);
        }
    }
    facts
}

/// `us`: whose directories are mended.
fn look(folder: &Path, who: &[Who], us: Option<u32>, facts: &mut Facts) {
    let is_known = facts.obstacles.iter().any(|known| known.path == folder);
    if is_known {
        return;
    }
    let Ok(seen) = fs::metadata(folder) else {
        // The one above it was named already.
        return;
    };
    let mode = seen.mode() & 0o7777;
    let rights = Some((seen.uid(), seen.gid(), mode));
    for one in who {
        let is_open = match one {
            Who::Caller => access(folder, AccessFlags::X_OK).is_ok(),
            Who::Anybody => mode & 0o001 != 0,
        };
        if is_open {
            continue;
        }
        let wanted = mode | if *one == Who::Caller { 0o100 } else { 0o111 };
        if us == Some(seen.uid())
            && fs::set_permissions(folder, fs::Permissions::from_mode(wanted)).is_ok()
        {
            facts.mended.push((folder.to_owned(), mode, wanted));
            continue;
        }
        facts.obstacles.push(Obstacle {
            path: folder.to_owned(),
            who: *one,
            rights,
        });
    }
}

/// Judges what was found.
pub(super) fn judge(facts: &Facts, name: impl Fn(u32) -> Option<String>) -> Outcome {
    let owner = |uid: u32| name(uid).unwrap_or_else(|| format!("uid {uid}"));
    let outcome = if let Some((path, what)) = facts.missing.first() {
        let why = format!("{}, {what}, is not there", path.display());
        Outcome::failed(
            Failure::new(
                Whose::Site,
                why,
                "make it, owned by the pilot's account, or correct the configuration",
            )
            .kind("Config"),
        )
    } else if let Some(obstacle) = facts.obstacles.first() {
        let path = obstacle.path.display();
        let rights = obstacle.rights.map_or_else(String::new, |(uid, _, mode)| {
            format!(": it belongs to {} and has mode {mode:04o}", owner(uid))
        });
        let (who, letter) = match obstacle.who {
            Who::Caller => ("the pilot", "x for the pilot"),
            Who::Anybody => ("the accounts of the jobs", "o+x"),
        };
        let why = format!("{who} cannot get through the directory {path}{rights}");
        let hint = format!("let its owner open it (`chmod {letter} {path}`), or set EXECUTE to a place below open directories")
            .replace("chmod x for the pilot", "chmod u+x,go+x");
        Outcome::failed(Failure::site(why, hint).kind("WN_Resource"))
    } else {
        Outcome::passed()
    };
    let lines: Vec<String> = facts
        .mended
        .iter()
        .map(|(path, before, after)| {
            format!(
                "mended: {} had mode {before:04o} and has {after:04o} now",
                path.display()
            )
        })
        .chain(facts.obstacles.iter().map(|obstacle| {
            let rights = obstacle
                .rights
                .map_or_else(String::new, |(uid, gid, mode)| {
                    format!(" (owner {}, gid {gid}, mode {mode:04o})", owner(uid))
                });
            format!("closed: {}{rights}", obstacle.path.display())
        }))
        .collect();
    if lines.is_empty() {
        outcome
    } else {
        outcome.detail(lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(obstacle: Obstacle) -> Failure {
        let facts = Facts {
            obstacles: vec![obstacle],
            ..Facts::default()
        };
        judge(&facts, |uid| (uid == 0).then(|| "root".to_owned()))
            .failure()
            .unwrap()
            .clone()
    }

    #[test]
    fn a_closed_directory_is_named_with_owner_and_mode() {
        let obstacle = |who| Obstacle {
            path: "/scratch/batch".into(),
            who,
            rights: Some((0, 0, 0o700)),
        };
        let failure = failing(obstacle(Who::Anybody));
        assert_eq!(
            failure.why,
            "the accounts of the jobs cannot get through the directory /scratch/batch: it belongs to root and has mode 0700"
        );
        assert!(
            failure.hint.contains("chmod o+x /scratch/batch"),
            "{}",
            failure.hint
        );
        assert!(
            failing(obstacle(Who::Caller))
                .hint
                .contains("chmod u+x,go+x /scratch/batch")
        );
    }

    #[test]
    fn what_is_ours_is_mended_and_what_is_not_there_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("execute");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).unwrap();
        let facts = gather(
            &[(inner.clone(), "EXECUTE")],
            &[Who::Caller, Who::Anybody],
            None,
        );
        let mode = fs::metadata(&inner).unwrap().mode() & 0o7777;
        if geteuid().is_root() {
            // Root's own directories are not changed: they are the site's.
            assert_eq!(mode, 0o700);
            assert!(
                facts
                    .obstacles
                    .iter()
                    .any(|obstacle| obstacle.path == fs::canonicalize(&inner).unwrap())
            );
        } else {
            assert_eq!(mode, 0o711);
            assert!(
                facts
                    .mended
                    .iter()
                    .any(|(path, before, _)| path.ends_with("execute") && *before == 0o700)
            );
        }
        let facts = gather(
            &[("/no/such/place".into(), "EXECUTE")],
            &[Who::Caller],
            None,
        );
        assert!(
            judge(&facts, |_| None)
                .failure()
                .unwrap()
                .why
                .contains("/no/such/place")
        );
        assert!(
            judge(
                &gather(
                    &[("/usr/bin".into(), "x")],
                    &[Who::Caller, Who::Anybody],
                    None
                ),
                |_| None
            )
            .is_passed()
        );
    }
}
