//! The parts of the language that submit files share with configurations: lines, conditionals, macros.
//!
//! A reader of such a language takes a text apart with [`Lines`], follows `if` and `endif` with [`Conditionals`], keeps
//! its assignments in [`Macros`] and expands their values with the rules of a configuration. What the statements mean
//! is the reader's own affair.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::condition::{self, IfStack};
use crate::error::ErrorKind;
use crate::expand::{Budget, Evaluator, Expander, Used};
use crate::limits::Limits;
use crate::line;
use crate::number;
use crate::origin::{Origin, Place};
use crate::scan;
use crate::table::{Scope, Table};

/// Logical lines: continuation by a backslash, comments.
#[derive(Debug, Clone)]
pub struct Lines<'a>(line::Lines<'a>);

/// A line with everything that is joined to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The text, without blanks around it.
    pub text: String,
    /// Number of its last physical line, from 1.
    pub number: u32,
}

impl<'a> Lines<'a> {
    /// Takes `text` apart.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self(line::Lines::new(text))
    }

    /// The next line of statements: a comment is never continued, and skipped within a continued line.
    pub fn statement(&mut self) -> Option<Line> {
        self.take(line::CommentStyle::New)
    }

    /// The next line of data: a comment is a line like all others.
    pub fn data(&mut self) -> Option<Line> {
        self.take(line::CommentStyle::Old)
    }

    fn take(&mut self, style: line::CommentStyle) -> Option<Line> {
        let line = self.0.next(style)?;
        Some(Line {
            text: line.text,
            number: line.number,
        })
    }
}

/// The conditionals that are open.
#[derive(Debug, Default)]
pub struct Conditionals(IfStack);

impl Conditionals {
    /// No conditional.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether lines count here.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.0.enabled()
    }

    /// The line of the innermost open `if`.
    #[must_use]
    pub fn open(&self) -> Option<u32> {
        self.0.open()
    }

    /// Follows the line if it is one of `if`, `elif`, `else`, `endif`; `false` if it is another.
    ///
    /// # Errors
    /// The condition cannot be evaluated, or the word may not stand here.
    pub fn follow(&mut self, text: &str, number: u32, macros: &Macros) -> Result<bool, ErrorKind> {
        let Some(branch) = condition::branch(text) else {
            return Ok(false);
        };
        self.0.follow(branch, number, |condition| {
            condition::test(condition, &macros.expander())
        })?;
        Ok(true)
    }
}

/// A table of macros: names without regard to case, values as written, where each was set, and whether it was looked
/// up since.
pub struct Macros {
    table: Table,
    scope: Scope,
    environment: BTreeMap<String, String>,
    evaluator: Option<Arc<dyn Evaluator>>,
    random: AtomicU64,
    limits: Limits,
    directory: Option<String>,
    used: Used,
    names: Names,
}

/// Which names may be in the table: a reader asks for hundreds of names of which a few are set.
#[derive(Debug, Default)]
struct Names([u64; 32]);

impl Names {
    fn add(&mut self, name: &str, prefix: &str) {
        let bare = name
            .split_once('.')
            .filter(|(head, _)| head.eq_ignore_ascii_case(prefix))
            .map_or(name, |(_, bare)| bare);
        for name in [name, bare] {
            let (word, bit) = Self::place(name);
            if let Some(word) = self.0.get_mut(word) {
                *word |= bit;
            }
        }
    }

    fn may_have(&self, name: &str) -> bool {
        let (word, bit) = Self::place(name);
        self.0.get(word).is_none_or(|word| word & bit != 0)
    }

    /// Where the name's bit is: FNV-1a over its letters in lower case.
    fn place(name: &str) -> (usize, u64) {
        let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
        });
        let hash = hash ^ (hash >> 15);
        (
            usize::try_from((hash >> 6) & 31).unwrap_or(0),
            1 << (hash & 63),
        )
    }
}

impl Macros {
    /// An empty table. A macro `PREFIX.NAME` wins over `NAME`; `environment` is for `$ENV()`, `seed` for random numbers.
    #[must_use]
    pub fn new(
        prefix: &str,
        environment: BTreeMap<String, String>,
        evaluator: Arc<dyn Evaluator>,
        seed: u64,
    ) -> Self {
        Self {
            table: Table::default(),
            scope: Scope {
                subsys: Some(prefix.to_owned()),
                local_name: None,
            },
            environment,
            evaluator: Some(evaluator),
            random: AtomicU64::new(seed),
            limits: Limits::default(),
            directory: None,
            used: Used::default(),
            names: Names::default(),
        }
    }

    fn note(&mut self, name: &str) {
        let prefix = self.scope.subsys.as_deref().unwrap_or("");
        self.names.add(name, prefix);
    }

    /// What relative names are relative to, for `$Ff()`.
    pub fn set_directory(&mut self, directory: &str) {
        self.directory = Some(directory.to_owned());
    }

    /// Sets what counts where nothing else is set.
    pub fn set_default(&mut self, name: &str, value: &str) {
        self.note(name);
        self.table.insert_default(name, value);
    }

    /// Sets a macro to a value as it is.
    pub fn set(&mut self, name: &str, value: &str, origin: Origin) {
        self.note(name);
        self.table.insert(name, value.to_owned(), origin);
    }

    /// Sets a macro; references to itself are replaced by its earlier value.
    ///
    /// # Errors
    /// The value, or the table, grows too large.
    pub fn assign(&mut self, name: &str, value: &str, place: &Place) -> Result<(), ErrorKind> {
        let raw = self.expander().expand_self(value, name)?;
        for (what, size, limit) in [
            ("the value", raw.len(), self.limits.value_bytes),
            ("the number of macros", self.table.len(), self.limits.knobs),
        ] {
            if size > limit {
                return Err(ErrorKind::TooLarge { what, limit });
            }
        }
        self.note(name);
        self.table.insert(name, raw, Origin::File(place.clone()));
        Ok(())
    }

    /// The value as written, defaults included; counts as a use.
    pub fn raw(&self, name: &str) -> Option<&str> {
        if !self.names.may_have(name) {
            return None;
        }
        let entry = self.table.lookup(name, &self.scope)?;
        self.used
            .borrow_mut()
            .insert(entry.name.to_ascii_lowercase());
        Some(&entry.raw)
    }

    /// The value as it was set, without defaults; does not count as a use.
    #[must_use]
    pub fn exact(&self, name: &str) -> Option<&str> {
        self.table.exact(name).map(|entry| entry.raw.as_str())
    }

    /// Where the macro was set.
    #[must_use]
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        self.table
            .lookup(name, &self.scope)
            .map(|entry| &entry.origin)
    }

    /// The expanded value; `None` if it is not set or empty.
    ///
    /// # Errors
    /// It cannot be expanded.
    pub fn get(&self, name: &str) -> Result<Option<String>, ErrorKind> {
        if !self.names.may_have(name) {
            return Ok(None);
        }
        let expander = self.expander();
        let Some(raw) = expander.lookup(name) else {
            return Ok(None);
        };
        let value = if raw.contains('$') {
            expander.expand(raw)?
        } else {
            raw.to_owned()
        };
        Ok(Some(value).filter(|value| !value.is_empty()))
    }

    /// Expands the references in a text.
    ///
    /// # Errors
    /// It cannot be expanded.
    pub fn expand(&self, text: &str) -> Result<String, ErrorKind> {
        self.expander().expand(text)
    }

    /// What was set (not the defaults), by name: the name as written, the value, where, and whether it was looked up.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str, &Origin, bool)> {
        let used: HashSet<String> = self.used.borrow().clone();
        self.table.set_entries().map(move |entry| {
            let seen = used.contains(&entry.name.to_ascii_lowercase());
            (entry.name.as_str(), entry.raw.as_str(), &entry.origin, seen)
        })
    }

    /// Whether the macro was looked up.
    #[must_use]
    pub fn is_used(&self, name: &str) -> bool {
        self.used.borrow().contains(&name.to_ascii_lowercase())
    }

    /// Counts a macro as used.
    pub fn mark(&self, name: &str) {
        self.used.borrow_mut().insert(name.to_ascii_lowercase());
    }

    /// A whole text as an integer: a literal, else an expression.
    #[must_use]
    pub fn integer(&self, text: &str) -> Option<i64> {
        number::integer(text, self.evaluator.as_deref())
    }

    /// A whole text as a boolean: a literal, else an expression.
    #[must_use]
    pub fn boolean(&self, text: &str) -> Option<bool> {
        number::boolean(text, self.evaluator.as_deref())
    }

    fn expander(&self) -> Expander<'_> {
        Expander {
            table: &self.table,
            scope: &self.scope,
            environment: &self.environment,
            evaluator: self.evaluator.as_deref(),
            random: &self.random,
            limits: &self.limits,
            budget: Budget::default(),
            directory: self.directory.as_deref(),
            used: Some(&self.used),
        }
    }
}

impl fmt::Debug for Macros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the environment: it may hold secrets.
        f.debug_struct("Macros")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

/// Whether the text may be a macro's name.
#[must_use]
pub fn is_name(text: &str) -> bool {
    scan::is_name(text)
}

/// A command line as HTCondor's arguments: words, or in double quotes words with single quotes around blanks.
#[must_use]
pub fn split_command(line: &str) -> Option<Vec<String>> {
    crate::read::split_command(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoExpressions;

    impl Evaluator for NoExpressions {
        fn evaluate(&self, _text: &str) -> Option<crate::Evaluated> {
            None
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_with_the_prefix() {
        let mut macros = Macros::new("SUBMIT", BTreeMap::new(), Arc::new(NoExpressions), 1);
        macros.set_directory("/home/alice");
        for number in 0..200 {
            macros.set_default(&format!("Name{number}"), "x");
        }
        macros.set("SUBMIT.Where", "$Ff(file) $(nAME7)", Origin::CommandLine);
        macros.set("file", "a/b.c", Origin::CommandLine);
        assert_eq!(
            macros.get("WHERE").unwrap().as_deref(),
            Some("/home/alice/a/b.c x")
        );
        assert_eq!(macros.raw("nAME199"), Some("x"));
        assert_eq!(macros.raw("Name200"), None);
        assert!(macros.is_used("FILE") && macros.is_used("name7") && !macros.is_used("Name8"));
    }
}
