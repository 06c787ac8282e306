//! The ads a client sends. The order of the attributes is that of the recorded exchanges; peers do
//! not care.

use classad::ClassAd;

use super::ClientRequest;
use crate::error::HandshakeError;
use crate::security::{AuthMethod, Wish, method};

/// The methods of the policy that can be offered with what we have.
pub(super) fn methods(request: &ClientRequest) -> Result<Vec<AuthMethod>, HandshakeError> {
    let policy = &request.policy;
    let can = |method: &AuthMethod| match method {
        AuthMethod::Token => request.tokens.has_usable(request.now),
        AuthMethod::Password => request.password.is_some(),
        AuthMethod::Ssl => request.ssl_client().is_some() && request.host.is_some(),
        AuthMethod::ClaimToBe => request.claim_to_be.is_some(),
        AuthMethod::Fs => request.fs,
        other => other.is_implemented(),
    };
    let offered: Vec<_> = policy.methods.iter().copied().filter(can).collect();
    if !offered.is_empty() {
        return Ok(offered);
    }
    if policy.authentication == Wish::Never {
        // The attribute may not be empty; the list is not going to be used.
        return Ok(policy.methods.clone());
    }
    if policy.methods.contains(&AuthMethod::Ssl) {
        match &request.ssl {
            Some(Err(error)) => return Err(HandshakeError::Ssl(error.clone())),
            Some(Ok(_)) => return Err(HandshakeError::NoServerName),
            None => {}
        }
    }
    let report = request.tokens.select(None, &[], request.now).err();
    match report {
        Some(search) if policy.methods.contains(&AuthMethod::Token) => {
            Err(HandshakeError::NoToken(Box::new(search)))
        }
        _ => Err(HandshakeError::NoMethod {
            ours: method::join(&policy.methods),
            theirs: "not asked".to_owned(),
        }),
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
