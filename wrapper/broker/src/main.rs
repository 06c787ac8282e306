//! `sailplane-broker`: decides for the identity-switch helper, without any privilege.

fn main() -> std::process::ExitCode {
    sailplane_broker::run(std::env::args_os())
}
