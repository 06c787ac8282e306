//! The language of submit files, as HTCondor's `condor_submit` 23.9.6 reads it.
//!
//! Pure: text goes in, job ads come out. What must be known of the world comes in with [`SubmitContext`] and
//! [`SubmitFiles`]. The ads are those of the real tool, attribute by attribute, but for what its schedd adds; a hundred
//! submit files with the real tool's answers are in `pool/tests/submit`.
//!
//! # Where it differs on purpose
//! * All mistakes are reported, not only the first, each with file and line.
//! * What this pool cannot do (other universes than `vanilla`, containers, late materialization, XML logs, OAuth) is refused
//!   instead of being queued for ever.
//! * A missing executable or input file is a mistake at submission; `skip_filechecks = true` turns that off.
//! * `$(Cluster)` is known: the queue gives the number before the ads are made.

mod context;
mod environment;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod glob;
mod items;
mod job;
mod path;
mod queue_args;
mod quoting;
mod reader;

use std::sync::Arc;

use classad::ClassAd;
use condorconf::Origin;
use condorconf::macros::Macros;

pub use context::{Banner, FileStat, SubmitContext, SubmitFiles};
pub use error::{Place, SubmitError, SubmitErrors, Warning};

use crate::config::ClassAdEvaluator;
use job::{Job, Number};
use queue_args::{Mode, QueueArguments};
use reader::{MOST_ERRORS, Reader, Source};

/// Jobs, ready for the queue.
#[derive(Debug, Clone)]
pub struct Submission {
    /// What all jobs share, `ClusterId` included.
    pub cluster: ClassAd,
    /// What is each job's own, `ProcId` and `JobStatus` included.
    pub procs: Vec<ClassAd>,
    /// What is legal but odd.
    pub warnings: Vec<Warning>,
    /// Whether the number of the cluster stands in more than `ClusterId`: in names of files and the like.
    pub uses_cluster: bool,
}

/// Jobs in one submission, unless the configuration says fewer.
const MOST_JOBS: usize = 1_000_000;

/// The value that a queue variable has when its statement is over.
const OVER: &str = "<Queue_item>";

/// Reads a submit file.
///
/// # Errors
/// All mistakes found, each with file, line and what was expected.
pub fn parse(
    text: &str,
    file_name: &str,
    context: &SubmitContext,
    files: &dyn SubmitFiles,
) -> Result<Submission, SubmitErrors> {
    let macros = initial_macros(file_name, context);
    let mut reader = Reader::new(macros, context, files);
    let mut queued = Queued::default();
    let mut source = Source::new(file_name, text);
    let mut statements = 0;
    while let Some(arguments) = reader.next_queue(&mut source) {
        statements += 1;
        let place = source.place();
        if statements == 1 {
            append(&mut reader);
            if context.queue.is_some() {
                reader.fail(
                    Some(place.clone()),
                    "queue stands in the file and on the command line: expected one of them",
                );
            }
        }
        queue(&mut reader, &mut queued, &arguments, &mut source, &place);
        if reader.errors.len() >= MOST_ERRORS {
            break;
        }
    }
    if statements == 0 {
        append(&mut reader);
        let place = source.place();
        match &context.queue {
            Some(arguments) => {
                let place = Place {
                    file: "-queue".to_owned(),
                    line: 0,
                };
                let mut nothing = Source::new("-queue", "");
                queue(&mut reader, &mut queued, arguments, &mut nothing, &place);
            }
            None if reader.errors.is_empty() => reader.fail(
                Some(place),
                "there is no queue statement: expected queue at the end of the file",
            ),
            None => {}
        }
    }
    queued.finish(reader, context)
}

/// Lines of the command line, which count as if they stood before the first `queue`.
fn append(reader: &mut Reader<'_>) {
    let lines = reader.context.appended.clone();
    for line in &lines {
        reader.extra("-append", line);
    }
}

/// What has been queued so far.
#[derive(Default)]
struct Queued {
    cluster: Option<ClassAd>,
    base: Option<ClassAd>,
    procs: Vec<ClassAd>,
    variables: Vec<String>,
    empty: bool,
}

/// Follows one `queue`.
fn queue(
    reader: &mut Reader<'_>,
    queued: &mut Queued,
    arguments: &str,
    source: &mut Source<'_>,
    place: &Place,
) {
    let parsed = reader
        .expand(arguments)
        .and_then(|text| QueueArguments::parse(&text, &reader.macros));
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(message) => return reader.fail(Some(place.clone()), message),
    };
    let items = match reader.items(&parsed, source, place) {
        Ok(items) => items,
        Err(message) => return reader.fail(Some(place.clone()), message),
    };
    // After a mistake in a statement, what the jobs would lack tells nothing.
    if !reader.errors.is_empty() {
        return;
    }
    let variables: &[String] = match parsed.mode {
        Mode::Plain => &[],
        _ => &parsed.variables,
    };
    set_all(reader, variables, "", place);
    for name in variables {
        if !queued.variables.contains(name) {
            queued.variables.push(name.clone());
        }
    }
    let count = if parsed.mode == Mode::Plain {
        1
    } else {
        items.len()
    };
    for row in parsed.slice.select(count) {
        let item = items.get(row).map_or("", String::as_str);
        if !variables.is_empty() && !set_variables(reader, variables, item, row, place) {
            return;
        }
        for step in 0..parsed.count {
            if !queued.one(reader, row, step, place) {
                return;
            }
        }
    }
    queued.empty |= count == 0 || parsed.count == 0;
    set_all(reader, variables, OVER, place);
}

fn set_all(reader: &mut Reader<'_>, variables: &[String], value: &str, place: &Place) {
    for name in variables {
        reader.macros.set(name, value, origin(place));
    }
}

fn origin(place: &Place) -> Origin {
    Origin::File(condorconf::Place {
        file: Arc::from(place.file.as_str()),
        line: place.line,
        template: None,
    })
}

/// Gives the variables their values; what an item does not reach keeps the value of the item before, as in HTCondor.
fn set_variables(
    reader: &mut Reader<'_>,
    variables: &[String],
    item: &str,
    row: usize,
    place: &Place,
) -> bool {
    let mut empty = Vec::new();
    for (name, value) in variables.iter().zip(items::split(item, variables.len())) {
        if value.is_empty() {
            empty.push(name.as_str());
        }
        reader.macros.set(name, value, origin(place));
    }
    if empty.is_empty() {
        return true;
    }
    let message = format!("item {row} has no value for {}", empty.join(", "));
    let outcome = reader
        .flag("SubmitFailEmptyFields", "submit_fail_empty_fields", false)
        .and_then(|fail| {
            let warn = reader.flag("SubmitWarnEmptyFields", "submit_warn_empty_fields", true)?;
            Ok((fail, warn))
        });
    match outcome {
        Ok((true, _)) => reader.fail(Some(place.clone()), message),
        Ok((false, true)) => {
            reader.warn(Some(place.clone()), message);
            return true;
        }
        Ok((false, false)) => return true,
        Err(message) => reader.fail(Some(place.clone()), message),
    }
    false
}

impl Queued {
    /// Makes one job; `false` when the submission has failed.
    fn one(&mut self, reader: &mut Reader<'_>, row: usize, step: u32, place: &Place) -> bool {
        let context = reader.context;
        let limit = context
            .knob("SUBMIT_MAX_PROCS_IN_CLUSTER")
            .and_then(|text| reader.macros.integer(text))
            .and_then(|limit| usize::try_from(limit).ok())
            .filter(|limit| *limit > 0)
            .unwrap_or(MOST_JOBS);
        if self.procs.len() >= limit {
            reader.fail(
                Some(place.clone()),
                format!("more than {limit} jobs in one submission"),
            );
            return false;
        }
        let proc = i32::try_from(self.procs.len()).unwrap_or(i32::MAX);
        for (names, value) in [
            (["Process", "ProcId"].as_slice(), proc.to_string()),
            (&["Row", "ItemIndex"], row.to_string()),
            (&["Step"], step.to_string()),
        ] {
            for name in names {
                reader.macros.set_default(name, &value);
            }
        }
        let file_name = reader
            .macros
            .raw("SUBMIT_FILE")
            .unwrap_or_default()
            .to_owned();
        let number = Number {
            cluster: context.cluster,
            proc,
            place,
            file_name: &file_name,
        };
        let start = match (&self.cluster, &self.base) {
            (Some(cluster), _) => cluster.clone(),
            (None, Some(base)) => base.clone(),
            (None, None) => {
                let base = job::base_ad(reader);
                self.base = Some(base.clone());
                base
            }
        };
        let mut ad = Job::new(reader, start, number).make();
        if !reader.errors.is_empty() {
            return false;
        }
        match &self.cluster {
            None => {
                let mut own = ClassAd::new();
                for name in ["ProcId", "JobStatus"] {
                    if let Some(expr) = ad.get(name).cloned() {
                        own.insert(name, expr);
                    }
                }
                ad.remove("ProcId");
                self.cluster = Some(ad);
                self.procs.push(own);
            }
            Some(cluster) => {
                let own = ad
                    .iter()
                    .filter(|(name, expr)| {
                        ["ProcId", "JobStatus"].contains(&name.as_str())
                            || cluster.get(name.as_str()) != Some(*expr)
                    })
                    .map(|(name, expr)| (name.clone(), expr.clone()))
                    .collect();
                self.procs.push(own);
            }
        }
        true
    }

    fn finish(
        self,
        mut reader: Reader<'_>,
        context: &SubmitContext,
    ) -> Result<Submission, SubmitErrors> {
        if reader.errors.is_empty() && self.procs.is_empty() && self.empty {
            reader.fail(
                None,
                "the queue statements name no job: every count or list of items is empty",
            );
        }
        match self.cluster {
            Some(cluster) if reader.errors.is_empty() => {
                if context.says("WARN_ON_UNUSED_SUBMIT_FILE_MACROS") {
                    unused(&mut reader, &self.variables);
                }
                Ok(Submission {
                    cluster,
                    procs: self.procs,
                    uses_cluster: ["Cluster", "ClusterId", "JobId"]
                        .iter()
                        .any(|name| reader.macros.is_used(name)),
                    warnings: reader.warnings,
                })
            }
            _ => {
                if reader.errors.is_empty() {
                    reader.fail(None, "there is no job in the submit file");
                }
                reader.errors.sort_by(|a, b| a.place.cmp(&b.place));
                Err(SubmitErrors(reader.errors))
            }
        }
    }
}

/// Names that templates and other programs set without minding whether they are used
/// (`htcondor:src/condor_utils/submit_utils.cpp`, `warn_unused`).
const NOT_MINDED: [&str; 4] = ["dag_status", "failed_count", "job", "retry"];

/// Warns of lines that nothing looked at.
fn unused(reader: &mut Reader<'_>, variables: &[String]) {
    let mut found = Vec::new();
    for (name, raw, origin, seen) in reader.macros.entries() {
        let lower = name.to_ascii_lowercase();
        if seen
            || name.contains('.')
            || NOT_MINDED.contains(&lower.as_str())
            || (lower.starts_with("submit") && lower.contains("empty"))
        {
            continue;
        }
        let place = origin.place().map(|place| Place {
            file: place.file.to_string(),
            line: place.line,
        });
        let message = if variables
            .iter()
            .any(|variable| variable.eq_ignore_ascii_case(name))
        {
            format!("nothing uses the variable {name} of queue; is it a typo?")
        } else {
            format!("nothing uses the line {name} = {raw}; is it a typo?")
        };
        found.push((place, message));
    }
    found.sort();
    for (place, message) in found {
        reader.warn(place, message);
    }
}

/// Macros that are there before the file is read.
fn initial_macros(file_name: &str, context: &SubmitContext) -> Macros {
    let mut macros = Macros::new(
        "SUBMIT",
        context.environment.clone(),
        Arc::new(ClassAdEvaluator),
        context.seed,
    );
    macros.set_directory(&context.cwd);
    let day = jiff::tz::Offset::from_seconds(context.utc_offset)
        .ok()
        .zip(jiff::Timestamp::from_second(context.now).ok())
        .map(|(offset, time)| offset.to_datetime(time))
        .unwrap_or_default();
    let cluster = context.cluster.to_string();
    for (name, value) in [
        ("Cluster", cluster.as_str()),
        ("ClusterId", &cluster),
        ("JobId", "$(ClusterId).$(ProcId)"),
        ("Process", "0"),
        ("ProcId", "0"),
        ("Row", "0"),
        ("ItemIndex", "0"),
        ("Step", "0"),
        ("Node", ""),
        ("IsLinux", "1"),
        ("IsWindows", "0"),
        ("SUBMIT_FILE", file_name),
        ("SUBMIT_TIME", &context.now.to_string()),
        ("YEAR", &day.year().to_string()),
        ("MONTH", &format!("{:02}", day.month())),
        ("DAY", &format!("{:02}", day.day())),
        ("Request_CPUs", "$(RequestCPUs)"),
        ("Request_Memory", "$(RequestMemory)"),
    ] {
        macros.set_default(name, value);
    }
    for name in [
        "ARCH",
        "OPSYS",
        "OPSYSANDVER",
        "OPSYSMAJORVER",
        "OPSYSVER",
        "SPOOL",
    ] {
        macros.set_default(name, context.knob(name).unwrap_or(""));
    }
    for (name, value) in &context.assignments {
        macros.set(name, value, Origin::CommandLine);
    }
    macros
}
