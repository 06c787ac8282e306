//! Credentials: those that are given, those that a test authority makes, and those that are spoilt on purpose.

use std::fs;
use std::path::Path;

use credential::issue::{Authority, KeyType, ProxyIssuer, ProxyKind, ProxyOptions};
use zeroize::Zeroizing;

use super::expectations::{Expectation, Who};
use super::ground;
use super::options::Options;
use super::results::unix_now;

/// A credential, which is wiped when it is dropped.
pub(super) type Secret = Zeroizing<Vec<u8>>;

/// Seconds that certificates made here are valid.
const LIFETIME: i64 = 3_600;

/// All credentials of the test.
pub(super) struct Wallet {
    authority: Option<Authority>,
    pilot: Option<Secret>,
    now: i64,
}

impl std::fmt::Debug for Wallet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wallet").finish_non_exhaustive()
    }
}

impl Wallet {
    /// Reads the test authority and the pilot's credential, and sees that the files of the expectations can be read.
    ///
    /// # Errors
    /// One sentence that names the file.
    pub(super) fn open(options: &Options, expectations: &[Expectation]) -> Result<Self, String> {
        let authority = match (&options.test_ca, &options.test_ca_key) {
            (Some(certificate), Some(key)) => {
                let made = Authority::from_pem(&read(certificate)?, &read(key)?, KeyType::P256);
                Some(made.map_err(|error| format!("--test-ca {}: {error}", certificate.display()))?)
            }
            _ => None,
        };
        for expectation in expectations {
            if let Who::File(path) = &expectation.who {
                read(path)?;
            }
        }
        Ok(Self {
            authority,
            pilot: options.pilot_credential.as_deref().map(read).transpose()?,
            now: unix_now(),
        })
    }

    /// The pilot's own.
    pub(super) fn pilot(&self) -> Option<&Secret> {
        self.pilot.as_ref()
    }

    /// Somebody's credential, or why there is none.
    pub(super) fn of(&self, who: &Who) -> Result<Secret, String> {
        match who {
            Who::File(path) => read(path),
            Who::Named { dn, fqans } if fqans.is_empty() => match &self.authority {
                Some(authority) => make(authority, dn, self.now).map_err(|why| format!("no credential can be made for {dn}: {why}")),
                None => Err("there is no credential of this name: give one with `file`, or a test authority with --test-ca".to_owned()),
            },
            Who::Named { .. } => Err("attributes are signed by a VO's server: give a credential that has them with `file`".to_owned()),
        }
    }

    /// One of this name by an authority that no node trusts.
    pub(super) fn foreign(&self, name: &str) -> Result<Secret, String> {
        let authority = Authority::new(
            "/O=sailplane-site-test/CN=Unknown Authority",
            KeyType::P256,
            self.now,
            LIFETIME,
        )
        .map_err(|error| error.to_string())?;
        make(&authority, name, self.now)
    }

    /// One that has expired, made of a valid one.
    pub(super) fn expired(&self, valid: &Secret) -> Result<Secret, String> {
        let issuer = ProxyIssuer::from_pem(valid).map_err(|error| error.to_string())?;
        let long_ago = self.now - 400;
        proxy(&issuer, long_ago, Some(1))
    }
}

/// The same with one bit of its first signature turned.
pub(super) fn tampered(valid: &Secret) -> Result<Secret, String> {
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let end = find(valid, END).ok_or("it holds no certificate")?;
    let mut spoilt = valid.clone();
    // The signature is the last part of a certificate; the last letters of its text may be padding.
    let mut letters = (0..end)
        .rev()
        .filter(|at| valid.get(*at).is_some_and(u8::is_ascii_alphanumeric));
    let place = letters.nth(12).ok_or("its certificate is empty")?;
    if let Some(letter) = spoilt.get_mut(place) {
        *letter = if *letter == b'A' { b'B' } else { b'A' };
    }
    Ok(spoilt)
}

/// The same without its private key.
pub(super) fn without_key(valid: &Secret) -> Result<Secret, String> {
    let text = std::str::from_utf8(valid).map_err(|_| "it is no text")?;
    let mut kept = Zeroizing::new(Vec::with_capacity(valid.len()));
    let mut inside = false;
    let mut had_key = false;
    for line in text.lines() {
        if line.starts_with("-----BEGIN") && line.contains("PRIVATE KEY") {
            (inside, had_key) = (true, true);
        }
        if !inside {
            kept.extend_from_slice(line.as_bytes());
            kept.push(b'\n');
        }
        if line.starts_with("-----END") {
            inside = false;
        }
    }
    if had_key {
        Ok(kept)
    } else {
        Err("it has no private key".to_owned())
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn make(authority: &Authority, name: &str, now: i64) -> Result<Secret, String> {
    let user = authority
        .user(name, now, LIFETIME)
        .map_err(|error| error.to_string())?;
    let issuer = user.issuer().map_err(|error| error.to_string())?;
    proxy(&issuer, now, None)
}

fn proxy(issuer: &ProxyIssuer, now: i64, lifetime: Option<i64>) -> Result<Secret, String> {
    let options = ProxyOptions {
        now,
        lifetime,
        kind: ProxyKind::Inherit,
    };
    let made = issuer
        .proxy(KeyType::P256, &options)
        .map_err(|error| error.to_string())?;
    Ok(Zeroizing::new(made.as_bytes().to_vec()))
}

/// A file, at most as long as the helper takes.
fn read(path: &Path) -> Result<Secret, String> {
    let text = fs::read(path)
        .map_err(|error| format!("cannot read {}: {}", path.display(), ground::words(&error)))?;
    Ok(Zeroizing::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spoilt_credentials_differ_where_they_should() {
        let authority = Authority::new("/O=x/CN=CA", KeyType::P256, 1_772_357_400, 3_600).unwrap();
        let valid = make(&authority, "/O=x/CN=Alice", 1_772_357_400).unwrap();
        let spoilt = tampered(&valid).unwrap();
        assert_eq!(spoilt.len(), valid.len());
        assert_eq!(
            spoilt
                .iter()
                .zip(valid.iter())
                .filter(|(a, b)| a != b)
                .count(),
            1
        );
        credential::inspect_bundle(&spoilt).expect("still a certificate");
        let bare = without_key(&valid).unwrap();
        assert!(!credential::inspect_bundle(&bare).unwrap().has_key);
        assert!(without_key(&bare).is_err());
        let wallet = Wallet {
            authority: None,
            pilot: None,
            now: 1_772_357_400,
        };
        let expired = wallet.expired(&valid).unwrap();
        assert!(
            credential::inspect_bundle(&expired).unwrap().certificates[0].not_after < 1_772_357_400
        );
    }
}
