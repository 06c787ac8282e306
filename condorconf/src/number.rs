//! Numbers as C reads them, and as expressions.

use crate::expand::{Evaluated, Evaluator};
use crate::line::is_space;
use crate::printf::Format;

/// The integer a text begins with, as `strtol` reads it (clamped to the range of `i64`).
pub(crate) fn leading_integer(text: &str) -> Option<i64> {
    split_integer(text).map(|(number, _)| number)
}

/// A whole text as an integer: a literal, else an expression. Reals are cut, booleans count as 0 and 1
/// (`htcondor:src/condor_utils/condor_config.cpp`, `string_is_long_param`).
pub(crate) fn integer(text: &str, evaluator: Option<&dyn Evaluator>) -> Option<i64> {
    if let Some((number, rest)) = split_integer(text)
        && rest.chars().all(is_space)
    {
        return Some(number);
    }
    match evaluator?.evaluate(text)? {
        Evaluated::Integer(number) => Some(number),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a cast clamps; that is what is wanted of 1e300"
        )]
        Evaluated::Real(number) => Some(number as i64),
        Evaluated::Boolean(value) => Some(i64::from(value)),
        Evaluated::String(_) | Evaluated::Other(_) => None,
    }
}

/// A whole text as a real: a literal, else an expression.
pub(crate) fn real(text: &str, evaluator: Option<&dyn Evaluator>) -> Option<f64> {
    // Rust also reads "inf", "nan" and "infinity", as strtod does, but no hexadecimal.
    if let Ok(number) = text.trim_matches(is_space).parse::<f64>() {
        return Some(number);
    }
    match evaluator?.evaluate(text)? {
        #[expect(clippy::cast_precision_loss, reason = "the conversion C makes too")]
        Evaluated::Integer(number) => Some(number as f64),
        Evaluated::Real(number) => Some(number),
        Evaluated::Boolean(value) => Some(f64::from(u8::from(value))),
        Evaluated::String(_) | Evaluated::Other(_) => None,
    }
}

/// A whole text as a boolean: `true`, `false`, `1`, `0` in any case, else an expression; numbers count as "not zero"
/// (`string_is_boolean_param` in the same file).
pub(crate) fn boolean(text: &str, evaluator: Option<&dyn Evaluator>) -> Option<bool> {
    let word = text.trim_end_matches(is_space);
    if word.eq_ignore_ascii_case("true") || word == "1" {
        return Some(true);
    }
    if word.eq_ignore_ascii_case("false") || word == "0" {
        return Some(false);
    }
    match evaluator?.evaluate(text)? {
        Evaluated::Boolean(value) => Some(value),
        Evaluated::Integer(number) => Some(number != 0),
        Evaluated::Real(number) => Some(number != 0.0),
        Evaluated::String(_) | Evaluated::Other(_) => None,
    }
}

/// A real as the ClassAd library writes it: `1.500000000000000E+00` (`htcondor:src/classad/sink.cpp`).
pub(crate) fn classad_real(number: f64) -> String {
    if number == 0.0 {
        return if number.is_sign_negative() {
            "-0.0"
        } else {
            "0.0"
        }
        .to_owned();
    }
    if number.is_nan() {
        return "real(\"NaN\")".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 {
            "real(\"INF\")"
        } else {
            "real(\"-INF\")"
        }
        .to_owned();
    }
    Format::scientific_real().real(number)
}

fn split_integer(text: &str) -> Option<(i64, &str)> {
    let start = text.trim_start_matches(is_space);
    let (negative, digits) = match start.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, start.strip_prefix('+').unwrap_or(start)),
    };
    let end = digits.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = digits.split_at_checked(end)?;
    if number.is_empty() {
        return None;
    }
    let mut value: i64 = 0;
    for digit in number.bytes().map(|byte| i64::from(byte - b'0')) {
        value = value.saturating_mul(10);
        value = if negative {
            value.saturating_sub(digit)
        } else {
            value.saturating_add(digit)
        };
    }
    Some((value, rest))
}
