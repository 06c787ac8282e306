//! Everything cryptographic; only TLS, in `security::ssl`, touches OpenSSL elsewhere in this crate.
//!
//! Protocol 01 section 4: ECDH on P-256, HKDF-SHA256, AES-256-GCM with a 16-byte nonce. Section 5.2:
//! HMAC-SHA1 and HMAC-SHA2 for tokens.

use std::fmt;

use openssl::bn::{BigNum, BigNumContext};
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use openssl::ec::{EcGroup, EcKey, EcPoint, PointConversionForm};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::md::Md;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::pkey_ctx::PkeyCtx;
use openssl::sha::Sha256;
use openssl::sign::Signer;
use zeroize::Zeroize;

use crate::entropy::{Entropy, EntropyError, Purpose};
use crate::secret::{SecretBytes, SessionKey};

/// Length of the authentication tag of a frame, in bytes.
pub const TAG_LEN: usize = 16;

/// Length of a nonce, in bytes. Not the usual 12 (`htcondor:src/condor_io/condor_crypt_aesgcm.cpp`).
pub const NONCE_LEN: usize = 16;

/// Length of a SHA-256 digest, in bytes.
pub const DIGEST_LEN: usize = 32;

/// Length of an uncompressed P-256 point, in bytes.
pub const POINT_LEN: usize = 65;

/// HKDF salt of session keys and token keys.
const SALT: &[u8] = b"htcondor";

/// HKDF info of session keys.
const SESSION_INFO: &[u8] = b"keygen";

/// Bytes that key files are scrambled with (`htcondor:src/condor_utils/store_cred.cpp`).
const SCRAMBLE: [u8; 4] = [0xDE, 0xAD, 0xBE, 0xEF];

/// A cryptographic operation did not work.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CryptoError {
    /// The authentication tag is wrong: the frame was changed, or the keys differ.
    #[error("a frame fails its authentication check")]
    BadTag,
    /// The peer's public key is not a point of the curve.
    #[error("the peer's ECDH public key is not a valid point")]
    BadPoint,
    /// The library refused something that cannot fail on valid input.
    #[error("the crypto library failed")]
    Library(#[source] ErrorStack),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

impl From<ErrorStack> for CryptoError {
    fn from(stack: ErrorStack) -> Self {
        Self::Library(stack)
    }
}

pub(crate) fn random(out: &mut [u8]) -> Result<(), EntropyError> {
    openssl::rand::rand_priv_bytes(out).map_err(|_| EntropyError)
}

/// The content of a key or password file in the clear; scrambling again gives the file back.
pub fn unscramble(content: &[u8]) -> Vec<u8> {
    let masks = SCRAMBLE.iter().cycle();
    content
        .iter()
        .zip(masks)
        .map(|(byte, mask)| byte ^ mask)
        .collect()
}

/// Compares without a timing difference that depends on the content; lengths are not secret.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && openssl::memcmp::eq(a, b)
}

/// HKDF-SHA256 (RFC 5869), filling `out`.
///
/// # Errors
///
/// [`CryptoError::Library`].
pub fn hkdf(ikm: &[u8], salt: &[u8], info: &[u8], out: &mut [u8]) -> Result<(), CryptoError> {
    let mut ctx = PkeyCtx::new_id(Id::HKDF)?;
    ctx.derive_init()?;
    ctx.set_hkdf_md(Md::sha256())?;
    ctx.set_hkdf_salt(salt)?;
    ctx.set_hkdf_key(ikm)?;
    ctx.add_hkdf_info(info)?;
    ctx.derive(Some(out))?;
    Ok(())
}

/// The session key made from a shared secret: an ECDH X coordinate or a claim's secret text.
///
/// # Errors
///
/// [`CryptoError::Library`].
pub fn session_key(ikm: &[u8]) -> Result<SessionKey, CryptoError> {
    let mut key = [0u8; SessionKey::LEN];
    hkdf(ikm, SALT, SESSION_INFO, &mut key)?;
    let holder = SessionKey::new(key);
    key.zeroize();
    Ok(holder)
}

/// 32 bytes derived by HKDF-SHA256, as a secret.
///
/// # Errors
///
/// [`CryptoError::Library`].
pub fn derive_secret(ikm: &[u8], salt: &[u8], info: &[u8]) -> Result<SecretBytes, CryptoError> {
    let mut out = vec![0u8; 32];
    hkdf(ikm, salt, info, &mut out)?;
    Ok(SecretBytes::new(out))
}

/// The HMAC key of tokens signed with the key `k` (doubled by the caller for the pool key).
///
/// # Errors
///
/// [`CryptoError::Library`].
pub fn token_hmac_key(k: &[u8]) -> Result<SecretBytes, CryptoError> {
    derive_secret(k, SALT, b"master jwt")
}

/// The hash under an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1, for AKEP2.
    Sha1,
    /// SHA-256, for HS256.
    Sha256,
    /// SHA-384, for HS384.
    Sha384,
    /// SHA-512, for HS512.
    Sha512,
}

/// HMAC of `parts` concatenated.
///
/// # Errors
///
/// [`CryptoError::Library`].
pub fn hmac(hash: Hash, key: &[u8], parts: &[&[u8]]) -> Result<Vec<u8>, CryptoError> {
    let digest = match hash {
        Hash::Sha1 => MessageDigest::sha1(),
        Hash::Sha256 => MessageDigest::sha256(),
        Hash::Sha384 => MessageDigest::sha384(),
        Hash::Sha512 => MessageDigest::sha512(),
    };
    let key = PKey::hmac(key)?;
    let mut signer = Signer::new(digest, &key)?;
    for part in parts {
        signer.update(part)?;
    }
    Ok(signer.sign_to_vec()?)
}

/// A running SHA-256 over the clear frames of one direction.
#[derive(Clone, Default)]
pub struct HandshakeDigest {
    hash: Sha256Holder,
    used: bool,
}

#[derive(Clone)]
struct Sha256Holder(Sha256);

impl Default for Sha256Holder {
    fn default() -> Self {
        Self(Sha256::new())
    }
}

impl HandshakeDigest {
    /// Adds bytes of a clear frame, header included.
    pub fn update(&mut self, bytes: &[u8]) {
        self.used = true;
        self.hash.0.update(bytes);
    }

    /// The digest; 32 zero bytes if nothing was ever added.
    pub fn finish(self) -> [u8; DIGEST_LEN] {
        if self.used {
            self.hash.0.finish()
        } else {
            [0; DIGEST_LEN]
        }
    }
}

impl fmt::Debug for HandshakeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandshakeDigest(used: {})", self.used)
    }
}

/// An ephemeral P-256 key pair.
pub struct EcdhKey {
    key: EcKey<Private>,
    public: [u8; POINT_LEN],
}

impl EcdhKey {
    /// A fresh pair.
    ///
    /// # Errors
    ///
    /// [`CryptoError`] if the library or the entropy source fails.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, CryptoError> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
        let mut ctx = BigNumContext::new()?;
        let mut order = BigNum::new()?;
        group.order(&mut order, &mut ctx)?;
        // The chance that a random string is no scalar is 2^-32; a source that fails 16 times lies.
        for _ in 0..16 {
            let mut scalar = [0u8; 32];
            entropy.fill(Purpose::EcdhPrivateKey, &mut scalar)?;
            let mut number = BigNum::new_secure()?;
            number.copy_from_slice(&scalar)?;
            scalar.zeroize();
            number.set_const_time();
            if number.num_bits() == 0 || number.ucmp(&order) != std::cmp::Ordering::Less {
                continue;
            }
            let mut point = EcPoint::new(&group)?;
            point.mul_generator2(&group, &number, &mut ctx)?;
            let bytes = point.to_bytes(&group, PointConversionForm::UNCOMPRESSED, &mut ctx)?;
            let public = bytes.try_into().map_err(|_| CryptoError::BadPoint)?;
            let key = EcKey::from_private_components(&group, &number, &point)?;
            return Ok(Self { key, public });
        }
        Err(CryptoError::Entropy(EntropyError))
    }

    /// Our public point: 0x04, X, Y.
    pub fn public_point(&self) -> &[u8; POINT_LEN] {
        &self.public
    }

    /// The session key shared with the owner of `peer`, after checking that it is on the curve.
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadPoint`] for anything but an uncompressed point of the curve.
    pub fn agree(&self, peer: &[u8]) -> Result<SessionKey, CryptoError> {
        if peer.len() != POINT_LEN || peer.first() != Some(&4) {
            return Err(CryptoError::BadPoint);
        }
        let group = self.key.group();
        let mut ctx = BigNumContext::new()?;
        // `from_bytes` refuses a point that is not on the curve; `check_key` also infinity.
        let point =
            EcPoint::from_bytes(group, peer, &mut ctx).map_err(|_| CryptoError::BadPoint)?;
        let peer = EcKey::from_public_key(group, &point).map_err(|_| CryptoError::BadPoint)?;
        peer.check_key().map_err(|_| CryptoError::BadPoint)?;
        let own = PKey::from_ec_key(self.key.clone())?;
        let peer = PKey::from_ec_key(peer)?;
        let mut deriver = openssl::derive::Deriver::new(&own)?;
        deriver.set_peer(&peer)?;
        let mut shared = [0u8; 32];
        let length = deriver.derive(&mut shared)?;
        if length != shared.len() {
            return Err(CryptoError::BadPoint);
        }
        let key = session_key(&shared);
        shared.zeroize();
        key
    }
}

impl fmt::Debug for EcdhKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EcdhKey(hidden)")
    }
}

/// AES-256-GCM with a 16-byte nonce; the key schedule is made once.
pub struct Aead {
    ctx: CipherCtx,
    sealing: bool,
}

impl Aead {
    /// A cipher that encrypts.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`].
    pub fn sealing(key: &SessionKey) -> Result<Self, CryptoError> {
        let mut ctx = CipherCtx::new()?;
        ctx.encrypt_init(Some(Cipher::aes_256_gcm()), None, None)?;
        ctx.set_iv_length(NONCE_LEN)?;
        ctx.encrypt_init(None, Some(key.expose()), None)?;
        Ok(Self { ctx, sealing: true })
    }

    /// A cipher that decrypts.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`].
    pub fn opening(key: &SessionKey) -> Result<Self, CryptoError> {
        let mut ctx = CipherCtx::new()?;
        ctx.decrypt_init(Some(Cipher::aes_256_gcm()), None, None)?;
        ctx.set_iv_length(NONCE_LEN)?;
        ctx.decrypt_init(None, Some(key.expose()), None)?;
        Ok(Self {
            ctx,
            sealing: false,
        })
    }

    /// Appends the cipher text of `plain` and the tag to `out`.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Library`], also if this is an opening cipher.
    pub fn seal(
        &mut self,
        nonce: &[u8; NONCE_LEN],
        aad: &[&[u8]],
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        debug_assert!(self.sealing, "an opening cipher cannot seal");
        self.ctx.encrypt_init(None, None, Some(nonce))?;
        for part in aad {
            self.ctx.cipher_update(part, None)?;
        }
        let start = out.len();
        out.resize(start + plain.len() + TAG_LEN, 0);
        let Some((text, tag)) = out
            .get_mut(start..)
            .and_then(|space| space.split_at_mut_checked(plain.len()))
        else {
            return Err(CryptoError::BadTag);
        };
        self.ctx.cipher_update(plain, Some(text))?;
        self.ctx.cipher_final(&mut [])?;
        self.ctx.tag(tag)?;
        Ok(())
    }

    /// Appends the plain text of `sealed` (cipher text and tag) to `out`. If the tag is wrong,
    /// `out` is left as it was.
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadTag`] if the frame is not authentic.
    pub fn open(
        &mut self,
        nonce: &[u8; NONCE_LEN],
        aad: &[&[u8]],
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        debug_assert!(!self.sealing, "a sealing cipher cannot open");
        let (text, tag) = sealed
            .len()
            .checked_sub(TAG_LEN)
            .and_then(|length| sealed.split_at_checked(length))
            .ok_or(CryptoError::BadTag)?;
        self.ctx.decrypt_init(None, None, Some(nonce))?;
        self.ctx.set_tag(tag)?;
        for part in aad {
            self.ctx.cipher_update(part, None)?;
        }
        let start = out.len();
        out.resize(start + text.len(), 0);
        let space = out.get_mut(start..).unwrap_or_default();
        let done = self
            .ctx
            .cipher_update(text, Some(space))
            .and_then(|_| self.ctx.cipher_final(&mut []));
        if done.is_err() {
            // What was decrypted is not authentic: nobody may see it.
            if let Some(space) = out.get_mut(start..) {
                space.zeroize();
            }
            out.truncate(start);
            return Err(CryptoError::BadTag);
        }
        Ok(())
    }
}

impl fmt::Debug for Aead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aead(sealing: {}, key hidden)", self.sealing)
    }
}
