//! The site's policy: who may call, who is banned, who becomes which account.
//!
//! The set-uid monitor opens the files, because only root can tell whether they are trustworthy; the
//! broker, which has a number of its own and no privilege, reads them with [`Judge`] and decides in the
//! types of [`launch_protocol::policy`]. Nothing here is privileged, so nothing here can be more than
//! wrong: root checks every account that comes out of it.
//!
//! - `sailplane-policy check FILE`: all that is wrong with a configuration; for administrators.
//! - `sailplane-policy trace FILE ...`: who was this uid, what did this name run.
//! - `sailplane-names`: accounts and groups; on a socket from root. A second one, on descriptor 3, shows root
//!   what was asked and answered. Where more than the files of /etc must be asked it becomes
//!   `sailplane-names-nss` (or `sailplane-policy names`).

mod admit;
mod bans;
mod check;
pub mod config;
mod decide;
mod dn;
mod fqan;
#[doc(hidden)]
pub mod fuzzing;
mod gridmap;
mod hours;
mod lease_name;
mod lines;
mod local;
mod mapper;
mod names;
mod pattern;
mod refuse;
mod serve;
mod service;
mod store;
mod sys;
mod target;
mod tokenmap;
mod trace;
mod vomsmap;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use nix::sys::prctl;

pub use local::look_up as look_up_in_files;
pub use refuse::why;
pub use service::{Files, Judge, MapperQuestion, Verdict};

const USAGE: &str = "\
usage: sailplane-policy check [--content-only] FILE
       sailplane-policy trace FILE [--uid UID] [--at TIME] [--dn DN] [--account NAME] [--job ID] [--format table|json]
       sailplane-policy names   (started by sailplane-switch)";

/// The whole program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<_> = arguments.into_iter().collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
    match words.as_slice() {
        ["names"] => serve(&mut names::NameService),
        ["local-names"] => serve(&mut local::LocalNames::new()),
        ["check", "--content-only", file] => report(Path::new(file), false),
        ["check", file] => report(Path::new(file), true),
        ["trace", file, query @ ..] => answer(Path::new(file), query),
        ["--version"] => {
            say(concat!(
                "sailplane-policy ",
                env!("CARGO_PKG_VERSION"),
                "\n"
            ));
            ExitCode::SUCCESS
        }
        _ => complain(USAGE),
    }
}

/// Nobody may be listening; that is no reason to panic.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(what: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{what}");
    ExitCode::from(2)
}

fn report(file: &Path, trust: bool) -> ExitCode {
    let report = check::check(file, trust);
    let (errors, warnings) = (report.errors, report.warnings);
    say(&format!(
        "{}{errors} errors, {warnings} warnings\n",
        report.text
    ));
    ExitCode::from(u8::from(errors > 0))
}

fn answer(file: &Path, words: &[&str]) -> ExitCode {
    let query = match trace::Query::parse(words) {
        Ok(query) => query,
        Err(why) => return complain(&format!("sailplane-policy: {why}\n{USAGE}")),
    };
    let (mut out, mut notes) = (std::io::stdout(), std::io::stderr());
    match trace::trace(file, &query, &mut out, &mut notes) {
        Ok(found) => ExitCode::from(u8::from(!found)),
        Err(why) => complain(&format!("sailplane-policy: {why}")),
    }
}

fn serve(service: &mut dyn serve::Service) -> ExitCode {
    // Other programs run as nobody, too; none of them looks into this one.
    if prctl::set_dumpable(false).is_err() {
        return ExitCode::FAILURE;
    }
    let questions = std::io::stdin();
    let witness = serve::witness(questions.as_fd());
    serve::serve(
        questions.as_fd(),
        witness.as_ref().map(AsFd::as_fd),
        service,
    )
}
