//! Receiving a delegated proxy: the key is made here and never travels (protocol of HTCondor's
//! file transfer, command 4, and of its proxy renewal, command 500; `htcondor:src/condor_utils/x509_delegation`).

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::X509ReqBuilder;
use zeroize::Zeroizing;

use crate::cert::Certificate;
use crate::pem::{MAX_BUNDLE_BYTES, MAX_CERTIFICATES, push_block, split_der};
use crate::secret::SecretPem;
use crate::strength::KeyKind;

/// Size of the key made for a delegated proxy, bits.
const KEY_BITS: u32 = 2048;

/// Why a delegation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DelegationError {
    /// No key or request could be made.
    #[error("OpenSSL could not make the key and the request for the delegated proxy")]
    Library(#[source] ErrorStack),
    /// The peer sent nothing, which is its way to say that it failed.
    #[error("the submit side sent no proxy; its log tells why it could not delegate one")]
    Empty,
    /// Larger or more than a credential may be.
    #[error(
        "the delegated proxy is larger than {MAX_BUNDLE_BYTES} bytes or has more than {MAX_CERTIFICATES} certificates"
    )]
    TooLarge,
    /// Not a row of DER certificates.
    #[error("the delegated proxy cannot be read as X.509 certificates")]
    Malformed,
    /// The first certificate is for another key.
    #[error("the delegated proxy was made for another key than the one requested")]
    OtherKey,
}

impl DelegationError {
    /// A short stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Library(_) => "internal.openssl",
            Self::Empty => "delegation.empty",
            Self::TooLarge => "delegation.too-large",
            Self::Malformed => "delegation.malformed",
            Self::OtherKey => "delegation.other-key",
        }
    }
}

impl From<ErrorStack> for DelegationError {
    fn from(source: ErrorStack) -> Self {
        Self::Library(source)
    }
}

/// A key pair and the request to certify it; good for one delegation.
///
/// Making one takes 50 to 200 ms, nearly all of it the search for primes. It needs no input, so
/// keep one ready: make the next on a background thread as soon as one is used. It is `Send`.
pub struct DelegationRequest {
    key: Rsa<Private>,
    request: Vec<u8>,
}

impl std::fmt::Debug for DelegationRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DelegationRequest").finish_non_exhaustive()
    }
}

impl DelegationRequest {
    /// Makes an RSA key of 2048 bits and a PKCS#10 request with an empty subject, signed with
    /// SHA-256. The version field is 0, the only one RFC 2986 4.1 knows; OpenSSL 3.4 and later
    /// refuse the 2 that HTCondor 23 puts there.
    ///
    /// Blocks for the time of the key search.
    ///
    /// # Errors
    /// [`DelegationError::Library`].
    pub fn generate() -> Result<Self, DelegationError> {
        let key = Rsa::generate(KEY_BITS)?;
        let pair = PKey::from_rsa(key.clone())?;
        let mut request = X509ReqBuilder::new()?;
        request.set_version(0)?;
        request.set_pubkey(&pair)?;
        request.sign(&pair, MessageDigest::sha256())?;
        Ok(Self {
            key,
            request: request.build().to_der()?,
        })
    }

    /// The request as DER, to be sent to the delegating side.
    #[must_use]
    pub fn csr_der(&self) -> &[u8] {
        &self.request
    }

    /// Takes the answer: DER certificates one after the other, the new proxy first. The result is
    /// a proxy file as other tools write it: proxy, key (PKCS#1), the rest of the chain.
    ///
    /// The certificates are not verified, only found to be for our key; whoever uses the file
    /// verifies it.
    ///
    /// # Errors
    /// See [`DelegationError`].
    pub fn accept(self, certificates: &[u8]) -> Result<SecretPem, DelegationError> {
        self.assemble(certificates)
    }

    pub(crate) fn assemble(&self, certificates: &[u8]) -> Result<SecretPem, DelegationError> {
        if certificates.is_empty() {
            return Err(DelegationError::Empty);
        }
        // The bundle grows by a third and the key on its way to PEM.
        if certificates.len() > MAX_BUNDLE_BYTES / 2 {
            return Err(DelegationError::TooLarge);
        }
        let parts =
            split_der(certificates, MAX_CERTIFICATES + 1).ok_or(DelegationError::Malformed)?;
        if parts.len() > MAX_CERTIFICATES {
            return Err(DelegationError::TooLarge);
        }
        let (proxy, chain) = parts.split_first().ok_or(DelegationError::Empty)?;
        for (index, der) in parts.iter().enumerate() {
            let certificate = Certificate::parse(der.to_vec(), Some(index + 1))
                .map_err(|_| DelegationError::Malformed)?;
            if index == 0 && !self.fits(&certificate.key) {
                return Err(DelegationError::OtherKey);
            }
        }
        let key = Zeroizing::new(self.key.private_key_to_der()?);
        // Reserved at once: a growing buffer would leave copies of the key behind.
        let mut pem = Zeroizing::new(Vec::with_capacity(
            (certificates.len() + key.len()) * 3 / 2 + 4096,
        ));
        push_block(&mut pem, "CERTIFICATE", proxy);
        push_block(&mut pem, "RSA PRIVATE KEY", &key);
        chain
            .iter()
            .for_each(|der| push_block(&mut pem, "CERTIFICATE", der));
        Ok(SecretPem::new(pem))
    }

    fn fits(&self, public: &KeyKind) -> bool {
        matches!(public, KeyKind::Rsa { modulus, exponent }
            if *modulus == self.key.n().to_vec() && *exponent == self.key.e().to_vec())
    }
}
