//! Functions on strings. Case is ASCII case; lengths and positions count bytes.

use std::cmp::Ordering;

use super::arguments::{between, exactly};
use super::convert::{Converted, to_text};
use crate::eval::{Evaluated, List, Machine, Scope, Val};
use crate::expr::Call;

/// `strcat(...)`: the arguments as strings, one after the other; undefined if one is.
pub(crate) fn strcat(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let mut joined = String::new();
    for arg in &call.args {
        let val = m.eval(arg, scope)?;
        match to_text(&val) {
            Converted::Is(text) => {
                m.charge(text.len())?;
                joined.push_str(&text);
            }
            Converted::Not(val) => return Ok(val),
        }
    }
    Ok(Val::String(joined.into()))
}

/// `join(separator, ...)` or `join([separator,] list)`: undefined elements are left out.
pub(crate) fn join(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let last = match call.args.as_slice() {
        [last] | [_, last] => Some(last),
        _ => None,
    };
    let list = match last.map(|last| m.eval(last, scope)).transpose()? {
        Some(Val::List(list)) => Some(list),
        _ => None,
    };
    match list {
        Some(list) => {
            let separator = match call.args.as_slice() {
                [separator, _] => Some(m.eval(separator, scope)?),
                _ => None,
            };
            join_list(m, separator, &list)
        }
        None => {
            let Some(vals) = between(m, call, scope, 0, usize::MAX)? else {
                return Ok(Val::Error);
            };
            join_values(m, vals.into_iter())
        }
    }
}

fn join_list(m: &mut Machine, separator: Option<Val>, list: &List) -> Evaluated<Val> {
    let mut vals = vec![separator.unwrap_or_else(|| Val::String("".into()))];
    while let Some(item) = m.element(list, vals.len() - 1)? {
        vals.push(item);
    }
    join_values(m, vals.into_iter())
}

/// The first value is the separator.
fn join_values(m: &mut Machine, vals: impl Iterator<Item = Val>) -> Evaluated<Val> {
    let mut joined = String::new();
    let mut separator = String::new();
    let (mut defined, mut undefined) = (false, false);
    for (i, val) in vals.enumerate() {
        match to_text(&val) {
            Converted::Not(Val::Undefined) => undefined = true,
            Converted::Not(other) => return Ok(other),
            Converted::Is(text) if i == 0 => separator = text.into_owned(),
            Converted::Is(text) => {
                m.charge(text.len() + separator.len())?;
                if !joined.is_empty() {
                    joined.push_str(&separator);
                }
                joined.push_str(&text);
                defined = true;
            }
        }
    }
    if undefined && !defined {
        return Ok(Val::Undefined);
    }
    Ok(Val::String(joined.into()))
}

pub(crate) fn to_upper(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    change_case(m, call, scope, str::to_ascii_uppercase)
}

pub(crate) fn to_lower(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    change_case(m, call, scope, str::to_ascii_lowercase)
}

fn change_case(
    m: &mut Machine,
    call: &Call,
    scope: &Scope,
    change: fn(&str) -> String,
) -> Evaluated<Val> {
    let Some([val]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    match to_text(&val) {
        Converted::Is(text) => m.text(change(&text)),
        Converted::Not(val) => Ok(val),
    }
}

/// `substr(string, offset [, length])`: negative numbers count from the end, as in Perl; a cut inside a character
/// gives U+FFFD.
pub(crate) fn substr(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some(vals) = between(m, call, scope, 2, 3)? else {
        return Ok(Val::Error);
    };
    if vals.iter().any(|val| matches!(val, Val::Undefined)) {
        return Ok(Val::Undefined);
    }
    let (text, offset, wanted) = match vals.as_slice() {
        [Val::String(text), Val::Integer(offset)] => (text, *offset, None),
        [
            Val::String(text),
            Val::Integer(offset),
            Val::Integer(wanted),
        ] => (text, *offset, Some(*wanted)),
        _ => return Ok(Val::Error),
    };
    let size = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let start = if offset < 0 {
        size.saturating_add(offset).max(0)
    } else {
        offset.min(size)
    };
    let rest = size - start;
    let length = match wanted {
        None => rest,
        Some(wanted) if wanted < 0 => rest.saturating_add(wanted).max(0),
        Some(wanted) => wanted.min(rest),
    };
    let start = usize::try_from(start).unwrap_or(0);
    let length = usize::try_from(length).unwrap_or(0);
    let bytes = text
        .as_bytes()
        .get(start..start + length)
        .unwrap_or_default();
    m.text(String::from_utf8_lossy(bytes))
}

/// `strcmp(a, b)`: -1, 0 or 1.
pub(crate) fn strcmp(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    order(m, call, scope, |a, b| a.as_bytes().cmp(b.as_bytes()))
}

/// `stricmp(a, b)`: like `strcmp`, without regard to case.
pub(crate) fn stricmp(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    order(m, call, scope, crate::eval::ignoring_case)
}

fn order(
    m: &mut Machine,
    call: &Call,
    scope: &Scope,
    compare: fn(&str, &str) -> Ordering,
) -> Evaluated<Val> {
    let Some([a, b]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    if matches!(a, Val::Undefined) || matches!(b, Val::Undefined) {
        return Ok(Val::Undefined);
    }
    Ok(match (to_text(&a), to_text(&b)) {
        (Converted::Is(a), Converted::Is(b)) => Val::Integer(match compare(&a, &b) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }),
        _ => Val::Error,
    })
}

/// `splitUserName("user@domain")`: without `@` the domain is empty.
pub(crate) fn split_user_name(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    split_at_sign(m, call, scope, |text| (text, ""))
}

/// `splitSlotName("slot@machine")`: without `@` the slot is empty.
pub(crate) fn split_slot_name(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    split_at_sign(m, call, scope, |text| ("", text))
}

fn split_at_sign(
    m: &mut Machine,
    call: &Call,
    scope: &Scope,
    without: for<'a> fn(&'a str) -> (&'a str, &'a str),
) -> Evaluated<Val> {
    let Some([Val::String(text)]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    let (first, second) = text.split_once('@').unwrap_or_else(|| without(&text));
    let parts = vec![m.text(first)?, m.text(second)?];
    m.made(parts)
}

/// `split(string [, separators])`: a list of strings. Blanks are swallowed, but the same other separator twice in a
/// row stands for an empty string between.
pub(crate) fn split(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let vals = between(m, call, scope, 1, 2)?;
    let (text, separators) = match vals.as_deref() {
        Some([Val::String(text)]) => (&**text, ", \t"),
        Some([Val::String(text), Val::String(separators)]) => (&**text, &**separators),
        _ => return Ok(Val::Error),
    };
    let is_blank = |c: char| c.is_ascii_whitespace() || c == '\u{b}';
    let mut parts = Vec::new();
    let mut last_mark = None;
    let mut rest = text;
    while let Some((at, mark)) = rest.char_indices().find(|(_, c)| separators.contains(*c)) {
        let (part, after) = rest.split_at(at);
        if !part.is_empty() || last_mark == Some(mark) {
            parts.push(m.text(part)?);
        }
        if !is_blank(mark) {
            last_mark = Some(mark);
        }
        rest = after.get(mark.len_utf8()..).unwrap_or("");
    }
    if !rest.is_empty() {
        parts.push(m.text(rest)?);
    }
    m.made(parts)
}
