//! TOKEN and PASSWORD: AKEP2 with keys derived from an id token's signature or from the pool password
//! (protocol 01 sections 5.2, 5.3; `htcondor:src/condor_io/condor_auth_passwd.cpp`).

mod client;
mod server;

pub(crate) use client::ClientAkep2;
pub(crate) use server::{Akep2Rules, ServerAkep2};

use super::seeds;
use crate::Version;
use crate::crypto::{self, CryptoError, Hash};
use crate::secret::SecretBytes;
use crate::security::PoolPassword;
use crate::wire::{MessageReader, MessageWriter, WireError};

/// Length of a challenge, in bytes.
const CHALLENGE: usize = 256;

/// Longest name, in bytes.
const MAX_NAME: usize = 1023;

/// Status values of each message.
const OK: i64 = 0;
const ERROR: i64 = -1;

/// The user that whoever knows the pool password is, and the server's name in both methods, between
/// ends that speak 23.9.0 or newer.
const POOL_USER: &str = "condor@password";

/// First part of the same name between older ends; a domain follows that nobody compares.
const OLD_POOL_USER: &str = "condor_pool@";

/// The first version that uses [`POOL_USER`].
const RENAMED: Version = Version::new(23, 9, 0);

/// The key under which both sides prove that they know the pool password.
fn password_ka(password: &PoolPassword) -> Result<SecretBytes, CryptoError> {
    let shared = password.shared();
    crypto::hmac(Hash::Sha1, &seeds::KA, &[shared.expose()]).map(SecretBytes::new)
}

/// The key under which both sides prove that they know the token's signature.
fn derive_ka(signature: &[u8], signed_part: &str) -> Result<SecretBytes, CryptoError> {
    let salt = [&seeds::KA[..], signed_part.as_bytes()].concat();
    crypto::derive_secret(signature, &salt, b"master ka")
}

/// The server's proof.
fn server_proof(
    ka: &SecretBytes,
    a: &[u8],
    b: &[u8],
    ra: &[u8],
    rb: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    crypto::hmac(Hash::Sha1, ka.expose(), &[a, b" ", b, &[0], ra, rb])
}

/// The client's proof.
fn client_proof(ka: &SecretBytes, a: &[u8], rb: &[u8]) -> Result<Vec<u8>, CryptoError> {
    crypto::hmac(Hash::Sha1, ka.expose(), &[a, &[0], rb])
}

/// A name: its length without the NUL, then the string.
fn put_name(message: &mut MessageWriter, name: &str) {
    message
        .int(i64::try_from(name.len()).unwrap_or(i64::MAX))
        .str(name);
}

fn take_name<'a>(reader: &mut MessageReader<'a>) -> Result<&'a [u8], WireError> {
    let length = reader.int()?;
    let name = reader.str_bytes()?;
    if name.len() > MAX_NAME || usize::try_from(length) != Ok(name.len()) {
        return Err(WireError::BadLength { length, at: 0 });
    }
    Ok(name)
}

/// Bytes behind their length.
fn put_bytes(message: &mut MessageWriter, bytes: &[u8]) {
    message
        .int(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
        .bytes(bytes);
}

fn take_bytes<'a>(reader: &mut MessageReader<'a>) -> Result<&'a [u8], WireError> {
    let length = reader.int()?;
    match usize::try_from(length) {
        Ok(size) if size <= CHALLENGE => reader.bytes(size),
        _ => Err(WireError::BadLength { length, at: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::token::Token;

    #[test]
    fn keys_and_proofs_are_the_recorded_ones() {
        let text = include_str!("../../../tests/vectors/01_derivations.json");
        let table: serde_json::Value = serde_json::from_str(text).unwrap();
        let row = &table["idtoken_akep2"];
        let text = |name: &str| row[name].as_str().unwrap();
        let hex = |name: &str| -> Vec<u8> {
            let text = text(name);
            let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            (0..text.len()).step_by(2).map(byte).collect()
        };
        let token = Token::parse(text("token")).unwrap();
        assert_eq!(token.signature().expose(), hex("signature"));
        let ka = derive_ka(&hex("signature"), token.signed_part()).unwrap();
        assert_eq!(ka.expose(), hex("ka"));
        let salt = [&seeds::KB[..], token.signed_part().as_bytes()].concat();
        let kb = crypto::derive_secret(&hex("signature"), &salt, b"master kb").unwrap();
        assert_eq!(kb.expose(), hex("kb"));
        let (a, b) = (text("name_a").as_bytes(), text("name_b").as_bytes());
        let hkt = server_proof(&ka, a, b, &hex("ra"), &hex("rb")).unwrap();
        assert_eq!(hkt, hex("hkt"));
        assert_eq!(client_proof(&ka, a, &hex("rb")).unwrap(), hex("hk"));
    }
    #[test]
    fn the_keys_of_the_pool_password_are_the_recorded_ones() {
        let text = include_str!("../../../tests/vectors/01_derivations.json");
        let table: serde_json::Value = serde_json::from_str(text).unwrap();
        let row = &table["password_akep2"];
        let text = |name: &str| row[name].as_str().unwrap();
        let hex = |name: &str| -> Vec<u8> {
            let text = text(name);
            let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            (0..text.len()).step_by(2).map(byte).collect()
        };
        let password = PoolPassword::new(text("password")).unwrap();
        assert_eq!(password.shared().expose(), hex("shared_key"));
        let ka = password_ka(&password).unwrap();
        assert_eq!(ka.expose(), hex("ka"));
        let (a, b) = (text("name_a").as_bytes(), text("name_b").as_bytes());
        let hkt = server_proof(&ka, a, b, &hex("ra"), &hex("rb")).unwrap();
        assert_eq!(hkt, hex("hkt"));
        assert_eq!(client_proof(&ka, a, &hex("rb")).unwrap(), hex("hk"));
    }
}
