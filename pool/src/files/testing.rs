//! For tests: children of a test program, which is not the real one.
//!
//! The child is this test program, told by its environment to run one "test" that is the child's whole life.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Uid, User};
use tempfile::TempDir;

use super::{FilesConfig, UserFiles};

/// Tells the test program that it is a child, and which.
const CHILD: &str = "POOL_TEST_USER_FILES";

/// Users' files with children of this test program.
pub(crate) struct Files {
    pub(crate) files: UserFiles,
    program: TempDir,
}

impl Files {
    /// The program of the children.
    pub(crate) fn program(&self) -> PathBuf {
        self.program.path().join(PROGRAM)
    }
}

/// Its name.
const PROGRAM: &str = "child";

pub(crate) fn user_files(idle: Duration) -> Files {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join(PROGRAM);
    let this = std::env::current_exe().unwrap();
    let text = format!(
        "#!/bin/sh\nshift\n{CHILD}=\"$*\" exec '{}' --exact files::testing::child --nocapture --test-threads=1\n",
        this.display()
    );
    // Not by ourselves: another test's fork would keep the file open for writing, and it could not be executed.
    let written = std::process::Command::new("sh")
        .args(["-c", "printf %s \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(&program)
        .arg(text)
        .status()
        .unwrap();
    assert!(written.success());
    Files {
        files: with_program(program, idle),
        program: directory,
    }
}

/// Users' files with children of a test program that is there already.
pub(crate) fn with_program(program: PathBuf, idle: Duration) -> UserFiles {
    UserFiles::new(FilesConfig {
        program,
        idle,
        max_children: 8,
    })
}

/// Not a test: the life of a child.
#[test]
#[expect(clippy::exit, reason = "a child ends like the real program does")]
fn child() {
    let Ok(arguments) = std::env::var(CHILD) else {
        return;
    };
    let code = super::child_main(arguments.split(' ').map(Into::into));
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
}

/// Whether the tests run as root, who alone can act for others.
pub(crate) fn is_root() -> bool {
    Uid::effective().is_root()
}

/// An account whose files can be opened here: one that every system has, or our own.
pub(crate) fn owner() -> String {
    if is_root() {
        "daemon".to_owned()
    } else {
        User::from_uid(Uid::effective()).unwrap().unwrap().name
    }
}

/// Gives a file or directory to an account.
pub(crate) fn give(path: &Path, owner: &str) {
    let user = User::from_name(owner).unwrap().unwrap();
    chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
}

/// A directory of an account, reachable by it.
pub(crate) fn home(owner: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if is_root() {
        give(home.path(), owner);
    }
    home
}
