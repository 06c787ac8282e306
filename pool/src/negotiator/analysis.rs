//! Why a job does not run: what all the slots of the pool say to it.

use std::fmt;

use classad::{ClassAd, EvalContext, Expr, half_match};

use super::groups::is_free;
use super::weight::{Part, is_partitionable};
use crate::collector::Slot;

/// What the slots say to a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Analysis {
    /// All slots.
    pub slots: usize,
    /// Those that the job's `Requirements` refuse.
    pub job_refuses: usize,
    /// Those that the job would take, but whose own `Requirements` (`START`) refuse it.
    pub slot_refuses: usize,
    /// Those that match but are too full.
    pub too_small: usize,
    /// Those that match and are in use.
    pub busy: usize,
    /// Those that match and are free.
    pub free: usize,
    /// The conditions that the job's `Requirements` consist of, and how many slots fulfil each.
    pub conditions: Vec<(String, usize)>,
}

/// Looks at a job and all slots.
pub fn analyse(job: &ClassAd, slots: &[Slot], now: i64) -> Analysis {
    let mut analysis = Analysis {
        slots: slots.len(),
        ..Analysis::default()
    };
    let requirements = job
        .get("Requirements")
        .map(Expr::to_old)
        .unwrap_or_default();
    let conditions: Vec<(String, Option<Expr>)> = conditions(&requirements)
        .into_iter()
        .map(|text| (text.to_owned(), Expr::parse_old(text).ok()))
        .collect();
    analysis.conditions = conditions
        .iter()
        .map(|(text, _)| (text.clone(), 0))
        .collect();
    for slot in slots {
        let context = EvalContext::new().my(job).target(&slot.ad).now(now);
        for ((_, expr), (_, count)) in conditions.iter().zip(&mut analysis.conditions) {
            let holds = |expr: &Expr| context.eval(expr).as_bool() == Some(true);
            *count += usize::from(expr.as_ref().is_some_and(holds));
        }
        let place = if !half_match(job, &slot.ad, now) {
            &mut analysis.job_refuses
        } else if !half_match(&slot.ad, job, now) {
            &mut analysis.slot_refuses
        } else if is_partitionable(&slot.ad) && Part::of(&slot.ad, job, now).is_none() {
            &mut analysis.too_small
        } else if is_free(slot) {
            &mut analysis.free
        } else {
            &mut analysis.busy
        };
        *place += 1;
    }
    analysis
}

impl Analysis {
    /// The condition that the fewest slots fulfil, if there is one that not all do.
    pub fn hardest(&self) -> Option<(&str, usize)> {
        self.conditions
            .iter()
            .filter(|(_, count)| *count < self.slots)
            .min_by_key(|(_, count)| *count)
            .map(|(text, count)| (text.as_str(), *count))
    }
}

impl fmt::Display for Analysis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.slots == 0 {
            return f.write_str("there is no slot in the pool");
        }
        if self.free > 0 {
            return write!(
                f,
                "{} of {} slots match and are free; it should start soon",
                self.free, self.slots
            );
        }
        if self.busy + self.too_small > 0 {
            return write!(
                f,
                "{} of {} slots match, but all of them are busy",
                self.busy + self.too_small,
                self.slots
            );
        }
        if self.slot_refuses > 0 {
            return write!(
                f,
                "{} of {} slots fulfil the job's requirements, but their own (START) refuse the job",
                self.slot_refuses, self.slots
            );
        }
        write!(
            f,
            "none of {} slots fulfils the job's requirements",
            self.slots
        )?;
        match self.hardest() {
            Some((text, count)) => write!(f, "; the hardest, {text}, is fulfilled by {count}"),
            None => Ok(()),
        }
    }
}

/// The operands of the outermost `&&` of an expression; the whole if there is none.
fn conditions(text: &str) -> Vec<&str> {
    let text = without_parentheses(text.trim());
    if text.is_empty() {
        return Vec::new();
    }
    let Some(cuts) = cuts(text) else {
        return vec![text];
    };
    let mut found = Vec::new();
    let mut start = 0;
    for cut in cuts.into_iter().chain([text.len()]) {
        let part = text.get(start..cut).unwrap_or_default().trim();
        if part.starts_with('(') && part.len() < text.len() {
            found.extend(conditions(part));
        } else if !part.is_empty() {
            found.push(part);
        }
        start = cut + 2;
    }
    found
}

/// Removes parentheses around the whole.
fn without_parentheses(text: &str) -> &str {
    let inner = text
        .strip_prefix('(')
        .and_then(|text| text.strip_suffix(')'));
    match inner {
        Some(inner) if depth_stays_positive(inner) => without_parentheses(inner.trim()),
        _ => text,
    }
}

/// Calls `visit` with each byte outside of strings, its place and the depth of parentheses around it.
fn walk(text: &str, mut visit: impl FnMut(usize, u8, i32)) {
    let bytes = text.as_bytes();
    let mut depth = 0;
    let mut quote = None;
    let mut escaped = false;
    for (at, &byte) in bytes.iter().enumerate() {
        if let Some(end) = quote {
            if byte == end && !escaped {
                quote = None;
            }
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        match byte {
            b'"' | b'\'' => quote = Some(byte),
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        visit(at, byte, depth);
    }
}

fn depth_stays_positive(text: &str) -> bool {
    let mut positive = true;
    walk(text, |_, _, depth| positive &= depth >= 0);
    positive
}

/// Where the outermost `&&` are; `None` if something that binds less stands beside them.
fn cuts(text: &str) -> Option<Vec<usize>> {
    let mut cuts: Vec<usize> = Vec::new();
    let mut looser = false;
    let mut before = 0_u8;
    let mut last = 0;
    walk(text, |at, byte, depth| {
        let pair = at == last + 1 && before == byte;
        if depth == 0 {
            looser |= byte == b'?' && before != b'=' || pair && byte == b'|';
            if pair && byte == b'&' && cuts.last().is_none_or(|cut| cut + 2 < at) {
                cuts.push(at - 1);
            }
        }
        (before, last) = (byte, at);
    });
    (!looser && !cuts.is_empty()).then_some(cuts)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cedar::ClaimId;

    use super::*;

    fn ad(text: &str) -> ClassAd {
        ClassAd::parse_old(text).unwrap()
    }

    fn slot(text: &str) -> Slot {
        Slot {
            name: "s".to_owned(),
            ad: Arc::new(ad(text)),
            claim: Some(ClaimId::parse("<1.2.3.4:5>#1#1#k").unwrap()),
            child_claims: Vec::new(),
        }
    }

    #[test]
    fn requirements_are_taken_apart_where_that_is_sound() {
        assert_eq!(
            conditions("((A == \"x && y\") && (B || C) && TARGET.D =?= true) && f(G && H)"),
            [
                "A == \"x && y\"",
                "B || C",
                "TARGET.D =?= true",
                "f(G && H)"
            ]
        );
        assert_eq!(conditions("(A && B) || C"), ["(A && B) || C"]);
        assert_eq!(conditions("A ? B && C : D"), ["A ? B && C : D"]);
        assert_eq!(conditions("A =?= B && C"), ["A =?= B", "C"]);
        assert_eq!(conditions("(true)"), ["true"]);
        assert!(conditions("  ").is_empty());
    }

    #[test]
    fn the_answer_says_whose_refusal_it_is() {
        let job = ad(
            "Owner = \"a\"\nRequirements = (TARGET.Arch == \"X86_64\") && (TARGET.Memory >= 100)",
        );
        let good = "Arch = \"X86_64\"\nMemory = 200\nState = \"Unclaimed\"\nRequirements = true";
        let say = |slots: &[Slot]| analyse(&job, slots, 0).to_string();
        assert_eq!(say(&[]), "there is no slot in the pool");
        assert!(say(&[slot(good)]).starts_with("1 of 1 slots match and are free"));
        let busy = slot(&good.replace("Unclaimed", "Claimed"));
        assert_eq!(say(&[busy]), "1 of 1 slots match, but all of them are busy");
        let closed = slot(&good.replace(
            "Requirements = true",
            "Requirements = TARGET.Owner == \"b\"",
        ));
        assert!(say(&[closed]).contains("START"));
        let small = slot(&good.replace("200", "50"));
        assert_eq!(
            say(&[small.clone(), small]),
            "none of 2 slots fulfils the job's requirements; the hardest, TARGET.Memory >= 100, is fulfilled by 0"
        );
    }
}
