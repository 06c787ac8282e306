//! The first message of a client, as a server reads it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Version;
use crate::command;
use crate::error::HandshakeError;
use crate::security::{AuthMethod, Wish, method};
use crate::wire::{Coding, MessageReader};

const FIRST: &str = "the client's first message";

/// Most attributes of a handshake ad; 25.10 draws the line at the same number.
const MAX_ATTRIBUTES: usize = 100;

/// How a client opens a connection.
#[derive(Debug)]
pub(super) enum Opening {
    /// With a command and no security.
    Raw { command: i32, rest: Vec<u8> },
    /// With a session it has.
    Resume(ClientOffer),
    /// With the wish for a new session.
    New(ClientOffer),
}

/// The security ad of a client.
#[derive(Debug)]
pub(super) struct ClientOffer {
    pub(super) command: i32,
    pub(super) auth_command: Option<i32>,
    pub(super) session_id: String,
    pub(super) wants_resume_answer: bool,
    pub(super) methods: Vec<AuthMethod>,
    pub(super) method_text: String,
    pub(super) ciphers: String,
    pub(super) offers_aes: bool,
    pub(super) authentication: Wish,
    pub(super) encryption: Wish,
    pub(super) integrity: Wish,
    pub(super) public_point: Option<Vec<u8>>,
    pub(super) duration: Option<i64>,
    pub(super) lease: Option<i64>,
    pub(super) version: Option<Version>,
}

impl Opening {
    pub(super) fn parse(body: &[u8]) -> Result<Self, HandshakeError> {
        let bad = HandshakeError::wire(FIRST);
        let mut reader = MessageReader::new(Coding::Plain, body);
        let command = reader.int32().map_err(&bad)?;
        if command != command::DC_AUTHENTICATE {
            let rest = reader.remaining().to_vec();
            return Ok(Self::Raw { command, rest });
        }
        // Counted before anything is parsed: an attacker gets no work out of us for a long list.
        let lines = reader.clone().int().map_err(&bad)?;
        if usize::try_from(lines).map_or(true, |lines| lines > MAX_ATTRIBUTES) {
            return Err(bad(crate::wire::WireError::BadLineCount(lines)));
        }
        let ad = reader.ad().map_err(&bad)?;
        reader.expect_end().map_err(&bad)?;
        let resume = ad
            .string("UseSession")
            .is_some_and(|text| text.eq_ignore_ascii_case("YES"));
        let offer = ClientOffer::parse(&ad, resume)?;
        Ok(if resume {
            Self::Resume(offer)
        } else {
            Self::New(offer)
        })
    }
}

impl ClientOffer {
    /// The command whose level counts; with `DC_SEC_QUERY` the one asked about.
    pub(super) fn wanted(&self) -> i32 {
        self.auth_command.unwrap_or(self.command)
    }

    fn parse(ad: &classad::ClassAd, resume: bool) -> Result<Self, HandshakeError> {
        let missing = |attribute| HandshakeError::BadAttribute {
            message: FIRST,
            attribute,
        };
        let number = |attribute: &'static str| {
            ad.int(attribute)
                .map(|value| i32::try_from(value).map_err(|_| missing(attribute)))
                .transpose()
        };
        let command = number("Command")?.ok_or_else(|| missing("Command"))?;
        let indirect = matches!(command, command::DC_SEC_QUERY | command::DC_AUTHENTICATE);
        let auth_command = if indirect {
            Some(number("AuthCommand")?.ok_or_else(|| missing("AuthCommand"))?)
        } else {
            None
        };
        let session_id = ad.string("Sid").unwrap_or_default();
        if resume && session_id.is_empty() {
            return Err(missing("Sid"));
        }
        let public_point = match ad.string("ECDHPublicKey").filter(|_| !resume) {
            Some(text) => {
                let point = STANDARD.decode(text.trim());
                Some(point.map_err(|_| missing("ECDHPublicKey"))?)
            }
            None => None,
        };
        let method_text: String = ad
            .string("AuthMethods")
            .unwrap_or_default()
            .chars()
            .take(200)
            .collect();
        let ciphers: String = ad
            .string("CryptoMethods")
            .unwrap_or_default()
            .chars()
            .take(200)
            .collect();
        // A missing attribute counts as NEVER.
        let wish = |name: &str| {
            ad.string(name)
                .and_then(|text| Wish::from_text(&text))
                .unwrap_or(Wish::Never)
        };
        Ok(Self {
            command,
            auth_command,
            session_id,
            wants_resume_answer: ad.bool("ResumeResponse").unwrap_or(false),
            methods: method::split(&method_text),
            offers_aes: ciphers
                .split([',', '.'])
                .any(|name| name.trim().eq_ignore_ascii_case("AES")),
            method_text,
            ciphers,
            authentication: wish("Authentication"),
            encryption: wish("Encryption"),
            integrity: wish("Integrity"),
            public_point,
            duration: ad
                .string("SessionDuration")
                .and_then(|text| text.trim().parse().ok())
                .or_else(|| ad.int("SessionDuration"))
                .filter(|seconds| *seconds > 0),
            lease: ad.int("SessionLease").filter(|seconds| *seconds >= 0),
            version: ad
                .string("RemoteVersion")
                .and_then(|text| Version::from_banner(&text)),
        })
    }
}
