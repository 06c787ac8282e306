//! Claim ids: capability, session id and session key in one string.
//!
//! `<sinful>#<birth>#<sequence>#[<session info>]<secret>`, protocol 01 section 6.1,
//! `htcondor:src/condor_utils/condor_claimid_parser.h`.

use std::fmt;

use zeroize::Zeroize;

use crate::entropy::{Entropy, EntropyError, Purpose, SystemEntropy};
use crate::secret::{SecretText, SessionKey};
use crate::{Sinful, Version, crypto};

/// Longest claim id accepted, in bytes.
pub const MAX_LEN: usize = 32 * 1024;

/// Prefix of the session id under which file transfer connections of a claim run.
pub const FILE_TRANSFER_PREFIX: &str = "filetrans.";

/// Session info of the ids made here: what 23.9.6 negotiators and schedds accepted.
const MINTED_INFO: &str =
    r#"[Encryption="YES";Integrity="YES";CryptoMethods="AES";ShortVersion="23.9.6";]"#;

/// Why a text is no claim id. The text itself is secret and never part of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimIdError {
    /// Longer than [`MAX_LEN`].
    #[error("claim id is longer than {MAX_LEN} bytes")]
    TooLong,
    /// No `#` in it.
    #[error("claim id has no # in front of its secret part")]
    NoSeparator,
    /// The secret part is empty.
    #[error("claim id has no secret part")]
    NoSecret,
    /// A NUL or line end.
    #[error("claim id contains a control character")]
    BadCharacter,
    /// The session info is not `[Name=value;...]`.
    #[error("claim id has damaged session info")]
    BadInfo,
    /// The session info names ciphers, but AES is not among them.
    #[error("the session of the claim id does not support AES")]
    NoAes,
}

/// The settings of a claim's session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Version of the peer that made the id.
    pub version: Option<Version>,
    /// Unix time at which the session ends; absent: with the claim.
    pub expires: Option<i64>,
    /// Names of the ciphers, best first.
    pub crypto_methods: Vec<String>,
}

/// A claim id. Whoever knows it owns the claim, so `Debug` prints only the public part.
#[derive(Clone)]
pub struct ClaimId {
    text: SecretText,
    session_id_len: usize,
    info: Option<SessionInfo>,
    secret_start: usize,
}

impl ClaimId {
    /// Makes a new id for the daemon reachable at `address`, started at unix time `birth`;
    /// `sequence` must be new in this process, from 1.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if the system cannot deliver random bytes.
    pub fn mint(address: &Sinful, birth: i64, sequence: u64) -> Result<Self, EntropyError> {
        Self::mint_with(&mut SystemEntropy, address, birth, sequence)
    }

    /// As [`mint`](Self::mint), with the given source of random bytes.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if the source cannot deliver.
    pub fn mint_with(
        entropy: &mut dyn Entropy,
        address: &Sinful,
        birth: i64,
        sequence: u64,
    ) -> Result<Self, EntropyError> {
        let mut random = [0u8; 32];
        entropy.fill(Purpose::ClaimSecret, &mut random)?;
        let mut text = format!("{address}#{birth}#{sequence}");
        let session_id_len = text.len();
        text.push('#');
        text.push_str(MINTED_INFO);
        let secret_start = text.len();
        text.reserve_exact(random.len() * 2);
        for byte in random {
            text.push(hex_digit(byte >> 4));
            text.push(hex_digit(byte & 15));
        }
        random.zeroize();
        Ok(Self {
            text: SecretText::new(text),
            session_id_len,
            info: Some(SessionInfo {
                version: Some(crate::version::COMPATIBLE),
                expires: None,
                crypto_methods: vec!["AES".to_owned()],
            }),
            secret_start,
        })
    }

    /// Reads an id received from a peer.
    ///
    /// # Errors
    ///
    /// [`ClaimIdError`]; its text never contains part of the id.
    pub fn parse(text: &str) -> Result<Self, ClaimIdError> {
        if text.len() > MAX_LEN {
            return Err(ClaimIdError::TooLong);
        }
        if text.bytes().any(|byte| byte < b' ') {
            return Err(ClaimIdError::BadCharacter);
        }
        let (session_id, tail) = text.rsplit_once('#').ok_or(ClaimIdError::NoSeparator)?;
        let (info, secret) = match tail.strip_prefix('[') {
            Some(rest) => {
                let (info, secret) = rest.rsplit_once(']').ok_or(ClaimIdError::BadInfo)?;
                (Some(SessionInfo::parse(info)?), secret)
            }
            None => (None, tail),
        };
        if secret.is_empty() {
            return Err(ClaimIdError::NoSecret);
        }
        Ok(Self {
            session_id_len: session_id.len(),
            secret_start: text.len() - secret.len(),
            text: SecretText::new(text.to_owned()),
            info,
        })
    }

    /// The whole id, secret included. For the wire only, never for a log.
    pub fn as_str(&self) -> &str {
        self.text.expose()
    }

    /// Where the daemon is that made the id; `None` if it begins with no address.
    pub fn address(&self) -> Option<Sinful> {
        let text = self.text.expose();
        // It may have a `#` of its own.
        let end = text.find('>')?;
        Sinful::parse(text.get(..=end)?).ok()
    }

    /// The session id: everything before the last `#`. Not secret.
    pub fn session_id(&self) -> &str {
        self.text.expose().get(..self.session_id_len).unwrap_or("")
    }

    /// The session id of the claim's file transfer connections (protocol 04 section 1).
    pub fn file_transfer_session_id(&self) -> String {
        format!("{FILE_TRANSFER_PREFIX}{}", self.session_id())
    }

    /// The form for logs and for `PublicClaimId`: session id and `#...`.
    pub fn public(&self) -> String {
        format!("{}#...", self.session_id())
    }

    /// The session settings; `None` if the id carries no session.
    pub fn session_info(&self) -> Option<&SessionInfo> {
        self.info.as_ref()
    }

    /// The key of the claim's sessions: HKDF of the secret's ASCII text (protocol 01 section 6.2).
    ///
    /// # Errors
    ///
    /// [`crypto::CryptoError`] if the library cannot compute it.
    pub fn key(&self) -> Result<SessionKey, crypto::CryptoError> {
        let secret = self.text.expose().get(self.secret_start..).unwrap_or("");
        crypto::session_key(secret.as_bytes())
    }

    /// Compares two ids in constant time, as far as their lengths agree.
    pub fn same_as(&self, other: &str) -> bool {
        crypto::constant_time_eq(self.text.expose().as_bytes(), other.as_bytes())
    }
}

impl PartialEq for ClaimId {
    fn eq(&self, other: &Self) -> bool {
        self.same_as(other.as_str())
    }
}

impl Eq for ClaimId {}

impl fmt::Debug for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClaimId({})", self.public())
    }
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public())
    }
}

impl SessionInfo {
    /// Reads the text between the brackets, `Name=value;Name=value;`.
    fn parse(text: &str) -> Result<Self, ClaimIdError> {
        let mut single = None;
        let mut list = None;
        let mut info = Self::default();
        for part in text.split(';').filter(|part| !part.trim().is_empty()) {
            let (name, value) = part.split_once('=').ok_or(ClaimIdError::BadInfo)?;
            let value = value.trim();
            let value = match value.strip_prefix('"') {
                Some(rest) => rest.strip_suffix('"').ok_or(ClaimIdError::BadInfo)?,
                None => value,
            };
            match name.trim().to_ascii_lowercase().as_str() {
                "cryptomethods" => single = Some(value),
                "cryptomethodslist" => list = Some(value),
                "shortversion" => info.version = Version::from_short(value),
                "sessionexpires" => {
                    info.expires = Some(value.parse().map_err(|_| ClaimIdError::BadInfo)?);
                }
                _ => {}
            }
        }
        // The list is separated by '.', because ',' may not stand in a claim id.
        if let Some(names) = list.or(single) {
            info.crypto_methods = names
                .split(['.', ','])
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect();
            if !info
                .crypto_methods
                .iter()
                .any(|name| name.eq_ignore_ascii_case("AES"))
            {
                return Err(ClaimIdError::NoAes);
            }
        }
        Ok(info)
    }
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTD: &str = "<127.0.0.1:22643?addrs=127.0.0.1-22643&alias=vm>#1795349446#1#[Integrity=\"NO\";Encryption=\"NO\";ShortVersion=\"23.9.6\";CryptoMethods=\"BLOWFISH\";CryptoMethodsList=\"AES.BLOWFISH.3DES\";]b2d9acdf";

    #[test]
    fn an_id_of_a_real_startd_is_taken_apart() {
        let id = ClaimId::parse(STARTD).unwrap();
        assert_eq!(
            id.session_id(),
            "<127.0.0.1:22643?addrs=127.0.0.1-22643&alias=vm>#1795349446#1"
        );
        let info = id.session_info().unwrap();
        assert_eq!(info.version, Some(Version::new(23, 9, 6)));
        assert_eq!(info.crypto_methods, ["AES", "BLOWFISH", "3DES"]);
        assert_eq!(id.as_str(), STARTD);
    }

    #[test]
    fn a_minted_id_reads_back_and_has_64_hex_digits() {
        let address = Sinful::parse("<10.0.0.1:0?CCBID=192.0.2.1:9618#7&noUDP>").unwrap();
        let id = ClaimId::mint(&address, 1_700_000_000, 3).unwrap();
        let again = ClaimId::parse(id.as_str()).unwrap();
        assert_eq!(again, id);
        assert_eq!(again.session_id(), format!("{address}#1700000000#3"));
        let secret = id.as_str().rsplit_once(']').unwrap().1;
        assert_eq!(secret.len(), 64);
        assert!(secret.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_eq!(again.session_info(), id.session_info());
    }

    #[test]
    fn no_form_for_people_shows_the_secret() {
        let id = ClaimId::parse(STARTD).unwrap();
        for text in [format!("{id:?}"), id.to_string(), id.public()] {
            assert!(!text.contains("b2d9"), "{text}");
        }
    }

    #[test]
    fn ids_without_a_session_or_without_aes_are_told_apart() {
        assert!(
            ClaimId::parse("<h:1>#1#2#abcdef")
                .unwrap()
                .session_info()
                .is_none()
        );
        let old = "<h:1>#1#2#[CryptoMethods=\"BLOWFISH\";]abc";
        assert_eq!(ClaimId::parse(old).unwrap_err(), ClaimIdError::NoAes);
        assert_eq!(ClaimId::parse("x").unwrap_err(), ClaimIdError::NoSeparator);
        assert_eq!(ClaimId::parse("a#").unwrap_err(), ClaimIdError::NoSecret);
        assert_eq!(ClaimId::parse("a#[b").unwrap_err(), ClaimIdError::BadInfo);
    }
}
