use super::super::{Attempt, MethodFailure, ServerMethod, ServerTurn, Turn, internal};
use super::{
    CHALLENGE, ERROR, OK, OLD_POOL_USER, POOL_USER, RENAMED, client_proof, derive_ka, password_ka,
    put_bytes, put_name, server_proof, take_bytes, take_name,
};
use crate::Version;
use crate::crypto::{self, CryptoError};
use crate::entropy::{Entropy, Purpose};
use crate::error::HandshakeError;
use crate::secret::SecretBytes;
use crate::security::token::{SigningKeys, TokenClaims, TokenRule};
use crate::security::{AuthMethod, Level, PeerIdentity, PoolPassword};
use crate::wire::{Coding, MessageReader, MessageWriter, WireError};

const MESSAGE_1: &str = "AKEP2 message 1";
const MESSAGE_3: &str = "AKEP2 message 3";

/// What a server needs to check tokens and the pool password.
#[derive(Clone, Copy)]
pub(crate) struct Akep2Rules<'a> {
    pub(crate) password: Option<&'a PoolPassword>,
    pub(crate) keys: &'a SigningKeys,
    pub(crate) rule: Option<&'a dyn TokenRule>,
    pub(crate) trust_domain: Option<&'a str>,
    pub(crate) now: i64,
}

/// Server.
#[derive(Debug)]
pub(crate) struct ServerAkep2 {
    method: AuthMethod,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Waits for message 1.
    Start { client_version: Option<Version> },
    /// Waits for message 3.
    Proof {
        ka: SecretBytes,
        /// The client's name as it must repeat it.
        name: String,
        identity: Box<PeerIdentity>,
        challenge: Vec<u8>,
    },
    /// Waits for the message 3 of an exchange that has failed already.
    Failing(MethodFailure),
}

/// What message 1 has shown to be possible, if the proof is right.
struct Candidate {
    ka: SecretBytes,
    identity: PeerIdentity,
    /// Domain of the server's name for old clients.
    domain: String,
}

impl ServerAkep2 {
    /// Begins TOKEN or PASSWORD.
    pub(crate) fn start(method: AuthMethod, client_version: Option<Version>) -> ServerTurn {
        let stage = Stage::Start { client_version };
        Turn::Wait(ServerMethod::Akep2(Self { method, stage }), Vec::new())
    }

    pub(crate) fn method(&self) -> AuthMethod {
        self.method
    }

    pub(crate) fn message(
        self,
        body: &[u8],
        rules: Akep2Rules<'_>,
        entropy: &mut dyn Entropy,
    ) -> Result<ServerTurn, HandshakeError> {
        let method = self.method;
        match self.stage {
            Stage::Start { client_version } => {
                let offer = ClientOffer::parse(body, method == AuthMethod::Token);
                let offer = offer.map_err(HandshakeError::wire(MESSAGE_1))?;
                match offer.check(rules)? {
                    Ok(candidate) => answer(method, &offer, candidate, client_version, entropy),
                    Err(why) => {
                        let mut message = MessageWriter::new(Coding::Plain);
                        put_name(message.int(ERROR), "");
                        put_name(&mut message, "");
                        message.int(0).int(0).int(0);
                        let body = message.finish().map_err(internal)?;
                        let stage = Stage::Failing(why);
                        let machine = ServerMethod::Akep2(Self { method, stage });
                        Ok(Turn::Wait(machine, vec![body]))
                    }
                }
            }
            Stage::Proof {
                ka,
                name,
                identity,
                challenge,
            } => {
                let proof = ClientProof::parse(body).map_err(HandshakeError::wire(MESSAGE_3))?;
                if proof.status != OK {
                    let why = MethodFailure::ClientGaveUp("it does not accept our proof");
                    return Ok(Turn::Failed(why, Vec::new()));
                }
                let expected = client_proof(&ka, name.as_bytes(), &challenge)?;
                let good = proof.a == name.as_bytes()
                    && proof.rb == challenge
                    && crypto::constant_time_eq(&expected, proof.proof);
                if !good {
                    let why = MethodFailure::BadProof(match method {
                        AuthMethod::Password => "the client has another pool password",
                        _ => "the client does not know the signature",
                    });
                    // The client waits for message 4 now: nothing but closing tells it.
                    return Err(HandshakeError::Authentication(vec![Attempt {
                        method,
                        why,
                    }]));
                }
                Ok(Turn::Done(*identity, Vec::new()))
            }
            Stage::Failing(why) => {
                ClientProof::parse(body).map_err(HandshakeError::wire(MESSAGE_3))?;
                Ok(Turn::Failed(why, Vec::new()))
            }
        }
    }
}

fn answer(
    method: AuthMethod,
    offer: &ClientOffer<'_>,
    candidate: Candidate,
    client_version: Option<Version>,
    entropy: &mut dyn Entropy,
) -> Result<ServerTurn, HandshakeError> {
    let mut challenge = vec![0u8; CHALLENGE];
    entropy
        .fill(Purpose::Challenge, &mut challenge)
        .map_err(CryptoError::from)?;
    let ours = match client_version {
        Some(version) if version < RENAMED => format!("{OLD_POOL_USER}{}", candidate.domain),
        _ => POOL_USER.to_owned(),
    };
    let theirs = String::from_utf8_lossy(offer.a).into_owned();
    let proof = server_proof(
        &candidate.ka,
        offer.a,
        ours.as_bytes(),
        offer.ra,
        &challenge,
    )?;
    let mut message = MessageWriter::new(Coding::Plain);
    put_name(message.int(OK), &theirs);
    put_name(&mut message, &ours);
    put_bytes(&mut message, offer.ra);
    put_bytes(&mut message, &challenge);
    put_bytes(&mut message, &proof);
    let body = message.finish().map_err(internal)?;
    let stage = Stage::Proof {
        ka: candidate.ka,
        name: theirs,
        identity: Box::new(candidate.identity),
        challenge,
    };
    let machine = ServerMethod::Akep2(ServerAkep2 { method, stage });
    Ok(Turn::Wait(machine, vec![body]))
}

/// Message 1 as received.
struct ClientOffer<'a> {
    status: i64,
    a: &'a [u8],
    /// With TOKEN, the token without its signature.
    signed_part: Option<&'a [u8]>,
    ra: &'a [u8],
}

impl<'a> ClientOffer<'a> {
    fn parse(body: &'a [u8], with_token: bool) -> Result<Self, WireError> {
        let mut reader = MessageReader::new(Coding::Plain, body);
        let offer = Self {
            status: reader.int()?,
            a: take_name(&mut reader)?,
            signed_part: match with_token {
                true => Some(reader.str_bytes()?),
                false => None,
            },
            ra: take_bytes(&mut reader)?,
        };
        reader.expect_end()?;
        Ok(offer)
    }

    fn check(
        &self,
        rules: Akep2Rules<'_>,
    ) -> Result<Result<Candidate, MethodFailure>, HandshakeError> {
        if self.status != OK {
            return Ok(Err(MethodFailure::ClientGaveUp(match self.signed_part {
                Some(_) => "it has no token for this trust domain and these signing keys",
                None => "it has no pool password",
            })));
        }
        if self.ra.len() != CHALLENGE {
            return Ok(Err(MethodFailure::BadProof("its challenge is too short")));
        }
        match self.signed_part {
            Some(signed_part) => self.check_token(signed_part, rules),
            None => self.check_password(rules),
        }
    }

    /// A client that knows the password is always the same user; only the name it was given by its
    /// version differs.
    fn check_password(
        &self,
        rules: Akep2Rules<'_>,
    ) -> Result<Result<Candidate, MethodFailure>, HandshakeError> {
        let Some(password) = rules.password else {
            return Ok(Err(MethodFailure::BadProof(
                "there is no pool password here",
            )));
        };
        let known = self.a == POOL_USER.as_bytes() || self.a.starts_with(OLD_POOL_USER.as_bytes());
        if !known || std::str::from_utf8(self.a).is_err() {
            let why = "its name is not that of those who know the pool password";
            return Ok(Err(MethodFailure::BadProof(why)));
        }
        Ok(Ok(Candidate {
            ka: password_ka(password)?,
            identity: PeerIdentity::proven(POOL_USER.to_owned(), AuthMethod::Password),
            domain: rules.trust_domain.unwrap_or_default().to_owned(),
        }))
    }

    fn check_token(
        &self,
        signed_part: &[u8],
        rules: Akep2Rules<'_>,
    ) -> Result<Result<Candidate, MethodFailure>, HandshakeError> {
        let Ok(signed_part) = std::str::from_utf8(signed_part) else {
            return Ok(Err(MethodFailure::BadProof("its token is not text")));
        };
        let claims = match TokenClaims::parse(signed_part) {
            Ok(claims) => claims,
            Err(error) => return Ok(Err(error.into())),
        };
        if let Err(why) = judge(&claims, rules) {
            return Ok(Err(why));
        }
        if self.a != claims.subject.as_bytes() {
            return Ok(Err(MethodFailure::BadProof("its name is not the token's")));
        }
        let Some(signature) = rules.keys.signature(&claims, signed_part) else {
            return Ok(Err(MethodFailure::UnknownKey(claims.key_id)));
        };
        if let Some(Err(why)) = rules.rule.map(|rule| rule.check(&claims, rules.now)) {
            return Ok(Err(MethodFailure::TokenRefused(why)));
        }
        Ok(Ok(Candidate {
            ka: derive_ka(signature?.expose(), signed_part)?,
            identity: identity(&claims),
            domain: claims.issuer,
        }))
    }
}

/// The checks a 23.9.6 server makes, and two it leaves out: `nbf` and the value of `iss`.
fn judge(claims: &TokenClaims, rules: Akep2Rules<'_>) -> Result<(), MethodFailure> {
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
