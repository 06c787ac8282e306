//! `sailplane-policy`: reads policy for the identity-switch helper.

fn main() -> std::process::ExitCode {
    sailplane_policy::run(std::env::args_os().skip(1))
}
