//! Which file a command is (requirement G2).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::unistd::{AccessFlags, access};

use crate::failure::Failure;
use crate::settings::Settings;

/// The path of a command: itself if absolute, else searched in the configured directories. The
/// caller's `PATH` is never asked.
///
/// # Errors
/// If it is neither, is not found, or is reached through a link where that is prohibited. Whether the
/// target may execute it is for the kernel to say, when it does.
pub fn find(command: &OsStr, settings: &Settings) -> Result<PathBuf, Failure> {
    let path = Path::new(command);
    let found = if path.is_absolute() {
        path.to_owned()
    } else if command.is_empty() {
        return Err(Failure::caller(
            "command.missing",
            "the command's name is empty",
        ));
    } else if command.as_bytes().contains(&b'/') {
        let text = format!(
            "the command {path:?} is neither an absolute path nor a plain name; give its full path"
        );
        return Err(Failure::caller("command.relative", text));
    } else {
        search(path, settings)?
    };
    if settings.no_symlinks && is_behind_link(&found) {
        let text = format!(
            "{found:?} is, or lies behind, a symbolic link, which this site does not allow; \
             give the path that readlink -f prints"
        );
        return Err(Failure::caller("command.symlink", text));
    }
    Ok(found)
}

fn search(name: &Path, settings: &Settings) -> Result<PathBuf, Failure> {
    settings
        .command_path
        .iter()
        .map(|dir| dir.join(name))
        .find(|path| path.is_file() && access(path, AccessFlags::X_OK).is_ok())
        .ok_or_else(|| {
            let path = settings.path_variable();
            let text = format!(
                "there is no command {name:?} in {}; give its full path",
                path.display()
            );
            Failure::caller("command.missing", text)
        })
}

/// What this account cannot look at is left to the target, who may.
fn is_behind_link(path: &Path) -> bool {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    matches!(openat2(AT_FDCWD, path, how), Err(Errno::ELOOP))
        || path
            .symlink_metadata()
            .is_ok_and(|facts| facts.is_symlink())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn code(command: &str, settings: &Settings) -> String {
        let failure = find(OsStr::new(command), settings).expect_err("refused");
        assert_eq!(failure.status.number(), 201);
        failure.code.into_owned()
    }

    #[test]
    fn g2_a_command_is_absolute_or_in_the_configured_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("tool");
        std::fs::copy("/bin/true", &program).expect("copied");
        std::fs::write(folder.path().join("text"), "x").expect("written");
        let settings = Settings {
            command_path: vec!["/nonexistent".into(), folder.path().into()],
            ..Settings::default()
        };
        let found = |name: &str| find(OsStr::new(name), &settings);
        assert_eq!(found("tool"), Ok(program));
        // Not searched, so not judged either.
        assert_eq!(found("/no/such"), Ok("/no/such".into()));
        for missing in ["true", "sh", "text", "", "..", "."] {
            assert_eq!(code(missing, &settings), "command.missing", "{missing}");
        }
        for relative in ["./tool", "../tool", "bin/tool", "tool/"] {
            assert_eq!(code(relative, &settings), "command.relative", "{relative}");
        }
    }

    #[test]
    fn g10_links_are_followed_unless_prohibited() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().canonicalize().expect("there");
        std::fs::create_dir(folder.join("real")).expect("made");
        std::fs::copy("/bin/true", folder.join("real/tool")).expect("copied");
        symlink("real/tool", folder.join("link")).expect("made");
        symlink("real", folder.join("dir")).expect("made");
        let lax = Settings::default();
        let strict = Settings {
            no_symlinks: true,
            ..Settings::default()
        };
        for name in ["link", "dir/tool"] {
            let path = folder.join(name);
            assert_eq!(find(path.as_os_str(), &lax), Ok(path.clone()));
            assert_eq!(
                code(path.to_str().expect("text"), &strict),
                "command.symlink"
            );
        }
        let real = folder.join("real/tool");
        assert_eq!(find(real.as_os_str(), &strict), Ok(real.clone()));
    }
}
