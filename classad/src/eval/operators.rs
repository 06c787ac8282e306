//! Operators on values. Follows `htcondor:src/classad/operators.cpp`.

use std::cmp::Ordering;

use super::{List, Val};
use crate::expr::{BinaryOp, UnaryOp};
use crate::value::{AbsoluteTime, int_to_real, real_to_int};

/// Applies a prefix operator.
pub(crate) fn unary(op: UnaryOp, operand: Val) -> Val {
    if matches!(operand, Val::Undefined | Val::Error) {
        return operand;
    }
    match (op, operand) {
        (UnaryOp::Plus, number @ (Val::Integer(_) | Val::Real(_) | Val::RelativeTime(_))) => number,
        (UnaryOp::Minus, Val::Integer(i)) => Val::Integer(i.wrapping_neg()),
        (UnaryOp::Minus, Val::Real(r)) => Val::Real(-r),
        (UnaryOp::Minus, Val::RelativeTime(t)) => Val::RelativeTime(-t),
        (UnaryOp::Not, operand) => operand.truth().map_or(Val::Error, |b| Val::Boolean(!b)),
        (UnaryOp::BitNot, Val::Integer(i)) => Val::Integer(!i),
        _ => Val::Error,
    }
}

/// Applies an infix operator to two evaluated operands.
pub(crate) fn binary(op: BinaryOp, left: Val, right: Val) -> Val {
    match op {
        BinaryOp::And | BinaryOp::Or => return logical(op, &left, &right),
        BinaryOp::Is => return identical(&left, &right),
        BinaryOp::Isnt => return unary(UnaryOp::Not, identical(&left, &right)),
        _ => {}
    }
    match (&left, &right) {
        (Val::Error, _) | (_, Val::Error) => return Val::Error,
        (Val::Undefined, _) | (_, Val::Undefined) => return Val::Undefined,
        _ => {}
    }
    match op {
        BinaryOp::Add
        | BinaryOp::Subtract
        | BinaryOp::Multiply
        | BinaryOp::Divide
        | BinaryOp::Modulus => arithmetic(op, &left, &right),
        BinaryOp::BitAnd
        | BinaryOp::BitOr
        | BinaryOp::BitXor
        | BinaryOp::ShiftLeft
        | BinaryOp::ShiftRight
        | BinaryOp::ShiftRightUnsigned => bitwise(op, &left, &right),
        _ => {
            compare(&left, &right).map_or(Val::Error, |ordering| Val::Boolean(holds(op, ordering)))
        }
    }
}

/// `&&` and `||`: three-valued, numbers count as booleans, anything else is an error.
fn logical(op: BinaryOp, left: &Val, right: &Val) -> Val {
    let dominant = op == BinaryOp::Or;
    let state = |val: &Val| match val {
        Val::Undefined => Some(None),
        other => other.truth().map(Some),
    };
    // an error on the left wins over anything on the right
    let Some(left) = state(left) else {
        return Val::Error;
    };
    if left == Some(dominant) {
        return Val::Boolean(dominant);
    }
    match (left, state(right)) {
        (_, None) => Val::Error,
        (_, Some(Some(b))) if b == dominant => Val::Boolean(dominant),
        (Some(_), Some(Some(b))) => Val::Boolean(b),
        _ => Val::Undefined,
    }
}

/// `=?=`: same type and same value, strings with case. Lists and ads cannot be compared.
fn identical(left: &Val, right: &Val) -> Val {
    let same = match (left, right) {
        (Val::Undefined, Val::Undefined) | (Val::Error, Val::Error) => true,
        (Val::Boolean(a), Val::Boolean(b)) => a == b,
        (Val::Integer(a), Val::Integer(b)) => a == b,
        #[expect(clippy::float_cmp, reason = "the language's own equality of reals")]
        (Val::Real(a), Val::Real(b)) | (Val::RelativeTime(a), Val::RelativeTime(b)) => a == b,
        (Val::String(a), Val::String(b)) => a == b,
        (Val::AbsoluteTime(a), Val::AbsoluteTime(b)) => a == b,
        (Val::List(List::Written(..)), Val::List(List::Written(..)))
        | (Val::List(List::Made(_)), Val::List(List::Made(_)))
        | (Val::Ad(_), Val::Ad(_)) => return Val::Error,
        _ => false,
    };
    Val::Boolean(same)
}

/// How two values of comparable types are ordered; the inner `None` is a comparison with NaN.
fn compare(left: &Val, right: &Val) -> Option<Option<Ordering>> {
    match (left, right) {
        (Val::String(a), Val::String(b)) => Some(Some(ignoring_case(a, b))),
        (Val::AbsoluteTime(a), Val::AbsoluteTime(b)) => Some(Some(a.seconds.cmp(&b.seconds))),
        (Val::RelativeTime(a), Val::RelativeTime(b)) => Some(a.partial_cmp(b)),
        _ => match (integer(left), integer(right)) {
            (Some(a), Some(b)) => Some(Some(a.cmp(&b))),
            _ => Some(left.number()?.partial_cmp(&right.number()?)),
        },
    }
}

fn holds(op: BinaryOp, ordering: Option<Ordering>) -> bool {
    match op {
        BinaryOp::Equal => ordering == Some(Ordering::Equal),
        BinaryOp::NotEqual => ordering != Some(Ordering::Equal),
        BinaryOp::Less => ordering == Some(Ordering::Less),
        BinaryOp::LessEqual => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
        BinaryOp::Greater => ordering == Some(Ordering::Greater),
        BinaryOp::GreaterEqual => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        _ => false,
    }
}

/// Order of strings with ASCII letters folded.
pub(crate) fn ignoring_case(a: &str, b: &str) -> Ordering {
    let fold = |s: &'_ str| {
        s.bytes()
            .map(|b| b.to_ascii_lowercase())
            .collect::<Vec<_>>()
    };
    if a.eq_ignore_ascii_case(b) {
        Ordering::Equal
    } else {
        fold(a).cmp(&fold(b))
    }
}

/// Integers, and booleans as 0 and 1.
fn integer(val: &Val) -> Option<i64> {
    match val {
        Val::Integer(i) => Some(*i),
        Val::Boolean(b) => Some(i64::from(*b)),
        _ => None,
    }
}

fn arithmetic(op: BinaryOp, left: &Val, right: &Val) -> Val {
    let is_time = |val: &Val| matches!(val, Val::AbsoluteTime(_) | Val::RelativeTime(_));
    if is_time(left) || is_time(right) {
        return time_arithmetic(op, left, right);
    }
    match (integer(left), integer(right)) {
        (Some(a), Some(b)) => integer_arithmetic(op, a, b),
        _ => match (left.number(), right.number()) {
            (Some(a), Some(b)) => real_arithmetic(op, a, b),
            _ => Val::Error,
        },
    }
}

/// 64-bit two's complement: results wrap around; the one quotient that does not fit is the largest integer.
fn integer_arithmetic(op: BinaryOp, a: i64, b: i64) -> Val {
    Val::Integer(match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Subtract => a.wrapping_sub(b),
        BinaryOp::Multiply => a.wrapping_mul(b),
        BinaryOp::Divide | BinaryOp::Modulus if b == 0 => return Val::Error,
        BinaryOp::Divide => a.checked_div(b).unwrap_or(i64::MAX),
        _ => a.wrapping_rem(b),
    })
}

/// Positive infinity is an error, negative infinity and NaN are not; there is no remainder of reals.
fn real_arithmetic(op: BinaryOp, a: f64, b: f64) -> Val {
    let result = match op {
        BinaryOp::Add => a + b,
        BinaryOp::Subtract => a - b,
        BinaryOp::Multiply => a * b,
        BinaryOp::Divide => a / b,
        _ => return Val::Error,
    };
    if result == f64::INFINITY {
        Val::Error
    } else {
        Val::Real(result)
    }
}

fn time_arithmetic(op: BinaryOp, left: &Val, right: &Val) -> Val {
    let moved = |time: &AbsoluteTime, by: i64| {
        Val::AbsoluteTime(AbsoluteTime {
            seconds: time.seconds.wrapping_add(by),
            offset: time.offset,
        })
    };
    // spans are cut to 32-bit seconds before they are added to a point in time
    let span =
        |seconds: &f64| real_to_int(*seconds).clamp(i64::from(i32::MIN), i64::from(i32::MAX));
    let factor = |val: &Val| match val {
        Val::Integer(i) => Some(int_to_real(*i)),
        Val::Real(r) => Some(*r),
        _ => None,
    };
    match (op, left, right) {
        (BinaryOp::Add, Val::AbsoluteTime(a), Val::RelativeTime(b))
        | (BinaryOp::Add, Val::RelativeTime(b), Val::AbsoluteTime(a)) => moved(a, span(b)),
        (BinaryOp::Add, Val::RelativeTime(a), Val::RelativeTime(b)) => Val::RelativeTime(a + b),
        (BinaryOp::Subtract, Val::AbsoluteTime(a), Val::AbsoluteTime(b)) => {
            Val::RelativeTime(int_to_real(a.seconds.wrapping_sub(b.seconds)))
        }
        (BinaryOp::Subtract, Val::AbsoluteTime(a), Val::RelativeTime(b)) => moved(a, -span(b)),
        (BinaryOp::Subtract, Val::RelativeTime(a), Val::RelativeTime(b)) => {
            Val::RelativeTime(a - b)
        }
        (BinaryOp::Multiply, Val::RelativeTime(a), b) => {
            factor(b).map_or(Val::Error, |b| Val::RelativeTime(a * b))
        }
        (BinaryOp::Multiply, a, Val::RelativeTime(b)) => {
            factor(a).map_or(Val::Error, |a| Val::RelativeTime(a * b))
        }
        (BinaryOp::Divide, Val::RelativeTime(a), b) => {
            factor(b).map_or(Val::Error, |b| Val::RelativeTime(a / b))
        }
        _ => Val::Error,
    }
}

/// Integers only, booleans are none. Shift counts are taken modulo 64, as the processor does it.
fn bitwise(op: BinaryOp, left: &Val, right: &Val) -> Val {
    let (Val::Integer(a), Val::Integer(b)) = (left, right) else {
        return Val::Error;
    };
    let count = u32::try_from(b.rem_euclid(64)).unwrap_or(0);
    Val::Integer(match op {
        BinaryOp::BitAnd => a & b,
        BinaryOp::BitOr => a | b,
        BinaryOp::BitXor => a ^ b,
        BinaryOp::ShiftLeft => a.wrapping_shl(count),
        BinaryOp::ShiftRight if *a >= 0 => a.wrapping_shr(count),
        BinaryOp::ShiftRight => a.wrapping_shr(u32::try_from((*b).clamp(0, 63)).unwrap_or(0)),
        _ if *a >= 0 => a.wrapping_shr(count),
        _ => {
            let halved = (a >> 1) & i64::MAX;
            halved.wrapping_shr(u32::try_from((b.wrapping_sub(1)).rem_euclid(64)).unwrap_or(0))
        }
    })
}
