//! `sailplane-names-nss`: what the name service of this node knows. A program of its own, because the
//! plug-ins of name services need the system's C library.

fn main() -> std::process::ExitCode {
    sailplane_policy::run([std::ffi::OsString::from("names")])
}
