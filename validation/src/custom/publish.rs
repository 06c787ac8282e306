//! From the dashboard and the files of variables to what the pilot does with them: attributes of the slot, variables of
//! jobs, knobs; and a list of what it cannot do.
//!
//! No value is ever evaluated by a shell, and none can be more than a value: text is quoted, expressions are parsed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use classad::{Expr, Value};
use condorconf::{Config, Loader, MemoryFiles, Origin};

use super::area::Scope;
use super::dashboard::Dashboard;
use super::vars::{Entry, JobName, Piece, Type};
use crate::outcome::Attribute;

/// Knobs that are taken over as they are: amounts, times, preferences, and who passes connections on to a pilot behind
/// NAT. Those of security, of other addresses and of helpers are the pilot's alone.
const TAKEN: [&str; 18] = [
    "CCB_ADDRESS",
    "CCB_HEARTBEAT_INTERVAL",
    "PRIVATE_NETWORK_NAME",
    "NUM_CPUS",
    "MEMORY",
    "RESERVED_MEMORY",
    "DISK",
    "RESERVED_DISK",
    "RANK",
    "SLOT_WEIGHT",
    "UPDATE_INTERVAL",
    "STARTD_NOCLAIM_SHUTDOWN",
    "CLAIM_WORKLIFE",
    "MAXJOBRETIREMENTTIME",
    "MachineMaxVacateTime",
    "KILLING_TIMEOUT",
    "SHUTDOWN_GRACEFUL_TIMEOUT",
    "JOB_RENICE_INCREMENT",
];

/// The policy for running jobs. They are expressions, so that a text among them needs its quotes.
const POLICY: [&str; 4] = [
    "PREEMPT",
    "WANT_HOLD",
    "WANT_HOLD_REASON",
    "WANT_HOLD_SUBCODE",
];

/// Names of the field for knobs that have another name here. Only whole numbers above zero are taken over: words such
/// as `auto`, and 0 and -1, mean what the pilot does anyway.
const AMOUNTS: [(&str, &str); 4] = [
    ("GLIDEIN_CPUS", "NUM_CPUS"),
    ("GLIDEIN_MaxMemMBs", "MEMORY"),
    ("GLIDEIN_Max_Idle", "STARTD_NOCLAIM_SHUTDOWN"),
    ("GLIDEIN_CLAIM_WORKLIFE", "CLAIM_WORKLIFE"),
];

/// A share of the disk, such as `25%`.
const DISK_SHARE: &str = "GLIDEIN_DISK";

/// Each is one more condition of `START`.
const START_TERMS: [&str; 6] = [
    "START",
    "GLIDEIN_Start",
    "GLIDEIN_Entry_Start",
    "GLIDECLIENT_Start",
    "GLIDECLIENT_Group_Start",
    "GLIDEIN_Custom_Start",
];

/// Each is one more summand of `RANK`.
const RANK_TERMS: [&str; 4] = [
    "GLIDEIN_Rank",
    "GLIDEIN_Entry_Rank",
    "GLIDECLIENT_Rank",
    "GLIDECLIENT_Group_Rank",
];

/// True while the site wants the node to be left: no new jobs.
const DRAINING: &str = "SiteWMS_WN_Draining";

/// Names that configure HTCondor's own daemons, its logs and its security: meaningless to a pilot that has none of them,
/// and too common to be worth a word to anybody.
const NOT_OURS: [&str; 8] = [
    "MAX_",
    "SEC_",
    "MASTER_",
    "GLIDEIN_Master_",
    "UPDATE_COLLECTOR_",
    "WANT_UDP_",
    "STARTD_SENDS_",
    "USE_PROCESS_",
];

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A required entry has no value.
    #[error("{name} is required and has no value in the dashboard")]
    Missing {
        /// Its key.
        name: String,
        /// Who requires it.
        scope: Scope,
    },
    /// A value is not what its type says.
    #[error("{name} cannot be {value:?}: {why}")]
    Value {
        /// Its key.
        name: String,
        /// Its value.
        value: String,
        /// Why not.
        why: String,
        /// Who brought it.
        scope: Scope,
    },
}

/// What follows from the dashboard.
#[derive(Debug, Default, PartialEq)]
pub struct Published {
    /// Attributes of the slot.
    pub attributes: Vec<Attribute>,
    /// Variables of every job.
    pub environment: Vec<(String, String)>,
    /// Everything, as HTCondor's configuration would have it; for scripts that search that.
    pub configuration: Vec<(String, String)>,
    /// Knobs of the pilot.
    pub knobs: Vec<(String, String)>,
    /// Entries that configure something that this pilot does not have.
    pub unsupported: Vec<String>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Works it out. `files` are handled from the narrowest scope to the widest; `configuration` is the pilot's own, which entries may
/// refer to; `disk` is the room for jobs, KiB.
#[must_use]
pub fn publish(
    board: &Dashboard,
    files: &[(Scope, Vec<Entry>)],
    configuration: &BTreeMap<String, String>,
    disk: Option<u64>,
) -> Published {
    let mut published = Published::default();
    let mut order: Vec<&(Scope, Vec<Entry>)> = files.iter().collect();
    order.sort_by_key(|(scope, _)| Reverse(*scope));
    // Values under their own names, for defaults; and under the configured names, as HTCondor would have them.
    let mut values: BTreeMap<&str, String> = BTreeMap::new();
    let mut set: Vec<Set<'_>> = Vec::new();
    for (scope, entries) in order {
        for entry in entries {
            let given = board.text(&entry.name);
            let changed = given.is_some();
            let raw = match (given, &entry.default) {
                (Some(value), _) => value,
                (None, _) if entry.required => {
                    published.problems.push(Problem::Missing {
                        name: entry.name.clone(),
                        scope: *scope,
                    });
                    continue;
                }
                (None, None) => continue,
                (None, Some(pieces)) => fill(pieces, &values),
            };
            values.insert(&entry.name, raw.clone());
            set.push(Set {
                scope: *scope,
                entry,
                raw,
                changed,
            });
        }
    }
    let config = configured(&set, configuration);
    let expand = |value: &str| -> Result<String, String> {
        match &config {
            // What refers to nothing needs no help, even if another entry is broken.
            _ if !value.contains('$') => Ok(value.to_owned()),
            Ok(config) => config.expand(value).map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        }
    };
    let mut latest: BTreeMap<String, usize> = BTreeMap::new();
    for (index, one) in set.iter().enumerate() {
        latest.insert(one.entry.configured.to_ascii_lowercase(), index);
    }
    let mut terms = Terms {
        disk,
        ..Terms::default()
    };
    for (index, one) in set.iter().enumerate() {
        let Set { entry, raw, .. } = one;
        let bad = |why: String| Problem::Value {
            name: entry.name.clone(),
            value: raw.chars().take(200).collect(),
            why,
            scope: one.scope,
        };
        let value = match expand(raw) {
            Ok(value) => value,
            Err(why) => {
                published.problems.push(bad(why));
                continue;
            }
        };
        if entry.job != JobName::Hidden {
            let name = match entry.job {
                JobName::Configured => &entry.configured,
                JobName::Own | JobName::Hidden => &entry.name,
            };
            published.environment.retain(|(known, _)| known != name);
            published.environment.push((name.clone(), value.clone()));
        }
        // Of several with one name the last counts, as in HTCondor's files.
        if latest.get(&entry.configured.to_ascii_lowercase()) != Some(&index) {
            continue;
        }
        let quoted = in_configuration(entry.kind, &value);
        published
            .configuration
            .push((entry.configured.clone(), quoted.clone()));
        let expression = match expression(entry.kind, &value) {
            Ok(expression) => expression,
            // A knob may be anything; only an attribute has to be an expression.
            Err(_) if !entry.published && !is_term(&entry.configured) => None,
            Err(why) => {
                published.problems.push(bad(why));
                continue;
            }
        };
        if let (true, Some(expression)) = (entry.published, &expression) {
            match Attribute::new(&entry.configured, expression.clone()) {
                Ok(attribute) => published.attributes.push(attribute),
                Err(error) => published.problems.push(bad(error.to_string())),
            }
        }
        let used = match policy(&entry.configured) {
            Some(knob) => terms.policy(knob, quoted, expression.as_ref()),
            None => terms.take(&entry.configured, &value, expression.as_ref()),
        };
        // A default that nobody changed asks for nothing.
        let asks = one.changed && !entry.published && entry.job == JobName::Hidden;
        if asks && !used && !is_not_ours(&entry.configured) {
            published.unsupported.push(entry.configured.clone());
        }
    }
    // What others are made from is used.
    published.unsupported.retain(|name| {
        let reference = format!("({}", name.to_ascii_lowercase());
        // One that adds to itself is no other.
        let mut others = set.iter().filter(|one| one.entry.configured != *name);
        !others.any(|one| {
            let raw = one.raw.to_ascii_lowercase();
            raw.match_indices(&reference).any(|(at, found)| {
                let next = raw
                    .get(at + found.len()..)
                    .and_then(|rest| rest.chars().next());
                raw.get(..at).is_some_and(|before| before.contains('$'))
                    && matches!(next, Some(')' | ':' | ','))
            })
        })
    });
    published.knobs = terms.knobs(configuration);
    published
}

fn fill(pieces: &[Piece], values: &BTreeMap<&str, String>) -> String {
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Earlier(name) => values.get(name.as_str()).map_or("", String::as_str),
        })
        .collect()
}

/// An entry with its value.
struct Set<'a> {
    scope: Scope,
    entry: &'a Entry,
    raw: String,
    /// Whether the value is from the dashboard, not the default.
    changed: bool,
}

/// All entries as one configuration, to expand what they refer to. It has no files, runs no commands and sees no
/// environment.
fn configured(set: &[Set<'_>], configuration: &BTreeMap<String, String>) -> Result<Config, String> {
    let nothing = MemoryFiles::new();
    let mut loader = Loader::new(&nothing)
        .without_environment()
        .random_seed(u64::from(std::process::id()));
    for (knob, value) in configuration {
        loader = loader.default_value(knob, value);
    }
    for one in set {
        loader = loader.set(&one.entry.configured, &one.raw, Origin::CommandLine);
    }
    loader.finish().map_err(|errors| {
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    })
}

fn expression(kind: Type, value: &str) -> Result<Option<Expr>, String> {
    match kind {
        Type::Text => Ok(Some(Expr::literal(Value::String(value.to_owned())))),
        Type::Integer | Type::Expression if value.trim().is_empty() => Ok(None),
        Type::Integer | Type::Expression => Expr::parse_old(value.trim())
            .map(Some)
            .map_err(|error| format!("it is no ClassAd expression: {error}")),
    }
}

fn in_configuration(kind: Type, value: &str) -> String {
    match kind {
        Type::Text => Expr::literal(Value::String(value.to_owned())).to_old(),
        Type::Integer | Type::Expression => value.to_owned(),
    }
}

fn is_term(name: &str) -> bool {
    START_TERMS.contains(&name) || RANK_TERMS.contains(&name) || policy(name).is_some()
}

fn policy(name: &str) -> Option<&'static str> {
    let known = POLICY.iter().find(|knob| knob.eq_ignore_ascii_case(name));
    known.copied()
}

fn is_not_ours(name: &str) -> bool {
    NOT_OURS.iter().any(|prefix| name.starts_with(prefix))
}

/// The knobs, while they are collected.
#[derive(Default)]
struct Terms {
    disk: Option<u64>,
    plain: BTreeMap<&'static str, String>,
    start: Vec<String>,
    rank: Vec<String>,
}

impl Terms {
    /// Takes over a part of the policy for running jobs. An empty value says nothing.
    fn policy(&mut self, knob: &'static str, value: String, expression: Option<&Expr>) -> bool {
        if expression.is_some() {
            self.plain.insert(knob, value.trim().to_owned());
        }
        true
    }

    /// Whether something comes of it.
    fn take(&mut self, name: &str, value: &str, expression: Option<&Expr>) -> bool {
        let value = value.trim();
        if let Some(knob) = TAKEN.iter().find(|knob| knob.eq_ignore_ascii_case(name)) {
            self.plain.insert(knob, value.to_owned());
            return true;
        }
        if let Some((_, knob)) = AMOUNTS.iter().find(|(known, _)| *known == name) {
            if value.parse::<u64>().is_ok_and(|number| number > 0) {
                // The knob's own name is the clearer word.
                self.plain.entry(knob).or_insert_with(|| value.to_owned());
            }
            return true;
        }
        if name == DISK_SHARE {
            if value.eq_ignore_ascii_case("auto") {
                return true;
            }
            let share = value
                .strip_suffix('%')
                .and_then(|number| number.trim().parse().ok());
            let (Some(share), Some(disk)) = (
                share.filter(|share| (1..=100_u64).contains(share)),
                self.disk,
            ) else {
                return false;
            };
            let part = disk / 100 * share;
            self.plain.entry("DISK").or_insert_with(|| part.to_string());
            return true;
        }
        if name == DRAINING {
            self.start.push(format!("({DRAINING} =!= True)"));
            return true;
        }
        if START_TERMS.contains(&name) {
            if expression.is_some_and(|expression| !is_literal(expression, &Value::Boolean(true))) {
                self.start.push(format!("({value})"));
            }
            return true;
        }
        if RANK_TERMS.contains(&name) {
            if expression.is_some() {
                self.rank.push(format!("({value})"));
            }
            return true;
        }
        false
    }

    fn knobs(self, configuration: &BTreeMap<String, String>) -> Vec<(String, String)> {
        let own = |knob: &str, neutral: &str| {
            configuration
                .get(knob)
                .map(|text| text.trim())
                .filter(|text| !text.is_empty() && !text.eq_ignore_ascii_case(neutral))
                .map(|text| format!("({text})"))
        };
        let mut knobs: Vec<(String, String)> = self
            .plain
            .into_iter()
            .map(|(knob, value)| (knob.to_owned(), value))
            .collect();
        let joined = |own: Option<String>, terms: Vec<String>, with: &str| {
            let unique: BTreeSet<&String> = terms.iter().collect();
            let count = unique.len();
            (count > 0).then(|| {
                let mut seen = BTreeSet::new();
                own.into_iter()
                    .chain(terms)
                    .filter(|term| seen.insert(term.clone()))
                    .collect::<Vec<_>>()
                    .join(with)
            })
        };
        if let Some(start) = joined(own("START", "true"), self.start, " && ") {
            knobs.push(("START".to_owned(), start));
        }
        // A constant for every job prefers nothing.
        let speaks = |term: &String| term.bytes().any(|byte| byte.is_ascii_alphabetic());
        if self.rank.iter().any(speaks)
            && let Some(rank) = joined(own("RANK", "0"), self.rank, " + ")
        {
            knobs.retain(|(knob, _)| knob != "RANK");
            knobs.push(("RANK".to_owned(), rank));
        }
        knobs
    }
}

fn is_literal(expression: &Expr, value: &Value) -> bool {
    expression.as_literal().as_ref() == Some(value)
}

#[cfg(test)]
mod tests {
    use super::super::vars;
    use super::*;

    fn run(board: &str, files: &[(Scope, &str)]) -> Published {
        let files: Vec<_> = files
            .iter()
            .map(|(scope, text)| {
                let (entries, errors) = vars::parse(text);
                assert_eq!(errors, []);
                (*scope, entries)
            })
            .collect();
        let configuration = BTreeMap::from([("START".to_owned(), "TRUE".to_owned())]);
        publish(
            &Dashboard::parse(board.as_bytes()),
            &files,
            &configuration,
            Some(5000),
        )
    }

    fn attributes(published: &Published) -> Vec<String> {
        published
            .attributes
            .iter()
            .map(|one| format!("{} = {}", one.name(), one.value().to_old()))
            .collect()
    }

    #[test]
    fn types_say_how_a_value_is_published() {
        let published = run(
            "T say \"hi\" \\ there\nN 12\nE Cpus > 2\nHidden 1\n",
            &[(
                Scope::Factory,
                "T S - + N Y -\nN I - Num N Y -\nE C - + N Y -\nHidden C - + N N -\nNothing S - + N Y -\n",
            )],
        );
        assert_eq!(
            attributes(&published),
            [
                "T = \"say \\\"hi\\\" \\ there\"",
                "Num = 12",
                "E = Cpus > 2"
            ]
        );
        assert_eq!(published.problems, []);
        assert_eq!(published.unsupported, ["Hidden"]);
    }

    #[test]
    fn nothing_of_a_value_is_ever_run_or_leaves_its_quotes() {
        let published = run(
            "A x'; touch /tmp/evil; '\nB \"; Evil = 1; \"\nC `id` $(id) $ENV(HOME)\n",
            &[(
                Scope::Frontend,
                "A S - + N Y +\nB S - + N Y +\nC S - + N Y -\n",
            )],
        );
        assert_eq!(
            attributes(&published),
            [
                "A = \"x'; touch /tmp/evil; '\"",
                "B = \"\\\"; Evil = 1; \\\"\"",
                "C = \"`id`  UNDEFINED\"",
            ]
        );
        assert_eq!(
            published.environment,
            [
                ("A".to_owned(), "x'; touch /tmp/evil; '".to_owned()),
                ("B".to_owned(), "\"; Evil = 1; \"".to_owned()),
            ]
        );
    }

    #[test]
    fn macros_are_expanded_among_the_entries() {
        let published = run(
            "PATH_ /cvmfs/x/bin/apptainer\nHAS_S True\n",
            &[(
                Scope::Factory,
                "PATH_ C - SINGULARITY N N -\nHAS_S C - + N Y -\nDIR S \\$Fd\\(SINGULARITY\\) + N Y -\n\
                 AUX C \\$\\(HAS_S:False\\) + N Y -\nUSE C \\$INT\\(CNT\\) + N Y -\nCNT I 3 + N N -\n\
                 OTHER C \\$\\(NOWHERE:False\\) + N Y -\n",
            )],
        );
        assert_eq!(published.problems, []);
        assert!(published.unsupported.is_empty(), "others are made from it");
        assert_eq!(
            attributes(&published),
            [
                "HAS_S = true",
                "DIR = \"bin/\"",
                "AUX = true",
                "USE = 3",
                "OTHER = false"
            ]
        );
    }

    #[test]
    fn the_group_is_asked_first_and_the_last_word_counts() {
        let published = run(
            "",
            &[
                (Scope::Factory, "A S factory-$B + N Y +\n"),
                (Scope::Group, "B S one + N Y -\nA S group + N Y +\n"),
            ],
        );
        assert_eq!(
            attributes(&published),
            ["B = \"one\"", "A = \"factory-one\""]
        );
        assert_eq!(
            published.environment,
            [("A".to_owned(), "factory-one".to_owned())]
        );
    }

    #[test]
    fn policies_for_running_jobs_become_knobs() {
        let published = run(
            "PREEMPT ($(MEMORY_HOG)) || TotalJobRunTime > 100\nMEMORY_HOG MemoryUsage > 2000\nWANT_HOLD $(MEMORY_HOG)\n\
             WANT_HOLD_REASON too \"much\" memory\n",
            &[(
                Scope::Frontend,
                "MEMORY_HOG C - + N N -\nPREEMPT C - + N N -\nWANT_HOLD C - + N N -\nWANT_HOLD_REASON S - + N Y -\n\
                 WANT_HOLD_SUBCODE I 7 + N N -\n",
            )],
        );
        assert_eq!(published.problems, []);
        assert!(published.unsupported.is_empty());
        let knobs: Vec<(&str, &str)> = published
            .knobs
            .iter()
            .map(|(knob, value)| (knob.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            knobs,
            [
                ("PREEMPT", "(MemoryUsage > 2000) || TotalJobRunTime > 100"),
                ("WANT_HOLD", "MemoryUsage > 2000"),
                ("WANT_HOLD_REASON", "\"too \\\"much\\\" memory\""),
                ("WANT_HOLD_SUBCODE", "7"),
            ]
        );
    }

    #[test]
    fn brokers_of_connections_become_a_knob() {
        // As glideinWMS's own script brings them.
        let published = run(
            "CCB_ADDRESS ccb1.example.org:9620,ccb2.example.org:9620\nCCB_HEARTBEAT_INTERVAL 120\n",
            &[(
                Scope::Factory,
                "CCB_ADDRESS C - + Y N -\nCCB_HEARTBEAT_INTERVAL I - + N N -\n",
            )],
        );
        assert_eq!(published.problems, []);
        assert!(published.unsupported.is_empty());
        let knobs: Vec<(&str, &str)> = published
            .knobs
            .iter()
            .map(|(knob, value)| (knob.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            knobs,
            [
                ("CCB_ADDRESS", "ccb1.example.org:9620,ccb2.example.org:9620"),
                ("CCB_HEARTBEAT_INTERVAL", "120"),
            ]
        );
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_named_and_not_taken_over() {
        let published = run(
            "PREEMPT (MemoryUsage >\nWANT_HOLD \n",
            &[(
                Scope::Frontend,
                "PREEMPT C - + N N -\nWANT_HOLD C - + N N -\n",
            )],
        );
        assert_eq!(published.knobs, []);
        assert!(
            matches!(published.problems.as_slice(), [Problem::Value { name, .. }] if name == "PREEMPT"),
            "{:?}",
            published.problems
        );
    }

    #[test]
    fn what_is_required_and_missing_is_named() {
        let published = run("", &[(Scope::Entry, "A S default + Y Y -\n")]);
        assert_eq!(
            published.problems,
            [Problem::Missing {
                name: "A".to_owned(),
                scope: Scope::Entry
            }]
        );
    }

    #[test]
    fn a_broken_value_is_named_and_holds_up_no_other() {
        let published = run(
            "A (1\nB 2\n",
            &[(Scope::Entry, "A C - + N Y -\nB I - + N Y -\n")],
        );
        assert_eq!(attributes(&published), ["B = 2"]);
        assert!(
            matches!(published.problems.as_slice(), [Problem::Value { name, .. }] if name == "A")
        );
    }

    #[test]
    fn conditions_and_amounts_become_knobs() {
        let published = run(
            "GLIDEIN_CPUS 8\nGLIDEIN_MaxMemMBs -1\nGLIDECLIENT_Start TARGET.Owner != \"x\"\nRESERVED_DISK 100\n\
             GLIDECLIENT_Rank TARGET.Prio\nGLIDEIN_DISK 25%\n",
            &[(
                Scope::Factory,
                "GLIDEIN_CPUS C 1 + N N -\nGLIDEIN_MaxMemMBs I - + N N -\nGLIDEIN_Start C True + N N -\n\
                 GLIDECLIENT_Start C True + N N -\nRESERVED_DISK C - + N N -\nGLIDEIN_Rank C 1 + N N -\n\
                 GLIDECLIENT_Rank C 1 + N N -\nSiteWMS_WN_Draining C False + N Y -\nCOLLECTOR_HOST C evil + N N -\n\
                 GLIDEIN_DISK C - + N N -\n",
            )],
        );
        let knobs: Vec<(&str, &str)> = published
            .knobs
            .iter()
            .map(|(knob, value)| (knob.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            knobs,
            [
                ("DISK", "1250"),
                ("NUM_CPUS", "8"),
                ("RESERVED_DISK", "100"),
                (
                    "START",
                    "(TARGET.Owner != \"x\") && (SiteWMS_WN_Draining =!= True)"
                ),
                ("RANK", "(1) + (TARGET.Prio)"),
            ]
        );
    }
}
