//! The server's decision, as a client reads it (protocol 01 section 3.4).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use classad::ClassAd;

use super::POLICY;
use crate::Version;
use crate::error::HandshakeError;
use crate::security::policy::{Feature, SecurityPolicy};
use crate::security::{AuthMethod, Wish, method};

/// Life of a session if the server names none, in seconds.
const DEFAULT_DURATION: i64 = 3600;

/// The parts of the policy ad that matter to a client.
#[derive(Debug)]
pub(super) struct PolicyAnswer {
    pub(super) authentication: bool,
    pub(super) encryption: bool,
    integrity: bool,
    aes: bool,
    ciphers: String,
    pub(super) methods: Vec<AuthMethod>,
    pub(super) trust_domain: Option<String>,
    pub(super) issuer_keys: Vec<String>,
    pub(super) peer_version: Option<Version>,
    pub(super) session_duration: i64,
    pub(super) session_lease: Option<i64>,
}

impl PolicyAnswer {
    pub(super) fn parse(ad: &ClassAd) -> Result<Self, HandshakeError> {
        let decision = |attribute: &'static str| match ad.string(attribute).as_deref() {
            Some("YES") => Ok(true),
            Some("NO") => Ok(false),
            _ => Err(HandshakeError::BadAttribute {
                message: POLICY,
                attribute,
            }),
        };
        // The full list is in AuthMethodsList; AuthMethods names only the first method.
        let methods = ad
            .string("AuthMethodsList")
            .or_else(|| ad.string("AuthMethods"))
            .unwrap_or_default();
        let ciphers = ad.string("CryptoMethods").unwrap_or_default();
        let aes = ciphers
            .split(',')
            .next()
            .is_some_and(|first| first.trim().eq_ignore_ascii_case("AES"));
        Ok(Self {
            authentication: decision("Authentication")?,
            encryption: decision("Encryption")?,
            integrity: decision("Integrity")?,
            aes,
            ciphers,
            methods: method::split(&methods),
            trust_domain: ad.string("TrustDomain").filter(|text| !text.is_empty()),
            issuer_keys: ad
                .string("IssuerKeys")
                .unwrap_or_default()
                .split(',')
                .map(|key| key.trim().to_owned())
                .filter(|key| !key.is_empty())
                .collect(),
            peer_version: ad
                .string("RemoteVersion")
                .and_then(|text| Version::from_banner(&text)),
            session_duration: ad
                .string("SessionDuration")
                .and_then(|text| text.trim().parse().ok())
                .or_else(|| ad.int("SessionDuration"))
                .filter(|seconds| *seconds > 0)
                .unwrap_or(DEFAULT_DURATION),
            session_lease: ad.int("SessionLease").filter(|seconds| *seconds > 0),
        })
    }

    /// Checks that the server did not decide against what we require or for what we forbid.
    pub(super) fn check(&self, policy: &SecurityPolicy) -> Result<(), HandshakeError> {
        let pairs = [
            (
                Feature::Authentication,
                policy.authentication,
                self.authentication,
            ),
            (Feature::Encryption, policy.encryption, self.encryption),
            (Feature::Integrity, policy.integrity, self.integrity),
        ];
        for (feature, wish, decision) in pairs {
            if wish == Wish::Required && !decision {
                return Err(HandshakeError::Weakened(feature));
            }
        }
        if self.encryption && !self.aes {
            return Err(HandshakeError::NoCipher {
                offered: self.ciphers.chars().take(200).collect(),
            });
        }
        Ok(())
    }

    /// The server's public point if a key is to be agreed on.
    pub(super) fn agreed_point(&self, ad: &ClassAd) -> Result<Option<Vec<u8>>, HandshakeError> {
        let Some(text) = ad.string("ECDHPublicKey").filter(|_| self.aes) else {
            return Ok(None);
        };
        let point = STANDARD.decode(text.trim());
        point.map(Some).map_err(|_| HandshakeError::BadAttribute {
            message: POLICY,
            attribute: "ECDHPublicKey",
        })
    }
}
