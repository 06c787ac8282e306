//! Making refusals, and the exit status that says the same.

use crate::broker::{Refusal, RefusalClass, RefusedBy};

/// gLExec's exit status: the caller can fix it.
pub const CALLER: u8 = 201;
/// gLExec's exit status: the administrator must fix it.
pub const ADMINISTRATOR: u8 = 202;
/// gLExec's exit status: not authorised.
pub const NOT_AUTHORISED: u8 = 203;

/// The helper cannot, or may not.
fn helper(class: RefusalClass, code: &str, text: impl Into<String>) -> Refusal {
    Refusal {
        class,
        code: code.to_owned(),
        message: text.into(),
        may_succeed_later: class == RefusalClass::SiteTransient,
        who: RefusedBy::Helper,
    }
}

/// The administrator must do something about it.
pub fn site(code: &str, text: impl Into<String>) -> Refusal {
    helper(RefusalClass::SitePermanent, code, text)
}

/// There is no account, and the administrator must do something about it.
pub fn mapping(code: &str, text: impl Into<String>) -> Refusal {
    Refusal {
        who: RefusedBy::Mapping,
        ..site(code, text)
    }
}

/// Something on this machine failed that may work the next time.
pub fn trouble(code: &str, text: impl Into<String>) -> Refusal {
    helper(RefusalClass::SiteTransient, code, text)
}

/// Whoever asked must do something about it, or may not ask.
pub fn caller(code: &str, text: impl Into<String>) -> Refusal {
    helper(RefusalClass::Caller, code, text)
}

/// The exit status of a helper that does not start because of this.
pub fn status(refusal: &Refusal) -> u8 {
    match refusal.class {
        RefusalClass::Caller if refusal.code.starts_with("startup.") => CALLER,
        RefusalClass::Caller => NOT_AUTHORISED,
        _ => ADMINISTRATOR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g9_the_exit_status_says_whose_turn_it_is() {
        assert_eq!(status(&caller("startup.usage", "")), CALLER);
        assert_eq!(status(&caller("caller.not_listed", "")), NOT_AUTHORISED);
        assert_eq!(status(&site("conf.missing", "")), ADMINISTRATOR);
        assert_eq!(status(&mapping("map.none", "")), ADMINISTRATOR);
        assert!(trouble("lease.busy", "").may_succeed_later);
        assert!(!site("conf.missing", "").may_succeed_later);
    }
}
