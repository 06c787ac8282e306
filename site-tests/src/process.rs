//! Running tools, and looking at what runs.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Uid, User};

/// Runs a command to its end and returns what it wrote to standard output.
///
/// # Errors
/// When it can't be started, or ends with another status than 0: with everything it wrote.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let line = format!("{name} {}", arguments.join(" "));
    let output = command.output().with_context(|| format!("start {name}"))?;
    if !output.status.success() {
        bail!(
            "`{line}` ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Why nothing in this crate can work here: `None` for root on Linux.
#[must_use]
pub fn obstacle() -> Option<&'static str> {
    (!Uid::effective().is_root()).then_some(
        "needs root: it raises an HTCondor pool in a mount namespace, makes accounts and installs a setuid helper",
    )
}

/// User and group number of an ordinary account, which is made when it is not there.
///
/// # Errors
/// When the account can't be made.
pub fn ensure_account(name: &str) -> Result<(Uid, Gid)> {
    ensure(name, &["--system"])
}

/// The same for a number that a person has, which jobs may run under.
///
/// # Errors
/// When the account can't be made.
pub fn ensure_user(name: &str) -> Result<(Uid, Gid)> {
    ensure(name, &[])
}

fn ensure(name: &str, kind: &[&str]) -> Result<(Uid, Gid)> {
    let look_up = || User::from_name(name).with_context(|| format!("look up account {name}"));
    if look_up()?.is_none() {
        let made = output(
            Command::new("useradd")
                .args(kind)
                .args([
                    "--user-group",
                    "--no-create-home",
                    "--home-dir",
                    "/nonexistent",
                ])
                .args(["--shell", "/usr/sbin/nologin", name]),
        );
        // Another test may have been quicker.
        if look_up()?.is_none() {
            made?;
        }
    }
    let user = look_up()?.with_context(|| format!("account {name} was made and is not there"))?;
    Ok((user.uid, user.gid))
}

/// Gives a path (not what is below it) to an account.
///
/// # Errors
/// When the system refuses.
pub fn give(path: &Path, owner: (Uid, Gid)) -> Result<()> {
    std::os::unix::fs::chown(path, Some(owner.0.as_raw()), Some(owner.1.as_raw()))
        .with_context(|| format!("give {} to uid {}", path.display(), owner.0))
}

/// A running process, as far as tests look at one.
#[derive(Debug, Clone)]
pub struct Process {
    /// Process number.
    pub pid: i32,
    /// Effective user number.
    pub uid: u32,
    /// Arguments, separated by blanks; the short name in brackets when there are none.
    pub command: String,
}

/// All processes for which `wanted` holds. Processes that end meanwhile are left out, and so are zombies.
#[must_use]
pub fn find(wanted: impl Fn(&Process) -> bool) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let uid = entry.metadata().ok()?.uid();
            let arguments = std::fs::read(entry.path().join("cmdline")).ok()?;
            if arguments.is_empty() {
                return None;
            }
            let command = String::from_utf8_lossy(&arguments)
                .trim_end_matches('\0')
                .replace('\0', " ");
            Some(Process { pid, uid, command })
        })
        .filter(wanted)
        .collect()
}

/// Processes whose user number lies in `range`.
#[must_use]
pub fn of_accounts(range: std::ops::RangeInclusive<u32>) -> Vec<Process> {
    find(|process| range.contains(&process.uid))
}

/// Root of the source tree.
#[must_use]
pub fn source_tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// A script of this crate's `pool` folder.
#[must_use]
pub fn pool_script(name: &str) -> Command {
    Command::new(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("pool")
            .join(name),
    )
}
