//! Entry of the fuzz target `pool_mapfile`.

use cedar::security::{AuthMethod, IdentityMap};
use condorconf::MemoryFiles;

use super::MapFile;

/// Reads the bytes as a map file that may include itself, in both modes, and maps names with it. Nothing may panic.
pub fn fuzz_pool_mapfile(data: &[u8]) {
    let files = MemoryFiles::new().file("map", data).file("dir/map", data);
    for hash_keys in [false, true] {
        let Ok(reading) = MapFile::read(&files, "map", hash_keys, "site.org") else {
            continue;
        };
        for name in ["/DC=org/CN=Alice", "alice", ""] {
            for method in [AuthMethod::Ssl, AuthMethod::ClaimToBe] {
                if let Some(identity) = reading.map.map(method, name) {
                    assert!(identity.contains('@'));
                }
            }
        }
    }
}
