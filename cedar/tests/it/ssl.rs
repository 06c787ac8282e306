//! SSL over loopback connections: names, the map, proxies, fallback.

use std::sync::Arc;
use std::time::Duration;

use cedar::net::{
    Client, ClientConfig, Error, ErrorKind, Policies, Server, ServerConfig, SessionCache,
};
use cedar::security::server::{Authenticators, CommandTable};
use cedar::security::{
    AuthMethod, Authorities, IdentityMap, Level, PeerIdentity, SecurityPolicy, SslClientFiles,
    SslServer, SslServerFiles,
};
use cedar::{HandshakeError, Sinful, command};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::pki::{Holder, Use};

struct Map;

impl IdentityMap for Map {
    fn map(&self, method: AuthMethod, name: &str) -> Option<String> {
        (method == AuthMethod::Ssl && name == "/O=Test/CN=Alice")
            .then(|| "alice@test.pool".to_owned())
    }
}

struct World {
    directory: TempDir,
    authority: Holder,
    address: Sinful,
    seen: mpsc::UnboundedReceiver<Result<PeerIdentity, Error>>,
}

impl World {
    /// A server that lets anybody READ and alice WRITE.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Holder::authority("Authority");
        authority.write(directory.path(), "ca.pem");
        let host = authority.issue("pool", Use::Host(&["pool.example.org"]));
        let bundle = host.write_bundle(directory.path(), "host.pem", &[]);
        let ssl = SslServer::load(SslServerFiles {
            certificate: bundle.clone(),
            key: bundle,
            authorities: Authorities {
                file: Some(directory.path().join("ca.pem")),
                ..Authorities::default()
            },
            require_client_certificate: false,
            allow_proxy: true,
        });
        let table = CommandTable::new()
            .serve(command::QUERY_STARTD_ADS, Level::Read)
            .serve(command::ACT_ON_JOBS, Level::Write)
            .permit(Level::Read, "*")
            .permit(Level::Write, "alice@test.pool");
        let mut config = ServerConfig::for_sessions(SessionCache::new(), Arc::new(table), "test-1");
        config.policies = Policies::All(SecurityPolicy {
            methods: vec![AuthMethod::Ssl, AuthMethod::ClaimToBe],
            ..SecurityPolicy::default()
        });
        config.authenticators = Authenticators {
            ssl: Some(Arc::new(ssl.unwrap())),
            claim_to_be: true,
            identity_map: Some(Arc::new(Map)),
            ..Authenticators::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Sinful::from(listener.local_addr().unwrap()).alias("pool.example.org");
        let server = Server::new(config).unwrap();
        let (report, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (tcp, peer) = listener.accept().await.unwrap();
                let accepted = server.accept(tcp, peer).await;
                let _ = report.send(accepted.map(|incoming| incoming.peer));
            }
        });
        Self {
            directory,
            authority,
            address,
            seen,
        }
    }

    /// A client that shows `holder`, if anybody.
    fn client(&self, holder: Option<(&Holder, &[&Holder])>) -> Client {
        let mut config = ClientConfig::new("TOOL", "test-1");
        config.policy.methods = vec![AuthMethod::Ssl];
        config.timeout = Duration::from_secs(5);
        config.credentials.ssl = Some(SslClientFiles {
            authorities: Authorities {
                file: Some(self.directory.path().join("ca.pem")),
                ..Authorities::default()
            },
            certificate: holder.map(|(holder, chain)| {
                holder.write_bundle(self.directory.path(), "client.pem", chain)
            }),
            ..SslClientFiles::default()
        });
        Client::new(config, SessionCache::new())
    }

    async fn last(&mut self) -> Result<PeerIdentity, Error> {
        self.seen.recv().await.unwrap()
    }
}

#[tokio::test]
async fn a_user_with_a_certificate_or_a_proxy_is_mapped_and_resumes_the_session() {
    let mut world = World::new().await;
    let alice = world.authority.issue("Alice", Use::User);
    let proxy = alice.issue("", Use::Proxy);
    for holder in [(&alice, &[][..]), (&proxy, &[&alice][..])] {
        let client = world.client(Some(holder));
        for _ in 0..2 {
            let stream = client
                .start_command(&world.address, command::ACT_ON_JOBS)
                .await
                .unwrap();
            assert_eq!(stream.our_user(), Some("alice@test.pool"));
            assert!(stream.is_encrypted());
            let peer = world.last().await.unwrap();
            assert_eq!(peer.user, "alice@test.pool");
            assert_eq!(peer.authenticated_name.as_deref(), Some("/O=Test/CN=Alice"));
        }
    }
}

#[tokio::test]
async fn whoever_is_not_mapped_may_read_only() {
    let mut world = World::new().await;
    let bob = world.authority.issue("Bob", Use::User);
    for (holder, user) in [
        (None, "unauthenticated@unmapped"),
        (Some((&bob, &[][..])), "ssl@unmapped"),
    ] {
        let client = world.client(holder);
        client
            .start_command(&world.address, command::QUERY_STARTD_ADS)
            .await
            .unwrap();
        assert_eq!(world.last().await.unwrap().user, user);
        let refused = client
            .start_command(&world.address, command::ACT_ON_JOBS)
            .await;
        assert!(matches!(
            refused.unwrap_err().kind(),
            ErrorKind::Handshake(HandshakeError::Denied { user: Some(known) }) if known == user
        ));
        let why = world.last().await.unwrap_err().to_string();
        assert!(why.contains(user) && why.contains("WRITE"), "{why}");
    }
}

#[tokio::test]
async fn a_chain_longer_than_one_frame_of_a_real_client_is_taken() {
    let mut world = World::new().await;
    let alice = world.authority.issue("Alice", Use::User);
    let mut chain = vec![alice];
    for _ in 0..12 {
        let next = chain[0].issue("", Use::Proxy);
        chain.insert(0, next);
    }
    let rest: Vec<_> = chain[1..].iter().collect();
    let client = world.client(Some((&chain[0], &rest)));
    client
        .start_command(&world.address, command::ACT_ON_JOBS)
        .await
        .unwrap();
    assert_eq!(world.last().await.unwrap().user, "alice@test.pool");
}

#[tokio::test]
async fn after_a_refused_certificate_both_sides_go_on_with_the_next_method() {
    let mut world = World::new().await;
    let expired = world.authority.issue("Alice", Use::Expired);
    let mut config = world.client(Some((&expired, &[]))).config().clone();
    config.policy.methods = vec![AuthMethod::Ssl, AuthMethod::ClaimToBe];
    config.credentials.claim_to_be = Some("carol".to_owned());
    let client = Client::new(config, SessionCache::new());
    let read = command::QUERY_STARTD_ADS;
    client.start_command(&world.address, read).await.unwrap();
    assert_eq!(world.last().await.unwrap().user, "carol@claimtobe");
}

#[tokio::test]
async fn an_address_without_a_name_cannot_be_checked_and_is_not_tried() {
    let world = World::new().await;
    let nameless = Sinful::from(world.address.socket_addr().unwrap());
    let refused = world
        .client(None)
        .start_command(&nameless, command::QUERY_STARTD_ADS)
        .await;
    assert!(matches!(
        refused.unwrap_err().kind(),
        ErrorKind::Handshake(HandshakeError::NoServerName)
    ));
}

#[tokio::test]
async fn a_client_says_which_of_its_files_is_wrong() {
    let world = World::new().await;
    let mut config = world.client(None).config().clone();
    let missing = std::path::PathBuf::from("/nonexistent/proxy.pem");
    config.credentials.ssl.as_mut().unwrap().certificate = Some(missing);
    let client = Client::new(config, SessionCache::new());
    let refused = client
        .start_command(&world.address, command::QUERY_STARTD_ADS)
        .await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("/nonexistent/proxy.pem"), "{error}");
}
