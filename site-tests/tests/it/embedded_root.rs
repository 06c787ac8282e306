//! A pool that root runs, for all accounts of the machine.

use std::fs;
use std::os::unix::process::CommandExt;

use anyhow::{Result, ensure};
use sailplane_site_tests::{
    EmbeddedOptions, EmbeddedPool, PILOT_ACCOUNT, Pilot, PilotOptions, helper, process, say, wait,
};

const SUBMIT: &str = "executable = /bin/sh\narguments = \"-c 'echo good; exit 3'\"\ntransfer_executable = false\n\
                      should_transfer_files = YES\noutput = out\n";

/// What `submit` says to `account` (root without one), and whether it took the jobs.
fn submit(pool: &EmbeddedPool, account: Option<&str>, more: &str) -> Result<(bool, String)> {
    let folder = pool.folder(account.unwrap_or("root"))?;
    fs::write(folder.join("job.sub"), format!("{SUBMIT}{more}queue\n"))?;
    let mut command = pool.command(["submit", "job.sub"]);
    command.current_dir(&folder);
    if let Some(account) = account {
        let (uid, gid) = process::ensure_account(account)?;
        process::give(&folder, (uid, gid))?;
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.success(), said))
}

fn play(pool: &EmbeddedPool) -> Result<()> {
    let (taken, said) = submit(pool, None, "")?;
    ensure!(
        !taken && said.contains("jobs of root are not run"),
        "root's job: {said}"
    );
    let (taken, said) = submit(pool, Some(PILOT_ACCOUNT), "log = /root/no/job.log\n")?;
    ensure!(
        !taken && said.contains("/root/no/job.log"),
        "a log out of reach: {said}"
    );
    ensure!(
        pool.run(["q", "-af", "ClusterId"])?.trim().is_empty(),
        "something was queued"
    );

    let (taken, said) = submit(pool, Some(PILOT_ACCOUNT), "log = job.log\n")?;
    ensure!(taken, "{said}");
    let options = PilotOptions::default().knob("SAILPLANE_IDENTITY_SWITCH", "NEVER");
    let mut pilot = Pilot::start(helper::site()?, pool, &options)?;
    pilot.wait_joined(pool, 2)?;
    wait::until("the job to end", wait::PATIENCE, || {
        let history = pool.run(["history", "-af", "Owner", "ExitCode"])?;
        Ok((history.trim() == format!("{PILOT_ACCOUNT} 3")).then_some(()))
    })
}

#[test]
fn an_account_s_jobs_run_and_what_could_never_run_is_refused() {
    if let Some(reason) = process::obstacle() {
        say(&format!("root's pool not run: {reason}"));
        return;
    }
    let options = EmbeddedOptions {
        name: "roots".to_owned(),
        as_root: true,
        ..EmbeddedOptions::default()
    };
    match EmbeddedPool::raise(&options) {
        Ok(pool) => crate::judge("roots", play(&pool)),
        Err(error) => panic!("roots: the pool could not be raised: {error:?}"),
    }
}
