//! `sailplane credential`: what is in a proxy or a token, and whether a site would accept it.
//!
//! `verdict` finds out, `print` says it; both are plain functions, this file is the shell around them.

mod print;
mod verdict;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use verdict::Report;

/// `sailplane credential`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what is in a credential, without judging it
    #[command(after_help = "Example:\n  sailplane credential show /tmp/x509up_u1000")]
    Show(Show),
    /// Judge a credential as a site would; exit status 0 only if it verifies, 1 if it does not
    #[command(
        after_help = "Example:\n  sailplane credential verify /tmp/x509up_u1000 --voms-dir /etc/grid-security/vomsdir"
    )]
    Verify(Verify),
}

/// `sailplane credential show`.
#[derive(Debug, Args)]
pub struct Show {
    /// Proxy, certificate or token; `-` is standard input
    pub file: PathBuf,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `sailplane credential verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Proxy, certificate or token; `-` is standard input
    pub file: PathBuf,
    /// Directory of trusted CAs
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/etc/grid-security/certificates"
    )]
    pub ca_dir: PathBuf,
    /// Directory of VOMS servers; without it attributes are not looked at
    #[arg(long, value_name = "DIR")]
    pub voms_dir: Option<PathBuf>,
    /// Public keys of the issuer of tokens
    #[arg(long, value_name = "FILE", requires = "issuer")]
    pub jwks: Option<PathBuf>,
    /// Issuer of tokens
    #[arg(long, value_name = "URL", requires = "jwks")]
    pub issuer: Option<String>,
    /// Name of the site in tokens; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub audience: Vec<String>,
    /// What a token has to allow; may be given more than once [default: compute.create]
    #[arg(long, value_name = "SCOPE")]
    pub scope: Vec<String>,
    /// Judge it at this time, as Unix seconds or like 2026-11-25T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub at: Option<i64>,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Form of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object
    Json,
}

/// Runs it: 0 the credential verifies (or could be shown), 1 it does not, 2 the file cannot be read.
#[must_use]
pub fn run(command: &Command) -> ExitCode {
    let now = Timestamp::now().as_second();
    let (file, format) = match command {
        Command::Show(show) => (&show.file, show.format),
        Command::Verify(verify) => (&verify.file, verify.format),
    };
    let credential = match read(file) {
        Ok(credential) => credential,
        Err(error) => {
            // Nobody may be listening.
            let _ = writeln!(io::stderr(), "error: {}: {error}", file.display());
            return ExitCode::from(2);
        }
    };
    let report = match command {
        Command::Show(_) => verdict::show(&credential),
        Command::Verify(verify) => verdict::verify(&credential, verify, verify.at.unwrap_or(now)),
    };
    say(&report, format, now)
}

fn say(report: &Report, format: Format, now: i64) -> ExitCode {
    let text = match format {
        Format::Text => print::text(report, now),
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

fn time(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    text.parse::<Timestamp>()
        .map(Timestamp::as_second)
        .map_err(|_| "write it as Unix seconds or like 2026-11-25T12:00:00Z".to_owned())
}
