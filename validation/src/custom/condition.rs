//! When a file counts: a ClassAd expression over the dashboard.

use classad::{ClassAd, EvalContext, Expr, ParseError, Value};

use super::dashboard::{Dashboard, is_true};

/// A condition. A bare name is one, too: true if its value is.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    text: String,
    expression: Expr,
}

impl Condition {
    /// Reads one.
    ///
    /// # Errors
    /// It is no expression.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Self {
            text: text.to_owned(),
            expression: Expr::parse_old(text)?,
        })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it holds. What is undefined or an error does not.
    #[must_use]
    pub fn holds(&self, board: &Dashboard, now: i64) -> bool {
        let ad = ad_of(board);
        match EvalContext::new().my(&ad).now(now).eval(&self.expression) {
            Value::Boolean(yes) => yes,
            Value::Integer(number) => number != 0,
            Value::Real(number) => number != 0.0,
            Value::String(text) => is_true(text.as_bytes()),
            _ => false,
        }
    }
}

/// The dashboard as an ad: numbers and the words for true and false as such, all else as text.
#[must_use]
pub fn ad_of(board: &Dashboard) -> ClassAd {
    let mut ad = ClassAd::new();
    for (key, value) in board.entries() {
        let name = key.to_string();
        let is_name = !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name {
            continue;
        }
        let text = String::from_utf8_lossy(value);
        let value = match text.trim() {
            word if word.eq_ignore_ascii_case("true") => Value::Boolean(true),
            word if word.eq_ignore_ascii_case("false") => Value::Boolean(false),
            word => match (word.parse::<i64>(), word.parse::<f64>()) {
                (Ok(number), _) => Value::Integer(number),
                (_, Ok(number)) if number.is_finite() => Value::Real(number),
                _ => Value::String(text.into_owned()),
            },
        };
        ad.insert(name.as_str(), Expr::literal(value));
    }
    ad
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_look_into_the_dashboard() {
        let board = Dashboard::parse(b"USE_CVMFS 1\nOFF 0\nMODE fast\nYes true\nBad-Name 1\n");
        let holds = |text: &str| Condition::parse(text).unwrap().holds(&board, 0);
        for yes in [
            "TRUE",
            "USE_CVMFS",
            "USE_CVMFS == 1 && MODE == \"FAST\"",
            "Yes",
            "NOWHERE =?= UNDEFINED",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in ["FALSE", "OFF", "NOWHERE", "MODE", "1/0", "MODE == 1"] {
            assert!(!holds(no), "{no}");
        }
        assert!(Condition::parse("(").is_err());
    }
}
