//! Where this process stands in the cgroup hierarchies: `/proc/self/mountinfo` and
//! `/proc/self/cgroup` to directories. Pure text to paths.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

/// Controllers of the old kind that payloads are tracked, counted or limited with.
const CONTROLLERS: [&str; 6] = ["memory", "pids", "blkio", "cpu", "freezer", "cpuacct"];

/// Every hierarchy that there is, `cgroup2` or the name of an old controller, and the own directory in it.
pub(crate) fn hierarchies(mountinfo: &str, own: &str) -> Vec<(String, PathBuf)> {
    let unified = own_unified(mountinfo, own).map(|path| ("cgroup2".to_owned(), path));
    let old = CONTROLLERS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), own_old(mountinfo, own, name)?)));
    unified.into_iter().chain(old).collect()
}

/// The own directory in the cgroup2 hierarchy.
fn own_unified(mountinfo: &str, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts(mountinfo)
        .filter(|mount| mount.kind == "cgroup2")
        .find_map(|mount| mount.locate(path))
}

/// The own directory in the old hierarchy that has this controller.
fn own_old(mountinfo: &str, own: &str, controller: &str) -> Option<PathBuf> {
    let has = |list: &str| list.split(',').any(|name| name == controller);
    let path = own.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        has(controllers).then_some(path)
    })?;
    mounts(mountinfo)
        .filter(|mount| mount.kind == "cgroup" && has(mount.options))
        .find_map(|mount| mount.locate(path))
}

struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl Mount<'_> {
    fn locate(&self, path: &str) -> Option<PathBuf> {
        let (root, point) = (unescape(self.root), unescape(self.point));
        let below = Path::new(path).strip_prefix(&root).ok()?;
        // "/../.." is how a path outside of the own cgroup namespace shows.
        below
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
            .then(|| point.join(below))
    }
}

fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let mut right = right.split(' ');
        Some(Mount {
            root: left.next()?,
            point: left.next()?,
            kind: right.next()?,
            options: right.nth(1)?,
        })
    })
}

/// Undoes the kernel's `\ooo` for blanks and backslashes.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let octal = tail
            .get(..3)
            .filter(|digits| digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(digits) if *first == b'\\' => {
                let value = digits
                    .iter()
                    .fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
                bytes.push(u8::try_from(value).unwrap_or(b'?'));
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => bytes.push(*first),
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
25 30 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
29 25 0:27 / /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory
33 25 0:31 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
34 25 0:32 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const HYBRID_OWN: &str = "4:memory:/batch/job7\n1:name=systemd:/\n0::/\n";

    #[test]
    fn k3_a_hybrid_host_gives_both() {
        assert_eq!(
            own_unified(HYBRID_MOUNTS, HYBRID_OWN),
            Some("/sys/fs/cgroup/unified".into())
        );
        let memory = own_old(HYBRID_MOUNTS, HYBRID_OWN, "memory");
        assert_eq!(memory, Some("/sys/fs/cgroup/memory/batch/job7".into()));
        let all = hierarchies(HYBRID_MOUNTS, HYBRID_OWN);
        let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["cgroup2", "memory"]);
    }

    #[test]
    fn k3_a_pure_host_gives_the_own_directory() {
        let mounts =
            "24 1 0:21 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "0::/system.slice/condor.service\n";
        let wanted = "/sys/fs/cgroup/system.slice/condor.service";
        assert_eq!(own_unified(mounts, own), Some(wanted.into()));
        assert_eq!(own_old(mounts, own, "memory"), None);
    }

    #[test]
    fn k3_a_place_outside_of_the_namespace_is_not_used() {
        let mounts = "24 1 0:21 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(own_unified(mounts, "0::/../other\n"), None);
        let bound = "24 1 0:21 /pod1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(own_unified(bound, "0::/pod2\n"), None);
        assert_eq!(
            own_unified(bound, "0::/pod1/x\n"),
            Some("/sys/fs/cgroup/x".into())
        );
    }

    #[test]
    fn blanks_in_mount_points_come_back() {
        assert_eq!(unescape("/a\\040b\\134c"), Path::new("/a b\\c"));
    }
}
