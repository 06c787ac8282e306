//! Conversions between types.

use std::borrow::Cow;

use super::arguments::{between, exactly};
use crate::eval::{Evaluated, Machine, Scope, Val};
use crate::expr::Call;
use crate::times;
use crate::value::{AbsoluteTime, int_to_real, real_to_int};

/// The outcome of a conversion: the converted value, or undefined or error instead.
pub(crate) enum Converted<T> {
    Is(T),
    Not(Val),
}

/// As a string: strings as they are, times without their call, everything else in new syntax.
pub(crate) fn to_text(val: &Val) -> Converted<Cow<'_, str>> {
    Converted::Is(match val {
        Val::Undefined => return Converted::Not(Val::Undefined),
        Val::Error => return Converted::Not(Val::Error),
        Val::String(text) => Cow::Borrowed(text),
        Val::AbsoluteTime(time) => Cow::Owned(times::format_absolute(*time)),
        Val::RelativeTime(time) => Cow::Owned(times::format_relative(time.trunc())),
        other => Cow::Owned(other.unparse()),
    })
}

/// As a real; a string by the number it begins with.
pub(crate) fn to_real(val: &Val) -> Converted<f64> {
    match val {
        Val::Undefined => Converted::Not(Val::Undefined),
        Val::String(text) => leading_number(text).map_or(Converted::Not(Val::Error), Converted::Is),
        Val::AbsoluteTime(time) => Converted::Is(int_to_real(time.seconds)),
        Val::RelativeTime(time) => Converted::Is(time.trunc()),
        other => other
            .number()
            .map_or(Converted::Not(Val::Error), Converted::Is),
    }
}

/// As an integer, fractions cut off.
pub(crate) fn to_int(val: &Val) -> Converted<i64> {
    match val {
        Val::Integer(i) => Converted::Is(*i),
        Val::AbsoluteTime(time) => Converted::Is(time.seconds),
        other => match to_real(other) {
            Converted::Is(r) => Converted::Is(real_to_int(r)),
            Converted::Not(val) => Converted::Not(val),
        },
    }
}

pub(crate) fn int(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some([val]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    Ok(match to_int(&val) {
        Converted::Is(i) => Val::Integer(i),
        Converted::Not(val) => val,
    })
}

pub(crate) fn real(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some([val]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    Ok(match to_real(&val) {
        Converted::Is(r) => Val::Real(r),
        Converted::Not(val) => val,
    })
}

pub(crate) fn string(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some([val]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    match to_text(&val) {
        Converted::Is(text) => m.text(text),
        Converted::Not(val) => Ok(val),
    }
}

/// `bool(x)`: a string other than "true" and "false" is undefined.
pub(crate) fn bool(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some([val]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    Ok(match val {
        Val::Undefined => Val::Undefined,
        Val::String(text) if text.eq_ignore_ascii_case("true") => Val::Boolean(true),
        Val::String(text) if text.eq_ignore_ascii_case("false") => Val::Boolean(false),
        Val::String(_) => Val::Undefined,
        Val::RelativeTime(time) => Val::Boolean(time.trunc() != 0.0),
        other => other.truth().map_or(Val::Error, Val::Boolean),
    })
}

/// `absTime([x [, offset]])`: a point in time; without arguments now.
pub(crate) fn abs_time(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    if call.args.is_empty() {
        return super::time::current_time(m, call, scope);
    }
    let Some(vals) = between(m, call, scope, 1, 2)? else {
        return Ok(Val::Error);
    };
    let offset = match vals.get(1) {
        None => i64::from(m.utc_offset),
        Some(Val::Integer(i)) => *i,
        Some(Val::Real(r) | Val::RelativeTime(r)) => real_to_int(*r),
        Some(_) => return Ok(Val::Error),
    };
    let seconds = match vals.first() {
        Some(Val::Undefined) => return Ok(Val::Undefined),
        Some(Val::Integer(i)) => *i,
        Some(Val::Real(r) | Val::RelativeTime(r)) => real_to_int(*r),
        // only a literal string is read as a time, by the parser; any other stays what it is
        Some(same @ (Val::AbsoluteTime(_) | Val::String(_))) => return Ok(same.clone()),
        _ => return Ok(Val::Error),
    };
    Ok(i32::try_from(offset).map_or(Val::Error, |offset| {
        Val::AbsoluteTime(AbsoluteTime { seconds, offset })
    }))
}

/// `relTime(x)`: a span of time.
pub(crate) fn rel_time(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some([val]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    Ok(match val {
        Val::Undefined => Val::Undefined,
        Val::Integer(i) => Val::RelativeTime(int_to_real(i)),
        Val::Real(r) | Val::RelativeTime(r) => Val::RelativeTime(r),
        Val::AbsoluteTime(time) => Val::RelativeTime(int_to_real(time.seconds)),
        // only a literal string is read as a time, by the parser; any other counts as 0
        Val::String(_) => Val::RelativeTime(0.0),
        _ => Val::Error,
    })
}

/// The number a text begins with, as C's `strtod` reads it: decimal, hexadecimal, `inf` or `nan`.
pub(crate) fn leading_number(text: &str) -> Option<f64> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    let (sign, body) = match text.as_bytes().first() {
        Some(b'-') => (-1.0, text.get(1..)?),
        Some(b'+') => (1.0, text.get(1..)?),
        _ => (1.0, text),
    };
    let starts = |word: &str| {
        body.get(..word.len())
            .is_some_and(|s| s.eq_ignore_ascii_case(word))
    };
    if starts("inf") {
        return Some(sign * f64::INFINITY);
    }
    if starts("nan") {
        return Some(f64::NAN);
    }
    if starts("0x")
        && let Some(number) = leading_hexadecimal(body.get(2..)?)
    {
        return Some(sign * number);
    }
    let bytes = body.as_bytes();
    let digits = |from: usize| {
        bytes
            .iter()
            .skip(from)
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let whole = digits(0);
    let mut end = whole;
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        if whole + fraction > 0 {
            end += 1 + fraction;
        }
    }
    if end == 0 {
        return None;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let signed = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + signed);
        if exponent > 0 {
            end += 1 + signed + exponent;
        }
    }
    body.get(..end)?
        .parse::<f64>()
        .ok()
        .map(|number| sign * number)
}

/// Hexadecimal digits with an optional fraction and an optional binary exponent `p±n`.
fn leading_hexadecimal(text: &str) -> Option<f64> {
    let mut number = 0.0_f64;
    let mut scale = 0_i32;
    let mut seen = false;
    let mut fraction = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(digit) = c.to_digit(16) {
            number = number * 16.0 + f64::from(digit);
            scale = scale.saturating_sub(if fraction { 4 } else { 0 });
            seen = true;
        } else if c == '.' && !fraction {
            fraction = true;
        } else {
            break;
        }
        rest = rest.get(1..)?;
    }
    if !seen {
        return None;
    }
    if let Some(exponent) = rest.strip_prefix(['p', 'P']) {
        let sign = usize::from(exponent.starts_with(['+', '-']));
        let digits = exponent
            .bytes()
            .skip(sign)
            .take_while(u8::is_ascii_digit)
            .count();
        if let Some(Ok(exponent)) =
            (digits > 0).then(|| exponent.get(..sign + digits).unwrap_or("").parse::<i32>())
        {
            scale = scale.saturating_add(exponent);
        }
    }
    Some(number * 2.0_f64.powi(scale))
}
