//! The tokio shell over loopback connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cedar::net::{
    Client, ClientConfig, ErrorKind, Incoming, Server, ServerConfig, SessionCache, Step, Stream,
};
use cedar::security::server::{Authenticators, CommandTable, Policies};
use cedar::security::token::{SigningKeys, Token};
use cedar::security::{AuthMethod, EXECUTE_SIDE, Level, SUBMIT_SIDE, SecurityPolicy};
use cedar::{Blame, ClaimId, HandshakeError, Sinful, command};
use tokio::net::{TcpListener, TcpStream};

fn keys() -> SigningKeys {
    let mut keys = SigningKeys::new();
    keys.add_file("POOL", b"pool key material").unwrap();
    keys
}

fn token_text() -> String {
    let payload = r#"{"iss":"test.pool","sub":"pilot@test.pool","iat":1700000000}"#;
    keys().issue("POOL", payload).unwrap().unwrap()
}

fn table() -> Arc<CommandTable> {
    Arc::new(
        CommandTable::new()
            .serve(command::UPDATE_STARTD_AD, Level::AdvertiseStartd)
            .serve(command::QUERY_STARTD_ADS, Level::Read)
            .serve(command::REQUEST_CLAIM, Level::Daemon)
            .serve(command::ACTIVATE_CLAIM, Level::Daemon)
            .permit(Level::AdvertiseStartd, "pilot@*"),
    )
}

fn server_config() -> ServerConfig {
    let mut config = ServerConfig::for_sessions(SessionCache::new(), table(), "test-1");
    config.policies = Policies::All(SecurityPolicy::default());
    config.authenticators = Authenticators {
        signing_keys: keys(),
        ..Authenticators::default()
    };
    config.trust_domain = Some("test.pool".to_owned());
    config
}

fn client_config() -> ClientConfig {
    let mut config = ClientConfig::new("TOOL", "test-1");
    config.credentials.tokens = vec![Token::parse(&token_text()).unwrap()];
    config.timeout = Duration::from_secs(5);
    config
}

async fn listen() -> (TcpListener, Sinful) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Sinful::from(listener.local_addr().unwrap());
    (listener, address)
}

async fn accept(server: &Server, listener: &TcpListener) -> Result<Incoming, cedar::net::Error> {
    let (tcp, peer): (TcpStream, SocketAddr) = listener.accept().await.unwrap();
    server.accept(tcp, peer).await
}

/// Answers every message with the number of its bytes until the client is done.
async fn count_bytes(mut stream: Stream) {
    while let Ok(message) = stream.recv().await {
        let mut answer = stream.message();
        answer.int(i64::try_from(message.len()).unwrap());
        stream.send(answer).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_starts_a_command_and_the_session_serves_the_next() {
    let (listener, address) = listen().await;
    let server = Server::new(server_config()).unwrap();
    let task = tokio::spawn(async move {
        let mut seen = Vec::new();
        for _ in 0..3 {
            let incoming = accept(&server, &listener).await.unwrap();
            seen.push((
                incoming.command,
                incoming.resumed,
                incoming.peer.user.clone(),
            ));
            count_bytes(incoming.stream).await;
        }
        seen
    });
    let client = Client::new(client_config(), SessionCache::new());
    for command in [0, 0, command::QUERY_STARTD_ADS] {
        let mut stream = client.start_command(&address, command).await.unwrap();
        assert!(stream.is_encrypted());
        assert_eq!(stream.our_user(), Some("pilot@test.pool"));
        let mut message = stream.message();
        message.str("hello");
        stream.send(message).await.unwrap();
        assert_eq!(stream.recv().await.unwrap().reader().int(), Ok(14));
    }
    let user = "pilot@test.pool".to_owned();
    let wanted = vec![
        (0, false, user.clone()),
        (0, true, user.clone()),
        (5, true, user),
    ];
    assert_eq!(task.await.unwrap(), wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgot_the_session_gets_a_full_handshake() {
    let (listener, address) = listen().await;
    let client = Client::new(client_config(), SessionCache::new());
    let task = tokio::spawn(async move {
        let server = Server::new(server_config()).unwrap();
        count_bytes(accept(&server, &listener).await.unwrap().stream).await;
        // Restarted: no session is known any more. First SID_NOT_FOUND, then the new handshake.
        let server = Server::new(server_config()).unwrap();
        let error = accept(&server, &listener).await.unwrap_err();
        assert!(
            error.to_string().contains("does not know session"),
            "{error}"
        );
        count_bytes(accept(&server, &listener).await.unwrap().stream).await;
        // And one that only closes.
        drop(listener.accept().await.unwrap());
        count_bytes(accept(&server, &listener).await.unwrap().stream).await;
    });
    for _ in 0..3 {
        let mut stream = client.start_command(&address, 0).await.unwrap();
        stream.send_bytes_message(b"xyz").await.unwrap();
        assert_eq!(stream.recv().await.unwrap().reader().int(), Ok(3));
    }
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sessions_of_a_claim_work_and_end_with_it() {
    let (listener, address) = listen().await;
    let claim = ClaimId::mint(&address, 1_700_000_000, 1).unwrap();
    let startd = SessionCache::new();
    startd.register_claim(&claim, SUBMIT_SIDE).unwrap();
    let schedd = SessionCache::new();
    schedd
        .register_claim(&ClaimId::parse(claim.as_str()).unwrap(), EXECUTE_SIDE)
        .unwrap();
    let server = Server::new(ServerConfig::for_sessions(
        startd.clone(),
        table(),
        "test-1",
    ))
    .unwrap();
    let task_claim = ClaimId::parse(claim.as_str()).unwrap();
    let task = tokio::spawn(async move {
        for id in [
            task_claim.session_id().to_owned(),
            task_claim.file_transfer_session_id(),
        ] {
            let incoming = accept(&server, &listener).await.unwrap();
            assert_eq!(incoming.session_id, Some(id));
            assert_eq!(incoming.peer.user, SUBMIT_SIDE);
            count_bytes(incoming.stream).await;
        }
        startd.remove_claim(&task_claim);
        assert!(startd.is_empty());
        accept(&server, &listener).await.unwrap_err().to_string()
    });
    let client = Client::new(client_config(), schedd);
    for id in [
        claim.session_id().to_owned(),
        claim.file_transfer_session_id(),
    ] {
        let started = client
            .start_command_in_session(&address, command::REQUEST_CLAIM, &id)
            .await;
        let mut stream = started.unwrap();
        let big = vec![7u8; 3_000_000];
        stream.send_bytes_message(&big).await.unwrap();
        assert_eq!(stream.recv().await.unwrap().reader().int(), Ok(3_000_000));
        assert_eq!(stream.peer_version(), Some(cedar::Version::new(23, 9, 6)));
    }
    let id = claim.session_id();
    let late = client
        .start_command_in_session(&address, command::REQUEST_CLAIM, id)
        .await;
    let late = late.unwrap_err();
    assert!(matches!(
        late.kind(),
        ErrorKind::Handshake(HandshakeError::UnknownSession { .. })
    ));
    let refused = task.await.unwrap();
    let secret = claim.as_str().rsplit_once(']').unwrap().1;
    assert!(!refused.contains(secret) && !late.to_string().contains(secret));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_work_apart_and_queued_messages_arrive_in_order() {
    let (listener, address) = listen().await;
    let server = Server::new(server_config()).unwrap();
    let task = tokio::spawn(async move {
        count_bytes(accept(&server, &listener).await.unwrap().stream).await;
    });
    let client = Client::new(client_config(), SessionCache::new());
    let stream = client.start_command(&address, 0).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let reader = tokio::spawn(async move {
        let mut counts = Vec::new();
        for _ in 0..20 {
            counts.push(read.recv().await.unwrap().reader().int().unwrap());
        }
        counts
    });
    for size in 1..=20usize {
        let mut message = write.message();
        message.bytes(&vec![1; size]);
        write.queue(message).unwrap();
    }
    write.flush().await.unwrap();
    assert_eq!(reader.await.unwrap(), (1..=20).collect::<Vec<i64>>());
    write.shutdown().await.unwrap();
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_say_where_what_and_whose_fault() {
    // A server that closes without a word.
    let (listener, address) = listen().await;
    let task = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut first = [0u8; 5];
        tokio::io::AsyncReadExt::read_exact(&mut tcp, &mut first)
            .await
            .unwrap();
        let length = u32::from_be_bytes(first[1..].try_into().unwrap()) as usize;
        let mut body = vec![0u8; length];
        tokio::io::AsyncReadExt::read_exact(&mut tcp, &mut body)
            .await
            .unwrap();
    });
    let client = Client::new(client_config(), SessionCache::new());
    let error = client.start_command(&address, 0).await.unwrap_err();
    task.await.unwrap();
    assert!(matches!(error.kind(), ErrorKind::OfferRefused), "{error}");
    assert_eq!(error.step(), Step::SecurityOffer);
    assert_eq!(error.blame(), Blame::Pool);
    let text = error.to_string();
    for part in [
        &address.to_string(),
        "0 UPDATE_STARTD_AD",
        "after our security offer: refused",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    // Nobody listens.
    let error = client.start_command(&address, 0).await.unwrap_err();
    assert_eq!(
        (error.step(), error.blame()),
        (Step::Connect, Blame::Network)
    );
    assert!(error.retryable());
    // No token: the directory that was searched is named.
    let empty = tempfile::tempdir().unwrap();
    std::fs::write(empty.path().join("a-comment"), "# nothing\n\nno.token\n").unwrap();
    let mut config = client_config();
    config.credentials.tokens.clear();
    config.credentials.token_directories = vec![empty.path().to_owned(), "/does/not/exist".into()];
    let (listener, address) = listen().await;
    let client = Client::new(config, SessionCache::new());
    let error = client.start_command(&address, 0).await.unwrap_err();
    drop(listener);
    assert_eq!(error.blame(), Blame::Config);
    let text = error.to_string();
    let folder = empty.path().display().to_string();
    for part in [
        &folder,
        "/does/not/exist (unreadable",
        "a-comment line 3: not a token",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    // Behind CCB.
    let ccb = Sinful::parse("<127.0.0.1:1?CCBID=127.0.0.1:2#1>").unwrap();
    let error = client.start_command(&ccb, 0).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BehindCcb));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_read_from_a_directory_in_name_order() {
    let folder = tempfile::tempdir().unwrap();
    let other = keys()
        .issue("POOL", r#"{"iss":"other","sub":"x@other"}"#)
        .unwrap()
        .unwrap();
    std::fs::write(
        folder.path().join("10-other"),
        format!("# first\n{other}\n"),
    )
    .unwrap();
    std::fs::write(folder.path().join("20-ours"), format!("{}\n", token_text())).unwrap();
    std::fs::write(folder.path().join(".hidden"), "junk").unwrap();
    std::fs::write(folder.path().join("backup~"), "junk").unwrap();
    let (listener, address) = listen().await;
    let server = Server::new(server_config()).unwrap();
    let task = tokio::spawn(async move { accept(&server, &listener).await.unwrap().peer });
    let mut config = client_config();
    config.credentials.tokens.clear();
    config.credentials.token_directories = vec![folder.path().to_owned()];
    let client = Client::new(config, SessionCache::new());
    client.start_command(&address, 0).await.unwrap();
    let peer = task.await.unwrap();
    assert_eq!(peer.user, "pilot@test.pool");
    assert_eq!(peer.method, Some(AuthMethod::Token));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fs_runs_over_a_real_directory() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, address) = listen().await;
    let mut config = server_config();
    config.policies = Policies::All(SecurityPolicy {
        methods: vec![AuthMethod::Fs],
        ..SecurityPolicy::default()
    });
    config.authenticators.fs_directory = Some(folder.path().to_owned());
    config.authenticators.uid_domain = "test.pool".to_owned();
    config.authenticators.user_lookup = Some(Arc::new(|_uid| Some("pilot".to_owned())));
    let server = Server::new(config).unwrap();
    let task = tokio::spawn(async move { accept(&server, &listener).await.unwrap().peer });
    let mut config = client_config();
    config.policy.methods = vec![AuthMethod::Fs];
    config.credentials.fs = cedar::net::FsAuthentication::On;
    let client = Client::new(config, SessionCache::new());
    client.start_command(&address, 0).await.unwrap();
    assert_eq!(task.await.unwrap().user, "pilot@test.pool");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "the directory is gone"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_about_access_are_answered() {
    let (listener, address) = listen().await;
    let server = Server::new(server_config()).unwrap();
    let task = tokio::spawn(async move {
        let allowed = accept(&server, &listener).await.unwrap();
        assert!(allowed.serve_builtin().await.unwrap().is_none());
        accept(&server, &listener).await.unwrap_err().to_string()
    });
    let client = Client::new(client_config(), SessionCache::new());
    let user = client
        .query_authorization(&address, command::UPDATE_STARTD_AD)
        .await
        .unwrap();
    assert_eq!(user.as_deref(), Some("pilot@test.pool"));
    let error = client
        .query_authorization(&address, command::REQUEST_CLAIM)
        .await
        .unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::Handshake(HandshakeError::Denied { user: Some(user) }) if user == "pilot@test.pool"
    ));
    assert!(
        task.await
            .unwrap()
            .contains("pilot@test.pool may not run command 442")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_clients_are_dropped_and_crowds_turned_away() {
    async fn config_is_full(server: &Server, tcp: TcpStream, peer: SocketAddr) {
        let crowded = server.accept(tcp, peer).await.unwrap_err();
        assert!(matches!(crowded.kind(), ErrorKind::Busy));
    }
    let (listener, _) = listen().await;
    let place = listener.local_addr().unwrap();
    let mut config = server_config();
    config.deadline = Duration::from_millis(200);
    config.max_handshakes = 1;
    config.max_waiting = 0;
    let server = Server::new(config).unwrap();
    let silent = TcpStream::connect(place).await.unwrap();
    let (first, first_peer) = listener.accept().await.unwrap();
    let second_client = TcpStream::connect(place).await.unwrap();
    let (second, second_peer) = listener.accept().await.unwrap();
    let waiting = {
        let server = server.clone();
        tokio::spawn(async move { server.accept(first, first_peer).await })
    };
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    config_is_full(&server, second, second_peer).await;
    let error = waiting.await.unwrap().unwrap_err();
    assert!(error.is_timeout());
    drop((silent, second_client));
}
