//! The words of the command line: the CA directory, then `name=value`.
//!
//! | word | meaning | default |
//! | --- | --- | --- |
//! | `vomsdir=DIR` | VOMS servers; without it attributes are not looked at | none |
//! | `host=NAME` | this host, for attribute certificates that name their targets | the kernel's name of it |
//! | `maximum-ac-lifetime=SECONDS` | longest validity of an attribute certificate | none |
//! | `require-crl=yes\|no` | refuse a CA without revocation list | no |
//! | `allow-missing-namespace=yes\|no` | accept a CA without signing policy and namespaces | no |
//! | `accept-gt3=yes\|no`, `accept-legacy=yes\|no` | older kinds of proxies | no |
//! | `accept-plain-users=yes\|no` | user certificates of version 1 | yes |
//! | `allow-sha1=yes\|no` | SHA-1 signatures | no |
//! | `limited-proxy=allow\|deny\|require` | | allow |
//! | `minimum-rsa-bits=N`, `minimum-proxy-rsa-bits=N` | smallest RSA keys | 2048, 1024 |
//! | `minimum-left=SECONDS` | validity that must be left | 0 |
//! | `maximum-proxy-lifetime=SECONDS` | once for each level below the user, the last holds for deeper ones | none |
//! | `maximum-leaf-lifetime=SECONDS` | for the first certificate | none |
//! | `issuer=URL` then `jwks=FILE` | an issuer of tokens and its keys | none |
//! | `audience=NAME` | a name of this site in tokens; may be repeated | none |
//! | `scope=NAME` | what a token must allow; may be repeated | `compute.create` |
//! | `maximum-token-lifetime=SECONDS` | longest validity of a token | 86400 |

use std::ffi::OsString;
use std::path::PathBuf;

use credential::{LimitedProxies, TokenIssuer, TokenOptions, VerifyOptions};

/// What is trusted and what is accepted.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) certdir: PathBuf,
    pub(crate) vomsdir: Option<PathBuf>,
    pub(crate) host: Option<String>,
    pub(crate) maximum_ac_lifetime: Option<i64>,
    /// For proxies; the time is filled in later.
    pub(crate) rules: VerifyOptions,
    pub(crate) tokens: TokenOptions,
}

/// The words of the command line make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// No CA directory.
    #[error(
        "usage: sailplane-verify CERTDIR [NAME=VALUE...], with the credential on standard input"
    )]
    Usage,
    /// A word that is not `name=value` with a known name.
    #[error("sailplane-verify does not know the word '{0}'")]
    Unknown(String),
    /// A value that the name cannot have.
    #[error("the word '{0}' has a value that is not understood")]
    Value(String),
    /// `issuer=` without `jwks=`, or the other way round.
    #[error("'{0}' needs its other half: issuer=URL and then jwks=FILE")]
    Half(String),
}

impl Options {
    /// Reads the words behind the name of the program.
    ///
    /// # Errors
    /// The first word that cannot be used.
    pub(crate) fn from_words(words: &[OsString]) -> Result<Self, OptionsError> {
        let [certdir, words @ ..] = words else {
            return Err(OptionsError::Usage);
        };
        if certdir.is_empty() {
            return Err(OptionsError::Usage);
        }
        let mut options = Self {
            certdir: certdir.into(),
            vomsdir: None,
            host: None,
            maximum_ac_lifetime: None,
            rules: VerifyOptions::at(0),
            tokens: TokenOptions::new(Vec::new(), Vec::new()),
        };
        let mut issuer: Option<String> = None;
        let mut scopes = Vec::new();
        for word in words {
            let shown = || word.to_string_lossy().into_owned();
            let (name, value) = word
                .to_str()
                .and_then(|word| word.split_once('='))
                .ok_or_else(|| OptionsError::Unknown(shown()))?;
            if value.is_empty() {
                return Err(OptionsError::Value(shown()));
            }
            match (name, &issuer) {
                ("jwks", Some(url)) => {
                    options.tokens.issuers.push(TokenIssuer {
                        url: url.clone(),
                        jwks: value.into(),
                    });
                    issuer = None;
                }
                ("jwks", None) | (_, Some(_)) => return Err(OptionsError::Half(shown())),
                ("issuer", None) => issuer = Some(value.to_owned()),
                ("scope", None) => scopes.push(value.to_owned()),
                _ => options.take(name, value).map_err(|wrong| match wrong {
                    Wrong::Name => OptionsError::Unknown(shown()),
                    Wrong::Value => OptionsError::Value(shown()),
                })?,
            }
        }
        if let Some(url) = issuer {
            return Err(OptionsError::Half(format!("issuer={url}")));
        }
        if !scopes.is_empty() {
            options.tokens.scopes = scopes;
        }
        Ok(options)
    }

    /// Fills in what the kernel calls this host where nobody said it.
    pub(crate) fn find_host(&mut self) {
        if self.host.is_none() {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            self.host = Some(name.trim().to_owned()).filter(|name| !name.is_empty());
        }
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), Wrong> {
        let rules = &mut self.rules;
        match name {
            "vomsdir" => self.vomsdir = Some(value.into()),
            "host" => self.host = Some(value.to_owned()),
            "maximum-ac-lifetime" => self.maximum_ac_lifetime = Some(seconds(value)?),
            "require-crl" => rules.require_crl = yes_or_no(value)?,
            "allow-missing-namespace" => rules.allow_missing_namespace = yes_or_no(value)?,
            "accept-gt3" => rules.accept_gt3 = yes_or_no(value)?,
            "accept-legacy" => rules.accept_legacy = yes_or_no(value)?,
            "accept-plain-users" => rules.accept_plain_users = yes_or_no(value)?,
            "allow-sha1" => rules.allow_sha1 = yes_or_no(value)?,
            "limited-proxy" => {
                rules.limited = match value {
                    "allow" => LimitedProxies::Allow,
                    "deny" => LimitedProxies::Deny,
                    "require" => LimitedProxies::Require,
                    _ => return Err(Wrong::Value),
                };
            }
            "minimum-rsa-bits" => rules.minimum_rsa_bits = bits(value)?,
            "minimum-proxy-rsa-bits" => rules.minimum_proxy_rsa_bits = bits(value)?,
            "minimum-left" => rules.minimum_left = seconds(value)?,
            "maximum-proxy-lifetime" => rules.maximum_proxy_lifetimes.push(seconds(value)?),
            "maximum-leaf-lifetime" => rules.maximum_leaf_lifetime = Some(seconds(value)?),
            "audience" => self.tokens.audiences.push(value.to_owned()),
            "maximum-token-lifetime" => self.tokens.maximum_lifetime = seconds(value)?,
            _ => return Err(Wrong::Name),
        }
        Ok(())
    }
}

enum Wrong {
    Name,
    Value,
}

fn yes_or_no(value: &str) -> Result<bool, Wrong> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(Wrong::Value),
    }
}

fn seconds(value: &str) -> Result<i64, Wrong> {
    value
        .parse::<u32>()
        .map(i64::from)
        .map_err(|_| Wrong::Value)
}

/// RSA keys below 1024 bits can be broken by anybody (rule C15).
fn bits(value: &str) -> Result<usize, Wrong> {
    match value.parse() {
        Ok(bits @ 1024..=8192) => Ok(bits),
        _ => Err(Wrong::Value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Options, OptionsError> {
        Options::from_words(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn c12_c17_t3_every_word_reaches_its_rule() {
        let defaults = read(&["/certs"]).unwrap();
        assert_eq!(defaults.rules, VerifyOptions::at(0));
        assert_eq!(defaults.tokens.scopes, ["compute.create"]);
        let options = read(&[
            "/certs",
            "vomsdir=/voms",
            "host=a.example",
            "maximum-ac-lifetime=7",
            "require-crl=yes",
            "allow-missing-namespace=yes",
            "accept-gt3=yes",
            "accept-legacy=yes",
            "accept-plain-users=no",
            "allow-sha1=yes",
            "limited-proxy=require",
            "minimum-rsa-bits=3072",
            "minimum-proxy-rsa-bits=2048",
            "minimum-left=60",
            "maximum-proxy-lifetime=9",
            "maximum-proxy-lifetime=8",
            "maximum-leaf-lifetime=5",
            "issuer=https://a=b",
            "jwks=/keys/a",
            "issuer=https://c",
            "jwks=/keys/c",
            "audience=me",
            "audience=any",
            "scope=x",
            "maximum-token-lifetime=3",
        ])
        .unwrap();
        let rules = &options.rules;
        assert!(rules.require_crl && rules.allow_missing_namespace && rules.accept_gt3);
        assert!(rules.accept_legacy && !rules.accept_plain_users && rules.allow_sha1);
        assert_eq!(rules.limited, LimitedProxies::Require);
        assert_eq!(
            (rules.minimum_rsa_bits, rules.minimum_proxy_rsa_bits),
            (3072, 2048)
        );
        assert_eq!(
            (rules.minimum_left, rules.maximum_leaf_lifetime),
            (60, Some(5))
        );
        assert_eq!(rules.maximum_proxy_lifetimes, [9, 8]);
        assert_eq!(options.maximum_ac_lifetime, Some(7));
        assert_eq!(options.vomsdir, Some("/voms".into()));
        assert_eq!(options.host.as_deref(), Some("a.example"));
        assert_eq!(options.tokens.issuers.len(), 2);
        assert_eq!(options.tokens.issuers[0].url, "https://a=b");
        assert_eq!(options.tokens.audiences, ["me", "any"]);
        assert_eq!(options.tokens.scopes, ["x"]);
        assert_eq!(options.tokens.maximum_lifetime, 3);
    }

    #[test]
    fn a_word_that_is_not_understood_is_an_error_that_names_it() {
        for (words, wrong) in [
            (&[][..], OptionsError::Usage),
            (&[""], OptionsError::Usage),
            (&["/c", "x"], OptionsError::Unknown("x".into())),
            (&["/c", "x=y"], OptionsError::Unknown("x=y".into())),
            (
                &["/c", "require-crl=true"],
                OptionsError::Value("require-crl=true".into()),
            ),
            (&["/c", "vomsdir="], OptionsError::Value("vomsdir=".into())),
            (
                &["/c", "minimum-left=-1"],
                OptionsError::Value("minimum-left=-1".into()),
            ),
            (
                &["/c", "minimum-rsa-bits=512"],
                OptionsError::Value("minimum-rsa-bits=512".into()),
            ),
            (
                &["/c", "limited-proxy=no"],
                OptionsError::Value("limited-proxy=no".into()),
            ),
            (&["/c", "jwks=/k"], OptionsError::Half("jwks=/k".into())),
            (&["/c", "issuer=u"], OptionsError::Half("issuer=u".into())),
            (
                &["/c", "issuer=u", "scope=x"],
                OptionsError::Half("scope=x".into()),
            ),
        ] {
            assert_eq!(read(words).unwrap_err(), wrong);
        }
    }
}
