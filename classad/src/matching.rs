//! Matching two ads by their `Requirements`.

use crate::{ClassAd, EvalContext};

/// Whether `my`'s `Requirements` accept `target`. An ad without `Requirements` accepts nothing, as in HTCondor.
#[must_use]
pub fn half_match(my: &ClassAd, target: &ClassAd, now: i64) -> bool {
    let context = EvalContext::new().my(my).target(target).now(now);
    context.eval_attr("Requirements").as_bool() == Some(true)
}

/// Whether both ads' `Requirements` accept the other.
#[must_use]
pub fn symmetric_match(a: &ClassAd, b: &ClassAd, now: i64) -> bool {
    half_match(a, b, now) && half_match(b, a, now)
}
