//! What those who send manifests need: keys, signatures, and the digests of their files put in.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::pkey::{Id, PKey, Private};
use openssl::sign::Signer;
use serde_json::Value;
use thiserror::Error;

use crate::fetch::Digest;

/// Why nothing was signed or filled in.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SignError {
    /// A file.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried: `read`, `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A key.
    #[error("{} holds no Ed25519 private key in PEM; make one with: sailplane manifest key {}", .0.display(), .0.display())]
    Key(PathBuf),
    /// The manifest.
    #[error("{} is no manifest: {why}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The library.
    #[error("OpenSSL cannot do it")]
    OpenSsl(#[from] openssl::error::ErrorStack),
}

/// Makes a private key in a new file that only its owner reads. Returns the word that pins manifests to it.
///
/// # Errors
/// [`SignError`].
pub fn make_key(path: &Path) -> Result<String, SignError> {
    let key = PKey::generate_ed25519()?;
    let pem = key.private_key_to_pem_pkcs8()?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(&pem))
        .map_err(|source| SignError::File {
            what: "write",
            path: path.to_owned(),
            source,
        })?;
    pin_of(&key)
}

/// The word that pins manifests to a private key's owner.
///
/// # Errors
/// [`SignError`].
pub fn pin(path: &Path) -> Result<String, SignError> {
    pin_of(&read_key(path)?)
}

/// Signs a manifest: one line of base64 in `<manifest>.sig`, in the place of an old one.
///
/// # Errors
/// [`SignError`].
pub fn sign(manifest: &Path, key: &Path) -> Result<PathBuf, SignError> {
    let key = read_key(key)?;
    let message = read(manifest)?;
    let signature = Signer::new_without_digest(&key)?.sign_oneshot_to_vec(&message)?;
    let mut path = manifest.as_os_str().to_owned();
    path.push(".sig");
    let path = PathBuf::from(path);
    write(
        &path,
        format!("{}\n", STANDARD.encode(signature)).as_bytes(),
    )?;
    Ok(path)
}

/// Puts digests and sizes of the files that lie beside a manifest into it, where they differ. Returns the names of
/// those that were changed.
///
/// # Errors
/// [`SignError`].
pub fn fill(manifest: &Path) -> Result<Vec<String>, SignError> {
    let bad = |why: String| SignError::Manifest {
        path: manifest.to_owned(),
        why,
    };
    let text = read(manifest)?;
    let mut value: Value = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    let folder = manifest.parent().unwrap_or_else(|| Path::new("."));
    let mut changed = Vec::new();
    let scopes = value
        .get_mut("scopes")
        .and_then(Value::as_array_mut)
        .ok_or_else(|| bad("it has no list `scopes`".to_owned()))?;
    let files = scopes
        .iter_mut()
        .filter_map(|scope| scope.get_mut("files")?.as_array_mut())
        .flatten();
    for file in files {
        let Some(object) = file.as_object_mut() else {
            return Err(bad("a file in it is no object".to_owned()));
        };
        let word = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
        let name = word("name").ok_or_else(|| bad("a file in it has no name".to_owned()))?;
        let place = word("url").unwrap_or_else(|| name.clone());
        if place.contains("://") {
            continue;
        }
        let content = read(&folder.join(&place))?;
        let digest = Value::from(Digest::of(&content).to_string());
        let size = Value::from(content.len());
        if object.get("sha256") != Some(&digest) || object.get("size") != Some(&size) {
            object.insert("sha256".to_owned(), digest);
            object.insert("size".to_owned(), size);
            changed.push(name);
        }
    }
    if !changed.is_empty() {
        let mut text = serde_json::to_vec_pretty(&value).map_err(|error| bad(error.to_string()))?;
        text.push(b'\n');
        write(manifest, &text)?;
    }
    Ok(changed)
}

fn pin_of(key: &PKey<Private>) -> Result<String, SignError> {
    Ok(format!(
        "ed25519={}",
        STANDARD.encode(key.raw_public_key()?)
    ))
}

fn read_key(path: &Path) -> Result<PKey<Private>, SignError> {
    let pem = read(path)?;
    PKey::private_key_from_pem(&pem)
        .ok()
        .filter(|key| key.id() == Id::ED25519)
        .ok_or_else(|| SignError::Key(path.to_owned()))
}

fn read(path: &Path) -> Result<Vec<u8>, SignError> {
    fs::read(path).map_err(|source| SignError::File {
        what: "read",
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, content: &[u8]) -> Result<(), SignError> {
    fs::write(path, content).map_err(|source| SignError::File {
        what: "write",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::super::pin::{Key, signatures};
    use super::*;

    #[test]
    fn what_is_signed_is_believed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.pem");
        let word = make_key(&key).unwrap();
        assert!(make_key(&key).is_err(), "a key is never overwritten");
        assert_eq!(pin(&key).unwrap(), word);
        let manifest = folder.path().join("manifest.json");
        fs::write(&manifest, "{}").unwrap();
        let signature = fs::read(sign(&manifest, &key).unwrap()).unwrap();
        let public = Key::parse(word.strip_prefix("ed25519=").unwrap()).unwrap();
        let [signature] = <[Vec<u8>; 1]>::try_from(signatures(&signature)).unwrap();
        assert!(public.signed(b"{}", &signature));
        assert!(!public.signed(b"{ }", &signature));
        assert!(!public.signed(b"{}", &[0; 64]));
        assert!(!public.signed(b"{}", b""));
    }

    #[test]
    fn the_signatures_of_openssl_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.pem");
        let word = make_key(&key).unwrap();
        let manifest = folder.path().join("manifest.json");
        fs::write(&manifest, "{ }").unwrap();
        let raw = folder.path().join("raw");
        let done = std::process::Command::new("openssl")
            .args(["pkeyutl", "-sign", "-rawin", "-inkey"])
            .arg(&key)
            .arg("-in")
            .arg(&manifest)
            .arg("-out")
            .arg(&raw)
            .status()
            .unwrap();
        assert!(done.success());
        let public = Key::parse(word.strip_prefix("ed25519=").unwrap()).unwrap();
        assert!(public.signed(b"{ }", &signatures(&fs::read(raw).unwrap())[0]));
    }
}
