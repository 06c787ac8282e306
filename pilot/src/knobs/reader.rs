//! Typed reading by the table, with all mistakes collected.

use std::path::PathBuf;
use std::time::Duration;

use classad::Expr;
use condorconf::{Config, Origin};
use validation::knob::Value;

use super::error::{KnobError, Problem};
use super::table::{self, Kind, Knob};

/// Reads knobs and remembers what was wrong, and what was read.
pub(super) struct Reader<'a> {
    pub(super) config: &'a Config,
    pub(super) errors: Vec<KnobError>,
    pub(super) warnings: Vec<String>,
    /// First names of the knobs read.
    pub(super) seen: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        Self {
            config,
            errors: Vec::new(),
            warnings: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// The name under which a knob of the table is set, and its kind. `name` is its first name.
    fn look_up(&mut self, name: &str) -> (&'static str, Kind) {
        let Some(knob) = table::find(name) else {
            // A name that is not in the table is a mistake of ours; a test reads all of them.
            self.fail(name, Problem::Unknown { nearest: None });
            return ("", Kind::Text);
        };
        self.seen.extend(knob.names.first());
        (effective(self.config, knob), knob.kind)
    }

    /// The name under which a knob of the table is set.
    pub(super) fn name_of(&mut self, name: &str) -> &'static str {
        self.look_up(name).0
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let (name, _) = self.look_up(name);
        self.value(name)
    }

    pub(super) fn list(&mut self, name: &str) -> (&'static str, Vec<String>) {
        let (name, _) = self.look_up(name);
        let outcome = self.config.list(name);
        (name, self.keep(outcome).unwrap_or_default())
    }

    /// A whole number within the table's bounds; `None` if it is not set (or wrong, which is remembered).
    pub(super) fn integer(&mut self, name: &str) -> Option<i64> {
        let (name, kind) = self.look_up(name);
        let range = match kind {
            Kind::Integer(low, high) => low..=high,
            _ => i64::MIN..=i64::MAX,
        };
        let outcome = self.config.optional_int(name, range);
        self.keep(outcome).flatten()
    }

    /// As [`Self::integer`], in the type of the value; the bounds of the table are within it.
    pub(super) fn number<T: TryFrom<i64>>(&mut self, name: &str) -> Option<T> {
        self.integer(name).and_then(|value| T::try_from(value).ok())
    }

    pub(super) fn seconds(&mut self, name: &str) -> Duration {
        Duration::from_secs(self.number(name).unwrap_or(0))
    }

    /// Seconds of which 0 means "not at all".
    pub(super) fn optional_seconds(&mut self, name: &str) -> Option<Duration> {
        Some(self.seconds(name)).filter(|time| !time.is_zero())
    }

    pub(super) fn path(&mut self, name: &str) -> Option<PathBuf> {
        let (name, _) = self.look_up(name);
        let text = self.value(name)?;
        if text.starts_with('/') {
            return Some(PathBuf::from(text));
        }
        self.fail(name, Problem::NotAbsolute { text });
        None
    }

    /// The word that is set, as the table spells it.
    pub(super) fn choice(&mut self, name: &str) -> Option<&'static str> {
        let (name, kind) = self.look_up(name);
        let text = self.value(name)?;
        let allowed: &[&str] = match kind {
            Kind::Choice(words) => words,
            _ => &[],
        };
        let word = allowed
            .iter()
            .find(|word| word.eq_ignore_ascii_case(text.trim().trim_matches('"')))
            .copied();
        if word.is_none() {
            self.fail(name, Problem::Choice { text, allowed });
        }
        word
    }

    /// A value as its kind wants it; `None` if it is not set, or wrong, which is remembered.
    pub(super) fn of_kind(&mut self, name: &'static str, kind: Kind) -> Option<Value> {
        let set = self.look_up(name).0;
        self.value(set).filter(|text| !text.trim().is_empty())?;
        match kind {
            Kind::Text | Kind::Environment => self.value(set).map(Value::Text),
            Kind::Expression => {
                self.expression_of(set)?;
                self.value(set).map(Value::Text)
            }
            Kind::Wish | Kind::Choice(_) => {
                self.choice(name).map(|word| Value::Text(word.to_owned()))
            }
            Kind::List => Some(Value::List(self.list(name).1)),
            Kind::Path => self.path(name).map(Value::Path),
            Kind::Integer(..) => self.integer(name).map(Value::Integer),
            Kind::Flag => {
                let outcome = self.config.optional_bool(set);
                self.keep(outcome).flatten().map(Value::Flag)
            }
        }
    }

    /// Whether a knob is true; false if it is not set.
    pub(super) fn flag(&mut self, name: &'static str) -> bool {
        let (_, kind) = self.look_up(name);
        matches!(self.of_kind(name, kind), Some(Value::Flag(true)))
    }

    pub(super) fn expression(&mut self, name: &str) -> Expr {
        let (name, _) = self.look_up(name);
        self.expression_of(name)
            .unwrap_or_else(|| Expr::from(false))
    }

    /// The value of any knob as an expression.
    pub(super) fn expression_of(&mut self, name: &str) -> Option<Expr> {
        let text = self.value(name)?;
        match Expr::parse_old(&text) {
            Ok(expr) => Some(expr),
            Err(cause) => {
                self.fail(name, Problem::Expression { text, cause });
                None
            }
        }
    }

    /// The expanded value of any knob.
    pub(super) fn value(&mut self, name: &str) -> Option<String> {
        let outcome = self.config.get(name);
        self.keep(outcome).flatten()
    }

    pub(super) fn fail(&mut self, name: &str, problem: Problem) {
        self.errors
            .push(KnobError::new(name, self.config.origin(name), problem));
    }

    fn keep<T>(&mut self, outcome: Result<T, condorconf::Error>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                self.errors.push(error.into());
                None
            }
        }
    }
}

/// The name of a knob that counts: the first that is set to something, else the last.
pub(super) fn effective(config: &Config, knob: &Knob) -> &'static str {
    let is_set = |name: &&&str| config.raw(name).is_some_and(|raw| !raw.is_empty());
    knob.names
        .iter()
        .find(is_set)
        .or_else(|| knob.names.last())
        .copied()
        .unwrap_or("")
}

/// Whether something else than a default or a detected fact sets the knob.
pub(super) fn is_configured(origin: Option<&Origin>) -> bool {
    !matches!(origin, None | Some(Origin::Default | Origin::Detected))
}
