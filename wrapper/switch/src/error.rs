//! Why the helper does not start: exit status, stable code, one sentence.

use std::fmt;

use launch_protocol::broker::{Refusal, RefusalClass, RefusedBy};
use nix::errno::Errno;

use crate::trusted::TrustError;

/// The caller can fix it.
pub const CALLER: u8 = 201;
/// The administrator must fix it.
pub const ADMINISTRATOR: u8 = 202;
/// The caller is not authorised.
pub const NOT_AUTHORISED: u8 = 203;

/// Why the helper refuses to start, or ends.
#[derive(Debug)]
pub struct StartupError {
    status: u8,
    refusal: Refusal,
}

impl StartupError {
    /// The administrator must do something about it.
    pub fn site(code: &str, message: String) -> Self {
        Self::new(ADMINISTRATOR, RefusalClass::SitePermanent, code, message)
    }

    /// The caller must.
    pub fn caller(status: u8, code: &str, message: &str) -> Self {
        Self::new(status, RefusalClass::Caller, code, message.to_owned())
    }

    fn new(status: u8, class: RefusalClass, code: &str, message: String) -> Self {
        let (code, who) = (code.to_owned(), RefusedBy::Helper);
        let refusal = Refusal { class, code, message, may_succeed_later: false, who };
        Self { status, refusal }
    }

    /// Unknown command line.
    pub fn usage() -> Self {
        let text = "usage: sailplane-switch [--] COMMAND [ARGUMENT...], as gLExec; or --broker, started by a \
                    pilot with a socket on descriptor 3";
        Self::caller(CALLER, "startup.usage", text)
    }

    /// Only root may ask for this.
    pub fn not_root() -> Self {
        Self::caller(NOT_AUTHORISED, "caller.not_root", "only root may do that")
    }

    /// A file or directory that must be trusted is not.
    pub fn untrusted(key: &str, error: &TrustError) -> Self {
        Self::site(error.code(), format!("{key}: {error}"))
    }

    /// A system call failed.
    pub fn system(call: &str, errno: Errno) -> Self {
        Self::site("startup.system", format!("{call} failed: {}", errno.desc()))
    }

    /// gLExec's exit status.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// Stable short code.
    pub fn code(&self) -> &str {
        &self.refusal.code
    }

    /// The same as a message for the pilot.
    pub fn refusal(&self) -> Refusal {
        self.refusal.clone()
    }
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.refusal.message)
    }
}

impl std::error::Error for StartupError {}

impl From<Refusal> for StartupError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.class {
            RefusalClass::Caller if refusal.code.starts_with("startup.") => CALLER,
            RefusalClass::Caller => NOT_AUTHORISED,
            _ => ADMINISTRATOR,
        };
        Self { status, refusal }
    }
}
