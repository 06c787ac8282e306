//! Client against server, without a network.

use openssl::ssl::SslVersion;
use tempfile::TempDir;

use super::*;
use crate::entropy::SystemEntropy;
use crate::security::auth::{ClientMethod, ClientTurn, ServerMethod, Turn};
use crate::security::pki::{Holder, Use};
use crate::security::{
    Authorities, PeerIdentity, SslClient, SslClientFiles, SslServer, SslServerFiles,
};

/// Both ends' files.
struct World {
    directory: TempDir,
    authority: Holder,
    server: SslServerFiles,
    client: SslClientFiles,
    host: &'static str,
    version: SslVersion,
}

/// How an exchange ended on both sides.
type End = (Result<(), String>, Result<PeerIdentity, String>);

impl World {
    fn new(version: SslVersion) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Holder::authority("Authority");
        let trusted = Authorities {
            file: Some(authority.write(directory.path(), "ca.pem")),
            ..Authorities::default()
        };
        let host = authority.issue("pool", Use::Host(&["pool.example.org", "*.wild.example"]));
        let bundle = host.write_bundle(directory.path(), "host.pem", &[]);
        Self {
            server: SslServerFiles {
                certificate: bundle.clone(),
                key: bundle,
                authorities: trusted.clone(),
                require_client_certificate: false,
                allow_proxy: false,
            },
            client: SslClientFiles {
                authorities: trusted,
                ..SslClientFiles::default()
            },
            directory,
            authority,
            host: "pool.example.org",
            version,
        }
    }

    fn client_shows(&mut self, holder: &Holder, chain: &[&Holder]) {
        let path = holder.write_bundle(self.directory.path(), "client.pem", chain);
        self.client.certificate = Some(path);
    }

    /// Runs the method to its end.
    fn run(&self) -> End {
        let server = SslServer::load(self.server.clone()).unwrap();
        let client = SslClient::load(self.client.clone()).unwrap();
        let mut server_turn = Some(ServerSsl::start(&server));
        let mut client_turn = Some(start(&client, self.host, self.version));
        let (mut to_client, mut to_server) = (Vec::new(), Vec::<Vec<u8>>::new());
        let (mut client_end, mut server_end) = (None, None);
        let (mut client_machine, mut server_machine) = (None, None);
        loop {
            match server_turn.take() {
                Some(Turn::Wait(ServerMethod::Ssl(machine), messages)) => {
                    to_client.extend(messages);
                    server_machine = Some(machine);
                }
                Some(Turn::Done(identity, messages)) => {
                    to_client.extend(messages);
                    server_end = Some(Ok(identity));
                }
                Some(Turn::Failed(why, messages)) => {
                    to_client.extend(messages);
                    server_end = Some(Err(why.to_string()));
                }
                Some(_) => panic!("not a turn of SSL"),
                None => {}
            }
            match client_turn.take() {
                Some(Turn::Wait(ClientMethod::Ssl(machine), messages)) => {
                    to_server.extend(messages);
                    client_machine = Some(machine);
                }
                Some(Turn::Done((), messages)) => {
                    to_server.extend(messages);
                    client_end = Some(Ok(()));
                }
                Some(Turn::Failed(why, messages)) => {
                    to_server.extend(messages);
                    client_end = Some(Err(why.to_string()));
                }
                Some(_) => panic!("not a turn of SSL"),
                None => {}
            }
            // One message to one side at a time, as the network delivers them.
            if client_machine.is_some() && !to_client.is_empty() {
                let (machine, body) = (client_machine.take().unwrap(), to_client.remove(0));
                client_turn = Some(machine.message(&body).unwrap());
            } else if server_machine.is_some() && !to_server.is_empty() {
                let (machine, body) = (server_machine.take().unwrap(), to_server.remove(0));
                let turn = machine.message(&body, &mut SystemEntropy);
                server_turn = Some(turn.unwrap());
            } else {
                break;
            }
        }
        let left = (to_client.len(), to_server.len());
        assert_eq!(left, (0, 0), "both sides end at the same message");
        (
            client_end.expect("client ended"),
            server_end.expect("server ended"),
        )
    }
}

/// As [`ClientSsl::start`], with a limit of the TLS version.
fn start(client: &SslClient, host: &str, version: SslVersion) -> ClientTurn {
    let mut ssl = client.connection(host).unwrap();
    ssl.set_max_proto_version(Some(version)).unwrap();
    let tls = Box::new(Tls::new(ssl).unwrap());
    ClientSsl::over(tls)
}

const VERSIONS: [SslVersion; 2] = [SslVersion::TLS1_2, SslVersion::TLS1_3];

#[test]
fn a_client_without_a_certificate_is_nobody_and_knows_the_server() {
    for version in VERSIONS {
        let (client, server) = World::new(version).run();
        client.unwrap();
        let server = server.unwrap();
        assert_eq!(server.user, "unauthenticated@unmapped");
        assert_eq!(
            server.authenticated_name.as_deref(),
            Some("unauthenticated")
        );
        assert!(!server.is_authenticated());
    }
}

#[test]
fn a_user_is_known_by_the_subject_of_the_certificate() {
    for version in VERSIONS {
        let mut world = World::new(version);
        let alice = world.authority.issue("Alice", Use::User);
        world.client_shows(&alice, &[]);
        world.server.require_client_certificate = true;
        let (client, server) = world.run();
        client.unwrap();
        let server = server.unwrap();
        assert_eq!(server.user, "ssl@unmapped");
        assert_eq!(
            server.authenticated_name.as_deref(),
            Some("/O=Test/CN=Alice")
        );
    }
}

#[test]
fn a_proxy_is_its_owner_and_only_where_proxies_are_allowed() {
    for version in VERSIONS {
        let mut world = World::new(version);
        let alice = world.authority.issue("Alice", Use::User);
        let proxy = alice.issue("", Use::Proxy);
        let second = proxy.issue("", Use::Proxy);
        world.client_shows(&second, &[&proxy, &alice]);
        let (client, server) = world.run();
        assert!(client.is_err());
        let why = server.unwrap_err();
        assert!(why.contains("proxy certificates not allowed"), "{why}");
        world.server.allow_proxy = true;
        let (client, server) = world.run();
        client.unwrap();
        let name = server.unwrap().authenticated_name;
        assert_eq!(name.as_deref(), Some("/O=Test/CN=Alice"));
    }
}

#[test]
fn certificates_that_are_expired_or_of_a_foreign_authority_are_refused_by_the_server() {
    for version in VERSIONS {
        let mut world = World::new(version);
        let expired = world.authority.issue("Alice", Use::Expired);
        world.client_shows(&expired, &[]);
        let (client, server) = world.run();
        assert!(client.unwrap_err().contains("gave up"));
        let why = server.unwrap_err();
        assert!(why.contains("certificate has expired"), "{why}");
        let foreign = Holder::authority("Foreign").issue("Alice", Use::User);
        world.client_shows(&foreign, &[]);
        let why = world.run().1.unwrap_err();
        assert!(
            why.contains("unable to get local issuer certificate"),
            "{why}"
        );
    }
}

#[test]
fn a_server_that_requires_a_certificate_gets_one_or_refuses() {
    for version in VERSIONS {
        let mut world = World::new(version);
        world.server.require_client_certificate = true;
        let (client, server) = world.run();
        assert!(client.is_err());
        let why = server.unwrap_err();
        assert!(why.contains("peer did not return a certificate"), "{why}");
    }
}

#[test]
fn a_client_takes_no_server_of_another_name_or_authority() {
    for version in VERSIONS {
        let mut world = World::new(version);
        world.host = "other.example.org";
        let (client, server) = world.run();
        let why = client.unwrap_err();
        assert!(why.to_lowercase().contains("hostname mismatch"), "{why}");
        assert!(server.is_err());
        world.host = "a.wild.example";
        world.run().0.unwrap();
        world.host = "a.b.wild.example";
        world.run().0.unwrap_err();
        world.host = "pool.example.org";
        let foreign = Holder::authority("Foreign");
        let path = foreign.write(world.directory.path(), "foreign.pem");
        world.client.authorities.file = Some(path);
        let why = world.run().0.unwrap_err();
        assert!(why.contains("self-signed certificate"), "{why}");
    }
}

#[test]
fn files_that_do_not_fit_are_named() {
    let world = World::new(SslVersion::TLS1_3);
    let mut missing = world.server.clone();
    missing.certificate = "/nonexistent/host.pem".into();
    let error = SslServer::load(missing).unwrap_err().to_string();
    assert!(
        error.contains("certificate /nonexistent/host.pem"),
        "{error}"
    );
    let other = world.authority.issue("other", Use::User);
    let mut mixed = world.server.clone();
    mixed.key = other.write_bundle(world.directory.path(), "other.pem", &[]);
    assert!(SslServer::load(mixed).is_err());
}

#[test]
fn a_renewed_certificate_is_used_after_a_reload_and_a_broken_one_is_not() {
    let world = World::new(SslVersion::TLS1_3);
    let server = SslServer::load(world.server.clone()).unwrap();
    let shown = |server: &SslServer| {
        server.with_context(|context| context.certificate().unwrap().to_pem().unwrap())
    };
    let before = shown(&server);
    let renewed = world
        .authority
        .issue("pool", Use::Host(&["pool.example.org"]));
    renewed.write_bundle(world.directory.path(), "host.pem", &[]);
    server.reload().unwrap();
    assert_eq!(shown(&server), renewed.pem());
    assert_ne!(shown(&server), before);
    std::fs::write(&world.server.certificate, "nothing").unwrap();
    server.reload().unwrap_err();
    assert_eq!(shown(&server), renewed.pem());
}
