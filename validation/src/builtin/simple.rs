//! How a built-in check is put together: what it is, and a function that looks.

use std::sync::Arc;

use crate::check::Check;
use crate::outcome::{Failure, Outcome, Whose};
use crate::probe::{Context, Probe, Running};

/// Gathers facts and judges them.
type Look = for<'a> fn(&'a Context) -> Running<'a>;

struct Simple {
    check: Check,
    look: Look,
}

impl Probe for Simple {
    fn check(&self) -> &Check {
        &self.check
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        (self.look)(context)
    }
}

/// A check from its two parts.
pub(super) fn probe(check: Check, look: Look) -> Arc<dyn Probe> {
    Arc::new(Simple { check, look })
}

/// Gathers on a thread of its own, then judges.
pub(super) async fn gather_and_judge<T: Send + 'static>(
    context: &Context,
    gather: impl FnOnce() -> T + Send + 'static,
    judge: impl FnOnce(&T) -> Outcome,
) -> Outcome {
    match context.blocking(gather).await {
        Some(facts) => judge(&facts),
        None => Outcome::failed(Failure::new(
            Whose::Pilot,
            "the check itself failed: its thread could not be started, or panicked",
            "send the log of this pilot to its authors",
        )),
    }
}

/// What is wrong, and what to do about it.
pub(super) type Trouble = (String, String);

/// The first trouble is the failure, the site's; all of them are its detail.
pub(super) fn judge_site(troubles: &[Trouble]) -> Outcome {
    let Some((why, hint)) = troubles.first() else {
        return Outcome::passed();
    };
    let outcome = Outcome::failed(Failure::site(why.clone(), hint.clone()).kind("WN_Resource"));
    let lines: Vec<&str> = troubles.iter().map(|(why, _)| why.as_str()).collect();
    outcome.detail(lines.join("\n"))
}

/// A number for a metric; what is too large for it loses its last digits.
#[allow(
    clippy::cast_precision_loss,
    reason = "metrics are for people and graphs"
)]
pub(super) const fn float(number: u64) -> f64 {
    number as f64
}

/// A number for the slot ad.
pub(super) fn ad_number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An error with its causes, one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
