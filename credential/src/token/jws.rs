//! The compact form of a signed token (RFC 7515 7.1) and its header.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::json::{Json, Object};
use super::{MAX_TOKEN_BYTES, TokenError};

/// A token cut into its parts; nothing is verified.
#[derive(Debug)]
pub(crate) struct Jws<'a> {
    /// What is signed: header, dot, payload, as sent.
    pub(crate) signed: &'a [u8],
    pub(crate) signature: Vec<u8>,
    pub(crate) algorithm: String,
    pub(crate) key_id: Option<String>,
    pub(crate) claims: Object,
}

impl<'a> Jws<'a> {
    /// Cuts a token; white space around it is ignored.
    ///
    /// # Errors
    /// Anything that is not exactly three parts of strict base64url with JSON objects in the first
    /// two, or a header that says more than which key signed how.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLarge(MAX_TOKEN_BYTES));
        }
        let text = text.trim_ascii();
        let mut parts = text.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed("it has not three parts"));
        };
        let decode = |part| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| TokenError::Malformed("a part is not base64url"))
        };
        let object = |part| {
            Object::parse(&decode(part)?).ok_or(TokenError::Malformed(
                "a part is not a JSON object, or has a member twice",
            ))
        };
        let signed_length = header.len() + 1 + payload.len();
        let header = object(header)?;
        let claims = object(payload)?;
        check_header(&header)?;
        let algorithm = header
            .text("alg")
            .ok_or(TokenError::Malformed("its header names no algorithm"))?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Json::Text(id)) => Some(id.clone()),
            Some(_) => return Err(TokenError::Malformed("its key id is not a text")),
        };
        Ok(Self {
            signed: text.get(..signed_length).unwrap_or_default(),
            signature: decode(signature)?,
            algorithm: algorithm.to_owned(),
            key_id,
            claims,
        })
    }
}

fn check_header(header: &Object) -> Result<(), TokenError> {
    // Keys come from this node only; what has to be understood (crit) nobody here does, not even
    // an empty list of it, which RFC 7515 4.1.11 forbids; the rest belongs to other kinds of tokens.
    for member in ["jku", "jwk", "x5u", "x5c", "crit", "b64", "enc", "zip"] {
        if header.get(member).is_some() {
            return Err(TokenError::Header(member));
        }
    }
    match header.get("typ") {
        None => Ok(()),
        Some(Json::Text(kind)) => {
            let kind = kind.to_ascii_lowercase();
            let kind = kind.strip_prefix("application/").unwrap_or(&kind);
            if matches!(kind, "jwt" | "at+jwt") {
                Ok(())
            } else {
                Err(TokenError::Type)
            }
        }
        Some(_) => Err(TokenError::Type),
    }
}
