//! Making refusals.

use std::time::{SystemTime, UNIX_EPOCH};

use launch_protocol::broker::{Refusal, RefusalClass, RefusedBy};
pub(crate) use launch_protocol::refuse::{caller, trouble};

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

/// Seconds since 1970.
pub(crate) fn unix_now() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
