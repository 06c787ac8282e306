//! `glexec_unwrapenv`: runs a command with the environment out of `GLEXEC_ENV`.

fn main() -> std::process::ExitCode {
    sailplane_glexec::tools::unwrap(std::env::args_os())
}
