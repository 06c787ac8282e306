//! Regular expressions.

/// Patterns compiled during one evaluation.
#[derive(Debug, Default)]
pub(crate) struct PatternCache {}
