//! Registrations at brokers over loopback: brokers that restart, and brokers that mean no good.

use std::time::Duration;

use cedar::ccb::Settings;
use cedar::net::{
    Client, ClientConfig, Incoming, Policies, Registrations, Reversed, Server, ServerConfig,
    SessionCache, Standing, Stream, contacts,
};
use cedar::security::server::{Authenticators, CommandTable};
use cedar::security::token::{SigningKeys, Token};
use cedar::security::{Level, SecurityPolicy, Wish};
use cedar::wire::{Coding, MessageReader};
use cedar::{Sinful, command};
use classad::ClassAd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

const PATIENCE: Duration = Duration::from_secs(20);

fn keys() -> SigningKeys {
    let mut keys = SigningKeys::new();
    keys.add_file("POOL", b"pool key material").unwrap();
    keys
}

/// A broker made of our own server, which does what a test says.
struct Broker {
    listener: TcpListener,
    server: Server,
    address: Sinful,
}

impl Broker {
    async fn new() -> Self {
        Self::with(SecurityPolicy::default()).await
    }

    async fn with(policy: SecurityPolicy) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Sinful::from(listener.local_addr().unwrap());
        let table = CommandTable::new()
            .serve(command::CCB_REGISTER, Level::Daemon)
            .permit(Level::Daemon, "pilot@*")
            .permit(Level::Daemon, "unauthenticated@*");
        let mut config =
            ServerConfig::for_sessions(SessionCache::new(), std::sync::Arc::new(table), "test-1");
        config.policies = Policies::All(policy);
        config.authenticators = Authenticators {
            signing_keys: keys(),
            ..Authenticators::default()
        };
        config.trust_domain = Some("test.pool".to_owned());
        Self {
            listener,
            server: Server::new(config).unwrap(),
            address,
        }
    }

    /// The next registration: its connection and its ad.
    async fn registration(&self) -> (Stream, ClassAd) {
        let (tcp, peer) = within(self.listener.accept()).await.unwrap();
        let incoming: Incoming = self.server.accept(tcp, peer).await.unwrap();
        assert_eq!(incoming.command, command::CCB_REGISTER);
        assert!(!incoming.resumed, "a broker may have forgotten the session");
        let mut stream = incoming.stream;
        let ad = recv(&mut stream).await;
        (stream, ad)
    }

    /// Registers whoever comes next as `number`.
    async fn register(&self, number: u32) -> (Stream, ClassAd) {
        let (mut stream, ad) = self.registration().await;
        let contact = format!("127.0.0.1:{}#{number}", self.address.port());
        let mut answer = ClassAd::new();
        answer.insert("Command", i64::from(command::CCB_REGISTER));
        answer.insert("CCBID", contact.as_str());
        answer.insert("ClaimId", "4711");
        send(&mut stream, &answer).await;
        (stream, ad)
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}

async fn recv(stream: &mut Stream) -> ClassAd {
    let message = within(stream.recv()).await.unwrap();
    message.reader().ad().unwrap()
}

async fn send(stream: &mut Stream, ad: &ClassAd) {
    let mut message = stream.message();
    message.ad(ad);
    within(stream.send(message)).await.unwrap();
}

fn asks(id: &str, address: &str) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("Command", i64::from(command::CCB_REQUEST));
    ad.insert("ClaimId", "8ee6343901746a06c360e46ef51bb67545606d56");
    ad.insert("RequestID", id);
    ad.insert("MyAddress", address);
    ad.insert("Name", "TOOL");
    ad
}

fn settings() -> Settings {
    Settings {
        name: "STARTD pilot".to_owned(),
        heartbeat: Some(Duration::from_secs(300)),
        reconnect: Duration::from_millis(20),
        max_dials: 4,
    }
}

fn start(
    brokers: &[&Broker],
    settings: &Settings,
    room: usize,
) -> (Registrations, mpsc::Receiver<Reversed>) {
    start_with(brokers, settings, room, SecurityPolicy::default())
}

fn start_with(
    brokers: &[&Broker],
    settings: &Settings,
    room: usize,
    policy: SecurityPolicy,
) -> (Registrations, mpsc::Receiver<Reversed>) {
    let payload = r#"{"iss":"test.pool","sub":"pilot@test.pool","iat":1700000000}"#;
    let token = keys().issue("POOL", payload).unwrap().unwrap();
    let mut config = ClientConfig::new("STARTD", "test-1");
    config.credentials.tokens = vec![Token::parse(&token).unwrap()];
    config.policy = policy;
    let client = Client::new(config, SessionCache::new());
    let addresses: Vec<Sinful> = brokers
        .iter()
        .map(|broker| broker.address.clone())
        .collect();
    let (sender, connections) = mpsc::channel(room);
    let registrations = Registrations::start(&client, &addresses, settings, &sender);
    (registrations, connections)
}

async fn until(
    standings: &mut watch::Receiver<Vec<Standing>>,
    what: impl FnMut(&Vec<Standing>) -> bool,
) -> Vec<Standing> {
    within(standings.wait_for(what)).await.unwrap().clone()
}

/// Reads one frame that is not encrypted.
async fn frame(tcp: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 5];
    within(tcp.read_exact(&mut header)).await.unwrap();
    let length = u32::from_be_bytes(header[1..].try_into().unwrap());
    let mut body = vec![0; length.try_into().unwrap()];
    within(tcp.read_exact(&mut body)).await.unwrap();
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_becomes_a_connection_on_which_the_requester_speaks_first() {
    let broker = Broker::new().await;
    let (registrations, mut connections) = start(&[&broker], &settings(), 4);
    let (mut stream, ad) = broker.register(7).await;
    assert_eq!(ad.string("Name").as_deref(), Some("STARTD pilot"));
    let mut standings = registrations.standings();
    let known = until(&mut standings, |known| known[0].up).await;
    let wanted = format!("127.0.0.1:{}#7", broker.address.port());
    assert_eq!(contacts(&known), Some(wanted));

    let requester = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Sinful::from(requester.local_addr().unwrap());
    send(&mut stream, &asks("1", &address.to_string())).await;
    let (mut tcp, _) = within(requester.accept()).await.unwrap();
    let body = frame(&mut tcp).await;
    let mut reader = MessageReader::new(Coding::Plain, &body);
    assert_eq!(reader.int32(), Ok(command::CCB_REVERSE_CONNECT));
    let hello = reader.ad().unwrap();
    let id = "8ee6343901746a06c360e46ef51bb67545606d56";
    assert_eq!(hello.string("ClaimId").as_deref(), Some(id));
    let report = recv(&mut stream).await;
    assert_eq!(report.bool("Result"), Some(true));
    assert_eq!(report.string("RequestID").as_deref(), Some("1"));

    let mut reversed = within(connections.recv()).await.unwrap();
    assert_eq!(reversed.peer, requester.local_addr().unwrap());
    tcp.write_all(b"first").await.unwrap();
    let mut heard = [0; 5];
    within(reversed.tcp.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_requester_that_cannot_be_reached_is_reported_with_the_reason() {
    let broker = Broker::new().await;
    let (_registrations, _connections) = start(&[&broker], &settings(), 4);
    let (mut stream, _) = broker.register(7).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Sinful::from(closed.local_addr().unwrap());
    drop(closed);
    send(&mut stream, &asks("1", &address.to_string())).await;
    let report = recv(&mut stream).await;
    assert_eq!(report.bool("Result"), Some(false));
    let why = report.string("ErrorString").unwrap();
    assert!(why.contains("refused"), "{why}");
    for absurd in [
        "",
        "nonsense",
        "<:1>",
        "<0.0.0.0:1>",
        "<127.0.0.1:0>",
        "<x.example:1>",
    ] {
        send(&mut stream, &asks("2", absurd)).await;
        let report = recv(&mut stream).await;
        assert_eq!(report.bool("Result"), Some(false), "{absurd}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_comes_back_gets_the_cookie_and_may_give_a_new_number() {
    let broker = Broker::new().await;
    let (registrations, _connections) = start(&[&broker], &settings(), 4);
    let mut standings = registrations.standings();
    let (stream, first) = broker.register(7).await;
    assert_eq!(first.string("CCBID"), None);
    until(&mut standings, |known| known[0].up).await;
    drop(stream);
    let down = until(&mut standings, |known| !known[0].up).await;
    assert!(contacts(&down).is_some(), "peers may still find us there");
    let (stream, again) = broker.register(7).await;
    let contact = format!("127.0.0.1:{}#7", broker.address.port());
    assert_eq!(again.string("CCBID"), Some(contact));
    assert_eq!(again.string("ClaimId").as_deref(), Some("4711"));
    until(&mut standings, |known| known[0].up).await;
    drop(stream);
    let (_stream, _) = broker.register(8).await;
    let new = format!("127.0.0.1:{}#8", broker.address.port());
    until(&mut standings, |known| contacts(known) == Some(new.clone())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_encrypted_the_broker_still_gets_its_ids_back() {
    let clear = SecurityPolicy {
        authentication: Wish::Never,
        encryption: Wish::Never,
        integrity: Wish::Never,
        ..SecurityPolicy::default()
    };
    let broker = Broker::with(clear.clone()).await;
    let (_registrations, _connections) = start_with(&[&broker], &settings(), 4, clear);
    let (mut stream, _) = broker.register(7).await;
    assert!(!stream.is_encrypted());
    let mut ad = asks("1", "<127.0.0.1:0>");
    let mut message = stream.message();
    // Our writer would leave the id out, as real ones do not.
    ad.remove("ClaimId");
    message.int(5);
    for line in ["ClaimId = \"8ee6\"".to_owned()].into_iter().chain(
        ad.iter()
            .map(|(name, value)| format!("{} = {}", name.as_str(), value.to_old())),
    ) {
        message.str(&line);
    }
    message.str("").str("");
    stream.send(message).await.unwrap();
    let report = recv(&mut stream).await;
    assert_eq!(report.string("ClaimId").as_deref(), Some("8ee6"));
    assert_eq!(report.bool("Result"), Some(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broker_that_is_away_does_not_hide_the_other() {
    let (here, away) = (Broker::new().await, Broker::new().await);
    let (registrations, _connections) = start(&[&away, &here], &settings(), 4);
    let mut standings = registrations.standings();
    let (_stream, _) = here.register(3).await;
    drop(away.listener);
    let known = until(&mut standings, |known| known[1].up && known[0].failures > 0).await;
    let wanted = format!("127.0.0.1:{}#3", here.address.port());
    assert_eq!(contacts(&known), Some(wanted));
    assert!(known[0].last_error.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_broken_by_a_heartbeat_and_at_last_by_a_new_connection() {
    let broker = Broker::new().await;
    let settings = Settings {
        heartbeat: Some(Duration::from_millis(100)),
        ..settings()
    };
    let (_registrations, _connections) = start(&[&broker], &settings, 4);
    let (mut stream, _) = broker.register(7).await;
    for _ in 0..2 {
        let beat = recv(&mut stream).await;
        assert_eq!(beat.int("Command"), Some(441));
    }
    assert!(within(stream.recv()).await.unwrap_err().is_closed());
    broker.register(7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_requests_makes_no_more_connections_than_allowed() {
    let broker = Broker::new().await;
    // Nobody takes connections here: each that is made keeps its place.
    let (_registrations, mut connections) = start(&[&broker], &settings(), 1);
    let (stream, _) = broker.register(7).await;
    let requester = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = requester.local_addr().unwrap();
    let text = Sinful::from(address).to_string();
    let (mut read, mut write) = stream.into_split();
    let flood = tokio::spawn(async move {
        for number in 0..5000 {
            let mut message = write.message();
            message.ad(&asks(&number.to_string(), &text));
            write.send(message).await.unwrap();
        }
        write
    });
    let mut outcomes = [0, 0];
    // One connection waits to be taken, four more for room.
    while outcomes[0] + outcomes[1] < 5000 - 4 {
        let message = within(read.recv()).await.unwrap();
        let report = message.reader().ad().unwrap();
        outcomes[usize::from(report.bool("Result") == Some(false))] += 1;
    }
    assert_eq!(outcomes, [1, 4995]);
    let _write = within(flood).await.unwrap();
    // The places come free, and requests are served again.
    for _ in 0..5 {
        within(connections.recv()).await.unwrap();
    }
    let mut accepted = 0;
    while let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(50), requester.accept()).await
    {
        accepted += 1;
    }
    assert_eq!(accepted, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_without_end_and_without_sense_end_the_connection_and_no_more() {
    let broker = Broker::new().await;
    let (registrations, _connections) = start(&[&broker], &settings(), 4);
    let mut standings = registrations.standings();

    // A gigabyte in one message: refused as soon as it is too long.
    let (mut stream, _) = broker.register(7).await;
    let megabyte = vec![b'x'; 1 << 20];
    let mut sent = 0;
    for _ in 0..1024 {
        let mut part = stream.message();
        part.bytes(&megabyte);
        if tokio::time::timeout(PATIENCE, stream.send_part(part))
            .await
            .is_ok_and(|sent| sent.is_err())
        {
            break;
        }
        sent += 1;
    }
    // What the socket buffers take, at the most.
    assert!(sent < 64, "{sent} MiB were taken");
    drop(stream);

    // The end in the middle of a message.
    let (mut stream, _) = broker.register(7).await;
    let mut part = stream.message();
    part.bytes(&[0; 100]);
    stream.send_part(part).await.unwrap();
    drop(stream);

    // An ad that is none, and one that says that there are many lines.
    for body in [vec![0xff; 64], i64::MAX.to_be_bytes().to_vec()] {
        let (mut stream, _) = broker.register(7).await;
        stream.send_bytes_message(&body).await.unwrap();
        assert!(within(stream.recv()).await.is_err());
    }

    // An answer to the registration that is none.
    let (mut stream, _) = broker.registration().await;
    send(&mut stream, &asks("1", "<127.0.0.1:1>")).await;
    assert!(within(stream.recv()).await.is_err());

    let (_stream, _) = broker.register(7).await;
    let known = until(&mut standings, |known| known[0].up).await;
    assert!(known[0].failures >= 4, "{known:?}");
}
