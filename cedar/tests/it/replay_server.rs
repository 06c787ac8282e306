//! Our server against the recorded frames of real tools and daemons.

use std::sync::Arc;

use cedar::claim::ClaimId;
use cedar::security::server::{
    Authenticators, CommandTable, ConsistentPolicies, ServerContext, ServerEstablished,
    ServerEvent, ServerHandshake, ServerRules,
};
use cedar::security::token::SigningKeys;
use cedar::security::{
    AuthMethod, Level, PeerIdentity, SUBMIT_SIDE, SecurityPolicy, Session, SessionSource,
    SessionStore, Wish,
};
use cedar::{Coding, MessageReader, command};
use serde_json::Value;

use crate::support::{Dir, Frame, Recorded, assert_ad, frames, hex_of, vector};

fn rules(vector: &Value) -> ServerRules {
    let mut keys = SigningKeys::new();
    let table = crate::support::vector("01_derivations");
    for file in table["signing_key_files"].as_array().unwrap() {
        keys.add_file(
            file["key_id"].as_str().unwrap(),
            &hex_of(&file["file_bytes"]),
        )
        .unwrap();
    }
    let policy = SecurityPolicy {
        methods: vec![AuthMethod::Token],
        encryption: Wish::Preferred,
        integrity: Wish::Preferred,
        ..SecurityPolicy::default()
    };
    let version = vector["decoded"]["server_reply_ad"]["RemoteVersion"].as_str();
    ServerRules {
        policies: policy.tightened().unwrap().into(),
        authenticators: Authenticators {
            signing_keys: keys,
            ..Authenticators::default()
        },
        authorizer: Arc::new(
            CommandTable::new()
                .serve(command::UPDATE_STARTD_AD, Level::AdvertiseStartd)
                .serve(command::QUERY_STARTD_ADS, Level::Read)
                .serve(command::QUERY_ANY_ADS, Level::Read)
                .serve(command::REQUEST_CLAIM, Level::Daemon)
                .permit(Level::Write, "pilot@test.pool")
                .permit(Level::AdvertiseStartd, "pilot@test.pool"),
        ),
        version: version
            .unwrap_or("$CondorVersion: 23.9.6 2026-01-01 test $")
            .to_owned(),
        trust_domain: Some("test.pool".to_owned()),
        raw_commands: vec![command::DC_INVALIDATE_KEY],
        session_prefix: "pyserver:1".to_owned(),
    }
}

/// Plays the client's frames; the server's clear frames must be the recorded ones if `exact`.
fn replay(
    name: &str,
    rules: ServerRules,
    vector: &Value,
    sessions: &mut SessionStore,
    exact: bool,
) -> (Box<ServerEstablished>, Vec<Frame>, Vec<u8>) {
    let mut entropy = Recorded::of(vector);
    let mut server = ServerHandshake::new(Arc::new(rules), None);
    let mut rest = frames(vector).into_iter();
    let mut sent = Vec::new();
    loop {
        let mut ctx = ServerContext {
            sessions,
            entropy: &mut entropy,
            now: 1_795_349_723,
        };
        let event = server
            .advance(&mut ctx)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        sent.extend(server.take_output());
        match event {
            ServerEvent::Established(done) => return (done, rest.collect(), sent),
            ServerEvent::Directory(_) => panic!("{name}: no FS here"),
            ServerEvent::NeedInput => {
                let mut next = rest.next().unwrap_or_else(|| panic!("{name}: needs more"));
                while next.dir == Dir::ToClient {
                    if exact && next.plain.is_none() {
                        let got: Vec<_> = sent.drain(..next.raw.len().min(sent.len())).collect();
                        assert_eq!(got, next.raw, "{name}: server frame");
                    }
                    next = rest.next().unwrap_or_else(|| panic!("{name}: needs more"));
                }
                server.push(&next.raw);
            }
        }
    }
}

#[test]
fn condor_ping_status_and_advertise_are_answered_byte_for_byte_until_the_session_id() {
    for (name, wanted, asked) in [
        (
            "60_server_condor_ping",
            command::DC_SEC_QUERY,
            Some(command::DC_NOP_WRITE),
        ),
        ("61_server_condor_status", command::QUERY_STARTD_ADS, None),
        (
            "62_server_condor_advertise",
            command::UPDATE_STARTD_AD,
            None,
        ),
    ] {
        let vector = vector(name);
        let mut sessions = SessionStore::new();
        let (mut done, rest, sent) = replay(name, rules(&vector), &vector, &mut sessions, true);
        assert_eq!((done.command, done.auth_command), (wanted, asked), "{name}");
        assert_eq!(done.peer.user, "pilot@test.pool");
        assert_eq!(done.peer.method, Some(AuthMethod::Token));
        assert_eq!(done.peer.token.as_ref().unwrap().issuer, "test.pool");
        let session = sessions
            .by_id(done.session_id.as_deref().unwrap(), 1_795_349_723)
            .unwrap();
        let key = crate::support::session_key(&vector).unwrap();
        assert_eq!(session.key.expose(), key.expose());
        // What is left of the output: message 4, then the encrypted post-authentication ad.
        assert_eq!(sent[..13], *b"\x01\0\0\0\x08\0\0\0\0\0\0\0\0");
        assert_eq!(
            sent[18..34],
            hex_of(&vector["inputs"]["server_iv_base"])[..]
        );
        // What the tool sent afterwards is opened with our side's digests.
        for frame in rest.iter().filter(|frame| frame.dir == Dir::ToServer) {
            done.channel.push(&frame.raw);
            let message = done.channel.next_message().unwrap();
            assert_eq!(message, frame.plain, "{name}");
        }
    }
}

#[test]
fn a_real_schedd_resumes_the_session_of_a_claim_we_advertised() {
    let name = "42_claim_session_request_claim";
    let vector = vector(name);
    let claim = ClaimId::parse(vector["inputs"]["claim_id"].as_str().unwrap()).unwrap();
    let mut sessions = SessionStore::new();
    sessions.insert(Session {
        id: claim.session_id().to_owned(),
        key: claim.key().unwrap(),
        source: SessionSource::Claim,
        peer: PeerIdentity::named(SUBMIT_SIDE),
        peer_version: None,
        our_user: None,
        expires: None,
        lease: None,
        last_used: 0,
    });
    let mut rules = rules(&vector);
    rules.policies = ConsistentPolicies::default();
    // The recorded answer has another random nonce and version; take over both to get its digest.
    let all = frames(&vector);
    let answer = MessageReader::new(Coding::Plain, &all[1].raw[5..])
        .ad()
        .unwrap();
    rules.version = answer.string("RemoteVersion").unwrap();
    let nonce = crate::support::base64(&answer.string("Nonce").unwrap());
    let mut entropy = Recorded::of(&vector).with(cedar::entropy::Purpose::ResumeNonce, nonce);
    let mut server = ServerHandshake::new(Arc::new(rules), None);
    server.push(&all[0].raw);
    let mut ctx = ServerContext {
        sessions: &mut sessions,
        entropy: &mut entropy,
        now: 1_795_350_010,
    };
    let Ok(ServerEvent::Established(mut done)) = server.advance(&mut ctx) else {
        panic!("the session is known");
    };
    assert_eq!(server.take_output(), all[1].raw);
    assert_eq!(done.command, command::REQUEST_CLAIM);
    assert_eq!(done.session_id.as_deref(), Some(claim.session_id()));
    assert_eq!(done.peer.user, SUBMIT_SIDE);
    assert!(done.resumed);
    done.channel.push(&all[2].raw);
    let message = done.channel.next_message().unwrap().unwrap();
    let mut reader = MessageReader::new(Coding::Encrypted, &message);
    assert!(claim.same_as(&reader.str().unwrap()));
    let job = reader.ad().unwrap();
    assert_eq!(job.bool("_condor_SECURE_CLAIM_ID"), Some(true));
}

#[test]
fn the_security_ads_of_real_tools_are_read_as_recorded() {
    for name in [
        "60_server_condor_ping",
        "61_server_condor_status",
        "62_server_condor_advertise",
    ] {
        let vector = vector(name);
        let all = frames(&vector);
        let mut reader = MessageReader::new(Coding::Plain, &all[0].raw[5..]);
        reader.int().unwrap();
        assert_ad(
            &reader.ad().unwrap(),
            &vector["decoded"]["client_security_ad"],
            name,
        );
    }
}

#[test]
fn an_invalidated_key_is_a_raw_command_we_take() {
    let vector = vector("27_invalidate_key");
    let all = frames(&vector);
    let mut server = ServerHandshake::new(Arc::new(rules(&vector)), None);
    server.push(&all[0].raw);
    let mut sessions = SessionStore::new();
    let mut ctx = ServerContext {
        sessions: &mut sessions,
        entropy: &mut Recorded::new(),
        now: 0,
    };
    let Ok(ServerEvent::Established(done)) = server.advance(&mut ctx) else {
        panic!("the command is allowed raw");
    };
    assert_eq!(done.command, command::DC_INVALIDATE_KEY);
    let body = done.first.unwrap();
    let text = MessageReader::new(Coding::Plain, &body).str().unwrap();
    assert!(text.contains("ConnectSinful"), "{text}");
}
