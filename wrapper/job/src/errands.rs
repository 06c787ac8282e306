//! What the broker has done in an account's name. Each errand ends with one of the numbers below.

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, getuid};

use crate::files::Sandbox;
use crate::remover::{self, Tally};
use crate::{below, keys, proxy, sys, system_v};

/// It is done.
const DONE: u8 = 0;
/// Something could not be removed, or written.
const LEFT_OVER: u8 = 1;
/// Nothing was done, because other processes of the account live.
const IN_USE: u8 = 2;
/// The words are not understood, or it cannot be found out.
const CONFUSED: u8 = 126;

/// First descriptor of the directories to be emptied.
const FIRST_DIRECTORY: i32 = 3;

/// World-writable places in which an account may have left files for its next user.
const SHARED_PLACES: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"];

/// How long processes of an account may take to die.
const DYING: Duration = Duration::from_secs(5);

/// An errand takes its words and gives the exit status.
type Errand = fn(&mut dyn Iterator<Item = OsString>) -> u8;

/// The errand of this name.
pub(crate) fn named(word: &OsString) -> Option<Errand> {
    Some(match word.to_str()? {
        "--remove" => remove,
        "--alone" => is_unused,
        "--kill-all" => |_| {
            let _ = sys::kill_everything();
            DONE
        },
        "--members" => members,
        "--signal" => signal,
        "--sweep" => sweep,
        "--put-proxy" => put_proxy,
        "--init" => init,
        _ => return None,
    })
}

/// `--alone [HOME]`: is this the only process of the account, and does its home, if one is named, hold
/// nothing but what new ones are made with?
fn is_unused(words: &mut dyn Iterator<Item = OsString>) -> u8 {
    match alone() {
        None => CONFUSED,
        Some(true) if words.next().is_none_or(|home| is_clean(Path::new(&home))) => DONE,
        Some(_) => IN_USE,
    }
}

/// The same for an agent, which goes on with the limit that it has: the status with which it is to end, if it is.
pub(crate) fn unless_alone() -> Option<u8> {
    let Ok((soft, hard)) = sys::limit(sys::PROCESSES) else {
        return Some(CONFUSED);
    };
    // What may have no second process cannot try; somebody else must look.
    if sys::set_limit(sys::PROCESSES, 2, hard).is_err() {
        return Some(CONFUSED);
    }
    let alone = sys::can_fork();
    match sys::set_limit(sys::PROCESSES, soft, hard) {
        Ok(()) => (!alone).then_some(IN_USE),
        Err(_) => Some(CONFUSED),
    }
}

fn is_clean(home: &Path) -> bool {
    if home.parent().is_none() {
        return true;
    }
    let is_usual = |name: OsString| Path::new("/etc/skel").join(name).exists();
    match fs::read_dir(home) {
        Ok(mut entries) => entries.all(|it| it.is_ok_and(|it| is_usual(it.file_name()))),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// `--remove [--if-alone] [--everywhere]`: empties the directories on the descriptors from 3 up, if
/// need be only when no other process of the account lives. `--everywhere`: the account is nobody
/// else's, so what it has left in shared places, its System V objects and its keys go too.
fn remove(words: &mut dyn Iterator<Item = OsString>) -> u8 {
    let (mut if_alone, mut everywhere) = (false, false);
    for word in words {
        if_alone |= word == "--if-alone";
        everywhere |= word == "--everywhere";
    }
    if if_alone && alone() != Some(true) {
        return IN_USE;
    }
    let mut status = DONE;
    for directory in directories() {
        match remover::empty(&directory) {
            Ok(Tally { left: 0, .. }) => {}
            _ => status = LEFT_OVER,
        }
    }
    if everywhere {
        for place in SHARED_PLACES {
            // Best effort: a place may be read-only, or hold what is mounted there.
            let _ = remove_own(Path::new(place), false);
        }
        system_v::remove_all_of(geteuid().as_raw());
        keys::clear_all_of(geteuid().as_raw());
    }
    status
}

/// The descriptors from 3 up, as far as there are any.
fn directories() -> Vec<OwnedFd> {
    (FIRST_DIRECTORY..).map_while(sys::inherited).collect()
}

fn remove_own(place: &Path, deep: bool) -> Option<Tally> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = open(place, flags, Mode::empty()).ok()?;
    remover::remove_own(&dir, deep).ok()
}

/// Is this the only process of its account? Asked of the kernel's own count, which has no gaps as a
/// scan of process numbers has: it allows itself two processes and tries to fork. Zombies count until
/// they are reaped. `None`: it cannot be found out.
fn alone() -> Option<bool> {
    sys::set_limit(sys::PROCESSES, 2, 2).ok()?;
    Some(sys::can_fork())
}

/// `--members --below PID`: ends with [`IN_USE`] if processes of the account descend from that one.
fn members(words: &mut dyn Iterator<Item = OsString>) -> u8 {
    let found = ancestor(words).map(|ancestor| below::members(ancestor, getuid().as_raw()));
    match found {
        Some(Ok(members)) if members.is_empty() => DONE,
        Some(Ok(_)) => IN_USE,
        _ => CONFUSED,
    }
}

/// `--signal NUMBER --below PID`: signals them.
fn signal(words: &mut dyn Iterator<Item = OsString>) -> u8 {
    let number = words.next().as_ref().and_then(number);
    let done = number
        .zip(ancestor(words))
        .map(|(number, ancestor)| below::signal(ancestor, getuid().as_raw(), number));
    if matches!(done, Some(Ok(()))) {
        DONE
    } else {
        CONFUSED
    }
}

fn ancestor(words: &mut dyn Iterator<Item = OsString>) -> Option<i32> {
    (words.next()? == "--below").then_some(())?;
    number(&words.next()?)
}

fn number(word: &OsString) -> Option<i32> {
    word.to_str()?.parse().ok().filter(|number| *number > 0)
}

/// `--sweep [PLACE]...`: the account is nobody's. Kills its processes, removes its files in the places
/// and its System V objects, and says on standard output how many: processes, files, objects, and how
/// many of each could not be removed.
fn sweep(words: &mut dyn Iterator<Item = OsString>) -> u8 {
    let mut places: Vec<PathBuf> = words.map(PathBuf::from).collect();
    if places.is_empty() {
        places = SHARED_PLACES.iter().map(PathBuf::from).collect();
    }
    let uid = geteuid().as_raw();
    let before = processes_of(uid);
    let deadline = Instant::now() + DYING;
    let mut quiet = alone() == Some(true);
    while !quiet && Instant::now() < deadline {
        let _ = sys::kill_everything();
        sys::pause(1);
        // Zombies that nobody reaps are not what we look for.
        quiet = sys::can_fork() || processes_of(uid) == 0;
    }
    let mut files = Tally::default();
    for place in &places {
        if let Some(tally) = remove_own(place, true) {
            files.removed += tally.removed;
            files.left += tally.left;
        }
    }
    let (objects, objects_left) = system_v::remove_all_of(uid);
    keys::clear_all_of(uid);
    let alive = if quiet { 0 } else { processes_of(uid) };
    let (removed, left) = (files.removed, files.left);
    let report = format!("{before} {removed} {objects} {alive} {left} {objects_left}\n");
    let told = std::io::stdout().write_all(report.as_bytes());
    if told.is_ok() && [alive, left, objects_left] == [0; 3] {
        DONE
    } else {
        LEFT_OVER
    }
}

/// Living processes of a uid, but this one.
fn processes_of(uid: u32) -> u32 {
    let wanted = format!("\nUid:\t{uid}\t");
    let own = std::process::id();
    let others = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| *pid != own)
        .filter(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains(&wanted) && !status.contains("\nState:\tZ")
        });
    u32::try_from(others.count()).unwrap_or(u32::MAX)
}

/// `--put-proxy SANDBOX NAME`: the credential on descriptor 0 becomes the file `NAME` beneath the
/// sandbox, in place of the one that is there, while the payload runs.
fn put_proxy(words: &mut dyn Iterator<Item = OsString>) -> u8 {
    let (Some(sandbox), Some(name), Some(source)) = (words.next(), words.next(), sys::inherited(0))
    else {
        return CONFUSED;
    };
    let written = Sandbox::enter(sandbox.into())
        .and_then(|sandbox| proxy::replace(&sandbox, Path::new(&name), source));
    if written.is_ok() { DONE } else { LEFT_OVER }
}

/// `--init`: the first process of a payload's own process numbers. Has the kernel reap what is handed
/// to it, and ends when the broker closes the pipe on descriptor 0, or dies; with it ends everything
/// that has such a number. The payload's leader is not its child but the broker's, so there is no exit
/// status to be passed on.
fn init(_: &mut dyn Iterator<Item = OsString>) -> u8 {
    sys::ignore_children();
    while matches!(std::io::stdin().read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::Interrupted)
    {
    }
    DONE
}
