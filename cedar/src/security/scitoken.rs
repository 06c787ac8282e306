//! SciTokens and WLCG tokens as a client shows them (protocol 01 section 5.4): where they are found, and what they say.
//!
//! The signature is for the server to check: it knows the issuers it trusts, and their keys.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::SslError;
use crate::secret::SecretText;

/// Longest token accepted, in bytes.
const MAX_LEN: usize = 64 * 1024;

/// Longest token file read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A token for SCITOKENS. `Debug` shows what it says, never its text.
#[derive(Clone)]
pub struct SciToken {
    text: SecretText,
    claims: SciTokenClaims,
    origin: Option<PathBuf>,
}

/// What the token says, unverified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SciTokenClaims {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: Option<String>,
    /// `nbf`, unix time.
    pub not_before: Option<i64>,
    /// `exp`, unix time.
    pub expires: Option<i64>,
}

/// Where a token may be, best first. The first place that has one counts.
#[derive(Debug, Clone, Default)]
pub struct SciTokenSource {
    places: Vec<Place>,
}

#[derive(Debug, Clone)]
enum Place {
    /// A variable of the environment holds the token itself.
    Variable(&'static str, SecretText),
    File(PathBuf),
}

/// A place where no token was found, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SciTokenMiss {
    /// The file, or the name of the variable.
    pub place: String,
    /// Why what is there is not used.
    pub why: SciTokenFault,
}

/// What is wrong with a place, or with the text in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SciTokenFault {
    /// It cannot be read.
    #[error("unreadable: {0}")]
    Unreadable(io::ErrorKind),
    /// There is nothing but comments in it.
    #[error("no token in it")]
    Empty,
    /// Longer than any token.
    #[error("longer than {MAX_LEN} bytes")]
    TooLong,
    /// Not three parts of base64url with dots between.
    #[error("not a token of the form header.payload.signature")]
    NotCompact,
    /// Its payload says not what it must.
    #[error("its payload has no valid {0}")]
    BadClaim(&'static str),
    /// It has expired.
    #[error("expired at unix time {0}")]
    Expired(i64),
    /// It is not valid yet.
    #[error("not valid before unix time {0}")]
    NotYet(i64),
}

/// SCITOKENS cannot be offered.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SciTokenError {
    /// There is no token.
    #[error("no usable SciToken: {}", misses_text(.0))]
    NoToken(Vec<SciTokenMiss>),
    /// The authorities that the server's certificate is checked against cannot be used.
    #[error(transparent)]
    Ssl(#[from] SslError),
}

impl SciTokenSource {
    /// The token is in this file (`SCITOKENS_FILE`), and nowhere else: its first line that is no comment.
    #[must_use]
    pub fn file(path: PathBuf) -> Self {
        Self {
            places: vec![Place::File(path)],
        }
    }

    /// The places of WLCG's bearer token discovery, in its order: `BEARER_TOKEN`, the file that `BEARER_TOKEN_FILE`
    /// names, `bt_u<UID>` in `XDG_RUNTIME_DIR`, and in `/tmp`. `variable` looks a variable up.
    #[must_use]
    pub fn discovery(variable: impl Fn(&str) -> Option<String>, uid: u32) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let name = format!("bt_u{uid}");
        let mut places = Vec::new();
        if let Some(text) = set("BEARER_TOKEN") {
            places.push(Place::Variable("BEARER_TOKEN", SecretText::new(text)));
        }
        let files = [
            set("BEARER_TOKEN_FILE").map(PathBuf::from),
            set("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join(&name)),
            Some(Path::new("/tmp").join(&name)),
        ];
        places.extend(files.into_iter().flatten().map(Place::File));
        Self { places }
    }

    /// The files that are looked at.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.places.iter().filter_map(|place| match place {
            Place::File(path) => Some(path.as_path()),
            Place::Variable(..) => None,
        })
    }

    /// The token of the moment: the first that is valid at unix time `now`. This blocks.
    ///
    /// # Errors
    ///
    /// [`SciTokenError::NoToken`] with every place and what was wrong there.
    pub fn read(&self, now: i64) -> Result<SciToken, SciTokenError> {
        let mut misses = Vec::new();
        for place in &self.places {
            let found = match place {
                Place::Variable(_, text) => SciToken::parse(text.expose()),
                Place::File(path) => read_file(path),
            };
            match found.and_then(|token| token.judged(now)) {
                Ok(token) => return Ok(token),
                Err(why) => misses.push(SciTokenMiss {
                    place: match place {
                        Place::Variable(name, _) => (*name).to_owned(),
                        Place::File(path) => path.display().to_string(),
                    },
                    why,
                }),
            }
        }
        Err(SciTokenError::NoToken(misses))
    }
}

impl SciToken {
    /// Reads a token in compact form.
    ///
    /// # Errors
    ///
    /// [`SciTokenFault`].
    pub fn parse(text: &str) -> Result<Self, SciTokenFault> {
        let text = text.trim();
        if text.len() > MAX_LEN {
            return Err(SciTokenFault::TooLong);
        }
        if text.is_empty() {
            return Err(SciTokenFault::Empty);
        }
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SciTokenFault::NotCompact);
        };
        let decode = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part.trim_end_matches('='))
                .ok()
                .filter(|bytes| !bytes.is_empty())
                .ok_or(SciTokenFault::NotCompact)
        };
        decode(header)?;
        decode(signature)?;
        let payload: serde_json::Value = serde_json::from_slice(&decode(payload)?)
            .map_err(|_| SciTokenFault::BadClaim("JSON object"))?;
        let date = |name: &'static str| match payload.get(name) {
            None => Ok(None),
            Some(value) => whole(value).map(Some).ok_or(SciTokenFault::BadClaim(name)),
        };
        let words = |name: &str| payload.get(name).and_then(|value| value.as_str());
        let claims = SciTokenClaims {
            issuer: words("iss")
                .filter(|issuer| !issuer.is_empty())
                .ok_or(SciTokenFault::BadClaim("iss"))?
                .to_owned(),
            subject: words("sub").map(str::to_owned),
            not_before: date("nbf")?,
            expires: date("exp")?,
        };
        Ok(Self {
            text: SecretText::new(text.to_owned()),
            claims,
            origin: None,
        })
    }

    /// What it says, unverified.
    #[must_use]
    pub fn claims(&self) -> &SciTokenClaims {
        &self.claims
    }

    /// The file it came from.
    #[must_use]
    pub fn origin(&self) -> Option<&Path> {
        self.origin.as_deref()
    }

    pub(crate) fn expose(&self) -> &str {
        self.text.expose()
    }

    fn judged(self, now: i64) -> Result<Self, SciTokenFault> {
        if let Some(end) = self.claims.expires.filter(|end| *end <= now) {
            return Err(SciTokenFault::Expired(end));
        }
        match self.claims.not_before.filter(|start| *start > now) {
            Some(start) => Err(SciTokenFault::NotYet(start)),
            None => Ok(self),
        }
    }
}

impl fmt::Debug for SciToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SciToken")
            .field("claims", &self.claims)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

fn whole(value: &serde_json::Value) -> Option<i64> {
    if let Some(whole) = value.as_i64() {
        return Some(whole);
    }
    let real = value.as_f64().filter(|real| (0.0..1e15).contains(real))?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range was checked, and the fraction of a second does not matter"
    )]
    let whole = real as i64;
    Some(whole)
}

fn read_file(path: &Path) -> Result<SciToken, SciTokenFault> {
    let unreadable = |error: io::Error| SciTokenFault::Unreadable(error.kind());
    let mut text = Zeroizing::new(String::new());
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .ok_or(SciTokenFault::Empty)?;
    let mut token = SciToken::parse(line)?;
    token.origin = Some(path.to_owned());
    Ok(token)
}

fn misses_text(misses: &[SciTokenMiss]) -> String {
    if misses.is_empty() {
        return "no place to look for one is configured".to_owned();
    }
    let texts: Vec<_> = misses
        .iter()
        .map(|miss| format!("{} ({})", miss.place, miss.why))
        .collect();
    format!("looked at {}", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!(
            "{}.{}.{}",
            part(r#"{"alg":"ES256"}"#),
            part(payload),
            part("signature")
        )
    }

    fn good(end: i64) -> String {
        token(&format!(
            r#"{{"iss":"https://issuer.example","sub":"alice","exp":{end}}}"#
        ))
    }

    #[test]
    fn claims_are_read_and_the_text_is_not_shown() {
        let text = good(2000);
        let read = SciToken::parse(&format!("  {text}\n")).unwrap();
        assert_eq!(read.claims().issuer, "https://issuer.example");
        assert_eq!(read.claims().subject.as_deref(), Some("alice"));
        assert_eq!(read.claims().expires, Some(2000));
        assert_eq!(read.expose(), text);
        assert!(!format!("{read:?}").contains(&text));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for (text, fault) in [
            (String::new(), SciTokenFault::Empty),
            ("a.b".to_owned(), SciTokenFault::NotCompact),
            (format!("{}.x", good(1)), SciTokenFault::NotCompact),
            ("!.!.!".to_owned(), SciTokenFault::NotCompact),
            ("a".repeat(MAX_LEN + 1), SciTokenFault::TooLong),
            (token("[]"), SciTokenFault::BadClaim("iss")),
            (token("{"), SciTokenFault::BadClaim("JSON object")),
            (token(r#"{"iss":""}"#), SciTokenFault::BadClaim("iss")),
            (
                token(r#"{"iss":"x","exp":"soon"}"#),
                SciTokenFault::BadClaim("exp"),
            ),
        ] {
            assert_eq!(SciToken::parse(&text).unwrap_err(), fault, "{text:.40}");
        }
    }

    #[test]
    fn a_file_has_comments_and_one_token_and_the_first_good_place_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bt");
        fs::write(&file, format!("# a comment\n\n{}\nrest\n", good(2000))).unwrap();
        let source = SciTokenSource::file(file.clone());
        assert_eq!(source.read(1000).unwrap().origin(), Some(file.as_path()));
        let error = source.read(2000).unwrap_err().to_string();
        assert!(error.contains("bt") && error.contains("expired"), "{error}");

        let runtime = folder.path().display().to_string();
        fs::write(folder.path().join("bt_u7"), good(5000)).unwrap();
        let environment = |name: &str| match name {
            "BEARER_TOKEN" => Some(good(10)),
            "BEARER_TOKEN_FILE" => Some("/nonexistent/token".to_owned()),
            "XDG_RUNTIME_DIR" => Some(runtime.clone()),
            _ => None,
        };
        let source = SciTokenSource::discovery(environment, 7);
        assert_eq!(source.files().count(), 3);
        let found = source.read(1000).unwrap();
        assert_eq!(found.claims().expires, Some(5000));
        let error = source.read(6000).unwrap_err().to_string();
        for place in ["BEARER_TOKEN (", "/nonexistent/token (", "/tmp/bt_u7 ("] {
            assert!(error.contains(place), "{error}");
        }
    }
}
