//! Public keys of token issuers, a JWK set (RFC 7517).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::json::{Json, Object};
use crate::strength::{Curve, KeyKind};

/// The keys of one issuer.
#[derive(Debug)]
pub(crate) struct KeySet(Vec<Key>);

/// One key and what it may be used for.
#[derive(Debug)]
pub(crate) struct Key {
    id: Option<String>,
    /// `kty`
    kind: String,
    usable: Result<(KeyKind, &'static str), Unusable>,
}

/// Why a key is never used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// Of a kind, or for a use, that is not accepted.
    Kind,
    /// Its numbers cannot be read.
    Malformed,
}

impl Key {
    /// The key and its algorithm.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn usable(&self) -> Result<(&KeyKind, &'static str), Unusable> {
        match &self.usable {
            Ok((key, algorithm)) => Ok((key, algorithm)),
            Err(why) => Err(*why),
        }
    }
}

impl KeySet {
    /// Reads a set. Two keys of one kind with one id make it malformed (RFC 7517 4.5); keys of other kinds, and such as cannot be
    /// read, may be in it and are never used (RFC 7517 5).
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let set = Object::parse(text)?;
        let Some(Json::List(entries)) = set.get("keys") else {
            return None;
        };
        let mut keys: Vec<Key> = Vec::with_capacity(entries.len());
        for entry in entries {
            let Json::Object(entry) = entry else {
                return None;
            };
            let key = read_key(entry)?;
            let is_twin = |other: &Key| other.id == key.id && other.kind == key.kind;
            if key.id.is_some() && keys.iter().any(is_twin) {
                return None;
            }
            keys.push(key);
        }
        Some(Self(keys))
    }

    /// The key that a token names. One that names none can only mean a single key; where keys of several kinds have the
    /// name, the token's algorithm tells which of them it means.
    pub(crate) fn find(&self, id: Option<&str>, algorithm: &str) -> Option<&Key> {
        let Some(id) = id else {
            return match self.0.as_slice() {
                [only] => Some(only),
                _ => None,
            };
        };
        let kind = if algorithm == RS256 { "RSA" } else { "EC" };
        let mut named = self.0.iter().filter(|key| key.id.as_deref() == Some(id));
        let of_kind = named.clone().find(|key| key.kind == kind);
        of_kind.or_else(|| named.next())
    }
}

/// `None`: not an entry of a set at all.
fn read_key(entry: &Object) -> Option<Key> {
    let id = match entry.get("kid") {
        None => None,
        Some(Json::Text(id)) => Some(id.clone()),
        Some(_) => return None,
    };
    Some(Key {
        id,
        kind: entry.text("kty")?.to_owned(),
        usable: read_numbers(entry),
    })
}

fn read_numbers(entry: &Object) -> Result<(KeyKind, &'static str), Unusable> {
    let number = |name: &str| {
        let text = entry.text(name).ok_or(Unusable::Malformed)?;
        URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| Unusable::Malformed)
    };
    let (key, algorithm) = match (entry.text("kty"), entry.text("crv")) {
        (Some("RSA"), _) => {
            let key = KeyKind::Rsa {
                modulus: without_zeros(&number("n")?),
                exponent: without_zeros(&number("e")?),
            };
            (key, RS256)
        }
        (Some("EC"), Some("P-256")) => {
            let (x, y) = (number("x")?, number("y")?);
            if x.len() != 32 || y.len() != 32 {
                return Err(Unusable::Malformed);
            }
            let key = KeyKind::Ec {
                curve: Curve::P256,
                point: [vec![4], x, y].concat(),
            };
            (key, "ES256")
        }
        _ => return Err(Unusable::Kind),
    };
    let says = |name: &str, wanted: &str| {
        entry
            .get(name)
            .is_none_or(|_| entry.text(name) == Some(wanted))
    };
    let may_verify = match entry.get("key_ops") {
        None => true,
        Some(Json::List(operations)) => operations.contains(&Json::Text(String::from("verify"))),
        Some(_) => false,
    };
    let is_fit = says("use", "sig")
        && says("alg", algorithm)
        && may_verify
        && key.check(MINIMUM_RSA_BITS).is_ok();
    if is_fit {
        Ok((key, algorithm))
    } else {
        Err(Unusable::Kind)
    }
}

fn without_zeros(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default().to_vec()
}

/// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 3.3).
const RS256: &str = "RS256";
/// RFC 7518 3.3.
const MINIMUM_RSA_BITS: usize = 2048;
