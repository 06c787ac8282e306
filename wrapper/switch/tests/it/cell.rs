//! A cell: the machine as the helper sees it, private to one test.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, geteuid, pivot_root};

use crate::strays;

/// What a test works with.
#[derive(Debug)]
pub(crate) struct Cell {
    /// First uid of this cell; dynamic accounts are `first` to `first + 3`.
    pub(crate) first: u32,
    /// The pilot's account.
    pub(crate) pilot: u32,
    /// A named account, mapped from `/CN=Alice`.
    pub(crate) alice: u32,
}

/// Where the programs are inside.
pub(crate) const LIBEXEC: &str = "/opt/sailplane";
/// Where the configuration is inside.
pub(crate) const CONF: &str = "/etc/sailplane/switch.conf";
/// The audit file inside.
pub(crate) const LOG: &str = "/var/log/sailplane.log";
/// The pilot's execute directory inside.
pub(crate) const EXECUTE: &str = "/scratch/pilot";

/// A broker that does what it is told, to be put in the place of the real one.
pub(crate) const TAKEN: &str = "taken-broker";

/// Number of dynamic accounts.
pub(crate) const DYNAMIC: u32 = 4;

/// Runs a test in a cell of its own. Without root: says so and passes.
pub(crate) fn in_cell(test: impl FnOnce(&Cell) + Send + 'static) {
    if !geteuid().is_root() {
        eprintln!("not run: switching accounts and mounting need root; run this test as root");
        return;
    }
    let programs = programs();
    // A thread of its own, because it will never leave the cell's root directory again.
    let thread = std::thread::spawn(move || {
        let cell = Cell::build(&programs);
        let outcome = catch_unwind(AssertUnwindSafe(|| test(&cell)));
        let left = strays::end_all();
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
        assert!(left.is_empty(), "left behind by the test: {left:?}");
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// Built programs outside: name inside, path outside.
fn programs() -> Vec<(&'static str, PathBuf)> {
    let switch = PathBuf::from(env!("CARGO_BIN_EXE_sailplane-switch"));
    let folder = switch
        .parent()
        .expect("a program lies in a folder")
        .to_owned();
    static BUILD: Once = Once::new();
    BUILD.call_once(|| {
        // Neither the other programs nor, with `--test it`, the examples are built by `cargo test` itself.
        let target = folder.parent().expect("the target folder");
        for what in [
            ["--package", "sailplane-job", "--bins"].as_slice(),
            &["--package", "sailplane-broker", "--bins"],
            &["--package", "sailplane-admin", "--bins"],
            &["--package", "sailplane-policy", "--bins"],
            &["--package", "sailplane-glexec", "--bins"],
            &["--package", "sailplane-switch", "--examples"],
        ] {
            let mut build = Command::new(env!("CARGO"));
            build
                .args(["build", "--quiet"])
                .args(what)
                .arg("--target-dir")
                .arg(target);
            let profile = folder.file_name().and_then(|name| name.to_str());
            if let Some(profile) = profile.filter(|name| *name != "debug") {
                build.args(["--profile", profile]);
            }
            assert!(
                build.status().expect("cargo runs").success(),
                "{what:?} does not build"
            );
        }
    });
    let verifier = folder.join("examples/fault_verifier");
    vec![
        ("sailplane-switch", switch),
        ("sailplane-broker", folder.join("sailplane-broker")),
        ("sailplane-admin", folder.join("sailplane-admin")),
        (TAKEN, folder.join("examples/taken_broker")),
        ("sailplane-job", folder.join("sailplane-job")),
        ("sailplane-glexec", folder.join("sailplane-glexec")),
        ("sailplane-policy", folder.join("sailplane-policy")),
        ("sailplane-names", folder.join("sailplane-names")),
        ("sailplane-names-nss", folder.join("sailplane-names-nss")),
        ("sailplane-verify", verifier),
    ]
}

fn bind(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("mount point");
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from), to, None::<&str>, flags, None::<&str>).expect("bind mount");
}

/// Creates missing parents, writes, sets the mode.
pub(crate) fn put(path: impl AsRef<Path>, text: &str, mode: u32) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
    fs::write(path, text).expect("write");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
}

/// Sets owner and mode.
pub(crate) fn own(path: impl AsRef<Path>, uid: u32, mode: u32) {
    chown(path.as_ref(), Some(uid), Some(uid)).expect("chown");
    fs::set_permissions(path.as_ref(), fs::Permissions::from_mode(mode)).expect("mode");
}

impl Cell {
    fn build(programs: &[(&str, PathBuf)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let serial = std::process::id() % 100_000 * 40 + COUNT.fetch_add(1, Ordering::Relaxed);
        let first = 100_000_000 + serial * 100;
        let cell = Self {
            first,
            pilot: first + 50,
            alice: first + 60,
        };

        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace (CAP_SYS_ADMIN)");
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
        let root = Path::new("/mnt");
        mount(
            Some("cell"),
            root,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=755"),
        )
        .expect("tmpfs");
        for dir in ["usr", "proc", "sys", "dev"] {
            bind(&Path::new("/").join(dir), &root.join(dir));
        }
        for dir in ["bin", "sbin", "lib", "lib64"] {
            let outside = Path::new("/").join(dir);
            match fs::read_link(&outside) {
                Ok(target) => std::os::unix::fs::symlink(target, root.join(dir)).expect("symlink"),
                Err(_) if outside.exists() => bind(&outside, &root.join(dir)),
                Err(_) => {}
            }
        }
        for (name, outside) in programs {
            let inside = root.join("opt/sailplane").join(name);
            fs::create_dir_all(inside.parent().expect("a parent")).expect("folders");
            fs::copy(outside, &inside).expect("the program is built");
            let mode = if *name == "sailplane-switch" {
                0o4755
            } else {
                0o755
            };
            fs::set_permissions(&inside, fs::Permissions::from_mode(mode)).expect("mode");
        }
        // Not chroot: below that the kernel allows no user namespaces, which a test needs.
        chdir(root).expect("chdir");
        pivot_root(".", ".").expect("pivot_root");
        umount2(".", MntFlags::MNT_DETACH).expect("the old root goes away");
        chdir("/").expect("chdir");
        // A fresh /dev/shm and /tmp, so that sweeping them touches nothing outside.
        for dir in ["/dev/shm", "/tmp", "/var/tmp"] {
            fs::create_dir_all(dir).expect("folders");
            mount(
                Some("cell"),
                dir,
                Some("tmpfs"),
                MsFlags::empty(),
                Some("mode=1777"),
            )
            .expect("tmpfs");
        }
        cell.furnish();
        cell
    }

    fn furnish(&self) {
        let (pilot, alice) = (self.pilot, self.alice);
        let passwd = format!(
            "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\ndaemon:x:1:1::/:/bin/false\n\
             pilot:x:{pilot}:{pilot}::/:/bin/sh\nalice:x:{alice}:{alice}::/:/bin/sh\n\
             toor:x:0:0::/:/bin/sh\ntwin:x:{pilot}:{pilot}::/:/bin/sh\n"
        );
        put("/etc/passwd", &passwd, 0o644);
        let group = format!(
            "root:x:0:\npilot:x:{pilot}:\nalice:x:{alice}:\nlab:x:{}:alice\n",
            alice + 1
        );
        put("/etc/group", &group, 0o644);
        put("/etc/nsswitch.conf", "passwd: files\ngroup: files\n", 0o644);
        put(
            "/etc/sailplane/gridmap",
            "\"/CN=Alice\" alice\n\"/CN=Toor\" toor\n\"/CN=Pilot\" twin\n\
             \"/CN=Daemon\" daemon\n\"/CN=Ghost\" ghost\n",
            0o644,
        );
        put("/etc/grid-security/certificates/README", "none\n", 0o644);
        fs::create_dir_all("/var/log").expect("folders");
        fs::create_dir_all("/run").expect("folders");
        fs::create_dir_all(EXECUTE).expect("folders");
        own(EXECUTE, pilot, 0o755);
        self.configure("");
    }

    /// Writes the configuration, with these lines in place of the usual ones of the same key.
    pub(crate) fn configure(&self, lines: &str) {
        let (first, last) = (self.first, self.first + DYNAMIC - 1);
        let usual = [
            ("user_white_list", "pilot".to_owned()),
            ("certdir", "/etc/grid-security/certificates".to_owned()),
            ("gridmap", "/etc/sailplane/gridmap".to_owned()),
            ("dynamic_uids", format!("{first}-{last}")),
            ("execute_dirs", "/scratch".to_owned()),
            ("log_file", LOG.to_owned()),
        ];
        let mut text = String::from("[switch]\n");
        for (key, value) in usual {
            if !lines.lines().any(|line| line.starts_with(key)) {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        put(CONF, &(text + lines), 0o644);
    }

    /// Is this one of the dynamic accounts, or one of those that a test may make such?
    pub(crate) fn is_dynamic(&self, uid: u32) -> bool {
        (self.first..self.pilot).contains(&uid)
    }

    /// What has been logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(LOG).unwrap_or_default()
    }
}

/// Processes with this real uid, zombies excepted.
pub(crate) fn processes_of(uid: u32) -> Vec<u32> {
    let wanted = format!("Uid:\t{uid}\t");
    fs::read_dir("/proc")
        .expect("proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains(&wanted) && !status.contains("State:\tZ")
        })
        .collect()
}

/// Children of a process, as far as they are called so; the kernel knows 15 letters of a name.
pub(crate) fn children(parent: u32, name: &str) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let known = name.get(..15).unwrap_or(name);
    let list = list.unwrap_or_default();
    let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
    let is_called = |pid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim_end() == known
    };
    pids.filter(is_called).collect()
}

/// Cgroups that a monitor has made.
pub(crate) fn groups_of(monitor: u32) -> Vec<PathBuf> {
    let prefix = format!("sailplane-{monitor}-");
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(&prefix) {
                    found.push(entry.path());
                }
                folders.push(entry.path());
            }
        }
    }
    found
}

/// Entries of a folder, sorted.
pub(crate) fn names_in(folder: impl AsRef<Path>) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
