//! The verifier: the only program of the wrapper that parses credentials.
//!
//! The broker, which is root, never looks into a certificate. It starts this program as an
//! unprivileged account and believes only a short typed [`Verdict`]. Before the first foreign byte
//! is read the process takes from itself whatever a parser does not need (the module `confine`): no network,
//! no new program, no new process, no file opened for writing, little memory, little time.
//!
//! Two ways to use it, told apart by what descriptor 0 is:
//!
//! - *A `SOCK_SEQPACKET` socket*: it stays, and forks a process for each credential (the module
//!   `nursery`). When the other end closes it exits, silently.
//! - *Anything else*: it reads the credential there and prints the verdict for people; exit status
//!   0 accepted, 1 refused, 2 could not be done.
//!
//! Any failure of its own, in the first form, is an end without a verdict.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use launch_protocol::verdict::{Purpose, Verdict, VerifyRequest};

mod confine;
mod input;
mod judge;
mod nursery;
mod options;
mod sys;

use confine::Confinement;
use options::Options;

pub use options::OptionsError;

/// What a person asks.
const ALONE: VerifyRequest = VerifyRequest {
    id: 0,
    purpose: Purpose::Run,
    may_lack_key: false,
};

/// What went wrong with the program itself, as opposed to the credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Wrong arguments.
    #[error(transparent)]
    Usage(#[from] OptionsError),
    /// The process could not be confined.
    #[error("the process could not be confined: {0}")]
    Confine(#[from] confine::ConfineError),
    /// OpenSSL does not work here.
    #[error("OpenSSL does not verify a known good credential here")]
    WarmUp,
    /// Input or output failed.
    #[error("reading the credential or writing the verdict failed: {0}")]
    Io(#[from] io::Error),
    /// The hand-over packet was not what it must be.
    #[error("a packet of the broker is malformed")]
    HandOver,
    /// The verdict does not fit its packet; cannot happen with the limits of the credential crate.
    #[error("the verdict cannot be encoded")]
    Encode,
}

/// The whole program.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut stderr = io::stderr();
    match serve(arguments) {
        Ok(code) => code,
        Err(failure) => {
            // Nobody may be listening; that is no reason to panic.
            let _ = writeln!(stderr, "sailplane-verify: {failure}");
            ExitCode::from(2)
        }
    }
}

fn serve(arguments: impl Iterator<Item = OsString>) -> Result<ExitCode, Failure> {
    let mut words: Vec<_> = arguments.collect();
    let stdin = sys::take_standard_input();
    let (stdin, is_socket) = is_socket(stdin)?;
    let instructed = is_socket && words.is_empty();
    if !instructed {
        // Before the time that the libraries need: it may be a usage error.
        Options::from_words(&words)?;
    }
    // What is made here, each verifier inherits. Meanwhile the site's configuration is being read.
    if !sys::ignore_openssl_configuration() || !credential::warm_up() {
        return Err(Failure::WarmUp);
    }
    if instructed {
        let Some(told) = input::receive_words(&stdin)? else {
            return Ok(ExitCode::SUCCESS); // not needed after all
        };
        words = told.into_iter().map(OsString::from).collect();
    }
    let mut options = Options::from_words(&words)?;
    options.find_host();
    if is_socket {
        nursery::serve(&stdin, &options)
    } else {
        Confinement::by_hand()?.apply()?;
        answer_person(stdin, &options)
    }
}

fn answer_person(stdin: OwnedFd, options: &Options) -> Result<ExitCode, Failure> {
    let credential = input::read(stdin)?;
    let verdict = judge::judge(&credential, options, judge::Files::OfAnybody, ALONE, now());
    let (text, code) = match verdict {
        Verdict::Accepted {
            identity,
            fqans,
            not_after,
            limited,
            ..
        } => {
            let limited = if limited { "yes" } else { "no" };
            let mut text = format!(
                "accepted\nidentity: {identity}\nends: {not_after} (Unix time)\nlimited: {limited}\n"
            );
            for fqan in fqans {
                text.push_str(&format!("attribute: {fqan}\n"));
            }
            (text, ExitCode::SUCCESS)
        }
        Verdict::Rejected { code, message, .. } => (
            format!("refused\ncode: {code}\nreason: {message}\n"),
            ExitCode::FAILURE,
        ),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(code)
}

fn is_socket(descriptor: OwnedFd) -> io::Result<(OwnedFd, bool)> {
    let file = File::from(descriptor);
    let socket = file.metadata()?.file_type().is_socket();
    Ok((file.into(), socket))
}

/// Unix seconds.
fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
