//! `sailplane-names`: accounts and groups. What the files of /etc decide alone it says itself; for everything else it
//! becomes `sailplane-names-nss`, which takes longer to start than all the rest.

fn main() -> std::process::ExitCode {
    sailplane_policy::run([std::ffi::OsString::from("local-names")])
}
