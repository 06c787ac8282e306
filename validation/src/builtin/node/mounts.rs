//! `/proc/self/mountinfo`: which file system a path is on, and with which options.

use std::path::{Path, PathBuf};

/// One mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// Which part of the file system is seen there; `/` is all of it.
    pub(crate) root: String,
    /// Options of this mount and of the file system.
    options: Vec<String>,
    /// Its kind, `ext4`.
    pub(crate) kind: String,
    /// What is mounted, `/dev/sda1`.
    pub(crate) source: String,
}

impl Mount {
    /// Whether it has an option, `noexec`.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|known| known == option)
    }

    /// For people: `ext4 on /scratch`.
    pub(crate) fn words(&self) -> String {
        format!("{} on {}", self.kind, self.point.display())
    }
}

/// Reads the text; lines that are not understood are passed over.
pub(crate) fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(line).collect()
}

/// The mount that a path, absolute and without links, is on. A later mount hides an earlier one at the same place.
pub(crate) fn of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())
}

fn line(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let root = unescape(before.next()?);
    let point = PathBuf::from(unescape(before.next()?));
    let mut options: Vec<String> = before.next()?.split(',').map(str::to_owned).collect();
    let mut after = after.split(' ');
    let kind = after.next()?.to_owned();
    let source = unescape(after.next()?);
    options.extend(after.next().unwrap_or("").split(',').map(str::to_owned));
    Some(Mount {
        point,
        root,
        options,
        kind,
        source,
    })
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'\\'
            && let [a, b, c, tail @ ..] = tail
            && let Some(byte) = octal([*a, *b, *c])
        {
            bytes.push(byte);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn octal(digits: [u8; 3]) -> Option<u8> {
    digits.iter().try_fold(0_u8, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value.checked_mul(8)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a worker node with a tmpfs over its scratch disk, and of one with CVMFS.
    const RECORDED: &str = "\
22 27 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:5 - proc proc rw\n\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard,resuid=65534\n\
61 27 8:17 / /scratch rw,nosuid,nodev,relatime shared:30 - xfs /dev/sdb1 rw,attr2,inode64,usrquota\n\
88 61 0:52 / /scratch rw,noexec,relatime - tmpfs tmpfs rw,size=16384k\n\
90 27 0:60 /a /mnt/with\\040blank ro,relatime - nfs4 10.0.0.1:/export\\134x rw,vers=4.2\n\
95 27 0:61 / /cvmfs/atlas.cern.ch ro,nosuid,nodev,relatime shared:40 - fuse cvmfs2 ro,user_id=0\n";

    #[test]
    fn the_last_mount_at_a_place_counts() {
        let mounts = parse(RECORDED);
        assert_eq!(mounts.len(), 6);
        let scratch = of(&mounts, Path::new("/scratch/execute/dir_1")).unwrap();
        assert_eq!(
            (scratch.kind.as_str(), scratch.has("noexec")),
            ("tmpfs", true)
        );
        assert!(!scratch.has("nosuid"));
        assert_eq!(
            of(&mounts, Path::new("/scratchy")).unwrap().words(),
            "ext4 on /"
        );
    }

    #[test]
    fn blanks_and_backslashes_come_back() {
        let mounts = parse(RECORDED);
        let nfs = of(&mounts, Path::new("/mnt/with blank/x")).unwrap();
        assert_eq!(nfs.source, "10.0.0.1:/export\\x");
        assert!(nfs.has("ro") && nfs.root == "/a");
        assert_eq!(unescape("a\\9b\\04"), "a\\9b\\04");
    }

    #[test]
    fn nonsense_is_passed_over() {
        assert!(parse("x\n1 2 3 - y\n - \n\\\n").is_empty());
        assert_eq!(of(&[], Path::new("/")), None);
    }
}
