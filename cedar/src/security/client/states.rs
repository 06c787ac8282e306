//! What each message of the server leads to.

use classad::ClassAd;

use super::policy_answer::PolicyAnswer;
use super::{
    ClientEvent, ClientHandshake, Finished, Loop, Next, POLICY, Proof, SciTokenProof, State,
};
use crate::Version;
use crate::crypto::EcdhKey;
use crate::entropy::Entropy;
use crate::error::{HandshakeError, Unprepared};
use crate::secret::SessionKey;
use crate::security::auth::{Attempt, ClientTurn, MethodFailure, Turn, akep2, fs, simple, ssl};
use crate::security::session::{Session, SessionSource, public_session_id};
use crate::security::token::{Token, TokenSearch};
use crate::security::{AuthMethod, PeerIdentity, method as methods};
use crate::wire::{Coding, MessageReader};

const LOOP: &str = "the server's choice of a method";
const KEY: &str = "the key exchange message";
const POST_AUTH: &str = "the server's post-authentication ad";
const RESUMED: &str = "the answer to a session resumption";

impl ClientHandshake {
    pub(super) fn message(
        &mut self,
        state: State,
        body: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<Next, HandshakeError> {
        match state {
            State::ExpectPolicy { ecdh, offered } => self.policy(body, &ecdh, &offered, entropy),
            State::ExpectMethod(progress) => self.choice(progress, body, entropy),
            State::ExpectAuthStep(progress, method) => {
                let name = method.method();
                let turn = method.message(body)?;
                self.turn(progress, name, turn)
            }
            State::ExpectKeyExchange(progress, method) => {
                self.key_exchange(progress, method, body, entropy)
            }
            State::ExpectPostAuth(answer, key, method) => Ok(Next::Established(Box::new(
                self.post_auth(&answer, key, method, body)?,
            ))),
            State::ExpectResumed(session) => self.resumed(*session, body, entropy),
            State::AwaitDirectory(..) => {
                Err(HandshakeError::Unexpected("a directory is being made"))
            }
            State::Over => Err(HandshakeError::Over),
        }
    }

    fn policy(
        &mut self,
        body: &[u8],
        ecdh: &EcdhKey,
        offered: &[AuthMethod],
        entropy: &mut dyn Entropy,
    ) -> Result<Next, HandshakeError> {
        let ad = read_ad(body, Coding::Plain, POLICY)?;
        let answer = PolicyAnswer::parse(&ad)?;
        answer.check(&self.request.policy)?;
        let key = match answer.agreed_point(&ad)? {
            Some(point) => Some(ecdh.agree(&point)?),
            None => None,
        };
        if answer.encryption && key.is_none() {
            return Err(HandshakeError::BadAttribute {
                message: POLICY,
                attribute: "ECDHPublicKey",
            });
        }
        if !answer.authentication {
            if let Some(key) = &key {
                self.channel.secure(key, entropy)?;
            }
            return Ok(Next::State(State::ExpectPostAuth(answer, key, None)));
        }
        let left = answer
            .methods
            .iter()
            .copied()
            .filter(|method| offered.contains(method))
            .collect();
        let mut progress = Loop {
            answer,
            key,
            left,
            attempts: Vec::new(),
        };
        self.drop_token_without_fit(&mut progress);
        if progress.left.is_empty() {
            return Err(self.nothing_left(&progress));
        }
        self.send_mask(progress).map(Next::State)
    }

    /// Takes TOKEN off the list if no token fits the server, and remembers why.
    fn drop_token_without_fit(&self, progress: &mut Loop) {
        if !progress.left.contains(&AuthMethod::Token) {
            return;
        }
        if let Err(search) = self.select_token(&progress.answer) {
            progress.left.retain(|method| *method != AuthMethod::Token);
            progress.attempts.push(Attempt {
                method: AuthMethod::Token,
                why: MethodFailure::NoToken(Box::new(search)),
            });
        }
    }

    fn select_token(&self, answer: &PolicyAnswer) -> Result<&Token, TokenSearch> {
        let keys: Vec<_> = answer.issuer_keys.iter().map(String::as_str).collect();
        let domain = answer.trust_domain.as_deref();
        self.request.tokens.select(domain, &keys, self.request.now)
    }

    /// Nothing that the server takes can be offered. Where the reason is what we have, it is told.
    fn nothing_left(&self, progress: &Loop) -> HandshakeError {
        let theirs = &progress.answer.methods;
        let mut reasons: Vec<Unprepared> = Vec::new();
        for attempt in &progress.attempts {
            if let MethodFailure::NoToken(search) = &attempt.why {
                reasons.push(Unprepared {
                    method: attempt.method,
                    why: Box::new(HandshakeError::NoToken(search.clone())),
                });
            }
        }
        let missing = self.unprepared.iter();
        reasons.extend(
            missing
                .filter(|unprepared| theirs.contains(&unprepared.method))
                .cloned(),
        );
        match reasons.len() {
            0 => HandshakeError::NoMethod {
                ours: methods::join(&self.request.policy.methods),
                theirs: methods::join(theirs),
            },
            1 => *reasons.remove(0).why,
            _ => HandshakeError::Unprepared(reasons),
        }
    }

    /// What a method of ours has shown.
    fn proof(&self, method: AuthMethod, answer: &PolicyAnswer) -> Proof {
        let (origin, ends) = match method {
            AuthMethod::Token => match self.select_token(answer) {
                Ok(token) => (token.origin().cloned(), token.claims().expires),
                Err(_) => (None, None),
            },
            AuthMethod::Ssl => match self.request.ssl_client() {
                Some(client) => (client.certificate().map(Into::into), client.ends()),
                None => (None, None),
            },
            AuthMethod::SciTokens => match self.request.scitoken_proof() {
                Some(SciTokenProof { token, .. }) => {
                    (token.origin().map(Into::into), token.claims().expires)
                }
                None => (None, None),
            },
            _ => (None, None),
        };
        Proof {
            method,
            origin,
            ends,
        }
    }

    fn send_mask(&mut self, progress: Loop) -> Result<State, HandshakeError> {
        let mask: i64 = progress.left.iter().map(|method| method.bit()).sum();
        self.channel.seal(&mask.to_be_bytes(), &mut self.output)?;
        Ok(State::ExpectMethod(progress))
    }

    fn choice(
        &mut self,
        progress: Loop,
        body: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<Next, HandshakeError> {
        let bit = read_int(body, LOOP)?;
        let method = AuthMethod::from_bit(bit).filter(|method| progress.left.contains(method));
        let Some(method) = method else {
            let mut attempts = progress.attempts;
            if bit != 0 {
                return Err(HandshakeError::BadAttribute {
                    message: LOOP,
                    attribute: "method bit",
                });
            }
            for method in progress.left {
                attempts.push(Attempt {
                    method,
                    why: MethodFailure::NoneLeft,
                });
            }
            return Err(HandshakeError::Authentication(attempts));
        };
        let turn = match method {
            AuthMethod::Token => match self.select_token(&progress.answer) {
                Ok(token) => akep2::ClientAkep2::token(token, entropy)?,
                Err(search) => return Err(HandshakeError::NoToken(Box::new(search))),
            },
            AuthMethod::Password => {
                let password = self.request.password.as_ref().ok_or_else(not_offered)?;
                let (version, domain) = (progress.answer.peer_version, self.domain(&progress));
                akep2::ClientAkep2::password(password, version, domain, entropy)?
            }
            AuthMethod::Ssl => {
                let client = self.request.ssl_client().ok_or_else(not_offered)?;
                let host = self.request.host.as_deref().ok_or_else(not_offered)?;
                ssl::ClientSsl::start(client, host, None)
            }
            AuthMethod::SciTokens => {
                let proof = self.request.scitoken_proof().ok_or_else(not_offered)?;
                let host = self.request.host.as_deref().ok_or_else(not_offered)?;
                ssl::ClientSsl::start(&proof.tls, host, Some(proof.token.clone()))
            }
            AuthMethod::ClaimToBe => {
                let name = self.request.claim_to_be.as_deref().unwrap_or("");
                simple::ClientClaim::start(name)?
            }
            AuthMethod::Fs => fs::ClientFs::start(self.request.server.clone()),
            AuthMethod::Anonymous => simple::ClientAnonymous::start(),
            _ => return Err(not_offered()),
        };
        self.turn(progress, method, turn)
    }

    /// The domain of a pool user's name at a server before 23.9; nobody compares it.
    fn domain<'a>(&'a self, progress: &'a Loop) -> &'a str {
        let domains = [&progress.answer.trust_domain, &self.request.trust_domain];
        let known = domains.into_iter().find_map(|domain| domain.as_deref());
        known.unwrap_or("pool")
    }

    pub(super) fn turn(
        &mut self,
        mut progress: Loop,
        method: AuthMethod,
        turn: ClientTurn,
    ) -> Result<Next, HandshakeError> {
        match turn {
            Turn::Wait(machine, messages) => {
                self.seal_all(&messages)?;
                Ok(Next::State(State::ExpectAuthStep(progress, machine)))
            }
            Turn::Directory(machine, task) => Ok(Next::Event(
                State::AwaitDirectory(progress, machine, task.clone()),
                ClientEvent::Directory(task),
            )),
            Turn::Done((), messages) => {
                self.seal_all(&messages)?;
                Ok(Next::State(State::ExpectKeyExchange(progress, method)))
            }
            Turn::Failed(why, messages) => {
                self.seal_all(&messages)?;
                progress.left.retain(|left| *left != method);
                progress.attempts.push(Attempt { method, why });
                if progress.left.is_empty() {
                    return Err(HandshakeError::Authentication(progress.attempts));
                }
                self.send_mask(progress).map(Next::State)
            }
        }
    }

    fn seal_all(&mut self, messages: &[Vec<u8>]) -> Result<(), HandshakeError> {
        for body in messages {
            self.channel.seal(body, &mut self.output)?;
        }
        Ok(())
    }

    fn key_exchange(
        &mut self,
        progress: Loop,
        method: AuthMethod,
        body: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<Next, HandshakeError> {
        let mut reader = MessageReader::new(Coding::Plain, body);
        if reader.int().map_err(HandshakeError::wire(KEY))? != 0 {
            return Err(HandshakeError::KeyTransport);
        }
        reader.expect_end().map_err(HandshakeError::wire(KEY))?;
        if let Some(key) = &progress.key {
            self.channel.secure(key, entropy)?;
        }
        let state = State::ExpectPostAuth(progress.answer, progress.key, Some(method));
        Ok(Next::State(state))
    }

    fn post_auth(
        &self,
        answer: &PolicyAnswer,
        key: Option<SessionKey>,
        method: Option<AuthMethod>,
        body: &[u8],
    ) -> Result<Finished, HandshakeError> {
        let ad = read_ad(body, self.channel.coding(), POST_AUTH)?;
        let our_user = ad.string("User");
        match ad.string("ReturnCode").as_deref() {
            None | Some("AUTHORIZED") => {}
            Some("DENIED") => return Err(HandshakeError::Denied { user: our_user }),
            Some(other) => return Err(HandshakeError::Refused(other.chars().take(80).collect())),
        }
        let session_id = ad.string("Sid").filter(|sid| !sid.is_empty());
        let valid_commands = ad
            .string("ValidCommands")
            .map(|list| {
                list.split(',')
                    .filter_map(|item| item.trim().parse().ok())
                    .collect()
            })
            .unwrap_or_default();
        let now = self.request.now;
        let session = match (&session_id, key) {
            (Some(id), Some(key)) => Some(Session {
                id: id.clone(),
                key,
                source: SessionSource::Negotiated,
                peer: PeerIdentity::unauthenticated(),
                peer_version: answer.peer_version,
                our_user: our_user.clone(),
                expires: Some(now.saturating_add(answer.session_duration)),
                lease: answer.session_lease,
                last_used: now,
            }),
            _ => None,
        };
        Ok(Finished {
            session,
            session_id,
            valid_commands,
            peer_version: answer.peer_version,
            our_user,
            proof: method.map(|method| self.proof(method, answer)),
            trust_domain: answer.trust_domain.clone(),
        })
    }

    fn resumed(
        &mut self,
        session: Session,
        body: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<Next, HandshakeError> {
        let ad = read_ad(body, Coding::Plain, RESUMED)?;
        match ad.string("ReturnCode").as_deref() {
            Some("AUTHORIZED") => {}
            Some("SID_NOT_FOUND") => {
                return Err(HandshakeError::UnknownSession {
                    session: public_session_id(&session.id),
                });
            }
            Some(other) => return Err(HandshakeError::Refused(other.chars().take(80).collect())),
            None => {
                return Err(HandshakeError::BadAttribute {
                    message: RESUMED,
                    attribute: "ReturnCode",
                });
            }
        }
        let announced = ad.string("RemoteVersion");
        let peer_version = announced
            .and_then(|text| Version::from_banner(&text))
            .or(session.peer_version);
        self.channel.secure(&session.key, entropy)?;
        Ok(Next::Established(Box::new(Finished {
            session: None,
            session_id: Some(session.id.clone()),
            valid_commands: Vec::new(),
            peer_version,
            our_user: session.our_user.clone(),
            proof: None,
            trust_domain: None,
        })))
    }
}

/// We offer only what we can do, and the choice was one of those.
fn not_offered() -> HandshakeError {
    HandshakeError::Unexpected("a method is chosen that we did not offer")
}

fn read_ad(body: &[u8], coding: Coding, name: &'static str) -> Result<ClassAd, HandshakeError> {
    let mut reader = MessageReader::new(coding, body);
    let ad = reader.ad().map_err(HandshakeError::wire(name))?;
    reader.expect_end().map_err(HandshakeError::wire(name))?;
    Ok(ad)
}

fn read_int(body: &[u8], name: &'static str) -> Result<i64, HandshakeError> {
    let mut reader = MessageReader::new(Coding::Plain, body);
    let value = reader.int().map_err(HandshakeError::wire(name))?;
    reader.expect_end().map_err(HandshakeError::wire(name))?;
    Ok(value)
}
