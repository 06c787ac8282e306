//! Control groups: where this process is, and the strictest limit on the way up. Both kinds of hierarchy.

use std::path::{Path, PathBuf};

use super::mounts::Mount;

/// Where a process is in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The mounted hierarchy, as far up as it is seen.
    pub(crate) top: PathBuf,
    /// The group's directory, `top` or below it.
    pub(crate) group: PathBuf,
    /// Of the new kind.
    pub(crate) is_unified: bool,
}

impl Place {
    /// The directories from the group to the top.
    pub(crate) fn upwards(&self) -> impl Iterator<Item = &Path> {
        self.group
            .ancestors()
            .take_while(|path| path.starts_with(&self.top))
    }
}

/// The hierarchy that has `controller`: that of the old kind if there is one, else the unified one. `groups` is
/// `/proc/self/cgroup`.
pub(crate) fn place(groups: &str, mounts: &[Mount], controller: &str) -> Option<Place> {
    old(groups, mounts, controller).or_else(|| unified(groups, mounts))
}

/// The unified hierarchy.
pub(crate) fn unified(groups: &str, mounts: &[Mount]) -> Option<Place> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = mounts.iter().find(|mount| mount.kind == "cgroup2")?;
    Some(beneath(mount, path, true))
}

fn old(groups: &str, mounts: &[Mount], controller: &str) -> Option<Place> {
    let path = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        names
            .split(',')
            .any(|name| name == controller)
            .then_some(path)
    })?;
    let mount = mounts
        .iter()
        .find(|mount| mount.kind == "cgroup" && mount.has(controller))?;
    Some(beneath(mount, path, false))
}

fn beneath(mount: &Mount, path: &str, is_unified: bool) -> Place {
    // In a container the mount shows only a part of the hierarchy, and the path may be told from its real top.
    let seen = path
        .strip_prefix(mount.root.as_str())
        .filter(|_| mount.root != "/")
        .unwrap_or(path);
    let below = seen.trim_start_matches('/');
    let group = if below.is_empty() || below.split('/').any(|part| part == "..") {
        mount.point.clone()
    } else {
        mount.point.join(below)
    };
    Place {
        top: mount.point.clone(),
        group,
        is_unified,
    }
}

/// A number that may be `max`, or so large that it means none.
pub(crate) fn limit(text: &str) -> Option<u64> {
    /// The old kind writes the largest multiple of the page size instead of "none".
    const NONE: u64 = 1 << 62;
    text.trim().parse().ok().filter(|value| *value < NONE)
}

/// `cpu.max`: processors, in thousandths.
pub(crate) fn cpu_max(text: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    let period: u64 = words.next()?.parse().ok()?;
    quota.checked_mul(1000)?.checked_div(period)
}

/// `cpu.cfs_quota_us` and `cpu.cfs_period_us`: processors, in thousandths. A quota of -1 is none.
pub(crate) fn cfs(quota: &str, period: &str) -> Option<u64> {
    let quota: u64 = quota.trim().parse().ok()?;
    let period: u64 = period.trim().parse().ok()?;
    quota.checked_mul(1000)?.checked_div(period)
}

#[cfg(test)]
mod tests {
    use super::super::mounts::parse;
    use super::*;

    const HYBRID_MOUNTS: &str = "\
35 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "\
5:cpu,cpuacct:/slurm/uid_1000/job_7\n4:memory:/process_api/dd9\n1:name=systemd:/\n0::/\n";
    const UNIFIED_MOUNTS: &str = "28 24 0:25 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 \
                                  cgroup2 rw,nsdelegate,memory_recursiveprot\n";
    const UNIFIED: &str = "0::/system.slice/slurmstepd.scope/job_42/step_0/user/task_0\n";

    #[test]
    fn the_old_kind_has_a_place_for_each_controller() {
        let mounts = parse(HYBRID_MOUNTS);
        let memory = place(HYBRID, &mounts, "memory").unwrap();
        assert_eq!(
            memory.group,
            Path::new("/sys/fs/cgroup/memory/process_api/dd9")
        );
        assert!(!memory.is_unified);
        assert_eq!(
            memory.upwards().last(),
            Some(Path::new("/sys/fs/cgroup/memory"))
        );
        let cpu = place(HYBRID, &mounts, "cpu").unwrap();
        assert_eq!(
            cpu.group,
            Path::new("/sys/fs/cgroup/cpu,cpuacct/slurm/uid_1000/job_7")
        );
        let pids = place(HYBRID, &mounts, "pids").unwrap();
        assert!(pids.is_unified && pids.group == pids.top);
    }

    #[test]
    fn the_new_kind_has_one_for_all() {
        let mounts = parse(UNIFIED_MOUNTS);
        let place = place(UNIFIED, &mounts, "memory").unwrap();
        assert!(place.is_unified);
        assert_eq!(place.upwards().count(), 7);
        assert_eq!(
            place.group,
            Path::new("/sys/fs/cgroup/system.slice/slurmstepd.scope/job_42/step_0/user/task_0")
        );
    }

    #[test]
    fn a_container_sees_only_its_part() {
        let mounts =
            parse("1 2 0:3 /docker/ab12 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
        let place = place("9:memory:/docker/ab12/x\n", &mounts, "memory").unwrap();
        assert_eq!(place.group, Path::new("/sys/fs/cgroup/memory/x"));
        let outside = unified("0::/../..\n", &parse(UNIFIED_MOUNTS)).unwrap();
        assert_eq!(outside.group, outside.top);
    }

    #[test]
    fn values() {
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("9223372036854771712\n"), None);
        assert_eq!(limit("2147483648\n"), Some(2_147_483_648));
        assert_eq!(cpu_max("150000 100000\n"), Some(1500));
        assert_eq!(cpu_max("max 100000\n"), None);
        assert_eq!(cfs("-1\n", "100000\n"), None);
        assert_eq!(cfs("200000\n", "100000\n"), Some(2000));
        assert_eq!(cpu_max("1 0"), None);
    }
}
