//! Our client against the recorded frames of real servers: it must send what the prototype sent.

use cedar::HandshakeError;
use cedar::claim::ClaimId;
use cedar::entropy::{Entropy, Purpose};
use cedar::security::auth::{DirectoryReport, DirectoryTask};
use cedar::security::client::{
    ClientEstablished, ClientEvent, ClientHandshake, ClientRequest, SharedPort,
};
use cedar::security::policy::ConsistentPolicy;
use cedar::security::token::{Token, TokenSet};
use cedar::security::{
    AuthMethod, PeerIdentity, PoolPassword, SUBMIT_SIDE, SecurityPolicy, Session, SessionSource,
    Wish,
};
use serde_json::Value;

use crate::support::{Dir, Frame, Recorded, frames, session_key, vector};

/// What the prototype asked for, from the readable form of its security ad.
fn request(ad: &Value, token: Option<&Value>) -> ClientRequest {
    let text = |name: &str| ad[name].as_str().map(str::to_owned);
    let wish = |name: &str| Wish::from_text(ad[name].as_str().unwrap_or("NEVER")).unwrap();
    let methods = ad["AuthMethods"].as_str().unwrap_or("TOKEN");
    let policy = SecurityPolicy {
        negotiation: wish("OutgoingNegotiation"),
        authentication: wish("Authentication"),
        encryption: wish("Encryption"),
        integrity: wish("Integrity"),
        methods: methods
            .split(',')
            .filter_map(AuthMethod::from_name)
            .collect(),
        session_duration: ad["SessionDuration"]
            .as_str()
            .unwrap_or("60")
            .parse()
            .unwrap(),
        session_lease: ad["SessionLease"].as_i64().unwrap_or(3600),
    };
    let number = |name: &str| ad[name].as_i64().map(|value| i32::try_from(value).unwrap());
    let token = token
        .and_then(Value::as_str)
        .map(|text| Token::parse(text).unwrap());
    ClientRequest {
        command: number("Command").unwrap(),
        auth_command: number("AuthCommand"),
        address: text("ConnectSinful").unwrap(),
        server: "127.0.0.1:22618".to_owned(),
        shared_port: None,
        policy: ConsistentPolicy::unchecked(policy),
        tokens: TokenSet::of(token.into_iter().collect()),
        password: PoolPassword::new("sailplane-pool-secret").ok(),
        ssl: None,
        scitoken: None,
        host: None,
        claim_to_be: Some("alice".to_owned()),
        fs: true,
        version: text("RemoteVersion").unwrap(),
        subsystem: text("Subsystem").unwrap_or_default(),
        command_sock: text("ServerCommandSock"),
        trust_domain: text("TrustDomain"),
        pid: ad["ServerPid"].as_i64().unwrap_or(0),
        now: 1_700_000_050,
    }
}

/// Feeds the server's frames one by one; everything the client sends must be in the recording.
fn replay(
    name: &str,
    mut client: ClientHandshake,
    entropy: &mut dyn Entropy,
    frames: &[Frame],
) -> (Result<Box<ClientEstablished>, HandshakeError>, usize) {
    let mut sent = client.take_output();
    let mut position = 0;
    loop {
        // Everything we sent so far must be the next client frames of the recording.
        while position < frames.len() && frames[position].dir == Dir::ToServer && !sent.is_empty() {
            let wanted = &frames[position].raw;
            let got = &sent[..wanted.len().min(sent.len())];
            assert_eq!(
                String::from_utf8_lossy(got),
                String::from_utf8_lossy(wanted),
                "{name}: frame {position} in text"
            );
            assert_eq!(got, &wanted[..], "{name}: frame {position}");
            sent.drain(..wanted.len());
            position += 1;
        }
        assert!(
            sent.is_empty(),
            "{name}: we sent more than was recorded at {position}"
        );
        match client.advance(entropy) {
            Ok(ClientEvent::NeedInput) => {
                sent.extend(client.take_output());
                if !sent.is_empty() {
                    continue;
                }
                let frame = &frames[position];
                assert_eq!(
                    frame.dir,
                    Dir::ToClient,
                    "{name}: we should send at {position}"
                );
                client.push(&frame.raw);
                position += 1;
            }
            Ok(ClientEvent::Directory(task)) => {
                assert!(matches!(
                    task,
                    DirectoryTask::Make(_) | DirectoryTask::Remove(_)
                ));
                client.directory_done(&DirectoryReport::Done).unwrap();
                sent.extend(client.take_output());
            }
            Ok(ClientEvent::Established(done)) => return (Ok(done), position),
            Err(error) => return (Err(error), position),
        }
    }
}

/// Runs the rest of a recording over the established connection.
fn finish(name: &str, done: &mut ClientEstablished, frames: &[Frame], from: usize) {
    let mut foreign = false;
    for (index, frame) in frames.iter().enumerate().skip(from) {
        let body = frame
            .plain
            .clone()
            .unwrap_or_else(|| frame.raw[5..].to_vec());
        match frame.dir {
            Dir::ToServer => {
                let mut sealed = Vec::new();
                done.channel.seal(&body, &mut sealed).unwrap();
                assert_eq!(sealed, frame.raw, "{name}: frame {index}");
            }
            Dir::ToClient => {
                foreign |= frame.raw[0] == 0;
                done.channel.push(&frame.raw);
                let message = done.channel.next_message().unwrap();
                if !foreign {
                    assert_eq!(message.as_ref(), Some(&body), "{name}: frame {index}");
                }
            }
        }
    }
}

fn run(name: &str, tweak: impl FnOnce(&mut ClientRequest)) -> Box<ClientEstablished> {
    let vector = vector(name);
    let frames = frames(&vector);
    let token = &vector["derived"]["akep2"]["token"];
    let base = crate::support::vector("10_idtokens_query_collector");
    // Where no token is named, it was that of the first recording.
    let token = [
        token,
        &vector["inputs"]["token"],
        &base["derived"]["akep2"]["token"],
    ]
    .into_iter()
    .find(|v| v.is_string());
    let mut request = request(&vector["decoded"]["security_ad"], token);
    tweak(&mut request);
    let mut entropy = Recorded::of(&vector);
    if let Some(challenge) = challenge_of(&frames) {
        entropy = entropy.with(Purpose::Challenge, challenge);
    }
    let client = ClientHandshake::new_session(request, &mut entropy).unwrap();
    let (done, position) = replay(name, client, &mut entropy, &frames);
    let mut done = done.unwrap_or_else(|error| panic!("{name}: {error}"));
    let post = &vector["decoded"]["post_auth_ad"];
    assert_eq!(done.session_id.as_deref(), post["Sid"].as_str(), "{name}");
    assert_eq!(done.our_user.as_deref(), post["User"].as_str(), "{name}");
    if let Some(key) = session_key(&vector) {
        let session = done.session.as_ref().unwrap();
        assert_eq!(session.key.expose(), key.expose(), "{name}");
        assert_eq!(session.expires, Some(1_700_000_050 + 60), "{name}");
    } else {
        assert!(done.session.is_none());
    }
    finish(name, &mut done, &frames, position);
    done
}

#[test]
fn a_token_of_a_named_key_is_taken_by_a_real_collector() {
    let done = run("10_idtokens_query_collector", |_| {});
    assert_eq!(done.method(), Some(AuthMethod::Token));
    assert_eq!(done.peer_version, Some(cedar::Version::new(23, 9, 6)));
    assert!(done.valid_commands.contains(&48));
}

#[test]
fn a_scoped_token_of_the_pool_key_is_taken_too() {
    run("11_idtokens_poolkey_scoped", |_| {});
}

#[test]
fn the_pool_password_is_proven_to_a_real_collector() {
    let done = run("12_password_query", |_| {});
    assert_eq!(done.method(), Some(AuthMethod::Password));
    assert_eq!(done.our_user.as_deref(), Some("condor@password"));
}

#[test]
fn fs_is_proven_by_a_directory() {
    assert_eq!(run("13_fs_query", |_| {}).method(), Some(AuthMethod::Fs));
}

#[test]
fn claimtobe_and_anonymous_run_through() {
    assert_eq!(
        run("15_claimtobe_query", |_| {}).method(),
        Some(AuthMethod::ClaimToBe)
    );
    assert_eq!(
        run("16_anonymous_query", |_| {}).method(),
        Some(AuthMethod::Anonymous)
    );
}

#[test]
fn without_authentication_nothing_is_encrypted() {
    let done = run("33_no_authentication_query", |request| {
        request.claim_to_be = None;
    });
    assert_eq!(done.method(), None);
}

#[test]
fn an_endpoint_behind_a_shared_port_does_not_count_the_selection() {
    run("80_shared_port_connect", |request| {
        request.shared_port = Some(SharedPort {
            id: "collector".to_owned(),
            client_name: "sailplane <127.0.0.1:22692>".to_owned(),
            deadline: 20,
        });
    });
}

#[test]
fn other_recorded_queries_and_updates_run_through() {
    for name in [
        "23_dc_sec_query_authorized",
        "30_update_startd_ad",
        "31_update_socket_reuse",
    ] {
        let vector = vector(name);
        if vector["decoded"]["security_ad"].is_object() {
            run(name, |_| {});
        }
    }
}

#[test]
fn an_expired_token_is_followed_by_the_next_method() {
    let name = "25_method_fallback_expired_token";
    let vector = vector(name);
    let frames = frames(&vector);
    let base = crate::support::vector("10_idtokens_query_collector");
    let mut request = request(
        &base["decoded"]["security_ad"],
        Some(&vector["inputs"]["token"]),
    );
    let mut policy = (*request.policy).clone();
    policy.methods = vec![AuthMethod::Token, AuthMethod::ClaimToBe];
    request.policy = ConsistentPolicy::unchecked(policy);
    // Our clock says that the token is still good.
    request.now = 1_700_000_050;
    let mut entropy =
        Recorded::of(&vector).with(Purpose::Challenge, challenge_of(&frames).unwrap());
    let client = ClientHandshake::new_session(request, &mut entropy).unwrap();
    let (done, position) = replay(name, client, &mut entropy, &frames);
    let mut done = done.unwrap();
    assert_eq!(done.method(), Some(AuthMethod::ClaimToBe));
    finish(name, &mut done, &frames, position);
}

/// The challenge stands at the end of the first TOKEN message.
fn challenge_of(frames: &[Frame]) -> Option<Vec<u8>> {
    let body = frames
        .iter()
        .filter(|frame| frame.dir == Dir::ToServer)
        .map(|frame| &frame.raw[5..])
        .find(|body| body.windows(3).any(|three| three == b"eyJ") && body.len() < 1000)?;
    Some(body[body.len() - 256..].to_vec())
}

#[test]
fn a_denied_command_says_who_the_server_thinks_we_are() {
    let name = "24_dc_sec_query_denied";
    let vector = vector(name);
    let frames = frames(&vector);
    let base = crate::support::vector("23_dc_sec_query_authorized");
    let mut request = request(
        &base["decoded"]["security_ad"],
        Some(&vector["inputs"]["token"]),
    );
    let opening = &frames[0].raw[13..];
    let ad = cedar::MessageReader::new(cedar::Coding::Plain, opening)
        .ad()
        .unwrap();
    request.auth_command = ad
        .int("AuthCommand")
        .map(|value| i32::try_from(value).unwrap());
    let policy = SecurityPolicy {
        methods: vec![AuthMethod::Token],
        ..(*request.policy).clone()
    };
    request.policy = ConsistentPolicy::unchecked(policy);
    let mut entropy =
        Recorded::of(&vector).with(Purpose::Challenge, challenge_of(&frames).unwrap());
    let client = ClientHandshake::new_session(request, &mut entropy).unwrap();
    let (done, _) = replay(name, client, &mut entropy, &frames);
    let error = done.unwrap_err();
    let user = vector["decoded"]["post_auth_ad"]["User"].as_str().unwrap();
    assert!(matches!(error, HandshakeError::Denied { user: Some(ref got) } if got == user));
}

fn session(id: &str, key: cedar::secret::SessionKey) -> Session {
    Session {
        id: id.to_owned(),
        key,
        source: SessionSource::Claim,
        peer: PeerIdentity::named(SUBMIT_SIDE),
        peer_version: None,
        our_user: None,
        expires: None,
        lease: None,
        last_used: 0,
    }
}

/// The request of a resumption: read from the recording, for the ad is not in its readable part.
fn resume_request(frames: &[Frame]) -> ClientRequest {
    let mut reader = cedar::MessageReader::new(cedar::Coding::Plain, &frames[0].raw[5..]);
    reader.int().unwrap();
    let ad = reader.ad().unwrap();
    let mut json = serde_json::json!({
        "Command": ad.int("Command"),
        "ConnectSinful": ad.string("ConnectSinful"),
        "RemoteVersion": ad.string("RemoteVersion"),
        "OutgoingNegotiation": "REQUIRED",
    });
    if let Some(command) = ad.int("AuthCommand") {
        json["AuthCommand"] = command.into();
    }
    request(&json, None)
}

#[test]
fn negotiated_and_claim_sessions_are_resumed() {
    for name in ["20_session_resume", "41_claim_id_session"] {
        let vector = vector(name);
        let frames = frames(&vector);
        let (id, key) = match vector["inputs"]["claim_id"].as_str() {
            Some(text) => {
                let claim = ClaimId::parse(text).unwrap();
                (claim.session_id().to_owned(), claim.key().unwrap())
            }
            None => (
                vector["inputs"]["sid"].as_str().unwrap().to_owned(),
                session_key(&vector).unwrap(),
            ),
        };
        let mut entropy = Recorded::of(&vector);
        let request = resume_request(&frames);
        let client = ClientHandshake::resume(request, session(&id, key), &mut entropy).unwrap();
        let (done, position) = replay(name, client, &mut entropy, &frames);
        let mut done = done.unwrap();
        assert_eq!(done.peer_version, Some(cedar::Version::new(23, 9, 6)));
        finish(name, &mut done, &frames, position);
    }
}

#[test]
fn an_unknown_session_is_told_apart_from_a_refusal() {
    let name = "22_session_unknown";
    let vector = vector(name);
    let frames = frames(&vector);
    let key = cedar::secret::SessionKey::new([0; 32]);
    let nonce: Vec<u8> = (0..33).collect();
    let mut entropy = Recorded::new().with(Purpose::ResumeNonce, nonce);
    let request = resume_request(&frames);
    let session = session("nosuchhost:1:1:1", key);
    let client = ClientHandshake::resume(request, session, &mut entropy).unwrap();
    let (done, _) = replay(name, client, &mut entropy, &frames);
    assert!(matches!(done, Err(HandshakeError::UnknownSession { .. })));
}
