//! The last of the custom checks: turns what the others left in the dashboard into what the pilot does.

use std::sync::Arc;
use std::time::Duration;

use super::area::Scope;
use super::cron::DEFAULT_PREFIX;
use super::dashboard::{Dashboard, Key};
use super::publish::{Problem, Published, publish};
use super::script::Chain;
use super::{stamp, store, vars};
use crate::check::{Check, Owner};
use crate::outcome::{Failure, Outcome, Whose};
use crate::probe::{Context, Probe, Running};
use crate::setup::Setup;

/// The name of the check.
pub const NAME: &str = "custom-attributes";

/// Seconds that a pilot without end is said to live: ten years.
const NO_END: i64 = 10 * 365 * 86_400;

/// Seconds that a job is taken to need, where nothing says so; what glideinWMS takes for it.
const JOB_TIME: i64 = 129_600;

/// The check.
#[derive(Debug)]
pub(super) struct Attributes {
    check: Check,
    chain: Arc<Chain>,
    /// What manifests publish, without a file.
    inline: Vec<(Scope, Vec<vars::Entry>)>,
    /// Whether there are periodic checks.
    periodic: bool,
}

impl Attributes {
    pub(super) fn new(
        chain: Arc<Chain>,
        inline: Vec<(Scope, Vec<vars::Entry>)>,
        periodic: bool,
        after: Vec<crate::check::CheckName>,
    ) -> Self {
        let mut check = Check::new(NAME, "what custom checks want published and configured")
            .owner(Owner::Factory)
            .limit(Duration::from_secs(330));
        check.after = after;
        Self {
            check,
            chain,
            inline,
            periodic,
        }
    }
}

impl Probe for Attributes {
    fn check(&self) -> &Check {
        &self.check
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(async move {
            if let Some(name) = self.chain.stopped() {
                return Outcome::skipped(format!("{name} failed before it"));
            }
            let (chain, inline, periodic) =
                (self.chain.clone(), self.inline.clone(), self.periodic);
            let setup = context.setup().clone();
            context
                .blocking(move || look(&chain, &inline, periodic, &setup))
                .await
                .unwrap_or_else(|| {
                    Outcome::failed(Failure::new(
                        Whose::Pilot,
                        "the values of custom checks could not be worked out",
                        "Please report it, with the dashboard.",
                    ))
                })
        })
    }
}

fn look(
    chain: &Chain,
    inline: &[(Scope, Vec<vars::Entry>)],
    periodic: bool,
    setup: &Setup,
) -> Outcome {
    let area = chain.area();
    let board = match area.dashboard().load() {
        Ok(board) => board,
        Err(error) => {
            return Outcome::failed(
                Failure::site(
                    format!("the dashboard of custom checks cannot be read: {error}"),
                    "See whether a check removed it, or the disk fails.",
                )
                .kind("WN_Resource"),
            );
        }
    };
    let mut remarks = Vec::new();
    let mut files = inline.to_vec();
    for scope in Scope::ALL {
        // Scripts write into the file that the dashboard names.
        let key = format!("{}CONDOR_VARS_FILE", scope.prefix());
        let file = board
            .text(&key)
            .map_or_else(|| area.vars(scope), std::path::PathBuf::from);
        match store::read_up_to(&file, vars::MAX_BYTES) {
            Ok(text) => {
                let text = text.unwrap_or_default();
                let (entries, errors) = vars::parse(&String::from_utf8_lossy(&text));
                files.push((scope, entries));
                let name = file.display();
                remarks.extend(errors.iter().map(|error| format!("{name}, {error}")));
            }
            Err(error) => remarks.push(error.to_string()),
        }
    }
    let published = publish(&board, &files, &setup.configuration, room(&setup.execute));
    remarks.extend(published.problems.iter().map(ToString::to_string));
    let missing: Vec<(&str, Scope)> = published
        .problems
        .iter()
        .filter_map(|problem| match problem {
            Problem::Missing { name, scope } => Some((name.as_str(), *scope)),
            Problem::Value { .. } => None,
        })
        .collect();
    if let Some((name, scope)) = missing.first() {
        return lacks(name, *scope, &missing).detail(remarks.join("\n"));
    }
    if !published.unsupported.is_empty() {
        remarks.push(format!(
            "this pilot has nothing to configure by: {}",
            published.unsupported.join(", ")
        ));
    }
    for remark in &remarks {
        tracing::warn!("custom checks: {remark}");
    }
    if let Err(error) = told(chain, &board, &published, setup) {
        tracing::warn!("custom checks: {error}");
    }
    let mut outcome = Outcome::passed();
    if periodic {
        outcome = outcome.attribute(
            &format!("{DEFAULT_PREFIX}OK"),
            classad::Expr::literal(classad::Value::Boolean(true)),
        );
    }
    outcome.attributes.extend(published.attributes);
    outcome.environment = published.environment;
    outcome.knobs = published.knobs;
    if !remarks.is_empty() {
        outcome = outcome.detail(remarks.join("\n"));
    }
    outcome
}

/// Room for jobs, KiB.
fn room(execute: &std::path::Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(execute).ok()?;
    Some(stat.blocks_available().saturating_mul(stat.fragment_size()) / 1024)
}

fn lacks(name: &str, scope: Scope, missing: &[(&str, Scope)]) -> Outcome {
    let whose = match scope {
        Scope::Factory | Scope::Entry => Whose::Factory,
        Scope::Frontend | Scope::Group => Whose::Frontend,
    };
    let more = match missing.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let failure = Failure::new(
        whose,
        format!("{name}{more} is required by condor_vars.lst, and nothing has set it"),
        format!("Set it as a constant of the {whose}, or let a check add it to the dashboard."),
    )
    .kind("Config");
    missing
        .iter()
        .fold(Outcome::failed(failure), |outcome, (name, _)| {
            outcome.text("MissingAttribute", *name)
        })
}

/// Tells the scripts that come: the dashboard says that the start is over, and a file looks like the configuration
/// that some search.
fn told(
    chain: &Chain,
    board: &Dashboard,
    published: &Published,
    setup: &Setup,
) -> Result<(), store::StoreError> {
    let mut text = String::new();
    for (name, value) in &published.configuration {
        text.push_str(&format!("{name}={value}\n"));
    }
    let number = |key: &str| {
        board
            .text(key)
            .or_else(|| setup.configuration.get(key).cloned())
            .and_then(|text| text.trim().parse::<i64>().ok())
            .filter(|number| *number > 0)
    };
    let lifetime = number("SAILPLANE_MAX_LIFETIME")
        .or_else(|| number("GLIDEIN_Max_Walltime"))
        .unwrap_or(NO_END);
    let job = number("GLIDEIN_Job_Max_Time").unwrap_or(JOB_TIME);
    let end = stamp::now() + lifetime;
    text.push_str(&format!(
        "GLIDEIN_TORETIRE = {}\nGLIDEIN_ToDie = {end}\n",
        end - job
    ));
    store::replace(&chain.area().top().join("condor_config"), text.as_bytes())?;
    let key = Key::new("GLIDEIN_INITIALIZED")?;
    chain.area().dashboard().change(&[(key, "1".into())])
}
