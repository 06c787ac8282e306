//! Built-in functions.

mod arguments;
mod random;
mod regexps;

use crate::eval::{Evaluated, Machine, Scope, Val};
use crate::expr::Call;

pub(crate) use random::Random;
pub(crate) use regexps::PatternCache;

/// A built-in function.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) body: fn(&mut Machine, &Call, &Scope) -> Evaluated<Val>,
}

/// Finds a function by name, without regard to case.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    TABLE.iter().find(|f| f.name.eq_ignore_ascii_case(name))
}

static TABLE: [Function; 0] = [];
