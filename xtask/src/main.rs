//! Developer commands: `cargo xtask COMMAND`.

mod bench;
mod console;
mod faults;
mod fuzz;
mod requirements;
mod trees;

use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  bench [launch|start|checks|verify|rate|memory|pool]... [--quick] [--write]
                                    ours beside sudo and HTCondor's own execute side; needs root
  fuzz TARGET|--all [--seconds N]   run fuzz targets (default 60 s each); works on stable Rust
  fuzz --list                       name the targets
  faults [part=N/OF] [WORD]...      make every step of a launch fail, one at a time (those whose name has the words; every OFth);
                                    an hour, needs root and strace; `ready` launches payloads made ahead
  storm                             cancel a thousand payloads at once and print the times; needs root
  helper-tree                       check that the setuid helper depends on what it may, and on nothing else
  core-tree                         check that the wire protocol's core needs no async runtime
  requirements [--write]            check that every requirement of the identity switch has a test named after it
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result: Result<()> = match words.as_slice() {
        ["bench", rest @ ..] => bench::run(rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["helper-tree"] => trees::helper(),
        ["core-tree"] => trees::core(),
        ["faults", rest @ ..] => faults::run(rest),
        ["storm"] => faults::storm(),
        ["requirements", rest @ ..] => requirements::run(rest),
        ["help" | "--help" | "-h"] | [] => {
            console::line(USAGE.trim_end());
            Ok(())
        }
        [unknown, ..] => {
            console::complain(&format!("no such command: {unknown}\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::complain(&format!("failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
