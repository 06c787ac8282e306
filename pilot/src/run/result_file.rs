//! The report as a file, for whoever collects the pilot's files when it has ended.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use validation::Report;
use validation::report::{Format, Look, render};

use crate::knobs::Knobs;

/// Its name in `LOG`.
const NAME: &str = "sailplane-validation.json";

/// Where it goes: `SAILPLANE_RESULT_FILE`, else beside the log.
pub(crate) fn place(knobs: &Knobs) -> Option<PathBuf> {
    let named = knobs.checks.path("SAILPLANE_RESULT_FILE").cloned();
    named.or_else(|| Some(knobs.log.as_ref()?.join(NAME)))
}

/// Writes it, whole or not at all: readers never see half of it. That it cannot be written is no reason to end.
pub(crate) fn write(path: &Path, report: &Report) {
    if let Err(error) = replace(path, &render(report, Format::Json, Look::default())) {
        tracing::warn!(path = %path.display(), "cannot write the result file: {error}");
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    fs::write(&new, text)?;
    fs::set_permissions(&new, Permissions::from_mode(0o644))?;
    fs::rename(&new, path)
}
