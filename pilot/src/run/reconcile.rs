//! What the frontend wishes and what the site offers, reconciled: who starts the payloads, and what that cannot do.
//!
//! One pure function, [`next`]. It is told what has been tried so far and says what to try next, or what it comes to:
//! nothing is tried that cannot matter.

use crate::knobs::{Offered, SwitchWish};

/// What the frontend wishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Accounts of their own for the payloads (`SAILPLANE_IDENTITY_SWITCH`, `GLIDEIN_Glexec_Use`).
    pub(super) identity: SwitchWish,
    /// Without them, namespaces of their own (`SAILPLANE_ISOLATION`).
    pub(super) isolation: SwitchWish,
}

/// What came of a try: nothing yet, it works, or why it does not.
pub(super) type Tried<'a> = Option<Result<(), &'a str>>;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// See whether the site's helper works.
    TryHelper,
    /// See whether namespaces can be made.
    TryNamespaces,
    /// This is how.
    Use(Decision),
    /// There is no pilot; why, one sentence.
    Fail(String),
}

/// Who starts the payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// The site's helper, each payload under its user's account.
    Helper,
    /// The pilot, under its own account, each payload in namespaces of its own.
    Namespaces,
    /// The pilot, under its own account.
    OwnAccount,
}

/// How payloads are started, and why so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    /// Who does it.
    pub(super) how: How,
    /// One sentence.
    pub(super) reason: String,
}

/// The reconciliation.
pub(super) fn next(
    wishes: Wishes,
    offered: &Offered,
    helper: Tried<'_>,
    namespaces: Tried<'_>,
) -> Next {
    use SwitchWish::{Never, Optional, Required};
    let without = match (wishes.identity, offered, helper) {
        (Never, ..) => "SAILPLANE_IDENTITY_SWITCH is NEVER".to_owned(),
        (Required, Offered::Nothing, _) => {
            return Next::Fail(
                "SAILPLANE_IDENTITY_SWITCH is REQUIRED, and SAILPLANE_SWITCH says that there is no helper".to_owned(),
            );
        }
        (Optional, Offered::Nothing, _) => {
            "SAILPLANE_IDENTITY_SWITCH is OPTIONAL, and SAILPLANE_SWITCH says that there is no helper".to_owned()
        }
        (_, _, None) => return Next::TryHelper,
        (wish, offered, Some(Ok(()))) => {
            return Next::Use(Decision {
                how: How::Helper,
                reason: format!("SAILPLANE_IDENTITY_SWITCH is {}, and {offered} works", wish.word()),
            });
        }
        (Required, offered, Some(Err(why))) => {
            return Next::Fail(format!(
                "SAILPLANE_IDENTITY_SWITCH is REQUIRED, and {offered} does not work: {why}"
            ));
        }
        (Optional, _, Some(Err(why))) => {
            format!("SAILPLANE_IDENTITY_SWITCH is OPTIONAL, and {why}")
        }
    };
    match (wishes.isolation, namespaces) {
        (Never, _) => Next::Use(Decision {
            how: How::OwnAccount,
            reason: format!("{without}; SAILPLANE_ISOLATION is NEVER"),
        }),
        (_, None) => Next::TryNamespaces,
        (_, Some(Ok(()))) => Next::Use(Decision {
            how: How::Namespaces,
            reason: without,
        }),
        (Optional, Some(Err(why))) => Next::Use(Decision {
            how: How::OwnAccount,
            reason: format!(
                "{without}; this node makes no namespaces for ordinary accounts: {why}"
            ),
        }),
        (Required, Some(Err(why))) => Next::Fail(format!(
            "{without}; SAILPLANE_ISOLATION is REQUIRED, and this node makes no namespaces for ordinary accounts: {why}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const WORKS: Tried<'static> = Some(Ok(()));
    const BROKEN: Tried<'static> = Some(Err("it is broken"));

    /// What a line of the table says.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Said {
        Helper,
        Namespaces,
        Own,
        Fail,
        AskHelper,
        AskNamespaces,
    }

    fn said(next: &Next) -> Said {
        match next {
            Next::TryHelper => Said::AskHelper,
            Next::TryNamespaces => Said::AskNamespaces,
            Next::Fail(_) => Said::Fail,
            Next::Use(decision) => match decision.how {
                How::Helper => Said::Helper,
                How::Namespaces => Said::Namespaces,
                How::OwnAccount => Said::Own,
            },
        }
    }

    fn offers() -> [Offered; 4] {
        [
            Offered::Switch(PathBuf::from("/x/switch")),
            Offered::Glexec(PathBuf::from("/x/glexec")),
            Offered::Sudo(PathBuf::from("/x/sudo")),
            Offered::Nothing,
        ]
    }

    /// Every wish with every offer, whatever was tried.
    #[test]
    fn the_whole_table() {
        use Said::{AskHelper, AskNamespaces, Fail, Helper, Namespaces, Own};
        use SwitchWish::{Never, Optional, Required};
        let tries = [None, WORKS, BROKEN];
        let mut lines = 0;
        for identity in [Never, Optional, Required] {
            for isolation in [Never, Optional, Required] {
                for offered in offers() {
                    for helper in tries {
                        for namespaces in tries {
                            let without = match (isolation, namespaces) {
                                (Never, _) => Own,
                                (_, None) => AskNamespaces,
                                (_, Some(Ok(()))) => Namespaces,
                                (Optional, Some(Err(_))) => Own,
                                (Required, Some(Err(_))) => Fail,
                            };
                            let wanted = match (identity, &offered, helper) {
                                (Never, ..) => without,
                                (Optional, Offered::Nothing, _) => without,
                                (Required, Offered::Nothing, _) => Fail,
                                (_, _, None) => AskHelper,
                                (_, _, Some(Ok(()))) => Helper,
                                (Optional, _, Some(Err(_))) => without,
                                (Required, _, Some(Err(_))) => Fail,
                            };
                            let wishes = Wishes {
                                identity,
                                isolation,
                            };
                            let got = next(wishes, &offered, helper, namespaces);
                            assert_eq!(
                                said(&got),
                                wanted,
                                "{wishes:?} {offered:?} {helper:?} {namespaces:?}"
                            );
                            if let Next::Use(Decision { reason, .. }) | Next::Fail(reason) = got {
                                assert!(
                                    reason.contains("SAILPLANE_IDENTITY_SWITCH is "),
                                    "{reason}"
                                );
                                assert!(!reason.contains('\n') && reason.len() < 300, "{reason}");
                            }
                            lines += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(lines, 3 * 3 * 4 * 3 * 3);
    }

    #[test]
    fn required_is_never_less_than_an_account() {
        for offered in offers() {
            for helper in [None, WORKS, BROKEN] {
                for namespaces in [None, WORKS, BROKEN] {
                    for isolation in [
                        SwitchWish::Never,
                        SwitchWish::Optional,
                        SwitchWish::Required,
                    ] {
                        let wishes = Wishes {
                            identity: SwitchWish::Required,
                            isolation,
                        };
                        let got = said(&next(wishes, &offered, helper, namespaces));
                        assert!(!matches!(got, Said::Own | Said::Namespaces), "{got:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_reason_names_wish_offer_and_cause() {
        let wishes = Wishes {
            identity: SwitchWish::Optional,
            isolation: SwitchWish::Optional,
        };
        let sudo = Offered::Sudo(PathBuf::from("/usr/bin/sudo"));
        let Next::Use(decision) = next(wishes, &sudo, BROKEN, BROKEN) else {
            panic!();
        };
        assert_eq!(
            decision.reason,
            "SAILPLANE_IDENTITY_SWITCH is OPTIONAL, and it is broken; this node makes no namespaces for ordinary \
             accounts: it is broken"
        );
        let Next::Use(decision) = next(wishes, &sudo, WORKS, None) else {
            panic!();
        };
        assert_eq!(
            decision.reason,
            "SAILPLANE_IDENTITY_SWITCH is OPTIONAL, and sudo (/usr/bin/sudo) works"
        );
    }
}
