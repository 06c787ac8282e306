//! The agent as it is shipped, built beside the tests: they start payloads with it.

fn main() -> std::process::ExitCode {
    sailplane_job::run(std::env::args_os())
}
