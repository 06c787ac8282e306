//! Peers that do not keep the rules.

use std::sync::Arc;

use cedar::HandshakeError;
use cedar::entropy::SystemEntropy;
use cedar::frame::{Channel, FrameError, HANDSHAKE_LIMIT, MAX_BODY};
use cedar::secret::SessionKey;
use cedar::security::server::{
    Authenticators, CommandTable, ServerContext, ServerHandshake, ServerRules,
};
use cedar::security::{SecurityPolicy, SessionStore};
use cedar::wire::{Coding, MessageReader, MessageWriter, WireError};

fn serve(bytes: &[u8]) -> Result<(), HandshakeError> {
    let rules = ServerRules {
        policies: SecurityPolicy::default().tightened().unwrap().into(),
        authenticators: Authenticators::default(),
        authorizer: Arc::new(CommandTable::new()),
        version: "$CondorVersion: 23.9.6 x $".to_owned(),
        trust_domain: None,
        raw_commands: Vec::new(),
        session_prefix: "test".to_owned(),
    };
    let mut server = ServerHandshake::new(Arc::new(rules), None);
    server.push(bytes);
    let mut sessions = SessionStore::new();
    let mut ctx = ServerContext {
        sessions: &mut sessions,
        entropy: &mut SystemEntropy,
        now: 0,
    };
    server.advance(&mut ctx).map(|_| ())
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = vec![1];
    out.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    out.extend(body);
    out
}

#[test]
fn bad_headers_are_refused_before_any_byte_of_the_body() {
    assert!(matches!(
        serve(b"GET / HTTP/1.1\r\n"),
        Err(HandshakeError::Frame(FrameError::BadEnd(b'G')))
    ));
    assert!(matches!(
        serve(&[1, 0, 0, 0, 0]),
        Err(HandshakeError::Frame(FrameError::Empty))
    ));
    assert!(matches!(
        serve(&[1, 0xff, 0xff, 0xff, 0xff]),
        Err(HandshakeError::Frame(FrameError::TooLong(_)))
    ));
    let length = u32::try_from(HANDSHAKE_LIMIT + 100).unwrap().to_be_bytes();
    let header = [&[1u8][..], &length].concat();
    assert!(matches!(
        serve(&header),
        Err(HandshakeError::Frame(FrameError::MessageTooLong { .. }))
    ));
}

#[test]
fn a_split_handshake_message_is_refused_by_a_server() {
    assert!(matches!(
        serve(&[0, 0, 0, 0, 8]),
        Err(HandshakeError::Frame(FrameError::Split))
    ));
}

#[test]
fn a_raw_command_is_refused_by_name() {
    let error = serve(&framed(&0i64.to_be_bytes())).unwrap_err();
    assert!(error.to_string().contains("UPDATE_STARTD_AD"), "{error}");
}

#[test]
fn long_lists_of_attributes_are_refused_unread() {
    let mut body = 60010i64.to_be_bytes().to_vec();
    body.extend(101i64.to_be_bytes());
    body.extend(b"x".repeat(500));
    assert!(matches!(
        serve(&framed(&body)),
        Err(HandshakeError::Wire {
            source: WireError::BadLineCount(101),
            ..
        })
    ));
}

#[test]
fn counts_larger_than_the_message_cost_nothing() {
    for count in [-1, i64::MAX, 1_000_001, 9] {
        let body = [&count.to_be_bytes()[..], b"a = 1\0\0"].concat();
        let result = MessageReader::new(Coding::Plain, &body).ad();
        assert!(matches!(
            result,
            Err(WireError::BadLineCount(_) | WireError::Truncated { .. })
        ));
    }
}

#[test]
fn every_truncation_of_an_ad_is_an_error() {
    for coding in [Coding::Plain, Coding::Encrypted] {
        let mut ad = classad::ClassAd::new();
        ad.insert("Name", "slot1");
        ad.insert("Cpus", 8);
        let mut writer = MessageWriter::new(coding);
        writer.ad(&ad);
        let bytes = writer.finish().unwrap();
        for cut in 0..bytes.len() {
            assert!(
                MessageReader::new(coding, &bytes[..cut]).ad().is_err(),
                "cut at {cut}"
            );
        }
    }
}

#[test]
fn strings_must_end_where_their_length_says() {
    let read = |length: i64, text: &[u8]| {
        let bytes = [&length.to_be_bytes()[..], text].concat();
        MessageReader::new(Coding::Encrypted, &bytes).str()
    };
    assert!(matches!(read(0, b""), Err(WireError::BadLength { .. })));
    assert!(matches!(read(-5, b"abc"), Err(WireError::BadLength { .. })));
    assert!(matches!(
        read(3, b"abc"),
        Err(WireError::NotTerminated { .. })
    ));
    assert!(matches!(
        read(4, b"a\0c\0"),
        Err(WireError::NotTerminated { .. })
    ));
    assert!(matches!(
        read(i64::MAX, b"abc\0"),
        Err(WireError::Truncated { .. })
    ));
}

#[test]
fn a_changed_bit_anywhere_in_an_encrypted_frame_is_noticed() {
    let key = SessionKey::new([9; 32]);
    let fresh = || {
        let mut sender = Channel::new(1 << 16, false);
        sender.secure(&key, &mut SystemEntropy).unwrap();
        let mut receiver = Channel::new(1 << 16, false);
        receiver.secure(&key, &mut SystemEntropy).unwrap();
        (sender, receiver)
    };
    let (mut sender, _) = fresh();
    let mut wire = Vec::new();
    sender.seal(b"hello", &mut wire).unwrap();
    for index in 0..wire.len() {
        let mut changed = wire.clone();
        changed[index] ^= 1;
        let (_, mut receiver) = fresh();
        receiver.push(&changed);
        // A changed length may also mean that more is awaited; it never gives the message.
        assert!(
            !matches!(receiver.next_message(), Ok(Some(_))),
            "byte {index}"
        );
    }
    let (_, mut receiver) = fresh();
    receiver.push(&wire);
    assert_eq!(
        receiver.next_message().unwrap().as_deref(),
        Some(&b"hello"[..])
    );
    // The same frame again: the counter has moved on.
    receiver.push(&wire);
    assert!(receiver.next_message().is_err());
}

#[test]
fn digests_of_what_was_said_before_protect_the_first_frame() {
    let key = SessionKey::new([9; 32]);
    let mut client = Channel::new(1 << 16, false);
    let mut server = Channel::new(1 << 16, false);
    let mut wire = Vec::new();
    client.seal(b"offer", &mut wire).unwrap();
    // Somebody between the two weakens the offer.
    let weaker = framed(b"OFFER");
    server.push(&weaker);
    server.next_message().unwrap().unwrap();
    client.secure(&key, &mut SystemEntropy).unwrap();
    server.secure(&key, &mut SystemEntropy).unwrap();
    wire.clear();
    client.seal(b"payload", &mut wire).unwrap();
    server.push(&wire);
    assert!(matches!(server.next_message(), Err(FrameError::Crypto(_))));
}

#[test]
fn the_largest_frame_of_ours_is_exactly_the_limit_of_the_peers() {
    let key = SessionKey::new([9; 32]);
    let mut sender = Channel::new(1 << 16, false);
    sender.secure(&key, &mut SystemEntropy).unwrap();
    let mut wire = Vec::new();
    sender.seal(&vec![1; 5 << 20], &mut wire).unwrap();
    let mut rest = &wire[..];
    let mut longest = 0;
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
        longest = longest.max(length);
        rest = &rest[5 + length..];
    }
    assert_eq!(longest, MAX_BODY);
}

#[test]
fn a_string_with_a_nul_never_reaches_the_wire() {
    let mut writer = MessageWriter::new(Coding::Plain);
    writer.str("a\0b");
    assert_eq!(writer.finish(), Err(WireError::NulInString));
    assert_eq!(
        MessageWriter::new(Coding::Plain).finish(),
        Err(WireError::EmptyMessage)
    );
}
