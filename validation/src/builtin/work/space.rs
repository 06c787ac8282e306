//! `work-space`: room for the jobs' files, as space, as inodes, and within the account's quota.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::quota::{QuotaType, quotactl_get};
use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;

use super::super::node::mounts::Mount;
use super::super::simple::{ad_number, float, gather_and_judge, probe};
use super::trial_file::TrialPath;
use super::{OPEN_ABOVE, closed_above, mount_of, place};
use crate::check::Check;
use crate::outcome::{Failure, Outcome, Threshold};
use crate::probe::{Context, Probe, Running};

/// What is reserved in trial, for a moment: figures do not tell of every kind of quota.
const TRIAL_BYTES: i64 = 16 << 20;

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    let check = Check::new("work-space", "space, inodes and quota of the work folder")
        .every(Duration::from_secs(300));
    probe(check, run)
}

fn run(context: &Context) -> Running<'_> {
    Box::pin(async move {
        let slots = u64::from(context.setup().slots.max(1));
        let needs = Needs {
            mib: context
                .knobs()
                .count("SAILPLANE_CHECK_DISK")
                .saturating_mul(slots),
            inodes: context
                .knobs()
                .count("SAILPLANE_CHECK_INODES")
                .saturating_mul(slots),
            slots,
        };
        let folder = context.setup().execute.clone();
        gather_and_judge(
            context,
            move || gather(&folder),
            |facts| judge(facts, needs),
        )
        .await
    })
}

/// What has to be there.
#[derive(Debug, Clone, Copy)]
struct Needs {
    mib: u64,
    inodes: u64,
    slots: u64,
}

/// What is there.
#[derive(Debug, Clone)]
struct Facts {
    folder: PathBuf,
    mount: Option<Mount>,
    figures: Result<Figures, Errno>,
    /// Why we do not even get there.
    closed_above: Option<String>,
    /// MiB left of the account's quota.
    quota_left_mib: Option<u64>,
    /// What came of reserving a little.
    trial: Result<(), Errno>,
}

#[derive(Debug, Clone, Copy)]
struct Figures {
    free_mib: u64,
    total_mib: u64,
    /// File systems that make inodes as they need them count none.
    free_inodes: Option<u64>,
}

fn gather(folder: &Path) -> Facts {
    let mount = mount_of(folder);
    let figures = statvfs(folder).map(|fs| {
        let mib = |blocks: u64| {
            let bytes = u128::from(blocks) * u128::from(fs.fragment_size());
            u64::try_from(bytes >> 20).unwrap_or(u64::MAX)
        };
        Figures {
            free_mib: mib(fs.blocks_available()),
            total_mib: mib(fs.blocks()),
            free_inodes: (fs.files() > 0).then(|| fs.files_available()),
        }
    });
    Facts {
        folder: folder.to_owned(),
        quota_left_mib: mount.as_ref().and_then(quota_left_mib),
        mount,
        figures,
        closed_above: closed_above(folder),
        trial: reserve(folder),
    }
}

/// What the account may still write, where the file system's device tells.
fn quota_left_mib(mount: &Mount) -> Option<u64> {
    if !mount.source.starts_with('/') {
        return None;
    }
    let uid = geteuid().as_raw().cast_signed();
    let quota = quotactl_get(QuotaType::USRQUOTA, Path::new(&mount.source), uid).ok()?;
    let limit_kib = quota.blocks_hard_limit().filter(|limit| *limit > 0)?;
    let used_kib = quota.occupied_space().unwrap_or(0) / 1024;
    Some(limit_kib.saturating_sub(used_kib) / 1024)
}

fn reserve(folder: &Path) -> Result<(), Errno> {
    let trial = TrialPath::new(folder);
    // That nothing can be written at all is for another check to say.
    let Ok(file) = trial.create(0o600) else {
        return Ok(());
    };
    match fallocate(&file, FallocateFlags::empty(), 0, TRIAL_BYTES) {
        Err(errno @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG)) => Err(errno),
        _ => Ok(()),
    }
}

fn judge(facts: &Facts, needs: Needs) -> Outcome {
    let (folder, place) = (facts.folder.display(), place(facts.mount.as_ref()));
    let figures = match facts.figures {
        Ok(figures) => figures,
        Err(errno) => {
            let (said, hint) = match &facts.closed_above {
                Some(said) if errno == Errno::EACCES => (said.as_str(), OPEN_ABOVE),
                _ => (
                    errno.desc(),
                    "make the directory that EXECUTE names, owned by the pilot's account, or set EXECUTE to one that is there",
                ),
            };
            let why = format!("the work folder {folder} cannot be looked at: {said}");
            return Outcome::failed(Failure::site(why, hint).kind("WN_Resource"));
        }
    };
    let room = facts
        .quota_left_mib
        .map_or(figures.free_mib, |left| left.min(figures.free_mib));
    let lower = "or lower SAILPLANE_CHECK_DISK or the number of slots";
    let for_slots = match needs.slots {
        1 => String::new(),
        slots => format!(" for {slots} slots"),
    };
    let trouble = match facts.trial {
        Err(Errno::EDQUOT) => Some((
            format!("the pilot's account has used up its quota in the work folder {folder}{place}"),
            "raise the quota of the pilot's account (`quota -v`, `repquota -a`), or remove files of the account".to_owned(),
        )),
        Err(Errno::EFBIG) => Some((
            format!("the pilot may not write files of {} MiB: its file size limit is lower", TRIAL_BYTES >> 20),
            "raise the file size limit of the batch system's jobs (`ulimit -f`: LimitFSIZE of its service, fsize in \
             /etc/security/limits.conf)".to_owned(),
        )),
        _ if facts.quota_left_mib.is_some_and(|left| left < needs.mib && left < figures.free_mib) => Some((
            format!(
                "the quota of the pilot's account leaves {room} MiB in the work folder {folder}{place}, and {} MiB are \
                 needed{for_slots}",
                needs.mib
            ),
            format!("raise the quota of the pilot's account (`quota -v`, `repquota -a`), {lower}"),
        )),
        _ if figures.free_mib < needs.mib => Some((
            format!(
                "the work folder {folder}{place} has {} MiB free of {}, and {} MiB are needed{for_slots}",
                figures.free_mib, figures.total_mib, needs.mib
            ),
            format!("remove files there, set EXECUTE to a larger disk, {lower}"),
        )),
        Err(_) => Some((
            format!("the work folder {folder}{place} is full: {} MiB cannot be reserved", TRIAL_BYTES >> 20),
            "remove files there, or set EXECUTE to a larger disk".to_owned(),
        )),
        _ => figures.free_inodes.filter(|free| *free < needs.inodes).map(|free| {
            (
                format!(
                    "the work folder {folder}{place} has room for {free} more files, and {} are needed{for_slots}",
                    needs.inodes
                ),
                "remove files there (`df -i` shows who has them), or lower SAILPLANE_CHECK_INODES".to_owned(),
            )
        }),
    };
    let outcome = match trouble {
        Some((why, hint)) => {
            let failure = Failure::site(why, hint).kind("WN_Resource");
            // Files go away; a limit stays.
            let is_limit = facts.trial == Err(Errno::EFBIG);
            Outcome::failed(if is_limit {
                failure
            } else {
                failure.transient()
            })
        }
        None => Outcome::passed(),
    };
    let outcome = outcome
        .number(
            "free",
            float(room),
            "MiB",
            Some(Threshold::AtLeast(float(needs.mib))),
        )
        .number("total", float(figures.total_mib), "MiB", None)
        .attribute("SailplaneWorkFolderFree", ad_number(room));
    match figures.free_inodes {
        Some(free) => outcome.number(
            "free_inodes",
            float(free),
            "",
            Some(Threshold::AtLeast(float(needs.inodes))),
        ),
        None => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs {
        mib: 2048,
        inodes: 2000,
        slots: 2,
    };

    fn facts() -> Facts {
        Facts {
            folder: "/scratch/execute".into(),
            mount: None,
            figures: Ok(Figures {
                free_mib: 50_000,
                total_mib: 100_000,
                free_inodes: Some(1_000_000),
            }),
            closed_above: None,
            quota_left_mib: None,
            trial: Ok(()),
        }
    }

    fn why(facts: &Facts) -> String {
        let outcome = judge(facts, NEEDS);
        let failure = outcome.failure().expect("it fails");
        assert!(failure.transient && !failure.hint.is_empty());
        failure.why.clone()
    }

    #[test]
    fn enough_is_enough() {
        assert!(judge(&facts(), NEEDS).is_passed());
        let mut btrfs = facts();
        btrfs.figures.as_mut().unwrap().free_inodes = None;
        assert!(judge(&btrfs, NEEDS).is_passed());
    }

    #[test]
    fn each_shortage_is_named() {
        let mut full = facts();
        full.figures.as_mut().unwrap().free_mib = 12;
        let said = why(&full);
        assert!(
            said.contains("12 MiB free of 100000")
                && said.contains("2048 MiB")
                && said.contains("2 slots")
        );
        let mut inodes = facts();
        inodes.figures.as_mut().unwrap().free_inodes = Some(3);
        assert!(why(&inodes).contains("3 more files"));
        let mut quota = facts();
        quota.quota_left_mib = Some(100);
        assert!(why(&quota).contains("quota"));
        let mut used_up = facts();
        used_up.trial = Err(Errno::EDQUOT);
        assert!(why(&used_up).contains("used up its quota"));
        let mut reserved = facts();
        reserved.trial = Err(Errno::ENOSPC);
        assert!(why(&reserved).contains("is full"));
    }

    #[test]
    fn a_missing_folder_is_said() {
        let facts = gather(Path::new("/no/such/folder"));
        let outcome = judge(&facts, NEEDS);
        assert!(outcome.failure().unwrap().why.contains("/no/such/folder"));
    }

    #[test]
    fn a_real_folder_has_figures_and_keeps_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let facts = gather(folder.path());
        assert!(facts.figures.unwrap().total_mib > 0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
