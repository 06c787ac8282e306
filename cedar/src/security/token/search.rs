//! Choosing the token for a server, and saying why none fits.

use std::fmt;
use std::path::PathBuf;

use super::{Token, TokenError};

/// A token as found, or why the text found is none.
#[derive(Debug, Clone)]
pub struct FoundToken {
    /// The file, if it came from one.
    pub file: Option<PathBuf>,
    /// Line in the file, from 1.
    pub line: usize,
    /// The token.
    pub token: Result<Token, TokenError>,
}

/// A place that was searched for tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchedPlace {
    /// The directory or file.
    pub path: PathBuf,
    /// Why it could not be read.
    pub trouble: Option<std::io::ErrorKind>,
}

/// Every token we have, in order of preference.
#[derive(Debug, Clone, Default)]
pub struct TokenSet {
    /// The tokens.
    pub tokens: Vec<FoundToken>,
    /// Where they were searched.
    pub places: Vec<SearchedPlace>,
}

/// Why a token was not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// It is no token.
    #[error("not a token: {0}")]
    Damaged(TokenError),
    /// It has expired.
    #[error("expired at unix time {0}")]
    Expired(i64),
    /// It is not valid yet.
    #[error("not valid before unix time {0}")]
    NotYet(i64),
    /// It is from another trust domain.
    #[error("issued by {found}, the server is in trust domain {wanted}")]
    OtherDomain {
        /// `iss` of the token.
        found: String,
        /// The server's trust domain.
        wanted: String,
    },
    /// It was signed with a key the server does not have.
    #[error("signed with key {found}, the server has: {wanted}")]
    OtherKey {
        /// `kid` of the token.
        found: String,
        /// The server's keys.
        wanted: String,
    },
}

/// The report of a search that found nothing: places, tokens, and the reason for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSearch {
    /// Where was searched.
    pub places: Vec<SearchedPlace>,
    /// What was found, by origin, and why it was not used.
    pub rejected: Vec<(String, Rejection)>,
}

impl TokenSet {
    /// A set of tokens given directly.
    pub fn of(tokens: Vec<Token>) -> Self {
        let found = |token| FoundToken {
            file: None,
            line: 0,
            token: Ok(token),
        };
        Self {
            tokens: tokens.into_iter().map(found).collect(),
            places: Vec::new(),
        }
    }

    /// Adds the tokens of another set behind ours.
    pub fn append(&mut self, mut other: Self) {
        self.tokens.append(&mut other.tokens);
        self.places.append(&mut other.places);
    }

    /// True if at least one token is valid at unix time `now`, so that the method can be offered.
    pub fn has_usable(&self, now: i64) -> bool {
        self.select(None, &[], now).is_ok()
    }

    /// The first token that fits a server's trust domain (if told) and signing keys (if told) and
    /// is valid at unix time `now`.
    ///
    /// # Errors
    ///
    /// The report of the search.
    pub fn select(
        &self,
        trust_domain: Option<&str>,
        issuer_keys: &[&str],
        now: i64,
    ) -> Result<&Token, TokenSearch> {
        let mut rejected = Vec::new();
        for found in &self.tokens {
            match judge(&found.token, trust_domain, issuer_keys, now) {
                Ok(token) => return Ok(token),
                Err(why) => rejected.push((found.label(), why)),
            }
        }
        Err(TokenSearch {
            places: self.places.clone(),
            rejected,
        })
    }
}

impl FoundToken {
    fn label(&self) -> String {
        let place = match &self.file {
            Some(file) => format!("{} line {}", file.display(), self.line),
            None => "given token".to_owned(),
        };
        match &self.token {
            Ok(token) => format!("{place} ({})", token.claims().subject),
            Err(_) => place,
        }
    }
}

fn judge<'t>(
    token: &'t Result<Token, TokenError>,
    trust_domain: Option<&str>,
    issuer_keys: &[&str],
    now: i64,
) -> Result<&'t Token, Rejection> {
    let token = token.as_ref().map_err(|error| Rejection::Damaged(*error))?;
    let claims = token.claims();
    if let Some(end) = claims.expires.filter(|end| *end <= now) {
        return Err(Rejection::Expired(end));
    }
    if let Some(start) = claims.not_before.filter(|start| *start > now) {
        return Err(Rejection::NotYet(start));
    }
    if let Some(wanted) = trust_domain.filter(|wanted| *wanted != claims.issuer) {
        return Err(Rejection::OtherDomain {
            found: claims.issuer.clone(),
            wanted: wanted.to_owned(),
        });
    }
    if !issuer_keys.is_empty() && !issuer_keys.contains(&claims.key_id.as_str()) {
        return Err(Rejection::OtherKey {
            found: claims.key_id.clone(),
            wanted: issuer_keys.join(", "),
        });
    }
    Ok(token)
}

impl fmt::Display for TokenSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.places.is_empty() && self.rejected.is_empty() {
            return f.write_str("no token directory is configured and no token was given");
        }
        let places: Vec<_> = self.places.iter().map(ToString::to_string).collect();
        if !places.is_empty() {
            write!(f, "searched {}", places.join(", "))?;
        }
        if self.rejected.is_empty() {
            return f.write_str(" and found no token");
        }
        for (index, (label, why)) in self.rejected.iter().enumerate() {
            let separator = if index == 0 && places.is_empty() {
                ""
            } else {
                "; "
            };
            write!(f, "{separator}{label}: {why}")?;
        }
        Ok(())
    }
}

impl fmt::Display for SearchedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match self.trouble {
            Some(trouble) => write!(f, " (unreadable: {trouble})"),
            None => Ok(()),
        }
    }
}
