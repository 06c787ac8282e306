//! A ClassAd as the tools print it with `-json`.

use anyhow::{Context, Result};
use serde_json::{Map, Value};

/// One ad. Names are looked up without regard to case, as HTCondor does.
#[derive(Debug, Clone)]
pub struct Ad(Map<String, Value>);

impl Ad {
    /// Reads what a tool printed: nothing at all, or a list of ads.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn list(text: &str) -> Result<Vec<Self>> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let ads: Vec<Map<String, Value>> =
            serde_json::from_str(text).context("read the tool's JSON")?;
        Ok(ads.into_iter().map(Self).collect())
    }

    /// The value, `None` when the ad has no such attribute.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).or_else(|| {
            self.0
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        })
    }

    /// An integer (or the whole part of a real).
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        let value = self.get(name)?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "ads hold counts and times, all far below 2^53"
        )]
        value
            .as_i64()
            .or_else(|| value.as_f64().map(|real| real as i64))
    }

    /// A number.
    #[must_use]
    pub fn real(&self, name: &str) -> Option<f64> {
        self.get(name)?.as_f64()
    }

    /// A truth value.
    #[must_use]
    pub fn bool(&self, name: &str) -> Option<bool> {
        self.get(name)?.as_bool()
    }

    /// A text; empty when there is none, which no test takes for a right value.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}
