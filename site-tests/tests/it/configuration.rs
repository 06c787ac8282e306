//! Pilots that are configured wrongly say so and end.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use sailplane_site_tests::{Pilot, PilotOptions, Pool, PoolOptions, helper, process, say};

/// Starts a pilot that must end by itself, and returns what it wrote.
fn refused(options: &PilotOptions) -> Result<String> {
    let site = helper::site()?;
    let pool = Pool::raise(&PoolOptions {
        name: "config".to_owned(),
        ..PoolOptions::default()
    })?;
    let mut pilot = Pilot::start(site, &pool, options)?;
    let status = pilot.wait_end(Duration::from_secs(30))?;
    let log = pilot.log();
    ensure!(!status.success(), "the pilot ended with success:\n{log}");
    ensure!(!log.contains("panicked"), "{log}");
    Ok(log)
}

fn check(words: &[&str], options: &PilotOptions) {
    if let Some(reason) = process::obstacle() {
        say(&format!("not run: {reason}"));
        return;
    }
    match refused(options) {
        Ok(log) => {
            for word in words {
                assert!(log.contains(word), "the log does not say {word:?}:\n{log}");
            }
        }
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn an_unknown_knob_of_ours_is_an_error() {
    check(
        &["SAILPLANE_CREDENTIAL_GRASE"],
        &PilotOptions::default().knob("SAILPLANE_CREDENTIAL_GRASE", 60),
    );
}

#[test]
fn a_malformed_value_is_an_error_that_names_the_knob() {
    check(
        &["NUM_SLOTS", "several"],
        &PilotOptions::default().knob("NUM_SLOTS", "several"),
    );
}

#[test]
fn a_missing_helper_is_an_error_that_names_it() {
    check(
        &["/no/such/switch"],
        &PilotOptions::default().knob("SAILPLANE_SWITCH", "/no/such/switch"),
    );
}

#[test]
fn a_malformed_token_is_an_error_and_is_not_printed() {
    if process::obstacle().is_some() {
        return;
    }
    let folder = tempfile::tempdir().expect("a scratch folder");
    let token = folder.path().join("token");
    fs::write(&token, "c2VjcmV0LXRva2Vu.not-a-token\n").expect("write the token");
    let options = PilotOptions {
        token: Some(token),
        ..PilotOptions::default()
    };
    match refused(&options) {
        Ok(log) => {
            assert!(log.to_lowercase().contains("token"), "{log}");
            assert!(
                !log.contains("c2VjcmV0LXRva2Vu"),
                "the token itself is in the log"
            );
        }
        Err(error) => panic!("{error:?}"),
    }
}
