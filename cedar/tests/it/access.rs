//! Who may run what: policies per level, raw commands, limits, the map file, the log.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cedar::net::{
    Client, ClientConfig, Error, ErrorKind, Policies, Server, ServerConfig, SessionCache,
};
use cedar::security::server::{Authenticators, Authorizer, CommandRule, Decision};
use cedar::security::token::{SigningKeys, Token, TokenClaims, TokenRule};
use cedar::security::{AuthMethod, IdentityMap, Level, PeerIdentity, SecurityPolicy, Wish};
use cedar::{HandshakeError, Sinful, command};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Who may do what: the users of each level, `*` for anybody, and nobody from another machine.
struct Lists(BTreeMap<Level, Vec<&'static str>>);

impl Authorizer for Lists {
    fn rule(&self, command: i32) -> Option<CommandRule> {
        Some(match command {
            command::QUERY_STARTD_ADS => CommandRule::new(Level::Read),
            command::ACT_ON_JOBS => CommandRule::new(Level::Write),
            command::INVALIDATE_STARTD_ADS | command::UPDATE_STARTD_AD => {
                CommandRule::new(Level::AdvertiseStartd).or(Level::Daemon)
            }
            command::DC_RECONFIG => CommandRule::new(Level::Administrator),
            _ => return None,
        })
    }

    fn decide(&self, peer: &PeerIdentity, from: Option<IpAddr>, level: Level) -> Decision {
        let local = from.is_some_and(|from| from.is_loopback());
        let users = self.0.get(&level).cloned().unwrap_or_default();
        match local
            && users
                .iter()
                .any(|user| ["*", peer.user.as_str()].contains(user))
        {
            true => Decision::Allowed,
            false => Decision::Denied(format!("ALLOW_{level} has no entry for it")),
        }
    }

    fn commands(&self) -> Vec<i32> {
        vec![
            command::QUERY_STARTD_ADS,
            command::ACT_ON_JOBS,
            command::UPDATE_STARTD_AD,
            command::INVALIDATE_STARTD_ADS,
            command::DC_RECONFIG,
        ]
    }
}

fn keys() -> SigningKeys {
    let mut keys = SigningKeys::new();
    keys.add_file("POOL", b"pool key material").unwrap();
    keys
}

fn token(payload: &str) -> Token {
    let text = keys().issue("POOL", payload).unwrap().unwrap();
    Token::parse(&text).unwrap()
}

fn policy(authentication: Wish, methods: &[AuthMethod]) -> SecurityPolicy {
    SecurityPolicy {
        negotiation: Wish::Optional.max(authentication),
        authentication,
        encryption: Wish::Optional,
        integrity: Wish::Optional,
        methods: methods.to_vec(),
        ..SecurityPolicy::default()
    }
}

const BOTH: [AuthMethod; 2] = [AuthMethod::Anonymous, AuthMethod::Token];

/// READ for anybody, WRITE and ADVERTISE_STARTD with a token, no policy for ADMINISTRATOR.
fn config() -> ServerConfig {
    let lists = Lists(BTreeMap::from([
        (Level::Read, vec!["*"]),
        (
            Level::Write,
            vec!["alice@test.pool", "alice@claimtobe", "*"],
        ),
        (Level::AdvertiseStartd, vec!["pilot@test.pool"]),
        (Level::Administrator, vec!["*"]),
    ]));
    let mut config = ServerConfig::for_sessions(SessionCache::new(), Arc::new(lists), "test-1");
    config.policies = Policies::ByLevel(BTreeMap::from([
        (Level::Read, policy(Wish::Optional, &BOTH)),
        (Level::Write, policy(Wish::Required, &[AuthMethod::Token])),
        (
            Level::AdvertiseStartd,
            policy(Wish::Required, &[AuthMethod::Token]),
        ),
    ]));
    config.authenticators = Authenticators {
        signing_keys: keys(),
        claim_to_be: true,
        anonymous: true,
        ..Authenticators::default()
    };
    config.trust_domain = Some("test.pool".to_owned());
    config
}

/// What one connection came to: command, identity, method, whether its session existed before.
type Seen = Result<(i32, String, Option<AuthMethod>, bool), Error>;

/// Serves in the background, answering each command with the number 1.
async fn serve(config: ServerConfig) -> (Sinful, mpsc::UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Sinful::from(listener.local_addr().unwrap());
    let (report, seen) = mpsc::unbounded_channel();
    let server = Server::new(config).unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, peer) = listener.accept().await.unwrap();
            let (server, report) = (server.clone(), report.clone());
            tokio::spawn(async move {
                let mut incoming = match server.accept(tcp, peer).await {
                    Ok(incoming) => incoming,
                    Err(error) => {
                        let _ = report.send(Err(error));
                        return;
                    }
                };
                let line = |incoming: &cedar::net::Incoming| {
                    let user = incoming.peer.user.clone();
                    Ok((incoming.command, user, incoming.method(), incoming.resumed))
                };
                let _ = report.send(line(&incoming));
                loop {
                    if incoming.stream.recv().await.is_err() {
                        return;
                    }
                    let mut answer = incoming.stream.message();
                    answer.int(1);
                    incoming.stream.send(answer).await.unwrap();
                    match incoming.next_command().await {
                        Ok(Some(_)) => drop(report.send(line(&incoming))),
                        Ok(None) => return,
                        Err(error) => {
                            let _ = report.send(Err(error));
                            return;
                        }
                    }
                }
            });
        }
    });
    (address, seen)
}

fn client(methods: &[AuthMethod]) -> Client {
    let mut config = ClientConfig::new("TOOL", "test-1");
    config.credentials.tokens = vec![token(r#"{"iss":"test.pool","sub":"alice@test.pool"}"#)];
    config.credentials.claim_to_be = Some("alice".to_owned());
    config.policy.methods = methods.to_vec();
    config.timeout = Duration::from_secs(5);
    Client::new(config, SessionCache::new())
}

async fn ask(client: &Client, address: &Sinful, command: i32) -> Result<(), Error> {
    let mut stream = client.start_command(address, command).await?;
    let mut message = stream.message();
    message.str("payload");
    stream.send(message).await?;
    assert_eq!(stream.recv().await?.reader().int(), Ok(1));
    Ok(())
}

#[tokio::test]
async fn each_level_has_its_policy_and_a_weak_session_does_not_reach_a_strict_level() {
    let (address, mut seen) = serve(config()).await;
    let client = client(&BOTH);
    ask(&client, &address, command::QUERY_STARTD_ADS)
        .await
        .unwrap();
    ask(&client, &address, command::QUERY_STARTD_ADS)
        .await
        .unwrap();
    ask(&client, &address, command::ACT_ON_JOBS).await.unwrap();
    let nobody = || "CONDOR_ANONYMOUS_USER".to_owned();
    let wanted = [
        (
            command::QUERY_STARTD_ADS,
            nobody(),
            Some(AuthMethod::Anonymous),
            false,
        ),
        (
            command::QUERY_STARTD_ADS,
            nobody(),
            Some(AuthMethod::Anonymous),
            true,
        ),
        (
            command::ACT_ON_JOBS,
            "alice@test.pool".to_owned(),
            Some(AuthMethod::Token),
            false,
        ),
    ];
    for line in wanted {
        assert_eq!(seen.recv().await.unwrap().unwrap(), line);
    }
}

#[tokio::test]
async fn a_client_that_insists_on_its_weak_session_is_sent_to_a_full_handshake() {
    let (address, mut seen) = serve(config()).await;
    let client = client(&BOTH);
    ask(&client, &address, command::QUERY_STARTD_ADS)
        .await
        .unwrap();
    seen.recv().await.unwrap().unwrap();
    let mut stream = client
        .start_command(&address, command::QUERY_STARTD_ADS)
        .await
        .unwrap();
    seen.recv().await.unwrap().unwrap();
    let id = stream.session_id().unwrap().to_owned();
    let refused = client
        .start_command_in_session(&address, command::ACT_ON_JOBS, &id)
        .await;
    assert!(matches!(
        refused.unwrap_err().kind(),
        ErrorKind::Handshake(HandshakeError::UnknownSession { .. })
    ));
    let why = seen.recv().await.unwrap().unwrap_err();
    assert!(
        why.to_string()
            .contains("made by ANONYMOUS, which level WRITE"),
        "{why}"
    );
    // Nor on the connection that is open already.
    let mut message = stream.message();
    message.str("payload");
    stream.send(message).await.unwrap();
    stream.recv().await.unwrap();
    let mut message = stream.message();
    message
        .int(i64::from(command::ACT_ON_JOBS))
        .str("remove them all");
    stream.send(message).await.unwrap();
    assert!(stream.recv().await.is_err());
    let why = seen.recv().await.unwrap().unwrap_err();
    assert!(why.to_string().contains("made by ANONYMOUS"), "{why}");
}

#[tokio::test]
async fn a_connection_without_authentication_does_not_reach_a_level_that_requires_it() {
    let (address, mut seen) = serve(config()).await;
    let mut stranger = ClientConfig::new("TOOL", "test-1");
    stranger.policy = policy(Wish::Never, &BOTH);
    (stranger.policy.encryption, stranger.policy.integrity) = (Wish::Never, Wish::Never);
    stranger.policy.negotiation = Wish::Preferred;
    let client = Client::new(stranger, SessionCache::new());
    let mut stream = client
        .start_command(&address, command::QUERY_STARTD_ADS)
        .await
        .unwrap();
    assert_eq!(
        seen.recv().await.unwrap().unwrap().1,
        "unauthenticated@unmapped"
    );
    let mut message = stream.message();
    message.str("payload");
    stream.send(message).await.unwrap();
    stream.recv().await.unwrap();
    // The list of WRITE has `*`, but its policy requires a token.
    let mut message = stream.message();
    message
        .int(i64::from(command::ACT_ON_JOBS))
        .str("remove them all");
    stream.send(message).await.unwrap();
    assert!(stream.recv().await.is_err());
    let why = seen.recv().await.unwrap().unwrap_err().to_string();
    assert!(
        why.contains("made by no method, which level WRITE"),
        "{why}"
    );
}

#[tokio::test]
async fn a_level_without_a_policy_is_closed_even_to_those_its_list_names() {
    let (address, mut seen) = serve(config()).await;
    let refused = ask(&client(&BOTH), &address, command::DC_RECONFIG).await;
    assert!(matches!(
        refused.unwrap_err().kind(),
        ErrorKind::OfferRefused
    ));
    let why = seen.recv().await.unwrap().unwrap_err();
    assert!(
        matches!(
            why.kind(),
            ErrorKind::Handshake(HandshakeError::NoPolicy {
                level: Level::Administrator,
                ..
            })
        ),
        "{why}"
    );
}

#[tokio::test]
async fn further_commands_on_a_connection_are_checked_each() {
    let mut config = config();
    config.policies = Policies::All(policy(Wish::Required, &[AuthMethod::Token]));
    let (address, mut seen) = serve(config).await;
    let mut pilot = ClientConfig::new("STARTD", "test-1");
    pilot.credentials.tokens = vec![token(
        r#"{"iss":"test.pool","sub":"pilot@test.pool","scope":"condor:/ADVERTISE_STARTD"}"#,
    )];
    let client = Client::new(pilot, SessionCache::new());
    let mut stream = client
        .start_command(&address, command::UPDATE_STARTD_AD)
        .await
        .unwrap();
    let mut message = stream.message();
    message.str("an ad");
    stream.send(message).await.unwrap();
    stream.recv().await.unwrap();
    for number in [
        command::UPDATE_STARTD_AD,
        command::INVALIDATE_STARTD_ADS,
        command::DC_NOP,
    ] {
        let mut message = stream.message();
        message.int(i64::from(number)).str("another");
        stream.send(message).await.unwrap();
        stream.recv().await.unwrap();
    }
    let mut message = stream.message();
    message
        .int(i64::from(command::ACT_ON_JOBS))
        .str("remove them all");
    stream.send(message).await.unwrap();
    assert!(stream.recv().await.is_err());
    for number in [
        command::UPDATE_STARTD_AD,
        command::UPDATE_STARTD_AD,
        command::INVALIDATE_STARTD_ADS,
        command::DC_NOP,
    ] {
        assert_eq!(seen.recv().await.unwrap().unwrap().0, number);
    }
    let why = seen.recv().await.unwrap().unwrap_err().to_string();
    assert!(
        why.contains("limited to: ADVERTISE_STARTD") && why.contains("WRITE"),
        "{why}"
    );
}

/// Sends a command with no handshake, and says whether it is served.
async fn raw(address: &Sinful, number: i32) -> bool {
    let mut tcp = TcpStream::connect(address.socket_addr().unwrap())
        .await
        .unwrap();
    let mut frame = vec![1, 0, 0, 0, 16];
    frame.extend(i64::from(number).to_be_bytes());
    frame.extend(7i64.to_be_bytes());
    tcp.write_all(&frame).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0u8; 64];
    while answer.len() < 13 {
        match tcp.read(&mut buffer).await.unwrap_or(0) {
            0 => return false,
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    answer == [&[1, 0, 0, 0, 8][..], &1i64.to_be_bytes()].concat()
}

#[tokio::test]
async fn a_raw_command_is_served_only_where_nothing_is_required_and_a_stranger_is_let_in() {
    let (address, mut seen) = serve(config()).await;
    assert!(raw(&address, command::QUERY_STARTD_ADS).await);
    let line = seen.recv().await.unwrap().unwrap();
    assert_eq!(line.1, "unauthenticated@unmapped");
    for number in [
        command::ACT_ON_JOBS,
        command::DC_RECONFIG,
        command::REQUEST_CLAIM,
        command::DC_INVALIDATE_KEY,
    ] {
        assert!(!raw(&address, number).await, "{number}");
        assert!(seen.recv().await.unwrap().is_err());
    }
    // The same, with a policy that requires encryption only.
    let mut strict = config();
    let mut read = policy(Wish::Optional, &BOTH);
    read.encryption = Wish::Required;
    strict.policies = Policies::ByLevel(BTreeMap::from([(Level::Read, read)]));
    let (address, _seen) = serve(strict).await;
    assert!(!raw(&address, command::QUERY_STARTD_ADS).await);
    // And with lists that want a name.
    let mut named = config();
    let lists = Lists(BTreeMap::from([(Level::Read, vec!["alice@test.pool"])]));
    named.authorizer = Arc::new(lists);
    let (address, mut seen) = serve(named).await;
    assert!(!raw(&address, command::QUERY_STARTD_ADS).await);
    let why = seen.recv().await.unwrap().unwrap_err().to_string();
    assert!(
        why.contains("unauthenticated@unmapped may not run command 5"),
        "{why}"
    );
}

#[tokio::test]
async fn a_claimed_name_is_good_for_the_level_it_was_claimed_for() {
    let mut config = config();
    let weak = policy(Wish::Required, &[AuthMethod::ClaimToBe]);
    config.policies = Policies::All(weak);
    let (address, mut seen) = serve(config).await;
    let client = client(&[AuthMethod::ClaimToBe]);
    ask(&client, &address, command::QUERY_STARTD_ADS)
        .await
        .unwrap();
    let line = seen.recv().await.unwrap().unwrap();
    assert_eq!(
        (line.1.as_str(), line.2),
        ("alice@claimtobe", Some(AuthMethod::ClaimToBe))
    );
    // WRITE needs a session of its own.
    ask(&client, &address, command::ACT_ON_JOBS).await.unwrap();
    let line = seen.recv().await.unwrap().unwrap();
    assert_eq!((line.0, line.3), (command::ACT_ON_JOBS, false));
    // That one is good for READ too.
    ask(&client, &address, command::ACT_ON_JOBS).await.unwrap();
    assert!(seen.recv().await.unwrap().unwrap().3);
}

struct Names;

impl IdentityMap for Names {
    fn map(&self, method: AuthMethod, name: &str) -> Option<String> {
        (method == AuthMethod::ClaimToBe && name == "alice").then(|| "queen@wonderland".to_owned())
    }
}

#[tokio::test]
async fn the_map_decides_who_a_proven_name_is() {
    let mut config = config();
    config.policies = Policies::All(policy(
        Wish::Required,
        &[AuthMethod::ClaimToBe, AuthMethod::Anonymous],
    ));
    config.authenticators.identity_map = Some(Arc::new(Names));
    let (address, mut seen) = serve(config).await;
    ask(
        &client(&[AuthMethod::ClaimToBe]),
        &address,
        command::QUERY_STARTD_ADS,
    )
    .await
    .unwrap();
    assert_eq!(seen.recv().await.unwrap().unwrap().1, "queen@wonderland");
    ask(
        &client(&[AuthMethod::Anonymous]),
        &address,
        command::QUERY_STARTD_ADS,
    )
    .await
    .unwrap();
    assert_eq!(
        seen.recv().await.unwrap().unwrap().1,
        "CONDOR_ANONYMOUS_USER"
    );
}

struct Revoked;

impl TokenRule for Revoked {
    fn check(&self, claims: &TokenClaims, _now: i64) -> Result<(), String> {
        match claims.id.as_deref() {
            Some("lost") => Err("SEC_TOKEN_REVOCATION_EXPR is true for it".to_owned()),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_revoked_token_is_refused_with_the_rule_in_the_log_and_the_next_method_is_tried() {
    let mut config = config();
    config.authenticators.token_rule = Some(Arc::new(Revoked));
    let (address, mut seen) = serve(config).await;
    let mut lost = ClientConfig::new("TOOL", "test-1");
    lost.credentials.tokens = vec![token(
        r#"{"iss":"test.pool","sub":"alice@test.pool","jti":"lost"}"#,
    )];
    lost.policy.methods = vec![AuthMethod::Token];
    lost.timeout = Duration::from_secs(5);
    let client = Client::new(lost.clone(), SessionCache::new());
    let refused = ask(&client, &address, command::ACT_ON_JOBS)
        .await
        .unwrap_err();
    assert!(matches!(
        refused.kind(),
        ErrorKind::Handshake(HandshakeError::Authentication(_))
    ));
    seen.recv().await.unwrap().unwrap_err();
    ask(
        &self::client(&[AuthMethod::Token]),
        &address,
        command::ACT_ON_JOBS,
    )
    .await
    .unwrap();
    seen.recv().await.unwrap().unwrap();
}

thread_local! {
    /// The log of this thread, which is that of one test and its server.
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where the log goes.
struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_refusal_is_one_line_that_says_who_what_and_why() {
    let subscriber = tracing_subscriber::fmt().with_ansi(false);
    subscriber.with_writer(|| Log).init();
    let (address, mut seen) = serve(config()).await;
    ask(
        &client(&[AuthMethod::Token]),
        &address,
        command::UPDATE_STARTD_AD,
    )
    .await
    .unwrap_err();
    seen.recv().await.unwrap().unwrap_err();
    raw(&address, command::ACT_ON_JOBS).await;
    seen.recv().await.unwrap().unwrap_err();
    let log = String::from_utf8(LOG.take()).unwrap();
    let refused: Vec<_> = log
        .lines()
        .filter(|line| line.contains("refused"))
        .collect();
    assert_eq!(refused.len(), 2, "{log}");
    for part in [
        "peer=127.0.0.1:",
        "identity=\"alice@test.pool\"",
        "method=\"TOKEN\"",
        "command=\"0 UPDATE_STARTD_AD\"",
        "level=\"ADVERTISE_STARTD\"",
        "ALLOW_ADVERTISE_STARTD has no entry for it; ALLOW_DAEMON has no entry for it",
    ] {
        assert!(
            refused[0].contains(part),
            "{part} is missing: {}",
            refused[0]
        );
    }
    assert!(refused[1].contains("identity=\"nobody\"") && refused[1].contains("478 ACT_ON_JOBS"));
}
