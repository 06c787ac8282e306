//! Who and what the helper must refuse: spoilt credentials, wrong folders, wrong callers.

use std::fs;

use launch_protocol::broker::{Command, OpenLimits, Purpose};
use sailplane_policy::config::{NamePattern, Step};
use validation::switching::client::{Client, ClientError, Launcher};
use validation::{Check, Failure, Outcome};

use super::credentials::{self, Secret, Wallet};
use super::expectations::Who;
use super::mappings::Runnable;
use super::results::{self, Found, Results, check};
use super::session::Session;

fn refuses(what: &str, about: &str) -> Check {
    check(&format!("refuses-{what}"), about).needs("helper-starts")
}

/// Makes something bad of something good.
type Spoil<'a> = &'a dyn Fn(&Secret) -> Result<Secret, String>;

/// All of it. `good`: credentials that the helper takes.
pub(super) fn examine(
    results: &mut Results,
    session: &mut Session<'_>,
    wallet: &Wallet,
    good: &[Runnable],
) {
    results.run(refuses("garbage", "what is no credential"), || {
        judge(session, b"-----BEGIN NOTHING-----\n", &["bundle."])
    });
    let foreign = wallet.foreign("/O=sailplane-site-test/CN=Nobody");
    results.run(
        refuses(
            "foreign-authority",
            "a credential of an authority that nobody knows",
        ),
        || spoilt(session, foreign, &["chain.", "trust."]),
    );
    let valid = good
        .iter()
        .map(|one| &one.credential)
        .find(|one| credentials::without_key(one).is_ok());
    let each: [(&str, &str, Spoil<'_>, &[&str]); 3] = [
        (
            "tampered",
            "a credential in which one bit was changed",
            &credentials::tampered,
            &["chain.", "cert.", "proxy.", "bundle.", "key."],
        ),
        (
            "expired",
            "a proxy that has ended",
            &|valid| wallet.expired(valid),
            &["proxy.expired", "cert.expired"],
        ),
        (
            "without-key",
            "a proxy without its private key",
            &credentials::without_key,
            &["bundle.", "key.", "proxy."],
        ),
    ];
    for (name, about, spoil, codes) in each {
        results.run(refuses(name, about), || match valid {
            None => Ok(Outcome::skipped(NO_CREDENTIAL)),
            Some(_) if name == "without-key" && may_omit_key(session) => Ok(Outcome::skipped(
                "omission_private_key_white_list lets this caller leave it out",
            )),
            Some(valid) => spoilt(session, spoil(valid), codes),
        });
    }
    results.run(
        refuses("other-folder", "a sandbox outside of execute_dirs"),
        || match valid {
            None => Ok(Outcome::skipped(NO_CREDENTIAL)),
            Some(valid) => other_folder(session, valid),
        },
    );
    results.run(
        refuses("other-account", "root as the account of a slot"),
        || match valid {
            None => Ok(Outcome::skipped(NO_CREDENTIAL)),
            Some(valid) => other_account(session, valid),
        },
    );
    results.run(
        refuses(
            "unlisted-caller",
            "a caller that user_white_list does not name",
        ),
        || unlisted(session),
    );
    results.run(
        refuses("payload-caller", "a payload that calls the helper itself"),
        || payload(session),
    );
    bans(results, session, wallet);
}

const NO_CREDENTIAL: &str = "there is no valid proxy to begin with: give one with --credential, or a test authority with --test-ca \
     and a name with --expect";

fn spoilt(session: &mut Session<'_>, credential: Result<Secret, String>, codes: &[&str]) -> Found {
    match credential {
        Ok(credential) => judge(session, &credential, codes),
        Err(why) => Ok(Outcome::skipped(format!("it cannot be made: {why}"))),
    }
}

/// Passed if it is refused; the code says whether for the right reason.
fn judge(session: &mut Session<'_>, credential: &[u8], codes: &[&str]) -> Found {
    let answer = session.open(credential, Purpose::VerifyOnly);
    let refusal = match answer {
        Err(ClientError::Refused(refusal)) => refusal,
        Err(error) => return Err(results::client(&error)),
        Ok(opened) => {
            return Err(Failure::site(
                format!(
                    "the helper accepted it, as {} ({})",
                    opened.identity, opened.account
                ),
                "do not let pilots run on this node, and report this: it must never happen",
            ));
        }
    };
    if matches!(
        refusal.code.as_str(),
        "map.dynamic" | "pool.none" | "map.none"
    ) {
        return Err(Failure::site(
            format!(
                "the credential was accepted, and then refused for another reason ({}): {}",
                refusal.code, refusal.message
            ),
            "do not let pilots run on this node, and report this: it must never happen",
        ));
    }
    let outcome = Outcome::passed().text("code", refusal.code.clone());
    if codes.iter().any(|code| refusal.code.starts_with(code)) {
        Ok(outcome)
    } else {
        Ok(outcome.detail(format!(
            "refused for another reason than usual: {}",
            refusal.message
        )))
    }
}

fn may_omit_key(session: &Session<'_>) -> bool {
    let name = &session.caller.name;
    session.ground.config.as_ref().is_ok_and(|config| {
        config
            .may_omit_key
            .iter()
            .any(|pattern| pattern.matches(name))
    })
}

fn other_folder(session: &mut Session<'_>, valid: &Secret) -> Found {
    let command = Command::open("sailplane-site-test", "/usr");
    let answer = session.open_as(command, valid);
    expect_code(session, answer.map(|opened| opened.payload), "execdir.")
}

fn other_account(session: &mut Session<'_>, valid: &Secret) -> Found {
    let uses_slots = session
        .ground
        .config
        .as_ref()
        .is_ok_and(|config| config.steps.contains(&Step::Slot));
    if !uses_slots {
        return Ok(Outcome::skipped(
            "slot_accounts is not set, so a pilot cannot ask for an account",
        ));
    }
    let command = Command::Open {
        job_label: "sailplane-site-test".to_owned(),
        execute_dir: None,
        slot_account: Some("root".to_owned()),
        purpose: Purpose::VerifyOnly,
        limits: OpenLimits::default(),
    };
    match session.open_as(command, valid) {
        Ok(opened) if opened.uid != 0 => Ok(Outcome::skipped(format!(
            "another step of mapping decides before slots do: the credential becomes {}",
            opened.account
        ))),
        answer => expect_code(session, answer.map(|opened| opened.payload), "slot."),
    }
}

/// Passed if refused with a code that begins so; what was opened in spite of that is closed.
fn expect_code(session: &mut Session<'_>, answer: Result<u32, ClientError>, code: &str) -> Found {
    match answer {
        Err(ClientError::Refused(refusal)) if refusal.code.starts_with(code) => {
            Ok(Outcome::passed().text("code", refusal.code))
        }
        Err(error) => Err(results::client(&error)),
        Ok(payload) => {
            if payload != 0 {
                let _ = session.client().and_then(|client| client.close(payload));
            }
            Err(Failure::site(
                "the helper allowed it",
                "do not let pilots run on this node, and report this: it must never happen",
            ))
        }
    }
}

fn call_as(session: &Session<'_>, uid: u32, gid: u32, codes: &[&str]) -> Found {
    match Client::start(&Launcher::switch(&session.ground.helper).by(uid, gid)) {
        Err(ClientError::Refused(refusal)) if codes.contains(&refusal.code.as_str()) => {
            Ok(Outcome::passed().text("code", refusal.code))
        }
        Err(error) => Err(results::client(&error)),
        Ok(_) => Err(Failure::site(
            format!("the helper admitted uid {uid} as its caller"),
            "see that user_white_list and group_white_list name the accounts of pilots only",
        )),
    }
}

const ONLY_ROOT: &str = "only root can call the helper as another account";

fn unlisted(session: &Session<'_>) -> Found {
    if !session.ground.is_root {
        return Ok(Outcome::skipped(ONLY_ROOT));
    }
    let everybody = session
        .ground
        .config
        .as_ref()
        .is_ok_and(|config| config.callers.contains(&NamePattern::Anyone));
    if everybody {
        return Ok(Outcome::skipped("user_white_list = * admits everybody"));
    }
    // Nobody is never admitted, listed or not.
    call_as(
        session,
        65_534,
        65_534,
        &["caller.not_listed", "caller.unfit"],
    )
}

fn payload(session: &Session<'_>) -> Found {
    if !session.ground.is_root {
        return Ok(Outcome::skipped(ONLY_ROOT));
    }
    let range = session
        .ground
        .config
        .as_ref()
        .ok()
        .and_then(|config| config.settings.targets.dynamic_uids);
    match range {
        None => Ok(Outcome::skipped("dynamic_uids is not set")),
        // The last number, which is the last to be given to a payload.
        Some((_, last)) => call_as(session, last, last, &["caller.not_listed", "caller.unfit"]),
    }
}

/// Bans of names: somebody of each name is made and must be refused.
fn bans(results: &mut Results, session: &mut Session<'_>, wallet: &Wallet) {
    let Ok(config) = &session.ground.config else {
        return;
    };
    let lists = config
        .policy_files()
        .filter(|(kind, _)| *kind == sailplane_policy::config::FileKind::Bans);
    let names: Vec<_> = lists.flat_map(|(_, path)| banned_names(path)).collect();
    if names.is_empty() {
        return;
    }
    results.run(refuses("banned", "everybody whom a ban list names"), || {
        if !wallet.has_authority() {
            return Ok(Outcome::skipped(
                "credentials of banned people can be made with a test authority only: --test-ca",
            ));
        }
        let (mut tried, mut untried) = (0_u32, Vec::new());
        for (place, dn) in &names {
            let who = Who::Named {
                dn: dn.clone(),
                fqans: Vec::new(),
            };
            let Ok(credential) = wallet.of(&who) else {
                untried.push(format!("{place}: no credential can be made for {dn}"));
                continue;
            };
            match session.open(&credential, Purpose::VerifyOnly) {
                Err(ClientError::Refused(refusal)) if refusal.code.starts_with("ban.") => tried += 1,
                // The authority may not sign for such a name.
                Err(ClientError::Refused(refusal)) if refusal.code.starts_with("chain.") => {
                    untried.push(format!("{place}: {}", refusal.message));
                }
                Err(ClientError::Refused(refusal)) if !matches!(refusal.code.as_str(), "map.dynamic" | "pool.none") => {
                    return Err(results::refused(&refusal));
                }
                Err(ClientError::Refused(_)) | Ok(_) => {
                    return Err(Failure::site(
                        format!("{dn} is not refused, although {place} bans it"),
                        "look at the line: names are compared with their case, and wildcards are * ? [a-z]",
                    ));
                }
                Err(error) => return Err(results::client(&error)),
            }
        }
        if tried == 0 {
            return Ok(Outcome::skipped(untried.join("; ")));
        }
        let outcome = Outcome::passed().number("tried", f64::from(tried), "", None);
        Ok(if untried.is_empty() { outcome } else { outcome.detail(untried.join("\n")) })
    });
}

/// Lines that ban a name, with a name that fits.
fn banned_names(path: &std::path::Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap_or_default();
    (1..)
        .zip(text.lines())
        .filter_map(|(number, line)| {
            let line = line.trim();
            let rest = line.strip_prefix("dn").map_or(line, str::trim_start);
            let pattern = rest.strip_prefix('"')?.strip_suffix('"')?;
            let name = pattern
                .starts_with('/')
                .then(|| pattern.replace('*', "x").replace('?', "y"))?;
            (!name.contains('[')).then(|| (format!("{}:{number}", path.display()), name))
        })
        .collect()
}
