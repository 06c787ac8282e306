//! Recorded conversations of real programs, for tests.

use cedar::{Coding, MessageReader, MessageWriter};

/// One encrypted message of a recording.
pub(crate) struct Recorded {
    /// Whether the submit side sent it.
    pub(crate) is_ours: bool,
    /// Its content.
    pub(crate) body: Vec<u8>,
}

impl Recorded {
    pub(crate) fn reader(&self) -> MessageReader<'_> {
        MessageReader::new(Coding::Encrypted, &self.body)
    }
}

/// The encrypted messages of a file in `tests/vectors`.
pub(crate) fn load(name: &str) -> Vec<Recorded> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ours = file["client"].as_str().unwrap();
    file["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| message["encrypted"].as_bool().unwrap())
        .map(|message| Recorded {
            is_ours: message["from"].as_str().unwrap() == ours,
            body: hex(message["payload_hex"].as_str().unwrap()),
        })
        .collect()
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A message as it would be sent.
pub(crate) fn written(write: impl FnOnce(&mut MessageWriter)) -> Vec<u8> {
    let mut message = MessageWriter::new(Coding::Encrypted);
    write(&mut message);
    message.finish().unwrap()
}
