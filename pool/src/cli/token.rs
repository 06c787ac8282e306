//! `sailplane pool token ...`: what `condor_token_create` and its like do.

mod create;
mod decide;
mod list;
mod request;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cedar::security::Level;
use classad::ClassAd;

use super::connect::{self, Pool, ToolError, local};
use crate::security::Place;

/// Tokens: make, show, request, approve
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Token {
    /// Make a token with the pool's signing key, on the machine of the pool
    Create(create::Create),
    /// Show the tokens of this account
    List(list::List),
    /// Ask the pool for a token, and wait until somebody approves it
    Request(request::Request),
    /// Show the requests that wait for a decision
    Requests(decide::Requests),
    /// Approve a request
    Approve(decide::Approve),
    /// Deny a request
    Deny(decide::Deny),
    /// Approve requests of daemons from a network without asking, for a while
    AutoApprove(decide::AutoApprove),
}

/// Runs it.
pub fn run(token: Token) -> ExitCode {
    connect::run(async move {
        match token {
            Token::Create(create) => create.run(),
            Token::List(list) => list.run(),
            Token::Request(request) => request.run().await,
            Token::Requests(requests) => requests.run().await,
            Token::Approve(approve) => approve.run().await,
            Token::Deny(deny) => deny.run().await,
            Token::AutoApprove(rule) => rule.run().await,
        }
    })
}

/// What a new token is to be.
#[derive(Debug, Clone, clap::Args)]
struct Wanted {
    /// Whom the token is for, USER@DOMAIN; without a domain, UID_DOMAIN is added
    #[arg(long, value_name = "NAME")]
    identity: String,
    /// Limit the token to a level, such as READ, WRITE or ADVERTISE_STARTD; may be given more than once [default: all
    /// that the identity may]
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    scope: Vec<Level>,
    /// How long the token lasts: seconds, or a number with m, h or d [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    lifetime: Option<Duration>,
    /// Write the token into this file of the token directory instead of printing it
    #[arg(long, value_name = "NAME", value_parser = plain_name)]
    file: Option<String>,
}

fn level(text: &str) -> Result<Level, String> {
    let text = text.strip_prefix("condor:/").unwrap_or(text);
    Level::from_name(text).ok_or_else(|| {
        format!("{text:?} is not a level; there are READ, WRITE, ADMINISTRATOR, CONFIG, DAEMON, NEGOTIATOR, ADVERTISE_STARTD, ADVERTISE_SCHEDD and ADVERTISE_MASTER")
    })
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 's')) => (text.get(..at), 1),
        Some((at, 'm')) => (text.get(..at), 60),
        Some((at, 'h')) => (text.get(..at), 3_600),
        Some((at, 'd')) => (text.get(..at), 86_400),
        _ => (Some(text), 1),
    };
    let number: Option<u64> = digits.and_then(|digits| digits.parse().ok());
    number
        .filter(|number| *number > 0)
        .and_then(|number| number.checked_mul(factor))
        .filter(|seconds| *seconds <= 100 * 365 * 86_400)
        .map(Duration::from_secs)
        .ok_or_else(|| "write it as seconds, or as a number with m, h or d, such as 12h".to_owned())
}

fn plain_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('/') || text.starts_with('.') {
        return Err("it must be the name of a file, without a directory".to_owned());
    }
    Ok(text.to_owned())
}

fn with_domain(identity: &str, domain: &str) -> String {
    if identity.contains('@') {
        identity.to_owned()
    } else {
        format!("{identity}@{domain}")
    }
}

/// Prints a token, or writes it where the tools look for tokens.
fn hand_over(token: &str, file: Option<&str>, directory: Option<&Path>) -> Result<(), ToolError> {
    let Some(file) = file else {
        return say(token);
    };
    let directory = directory.ok_or_else(|| {
        ToolError::Refused(
            "this account has no token directory; set SEC_TOKEN_DIRECTORY".to_owned(),
        )
    })?;
    let path = write_token(directory, file, token)
        .map_err(|error| local("cannot write the token into", &directory.join(file), error))?;
    say(&format!("The token is in {}.", path.display()))
}

fn write_token(directory: &Path, file: &str, token: &str) -> io::Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let path = directory.join(file);
    let draft = directory.join(format!(".{file}.{}", std::process::id()));
    let _ = fs::remove_file(&draft);
    let written = (|| {
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        writeln!(out, "{token}")?;
        out.sync_all()?;
        fs::rename(&draft, &path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written.map(|()| path)
}

/// Prints a line.
fn say(text: &str) -> Result<(), ToolError> {
    match writeln!(io::stdout(), "{}", text.trim_end_matches('\n')) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(ToolError::Local {
            what: "cannot write the answer".to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Sends an ad with a command and takes the answer, in which an error is a refusal.
async fn ask(
    pool: &Pool,
    command: i32,
    what: &'static str,
    ad: &ClassAd,
) -> Result<ClassAd, ToolError> {
    let mut stream = pool.start(command, what).await?;
    let mut message = stream.message();
    message.ad(ad);
    let sent = stream.send(message).await;
    sent.map_err(|error| pool.failed(what, error))?;
    let answer = stream
        .recv()
        .await
        .map_err(|error| pool.failed(what, error))?;
    let answer = answer
        .reader()
        .ad()
        .map_err(|error| pool.malformed(error))?;
    refusal(&answer).map_or(Ok(answer), Err)
}

fn refusal(answer: &ClassAd) -> Option<ToolError> {
    let code = answer.int("ErrorCode").unwrap_or(0);
    let text = answer.string("ErrorString");
    (code != 0 || text.is_some()).then(|| {
        let text = text.unwrap_or_else(|| format!("the pool refused (code {code})"));
        ToolError::Refused(text)
    })
}

/// The first token directory of this account.
fn token_directory(pool: &Pool) -> Option<PathBuf> {
    let directories = &pool.client.config().credentials.token_directories;
    directories.first().cloned()
}

/// When something ends, for a person; `None` is never.
fn end_text(end: Option<i64>) -> String {
    let Some(end) = end else {
        return "never".to_owned();
    };
    let local =
        jiff::Timestamp::from_second(end).map(|time| time.to_zoned(jiff::tz::TimeZone::system()));
    local.map_or_else(
        |_| end.to_string(),
        |time| time.strftime("%Y-%m-%d %H:%M").to_string(),
    )
}

fn now() -> i64 {
    (Place::here().now)()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_levels_and_names_are_checked() {
        assert_eq!(lifetime("12h"), Ok(Duration::from_secs(43_200)));
        assert_eq!(lifetime("90"), Ok(Duration::from_secs(90)));
        for wrong in ["", "h", "0", "-5", "1.5h", "99999999999d", "1w"] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
        assert_eq!(level("advertise_startd"), Ok(Level::AdvertiseStartd));
        assert_eq!(level("condor:/READ"), Ok(Level::Read));
        assert!(level("SUPER").is_err());
        assert!(plain_name("a/b").is_err() && plain_name(".x").is_err());
        assert_eq!(with_domain("alice", "x.org"), "alice@x.org");
        assert_eq!(with_domain("alice@y", "x.org"), "alice@y");
    }

    #[test]
    fn a_token_file_is_for_its_owner_only() {
        use std::os::unix::fs::MetadataExt;
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("a/tokens.d");
        write_token(&directory, "pilot", "one").unwrap();
        let path = write_token(&directory, "pilot", "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }
}
