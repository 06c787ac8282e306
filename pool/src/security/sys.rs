//! Two questions to the C library that std and nix do not ask.
#![expect(unsafe_code, reason = "calls into the C library")]

use std::ffi::{CString, c_char, c_int};
use std::net::{IpAddr, SocketAddr};

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// `innetgr(3)`; the arguments are const in the header.
    fn innetgr(
        netgroup: *const c_char,
        host: *const c_char,
        user: *const c_char,
        domain: *const c_char,
    ) -> c_int;
}

/// Whether the netgroup has a member (host, user, domain). False where the C library has no netgroups.
pub(super) fn in_netgroup(group: &str, host: &str, user: &str, domain: &str) -> bool {
    let text = |text: &str| CString::new(text).ok();
    let (Some(group), Some(host), Some(user), Some(domain)) =
        (text(group), text(host), text(user), text(domain))
    else {
        return false;
    };
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: four strings that end in NUL and outlive the call, which only reads them.
        let found = unsafe {
            innetgr(
                group.as_ptr(),
                host.as_ptr(),
                user.as_ptr(),
                domain.as_ptr(),
            )
        };
        found == 1
    }
    #[cfg(not(target_env = "gnu"))]
    {
        let _ = (group, host, user, domain);
        false
    }
}

/// The name of an address by reverse look-up; `None` if it has none. May block for as long as the resolver likes.
pub(super) fn name_of(address: IpAddr) -> Option<String> {
    let socket = SocketAddr::new(address, 0);
    let storage = nix::sys::socket::SockaddrStorage::from(socket);
    let mut buffer = [0u8; 1025];
    let length = libc::socklen_t::try_from(buffer.len()).ok()?;
    // SAFETY: the address is valid for the length it reports, the buffer is writable for the length given, and no
    // service name is asked for.
    let code = unsafe {
        libc::getnameinfo(
            nix::sys::socket::SockaddrLike::as_ptr(&storage),
            nix::sys::socket::SockaddrLike::len(&storage),
            buffer.as_mut_ptr().cast(),
            length,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if code != 0 {
        return None;
    }
    let end = buffer.iter().position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(buffer.get(..end)?).ok()?;
    Some(name.to_owned())
}
