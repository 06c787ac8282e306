//! Tokens and key sets, right ones and every kind of wrong one.

use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;
use openssl::sign::Signer;

/// Base64url without padding.
pub fn b64(bytes: &[u8]) -> String {
    openssl::base64::encode_block(bytes)
        .replace('\n', "")
        .replace('+', "-")
        .replace('/', "_")
        .replace('=', "")
}

/// The 64 bytes of an ES256 signature, or an RS256 one.
pub fn signature(key: &PKey<Private>, signed: &[u8]) -> Vec<u8> {
    match key.ec_key() {
        Ok(key) => {
            let signature = EcdsaSig::sign(&sha256(signed), &key).unwrap();
            let mut out = signature.r().to_vec_padded(32).unwrap();
            out.extend(signature.s().to_vec_padded(32).unwrap());
            out
        }
        Err(_) => {
            let mut signer = Signer::new(MessageDigest::sha256(), key).unwrap();
            signer.sign_oneshot_to_vec(signed).unwrap()
        }
    }
}

/// A token of this header and these claims.
pub fn token(key: &PKey<Private>, header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", b64(header.as_bytes()), b64(claims.as_bytes()));
    format!("{signed}.{}", b64(&signature(key, signed.as_bytes())))
}

/// A member of a key set.
pub fn jwk(key: &PKey<Private>, id: &str, more: &str) -> String {
    match key.ec_key() {
        Ok(ec) => {
            let mut context = openssl::bn::BigNumContext::new().unwrap();
            let (mut x, mut y) = (
                openssl::bn::BigNum::new().unwrap(),
                openssl::bn::BigNum::new().unwrap(),
            );
            ec.public_key()
                .affine_coordinates(ec.group(), &mut x, &mut y, &mut context)
                .unwrap();
            format!(
                r#"{{"kty":"EC","crv":"P-256","kid":"{id}","x":"{}","y":"{}"{more}}}"#,
                b64(&x.to_vec_padded(32).unwrap()),
                b64(&y.to_vec_padded(32).unwrap())
            )
        }
        Err(_) => {
            let rsa = key.rsa().unwrap();
            format!(
                r#"{{"kty":"RSA","kid":"{id}","n":"{}","e":"{}"{more}}}"#,
                b64(&rsa.n().to_vec()),
                b64(&rsa.e().to_vec())
            )
        }
    }
}

/// A key set.
pub fn jwks(keys: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}
