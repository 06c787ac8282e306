//! `sailplane-switch --broker`: the set-uid root helper.

fn main() -> std::process::ExitCode {
    sailplane_switch::run(std::env::args_os())
}
