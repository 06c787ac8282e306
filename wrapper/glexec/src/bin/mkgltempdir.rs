//! `mkgltempdir`: makes and removes directories that belong to a payload's account.

fn main() -> std::process::ExitCode {
    sailplane_glexec::tempdir::run(std::env::args_os())
}
