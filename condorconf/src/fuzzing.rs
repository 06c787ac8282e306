//! Entry of the fuzz target `condor_config`.

use crate::{Loader, MemoryFiles};

/// Reads the bytes as a configuration that may include itself, and expands every knob of it. Nothing may panic, and
/// everything ends.
pub fn fuzz_condor_config(data: &[u8]) {
    let files = MemoryFiles::new()
        .file("self", data)
        .file("dir/self", data)
        .variable("HOME", "/home/user");
    let read = Loader::new(&files)
        .subsys("STARTD")
        .local_name("local")
        .read_file("self")
        .finish();
    let Ok(config) = read else { return };
    for knob in config.iter() {
        // A knob may be wrong only when it is used.
        let _unused = config.get(knob.name);
        let _unused = config.list(knob.name);
        let _unused = config.optional_bool(knob.name);
        let _unused = config.optional_int(knob.name, 0..=10);
        let _unused = config.optional_real(knob.name);
    }
}
