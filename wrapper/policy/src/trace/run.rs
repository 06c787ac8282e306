//! Opens the files, gives up all privilege, reads.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use nix::unistd::{Gid, Uid, getuid, setgroups, setresgid, setresuid};

use super::{History, Query, output};
use crate::config::{Config, MAX_CONFIG, NOBODY};
use crate::refuse::why;
use crate::store;

/// Largest audit file that is read, in bytes.
const MAX_AUDIT: usize = 1 << 30;

/// Answers a query on `out`; `false`: nothing was found.
///
/// # Errors
/// A sentence about what could not be done.
pub(crate) fn trace(
    config: &Path,
    query: &Query,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<bool, String> {
    let failed = |path: &Path, error: io::Error| format!("{}: {}", path.display(), why(&error));
    let text = File::open(config).and_then(|file| store::read(&file, MAX_CONFIG + 1));
    let text = text.map_err(|error| failed(config, error))?;
    let settings = Config::parse(&text).map_err(|errors| {
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        format!("{}:{first}", config.display())
    })?;
    let audit = settings.settings.audit;
    let path = audit.file.ok_or_else(|| {
        format!(
            "{} sets no log_file, so there is nothing to look in",
            config.display()
        )
    })?;
    // Oldest first.
    let old = (1..=audit.keep)
        .rev()
        .map(|number| PathBuf::from(format!("{}.{number}", path.display())));
    let mut files = Vec::new();
    for one in old.chain([path.clone()]) {
        match File::open(&one) {
            Ok(file) => files.push((one, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&one, error)),
        }
    }
    if files.is_empty() {
        return Err(format!("{} does not exist yet", path.display()));
    }
    give_up_privilege().map_err(|error| format!("privileges cannot be given up: {error}"))?;
    let mut history = History::default();
    for (path, file) in files {
        let text = store::read(&file, MAX_AUDIT).map_err(|error| failed(&path, error))?;
        history.read(&text);
    }
    let said = |error: io::Error| format!("writing failed: {}", why(&error));
    if history.strange > 0 {
        let what = format!("{} lines of the log are not audit lines", history.strange);
        writeln!(notes, "{what}").map_err(said)?;
    }
    let runs = history.find(query);
    if query.json {
        for run in &runs {
            let line = serde_json::to_string(run).map_err(|error| error.to_string())?;
            writeln!(out, "{line}").map_err(said)?;
        }
    } else if !runs.is_empty() {
        let table = output::table(&runs, &TimeZone::system());
        out.write_all(table.as_bytes()).map_err(said)?;
    }
    if runs.is_empty() {
        writeln!(notes, "nothing in the log answers to that").map_err(said)?;
    }
    Ok(!runs.is_empty())
}

/// From root to nobody; others are nobody special already.
fn give_up_privilege() -> nix::Result<()> {
    if !getuid().is_root() {
        return Ok(());
    }
    setgroups(&[])?;
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}
