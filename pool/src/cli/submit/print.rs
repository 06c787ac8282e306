//! What `submit` says.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use classad::ClassAd;

use super::{Submit, count};
use crate::cli::connect::{ToolError, local};
use crate::submit::Submission;

/// Something odd, which does not stop the submission.
#[expect(clippy::print_stderr, reason = "the tool's channel to its user")]
pub(super) fn warning(text: &str) {
    eprintln!("WARNING: {text}");
}

/// The jobs are in the queue, or would be.
#[expect(clippy::print_stdout, reason = "the tool's answer")]
pub(super) fn submitted(submit: &Submit, submission: &Submission, cluster: i32, done: &str) {
    if submit.verbose {
        for (proc, own) in submission.procs.iter().enumerate() {
            let mut whole = submission.cluster.clone();
            whole.update(own);
            println!("\n** Proc {cluster}.{proc}:\n{}", whole.to_old());
        }
    }
    let jobs = count(submission);
    if submit.terse {
        println!("{cluster}.0 - {cluster}.{}", jobs.saturating_sub(1));
    } else {
        println!("{jobs} job(s) {done} to cluster {cluster}.");
    }
}

/// All attributes of the cluster and the first job, then what differs, each part with a dot behind it, as
/// `condor_submit -dry-run` writes it.
pub(super) fn dry_run(target: &Path, submission: &Submission) -> Result<(), ToolError> {
    let written = if target == Path::new("-") {
        write(&mut io::stdout().lock(), submission)
    } else {
        File::create(target).and_then(|mut file| write(&mut file, submission))
    };
    written.map_err(|error| local("cannot write", target, error))
}

fn write(out: &mut impl Write, submission: &Submission) -> io::Result<()> {
    attributes(out, &submission.cluster)?;
    for own in &submission.procs {
        attributes(out, own)?;
        writeln!(out, ".")?;
    }
    out.flush()
}

fn attributes(out: &mut impl Write, ad: &ClassAd) -> io::Result<()> {
    for (name, expr) in ad.iter() {
        writeln!(out, "{}={}", name.as_str(), expr.to_old())?;
    }
    Ok(())
}
