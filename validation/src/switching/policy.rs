//! What the frontend wishes, the factory requires and the site offers, together: whether the identity switch is tried, and
//! what it means if it does not work. Pure. The pilot's own decision who starts payloads follows the same table
//! (docs/other-helpers.md).

use crate::check::Severity;
use crate::outcome::{Failure, Whose};
use crate::setup::{SwitchOffer, Wish};

/// What is wanted and what there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    /// The frontend's wish (`SAILPLANE_IDENTITY_SWITCH`).
    pub(super) wish: Wish,
    /// The factory sends no pilots here that do not switch (`SAILPLANE_SWITCH_REQUIRED`).
    pub(super) is_required_by_factory: bool,
    /// The site's offer (`SAILPLANE_SWITCH`).
    pub(super) offer: &'a SwitchOffer,
}

/// Under whose account payloads are to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// Another than the pilot's.
    Other,
    /// The pilot's own.
    Own,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is tried, and this is what a failure means.
    Try {
        /// Who payloads have to be.
        account: Account,
        /// `Fail`: no pilot without it. `Warn`: the pilot goes on, without accounts of their own for its jobs.
        severity: Severity,
    },
    /// The three do not go together.
    Conflict(Failure),
}

/// Reconciles the three.
pub(super) fn fate(terms: Terms<'_>) -> Fate {
    let Terms {
        wish,
        is_required_by_factory,
        offer,
    } = terms;
    let is_offered = *offer != SwitchOffer::Nothing;
    match (wish, is_required_by_factory, is_offered) {
        (Wish::Never, true, _) => Fate::Conflict(
            Failure::new(
                Whose::Factory,
                "the factory requires that jobs get accounts of their own here (SAILPLANE_SWITCH_REQUIRED), and the frontend \
                 wants them never to (SAILPLANE_IDENTITY_SWITCH is NEVER)",
                "send this frontend's pilots elsewhere, or agree on one of the two",
            )
            .kind("Config"),
        ),
        (Wish::Required, _, false) | (Wish::Optional, true, false) => {
            let by = if wish == Wish::Required {
                "the frontend requires that jobs get accounts of their own (SAILPLANE_IDENTITY_SWITCH is REQUIRED)"
            } else {
                "the factory requires that jobs get accounts of their own here (SAILPLANE_SWITCH_REQUIRED)"
            };
            Fate::Conflict(
                Failure::site(
                    format!("{by}, and the site offers nothing for it (SAILPLANE_SWITCH is none)"),
                    "let the site install the identity-switch helper, correct SAILPLANE_SWITCH, or send no such pilots here",
                )
                .kind("Config"),
            )
        }
        (Wish::Required, _, true) | (Wish::Optional, true, true) => Fate::Try {
            account: Account::Other,
            severity: Severity::Fail,
        },
        (Wish::Optional, false, true) => Fate::Try {
            account: Account::Other,
            severity: Severity::Warn,
        },
        // Whatever starts payloads then has to work: there is nothing else.
        (Wish::Never, false, _) | (Wish::Optional, false, false) => Fate::Try {
            account: Account::Own,
            severity: Severity::Fail,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        let helper = SwitchOffer::Helper("/x".into());
        let other = |severity| Some((Account::Other, severity));
        let own = Some((Account::Own, Severity::Fail));
        for (wish, factory, offer, wanted) in [
            (Wish::Required, false, &helper, other(Severity::Fail)),
            (Wish::Required, true, &helper, other(Severity::Fail)),
            (Wish::Required, false, &SwitchOffer::Nothing, None),
            (Wish::Required, true, &SwitchOffer::Nothing, None),
            (Wish::Optional, false, &helper, other(Severity::Warn)),
            (Wish::Optional, true, &helper, other(Severity::Fail)),
            (Wish::Optional, false, &SwitchOffer::Nothing, own),
            (Wish::Optional, true, &SwitchOffer::Nothing, None),
            (Wish::Never, false, &helper, own),
            (Wish::Never, false, &SwitchOffer::Nothing, own),
            (Wish::Never, true, &helper, None),
            (Wish::Never, true, &SwitchOffer::Nothing, None),
        ] {
            let got = match fate(Terms {
                wish,
                is_required_by_factory: factory,
                offer,
            }) {
                Fate::Try { account, severity } => Some((account, severity)),
                Fate::Conflict(failure) => {
                    assert!(failure.why.contains("SAILPLANE_"), "{failure:?}");
                    None
                }
            };
            assert_eq!(got, wanted, "{wish:?} {factory} {offer:?}");
        }
    }
}
