//! Why something does not work, said so that the reader knows what to change.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use launch_protocol::exec::ExecRequest;
use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access, geteuid};

use crate::Failure;

/// Says something on standard error; nobody listening is no reason to fail.
pub(crate) fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// The first directory on the way to `path` that this account may not search.
fn unsearchable(path: &Path) -> Option<String> {
    let mut parents: Vec<_> = path
        .ancestors()
        .filter(|p| !p.as_os_str().is_empty())
        .collect();
    parents.reverse();
    let bad = parents
        .into_iter()
        .find(|dir| access(*dir, AccessFlags::X_OK).is_err_and(|errno| errno == Errno::EACCES))?;
    Some(match std::fs::symlink_metadata(bad) {
        Ok(facts) => format!(
            "{} (owner uid {}, group {}, mode {:04o})",
            bad.display(),
            facts.uid(),
            facts.gid(),
            facts.mode() & 0o7777
        ),
        Err(_) => bad.display().to_string(),
    })
}

/// Why a directory cannot become the working directory.
pub(crate) fn cannot_enter(path: &Path, errno: Errno) -> Failure {
    let blocked = if errno == Errno::EACCES {
        unsearchable(path)
    } else {
        None
    };
    let message = match blocked {
        Some(blocked) => format!(
            "the payload's account (uid {}) cannot reach {}: it may not search {blocked}",
            geteuid(),
            path.display()
        ),
        None => format!("cannot change into {}: {}", path.display(), errno.desc()),
    };
    Failure::new(errno, message)
}

/// Why `execve` refused.
pub(crate) fn cannot_execute(request: &ExecRequest, errno: Errno) -> String {
    let path = request.path.display();
    let detail = match errno {
        Errno::ENOENT if request.path.exists() => missing_interpreter(&request.path),
        Errno::EACCES => Some(not_allowed(&request.path)),
        Errno::ENOEXEC => Some(not_a_program(&request.path)),
        Errno::E2BIG => Some(too_big(request)),
        Errno::ETXTBSY => Some("the file is still open for writing".to_owned()),
        _ => None,
    };
    detail.map_or_else(
        || format!("cannot execute {path}: {}", errno.desc()),
        |detail| format!("cannot execute {path}: {detail}"),
    )
}

fn head(path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let mut bytes = vec![0; 4096];
    let length = file.read_at(&mut bytes, 0).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

/// What follows `#!`, without its argument.
fn script_interpreter(head: &[u8]) -> Option<PathBuf> {
    let line = head.strip_prefix(b"#!")?;
    let line = line.split(|b| *b == b'\n').next()?.trim_ascii_start();
    let end = line
        .iter()
        .position(|b| matches!(b, b' ' | b'\t'))
        .unwrap_or(line.len());
    let name = line.get(..end)?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(name)))
}

/// The loader that a 64-bit little-endian ELF program names (its `PT_INTERP` segment).
fn elf_interpreter(head: &[u8]) -> Option<PathBuf> {
    let number = |place: usize, size: usize| -> Option<usize> {
        let bytes = head.get(place..place.checked_add(size)?)?;
        let value = bytes
            .iter()
            .rev()
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        usize::try_from(value).ok()
    };
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let segment = table.checked_add(index.checked_mul(size)?)?;
        if number(segment, 4)? == 3 {
            let start = number(segment.checked_add(8)?, 8)?;
            let length = number(segment.checked_add(32)?, 8)?;
            let name = head.get(start..start.checked_add(length)?)?;
            let name = name.split(|b| *b == 0).next()?;
            return Some(PathBuf::from(std::ffi::OsStr::from_bytes(name)));
        }
    }
    None
}

fn missing_interpreter(path: &Path) -> Option<String> {
    let head = head(path)?;
    if let Some(interpreter) = script_interpreter(&head) {
        let name = interpreter.display().to_string();
        return Some(match name.strip_suffix('\r') {
            Some(name) => format!(
                "its first line ends in a carriage return, so its interpreter {name} is not found; \
                 convert the file to Unix line ends"
            ),
            None => format!("its interpreter {name} does not exist on this machine"),
        });
    }
    elf_interpreter(&head).map(|loader| {
        format!(
            "its program loader {} does not exist on this machine",
            loader.display()
        )
    })
}

fn not_allowed(path: &Path) -> String {
    if let Some(blocked) = path.parent().and_then(unsearchable) {
        return format!("uid {} may not search {blocked}", geteuid());
    }
    let Ok(facts) = std::fs::metadata(path) else {
        return Errno::EACCES.desc().to_owned();
    };
    if facts.is_dir() {
        return "it is a directory".to_owned();
    }
    if !facts.is_file() {
        return "it is not a regular file".to_owned();
    }
    if access(path, AccessFlags::X_OK).is_err() {
        let on_noexec = statvfs(path).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC));
        if on_noexec {
            return "its file system is mounted noexec".to_owned();
        }
        return format!(
            "it is not executable for uid {} (owner uid {}, mode {:04o})",
            geteuid(),
            facts.uid(),
            facts.mode() & 0o7777
        );
    }
    match head(path).as_deref().and_then(script_interpreter) {
        Some(interpreter) => {
            format!(
                "its interpreter {} may not be executed",
                interpreter.display()
            )
        }
        None => Errno::EACCES.desc().to_owned(),
    }
}

fn not_a_program(path: &Path) -> String {
    match head(path) {
        Some(head) if head.is_empty() => "the file is empty".to_owned(),
        Some(head) if head.starts_with(b"\x7fELF") => {
            "it is a program for another kind of machine, or damaged".to_owned()
        }
        Some(head) if head.starts_with(b"#!") => {
            "its first line names no usable interpreter".to_owned()
        }
        _ => "it is neither a program for this machine nor a script that begins with #!".to_owned(),
    }
}

fn too_big(request: &ExecRequest) -> String {
    let strings = || request.argv.iter().chain(&request.env);
    let total: usize = strings().map(|item| item.len() + 1).sum();
    let longest = strings().map(Vec::len).max().unwrap_or(0);
    format!(
        "arguments and environment are too large (together {total} bytes, the longest {longest} bytes; \
         this machine takes at most 131071 bytes each)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_of_a_script_is_its_first_word() {
        let name = |text: &[u8]| script_interpreter(text).map(|path| path.display().to_string());
        assert_eq!(name(b"#!/bin/sh -x\necho"), Some("/bin/sh".into()));
        assert_eq!(
            name(b"#!  /usr/bin/env\tpython3\n"),
            Some("/usr/bin/env".into())
        );
        assert_eq!(name(b"#!/bin/sh\r\n"), Some("/bin/sh\r".into()));
        assert_eq!(name(b"#!"), Some(String::new()));
        assert_eq!(name(b"echo\n"), None);
    }

    #[test]
    fn the_loader_of_a_program_is_found_and_damage_is_survived() {
        let program = std::fs::read("/proc/self/exe").expect("readable");
        let head = &program[..4096];
        if let Some(loader) = elf_interpreter(head) {
            assert!(loader.is_absolute() && loader.exists(), "{loader:?}");
        }
        for place in 0..200 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = head.to_vec();
                damaged[place] = value;
                elf_interpreter(&damaged);
            }
            elf_interpreter(&head[..place]);
        }
    }
}
