//! What a credential file holds, for people who look at one. Nothing is verified here.

use crate::cert::Certificate;
use crate::error::VerifyError;
use crate::pem::Bundle;
use crate::proxy::Policy;
use crate::token::{Json, Jws, TokenError, check};
use crate::verify::read_all;
use crate::voms;

/// A certificate as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedCertificate {
    /// What it claims to be.
    pub kind: &'static str,
    /// Its subject, escaped for display.
    pub subject: String,
    /// Its issuer, escaped for display.
    pub issuer: String,
    /// Start of validity, Unix seconds.
    pub not_before: i64,
    /// End of validity, Unix seconds.
    pub not_after: i64,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Kind and size of its key, as people say it.
    pub key: String,
    /// The algorithm of its signature, as people say it.
    pub signature: String,
    /// Whether it carries attributes of a VO.
    pub has_attributes: bool,
    /// The attribute certificates of VOs in it, as far as they can be read.
    pub attributes: Vec<InspectedAttributes>,
}

/// An attribute certificate as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedAttributes {
    /// `VO://HOST:PORT`, escaped; empty if it cannot be read.
    pub authority: String,
    /// What it claims, escaped.
    pub fqans: Vec<String>,
    /// Start of validity, Unix seconds.
    pub not_before: i64,
    /// End of validity, Unix seconds.
    pub not_after: i64,
}

/// A bundle as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedBundle {
    /// Its certificates in file order.
    pub certificates: Vec<InspectedCertificate>,
    /// Whether there is a private key, which is not looked at.
    pub has_key: bool,
}

/// A token as it describes itself; what is missing or not text is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedToken {
    /// `iss`
    pub issuer: String,
    /// `sub`
    pub subject: String,
    /// `scope`
    pub scope: String,
    /// `aud`
    pub audiences: Vec<String>,
    /// `wlcg.groups`
    pub groups: Vec<String>,
    /// `nbf`, Unix seconds.
    pub not_before: Option<i64>,
    /// `exp`, Unix seconds.
    pub not_after: Option<i64>,
    /// `kid` of the header.
    pub key_id: String,
    /// `alg` of the header.
    pub algorithm: String,
}

/// Reads a bundle and verifies nothing: for people, never for a decision about rights.
///
/// # Errors
/// It cannot be read.
pub fn inspect_bundle(bundle_pem: &[u8]) -> Result<InspectedBundle, VerifyError> {
    let bundle = Bundle::parse(bundle_pem)?;
    let has_key = bundle.key.is_some();
    let certificates = read_all(bundle.certificates)?;
    let inspected = certificates
        .iter()
        .map(|certificate| InspectedCertificate {
            kind: kind(certificate),
            subject: certificate.subject.display(),
            issuer: certificate.issuer.display(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            serial: hexadecimal(&certificate.serial),
            key: certificate.key.to_string(),
            signature: certificate.signature.to_string(),
            has_attributes: certificate.attributes.is_some(),
            attributes: certificate
                .attributes
                .as_deref()
                .map(voms::inspect)
                .unwrap_or_default(),
        })
        .collect();
    Ok(InspectedBundle {
        certificates: inspected,
        has_key,
    })
}

/// Reads a token and verifies nothing: for people, never for a decision about rights.
///
/// # Errors
/// It cannot be read.
pub fn inspect_token(text: &[u8]) -> Result<InspectedToken, TokenError> {
    let token = Jws::parse(text)?;
    let claim = |name| printable(token.claims.text(name).unwrap_or_default());
    let list = |name| match token.claims.get(name) {
        Some(Json::Text(one)) => vec![printable(one)],
        Some(Json::List(several)) => several
            .iter()
            .filter_map(|one| match one {
                Json::Text(one) => Some(printable(one)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    let time = |name| check::time(&token.claims, name).ok().flatten();
    Ok(InspectedToken {
        issuer: claim("iss"),
        subject: claim("sub"),
        scope: claim("scope"),
        audiences: list("aud"),
        groups: list("wlcg.groups"),
        not_before: time("nbf"),
        not_after: time("exp"),
        key_id: printable(token.key_id.as_deref().unwrap_or_default()),
        algorithm: printable(&token.algorithm),
    })
}

/// A foreign text fit for a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn kind(certificate: &Certificate) -> &'static str {
    let extension = certificate.proxy.as_ref();
    let policy = extension.and_then(|extension| extension.info.as_ref().ok());
    match (extension, policy.map(|info| &info.policy)) {
        (Some(_), Some(Policy::Limited)) => "limited proxy",
        (Some(_), Some(Policy::InheritAll)) => "proxy",
        (Some(_), _) => "proxy of an unknown kind",
        (None, _) if certificate.draft_proxy.is_some() => "draft (GT3) proxy",
        (None, _) if certificate.basic.ca => "CA",
        (None, _) if certificate.self_issued() => "self-signed certificate",
        (None, _) => match certificate.subject.legacy_proxy_of(&certificate.issuer) {
            Some(_) => "legacy proxy",
            None => "certificate",
        },
    }
}
