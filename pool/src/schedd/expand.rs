//! `$$(Attribute)`, `$$(Attribute:default)` and `$$([expression])` in a job ad, filled in from the slot it runs on.
//!
//! As in HTCondor (`htcondor:src/condor_schedd.V6/qmgmt.cpp`, `dollarDollarExpand`) the text of an attribute's
//! expression is worked on, so that the pieces may stand inside strings and outside. What was filled in is kept in the
//! queue as `MATCH_EXP_<attribute>` and `MATCH_<slot attribute>`, where users look for it.

use classad::{ClassAd, EvalContext, Expr, Value};
use thiserror::Error;

/// Prefix of everything that is the result of an expansion, and is not expanded itself.
const MATCH: &str = "MATCH_";
/// Prefix of the whole expanded attribute.
const MATCH_EXP: &str = "MATCH_EXP_";

/// A piece that cannot be filled in. The job cannot run anywhere like this and is held.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
// Without the `$$(...)` itself: the text becomes an attribute of the job.
#[error("Cannot expand $$ expression ({0}).")]
pub struct CannotExpand(pub String);

/// What an expansion gave.
#[derive(Debug, Clone, Default)]
pub struct Expansion {
    /// Attributes of the job with their new values; nothing else of the ad changes.
    pub job: ClassAd,
    /// What the queue is to remember.
    pub remembered: ClassAd,
}

/// Fills in everything of `job` from `slot`; `now` is unix time for expressions that ask.
///
/// # Errors
/// [`CannotExpand`]: the slot lacks an attribute without a default, or an expression is no string, number or truth
/// value or does not parse.
pub fn expand(job: &ClassAd, slot: &ClassAd, now: i64) -> Result<Expansion, CannotExpand> {
    let mut expansion = Expansion::default();
    for (name, expr) in job.iter() {
        let is_result = name
            .as_str()
            .get(..MATCH.len())
            .is_some_and(|prefix| prefix.eq_ignore_ascii_case(MATCH));
        if is_result {
            continue;
        }
        let text = expr.to_old();
        if !text.contains("$$(") {
            continue;
        }
        let new = fill(&text, job, slot, now, &mut expansion.remembered)?;
        if new == text {
            continue;
        }
        let expr = Expr::parse_old(&new).map_err(|_| CannotExpand(name.as_str().to_owned()))?;
        expansion
            .remembered
            .insert(format!("{MATCH_EXP}{}", name.as_str()), expr.clone());
        expansion.job.insert(name.clone(), expr);
    }
    Ok(expansion)
}

fn fill(
    text: &str,
    job: &ClassAd,
    slot: &ClassAd,
    now: i64,
    remembered: &mut ClassAd,
) -> Result<String, CannotExpand> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("$$(") {
        let (before, piece) = rest.split_at(at);
        out.push_str(before);
        let body = piece.get(3..).unwrap_or("");
        if let Some(expression) = body.strip_prefix('[') {
            let Some((expression, after)) = expression.split_once("])") else {
                out.push_str("$$(");
                rest = body;
                continue;
            };
            out.push_str(&evaluate(expression, job, slot, now)?);
            rest = after;
            continue;
        }
        match body
            .split_once(')')
            .filter(|(inside, _)| is_reference(inside))
        {
            Some((inside, after)) => {
                out.push_str(&look_up(inside, slot, remembered)?);
                rest = after;
            }
            None => {
                out.push_str("$$(");
                rest = body;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Whether this is `Name` or `Name:default`; other text in brackets is left alone.
fn is_reference(inside: &str) -> bool {
    let name = inside.split_once(':').map_or(inside, |(name, _)| name);
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
}

fn look_up(inside: &str, slot: &ClassAd, remembered: &mut ClassAd) -> Result<String, CannotExpand> {
    let (name, default) = match inside.split_once(':') {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if name.eq_ignore_ascii_case("DOLLARDOLLAR") {
        return Ok("$$".to_owned());
    }
    match (slot.get(name), default) {
        (Some(expr), _) => {
            remembered.insert(format!("{MATCH}{name}"), expr.clone());
            let text = expr.to_old();
            let unquoted = text
                .strip_prefix('"')
                .and_then(|text| text.strip_suffix('"'));
            Ok(unquoted.unwrap_or(&text).to_owned())
        }
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(CannotExpand(name.to_owned())),
    }
}

fn evaluate(
    expression: &str,
    job: &ClassAd,
    slot: &ClassAd,
    now: i64,
) -> Result<String, CannotExpand> {
    // Inside a string of the ad, quotes stand escaped.
    let plain = expression.replace("\\\"", "\"").replace("\\\\", "\\");
    let fail = || CannotExpand(format!("[{plain}]"));
    let expr = Expr::parse_old(&plain).map_err(|_| fail())?;
    let context = EvalContext::new().my(job).target(slot).now(now);
    match context.eval(&expr) {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Boolean(truth) => Ok(truth.to_string()),
        value @ Value::Real(_) => Ok(Expr::from(value).to_old()),
        _ => Err(fail()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ad(text: &str) -> ClassAd {
        ClassAd::parse_old(text).unwrap()
    }

    fn slot() -> ClassAd {
        ad("Arch = \"X86_64\"\nCpus = 4\nGLIDEIN_Site = \"CERN\"\nMemory = 2048")
    }

    #[test]
    fn attributes_of_the_slot_are_filled_in_and_remembered() {
        let job = ad(
            "Cmd = \"/bin/run.$$(Arch)\"\nN = \"$$(Cpus)\"\nJOB_Site = \"$$(GLIDEIN_Site:Unknown)\"\nOther = 1",
        );
        let expansion = expand(&job, &slot(), 0).unwrap();
        assert_eq!(expansion.job.string("Cmd").unwrap(), "/bin/run.X86_64");
        assert_eq!(expansion.job.string("N").unwrap(), "4");
        assert!(!expansion.job.contains("Other"));
        let remembered = &expansion.remembered;
        assert_eq!(remembered.string("MATCH_EXP_JOB_Site").unwrap(), "CERN");
        assert_eq!(remembered.string("MATCH_Arch").unwrap(), "X86_64");
        assert_eq!(remembered.int("MATCH_Cpus"), Some(4));
    }

    #[test]
    fn a_default_stands_in_and_nothing_stands_in_for_the_rest() {
        let job = ad("A = \"$$(NoSuch:turkey)\"");
        assert_eq!(
            expand(&job, &slot(), 0).unwrap().job.string("A").unwrap(),
            "turkey"
        );
        let error = expand(&ad("A = \"$$(NoSuch)\""), &slot(), 0).unwrap_err();
        assert_eq!(error.to_string(), "Cannot expand $$ expression (NoSuch).");
    }

    #[test]
    fn expressions_see_both_ads() {
        let job = ad(
            "RequestCpus = 2\nA = \"$$([TARGET.Cpus * RequestCpus]) and $$([strcat(\\\"a\\\", Arch)])\"",
        );
        assert_eq!(
            expand(&job, &slot(), 0).unwrap().job.string("A").unwrap(),
            "8 and aX86_64"
        );
        assert!(expand(&ad("A = \"$$([Cpus +])\""), &slot(), 0).is_err());
    }

    #[test]
    fn text_that_only_looks_like_it_is_left_alone_and_results_are_not_expanded_again() {
        let job = ad(
            "A = \"$$ $$( x) $$(\"\nB = \"$$(DOLLARDOLLAR)(Arch)\"\nMATCH_EXP_C = \"$$(NoSuch)\"",
        );
        let expansion = expand(&job, &slot(), 0).unwrap();
        assert!(!expansion.job.contains("A"));
        assert_eq!(expansion.job.string("B").unwrap(), "$$(Arch)");
        assert!(!expansion.job.contains("MATCH_EXP_C"));
    }
}
