//! Why the helper does not start: exit status, stable code, one sentence.

use std::fmt;
use std::path::PathBuf;

use launch_protocol::broker::{Refusal, RefusalClass, RefusedBy};
use nix::errno::Errno;

use crate::trusted::TrustError;

/// The caller can fix it.
pub const CALLER: u8 = 201;
/// The administrator must fix it.
pub const ADMINISTRATOR: u8 = 202;
/// The caller is not authorised.
pub const NOT_AUTHORISED: u8 = 203;

/// Why the helper refuses to start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartupError {
    /// Unknown command line.
    Usage,
    /// Descriptor 3 is not a packet socket.
    NoControlSocket,
    /// Not in the initial user namespace.
    UserNamespace,
    /// The caller has set `no_new_privs`, so the set-uid bit had no effect.
    NoNewPrivileges,
    /// The program's file system is mounted nosuid.
    NosuidMount(PathBuf),
    /// The program does not belong to root or has no set-uid bit.
    NotSetuid(PathBuf),
    /// /proc is missing or unreadable.
    NoProc(Errno),
    /// A file or directory that must be trusted is not.
    Untrusted(&'static str, TrustError),
    /// Only root may ask for this.
    NotRoot,
    /// The site's policy does not do, or does not admit the caller.
    Refused(Refusal),
    /// A system call failed.
    System(&'static str, Errno),
}

impl StartupError {
    /// gLExec's exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage | Self::NoControlSocket => CALLER,
            Self::Refused(refusal) if refusal.code.starts_with("startup.") => CALLER,
            Self::NotRoot => NOT_AUTHORISED,
            Self::Refused(refusal) if refusal.class == RefusalClass::Caller => NOT_AUTHORISED,
            _ => ADMINISTRATOR,
        }
    }

    /// Stable short code.
    pub fn code(&self) -> &str {
        match self {
            Self::Usage => "startup.usage",
            Self::NoControlSocket => "startup.socket",
            Self::UserNamespace => "startup.userns",
            Self::NoNewPrivileges => "startup.no_new_privs",
            Self::NosuidMount(_) => "startup.nosuid",
            Self::NotSetuid(_) => "startup.setuid",
            Self::NoProc(_) => "startup.proc",
            Self::Untrusted(_, error) => error.code(),
            Self::NotRoot => "caller.not_root",
            Self::Refused(refusal) => &refusal.code,
            Self::System(..) => "startup.system",
        }
    }

    /// The same as a message for the pilot.
    pub fn refusal(&self) -> Refusal {
        if let Self::Refused(refusal) = self {
            return refusal.clone();
        }
        let class = match self.status() {
            ADMINISTRATOR => RefusalClass::SitePermanent,
            _ => RefusalClass::Caller,
        };
        Refusal {
            class,
            code: self.code().to_owned(),
            message: self.to_string(),
            may_succeed_later: false,
            who: RefusedBy::Helper,
        }
    }
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage => f.write_str(
                "usage: sailplane-switch [--] COMMAND [ARGUMENT...], as gLExec; or --broker, started by a \
                 pilot with a socket on descriptor 3",
            ),
            Self::NoControlSocket => {
                f.write_str("descriptor 3 is not a packet socket; the pilot must start this program")
            }
            Self::UserNamespace => f.write_str(
                "this is not the initial user namespace, where accounts cannot be switched; \
                 start the pilot outside of the container's user namespace",
            ),
            Self::NoNewPrivileges => f.write_str(
                "the caller runs with no_new_privs, so the set-uid bit has no effect; \
                 remove that restriction from the batch system's or container's settings",
            ),
            Self::NosuidMount(path) => write!(
                f,
                "{} lies on a file system mounted nosuid; install it on one that is not",
                path.display()
            ),
            Self::NotSetuid(path) => write!(
                f,
                "{} must belong to root and have the set-uid bit (chown root, chmod 4755)",
                path.display()
            ),
            Self::NoProc(errno) => write!(f, "/proc cannot be read: {}; mount it", errno.desc()),
            Self::Untrusted(key, error) => write!(f, "{key}: {error}"),
            Self::NotRoot => f.write_str("only root may do that"),
            Self::Refused(refusal) => f.write_str(&refusal.message),
            Self::System(call, errno) => write!(f, "{call} failed: {}", errno.desc()),
        }
    }
}

impl std::error::Error for StartupError {}

impl From<Refusal> for StartupError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
