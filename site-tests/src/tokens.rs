//! An issuer of SciTokens whose keys the helper has, as a site that takes tokens would configure it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::process;

/// `iss` of its tokens.
pub const ISSUER: &str = "https://tokens.sailplane.test";
/// What the site is called in tokens.
pub const AUDIENCE: &str = "https://ce.sailplane.test";
/// The subject that the site knows, and the account that it has.
pub const SUBJECT: &str = "6f3a-jane";
/// Account of [`SUBJECT`].
pub const ACCOUNT: &str = "sailplane-jane";

/// The issuer.
#[derive(Debug, Clone)]
pub struct TokenIssuer {
    folder: PathBuf,
}

/// What a token says, where tests differ.
#[derive(Debug, Clone, Copy)]
pub struct Claims<'a> {
    /// `iss`.
    pub issuer: &'a str,
    /// `sub`.
    pub subject: &'a str,
    /// `aud`.
    pub audience: &'a str,
    /// Seconds until `exp`; it was issued two minutes ago.
    pub seconds: i64,
}

impl Default for Claims<'_> {
    fn default() -> Self {
        Self {
            issuer: ISSUER,
            subject: SUBJECT,
            audience: AUDIENCE,
            seconds: 3_600,
        }
    }
}

impl TokenIssuer {
    /// Makes key, key set and map in a folder of root's, once.
    pub(crate) fn at(folder: &Path) -> Result<Self> {
        let issuer = Self {
            folder: folder.to_owned(),
        };
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        process::ensure_user(ACCOUNT)?;
        let key = issuer.path("key.pem");
        if !key.exists() {
            let new = issuer.path("key.new");
            process::output(Command::new("openssl").args(["genrsa", "-out"]).arg(&new))?;
            fs::set_permissions(&new, Permissions::from_mode(0o600))?;
            fs::rename(new, &key)?;
        }
        let modulus = process::output(
            Command::new("openssl")
                .args(["rsa", "-noout", "-modulus", "-in"])
                .arg(&key),
        )?;
        let hex = modulus.trim().trim_start_matches("Modulus=");
        let bytes: Vec<u8> = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
            .collect::<Result<_>>()?;
        let modulus = URL_SAFE_NO_PAD.encode(bytes);
        let keys = format!(
            r#"{{"keys":[{{"kty":"RSA","alg":"RS256","use":"sig","kid":"k1","n":"{modulus}","e":"AQAB"}}]}}"#
        );
        for (name, text) in [
            ("keys.jwks", keys),
            ("tokenmap", format!("\"{ISSUER},{SUBJECT}\" {ACCOUNT}\n")),
        ] {
            fs::write(issuer.path(name), text)?;
            fs::set_permissions(issuer.path(name), Permissions::from_mode(0o644))?;
        }
        Ok(issuer)
    }

    /// Lines of the section `[switch]` by which the helper takes its tokens.
    pub(crate) fn settings(&self) -> String {
        format!(
            "token_issuers = {ISSUER}={}\ntoken_audience = {AUDIENCE}\ntokenmap = {}\n",
            self.path("keys.jwks").display(),
            self.path("tokenmap").display()
        )
    }

    /// A signed token.
    ///
    /// # Errors
    /// When `openssl` fails.
    pub fn token(&self, claims: Claims<'_>) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let now = i64::try_from(now)?;
        let payload = format!(
            r#"{{"iss":"{}","sub":"{}","aud":"{}","iat":{},"exp":{},"ver":"scitoken:2.0","scope":"compute.create"}}"#,
            claims.issuer,
            claims.subject,
            claims.audience,
            now - 120,
            now + claims.seconds
        );
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"k1","typ":"JWT"}"#),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let work = tempfile::tempdir()?;
        let (text, signature) = (work.path().join("text"), work.path().join("signature"));
        fs::write(&text, &signed)?;
        process::output(
            Command::new("openssl")
                .args(["dgst", "-sha256", "-sign"])
                .arg(self.path("key.pem"))
                .arg("-out")
                .arg(&signature)
                .arg(&text),
        )?;
        let signature = fs::read(signature).context("read the signature")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
