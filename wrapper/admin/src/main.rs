//! `sailplane-admin`: what only root may ask the identity-switch helper for.

fn main() -> std::process::ExitCode {
    sailplane_admin::run(std::env::args_os())
}
