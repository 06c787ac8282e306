use super::super::{Attempt, MethodFailure, ServerMethod, ServerTurn, Turn, internal};
use super::{
    CHALLENGE, ERROR, OK, client_proof, derive_ka, put_bytes, put_name, server_proof, take_bytes,
    take_name,
};
use crate::Version;
use crate::crypto::{self, CryptoError};
use crate::entropy::{Entropy, Purpose};
use crate::error::HandshakeError;
use crate::secret::SecretBytes;
use crate::security::token::{SigningKeys, TokenClaims, TokenRule};
use crate::security::{AuthMethod, Level, PeerIdentity};
use crate::wire::{Coding, MessageReader, MessageWriter, WireError};

/// Name of a server for clients that announce 23.9.0 or newer.
const SERVER_NAME: &str = "condor@password";

const MESSAGE_1: &str = "TOKEN message 1";
const MESSAGE_3: &str = "TOKEN message 3";

/// What a server needs to check tokens.
#[derive(Clone, Copy)]
pub(crate) struct TokenRules<'a> {
    pub(crate) keys: &'a SigningKeys,
    pub(crate) rule: Option<&'a dyn TokenRule>,
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
                    return Err(HandshakeError::Authentication(vec![Attempt {
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
        if let Some(Err(why)) = rules.rule.map(|rule| rule.check(&claims, rules.now)) {
            return Ok(Err(MethodFailure::TokenRefused(why)));
        }
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
        authenticated_name: None,
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
}
