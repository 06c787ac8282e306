//! Functions on lists.

use super::arguments::exactly;
use crate::eval::{Evaluated, List, Machine, Scope, Val, binary};
use crate::expr::{BinaryOp, Call};
use crate::value::int_to_real;

/// `member(x, list)`: some element `== x`.
pub(crate) fn member(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    membership(m, call, scope, BinaryOp::Equal)
}

/// `identicalMember(x, list)`: some element `=?= x`.
pub(crate) fn identical_member(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    membership(m, call, scope, BinaryOp::Is)
}

fn membership(m: &mut Machine, call: &Call, scope: &Scope, op: BinaryOp) -> Evaluated<Val> {
    let Some([wanted, list]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    let strict = op == BinaryOp::Equal;
    let list = match (&wanted, list) {
        (_, Val::Undefined) => return Ok(Val::Undefined),
        (Val::Undefined, _) if strict => return Ok(Val::Undefined),
        (Val::List(_) | Val::Ad(_), _) => return Ok(Val::Error),
        (Val::Error, _) if strict => return Ok(Val::Error),
        (_, Val::List(list)) => list,
        _ => return Ok(Val::Error),
    };
    let mut at = 0;
    while let Some(item) = m.element(&list, at)? {
        if matches!(binary(op, item, wanted.clone()), Val::Boolean(true)) {
            return Ok(Val::Boolean(true));
        }
        at += 1;
    }
    Ok(Val::Boolean(false))
}

/// `size(x)`: elements of a list, attributes of an ad, bytes of a string.
pub(crate) fn size(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some([val]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    let size = match val {
        Val::Undefined => return Ok(Val::Undefined),
        Val::List(list) => list.len(),
        Val::Ad(frame) => frame.ad.len(),
        Val::String(text) => text.len(),
        _ => return Ok(Val::Error),
    };
    Ok(Val::Integer(i64::try_from(size).unwrap_or(i64::MAX)))
}

/// The numbers of the one list argument, undefined elements left out.
fn numbers(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Result<Vec<Val>, Val>> {
    let list: List = match exactly(m, call, scope)? {
        Some([Val::List(list)]) => list,
        Some([Val::Undefined]) => return Ok(Err(Val::Undefined)),
        _ => return Ok(Err(Val::Error)),
    };
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(item) = m.element(&list, at)? {
        at += 1;
        match item {
            Val::Undefined => {}
            number @ (Val::Boolean(_) | Val::Integer(_) | Val::Real(_)) => found.push(number),
            _ => return Ok(Err(Val::Error)),
        }
    }
    Ok(Ok(found))
}

fn total(numbers: Vec<Val>) -> Val {
    let add = |sum, number| binary(BinaryOp::Add, sum, number);
    numbers.into_iter().reduce(add).unwrap_or(Val::Integer(0))
}

/// `sum(list)`; an empty list sums to 0.
pub(crate) fn sum(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    Ok(numbers(m, call, scope)?.map_or_else(|val| val, total))
}

/// `avg(list)`, a real; 0 for an empty list.
pub(crate) fn avg(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let numbers = match numbers(m, call, scope)? {
        Ok(numbers) => numbers,
        Err(val) => return Ok(val),
    };
    let Ok(count) = i64::try_from(numbers.len()) else {
        return Ok(Val::Error);
    };
    let sum = total(numbers);
    if count == 0 {
        return Ok(sum);
    }
    Ok(binary(BinaryOp::Divide, sum, Val::Real(int_to_real(count))))
}

/// `min(list)`, undefined for an empty list.
pub(crate) fn min(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    bound(m, call, scope, BinaryOp::Less)
}

/// `max(list)`, undefined for an empty list.
pub(crate) fn max(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    bound(m, call, scope, BinaryOp::Greater)
}

fn bound(m: &mut Machine, call: &Call, scope: &Scope, better: BinaryOp) -> Evaluated<Val> {
    let numbers = match numbers(m, call, scope)? {
        Ok(numbers) => numbers,
        Err(val) => return Ok(val),
    };
    let pick = |best: Val, number: Val| {
        let (best, number) = promoted(best, number);
        match binary(better, number.clone(), best.clone()) {
            Val::Boolean(true) => number,
            _ => best,
        }
    };
    Ok(numbers.into_iter().reduce(pick).unwrap_or(Val::Undefined))
}

/// The two numbers in their common type, as the real comparison leaves them behind.
fn promoted(a: Val, b: Val) -> (Val, Val) {
    let integer = |val: &Val| match val {
        Val::Integer(i) => Some(*i),
        Val::Boolean(b) => Some(i64::from(*b)),
        _ => None,
    };
    match (integer(&a), integer(&b), a.number(), b.number()) {
        (Some(a), Some(b), ..) => (Val::Integer(a), Val::Integer(b)),
        (.., Some(a), Some(b)) => (Val::Real(a), Val::Real(b)),
        _ => (a, b),
    }
}

/// `anyCompare(op, list, x)`: `element op x` for some element.
pub(crate) fn any_compare(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    compare(m, call, scope, false)
}

/// `allCompare(op, list, x)`: `element op x` for all elements.
pub(crate) fn all_compare(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    compare(m, call, scope, true)
}

fn compare(m: &mut Machine, call: &Call, scope: &Scope, all: bool) -> Evaluated<Val> {
    let [op, list, wanted] = call.args.as_slice() else {
        return Ok(Val::Error);
    };
    let op = match m.eval(op, scope)? {
        Val::Undefined => return Ok(Val::Undefined),
        Val::String(text) => match &*text {
            "<" => BinaryOp::Less,
            "<=" => BinaryOp::LessEqual,
            "!=" => BinaryOp::NotEqual,
            "==" => BinaryOp::Equal,
            ">" => BinaryOp::Greater,
            ">=" => BinaryOp::GreaterEqual,
            "is" => BinaryOp::Is,
            "isnt" => BinaryOp::Isnt,
            _ => return Ok(Val::Error),
        },
        _ => return Ok(Val::Error),
    };
    let list = match m.eval(list, scope)? {
        Val::List(list) => list,
        Val::Undefined => return Ok(Val::Undefined),
        _ => return Ok(Val::Error),
    };
    let wanted = m.eval(wanted, scope)?;
    let mut at = 0;
    while let Some(item) = m.element(&list, at)? {
        at += 1;
        match binary(op, item, wanted.clone()) {
            Val::Boolean(holds) if holds != all => return Ok(Val::Boolean(holds)),
            Val::Boolean(_) => {}
            // an undefined comparison ends the search, for anyCompare() too
            Val::Undefined => return Ok(Val::Boolean(false)),
            _ => return Ok(Val::Error),
        }
    }
    Ok(Val::Boolean(all))
}
