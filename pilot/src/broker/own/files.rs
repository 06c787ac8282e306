//! Files in a sandbox that its payload may change at any time.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Puts a file with this content, mode 0600, in the place of what has its name. Whatever the payload makes of the way
/// there, nothing outside the sandbox is touched.
pub(super) fn replace_beneath(sandbox: &Path, name: &Path, content: &[u8]) -> io::Result<()> {
    let file_name = name.file_name().ok_or(Errno::EINVAL)?;
    let parent = match name.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let top = open(sandbox, directory | OFlag::O_NOFOLLOW, Mode::empty())?;
    let how = OpenHow::new().flags(directory).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    );
    let parent = openat2(&top, parent, how)?;
    let mut new = b".".to_vec();
    new.extend_from_slice(file_name.as_bytes());
    new.extend_from_slice(b".renewed");
    let new = std::ffi::OsString::from(std::ffi::OsStr::from_bytes(&new));
    match unlinkat(&parent, new.as_os_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(
        &parent,
        new.as_os_str(),
        flags,
        Mode::S_IRUSR | Mode::S_IWUSR,
    )?;
    let mut file = File::from(file);
    file.write_all(content)?;
    file.sync_data()?;
    Ok(renameat(&parent, new.as_os_str(), &parent, file_name)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_renewed_file_takes_the_place_of_the_old_one() {
        let sandbox = tempfile::tempdir().unwrap();
        let path = sandbox.path().join("proxy");
        fs::write(&path, "old").unwrap();
        let mut reader = File::open(&path).unwrap();
        replace_beneath(sandbox.path(), Path::new("proxy"), b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let mut whole = String::new();
        io::Read::read_to_string(&mut reader, &mut whole).unwrap();
        assert_eq!(whole, "old", "whoever reads it reads one or the other");
        assert_eq!(fs::read_dir(sandbox.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_lead_nowhere() {
        let outside = tempfile::tempdir().unwrap();
        let victim = outside.path().join("victim");
        fs::write(&victim, "x").unwrap();
        let sandbox = tempfile::tempdir().unwrap();
        // The file itself is a link: it is replaced, what it led to is not.
        symlink(&victim, sandbox.path().join("proxy")).unwrap();
        symlink(&victim, sandbox.path().join(".proxy.renewed")).unwrap();
        replace_beneath(sandbox.path(), Path::new("proxy"), b"new").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"x");
        assert_eq!(fs::read(sandbox.path().join("proxy")).unwrap(), b"new");
        symlink(outside.path(), sandbox.path().join("d")).unwrap();
        for name in ["d/victim", "../x", "/etc/x", "", ".."] {
            assert!(
                replace_beneath(sandbox.path(), Path::new(name), b"new").is_err(),
                "{name}"
            );
        }
        assert_eq!(fs::read(&victim).unwrap(), b"x");
    }
}
