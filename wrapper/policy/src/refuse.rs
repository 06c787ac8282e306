//! Making refusals.

use launch_protocol::broker::{Refusal, RefusalClass, RefusedBy};

fn refusal(class: RefusalClass, who: RefusedBy, code: &str, message: String) -> Refusal {
    Refusal {
        may_succeed_later: class == RefusalClass::SiteTransient,
        class,
        code: code.to_owned(),
        message,
        who,
    }
}

/// The administrator must mend the configuration or a policy file (202).
pub(crate) fn site(code: &str, message: String) -> Refusal {
    refusal(
        RefusalClass::SitePermanent,
        RefusedBy::Helper,
        code,
        message,
    )
}

/// The caller may not call (203).
pub(crate) fn caller(code: &str, message: String) -> Refusal {
    refusal(RefusalClass::Caller, RefusedBy::Helper, code, message)
}

/// Whoever presents the credential may not run here, or is nobody here.
pub(crate) fn job(code: &str, message: String) -> Refusal {
    refusal(RefusalClass::Job, RefusedBy::Mapping, code, message)
}

/// Not now.
pub(crate) fn later(code: &str, message: String) -> Refusal {
    refusal(
        RefusalClass::SiteTransient,
        RefusedBy::Mapping,
        code,
        message,
    )
}

/// What the system says of an error, for people: without its number.
pub fn why(error: &std::io::Error) -> String {
    let errno = error.raw_os_error().map(nix::errno::Errno::from_raw);
    errno.map_or_else(|| error.to_string(), |errno| errno.desc().to_owned())
}
