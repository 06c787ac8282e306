//! HTCondor's own tools, and its own startd, with the embedded pool.

use std::fs;

use anyhow::{Context, Result, ensure};
use sailplane_site_tests::{Ad, EmbeddedOptions, EmbeddedPool, process, say, wait};

/// Raises a pool and plays one test with it.
pub(crate) fn with_pool(
    name: &str,
    knobs: &[&str],
    play: impl FnOnce(&mut EmbeddedPool) -> Result<()>,
) {
    if let Some(reason) = process::obstacle() {
        say(&format!("{name} not run: {reason}"));
        return;
    }
    let options = EmbeddedOptions {
        name: name.to_owned(),
        knobs: knobs.iter().map(|knob| (*knob).to_owned()).collect(),
        ..EmbeddedOptions::default()
    };
    match EmbeddedPool::raise(&options) {
        Ok(mut pool) => crate::judge(name, play(&mut pool)),
        Err(error) => panic!("{name}: the pool could not be raised: {error:?}"),
    }
}

/// Advertises the lines of an ad with HTCondor's tool.
fn advertise(pool: &EmbeddedPool, user: &str, command: &str, lines: &[&str]) -> Result<()> {
    let file = pool.dir().join("submit").join("ad.txt");
    fs::write(&file, lines.join("\n") + "\n")?;
    let path = file.display().to_string();
    pool.tool(user, "condor_advertise", [command, path.as_str()])?;
    Ok(())
}

fn slot_lines(name: &str, memory: u32) -> Vec<String> {
    vec![
        "MyType = \"Machine\"".to_owned(),
        format!("Name = \"{name}\""),
        "Machine = \"played\"".to_owned(),
        "MyAddress = \"<127.0.0.1:9>\"".to_owned(),
        "StartdIpAddr = \"<127.0.0.1:9>\"".to_owned(),
        "OpSys = \"LINUX\"".to_owned(),
        "Arch = \"X86_64\"".to_owned(),
        "State = \"Unclaimed\"".to_owned(),
        "Activity = \"Idle\"".to_owned(),
        "Cpus = 1".to_owned(),
        format!("Memory = {memory}"),
        "Derived = Memory * 2".to_owned(),
        "ClaimId = \"<127.0.0.1:9>#1#1#hush\"".to_owned(),
    ]
}

fn advertise_slot(pool: &EmbeddedPool, name: &str, memory: u32) -> Result<()> {
    let lines = slot_lines(name, memory);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    advertise(pool, "pilot", "UPDATE_STARTD_AD", &lines)
}

#[test]
fn condor_advertise_and_condor_status() {
    with_pool("tools", &[], |pool| {
        advertise_slot(pool, "slot1@played", 100)?;
        advertise_slot(pool, "slot2@played", 200)?;
        let text = pool.tool("alice", "condor_status", ["-af", "Name", "Derived"])?;
        ensure!(text == "slot1@played 200\nslot2@played 400\n", "{text}");
        let text = pool.tool(
            "alice",
            "condor_status",
            ["-constraint", "Memory > 150", "-af", "Name"],
        )?;
        ensure!(text == "slot2@played\n", "{text}");
        let ads = pool.ads(&["-constraint", "Name == \"slot1@played\""])?;
        ensure!(ads.len() == 1, "{ads:?}");
        let ad = ads.first().context("an ad")?;
        let identity = format!("pilot@{}", pool.domain());
        ensure!(ad.text("AuthenticatedIdentity") == identity, "{ad:?}");
        ensure!(
            ad.get("ClaimId").is_none(),
            "the claim id is for everybody to read"
        );
        // The table, with its totals.
        let text = pool.tool("alice", "condor_status", [""; 0])?;
        ensure!(
            text.contains("slot1@played") && text.contains("Total"),
            "{text}"
        );

        let query = [
            "MyType = \"Query\"",
            "TargetType = \"Machine\"",
            "Requirements = Name == \"slot1@played\"",
        ];
        advertise(pool, "pilot", "INVALIDATE_STARTD_ADS", &query)?;
        let text = pool.tool("alice", "condor_status", ["-af", "Name"])?;
        ensure!(text == "slot2@played\n", "{text}");
        Ok(())
    });
}

#[test]
fn every_daemon_of_the_pool_is_seen() {
    with_pool("daemons", &[], |pool| {
        let any = pool.ads(&["-any"])?;
        let types: Vec<&str> = any.iter().map(|ad| ad.text("MyType")).collect();
        for wanted in ["Collector", "Negotiator", "Scheduler"] {
            ensure!(types.contains(&wanted), "{wanted} is not among {types:?}");
        }
        let schedds = pool.ads(&["-schedd"])?;
        ensure!(schedds.len() == 1, "{schedds:?}");
        ensure!(
            schedds
                .iter()
                .all(|ad| ad.text("Name") == format!("schedd@{}", pool.domain()))
        );
        for option in ["-collector", "-negotiator"] {
            ensure!(pool.ads(&[option])?.len() == 1, "{option}");
            let table = pool.tool("alice", "condor_status", [option])?;
            ensure!(table.lines().count() >= 2, "{option}: {table}");
        }
        Ok(())
    });
}

#[test]
fn ads_of_other_types_come_and_go() {
    with_pool("generic", &[], |pool| {
        let lines = ["MyType = \"Weather\"", "Name = \"today\"", "Rain = false"];
        let allowed = advertise(pool, "admin", "UPDATE_AD_GENERIC", &lines);
        ensure!(allowed.is_err(), "an administrator is no daemon");
        Ok(())
    });
    let allow = "ALLOW_DAEMON = admin@*";
    with_pool("generic", &[allow], |pool| {
        let lines = ["MyType = \"Weather\"", "Name = \"today\"", "Rain = false"];
        advertise(pool, "admin", "UPDATE_AD_GENERIC", &lines)?;
        let ads = pool.ads(&["-any", "-constraint", "MyType == \"Weather\""])?;
        ensure!(
            ads.iter().map(|ad| ad.bool("Rain")).eq([Some(false)]),
            "{ads:?}"
        );
        let text = pool.run(["status", "-subsystem", "weather", "-af", "Name", "Rain"])?;
        ensure!(text == "today false\n", "{text}");
        Ok(())
    });
}

#[test]
fn condor_ping_is_told_who_may_do_what() {
    with_pool("ping", &[], |pool| {
        let levels = [
            "READ",
            "WRITE",
            "ADVERTISE_STARTD",
            "ADMINISTRATOR",
            "NEGOTIATOR",
            "DAEMON",
            "ADVERTISE_SCHEDD",
            "ADVERTISE_MASTER",
            "CONFIG",
        ];
        let may = |user: &str| -> Result<Vec<bool>> {
            levels
                .iter()
                .map(|level| {
                    let arguments = ["-quiet", "-type", "COLLECTOR", level];
                    let status = pool.tool_command(user, "condor_ping", arguments).status()?;
                    Ok(status.success())
                })
                .collect()
        };
        let (pilot, alice, admin) = (may("pilot")?, may("alice")?, may("admin")?);
        ensure!(
            pilot == [true, false, true, false, false, false, false, true, false],
            "pilot: {pilot:?}"
        );
        ensure!(
            alice == [true, true, false, false, false, false, false, false, false],
            "alice: {alice:?}"
        );
        ensure!(
            admin.first() == Some(&true) && admin.get(3) == Some(&true),
            "admin: {admin:?}"
        );
        let who = pool.tool(
            "alice",
            "condor_ping",
            ["-verbose", "-type", "COLLECTOR", "READ"],
        )?;
        ensure!(who.contains(&format!("alice@{}", pool.domain())), "{who}");
        Ok(())
    });
}

#[test]
fn our_status_says_what_condor_status_says() {
    with_pool("status", &[], |pool| {
        advertise_slot(pool, "slot1@played", 100)?;
        advertise_slot(pool, "slot2@played", 200)?;
        for arguments in [
            &["-af", "Name", "Memory+1", "Nothing"][..],
            &["-af:lV", "Name", "State"],
            &["-af:h", "Name", "Cpus"],
            &["-af:,", "Name", "Cpus"],
            &["-af:r", "Derived", "Nothing"],
            &["-af:ng", "Name", "Cpus"],
            &["-const", "Memory > 150", "-af:t", "Name", "Derived"],
            &[
                "-any",
                "-constraint",
                "MyType =!= \"Machine\"",
                "-af",
                "MyType",
            ],
        ] {
            let theirs = pool.tool("alice", "condor_status", arguments)?;
            let ours = pool.run(std::iter::once(&"status").chain(arguments))?;
            let sorted = |text: &str| {
                let mut lines: Vec<_> = text
                    .lines()
                    .map(|line| line.trim_end().to_owned())
                    .collect();
                lines.sort();
                lines
            };
            ensure!(
                sorted(&theirs) == sorted(&ours),
                "{arguments:?}:\n{theirs}---\n{ours}"
            );
        }
        let ours = Ad::list(&pool.run(["status", "-json", "-constraint", "Memory == 100"])?)?;
        let theirs = pool.ads(&["-constraint", "Memory == 100"])?;
        for ad in [&ours, &theirs] {
            ensure!(
                ad.iter().map(|ad| ad.text("Name")).eq(["slot1@played"]),
                "{ad:?}"
            );
        }
        Ok(())
    });
}

#[test]
fn htcondors_startd_joins_and_leaves() {
    with_pool("startd", &[], |pool| {
        let startd = pool.condor_startd(&[
            ("NUM_SLOTS", "2"),
            ("SLOT_TYPE_1", "cpus=1"),
            ("NUM_SLOTS_TYPE_1", "2"),
        ])?;
        let slots = startd.wait_joined(pool, 2)?;
        for slot in &slots {
            ensure!(
                slot.text("State") == "Unclaimed" || slot.text("State") == "Owner",
                "{slot:?}"
            );
            ensure!(slot.int("UpdatesLost") == Some(0), "{slot:?}");
        }
        let ours = pool.run(["status", "-af", "Name"])?;
        ensure!(ours.lines().count() == 2, "{ours}");
        // It takes its ads back when it ends.
        startd.stop();
        wait::until("the slots to be gone", wait::PATIENCE, || {
            let left = pool.run(["status", "-af", "Name"])?;
            Ok(left.is_empty().then_some(()))
        })
    });
}

#[test]
fn htcondors_startd_runs_jobs_of_ours() {
    with_pool("run", &[], |pool| {
        let startd = pool.condor_startd(&[])?;
        let slots = startd.wait_joined(pool, 1)?;
        let partitionable = slots
            .iter()
            .all(|slot| slot.bool("PartitionableSlot") == Some(true));
        ensure!(partitionable, "{slots:?}");
        let folder = pool.folder("alice")?;
        let lines = [
            "executable = /bin/sh",
            "transfer_executable = false",
            "arguments = \"-c 'cat in.txt; echo $(Process); hostname > made.txt; exit $(Process)'\"",
            "output = out.$(Process)",
            "error = err.$(Process)",
            "log = log",
            "transfer_input_files = in.txt",
            "transfer_output_remaps = \"made.txt = made.$(Process)\"",
            "should_transfer_files = YES",
            "request_memory = 64",
            "request_disk = 1",
            "queue 4",
        ];
        fs::write(folder.join("in.txt"), "from the queue\n")?;
        fs::write(folder.join("jobs.sub"), lines.join("\n") + "\n")?;
        let mut submit = pool.command(["submit", "-terse", "jobs.sub"]);
        submit.current_dir(&folder);
        let said = process::output(&mut submit)?;
        ensure!(said.trim() == "1.0 - 1.3", "{said}");
        let ended = wait::until("the jobs to end", wait::PATIENCE, || {
            let ads = Ad::list(&pool.run(["history", "-json"])?)?;
            Ok((ads.len() == 4).then_some(ads))
        });
        let ended = ended.with_context(|| pool.run(["q", "-long"]).unwrap_or_default())?;
        for ad in &ended {
            let process = ad.int("ProcId").context("no ProcId")?;
            ensure!(
                ad.int("JobStatus") == Some(4) && ad.int("ExitCode") == Some(process),
                "{ad:?}"
            );
            let output = fs::read_to_string(folder.join(format!("out.{process}")))?;
            ensure!(output == format!("from the queue\n{process}\n"), "{output}");
            ensure!(folder.join(format!("made.{process}")).exists());
        }
        // Two at a time: the parts of one partitionable slot.
        let names: std::collections::BTreeSet<&str> =
            ended.iter().map(|ad| ad.text("LastRemoteHost")).collect();
        ensure!(names.len() == 2, "{names:?}");
        let waited = pool.tool(
            "alice",
            "condor_wait",
            [folder.join("log").display().to_string()],
        )?;
        ensure!(waited.contains("All jobs done"), "{waited}");
        Ok(())
    });
}

#[test]
fn condor_userprio_shows_and_sets() {
    with_pool("prio", &[], |pool| {
        let alice = format!("alice@{}", pool.domain());
        let set = |user: &str| {
            pool.tool(
                user,
                "condor_userprio",
                ["-setfactor", alice.as_str(), "250"],
            )
        };
        ensure!(
            set("alice").is_err(),
            "users may not better their own priority"
        );
        set("admin")?;
        let shown = pool.tool("bob", "condor_userprio", ["-allusers", "-negotiator"])?;
        let line = shown
            .lines()
            .find(|line| line.contains(&alice))
            .context(shown.clone())?;
        ensure!(line.contains("250.00"), "{line}");
        Ok(())
    });
}
