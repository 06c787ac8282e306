//! Who becomes whom: each expectation, through the installed helper.

use launch_protocol::broker::{Opened, Purpose, Refusal};
use validation::switching::client::ClientError;
use validation::{Check, Failure, Outcome};

use super::credentials::{Secret, Wallet};
use super::expectation_name;
use super::expectations::{Expectation, What, Who};
use super::ground::{self, Ground};
use super::judgement::{self, Judged};
use super::results::{self, Found, Results, check};
use super::session::Session;

/// A credential by which payloads can be run.
#[derive(Debug)]
pub(super) struct Runnable {
    /// Short name of its owner.
    pub(super) name: String,
    /// The credential.
    pub(super) credential: Secret,
    /// What becomes of it.
    pub(super) fate: Fate,
}

/// What a verified credential becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// An account of its own name, which it may share.
    Account(String),
    /// A pool account. `None`: none is leased to it yet, and verifying alone takes none.
    Pool(Option<String>),
    /// Any free number, for one payload.
    Dynamic,
}

impl Fate {
    /// For people.
    fn words(&self) -> String {
        match self {
            Self::Account(name) => format!("the account {name}"),
            Self::Pool(Some(name)) => format!("the pool account {name}"),
            Self::Pool(None) => "a pool account that is still to be leased".to_owned(),
            Self::Dynamic => "a number of dynamic_uids".to_owned(),
        }
    }
}

fn about(expectation: &Expectation) -> Check {
    check(
        &expectation_name(expectation),
        &format!("{} becomes {}", expectation.who, expectation.what),
    )
    .needs("helper-starts")
}

/// Tries all of them; gives the credentials with which something can be run, one for each account.
pub(super) fn examine(
    results: &mut Results,
    session: &mut Session<'_>,
    wallet: &Wallet,
    expectations: &[Expectation],
) -> Vec<Runnable> {
    let mut found: Vec<Runnable> = Vec::new();
    for expectation in expectations {
        results.run(about(expectation), || {
            let credential = match wallet.of(&expectation.who) {
                Ok(credential) => credential,
                Err(why) => return by_files(session.ground, expectation, why),
            };
            let answer = fate(session, &credential);
            let outcome = compare(expectation, &answer)?;
            if let Ok(fate) = answer
                && !found
                    .iter()
                    .any(|one| one.fate == fate && fate != Fate::Dynamic)
            {
                found.push(Runnable {
                    name: expectation.name.clone(),
                    credential,
                    fate,
                });
            }
            Ok(outcome)
        });
    }
    found
}

/// When the helper does not run.
pub(super) fn not_tried(results: &mut Results, ground: &Ground, expectations: &[Expectation]) {
    for expectation in expectations {
        let mut check = about(expectation);
        check.prerequisites.clear();
        results.run(check, || {
            by_files(ground, expectation, "the helper does not run".to_owned())
        });
    }
}

/// What the installed files say of a name. `why` there is nothing better.
fn by_files(ground: &Ground, expectation: &Expectation, why: String) -> Found {
    let Who::Named { dn, fqans } = &expectation.who else {
        return Ok(Outcome::skipped(why));
    };
    if ground.config.is_err() {
        return Ok(Outcome::skipped(why));
    }
    let judged = match judgement::of(ground, dn, fqans) {
        Ok(judged) => judged,
        Err(error) => return Ok(Outcome::skipped(format!("{why}; and {error}"))),
    };
    let (fits, words) = match (&expectation.what, &judged) {
        (What::Account(wanted), Judged::Account { name, source }) => {
            (name == wanted, format!("the account {name} ({source})"))
        }
        (What::Account(wanted), Judged::Pool { prefix, source }) => (
            is_member(wanted, prefix),
            format!("an account of the pool .{prefix} ({source})"),
        ),
        (What::Pool(wanted), Judged::Pool { prefix, source }) => (
            wanted == prefix,
            format!("an account of the pool .{prefix} ({source})"),
        ),
        (_, Judged::Account { name, source }) => (false, format!("the account {name} ({source})")),
        (_, Judged::Pool { prefix, source }) => (
            false,
            format!("an account of the pool .{prefix} ({source})"),
        ),
        (what, Judged::Dynamic) => (
            *what == What::Dynamic,
            "a number of dynamic_uids".to_owned(),
        ),
        (What::Refused(wanted), Judged::Refused(refusal)) => {
            let fits = wanted.as_ref().is_none_or(|code| *code == refusal.code);
            (
                fits,
                format!("a refusal ({}): {}", refusal.code, refusal.message),
            )
        }
        (_, Judged::Refused(refusal)) => return Err(results::refused(refusal)),
    };
    if let Judged::Account { name, .. } = &judged
        && fits
        && let Err(error) = ground::account(name)
    {
        return Err(Failure::site(
            format!("{} becomes {words}, and {error}", expectation.who),
            results::advice("map.account_missing"),
        ));
    }
    if fits {
        return Ok(Outcome::passed()
            .text("becomes", words)
            .text("tried", format!("by the files alone: {why}")));
    }
    Err(Failure::site(
        format!(
            "{} becomes {words} instead of {} ({})",
            expectation.who, expectation.what, expectation.place
        ),
        ORDER,
    ))
}

const ORDER: &str =
    "look at the order of mapping and at the lines of the map files: the first that fits counts";

/// What the helper makes of a credential, without leasing anything.
fn fate(session: &mut Session<'_>, credential: &[u8]) -> Result<Fate, ClientError> {
    match session.open(credential, Purpose::VerifyOnly) {
        Ok(Opened { account, lease, .. }) => Ok(if lease.starts_with("pool") {
            Fate::Pool(Some(account))
        } else {
            Fate::Account(account)
        }),
        // There is nothing to be had without a payload, and that is what was asked.
        Err(ClientError::Refused(Refusal { code, .. })) if code == "map.dynamic" => {
            Ok(Fate::Dynamic)
        }
        Err(ClientError::Refused(Refusal { code, .. })) if code == "pool.none" => {
            Ok(Fate::Pool(None))
        }
        Err(error) => Err(error),
    }
}

fn compare(expectation: &Expectation, answer: &Result<Fate, ClientError>) -> Found {
    let wrong = |why: String, hint: &str| {
        Err(Failure::site(
            format!("{why} ({})", expectation.place),
            hint,
        ))
    };
    match (&expectation.what, answer) {
        (What::Refused(wanted), Err(ClientError::Refused(refusal))) => match wanted {
            Some(code) if *code != refusal.code => wrong(
                format!(
                    "{} is refused, but with the code {} instead of {code}: {}",
                    expectation.who, refusal.code, refusal.message
                ),
                "see whether it is refused for the reason that is meant",
            ),
            _ => Ok(Outcome::passed().text("code", refusal.code.clone())),
        },
        (What::Refused(_), Ok(fate)) => wrong(
            format!(
                "{} is not refused: it becomes {}",
                expectation.who,
                fate.words()
            ),
            "add it to a ban list, or take it out of the map files",
        ),
        (_, Err(error)) => Err(results::client(error)),
        (What::Any, Ok(fate)) => Ok(Outcome::passed().text("becomes", fate.words())),
        (What::Account(name), Ok(Fate::Account(got))) if got == name => Ok(Outcome::passed()),
        (What::Account(name), Ok(Fate::Pool(Some(got)))) if got == name => Ok(Outcome::passed()),
        (What::Pool(prefix), Ok(Fate::Pool(Some(got)))) if is_member(got, prefix) => {
            Ok(Outcome::passed().text("account", got.clone()))
        }
        (What::Pool(_), Ok(Fate::Pool(None))) => {
            Ok(Outcome::passed().text("account", "none leased yet"))
        }
        (What::Dynamic, Ok(Fate::Dynamic)) => Ok(Outcome::passed()),
        (what, Ok(fate)) => wrong(
            format!(
                "{} becomes {} instead of {what}",
                expectation.who,
                fate.words()
            ),
            ORDER,
        ),
    }
}

fn is_member(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}
