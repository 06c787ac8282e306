//! The site's policy: who may call, who is banned, who becomes which account.
//!
//! The set-uid helper opens the files, because only root can tell whether they are trustworthy; this
//! program, which runs as nobody, reads them and answers in the types of
//! [`launch_protocol::policy`]. Nothing here is privileged, so nothing here can be more than wrong:
//! root checks every account that comes out of it.
//!
//! - `sailplane-policy decide`: configuration, callers, bans, maps; on a socket from root.
//! - `sailplane-names` (or `sailplane-policy names`): accounts and groups; on a socket from root.

mod admit;
mod bans;
pub mod config;
mod decide;
mod dn;
mod fqan;
mod gridmap;
mod hours;
mod lease_name;
mod lines;
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
mod vomsmap;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use nix::sys::prctl;

const USAGE: &str = "usage: sailplane-policy decide|names (started by sailplane-switch)";

/// The whole program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<_> = arguments.into_iter().collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    match words
        .iter()
        .map(AsRef::as_ref)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["decide"] => serve(&mut service::DecisionService::default()),
        ["names"] => serve(&mut names::NameService),
        _ => {
            // Nobody may be listening; that is no reason to panic.
            let _ = writeln!(std::io::stderr(), "{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn serve(service: &mut dyn serve::Service) -> ExitCode {
    // Other programs run as nobody, too; none of them looks into this one.
    if prctl::set_dumpable(false).is_err() {
        return ExitCode::FAILURE;
    }
    serve::serve(std::io::stdin().as_fd(), service)
}
