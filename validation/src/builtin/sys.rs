//! The unsafe code of the built-in checks: what a child does before it becomes another program, and two questions to the
//! kernel that `nix` does not ask.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Added to the error number of the second step, so that one number says both.
const SECOND: i32 = 10_000;

/// Makes a user and a mount namespace in a child, and changes a mount in it: some kernels let the first be made and then
/// forbid everything in it. Says what failed, and the Linux error number.
pub(super) fn try_user_namespace() -> Result<(), (&'static str, i32)> {
    let mut command = Command::new("/proc/self/exe");
    let in_child = || {
        let failed = |base: i32, errno: nix::errno::Errno| {
            io::Error::from_raw_os_error(base.saturating_add(errno as i32))
        };
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
            .map_err(|errno| failed(0, errno))?;
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
            .map_err(|errno| failed(SECOND, errno))?;
        // Enough was seen: what would be executed now is of no interest.
        Err(io::Error::from_raw_os_error(0))
    };
    // SAFETY: between fork and exec the closure makes two system calls and compares numbers; the paths are constants that
    // nix copies onto the stack, and an error from a number allocates nothing.
    unsafe { command.pre_exec(in_child) };
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let errno = match command.spawn() {
        Ok(mut child) => {
            // Not reached: the closure always fails.
            let _ = child.wait();
            0
        }
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    };
    match errno {
        0 => Ok(()),
        errno if errno >= SECOND => Err(("mount", errno - SECOND)),
        errno => Err(("unshare", errno)),
    }
}

/// An extended attribute of a file as text, without a zero byte or newline at its end.
pub(super) fn extended_attribute(path: &Path, name: &str) -> io::Result<String> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let name = CString::new(name)?;
    let mut value = vec![0_u8; 4096];
    // SAFETY: both names end with a zero byte and outlive the call, and the kernel writes at most as many bytes as the
    // buffer is said to have.
    let length = unsafe {
        libc::getxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    value.truncate(length);
    let text = String::from_utf8_lossy(&value);
    Ok(text.trim_end_matches(['\0', '\n']).to_owned())
}

/// Whether the kernel's clock is kept right by somebody; `None` if it does not tell.
pub(super) fn clock_is_synchronised() -> Option<bool> {
    // SAFETY: all fields are numbers, for which zero is a value; no mode bit asks only.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the structure that it is given, and changes nothing, because no mode bit is set.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    (answer >= 0).then_some(answer != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}
