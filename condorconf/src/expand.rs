//! Expanding references.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::error::ErrorKind;
use crate::function;
use crate::limits::{CALL_DEPTH, Limits};
use crate::scan::{Kind, Reference, next_reference};
use crate::table::{Scope, Table};

/// What a ClassAd expression came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Evaluated {
    /// A string, without quotes.
    String(String),
    /// An integer.
    Integer(i64),
    /// A real.
    Real(f64),
    /// A boolean.
    Boolean(bool),
    /// Anything else (undefined, error, list, record, time), in ClassAd text.
    Other(String),
}

/// Evaluates ClassAd expressions for `$EVAL()`, `$INT()`, `$REAL()`, `$STRING()` and for numbers written as expressions.
pub trait Evaluator: Send + Sync {
    /// Evaluates `text` without any ad; `None` if it does not parse.
    fn evaluate(&self, text: &str) -> Option<Evaluated>;
}

/// What expansion reads.
pub(crate) struct Expander<'a> {
    pub(crate) table: &'a Table,
    pub(crate) scope: &'a Scope,
    pub(crate) environment: &'a BTreeMap<String, String>,
    pub(crate) evaluator: Option<&'a dyn Evaluator>,
    pub(crate) random: &'a AtomicU64,
    pub(crate) limits: &'a Limits,
    pub(crate) budget: Budget,
    /// What relative names are relative to, for `$Ff()`.
    pub(crate) directory: Option<&'a str>,
    /// Where the names are collected that were looked up.
    pub(crate) used: Option<&'a Used>,
}

/// Names that were looked up, in lower case.
pub(crate) type Used = RefCell<HashSet<String>>;

/// What one value may still cost.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    expansions: AtomicUsize,
    work: AtomicUsize,
}

impl Budget {
    pub(crate) fn work(&self) -> usize {
        self.work.load(Ordering::Relaxed)
    }
}

impl Expander<'_> {
    /// Expands everything, `$(DOLLAR)` last.
    pub(crate) fn expand(&self, value: &str) -> Result<String, ErrorKind> {
        self.expand_at(value, 0)
    }

    /// As [`Self::expand`], within `depth` calls of functions.
    pub(crate) fn expand_at(&self, value: &str, depth: usize) -> Result<String, ErrorKind> {
        let mut value = value.to_owned();
        if depth > CALL_DEPTH {
            return Err(ErrorKind::Endless {
                at: shorten(&value),
            });
        }
        // From the start each time: what was put in may refer to other knobs, or complete a reference.
        while let Some(found) = next_reference(&value, 0, &|found, text| !is_dollar(found, text)) {
            let text = function::evaluate(self, &found, &value, depth)?;
            self.replace(&mut value, &found, &text)?;
        }
        while let Some(found) = next_reference(&value, 0, &is_dollar) {
            self.replace(&mut value, &found, "$")?;
        }
        Ok(value)
    }

    /// Expands only references to the knob that is being assigned (`A = $(A) more`), so that the earlier value is
    /// kept; also to `NAME` when `SUBSYS.NAME` or `LOCALNAME.NAME` is assigned.
    pub(crate) fn expand_self(&self, value: &str, name: &str) -> Result<String, ErrorKind> {
        let short = [&self.scope.local_name, &self.scope.subsys]
            .into_iter()
            .flatten()
            .find_map(|prefix| {
                strip_prefix_ignore_case(name, prefix)?
                    .strip_prefix('.')
                    .filter(|rest| !rest.is_empty())
            });
        let wanted = |found: &Reference, text: &str| {
            let referred = match found.kind {
                Kind::Plain => found.name(text),
                Kind::FilePart => found.body(text).split(':').next().unwrap_or(""),
                _ => return false,
            };
            referred.eq_ignore_ascii_case(name)
                || short.is_some_and(|short| referred.eq_ignore_ascii_case(short))
        };
        let mut value = value.to_owned();
        while let Some(found) = next_reference(&value, 0, &wanted) {
            let text = function::evaluate(self, &found, &value, 0)?;
            self.replace(&mut value, &found, &text)?;
        }
        Ok(value)
    }

    /// The raw value that counts for `name`.
    pub(crate) fn lookup(&self, name: &str) -> Option<&str> {
        let entry = self.table.lookup(name, self.scope)?;
        if let Some(used) = self.used {
            let name = entry.name.to_ascii_lowercase();
            used.borrow_mut().insert(name);
        }
        Some(entry.raw.as_str())
    }

    /// A number for `$RANDOM_CHOICE()` and `$RANDOM_INTEGER()`: splitmix64 of the seed the caller gave.
    pub(crate) fn random(&self) -> u64 {
        let mut z = self
            .random
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn replace(&self, value: &mut String, found: &Reference, text: &str) -> Result<(), ErrorKind> {
        let expansions = self.budget.expansions.fetch_add(1, Ordering::Relaxed);
        let work = self
            .budget
            .work
            .fetch_add(value.len() + text.len(), Ordering::Relaxed);
        if expansions >= self.limits.expansions || work >= self.limits.expansion_work {
            return Err(ErrorKind::Endless {
                at: shorten(found.body(value)),
            });
        }
        if value.len() - found.whole.len() + text.len() > self.limits.value_bytes {
            return Err(ErrorKind::TooLarge {
                what: "the expanded value",
                limit: self.limits.value_bytes,
            });
        }
        value.replace_range(found.whole.clone(), text);
        Ok(())
    }
}

fn is_dollar(found: &Reference, text: &str) -> bool {
    found.kind == Kind::Plain && found.body(text).eq_ignore_ascii_case("DOLLAR")
}

/// The rest of `text` after `prefix`, in any case.
pub(crate) fn strip_prefix_ignore_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix)
        .then(|| text.get(prefix.len()..))
        .flatten()
}

/// Enough of a text to recognise it in a message.
pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or("")),
        None => text.to_owned(),
    }
}
