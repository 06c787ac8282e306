//! The drop-in for gLExec: the unprivileged half.
//!
//! `glexec COMMAND ARG...` is a link to the set-uid `sailplane-switch`. That forks: one half becomes
//! the broker it always is, the other gives up root for good and becomes `sailplane-glexec`, which is
//! this crate. So everything the caller can influence (variables, files, working directory, standard
//! streams) is dealt with under the caller's own rights, and root sees what a pilot's requests look
//! like, nothing else.
//!
//! Not its business: who may call, what a credential means, which account it is, becoming that account.
//! What it says is advice to the caller; what counts is decided by the broker.

mod channel;
pub mod command;
pub mod credential;
pub mod environment;
pub mod failure;
mod front;
pub mod log;
mod logging_only;
mod report;
pub mod settings;
mod signals;
mod sys;
pub mod tempdir;
pub mod tools;
pub mod variables;
pub mod words;
pub mod wrap;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use nix::unistd::getuid;

use crate::channel::Broker;
use crate::failure::Failure;
use crate::front::Call;
use crate::report::Report;
use crate::words::Wish;

/// First word from the set-uid half: a broker is on descriptor 3.
pub const WITH_BROKER: &str = "broker";

/// The whole program. `arguments` are its name, two words from the set-uid half ([`WITH_BROKER`] or
/// the code of what keeps it from its work, and a sentence for that), the caller's name for it, and
/// the caller's words.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter().skip(1);
    let (state, sentence) = (arguments.next(), arguments.next());
    let words: Vec<_> = arguments.skip(1).collect();
    let environment: Vec<_> = std::env::vars_os().collect();
    let mut report = Report::default();
    let status = Report::take(&environment).and_then(|taken| {
        report = taken;
        match words::read(&words)? {
            Wish::Help => Ok(print(words::USAGE)),
            Wish::Version => Ok(print(concat!(
                "glexec (sailplane) ",
                env!("CARGO_PKG_VERSION"),
                "\n"
            ))),
            Wish::BuiltIn if getuid().is_root() => Ok(print(&front::built_in())),
            Wish::BuiltIn => Err(Failure::caller("usage", "only root may use -V")),
            Wish::Run(command, arguments) => {
                let call = Call {
                    command,
                    arguments,
                    environment,
                };
                match state {
                    Some(word) if word == WITH_BROKER => with_broker(&call, &mut report),
                    Some(code) => {
                        // Its other end is closed; what is started from here must not take it for its own.
                        drop(Broker::take());
                        let reason = cannot_switch(&code.to_string_lossy(), sentence);
                        Err(logging_only::carry_out(&call, reason))
                    }
                    None => Err(by_hand()),
                }
            }
        }
    });
    match status {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            report.refused(&failure);
            let _ = std::io::stderr().write_all(format!("glexec: {failure}\n").as_bytes());
            ExitCode::from(failure.status.number())
        }
    }
}

fn with_broker(call: &Call, report: &mut Report) -> Result<u8, Failure> {
    let broker = Broker::take().ok_or_else(by_hand)?;
    front::carry_out(call, broker, report)
}

fn by_hand() -> Failure {
    let text = "sailplane-glexec is started by sailplane-switch; call that, or its link glexec";
    Failure::caller("usage", text)
}

fn cannot_switch(code: &str, sentence: Option<OsString>) -> Failure {
    let sentence = sentence.unwrap_or_default();
    let mut failure = Failure::administrator("startup.system", sentence.to_string_lossy());
    failure.code = code.to_owned().into();
    failure
}

fn print(text: &str) -> u8 {
    // Nobody listening is no reason to fail.
    let _ = std::io::stdout().write_all(text.as_bytes());
    0
}
