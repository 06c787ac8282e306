//! The site's policy: who may call, who is banned, who becomes which account.
//!
//! The set-uid helper opens the files, because only root can tell whether they are trustworthy; this
//! program, which runs as nobody, reads them and answers in the types of
//! [`launch_protocol::policy`]. Nothing here is privileged, so nothing here can be more than wrong:
//! root checks every account that comes out of it.

pub mod config;
mod dn;
mod gridmap;
mod hours;
mod lines;
mod names;
mod pattern;
mod serve;
mod sys;
mod target;

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::process::ExitCode;

/// The whole program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<_> = arguments.into_iter().collect();
    match words.first().and_then(|word| word.to_str()) {
        Some("names") if words.len() == 1 => {
            serve::serve(std::io::stdin().as_fd(), &mut names::NameService)
        }
        _ => ExitCode::from(2),
    }
}
