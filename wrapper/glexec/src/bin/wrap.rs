//! `glexec_wrapenv`: prints the environment as a value for `GLEXEC_ENV`.

fn main() -> std::process::ExitCode {
    sailplane_glexec::tools::wrap(std::env::args_os())
}
