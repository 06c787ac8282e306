//! `sailplane-job`: the agent in the sandbox that becomes the payload, and errands in its account.

fn main() -> std::process::ExitCode {
    sailplane_job::run(std::env::args_os())
}
