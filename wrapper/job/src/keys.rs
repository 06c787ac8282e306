//! Keys in the kernel that stay with a user's number when its last process is gone.

use std::fs;

use crate::sys::{self, Keyring};

/// Empties the keyrings of this account's number. Only those that exist: asking for one would make it.
pub(crate) fn clear_all_of(uid: u32) {
    let known = fs::read_to_string("/proc/keys").unwrap_or_default();
    for (name, keyring) in [
        ("_uid", Keyring::User),
        ("_uid_ses", Keyring::UserSession),
        ("_persistent", Keyring::Persistent),
    ] {
        if exists(&known, name, uid) {
            // What cannot be emptied now cannot be emptied at all: there is nobody to tell.
            let _ = sys::clear_keyring(keyring);
        }
    }
}

fn exists(known: &str, name: &str, uid: u32) -> bool {
    let wanted = format!("{name}.{uid}:");
    known
        .lines()
        .any(|line| line.split_ascii_whitespace().any(|word| word == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k9_only_the_accounts_own_keyrings_are_named() {
        let known = "0f3a I--Q---     1 perm 1f3f0000 60001 65534 keyring   _uid_ses.60001: 1\n\
                     1b2c I--Q---     3 perm 1f3f0000  1000 65534 keyring   _uid.1000: empty\n";
        assert!(exists(known, "_uid_ses", 60_001));
        assert!(!exists(known, "_uid", 60_001) && !exists(known, "_uid_ses", 1000));
        assert!(!exists(known, "_uid_ses", 6000));
    }
}
