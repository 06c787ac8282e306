//! The identity switch, tried for real, before a user's job finds out that it does not work.
//!
//! What is tried, and what a failure means, follows from what the frontend wishes, the factory requires and the site offers
//! (`policy`). The pilot's own proxy stands for a job's credential. The way is that of a job: a helper is started, an account
//! opened, and programs run in it (`trial`, `scenarios`); with our helper, with a site's gLExec or `sudo` (then the pilot
//! starts itself as a broker, as it does for jobs), and with none.

pub mod agent;
pub mod client;
mod helper;
mod path;
mod policy;
mod refusal;
mod scenarios;
mod socket;
mod stage;
#[allow(
    unsafe_code,
    reason = "descriptors out of control messages, and one dup2 between fork and exec"
)]
mod sys;
mod trial;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Uid, User};

use self::path::Who;
pub use self::policy::Account;
use self::policy::{Fate, Terms, fate};
use self::trial::Trial;
pub use self::trial::{Script, rehearse};
use crate::check::{Check, Origin, Owner, Severity};
use crate::knob::{Kind, Knob, Knobs, knob};
use crate::outcome::{Failure, Outcome, Whose};
use crate::probe::{Context, Probe, Running};
use crate::setup::{Setup, SwitchOffer};

/// The longest that the whole trial may take; it takes a fraction of a second.
const LIMIT: Duration = Duration::from_secs(120);

/// Knobs of these tests.
pub static KNOBS: &[Knob] = &[
    knob(
        &["SAILPLANE_SWITCH_TRIAL"],
        Kind::Flag,
        Some("True"),
        "",
        "Whether the identity switch is tried before the pilot joins the pool.",
    ),
    knob(
        &["SAILPLANE_SWITCH_CREDENTIAL"],
        Kind::Path,
        None,
        "",
        "The credential that the identity switch is tried with. If not set: the pilot's proxy.",
    ),
    knob(
        &["SAILPLANE_SWITCH_REQUIRED", "GLIDEIN_Require_Glexec_Use"],
        Kind::Flag,
        Some("False"),
        "",
        "The factory's requirement: no pilots here whose jobs do not get accounts of their own. With it, OPTIONAL of \
         SAILPLANE_IDENTITY_SWITCH counts as REQUIRED, and NEVER is a conflict.",
    ),
];

/// The tests that suit what the frontend wishes and the site offers.
#[must_use]
pub fn all(knobs: &Knobs, setup: &Setup) -> Vec<Arc<dyn Probe>> {
    if !knobs.flag("SAILPLANE_SWITCH_TRIAL") {
        return Vec::new();
    }
    let terms = Terms {
        wish: setup.identity_switch,
        is_required_by_factory: knobs.flag("SAILPLANE_SWITCH_REQUIRED"),
        offer: &setup.switch,
    };
    let check = |name: &str, about: &str, severity| {
        Check::new(name, about)
            .origin(Origin::IdentitySwitch)
            .severity(severity)
            .limit(LIMIT)
    };
    match fate(terms) {
        Fate::Conflict(failure) => {
            let about = "what frontend, factory and site say of accounts for jobs";
            vec![Arc::new(Said {
                check: check("switch-policy", about, Severity::Fail).owner(Owner::Factory),
                outcome: Outcome::failed(failure),
            })]
        }
        Fate::Try { account, severity } => {
            let about = "what frontend, factory and site say of accounts for jobs";
            let words = match account {
                Account::Other => "accounts of their own",
                Account::Own => "the pilot's account",
            };
            let mut all: Vec<Arc<dyn Probe>> = vec![Arc::new(Said {
                check: check("switch-policy", about, Severity::Fail).owner(Owner::Factory),
                outcome: Outcome::passed().text("accounts", words),
            })];
            if account == Account::Other {
                all.push(Arc::new(Looks {
                    check: check(
                        "switch-helper",
                        "the program that changes accounts, and its setuid bit",
                        severity,
                    ),
                    look: look_helper,
                    account,
                }));
            }
            all.push(Arc::new(Looks {
                check: check(
                    "switch-path",
                    "directories on the way to the work folder",
                    severity,
                ),
                look: look_path,
                account,
            }));
            if let Some(script) = script(knobs, setup, account) {
                let trial = Arc::new(Trial::new(script));
                let before = [
                    (trial::START, "the helper starts and speaks"),
                    (trial::OPEN, "a credential gives an account"),
                ];
                let scenes = scenarios::ALL.map(|(name, about, _)| (name, about));
                let after = [(trial::END, "the helper ends")];
                for (name, about) in before.into_iter().chain(scenes).chain(after) {
                    let mut check = check(name, about, severity).after("switch-path");
                    if account == Account::Other {
                        check = check.needs("switch-helper");
                    }
                    let trial = Arc::clone(&trial);
                    all.push(Arc::new(Part { check, name, trial }));
                }
            }
            all
        }
    }
}

fn script(knobs: &Knobs, setup: &Setup, account: Account) -> Option<Script> {
    Some(Script {
        launcher: setup.launcher.clone()?,
        account,
        execute: setup.execute.clone(),
        credential: knobs
            .path("SAILPLANE_SWITCH_CREDENTIAL")
            .or(setup.pilot_proxy.as_ref())
            .cloned(),
        pilot_proxy: setup.pilot_proxy.clone(),
        slot_account: setup.slot_users.get(&1).cloned(),
    })
}

/// A check whose outcome is known beforehand.
struct Said {
    check: Check,
    outcome: Outcome,
}

impl Probe for Said {
    fn check(&self) -> &Check {
        &self.check
    }

    fn run<'a>(&'a self, _: &'a Context) -> Running<'a> {
        Box::pin(async { self.outcome.clone() })
    }
}

/// A check that looks at files.
struct Looks {
    check: Check,
    look: fn(&Setup, Account) -> Outcome,
    account: Account,
}

impl Probe for Looks {
    fn check(&self) -> &Check {
        &self.check
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(async {
            let (setup, look, account) = (context.setup().clone(), self.look, self.account);
            let looked = context.blocking(move || look(&setup, account)).await;
            looked.unwrap_or_else(|| {
                Outcome::failed(Failure::new(
                    Whose::Pilot,
                    "the check itself failed",
                    "send the log of this pilot to its authors",
                ))
            })
        })
    }
}

fn look_helper(setup: &Setup, _: Account) -> Outcome {
    helper::gather(&setup.switch).map_or_else(
        || Outcome::skipped("the site offers nothing"),
        |facts| helper::judge(&facts),
    )
}

fn look_path(setup: &Setup, account: Account) -> Outcome {
    let mut paths: Vec<(PathBuf, &'static str)> =
        vec![(setup.execute.clone(), "the work folder (EXECUTE)")];
    // These are executed by the other account.
    if matches!(setup.switch, SwitchOffer::Glexec(_) | SwitchOffer::Sudo(_))
        && account == Account::Other
    {
        paths.extend(
            setup
                .program
                .clone()
                .map(|path| (path, "the pilot's program")),
        );
        paths.extend(
            setup
                .job_agent
                .clone()
                .map(|path| (path, "the jobs' agent (SAILPLANE_JOB_AGENT)")),
        );
    }
    let who: &[Who] = match account {
        Account::Other => &[Who::Caller, Who::Anybody],
        Account::Own => &[Who::Caller],
    };
    let name = |uid: u32| {
        User::from_uid(Uid::from_raw(uid))
            .ok()
            .flatten()
            .map(|user| user.name)
    };
    let home = User::from_uid(nix::unistd::geteuid())
        .ok()
        .flatten()
        .map(|user| user.dir);
    path::judge(&path::gather(&paths, who, home.as_deref()), name)
}

/// A part of the trial.
struct Part {
    check: Check,
    name: &'static str,
    trial: Arc<Trial>,
}

impl Probe for Part {
    fn check(&self) -> &Check {
        &self.check
    }

    fn run<'a>(&'a self, _: &'a Context) -> Running<'a> {
        Box::pin(async {
            let outcome = self.trial.part(self.name).await;
            lower(&self.check, outcome)
        })
    }
}

/// Where accounts of their own are only wished for, jobs go on without them when a part fails: the helper that does not work
/// is not used.
fn lower(check: &Check, mut outcome: Outcome) -> Outcome {
    let is_sites = outcome
        .failure()
        .is_some_and(|failure| failure.whose == Whose::Site);
    if is_sites && check.severity == Severity::Warn {
        outcome
            .knobs
            .push(("SAILPLANE_IDENTITY_SWITCH".to_owned(), "NEVER".to_owned()));
    }
    outcome
}
