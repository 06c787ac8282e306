//! `SEC_*`: what the pilot asks for as a client, and what it can prove itself with.
//!
//! HTCondor looks a setting up as `SEC_CLIENT_*` and then `SEC_DEFAULT_*` (each with the prefix `STARTD.` first). The
//! server's levels (`SEC_READ_*`, `SEC_DAEMON_*`, ...) are not read: the pilot's command port takes part only in
//! sessions of claims it gave out itself.

use std::path::PathBuf;

use cedar::net::{Credentials, FsAuthentication};
use cedar::security::AuthMethod;
use cedar::security::policy::{Feature, PolicyError, SecurityPolicy, Wish};

use super::detected::Detected;
use super::error::Problem;
use super::reader::Reader;

/// The client's policy. A policy that contradicts itself is a mistake.
pub(super) fn client_policy(reader: &mut Reader<'_>) -> SecurityPolicy {
    let policy = SecurityPolicy {
        negotiation: wish(reader, "SEC_CLIENT_NEGOTIATION"),
        authentication: wish(reader, "SEC_CLIENT_AUTHENTICATION"),
        encryption: wish(reader, "SEC_CLIENT_ENCRYPTION"),
        integrity: wish(reader, "SEC_CLIENT_INTEGRITY"),
        methods: methods(reader),
        session_duration: reader.integer("SEC_CLIENT_SESSION_DURATION").unwrap_or(0),
        session_lease: reader.integer("SEC_CLIENT_SESSION_LEASE").unwrap_or(0),
    };
    ciphers(reader);
    if let Err(error) = policy.tightened() {
        let knob = match error {
            PolicyError::Contradiction { strong, .. } => knob_of(strong),
            _ => "SEC_CLIENT_NEGOTIATION",
        };
        let name = reader.name_of(knob);
        reader.fail(name, Problem::Policy(error));
    }
    policy
}

/// What the methods need. `CLAIMTOBE` claims the pilot's own account name.
pub(super) fn credentials(policy: &SecurityPolicy, detected: &Detected) -> Credentials {
    let has = |method| policy.methods.contains(&method);
    Credentials {
        fs: if has(AuthMethod::Fs) {
            FsAuthentication::On
        } else {
            FsAuthentication::Off
        },
        claim_to_be: has(AuthMethod::ClaimToBe).then(|| detected.user_name.clone()),
        ..Credentials::default()
    }
}

/// The token directories, in the order of their search.
pub(super) fn token_directories(reader: &mut Reader<'_>, detected: &Detected) -> Vec<PathBuf> {
    let own = reader.path("SEC_TOKEN_DIRECTORY").or_else(|| {
        let home = detected.home.as_ref().filter(|_| !detected.is_root)?;
        Some(home.join(".condor/tokens.d"))
    });
    let mut directories: Vec<PathBuf> = own.into_iter().collect();
    directories.extend(reader.path("SEC_TOKEN_SYSTEM_DIRECTORY"));
    directories
}

fn knob_of(feature: Feature) -> &'static str {
    match feature {
        Feature::Negotiation => "SEC_CLIENT_NEGOTIATION",
        Feature::Authentication => "SEC_CLIENT_AUTHENTICATION",
        Feature::Encryption => "SEC_CLIENT_ENCRYPTION",
        Feature::Integrity => "SEC_CLIENT_INTEGRITY",
    }
}

fn wish(reader: &mut Reader<'_>, name: &str) -> Wish {
    let (name, words) = reader.list(name);
    let text = words.join(" ");
    Wish::from_text(&text)
        .filter(|_| is_wish(&text))
        .unwrap_or_else(|| {
            reader.fail(name, Problem::Wish { text });
            Wish::Required
        })
}

/// HTCondor looks at the first letter only; a word that merely begins like one is more likely a mistake.
fn is_wish(text: &str) -> bool {
    const WORDS: [&str; 8] = [
        "REQUIRED",
        "PREFERRED",
        "OPTIONAL",
        "NEVER",
        "YES",
        "NO",
        "TRUE",
        "FALSE",
    ];
    WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

fn methods(reader: &mut Reader<'_>) -> Vec<AuthMethod> {
    let (name, words) = reader.list("SEC_CLIENT_AUTHENTICATION_METHODS");
    let mut methods = Vec::new();
    for word in &words {
        match AuthMethod::from_name(word) {
            Some(method @ (AuthMethod::Token | AuthMethod::Fs | AuthMethod::ClaimToBe)) => {
                if !methods.contains(&method) {
                    methods.push(method);
                }
            }
            Some(_) => reader.warnings.push(format!(
                "{name}: the pilot does not have {word}; it is passed over"
            )),
            None => reader.fail(name, Problem::Method { text: word.clone() }),
        }
    }
    if methods.is_empty() {
        reader.fail(
            name,
            Problem::NoMethod {
                text: words.join(", "),
            },
        );
    }
    methods
}

fn ciphers(reader: &mut Reader<'_>) {
    let (name, words) = reader.list("SEC_CLIENT_CRYPTO_METHODS");
    if !words.iter().any(|word| word.eq_ignore_ascii_case("AES")) {
        reader.fail(
            name,
            Problem::NoCipher {
                text: words.join(", "),
            },
        );
    }
}
