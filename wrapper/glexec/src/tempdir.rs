//! `mkgltempdir`: a directory for the payload's account inside one of the caller's (requirement G16).
//!
//! It is made by the account itself, through gLExec, in a directory that the account gets as a
//! descriptor. So no place that others can reach is ever open to everybody's writing, and nothing of it
//! needs root. Removing goes the same way: first the account removes what it may, whatever modes the
//! payload has left, then the caller what it has put there.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io::{ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, mkdirat,
};
use nix::unistd::{UnlinkatFlags, getuid, unlinkat};
use sailplane_job::remover;

use crate::sys;
use crate::tools::complain;
use sailplane_policy::why;

const USAGE: &str = "usage: mkgltempdir [-t MODE] [-m PARENTMODE] [DIRECTORY]
       mkgltempdir -r [-f] MADE

Makes a directory that belongs to the account of the credential in GLEXEC_CLIENT_CERT and prints its
path. Its parent belongs to the caller. With -r: removes such a directory and all that is in it.

  -t  mode of the directory, octal (0700: the caller cannot look inside)
  -m  mode of its parent, octal (0711)
  -r  remove
  -f  accepted; directories need not be empty anyway

DIRECTORY defaults to $EDG_WL_SCRATCH, $OSG_WN_TMP, $TMPDIR or /tmp, whichever is set first.
Exit status: gLExec's own (201 to 203) if it refuses, 1 if anything else fails.
";

/// Name of the directory that everything is in, but for its last part.
const OUTER: &str = "gltmp.";
/// Its only entry, the parent.
const PARENT: &str = "parent";
/// The account's directory.
const INNER: &str = "payload";

/// How the account is told what to do, on a command line that only we write.
const MAKE: &str = "--as-target-make";
const EMPTY: &str = "--as-target-empty";

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// What is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Help,
    Make {
        below: Option<PathBuf>,
        mode: u32,
        parent: u32,
    },
    Remove(PathBuf),
    /// In the account's own process, with the parent on descriptor 0.
    MakeHere {
        mode: u32,
    },
    /// The same, with the directory itself.
    EmptyHere,
}

/// The whole program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<_> = arguments.into_iter().skip(1).collect();
    let outcome = match read(&words) {
        Ok(Wish::Help) => say(USAGE),
        Ok(Wish::Make {
            below,
            mode,
            parent,
        }) => make(&below.unwrap_or_else(default_place), mode, parent)
            .and_then(|path| say(&format!("{}\n", path.display()))),
        Ok(Wish::Remove(path)) => remove(&path),
        Ok(Wish::MakeHere { mode }) => make_here(mode),
        Ok(Wish::EmptyHere) => empty_here(),
        Err(text) => Err(Trouble(1, format!("{text}; see mkgltempdir -h"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble(status, text)) => complain("mkgltempdir", &text, status),
    }
}

/// Exit status and sentence.
#[derive(Debug)]
struct Trouble(u8, String);

fn of(what: &str, path: &Path) -> impl Fn(Errno) -> Trouble {
    let text = format!("cannot {what} {}", path.display());
    move |errno| Trouble(1, format!("{text}: {}", errno.desc()))
}

fn say(text: &str) -> Result<(), Trouble> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Trouble(1, why(&error)))
}

fn default_place() -> PathBuf {
    ["EDG_WL_SCRATCH", "OSG_WN_TMP", "TMPDIR"]
        .iter()
        .filter_map(std::env::var_os)
        .find(|value| !value.is_empty())
        .map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
}

fn read(words: &[OsString]) -> Result<Wish, String> {
    let octal = |word: Option<&OsString>| {
        word.and_then(|word| word.to_str())
            .and_then(|word| u32::from_str_radix(word, 8).ok())
            .filter(|mode| *mode <= 0o777)
            .ok_or_else(|| "a mode is three octal digits".to_owned())
    };
    match words {
        [first, mode] if first == MAKE => {
            return Ok(Wish::MakeHere {
                mode: octal(Some(mode))?,
            });
        }
        [first] if first == EMPTY => return Ok(Wish::EmptyHere),
        _ => {}
    }
    let (mut mode, mut parent, mut removing, mut place) = (0o700, 0o711, false, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_bytes() {
            b"-h" | b"--help" => return Ok(Wish::Help),
            b"-t" => mode = octal(words.next())?,
            b"-m" => parent = octal(words.next())?,
            b"-r" => removing = true,
            b"-f" => {}
            option if option.starts_with(b"-") => return Err(format!("unknown option {word:?}")),
            _ if place.is_none() => place = Some(PathBuf::from(word)),
            _ => return Err(format!("{word:?} is one directory too many")),
        }
    }
    match (removing, place) {
        (true, Some(path)) => Ok(Wish::Remove(path)),
        (true, None) => Err("-r needs the directory that is to be removed".to_owned()),
        (false, below) => Ok(Wish::Make {
            below,
            mode,
            parent,
        }),
    }
}

/// Makes `BELOW/gltmp.XXXXXXXX/parent/payload`.
fn make(below: &Path, mode: u32, parent: u32) -> Result<PathBuf, Trouble> {
    let below = std::path::absolute(below).map_err(|error| Trouble(1, why(&error)))?;
    let outer = unique(&below)?;
    let made = make_inside(&outer, mode, parent);
    if made.is_err() {
        let _ = std::fs::remove_dir(outer.join(PARENT));
        let _ = std::fs::remove_dir(&outer);
    }
    made
}

/// A new directory that only the caller can enter.
fn unique(below: &Path) -> Result<PathBuf, Trouble> {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    for _ in 0..100 {
        let path = below.join(format!("{OUTER}{:08x}", sys::random()));
        match builder.create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                let text = format!(
                    "cannot make a directory in {}: {}",
                    below.display(),
                    why(&error)
                );
                return Err(Trouble(1, text));
            }
        }
    }
    Err(Trouble(
        1,
        format!("no name is free in {}", below.display()),
    ))
}

fn make_inside(outer: &Path, mode: u32, parent_mode: u32) -> Result<PathBuf, Trouble> {
    let path = outer.join(PARENT);
    let fail = |what| of(what, &path);
    let dir = open(outer, DIRECTORY, Mode::empty()).map_err(of("open", outer))?;
    mkdirat(&dir, PARENT, Mode::S_IRWXU).map_err(fail("make"))?;
    let parent = openat(&dir, PARENT, DIRECTORY, Mode::empty()).map_err(fail("open"))?;
    // Only who gets the descriptor can come here: the way by name ends at `outer`.
    fchmod(&parent, Mode::from_bits_truncate(0o1733)).map_err(fail("set the mode of"))?;
    let words = [OsString::from(MAKE), OsString::from(format!("{mode:o}"))];
    as_target(&parent, &words)?;
    fchmod(&parent, Mode::from_bits_truncate(parent_mode)).map_err(fail("set the mode of"))?;
    let inner = path.join(INNER);
    let facts = look(&parent, OsStr::new(INNER)).map_err(of("examine", &inner))?;
    if !is_directory(&facts) {
        return Err(Trouble(1, format!("{} is no directory", inner.display())));
    }
    fchmod(&dir, Mode::from_bits_truncate(parent_mode)).map_err(of("set the mode of", outer))?;
    Ok(inner)
}

fn look(dir: &OwnedFd, name: &OsStr) -> Result<FileStat, Errno> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

fn is_directory(facts: &FileStat) -> bool {
    SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}

/// Runs this program as the account, by way of gLExec, with a directory as its descriptor 0.
fn as_target(dir: &OwnedFd, words: &[OsString]) -> Result<(), Trouble> {
    let this = std::env::current_exe().map_err(|error| Trouble(1, why(&error)))?;
    let glexec = this.with_file_name("sailplane-switch");
    let dir = dir.try_clone().map_err(|error| Trouble(1, why(&error)))?;
    let status = Command::new(&glexec)
        .arg("--")
        .arg(&this)
        .args(words)
        .env("GLEXEC_TARGET_PROXY", "/dev/null")
        .env_remove("GLEXEC_REPORT_FD")
        .stdin(Stdio::from(dir))
        .stdout(Stdio::null())
        .status()
        .map_err(|error| {
            Trouble(
                1,
                format!("cannot run {}: {}", glexec.display(), why(&error)),
            )
        })?;
    if status.success() {
        return Ok(());
    }
    // It has said why on standard error itself.
    let number = status.code().and_then(|code| u8::try_from(code).ok());
    Err(Trouble(
        number.unwrap_or(1),
        "gLExec did not do it; see the line above".to_owned(),
    ))
}

/// As the account: the directory on descriptor 0 is the parent.
fn make_here(mode: u32) -> Result<(), Trouble> {
    let parent = sys::borrow(0);
    let name = Path::new(INNER);
    mkdirat(parent, name, Mode::S_IRWXU).map_err(of("make", name))?;
    let made = openat(parent, name, DIRECTORY, Mode::empty()).map_err(of("open", name))?;
    fchmod(&made, Mode::from_bits_truncate(mode)).map_err(of("set the mode of", name))
}

/// As the account: empties the directory on descriptor 0, as far as it can, and lets the caller have its
/// turn. What remains is seen by whoever tries to remove it.
fn empty_here() -> Result<(), Trouble> {
    let path = Path::new("/proc/self/fd/0");
    // It may have been left with mode 000; the descriptor is good for its name only.
    let follow = FchmodatFlags::FollowSymlink;
    let _ = fchmodat(AT_FDCWD, path, Mode::S_IRWXU, follow);
    let flags = DIRECTORY & !OFlag::O_NOFOLLOW;
    let dir = open(path, flags, Mode::empty()).map_err(of("open", path))?;
    let _ = remover::empty(&dir);
    // Nobody but the caller can come here: the way leads through its own directory, of mode 0700 by now.
    let _ = fchmod(&dir, Mode::from_bits_truncate(0o777));
    Ok(())
}

/// The inverse of [`make`].
fn remove(path: &Path) -> Result<(), Trouble> {
    let path = std::path::absolute(path).map_err(|error| Trouble(1, why(&error)))?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Trouble(1, format!("{} cannot be removed", path.display())));
    };
    let dir = open(parent, DIRECTORY, Mode::empty()).map_err(of("open", parent))?;
    let facts = fstat(&dir).map_err(of("examine", parent))?;
    if facts.st_uid != getuid().as_raw() || facts.st_mode & 0o022 != 0 {
        let text = format!(
            "{} does not belong to the caller alone, so it has not been made by mkgltempdir",
            parent.display()
        );
        return Err(Trouble(1, text));
    }
    let flags = DIRECTORY | OFlag::O_PATH;
    let inner = openat(&dir, name, flags, Mode::empty()).map_err(of("open", &path))?;
    fchmod(&dir, Mode::S_IRWXU).map_err(of("set the mode of", parent))?;
    let removed = remove_inside(&dir, name, &inner).map_err(of("remove all of", &path));
    tidy(parent);
    // If it is somebody else's, or holds more, it stays as it was.
    let _ = fchmod(&dir, Mode::from_bits_truncate(facts.st_mode & 0o7777));
    removed?
}

/// The outer error: it could not be removed; the inner one: gLExec would not help.
fn remove_inside(
    parent: &OwnedFd,
    name: &OsStr,
    inner: &OwnedFd,
) -> Result<Result<(), Trouble>, Errno> {
    let gone = || unlinkat(parent, name, UnlinkatFlags::RemoveDir);
    // By turns, because each may have put directories into the other's.
    for _ in 0..3 {
        if gone().is_ok() {
            return Ok(Ok(()));
        }
        if let Err(trouble) = as_target(inner, &[OsString::from(EMPTY)]) {
            return Ok(Err(trouble));
        }
        if let Ok(dir) = openat(parent, name, DIRECTORY, Mode::empty()) {
            let _ = remover::empty(&dir);
        }
    }
    gone().map(Ok)
}

/// The two directories around it, if they are ours and the caller has put nothing else there.
fn tidy(parent: &Path) {
    let outer = parent.parent().filter(|outer| {
        let name = outer.file_name().unwrap_or_default();
        name.as_bytes().starts_with(OUTER.as_bytes())
    });
    if let Some(outer) = outer.filter(|_| parent.file_name() == Some(OsStr::new(PARENT))) {
        let _ = std::fs::remove_dir(parent);
        let _ = std::fs::remove_dir(outer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(words: &[&str]) -> Result<Wish, String> {
        read(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn g16_the_words_of_the_historical_tool_are_understood() {
        let make = |below: Option<&str>, mode, parent| {
            Ok(Wish::Make {
                below: below.map(PathBuf::from),
                mode,
                parent,
            })
        };
        assert_eq!(wish(&[]), make(None, 0o700, 0o711));
        assert_eq!(wish(&["-t", "777"]), make(None, 0o777, 0o711));
        assert_eq!(
            wish(&["-t", "0750", "-m", "755", "/scratch"]),
            make(Some("/scratch"), 0o750, 0o755)
        );
        assert_eq!(wish(&["-r", "/x/y"]), Ok(Wish::Remove("/x/y".into())));
        assert_eq!(wish(&["-r", "-f", "/x/y"]), Ok(Wish::Remove("/x/y".into())));
        assert_eq!(wish(&["-h"]), Ok(Wish::Help));
        for bad in [
            &["-t"][..],
            &["-t", "9"],
            &["-t", "4755"],
            &["-r"],
            &["-x"],
            &["a", "b"],
        ] {
            assert!(wish(bad).is_err(), "{bad:?}");
        }
    }
}
