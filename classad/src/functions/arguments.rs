//! Evaluating the arguments of a call.

use crate::eval::{Evaluated, Machine, Scope, Val};
use crate::expr::Call;

/// The arguments of a call that takes exactly `N`; `None` for another count.
pub(crate) fn exactly<const N: usize>(
    m: &mut Machine,
    call: &Call,
    scope: &Scope,
) -> Evaluated<Option<[Val; N]>> {
    let vals = between(m, call, scope, N, N)?;
    Ok(vals.and_then(|vals| vals.try_into().ok()))
}

/// The arguments of a call that takes `least` to `most`; `None` for another count.
pub(crate) fn between(
    m: &mut Machine,
    call: &Call,
    scope: &Scope,
    least: usize,
    most: usize,
) -> Evaluated<Option<Vec<Val>>> {
    if call.args.len() < least || call.args.len() > most {
        return Ok(None);
    }
    let mut vals = Vec::with_capacity(call.args.len());
    for arg in &call.args {
        vals.push(m.eval(arg, scope)?);
    }
    Ok(Some(vals))
}
