//! Hostile crowds at a real listener: others are served, and memory stays bounded.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cedar::frame::FrameError;
use cedar::net::{Client, ClientConfig, ErrorKind, Policies, Server, ServerConfig, SessionCache};
use cedar::security::server::{Authenticators, CommandTable};
use cedar::security::{AuthMethod, Level, SecurityPolicy};
use cedar::{Sinful, command};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const METHODS: [AuthMethod; 1] = [AuthMethod::Anonymous];

fn config() -> ServerConfig {
    let table = CommandTable::new()
        .serve(command::QUERY_STARTD_ADS, Level::Read)
        .permit(Level::Read, "*");
    let mut config = ServerConfig::for_sessions(SessionCache::new(), Arc::new(table), "test-1");
    config.policies = Policies::All(SecurityPolicy {
        methods: METHODS.to_vec(),
        ..SecurityPolicy::default()
    });
    config.authenticators = Authenticators {
        anonymous: true,
        ..Authenticators::default()
    };
    config
}

/// A server, and how each connection of the crowd ended.
struct Door {
    address: SocketAddr,
    refused: mpsc::UnboundedReceiver<cedar::net::Error>,
    served: Arc<AtomicUsize>,
}

async fn open(config: ServerConfig) -> Door {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new(config).unwrap();
    let (report, refused) = mpsc::unbounded_channel();
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    tokio::spawn(async move {
        loop {
            let (tcp, peer) = listener.accept().await.unwrap();
            let (server, report, count) = (server.clone(), report.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                match server.accept(tcp, peer).await {
                    Ok(mut incoming) => {
                        count.fetch_add(1, Ordering::Relaxed);
                        let mut message = incoming.stream.message();
                        message.int(1);
                        incoming.stream.send(message).await.unwrap();
                    }
                    Err(error) => drop(report.send(error)),
                }
            });
        }
    });
    Door {
        address,
        refused,
        served,
    }
}

/// A connection from one of our own addresses, `127.0.0.last`.
async fn connect(to: SocketAddr, last: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
    socket.bind(from).unwrap();
    socket.connect(to).await.unwrap()
}

async fn honest(address: SocketAddr) -> Result<(), cedar::net::Error> {
    let mut config = ClientConfig::new("TOOL", "test-1");
    config.policy.methods = METHODS.to_vec();
    let client = Client::new(config, SessionCache::new());
    let address = Sinful::from(address);
    let mut stream = client
        .start_command(&address, command::QUERY_STARTD_ADS)
        .await?;
    assert_eq!(stream.recv().await?.reader().int(), Ok(1));
    Ok(())
}

/// Connections that send the beginning of a handshake, a byte now and then, and never the end.
async fn slow_crowd(to: SocketAddr, last: u8, size: usize) -> JoinSet<()> {
    let mut crowd = JoinSet::new();
    for _ in 0..size {
        let mut tcp = connect(to, last).await;
        tcp.write_all(&[1, 0, 0, 1, 0]).await.unwrap();
        crowd.spawn(async move {
            while tcp.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
    }
    crowd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_handshakes_of_one_address_do_not_keep_another_waiting() {
    let mut config = config();
    // Nobody is displaced in this test: an honest client must find a free place at once.
    config.patience = Duration::from_secs(600);
    config.deadline = Duration::from_secs(600);
    let door = open(config).await;
    let mut crowd = slow_crowd(door.address, 2, 300).await;
    for _ in 0..20 {
        honest(door.address).await.unwrap();
    }
    assert_eq!(door.served.load(Ordering::Relaxed), 20);
    assert!(
        crowd.try_join_next().is_none() || crowd.len() > 100,
        "the crowd has gone home"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_handshakes_give_way_to_honest_clients_of_their_own_address() {
    let mut config = config();
    config.patience = Duration::from_millis(200);
    config.deadline = Duration::from_secs(600);
    let mut door = open(config).await;
    let _crowd = slow_crowd(door.address, 1, 100).await;
    for _ in 0..5 {
        honest(door.address).await.unwrap();
    }
    let first = door.refused.recv().await.unwrap();
    assert!(
        matches!(first.kind(), ErrorKind::Displaced | ErrorKind::Busy),
        "{first}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_honest_clients_waits_its_turn_and_is_served() {
    let mut config = config();
    config.max_handshakes_per_address = 4;
    let door = open(config).await;
    let mut burst = JoinSet::new();
    for _ in 0..100 {
        burst.spawn(honest(door.address));
    }
    while let Some(done) = burst.join_next().await {
        done.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_handshake_ends_at_the_deadline() {
    let mut config = config();
    config.deadline = Duration::from_millis(300);
    let mut door = open(config).await;
    let mut crowd = slow_crowd(door.address, 1, 3).await;
    for _ in 0..3 {
        let ended = door.refused.recv().await.unwrap();
        assert!(ended.is_timeout(), "{ended}");
    }
    while crowd.join_next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_frame_is_refused_by_its_header_alone() {
    let mut config = config();
    config.deadline = Duration::from_secs(600);
    let mut door = open(config).await;
    let before = resident();
    for length in [64 * 1024 + 100, 1 << 20, (1 << 20) + 1, u32::MAX] {
        for _ in 0..100 {
            let mut tcp = connect(door.address, 3).await;
            tcp.write_all(&[1]).await.unwrap();
            tcp.write_all(&length.to_be_bytes()).await.unwrap();
            // Nothing of the body was sent, and the server closes: end, or reset for what it left unread.
            let mut buffer = [0u8; 1];
            assert_eq!(tcp.read(&mut buffer).await.unwrap_or(0), 0);
            let why = door.refused.recv().await.unwrap();
            assert!(
                matches!(
                    why.kind(),
                    ErrorKind::Handshake(cedar::HandshakeError::Frame(
                        FrameError::TooLong(_) | FrameError::MessageTooLong { .. }
                    ))
                ),
                "{why}"
            );
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(
        grown < 100 << 20,
        "{grown} bytes for frames that never came"
    );
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}
