//! What custom checks have left to be done when the pilot ends: clean-up scripts, last words, the result documents that
//! factories collect.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::time::Instant;

use super::result::{self, CheckResult, FORM};
use super::script::Chain;
use super::{Ending, stamp, store};
use crate::findings::Report;
use crate::probe::Running;

/// Longest time of one clean-up script.
const LIMIT: Duration = Duration::from_secs(60);

/// Most last words that are passed on, bytes.
const WORDS_MAX: usize = 64 << 10;

/// Largest list of results that goes into the long document, bytes.
const LIST_MAX: usize = 8 << 20;

/// The end of a chain.
#[derive(Debug)]
pub(super) struct End {
    pub(super) chain: Arc<Chain>,
    /// Whether the documents are printed.
    pub(super) documents: bool,
}

impl Ending for End {
    fn end<'a>(&'a self, report: &'a Report) -> Running<'a, ()> {
        Box::pin(async move {
            if self.documents {
                let (short, long) = documents(&self.chain, report);
                // Nobody may be listening any more.
                let _ = print(&short, &long);
            }
            for script in scripts(&self.chain.area().cleanup()) {
                self.clean_up(&script).await;
            }
            self.chain.end_background();
            let words = self.chain.area().top().join("exit_message");
            if let Ok(Some(words)) = store::read_up_to(&words, WORDS_MAX) {
                for line in String::from_utf8_lossy(&words).lines() {
                    tracing::warn!("a check leaves word: {line}");
                }
            }
        })
    }
}

impl End {
    async fn clean_up(&self, script: &Script) {
        let top = self.chain.area().top();
        let board = top.join("glidein_config");
        let command = match script {
            Script::Run(file) => self.chain.command(file, top).arg(&board),
            Script::Source(file) => self
                .chain
                .command(Path::new("/bin/sh"), top)
                .arg("-c")
                .arg("glidein_config=$2; . \"$1\"")
                .arg("sh")
                .arg(file)
                .arg(&board),
        };
        let ended = command.deadline(Instant::now() + LIMIT).run().await;
        match ended {
            Ok(ended) if ended.how == crate::process::How::Exited(0) => {}
            Ok(ended) => tracing::warn!("the clean-up script {script} failed: {:?}", ended.how),
            Err(error) => tracing::warn!("the clean-up script {script}: {error}"),
        }
    }
}

/// A clean-up script.
enum Script {
    /// An executable.
    Run(PathBuf),
    /// A file for a shell.
    Source(PathBuf),
}

impl std::fmt::Display for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run(file) | Self::Source(file) => write!(f, "{}", file.display()),
        }
    }
}

/// What is to be run in a folder, in the order of the names.
fn scripts(folder: &Path) -> Vec<Script> {
    use std::os::unix::fs::PermissionsExt;
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
        .into_iter()
        .filter_map(|file| {
            let extension = file.extension().and_then(|end| end.to_str()).unwrap_or("");
            let runs =
                std::fs::metadata(&file).is_ok_and(|meta| meta.permissions().mode() & 0o100 != 0);
            match extension {
                "ignore" => None,
                _ if runs => Some(Script::Run(file)),
                "sh" | "source" => Some(Script::Source(file)),
                _ => None,
            }
        })
        .collect()
}

fn print(short: &str, long: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "=== XML description of glidein activity ===")?;
    writeln!(out, "{short}")?;
    writeln!(out, "=== End XML description of glidein activity ===")?;
    out.flush()?;
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(long.as_bytes())?;
    let text = STANDARD.encode(packed.finish()?);
    let mut out = std::io::stderr().lock();
    writeln!(out, "=== Encoded XML description of glidein activity ===")?;
    writeln!(out, "begin-base64 644 -")?;
    for line in text.as_bytes().chunks(76) {
        out.write_all(line)?;
        out.write_all(b"\n")?;
    }
    writeln!(out, "====")?;
    writeln!(
        out,
        "=== End encoded XML description of glidein activity ==="
    )?;
    out.flush()
}

/// The short and the long document.
fn documents(chain: &Chain, report: &Report) -> (String, String) {
    let area = chain.area();
    let board = area.dashboard().load().unwrap_or_default();
    let value = |key: &str| board.text(key).unwrap_or_default();
    let mut who: Vec<(&str, String)> = vec![
        ("client_name", value("GLIDECLIENT_Name")),
        ("client_group", value("GLIDECLIENT_Group")),
        ("user", report.node.account.clone()),
        ("arch", report.node.arch.clone()),
        ("os", report.node.system.clone()),
        ("hostname", report.node.host.clone()),
        ("cwd", area.top().display().to_string()),
    ];
    let last = chain.last();
    let ok = chain.stopped().is_none() && report.failures().is_empty();
    let mut told = last
        .as_ref()
        .map(|last| last.result.clone())
        .unwrap_or_default();
    told.ok = ok;
    if let Some(name) = chain.stopped() {
        told.metrics
            .insert(0, ("TestID".to_owned(), name.to_owned()));
    }
    if ok {
        told.failure = None;
        told.detail = None;
    }
    let times = last.map_or_else(
        || (report.started, stamp::now()),
        |last| (last.start, last.end),
    );
    let short = document(&who, &told, times, None);
    for (name, key) in [
        ("glidein_factory", "GLIDEIN_Factory"),
        ("glidein_name", "GLIDEIN_Name"),
        ("glidein_entry", "GLIDEIN_Entry_Name"),
        ("condorg_cluster", "CONDORG_CLUSTER"),
        ("condorg_subcluster", "CONDORG_SUBCLUSTER"),
        ("glidein_credential_id", "GLIDEIN_CredentialIdentifier"),
        ("condorg_schedd", "CONDORG_SCHEDD"),
    ] {
        who.push((name, value(key)));
    }
    let list = store::read_up_to(&area.results(), LIST_MAX)
        .ok()
        .flatten()
        .unwrap_or_default();
    let long = document(&who, &told, times, Some(&String::from_utf8_lossy(&list)));
    (short, long)
}

fn document(
    who: &[(&str, String)],
    told: &CheckResult,
    (start, end): (i64, i64),
    list: Option<&str>,
) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\"?>\n<OSGTestResult id=\"sailplane\" version=\"{FORM}\">\n  <operatingenvironment>\n"
    );
    for (name, value) in who {
        let _ = writeln!(
            text,
            "    <env name=\"{name}\">{}</env>",
            result::escape(value)
        );
    }
    let _ = write!(
        text,
        "  </operatingenvironment>\n  <test>\n    <tStart>{}</tStart>\n    <tEnd>{}</tEnd>\n  </test>\n{}",
        stamp::local(start),
        stamp::local(end),
        told.body(&stamp::local(end))
    );
    if let Some(list) = list {
        let _ = write!(
            text,
            "  <subtestlist>\n    <OSGTestResults>\n{list}    </OSGTestResults>\n  </subtestlist>\n"
        );
    }
    text.push_str("</OSGTestResult>\n");
    text
}
