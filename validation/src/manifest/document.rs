//! A manifest that was checked: every name, digest, condition and order in it is good.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::FORM;
use super::error::{FileError, ManifestErrorKind};
use super::read::{PublishType, RawFile, RawForm, RawManifest, RawPublish, RawScope};
use crate::check::{CheckName, Owner, Severity};
use crate::custom::area::Scope;
use crate::custom::condition::Condition;
use crate::custom::cron;
use crate::custom::dashboard::{Key, Line};
use crate::custom::vars::{self, Entry, JobName, Piece, Type};
use crate::fetch::{Digest, Expected, Location};

/// Largest manifest, bytes.
pub const MANIFEST_MAX: u64 = 4 << 20;

/// Most files in one.
const FILES_MAX: usize = 1000;

/// Most scopes in one: a factory has thousands of entries.
const SCOPES_MAX: usize = 20_000;

/// Longest name of a file, bytes.
const NAME_MAX: usize = 128;

/// Files in a scope's folder that are ours.
const RESERVED: [&str; 3] = ["error_gen.sh", "error_augment.sh", "condor_vars.lst"];

/// A manifest.
#[derive(Debug)]
pub struct Manifest {
    /// Whose it is.
    pub owner: Owner,
    /// Its name, for people.
    pub name: String,
    /// Its parts.
    pub scopes: Vec<Part>,
}

/// What a manifest has for one scope.
#[derive(Debug)]
pub struct Part {
    /// The scope.
    pub scope: Scope,
    /// Of an entry or group, its name; else whatever is written.
    pub name: String,
    /// For the dashboard.
    pub constants: Vec<(Key, Line)>,
    /// What of the dashboard is published.
    pub publish: Vec<Entry>,
    /// Its files, in their order.
    pub files: Vec<Item>,
}

/// One file.
#[derive(Debug)]
pub struct Item {
    /// Its name: a single component of a path.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// What it has to be.
    pub expected: Expected,
    /// Where in the order of the field it comes.
    pub stage: Stage,
    /// When it counts.
    pub condition: Option<Condition>,
    /// The key that gets its path.
    pub path_key: Option<Key>,
    /// What it is.
    pub kind: Kind,
}

/// What a file is.
#[derive(Debug)]
pub enum Kind {
    /// An executable that is run.
    Check(Spec),
    /// A file that others read.
    Data,
    /// Lines for `condor_vars.lst`.
    Vars,
    /// Lines for the dashboard.
    Constants,
    /// An executable that is run when the pilot ends.
    Cleanup,
    /// A tar file that is unpacked.
    Archive,
}

/// How a check is run.
#[derive(Debug)]
pub struct Spec {
    /// The check's name.
    pub id: CheckName,
    /// A few words for people.
    pub about: String,
    /// What its failure means.
    pub severity: Severity,
    /// Time between two runs; none is once.
    pub period: Option<Duration>,
    /// What the names of attributes that it prints begin with.
    pub prefix: String,
    /// Its own limit; the inner none is without limit.
    pub limit: Option<Option<Duration>>,
    /// Only if these have passed.
    pub needs: Vec<CheckName>,
    /// Whether it runs beside the others.
    pub beside: bool,
}

/// The order of the field: the lists that a glideinWMS pilot goes through, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The factory's own, before everything.
    FactoryFirst,
    /// The frontend's, before the entry's.
    FrontendBeforeEntry,
    /// The group's, before the entry's.
    GroupBeforeEntry,
    /// The frontend's, after the group's and before the entry's.
    FrontendBeforeEntryAfterGroup,
    /// The entry's.
    Entry,
    /// The factory's, after the entry's.
    FactoryMiddle,
    /// The frontend's.
    Frontend,
    /// The group's.
    Group,
    /// The frontend's, after the group's.
    FrontendAfterGroup,
    /// The factory's, after everything.
    FactoryLast,
}

impl Stage {
    fn parse(scope: Scope, word: Option<&str>) -> Result<Self, FileError> {
        let known = match scope {
            Scope::Factory => "first, middle, last",
            Scope::Entry => "normal",
            Scope::Frontend => "before-entry, before-entry-after-group, normal, after-group",
            Scope::Group => "before-entry, normal",
        };
        Ok(match (scope, word) {
            (Scope::Factory, None | Some("first")) => Self::FactoryFirst,
            (Scope::Factory, Some("middle")) => Self::FactoryMiddle,
            (Scope::Factory, Some("last")) => Self::FactoryLast,
            (Scope::Entry, None | Some("normal")) => Self::Entry,
            (Scope::Frontend, Some("before-entry")) => Self::FrontendBeforeEntry,
            (Scope::Frontend, Some("before-entry-after-group")) => {
                Self::FrontendBeforeEntryAfterGroup
            }
            (Scope::Frontend, None | Some("normal")) => Self::Frontend,
            (Scope::Frontend, Some("after-group")) => Self::FrontendAfterGroup,
            (Scope::Group, Some("before-entry")) => Self::GroupBeforeEntry,
            (Scope::Group, None | Some("normal")) => Self::Group,
            (_, Some(stage)) => {
                return Err(FileError::Stage {
                    stage: stage.chars().take(60).collect(),
                    scope: word_of(scope),
                    known,
                });
            }
        })
    }
}

/// Limits that the configuration sets.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of all files together, bytes.
    pub total: u64,
}

/// What may go wrong.
type Failure = Box<ManifestErrorKind>;

impl Manifest {
    /// Reads one that was found to be genuine. `base` is where it came from, `now` decides whether it is over.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(
        text: &[u8],
        base: &Location,
        limits: Limits,
        now: Timestamp,
    ) -> Result<Self, (Option<Owner>, Failure)> {
        let form =
            |error: serde_json::Error| (None, Box::new(ManifestErrorKind::Form(error.to_string())));
        let RawForm { manifest: version } = serde_json::from_slice(text).map_err(form)?;
        if version != FORM {
            return Err((None, Box::new(ManifestErrorKind::Version(version))));
        }
        let raw: RawManifest = serde_json::from_slice(text).map_err(form)?;
        let owner = raw.owner;
        Self::check(raw, base, limits, now).map_err(|kind| (Some(owner), kind))
    }

    fn check(
        raw: RawManifest,
        base: &Location,
        limits: Limits,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        if let Some(text) = &raw.expires {
            let end: Timestamp = text.parse().map_err(|_| {
                Box::new(ManifestErrorKind::Form(format!(
                    "`expires` cannot be {text:?}; write it as 2027-01-31T12:00:00Z"
                )))
            })?;
            if end <= now {
                return Err(Box::new(ManifestErrorKind::Expired {
                    until: text.clone(),
                }));
            }
        }
        too_much("scopes", raw.scopes.len(), SCOPES_MAX)?;
        let files: usize = raw.scopes.iter().map(|scope| scope.files.len()).sum();
        too_much("files", files, FILES_MAX)?;
        let mut known = BTreeSet::new();
        let mut scopes = Vec::with_capacity(raw.scopes.len());
        for part in raw.scopes {
            let part = Part::check(part, raw.owner, base, limits)?;
            let key = match part.scope {
                Scope::Entry | Scope::Group => (part.scope, part.name.clone()),
                scope => (scope, String::new()),
            };
            if !known.insert(key) {
                let name = match part.scope {
                    Scope::Entry | Scope::Group => format!("{} {}", word_of(part.scope), part.name),
                    scope => word_of(scope).to_owned(),
                };
                return Err(Box::new(ManifestErrorKind::ScopeTwice(name)));
            }
            scopes.push(part);
        }
        Ok(Self {
            owner: raw.owner,
            name: raw.name,
            scopes,
        })
    }

    /// Takes the parts that concern this pilot, in the order of the field. `entry` and `group` say which; where there is
    /// only one, nobody has to.
    ///
    /// # Errors
    /// There is none of that name, or more than one and no name; too large; checks that wait for each other.
    pub fn select(
        self,
        entry: Option<&str>,
        group: Option<&str>,
        limits: Limits,
    ) -> Result<Selected, Failure> {
        let mut parts = Vec::new();
        let (mut entries, mut groups) = (Vec::new(), Vec::new());
        for part in self.scopes {
            match part.scope {
                Scope::Entry => entries.push(part),
                Scope::Group => groups.push(part),
                Scope::Factory | Scope::Frontend => parts.push(part),
            }
        }
        parts.extend(one_of(entries, "entry", entry, "SAILPLANE_ENTRY")?);
        parts.extend(one_of(groups, "group", group, "SAILPLANE_GROUP")?);
        let total = parts
            .iter()
            .flat_map(|part| &part.files)
            .fold(0_u64, |sum, file| sum.saturating_add(file.expected.size));
        if total > limits.total {
            return Err(Box::new(ManifestErrorKind::TooMuch {
                what: "files of bytes",
                got: total,
                limit: limits.total,
            }));
        }
        let selected = Selected {
            owner: self.owner,
            name: self.name,
            parts,
        };
        order::look(&selected)?;
        Ok(selected)
    }
}

/// What of a manifest concerns this pilot.
#[derive(Debug)]
pub struct Selected {
    /// Whose it is.
    pub owner: Owner,
    /// Its name, for people.
    pub name: String,
    /// The parts.
    pub parts: Vec<Part>,
}

impl Selected {
    /// All files with their scopes, in the order of the field.
    #[must_use]
    pub fn in_order(&self) -> Vec<(Scope, &Item)> {
        let mut all: Vec<(Scope, &Item)> = self
            .parts
            .iter()
            .flat_map(|part| part.files.iter().map(|item| (part.scope, item)))
            .collect();
        // Stable: within a stage the order of the manifest stays.
        all.sort_by_key(|(_, item)| item.stage);
        all
    }
}

fn one_of(
    mut parts: Vec<Part>,
    scope: &'static str,
    wanted: Option<&str>,
    knob: &'static str,
) -> Result<Option<Part>, Failure> {
    let known = |parts: &[Part]| {
        let mut names: Vec<&str> = parts
            .iter()
            .take(20)
            .map(|part| part.name.as_str())
            .collect();
        if parts.len() > names.len() {
            names.push("...");
        }
        names.join(", ")
    };
    match wanted {
        None if parts.len() > 1 => Err(Box::new(ManifestErrorKind::Which {
            scope,
            known: known(&parts),
            knob,
        })),
        None => Ok(parts.pop()),
        Some(_) if parts.is_empty() => Ok(None),
        Some(name) => match parts.iter().position(|part| part.name == name) {
            Some(index) => Ok(Some(parts.swap_remove(index))),
            None => Err(Box::new(ManifestErrorKind::NoSuch {
                scope,
                name: name.to_owned(),
                known: known(&parts),
            })),
        },
    }
}

/// The word for a scope in a manifest.
#[must_use]
pub const fn word_of(scope: Scope) -> &'static str {
    match scope {
        Scope::Factory => "factory",
        Scope::Entry => "entry",
        Scope::Frontend => "frontend",
        Scope::Group => "group",
    }
}

fn too_much(what: &'static str, got: usize, limit: usize) -> Result<(), Failure> {
    if got <= limit {
        return Ok(());
    }
    let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    Err(Box::new(ManifestErrorKind::TooMuch {
        what,
        got: number(got),
        limit: number(limit),
    }))
}

impl Part {
    fn check(
        raw: RawScope,
        owner: Owner,
        base: &Location,
        limits: Limits,
    ) -> Result<Self, Failure> {
        let scope = match (owner, raw.scope.as_str()) {
            (Owner::Factory, "factory") => Scope::Factory,
            (Owner::Factory, "entry") => Scope::Entry,
            (Owner::Frontend, "frontend") => Scope::Frontend,
            (Owner::Frontend, "group") => Scope::Group,
            _ => {
                return Err(Box::new(ManifestErrorKind::Scope {
                    scope: raw.scope.chars().take(60).collect(),
                    owner,
                }));
            }
        };
        if raw.name.is_empty() && matches!(scope, Scope::Entry | Scope::Group) {
            return Err(Box::new(ManifestErrorKind::ScopeName(raw.scope)));
        }
        let mut constants = Vec::with_capacity(raw.constants.len());
        for (name, value) in raw.constants {
            let key = Key::new(name.as_str()).map_err(|_| {
                Box::new(ManifestErrorKind::Constant(name.chars().take(60).collect()))
            })?;
            let text = value.to_string();
            if text.contains(['\n', '\0']) {
                return Err(Box::new(ManifestErrorKind::Form(format!(
                    "the constant {name} has more than one line"
                ))));
            }
            constants.push((key, text.as_str().into()));
        }
        let publish = raw
            .publish
            .into_iter()
            .map(published)
            .collect::<Result<_, _>>()?;
        let mut names = BTreeSet::new();
        let mut files = Vec::with_capacity(raw.files.len());
        for file in raw.files {
            let shown: String = file.name.chars().take(60).collect();
            let bad = |what| {
                Box::new(ManifestErrorKind::File {
                    file: format!("{}/{shown}", scope.id()),
                    what,
                })
            };
            if !names.insert(file.name.clone()) {
                return Err(bad(FileError::Twice));
            }
            files.push(Item::check(file, scope, base, limits).map_err(bad)?);
        }
        Ok(Self {
            scope,
            name: raw.name,
            constants,
            publish,
            files,
        })
    }
}

impl Item {
    fn check(
        raw: RawFile,
        scope: Scope,
        base: &Location,
        limits: Limits,
    ) -> Result<Self, FileError> {
        if !is_file_name(&raw.name) {
            return Err(FileError::Name);
        }
        let digest =
            Digest::parse(&raw.sha256).map_err(|error| FileError::Digest(error.to_string()))?;
        if raw.size > limits.total {
            return Err(FileError::Size {
                got: raw.size,
                limit: limits.total,
            });
        }
        let location = base.beside(raw.url.as_deref().unwrap_or(&raw.name))?;
        let stage = Stage::parse(scope, raw.stage.as_deref())?;
        let condition = raw
            .condition
            .as_deref()
            .map(Condition::parse)
            .transpose()
            .map_err(|error| FileError::Condition(error.to_string()))?;
        let path_key = raw
            .path_key
            .as_deref()
            .map(|name| Key::new(name).map_err(|_| FileError::Key(name.chars().take(60).collect())))
            .transpose()?;
        let kind = match raw.kind.as_str() {
            "check" => Kind::Check(Spec::check(&raw, scope)?),
            "data" => Kind::Data,
            "vars" => Kind::Vars,
            "constants" => Kind::Constants,
            "cleanup" => Kind::Cleanup,
            "archive" => Kind::Archive,
            "wrapper" => return Err(FileError::Wrapper),
            other => return Err(FileError::Kind(other.chars().take(60).collect())),
        };
        if !matches!(kind, Kind::Check(_)) {
            only_of_checks(&raw)?;
        }
        // Variables and constants are read, and have no place of their own.
        if !matches!(kind, Kind::Vars | Kind::Constants) && RESERVED.contains(&raw.name.as_str()) {
            return Err(FileError::Reserved);
        }
        Ok(Self {
            name: raw.name,
            location,
            expected: Expected {
                digest,
                size: raw.size,
            },
            stage,
            condition,
            path_key,
            kind,
        })
    }
}

fn only_of_checks(raw: &RawFile) -> Result<(), FileError> {
    let said = [
        ("id", raw.id.is_some()),
        ("severity", raw.severity.is_some()),
        ("period", raw.period.is_some()),
        ("prefix", raw.prefix.is_some()),
        ("limit", raw.limit.is_some()),
        ("needs", raw.needs.is_some()),
        ("beside", raw.beside.is_some()),
    ];
    match said.iter().find(|(_, said)| *said) {
        Some((name, _)) => Err(FileError::CheckOnly(name)),
        None => Ok(()),
    }
}

impl Spec {
    fn check(raw: &RawFile, scope: Scope) -> Result<Self, FileError> {
        let id = match &raw.id {
            Some(id) => CheckName::parse(id).map_err(|error| FileError::Id(error.to_string()))?,
            None => {
                let stem = raw
                    .name
                    .rsplit_once('.')
                    .map_or(raw.name.as_str(), |(stem, _)| stem);
                CheckName::from_words(&format!("{} {stem}", word_of(scope)))
            }
        };
        let prefix = raw
            .prefix
            .clone()
            .unwrap_or_else(|| cron::DEFAULT_PREFIX.to_owned());
        let good = !prefix.is_empty()
            && prefix.len() <= 64
            && !prefix.starts_with(|c: char| c.is_ascii_digit())
            && prefix
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !good {
            return Err(FileError::Prefix(prefix.chars().take(60).collect()));
        }
        let needs = raw
            .needs
            .iter()
            .flatten()
            .map(|name| CheckName::parse(name).map_err(|error| FileError::Id(error.to_string())))
            .collect::<Result<_, _>>()?;
        let seconds = |number: u32| (number > 0).then(|| Duration::from_secs(number.into()));
        Ok(Self {
            about: raw
                .about
                .clone()
                .unwrap_or_else(|| format!("{} of the {}", raw.name, word_of(scope))),
            id,
            severity: raw.severity.unwrap_or(Severity::Fail),
            period: raw.period.and_then(seconds),
            prefix,
            limit: raw.limit.map(seconds),
            needs,
            beside: raw.beside.unwrap_or(false),
        })
    }
}

/// A single component of a path that no shell and no tool takes for something else.
fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && !name.starts_with(['.', '-'])
        // The fetcher writes there until a file is complete.
        && !name.ends_with(".part")
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-'))
}

fn published(raw: RawPublish) -> Result<Entry, Failure> {
    // Through the form that scripts use, so that both mean the same.
    let kind = match raw.kind {
        PublishType::String => Type::Text,
        PublishType::Integer => Type::Integer,
        PublishType::Expression => Type::Expression,
    };
    let configured = raw.configured.unwrap_or_else(|| raw.key.clone());
    for name in [&raw.key, &configured] {
        if !vars::is_name(name) {
            return Err(Box::new(ManifestErrorKind::Publish(format!(
                "{:?} cannot name an attribute",
                name.chars().take(60).collect::<String>()
            ))));
        }
    }
    Ok(Entry {
        name: raw.key,
        kind,
        default: raw.default.map(|text| vec![Piece::Text(text)]),
        configured,
        required: raw.required,
        published: raw.ad,
        job: if raw.job {
            JobName::Configured
        } else {
            JobName::Hidden
        },
    })
}

/// Whether checks can be run in the order in which they are.
mod order {
    use super::{BTreeMap, CheckName, Failure, FileError, Kind, ManifestErrorKind, Selected};

    pub(super) fn look(selected: &Selected) -> Result<(), Failure> {
        let order = selected.in_order();
        let mut places: BTreeMap<&CheckName, usize> = BTreeMap::new();
        let mut checks = Vec::new();
        for (index, (scope, item)) in order.iter().enumerate() {
            let Kind::Check(spec) = &item.kind else {
                continue;
            };
            let file = format!("{}/{}", scope.id(), item.name);
            if places.insert(&spec.id, index).is_some() {
                return Err(bad(file, FileError::IdTwice(spec.id.to_string())));
            }
            checks.push((index, file, spec));
        }
        let needs: BTreeMap<&CheckName, &[CheckName]> = checks
            .iter()
            .map(|(_, _, spec)| (&spec.id, spec.needs.as_slice()))
            .collect();
        if let Some(cycle) = cycle(&needs) {
            return Err(Box::new(ManifestErrorKind::Cycle(cycle)));
        }
        for (index, file, spec) in &checks {
            for needed in &spec.needs {
                match places.get(needed) {
                    None => return Err(bad(file.clone(), FileError::Needs(needed.to_string()))),
                    Some(place) if place > index => {
                        return Err(bad(file.clone(), FileError::NeedsLater(needed.to_string())));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    fn bad(file: String, what: FileError) -> Failure {
        Box::new(ManifestErrorKind::File { file, what })
    }

    /// A circle, as words. Leaves of the graph are taken away until nothing or only circles are left.
    fn cycle(needs: &BTreeMap<&CheckName, &[CheckName]>) -> Option<String> {
        let mut left = needs.clone();
        loop {
            let free: Vec<&CheckName> = left
                .iter()
                .filter(|(_, needs)| !needs.iter().any(|needed| left.contains_key(needed)))
                .map(|(name, _)| *name)
                .collect();
            if free.is_empty() {
                break;
            }
            for name in free {
                left.remove(name);
            }
        }
        let mut name: &CheckName = left.keys().next()?;
        let mut path: Vec<&CheckName> = Vec::new();
        loop {
            if let Some(start) = path.iter().position(|known| *known == name) {
                let mut words: Vec<&str> =
                    path.iter().skip(start).map(|name| name.as_str()).collect();
                words.push(name.as_str());
                return Some(words.join(" needs "));
            }
            path.push(name);
            name = left
                .get(name)?
                .iter()
                .find(|needed| left.contains_key(needed))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const LIMITS: Limits = Limits { total: 1000 };

    fn now() -> Timestamp {
        "2027-03-01T00:00:00Z".parse().unwrap()
    }

    fn base() -> Location {
        Location::parse("https://h/f/manifest.json").unwrap()
    }

    fn file(name: &str, more: Value) -> Value {
        let mut file = json!({"name": name, "kind": "check", "sha256": "0".repeat(64), "size": 10});
        file.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        file
    }

    fn factory(files: Vec<Value>) -> Value {
        json!({"manifest": 1, "owner": "factory", "scopes": [{"scope": "factory", "files": files}]})
    }

    fn parse(value: &Value) -> Result<Manifest, String> {
        Manifest::parse(value.to_string().as_bytes(), &base(), LIMITS, now())
            .map_err(|(_, kind)| kind.to_string())
    }

    fn select(value: &Value) -> Result<Selected, String> {
        parse(value)?
            .select(None, None, LIMITS)
            .map_err(|kind| kind.to_string())
    }

    #[test]
    fn what_is_left_out_has_a_plain_meaning() {
        let manifest = select(&factory(vec![file("check_x.sh", json!({}))])).unwrap();
        let order = manifest.in_order();
        let (scope, item) = order[0];
        assert_eq!(scope, Scope::Factory);
        assert_eq!(item.location.as_str(), "https://h/f/check_x.sh");
        let Kind::Check(spec) = &item.kind else {
            panic!("{item:?}")
        };
        assert_eq!(spec.id.as_str(), "factory-check-x");
        assert_eq!(
            (spec.severity, spec.period, spec.limit),
            (Severity::Fail, None, None)
        );
        assert_eq!(spec.prefix, "GLIDEIN_PS_");
    }

    #[test]
    fn poison_is_refused_and_named() {
        let cases = [
            (
                file("../x.sh", json!({})),
                "its file main/../x.sh: its name",
            ),
            (file("a/b", json!({})), "its name"),
            (file(".x", json!({})), "its name"),
            (file("-rf", json!({})), "its name"),
            (file("x\n.sh", json!({})), "its name"),
            (file(&"x".repeat(129), json!({})), "its name"),
            (file("error_gen.sh", json!({})), "its own file"),
            (
                file("x", json!({"kind": "rootkit"})),
                "\"rootkit\" is no kind",
            ),
            (file("x", json!({"kind": "wrapper"})), "wrapper scripts"),
            (
                file("x", json!({"kind": "data", "period": 3})),
                "`period` is for checks",
            ),
            (file("x", json!({"sha256": "12"})), "no SHA-256 digest"),
            (
                file("x", json!({"size": 1001})),
                "1001 bytes, more than 1000",
            ),
            (file("x", json!({"url": "http://h/x"})), "neither https"),
            (file("x", json!({"url": "../x"})), "without `.` and `..`"),
            (file("x", json!({"stage": "normal"})), "first, middle, last"),
            (file("x", json!({"condition": "("})), "condition"),
            (file("x", json!({"prefix": "A B"})), "names of attributes"),
            (file("x", json!({"path_key": "A B"})), "dashboard"),
            (file("x", json!({"id": "A B"})), "cannot name a check"),
            (
                file("x", json!({"needs": ["nowhere"]})),
                "no check of this manifest",
            ),
            (file("x", json!({"moode": 1})), "unknown field `moode`"),
            (file("x", json!({"size": -1})), "invalid value"),
        ];
        for (file, said) in cases {
            let error = select(&factory(vec![file])).unwrap_err();
            assert!(error.contains(said), "{error}\n{said}");
        }
    }

    #[test]
    fn what_is_there_twice_is_refused() {
        let twice = factory(vec![file("x", json!({})), file("x", json!({}))]);
        assert!(
            parse(&twice)
                .unwrap_err()
                .contains("main/x: it is there twice")
        );
        let id = factory(vec![file("x.sh", json!({})), file("x.py", json!({}))]);
        assert!(
            select(&id)
                .unwrap_err()
                .contains("another check is named factory-x")
        );
        let scopes = json!({"manifest": 1, "owner": "factory", "scopes": [{"scope": "factory"}, {"scope": "factory"}]});
        assert!(
            parse(&scopes)
                .unwrap_err()
                .contains("factory is there twice")
        );
        let text = r#"{"manifest": 1, "owner": "factory", "scopes": [{"scope": "factory",
                      "constants": {"A": "1", "A": "2"}}]}"#;
        let error = Manifest::parse(text.as_bytes(), &base(), LIMITS, now())
            .unwrap_err()
            .1;
        assert!(error.to_string().contains("A is there twice"), "{error}");
        let text = r#"{"manifest": 1, "owner": "factory", "owner": "frontend", "scopes": []}"#;
        assert!(Manifest::parse(text.as_bytes(), &base(), LIMITS, now()).is_err());
    }

    #[test]
    fn circles_are_named() {
        let circle = factory(vec![
            file("a", json!({"id": "a", "needs": ["b"]})),
            file("b", json!({"id": "b", "needs": ["c"]})),
            file("c", json!({"id": "c", "needs": ["b"]})),
        ]);
        assert!(select(&circle).unwrap_err().contains("b needs c needs b"));
        let own = factory(vec![file("a", json!({"id": "a", "needs": ["a"]}))]);
        assert!(select(&own).unwrap_err().contains("a needs a"));
        let later = factory(vec![
            file("a", json!({"id": "a", "needs": ["b"]})),
            file("b", json!({"id": "b"})),
        ]);
        assert!(select(&later).unwrap_err().contains("comes after it"));
    }

    #[test]
    fn the_whole_is_looked_at_too() {
        let over = json!({"manifest": 1, "owner": "factory", "expires": "2027-02-28T00:00:00Z", "scopes": []});
        assert!(parse(&over).unwrap_err().contains("good until"));
        let form = json!({"manifest": 2, "owner": "factory", "whatever": 1});
        assert!(parse(&form).unwrap_err().contains("form 2"));
        let foreign = json!({"manifest": 1, "owner": "factory", "scopes": [{"scope": "frontend"}]});
        assert!(
            parse(&foreign)
                .unwrap_err()
                .contains("not for a manifest of the factory")
        );
        let unnamed = json!({"manifest": 1, "owner": "factory", "scopes": [{"scope": "entry"}]});
        assert!(parse(&unnamed).unwrap_err().contains("needs a name"));
        let lines = json!({"manifest": 1, "owner": "factory", "scopes": [{"scope": "factory", "constants": {"A": "1\n2"}}]});
        assert!(parse(&lines).unwrap_err().contains("more than one line"));
        let sum = factory(vec![
            file("a", json!({"size": 600})),
            file("b", json!({"size": 600})),
        ]);
        assert!(select(&sum).unwrap_err().contains("1200, more than 1000"));
        for text in [
            "",
            "[]",
            "{}",
            "\u{0}",
            "{\"manifest\": 1}",
            &"[".repeat(100_000),
        ] {
            assert!(Manifest::parse(text.as_bytes(), &base(), LIMITS, now()).is_err());
        }
    }

    #[test]
    fn entries_and_groups_are_chosen_by_name() {
        let scope = |name: &str| json!({"scope": "entry", "name": name, "constants": {"E": name, "N": 3, "B": true}});
        let value = json!({"manifest": 1, "owner": "factory", "scopes": [scope("a"), scope("b")]});
        let chosen = parse(&value)
            .unwrap()
            .select(Some("b"), Some("any"), LIMITS)
            .unwrap();
        let constants: Vec<String> = chosen.parts[0]
            .constants
            .iter()
            .map(|(key, line)| format!("{key} {}", String::from_utf8_lossy(line.as_bytes())))
            .collect();
        assert_eq!(constants, ["B True", "E b", "N 3"]);
        let choose = |name| {
            parse(&value)
                .unwrap()
                .select(name, None, LIMITS)
                .unwrap_err()
                .to_string()
        };
        assert!(choose(None).contains("SAILPLANE_ENTRY"));
        assert!(choose(Some("c")).contains("no entry named c; there are: a, b"));
    }

    #[test]
    fn files_come_in_the_order_of_the_field() {
        let stage = |name: &str, stage: Option<&str>| match stage {
            Some(stage) => file(name, json!({"stage": stage})),
            None => file(name, json!({})),
        };
        let factory = json!({"manifest": 1, "owner": "factory", "scopes": [
            {"scope": "entry", "name": "e", "files": [stage("entry", None)]},
            {"scope": "factory", "files": [stage("last", Some("last")), stage("middle", Some("middle")), stage("one", None), stage("two", None)]},
        ]});
        let frontend = json!({"manifest": 1, "owner": "frontend", "scopes": [
            {"scope": "frontend", "files": [stage("after", Some("after-group")), stage("normal", None), stage("pre2", Some("before-entry-after-group")), stage("pre", Some("before-entry"))]},
            {"scope": "group", "name": "g", "files": [stage("group", None), stage("gpre", Some("before-entry"))]},
        ]});
        let (factory, frontend) = (select(&factory).unwrap(), select(&frontend).unwrap());
        let mut all: Vec<_> = [factory.in_order(), frontend.in_order()].concat();
        all.sort_by_key(|(_, item)| item.stage);
        let names: Vec<&str> = all.iter().map(|(_, item)| item.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "one", "two", "pre", "gpre", "pre2", "entry", "middle", "normal", "group", "after",
                "last"
            ]
        );
    }
}
