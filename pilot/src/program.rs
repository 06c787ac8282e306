//! From the command line to an exit status. Errors are printed here, once, with their causes and what to do.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use tokio::runtime::Builder;

use crate::blame::{Exit, chain};
use crate::cli::{Cli, Command, Config, Run, Sources};
use crate::hardening;
use crate::knobs::Knobs;
use crate::log;
use crate::run;

/// Most threads that carry connections. Transfers are bound by the network, not by us.
const THREADS: usize = 4;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    // Before any thread, and before the first secret is read.
    if let Err(error) = hardening::apply() {
        return report(Exit::Pilot, &error, None).into();
    }
    if let Some(status) = crate::broker::own::main() {
        return status;
    }
    match Cli::parse().command {
        Command::Run(args) => pilot(&args),
        Command::Config(Config::Dump(sources)) => dump(&sources),
        Command::Config(Config::Check(sources)) => check(&sources),
    }
    .into()
}

fn pilot(args: &Run) -> Exit {
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
    let runtime = match Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report(Exit::Pilot, &error, None),
    };
    match runtime.block_on(run::run(knobs)) {
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

fn load(sources: &Sources) -> Result<Knobs, Exit> {
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
fn report(exit: Exit, error: &dyn Error, hint: Option<&str>) -> Exit {
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
