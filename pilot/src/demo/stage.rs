//! Where the demo plays: a folder of its own that is gone afterwards.
//!
//! As root the folder is a file system in memory that only the demo's processes see, and so is an `/etc` with the
//! demo's accounts, helper configuration and trust anchors in front of the machine's own: nothing is installed, and
//! nothing is left even when the demo is killed. Without root it is an ordinary temporary folder, and there is no
//! switching of identities.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{getuid, mkdtemp};
use thiserror::Error;

/// A folder that every account may search and only root may change, as the helper demands of its own.
const ROOTS_FOLDER: &str = "/run";

/// Where the demo plays.
#[derive(Debug)]
pub(super) struct Stage {
    root: PathBuf,
    separation: Separation,
    mounted: bool,
}

/// Whether jobs can run under accounts of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Separation {
    /// Yes: this is root, and mounts are possible.
    Accounts,
    /// No, and why.
    None(String),
}

/// The stage could not be built.
#[derive(Debug, Error)]
pub(super) enum StageError {
    /// Root in a container, usually.
    #[error(
        "this machine does not let root make mounts that only the demo sees; run it as an ordinary account, which \
         shows all but the switch of identities"
    )]
    NoMounts(#[source] nix::Error),
    /// A file or a mount.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// An account that exists in the demo only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// Login name.
    pub(super) name: String,
    /// User and group number.
    pub(super) id: u32,
    /// Home folder.
    pub(super) home: PathBuf,
}

impl Stage {
    /// Makes the folder. Must be called before the first thread starts: a mount namespace belongs to a thread.
    pub(super) fn build() -> Result<Self, StageError> {
        umask(Mode::from_bits_truncate(0o022));
        if !getuid().is_root() {
            let why = "this is not root, so all jobs run under your own account";
            return Self::plain(why.to_owned());
        }
        unshare(CloneFlags::CLONE_NEWNS).map_err(StageError::NoMounts)?;
        Self::private()
    }

    fn plain(why: String) -> Result<Self, StageError> {
        Ok(Self {
            root: temporary(&std::env::temp_dir())?,
            separation: Separation::None(why),
            mounted: false,
        })
    }

    fn private() -> Result<Self, StageError> {
        let everything = Path::new("/");
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |errno: nix::Error| StageError::File {
                what,
                path,
                source: errno.into(),
            }
        };
        mount(
            None::<&str>,
            everything,
            None::<&str>,
            MsFlags::MS_PRIVATE | MsFlags::MS_REC,
            None::<&str>,
        )
        .map_err(failed("keep to ourselves the mounts below", everything))?;
        let root = temporary(Path::new(ROOTS_FOLDER))?;
        let mut stage = Self {
            root,
            separation: Separation::Accounts,
            mounted: false,
        };
        mount(
            Some("sailplane-demo"),
            &stage.root,
            Some("tmpfs"),
            MsFlags::MS_NODEV,
            Some("mode=0755,size=50%"),
        )
        .map_err(failed("mount a file system in memory on", &stage.root))?;
        stage.mounted = true;
        stage.cover_etc()?;
        Ok(stage)
    }

    /// Puts an `/etc` of our own in front of the machine's: links to everything that is there, so that files of ours can
    /// stand beside them.
    fn cover_etc(&self) -> Result<(), StageError> {
        let machine = self.path("machine-etc");
        let ours = self.path("etc");
        let etc = Path::new("/etc");
        make(&machine)?;
        make(&ours)?;
        bind(etc, &machine)?;
        for entry in fs::read_dir(&machine).map_err(error("read", &machine))? {
            let name = entry.map_err(error("read", &machine))?.file_name();
            let link = ours.join(&name);
            symlink(machine.join(&name), &link).map_err(error("link", &link))?;
        }
        bind(&ours, etc)
    }

    /// A path below the demo's folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether jobs can run under accounts of their own.
    pub(super) fn separation(&self) -> &Separation {
        &self.separation
    }

    /// True if jobs run under accounts of their own.
    pub(super) fn separates(&self) -> bool {
        self.separation == Separation::Accounts
    }

    /// Makes accounts, and their homes. Without separation all homes belong to the account that runs the demo.
    pub(super) fn add_accounts(&self, accounts: &[Account]) -> Result<(), StageError> {
        for account in accounts {
            self.folder(&account.home, 0o700, Some(account))?;
        }
        if !self.separates() {
            return Ok(());
        }
        let passwd = accounts.iter().map(|account| {
            let Account { name, id, home } = account;
            format!(
                "{name}:x:{id}:{id}:sailplane demo:{}:/bin/sh",
                home.display()
            )
        });
        let group = accounts
            .iter()
            .map(|account| format!("{}:x:{}:", account.name, account.id));
        self.replace_table("passwd", accounts, passwd)?;
        self.replace_table("group", accounts, group)
    }

    /// `/etc/passwd` or `/etc/group`: the machine's lines without names of ours, and ours.
    fn replace_table(
        &self,
        table: &str,
        accounts: &[Account],
        lines: impl Iterator<Item = String>,
    ) -> Result<(), StageError> {
        let path = self.path("etc").join(table);
        let machine = fs::read_to_string(&path).map_err(error("read", &path))?;
        let is_ours = |line: &&str| {
            let name = line.split(':').next().unwrap_or_default();
            accounts.iter().any(|account| account.name == name)
        };
        let mut text = String::new();
        let kept = machine.lines().filter(|line| !is_ours(line));
        for line in kept.map(str::to_owned).chain(lines) {
            text.push_str(&line);
            text.push('\n');
        }
        fs::remove_file(&path).map_err(error("replace", &path))?;
        self.file(&path, text.as_bytes(), 0o644, None)
    }

    /// Puts an empty folder of ours where a link to the machine's may be.
    pub(super) fn replace_folder(&self, path: &Path) -> Result<(), StageError> {
        if path.is_symlink() {
            fs::remove_file(path).map_err(error("replace", path))?;
        }
        self.folder(path, 0o755, None)
    }

    /// Makes a folder with `mode` (and those above it with 0755) that belongs to `owner`.
    pub(super) fn folder(
        &self,
        path: &Path,
        mode: u32,
        owner: Option<&Account>,
    ) -> Result<(), StageError> {
        if let Some(above) = path.parent() {
            make(above)?;
        }
        if !path.is_dir() {
            let mut builder = fs::DirBuilder::new();
            builder.mode(0o700);
            builder.create(path).map_err(error("make", path))?;
        }
        self.give(path, mode, owner)
    }

    /// Writes a file with `mode` that belongs to `owner`.
    pub(super) fn file(
        &self,
        path: &Path,
        content: &[u8],
        mode: u32,
        owner: Option<&Account>,
    ) -> Result<(), StageError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(path).map_err(error("write", path))?;
        file.write_all(content).map_err(error("write", path))?;
        drop(file);
        self.give(path, mode, owner)
    }

    fn give(&self, path: &Path, mode: u32, owner: Option<&Account>) -> Result<(), StageError> {
        if let Some(owner) = owner.filter(|_| self.separates()) {
            chown(path, Some(owner.id), Some(owner.id)).map_err(error("give away", path))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(error("set the mode of", path))
    }

    /// Copies a program.
    pub(super) fn program(&self, from: &Path, to: &Path, mode: u32) -> Result<(), StageError> {
        fs::copy(from, to).map_err(error("copy", from))?;
        self.give(to, mode, None)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What fails here cannot be mended here, and the mounts end with the last process of the demo anyway.
        if self.mounted {
            let _ = umount2("/etc", MntFlags::MNT_DETACH);
            let _ = umount2(&self.root, MntFlags::MNT_DETACH);
            let _ = fs::remove_dir(&self.root);
        } else {
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

fn temporary(base: &Path) -> Result<PathBuf, StageError> {
    let mut template = OsString::from(base);
    template.push("/sailplane-demo.XXXXXX");
    let failed = |errno: nix::Error| StageError::File {
        what: "make a temporary folder in",
        path: base.to_owned(),
        source: errno.into(),
    };
    mkdtemp(Path::new(&template)).map_err(failed)
}

fn make(path: &Path) -> Result<(), StageError> {
    fs::create_dir_all(path).map_err(error("make", path))
}

fn bind(from: &Path, to: &Path) -> Result<(), StageError> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    let done = mount(Some(from), to, None::<&str>, flags, None::<&str>);
    done.map_err(|errno| StageError::File {
        what: "mount over",
        path: to.to_owned(),
        source: errno.into(),
    })
}

fn error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StageError + use<> {
    let path = path.to_owned();
    move |source| StageError::File { what, path, source }
}
