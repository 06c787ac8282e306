//! `devices`: what every program takes for granted. `/dev/null` that a careless `>` of root has made a file, or a
//! container without `/proc`, break jobs in a hundred ways, of which none names the cause.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::net::system_words;
use super::super::simple::{Trouble, gather_and_judge, judge_site as judge, probe};
use crate::check::Check;
use crate::probe::Probe;

/// Path, numbers (`linux:Documentation/admin-guide/devices.txt`), whether it is written to.
const DEVICES: [(&str, (u64, u64), bool); 4] = [
    ("/dev/null", (1, 3), true),
    ("/dev/zero", (1, 5), false),
    ("/dev/random", (1, 8), false),
    ("/dev/urandom", (1, 9), false),
];

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    let check =
        Check::new("devices", "/dev/null and its like, /proc").every(Duration::from_secs(1800));
    probe(check, |context| {
        Box::pin(gather_and_judge(context, gather, |troubles| {
            judge(troubles)
        }))
    })
}

fn gather() -> Vec<Trouble> {
    let devices = DEVICES
        .iter()
        .filter_map(|&(path, numbers, is_written)| device(Path::new(path), numbers, is_written));
    let proc = fs::read_link("/proc/self").is_err().then(|| {
        (
            "/proc is not there: nothing can be learned of processes, and few programs work"
                .to_owned(),
            "mount -t proc proc /proc".to_owned(),
        )
    });
    devices.chain(proc).collect()
}

fn device(path: &Path, (major, minor): (u64, u64), is_written: bool) -> Option<Trouble> {
    let name = path.display();
    let anew = format!("rm -f {name} && mknod -m 666 {name} c {major} {minor}");
    let facts = match fs::metadata(path) {
        Ok(facts) => facts,
        Err(error) => return Some((format!("{name}: {}", system_words(&error)), anew)),
    };
    let (is_major, is_minor) = (
        nix::sys::stat::major(facts.rdev()) == major,
        nix::sys::stat::minor(facts.rdev()) == minor,
    );
    if !facts.file_type().is_char_device() || !is_major || !is_minor {
        let what = if facts.is_file() {
            "an ordinary file: somebody replaced it"
        } else {
            "another device"
        };
        return Some((format!("{name} is {what}"), anew));
    }
    let opened = OpenOptions::new()
        .read(true)
        .write(is_written)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let error = opened.err()?;
    let mode = facts.mode() & 0o7777;
    let why = format!(
        "{name} cannot be opened: {} (it has mode {mode:04o})",
        system_words(&error)
    );
    let hint = format!(
        "chmod 666 {name}; if the mode is right, it is mounted nodev, or the container forbids it"
    );
    Some((why, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_place_of_a_device_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let null = folder.path().join("null");
        fs::write(&null, "").unwrap();
        let (why, hint) = device(&null, (1, 3), true).unwrap();
        assert!(
            why.ends_with("is an ordinary file: somebody replaced it"),
            "{why}"
        );
        assert!(hint.contains("mknod -m 666"), "{hint}");
        let (why, _) = device(&folder.path().join("no"), (1, 3), true).unwrap();
        assert!(why.ends_with("No such file or directory"), "{why}");
        let (why, _) = device(Path::new("/dev/zero"), (1, 3), true).unwrap();
        assert!(why.ends_with("is another device"), "{why}");
    }

    #[test]
    fn this_node_has_all() {
        assert!(judge(&gather()).is_passed());
    }
}
