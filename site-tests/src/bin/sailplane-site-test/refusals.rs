//! Who and what the helper must refuse: spoilt credentials, wrong folders, wrong callers.

use std::fs;

use launch_protocol::broker::{Command, OpenLimits, Purpose};
use sailplane_policy::config::{FileKind, NamePattern, Step};
use validation::switching::client::{Client, ClientError, Launcher};
use validation::{Check, Failure, Outcome};

use super::credentials::{self, Secret, Wallet};
use super::expectations::Who;
use super::judgement::{self, Judged};
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
        agent: false,
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

/// Bans: somebody of each name, or with each attribute, must be refused; through the helper where a credential can be
/// made.
fn bans(results: &mut Results, session: &mut Session<'_>, wallet: &Wallet) {
    let Ok(config) = &session.ground.config else {
        return;
    };
    let lists = config
        .policy_files()
        .filter(|(kind, _)| *kind == FileKind::Bans);
    let banned: Vec<_> = lists.flat_map(|(_, path)| banned(path)).collect();
    if banned.is_empty() {
        return;
    }
    results.run(refuses("banned", "everybody whom a ban list names"), || {
        let (mut by_helper, mut by_files, mut untried) = (0_u32, 0_u32, Vec::new());
        for one in &banned {
            match refused_by(session, wallet, one)? {
                By::Helper => by_helper += 1,
                By::Files => by_files += 1,
                By::Nobody(why) => untried.push(format!("{}: {why}", one.place)),
            }
        }
        if by_helper + by_files == 0 {
            return Ok(Outcome::skipped(untried.join("; ")));
        }
        let outcome = Outcome::passed()
            .number("tried_through_the_helper", f64::from(by_helper), "", None)
            .number("tried_by_the_files_alone", f64::from(by_files), "", None);
        Ok(if untried.is_empty() {
            outcome
        } else {
            outcome.detail(untried.join("\n"))
        })
    });
}

/// Who has refused somebody.
enum By {
    Helper,
    Files,
    /// It could not be tried.
    Nobody(String),
}

fn refused_by(session: &mut Session<'_>, wallet: &Wallet, one: &Banned) -> Result<By, Failure> {
    let who = Who::Named {
        dn: one.dn.clone(),
        fqans: one.fqans.clone(),
    };
    let accepted = || {
        Err(Failure::site(
            format!("{who} is not refused, although {} says so", one.place),
            "look at the line: names are compared with their case, and wildcards are * ? [a-z]",
        ))
    };
    if let Ok(credential) = wallet.of(&who) {
        match session.open(&credential, Purpose::VerifyOnly) {
            Err(ClientError::Refused(refusal)) if refusal.code.starts_with("ban.") => {
                return Ok(By::Helper);
            }
            // The authority may not sign for such a name; the files know it all the same.
            Err(ClientError::Refused(refusal)) if refusal.code.starts_with("chain.") => {}
            Err(ClientError::Refused(refusal))
                if !matches!(refusal.code.as_str(), "map.dynamic" | "pool.none") =>
            {
                return Err(results::refused(&refusal));
            }
            Err(ClientError::Refused(_)) | Ok(_) => return accepted(),
            Err(error) => return Err(results::client(&error)),
        }
    }
    match judgement::of(session.ground, &one.dn, &one.fqans) {
        Ok(Judged::Refused(refusal)) if refusal.code.starts_with("ban.") => Ok(By::Files),
        Ok(Judged::Refused(refusal)) => Err(results::refused(&refusal)),
        Ok(_) => accepted(),
        Err(why) => Ok(By::Nobody(why)),
    }
}

/// Somebody who is banned.
struct Banned {
    place: String,
    dn: String,
    fqans: Vec<String>,
}

/// The lines of a ban list that name people or attributes, with somebody whom they fit.
fn banned(path: &std::path::Path) -> Vec<Banned> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = (1..).zip(text.lines());
    lines
        .filter_map(|(number, line)| {
            let line = line.trim();
            let (word, rest) = line.split_once([' ', '\t']).unwrap_or(("", line));
            let (word, rest) = if line.starts_with('"') {
                ("dn", line)
            } else {
                (word, rest.trim())
            };
            let pattern = rest.strip_prefix('"')?.strip_suffix('"')?;
            // A set of letters would need one of them.
            let name = pattern.replace('*', "x").replace('?', "y");
            let (dn, fqans) = match word {
                "dn" => (name, Vec::new()),
                "fqan" => ("/O=sailplane-site-test/CN=Somebody".to_owned(), vec![name]),
                _ => return None,
            };
            let is_plain = dn.starts_with('/') && !pattern.contains('[');
            is_plain.then(|| Banned {
                place: format!("{}:{number}", path.display()),
                dn,
                fqans,
            })
        })
        .collect()
}
