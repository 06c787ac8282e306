//! Entry points for fuzzers: each takes any bytes and must neither panic nor loop.

use std::sync::Arc;
use std::time::Duration;

use crate::ccb::{Heard, Place, Registration, Settings};
use crate::entropy::{Entropy, EntropyError, Purpose};
use crate::frame::Channel;
use crate::secret::SessionKey;
use crate::security::PeerIdentity;
use crate::security::auth::akep2::{Akep2Rules, ClientAkep2, ServerAkep2};
use crate::security::auth::ssl::{ClientSsl, ServerSsl};
use crate::security::auth::{
    ClientMethod, ClientTurn, DirectoryReport, ServerMethod, ServerTurn, Turn,
};
use crate::security::client::{ClientEvent, ClientHandshake, ClientRequest};
use crate::security::policy::SecurityPolicy;
use crate::security::server::{
    Authenticators, CommandTable, ServerContext, ServerEvent, ServerHandshake, ServerRules,
};
use crate::security::token::{SigningKeys, TokenSet};
use crate::security::{
    AuthMethod, Level, PoolPassword, SUBMIT_SIDE, SciToken, Session, SessionSource, SessionStore,
};
use crate::security::{SslClient, SslClientFiles, SslServer};
use crate::version::COMPATIBLE;
use crate::wire::{Coding, MessageReader};
use crate::{ClaimId, Sinful};

/// Random bytes that are always the same.
#[derive(Debug, Clone, Copy)]
struct Fixed;

impl Entropy for Fixed {
    fn fill(&mut self, _purpose: Purpose, out: &mut [u8]) -> Result<(), EntropyError> {
        out.fill(0x42);
        Ok(())
    }
}

/// Frames, clear and encrypted.
pub fn fuzz_cedar_frame(data: &[u8]) {
    for secure in [false, true] {
        let mut channel = Channel::new(1 << 20, false);
        if secure
            && channel
                .secure(&SessionKey::new([7; 32]), &mut Fixed)
                .is_err()
        {
            return;
        }
        for piece in data.chunks(97) {
            channel.push(piece);
            while let Ok(Some(_)) = channel.next_message() {}
        }
    }
}

/// Ads and primitive values; an ad that was read must survive being written and read again.
pub fn fuzz_cedar_ad(data: &[u8]) {
    for coding in [Coding::Plain, Coding::Encrypted] {
        let mut reader = MessageReader::new(coding, data);
        if let Ok(ad) = reader.ad() {
            let mut writer = crate::MessageWriter::new(coding);
            writer.ad(&ad);
            let _ = writer.finish();
        }
        let mut reader = MessageReader::new(coding, data);
        while reader.str().is_ok() && reader.int().is_ok() && reader.double().is_ok() {}
    }
}

/// Addresses and claim ids; what was read must be the same after a round trip.
pub fn fuzz_sinful(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(sinful) = Sinful::parse(&text) {
        let again = Sinful::parse(&sinful.to_string());
        assert_eq!(
            again.as_ref(),
            Ok(&sinful),
            "an address must survive a round trip"
        );
        let _ = sinful.socket_addr();
    }
    let _ = Sinful::from_contact(&text, 9618);
    if let Ok(claim) = ClaimId::parse(&text) {
        assert!(claim.as_str().starts_with(claim.session_id()));
    }
    let _ = crate::security::token::Token::parse(&text);
}

/// SciTokens as a client finds them, and answers to a request for a token, whose lines are an ad's.
pub fn fuzz_scitoken(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(token) = SciToken::parse(&text) {
        assert!(!token.claims().issuer.is_empty());
        assert_eq!(token.expose(), text.trim(), "it is shown as it was found");
    }
    #[cfg(feature = "tokio")]
    if let Ok(ad) = classad::ClassAd::parse_old(&text)
        && let Ok(Some(issued)) = crate::net::fuzz_issued(&ad)
    {
        assert_eq!(ad.string("Token").as_deref(), Some(issued.text.expose()));
    }
}

/// A CCB server that sends these messages, each behind its length in two bytes; one of no length lets time pass, or ends
/// the connection.
pub fn fuzz_ccb(data: &[u8]) {
    let place = Place {
        peer: [192, 0, 2, 1].into(),
        local: [192, 0, 2, 9].into(),
    };
    let mut registration = Registration::new(Settings {
        name: "fuzz".to_owned(),
        heartbeat: Some(Duration::from_secs(300)),
        reconnect: Duration::from_secs(60),
        max_dials: 2,
    });
    let mut now = Duration::ZERO;
    registration.connected(now, place);
    let mut dialling = Vec::new();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (body, after) = after.split_at(length);
        rest = after;
        now = now.saturating_add(Duration::from_secs(100));
        let up = if body.is_empty() {
            registration.tick(now).is_ok()
        } else {
            let ad = MessageReader::new(Coding::Encrypted, body).ad();
            match ad.map(|ad| registration.heard(now, &ad)) {
                Ok(Ok(Heard::Dial(request))) => {
                    if let Ok((target, address)) = request.target(place) {
                        assert!(!address.ip().is_loopback() && address.port() != 0);
                        assert!(request.hello(&target, "STARTD").is_ok());
                    }
                    dialling.push(request);
                    true
                }
                Ok(Ok(_)) => true,
                Ok(Err(_)) | Err(_) => false,
            }
        };
        assert_eq!(registration.dials(), dialling.len());
        assert!(dialling.len() <= 2, "no more at once than allowed");
        if let Some(contact) = registration.contact() {
            let ours = Sinful::new(place.local, 1).with("CCBID", Some(contact.as_str()));
            assert_eq!(Sinful::parse(&ours.to_string()).as_ref(), Ok(&ours));
        }
        if !up {
            if let Some(request) = dialling.pop() {
                registration.finished(&request, &Err("no".to_owned()));
            }
            registration.lost(7);
            registration.connected(now, place);
        }
    }
}

/// A client whose server sends these bytes.
pub fn fuzz_cedar_handshake_client(data: &[u8]) {
    let Ok(policy) = (SecurityPolicy {
        methods: vec![
            AuthMethod::Token,
            AuthMethod::Fs,
            AuthMethod::ClaimToBe,
            AuthMethod::Anonymous,
        ],
        ..SecurityPolicy::default()
    })
    .tightened() else {
        return;
    };
    let mut keys = SigningKeys::new();
    let token = keys.add_file("POOL", &[1; 32]).ok().and_then(|()| {
        let payload = r#"{"iss":"test.pool","sub":"pilot@test.pool"}"#;
        let text = keys.issue("POOL", payload)?.ok()?;
        crate::security::token::Token::parse(&text).ok()
    });
    let request = ClientRequest {
        command: 0,
        auth_command: None,
        address: "<127.0.0.1:9618>".to_owned(),
        server: "127.0.0.1:9618".to_owned(),
        shared_port: None,
        policy,
        tokens: TokenSet::of(token.into_iter().collect()),
        password: PoolPassword::new("secret").ok(),
        ssl: None,
        scitoken: None,
        host: None,
        claim_to_be: Some("alice".to_owned()),
        fs: true,
        version: COMPATIBLE.banner("fuzz"),
        subsystem: "TOOL".to_owned(),
        command_sock: None,
        trust_domain: None,
        pid: 1,
        now: 1_700_000_000,
    };
    let session = Session {
        id: "s".to_owned(),
        key: SessionKey::new([7; 32]),
        source: SessionSource::Negotiated,
        peer: PeerIdentity::unauthenticated(),
        peer_version: None,
        our_user: None,
        expires: None,
        lease: None,
        last_used: 0,
    };
    let clients = [
        ClientHandshake::new_session(request.clone(), &mut Fixed),
        ClientHandshake::resume(request, session, &mut Fixed),
    ];
    for client in clients.into_iter().flatten() {
        drive_client(client, data);
    }
}

fn drive_client(mut client: ClientHandshake, data: &[u8]) {
    client.push(data);
    for _ in 0..64 {
        match client.advance(&mut Fixed) {
            Ok(ClientEvent::Directory(_)) => {
                if client.directory_done(&DirectoryReport::Done).is_err() {
                    return;
                }
            }
            Ok(ClientEvent::NeedInput | ClientEvent::Established(_)) | Err(_) => return,
        }
        client.take_output();
    }
}

/// One side of PASSWORD, TOKEN or SSL whose peer sends these messages. The first byte chooses the
/// side; each message stands behind its length in two bytes.
pub fn fuzz_cedar_methods(data: &[u8]) {
    let Some((side, mut rest)) = data.split_first() else {
        return;
    };
    let Some(mut machine) = Machine::new(*side) else {
        return;
    };
    for _ in 0..64 {
        let Some((length, after)) = rest.split_first_chunk::<2>() else {
            return;
        };
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (body, after) = after.split_at(length);
        rest = after;
        match machine.message(body) {
            Some(next) => machine = next,
            None => return,
        }
    }
}

/// First bytes from here on choose SCITOKENS.
const SCITOKENS: u8 = 250;

/// One side of a method.
enum Machine {
    Client(ClientMethod),
    Server(ServerMethod),
}

impl Machine {
    fn new(side: u8) -> Option<Self> {
        let version = Some(COMPATIBLE);
        if side >= SCITOKENS {
            let client = SslClient::load(SslClientFiles::default()).ok()?;
            let token = SciToken::parse("e30.eyJpc3MiOiJ4In0.eA").ok()?;
            return Self::of_client(ClientSsl::start(&client, "pool.example.org", Some(token)));
        }
        match side % 5 {
            0 => Self::of_server(ServerAkep2::start(AuthMethod::Password, version)),
            1 => {
                let password = PoolPassword::new("secret").ok()?;
                let turn = ClientAkep2::password(&password, version, "test.pool", &mut Fixed);
                Self::of_client(turn.ok()?)
            }
            2 => Self::of_server(ServerAkep2::start(AuthMethod::Token, version)),
            3 => Self::of_server(ServerSsl::start(&SslServer::unable().ok()?)),
            _ => {
                let client = SslClient::load(SslClientFiles::default()).ok()?;
                Self::of_client(ClientSsl::start(&client, "pool.example.org", None))
            }
        }
    }

    fn of_client(turn: ClientTurn) -> Option<Self> {
        match turn {
            Turn::Wait(machine, _) => Some(Self::Client(machine)),
            _ => None,
        }
    }

    fn of_server(turn: ServerTurn) -> Option<Self> {
        match turn {
            Turn::Wait(machine, _) => Some(Self::Server(machine)),
            _ => None,
        }
    }

    fn message(self, body: &[u8]) -> Option<Self> {
        let mut keys = SigningKeys::new();
        keys.add_file("POOL", &[1; 32]).ok()?;
        let password = PoolPassword::new("secret").ok()?;
        match self {
            Self::Client(machine) => Self::of_client(machine.message(body).ok()?),
            Self::Server(ServerMethod::Akep2(machine)) => {
                let rules = Akep2Rules {
                    password: Some(&password),
                    keys: &keys,
                    rule: None,
                    trust_domain: Some("test.pool"),
                    now: 1_700_000_000,
                };
                Self::of_server(machine.message(body, rules, &mut Fixed).ok()?)
            }
            Self::Server(ServerMethod::Ssl(machine)) => {
                Self::of_server(machine.message(body, &mut Fixed).ok()?)
            }
            Self::Server(_) => None,
        }
    }
}

/// A server whose client sends these bytes.
pub fn fuzz_cedar_handshake_server(data: &[u8]) {
    let mut keys = SigningKeys::new();
    if keys.add_file("POOL", &[1; 32]).is_err() {
        return;
    }
    let policy = SecurityPolicy {
        methods: vec![
            AuthMethod::Token,
            AuthMethod::Fs,
            AuthMethod::ClaimToBe,
            AuthMethod::Anonymous,
        ],
        ..SecurityPolicy::default()
    };
    let rules = Arc::new(ServerRules {
        policies: policy.tightened().map(Into::into).unwrap_or_default(),
        authenticators: Authenticators {
            signing_keys: keys,
            fs_directory: Some("/tmp".into()),
            uid_domain: "test.pool".to_owned(),
            claim_to_be: true,
            anonymous: true,
            ..Authenticators::default()
        },
        authorizer: Arc::new(CommandTable::new().permit(Level::Daemon, "*")),
        version: COMPATIBLE.banner("fuzz"),
        trust_domain: Some("test.pool".to_owned()),
        raw_commands: vec![crate::command::DC_INVALIDATE_KEY],
        session_prefix: "fuzz".to_owned(),
    });
    let mut sessions = SessionStore::new();
    sessions.insert(Session {
        id: "s".to_owned(),
        key: SessionKey::new([7; 32]),
        source: SessionSource::Claim,
        peer: PeerIdentity::named(SUBMIT_SIDE),
        peer_version: None,
        our_user: None,
        expires: None,
        lease: None,
        last_used: 0,
    });
    let mut server = ServerHandshake::new(rules, None);
    let mut ctx = ServerContext {
        sessions: &mut sessions,
        entropy: &mut Fixed,
        now: 1_700_000_000,
    };
    server.push(data);
    for _ in 0..64 {
        match server.advance(&mut ctx) {
            Ok(ServerEvent::Directory(_)) => {
                let report = DirectoryReport::Failed(std::io::ErrorKind::NotFound);
                if !matches!(server.directory_done(&report, &mut ctx), Ok(None)) {
                    return;
                }
            }
            Ok(ServerEvent::NeedInput | ServerEvent::Established(_)) | Err(_) => return,
        }
        server.take_output();
    }
}
