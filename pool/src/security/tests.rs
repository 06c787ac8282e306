//! The whole of it, over loopback connections.

use std::path::Path;

use cedar::Sinful;
use cedar::command;
use cedar::net::{Client, Server, SessionCache};
use cedar::security::AuthMethod;
use cedar::security::token::Token;
use classad::ClassAd;
use condorconf::{Loader, MemoryFiles};
use tokio::net::TcpListener;

use super::*;

fn place() -> Place {
    Place {
        uid: nix::unistd::geteuid().as_raw(),
        login: "keeper".to_owned(),
        host_name: "host.x.org".to_owned(),
        home: None,
        addresses: Vec::new(),
        // Handshakes look at the real clock, tokens must not have ended.
        now: Place::here().now,
    }
}

fn load(directory: &Path, more: &str) -> Result<Security, SecurityErrors> {
    let files = MemoryFiles::new();
    let text = format!(
        "UID_DOMAIN = x.org\nSEC_PASSWORD_DIRECTORY = {}\n{more}",
        directory.join("passwords.d").display()
    );
    let config = Loader::new(&files)
        .subsys("POOL")
        .read_text("pool.conf", &text)
        .finish()
        .unwrap();
    Security::load(&config, &place())
}

/// Serves what is ours until the test ends.
async fn serve(security: &Security) -> Sinful {
    security.ensure_signing_key().unwrap();
    let config = security.server_config(SessionCache::new(), Security::commands());
    let server = Server::new(config).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Sinful::from(listener.local_addr().unwrap());
    let security = security.clone();
    tokio::spawn(async move {
        while let Ok((tcp, peer)) = listener.accept().await {
            let (server, security) = (server.clone(), security.clone());
            tokio::spawn(async move {
                let Ok(incoming) = server.accept(tcp, peer).await else {
                    return;
                };
                if let Ok(Some(incoming)) = incoming.serve_builtin().await {
                    security.serve(incoming).await;
                }
            });
        }
    });
    address
}

/// A client with a token and nothing else.
fn bearer(security: &Security, token: &str) -> Client {
    let mut config = security.client_config("TOOL");
    config.policy.methods = vec![AuthMethod::Token];
    config.credentials = Credentials {
        tokens: vec![Token::parse(token).unwrap()],
        ..Credentials::default()
    };
    Client::new(config, SessionCache::new())
}

fn token(security: &Security, identity: &str, scopes: &[Level]) -> String {
    security.mint("POOL", identity, scopes, None).unwrap()
}

async fn granted(client: &Client, address: &Sinful) -> Vec<&'static str> {
    let asked = [
        ("READ", command::DC_NOP_READ),
        ("WRITE", command::DC_NOP_WRITE),
        ("ADMINISTRATOR", command::DC_NOP_ADMINISTRATOR),
        ("DAEMON", command::DC_NOP_DAEMON),
        ("ADVERTISE_STARTD", command::DC_NOP_ADVERTISE_STARTD),
    ];
    let mut granted = Vec::new();
    for (name, command) in asked {
        if client.query_authorization(address, command).await.is_ok() {
            granted.push(name);
        }
    }
    granted
}

async fn ask(client: &Client, address: &Sinful, command: i32, values: &[(&str, &str)]) -> ClassAd {
    let mut ad = ClassAd::new();
    for (name, value) in values {
        ad.insert(*name, *value);
    }
    let mut stream = client.start_command(address, command).await.unwrap();
    let mut message = stream.message();
    message.ad(&ad);
    stream.send(message).await.unwrap();
    stream.recv().await.unwrap().reader().ad().unwrap()
}

#[tokio::test]
async fn without_configuration_only_the_pools_own_and_its_tokens_get_in() {
    let directory = tempfile::tempdir().unwrap();
    let more = "SEC_TOKEN_REVOCATION_EXPR = sub == \"eve@x.org\"\n";
    let security = load(directory.path(), more).unwrap();
    assert_eq!(security.warnings(), [] as [String; 0]);
    let address = serve(&security).await;
    let of =
        |identity: &str, scopes: &[Level]| bearer(&security, &token(&security, identity, scopes));
    let cases: [(&str, &[Level], &[&str]); 7] = [
        ("alice@x.org", &[], &["READ", "WRITE"]),
        ("alice@x.org", &[Level::Read], &["READ"]),
        ("alice@y.org", &[], &[]),
        ("eve@x.org", &[], &[]),
        (
            "root@x.org",
            &[],
            &[
                "READ",
                "WRITE",
                "ADMINISTRATOR",
                "DAEMON",
                "ADVERTISE_STARTD",
            ],
        ),
        (
            "keeper@x.org",
            &[Level::Administrator],
            &["READ", "WRITE", "ADMINISTRATOR"],
        ),
        (
            "pilot@x.org",
            &[Level::AdvertiseStartd],
            &["READ", "ADVERTISE_STARTD"],
        ),
    ];
    for (identity, scopes, wanted) in cases {
        let got = granted(&of(identity, scopes), &address).await;
        assert_eq!(got, wanted, "{identity} {scopes:?}");
    }
    // A token of another pool, even of the same name.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = load(elsewhere.path(), "").unwrap();
    other.ensure_signing_key().unwrap();
    let foreign = token(&other, "root@x.org", &[]);
    assert_eq!(
        granted(&bearer(&security, &foreign), &address).await,
        [] as [&str; 0]
    );
}

#[tokio::test]
async fn a_token_is_requested_approved_by_an_administrator_and_collected() {
    let directory = tempfile::tempdir().unwrap();
    let security = load(directory.path(), "").unwrap();
    let address = serve(&security).await;
    let requester = bearer(&security, &token(&security, "new@x.org", &[Level::Read]));
    let admin = bearer(&security, &token(&security, "root@x.org", &[]));
    let wish = [
        ("ClientId", "secret"),
        ("User", "pilot@x.org"),
        ("LimitAuthorization", "ADVERTISE_STARTD"),
    ];
    let started = ask(&requester, &address, command::DC_START_TOKEN_REQUEST, &wish).await;
    let id = started.string("RequestId").unwrap();
    let this = [("ClientId", "secret"), ("RequestId", id.as_str())];
    let poll = async |client: &Client| {
        ask(client, &address, command::DC_FINISH_TOKEN_REQUEST, &this).await
    };
    assert_eq!(poll(&requester).await.string("Token").as_deref(), Some(""));
    // Who is no administrator neither sees nor approves it; one whose token is limited is none.
    let limited = bearer(&security, &token(&security, "root@x.org", &[Level::Write]));
    for nobody in [&requester, &limited] {
        let list = ask(nobody, &address, command::DC_LIST_TOKEN_REQUEST, &[]).await;
        assert_eq!(list.int("Owner"), Some(0));
        let refused = ask(nobody, &address, command::DC_APPROVE_TOKEN_REQUEST, &this).await;
        assert_eq!(refused.int("ErrorCode"), Some(6));
    }
    let list = ask(&admin, &address, command::DC_LIST_TOKEN_REQUEST, &[]).await;
    assert_eq!(
        list.string("RequestedIdentity").as_deref(),
        Some("pilot@x.org")
    );
    assert_eq!(
        list.string("AuthenticatedIdentity").as_deref(),
        Some("new@x.org")
    );
    let approved = ask(&admin, &address, command::DC_APPROVE_TOKEN_REQUEST, &this).await;
    assert_eq!(approved.int("ErrorCode"), Some(0));
    let token = poll(&requester).await.string("Token").unwrap();
    let pilot = bearer(&security, &token);
    assert_eq!(
        granted(&pilot, &address).await,
        ["READ", "ADVERTISE_STARTD"]
    );
    assert_eq!(
        poll(&requester).await.int("ErrorCode"),
        Some(3),
        "a token is given out once"
    );
}

#[tokio::test]
async fn nobody_gets_more_out_of_the_pool_than_was_there() {
    let directory = tempfile::tempdir().unwrap();
    let security = load(directory.path(), "SEC_ISSUED_TOKEN_EXPIRATION = 1000\n").unwrap();
    let address = serve(&security).await;
    let life = Some(Duration::from_secs(100));
    let short = security
        .mint("POOL", "alice@x.org", &[Level::Read], life)
        .unwrap();
    let short = bearer(&security, &short);
    let session = async |client: &Client, values: &[(&str, &str)]| {
        ask(client, &address, command::DC_GET_SESSION_TOKEN, values).await
    };
    let got = session(&short, &[]).await.string("Token").unwrap();
    let got = Token::parse(&got).unwrap();
    let claims = got.claims();
    assert_eq!(
        claims.scopes.as_deref(),
        Some("condor:/READ"),
        "the limit is handed on"
    );
    let left = claims.expires.unwrap() - claims.issued_at.unwrap();
    assert!((1..=100).contains(&left), "{left}");
    let more = session(&short, &[("LimitAuthorization", "WRITE")]).await;
    assert_eq!(more.int("ErrorCode"), Some(3));
    // Users may not make themselves pilots, neither so nor by approving their own request.
    let alice = bearer(&security, &token(&security, "alice@x.org", &[]));
    let more = session(&alice, &[("LimitAuthorization", "ADVERTISE_STARTD")]).await;
    assert_eq!(more.int("ErrorCode"), Some(3));
    let own = session(&alice, &[("LimitAuthorization", "READ")])
        .await
        .string("Token")
        .unwrap();
    let own = Token::parse(&own).unwrap();
    assert_eq!(
        own.claims()
            .expires
            .map(|end| end - own.claims().issued_at.unwrap()),
        Some(1000)
    );
    for (client, bounds, wanted) in [
        (&alice, "ADVERTISE_STARTD", 6),
        (&short, "WRITE", 6),
        (&short, "", 6),
        (&alice, "WRITE", 0),
        (&alice, "", 0),
    ] {
        let wish = [
            ("ClientId", "c"),
            ("User", "alice@x.org"),
            ("LimitAuthorization", bounds),
        ];
        let started = ask(client, &address, command::DC_START_TOKEN_REQUEST, &wish).await;
        let id = started.string("RequestId").unwrap();
        let this = [("ClientId", "c"), ("RequestId", id.as_str())];
        let code = ask(client, &address, command::DC_APPROVE_TOKEN_REQUEST, &this).await;
        assert_eq!(code.int("ErrorCode"), Some(wanted), "{bounds}");
    }
    let key = session(&alice, &[("RequestedKey", "AP")]).await;
    assert_eq!(key.int("ErrorCode"), Some(3));
}

#[tokio::test]
async fn names_that_are_claimed_go_through_the_map_file() {
    let directory = tempfile::tempdir().unwrap();
    let map = directory.path().join("map");
    std::fs::write(
        &map,
        "CLAIMTOBE ^(a.*)$ \\1.mapped\nCLAIMTOBE boss root@x.org\n",
    )
    .unwrap();
    let more = format!(
        "SEC_DEFAULT_AUTHENTICATION_METHODS = CLAIMTOBE\nCERTIFICATE_MAPFILE = {}\nALLOW_READ = alice.mapped@x.org\n",
        map.display()
    );
    let security = load(directory.path(), &more).unwrap();
    let address = serve(&security).await;
    let mut seen = Vec::new();
    for name in ["alice", "bob", "boss"] {
        let mut config = security.client_config("TOOL");
        config.credentials.claim_to_be = Some(name.to_owned());
        let client = Client::new(config, SessionCache::new());
        seen.push(
            client
                .query_authorization(&address, command::DC_NOP_READ)
                .await
                .ok()
                .flatten(),
        );
    }
    assert_eq!(seen[0].as_deref(), Some("alice.mapped@x.org"));
    assert_eq!(seen[1], None);
    // The administrator reads by implication; what was claimed is limited to the command's level.
    assert_eq!(seen[2].as_deref(), Some("root@x.org"));
}

#[test]
fn every_mistake_of_the_configuration_is_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let map = directory.path().join("map");
    std::fs::write(&map, "SSL (?<=a)b c\n").unwrap();
    let more = format!(
        "TRUST_DOMAIN = a b\nCERTIFICATE_MAPFILE = {}\nAUTH_SSL_SERVER_CERTFILE = /gone.pem\nSEC_TOKEN_REVOCATION_EXPR = sub ==\n\
         ALLOW_READ = 10.0.0.0/99\nSEC_DEFAULT_ENCRYPTION = MAYBE\nSEC_TOKEN_REQUEST_LIMITS = EVERYTHING\nFS_LOCAL_DIR = tmp\n",
        map.display()
    );
    let told = load(directory.path(), &more).unwrap_err().to_string();
    for wanted in [
        "pool.conf:3: TRUST_DOMAIN: ",
        "pool.conf:4: CERTIFICATE_MAPFILE: ",
        "/map:1: \"(?<=a)b\"",
        "AUTH_SSL_SERVER_KEYFILE: must be set because AUTH_SSL_SERVER_CERTFILE is",
        "pool.conf:6: SEC_TOKEN_REVOCATION_EXPR: ",
        "pool.conf:7: ALLOW_READ: ",
        "pool.conf:8: SEC_DEFAULT_ENCRYPTION: ",
        "pool.conf:9: SEC_TOKEN_REQUEST_LIMITS: ",
        "pool.conf:10: FS_LOCAL_DIR: ",
    ] {
        assert!(told.contains(wanted), "{wanted} in\n{told}");
    }
    assert_eq!(told.lines().count(), 8, "{told}");
}

#[test]
fn the_certificate_is_the_first_pair_that_is_there() {
    use openssl::asn1::Asn1Time;
    use openssl::pkey::PKey;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let key = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    let mut certificate = openssl::x509::X509::builder().unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    certificate
        .set_not_after(&Asn1Time::days_from_now(1).unwrap())
        .unwrap();
    certificate
        .sign(&key, openssl::hash::MessageDigest::sha256())
        .unwrap();
    std::fs::write(path("host.pem"), certificate.build().to_pem().unwrap()).unwrap();
    std::fs::write(path("host.key"), key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let other = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    std::fs::write(path("other.key"), other.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let with = |key: &str| {
        let more = format!(
            "AUTH_SSL_SERVER_CERTFILE = /gone.pem, {}\nAUTH_SSL_SERVER_KEYFILE = /gone.key, {}\n",
            path("host.pem"),
            path(key)
        );
        load(directory.path(), &more)
    };
    let security = with("host.key").unwrap();
    let policy = security.inner.policies.get(&Level::Read).unwrap();
    assert!(policy.methods.contains(&AuthMethod::Ssl));
    let told = with("other.key").unwrap_err().to_string();
    assert!(
        told.contains("AUTH_SSL_SERVER_CERTFILE: ") && told.contains("other.key"),
        "{told}"
    );
    let told = with("none.key").unwrap_err().to_string();
    assert!(told.contains("can be read together"), "{told}");
    assert!(
        !load(directory.path(), "")
            .unwrap()
            .inner
            .policies
            .get(&Level::Read)
            .unwrap()
            .methods
            .contains(&AuthMethod::Ssl)
    );
}
