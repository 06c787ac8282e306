//! Whom the node trusts, and the pilot's own credentials.

pub(super) mod authorities;
mod der;
pub(super) mod pilot_credential;
pub(super) mod voms;

pub(super) use der::fuzz;

use std::path::PathBuf;

use crate::knob::Knobs;
use crate::setup::{Setup, SwitchOffer, Wish};

/// Where CAs are if nobody says so.
const CA_DIRECTORY: &str = "/etc/grid-security/certificates";
/// Where VOMS servers are if nobody says so.
const VOMS_DIRECTORY: &str = "/etc/grid-security/vomsdir";
/// The helper's configuration, which everybody may read.
const SWITCH_CONF: &str = "/etc/sailplane/switch.conf";

/// A directory that matters, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Directory {
    path: PathBuf,
    /// The knob or the file.
    said_by: String,
    /// Jobs fail without it; else nobody may need it.
    is_needed: bool,
}

/// Where the CAs are that users' credentials are verified against: the pilot's setting, else the helper's.
fn ca_directory(setup: &Setup) -> Directory {
    let mut directory = choose(
        setup
            .ca_directory
            .clone()
            .map(|path| (path, "SAILPLANE_CA_DIRECTORY")),
        helper_setting(setup, "certdir"),
        CA_DIRECTORY,
    );
    // It refuses every proxy without.
    directory.is_needed |= is_helper_used(setup);
    directory
}

/// Why nobody can say where the CAs are: the helper would, and its configuration cannot be read. What that means is for the
/// trial of the helper to say.
fn nobody_says(setup: &Setup) -> Option<String> {
    if setup.ca_directory.is_some() || !is_helper_used(setup) {
        return None;
    }
    let error = std::fs::read_to_string(SWITCH_CONF).err()?;
    Some(format!(
        "the helper's configuration, which names the CA directory, cannot be read: {SWITCH_CONF}: {}",
        super::net::system_words(&error)
    ))
}

/// Where the VOMS servers are.
fn voms_directory(setup: &Setup, knobs: &Knobs) -> Directory {
    let mut directory = choose(
        setup
            .voms_directory
            .clone()
            .map(|path| (path, "the configuration")),
        helper_setting(setup, "vomsdir"),
        VOMS_DIRECTORY,
    );
    directory.is_needed |= !knobs.list("SAILPLANE_CHECK_VOS").is_empty();
    directory
}

fn choose(ours: Option<(PathBuf, &str)>, helpers: Option<PathBuf>, default: &str) -> Directory {
    let needed = |path, said_by: &str| Directory {
        path,
        said_by: said_by.to_owned(),
        is_needed: true,
    };
    match (ours, helpers) {
        (Some((path, by)), _) => needed(path, by),
        (None, Some(path)) => needed(path, SWITCH_CONF),
        (None, None) => Directory {
            path: default.into(),
            said_by: "nobody, so that the usual place counts".to_owned(),
            is_needed: false,
        },
    }
}

/// Whether our helper is to verify the credentials of jobs.
fn is_helper_used(setup: &Setup) -> bool {
    setup.identity_switch != Wish::Never && matches!(setup.switch, SwitchOffer::Helper(_))
}

/// A setting of our helper, if it is the one that will verify.
fn helper_setting(setup: &Setup, key: &str) -> Option<PathBuf> {
    let is_used =
        setup.identity_switch != Wish::Never && matches!(setup.switch, SwitchOffer::Helper(_));
    let text = is_used.then(|| std::fs::read_to_string(SWITCH_CONF).ok())??;
    setting(&text, key)
}

/// A key of an INI file, in any section; the last counts.
fn setting(text: &str, key: &str) -> Option<PathBuf> {
    text.lines()
        .filter_map(|line| line.trim().split_once('='))
        .filter(|(name, _)| name.trim() == key)
        .map(|(_, value)| PathBuf::from(value.trim()))
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_helpers_settings_are_read() {
        let text = "[glexec]\nuser_white_list = x\n[switch]\n#certdir = /no\ncertdir = /etc/ca\nvomsdir=/v\n";
        assert_eq!(setting(text, "certdir"), Some("/etc/ca".into()));
        assert_eq!(setting(text, "vomsdir"), Some("/v".into()));
        assert_eq!(setting(text, "gridmap"), None);
        assert!(!choose(None, None, "/x").is_needed);
        assert_eq!(choose(None, Some("/h".into()), "/x").said_by, SWITCH_CONF);
    }
}
