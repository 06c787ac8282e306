//! Our client and our server against each other, in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cedar::claim::ClaimId;
use cedar::entropy::SystemEntropy;
use cedar::security::auth::{DirectoryFacts, DirectoryReport, DirectoryTask};
use cedar::security::client::{ClientEstablished, ClientEvent, ClientHandshake, ClientRequest};
use cedar::security::policy::PolicyError;
use cedar::security::server::{
    Authenticators, CommandTable, ConsistentPolicies, ServerContext, ServerEstablished,
    ServerEvent, ServerHandshake, ServerRules,
};
use cedar::security::token::{SigningKeys, Token, TokenSet};
use cedar::security::{
    AuthMethod, Level, PeerIdentity, PoolPassword, SUBMIT_SIDE, SecurityPolicy, Session,
    SessionSource, SessionStore, Wish,
};
use cedar::{HandshakeError, command};

const NOW: i64 = 1_795_000_000;

struct World {
    client: ClientRequest,
    server: ServerRules,
    sessions: SessionStore,
    /// What stands at the rendezvous path when the server looks.
    directory: DirectoryReport,
    /// The server's unix time.
    server_clock: i64,
    made: Vec<PathBuf>,
    removed: Vec<PathBuf>,
}

fn signing_keys() -> SigningKeys {
    let mut keys = SigningKeys::new();
    keys.add_file("POOL", b"pool key material").unwrap();
    keys.add_file("SITE", b"site key material").unwrap();
    keys
}

fn token(payload: &str) -> Token {
    Token::parse(&signing_keys().issue("SITE", payload).unwrap().unwrap()).unwrap()
}

fn good_token() -> Token {
    token(
        r#"{"iss":"test.pool","sub":"pilot@test.pool","iat":1700000000,"scope":"condor:/ADVERTISE_STARTD"}"#,
    )
}

impl World {
    fn new(methods: &[AuthMethod]) -> Self {
        let policy = SecurityPolicy {
            methods: methods.to_vec(),
            ..SecurityPolicy::default()
        };
        let tight = policy.tightened().unwrap();
        Self {
            client: ClientRequest {
                command: command::UPDATE_STARTD_AD,
                auth_command: None,
                address: "<192.0.2.1:9618>".to_owned(),
                server: "192.0.2.1:9618".to_owned(),
                shared_port: None,
                policy: tight.clone(),
                tokens: TokenSet::of(vec![good_token()]),
                password: PoolPassword::new("open sesame").ok(),
                ssl: None,
                scitoken: None,
                host: None,
                claim_to_be: Some("alice@nowhere".to_owned()),
                fs: true,
                version: "$CondorVersion: 23.9.6 2026-01-01 BuildID: test $".to_owned(),
                subsystem: "STARTD".to_owned(),
                command_sock: None,
                trust_domain: None,
                pid: 7,
                now: NOW,
            },
            server: ServerRules {
                policies: tight.into(),
                authenticators: Authenticators {
                    signing_keys: signing_keys(),
                    fs_directory: Some(PathBuf::from("/tmp")),
                    uid_domain: "test.pool".to_owned(),
                    password: PoolPassword::new("open sesame").ok(),
                    claim_to_be: true,
                    anonymous: true,
                    ..Authenticators::default()
                },
                authorizer: Arc::new(
                    CommandTable::new()
                        .serve(command::UPDATE_STARTD_AD, Level::AdvertiseStartd)
                        .serve(command::REQUEST_CLAIM, Level::Daemon)
                        .permit(Level::AdvertiseStartd, "*"),
                ),
                version: "$CondorVersion: 24.1.0 2026-01-01 BuildID: test $".to_owned(),
                trust_domain: Some("test.pool".to_owned()),
                raw_commands: Vec::new(),
                session_prefix: "test".to_owned(),
            },
            sessions: SessionStore::new(),
            directory: DirectoryReport::Found(DirectoryFacts {
                is_directory: true,
                links: 2,
                mode: 0o700,
                owner: Some("bob".to_owned()),
            }),
            server_clock: NOW,
            made: Vec::new(),
            removed: Vec::new(),
        }
    }

    fn run(&mut self) -> Outcome {
        let client = ClientHandshake::new_session(self.client.clone(), &mut SystemEntropy);
        self.drive(client)
    }

    fn resume(&mut self, session: Session) -> Outcome {
        let client = ClientHandshake::resume(self.client.clone(), session, &mut SystemEntropy);
        self.drive(client)
    }

    fn drive(&mut self, client: Result<ClientHandshake, HandshakeError>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut client = match client {
            Ok(client) => Some(client),
            Err(error) => {
                outcome.client = Some(Err(error));
                return outcome;
            }
        };
        let mut server = Some(ServerHandshake::new(Arc::new(self.server.clone()), None));
        for _ in 0..100 {
            if let Some(mut end) = client.take() {
                let event = end.advance(&mut SystemEntropy);
                let output = end.take_output();
                if let Some(server) = &mut server {
                    // Byte by byte: no end may depend on how the network cuts.
                    for byte in output {
                        server.push(&[byte]);
                    }
                }
                match event {
                    Ok(ClientEvent::NeedInput) => client = Some(end),
                    Ok(ClientEvent::Directory(task)) => {
                        match task {
                            DirectoryTask::Make(path) => self.made.push(path),
                            DirectoryTask::Remove(path) => self.removed.push(path),
                            DirectoryTask::Inspect(_) => panic!("a client never looks"),
                        }
                        end.directory_done(&DirectoryReport::Done).unwrap();
                        client = Some(end);
                    }
                    Ok(ClientEvent::Established(done)) => outcome.client = Some(Ok(done)),
                    Err(error) => outcome.client = Some(Err(error)),
                }
            }
            if let Some(mut end) = server.take() {
                let mut ctx = ServerContext {
                    sessions: &mut self.sessions,
                    entropy: &mut SystemEntropy,
                    now: self.server_clock,
                };
                let mut event = end.advance(&mut ctx);
                if let Ok(ServerEvent::Directory(DirectoryTask::Inspect(path))) = &event {
                    assert_eq!(self.made.last(), Some(path));
                    event = match end.directory_done(&self.directory, &mut ctx) {
                        Ok(Some(event)) => Ok(event),
                        Ok(None) => end.advance(&mut ctx),
                        Err(error) => Err(error),
                    };
                }
                let output = end.take_output();
                match &mut outcome.client {
                    Some(Ok(done)) => done.channel.push(&output),
                    _ => {
                        if let Some(client) = &mut client {
                            client.push(&output);
                        }
                    }
                }
                match event {
                    Ok(ServerEvent::NeedInput) => server = Some(end),
                    Ok(ServerEvent::Established(done)) => outcome.server = Some(Ok(done)),
                    Ok(ServerEvent::Directory(_)) => panic!("answered above"),
                    Err(error) => outcome.server = Some(Err(error)),
                }
            }
        }
        outcome
    }
}

#[derive(Default)]
struct Outcome {
    client: Option<Result<Box<ClientEstablished>, HandshakeError>>,
    server: Option<Result<Box<ServerEstablished>, HandshakeError>>,
}

impl Outcome {
    fn established(self) -> (Box<ClientEstablished>, Box<ServerEstablished>) {
        let client = self
            .client
            .expect("client ended")
            .expect("client established");
        let server = self
            .server
            .expect("server ended")
            .expect("server established");
        (client, server)
    }

    fn server_error(self) -> HandshakeError {
        self.server
            .expect("server ended")
            .expect_err("server refused")
    }

    fn client_error(self) -> HandshakeError {
        self.client
            .expect("client ended")
            .expect_err("client failed")
    }
}

/// Sends messages of many sizes both ways.
fn exchange(client: &mut ClientEstablished, server: &mut ServerEstablished) {
    for size in [1usize, 4091, 1 << 20, (3 << 20) + 5] {
        let body: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
        server.channel.set_limit(8 << 20);
        client.channel.set_limit(8 << 20);
        let mut wire = Vec::new();
        client.channel.seal(&body, &mut wire).unwrap();
        for piece in wire.chunks(100_003) {
            server.channel.push(piece);
        }
        assert_eq!(server.channel.next_message().unwrap().as_ref(), Some(&body));
        wire.clear();
        server.channel.seal(&body, &mut wire).unwrap();
        client.channel.push(&wire);
        assert_eq!(client.channel.next_message().unwrap().as_ref(), Some(&body));
    }
}

#[test]
fn every_method_leads_to_an_encrypted_connection() {
    for (method, user) in [
        (AuthMethod::Token, "pilot@test.pool"),
        (AuthMethod::Fs, "bob@test.pool"),
        (AuthMethod::ClaimToBe, "alice@claimtobe"),
        (AuthMethod::Anonymous, "CONDOR_ANONYMOUS_USER"),
        (AuthMethod::Password, "condor@password"),
    ] {
        let mut world = World::new(&[method]);
        let (mut client, mut server) = world.run().established();
        assert_eq!(client.method(), Some(method));
        assert_eq!(server.peer.user, user);
        assert_eq!(client.our_user.as_deref(), Some(user));
        assert_eq!(client.peer_version, Some(cedar::Version::new(24, 1, 0)));
        assert_eq!(server.peer_version, Some(cedar::Version::new(23, 9, 6)));
        assert_eq!(client.channel.coding(), cedar::Coding::Encrypted);
        exchange(&mut client, &mut server);
        if method == AuthMethod::Fs {
            assert_eq!(world.made, world.removed);
            assert_eq!(world.made[0].parent(), Some(Path::new("/tmp")));
        }
    }
}

#[test]
fn the_name_of_those_who_know_the_pool_password_depends_on_the_versions() {
    let old = "$CondorVersion: 9.0.1 2021-01-01 BuildID: test $";
    let new = "$CondorVersion: 23.9.6 2026-01-01 BuildID: test $";
    for (client, server) in [(old, old), (old, new), (new, old), (new, new)] {
        let mut world = World::new(&[AuthMethod::Password]);
        world.client.version = client.to_owned();
        world.server.version = server.to_owned();
        let (_, server) = world.run().established();
        assert_eq!(server.peer.user, "condor@password");
    }
}

#[test]
fn another_pool_password_is_refused_by_whichever_side_sees_it_first() {
    let mut world = World::new(&[AuthMethod::Password, AuthMethod::ClaimToBe]);
    world.client.password = PoolPassword::new("open barley").ok();
    // The client sees that the server's proof is wrong, and goes on with the next method.
    let (client, _) = world.run().established();
    assert_eq!(client.method(), Some(AuthMethod::ClaimToBe));
    let mut world = World::new(&[AuthMethod::Password]);
    world.client.password = PoolPassword::new("open barley").ok();
    let error = world.run().client_error().to_string();
    assert!(error.contains("another pool password"), "{error}");
}

#[test]
fn the_scope_of_a_token_limits_the_session() {
    let mut world = World::new(&[AuthMethod::Token]);
    world.client.command = command::REQUEST_CLAIM;
    let outcome = world.run();
    let client = outcome.client.as_ref().unwrap().as_ref().unwrap_err();
    assert!(
        matches!(client, HandshakeError::Denied { user: Some(user) } if user == "pilot@test.pool")
    );
    assert!(matches!(
        outcome.server_error(),
        HandshakeError::Unauthorized { .. }
    ));
    assert!(
        world.sessions.is_empty(),
        "the session of a denied command is not kept"
    );
}

#[test]
fn a_failing_method_is_followed_by_the_next_whatever_the_order() {
    let expired = token(r#"{"iss":"test.pool","sub":"p@test.pool","exp":1795000100}"#);
    let all = [AuthMethod::Token, AuthMethod::Fs, AuthMethod::ClaimToBe];
    for first in 0..3 {
        let mut methods = all.to_vec();
        methods.rotate_left(first);
        let mut world = World::new(&methods);
        // To the client the token is good, to the server it is not; and FS finds a link.
        world.client.tokens = TokenSet::of(vec![expired.clone()]);
        world.client.now = NOW;
        world.directory = DirectoryReport::Found(DirectoryFacts {
            is_directory: false,
            links: 1,
            mode: 0o777,
            owner: Some("root".to_owned()),
        });
        let mut keys = SigningKeys::new();
        keys.add_file("SITE", b"another key of that name").unwrap();
        world.server.authenticators.signing_keys = keys;
        let outcome = world.run();
        let token_last_word = methods.iter().position(|m| *m == AuthMethod::Token)
            < methods.iter().position(|m| *m == AuthMethod::ClaimToBe);
        let (client, server) = outcome.established();
        assert_eq!(
            client.method(),
            Some(AuthMethod::ClaimToBe),
            "{methods:?} {token_last_word}"
        );
        assert_eq!(server.peer.method, Some(AuthMethod::ClaimToBe));
    }
}

#[test]
fn a_token_the_server_has_no_key_for_says_so_on_both_sides() {
    let mut world = World::new(&[AuthMethod::Token]);
    let mut keys = SigningKeys::new();
    keys.add_file("SITE", b"another key of that name").unwrap();
    world.server.authenticators.signing_keys = keys;
    let outcome = world.run();
    // The server cannot prove that it knows the signature, so the client stops first.
    let error = outcome.client_error();
    assert!(matches!(&error, HandshakeError::Authentication(attempts) if attempts.len() == 1));
    assert!(
        error
            .to_string()
            .contains("does not know the token's signing key"),
        "{error}"
    );
}

#[test]
fn no_token_that_fits_names_every_token_and_the_reason() {
    let mut world = World::new(&[AuthMethod::Token]);
    world.client.tokens = TokenSet::of(vec![
        token(r#"{"iss":"other.pool","sub":"a@other.pool"}"#),
        token(r#"{"iss":"test.pool","sub":"b@test.pool","exp":1700000000}"#),
        token(r#"{"iss":"test.pool","sub":"c@test.pool","nbf":1900000000}"#),
    ]);
    let text = world.run().client_error().to_string();
    for part in [
        "a@other.pool): issued by other.pool, the server is in trust domain test.pool",
        "b@test.pool): expired at unix time 1700000000",
        "c@test.pool): not valid before unix time 1900000000",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn the_server_checks_issuer_and_dates_itself() {
    for (payload, wanted) in [
        (
            r#"{"iss":"other.pool","sub":"a@other.pool"}"#,
            "issued by other.pool",
        ),
        (
            r#"{"iss":"test.pool","sub":"a@test.pool","exp":1794999999}"#,
            "expired",
        ),
        (
            r#"{"iss":"test.pool","sub":"a@test.pool","nbf":1795000001}"#,
            "not valid before",
        ),
    ] {
        let mut world = World::new(&[AuthMethod::Token]);
        world.client.tokens = TokenSet::of(vec![token(payload)]);
        // A client that checks nothing: it believes another time and is told no domain.
        world.client.now = if payload.contains("nbf") {
            NOW + 10
        } else {
            NOW - 100
        };
        if wanted.contains("issued") {
            // The name of the domain on the wire would stop our own client.
            world.server.trust_domain = Some("test.pool".to_owned());
            let text = world.run().client_error().to_string();
            assert!(text.contains("trust domain test.pool"), "{text}");
            continue;
        }
        let outcome = world.run();
        let error = outcome.client_error();
        assert!(
            matches!(error, HandshakeError::Authentication(_)),
            "{error}"
        );
    }
}

#[test]
fn sides_without_a_common_method_part_with_a_reason() {
    let mut world = World::new(&[AuthMethod::Token]);
    world.client.policy = SecurityPolicy {
        methods: vec![AuthMethod::ClaimToBe],
        ..SecurityPolicy::default()
    }
    .tightened()
    .unwrap();
    let outcome = world.run();
    let client = outcome.client.as_ref().unwrap().as_ref().unwrap_err();
    assert!(
        matches!(
            client,
            HandshakeError::NoMethod { .. } | HandshakeError::Weakened(_)
        ),
        "{client}"
    );
    assert!(matches!(
        outcome.server_error(),
        HandshakeError::NoMethod { .. }
    ));
}

#[test]
fn required_against_never_ends_without_an_answer() {
    let mut world = World::new(&[AuthMethod::Token]);
    world.client.policy = SecurityPolicy {
        authentication: Wish::Never,
        encryption: Wish::Never,
        integrity: Wish::Never,
        ..SecurityPolicy::default()
    }
    .tightened()
    .unwrap();
    let outcome = world.run();
    assert!(
        outcome.client.is_none(),
        "the client waits for an answer until the close"
    );
    assert!(matches!(
        outcome.server_error(),
        HandshakeError::Policy(PolicyError::Conflict { .. })
    ));
}

#[test]
fn nobody_required_anything_and_the_connection_is_plain() {
    let easy = SecurityPolicy {
        negotiation: Wish::Preferred,
        authentication: Wish::Optional,
        encryption: Wish::Optional,
        integrity: Wish::Optional,
        ..SecurityPolicy::default()
    }
    .tightened()
    .unwrap();
    let mut world = World::new(&[AuthMethod::Token]);
    world.client.policy = easy.clone();
    world.server.policies = easy.into();
    let (mut client, mut server) = world.run().established();
    assert_eq!(client.channel.coding(), cedar::Coding::Plain);
    assert_eq!(server.peer, PeerIdentity::unauthenticated());
    assert!(world.sessions.is_empty());
    exchange(&mut client, &mut server);
}

#[test]
fn a_client_that_needs_encryption_does_not_accept_a_no() {
    let mut world = World::new(&[AuthMethod::Token]);
    let never = SecurityPolicy {
        authentication: Wish::Never,
        encryption: Wish::Never,
        integrity: Wish::Never,
        ..SecurityPolicy::default()
    };
    world.server.policies = never.tightened().unwrap().into();
    // A server that ignores the client's REQUIRED: preferred in words, decided against.
    world.client.policy = SecurityPolicy {
        authentication: Wish::Preferred,
        encryption: Wish::Preferred,
        integrity: Wish::Preferred,
        ..SecurityPolicy::default()
    }
    .tightened()
    .unwrap();
    let (client, _) = world.run().established();
    assert_eq!(client.channel.coding(), cedar::Coding::Plain);
}

fn claim_session(claim: &ClaimId) -> Session {
    Session {
        id: claim.session_id().to_owned(),
        key: claim.key().unwrap(),
        source: SessionSource::Claim,
        peer: PeerIdentity::named(SUBMIT_SIDE),
        peer_version: None,
        our_user: None,
        expires: None,
        lease: None,
        last_used: 0,
    }
}

#[test]
fn a_claim_session_needs_no_handshake_and_serves_any_number_of_connections() {
    let address = cedar::Sinful::parse("<192.0.2.1:9618?noUDP>").unwrap();
    let claim = ClaimId::mint(&address, NOW, 1).unwrap();
    let mut world = World::new(&[AuthMethod::Token]);
    world.server.policies = ConsistentPolicies::default();
    world.client.command = command::REQUEST_CLAIM;
    world.sessions.insert(claim_session(&claim));
    for _ in 0..3 {
        let (mut client, mut server) = world.resume(claim_session(&claim)).established();
        assert!(server.resumed);
        assert_eq!(server.peer.user, SUBMIT_SIDE);
        exchange(&mut client, &mut server);
    }
}

#[test]
fn a_wrong_key_shows_at_the_first_encrypted_frame() {
    let address = cedar::Sinful::parse("<192.0.2.1:9618?noUDP>").unwrap();
    let ours = ClaimId::mint(&address, NOW, 1).unwrap();
    let theirs = ClaimId::mint(&address, NOW, 1).unwrap();
    let mut world = World::new(&[AuthMethod::Token]);
    world.client.command = command::REQUEST_CLAIM;
    world.sessions.insert(claim_session(&theirs));
    let (mut client, mut server) = world.resume(claim_session(&ours)).established();
    let mut wire = Vec::new();
    client.channel.seal(b"claim", &mut wire).unwrap();
    server.channel.push(&wire);
    assert!(server.channel.next_message().is_err());
}

#[test]
fn an_unknown_session_is_answered_as_such() {
    let address = cedar::Sinful::parse("<192.0.2.1:9618?noUDP>").unwrap();
    let claim = ClaimId::mint(&address, NOW, 1).unwrap();
    let mut world = World::new(&[AuthMethod::Token]);
    let outcome = world.resume(claim_session(&claim));
    assert!(matches!(
        outcome.client.as_ref().unwrap(),
        Err(HandshakeError::UnknownSession { .. })
    ));
    let text = outcome.server_error().to_string();
    let secret = claim.as_str().rsplit_once(']').unwrap().1;
    assert!(!text.contains(secret));
}

#[test]
fn a_server_for_claims_only_refuses_new_sessions() {
    let mut world = World::new(&[AuthMethod::Token]);
    world.server.policies = ConsistentPolicies::default();
    let error = world.run().server_error();
    assert!(
        matches!(error, HandshakeError::NewSessionRefused(_)),
        "{error}"
    );
}

#[test]
fn a_negotiated_session_is_resumed_until_it_ends() {
    let mut world = World::new(&[AuthMethod::Token]);
    let (client, _) = world.run().established();
    let session = client.session.unwrap();
    let (_, server) = world.resume(session.clone()).established();
    assert!(server.resumed);
    assert_eq!(server.peer.user, "pilot@test.pool");
    assert_eq!(server.peer.limit, Some(vec![Level::AdvertiseStartd]));
    // An hour of silence and the slop, and it is gone.
    world.server_clock = NOW + 3_600 + 21;
    let gone = world.resume(session).server_error();
    assert!(
        matches!(gone, HandshakeError::UnknownSession { .. }),
        "{gone}"
    );
}

#[test]
fn a_session_in_use_ends_with_the_shorter_of_both_durations() {
    let mut world = World::new(&[AuthMethod::Token]);
    let wish = |duration| {
        let policy = SecurityPolicy {
            session_duration: duration,
            session_lease: 0,
            ..SecurityPolicy::default()
        };
        policy.tightened().unwrap()
    };
    world.client.policy = wish(60);
    world.server.policies = wish(600).into();
    let session = world.run().established().0.session.unwrap();
    for passed in [30, 59, 79] {
        world.server_clock = NOW + passed;
        assert!(world.resume(session.clone()).established().1.resumed);
    }
    world.server_clock = NOW + 81;
    let gone = world.resume(session).server_error();
    assert!(
        matches!(gone, HandshakeError::UnknownSession { .. }),
        "{gone}"
    );
}

#[test]
fn a_question_about_access_uses_the_level_of_the_command_asked_about() {
    let mut world = World::new(&[AuthMethod::Token]);
    world.client.command = command::DC_SEC_QUERY;
    world.client.auth_command = Some(command::DC_NOP_ADVERTISE_STARTD);
    let (_, server) = world.run().established();
    assert_eq!(server.auth_command, Some(command::DC_NOP_ADVERTISE_STARTD));
    world.client.auth_command = Some(command::DC_NOP_DAEMON);
    assert!(matches!(
        world.run().server_error(),
        HandshakeError::Unauthorized { .. }
    ));
}
