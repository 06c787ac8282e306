//! `temporary-folder`: jobs and the programs that they start write into `/tmp`, whatever they are told.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::net::system_words;
use super::super::simple::{Trouble, gather_and_judge, judge_site as judge, probe};
use super::trial_file::TrialPath;
use super::{mount_of, place};
use crate::check::{Check, Severity};
use crate::probe::Probe;

/// Written in trial.
const TRIAL: usize = 64 * 1024;

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    let check = Check::new("temporary-folder", "writing in /tmp, /var/tmp and TMPDIR")
        .severity(Severity::Warn)
        .every(Duration::from_secs(1800));
    probe(check, |context| {
        Box::pin(gather_and_judge(context, gather, |troubles| {
            judge(troubles)
        }))
    })
}

fn gather() -> Vec<Trouble> {
    let own = std::env::var_os("TMPDIR").map(PathBuf::from);
    let public = ["/tmp", "/var/tmp"].map(PathBuf::from);
    let mut folders: Vec<(PathBuf, bool)> = public.into_iter().map(|path| (path, true)).collect();
    folders.extend(own.map(|path| (path, false)));
    folders
        .iter()
        .filter_map(|(path, is_public)| look(path, *is_public))
        .collect()
}

fn look(path: &Path, is_public: bool) -> Option<Trouble> {
    let name = if is_public {
        path.display().to_string()
    } else {
        format!("{} (TMPDIR)", path.display())
    };
    let place = place(mount_of(path).as_ref());
    let facts = match fs::metadata(path) {
        Ok(facts) => facts,
        Err(error) => {
            return Some((
                format!("{name} cannot be looked at: {}", system_words(&error)),
                format!("make it (`mkdir -m 1777 {}`)", path.display()),
            ));
        }
    };
    let trial = TrialPath::new(path);
    let written = trial
        .create(0o600)
        .and_then(|mut file| std::io::Write::write_all(&mut file, &[7; TRIAL]));
    if let Err(error) = written {
        let hint = match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => {
                format!("remove files there (`du -x {}`)", path.display())
            }
            Some(libc::EROFS) => "mount it read-write".to_owned(),
            _ => format!("chmod 1777 {}", path.display()),
        };
        let why = format!(
            "nothing can be written into {name}{place}, of mode {:04o}: {}",
            facts.mode() & 0o7777,
            system_words(&error)
        );
        return Some((why, hint));
    }
    // Of everybody, it has to keep one from removing another's files.
    let is_open = facts.mode() & 0o1777 == 0o1777;
    (is_public && !is_open).then(|| {
        (
            format!(
                "{name} has mode {:04o}, and should have 1777",
                facts.mode() & 0o7777
            ),
            format!("chmod 1777 {}", path.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_that_is_not_there_or_lets_everybody_remove_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tmp");
        assert!(look(&path, true).unwrap().1.contains("mkdir -m 1777"));
        fs::create_dir(&path).unwrap();
        let open = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        open(0o777);
        assert!(
            look(&path, true)
                .unwrap()
                .0
                .ends_with("has mode 0777, and should have 1777")
        );
        assert_eq!(look(&path, false), None);
        open(0o1777);
        assert_eq!(look(&path, true), None);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }
}
