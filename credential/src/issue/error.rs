//! Why no credential could be made.

use openssl::error::ErrorStack;

use crate::error::VerifyError;

/// A credential could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The credential that is to sign cannot be read.
    #[error("the credential that is to sign cannot be used")]
    Source(#[from] VerifyError),
    /// It has no private key.
    #[error("the credential that is to sign has no private key")]
    NoKey,
    /// It has ended.
    #[error("the credential that is to sign ended at {}", crate::date::Utc(*.0))]
    Ended(i64),
    /// It is a CA's.
    #[error("{0} is a certification authority, which makes no proxies")]
    Ca(String),
    /// The private key belongs to another certificate.
    #[error("the private key is not that of {0}")]
    OtherKey(String),
    /// Its key usage does not allow it to sign.
    #[error("the certificate {0} may not sign: its key usage lacks digitalSignature")]
    KeyUsage(String),
    /// It forbids proxies below it.
    #[error("the proxy {0} allows no further proxy below it")]
    PathLength(String),
    /// A pre-RFC proxy cannot issue an RFC 3820 proxy.
    #[error("{0} is a proxy of the old Globus kind; only RFC 3820 proxies can be delegated")]
    OldProxy(String),
    /// The request is not a PKCS#10 certificate request.
    #[error("the certificate request cannot be read")]
    Request,
    /// The request is not signed by the key in it.
    #[error("the certificate request is not signed by the key it names")]
    RequestSignature,
    /// The key of the request is too weak or of an unknown kind.
    #[error("the key of the certificate request is not accepted: {0}")]
    RequestKey(&'static str),
    /// A name that no certificate can have.
    #[error("{0:?} is not a name like /C=XX/O=Lab/CN=Jane Doe")]
    Name(String),
    /// A time outside what certificates can say.
    #[error("a certificate cannot be valid until {0}")]
    Time(i64),
    /// OpenSSL failed.
    #[error("OpenSSL could not make the certificate")]
    Library(#[from] ErrorStack),
    /// A file of the CA directory could not be written.
    #[error("{path}: {source}")]
    Write {
        /// Which file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
