//! The ads a client sends. The order of the attributes is that of the recorded exchanges; peers do
//! not care.

use classad::ClassAd;

use super::ClientRequest;
use crate::error::{HandshakeError, Unprepared};
use crate::security::{AuthMethod, Wish, method};

/// The methods of the policy that can be offered with what we have, and those that cannot.
pub(super) struct Offer {
    pub(super) methods: Vec<AuthMethod>,
    pub(super) unprepared: Vec<Unprepared>,
}

/// What is offered.
pub(super) fn methods(request: &ClientRequest) -> Result<Offer, HandshakeError> {
    let policy = &request.policy;
    let mut offer = Offer {
        methods: Vec::new(),
        unprepared: Vec::new(),
    };
    for method in policy.methods.iter().copied() {
        match prepared(method, request) {
            Ok(true) => offer.methods.push(method),
            Ok(false) => {}
            Err(why) => offer.unprepared.push(Unprepared {
                method,
                why: Box::new(why),
            }),
        }
    }
    if !offer.methods.is_empty() {
        return Ok(offer);
    }
    if policy.authentication == Wish::Never {
        // The attribute may not be empty; the list is not going to be used.
        offer.methods.clone_from(&policy.methods);
        return Ok(offer);
    }
    Err(match offer.unprepared.len() {
        0 => HandshakeError::NoMethod {
            ours: method::join(&policy.methods),
            theirs: "not asked".to_owned(),
        },
        1 => *offer.unprepared.remove(0).why,
        _ => HandshakeError::Unprepared(offer.unprepared),
    })
}

/// Whether a method can be offered; an error says what is missing, where the user can do something about it.
fn prepared(method: AuthMethod, request: &ClientRequest) -> Result<bool, HandshakeError> {
    Ok(match method {
        AuthMethod::Token => {
            let found = request.tokens.select(None, &[], request.now);
            found.map_err(|search| HandshakeError::NoToken(Box::new(search)))?;
            true
        }
        AuthMethod::Ssl => match &request.ssl {
            None => false,
            Some(Err(error)) => return Err(error.clone().into()),
            Some(Ok(client)) => {
                has_name(request)?;
                if let (Some(path), Some(end)) = (client.certificate(), client.ends())
                    && end <= request.now
                {
                    let path = path.to_owned();
                    return Err(HandshakeError::CertificateExpired { path, end });
                }
                true
            }
        },
        AuthMethod::SciTokens => match &request.scitoken {
            None => false,
            Some(Err(error)) => return Err(error.clone().into()),
            Some(Ok(_)) => {
                has_name(request)?;
                true
            }
        },
        AuthMethod::Password => request.password.is_some(),
        AuthMethod::ClaimToBe => request.claim_to_be.is_some(),
        AuthMethod::Fs => request.fs,
        other => other.is_implemented(),
    })
}

fn has_name(request: &ClientRequest) -> Result<(), HandshakeError> {
    match request.host {
        Some(_) => Ok(()),
        None => Err(HandshakeError::NoServerName),
    }
}

/// The security ad of a new session (protocol 01 section 3.2).
pub(super) fn new_session(
    request: &ClientRequest,
    offered: &[AuthMethod],
    public_key: &str,
) -> ClassAd {
    let policy = &request.policy;
    let mut ad = ClassAd::new();
    ad.insert("AuthMethods", method::join(offered));
    ad.insert("Authentication", policy.authentication.name());
    ad.insert("Command", request.command);
    ad.insert("ConnectSinful", request.address.as_str());
    ad.insert("CryptoMethods", "AES");
    ad.insert("ECDHPublicKey", public_key);
    ad.insert("Enact", "NO");
    ad.insert("Encryption", policy.encryption.name());
    ad.insert("Integrity", policy.integrity.name());
    ad.insert("NegotiatedSession", true);
    ad.insert("NewSession", "YES");
    ad.insert("OutgoingNegotiation", policy.negotiation.name());
    ad.insert("RemoteVersion", request.version.as_str());
    if let Some(sock) = &request.command_sock {
        ad.insert("ServerCommandSock", sock.as_str());
    }
    ad.insert("ServerPid", request.pid);
    ad.insert("SessionDuration", policy.session_duration.to_string());
    ad.insert("SessionLease", policy.session_lease);
    ad.insert("Subsystem", request.subsystem.as_str());
    if let Some(domain) = &request.trust_domain {
        ad.insert("TrustDomain", domain.as_str());
    }
    if let Some(auth_command) = request.auth_command {
        ad.insert("AuthCommand", auth_command);
    }
    ad
}

/// The security ad of a resumption (protocol 01 section 3.6).
pub(super) fn resumption(request: &ClientRequest, session_id: &str, nonce: &str) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("Command", request.command);
    ad.insert("ConnectSinful", request.address.as_str());
    // Without it a peer may pick a legacy cipher for a session that lists several.
    ad.insert("CryptoMethods", "AES");
    ad.insert("Nonce", nonce);
    ad.insert("RemoteVersion", request.version.as_str());
    if let Some(sock) = &request.command_sock {
        ad.insert("ServerCommandSock", sock.as_str());
    }
    ad.insert("Sid", session_id);
    ad.insert("UseSession", "YES");
    ad.insert("ResumeResponse", true);
    if let Some(auth_command) = request.auth_command {
        ad.insert("AuthCommand", auth_command);
    }
    ad
}
