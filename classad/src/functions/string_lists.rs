//! Functions on strings that are lists: "a, b, c".

use std::collections::HashSet;

use super::arguments::between;
use super::convert::leading_number;
use crate::eval::{Evaluated, Machine, Scope, Val};
use crate::expr::Call;
use crate::value::{int_to_real, real_to_int};

/// The non-empty items of a list, blanks around them cut.
pub(crate) fn items<'a>(list: &'a str, delimiters: &'a str) -> impl Iterator<Item = &'a str> {
    let blank = |c: char| c.is_ascii_whitespace() || c == '\u{b}';
    list.split(move |c| delimiters.contains(c))
        .map(move |item| item.trim_matches(blank))
        .filter(|item| !item.is_empty())
}

/// `stringListSize(list [, delimiters])`.
pub(crate) fn size(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let vals = between(m, call, scope, 1, 2)?;
    Ok(match vals.as_deref() {
        Some([Val::String(list)]) => count(list, ", "),
        Some([Val::String(list), Val::String(delimiters)]) => count(list, delimiters),
        _ => Val::Error,
    })
}

fn count(list: &str, delimiters: &str) -> Val {
    Val::Integer(i64::try_from(items(list, delimiters).count()).unwrap_or(i64::MAX))
}

pub(crate) fn sum(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    summary(m, call, scope, Val::Real(0.0), |numbers| {
        numbers.iter().sum()
    })
}

pub(crate) fn avg(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    summary(m, call, scope, Val::Real(0.0), |numbers| {
        let count = i64::try_from(numbers.len()).unwrap_or(i64::MAX);
        numbers.iter().sum::<f64>() / int_to_real(count)
    })
}

/// The real function starts from the largest single-precision number.
pub(crate) fn min(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    summary(m, call, scope, Val::Undefined, |numbers| {
        numbers.iter().copied().fold(f64::from(f32::MAX), f64::min)
    })
}

/// The real function starts from the smallest positive single-precision number, so it is wrong for lists of negative
/// numbers; we follow.
pub(crate) fn max(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    summary(m, call, scope, Val::Undefined, |numbers| {
        numbers
            .iter()
            .copied()
            .fold(f64::from(f32::MIN_POSITIVE), f64::max)
    })
}

/// An integer if every item looks like one.
fn summary(
    m: &mut Machine,
    call: &Call,
    scope: &Scope,
    empty: Val,
    summarize: fn(&[f64]) -> f64,
) -> Evaluated<Val> {
    let vals = between(m, call, scope, 1, 2)?;
    let (list, delimiters) = match vals.as_deref() {
        Some([Val::String(list)]) => (&**list, ", "),
        Some([Val::String(list), Val::String(delimiters)]) => (&**list, &**delimiters),
        _ => return Ok(Val::Error),
    };
    let mut integers = true;
    let mut numbers = Vec::new();
    for item in items(list, delimiters) {
        let Some(number) = leading_number(item) else {
            return Ok(Val::Error);
        };
        integers &= item.bytes().all(|b| matches!(b, b'+' | b'-' | b'0'..=b'9'));
        numbers.push(number);
    }
    if numbers.is_empty() {
        return Ok(empty);
    }
    let result = summarize(&numbers);
    Ok(if integers {
        Val::Integer(real_to_int(result))
    } else {
        Val::Real(result)
    })
}

/// `stringListMember(item, list [, delimiters])`.
pub(crate) fn member(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    with_two_lists(m, call, scope, |item, list, delimiters| {
        items(list, delimiters).any(|i| i == item)
    })
}

pub(crate) fn member_ignoring_case(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    with_two_lists(m, call, scope, |item, list, delimiters| {
        items(list, delimiters).any(|i| i.eq_ignore_ascii_case(item))
    })
}

/// `stringListSubsetMatch(list, list [, delimiters])`: every item of the first is in the second.
pub(crate) fn subset(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    with_two_lists(m, call, scope, |part, whole, delimiters| {
        is_subset(part, whole, delimiters, |item| item.to_owned())
    })
}

pub(crate) fn subset_ignoring_case(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    with_two_lists(m, call, scope, |part, whole, delimiters| {
        is_subset(part, whole, delimiters, str::to_ascii_lowercase)
    })
}

/// The empty string is a subset, a list without items is not.
fn is_subset(part: &str, whole: &str, delimiters: &str, fold: fn(&str) -> String) -> bool {
    let whole: HashSet<String> = items(whole, delimiters).map(fold).collect();
    let mut part_items = items(part, delimiters).peekable();
    part.is_empty()
        || (part_items.peek().is_some() && part_items.all(|item| whole.contains(&fold(item))))
}

/// Undefined counts as the empty string, unless both lists are undefined.
fn with_two_lists(
    m: &mut Machine,
    call: &Call,
    scope: &Scope,
    test: impl Fn(&str, &str, &str) -> bool,
) -> Evaluated<Val> {
    let Some(vals) = between(m, call, scope, 2, 3)? else {
        return Ok(Val::Error);
    };
    let text = |at: usize, default: &'static str| match vals.get(at) {
        None => Some(default),
        Some(Val::Undefined) => Some(default),
        Some(Val::String(text)) => Some(&**text),
        Some(_) => None,
    };
    let (Some(first), Some(second), Some(delimiters)) =
        (text(0, ""), text(1, ""), text(2, ", \t\r\n"))
    else {
        return Ok(Val::Error);
    };
    if let [Val::Undefined, Val::Undefined, ..] = vals.as_slice() {
        return Ok(Val::Undefined);
    }
    Ok(Val::Boolean(test(first, second, delimiters)))
}

/// `stringListsIntersect(list, list [, delimiters])`: some item is in both. Blanks are delimiters like any other here.
pub(crate) fn intersect(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some(vals) = between(m, call, scope, 2, 3)? else {
        return Ok(Val::Error);
    };
    if vals.iter().any(|val| matches!(val, Val::Error)) {
        return Ok(Val::Error);
    }
    if vals.iter().any(|val| matches!(val, Val::Undefined)) {
        return Ok(Val::Undefined);
    }
    let (first, second, delimiters) = match vals.as_slice() {
        [Val::String(first), Val::String(second)] => (first, second, " ,"),
        [
            Val::String(first),
            Val::String(second),
            Val::String(delimiters),
        ] if delimiters.is_empty() => (first, second, " ,"),
        [
            Val::String(first),
            Val::String(second),
            Val::String(delimiters),
        ] => (first, second, &**delimiters),
        _ => return Ok(Val::Error),
    };
    let cut = |list| str::split(list, |c| delimiters.contains(c)).filter(|item| !item.is_empty());
    let second: HashSet<&str> = cut(second).collect();
    let shared = cut(first).any(|item| second.contains(item));
    Ok(Val::Boolean(shared))
}
