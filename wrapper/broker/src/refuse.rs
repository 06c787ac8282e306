//! Making refusals.

use std::time::{SystemTime, UNIX_EPOCH};

use launch_protocol::broker::{Refusal, RefusalClass, RefusedBy};

fn refusal(
    who: RefusedBy,
    class: RefusalClass,
    code: &str,
    message: String,
    later: bool,
) -> Refusal {
    Refusal {
        class,
        code: code.to_owned(),
        message,
        may_succeed_later: later,
        who,
    }
}

/// The credential did not do.
pub(crate) fn credential(class: RefusalClass, code: &str, message: String, later: bool) -> Refusal {
    refusal(RefusedBy::Credential, class, code, message, later)
}

/// There is no account.
pub(crate) fn mapping(class: RefusalClass, code: &str, message: String, later: bool) -> Refusal {
    refusal(RefusedBy::Mapping, class, code, message, later)
}

/// The helper cannot, or may not.
pub(crate) fn helper(class: RefusalClass, code: &str, message: String, later: bool) -> Refusal {
    refusal(RefusedBy::Helper, class, code, message, later)
}

/// Something on this machine failed that may work the next time.
pub(crate) fn trouble(code: &str, message: String) -> Refusal {
    helper(RefusalClass::SiteTransient, code, message, true)
}

/// The pilot asked for something that cannot be.
pub(crate) fn caller(code: &str, message: &str) -> Refusal {
    helper(RefusalClass::Caller, code, message.to_owned(), false)
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
