//! A certification authority for demonstrations and tests: its key is made when it is, and lives as long.

use std::fs;
use std::path::{Path, PathBuf};

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use openssl::x509::X509Builder;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};

use super::build::{Draft, KeyType, bundle, parse_name, public, serial};
use super::error::IssueError;
use super::proxies::ProxyIssuer;
use crate::secret::SecretPem;
use crate::verify::read_all;

/// A self-signed certification authority.
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
    name: String,
    key_type: KeyType,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A user's certificate, or a host's, with its key.
#[derive(Debug, Clone)]
pub struct UserCertificate {
    pem: SecretPem,
    name: String,
}

impl Authority {
    /// Makes an authority called `name`, such as `/C=XX/O=Demo/CN=Demo CA`, that is valid for `lifetime` seconds from
    /// `now`. Everybody it certifies gets a key of `key_type`, too.
    ///
    /// # Errors
    /// [`IssueError`]
    pub fn new(name: &str, key_type: KeyType, now: i64, lifetime: i64) -> Result<Self, IssueError> {
        let subject = parse_name(name)?;
        let key = key_type.generate()?;
        let public = public(&key)?;
        // The identifiers are computed from a certificate under construction.
        let mut context = X509Builder::new()?;
        context.set_pubkey(&public)?;
        let own_id = SubjectKeyIdentifier::new().build(&context.x509v3_context(None, None))?;
        let draft = Draft {
            subject: &subject,
            issuer: &subject,
            serial: serial()?,
            not_before: now.saturating_sub(BACKDATED),
            not_after: now.saturating_add(lifetime),
            key: &public,
            extensions: vec![
                BasicConstraints::new().critical().ca().build()?,
                KeyUsage::new()
                    .critical()
                    .key_cert_sign()
                    .crl_sign()
                    .build()?,
                own_id,
            ],
        };
        Ok(Self {
            certificate: draft.sign(&key)?,
            key,
            name: name.to_owned(),
            key_type,
        })
    }

    /// Takes an authority that exists: its certificate and its private key, which is not encrypted, as PEM. Everybody
    /// it certifies gets a key of `key_type`.
    ///
    /// # Errors
    /// [`IssueError::Library`], or [`IssueError::OtherKey`] if the key is another authority's.
    pub fn from_pem(certificate: &[u8], key: &[u8], key_type: KeyType) -> Result<Self, IssueError> {
        let certificate = X509::from_pem(certificate)?;
        // With a passphrase given, OpenSSL does not ask for one on the terminal.
        let key = PKey::private_key_from_pem_passphrase(key, b"")?;
        let read = read_all(vec![certificate.to_der()?])?;
        let name = read.first().map(|read| read.subject.display());
        let name = name.unwrap_or_default();
        if !certificate.public_key()?.public_eq(&key) {
            return Err(IssueError::OtherKey(name));
        }
        Ok(Self {
            certificate,
            key,
            name,
            key_type,
        })
    }

    /// Its certificate as PEM.
    ///
    /// # Errors
    /// [`IssueError::Library`]
    pub fn certificate_pem(&self) -> Result<Vec<u8>, IssueError> {
        Ok(self.certificate.to_pem()?)
    }

    /// The eight digits by which OpenSSL looks for it in a directory.
    #[must_use]
    pub fn hash(&self) -> String {
        format!("{:08x}", self.certificate.subject_name_hash())
    }

    /// The text of its signing policy file, which Globus reads: it signs for everybody below its own organisation.
    #[must_use]
    pub fn signing_policy(&self) -> String {
        let below = self
            .name
            .rsplit_once('/')
            .map_or("", |(organisation, _)| organisation);
        format!(
            "access_id_CA  X509    '{}'\npos_rights    globus  CA:sign\ncond_subjects globus  '\"{below}/*\"'\n",
            self.name
        )
    }

    /// Writes certificate and signing policy into a CA directory, under the names that OpenSSL and Globus look for.
    /// Returns the path of the certificate.
    ///
    /// # Errors
    /// [`IssueError::Write`] names the file.
    pub fn write_to(&self, directory: &Path) -> Result<PathBuf, IssueError> {
        let certificate = directory.join(format!("{}.0", self.hash()));
        let policy = directory.join(format!("{}.signing_policy", self.hash()));
        let write = |path: &Path, content: &[u8]| {
            fs::write(path, content).map_err(|source| IssueError::Write {
                path: path.to_owned(),
                source,
            })
        };
        write(&certificate, &self.certificate_pem()?)?;
        write(&policy, self.signing_policy().as_bytes())?;
        Ok(certificate)
    }

    /// Certifies a user with a new key, for `lifetime` seconds from `now`.
    ///
    /// # Errors
    /// [`IssueError`]
    pub fn user(&self, name: &str, now: i64, lifetime: i64) -> Result<UserCertificate, IssueError> {
        self.certify(name, &[], now, lifetime)
    }

    /// Certifies a server that is reached under these DNS names or IP addresses.
    ///
    /// # Errors
    /// [`IssueError`]
    pub fn server(
        &self,
        name: &str,
        hosts: &[&str],
        now: i64,
        lifetime: i64,
    ) -> Result<UserCertificate, IssueError> {
        self.certify(name, hosts, now, lifetime)
    }

    fn certify(
        &self,
        name: &str,
        hosts: &[&str],
        now: i64,
        lifetime: i64,
    ) -> Result<UserCertificate, IssueError> {
        let subject = parse_name(name)?;
        let key = self.key_type.generate()?;
        let public = public(&key)?;
        let mut context = X509Builder::new()?;
        context.set_pubkey(&public)?;
        let context = context.x509v3_context(Some(&self.certificate), None);
        let mut extensions = vec![
            BasicConstraints::new().critical().build()?,
            KeyUsage::new()
                .critical()
                .digital_signature()
                .key_encipherment()
                .build()?,
            SubjectKeyIdentifier::new().build(&context)?,
            AuthorityKeyIdentifier::new().keyid(true).build(&context)?,
        ];
        if !hosts.is_empty() {
            let mut names = SubjectAlternativeName::new();
            for host in hosts {
                if host.parse::<std::net::IpAddr>().is_ok() {
                    names.ip(host);
                } else {
                    names.dns(host);
                }
            }
            extensions.push(names.build(&context)?);
            extensions.push(
                ExtendedKeyUsage::new()
                    .server_auth()
                    .client_auth()
                    .build()?,
            );
        }
        let draft = Draft {
            subject: &subject,
            issuer: self.certificate.subject_name(),
            serial: serial()?,
            not_before: now.saturating_sub(BACKDATED),
            not_after: now.saturating_add(lifetime),
            key: &public,
            extensions,
        };
        let certificate = draft.sign(&self.key)?.to_der()?;
        Ok(UserCertificate {
            pem: bundle(&certificate, &key, &[])?,
            name: name.to_owned(),
        })
    }
}

impl UserCertificate {
    /// Certificate and key as PEM.
    #[must_use]
    pub fn pem(&self) -> &SecretPem {
        &self.pem
    }

    /// The name it was made for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For making proxies of it.
    ///
    /// # Errors
    /// [`IssueError`]
    pub fn issuer(&self) -> Result<ProxyIssuer, IssueError> {
        ProxyIssuer::from_pem(self.pem.as_bytes())
    }
}

/// Seconds by which certificates are valid before they are made: a proxy of a moment ago must not be older than they.
const BACKDATED: i64 = 3_600;
