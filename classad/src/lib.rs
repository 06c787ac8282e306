//! The ClassAd language of HTCondor: parse, print, evaluate, match.
#![forbid(unsafe_code)]

mod ad;
mod error;
mod eval;
mod expr;
mod functions;
#[doc(hidden)]
pub mod fuzzing;
mod json;
mod matching;
mod name;
mod print;
mod syntax;
mod times;
mod value;

pub use ad::ClassAd;
pub use error::{LimitExceeded, ParseError, ParseErrorKind};
pub use eval::{EvalContext, Limits};
pub use expr::Expr;
pub use matching::{half_match, symmetric_match};
pub use name::AttrName;
pub use print::assignment_old;
pub use syntax::parse_assignment_old;
pub use value::{AbsoluteTime, Value};

/// How deeply expressions may be nested in a text.
pub const MAX_NESTING: usize = 200;
