//! The ads a server sends (protocol 01 sections 3.4 to 3.6).

use classad::ClassAd;

use super::ServerRules;
use super::offer::ClientOffer;
use crate::error::HandshakeError;
use crate::frame::Channel;
use crate::security::policy::{Feature, SecurityPolicy, reconcile};
use crate::security::{AuthMethod, PeerIdentity, method};
use crate::wire::MessageWriter;

/// What was decided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Agreement {
    pub(super) authentication: bool,
    pub(super) encryption: bool,
    pub(super) integrity: bool,
    aes: bool,
}

/// Reconciles both policies.
pub(super) fn decide(
    policy: &SecurityPolicy,
    offer: &ClientOffer,
) -> Result<Agreement, HandshakeError> {
    let authentication = reconcile(
        Feature::Authentication,
        offer.authentication,
        policy.authentication,
    )?;
    let encryption = reconcile(Feature::Encryption, offer.encryption, policy.encryption)?;
    let integrity = reconcile(Feature::Integrity, offer.integrity, policy.integrity)?;
    let aes = offer.offers_aes && offer.public_point.is_some();
    // AES protects both ways at once, so with a key there is no half measure.
    let forced = aes && authentication;
    Ok(Agreement {
        authentication,
        encryption: encryption || forced,
        integrity: integrity || forced,
        aes,
    })
}

/// The shorter of two leases, where 0 and absence are no limit of one's own.
pub(super) fn common_lease(ours: i64, theirs: Option<i64>) -> Option<i64> {
    match (ours, theirs) {
        (_, None) => None,
        (0, Some(theirs)) => Some(theirs),
        (ours, Some(0)) => Some(ours),
        (ours, Some(theirs)) => Some(ours.min(theirs)),
    }
}

pub(super) fn policy(
    rules: &ServerRules,
    decision: &Agreement,
    methods: &[AuthMethod],
    public_key: Option<&str>,
    duration: i64,
    lease: Option<i64>,
) -> ClassAd {
    let yes_no = |value: bool| if value { "YES" } else { "NO" };
    let mut ad = ClassAd::new();
    ad.insert("Authentication", yes_no(decision.authentication));
    ad.insert(
        "AuthMethods",
        method::join(methods.get(..1).unwrap_or_default()),
    );
    ad.insert("AuthMethodsList", method::join(methods));
    if decision.aes && decision.authentication {
        ad.insert("CryptoMethods", "AES");
    }
    if decision.aes {
        ad.insert("CryptoMethodsList", "AES");
    }
    ad.insert("Encryption", yes_no(decision.encryption));
    ad.insert("Integrity", yes_no(decision.integrity));
    ad.insert("Enact", "YES");
    if let Some(key) = public_key {
        ad.insert("ECDHPublicKey", key);
    }
    let keys: Vec<_> = rules.authenticators.signing_keys.key_ids().collect();
    if !keys.is_empty() {
        ad.insert("IssuerKeys", keys.join(", "));
    }
    if let Some(domain) = &rules.trust_domain {
        ad.insert("TrustDomain", domain.as_str());
    }
    ad.insert("RemoteVersion", rules.version.as_str());
    ad.insert("SessionDuration", duration.to_string());
    if let Some(lease) = lease {
        ad.insert("SessionLease", lease);
    }
    ad.insert("NegotiatedSession", true);
    ad
}

/// The last word when no method is common: a policy ad with empty lists.
pub(super) fn no_method(rules: &ServerRules) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("Authentication", "YES");
    ad.insert("AuthMethods", "");
    ad.insert("AuthMethodsList", "");
    ad.insert("Encryption", "NO");
    ad.insert("Integrity", "NO");
    ad.insert("Enact", "YES");
    ad.insert("RemoteVersion", rules.version.as_str());
    ad
}

/// The last ad of a handshake. A denial says as much as a permission, as that of 23.9.6 does.
pub(super) fn post_auth(
    code: &str,
    session_id: &str,
    peer: &PeerIdentity,
    valid_commands: &str,
    tried: bool,
) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("Sid", session_id);
    ad.insert("User", peer.user.as_str());
    ad.insert("ReturnCode", code);
    ad.insert("ValidCommands", valid_commands);
    if tried {
        ad.insert("TriedAuthentication", true);
    }
    ad
}

pub(super) fn resumed(version: &str, nonce: &str) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("ReturnCode", "AUTHORIZED");
    ad.insert("RemoteVersion", version);
    ad.insert("Nonce", nonce);
    ad
}

pub(super) fn unknown_session() -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("ReturnCode", "SID_NOT_FOUND");
    ad
}

/// Sends an ad as one message in the present coding of the connection.
pub(super) fn send(
    ad: &ClassAd,
    channel: &mut Channel,
    output: &mut Vec<u8>,
) -> Result<(), HandshakeError> {
    let mut message = MessageWriter::new(channel.coding());
    message.ad_without_private(ad);
    let body = message
        .finish()
        .map_err(HandshakeError::wire("an answer of ours"))?;
    channel.seal(&body, output)?;
    Ok(())
}
