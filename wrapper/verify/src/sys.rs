//! The system calls that the standard library does not offer. The only unsafe code of the program.

#![allow(
    unsafe_code,
    reason = "calls to the kernel that the standard library lacks"
)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;

/// The type glibc gives resource numbers.
pub(crate) type Resource = libc::__rlimit_resource_t;

/// Sets soft and hard limit of a resource, or leaves it lower where it already is.
pub(crate) fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live rlimit that the call fills.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    let value = value.min(limit.rlim_max);
    limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: the pointer is to a live rlimit that the call only reads.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

/// Has OpenSSL do without its configuration file: what that may ask for (engines, other providers)
/// could not be loaded here, and reading it takes time. To be called before anything else of it.
pub(crate) fn ignore_openssl_configuration() -> bool {
    const NO_LOAD_CONFIG: u64 = 0x80;
    unsafe extern "C" {
        // Of libcrypto, which the crate `openssl` links.
        fn OPENSSL_init_crypto(options: u64, settings: *const libc::c_void) -> libc::c_int;
    }
    // SAFETY: the signature is that of OpenSSL 1.1 and 3; null settings are the default ones.
    unsafe { OPENSSL_init_crypto(NO_LOAD_CONFIG, ptr::null()) == 1 }
}

/// No core, no tracing by others of the same account.
pub(crate) fn be_private() -> io::Result<()> {
    // SAFETY: this option takes one integer and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })
}

/// Has the kernel reap children by itself.
pub(crate) fn forget_children() -> io::Result<()> {
    // SAFETY: ignoring a signal installs no handler.
    if unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Runs `work` in a forked child and ends that with the status it returns. Not to be used where
/// there are threads.
pub(crate) fn child(work: impl FnOnce() -> u8) -> io::Result<()> {
    // SAFETY: the program has one thread, so the child is a complete copy of it.
    let pid = unsafe { libc::fork() };
    check(pid)?;
    if pid > 0 {
        return Ok(());
    }
    live(work)
}

/// Runs `work` and ends this process with the status it returns.
pub(crate) fn live(work: impl FnOnce() -> u8) -> ! {
    let work = std::panic::AssertUnwindSafe(work);
    let status = std::panic::catch_unwind(work).unwrap_or(PANICKED);
    // Not `exit`: what libraries have registered for the end is the parent's.
    // SAFETY: has no preconditions.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Exit status of a child that met a bug.
const PANICKED: u8 = 101;

/// Takes over descriptor 0. To be called once.
pub(crate) fn take_standard_input() -> OwnedFd {
    // SAFETY: open when the program starts (the standard library sees to it), and used through this
    // value only.
    unsafe { OwnedFd::from_raw_fd(libc::STDIN_FILENO) }
}

/// Makes a socket descriptor 0, in place of what that was.
pub(crate) fn become_standard_input(socket: OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: used in a fresh child only, which uses what was descriptor 0 no more.
    check(unsafe { libc::dup2(socket.as_raw_fd(), libc::STDIN_FILENO) })?;
    drop(socket);
    // SAFETY: open since just now; this value is its only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(libc::STDIN_FILENO) })
}

/// No core, no tracing by others of the same account, and no privilege from any later exec.
pub(crate) fn harden() -> io::Result<()> {
    be_private()?;
    // SAFETY: this option takes one integer and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // An inherited disposition or mask must not disarm the deadline.
    // SAFETY: restoring the default disposition of a signal installs no handler.
    if unsafe { libc::signal(libc::SIGALRM, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    let mut set = MaybeUninit::uninit();
    // SAFETY: the call fills the set, whatever was in it.
    check(unsafe { libc::sigemptyset(set.as_mut_ptr()) })?;
    // SAFETY: the set is initialised by sigemptyset, and a null third argument is allowed.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut()) })
}

/// Is there something to receive, now or within so many milliseconds?
pub(crate) fn has_news(socket: &OwnedFd, patience: libc::c_int) -> bool {
    let mut source = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: the pointer is to one live structure, as the count says.
    unsafe { libc::poll(&raw mut source, 1, patience) > 0 }
}

/// Has the kernel end this process (SIGALRM) after so many seconds of real time.
pub(crate) fn kill_me_after(seconds: u32) -> io::Result<()> {
    let zero = libc::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    let value = libc::timeval {
        tv_sec: seconds.into(),
        tv_usec: 0,
    };
    let timer = libc::itimerval {
        it_interval: zero,
        it_value: value,
    };
    // SAFETY: the timer is live and only read; a null old value is allowed.
    check(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) })
}

/// Room for the control message of one descriptor, aligned as the kernel writes it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Receives one packet into `packet`: its length, and the descriptor beside it if there is exactly
/// one. More than one descriptor, or a packet cut short, is an error; descriptors of a refused
/// packet are closed by the exit that follows.
pub(crate) fn receive(socket: &OwnedFd, packet: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: packet.as_mut_ptr().cast(),
        iov_len: packet.len(),
    };
    // SAFETY: msghdr is plain data for which all zeros is a valid value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control.0).cast();
    header.msg_controllen = control.0.len();
    let length = loop {
        // SAFETY: the header points to `part`, `packet` and `control`, all alive and writable for
        // the lengths given.
        let result =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
        match usize::try_from(result) {
            Ok(length) => break length,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    };
    if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((length, one_descriptor(&header)?))
}

fn one_descriptor(header: &libc::msghdr) -> io::Result<Option<OwnedFd>> {
    // SAFETY: the header was filled by recvmsg and its control buffer is still alive.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    if first.is_null() {
        return Ok(None);
    }
    // SAFETY: CMSG_FIRSTHDR gives null or an aligned header inside the control buffer.
    let message = unsafe { ptr::read(first) };
    // SAFETY: `first` is inside the control buffer that the header describes.
    let next = unsafe { libc::CMSG_NXTHDR(header, first) };
    let size = u32::try_from(size_of::<RawFd>()).unwrap_or(4);
    // SAFETY: CMSG_LEN only computes a length.
    let expected = unsafe { libc::CMSG_LEN(size) };
    let is_one = message.cmsg_level == libc::SOL_SOCKET
        && message.cmsg_type == libc::SCM_RIGHTS
        && u32::try_from(message.cmsg_len).is_ok_and(|length| length == expected)
        && next.is_null();
    if !is_one {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // SAFETY: the length check shows that four bytes of data follow the header.
    let data = unsafe { libc::CMSG_DATA(first) }.cast::<RawFd>();
    // SAFETY: the data is one int, perhaps not aligned.
    let descriptor = unsafe { ptr::read_unaligned(data) };
    // SAFETY: the kernel has just opened this descriptor for us and nobody else owns it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Sends one packet; a closed peer is an error, not a signal.
pub(crate) fn send(socket: &OwnedFd, packet: &[u8]) -> io::Result<()> {
    let (data, length) = (packet.as_ptr().cast(), packet.len());
    // SAFETY: the pointer is to `length` readable bytes.
    let sent = unsafe { libc::send(socket.as_raw_fd(), data, length, libc::MSG_NOSIGNAL) };
    match usize::try_from(sent) {
        Ok(sent) if sent == length => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
