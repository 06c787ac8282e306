//! Pilots that nobody can connect to: on nodes with a network of their own, known to a real pool through its collector, which
//! is a broker of connections (CCB).

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use sailplane_site_tests::{
    Ad, JobId, JobState, Nat, PILOT_ACCOUNT, Pilot, PilotOptions, Pool, PoolOptions, Submission,
    Submitted, TestCa, helper, process, wait,
};

use crate::joining::{Corner, said, wait_said};
use crate::{excuse, judge};

/// Knobs of a pilot.
type Knobs = Vec<(&'static str, String)>;

/// The collector is the broker.
fn broker(_: &Pool, _: &str) -> Result<Knobs> {
    Ok(vec![("CCB_ADDRESS", "$(COLLECTOR_HOST)".to_owned())])
}

/// In the pilot's log.
const REGISTERED: &str = "registered at the CCB server broker";

/// What stands on the stage.
struct Scene {
    pilot: Pilot,
    pool: Pool,
    ca: TestCa,
    nat: Nat,
    /// Where the collector is for the pilot.
    collector: String,
}

impl Scene {
    /// `knobs` are those of the pilot, by the pool and its collector's address.
    fn set(
        name: &str,
        shared_port: bool,
        knobs: impl FnOnce(&Pool, &str) -> Result<Knobs>,
    ) -> Result<Self> {
        let site = helper::bare()?;
        let nat = Nat::make()?;
        let host = nat.outside();
        let pool = Pool::raise(&PoolOptions {
            name: name.to_owned(),
            shared_port,
            knobs: vec![
                format!("NETWORK_INTERFACE={host}"),
                format!("CONDOR_HOST={host}"),
                format!("COLLECTOR_HOST={host}:$(COLLECTOR_PORT)"),
            ],
            ..PoolOptions::default()
        })?;
        let (_, port) = pool.collector_host().rsplit_once(':').context("a port")?;
        let collector = format!("{host}:{port}");
        let mut options = PilotOptions {
            slots: 1,
            ..PilotOptions::default()
        }
        .behind(&nat)
        .knob("COLLECTOR_HOST", &collector)
        .knob("CCB_RECONNECT_TIME", 1)
        .knob("SAILPLANE_IDENTITY_SWITCH", "NEVER")
        .knob("SAILPLANE_JOB_AGENT", helper::bare_agent().display());
        for (knob, value) in knobs(&pool, &collector)? {
            options = options.knob(knob, value);
        }
        let mut pilot = Pilot::start(site, &pool, &options)?;
        pilot.wait_joined(&pool, 1)?;
        Ok(Self {
            pilot,
            pool,
            ca: site.ca.clone(),
            nat,
            collector,
        })
    }

    fn slot(&self) -> Result<Ad> {
        self.pilot.slots(&self.pool)?.pop().context("a slot")
    }

    fn address(&self) -> Result<String> {
        Ok(self.slot()?.text("MyAddress").to_owned())
    }

    fn submit(&self, script: &str, more: &[&str]) -> Result<Submitted> {
        let submission = Submission::shell("alice", script).proxy(None);
        let submission = more.iter().fold(submission, |job, line| job.line(line));
        submission.submit(&self.pool, &self.ca)
    }

    fn tool(&self, tool: &str, job: JobId) -> Result<()> {
        let number = job.to_string();
        self.pool.tool("alice", tool, [number]).map(drop)
    }

    fn activity(&self, wanted: &str) -> Result<()> {
        let what = format!("the slot to be {wanted}");
        wait::until(&what, wait::PATIENCE, || {
            Ok((self.slot()?.text("Activity") == wanted).then_some(()))
        })
    }

    /// A job with files both ways.
    fn runs_a_job(&self) -> Result<()> {
        let job = Submission::shell("alice", "tr a-z A-Z < word > made.txt; echo done")
            .proxy(None)
            .file("word", b"sail\n", 0o644)
            .line("transfer_input_files = word")
            .line("transfer_output_files = made.txt");
        let submitted = job.submit(&self.pool, &self.ca)?;
        let ads = submitted.wait_completed(&self.pool, wait::PATIENCE)?;
        ensure!(ads.iter().all(|ad| ad.int("ExitCode") == Some(0)));
        ensure!(submitted.read("made.txt")? == "SAIL\n");
        ensure!(submitted.output()? == "done\n");
        Ok(())
    }

    /// The collector ends, and its master starts it again. One that is killed has not written down to whom it has given
    /// which number.
    fn restart_broker(&self, signal: Signal) -> Result<()> {
        self.pool.signal("condor_collector", signal).map(drop)
    }
}

fn on_scene(
    name: &str,
    shared_port: bool,
    knobs: impl FnOnce(&Pool, &str) -> Result<Knobs>,
    play: impl FnOnce(&mut Scene) -> Result<()>,
) {
    if let Some(reason) = excuse(false) {
        sailplane_site_tests::say(&format!("{name} not run: {reason}"));
        return;
    }
    match Scene::set(name, shared_port, knobs) {
        Ok(mut scene) => judge(name, play(&mut scene)),
        Err(error) => panic!("{name}: the stage could not be set: {error:?}"),
    }
}

/// Where the pilot listens is another machine's business: nobody is there for us.
fn nobody_at(address: &str) -> Result<()> {
    let place = address
        .trim_start_matches('<')
        .split('?')
        .next()
        .unwrap_or_default();
    let error = TcpStream::connect(place)
        .err()
        .context("it can be reached")?;
    ensure!(error.kind() == ErrorKind::ConnectionRefused, "{error}");
    Ok(())
}

#[test]
fn jobs_run_where_nobody_can_connect_to() {
    on_scene("ccb", false, broker, |scene| {
        let slot = scene.slot()?;
        let address = slot.text("MyAddress").to_owned();
        ensure!(address.contains("CCBID="), "{address}");
        ensure!(slot.text("StartdIpAddr") == address);
        nobody_at(&address)?;
        scene.runs_a_job()?;

        // What the submit side does to a job that runs.
        let submitted = scene.submit("sleep 600", &[])?;
        submitted.wait_running()?;
        let job = submitted.job()?;
        scene.tool("condor_suspend", job)?;
        scene.activity("Suspended")?;
        scene.tool("condor_continue", job)?;
        scene.activity("Busy")?;
        scene.tool("condor_vacate_job", job)?;
        let evicted = sailplane_site_tests::Event::EVICTED;
        let log = submitted.log();
        log.wait_for(Some(job), "evicted", wait::PATIENCE, |event| {
            event.number == evicted
        })?;
        wait::until("the job to run again", wait::PATIENCE, || {
            let running = scene.pool.job(job)?.int("JobStatus") == Some(2);
            Ok(running.then_some(()))
        })?;
        scene.tool("condor_rm", job)?;
        scene
            .pool
            .wait_for(job, JobState::Removed, wait::PATIENCE)?;
        scene.activity("Idle")
    });
}

/// A pilot that joined, lost its broker while a job ran, and found it again.
fn outlives_its_broker(name: &str, signal: Signal) {
    on_scene(name, false, broker, |scene| {
        let before = scene.address()?;
        let submitted = scene.submit("echo began; sleep 15; echo ended", &[])?;
        submitted.wait_running()?;
        let registered = said(&scene.pilot, REGISTERED);
        scene.restart_broker(signal)?;
        wait_said(&mut scene.pilot, REGISTERED, registered)?;
        // It is back in the collector, under an address that the broker knows, while the job goes on.
        let after = wait::until("the slot to be back", wait::PATIENCE, || {
            let slots = scene.pilot.slots(&scene.pool)?;
            let busy = slots.iter().find(|slot| slot.text("State") == "Claimed");
            Ok(busy.map(|slot| slot.text("MyAddress").to_owned()))
        })?;
        ensure!(after.contains("CCBID="), "{after}");
        ensure!(
            (after == before) == (signal == Signal::SIGTERM),
            "{before} became {after}"
        );
        let ads = submitted.wait_completed(&scene.pool, wait::PATIENCE)?;
        ensure!(
            ads.iter().all(|ad| ad.int("NumJobStarts") == Some(1)),
            "it was started again"
        );
        ensure!(submitted.output()? == "began\nended\n");
        scene.runs_a_job()
    });
}

#[test]
fn a_job_and_its_claim_outlive_the_broker() {
    outlives_its_broker("ccbrestart", Signal::SIGTERM);
}

#[test]
fn a_broker_that_forgot_the_pilot_gives_it_another_address() {
    outlives_its_broker("ccbforgets", Signal::SIGKILL);
}

#[test]
fn a_shadow_comes_back_to_its_job_through_the_broker() {
    on_scene("ccbshadow", false, broker, |scene| {
        let submitted = scene.submit("echo began; sleep 10; echo ended", &[])?;
        submitted.wait_running()?;
        scene.pool.signal("condor_shadow", Signal::SIGKILL)?;
        let ads = submitted.wait_completed(&scene.pool, wait::PATIENCE)?;
        ensure!(ads.iter().all(|ad| ad.int("ExitCode") == Some(0)));
        ensure!(submitted.output()? == "began\nended\n");
        Ok(())
    });
}

#[test]
fn requesters_behind_a_shared_port_are_reached() {
    on_scene("ccbshared", true, broker, |scene| {
        let address = scene.address()?;
        ensure!(address.contains("sock%3dcollector"), "{address}");
        scene.runs_a_job()
    });
}

#[test]
fn tools_prove_themselves_through_the_broker() {
    let corner = std::cell::OnceCell::new();
    let knobs = |pool: &Pool, collector: &str| {
        let mut knobs = broker(pool, collector)?;
        let corner = corner.get_or_init(Corner::make);
        let corner = corner.as_ref().map_err(|error| anyhow!("{error:#}"))?;
        let key = corner.put("POOL", fs::read(pool.dir().join("keys/POOL"))?)?;
        let domain = pool.trust_domain();
        knobs.extend([
            ("TRUST_DOMAIN", domain.to_owned()),
            ("UID_DOMAIN", domain.to_owned()),
            ("SEC_TOKEN_POOL_SIGNING_KEY_FILE", key.display().to_string()),
            ("ALLOW_ADMINISTRATOR", format!("admin@{domain}")),
        ]);
        Ok(knobs)
    };
    on_scene("ccbtools", false, knobs, |scene| {
        let address = scene.address()?;
        let ping = |user: &str, level: &str| -> Result<bool> {
            let words = [
                "-addr",
                address.as_str(),
                "-type",
                "STARTD",
                "-table",
                level,
            ];
            let output = scene
                .pool
                .tool_command(user, "condor_ping", words)
                .output()?;
            Ok(output.status.success())
        };
        ensure!(ping("admin", "READ")?, "the admin may not read");
        ensure!(
            ping("admin", "ADMINISTRATOR")?,
            "the admin may not administrate"
        );
        // Who comes through the broker has no more rights than others.
        ensure!(!ping("alice", "ADMINISTRATOR")?, "a user may administrate");
        let words = ["-direct", address.as_str(), "-af", "State"];
        let said = scene.pool.tool("admin", "condor_status", words)?;
        ensure!(said.trim() == "Unclaimed", "{said}");
        Ok(())
    });
}

#[test]
fn a_check_of_the_factory_brings_the_broker() {
    let corner = std::cell::OnceCell::new();
    let knobs = |_: &Pool, collector: &str| {
        let corner = corner.get_or_init(Corner::make);
        let corner = corner.as_ref().map_err(|error| anyhow!("{error:#}"))?;
        // As glideinWMS's own script does it.
        let script = format!(
            "#!/bin/bash\nglidein_config=$1\n\
             . \"$(grep '^ADD_CONFIG_LINE_SOURCE ' \"$glidein_config\" | cut -d ' ' -f 2-)\"\n\
             condor_vars_file=$(gconfig_get CONDOR_VARS_FILE \"$glidein_config\")\n\
             gconfig_add CCB_ADDRESS \"{collector}\"\n\
             add_condor_vars_line CCB_ADDRESS C - + Y N -\n"
        );
        corner.put("setup_network.sh", script)?;
        let manifest = corner.put(
            "manifest.json",
            r#"{"manifest":1,"owner":"factory","name":"f","scopes":[{"scope":"factory","files":[{"name":"setup_network.sh","kind":"check"}]}]}"#,
        )?;
        let tool = |verb: &str| {
            let mut command = Command::new(&helper::bare()?.pilot);
            process::output(command.args(["manifest", verb]).arg(&manifest))
        };
        tool("fill")?;
        process::give(&manifest, process::ensure_account(PILOT_ACCOUNT)?)?;
        let pin = tool("pin")?;
        let pin = pin.trim();
        let place = format!("file://{}#{pin}", manifest.display());
        Ok(vec![("SAILPLANE_MANIFESTS", place)])
    };
    on_scene("ccbscript", false, knobs, |scene| {
        let address = scene.address()?;
        ensure!(address.contains("CCBID="), "{address}");
        nobody_at(&address)?;
        scene.runs_a_job()
    });
}

/// A broker that is not there.
const AWAY: &str = "127.0.0.1:1";

#[test]
fn a_broker_that_is_away_hides_no_other_and_may_be_a_reason_not_to_start() {
    let knobs = |_: &Pool, _: &str| {
        Ok(vec![
            ("CCB_ADDRESS", format!("{AWAY}, $(COLLECTOR_HOST)")),
            ("PRIVATE_NETWORK_NAME", "cluster.lan".to_owned()),
        ])
    };
    on_scene("ccbaway", false, knobs, |scene| {
        let address = scene.address()?;
        ensure!(!address.contains(AWAY), "{address}");
        ensure!(address.contains("CCBID="), "{address}");
        ensure!(address.contains("&PrivNet=cluster.lan&"), "{address}");
        scene.runs_a_job()?;

        // Nobody knows this one. It has only itself to offer, or ends, as it is told.
        let options = |required: &str| {
            PilotOptions {
                slots: 1,
                ..PilotOptions::default()
            }
            .behind(&scene.nat)
            .knob("COLLECTOR_HOST", &scene.collector)
            .knob("CCB_ADDRESS", AWAY)
            .knob("CCB_REQUIRED_TO_START", required)
            .knob("CCB_TIMEOUT", 1)
            .knob("SAILPLANE_VALIDATION", "NONE")
            .knob("SAILPLANE_IDENTITY_SWITCH", "NEVER")
            .knob("SAILPLANE_JOB_AGENT", helper::bare_agent().display())
        };
        let site = helper::bare()?;
        let mut alone = Pilot::start(site, &scene.pool, &options("False"))?;
        alone.wait_joined(&scene.pool, 1)?;
        let slot = alone.slots(&scene.pool)?.pop().context("a slot")?;
        let address = slot.text("MyAddress");
        ensure!(!address.contains("CCBID="), "{address}");
        ensure!(said(&alone, "no CCB server of CCB_ADDRESS") > 0);
        let mut strict = Pilot::start(site, &scene.pool, &options("True"))?;
        let status = strict.wait_end(wait::PATIENCE)?;
        ensure!(status.code() == Some(20), "{status}\n{}", strict.log());
        ensure!(said(&strict, "Connection refused") > 0, "{}", strict.log());
        Ok(())
    });
}
