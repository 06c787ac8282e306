//! The unsafe code of this folder: descriptors that arrive as bare numbers, and the one step between fork and exec.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use launch_protocol::CONTROL_FD;

/// Takes ownership of descriptors that the kernel has just installed for a received control message.
pub(super) fn own(received: &[RawFd]) -> Vec<OwnedFd> {
    received
        .iter()
        // SAFETY: the numbers come straight out of an SCM_RIGHTS message returned by recvmsg, which installed them in
        // this process for this call alone; nothing else knows them, and each is wrapped exactly once.
        .map(|&number| unsafe { OwnedFd::from_raw_fd(number) })
        .collect()
}

/// Makes `descriptor` appear as [`CONTROL_FD`] in the child.
pub(super) fn pass_control_descriptor(command: &mut Command, descriptor: OwnedFd) {
    let in_child = move || {
        let number = descriptor.as_raw_fd();
        let done = if number == CONTROL_FD {
            // dup2 on itself would leave close-on-exec set.
            // SAFETY: fcntl on a descriptor this closure owns; async-signal-safe, no memory is passed.
            unsafe { libc::fcntl(number, libc::F_SETFD, 0) }
        } else {
            // SAFETY: dup2 takes two numbers and no memory; async-signal-safe. Whatever had CONTROL_FD in the child
            // is replaced there only: this process opens every descriptor close-on-exec.
            unsafe { libc::dup2(number, CONTROL_FD) }
        };
        if done < 0 {
            Err(std::io::Error::last_os_error())
        } else {
            Ok(())
        }
    };
    // SAFETY: the closure runs between fork and exec; it calls only fcntl or dup2 and reads errno, all of which are
    // async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(in_child) };
}
