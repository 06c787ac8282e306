//! What a map line leads to.

use launch_protocol::is_account_name;

use crate::lines::{Line, LineError};

/// An account, or any of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Account(String),
    Pool(String),
}

impl Target {
    pub(crate) fn parse(word: &str, line: &Line<'_>) -> Result<Self, LineError> {
        match word.strip_prefix('.') {
            Some(prefix) if is_account_name(prefix) => Ok(Self::Pool(prefix.to_owned())),
            None if is_account_name(word) => Ok(Self::Account(word.to_owned())),
            _ => Err(line.fail("the account is not a plain account name or .prefix")),
        }
    }
}

/// A target and the line that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hit<'a> {
    pub(crate) target: &'a Target,
    pub(crate) line: usize,
}
