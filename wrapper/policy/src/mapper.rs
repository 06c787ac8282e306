//! The external mapper: a program of the site that is asked in JSON on its standard input and answers
//! in JSON on its standard output. It runs under the broker's
//! number, without any privilege, with an empty environment and a time limit, and
//! what it answers is checked like any file.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use launch_protocol::broker::Refusal;
use launch_protocol::is_account_name;
use launch_protocol::policy::{Case, CredentialKind, Groups, Party, Purpose};
use serde::{Deserialize, Serialize};

use crate::refuse::{job, later, site, why};
use crate::target::Target;

/// Version of the contract, in every question.
const VERSION: u32 = 1;
const MAX_ANSWER: u64 = 64 * 1024;
const MAX_GROUPS: usize = 64;
const LOOKS: Duration = Duration::from_millis(5);

/// What the mapper said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mapped {
    To(Target, Option<Groups>),
    /// It does not know this one.
    Nobody,
}

#[derive(Serialize)]
struct Question<'a> {
    version: u32,
    purpose: &'static str,
    holder: Somebody<'a>,
    pilot: Option<Somebody<'a>>,
    caller: CallerFacts<'a>,
    slot_account: Option<&'a str>,
    now: i64,
}

#[derive(Serialize)]
struct Somebody<'a> {
    kind: &'static str,
    identity: &'a str,
    fqans: &'a [String],
    issuers: &'a [String],
    limited: bool,
    not_after: i64,
}

#[derive(Serialize)]
struct CallerFacts<'a> {
    uid: u32,
    name: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    account: Option<String>,
    pool: Option<String>,
    groups: Option<AnswerGroups>,
    refuse: Option<String>,
    #[serde(default)]
    later: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerGroups {
    primary: Option<String>,
    #[serde(default)]
    secondary: Vec<String>,
}

impl<'a> From<&'a Party> for Somebody<'a> {
    fn from(party: &'a Party) -> Self {
        Self {
            kind: match party.kind {
                CredentialKind::Proxy => "certificate",
                CredentialKind::Token => "token",
            },
            identity: &party.identity,
            fqans: &party.fqans,
            issuers: &party.issuers,
            limited: party.limited,
            not_after: party.not_after,
        }
    }
}

/// The question as the mapper reads it.
pub(crate) fn question(case: &Case) -> String {
    let question = Question {
        version: VERSION,
        purpose: match case.purpose {
            Purpose::Renew => "renew",
            Purpose::Verify => "verify",
            Purpose::Run | Purpose::Pilot => "run",
        },
        holder: (&case.holder).into(),
        pilot: case.pilot.as_ref().map(Into::into),
        caller: CallerFacts {
            uid: case.caller_uid,
            name: case.caller_name.as_deref(),
        },
        slot_account: case.slot_account.as_deref(),
        now: case.now_unix,
    };
    // Only maps with odd keys cannot be written as JSON.
    serde_json::to_string(&question).unwrap_or_default()
}

/// Reads the mapper's answer.
///
/// # Errors
/// If it refuses, or says anything that is not in the contract.
pub(crate) fn read_answer(text: &[u8], program: &Path) -> Result<Mapped, Refusal> {
    let broken = |why: &str| site("mapper.answer", format!("{}: {why}", program.display()));
    let answer: Answer = serde_json::from_slice(text).map_err(|error| {
        broken(&format!(
            "its answer is not what the contract says: {error}"
        ))
    })?;
    if let Some(why) = answer.refuse {
        let why: String = why
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        return Err(match answer.later {
            true => later("mapper.refused", why),
            false => job("mapper.refused", why),
        });
    }
    let groups = answer.groups.map(|groups| Groups {
        primary: groups.primary,
        secondary: groups.secondary,
    });
    if let Some(groups) = &groups {
        let mut names = groups.primary.iter().chain(&groups.secondary);
        if groups.secondary.len() > MAX_GROUPS || !names.all(|name| is_account_name(name)) {
            return Err(broken(
                "it answered with a group that is not a plain group name, or with too many",
            ));
        }
    }
    match (answer.account, answer.pool) {
        (Some(account), None) if is_account_name(&account) => {
            Ok(Mapped::To(Target::Account(account), groups))
        }
        (None, Some(prefix)) if is_account_name(&prefix) => {
            Ok(Mapped::To(Target::Pool(prefix), groups))
        }
        (None, None) => Ok(Mapped::Nobody),
        (Some(_), Some(_)) => Err(broken("it answered with an account and a pool")),
        _ => Err(broken("it answered with what is not a plain account name")),
    }
}

/// Runs the mapper and waits for it.
///
/// # Errors
/// If it cannot be started, fails, takes too long or says too much.
pub(crate) fn ask(program: &Path, seconds: u32, question: String) -> Result<Mapped, Refusal> {
    let failed = |why: String| later("mapper.failed", format!("{}: {why}", program.display()));
    let mut child = Command::new(program)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| {
            site(
                "mapper.start",
                format!("{}: {}", program.display(), why(&error)),
            )
        })?;
    let answer = converse(&mut child, question, Duration::from_secs(seconds.into()));
    // Whatever it is still doing.
    let _ = child.kill();
    let status = child.wait();
    let text = answer.map_err(|error| failed(why(&error)))?;
    // Killed by us after it had closed its output, or ended by itself: only an exit code of its own
    // other than 0 is a failure.
    match status.map(|status| status.code()) {
        Ok(Some(0) | None) => read_answer(&text, program),
        Ok(Some(code)) => Err(failed(format!("it ended with exit status {code}"))),
        Err(error) => Err(failed(why(&error))),
    }
}

/// Sends the question and reads the answer to its end, both before the deadline.
fn converse(child: &mut Child, question: String, limit: Duration) -> io::Result<Vec<u8>> {
    let late = || io::Error::other("it did not answer in time");
    let deadline = Instant::now() + limit;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("it has no pipes"));
    };
    // Threads, so that a mapper which neither reads nor writes holds up nobody; they end with it.
    std::thread::spawn(move || {
        // A mapper need not read to the end.
        let _ = stdin.write_all(question.as_bytes());
    });
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let outcome = stdout.take(MAX_ANSWER + 1).read_to_end(&mut text);
        let _ = sender.send(outcome.map(|_| text));
    });
    let text = receiver.recv_timeout(limit).map_err(|_| late())??;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_ANSWER {
        return Err(io::Error::other(format!(
            "its answer is longer than {MAX_ANSWER} bytes"
        )));
    }
    // It has closed its output; give it what is left of its time to end.
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            return Err(late());
        }
        std::thread::park_timeout(LOOKS);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn case() -> Case {
        Case {
            purpose: Purpose::Run,
            holder: Party {
                kind: CredentialKind::Proxy,
                identity: "/CN=A \"quoted\"".into(),
                fqans: vec!["/vo/Role=x".into()],
                issuers: vec!["/CN=CA".into()],
                limited: false,
                not_after: 9,
            },
            pilot: None,
            caller_uid: 2000,
            caller_name: Some("pilot".into()),
            slot_account: None,
            now_unix: 5,
        }
    }

    fn answer(text: &str) -> Result<Mapped, String> {
        read_answer(text.as_bytes(), Path::new("/m")).map_err(|refusal| refusal.code)
    }

    #[test]
    fn the_question_is_the_documented_one() {
        assert_eq!(
            question(&case()),
            r#"{"version":1,"purpose":"run","holder":{"kind":"certificate","identity":"/CN=A \"quoted\"","fqans":["/vo/Role=x"],"issuers":["/CN=CA"],"limited":false,"not_after":9},"pilot":null,"caller":{"uid":2000,"name":"pilot"},"slot_account":null,"now":5}"#
        );
    }

    #[test]
    fn answers_are_checked() {
        let account = |name: &str| Ok(Mapped::To(Target::Account(name.into()), None));
        assert_eq!(answer(r#"{"account":"alice"}"#), account("alice"));
        assert_eq!(
            answer(r#"{"pool":"atlas"}"#),
            Ok(Mapped::To(Target::Pool("atlas".into()), None))
        );
        assert_eq!(answer("{}"), Ok(Mapped::Nobody));
        assert_eq!(
            answer(r#"{"refuse":"no\nway"}"#),
            Err("mapper.refused".into())
        );
        let groups = Groups {
            primary: Some("a".into()),
            secondary: vec!["b".into()],
        };
        assert_eq!(
            answer(r#"{"account":"alice","groups":{"primary":"a","secondary":["b"]}}"#),
            Ok(Mapped::To(Target::Account("alice".into()), Some(groups)))
        );
        for bad in [
            "",
            "[]",
            "alice",
            r#"{"account":"0"}"#,
            r#"{"account":"../x"}"#,
            r#"{"account":5}"#,
            r#"{"account":"a","uid":0}"#,
            r#"{"account":"a","pool":"b"}"#,
            r#"{"account":"a"} x"#,
            r#"{"account":"a","groups":{"primary":"0"}}"#,
            r#"{"account":"a","account":"b"}"#,
        ] {
            assert_eq!(answer(bad), Err("mapper.answer".into()), "{bad}");
        }
    }

    fn run(script: &str) -> Result<Mapped, Refusal> {
        let folder = tempfile::tempdir().expect("folder");
        let program = folder.path().join("mapper");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode");
        ask(&program, 1, question(&case()))
    }

    #[test]
    fn a_mapper_runs_with_its_deadline() {
        let mapped = run(
            r#"read question; case "$question" in *Role=x*) echo '{"account":"alice"}';; esac"#,
        );
        assert_eq!(
            mapped,
            Ok(Mapped::To(Target::Account("alice".into()), None))
        );
        // It need not read.
        assert_eq!(run("echo '{}'"), Ok(Mapped::Nobody));
        for (script, code, why) in [
            ("sleep 60", "mapper.failed", "in time"),
            ("exec >&-; sleep 60", "mapper.failed", "in time"),
            ("echo '{}'; exit 3", "mapper.failed", "status 3"),
            ("yes", "mapper.failed", "longer"),
            ("env", "mapper.answer", "contract"),
        ] {
            let refusal = run(script).expect_err(script);
            assert_eq!(refusal.code, code, "{script}");
            assert!(
                refusal.message.contains(why),
                "{script}: {}",
                refusal.message
            );
        }
        let missing = ask(Path::new("/no/such/mapper"), 1, String::new()).expect_err("missing");
        assert_eq!(missing.code, "mapper.start");
    }
}
