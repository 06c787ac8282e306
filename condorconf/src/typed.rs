//! Values of a type.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::expand::shorten;
use crate::line::is_space;
use crate::number;

impl Config {
    /// An integer, or `None` if the knob is not set.
    ///
    /// # Errors
    /// The value cannot be expanded, is no integer, or is outside the range.
    pub fn optional_int(
        &self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, Error> {
        let Some(text) = self.get(name)? else {
            return Ok(None);
        };
        let Some(value) = number::integer(&text, self.evaluator()) else {
            return Err(self.wrong_type(name, "an integer", &text));
        };
        if range.contains(&value) {
            return Ok(Some(value));
        }
        let kind = ErrorKind::OutOfRange {
            expected: in_words(&range),
            text: value.to_string(),
            side: if value < *range.start() {
                "too small"
            } else {
                "too large"
            },
        };
        Err(self.at(name, kind))
    }

    /// An integer.
    ///
    /// # Errors
    /// As [`Self::optional_int`].
    pub fn int(&self, name: &str, default: i64, range: RangeInclusive<i64>) -> Result<i64, Error> {
        Ok(self.optional_int(name, range)?.unwrap_or(default))
    }

    /// A real, or `None` if the knob is not set.
    ///
    /// # Errors
    /// The value cannot be expanded or is no number.
    pub fn optional_real(&self, name: &str) -> Result<Option<f64>, Error> {
        let Some(text) = self.get(name)? else {
            return Ok(None);
        };
        match number::real(&text, self.evaluator()) {
            Some(value) => Ok(Some(value)),
            None => Err(self.wrong_type(name, "a number", &text)),
        }
    }

    /// A boolean, or `None` if the knob is not set.
    ///
    /// # Errors
    /// The value cannot be expanded or is no boolean.
    pub fn optional_bool(&self, name: &str) -> Result<Option<bool>, Error> {
        let Some(text) = self.get(name)? else {
            return Ok(None);
        };
        match number::boolean(&text, self.evaluator()) {
            Some(value) => Ok(Some(value)),
            None => Err(self.wrong_type(name, "a boolean (true or false)", &text)),
        }
    }

    /// A boolean.
    ///
    /// # Errors
    /// As [`Self::optional_bool`].
    pub fn bool(&self, name: &str, default: bool) -> Result<bool, Error> {
        Ok(self.optional_bool(name)?.unwrap_or(default))
    }

    /// A string; the default if the knob is not set.
    ///
    /// # Errors
    /// The value cannot be expanded.
    pub fn string(&self, name: &str, default: &str) -> Result<String, Error> {
        Ok(self.get(name)?.unwrap_or_else(|| default.to_owned()))
    }

    /// A number of seconds.
    ///
    /// # Errors
    /// As [`Self::optional_int`].
    pub fn duration_seconds(
        &self,
        name: &str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<Duration, Error> {
        let signed = |bound: u64| i64::try_from(bound).unwrap_or(i64::MAX);
        let value = self.optional_int(name, signed(*range.start())..=signed(*range.end()))?;
        Ok(Duration::from_secs(
            value.map_or(default, i64::unsigned_abs),
        ))
    }

    /// The items of a list, separated by commas or blanks; empty if the knob is not set.
    ///
    /// # Errors
    /// The value cannot be expanded.
    pub fn list(&self, name: &str) -> Result<Vec<String>, Error> {
        Ok(self
            .get(name)?
            .as_deref()
            .map(split_list)
            .unwrap_or_default())
    }

    /// A value that the knob must have, and has not.
    ///
    /// # Errors
    /// The value cannot be expanded, or there is none.
    pub fn required(&self, name: &str) -> Result<String, Error> {
        self.get(name)?
            .ok_or_else(|| self.at(name, ErrorKind::Missing))
    }

    /// An error about the value of a knob, with the knob's origin.
    #[must_use]
    pub fn wrong_type(&self, name: &str, expected: &str, text: &str) -> Error {
        self.at(
            name,
            ErrorKind::WrongType {
                expected: expected.to_owned(),
                text: shorten(text),
            },
        )
    }

    /// An error about a knob, with the knob's origin.
    #[must_use]
    pub fn at(&self, name: &str, kind: ErrorKind) -> Error {
        Error::new(kind)
            .with_knob(name)
            .with_origin(self.origin(name).cloned())
    }
}

/// The items of a list, separated by commas or blanks.
pub(crate) fn split_list(text: &str) -> Vec<String> {
    text.split(|c| c == ',' || is_space(c))
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn in_words(range: &RangeInclusive<i64>) -> String {
    match (*range.start(), *range.end()) {
        (i64::MIN, i64::MAX) => "an integer".to_owned(),
        (start, i64::MAX) => format!("an integer of at least {start}"),
        (i64::MIN, end) => format!("an integer of at most {end}"),
        (start, end) => format!("an integer from {start} to {end}"),
    }
}
