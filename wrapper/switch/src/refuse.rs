//! Making refusals.

use launch_protocol::broker::{Refusal, RefusalClass, RefusedBy};

fn refusal(
    who: RefusedBy,
    class: RefusalClass,
    code: &str,
    message: String,
    later: bool,
) -> Refusal {
    Refusal { class, code: code.to_owned(), message, may_succeed_later: later, who }
}

/// There is no account.
pub fn mapping(class: RefusalClass, code: &str, message: String, later: bool) -> Refusal {
    refusal(RefusedBy::Mapping, class, code, message, later)
}

/// The helper cannot, or may not.
pub fn helper(class: RefusalClass, code: &str, message: String, later: bool) -> Refusal {
    refusal(RefusedBy::Helper, class, code, message, later)
}

/// Something on this machine failed that may work the next time.
pub fn trouble(code: &str, message: String) -> Refusal {
    helper(RefusalClass::SiteTransient, code, message, true)
}

/// The pilot asked for something that cannot be.
pub fn caller(code: &str, message: &str) -> Refusal {
    helper(RefusalClass::Caller, code, message.to_owned(), false)
}
