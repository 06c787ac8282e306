//! Certificates and authorities for SSL (protocol 01 section 5.4).
//!
//! What is loaded here is a snapshot of the files: load again to see renewed ones.

mod context;
mod known_hosts;

use std::path::PathBuf;

pub use context::{SslClient, SslServer};

/// The files of a server that proves itself with a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SslServerFiles {
    /// Certificate chain in PEM, the server's own first.
    pub certificate: PathBuf,
    /// Private key in PEM, without a passphrase.
    pub key: PathBuf,
    /// The authorities that client certificates are checked against.
    pub authorities: Authorities,
    /// Whether clients without a certificate are turned away.
    pub require_client_certificate: bool,
    /// Whether clients may prove themselves with a proxy certificate (RFC 3820).
    pub allow_proxy: bool,
}

/// The files of a client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SslClientFiles {
    /// The authorities that the server's certificate is checked against.
    pub authorities: Authorities,
    /// Our own certificate chain in PEM, or a proxy; `None`: we stay nameless.
    pub certificate: Option<PathBuf>,
    /// Its private key; `None`: it is in the file of the certificate, as with a proxy.
    pub key: Option<PathBuf>,
    /// Files with certificates that are good for one server each, without an authority: HTCondor's `known_hosts`.
    /// Those that are not there say nothing.
    pub known_hosts: Vec<PathBuf>,
}

/// Where trusted authorities are found; all places given count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Authorities {
    /// A file of certificates in PEM.
    pub file: Option<PathBuf>,
    /// A directory of certificates under their hashed names, as `openssl rehash` makes it.
    pub directory: Option<PathBuf>,
    /// Also those of the system.
    pub system: bool,
}

/// Certificates or authorities cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SslError {
    /// A file or directory cannot be used.
    #[error("the {what} {} cannot be used", path.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the library says.
        #[source]
        source: openssl::error::ErrorStack,
    },
    /// The private key is not that of the certificate.
    #[error("the private key {} does not belong to the certificate {}", key.display(), certificate.display())]
    OtherKey {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },
    /// A list of known hosts cannot be read.
    #[error("the list of known hosts {} cannot be read: {why}", path.display())]
    KnownHosts {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The library refused something that cannot fail.
    #[error("the TLS library failed")]
    Library(#[from] openssl::error::ErrorStack),
}
