//! The order in which a configuration is put together: `htcondor:src/condor_utils/condor_config.cpp`, `real_config`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use regex::RegexBuilder;

use crate::condition;
use crate::config::{Config, Warning};
use crate::error::{Error, ErrorKind, Errors};
use crate::expand::{Evaluator, strip_prefix_ignore_case};
use crate::files::{FileError, Files};
use crate::limits::Limits;
use crate::line::is_space;
use crate::origin::{Origin, Place};
use crate::read::Reader;
use crate::scan::is_name;
use crate::table::{Scope, Table};
use crate::typed::split_list;

/// The HTCondor whose language is read; what `if version` compares with.
pub const READ_VERSION: (u32, u32, u32) = (23, 9, 6);

/// Puts a configuration together. The order of the calls does not matter, except among files and among sets; what
/// counts is, from weak to strong: defaults, detected facts, the files (then `LOCAL_CONFIG_DIR`, `LOCAL_CONFIG_FILE`,
/// and `LOCAL_CONFIG_DIR` again if the files changed it), the environment, the command line, and last the facts that
/// HTCondor lets nobody override (host names, addresses, `PID`, `USERNAME`, `DETECTED_CPUS`, ...).
///
/// Several files count as one root file that is split up: the local files come after the last of them.
#[expect(missing_debug_implementations, reason = "holds trait objects")]
pub struct Loader<'a> {
    files: &'a dyn Files,
    evaluator: Option<Arc<dyn Evaluator>>,
    limits: Limits,
    scope: Scope,
    seed: u64,
    defaults: Vec<(String, String)>,
    detected: Vec<(String, String)>,
    sources: Vec<Source>,
    sets: Vec<(String, String, Origin)>,
    environment: bool,
}

enum Source {
    File(String),
    Text(String, String),
}

/// Facts that nothing overrides (`reinsert_specials`).
const FINAL_FACTS: [&str; 15] = [
    "TILDE",
    "HOSTNAME",
    "FULL_HOSTNAME",
    "SUBSYSTEM",
    "LOCALNAME",
    "USERNAME",
    "REAL_UID",
    "REAL_GID",
    "PID",
    "PPID",
    "IP_ADDRESS",
    "IP_ADDRESS_IS_IPV6",
    "IPV4_ADDRESS",
    "IPV6_ADDRESS",
    "DETECTED_CPUS",
];

/// Of these, the ones known before any file is read; all others of the list are unknown to conditions in the files.
const EARLY_FACTS: [&str; 4] = ["TILDE", "SUBSYSTEM", "LOCALNAME", "DETECTED_CPUS"];

/// Known once the root files are read, before the local ones.
const MIDDLE_FACTS: [&str; 3] = ["HOSTNAME", "FULL_HOSTNAME", "TILDE"];

/// HTCondor's default for the files of `LOCAL_CONFIG_DIR` to skip.
const EXCLUDE: &str = r"^((\..*)|(.*~)|(#.*)|(.*\.rpmsave)|(.*\.rpmnew))$";

/// The prefix of environment variables, in any case.
const ENVIRONMENT_PREFIX: &str = "_CONDOR_";

impl<'a> Loader<'a> {
    /// A configuration without files, that reads `_CONDOR_` variables from the environment of `files`.
    #[must_use]
    pub fn new(files: &'a dyn Files) -> Self {
        Self {
            files,
            evaluator: None,
            limits: Limits::default(),
            scope: Scope::default(),
            seed: 0,
            defaults: Vec::new(),
            detected: Vec::new(),
            sources: Vec::new(),
            sets: Vec::new(),
            environment: true,
        }
    }

    /// Whose configuration it is (`STARTD`): `STARTD.NAME` counts before `NAME`, and `$(SUBSYSTEM)` is this.
    #[must_use]
    pub fn subsys(mut self, name: &str) -> Self {
        self.scope.subsys = Some(name.to_owned());
        self
    }

    /// The local name: `LOCALNAME.NAME` counts before all others.
    #[must_use]
    pub fn local_name(mut self, name: &str) -> Self {
        self.scope.local_name = Some(name.to_owned()).filter(|name| !name.is_empty());
        self
    }

    /// Who evaluates ClassAd expressions. Without one, `$EVAL()` is an error and numbers must be literals.
    #[must_use]
    pub fn evaluator(mut self, evaluator: Arc<dyn Evaluator>) -> Self {
        self.evaluator = Some(evaluator);
        self
    }

    /// Other limits than the default.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What `$RANDOM_CHOICE()` and `$RANDOM_INTEGER()` derive their numbers from; 0 if not called.
    #[must_use]
    pub fn random_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// What a knob is when nothing sets it; the value may refer to other knobs.
    #[must_use]
    pub fn default_value(mut self, name: &str, raw: &str) -> Self {
        self.defaults.push((name.to_owned(), raw.to_owned()));
        self
    }

    /// A fact about machine or process, such as `FULL_HOSTNAME` or `DETECTED_CPUS`.
    #[must_use]
    pub fn detected(mut self, name: &str, value: &str) -> Self {
        self.detected.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A root configuration file; a name that ends in `|` is a command.
    #[must_use]
    pub fn read_file(mut self, path: &str) -> Self {
        self.sources.push(Source::File(path.to_owned()));
        self
    }

    /// Text, with a name for origins and messages.
    #[must_use]
    pub fn read_text(mut self, name: &str, text: &str) -> Self {
        self.sources
            .push(Source::Text(name.to_owned(), text.to_owned()));
        self
    }

    /// Sets a knob after files and environment, as the command line does.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str, origin: Origin) -> Self {
        self.sets.push((name.to_owned(), value.to_owned(), origin));
        self
    }

    /// Does not look at `_CONDOR_` variables (`$ENV()` still works).
    #[must_use]
    pub fn without_environment(mut self) -> Self {
        self.environment = false;
        self
    }

    /// Reads everything.
    ///
    /// # Errors
    /// All mistakes that were found.
    pub fn finish(mut self) -> Result<Config, Errors> {
        let mut reader = Reader {
            files: self.files,
            evaluator: self.evaluator.take(),
            limits: self.limits,
            scope: std::mem::take(&mut self.scope),
            environment: self.files.environment().into_iter().collect(),
            random: AtomicU64::new(self.seed),
            table: Table::default(),
            errors: Vec::new(),
            warnings: Vec::new(),
            sources: Vec::new(),
            bytes: 0,
            opened: 0,
            work: 0,
        };
        for (name, raw) in &self.defaults {
            reader.table.insert_default(name, raw);
        }
        self.scope_facts(&reader.scope);
        self.facts(&mut reader, |name| {
            !is_in(name, &FINAL_FACTS) || is_in(name, &EARLY_FACTS)
        });
        self.root(&mut reader);
        self.facts(&mut reader, |name| is_in(name, &MIDDLE_FACTS));
        locals(&mut reader);
        if self.environment {
            environment(&mut reader);
        }
        for (name, value, origin) in &self.sets {
            set(&mut reader, name, value, origin.clone());
        }
        self.facts(&mut reader, |name| is_in(name, &FINAL_FACTS));
        domains(&mut reader);
        automatic_templates(&mut reader);
        match Errors::from_vec(std::mem::take(&mut reader.errors)) {
            Some(errors) => Err(errors),
            None => Ok(Config::new(reader)),
        }
    }

    /// `SUBSYSTEM` and `LOCALNAME` (which is the subsystem where there is no local name).
    fn scope_facts(&mut self, scope: &Scope) {
        let facts = [
            ("SUBSYSTEM", &scope.subsys),
            (
                "LOCALNAME",
                if scope.local_name.is_some() {
                    &scope.local_name
                } else {
                    &scope.subsys
                },
            ),
        ];
        for (name, value) in facts {
            self.detected
                .extend(value.iter().map(|value| (name.to_owned(), value.clone())));
        }
    }

    fn facts(&self, reader: &mut Reader<'_>, wanted: impl Fn(&str) -> bool) {
        for (name, value) in self.detected.iter().filter(|(name, _)| wanted(name)) {
            reader.table.insert(name, value.clone(), Origin::Detected);
        }
    }

    fn root(&self, reader: &mut Reader<'_>) {
        let first = self.sources.iter().find_map(|source| match source {
            Source::File(path) if path != "/dev/null" && !path.contains('|') => Some(path),
            Source::File(_) | Source::Text(..) => None,
        });
        if let Some(path) = first {
            reader
                .table
                .insert("CONFIG_ROOT", directory(path), Origin::Detected);
        }
        for source in &self.sources {
            let outcome = match source {
                Source::File(path) => reader.source(path, false, 0),
                Source::Text(name, text) => reader.text(&name.as_str().into(), text.as_bytes(), 0),
            };
            if let Err(kind) = outcome {
                reader.errors.push(Error::new(kind));
            }
        }
    }
}

/// `LOCAL_CONFIG_DIR`, `LOCAL_CONFIG_FILE`, and the former again if it was changed.
fn locals(reader: &mut Reader<'_>) {
    let before = value(reader, "LOCAL_CONFIG_DIR");
    if let Some(dirs) = &before {
        local_dirs(reader, dirs);
    }
    local_files(reader);
    let after = value(reader, "LOCAL_CONFIG_DIR");
    if after != before
        && let Some(dirs) = after
    {
        local_dirs(reader, &dirs);
    }
}

fn local_files(reader: &mut Reader<'_>) {
    const KNOB: &str = "LOCAL_CONFIG_FILE";
    let mut done: Vec<String> = Vec::new();
    let mut list = value(reader, KNOB);
    let mut waiting = list.as_deref().map(local_sources).unwrap_or_default();
    let required = is_required(reader);
    while !waiting.is_empty() && !reader.is_full() {
        let source = waiting.remove(0);
        local_source(reader, &source, KNOB, required);
        done.push(source);
        let now = value(reader, KNOB);
        // A file may change the list it is in.
        if let Some(changed) = now
            && Some(&changed) != list.as_ref()
        {
            waiting = local_sources(&changed);
            waiting.retain(|source| !done.contains(source));
            list = Some(changed);
        }
    }
}

fn local_sources(list: &str) -> Vec<String> {
    if list.contains('|') {
        vec![list.to_owned()]
    } else {
        split_list(list)
    }
}

fn local_dirs(reader: &mut Reader<'_>, dirs: &str) {
    const KNOB: &str = "LOCAL_CONFIG_DIR";
    let required = is_required(reader);
    let pattern =
        value(reader, "LOCAL_CONFIG_DIR_EXCLUDE_REGEXP").unwrap_or_else(|| EXCLUDE.to_owned());
    let Ok(exclude) = RegexBuilder::new(&pattern).size_limit(1 << 20).build() else {
        let kind = ErrorKind::BadPattern { text: pattern };
        knob_error(reader, "LOCAL_CONFIG_DIR_EXCLUDE_REGEXP", kind);
        return;
    };
    for dir in split_list(dirs) {
        match reader.files.list(&dir, reader.limits.files) {
            Ok(entries) => {
                let base = dir.trim_end_matches('/');
                let mut paths: Vec<String> = entries
                    .into_iter()
                    .filter(|entry| !entry.is_dir && !exclude.is_match(&entry.name))
                    .map(|entry| format!("{base}/{}", entry.name))
                    .collect();
                paths.sort_unstable();
                for path in paths {
                    local_source(reader, &path, KNOB, required);
                }
            }
            // HTCondor says nothing of a directory it cannot list.
            Err(FileError::Io(kind)) => reader
                .warnings
                .push(Warning::NoDirectory { path: dir, kind }),
            Err(cause) => knob_error(reader, KNOB, ErrorKind::Unreadable { path: dir, cause }),
        }
    }
}

fn local_source(reader: &mut Reader<'_>, source: &str, knob: &str, required: bool) {
    match reader.source(source, false, 1) {
        Err(ErrorKind::Unreadable {
            cause: FileError::Io(_),
            ..
        }) if !required && !source.contains('|') => {}
        Err(kind) => knob_error(reader, knob, kind),
        Ok(()) => {}
    }
}

fn is_required(reader: &mut Reader<'_>) -> bool {
    const KNOB: &str = "REQUIRE_LOCAL_CONFIG_FILE";
    let Some(text) = value(reader, KNOB) else {
        return true;
    };
    match text.as_bytes() {
        [b't' | b'T', ..] => true,
        [b'f' | b'F', ..] => false,
        _ => crate::number::boolean(&text, reader.evaluator.as_deref()).unwrap_or_else(|| {
            let kind = ErrorKind::WrongType {
                expected: "a boolean".to_owned(),
                text: text.clone(),
            };
            knob_error(reader, KNOB, kind);
            true
        }),
    }
}

fn environment(reader: &mut Reader<'_>) {
    let variables: Vec<(String, String)> = reader
        .environment
        .iter()
        .filter_map(|(name, value)| {
            let knob =
                strip_prefix_ignore_case(name, ENVIRONMENT_PREFIX)?.trim_end_matches(is_space);
            (!knob.is_empty()).then(|| {
                (
                    knob.to_owned(),
                    value.trim_start_matches(is_space).to_owned(),
                )
            })
        })
        .collect();
    for (name, value) in variables {
        set(reader, &name, &value, Origin::Environment);
    }
}

fn set(reader: &mut Reader<'_>, name: &str, value: &str, origin: Origin) {
    let outcome = if is_name(name) {
        reader.assign(name, value, origin.clone())
    } else {
        Err(ErrorKind::BadName {
            name: name.to_owned(),
        })
    };
    if let Err(kind) = outcome {
        reader.errors.push(
            Error::new(kind)
                .with_knob(name)
                .with_origin(Some(origin.clone())),
        );
    }
    if ["LOCAL_CONFIG_FILE", "LOCAL_CONFIG_DIR"]
        .iter()
        .any(|knob| knob.eq_ignore_ascii_case(name))
    {
        reader.warnings.push(Warning::TooLate {
            name: name.to_owned(),
            origin,
        });
    }
}

/// Where no domain is set, it is the host's name (`check_domain_attributes`).
fn domains(reader: &mut Reader<'_>) {
    for knob in ["FILESYSTEM_DOMAIN", "UID_DOMAIN"] {
        if value(reader, knob).is_none()
            && let Some(host) = reader
                .table
                .exact("FULL_HOSTNAME")
                .map(|entry| entry.raw.clone())
        {
            reader.table.insert(knob, host, Origin::Detected);
        }
    }
}

/// `AUTO_USE_CATEGORY_TEMPLATE = condition` (`do_smart_auto_use`).
fn automatic_templates(reader: &mut Reader<'_>) {
    let knobs: Vec<_> = reader
        .table
        .iter()
        .filter(|entry| strip_prefix_ignore_case(&entry.name, "AUTO_USE_").is_some())
        .cloned()
        .collect();
    for entry in knobs {
        let outcome = apply_automatic(reader, &entry.name, &entry.raw, &entry.origin);
        if let Err(kind) = outcome {
            reader.errors.push(
                Error::new(kind)
                    .with_knob(&entry.name)
                    .with_origin(Some(entry.origin)),
            );
        }
    }
}

fn apply_automatic(
    reader: &mut Reader<'_>,
    knob: &str,
    raw: &str,
    origin: &Origin,
) -> Result<(), ErrorKind> {
    let named = strip_prefix_ignore_case(knob, "AUTO_USE_").and_then(|rest| rest.split_once('_'));
    let Some((category, name)) = named else {
        return Ok(());
    };
    let trigger = reader.expand(raw)?;
    if trigger.is_empty() || !condition::test(&trigger, &reader.expander())? {
        return Ok(());
    }
    let nowhere = Place {
        file: knob.into(),
        line: 1,
        template: None,
    };
    let place = origin.place().unwrap_or(&nowhere);
    let text = format!("use {category} : {name}\n");
    reader.parse(&place.file.clone(), &text, 0, Some(place));
    Ok(())
}

/// The value of a knob that steers the reading; a mistake in it is reported.
fn value(reader: &mut Reader<'_>, knob: &str) -> Option<String> {
    reader.value(knob).unwrap_or_else(|error| {
        reader.errors.push(error);
        None
    })
}

fn knob_error(reader: &mut Reader<'_>, knob: &str, kind: ErrorKind) {
    let origin = reader
        .table
        .lookup(knob, &reader.scope)
        .map(|entry| entry.origin.clone());
    reader
        .errors
        .push(Error::new(kind).with_knob(knob).with_origin(origin));
}

fn is_in(name: &str, list: &[&str]) -> bool {
    list.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// The directory of a path; `.` where there is none.
fn directory(path: &str) -> String {
    match path.rsplit_once('/') {
        Some(("", _)) => "/".to_owned(),
        Some((dir, _)) => dir.to_owned(),
        None => ".".to_owned(),
    }
}
