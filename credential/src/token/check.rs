//! The rules over a token.

use super::json::{Json, Object};
use super::{
    Jws, KeySet, MAX_GROUP_BYTES, MAX_GROUPS, SKEW, TokenError, TokenIdentity, TokenOptions,
    Unusable, VerifiedToken,
};
use crate::files;
use crate::identity::Expiry;
use crate::problem::TrustError;
use crate::signature;

/// Longest `ISSUER,SUBJECT`, bytes.
const MAX_IDENTITY_BYTES: usize = 1024;

/// Verifies a token at a time in Unix seconds.
///
/// # Errors
/// The reason of the refusal; see [`TokenError::code`].
pub fn verify_token(
    text: &[u8],
    options: &TokenOptions,
    at: i64,
) -> Result<VerifiedToken, TokenError> {
    let token = Jws::parse(text)?;
    let claims = &token.claims;
    let issuer = claims.text("iss").ok_or(TokenError::Claim("iss"))?;
    let known = options.issuers.iter().find(|known| known.url == issuer);
    // One that could be taken for a certificate's name, or whose end could not be told, is none.
    let is_plain = !issuer.starts_with('/')
        && issuer
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b',');
    let known = known
        .filter(|_| is_plain)
        .ok_or_else(|| TokenError::Issuer(shown(issuer)))?;
    let keys = files::read(&known.jwks, options.root_only, files::MAX_FILE_BYTES)?;
    let keys = keys.ok_or_else(|| TrustError::Unreadable {
        path: known.jwks.clone(),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    let keys = KeySet::parse(&keys).ok_or_else(|| TokenError::Keys(known.jwks.clone()))?;
    let key = keys
        .find(token.key_id.as_deref(), &token.algorithm)
        .ok_or_else(|| TokenError::Key(known.jwks.clone()))?;
    // The key decides about the algorithm; the token may only agree.
    let (key, algorithm) = key.usable().map_err(|why| match why {
        Unusable::Kind => TokenError::Algorithm,
        Unusable::Malformed => TokenError::Keys(known.jwks.clone()),
    })?;
    if token.algorithm != algorithm {
        return Err(TokenError::Algorithm);
    }
    if !signature::token_signed_by(key, token.signed, &token.signature) {
        return Err(TokenError::Signature);
    }
    check_profile(claims)?;
    let not_after = check_time(claims, options.maximum_lifetime, at)?;
    check_audience(claims, &options.audiences)?;
    let scopes = scopes(claims)?;
    if let Some(missing) = options.scopes.iter().find(|scope| !scopes.contains(scope)) {
        return Err(TokenError::Scope(missing.clone()));
    }
    Ok(VerifiedToken {
        identity: TokenIdentity {
            issuer: issuer.to_owned(),
            subject: subject(claims, issuer)?.to_owned(),
        },
        groups: groups(claims, issuer)?,
        scopes,
        not_after: Expiry::new(not_after),
    })
}

/// A token that says which profile it follows follows one that is known here: SciTokens 1 or 2 (`ver`,
/// in both spellings that issuers use), or WLCG 1 (`wlcg.ver`).
fn check_profile(claims: &Object) -> Result<(), TokenError> {
    const SCITOKENS: &[&str] = &["scitoken:1.", "scitokens:1.", "scitoken:2.", "scitokens:2."];
    for (name, known) in [("ver", SCITOKENS), ("wlcg.ver", &["1."])] {
        let is_known = match claims.get(name) {
            None => true,
            Some(Json::Text(version)) => known.iter().any(|known| version.starts_with(known)),
            Some(_) => false,
        };
        if !is_known {
            return Err(TokenError::Claim(name));
        }
    }
    Ok(())
}

/// Rule T2 on times; gives the end.
fn check_time(claims: &Object, maximum: i64, at: i64) -> Result<i64, TokenError> {
    let end = time(claims, "exp")?.ok_or(TokenError::Claim("exp"))?;
    let starts = [time(claims, "nbf")?, time(claims, "iat")?];
    if at >= end {
        return Err(TokenError::Expired(end));
    }
    if let Some(start) = starts.iter().flatten().find(|start| **start > at + SKEW) {
        return Err(TokenError::NotYetValid(*start));
    }
    let start = starts.iter().flatten().min().copied().unwrap_or(at);
    let seconds = end.saturating_sub(start);
    if seconds > maximum {
        return Err(TokenError::TooLong { seconds, maximum });
    }
    Ok(end)
}

/// A time as tokens write it: seconds, perhaps with a fraction, which is cut off. None is beyond the
/// year 9999.
pub(crate) fn time(claims: &Object, name: &'static str) -> Result<Option<i64>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Json::Number(seconds)) if (0.0..253_402_300_800.0).contains(seconds) => {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "the range makes it fit, and a fraction is meant to go"
            )]
            let whole = *seconds as i64;
            Ok(Some(whole))
        }
        Some(_) => Err(TokenError::Claim(name)),
    }
}

fn check_audience(claims: &Object, ours: &[String]) -> Result<(), TokenError> {
    let found = match claims.get("aud") {
        Some(Json::Text(audience)) => ours.contains(audience),
        Some(Json::List(audiences)) => {
            let mut found = false;
            for audience in audiences {
                let Json::Text(audience) = audience else {
                    return Err(TokenError::Claim("aud"));
                };
                found |= ours.contains(audience);
            }
            found
        }
        _ => return Err(TokenError::Claim("aud")),
    };
    found.then_some(()).ok_or(TokenError::Audience)
}

/// Words divided by spaces (RFC 6749 3.3).
fn scopes(claims: &Object) -> Result<Vec<String>, TokenError> {
    match claims.get("scope") {
        None => Ok(Vec::new()),
        Some(Json::Text(text)) => Ok(text
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()),
        Some(_) => Err(TokenError::Claim("scope")),
    }
}

fn subject<'a>(claims: &'a Object, issuer: &str) -> Result<&'a str, TokenError> {
    claims
        .text("sub")
        .filter(|subject| {
            is_printable(subject)
                && !subject.trim().is_empty()
                && issuer.len() + 1 + subject.len() <= MAX_IDENTITY_BYTES
        })
        .ok_or(TokenError::Claim("sub"))
}

fn groups(claims: &Object, issuer: &str) -> Result<Vec<String>, TokenError> {
    const NAME: &str = "wlcg.groups";
    let list = match claims.get(NAME) {
        None => return Ok(Vec::new()),
        Some(Json::List(list)) if list.len() <= MAX_GROUPS => list,
        Some(_) => return Err(TokenError::Claim(NAME)),
    };
    list.iter()
        .map(|group| match group {
            Json::Text(group) if is_printable(group) && group.starts_with('/') => {
                Some(format!("{issuer},{group}")).filter(|text| text.len() <= MAX_GROUP_BYTES)
            }
            _ => None,
        })
        .collect::<Option<_>>()
        .ok_or(TokenError::Claim(NAME))
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// A foreign text fit for a message.
fn shown(text: &str) -> String {
    let printable = |c| if (' '..='~').contains(&c) { c } else { '?' };
    text.chars().map(printable).take(200).collect()
}
