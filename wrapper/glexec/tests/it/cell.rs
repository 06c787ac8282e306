//! A cell: the machine as a pilot sees it, private to one test.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, geteuid, pivot_root};

/// Where the programs are inside.
pub(crate) const LIBEXEC: &str = "/usr/lib/sailplane";
/// gLExec, as its callers know it.
pub(crate) const GLEXEC: &str = "/opt/glite/sbin/glexec";
/// Where the configuration is inside.
pub(crate) const CONF: &str = "/etc/sailplane/switch.conf";
/// The pilot's directory inside.
pub(crate) const HERE: &str = "/scratch/pilot";
/// The payload user's credential.
pub(crate) const CERT: &str = "/scratch/pilot/x509_payload";

/// The verifier that really verifies lies beside the one in use, by this name.
pub(crate) const REAL_VERIFIER: &str = "real-verifier";

/// What a test works with.
#[derive(Debug)]
pub(crate) struct Cell {
    /// The caller's account.
    pub(crate) pilot: u32,
    /// A named account, mapped from `/CN=Alice`.
    pub(crate) alice: u32,
}

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
        test(&cell);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Built programs: name inside, path outside. The verifier in use is one that believes what it reads.
fn programs() -> Vec<(&'static str, PathBuf)> {
    let front = PathBuf::from(env!("CARGO_BIN_EXE_sailplane-glexec"));
    let folder = front
        .parent()
        .expect("a program lies in a folder")
        .to_owned();
    static BUILD: Once = Once::new();
    BUILD.call_once(|| {
        let target = folder.parent().expect("the target folder");
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--quiet", "--bins", "--example", "fault_verifier"])
            .args([
                "-p",
                "sailplane-switch",
                "-p",
                "sailplane-job",
                "-p",
                "sailplane-policy",
                "-p",
                "sailplane-broker",
                "-p",
                "sailplane-admin",
            ])
            .args(["-p", "sailplane-verify"])
            .arg("--target-dir")
            .arg(target);
        let profile = folder.file_name().and_then(|name| name.to_str());
        if let Some(profile) = profile.filter(|name| *name != "debug") {
            build.args(["--profile", profile]);
        }
        assert!(build.status().expect("cargo runs").success());
    });
    let mut programs = vec![
        ("sailplane-verify", folder.join("examples/fault_verifier")),
        (REAL_VERIFIER, folder.join("sailplane-verify")),
    ];
    programs.extend(
        [
            "sailplane-switch",
            "sailplane-broker",
            "sailplane-admin",
            "sailplane-job",
            "sailplane-policy",
            "sailplane-names",
            "sailplane-names-nss",
            "sailplane-glexec",
            "sailplane-glexec-wrap",
            "sailplane-glexec-unwrap",
            "sailplane-mkgltempdir",
        ]
        .map(|name| (name, folder.join(name))),
    );
    programs
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status();
    assert!(status.expect("runs").success(), "{from:?} is built");
}

fn bind(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("mount point");
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from), to, None::<&str>, flags, None::<&str>).expect("bind mount");
}

fn tmpfs(at: &Path, options: &str) {
    fs::create_dir_all(at).expect("mount point");
    mount(
        Some("cell"),
        at,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options),
    )
    .expect("tmpfs");
}

/// Creates missing parents, writes, sets the mode.
pub(crate) fn put(path: impl AsRef<Path>, text: &str, mode: u32) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
    fs::write(path, text).expect("write");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
}

/// Makes a directory with owner and mode.
pub(crate) fn make_dir(path: &str, uid: u32, mode: u32) {
    fs::create_dir_all(path).expect("folders");
    own(path, uid, mode);
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
        let first = 110_000_000 + serial * 100;
        let cell = Self {
            pilot: first + 50,
            alice: first + 60,
        };
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace (CAP_SYS_ADMIN)");
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
        let root = Path::new("/mnt");
        tmpfs(root, "mode=755");
        for dir in ["usr", "proc", "sys", "dev"] {
            bind(&Path::new("/").join(dir), &root.join(dir));
        }
        for dir in ["bin", "sbin", "lib", "lib64"] {
            let outside = Path::new("/").join(dir);
            match fs::read_link(&outside) {
                Ok(target) => symlink(target, root.join(dir)).expect("symlink"),
                Err(_) if outside.exists() => bind(&outside, &root.join(dir)),
                Err(_) => {}
            }
        }
        for (name, outside) in programs {
            fs::create_dir_all(root.join("programs")).expect("folders");
            let inside = root.join("programs").join(name);
            // By a program of its own: a test that forks meanwhile would keep ours open for writing.
            copy(outside, &inside);
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
            tmpfs(Path::new(dir), "mode=1777");
        }
        cell.furnish();
        cell
    }

    fn furnish(&self) {
        let (pilot, alice) = (self.pilot, self.alice);
        // The usual places, without touching what the bind mount of /usr shows of the machine.
        tmpfs(Path::new("/usr/lib/sailplane"), "mode=755");
        for entry in fs::read_dir("/programs").expect("programs").flatten() {
            let to = Path::new(LIBEXEC).join(entry.file_name());
            copy(&entry.path(), &to);
            let mode = entry.metadata().expect("facts").permissions();
            fs::set_permissions(&to, mode).expect("mode");
        }
        fs::create_dir_all("/opt/glite/sbin").expect("folders");
        for (link, program) in [
            ("glexec", "sailplane-switch"),
            ("glexec_wrapenv.pl", "sailplane-glexec-wrap"),
            ("glexec_unwrapenv.pl", "sailplane-glexec-unwrap"),
            ("mkgltempdir", "sailplane-mkgltempdir"),
        ] {
            let to = Path::new(LIBEXEC).join(program);
            symlink(to, Path::new("/opt/glite/sbin").join(link)).expect("link");
        }
        let passwd = format!(
            "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n\
             pilot:x:{pilot}:{pilot}::/home/pilot:/bin/sh\n\
             alice:x:{alice}:{alice}::/home/alice:/bin/bash\n"
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
            "\"/CN=Alice\" alice\n\"/CN=Ghost\" ghost\n",
            0o644,
        );
        put("/etc/grid-security/certificates/README", "none\n", 0o644);
        for dir in ["/var/log", "/run", "/root"] {
            fs::create_dir_all(dir).expect("folders");
        }
        own("/root", 0, 0o700);
        make_dir("/home/alice", alice, 0o700);
        make_dir("/home/pilot", pilot, 0o700);
        make_dir("/scratch/run", 0, 0o1777);
        make_dir(HERE, pilot, 0o755);
        self.credential("accept 3600 full /CN=Alice");
        self.configure("");
    }

    /// Writes the payload user's credential, as the pilot's private file.
    pub(crate) fn credential(&self, text: &str) {
        put(CERT, text, 0o600);
        own(CERT, self.pilot, 0o600);
    }

    /// Writes the configuration, with these lines in place of the usual ones of the same key.
    pub(crate) fn configure(&self, lines: &str) {
        let usual = [
            ("user_white_list", "pilot".to_owned()),
            ("certdir", "/etc/grid-security/certificates".to_owned()),
            ("gridmap", "/etc/sailplane/gridmap".to_owned()),
            ("execute_dirs", "/scratch/run".to_owned()),
            ("log_file", "/var/log/sailplane.log".to_owned()),
        ];
        let mut text = String::from("[glexec]\n");
        for (key, value) in usual {
            let given = format!("{key} =");
            if !lines.lines().any(|line| line.starts_with(&given)) {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        put(CONF, &(text + lines), 0o644);
    }

    /// A shell of the pilot, in its directory, with the credential named.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("setpriv");
        let pilot = self.pilot;
        shell
            .args([&format!("--reuid={pilot}"), &format!("--regid={pilot}")])
            .args(["--clear-groups", "/bin/sh", "-c", script])
            .current_dir(HERE)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("GLEXEC_CLIENT_CERT", CERT)
            .env("X509_USER_PROXY", "/scratch/pilot/x509_pilot")
            .stdin(Stdio::null());
        shell
    }

    /// Runs a script of the pilot to its end. `$GLEXEC` is gLExec.
    pub(crate) fn run(&self, script: &str) -> Said {
        said(self.prepared(script).output().expect("runs"))
    }

    /// The same, not yet started.
    pub(crate) fn prepared(&self, script: &str) -> Command {
        let mut shell = self.shell(&format!("GLEXEC={GLEXEC}\n{script}"));
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        shell
    }

    /// Starts a script of the pilot.
    pub(crate) fn begin(&self, script: &str) -> Child {
        self.prepared(script).spawn().expect("starts")
    }

    /// What the helper has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string("/var/log/sailplane.log").unwrap_or_default()
    }
}

/// What a script has said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn said(output: Output) -> Said {
    Said {
        status: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
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
