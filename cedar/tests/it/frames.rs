//! Every recorded frame: headers, digests, nonces, authenticated data, cipher texts, both ways.

use cedar::crypto::HandshakeDigest;
use cedar::entropy::Purpose;
use cedar::frame::Channel;
use cedar::secret::SessionKey;
use serde_json::Value;

use crate::support::{Dir, Frame, Recorded, frames, hex_of, session_key, vector, vectors_with};

/// Plays a recording against both ends at once: each end must open what the other side sent, and
/// seal its own messages to exactly the recorded bytes as far as the framing is ours.
fn play(name: &str, frames: &[Frame], key: Option<&SessionKey>, restart_at: usize) -> usize {
    let mut client = End::new();
    let mut server = End::new();
    let mut secure = false;
    let mut checked = 0;
    for (index, frame) in frames.iter().enumerate() {
        if index == restart_at {
            client.channel.restart_digests();
            server.channel.restart_digests();
        }
        let context = format!("{name} frame {index}");
        if frame.plain.is_some() && !secure {
            secure = true;
            let key = key.unwrap_or_else(|| panic!("{context}: no key"));
            client.secure(key, first_iv(frames, Dir::ToServer));
            server.secure(key, first_iv(frames, Dir::ToClient));
        }
        let (sender, receiver) = match frame.dir {
            Dir::ToServer => (&mut client, &mut server),
            Dir::ToClient => (&mut server, &mut client),
        };
        let body = frame
            .plain
            .clone()
            .unwrap_or_else(|| frame.raw[5..].to_vec());
        if frame.raw[0] == 0 {
            // A message of several frames: ours would be fewer and larger.
            sender.foreign_framing = true;
        }
        if sender.foreign_framing {
            receiver.expected.extend_from_slice(&body);
        } else {
            let mut sealed = Vec::new();
            sender.channel.seal(&body, &mut sealed).unwrap();
            assert_eq!(sealed, frame.raw, "{context}: sealed differently");
            receiver.expected = body;
        }
        receiver.channel.push(&frame.raw);
        let opened = receiver.channel.next_message().expect(&context);
        if frame.raw[0] == 0 {
            assert!(opened.is_none(), "{context}: not the end yet");
        } else {
            let expected = std::mem::take(&mut receiver.expected);
            assert_eq!(
                opened.as_ref(),
                Some(&expected),
                "{context}: opened differently"
            );
        }
        checked += 1;
    }
    checked
}

struct End {
    channel: Channel,
    expected: Vec<u8>,
    foreign_framing: bool,
}

impl End {
    fn new() -> Self {
        Self {
            channel: Channel::new(16 << 20, false),
            expected: Vec::new(),
            foreign_framing: false,
        }
    }

    fn secure(&mut self, key: &SessionKey, iv: Option<Vec<u8>>) {
        let mut entropy = Recorded::new();
        if let Some(iv) = iv {
            entropy = entropy.with(Purpose::BaseIv, iv);
        }
        self.channel.secure(key, &mut entropy).unwrap();
    }
}

fn first_iv(frames: &[Frame], dir: Dir) -> Option<Vec<u8>> {
    let first = frames
        .iter()
        .find(|frame| frame.dir == dir && frame.plain.is_some())?;
    Some(first.raw[5..21].to_vec())
}

#[test]
fn every_recorded_frame_is_opened_and_sealed_to_the_same_bytes() {
    let mut files = 0;
    let mut checked = 0;
    for name in vectors_with("frames") {
        let vector = vector(&name);
        let restart = vector["derived"]["digest_starts_at_frame_index"]
            .as_u64()
            .unwrap_or(0);
        let frames = frames(&vector);
        let restart = usize::try_from(restart).unwrap();
        checked += play(&name, &frames, session_key(&vector).as_ref(), restart);
        files += 1;
    }
    assert!(
        files >= 35 && checked >= 350,
        "{files} files, {checked} frames"
    );
}

#[test]
fn the_digests_are_those_recorded() {
    let mut checked = 0;
    for name in vectors_with("frames") {
        let vector = vector(&name);
        let start = vector["derived"]["digest_starts_at_frame_index"]
            .as_u64()
            .unwrap_or(0);
        for (dir, field) in [
            (Dir::ToServer, "handshake_digest_c2s"),
            (Dir::ToClient, "handshake_digest_s2c"),
        ] {
            let Some(wanted) = vector["derived"][field].as_str() else {
                continue;
            };
            let mut digest = HandshakeDigest::default();
            for frame in frames(&vector).iter().skip(usize::try_from(start).unwrap()) {
                if frame.plain.is_some() {
                    break;
                }
                if frame.dir == dir {
                    digest.update(&frame.raw);
                }
            }
            assert_eq!(
                digest.finish().to_vec(),
                crate::support::hex(wanted),
                "{name} {field}"
            );
            checked += 1;
        }
    }
    assert!(checked >= 60, "{checked} digests");
}

#[test]
fn recorded_nonces_and_authenticated_data_follow_the_rules() {
    for name in vectors_with("frames") {
        let vector = vector(&name);
        for dir in [Dir::ToServer, Dir::ToClient] {
            let all = frames(&vector);
            let sealed: Vec<_> = all
                .iter()
                .filter(|frame| frame.dir == dir && frame.plain.is_some())
                .collect();
            for (counter, frame) in sealed.iter().enumerate() {
                let base = &sealed[0].raw[5..21];
                let head = u32::from_be_bytes(base[..4].try_into().unwrap());
                let head = head.wrapping_add(u32::try_from(counter).unwrap());
                let nonce = [&head.to_be_bytes()[..], &base[4..]].concat();
                assert_eq!(frame.iv.as_ref(), Some(&nonce), "{name}");
                let aad = frame.aad.as_ref().unwrap();
                assert!(aad.ends_with(&frame.raw[..5]), "{name}");
                assert_eq!(aad.len(), if counter == 0 { 69 } else { 5 }, "{name}");
            }
        }
    }
}

/// The recordings of a real startd, starter, schedd and shadow, with raw frames.
#[test]
fn every_raw_frame_of_the_execute_side_is_opened() {
    let mut checked = 0;
    for name in vectors_with("messages") {
        let vector = vector(&name);
        let client_name = vector["client"].as_str().unwrap();
        let frames = execute_frames(&vector, client_name);
        if frames.is_empty() {
            continue;
        }
        let key = session_key(&vector).unwrap();
        checked += play_messages(&name, &vector, &frames, &key, client_name);
    }
    assert!(checked >= 90, "{checked} messages");
}

fn execute_frames(vector: &Value, client: &str) -> Vec<(Dir, Vec<u8>)> {
    let mut frames = Vec::new();
    for message in vector["messages"].as_array().unwrap() {
        let dir = if message["from"].as_str() == Some(client) {
            Dir::ToServer
        } else {
            Dir::ToClient
        };
        for raw in message["raw_frames_hex"].as_array().into_iter().flatten() {
            frames.push((dir, hex_of(raw)));
        }
    }
    frames
}

fn play_messages(
    name: &str,
    vector: &Value,
    frames: &[(Dir, Vec<u8>)],
    key: &SessionKey,
    client_name: &str,
) -> usize {
    let mut client = End::new();
    let mut server = End::new();
    let mut frames = frames.iter();
    let mut secure = false;
    let mut checked = 0;
    for (index, message) in vector["messages"].as_array().unwrap().iter().enumerate() {
        let context = format!("{name} message {index}");
        if message["encrypted"].as_bool() == Some(true) && !secure {
            secure = true;
            client.secure(key, None);
            server.secure(key, None);
        }
        let from_client = message["from"].as_str() == Some(client_name);
        let (sender, receiver) = if from_client {
            (&mut client, &mut server)
        } else {
            (&mut server, &mut client)
        };
        let count = message["raw_frames_hex"].as_array().map_or(0, Vec::len);
        assert!(count > 0, "{context}: no frames");
        let mut opened = None;
        for (_, raw) in frames.by_ref().take(count) {
            receiver.channel.push(raw);
            if !secure {
                let mut sealed = Vec::new();
                sender.channel.seal(&raw[5..], &mut sealed).unwrap();
                assert_eq!(&sealed, raw, "{context}");
            }
            opened = receiver.channel.next_message().expect(&context);
        }
        let opened = opened.unwrap_or_else(|| panic!("{context}: incomplete"));
        let length = message["payload_len"].as_u64().unwrap();
        assert_eq!(opened.len() as u64, length, "{context}");
        if let Some(payload) = message["payload_hex"].as_str() {
            let payload = crate::support::hex(payload);
            assert!(opened.starts_with(&payload), "{context}: other plain text");
        }
        checked += 1;
    }
    checked
}
