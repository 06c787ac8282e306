//! TOKEN: AKEP2 with keys derived from an id token's signature (protocol 01 section 5.2,
//! `htcondor:src/condor_io/condor_auth_passwd.cpp`).

use super::{
    ClientMethod, ClientTurn, MethodFailure, ServerMethod, ServerTurn, Turn, internal, seeds,
};
use crate::Version;
use crate::crypto::{self, CryptoError, Hash};
use crate::entropy::{Entropy, Purpose};
use crate::error::HandshakeError;
use crate::secret::SecretBytes;
use crate::security::token::{SigningKeys, Token, TokenClaims};
use crate::security::{AuthMethod, Level, PeerIdentity};
use crate::wire::{Coding, MessageReader, MessageWriter, WireError};

/// Length of a challenge, in bytes.
const CHALLENGE: usize = 256;

/// Longest name, in bytes.
const MAX_NAME: usize = 1023;

/// Status values of each message.
const OK: i64 = 0;
const ERROR: i64 = -1;

/// Name of a server for clients that announce 23.9.0 or newer.
const SERVER_NAME: &str = "condor@password";

const MESSAGE_1: &str = "TOKEN message 1";
const MESSAGE_2: &str = "TOKEN message 2";
const MESSAGE_3: &str = "TOKEN message 3";

/// The key under which both sides prove that they know the token's signature.
fn derive_ka(signature: &[u8], signed_part: &str) -> Result<SecretBytes, CryptoError> {
    let salt = [&seeds::KA[..], signed_part.as_bytes()].concat();
    crypto::derive_secret(signature, &salt, b"master ka")
}

/// The server's proof.
fn server_proof(
    ka: &SecretBytes,
    a: &[u8],
    b: &[u8],
    ra: &[u8],
    rb: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    crypto::hmac(Hash::Sha1, ka.expose(), &[a, b" ", b, &[0], ra, rb])
}

/// The client's proof.
fn client_proof(ka: &SecretBytes, a: &[u8], rb: &[u8]) -> Result<Vec<u8>, CryptoError> {
    crypto::hmac(Hash::Sha1, ka.expose(), &[a, &[0], rb])
}

/// Client, waiting for message 2.
#[derive(Debug)]
pub(crate) struct ClientToken {
    ka: SecretBytes,
    name: String,
    challenge: Vec<u8>,
}

impl ClientToken {
    pub(crate) fn start(
        token: &Token,
        entropy: &mut dyn Entropy,
    ) -> Result<ClientTurn, HandshakeError> {
        let ka = derive_ka(token.signature().expose(), token.signed_part())?;
        let name = token.claims().subject.clone();
        let mut challenge = vec![0u8; CHALLENGE];
        entropy
            .fill(Purpose::Challenge, &mut challenge)
            .map_err(CryptoError::from)?;
        let mut message = MessageWriter::new(Coding::Plain);
        put_name(message.int(OK), &name);
        message.str(token.signed_part());
        put_bytes(&mut message, &challenge);
        let body = message.finish().map_err(internal)?;
        let machine = Self {
            ka,
            name,
            challenge,
        };
        Ok(Turn::Wait(ClientMethod::Token(machine), vec![body]))
    }

    pub(crate) fn message(self, body: &[u8]) -> Result<ClientTurn, HandshakeError> {
        let answer = ServerAnswer::parse(body).map_err(HandshakeError::wire(MESSAGE_2))?;
        match self.check(&answer)? {
            Ok(proof) => {
                let mut message = MessageWriter::new(Coding::Plain);
                put_name(message.int(OK), &self.name);
                put_bytes(&mut message, answer.rb);
                put_bytes(&mut message, &proof);
                let body = message.finish().map_err(internal)?;
                Ok(Turn::Done((), vec![body]))
            }
            Err(why) => {
                let mut message = MessageWriter::new(Coding::Plain);
                put_name(message.int(ERROR), "");
                message.int(0).int(0);
                let body = message.finish().map_err(internal)?;
                Ok(Turn::Failed(why, vec![body]))
            }
        }
    }

    fn check(
        &self,
        answer: &ServerAnswer<'_>,
    ) -> Result<Result<Vec<u8>, MethodFailure>, HandshakeError> {
        if answer.status != OK {
            return Ok(Err(MethodFailure::Peer));
        }
        if answer.a != self.name.as_bytes() || answer.ra != self.challenge {
            return Ok(Err(MethodFailure::BadProof("it answers another challenge")));
        }
        if answer.rb.len() != CHALLENGE {
            return Ok(Err(MethodFailure::BadProof("its challenge is too short")));
        }
        let expected = server_proof(&self.ka, answer.a, answer.b, answer.ra, answer.rb)?;
        if !crypto::constant_time_eq(&expected, answer.proof) {
            return Ok(Err(MethodFailure::BadProof(
                "the server does not know the token's signing key",
            )));
        }
        Ok(Ok(client_proof(&self.ka, self.name.as_bytes(), answer.rb)?))
    }
}

/// Message 2 as received.
struct ServerAnswer<'a> {
    status: i64,
    a: &'a [u8],
    b: &'a [u8],
    ra: &'a [u8],
    rb: &'a [u8],
    proof: &'a [u8],
}

impl<'a> ServerAnswer<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = MessageReader::new(Coding::Plain, body);
        let answer = Self {
            status: reader.int()?,
            a: take_name(&mut reader)?,
            b: take_name(&mut reader)?,
            ra: take_bytes(&mut reader)?,
            rb: take_bytes(&mut reader)?,
            proof: take_bytes(&mut reader)?,
        };
        reader.expect_end()?;
        Ok(answer)
    }
}

/// What a server needs to check tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenRules<'a> {
    pub(crate) keys: &'a SigningKeys,
    pub(crate) trust_domain: Option<&'a str>,
    pub(crate) now: i64,
}

/// Server.
#[derive(Debug)]
pub(crate) enum ServerToken {
    /// Waits for message 1.
    Start { client_version: Option<Version> },
    /// Waits for message 3.
    Proof {
        ka: SecretBytes,
        claims: Box<TokenClaims>,
        challenge: Vec<u8>,
    },
    /// Waits for the message 3 of an exchange that has failed already.
    Failing(MethodFailure),
}

impl ServerToken {
    pub(crate) fn start(client_version: Option<Version>) -> ServerTurn {
        Turn::Wait(
            ServerMethod::Token(Self::Start { client_version }),
            Vec::new(),
        )
    }

    pub(crate) fn message(
        self,
        body: &[u8],
        rules: TokenRules<'_>,
        entropy: &mut dyn Entropy,
    ) -> Result<ServerTurn, HandshakeError> {
        match self {
            Self::Start { client_version } => {
                let offer = ClientOffer::parse(body).map_err(HandshakeError::wire(MESSAGE_1))?;
                match offer.check(rules)? {
                    Ok((ka, claims)) => answer(&offer, ka, claims, client_version, entropy),
                    Err(why) => {
                        let mut message = MessageWriter::new(Coding::Plain);
                        put_name(message.int(ERROR), "");
                        put_name(&mut message, "");
                        message.int(0).int(0).int(0);
                        let body = message.finish().map_err(internal)?;
                        let machine = ServerMethod::Token(Self::Failing(why));
                        Ok(Turn::Wait(machine, vec![body]))
                    }
                }
            }
            Self::Proof {
                ka,
                claims,
                challenge,
            } => {
                let proof = ClientProof::parse(body).map_err(HandshakeError::wire(MESSAGE_3))?;
                if proof.status != OK {
                    return Ok(Turn::Failed(MethodFailure::Peer, Vec::new()));
                }
                let expected = client_proof(&ka, claims.subject.as_bytes(), &challenge)?;
                let good = proof.a == claims.subject.as_bytes()
                    && proof.rb == challenge
                    && crypto::constant_time_eq(&expected, proof.proof);
                if !good {
                    // The client waits for message 4 now: nothing but closing tells it.
                    return Err(HandshakeError::Authentication(vec![super::Attempt {
                        method: AuthMethod::Token,
                        why: MethodFailure::BadProof("the client does not know the signature"),
                    }]));
                }
                Ok(Turn::Done(identity(&claims), Vec::new()))
            }
            Self::Failing(why) => {
                ClientProof::parse(body).map_err(HandshakeError::wire(MESSAGE_3))?;
                Ok(Turn::Failed(why, Vec::new()))
            }
        }
    }
}

fn answer(
    offer: &ClientOffer<'_>,
    ka: SecretBytes,
    claims: TokenClaims,
    client_version: Option<Version>,
    entropy: &mut dyn Entropy,
) -> Result<ServerTurn, HandshakeError> {
    let mut challenge = vec![0u8; CHALLENGE];
    entropy
        .fill(Purpose::Challenge, &mut challenge)
        .map_err(CryptoError::from)?;
    let name = match client_version {
        Some(version) if version < Version::new(23, 9, 0) => {
            format!("condor_pool@{}", claims.issuer)
        }
        _ => SERVER_NAME.to_owned(),
    };
    let proof = server_proof(&ka, offer.a, name.as_bytes(), offer.ra, &challenge)?;
    let mut message = MessageWriter::new(Coding::Plain);
    put_name(message.int(OK), &claims.subject);
    put_name(&mut message, &name);
    put_bytes(&mut message, offer.ra);
    put_bytes(&mut message, &challenge);
    put_bytes(&mut message, &proof);
    let body = message.finish().map_err(internal)?;
    let machine = ServerMethod::Token(ServerToken::Proof {
        ka,
        claims: Box::new(claims),
        challenge,
    });
    Ok(Turn::Wait(machine, vec![body]))
}

/// Message 1 as received.
struct ClientOffer<'a> {
    status: i64,
    a: &'a [u8],
    signed_part: &'a [u8],
    ra: &'a [u8],
}

impl<'a> ClientOffer<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = MessageReader::new(Coding::Plain, body);
        let offer = Self {
            status: reader.int()?,
            a: take_name(&mut reader)?,
            signed_part: reader.str_bytes()?,
            ra: take_bytes(&mut reader)?,
        };
        reader.expect_end()?;
        Ok(offer)
    }

    fn check(
        &self,
        rules: TokenRules<'_>,
    ) -> Result<Result<(SecretBytes, TokenClaims), MethodFailure>, HandshakeError> {
        if self.status != OK {
            return Ok(Err(MethodFailure::Peer));
        }
        let Ok(signed_part) = std::str::from_utf8(self.signed_part) else {
            return Ok(Err(MethodFailure::BadProof("its token is not text")));
        };
        let claims = match TokenClaims::parse(signed_part) {
            Ok(claims) => claims,
            Err(error) => return Ok(Err(error.into())),
        };
        if let Err(why) = judge(&claims, rules) {
            return Ok(Err(why));
        }
        if self.a != claims.subject.as_bytes() || self.ra.len() != CHALLENGE {
            return Ok(Err(MethodFailure::BadProof("its name is not the token's")));
        }
        let Some(signature) = rules.keys.signature(&claims, signed_part) else {
            return Ok(Err(MethodFailure::UnknownKey(claims.key_id)));
        };
        let ka = derive_ka(signature?.expose(), signed_part)?;
        Ok(Ok((ka, claims)))
    }
}

/// The checks a 23.9.6 server makes, and two it leaves out: `nbf` and the value of `iss`.
fn judge(claims: &TokenClaims, rules: TokenRules<'_>) -> Result<(), MethodFailure> {
    if let Some(end) = claims.expires.filter(|end| *end <= rules.now) {
        return Err(MethodFailure::Expired(end));
    }
    if let Some(start) = claims.not_before.filter(|start| *start > rules.now) {
        return Err(MethodFailure::NotYet(start));
    }
    match rules.trust_domain {
        Some(domain) if domain != claims.issuer => {
            Err(MethodFailure::OtherDomain(claims.issuer.clone()))
        }
        _ => Ok(()),
    }
}

fn identity(claims: &TokenClaims) -> PeerIdentity {
    PeerIdentity {
        user: claims.subject.clone(),
        method: Some(AuthMethod::Token),
        limit: claims.scopes.as_deref().and_then(limit_from_scopes),
        token: Some(claims.facts()),
    }
}

/// The levels named by `condor:/` words; `None` if there is no such word. Words that name no level
/// grant nothing but keep the limit in place.
fn limit_from_scopes(scopes: &str) -> Option<Vec<Level>> {
    let mut words = scopes
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("condor:/"))
        .peekable();
    words.peek()?;
    Some(words.filter_map(Level::from_name).collect())
}

/// Message 3 as received.
struct ClientProof<'a> {
    status: i64,
    a: &'a [u8],
    rb: &'a [u8],
    proof: &'a [u8],
}

impl<'a> ClientProof<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = MessageReader::new(Coding::Plain, body);
        let proof = Self {
            status: reader.int()?,
            a: take_name(&mut reader)?,
            rb: take_bytes(&mut reader)?,
            proof: take_bytes(&mut reader)?,
        };
        reader.expect_end()?;
        Ok(proof)
    }
}

/// A name: its length without the NUL, then the string.
fn put_name(message: &mut MessageWriter, name: &str) {
    message
        .int(i64::try_from(name.len()).unwrap_or(i64::MAX))
        .str(name);
}

fn take_name<'a>(reader: &mut MessageReader<'a>) -> Result<&'a [u8], WireError> {
    let length = reader.int()?;
    let name = reader.str_bytes()?;
    if name.len() > MAX_NAME || usize::try_from(length) != Ok(name.len()) {
        return Err(WireError::BadLength { length, at: 0 });
    }
    Ok(name)
}

/// Bytes behind their length.
fn put_bytes(message: &mut MessageWriter, bytes: &[u8]) {
    message
        .int(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
        .bytes(bytes);
}

fn take_bytes<'a>(reader: &mut MessageReader<'a>) -> Result<&'a [u8], WireError> {
    let length = reader.int()?;
    match usize::try_from(length) {
        Ok(size) if size <= CHALLENGE => reader.bytes(size),
        _ => Err(WireError::BadLength { length, at: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_become_a_limit_only_if_one_is_for_condor() {
        assert_eq!(limit_from_scopes("read:/ write:/"), None);
        assert_eq!(
            limit_from_scopes("condor:/ADVERTISE_STARTD x condor:/READ"),
            Some(vec![Level::AdvertiseStartd, Level::Read])
        );
        assert_eq!(limit_from_scopes("condor:/DENY"), Some(Vec::new()));
    }

    #[test]
    fn keys_and_proofs_are_the_recorded_ones() {
        let text = include_str!("../../../tests/vectors/01_derivations.json");
        let table: serde_json::Value = serde_json::from_str(text).unwrap();
        let row = &table["idtoken_akep2"];
        let text = |name: &str| row[name].as_str().unwrap();
        let hex = |name: &str| -> Vec<u8> {
            let text = text(name);
            let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            (0..text.len()).step_by(2).map(byte).collect()
        };
        let token = Token::parse(text("token")).unwrap();
        assert_eq!(token.signature().expose(), hex("signature"));
        let ka = derive_ka(&hex("signature"), token.signed_part()).unwrap();
        assert_eq!(ka.expose(), hex("ka"));
        let salt = [&seeds::KB[..], token.signed_part().as_bytes()].concat();
        let kb = crypto::derive_secret(&hex("signature"), &salt, b"master kb").unwrap();
        assert_eq!(kb.expose(), hex("kb"));
        let (a, b) = (text("name_a").as_bytes(), text("name_b").as_bytes());
        let hkt = server_proof(&ka, a, b, &hex("ra"), &hex("rb")).unwrap();
        assert_eq!(hkt, hex("hkt"));
        assert_eq!(client_proof(&ka, a, &hex("rb")).unwrap(), hex("hk"));
    }
}
