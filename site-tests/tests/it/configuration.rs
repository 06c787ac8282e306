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
fn a_malformed_token_is_named_and_not_printed() {
    if let Some(reason) = process::obstacle() {
        say(&format!("not run: {reason}"));
        return;
    }
    let log = with_a_bad_token().expect("a pilot that says what is wrong");
    assert!(log.contains("tokens/pool line 1"), "{log}");
    assert!(
        !log.contains("c2VjcmV0LXRva2Vu") && !log.contains("panicked"),
        "{log}"
    );
}

/// Starts a pilot with a token that is none: the checks of the node say what is wrong, and that it is the frontend's.
fn with_a_bad_token() -> Result<String> {
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    fs::write(&token, "c2VjcmV0LXRva2Vu.not-a-token\n")?;
    let options = PilotOptions {
        token: Some(token),
        ..PilotOptions::default()
    };
    let pool = Pool::raise(&PoolOptions {
        name: "token".to_owned(),
        ..PoolOptions::default()
    })?;
    let mut pilot = Pilot::start(helper::site()?, &pool, &options)?;
    let status = pilot.wait_end(Duration::from_secs(20))?;
    ensure!(
        status.code() == Some(40),
        "it ended with {status}:\n{}",
        pilot.log()
    );
    Ok(pilot.log())
}

#[test]
fn the_example_passes_the_check() {
    if process::obstacle().is_some() {
        return;
    }
    let pilot = &helper::site().expect("an installed helper").pilot;
    let example = process::source_tree().join("examples/pilot/pilot.conf");
    let mut command = std::process::Command::new(pilot);
    command.args(["config", "check", "--config"]).arg(&example);
    process::output(&mut command).expect("a configuration without mistakes");
    let mut wrong = std::process::Command::new(pilot);
    wrong
        .args(["config", "check", "--set", "NUM_SLOTS=none", "--config"])
        .arg(&example);
    let error = process::output(&mut wrong).expect_err("a mistake that is found");
    assert!(error.to_string().contains("NUM_SLOTS"), "{error}");
}
