//! `sailplane-site-test`, as an administrator runs it: by root, by the pilots' account, by somebody else; on a good node
//! and on nodes that are broken in one place each.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sailplane_site_tests::helper::Site;
use sailplane_site_tests::{PILOT_ACCOUNT, POOL_ACCOUNT, ProxyKind, helper, process, say, wait};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sailplane-site-test");

/// One at a time: some look whether anything is left.
static STAGE: Mutex<()> = Mutex::new(());

fn play(name: &str, play: impl FnOnce(&Site) -> Result<()>) {
    if let Some(reason) = process::obstacle() {
        say(&format!("{name} not run: {reason}"));
        return;
    }
    let _alone = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    crate::judge(name, helper::site().and_then(play));
}

/// The program where every account can execute it.
fn program(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("sailplane-site-test");
    fs::copy(PROGRAM, &path)?;
    Ok(path)
}

/// A folder that everybody can pass through.
fn folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir_in(helper::state())?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), mode)?;
    Ok(folder)
}

/// The authority of the tests, for names that have no credential.
fn test_ca(command: &mut Command) {
    let ca = helper::state().join("test-ca/ca");
    command.arg("--test-ca").arg(ca.join("ca.pem"));
    command.arg("--test-ca-key").arg(ca.join("ca.key"));
}

/// What was found: name, `passed`, `skipped` or `failed`, and all that is said about it.
#[derive(Debug)]
struct Found {
    name: String,
    how: &'static str,
    text: String,
}

fn found(output: &Output) -> Result<Vec<Found>> {
    let document: Value = serde_json::from_slice(&output.stdout).with_context(|| text(output))?;
    let entries = document
        .pointer("/entries")
        .and_then(Value::as_array)
        .context("no entries")?;
    let one = |entry: &Value| {
        let at = |place: &str| entry.pointer(place).cloned().unwrap_or_default();
        let (outcome, status) = (at("/outcome"), at("/outcome/status"));
        Found {
            name: at("/check/name").as_str().unwrap_or_default().to_owned(),
            how: if status == "passed" {
                "passed"
            } else if status.get("skipped").is_some() {
                "skipped"
            } else {
                "failed"
            },
            text: outcome.to_string(),
        }
    };
    Ok(entries.iter().map(one).collect())
}

fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn names<'a>(found: &'a [Found], how: &str) -> BTreeSet<&'a str> {
    found
        .iter()
        .filter(|one| one.how == how)
        .map(|one| one.name.as_str())
        .collect()
}

/// The parts of a node that the program could change, and traces of it. Other tests run beside this one.
fn inventory(site: &Site) -> Vec<String> {
    let mut all = Vec::new();
    let mut folders = ["/etc/sailplane", "/usr/lib/sailplane", "/etc/grid-security"]
        .map(PathBuf::from)
        .to_vec();
    folders.push(site.ca.certificates());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(facts) = entry.metadata() else {
                continue;
            };
            if facts.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let path = entry.path();
            let (uid, mode, inode, size, time) = (
                facts.uid(),
                facts.mode(),
                facts.ino(),
                facts.len(),
                facts.mtime(),
            );
            all.push(format!(
                "{} {uid} {mode:o} {inode} {size} {time}",
                path.display()
            ));
        }
    }
    for file in ["/etc/passwd", "/etc/group", "/etc/shadow"] {
        all.push(fs::read_to_string(file).unwrap_or_default());
    }
    for folder in [
        site.execute.as_path(),
        Path::new("/tmp"),
        Path::new("/var/tmp"),
        Path::new("/dev/shm"),
    ] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("sailplane-site-test") {
                all.push(format!("{}/{name}", folder.display()));
            }
        }
    }
    // The record of a payload names its job.
    for entry in fs::read_dir("/run/sailplane/leases")
        .into_iter()
        .flatten()
        .flatten()
    {
        if fs::read_to_string(entry.path())
            .is_ok_and(|text| text.contains("label sailplane-site-test"))
        {
            all.push(entry.path().display().to_string());
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    all.extend(
        mounts
            .lines()
            .filter(|line| line.contains("site-test"))
            .map(str::to_owned),
    );
    let left = process::find(|one| {
        one.command.contains("sleep 6021") || one.command.contains("sailplane-site-test")
    });
    all.extend(
        left.into_iter()
            .map(|one| format!("{} {}", one.pid, one.command)),
    );
    all.sort();
    all
}

#[test]
fn by_root_on_a_good_node_everything_passes_and_nothing_changes() {
    play("site-test by root", |site| {
        let folder = folder()?;
        let (page, bob) = (
            folder.path().join("report.html"),
            folder.path().join("bob.pem"),
        );
        site.ca.proxy("bob", ProxyKind::Minutes(60), &bob)?;
        let before = inventory(site);
        let mut command = Command::new(program(folder.path())?);
        test_ca(&mut command);
        command
            .args(["--format", "json", "--storm", "12", "--html"])
            .arg(&page);
        command.args([
            "--expect",
            "dn \"/DC=test/DC=sailplane/CN=Site Alice\" dynamic",
        ]);
        command.args(["--expect", "dn \"/O=Elsewhere/CN=Mallory\" refused"]);
        let output = command.arg("--credential").arg(&bob).output()?;
        ensure!(output.status.code() == Some(0), text(&output));
        let found = found(&output)?;
        ensure!(names(&found, "failed").is_empty(), text(&output));
        let passed = names(&found, "passed");
        for wanted in [
            "helper-installed",
            "helper-filesystem",
            "helper-programs",
            "helper-version",
            "helper-config",
            "caller",
            "execute-dirs",
            "policy-check",
            "dynamic-uids",
            "trust-anchors",
            "helper-starts",
            "map-site-alice",
            "map-mallory",
            "map-bob",
            "refuses-garbage",
            "refuses-foreign-authority",
            "refuses-tampered",
            "refuses-expired",
            "refuses-without-key",
            "refuses-other-folder",
            "refuses-unlisted-caller",
            "refuses-payload-caller",
            "launch-bob",
            "exec-failure-bob",
            "signal-bob",
            "suspend-bob",
            "usage-bob",
            "kill-bob",
            "clean-up-bob",
            "storm",
            "helper-ends",
            "sandboxes-removed",
            "nothing-changed",
            "nothing-left",
        ] {
            ensure!(
                passed.contains(wanted),
                "{wanted} has not passed:\n{}",
                text(&output)
            );
        }
        let page = fs::read_to_string(page)?;
        ensure!(
            page.contains("Fit for jobs</h1>"),
            "the page does not begin with the verdict"
        );
        let after = inventory(site);
        ensure!(
            before == after,
            "before:\n{}\nafter:\n{}",
            before.join("\n"),
            after.join("\n")
        );
        Ok(())
    });
}

fn as_account(command: &mut Command, name: &str) -> Result<()> {
    let (uid, gid) = process::ensure_account(name)?;
    command.uid(uid.as_raw()).gid(gid.as_raw());
    Ok(())
}

#[test]
fn by_the_pilots_account_it_tries_what_that_may_do_and_says_what_it_could_not() {
    play("site-test by the pilots' account", |site| {
        let folder = folder()?;
        let carol = folder.path().join("carol.pem");
        site.ca.proxy("carol", ProxyKind::Minutes(60), &carol)?;
        process::give(&carol, process::ensure_account(PILOT_ACCOUNT)?)?;
        let before = inventory(site);
        let mut command = Command::new(program(folder.path())?);
        command
            .args(["--format", "nagios", "--storm", "4", "--credential"])
            .arg(&carol);
        as_account(&mut command, PILOT_ACCOUNT)?;
        let output = command.output()?;
        let told = text(&output);
        ensure!(output.status.code() == Some(0), told);
        ensure!(
            told.contains("SAILPLANE OK - ") && told.contains(" | checks="),
            "{told}"
        );
        ensure!(told.contains("storm_payloads=4"), "{told}");
        ensure!(
            told.contains("[not tried] refuses-unlisted-caller: only root"),
            "{told}"
        );
        let after = inventory(site);
        ensure!(
            before == after,
            "before:\n{}\nafter:\n{}",
            before.join("\n"),
            after.join("\n")
        );
        Ok(())
    });
}

#[test]
fn by_somebody_else_it_looks_and_says_who_may_do_more() {
    play("site-test by somebody else", |_| {
        let folder = folder()?;
        let mut command = Command::new(program(folder.path())?);
        command.args(["--format", "json"]);
        as_account(&mut command, POOL_ACCOUNT)?;
        let output = command.output()?;
        let found = found(&output)?;
        ensure!(
            output.status.code() == Some(0) && names(&found, "failed").is_empty(),
            text(&output)
        );
        let starts = found
            .iter()
            .find(|one| one.name == "helper-starts")
            .context("not there")?;
        ensure!(
            starts.how == "skipped" && starts.text.contains("run this as root"),
            text(&output)
        );
        Ok(())
    });
}

/// Runs the program, after `how`, where the helper and its configuration are copies that nobody else sees.
fn elsewhere(
    site: &Site,
    folder: &Path,
    how: &str,
    arguments: impl FnOnce(&mut Command),
) -> Result<Output> {
    let program = program(folder)?;
    let own = tempfile::tempdir_in(folder)?;
    let script = format!(
        "P=/usr/lib/sailplane; C=/etc/sailplane/switch.conf; E={}; {SET}\
         cp -a $P {own}/lib; cp -a /etc/sailplane {own}/etc; \
         mount --bind {own}/lib $P; mount --bind {own}/etc /etc/sailplane; {how}; exec \"$@\"",
        site.execute.display(),
        own = own.path().display(),
    );
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-euc",
        &script,
        "sh",
    ]);
    command.arg(&program).args(["--format", "json"]);
    test_ca(&mut command);
    arguments(&mut command);
    command.output().context("unshare")
}

/// A site with accounts, a pool, bans and slots.
const RICH: &str = "cp /etc/passwd /etc/group /etc/sailplane/; \
    echo 'stalice:x:61001:61001::/:/bin/sh' >>/etc/sailplane/passwd; echo 'stalice:x:61001:' >>/etc/sailplane/group; \
    echo 'stpool01:x:61002:61002::/:/bin/sh' >>/etc/sailplane/passwd; echo 'stpool01:x:61002:' >>/etc/sailplane/group; \
    mount --bind /etc/sailplane/passwd /etc/passwd; mount --bind /etc/sailplane/group /etc/group; \
    mkdir /etc/sailplane/gridmapdir; touch /etc/sailplane/gridmapdir/stpool01; knob gridmapdir /etc/sailplane/gridmapdir; \
    echo '\"/DC=test/DC=sailplane/CN=Site Alice\" stalice' >/etc/sailplane/map; \
    echo '\"/DC=test/DC=sailplane/CN=Site Bob\" .stpool' >>/etc/sailplane/map; knob gridmap /etc/sailplane/map; \
    echo 'dn \"/DC=test/DC=sailplane/CN=Mallory*\"' >/etc/sailplane/bans; \
    echo 'fqan \"/evil/*\"' >>/etc/sailplane/bans; knob ban_lists /etc/sailplane/bans";

#[test]
fn accounts_pools_and_bans_are_tried_and_a_lease_is_taken_back() {
    play("site-test on a rich site", |site| {
        let folder = folder()?;
        // What is in the pool's folder afterwards is told by a second program.
        let how = format!(
            "{RICH}; set -- sh -c '\"$@\"; status=$?; find /etc/sailplane/gridmapdir >&2; exit $status' sh \"$@\""
        );
        let output = elsewhere(site, folder.path(), &how, |command| {
            command.args(["--storm", "6"]);
            command.args([
                "--expect",
                "dn \"/DC=test/DC=sailplane/CN=Site Alice\" account stalice",
            ]);
            command.args([
                "--expect",
                "dn \"/DC=test/DC=sailplane/CN=Site Bob\" pool stpool",
            ]);
            command.args([
                "--expect",
                "dn \"/DC=test/DC=sailplane/CN=Site Carol\" dynamic",
            ]);
            command.args([
                "--expect",
                "dn \"/DC=test/DC=sailplane/CN=Mallory Malice\" refused ban.dn",
            ]);
            // Nobody here can sign attributes: the files alone say.
            command.args(["--expect", "dn /CN=Eve fqan /evil/one refused ban.fqan"]);
        })?;
        let found = found(&output)?;
        ensure!(
            output.status.code() == Some(0) && names(&found, "failed").is_empty(),
            text(&output)
        );
        let passed = names(&found, "passed");
        for wanted in [
            "map-targets",
            "map-site-alice",
            "map-site-bob",
            "map-site-carol",
            "map-mallory-malice",
            "map-eve-evil-one",
            "refuses-banned",
            "launch-site-alice",
            "kill-site-alice",
            "launch-site-bob",
            "clean-up-site-bob",
            "suspend-site-carol",
            "storm",
        ] {
            ensure!(
                passed.contains(wanted),
                "{wanted} has not passed:\n{}",
                text(&output)
            );
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        let left: Vec<&str> = errors
            .lines()
            .filter(|line| !line.ends_with("/gridmapdir") && !line.ends_with("/.sailplane"))
            .collect();
        ensure!(
            left == ["/etc/sailplane/gridmapdir/stpool01"],
            "left: {left:?}"
        );
        Ok(())
    });
}

/// A node that is broken in one place, in a mount namespace of its own; which check must find it, and what must be said.
struct Broken {
    how: &'static str,
    check: &'static str,
    said: &'static str,
}

const fn broken(how: &'static str, check: &'static str, said: &'static str) -> Broken {
    Broken { how, check, said }
}

const SET: &str =
    "knob() { sed -i \"s|^#\\{0,1\\}$1 = .*|$1 = $2|\" /etc/sailplane/switch.conf; }; ";

const BROKEN: [Broken; 16] = [
    broken(
        "chmod 755 $P/sailplane-switch",
        "helper-installed",
        "chmod 4755",
    ),
    broken(
        "chown daemon $P/sailplane-switch; chmod 4755 $P/sailplane-switch",
        "helper-installed",
        "belongs to daemon",
    ),
    broken(
        "rm $P/sailplane-switch",
        "helper-installed",
        "examples/site/install",
    ),
    broken(
        "chmod g+w $P",
        "helper-installed",
        "must not be able to write it",
    ),
    broken(
        "mount -o remount,bind,nosuid $P",
        "helper-filesystem",
        "mounted nosuid",
    ),
    broken(
        "rm $P/sailplane-verify",
        "helper-programs",
        "sailplane-verify",
    ),
    broken(
        "chmod 700 $P/sailplane-job",
        "helper-programs",
        "executable by everybody",
    ),
    broken("chmod g+w $C", "helper-config", "mode 0664"),
    broken("rm $C", "helper-config", "examples/site/switch.conf"),
    broken(
        "echo 'colour = red' >>$C",
        "policy-check",
        "unknown key colour",
    ),
    broken(
        "knob gridmap /etc/sailplane/missing",
        "policy-check",
        "/etc/sailplane/missing",
    ),
    broken(
        "knob user_white_list nobodyknows",
        "caller",
        "there is no account nobodyknows",
    ),
    broken(
        "mkdir /etc/sailplane/none; knob certdir /etc/sailplane/none",
        "trust-anchors",
        "no CA certificate",
    ),
    broken(
        "mount -t tmpfs -o noexec,mode=1777 none $E",
        "execute-dirs",
        "mounted noexec",
    ),
    broken(
        "echo '\"/DC=test/DC=sailplane/CN=Site Zoe\" root' >/etc/sailplane/map; knob gridmap /etc/sailplane/map",
        "map-targets",
        "root is root",
    ),
    broken(
        "echo 'dn \"/DC=test/DC=sailplane/CN=Site*\"' >/etc/sailplane/bans; knob ban_lists /etc/sailplane/bans",
        "map-site-alice",
        "is banned at this site (/etc/sailplane/bans:1)",
    ),
];

#[test]
fn interrupted_it_cleans_up_and_says_so() {
    play("site-test interrupted", |site| {
        let folder = folder()?;
        let before = inventory(site);
        let mut command = Command::new(program(folder.path())?);
        command.args(["--format", "json", "--storm", "200"]);
        test_ca(&mut command);
        command.args([
            "--expect",
            "dn \"/DC=test/DC=sailplane/CN=Site Alice\" dynamic",
        ]);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let made = format!("sailplane-site-test.{}", child.id());
        wait::every(
            Duration::from_millis(2),
            "its folder",
            wait::PATIENCE,
            || Ok(site.execute.join(&made).exists().then_some(())),
        )?;
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT)?;
        let output = child.wait_with_output()?;
        ensure!(output.status.code() == Some(1), text(&output));
        let found = found(&output)?;
        ensure!(
            found.iter().any(|one| one.text.contains("interrupted")),
            text(&output)
        );
        ensure!(
            names(&found, "passed").contains("nothing-left"),
            text(&output)
        );
        let after = inventory(site);
        ensure!(
            before == after,
            "before:\n{}\nafter:\n{}",
            before.join("\n"),
            after.join("\n")
        );
        Ok(())
    });
}

#[test]
fn each_thing_that_is_broken_is_found_and_named_with_what_to_do() {
    play("site-test on broken nodes", |site| {
        let folder = folder()?;
        for broken in BROKEN {
            let output = elsewhere(site, folder.path(), broken.how, |command| {
                command.args([
                    "--storm",
                    "0",
                    "--expect",
                    "dn \"/DC=test/DC=sailplane/CN=Site Alice\" dynamic",
                ]);
            })?;
            let all = found(&output).with_context(|| broken.how)?;
            let one = all.iter().find(|one| one.name == broken.check);
            let one = one.with_context(|| format!("{}: no {}", broken.how, broken.check))?;
            ensure!(one.how == "failed", "{}: {one:?}", broken.how);
            ensure!(
                one.text.contains(broken.said),
                "{}: {}",
                broken.how,
                one.text
            );
            ensure!(
                !one.text.contains("\"hint\":\"\""),
                "{}: no hint",
                broken.how
            );
            let warned = broken.check == "map-targets";
            ensure!(
                output.status.code() == Some(i32::from(!warned)),
                "{}: {}",
                broken.how,
                text(&output)
            );
        }
        Ok(())
    });
}
