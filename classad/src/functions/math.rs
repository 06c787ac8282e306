//! Functions on numbers.

use super::arguments::{between, exactly};
use super::convert::{Converted, to_real};
use crate::eval::{Evaluated, List, Machine, Scope, Val};
use crate::expr::Call;
use crate::value::{int_to_real, real_to_int};

pub(crate) fn floor(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    rounded(m, call, scope, f64::floor)
}

pub(crate) fn ceiling(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    rounded(m, call, scope, f64::ceil)
}

/// `round(x)`: to the nearest integer, halves to the even one.
pub(crate) fn round(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    rounded(m, call, scope, f64::round_ties_even)
}

/// Whatever converts to a number gives an integer; undefined is an error here.
fn rounded(m: &mut Machine, call: &Call, scope: &Scope, round: fn(f64) -> f64) -> Evaluated<Val> {
    let Some([val]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    if matches!(val, Val::Integer(_)) {
        return Ok(val);
    }
    Ok(match to_real(&val) {
        Converted::Is(r) => Val::Integer(real_to_int(round(r))),
        Converted::Not(_) => Val::Error,
    })
}

/// `pow(base, exponent)`: an integer if both are and the exponent is not negative.
pub(crate) fn pow(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some([base, exponent]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    if let (Val::Integer(b), Val::Integer(e @ 0..)) = (&base, &exponent) {
        let power = int_to_real(*b).powf(int_to_real(*e));
        return Ok(Val::Integer(real_to_int(power + 0.5)));
    }
    Ok(match (to_real(&base), to_real(&exponent)) {
        (Converted::Is(b), Converted::Is(e)) => Val::Real(b.powf(e)),
        _ => Val::Error,
    })
}

/// `quantize(x, step)`: `x` rounded up to a multiple of `step`; with a list, to the first element that is not
/// smaller, else to a multiple of the last one.
pub(crate) fn quantize(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some([val, step]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    let Converted::Is(number) = to_real(&val) else {
        return Ok(Val::Error);
    };
    let step = match step {
        Val::List(list) => match quantize_in_list(m, number, &list)? {
            Ok(found) => return Ok(found),
            Err(last) => last,
        },
        other => other,
    };
    let Converted::Is(real_step) = to_real(&step) else {
        return Ok(Val::Error);
    };
    Ok(match (&val, &step) {
        (_, Val::Integer(0)) => val,
        (Val::Integer(i), Val::Integer(step)) => {
            let up = i.wrapping_add(step.wrapping_sub(1));
            Val::Integer(up.wrapping_div(*step).wrapping_mul(*step))
        }
        _ if !matches!(step, Val::Integer(_)) && real_step.abs() <= 1e-8 => val,
        _ => Val::Real((number / real_step).ceil() * real_step),
    })
}

/// The element to round up to, or the last element (0.0 for an empty list).
fn quantize_in_list(m: &mut Machine, number: f64, list: &List) -> Evaluated<Result<Val, Val>> {
    let mut last = Val::Real(0.0);
    let mut at = 0;
    while let Some(item) = m.element(list, at)? {
        at += 1;
        match to_real(&item) {
            Converted::Is(bound) if bound >= number => return Ok(Ok(item)),
            Converted::Is(_) => last = item,
            Converted::Not(_) => return Ok(Ok(Val::Error)),
        }
    }
    Ok(Err(last))
}

/// `random([limit])`: below the limit, an integer or a real like it; 1.0 without one.
pub(crate) fn random(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let vals = between(m, call, scope, 0, 1)?;
    Ok(match vals.as_deref() {
        Some([]) => Val::Real(m.random.unit()),
        Some([Val::Integer(limit)]) => match u64::try_from(*limit) {
            Ok(limit) if limit > 0 => {
                Val::Integer(i64::try_from(m.random.next() % limit).unwrap_or(0))
            }
            _ => Val::Error,
        },
        Some([Val::Real(limit)]) if *limit > 0.0 => Val::Real(limit * m.random.unit()),
        _ => Val::Error,
    })
}
