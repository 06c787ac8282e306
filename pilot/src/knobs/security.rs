//! `SEC_*`: what the pilot asks for as a client, and what it can prove itself with.
//!
//! HTCondor looks a setting up as `SEC_CLIENT_*` and then `SEC_DEFAULT_*` (each with the prefix `STARTD.` first). The
//! server's levels (`SEC_READ_*`, `SEC_DAEMON_*`, ...) and access lists are read where the configuration opens the
//! command port to others than the holders of claims.

use std::path::PathBuf;

use cedar::net::{Credentials, FsAuthentication};
use cedar::security::policy::{Feature, PolicyError, SecurityPolicy, Wish};
use cedar::security::{AuthMethod, Authorities, SciTokenSource, SslClientFiles};

use pool::security::{Place, Security};

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
pub(super) fn credentials(
    reader: &mut Reader<'_>,
    policy: &mut SecurityPolicy,
    detected: &Detected,
) -> Credentials {
    let ssl = ssl(reader, detected);
    if ssl.certificate.is_none() && policy.methods.contains(&AuthMethod::Ssl) {
        // Nobody in particular may not advertise, and a server may like SSL better than a token.
        policy.methods.retain(|method| *method != AuthMethod::Ssl);
        let name = reader.name_of("SEC_CLIENT_AUTHENTICATION_METHODS");
        if policy.methods.is_empty() {
            reader.fail(name, Problem::NoCertificate);
        } else {
            reader.warnings.push(format!(
                "{name}: SSL is passed over, because AUTH_SSL_CLIENT_CERTFILE names no certificate"
            ));
        }
    }
    let has = |method| policy.methods.contains(&method);
    let scitoken = match reader.path("SCITOKENS_FILE") {
        Some(path) => SciTokenSource::file(path),
        None => SciTokenSource::discovery(|name| detected.variable(name), detected.uid),
    };
    Credentials {
        token_directories: token_directories(reader, detected),
        fs: if has(AuthMethod::Fs) {
            FsAuthentication::On
        } else {
            FsAuthentication::Off
        },
        claim_to_be: has(AuthMethod::ClaimToBe).then(|| detected.user_name.clone()),
        // Without SSL as a method the authorities still serve SCITOKENS and requests for tokens.
        ssl: Some(ssl),
        scitoken: has(AuthMethod::SciTokens).then_some(scitoken),
        ..Credentials::default()
    }
}

/// Certificate, key and authorities, as HTCondor finds them
/// (`htcondor:src/condor_io/condor_auth_ssl.cpp`, `setup_ssl_ctx`).
fn ssl(reader: &mut Reader<'_>, detected: &Detected) -> SslClientFiles {
    let authorities = Authorities {
        file: present(paths(reader, "AUTH_SSL_CLIENT_CAFILE")),
        directory: reader.path("AUTH_SSL_CLIENT_CADIR"),
        system: reader.choice("AUTH_SSL_CLIENT_USE_DEFAULT_CAS") != Some("false"),
    };
    let known_hosts = known_hosts(reader, detected);
    let certificates = paths(reader, "AUTH_SSL_CLIENT_CERTFILE");
    let keys = paths(reader, "AUTH_SSL_CLIENT_KEYFILE");
    if certificates.is_empty() && !keys.is_empty() {
        reader.fail("AUTH_SSL_CLIENT_KEYFILE", Problem::KeyWithoutCertificate);
    }
    if !keys.is_empty() && !certificates.is_empty() && keys.len() != certificates.len() {
        reader.fail(
            "AUTH_SSL_CLIENT_KEYFILE",
            Problem::KeysAndCertificates {
                keys: keys.len(),
                certificates: certificates.len(),
            },
        );
    }
    let by_variable = reader.choice("AUTH_SSL_USE_CLIENT_PROXY_ENV_VAR") == Some("true");
    if let Some(proxy) = detected.variable("X509_USER_PROXY").filter(|_| by_variable) {
        return SslClientFiles {
            authorities,
            certificate: Some(PathBuf::from(proxy)),
            key: None,
            known_hosts,
        };
    }
    let at = certificates
        .iter()
        .position(|path| path.exists())
        .unwrap_or(0);
    SslClientFiles {
        authorities,
        certificate: certificates.get(at).cloned(),
        key: keys.get(at).cloned(),
        known_hosts,
    }
}

/// Where collectors that no authority vouches for are known from. To believe the first one that answers, as
/// `BOOTSTRAP_SSL_SERVER_TRUST` asks for, would be to believe anybody: a pilot starts on another machine each time.
fn known_hosts(reader: &mut Reader<'_>, detected: &Detected) -> Vec<PathBuf> {
    let wants_any = reader.config.optional_bool("BOOTSTRAP_SSL_SERVER_TRUST");
    if wants_any.is_ok_and(|wants| wants == Some(true)) {
        reader.warnings.push(
            "BOOTSTRAP_SSL_SERVER_TRUST: a pilot does not trust a collector because it was the first to answer; put its \
             authority into AUTH_SSL_CLIENT_CAFILE, or its line of known_hosts into the file SEC_SYSTEM_KNOWN_HOSTS"
                .to_owned(),
        );
    }
    let own = detected
        .home
        .as_ref()
        .map(|home| home.join(".condor/known_hosts"));
    let system = reader.path("SEC_SYSTEM_KNOWN_HOSTS");
    system.into_iter().chain(own).collect()
}

/// Knobs of which each opens the command port to peers that have no claim.
const OPENERS: [&str; 7] = [
    "AUTH_SSL_SERVER_CERTFILE",
    "ALLOW_READ",
    "ALLOW_READ_STARTD",
    "ALLOW_DAEMON",
    "ALLOW_DAEMON_STARTD",
    "ALLOW_ADMINISTRATOR",
    "ALLOW_ADMINISTRATOR_STARTD",
];

/// Who may speak with the command port without a claim; `None`: nobody. A mistake keeps them out and no more: the
/// pilot does its work without them.
pub(super) fn port(reader: &mut Reader<'_>) -> Option<Security> {
    let config = reader.config;
    let is_set = |name: &&str| {
        config
            .get(name)
            .is_ok_and(|value| value.is_some_and(|value| !value.is_empty()))
    };
    let opener = OPENERS.iter().find(|name| is_set(name))?;
    match Security::load(config, &Place::here()) {
        Ok(security) => {
            reader.warnings.extend(security.warnings().iter().cloned());
            if let Err(error) = security.read_keys() {
                reader.warnings.push(format!(
                    "the command port takes no tokens, because their keys cannot be read: {error}"
                ));
            }
            Some(security)
        }
        Err(errors) => {
            let why = errors.to_string().replace('\n', "; ");
            reader.warnings.push(format!(
                "{opener}: the command port is open to holders of claims only, because of a mistake: {why}"
            ));
            None
        }
    }
}

/// The first path that is there; if none is, the first, for a message that names it.
fn present(paths: Vec<PathBuf>) -> Option<PathBuf> {
    let there = paths.iter().find(|path| path.exists()).cloned();
    there.or_else(|| paths.into_iter().next())
}

/// A list of absolute paths.
fn paths(reader: &mut Reader<'_>, name: &str) -> Vec<PathBuf> {
    let (name, words) = reader.list(name);
    let mut paths = Vec::new();
    for text in words {
        if text.starts_with('/') {
            paths.push(PathBuf::from(text));
        } else {
            reader.fail(name, Problem::NotAbsolute { text });
        }
    }
    paths
}

/// What a pilot without a token asks a collector for; `None`: it does not ask.
pub(super) fn token_request(reader: &mut Reader<'_>, policy: &SecurityPolicy) -> Option<String> {
    let identity = reader.text("SAILPLANE_TOKEN_REQUEST_IDENTITY");
    let wanted = reader.choice("SAILPLANE_TOKEN_REQUEST") != Some("false");
    let identity = identity.unwrap_or_default();
    if !is_identity(&identity) {
        let text = identity.clone();
        reader.fail(
            "SAILPLANE_TOKEN_REQUEST_IDENTITY",
            Problem::Identity { text },
        );
    }
    (wanted && policy.methods.contains(&AuthMethod::Token)).then_some(identity)
}

/// `NAME` or `NAME@DOMAIN`.
fn is_identity(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',')
    };
    match text.split_once('@') {
        Some((name, domain)) => part(name) && part(domain) && !domain.contains('@'),
        None => part(text),
    }
}

/// The token directories, in the order of their search.
fn token_directories(reader: &mut Reader<'_>, detected: &Detected) -> Vec<PathBuf> {
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
            Some(
                method @ (AuthMethod::Token
                | AuthMethod::Ssl
                | AuthMethod::SciTokens
                | AuthMethod::Fs
                | AuthMethod::ClaimToBe),
            ) => {
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
