//! Reading the whole configuration of security.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use cedar::net::{Credentials, FsAuthentication};
use cedar::security::token::SigningKeys;
use cedar::security::{
    AuthMethod, Authorities, Level, SecurityPolicy, SslClientFiles, SslServer, SslServerFiles,
};
use condorconf::{Config, RealFiles};

use super::access::{AccessLists, Machine, Rules, SystemNames};
use super::error::{Problem, SecurityErrors};
use super::keys::KeyFiles;
use super::knobs::Knobs;
use super::mapfile::MapFile;
use super::place::Place;
use super::policy::{self, Available};
use super::requests::{Limits, Requests};
use super::rule::Revocation;
use super::{Inner, KeyError};

/// Longest life of an auto-approval rule, and of a request, in seconds (23.9.6's defaults).
const RULE_LIFE: i64 = 3_600;
const REQUEST_LIFE: i64 = 3_600;

pub(super) fn load(config: &Config, place: &Place) -> Result<Inner, SecurityErrors> {
    let mut knobs = Knobs::new(config);
    let uid_domain = domain(&mut knobs, "UID_DOMAIN", &place.host_name);
    let trust_domain = domain(&mut knobs, "TRUST_DOMAIN", &uid_domain);
    let ssl = ssl_server(&mut knobs);
    let key_files = KeyFiles::load(&mut knobs, place);
    let wants_password = listed_anywhere(config, AuthMethod::Password);
    let password = match wants_password.then(|| key_files.read_password()) {
        None | Some(Ok(None)) => None,
        Some(Ok(Some(password))) => Some(password),
        // A tool of somebody who may not read it does without.
        Some(Err(KeyError::Io { error, .. }))
            if error.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            None
        }
        Some(Err(error)) => {
            knobs.fail_named("SEC_PASSWORD_FILE", Problem::Key(error));
            None
        }
    };
    let available = Available {
        ssl: ssl.is_some(),
        password: password.is_some(),
    };
    let policies = policy::load(&mut knobs, available);
    let machine = Machine {
        addresses: place.addresses.clone(),
        names: Arc::new(SystemNames::default()),
    };
    let defaults = defaults(&place.login, &uid_domain);
    let access = AccessLists::load(&mut knobs, machine, &defaults, Rules::Sound);
    let (map, map_warnings) = map_file(&mut knobs, &uid_domain);
    let revocation = Revocation::load(&mut knobs);
    let max_token_life = knobs
        .integer("SEC_ISSUED_TOKEN_EXPIRATION", -1..=i64::from(i32::MAX))
        .filter(|life| *life > 0);
    let limits = Limits {
        lifetime: knobs
            .integer("SEC_TOKEN_REQUEST_LIFETIME", 1..=i64::from(i32::MAX))
            .unwrap_or(REQUEST_LIFE),
        rule_lifetime: knobs
            .integer(
                "TOKEN_REQUEST_AUTO_APPROVE_MAX_LIFETIME",
                1..=i64::from(i32::MAX),
            )
            .unwrap_or(RULE_LIFE),
        max_token_life,
        bounds: request_bounds(&mut knobs),
    };
    let fs_directory = knobs
        .path("FS_LOCAL_DIR")
        .unwrap_or_else(std::env::temp_dir);
    let mut credentials = credentials(&mut knobs, place, policies.get(&Level::Client));
    credentials.password = password.clone();
    let mut warnings = knobs.finish()?;
    warnings.extend(map_warnings);
    Ok(Inner {
        trust_domain,
        uid_domain,
        policies,
        access: Arc::new(access),
        map: map.map(Arc::new),
        key_files,
        keys: RwLock::new(SigningKeys::new()),
        revocation: Arc::new(revocation),
        password,
        ssl: ssl.map(Arc::new),
        fs_directory,
        credentials,
        max_token_life,
        requests: Mutex::new(Requests::new(limits)),
        now: place.now,
        warnings,
    })
}

/// Policy, credentials and trust domain of a tool.
pub(super) fn client(
    config: &Config,
    place: &Place,
) -> Result<(SecurityPolicy, Credentials, String), SecurityErrors> {
    let mut knobs = Knobs::new(config);
    let uid_domain = domain(&mut knobs, "UID_DOMAIN", &place.host_name);
    let trust_domain = domain(&mut knobs, "TRUST_DOMAIN", &uid_domain);
    let password = if listed_anywhere(config, AuthMethod::Password) {
        KeyFiles::load(&mut knobs, place)
            .read_password()
            .ok()
            .flatten()
    } else {
        None
    };
    let available = Available {
        ssl: true,
        password: password.is_some(),
    };
    let policy = policy::load_client(&mut knobs, available);
    let mut credentials = credentials(&mut knobs, place, Some(&policy));
    credentials.password = password;
    knobs.finish()?;
    Ok((policy, credentials, trust_domain))
}

/// `UID_DOMAIN`.
pub(super) fn uid_domain(config: &Config, place: &Place) -> Result<String, SecurityErrors> {
    let mut knobs = Knobs::new(config);
    let domain = domain(&mut knobs, "UID_DOMAIN", &place.host_name);
    knobs.finish().map(|_| domain)
}

/// What is allowed where nothing is configured: users of this machine and bearers of our tokens may look and submit,
/// root and the account that runs the pool may do the rest, and whoever has a token for it may advertise.
fn defaults(login: &str, uid_domain: &str) -> Vec<(Level, String)> {
    let mut owners = format!("root@{uid_domain}");
    if login != "root" {
        owners.push_str(&format!(", {login}@{uid_domain}"));
    }
    let users = format!("*@{uid_domain}");
    vec![
        (Level::Read, users.clone()),
        (Level::Write, users),
        (Level::Administrator, owners.clone()),
        (Level::Config, owners.clone()),
        (Level::Daemon, owners.clone()),
        (Level::Negotiator, owners.clone()),
        (Level::AdvertiseStartd, owners.clone()),
        (Level::AdvertiseSchedd, owners.clone()),
        (Level::AdvertiseMaster, owners),
        (Level::Client, "*".to_owned()),
    ]
}

/// A domain; tokens cannot name one with blanks or commas.
fn domain(knobs: &mut Knobs<'_>, name: &str, default: &str) -> String {
    let Some(found) = knobs.get(name) else {
        return default.to_owned();
    };
    if found
        .value
        .contains(|c: char| c.is_whitespace() || c == ',' || c == '@')
    {
        let text = found.value.clone();
        knobs.fail(&found, Problem::Domain { text });
    }
    found.value
}

/// True if some level lists the method.
fn listed_anywhere(config: &Config, method: AuthMethod) -> bool {
    config.iter().any(|knob| {
        let name = knob.name.to_ascii_uppercase();
        name.starts_with("SEC_")
            && name.ends_with("_AUTHENTICATION_METHODS")
            && config.list(knob.name).is_ok_and(|list| {
                list.iter()
                    .any(|word| AuthMethod::from_name(word) == Some(method))
            })
    })
}

/// The certificate of the pool: the first pair of the lists of which both files exist, as HTCondor takes it.
fn ssl_server(knobs: &mut Knobs<'_>) -> Option<SslServer> {
    let certificates = knobs.get("AUTH_SSL_SERVER_CERTFILE");
    let keys = knobs.get("AUTH_SSL_SERVER_KEYFILE");
    let allow_proxy = knobs.boolean("AUTH_SSL_ALLOW_CLIENT_PROXY", false);
    let require_client_certificate = knobs.boolean("AUTH_SSL_REQUIRE_CLIENT_CERTIFICATE", false);
    let authorities = authorities(knobs, "SERVER");
    let (certificates, keys) = match (certificates, keys) {
        (None, None) => return None,
        (Some(certificates), Some(keys)) => (certificates, keys),
        (Some(_), None) => {
            let other = "AUTH_SSL_SERVER_CERTFILE";
            knobs.fail_named("AUTH_SSL_SERVER_KEYFILE", Problem::Needed { other });
            return None;
        }
        (None, Some(_)) => {
            let other = "AUTH_SSL_SERVER_KEYFILE";
            knobs.fail_named("AUTH_SSL_SERVER_CERTFILE", Problem::Needed { other });
            return None;
        }
    };
    let pair = certificates
        .items()
        .zip(keys.items())
        .find(|(certificate, key)| readable(certificate) && readable(key));
    let Some((certificate, key)) = pair else {
        // Users' tools read the same configuration, and may not read the key.
        if nothing_hidden(certificates.items().chain(keys.items())) {
            knobs.fail(&certificates, Problem::NoCertificate);
        }
        return None;
    };
    let files = SslServerFiles {
        certificate: PathBuf::from(certificate),
        key: PathBuf::from(key),
        authorities,
        require_client_certificate,
        allow_proxy,
    };
    match SslServer::load(files) {
        Ok(server) => Some(server),
        Err(error) => {
            let mut text = error.to_string();
            if let Some(cause) = std::error::Error::source(&error) {
                text = format!("{text}: {cause}");
            }
            knobs.fail(&certificates, Problem::Ssl { text });
            None
        }
    }
}

fn readable(path: &str) -> bool {
    std::fs::File::open(path).is_ok()
}

/// True unless one of the files exists and we may not read it.
fn nothing_hidden<'a>(mut paths: impl Iterator<Item = &'a str>) -> bool {
    paths.all(|path| match std::fs::File::open(path) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::PermissionDenied,
    })
}

fn authorities(knobs: &mut Knobs<'_>, side: &str) -> Authorities {
    Authorities {
        file: knobs.path(&format!("AUTH_SSL_{side}_CAFILE")),
        directory: knobs.path(&format!("AUTH_SSL_{side}_CADIR")),
        system: knobs.boolean(&format!("AUTH_SSL_{side}_USE_DEFAULT_CAS"), true),
    }
}

fn map_file(knobs: &mut Knobs<'_>, uid_domain: &str) -> (Option<MapFile>, Vec<String>) {
    let hash_keys = knobs.boolean("CERTIFICATE_MAPFILE_ASSUME_HASH_KEYS", false);
    let Some(found) = knobs.get("CERTIFICATE_MAPFILE") else {
        return (None, Vec::new());
    };
    match MapFile::read(&RealFiles::new(), &found.value, hash_keys, uid_domain) {
        Ok(reading) => (Some(reading.map), reading.warnings),
        Err(errors) => {
            for error in errors.0 {
                knobs.fail(&found, Problem::Map(error));
            }
            (None, Vec::new())
        }
    }
}

/// `SEC_TOKEN_REQUEST_LIMITS`: the levels that may be requested; `None`: all.
fn request_bounds(knobs: &mut Knobs<'_>) -> Option<Vec<Level>> {
    let found = knobs.get("SEC_TOKEN_REQUEST_LIMITS")?;
    let mut levels = Vec::new();
    for word in found.items() {
        match Level::from_name(word) {
            Some(level) => levels.push(level),
            None => {
                let text = word.to_owned();
                knobs.fail(&found, Problem::Level { text });
            }
        }
    }
    Some(levels)
}

/// What we prove ourselves with to others.
fn credentials(
    knobs: &mut Knobs<'_>,
    place: &Place,
    policy: Option<&SecurityPolicy>,
) -> Credentials {
    let has = |method| policy.is_some_and(|policy| policy.methods.contains(&method));
    let certificate = knobs.path("AUTH_SSL_CLIENT_CERTFILE");
    let key = knobs.path("AUTH_SSL_CLIENT_KEYFILE");
    let ssl = SslClientFiles {
        authorities: authorities(knobs, "CLIENT"),
        certificate,
        key,
        ..SslClientFiles::default()
    };
    Credentials {
        token_directories: token_directories(knobs, place),
        fs: if has(AuthMethod::Fs) {
            FsAuthentication::On
        } else {
            FsAuthentication::Off
        },
        claim_to_be: has(AuthMethod::ClaimToBe).then(|| place.login.clone()),
        ssl: has(AuthMethod::Ssl).then_some(ssl),
        ..Credentials::default()
    }
}

/// The token directories, in the order of their search; the first is where new tokens are written.
fn token_directories(knobs: &mut Knobs<'_>, place: &Place) -> Vec<PathBuf> {
    let home = place.home.as_deref();
    let own = knobs
        .path("SEC_TOKEN_DIRECTORY")
        .or_else(|| home.map(|home| home.join(".condor/tokens.d")));
    let system = knobs.path("SEC_TOKEN_SYSTEM_DIRECTORY").or_else(|| {
        let place = Path::new("/etc/condor/tokens.d");
        place.is_dir().then(|| place.to_owned())
    });
    let mut directories: Vec<PathBuf> = own.into_iter().collect();
    directories.extend(system);
    directories
}
