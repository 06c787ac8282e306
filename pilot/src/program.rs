//! From the command line to an exit status. Errors are printed here, once, with their causes and what to do.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use validation::custom::gconfig;

use crate::blame::{Exit, chain};
use crate::cli::{Cli, Command, Config, Run, Sources};
use crate::credential_command;
use crate::demo;
use crate::hardening;
use crate::knobs::Knobs;
use crate::log::{self, LogFormat};
use crate::manifest_command;
use crate::run;
use crate::validate_command;

/// Most threads that carry connections. Transfers are bound by the network, not by us.
const THREADS: usize = 4;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    // Custom checks call this for every value: nothing else is started for it.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == "gconfig")
    {
        return gconfig();
    }
    // Before any thread, and before the first secret is read.
    if let Err(error) = hardening::apply() {
        return report(Exit::Pilot, &error, None).into();
    }
    if let Some(status) = crate::broker::own::main() {
        return status;
    }
    let mut words = std::env::args_os().skip(1);
    if words
        .next()
        .is_some_and(|word| word == pool::files::ARGUMENT)
    {
        return pool::files::child_main(words);
    }
    match Cli::parse_from(arguments()).command {
        Command::Pool(command) => return embedded_pool(*command),
        Command::Credential(command) => return credential_command::run(&command),
        Command::Manifest(command) => return manifest_command::run(&command),
        Command::Demo(args) => demo::run(&args),
        Command::Run(args) => pilot(&args),
        Command::Validate(args) => return validate_command::run(&args),
        Command::Config(Config::Dump(sources)) => dump(&sources),
        Command::Config(Config::Check(sources)) => check(&sources),
    }
    .into()
}

/// The functions that checks source; see `docs/custom-checks.md`.
fn gconfig() -> ExitCode {
    let words = gconfig::words_of_process();
    let words = words.get(1..).unwrap_or_default();
    ExitCode::from(gconfig::run(words, &mut io::stdout(), &mut io::stderr()))
}

/// The command line; after `pool`, HTCondor's long options may have one dash.
fn arguments() -> Vec<OsString> {
    let mut all: Vec<OsString> = std::env::args_os().collect();
    if all.get(1).is_some_and(|word| word == "pool") {
        let rest = all.split_off(2);
        all.extend(pool::cli::dashes::with_two_dashes(rest));
    }
    all
}

/// A pool that serves logs as a pilot does; its tools only talk to the person who calls them.
fn embedded_pool(command: pool::cli::Command) -> ExitCode {
    if let pool::cli::Command::Serve(serve) = &command {
        let format = if serve.json_log() {
            LogFormat::Json
        } else {
            LogFormat::Text
        };
        if let Err(error) = log::start(format, None) {
            return report(Exit::Configuration, &error, None).into();
        }
    }
    pool::cli::run(command)
}

fn pilot(args: &Run) -> Exit {
    if args.die_with_parent
        && let Err(errno) = set_pdeathsig(Signal::SIGTERM)
    {
        return report(Exit::Pilot, &errno, None);
    }
    let knobs = match load(&args.sources) {
        Ok(knobs) => knobs,
        Err(exit) => return exit,
    };
    if let Err(error) = log::start(args.log_format, knobs.log.as_deref()) {
        let hint = "set LOG to a folder that the pilot's account can write to, or leave it out";
        return report(Exit::Configuration, &error, Some(hint));
    }
    for warning in &knobs.warnings {
        tracing::warn!("{warning}");
    }
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(THREADS);
    let runtime = match crate::threads::runtime(threads) {
        Ok(runtime) => runtime,
        Err(error) => return report(Exit::SiteTransient, &error, Some(error.hint())),
    };
    let reload = |more: &[(String, String)]| {
        let sets: Vec<_> = args.sources.set.iter().chain(more).cloned().collect();
        Knobs::load(&args.sources.config, &sets)
    };
    match runtime.block_on(run::run(knobs, &reload)) {
        Ok(ending) if ending.exit == Exit::Retired => {
            tracing::info!("retired: {}", ending.why);
            Exit::Retired
        }
        Ok(ending) => {
            tracing::error!(
                status = ending.exit.code(),
                "{}: {}",
                ending.exit.meaning(),
                ending.why
            );
            ending.exit
        }
        Err(error) => {
            let exit = error.exit();
            tracing::error!(
                status = exit.code(),
                hint = error.hint(),
                "{}: {}",
                exit.meaning(),
                chain(&error)
            );
            exit
        }
    }
}

pub(crate) fn load(sources: &Sources) -> Result<Knobs, Exit> {
    Knobs::load(&sources.config, &sources.set)
        .map_err(|error| report(Exit::Configuration, &error, None))
}

fn dump(sources: &Sources) -> Exit {
    match load(sources) {
        Ok(knobs) => print(&knobs.dump()),
        Err(exit) => exit,
    }
}

fn check(sources: &Sources) -> Exit {
    match load(sources) {
        Ok(_) => print("the configuration is good\n"),
        Err(exit) => exit,
    }
}

fn print(text: &str) -> Exit {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Exit::Retired,
        // Whoever reads us has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Retired,
        Err(error) => report(Exit::Pilot, &error, None),
    }
}

/// Prints an error with its causes, and a hint.
pub(crate) fn report(exit: Exit, error: &dyn Error, hint: Option<&str>) -> Exit {
    let mut text = format!("sailplane: {}\n", exit.meaning());
    let mut next = Some(error);
    while let Some(error) = next {
        text.push_str(&format!("  {error}\n"));
        next = error.source();
    }
    if let Some(hint) = hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // With stderr gone there is nobody left to tell.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    exit
}
