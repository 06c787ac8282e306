//! `sailplane-site-test`: what an administrator runs on a node on which the identity-switch helper is installed, by root
//! or by the pilots' account, without a pool.
//!
//! What lives where:
//!
//! * [`options`], [`expectations`]: the command line, and what the administrator says should be so;
//! * [`ground`]: the node as it is found: helper, configuration, who may call;
//! * [`results`]: the checks and what came of each;
//! * [`installation`], [`policy`]: what can be seen without running anything under another account;
//! * [`credentials`]: credentials that are given, made with a test authority, or spoilt on purpose;
//! * [`session`], [`shell`]: a running helper, a folder for its sandboxes, a payload with its pipes;
//! * [`judgement`]: what the installed files say of a name of which there is no credential;
//! * [`mappings`], [`refusals`], [`cycle`], [`storm`]: the helper, tried;
//! * [`inventory`]: what was there before, and what is left after.
//!
//! It changes nothing of the node: it makes a folder below one of `execute_dirs` and removes it. What the helper writes
//! into its log stays, as it should.

mod credentials;
mod cycle;
mod expectations;
mod ground;
mod installation;
mod inventory;
mod judgement;
mod mappings;
mod options;
mod policy;
mod refusals;
mod results;
mod session;
mod shell;
mod storm;
#[allow(unsafe_code, reason = "a signal handler")]
mod sys;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use validation::report::{self, Format, Look};
use validation::{Report, Verdict};

use expectations::Expectation;
use ground::Ground;
use options::Options;
use results::Results;

/// The command line cannot be used.
const USAGE: u8 = 2;
/// Nothing could be tried.
const UNKNOWN: u8 = 3;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let status = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    sys::note_interruptions();
    match examine(&options) {
        Ok(report) => tell(&options, &report),
        Err(why) => complain(&options, &why),
    }
}

/// Everything, in the order in which one thing depends on another.
fn examine(options: &Options) -> Result<Report, String> {
    let expectations = expectations::all(options)?;
    let wallet = credentials::Wallet::open(options, &expectations)?;
    let mut results = Results::begin(options);
    let ground = Ground::look(options);
    let before = inventory::Inventory::take(&ground);
    installation::examine(&mut results, &ground);
    policy::examine(&mut results, &ground);
    let mut touched = session::Touched::default();
    if let Some(mut session) = session::start(&mut results, &ground, options, &wallet) {
        let accounts = mappings::examine(&mut results, &mut session, &wallet, &expectations);
        refusals::examine(&mut results, &mut session, &wallet, &accounts);
        cycle::examine(&mut results, &mut session, &accounts, options);
        storm::examine(&mut results, &mut session, &accounts, options);
        touched = session.end(&mut results);
    } else {
        mappings::not_tried(&mut results, &ground, &expectations);
    }
    inventory::examine(&mut results, &ground, &before, &touched);
    Ok(results.report(&ground, options))
}

/// Prints the report, writes the page; the exit status.
fn tell(options: &Options, report: &Report) -> ExitCode {
    let mut out = std::io::stdout();
    let variable = |name: &str| std::env::var(name).ok();
    let columns = variable("COLUMNS").and_then(|columns| columns.parse().ok());
    let look = Look::of_terminal(
        out.is_terminal(),
        variable("NO_COLOR").as_deref(),
        variable("TERM").as_deref(),
        columns,
    );
    let text = report::render(report, options.format, look);
    // Nobody listening is no reason to fail.
    let _ = out.write_all(text.as_bytes());
    if let Some(path) = &options.html
        && let Err(error) = std::fs::write(path, report::html(report))
    {
        return complain(
            options,
            &format!("cannot write {}: {}", path.display(), ground::words(&error)),
        );
    }
    if options.format == Format::Nagios {
        return ExitCode::from(report::nagios_status(report));
    }
    let tried = report
        .entries
        .iter()
        .any(|entry| entry.outcome.is_passed() || entry.outcome.failure().is_some());
    let status = match report.verdict {
        _ if sys::is_interrupted() => 1,
        _ if !tried => UNKNOWN,
        Verdict::Healthy => u8::from(options.strict && skipped(report)),
        Verdict::Degraded => u8::from(options.strict),
        Verdict::Draining | Verdict::Unfit { .. } => 1,
    };
    ExitCode::from(status)
}

fn skipped(report: &Report) -> bool {
    report
        .entries
        .iter()
        .any(|entry| !entry.outcome.is_passed() && entry.outcome.failure().is_none())
}

fn complain(options: &Options, why: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "sailplane-site-test: {why}");
    let is_plugin = options.format == Format::Nagios;
    if is_plugin {
        let _ = writeln!(std::io::stdout(), "SAILPLANE UNKNOWN - {why}");
    }
    ExitCode::from(if is_plugin { UNKNOWN } else { USAGE })
}

/// What is told and asked again and again.
fn expectation_name(expectation: &Expectation) -> String {
    format!("map-{}", expectation.name)
}
