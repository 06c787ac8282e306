//! Broker and the child that waits in a payload's group, still root: which account to become, and how
//! the machine is to look from there. One packet from root to root; the child then is the agent.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use crate::codec::{DecodeError, EncodeError, Reader, Writer};
use crate::monitor::Account;
use crate::policy::Settings;
use crate::{MAX_PACKET, MAX_PATH};

/// A directory that must still be the same one when it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Absolute.
    pub path: PathBuf,
    /// Of its file system.
    pub device: u64,
    /// On that.
    pub inode: u64,
}

/// How the machine looks to the payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Its own `/proc`, of the process numbers that the child was born into.
    pub own_proc: bool,
    /// Its own `/tmp` and `/var/tmp`.
    pub own_tmp: bool,
    /// The directories for those; none: memory.
    pub tmp: Vec<Place>,
    /// Another root directory.
    pub chroot: Option<PathBuf>,
    /// The sandbox, to be seen there too, and the configured directory that it is in.
    pub sandbox: Option<(Place, PathBuf)>,
}

/// What becomes of the child.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// User number.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Lowest nice value.
    pub nice: u8,
    /// Linux `RLIMIT_` numbers and the highest value each may have.
    pub rlimits: Vec<(u32, u64)>,
    /// How the machine looks.
    pub view: View,
    /// Arguments of the agent, without its name.
    pub words: Vec<OsString>,
}

const MAX_GROUPS: usize = 2048;
const MAX_LIMITS: usize = 32;
const MAX_WORDS: usize = 320;
const MAX_TMP: usize = 2;

/// With this word for the front no agent executes what is a link (requirement S13).
const NO_LINKS: &str = "prohibit_exec_via_symlink=yes";

impl Order {
    /// What the site's settings make of a child for this account. `own_proc`: it was born into process numbers
    /// of its own; `places`: the sandbox, and behind it `/tmp` and `/var/tmp`; `alone`: as of
    /// [`crate::monitor::Ask::Make`].
    pub fn new(
        account: &Account,
        settings: &Settings,
        own_proc: bool,
        places: Vec<Place>,
        alone: bool,
    ) -> Self {
        let Settings {
            limits,
            isolation,
            execute_dirs,
            front,
            ..
        } = settings;
        let mut places = places.into_iter();
        let sandbox = places.next();
        let mut words: Vec<OsString> = Vec::new();
        if alone {
            // Not an errand: those are known by their first word.
            words.push("--if-alone".into());
        }
        if front.iter().any(|word| word == NO_LINKS) {
            words.push("--no-links".into());
        }
        for owner in &isolation.forbidden_owners {
            words.extend(["--not-owned-by".into(), owner.to_string().into()]);
        }
        words.extend(sandbox.iter().map(|place| place.path.clone().into()));
        let elsewhere = sandbox
            .filter(|_| isolation.chroot.is_some())
            .and_then(|place| {
                let below = execute_dirs.iter().find(|dir| place.path.starts_with(dir));
                below.cloned().map(|below| (place, below))
            });
        Self {
            uid: account.uid,
            gid: account.gid,
            groups: account.groups.clone(),
            nice: limits.nice_min,
            rlimits: limits.rlimits.clone(),
            view: View {
                own_proc,
                own_tmp: isolation.private_tmp,
                tmp: places.collect(),
                chroot: isolation.chroot.clone(),
                sandbox: elsewhere,
            },
            words,
        }
    }

    /// The packet.
    ///
    /// # Errors
    /// If it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::tagged(1);
        w.u32(self.uid);
        w.u32(self.gid);
        w.list("groups", &self.groups, MAX_GROUPS, |w, group| w.u32(*group));
        w.u8(self.nice);
        w.list("rlimits", &self.rlimits, MAX_LIMITS, |w, (which, most)| {
            w.u32(*which);
            w.u64(*most);
        });
        self.view.put(&mut w);
        w.list("words", &self.words, MAX_WORDS, |w, word| {
            w.c_bytes("words", word.as_bytes(), MAX_PATH);
        });
        w.finish(MAX_PACKET)
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// If the bytes are not exactly one order.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(packet);
        match r.u8()? {
            1 => {}
            tag => return Err(DecodeError::UnknownTag(tag)),
        }
        let order = Self {
            uid: r.u32()?,
            gid: r.u32()?,
            groups: r.list("groups", MAX_GROUPS, 4, Reader::u32)?,
            nice: r.u8()?,
            rlimits: r.list("rlimits", MAX_LIMITS, 12, |r| Ok((r.u32()?, r.u64()?)))?,
            view: View::take(&mut r)?,
            words: r.list("words", MAX_WORDS, 4, |r| {
                let word = r.c_bytes("words", MAX_PATH)?;
                Ok(OsString::from_vec(word.to_vec()))
            })?,
        };
        r.finish()?;
        Ok(order)
    }
}

impl View {
    fn put(&self, w: &mut Writer) {
        w.bool(self.own_proc);
        w.bool(self.own_tmp);
        w.list("tmp", &self.tmp, MAX_TMP, |w, place| place.put(w));
        w.option(self.chroot.as_ref(), |w, path| w.path("chroot", path));
        w.option(self.sandbox.as_ref(), |w, (place, below)| {
            place.put(w);
            w.path("sandbox", below);
        });
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            own_proc: r.bool("own_proc")?,
            own_tmp: r.bool("own_tmp")?,
            tmp: r.list("tmp", MAX_TMP, 20, Place::take)?,
            chroot: r.option("chroot", |r| r.path("chroot"))?,
            sandbox: r.option("sandbox", |r| Ok((Place::take(r)?, r.path("sandbox")?)))?,
        })
    }
}

impl Place {
    fn put(&self, w: &mut Writer) {
        w.path("place", &self.path);
        w.u64(self.device);
        w.u64(self.inode);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            path: r.path("place")?,
            device: r.u64()?,
            inode: r.u64()?,
        })
    }
}
