//! `work-write`: a file can be made, written, renamed, read and removed in the work folder.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::super::node::mounts::Mount;
use super::super::simple::{gather_and_judge, probe};
use super::trial_file::TrialPath;
use super::{OPEN_ABOVE, closed_above, mount_of, place};
use crate::check::Check;
use crate::outcome::{Failure, Outcome};
use crate::probe::{Context, Probe, Running};

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    let check =
        Check::new("work-write", "writing in the work folder").every(Duration::from_secs(300));
    probe(check, run)
}

fn run(context: &Context) -> Running<'_> {
    Box::pin(async move {
        let folder = context.setup().execute.clone();
        gather_and_judge(context, move || gather(&folder), judge).await
    })
}

#[derive(Debug)]
struct Facts {
    folder: PathBuf,
    mount: Option<Mount>,
    /// Owner and mode of the folder, and who we are.
    rights: String,
    /// Why we do not even get there.
    closed_above: Option<String>,
    came: Result<(), (Step, Trouble)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Write,
    Rename,
    Read,
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    System(Errno),
    /// What is read is not what was written.
    Differs,
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::System(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    }
}

impl Step {
    const fn words(self) -> &'static str {
        match self {
            Self::Create => "a file cannot be made",
            Self::Write => "a file cannot be written",
            Self::Rename => "a file cannot be renamed",
            Self::Read => "a file cannot be read back",
            Self::Remove => "a file cannot be removed",
        }
    }
}

fn gather(folder: &Path) -> Facts {
    let rights = fs::metadata(folder).map_or_else(
        |_| String::new(),
        |facts| {
            format!(
                "it belongs to uid {} and has mode {:04o}, and the pilot is uid {}",
                facts.uid(),
                facts.mode() & 0o7777,
                nix::unistd::geteuid()
            )
        },
    );
    Facts {
        mount: mount_of(folder),
        came: try_out(folder),
        folder: folder.to_owned(),
        rights,
        closed_above: closed_above(folder),
    }
}

fn try_out(folder: &Path) -> Result<(), (Step, Trouble)> {
    let at = |step| move |error: io::Error| (step, Trouble::from(error));
    // More than a page, not all alike: so that what is not stored is seen.
    let content: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
    let (first, second) = (TrialPath::new(folder), TrialPath::new(folder));
    let mut file = first.create(0o600).map_err(at(Step::Create))?;
    file.write_all(&content).map_err(at(Step::Write))?;
    fs::rename(first.path(), second.path()).map_err(at(Step::Rename))?;
    let mut back = Vec::new();
    file.rewind().map_err(at(Step::Read))?;
    file.read_to_end(&mut back).map_err(at(Step::Read))?;
    if back != content {
        return Err((Step::Read, Trouble::Differs));
    }
    fs::remove_file(second.path()).map_err(at(Step::Remove))
}

fn judge(facts: &Facts) -> Outcome {
    let Err((step, trouble)) = facts.came else {
        return Outcome::passed();
    };
    let head = format!(
        "in the work folder {}{} {}",
        facts.folder.display(),
        place(facts.mount.as_ref()),
        step.words()
    );
    let errno = match trouble {
        Trouble::System(errno) => errno,
        Trouble::Differs => {
            let why = format!("{head}: what comes back is not what was written");
            return Outcome::failed(
                Failure::site(why, "take the disk out of service, and look at its logs")
                    .kind("Corruption"),
            );
        }
    };
    let (why, hint, is_transient) = match errno {
        Errno::EROFS => (
            "it is mounted read-only".to_owned(),
            "mount it read-write; after an error on the disk the kernel makes it read-only (`dmesg`)",
            false,
        ),
        Errno::ENOSPC => (
            "it is full".to_owned(),
            "remove files there, or set EXECUTE to a larger disk",
            true,
        ),
        Errno::EDQUOT => (
            "the quota of the pilot's account is used up".to_owned(),
            "raise the quota of the pilot's account (`quota -v`, `repquota -a`), or remove files of the account",
            true,
        ),
        Errno::EACCES if facts.closed_above.is_some() => (
            facts.closed_above.clone().unwrap_or_default(),
            OPEN_ABOVE,
            false,
        ),
        Errno::EFBIG => (
            "the pilot's file size limit is lower".to_owned(),
            "raise the file size limit of the batch system's jobs (`ulimit -f`: LimitFSIZE of its service, fsize in \
             /etc/security/limits.conf)",
            false,
        ),
        Errno::EACCES | Errno::EPERM => (
            facts.rights.clone(),
            "give the folder to the pilot's account, or make it like /tmp (mode 1777)",
            false,
        ),
        Errno::ENOENT | Errno::ENOTDIR => (
            "it is not there".to_owned(),
            "make the directory that EXECUTE names, owned by the pilot's account, or set EXECUTE to one that is there",
            false,
        ),
        Errno::EIO | Errno::ESTALE => (
            errno.desc().to_owned(),
            "take the disk or the file server out of service, and look at its logs (`dmesg`)",
            false,
        ),
        errno => (
            errno.desc().to_owned(),
            "try it by hand as the pilot's account (`touch` a file in the folder), and see what the kernel says (`dmesg`)",
            false,
        ),
    };
    let failure = Failure::site(format!("{head}: {why}"), hint).kind("WN_Resource");
    Outcome::failed(if is_transient {
        failure.transient()
    } else {
        failure
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(step: Step, errno: Errno) -> Failure {
        let facts = Facts {
            folder: "/w".into(),
            mount: None,
            rights: "it belongs to uid 0 and has mode 0755, and the pilot is uid 5".into(),
            closed_above: None,
            came: Err((step, Trouble::System(errno))),
        };
        judge(&facts).failure().unwrap().clone()
    }

    #[test]
    fn the_causes_are_told_apart() {
        assert!(judged(Step::Create, Errno::EROFS).why.contains("read-only"));
        assert!(judged(Step::Write, Errno::ENOSPC).transient);
        assert!(
            judged(Step::Create, Errno::EACCES)
                .why
                .ends_with("the pilot is uid 5")
        );
        assert!(judged(Step::Read, Errno::EIO).hint.contains("dmesg"));
    }

    #[test]
    fn a_real_folder_can_be_written_and_is_left_empty() {
        let folder = tempfile::tempdir().unwrap();
        let facts = gather(folder.path());
        assert!(judge(&facts).is_passed(), "{facts:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let facts = gather(Path::new("/proc/self"));
        assert!(judge(&facts).failure().is_some());
    }
}
