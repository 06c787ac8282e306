//! `pilot-credential`: the pilot's own proxy and tokens are there, its own, and valid for some time.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::unistd::geteuid;

use super::super::simple::{gather_and_judge, probe};
use crate::check::{Check, Owner, Severity};
use crate::outcome::{Failure, Outcome, Threshold, Whose};
use crate::probe::{Context, Probe, Running};

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    let check = Check::new(
        "pilot-credential",
        "rights and remaining life of the pilot's proxy and tokens",
    )
    .owner(Owner::Frontend)
    .every(Duration::from_secs(600));
    probe(check, run)
}

fn run(context: &Context) -> Running<'_> {
    let setup = context.setup();
    let proxy = setup.pilot_proxy.clone();
    let directories = setup.token_directories.clone();
    let least = Least {
        proxy: signed(context.knobs().count("SAILPLANE_CHECK_PROXY_LIFE")),
        token: signed(context.knobs().count("SAILPLANE_CHECK_TOKEN_LIFE")),
    };
    Box::pin(gather_and_judge(
        context,
        move || gather(proxy.as_deref(), &directories),
        move |facts| judge(facts, least),
    ))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Seconds that have to be left.
#[derive(Debug, Clone, Copy)]
struct Least {
    proxy: i64,
    token: i64,
}

#[derive(Debug, Clone, Default)]
struct Facts {
    now: i64,
    proxy: Option<Credential>,
    tokens: Vec<Credential>,
    /// The pilot's own directory of tokens, if it may not look into it.
    closed: Option<PathBuf>,
    uid: u32,
}

/// A file, and what it is worth.
#[derive(Debug, Clone)]
struct Credential {
    path: PathBuf,
    /// Owner and mode.
    rights: Option<(u32, u32)>,
    /// Its end, Unix seconds (the largest number: never), or why it is no credential.
    end: Result<i64, String>,
}

fn gather(proxy: Option<&Path>, directories: &[PathBuf]) -> Facts {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| signed(since.as_secs()));
    let mut tokens: Vec<PathBuf> = directories
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let is_hidden = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            path.is_file() && !is_hidden
        })
        .collect();
    tokens.sort_unstable();
    let look = |path: &Path, end: fn(&[u8]) -> Result<i64, String>| Credential {
        rights: fs::metadata(path)
            .ok()
            .map(|facts| (facts.uid(), facts.mode() & 0o7777)),
        end: fs::read(path)
            .map_err(|error| super::super::net::system_words(&error))
            .and_then(|bytes| end(&bytes)),
        path: path.to_owned(),
    };
    Facts {
        now,
        proxy: proxy.map(|path| {
            look(path, |bytes| {
                let end = credential::earliest_end(bytes).map_err(|error| error.to_string())?;
                if has_key(bytes) {
                    Ok(end)
                } else {
                    Err("it holds certificates and no private key".to_owned())
                }
            })
        }),
        tokens: tokens.iter().map(|path| look(path, token_end)).collect(),
        closed: closed(directories),
        uid: geteuid().as_raw(),
    }
}

/// Whether PEM text holds a private key of any form.
fn has_key(bytes: &[u8]) -> bool {
    const KEY: &[u8] = b"PRIVATE KEY-----";
    bytes.windows(KEY.len()).any(|window| window == KEY)
}

/// The first directory of tokens, which is the pilot's own, if it is there and closed to the pilot. The others are the site's,
/// and may well be.
fn closed(directories: &[PathBuf]) -> Option<PathBuf> {
    let first = directories.first()?;
    fs::read_dir(first)
        .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        .then(|| first.clone())
}

/// The latest end of the tokens in a file: HTCondor takes one a line, and the best that suits.
fn token_end(bytes: &[u8]) -> Result<i64, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| {
            let payload = line.split('.').nth(1)?;
            let json = URL_SAFE_NO_PAD.decode(payload).ok()?;
            let claims: serde_json::Value = serde_json::from_slice(&json).ok()?;
            claims
                .get("exp")
                .map_or(Some(i64::MAX), serde_json::Value::as_i64)
        })
        .max()
        .ok_or_else(|| "there is no token in it".to_owned())
}

fn judge(facts: &Facts, least: Least) -> Outcome {
    if facts.proxy.is_none() && facts.tokens.is_empty() && facts.closed.is_none() {
        return Outcome::skipped("the pilot has no proxy and no token of its own");
    }
    let failed =
        |why: String, hint: &str| Some(Failure::new(Whose::Frontend, why, hint).kind("VO_Proxy"));
    let proxy = facts.proxy.as_ref().and_then(|proxy| {
        let name = format!("the pilot's proxy {}", proxy.path.display());
        let renew = "send pilots with a fresh proxy; see that the one that submits them renews it";
        match (&proxy.end, proxy.rights) {
            (Err(why), _) => failed(format!("{name} is no credential: {why}"), renew),
            (_, Some((uid, mode))) if uid != facts.uid || mode & 0o077 != 0 => failed(
                format!("{name} belongs to uid {uid} and has mode {mode:04o}; it has to belong to the pilot (uid {}) alone", facts.uid),
                "make it a file of the pilot's account with mode 0600: programs refuse others",
            ),
            (Ok(end), _) => {
                let left = end.saturating_sub(facts.now);
                if left <= 0 {
                    failed(format!("{name} is over since {} s", -left), renew)
                } else if left < least.proxy {
                    failed(format!("{name} ends in {left} s, and {} s are asked for (SAILPLANE_CHECK_PROXY_LIFE)", least.proxy), renew)
                } else {
                    None
                }
            }
        }
    });
    // One good token is enough: which of them the pool takes is another check's to say.
    let best = facts
        .tokens
        .iter()
        .filter_map(|token| token.end.as_ref().ok())
        .max();
    let token = match (facts.tokens.first(), best) {
        (None, _) => facts.closed.as_ref().and_then(|folder| {
            failed(
                format!("the pilot (uid {}) may not look into its directory of tokens, {}", facts.uid, folder.display()),
                "give it to the pilot's account (mode 0700), or name another in SEC_TOKEN_DIRECTORY",
            )
        }),
        (Some(first), None) => failed(
            format!(
                "there is no token in {}: {}{}",
                first.path.display(),
                first.end.as_ref().err().map_or("", String::as_str),
                match facts.tokens.len() {
                    1 => String::new(),
                    all => format!("; and none in the {} other files there", all - 1),
                }
            ),
            "send pilots with a token of the pool (`condor_token_create`)",
        ),
        (Some(first), Some(end)) => {
            let left = end.saturating_sub(facts.now);
            let folder = first.path.parent().unwrap_or(&first.path).display();
            (left < least.token).then(|| {
                let state = if left <= 0 { format!("are over since {} s", -left) } else { format!("end in {left} s") };
                Failure::new(
                    Whose::Frontend,
                    format!("the pilot's tokens in {folder} {state}, and {} s are asked for (SAILPLANE_CHECK_TOKEN_LIFE)", least.token),
                    "send pilots with a fresh token; see that the one that submits them renews it",
                )
                .kind("VO_Proxy")
            })
        }
    };
    let outcome = match (proxy.or(token), open_token(facts)) {
        (Some(failure), _) => Outcome::failed(failure),
        // It works: everybody else here can use it, too.
        (None, Some(failure)) => Outcome::failed(failure).at_most(Severity::Warn),
        (None, None) => Outcome::passed(),
    };
    let left = |end: Option<i64>| {
        end.filter(|end| *end < i64::MAX)
            .map(|end| end.saturating_sub(facts.now))
    };
    #[allow(clippy::cast_precision_loss, reason = "seconds for people")]
    let outcome = match left(
        facts
            .proxy
            .as_ref()
            .and_then(|proxy| proxy.end.as_ref().ok().copied()),
    ) {
        Some(left) => outcome
            .number(
                "proxy_left",
                left as f64,
                "s",
                Some(Threshold::AtLeast(least.proxy as f64)),
            )
            .attribute("SailplanePilotProxyEnd", left.saturating_add(facts.now)),
        None => outcome,
    };
    #[allow(clippy::cast_precision_loss, reason = "seconds for people")]
    match left(best.copied()) {
        Some(left) => outcome.number(
            "token_left",
            left as f64,
            "s",
            Some(Threshold::AtLeast(least.token as f64)),
        ),
        None => outcome,
    }
}

/// A token that is not the pilot's alone.
fn open_token(facts: &Facts) -> Option<Failure> {
    let open = |token: &&Credential| {
        token
            .rights
            .is_some_and(|(uid, mode)| uid != facts.uid || mode & 0o077 != 0)
    };
    let token = facts.tokens.iter().find(open)?;
    let (uid, mode) = token.rights?;
    let path = token.path.display();
    let why = format!(
        "the pilot's token {path} belongs to uid {uid} and has mode {mode:04o}: whoever reads it can join the pool as this pilot"
    );
    let hint = format!(
        "make it a file of the pilot's account alone (`chmod 600 {path}`), and have it replaced"
    );
    Some(Failure::new(Whose::Frontend, why, hint).kind("VO_Proxy"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Least = Least {
        proxy: 3600,
        token: 300,
    };

    fn credential(end: Result<i64, String>, mode: u32) -> Credential {
        Credential {
            path: "/tmp/x509up_u5".into(),
            rights: Some((5, mode)),
            end,
        }
    }

    fn facts(proxy: Option<Credential>, tokens: Vec<Credential>) -> Facts {
        Facts {
            now: 1000,
            proxy,
            tokens,
            closed: None,
            uid: 5,
        }
    }

    #[test]
    fn a_closed_directory_of_tokens_is_named() {
        let closed = Facts {
            closed: Some("/srv/pilot/tokens".into()),
            ..facts(None, vec![])
        };
        let outcome = judge(&closed, LEAST);
        assert!(
            outcome
                .failure()
                .unwrap()
                .why
                .ends_with("/srv/pilot/tokens")
        );
        assert!(has_key(b"-----BEGIN RSA PRIVATE KEY-----\n"));
        assert!(!has_key(b"-----BEGIN CERTIFICATE-----\n"));
    }

    #[test]
    fn a_proxy_about_to_end_is_the_frontends() {
        assert!(judge(&facts(Some(credential(Ok(9000), 0o600)), vec![]), LEAST).is_passed());
        let why = |proxy| {
            let outcome = judge(&facts(Some(proxy), vec![]), LEAST);
            let failure = outcome.failure().unwrap();
            assert_eq!(failure.whose, Whose::Frontend);
            failure.why.clone()
        };
        assert!(why(credential(Ok(2000), 0o600)).contains("ends in 1000 s"));
        assert!(why(credential(Ok(500), 0o600)).contains("over since 500 s"));
        assert!(why(credential(Ok(9000), 0o644)).contains("mode 0644"));
        assert!(why(credential(Err("no certificate".into()), 0o600)).contains("no certificate"));
    }

    #[test]
    fn one_good_token_is_enough() {
        let old = credential(Ok(5), 0o600);
        assert!(
            judge(
                &facts(None, vec![old.clone(), credential(Ok(i64::MAX), 0o600)]),
                LEAST
            )
            .is_passed()
        );
        assert!(
            judge(&facts(None, vec![old]), LEAST)
                .failure()
                .unwrap()
                .why
                .contains("over since 995 s")
        );
        assert!(judge(&facts(None, vec![]), LEAST).failure().is_none());
        let outcome = judge(&facts(None, vec![credential(Ok(i64::MAX), 0o640)]), LEAST);
        assert_eq!(outcome.at_most, Some(Severity::Warn));
        assert!(outcome.failure().unwrap().why.contains("mode 0640"));
    }

    #[test]
    fn tokens_are_read() {
        let token = |claims: &str| {
            format!(
                "eyJhbGciOiJIUzI1NiJ9.{}.sig",
                URL_SAFE_NO_PAD.encode(claims)
            )
        };
        let file = format!(
            "# pool\n{}\n{}\n",
            token(r#"{"exp":7}"#),
            token(r#"{"exp":9,"sub":"x"}"#)
        );
        assert_eq!(token_end(file.as_bytes()), Ok(9));
        assert_eq!(token_end(token("{}").as_bytes()), Ok(i64::MAX));
        for bad in ["", "x", "a.b.c", "a..c"] {
            assert!(token_end(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
