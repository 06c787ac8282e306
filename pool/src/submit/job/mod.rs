//! One job ad, made from the macros as they stand when the job is queued.
//!
//! The order of the steps and what each sets are those of `htcondor:src/condor_utils/submit_utils.cpp`
//! (`make_job_ad`), checked against what the `condor_submit` of 23.9.6 really gives.

mod accounting;
mod arguments;
mod executable;
mod policy;
mod proxy;
mod requirements;
mod resources;
mod simple;
mod stdio;
mod transfer;
mod units;

use classad::{ClassAd, Expr, Value};
use condorconf::macros::Macros;

use super::context::{SubmitContext, attribute_knob};
use super::error::Place;
use super::path::absolute;
use super::reader::Reader;

/// A job in the making.
pub(super) struct Job<'r, 'a> {
    reader: &'r mut Reader<'a>,
    /// What the job has so far; begins as what all jobs have, or as the cluster's ad for all but the first.
    ad: ClassAd,
    /// The job's directory, absolute.
    iwd: String,
    /// Which job this is.
    number: Number<'r>,
    /// Size of the executable in KiB.
    executable_kb: i64,
    /// The files of this job are not looked at.
    skip_file_checks: bool,
    should_transfer: ShouldTransfer,
}

/// Which job of the submission it is, and where it was queued.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number<'p> {
    pub(super) cluster: i32,
    pub(super) proc: i32,
    /// The `queue` statement.
    pub(super) place: &'p Place,
    /// The submit file's name.
    pub(super) file_name: &'p str,
}

/// `should_transfer_files`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShouldTransfer {
    Yes,
    No,
    IfNeeded,
}

/// The ad that every job begins with.
pub(super) fn base_ad(reader: &mut Reader<'_>) -> ClassAd {
    let context = reader.context;
    let mut ad = ClassAd::new();
    ad.insert("MyType", "Job");
    ad.insert("TargetType", "Machine");
    ad.insert("QDate", context.now);
    ad.insert("JobSubmitMethod", 0);
    ad.insert("Owner", Expr::literal(Value::Undefined));
    if context.says("SUBMIT_SHOULD_SET_LOCAL_OWNER") {
        ad.insert("Owner", context.owner.as_str());
    }
    for name in [
        "RemoteWallClockTime",
        "RemoteUserCpu",
        "RemoteSysCpu",
        "CumulativeRemoteUserCpu",
        "CumulativeRemoteSysCpu",
    ] {
        ad.insert(name, 0.0);
    }
    for name in [
        "ExitStatus",
        "NumCkpts",
        "NumJobStarts",
        "NumJobCompletions",
        "NumRestarts",
        "NumSystemHolds",
        "CommittedTime",
        "CommittedSlotTime",
        "CumulativeSlotTime",
        "TotalSuspensions",
        "LastSuspensionTime",
        "CumulativeSuspensionTime",
        "CommittedSuspensionTime",
    ] {
        ad.insert(name, 0);
    }
    ad.insert("ExitBySignal", false);
    for (name, _) in configured_attributes(context, false) {
        let Some(text) = context.knob(&name.to_ascii_uppercase()) else {
            continue;
        };
        if ad.insert_expr(name.as_str(), text).is_err() {
            reader.warn(
                None,
                format!("the configuration's SUBMIT_ATTRS names {name}, but its value {text:?} is no expression"),
            );
        }
    }
    ad.insert("CondorVersion", context.banner.version.as_str());
    ad.insert("CondorPlatform", context.banner.platform.as_str());
    ad
}

/// Attributes that the configuration puts into all jobs; `forced` ones win over the user's.
fn configured_attributes(
    context: &SubmitContext,
    forced: bool,
) -> impl Iterator<Item = (String, bool)> {
    let lists = ["SUBMIT_ATTRS", "SUBMIT_EXPRS", "SYSTEM_SUBMIT_ATTRS"]
        .map(|list| context.knob(list).unwrap_or("").to_owned());
    lists
        .into_iter()
        .flat_map(|list| super::queue_args::words(&list))
        .map(|entry| {
            let name = attribute_knob(&entry);
            (name.to_owned(), name.len() != entry.len())
        })
        .filter(move |(_, is_forced)| *is_forced == forced)
}

impl<'r, 'a> Job<'r, 'a> {
    pub(super) fn new(reader: &'r mut Reader<'a>, start: ClassAd, number: Number<'r>) -> Self {
        Self {
            reader,
            ad: start,
            iwd: String::new(),
            number,
            executable_kb: 0,
            skip_file_checks: false,
            should_transfer: ShouldTransfer::IfNeeded,
        }
    }

    /// Makes the ad. Mistakes go to the reader.
    pub(super) fn make(mut self) -> ClassAd {
        if self.number.proc == 0 {
            self.universe();
            self.refuse();
        }
        self.skip_file_checks = self.flag("skip_filechecks", None, false);
        self.working_directory();
        self.executable();
        self.arguments();
        self.environment();
        self.status();
        self.standard_files();
        self.proxy();
        self.notification();
        self.rank();
        self.periodic();
        self.leave_in_queue();
        self.retries();
        self.signals();
        self.request_resources();
        self.concurrency();
        self.accounting();
        self.simple_commands();
        self.deferral();
        self.sizes();
        self.transfer();
        self.automatic();
        self.configured();
        self.forced();
        self.require_gpus();
        self.requirements();
        self.ad
    }

    fn macros(&self) -> &Macros {
        &self.reader.macros
    }

    fn context(&self) -> &'a SubmitContext {
        self.reader.context
    }

    /// The expanded value of a command; `None` if it is not set or empty.
    fn get(&mut self, name: &str) -> Option<String> {
        match self.macros().get(name) {
            Ok(value) => value,
            Err(error) => {
                self.fail(name, error.to_string());
                None
            }
        }
    }

    /// The expanded value of a command that has another name too, which counts only if the first is not set.
    fn either(&mut self, name: &str, other: &str) -> Option<String> {
        let name = self.present(name, other);
        self.get(name)
    }

    /// Which of two names of a command is set.
    fn present<'n>(&self, name: &'n str, other: &'n str) -> &'n str {
        if self.macros().raw(name).is_none() && self.macros().raw(other).is_some() {
            other
        } else {
            name
        }
    }

    /// A yes or no.
    fn flag(&mut self, name: &str, other: Option<&str>, default: bool) -> bool {
        let name = other.map_or(name, |other| self.present(name, other));
        let Some(text) = self.get(name) else {
            return default;
        };
        let value = self.macros().boolean(&text);
        if value.is_none() {
            self.fail(name, format!("{name} = {text}: expected true or false"));
        }
        value.unwrap_or(default)
    }

    /// An integer.
    fn integer(&mut self, name: &str, other: &str) -> Option<i64> {
        let name = self.present(name, other);
        let text = self.get(name)?;
        let value = self.macros().integer(&text);
        if value.is_none() {
            self.fail(name, format!("{name} = {text}: expected an integer"));
        }
        value
    }

    fn set(&mut self, attribute: &str, value: impl Into<Expr>) {
        self.ad.insert(attribute, value);
    }

    /// Sets an attribute to an expression that the command `name` gives.
    fn set_expression(&mut self, attribute: &str, text: &str, name: &str) {
        if let Err(error) = self.ad.insert_expr(attribute, text) {
            self.fail(
                name,
                format!("{name} = {text}: expected a ClassAd expression ({error})"),
            );
        }
    }

    /// Sets an attribute to an expression, if the command is given.
    fn copy_expression(&mut self, attribute: &str, name: &str) -> bool {
        let name = self.present(name, attribute);
        let Some(text) = self.get(name) else {
            return false;
        };
        self.set_expression(attribute, &text, name);
        true
    }

    fn has(&self, attribute: &str) -> bool {
        self.ad.contains(attribute)
    }

    /// Where a command stands: its line, else the `queue` statement.
    fn place(&self, name: &str) -> Place {
        match self.macros().origin(name) {
            Some(condorconf::Origin::File(place)) => Place {
                file: place.file.to_string(),
                line: place.line,
            },
            Some(condorconf::Origin::CommandLine) => Place {
                file: "command line".to_owned(),
                line: 0,
            },
            _ => self.number.place.clone(),
        }
    }

    /// A mistake in a command.
    fn fail(&mut self, name: &str, message: impl Into<String>) {
        let place = self.place(name);
        self.reader.fail(Some(place), message);
    }

    /// Something odd about a command.
    fn warn(&mut self, name: &str, message: impl Into<String>) {
        let place = self.place(name);
        self.reader.warn(Some(place), message);
    }

    /// The job's directory, which must be there.
    fn working_directory(&mut self) {
        let name = ["initialdir", "Iwd", "initial_dir", "job_iwd"]
            .into_iter()
            .find(|name| self.macros().raw(name).is_some())
            .unwrap_or("initialdir");
        let cwd = self.context().cwd.as_str();
        let given = self.get(name);
        self.iwd = absolute(cwd, given.as_deref().unwrap_or(""));
        if given.is_none() && self.iwd.len() > 1 {
            self.iwd = self.iwd.trim_end_matches('/').to_owned();
        }
        if let Some(given) = given
            && self.context().check_files
            && !self
                .reader
                .files
                .stat(&self.iwd)
                .is_ok_and(|stat| stat.is_dir)
        {
            self.fail(
                name,
                format!("{name} = {given}: there is no directory {}", self.iwd),
            );
        }
        let iwd = self.iwd.clone();
        self.reader.macros.set_directory(&iwd);
        self.set("Iwd", iwd.as_str());
        let file = self.number.file_name;
        self.set("JobSubmitFile", file);
    }

    /// A path below the job's directory.
    fn full_path(&self, name: &str) -> String {
        absolute(&self.iwd, name)
    }

    /// Attributes the configuration wants in all jobs, whatever the user says.
    fn configured(&mut self) {
        let context = self.context();
        for (name, _) in configured_attributes(context, true) {
            if let Some(text) = context.knob(&name.to_ascii_uppercase()) {
                self.set_expression(&name, text, "SUBMIT_ATTRS");
            }
        }
    }

    /// `+Name = expression` and `MY.Name = expression`; and the job's number, which nobody can choose.
    fn forced(&mut self) {
        let entries: Vec<(String, String)> = self
            .macros()
            .entries()
            .filter_map(|(name, raw, _, _)| {
                let attribute = name.get(3..)?;
                name.get(..3)?
                    .eq_ignore_ascii_case("MY.")
                    .then(|| (attribute.to_owned(), raw.to_owned()))
            })
            .collect();
        for (attribute, raw) in entries {
            let name = format!("MY.{attribute}");
            match self.macros().expand(&raw) {
                Ok(text) if text.is_empty() => {
                    self.set(&attribute, Expr::literal(Value::Undefined));
                }
                Ok(text) => {
                    if let Err(error) = self.ad.insert_expr(attribute.as_str(), &text) {
                        self.fail(
                            &name,
                            format!("+{attribute} = {text}: expected a ClassAd expression, a string in double quotes ({error})"),
                        );
                    }
                }
                Err(error) => self.fail(&name, error.to_string()),
            }
        }
        self.ad.insert("ClusterId", i64::from(self.number.cluster));
        self.ad.insert("ProcId", i64::from(self.number.proc));
    }
}
