//! Where random bytes come from. The core never asks the operating system itself.

/// What the random bytes are for. A test source can answer each purpose with recorded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Scalar of an ephemeral P-256 key pair, 32 bytes per try.
    EcdhPrivateKey,
    /// Base IV of one direction of one connection, 16 bytes.
    BaseIv,
    /// Nonce of a session resumption, 33 bytes.
    ResumeNonce,
    /// Challenge of TOKEN and PASSWORD, 256 bytes.
    Challenge,
    /// Key that SSL sends through TLS and nobody uses, 256 bytes.
    TransportedKey,
    /// Secret part of a claim id, 32 bytes.
    ClaimSecret,
    /// Random part of a name: rendezvous directory, session id.
    Name,
}

/// The random generator failed. Nothing secret can be made, so nothing can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random generator failed")]
pub struct EntropyError;

/// A source of random bytes fit for keys.
pub trait Entropy {
    /// Fills `out` completely with unpredictable bytes.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if the source cannot deliver.
    fn fill(&mut self, purpose: Purpose, out: &mut [u8]) -> Result<(), EntropyError>;
}

/// The process's cryptographic generator (OpenSSL's, seeded by the operating system).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, _purpose: Purpose, out: &mut [u8]) -> Result<(), EntropyError> {
        crate::crypto::random(out)
    }
}
