//! `sailplane manifest`: what factory and frontend need to send checks along.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use validation::fetch::{self, Digest, Fetcher, Location};
use validation::manifest::{self, Limits, Manifest, Selected, sign};

/// Largest file that is looked at, bytes.
const LARGEST: u64 = 1 << 30;

/// `sailplane manifest`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put digests and sizes of the files beside a manifest into it
    #[command(after_help = "Example:\n  sailplane manifest fill web/manifest.json")]
    Fill(One),
    /// Say whether a manifest is good: its form, its order, and the files that lie beside it
    #[command(after_help = "Example:\n  sailplane manifest check web/manifest.json --entry CE_1")]
    Check(Check),
    /// Make a key for signing, and print what pins manifests to it
    #[command(after_help = "Example:\n  sailplane manifest key /etc/sailplane/factory.pem")]
    Key(One),
    /// Sign a manifest: writes MANIFEST.sig
    #[command(
        after_help = "Example:\n  sailplane manifest sign web/manifest.json --key /etc/sailplane/factory.pem"
    )]
    Sign(Sign),
    /// Print what pins pilots to this very manifest, or to whatever a key signs
    #[command(after_help = "Example:\n  sailplane manifest pin web/manifest.json")]
    Pin(Pin),
}

/// One file.
#[derive(Debug, Args)]
pub struct One {
    /// The file
    pub file: PathBuf,
}

/// `sailplane manifest check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The manifest
    pub file: PathBuf,
    /// Entry that a pilot is for
    #[arg(long)]
    pub entry: Option<String>,
    /// Group that a pilot is for
    #[arg(long)]
    pub group: Option<String>,
}

/// `sailplane manifest sign`.
#[derive(Debug, Args)]
pub struct Sign {
    /// The manifest
    pub file: PathBuf,
    /// The private key
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

/// `sailplane manifest pin`.
#[derive(Debug, Args)]
pub struct Pin {
    /// The manifest
    #[arg(required_unless_present = "key", conflicts_with = "key")]
    pub file: Option<PathBuf>,
    /// The private key
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// Runs the command. Status 0: done, or good; 1: not.
#[must_use]
pub fn run(command: &Command) -> ExitCode {
    let done = match command {
        Command::Fill(One { file }) => fill(file),
        Command::Check(check) => look(check),
        Command::Key(One { file }) => sign::make_key(file).map_err(|error| said(&error)),
        Command::Sign(Sign { file, key }) => sign::sign(file, key)
            .map(|written| format!("wrote {}{}", written.display(), exposed(file, key)))
            .map_err(|error| said(&error)),
        Command::Pin(Pin { file, key }) => pin(file.as_deref(), key.as_deref()),
    };
    let (status, text) = match &done {
        Ok(text) => (ExitCode::SUCCESS, writeln!(io::stdout(), "{text}")),
        Err(text) => (ExitCode::FAILURE, writeln!(io::stderr(), "{text}")),
    };
    // Nobody may be reading; the status says it all the same.
    let _ = text;
    status
}

fn said(error: &dyn std::error::Error) -> String {
    crate::blame::chain(error)
}

/// What is to be said of a key that lies where the manifest is served from.
fn exposed(manifest: &Path, key: &Path) -> String {
    let folder = |path: &Path| {
        std::fs::canonicalize(path)
            .ok()?
            .parent()
            .map(Path::to_owned)
    };
    match (folder(manifest), folder(key)) {
        (Some(served), Some(place)) if place.starts_with(&served) => format!(
            "\n{} lies in the manifest's folder: move it away before that is served, or whoever reads it can sign for you",
            key.display()
        ),
        _ => String::new(),
    }
}

fn fill(file: &Path) -> Result<String, String> {
    let changed = sign::fill(file).map_err(|error| said(&error))?;
    Ok(match changed.as_slice() {
        [] => "everything was as it lies there".to_owned(),
        names => format!(
            "updated: {}; sign it again, or pin it anew",
            names.join(", ")
        ),
    })
}

fn pin(manifest: Option<&Path>, key: Option<&Path>) -> Result<String, String> {
    match (manifest, key) {
        (_, Some(key)) => sign::pin(key).map_err(|error| said(&error)),
        (Some(manifest), None) => std::fs::read(manifest)
            .map(|text| format!("sha256={}", Digest::of(&text)))
            .map_err(|error| format!("cannot read {}: {error}", manifest.display())),
        (None, None) => Err("name a manifest or a key".to_owned()),
    }
}

fn look(check: &Check) -> Result<String, String> {
    let path = std::path::absolute(&check.file).map_err(|error| error.to_string())?;
    let text =
        std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let base = Location::parse(&format!("file://{}", path.display()))
        .map_err(|error| error.to_string())?;
    let limits = Limits { total: LARGEST };
    let now = jiff::Timestamp::now();
    let manifest = Manifest::parse(&text, &base, limits, now)
        .map_err(|(_, kind)| format!("{}: {kind}", path.display()))?;
    let chosen = manifest
        .select(check.entry.as_deref(), check.group.as_deref(), limits)
        .map_err(|kind| format!("{}: {kind}", path.display()))?;
    files(&chosen)?;
    let mut lines = vec![format!(
        "{} is good (form {}); a pilot does, in this order:",
        path.display(),
        manifest::FORM
    )];
    for (scope, item) in chosen.in_order() {
        lines.push(format!("  {}/{}", scope.id(), item.name));
    }
    Ok(lines.join("\n"))
}

/// Compares the files that lie beside the manifest with it. Those of other servers are not looked at.
fn files(chosen: &Selected) -> Result<(), String> {
    let fetcher = Fetcher::new(fetch::Setup::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let mut wrong = Vec::new();
    for (scope, item) in chosen.in_order() {
        if item.location.file().is_none() {
            continue;
        }
        let got = runtime.block_on(fetcher.bytes(&item.location, LARGEST));
        match got {
            Ok(bytes) if Digest::of(&bytes) == item.expected.digest => {}
            Ok(_) => wrong.push(format!(
                "{}/{}: it is another file than the manifest says; run: sailplane manifest fill",
                scope.id(),
                item.name
            )),
            Err(error) => wrong.push(format!("{}/{}: {error}", scope.id(), item.name)),
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}
