//! Reading knobs, with all mistakes and warnings collected.

use condorconf::{Config, Origin};

use super::error::{Problem, SecurityError, SecurityErrors};

/// Knobs read, mistakes found.
#[derive(Debug)]
pub(super) struct Knobs<'a> {
    config: &'a Config,
    errors: Vec<SecurityError>,
    warnings: Vec<String>,
}

/// The value of a knob, its name and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) knob: String,
    pub(super) value: String,
    pub(super) origin: Option<Origin>,
}

impl Found {
    /// The knob as it should appear in a sentence: its name and, if it is in a file, where.
    pub(super) fn label(&self) -> String {
        match self.origin.as_ref().and_then(Origin::place) {
            Some(place) => format!("{} ({place})", self.knob),
            None => self.knob.clone(),
        }
    }

    /// The items of a list, separated by commas or blanks.
    pub(super) fn items(&self) -> impl Iterator<Item = &str> {
        self.value
            .split(|c: char| c == ',' || c.is_ascii_whitespace())
            .filter(|item| !item.is_empty())
    }
}

impl<'a> Knobs<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        Self {
            config,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn config(&self) -> &'a Config {
        self.config
    }

    /// The value of the first of these knobs that is set to something.
    pub(super) fn first<S: AsRef<str>>(&mut self, names: &[S]) -> Option<Found> {
        names.iter().find_map(|name| self.get(name.as_ref()))
    }

    /// The value of a knob; `None` if it is not set, empty, or cannot be expanded (which is remembered).
    pub(super) fn get(&mut self, name: &str) -> Option<Found> {
        match self.config.get(name) {
            Ok(value) => Some(Found {
                knob: name.to_owned(),
                value: value?,
                origin: self.config.origin(name).cloned(),
            }),
            Err(error) => {
                self.config_error(&error);
                None
            }
        }
    }

    /// The value of a knob, or a default.
    pub(super) fn text(&mut self, name: &str, default: &str) -> String {
        self.get(name)
            .map_or_else(|| default.to_owned(), |found| found.value)
    }

    /// An absolute path.
    pub(super) fn path(&mut self, name: &str) -> Option<std::path::PathBuf> {
        let found = self.get(name)?;
        if found.value.starts_with('/') {
            return Some(found.value.into());
        }
        let text = found.value.clone();
        self.fail(&found, Problem::NotAbsolute { text });
        None
    }

    /// A boolean.
    pub(super) fn boolean(&mut self, name: &str, default: bool) -> bool {
        match self.config.bool(name, default) {
            Ok(value) => value,
            Err(error) => {
                self.config_error(&error);
                default
            }
        }
    }

    /// A whole number in a range; `None` if it is not set.
    pub(super) fn integer(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        match self.config.optional_int(name, range) {
            Ok(value) => value,
            Err(error) => {
                self.config_error(&error);
                None
            }
        }
    }

    /// Remembers a mistake in a knob that is set.
    pub(super) fn fail(&mut self, found: &Found, problem: Problem) {
        self.errors.push(SecurityError {
            knob: found.knob.clone(),
            origin: found.origin.clone(),
            problem,
        });
    }

    /// Remembers that a knob is not as it must be, set or not.
    pub(super) fn fail_named(&mut self, name: &str, problem: Problem) {
        self.errors.push(SecurityError {
            knob: name.to_owned(),
            origin: self.config.origin(name).cloned(),
            problem,
        });
    }

    /// Remembers something legal but odd about a knob.
    pub(super) fn warn(&mut self, found: &Found, text: &str) {
        let place = match &found.origin {
            None | Some(Origin::Default) => String::new(),
            Some(origin) => format!("{origin}: "),
        };
        self.warnings.push(format!("{place}{}: {text}", found.knob));
    }

    /// The warnings, if there was no mistake.
    ///
    /// # Errors
    /// Every mistake.
    pub(super) fn finish(self) -> Result<Vec<String>, SecurityErrors> {
        if self.errors.is_empty() {
            Ok(self.warnings)
        } else {
            Err(SecurityErrors(self.errors))
        }
    }

    fn config_error(&mut self, error: &condorconf::Error) {
        self.errors.push(SecurityError {
            knob: error.knob().unwrap_or("").to_owned(),
            origin: error.origin().cloned(),
            problem: Problem::Config(error.kind().clone()),
        });
    }
}
