//! `sailplane-verify CERTDIR`: verifies one credential in a process that can do nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    sailplane_verify::run(std::env::args_os().skip(1))
}
