//! The ClassAd language of HTCondor: parse, print, evaluate, match.
//!
//! A [`ClassAd`] maps names to expressions ([`Expr`]); an expression evaluates to a [`Value`] in an [`EvalContext`],
//! which names the ads that `MY` and `TARGET` stand for and says what time it is. The dialect is the one HTCondor's
//! daemons use (version 23.9): `MY`, `TARGET`, `PARENT` and `CurrentTime` are names, and a name without scope is looked
//! up in both ads of a match.
//!
//! ```
//! use classad::{ClassAd, EvalContext, Expr, Value, symmetric_match};
//!
//! let slot = ClassAd::parse_old("Cpus = 4\nRequirements = TARGET.RequestCpus <= Cpus")?;
//! let job = ClassAd::parse_new("[ RequestCpus = 2; Requirements = TARGET.Cpus > 1 ]")?;
//! assert!(symmetric_match(&slot, &job, 1_700_000_000));
//!
//! let left = EvalContext::new().my(&slot).target(&job).now(1_700_000_000);
//! let expr = Expr::parse_old("MY.Cpus - TARGET.RequestCpus")?;
//! assert_eq!(left.eval(&expr), Value::Integer(2));
//! # Ok::<(), classad::ParseError>(())
//! ```
//!
//! # Three spellings
//!
//! * Old syntax, [`Expr::parse_old`], [`ClassAd::parse_old`], [`parse_assignment_old`]: lines `Name = expression`, on the
//!   wire and in files. In a string only `\"` is an escape, a backslash is else literal; a quote after a backslash ends
//!   the string only if nothing follows.
//! * New syntax, [`Expr::parse_new`], [`ClassAd::parse_new`]: `[ name = expression; ... ]` with C-like escapes.
//! * JSON, [`ClassAd::from_json`], [`ClassAd::to_json`]: plain values, expressions as `"\/Expr(...)\/"`.
//!
//! # What this crate does not do
//!
//! No I/O, no clock, no time zones, no accounts: time and the offset from UTC are arguments. No XML. No partial
//! evaluation ("flattening"). No logging of `debug()`.
//!
//! # Limits
//!
//! Text may be nested [`MAX_NESTING`] levels deep (HTCondor: 1000). Evaluation stops at [`Limits`]; attributes that refer
//! to each other in a circle end as [`LimitExceeded::Depth`]. With the default limits neither needs more than
//! 300 KB of stack in an optimised build, and some 1 MB in an unoptimised one.
//!
//! # Where it differs from HTCondor 23.9
//!
//! `tests/reference` holds some 13,600 expressions with the answers of the real library, and the script that recorded
//! them. What differs is on purpose:
//!
//! * Regular expressions are those of the `regex` crate, on bytes. What PCRE2 alone knows (look-around, back references,
//!   possessive quantifiers, `\K`, `\Q`, ...), what the two read differently, `$` or `\Z` against a text that ends with a
//!   line feed, and replacing all matches with a pattern that prefers an empty match, give error, never another answer.
//! * Failure and error are one: where the real library gives up (a circle, `random(-1)`), the value is [`Value::Error`],
//!   and [`EvalContext::try_eval`] tells limits apart.
//! * Text after a complete expression is an error (HTCondor ignores it on the wire and after `? :`), as is a line with an
//!   empty name or a name with a blank. A quoted name cannot end with a backslash.
//! * In old syntax a quote after a backslash does not end a string before a line feed; HTCondor cuts such strings short.
//! * A string cannot contain NUL: texts with one do not parse, and printing leaves it out.
//! * Printing adds what reading back needs: a blank in `- 5`, quotes around odd names after a dot, `substr("a\ ",0,-1)`
//!   for a string that ends with a backslash inside an old expression. In JSON a relative time keeps its type.
//! * `absTime(n)` and its like do not cut seconds to 32 bits.
//! * A list or ad that is the result of an evaluation is on its own: list elements are evaluated, and an ad no longer
//!   knows the ads around it.
//! * `userHome()` behaves as with `CLASSAD_ENABLE_USER_HOME = false`, `userMap()` as without maps, `debug()` does not log.
//!   In a match `symmetricMatch` and the other attributes of the pair itself are unknown; `LEFT`, `RIGHT`, `OTHER` and `AD`
//!   work.
//! * `formatTime()` with `%Z` always says UTC.
//!
//! Oddities that are kept, because peers have them: a literal `relTime("...")` evaluates to a real; `stringListMax()` of
//! negative integers is 0; `versionLT` and its like are errors when spelled in another case; positive infinity is an error
//! where it arises in arithmetic, but negative infinity is not; an integer literal beyond 64 bits is 0.
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
mod references;
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
pub use references::References;
pub use syntax::parse_assignment_old;
pub use value::{AbsoluteTime, Value};

/// How deeply expressions may be nested in a text.
pub const MAX_NESTING: usize = 128;
