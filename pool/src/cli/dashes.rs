//! HTCondor's long options with one dash, for those who have them in their fingers.

/// Turns `-constraint X`, `-af:h A B` and their like into what the parser of the command line knows. `arguments` are
/// those after `sailplane pool`, the command's name included; with another first word nothing changes.
pub fn with_two_dashes(_arguments: Vec<std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    todo!()
}
