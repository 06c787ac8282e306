//! `sailplane credential`: what is in a proxy or a token, and whether a site would accept it.
//!
//! `options` is the command line, `verdict` finds out, `print` says it; the last two are plain functions, this file is
//! the shell around them.

mod options;
mod print;
mod verdict;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use jiff::Timestamp;

pub use options::{Asked, Format, Limited};
use verdict::Report;

/// `sailplane credential`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say all that is known of a credential, and whether a site would accept it
    #[command(
        after_help = "Exit status: 0 only if it verifies, 1 if it does not, 2 if the file cannot be read.\n\nExample:\n  \
                      sailplane credential show /tmp/x509up_u1000 --voms-dir /etc/grid-security/vomsdir"
    )]
    Show(Asked),
    /// Judge a credential as a site would
    #[command(
        after_help = "Exit status: 0 only if it verifies, 1 if it does not, 2 if the file cannot be read.\n\nExample:\n  \
                      sailplane credential verify /tmp/x509up_u1000 --voms-dir /etc/grid-security/vomsdir\n  \
                      sailplane credential verify token --jwks keys.json --issuer https://issuer.example --audience here"
    )]
    Verify(Asked),
}

/// Runs it: 0 only if the credential verifies, 1 if it does not, 2 if the file cannot be read.
#[must_use]
pub fn run(command: &Command) -> ExitCode {
    let (asked, shows_all) = match command {
        Command::Show(asked) => (asked, true),
        Command::Verify(asked) => (asked, false),
    };
    let credential = match read(&asked.file) {
        Ok(credential) => credential,
        Err(error) => {
            // Nobody may be listening.
            let _ = writeln!(io::stderr(), "error: {}: {error}", asked.file.display());
            return ExitCode::from(2);
        }
    };
    let report = verdict::judge(&credential, asked, Timestamp::now().as_second());
    say(&report, asked.format, shows_all)
}

fn say(report: &Report, format: Format, shows_all: bool) -> ExitCode {
    let text = match format {
        Format::Text => print::text(report, shows_all),
        Format::Json => print::json(report),
    };
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::from(u8::from(report.refusal.is_some()))
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    // One byte more than a credential may have: then the verdict will say so.
    let limit = credential::MAX_BUNDLE_BYTES + 1;
    let mut bytes = Vec::with_capacity(limit);
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    if file == Path::new("-") {
        io::stdin().take(most).read_to_end(&mut bytes)?;
    } else {
        File::open(file)?.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
