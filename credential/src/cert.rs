//! One certificate as plain facts. Nothing is judged here; the rules need to know the place of a
//! certificate in the path first.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::oid_registry::{
    OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_ISSUER_ALT_NAME, OID_X509_EXT_KEY_USAGE, OID_X509_EXT_NAME_CONSTRAINTS,
    OID_X509_EXT_SUBJECT_ALT_NAME, OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
};
use x509_parser::prelude::FromDer;

use crate::date::parse_time;
use crate::der::{NotDer, Reader, is_shortest, tag};
use crate::error::{Role, Which};
use crate::name::Name;
use crate::problem::{CertificateProblem, ProxyProblem};
use crate::proxy::{DRAFT_PROXY_CERT_INFO, PROXY_CERT_INFO, ProxyInfo};
use crate::strength::{KeyKind, Signature};

/// basicConstraints of a certificate (RFC 5280 4.2.1.9).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BasicConstraints {
    pub(crate) ca: bool,
    pub(crate) path_length: Option<u32>,
}

/// The bits of keyUsage that matter here (RFC 5280 4.2.1.3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyUsage {
    pub(crate) digital_signature: bool,
    pub(crate) cert_sign: bool,
    pub(crate) crl_sign: bool,
}

/// The proxy extension as found.
#[derive(Clone, Debug)]
pub(crate) struct ProxyExtension {
    pub(crate) critical: bool,
    pub(crate) info: Result<ProxyInfo, ProxyProblem>,
}

/// What the rest of the crate knows of a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) der: Vec<u8>,
    /// Place in the bundle from 1; `None` when it came from the CA directory.
    pub(crate) position: Option<usize>,
    pub(crate) subject: Name,
    pub(crate) issuer: Name,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    /// Content of the INTEGER as encoded.
    pub(crate) serial: Vec<u8>,
    pub(crate) version: u32,
    /// Version 1, and so without extensions, as `openssl x509 -req` of OpenSSL 3.0 issues them.
    pub(crate) plain_version_1: bool,
    pub(crate) algorithms_differ: bool,
    pub(crate) signature: Signature,
    pub(crate) key: KeyKind,
    pub(crate) basic: BasicConstraints,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) subject_key: Option<Vec<u8>>,
    pub(crate) authority_key: Option<Vec<u8>>,
    /// Issuer of the issuing certificate, as the authority key identifier says it.
    pub(crate) authority_issuer: Option<Name>,
    /// Serial number of the issuing certificate, from the same place.
    pub(crate) authority_serial: Option<Vec<u8>>,
    pub(crate) alternative_name: bool,
    pub(crate) proxy: Option<ProxyExtension>,
    pub(crate) draft_proxy: Option<ProxyExtension>,
    /// Value of the extension with VOMS attribute certificates.
    pub(crate) attributes: Option<Vec<u8>>,
    pub(crate) unknown_critical: Option<String>,
    pub(crate) repeated: Option<String>,
    pub(crate) malformed: Option<String>,
    /// Limits the names below it, which OpenSSL judges.
    pub(crate) name_constraints: bool,
    /// Limits the certificate policies below it.
    pub(crate) policy_constraints: bool,
}

impl Certificate {
    /// Reads one DER certificate.
    ///
    /// # Errors
    /// [`CertificateProblem::Malformed`] when it cannot be read at all.
    pub(crate) fn parse(der: Vec<u8>, position: Option<usize>) -> Result<Self, CertificateProblem> {
        let (rest, parsed) =
            X509Certificate::from_der(&der).map_err(|_| CertificateProblem::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateProblem::Malformed);
        }
        let tbs = &parsed.tbs_certificate;
        let Frame {
            algorithms_agree,
            signature,
            not_before,
            not_after,
        } = Frame::read(&der).map_err(|NotDer| CertificateProblem::Malformed)?;
        let name = |raw| Name::parse(raw).map_err(|_| CertificateProblem::Malformed);
        let mut certificate = Self {
            position,
            subject: name(tbs.subject.as_raw())?,
            issuer: name(tbs.issuer.as_raw())?,
            not_before,
            not_after,
            serial: tbs.raw_serial().to_vec(),
            version: tbs.version.0.saturating_add(1),
            plain_version_1: tbs.version.0 == 0 && tbs.extensions().is_empty(),
            algorithms_differ: !algorithms_agree,
            signature,
            key: KeyKind::of(&tbs.subject_pki),
            basic: BasicConstraints::default(),
            key_usage: None,
            subject_key: None,
            authority_key: None,
            authority_issuer: None,
            authority_serial: None,
            alternative_name: false,
            proxy: None,
            draft_proxy: None,
            attributes: None,
            unknown_critical: None,
            repeated: None,
            malformed: None,
            name_constraints: false,
            policy_constraints: false,
            der: Vec::new(),
        };
        let mut seen = Vec::with_capacity(tbs.extensions().len());
        for extension in tbs.extensions() {
            if seen.contains(&&extension.oid) {
                certificate.repeated = Some(extension.oid.to_id_string());
            }
            seen.push(&extension.oid);
            certificate.take(extension);
        }
        drop(seen);
        drop(parsed);
        certificate.der = der;
        Ok(certificate)
    }

    /// How a message calls this certificate.
    pub(crate) fn which(&self, role: Role) -> Which {
        Which {
            role,
            position: self.position,
            subject: self.subject.display(),
        }
    }

    /// Whether subject and issuer are the same name.
    pub(crate) fn self_issued(&self) -> bool {
        self.subject.same_as(&self.issuer)
    }

    /// Whether it is valid at this time.
    pub(crate) fn is_valid(&self, at: i64) -> bool {
        (self.not_before..self.not_after).contains(&at)
    }

    /// Whether `issuer` can have signed this by name and, where both sides tell, by key identifier.
    pub(crate) fn names_issuer(&self, issuer: &Self) -> bool {
        self.issuer.same_as(&issuer.subject) && self.key_matches(issuer)
    }

    /// Whether what this says about the key of its issuer, and about the certificate of that key
    /// (RFC 5280 4.2.1.1), is true of `issuer`; true where either side says nothing.
    pub(crate) fn key_matches(&self, issuer: &Self) -> bool {
        let is_key = match (&self.authority_key, &issuer.subject_key) {
            (Some(wanted), Some(offered)) => wanted == offered,
            _ => true,
        };
        let name = self.authority_issuer.as_ref();
        let serial = self.authority_serial.as_ref();
        is_key
            && name.is_none_or(|name| name.same_as(&issuer.issuer))
            && serial.is_none_or(|serial| *serial == issuer.serial)
    }

    /// Whether this has the mark of a proxy, of whatever kind.
    pub(crate) fn has_proxy_extension(&self) -> bool {
        self.proxy.is_some() || self.draft_proxy.is_some()
    }

    /// The usual key identifier (RFC 5280 4.2.1.2, method 1), whatever the certificate says.
    pub(crate) fn key_hash(&self) -> Option<[u8; 20]> {
        let (_, parsed) = X509Certificate::from_der(&self.der).ok()?;
        let mut hash = openssl::sha::Sha1::new();
        hash.update(&parsed.public_key().subject_public_key.data);
        Some(hash.finish())
    }

    fn take(&mut self, extension: &X509Extension<'_>) {
        if extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME
            || extension.oid == OID_X509_EXT_ISSUER_ALT_NAME
        {
            self.alternative_name = true;
        }
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(basic) => {
                self.basic = BasicConstraints {
                    ca: basic.ca,
                    path_length: basic.path_len_constraint,
                };
            }
            ParsedExtension::KeyUsage(usage) => {
                self.key_usage = Some(KeyUsage {
                    digital_signature: usage.digital_signature(),
                    cert_sign: usage.key_cert_sign(),
                    crl_sign: usage.crl_sign(),
                });
            }
            ParsedExtension::NameConstraints(_) => self.name_constraints = true,
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                self.authority_serial = id.authority_cert_serial.map(<[u8]>::to_vec);
                let names = id.authority_cert_issuer.iter().flatten();
                self.authority_issuer = names
                    .filter_map(|name| match name {
                        GeneralName::DirectoryName(name) => Name::parse(name.as_raw()).ok(),
                        _ => None,
                    })
                    .next();
            }
            ParsedExtension::PolicyConstraints(_) | ParsedExtension::InhibitAnyPolicy(_) => {
                self.policy_constraints = true;
            }
            ParsedExtension::SubjectAlternativeName(_)
            | ParsedExtension::IssuerAlternativeName(_)
            | ParsedExtension::ExtendedKeyUsage(_)
            | ParsedExtension::CertificatePolicies(_)
            | ParsedExtension::PolicyMappings(_)
            | ParsedExtension::CRLDistributionPoints(_)
            | ParsedExtension::AuthorityInfoAccess(_)
            | ParsedExtension::NSCertType(_) => {}
            // An alternative name nobody reads may be odd; what rules depend on may not.
            ParsedExtension::ParseError { .. }
                if extension.critical || Self::decides(extension) =>
            {
                self.malformed = Some(extension.oid.to_id_string());
            }
            _ => self.take_unparsed(extension),
        }
    }

    fn decides(extension: &X509Extension<'_>) -> bool {
        [
            OID_X509_EXT_BASIC_CONSTRAINTS,
            OID_X509_EXT_KEY_USAGE,
            OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
            OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
            OID_X509_EXT_NAME_CONSTRAINTS,
        ]
        .contains(&extension.oid)
    }

    fn take_unparsed(&mut self, extension: &X509Extension<'_>) {
        let oid = extension.oid.to_id_string();
        match oid.as_str() {
            PROXY_CERT_INFO => {
                self.proxy = Some(ProxyExtension {
                    critical: extension.critical,
                    info: ProxyInfo::parse(extension.value),
                });
            }
            DRAFT_PROXY_CERT_INFO => {
                self.draft_proxy = Some(ProxyExtension {
                    critical: extension.critical,
                    info: ProxyInfo::parse_draft(extension.value),
                });
            }
            // Nobody makes it critical, and no other verifier would take it then.
            AC_SEQUENCE if !extension.critical => self.attributes = Some(extension.value.to_vec()),
            _ if extension.critical => self.unknown_critical = Some(oid),
            _ => {}
        }
    }
}

/// What is read by hand, because it has to be exact.
struct Frame {
    /// The algorithm outside the signed part is byte for byte the one inside (RFC 5280 4.1.1.2).
    algorithms_agree: bool,
    signature: Signature,
    not_before: i64,
    not_after: i64,
}

impl Frame {
    fn read(der: &[u8]) -> Result<Self, NotDer> {
        let mut body = Reader::new(der).enter(tag::SEQUENCE)?;
        let mut signed = body.enter(tag::SEQUENCE)?;
        if signed.peek_tag() == Some(VERSION) {
            signed.element()?;
        }
        // OpenSSL reads no other form of it, and revocation lists are searched for these very bytes.
        let serial = signed.expect(tag::INTEGER)?;
        if !is_shortest(serial) {
            return Err(NotDer);
        }
        let algorithm = signed.element()?;
        let algorithms_agree = algorithm.whole == body.element()?.whole;
        let signature = Signature::read(algorithm.content)?;
        signed.expect(tag::SEQUENCE)?; // issuer
        let mut validity = signed.enter(tag::SEQUENCE)?;
        let not_before = parse_time(&validity.element()?)?;
        let not_after = parse_time(&validity.element()?)?;
        validity.finish()?;
        Ok(Self {
            algorithms_agree,
            signature,
            not_before,
            not_after,
        })
    }
}

/// The extension with VOMS attribute certificates (GFD.182).
const AC_SEQUENCE: &str = "1.3.6.1.4.1.8005.100.100.5";

/// `[0]` around the version.
const VERSION: u8 = 0xa0;
