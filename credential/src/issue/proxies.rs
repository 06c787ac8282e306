//! Proxies: of a user certificate, or of another proxy (RFC 3820).

use openssl::ec::EcKey;
use openssl::pkey::{PKey, Private, Public};
use openssl::rsa::Rsa;
use openssl::x509::extension::KeyUsage;
use openssl::x509::{X509, X509Name};

use super::build::{Draft, KeyType, bundle, extension, public, serial};
use super::error::IssueError;
use super::request::requested_key;
use crate::cert::Certificate;
use crate::der::{NotDer, Reader, push_header, tag};
use crate::error::{Role, VerifyError};
use crate::key;
use crate::pem::{Bundle, KeyBlock, KeyForm};
use crate::proxy::{PROXY_CERT_INFO, Policy, ProxyInfo};
use crate::secret::SecretPem;
use crate::verify::read_all;

/// What a new proxy may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ProxyKind {
    /// Everything but starting processes, by the Globus convention; what HTCondor delegates.
    #[default]
    Limited,
    /// Whatever its issuer may do. Of a limited proxy that is a limited one again.
    Inherit,
}

/// How a proxy is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyOptions {
    /// The time, Unix seconds. The validity begins five minutes earlier, for clocks that differ.
    pub now: i64,
    /// Seconds of validity from `now`; `None`: as long as the issuer's. Never longer than that.
    pub lifetime: Option<i64>,
    /// What it may do.
    pub kind: ProxyKind,
}

impl ProxyOptions {
    /// A limited proxy that lives as long as its issuer.
    #[must_use]
    pub fn at(now: i64) -> Self {
        Self {
            now,
            lifetime: None,
            kind: ProxyKind::default(),
        }
    }
}

/// Clocks may differ by this many seconds (as in Globus and HTCondor).
const CLOCK_SKEW: i64 = 300;

/// A credential with its private key, ready to sign proxies.
pub struct ProxyIssuer {
    key: PKey<Private>,
    certificate: X509,
    subject: String,
    /// DER of the whole chain, the issuer's own first.
    chain: Vec<Vec<u8>>,
    is_limited: bool,
    not_before: i64,
    not_after: i64,
}

impl std::fmt::Debug for ProxyIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyIssuer")
            .field("subject", &self.subject)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl ProxyIssuer {
    /// Takes a PEM bundle: a proxy or user certificate, its private key, the chain. Nothing is verified against CAs:
    /// whoever holds the key may sign, and whoever gets the proxy verifies it.
    ///
    /// # Errors
    /// [`IssueError`]
    pub fn from_pem(text: &[u8]) -> Result<Self, IssueError> {
        let parsed = Bundle::parse(text).map_err(VerifyError::from)?;
        let block = parsed.key.ok_or(IssueError::NoKey)?;
        let mut certificates = read_all(parsed.certificates)?;
        certificates.dedup_by(|one, other| one.der == other.der);
        let leaf = certificates.first().ok_or(IssueError::NoKey)?;
        key::check(&block, &leaf.key)?;
        if leaf.basic.ca {
            return Err(IssueError::Ca(leaf.subject.display()));
        }
        if leaf.key_usage.is_some_and(|usage| !usage.digital_signature) {
            return Err(IssueError::KeyUsage(leaf.subject.display()));
        }
        let is_limited = check_proxies(&certificates)?;
        Ok(Self {
            key: private_key(&block)?,
            certificate: X509::from_der(&leaf.der)?,
            subject: leaf.subject.display(),
            is_limited,
            not_before: certificates
                .iter()
                .map(|certificate| certificate.not_before)
                .max()
                .unwrap_or(0),
            not_after: certificates
                .iter()
                .map(|certificate| certificate.not_after)
                .min()
                .unwrap_or(0),
            chain: certificates
                .into_iter()
                .map(|certificate| certificate.der)
                .collect(),
        })
    }

    /// Subject of the issuing certificate, for messages.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// When the chain ends, Unix seconds.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Whether only limited proxies can come of it.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.is_limited
    }

    /// When a proxy made with these options would end, Unix seconds.
    #[must_use]
    pub fn end_of(&self, options: &ProxyOptions) -> i64 {
        options.lifetime.map_or(self.not_after, |lifetime| {
            options.now.saturating_add(lifetime).min(self.not_after)
        })
    }

    /// Signs a proxy for the key of a PKCS#10 request (DER). The answer is what delegation protocols send back: the
    /// DER certificates of proxy and chain, one after the other.
    ///
    /// # Errors
    /// [`IssueError`]
    pub fn sign_request(
        &self,
        request_der: &[u8],
        options: &ProxyOptions,
    ) -> Result<Vec<u8>, IssueError> {
        let key = requested_key(request_der)?;
        let mut answer = self.sign(&key, options)?;
        for der in &self.chain {
            answer.extend_from_slice(der);
        }
        Ok(answer)
    }

    /// Makes a proxy with a new key, as `grid-proxy-init` does.
    ///
    /// # Errors
    /// [`IssueError`]
    pub fn proxy(&self, key: KeyType, options: &ProxyOptions) -> Result<SecretPem, IssueError> {
        let key = key.generate()?;
        let certificate = self.sign(&*public(&key)?, options)?;
        Ok(bundle(&certificate, &key, &self.chain)?)
    }

    fn sign(
        &self,
        key: &openssl::pkey::PKeyRef<Public>,
        options: &ProxyOptions,
    ) -> Result<Vec<u8>, IssueError> {
        if self.not_after <= options.now {
            return Err(IssueError::Ended(self.not_after));
        }
        let is_limited = self.is_limited || options.kind == ProxyKind::Limited;
        let number = serial()?;
        let issuer = self.certificate.subject_name();
        let subject = longer_name(&issuer.to_der()?, &number.to_string())?;
        let draft = Draft {
            subject: &subject,
            issuer,
            serial: number,
            not_before: options.now.saturating_sub(CLOCK_SKEW).max(self.not_before),
            not_after: self.end_of(options),
            key,
            extensions: vec![
                KeyUsage::new()
                    .critical()
                    .digital_signature()
                    .key_encipherment()
                    .build()?,
                extension(PROXY_CERT_INFO, true, &ProxyInfo::encode(is_limited))?,
            ],
        };
        Ok(draft.sign(&self.key)?.to_der()?)
    }
}

/// Whether the chain allows one more proxy, and whether that must be a limited one.
fn check_proxies(certificates: &[Certificate]) -> Result<bool, IssueError> {
    let mut is_limited = false;
    for (below, certificate) in certificates.iter().enumerate() {
        if certificate.draft_proxy.is_some() {
            return Err(IssueError::OldProxy(certificate.subject.display()));
        }
        let Some(extension) = &certificate.proxy else {
            // A proxy from before any standard has no extension, only its name.
            let issuer = certificates.get(below + 1);
            if below == 0
                && issuer.is_some_and(|issuer| {
                    certificate
                        .subject
                        .legacy_proxy_of(&issuer.subject)
                        .is_some()
                })
            {
                return Err(IssueError::OldProxy(certificate.subject.display()));
            }
            break;
        };
        let info = extension
            .info
            .as_ref()
            .map_err(|problem| VerifyError::Proxy {
                which: certificate.which(Role::Proxy),
                problem: problem.clone(),
            })?;
        match info.path_length {
            Some(allowed) if usize::try_from(allowed).unwrap_or(usize::MAX) <= below => {
                return Err(IssueError::PathLength(certificate.subject.display()));
            }
            _ => {}
        }
        is_limited |= info.policy == Policy::Limited;
    }
    Ok(is_limited)
}

fn private_key(block: &KeyBlock) -> Result<PKey<Private>, IssueError> {
    Ok(match block.form {
        KeyForm::Pkcs1 => PKey::from_rsa(Rsa::private_key_from_der(&block.der)?)?,
        KeyForm::Sec1 => PKey::from_ec_key(EcKey::private_key_from_der(&block.der)?)?,
        KeyForm::Pkcs8 => PKey::private_key_from_pkcs8(&block.der)?,
    })
}

/// The issuer's name as it is, byte for byte, and one CN more (RFC 3820 3.4).
fn longer_name(issuer: &[u8], number: &str) -> Result<X509Name, IssueError> {
    let cn = |value: &[u8]| {
        let mut attribute = vec![tag::OID, 3, 0x55, 4, 3];
        push_header(&mut attribute, PRINTABLE_STRING, value.len());
        attribute.extend_from_slice(value);
        let sequence = wrap(tag::SEQUENCE, &attribute);
        wrap(tag::SET, &sequence)
    };
    let mut outer = Reader::new(issuer);
    let content = outer
        .expect(tag::SEQUENCE)
        .map_err(|NotDer| IssueError::Request)?;
    let mut name = content.to_vec();
    name.extend(cn(number.as_bytes()));
    Ok(X509Name::from_der(&wrap(tag::SEQUENCE, &name))?)
}

const PRINTABLE_STRING: u8 = 0x13;

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    push_header(&mut out, tag, content.len());
    out.extend_from_slice(content);
    out
}
