//! The `sailplane` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    sailplane::program::main()
}
