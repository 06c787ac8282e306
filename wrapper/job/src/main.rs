//! `sailplane-job SANDBOX`: the agent in the sandbox that becomes the payload.

fn main() -> std::process::ExitCode {
    sailplane_job::run(std::env::args_os())
}
