//! Comparison of version strings such as "23.9.6": runs of digits compare as numbers
//! (`htcondor:src/classad/natural_cmp.cpp`, the order of glibc's `strverscmp`).

use super::arguments::exactly;
use super::convert::{Converted, to_text};
use crate::eval::{Evaluated, Machine, Scope, Val};
use crate::expr::Call;

pub(crate) fn cmp(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    compare(m, call, scope, Val::Integer)
}

/// The real functions test their own name with case, and so are errors in any other spelling.
macro_rules! version_predicates {
    ($($name:ident, $spelling:literal => $holds:expr),+ $(,)?) => {
        $(
            pub(crate) fn $name(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
                let holds: fn(i64) -> bool = $holds;
                if call.name.as_str() == $spelling {
                    compare(m, call, scope, |order| Val::Boolean(holds(order)))
                } else {
                    compare(m, call, scope, |_| Val::Error)
                }
            }
        )+
    };
}

version_predicates! {
    le, "versionLE" => |order| order <= 0,
    lt, "versionLT" => |order| order < 0,
    ge, "versionGE" => |order| order >= 0,
    gt, "versionGT" => |order| order > 0,
    eq, "versionEQ" => |order| order == 0,
}

fn compare(
    m: &mut Machine,
    call: &Call,
    scope: &Scope,
    result: impl Fn(i64) -> Val,
) -> Evaluated<Val> {
    let Some([left, right]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    if matches!(left, Val::Undefined) || matches!(right, Val::Undefined) {
        return Ok(Val::Undefined);
    }
    Ok(match (to_text(&left), to_text(&right)) {
        (Converted::Is(left), Converted::Is(right)) => result(natural(&left, &right)),
        _ => Val::Error,
    })
}

/// `version_in_range(version, least, most)`.
pub(crate) fn in_range(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some([version, least, most]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    if matches!(least, Val::Undefined) || matches!(most, Val::Undefined) {
        return Ok(Val::Undefined);
    }
    Ok(match (to_text(&version), to_text(&least), to_text(&most)) {
        (Converted::Is(version), Converted::Is(least), Converted::Is(most)) => {
            Val::Boolean(natural(&least, &version) <= 0 && natural(&version, &most) <= 0)
        }
        _ => Val::Error,
    })
}

/// Negative, zero or positive; the size is the difference of the two characters or lengths that decide.
pub(crate) fn natural(left: &str, right: &str) -> i64 {
    let (a, b) = (left.as_bytes(), right.as_bytes());
    let at = |s: &[u8], i: usize| s.get(i).copied().unwrap_or(0);
    let signed = |byte: u8| i64::from(byte.cast_signed());
    let digits = |s: &[u8], from: usize| {
        s.iter()
            .skip(from)
            .take_while(|c| c.is_ascii_digit())
            .count()
    };
    let zeros = |s: &[u8], from: usize| s.iter().skip(from).take_while(|c| **c == b'0').count();
    let length = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);

    let differ = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let by_character = signed(at(a, differ)) - signed(at(b, differ));
    if at(a, differ) == at(b, differ) {
        return 0;
    }
    // the run of digits that the difference ends or continues
    let before = a
        .iter()
        .take(differ)
        .rev()
        .take_while(|c| c.is_ascii_digit())
        .count();
    let run = differ - before;
    if before == 0 && !(at(a, differ).is_ascii_digit() && at(b, differ).is_ascii_digit()) {
        return by_character;
    }
    // a lone zero is a number, not a leading zero
    let leading = |s: &[u8]| {
        let count = zeros(s, run);
        if count > 0 && !at(s, run + count).is_ascii_digit() {
            count - 1
        } else {
            count
        }
    };
    let (zeros_a, zeros_b) = (leading(a), leading(b));
    if zeros_a != zeros_b {
        return length(zeros_b) - length(zeros_a);
    }
    if zeros_a > 0 {
        return by_character;
    }
    let (digits_a, digits_b) = (digits(a, run), digits(b, run));
    if digits_a == digits_b {
        by_character
    } else {
        length(digits_a) - length(digits_b)
    }
}
