//! HTCondor's token tools with the embedded pool, beside our own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sailplane_site_tests::{EmbeddedPool, process, wait};

use crate::embedded_tools::with_pool;

/// The only request that waits, as our tool shows it.
fn waiting(pool: &EmbeddedPool) -> Result<String> {
    wait::until("a token request", wait::PATIENCE, || {
        let text = pool.run(["token", "requests", "--json"])?;
        let number = text.split("\"id\": \"").nth(1);
        Ok(number
            .and_then(|rest| rest.split('"').next())
            .map(str::to_owned))
    })
}

/// Starts a tool that ends when its request is decided.
fn in_background(command: &mut Command) -> Result<std::process::Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start the tool")
}

/// The levels that a token is good for.
fn levels(pool: &EmbeddedPool, name: &str, token: &str) -> Result<Vec<&'static str>> {
    let folder = pool.dir().join("tokens").join(name);
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    let file = folder.join(name);
    fs::write(&file, token)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    process::give(&folder, pool.owner())?;
    process::give(&file, pool.owner())?;
    let mut granted = Vec::new();
    for level in ["READ", "WRITE", "ADMINISTRATOR", "ADVERTISE_STARTD"] {
        let mut ping =
            pool.tool_command(name, "condor_ping", ["-quiet", "-type", "COLLECTOR", level]);
        if ping.status()?.success() {
            granted.push(level);
        }
    }
    Ok(granted)
}

fn ask_with_condor(pool: &EmbeddedPool, user: &str, identity: &str) -> Command {
    let identity = format!("{identity}@{}", pool.domain());
    let arguments = [
        "-type",
        "COLLECTOR",
        "-identity",
        &identity,
        "-authz",
        "ADVERTISE_STARTD",
    ];
    pool.tool_command(user, "condor_token_request", arguments)
}

/// What a tool printed that looks like a token.
fn token_in(text: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().find(|line| line.starts_with("eyJ"));
    Ok(line
        .with_context(|| format!("no token in {text}"))?
        .to_owned())
}

#[test]
fn a_token_that_condor_requests_and_our_tool_approves_makes_a_pilot() {
    with_pool("tokens", &[], |pool| {
        let asking = in_background(&mut ask_with_condor(pool, "alice", "newpilot"))?;
        let id = waiting(pool)?;
        // Others neither see nor approve it.
        let mut list = pool.tool_command(
            "bob",
            "condor_token_request_list",
            ["-type", "COLLECTOR", "-json"],
        );
        let list = list.output()?;
        ensure!(
            !String::from_utf8_lossy(&list.stdout).contains(&id),
            "{list:?}"
        );
        let shown = pool.tool("admin", "condor_token_request_list", ["-type", "COLLECTOR"])?;
        ensure!(
            shown.contains(&id) && shown.contains("newpilot@"),
            "{shown}"
        );
        let approved = pool.run(["token", "approve", "--yes", &id])?;
        ensure!(approved.contains("ADVERTISE_STARTD"), "{approved}");
        let done = asking.wait_with_output()?;
        ensure!(done.status.success(), "{done:?}");
        let granted = levels(pool, "newpilot", &token_in(&done.stdout)?)?;
        ensure!(granted == ["READ", "ADVERTISE_STARTD"], "{granted:?}");
        Ok(())
    });
}

#[test]
fn a_token_that_our_tool_requests_is_approved_by_condors_or_denied_by_ours() {
    with_pool("requests", &[], |pool| {
        let request = [
            "token",
            "request",
            "--identity",
            "carol",
            "--scope",
            "WRITE",
            "--lifetime",
            "1h",
        ];
        let asking = in_background(&mut pool.command(request))?;
        let id = waiting(pool)?;
        let mut approve = pool.tool_command(
            "admin",
            "condor_token_request_approve",
            ["-type", "COLLECTOR", "-reqid", &id],
        );
        let mut approve = approve
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        std::io::Write::write_all(&mut approve.stdin.take().context("its input")?, b"yes\n")?;
        let approved = approve.wait_with_output()?;
        ensure!(approved.status.success(), "{approved:?}");
        let done = asking.wait_with_output()?;
        let granted = levels(pool, "carol", &token_in(&done.stdout)?)?;
        ensure!(granted == ["READ", "WRITE"], "{granted:?}");

        let asking = in_background(&mut pool.command(request))?;
        let id = waiting(pool)?;
        pool.run(["token", "deny", &id])?;
        let done = asking.wait_with_output()?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        ensure!(!done.status.success() && said.contains("denied"), "{said}");
        Ok(())
    });
}

#[test]
fn a_rule_approves_daemons_and_nobody_else() {
    with_pool("rules", &[], |pool| {
        let rule = [
            "-type",
            "COLLECTOR",
            "-netblock",
            "127.0.0.0/8",
            "-lifetime",
            "300",
        ];
        let refused = pool
            .tool_command("alice", "condor_token_request_auto_approve", rule)
            .output()?;
        ensure!(!refused.status.success(), "{refused:?}");
        pool.tool("admin", "condor_token_request_auto_approve", rule)?;
        let daemon = ask_with_condor(pool, "alice", "condor").output()?;
        ensure!(daemon.status.success(), "{daemon:?}");
        let granted = levels(pool, "daemon", &token_in(&daemon.stdout)?)?;
        ensure!(granted == ["READ", "ADVERTISE_STARTD"], "{granted:?}");
        let mut other = in_background(&mut ask_with_condor(pool, "alice", "root"))?;
        let id = waiting(pool)?;
        pool.run(["token", "deny", &id])?;
        ensure!(!other.wait()?.success(), "the rule approved root's token");
        Ok(())
    });
}

#[test]
fn a_session_token_is_worth_no_more_than_its_session() {
    with_pool("fetch", &[], |pool| {
        let fetch = |authz: &[&str]| {
            let arguments = ["-type", "COLLECTOR"].iter().chain(authz);
            pool.tool_command("alice", "condor_token_fetch", arguments)
                .output()
        };
        let read = fetch(&["-authz", "READ"])?;
        let granted = levels(pool, "reader", &token_in(&read.stdout)?)?;
        ensure!(granted == ["READ"], "{granted:?}");
        for more in ["ADMINISTRATOR", "ADVERTISE_STARTD"] {
            let refused = fetch(&["-authz", more])?;
            ensure!(!refused.status.success(), "{more}: {refused:?}");
        }
        // Nor can the reader get back what was left out.
        let again = pool
            .tool_command("reader", "condor_token_fetch", ["-type", "COLLECTOR"])
            .output()?;
        let granted = levels(pool, "again", &token_in(&again.stdout)?)?;
        ensure!(granted == ["READ"], "{granted:?}");
        Ok(())
    });
}
