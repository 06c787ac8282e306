//! `sailplane demo`, as a newcomer runs it: by root, and by an ordinary account.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sailplane_site_tests::{PILOT_ACCOUNT, helper, process, say, wait};

/// The demo in a folder of its own with the programs of the installed helper, and where its page will be.
fn command(folder: &Path, account: Option<&str>) -> Result<(Command, PathBuf)> {
    let site = helper::site()?;
    let programs = site.switch.parent().context("the helper is in a folder")?;
    let page = folder.join("report.html");
    let mut command = Command::new(&site.pilot);
    command
        .args(["demo", "--html"])
        .arg(&page)
        .arg("--programs")
        .arg(programs)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir(folder);
    if let Some(name) = account {
        let (uid, gid) = process::ensure_account(name)?;
        process::give(folder, (uid, gid))?;
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    Ok((command, page))
}

/// Runs the demo; its output, and its page.
fn demo(folder: &Path, account: Option<&str>) -> Result<(Output, String)> {
    let (mut command, page) = command(folder, account)?;
    let output = command.output().context("start the demo")?;
    Ok((output, fs::read_to_string(page).unwrap_or_default()))
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Folders and mounts a demo may have left.
fn leavings() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["/run", "/tmp", "/var/tmp"] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("sailplane-demo") {
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let ours = mounts
        .lines()
        .filter(|line| line.contains("sailplane-demo"));
    found.extend(ours.map(str::to_owned));
    let processes = process::find(|process| process.command.contains("sailplane-demo"));
    found.extend(processes.into_iter().map(|process| process.command));
    found
}

/// One at a time: each looks for what a demo left.
static STAGE: Mutex<()> = Mutex::new(());

fn play(account: Option<&str>, judge: impl FnOnce(&str, &str) -> Result<()>) {
    let _alone = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(reason) = process::obstacle() {
        say(&format!("the demo not run: {reason}"));
        return;
    }
    let outcome = (|| {
        // These make accounts and install the helper, if no test did so before.
        helper::site()?;
        process::ensure_account(PILOT_ACCOUNT)?;
        let accounts = fs::read("/etc/passwd")?;
        let configuration = Path::new("/etc/sailplane").exists();
        let folder = tempfile::tempdir()?;
        let (output, page) = demo(folder.path(), account)?;
        let told = text(&output);
        ensure!(output.status.success(), "{}\n{told}", output.status);
        judge(&told, &page).with_context(|| told.clone())?;
        ensure!(accounts == fs::read("/etc/passwd")?, "it made accounts");
        ensure!(
            configuration == Path::new("/etc/sailplane").exists(),
            "it installed something"
        );
        let left = leavings();
        ensure!(left.is_empty(), "it left {left:?}");
        Ok(())
    })();
    crate::judge("demo", outcome);
}

#[test]
fn by_root_it_shows_each_user_under_an_account_of_their_own() {
    play(None, |told, page| {
        for account in ["alice (", "bob (", "carol (", "lent ("] {
            ensure!(told.contains(account), "no job ran as {account}...)");
        }
        ensure!(!told.contains("not shown"), "something was not shown");
        ensure!(page.contains("all as it should be") && !page.contains("not all as it should be"));
        ensure!(
            page.matches("class=\"name\"").count() == 13,
            "a lane is missing"
        );
        Ok(())
    });
}

#[test]
fn without_root_it_says_what_it_does_not_show_and_shows_the_rest() {
    play(Some(PILOT_ACCOUNT), |told, page| {
        ensure!(told.contains("not shown: each user's jobs under an account of their own"));
        ensure!(page.contains("Not shown:"));
        ensure!(
            told.matches("yours (").count() >= 9,
            "jobs did not run under our account"
        );
        Ok(())
    });
}

#[test]
fn interrupted_it_leaves_nothing() {
    let _alone = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(reason) = process::obstacle() {
        say(&format!("the interrupted demo not run: {reason}"));
        return;
    }
    let outcome = (|| {
        let folder = tempfile::tempdir()?;
        let said = folder.path().join("said");
        let (mut command, _) = command(folder.path(), None)?;
        let mut demo = command.stderr(fs::File::create(&said)?).spawn()?;
        wait::until("a job to run", wait::PATIENCE, || {
            let text = fs::read_to_string(&said)?;
            Ok(text.contains("running").then_some(()))
        })?;
        kill(Pid::from_raw(demo.id().cast_signed()), Signal::SIGINT)?;
        let status = demo.wait()?;
        ensure!(
            !status.success(),
            "an interrupted demo counts as a good one"
        );
        let left = leavings();
        ensure!(left.is_empty(), "it left {left:?}");
        Ok(())
    })();
    crate::judge("demo", outcome);
}
