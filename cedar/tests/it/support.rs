//! Recorded exchanges and deterministic surroundings for the tests.

use std::collections::HashMap;
use std::path::PathBuf;

use cedar::entropy::{Entropy, EntropyError, Purpose};
use serde_json::Value;

pub(crate) fn vector_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

pub(crate) fn vector(name: &str) -> Value {
    let path = vector_dir().join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Names of all recorded connections that have `field` at the top.
pub(crate) fn vectors_with(field: &str) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(vector_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "json"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| vector(name).get(field).is_some())
        .collect();
    names.sort();
    names
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd hex text");
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

pub(crate) fn hex_of(value: &Value) -> Vec<u8> {
    hex(value.as_str().expect("a hex string"))
}

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dir {
    ToServer,
    ToClient,
}

/// One recorded frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) dir: Dir,
    pub(crate) raw: Vec<u8>,
    pub(crate) plain: Option<Vec<u8>>,
    pub(crate) iv: Option<Vec<u8>>,
    pub(crate) aad: Option<Vec<u8>>,
}

pub(crate) fn frames(vector: &Value) -> Vec<Frame> {
    let bytes = |frame: &Value, name: &str| frame.get(name).map(hex_of);
    vector["frames"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|frame| frame.get("unframed").is_none())
        .map(|frame| Frame {
            dir: match frame["dir"].as_str().unwrap() {
                "c2s" => Dir::ToServer,
                _ => Dir::ToClient,
            },
            raw: hex_of(&frame["raw"]),
            plain: bytes(frame, "plain"),
            iv: bytes(frame, "iv"),
            aad: bytes(frame, "aad"),
        })
        .collect()
}

/// Random bytes by purpose, from a recording; anything not given is a fixed pattern.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded(HashMap<Purpose, Vec<u8>>);

impl Recorded {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with(mut self, purpose: Purpose, bytes: Vec<u8>) -> Self {
        self.0.insert(purpose, bytes);
        self
    }

    /// The fixed inputs of the prototype that made a recording.
    pub(crate) fn of(vector: &Value) -> Self {
        let mut recorded = Self::new();
        let inputs = &vector["inputs"];
        let derived = &vector["derived"];
        let mut put = |purpose, value: &Value| {
            if let Some(text) = value.as_str() {
                recorded.0.insert(purpose, hex(text));
            }
        };
        put(Purpose::EcdhPrivateKey, &inputs["client_ecdh_private"]);
        put(Purpose::EcdhPrivateKey, &derived["ecdh_server_private"]);
        put(Purpose::BaseIv, &inputs["client_iv_base"]);
        put(Purpose::BaseIv, &inputs["server_iv_base"]);
        match vector["prototype_role"].as_str() {
            Some("server") => put(Purpose::Challenge, &derived["akep2"]["rb"]),
            _ => put(Purpose::Challenge, &derived["akep2"]["ra"]),
        }
        if let Some(nonce) = inputs["client_nonce_base64"].as_str() {
            recorded.0.insert(Purpose::ResumeNonce, base64(nonce));
        }
        recorded
    }
}

impl Entropy for Recorded {
    fn fill(&mut self, purpose: Purpose, out: &mut [u8]) -> Result<(), EntropyError> {
        match self.0.get(&purpose) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => out.fill(0x42),
        }
        Ok(())
    }
}

pub(crate) fn base64(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

/// The session key of a recording.
pub(crate) fn session_key(vector: &Value) -> Option<cedar::secret::SessionKey> {
    let places = [
        &vector["derived"]["session_key"],
        &vector["derived"]["aes_key"],
        &vector["inputs"]["session_key"],
        &vector["security"]["aes_key_hex"],
    ];
    let text = places.into_iter().find_map(|place| place.as_str())?;
    Some(cedar::secret::SessionKey::new(
        hex(text).try_into().unwrap(),
    ))
}

/// Compares an ad with its readable form in a recording.
pub(crate) fn assert_ad(ad: &classad::ClassAd, wanted: &Value, context: &str) {
    let wanted = wanted.as_object().expect("an object");
    assert_eq!(ad.len(), wanted.len(), "{context}: {}", ad.to_old());
    for (name, value) in wanted {
        let context = format!("{context}: {name}");
        match value {
            Value::String(text) => assert_eq!(ad.string(name).as_ref(), Some(text), "{context}"),
            Value::Bool(flag) => assert_eq!(ad.bool(name), Some(*flag), "{context}"),
            Value::Number(number) if number.is_i64() => {
                assert_eq!(ad.int(name), number.as_i64(), "{context}");
            }
            _ => assert!(ad.contains(name), "{context}"),
        }
    }
}
