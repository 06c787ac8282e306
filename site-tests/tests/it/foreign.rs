//! A site's own ways to change accounts: `sudo`, and our own drop-in as any site's gLExec.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sailplane_site_tests::{PILOT_ACCOUNT, Play, Stage, StageOptions, Submission, process, wait};

use crate::sound::{marker, wait_marked, wait_none_marked};
use crate::without_helper;

pub(crate) const ACCOUNTS: [&str; 2] = ["sailplane-slot1", "sailplane-slot2"];
const RULE: &str = "/etc/sudoers.d/sailplane-tests";

/// A rule of sudo's, until it is dropped.
pub(crate) struct Rule;

impl Rule {
    pub(crate) fn make() -> Result<Self> {
        for account in ACCOUNTS {
            process::ensure_account(account)?;
        }
        let text = format!(
            "Defaults:{PILOT_ACCOUNT} !requiretty\n{PILOT_ACCOUNT} ALL=({}) NOPASSWD: ALL\n",
            ACCOUNTS.join(",")
        );
        let new = Path::new("/etc/sudoers.d/.sailplane-tests.new");
        fs::write(new, text).context("write a rule for sudo")?;
        fs::set_permissions(new, fs::Permissions::from_mode(0o440))?;
        fs::rename(new, RULE)?;
        Ok(Self)
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        // The next one overwrites it.
        let _ = fs::remove_file(RULE);
    }
}

fn sudo_stage(name: &str) -> StageOptions {
    StageOptions::named(name)
        .pilot_knob("SAILPLANE_SWITCH", "sudo")
        .pilot_knob("SLOT1_USER", ACCOUNTS[0])
        .pilot_knob("SLOT2_USER", ACCOUNTS[1])
}

fn swept(stage: &Stage) -> Result<()> {
    wait::until("the sandboxes to go", Duration::from_secs(10), || {
        let left = fs::read_dir(stage.pilot.execute())?.count();
        Ok((left == 0).then_some(()))
    })
}

#[test]
fn jobs_run_under_the_accounts_of_their_slots_by_sudo() {
    if !Path::new("/usr/bin/sudo").exists() {
        sailplane_site_tests::say("sudo not run: there is none on this machine");
        return;
    }
    let _rule = match Rule::make() {
        Ok(rule) => rule,
        Err(error) => panic!("no rule for sudo: {error:?}"),
    };
    without_helper(sudo_stage("sudo"), |stage| {
        for slot in stage.pilot.slots(&stage.pool)? {
            ensure!(slot.bool("SailplaneIdentitySwitch") == Some(true));
            ensure!(slot.text("SailplaneIdentitySwitchBy") == "sudo");
            ensure!(slot.text("SailplaneIsolation") == "account");
            ensure!(
                slot.text("SailplaneLacks")
                    .contains("accounts by the jobs' credentials"),
                "{}",
                slot.text("SailplaneLacks")
            );
        }
        let secret = stage.pilot.folder().join("tokens/pool");
        let (left, runs) = (marker(600), marker(600));
        let script = format!(
            "id -un; test -r {} && echo READ; kill -0 {} 2>/dev/null && echo SIGNALLED; \
             test -s $X509_USER_PROXY && echo proxy; cat in.txt > out.txt; \
             (setsid sleep {left} </dev/null >/dev/null 2>&1 &); exit 5",
            secret.display(),
            stage.pilot.pid()
        );
        let submission = Submission::shell("alice", &script)
            .file("in.txt", b"both ways\n", 0o644)
            .line("transfer_input_files = in.txt")
            .line("transfer_output_files = out.txt");
        let submitted = stage.submit(&submission)?;
        let ads = submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        ensure!(ads.iter().all(|ad| ad.int("ExitCode") == Some(5)));
        let said = submitted.output()?;
        ensure!(
            ACCOUNTS
                .iter()
                .any(|account| said == format!("{account}\nproxy\n")),
            "{said}"
        );
        ensure!(submitted.read("out.txt")? == "both ways\n");
        wait_none_marked(&left, Duration::from_secs(2))?;

        let script = format!("trap '' TERM; setsid sleep {runs} & sleep {runs}");
        let removed =
            stage.submit(&Submission::shell("bob", &script).line("job_max_vacate_time = 2"))?;
        wait_marked(&runs, 2)?;
        stage
            .pool
            .tool("bob", "condor_rm", [removed.job()?.to_string()])?;
        wait_none_marked(&runs, wait::PATIENCE)?;
        swept(stage)
    });
}

#[test]
fn a_pilot_whose_slots_have_no_accounts_does_not_start_by_sudo() {
    let options = StageOptions::named("sudonone")
        .slots(1)
        .pilot_knob("SAILPLANE_SWITCH", "sudo")
        .pilot_knob("SAILPLANE_IDENTITY_SWITCH", "OPTIONAL");
    without_helper(options, |stage| {
        let slots = stage.pilot.slots(&stage.pool)?;
        for slot in slots {
            let why = slot.text("SailplaneIdentitySwitchReason");
            ensure!(
                why.contains("SLOT1_USER is not set") || why.contains("is no program"),
                "{why}"
            );
            ensure!(slot.text("SailplaneIdentitySwitchBy") == "none");
        }
        Ok(())
    });
}
