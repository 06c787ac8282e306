//! `sailplane-glexec`: the unprivileged half of `glexec`.

fn main() -> std::process::ExitCode {
    sailplane_glexec::run(std::env::args_os())
}
