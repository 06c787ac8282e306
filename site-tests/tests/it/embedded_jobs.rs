//! Jobs of the embedded pool, on our pilot and on HTCondor's own startd: how they end, how they are stopped, and what
//! happens to them when connections and the pool itself are lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sailplane_site_tests::{
    Ad, EmbeddedOptions, EmbeddedPool, EmbeddedStartd, EventLog, JobId, Pilot, PilotOptions,
    ProxyKind, helper, process, say, wait,
};

/// Who runs the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Htcondors,
}

/// An execute side that has joined.
struct Joined {
    side: Side,
    pilot: Option<Pilot>,
    startd: Option<EmbeddedStartd>,
}

impl Side {
    fn join(self, pool: &EmbeddedPool) -> Result<Joined> {
        let (mut pilot, mut startd) = (None, None);
        match self {
            Self::Ours => {
                let options = PilotOptions::default().knob("SAILPLANE_IDENTITY_SWITCH", "NEVER");
                let mut started = Pilot::start(helper::site()?, pool, &options)?;
                started.wait_joined(pool, 2)?;
                pilot = Some(started);
            }
            Self::Htcondors => {
                let knobs = [("STARTER_UPDATE_INTERVAL", "2"), ("NUM_CPUS", "2")];
                let started = pool.condor_startd(&knobs)?;
                started.wait_joined(pool, 1)?;
                startd = Some(started);
            }
        }
        Ok(Joined {
            side: self,
            pilot,
            startd,
        })
    }
}

impl Joined {
    /// Slots that nobody has.
    fn wait_free(&self, pool: &EmbeddedPool) -> Result<()> {
        wait::until("the claims to be given back", wait::PATIENCE, || {
            let claimed = match (&self.pilot, &self.startd) {
                (Some(pilot), _) => pilot.slots(pool)?,
                (_, Some(startd)) => startd.slots(pool)?,
                _ => Vec::new(),
            };
            let count = match self.side {
                Side::Ours => 2,
                Side::Htcondors => 1,
            };
            let free = claimed.iter().all(|slot| slot.text("State") == "Unclaimed");
            Ok((free && claimed.len() == count).then_some(()))
        })
    }
}

fn on_pool(name: &str, knobs: &[&str], play: impl FnOnce(&mut EmbeddedPool) -> Result<()>) {
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
        Ok(mut pool) => {
            let played = play(&mut pool);
            crate::judge(
                name,
                played.with_context(|| format!("the pool's log:\n{}", pool.log())),
            );
        }
        Err(error) => panic!("{name}: the pool could not be raised: {error:?}"),
    }
}

/// Jobs of one submission.
struct Submitted {
    folder: PathBuf,
    cluster: u32,
}

/// Lines of every submit file here.
const COMMON: &str = "should_transfer_files = YES\nlog = log\nrequest_memory = 64\nrequest_disk = 1\n\
                      output = out.$(Process)\nerror = err.$(Process)\n";

fn submit(pool: &EmbeddedPool, folder: &Path, text: &str) -> Result<Submitted> {
    fs::write(folder.join("jobs.sub"), format!("{COMMON}{text}\n"))?;
    let mut command = pool.command(["submit", "-terse", "jobs.sub"]);
    let said = process::output(command.current_dir(folder))?;
    let first: JobId = said
        .split(" - ")
        .next()
        .context("no job number")?
        .trim()
        .parse()?;
    Ok(Submitted {
        folder: folder.to_owned(),
        cluster: first.cluster,
    })
}

/// A job that runs text in `/bin/sh`; the text must not have quotes.
fn shell(script: &str) -> String {
    format!(
        "executable = /bin/sh\ntransfer_executable = false\narguments = \"-c '{script}'\"\nqueue"
    )
}

impl Submitted {
    fn id(&self, process: u32) -> String {
        format!("{}.{process}", self.cluster)
    }

    fn ad(&self, pool: &EmbeddedPool, process: u32) -> Result<Ad> {
        let id = self.id(process);
        let mut ads = Ad::list(&pool.run(["q", "-json", &id])?)?;
        if ads.is_empty() {
            ads = Ad::list(&pool.run(["history", "-json", &id])?)?;
        }
        ads.pop().with_context(|| format!("job {id} is nowhere"))
    }

    /// Waits until the job has this status; 4 is ended, 5 held.
    fn wait(&self, pool: &EmbeddedPool, process: u32, status: i64) -> Result<Ad> {
        let what = format!("job {} to have status {status}", self.id(process));
        let waited = wait::until(&what, wait::PATIENCE, || {
            let ad = self.ad(pool, process)?;
            Ok((ad.int("JobStatus") == Some(status)).then_some(ad))
        });
        waited.with_context(|| self.log().unwrap_or_default())
    }

    /// Waits until the job's own process runs.
    fn wait_executing(&self, process: u32) -> Result<()> {
        let job = self.id(process).parse()?;
        let log = EventLog::new(self.folder.join("log"));
        log.wait_for(Some(job), "the job to run", wait::PATIENCE, |event| {
            event.number == 1
        })?;
        Ok(())
    }

    fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("log"))?)
    }

    /// Numbers of the job's events, in order, without sizes and transfers.
    fn events(&self, process: u32) -> Result<Vec<u16>> {
        let job: JobId = self.id(process).parse()?;
        let events = EventLog::new(self.folder.join("log")).events()?;
        let ours = events.iter().filter(|event| event.job == job);
        let numbers = ours.map(|event| event.number);
        Ok(numbers.filter(|number| ![6, 40].contains(number)).collect())
    }

    fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.folder.join(name)).with_context(|| format!("read {name}"))
    }
}

/// Every way in which a job comes to its end by itself.
fn ends(name: &str, side: Side) {
    on_pool(name, &[], |pool| {
        let execute = side.join(pool)?;
        let folder = pool.folder("alice")?;
        fs::create_dir(folder.join("in"))?;
        fs::write(folder.join("in/file"), "from a folder\n")?;
        let jobs = submit(
            pool,
            &folder,
            "executable = /bin/sh\ntransfer_executable = false\n\
             arguments = \"-c 'exit 7'\"\nqueue\n\
             arguments = \"-c 'kill -SEGV $$'\"\nqueue\n\
             arguments = \"-c 'mkdir -p made/sub; cat in/file > made/sub/copy; echo new > r'\"\n\
             transfer_input_files = in\ntransfer_output_files = made, r\n\
             transfer_output_remaps = \"r = renamed\"\nqueue\n\
             transfer_input_files =\ntransfer_output_remaps =\n\
             arguments = \"-c 'echo said'\"\ntransfer_output_files = never-made\nqueue\n\
             transfer_output_files =\nexecutable = /no/such/program\nqueue",
        )?;
        let ad = jobs.wait(pool, 0, 4)?;
        ensure!(ad.int("ExitCode") == Some(7), "{ad:?}");
        ensure!(ad.bool("ExitBySignal") == Some(false), "{ad:?}");
        ensure!(
            ad.int("NumJobStarts") == Some(1) && ad.int("NumJobCompletions") == Some(1),
            "{ad:?}"
        );
        let ad = jobs.wait(pool, 1, 4)?;
        ensure!(ad.int("ExitSignal") == Some(11), "{ad:?}");
        let ad = jobs.wait(pool, 2, 4)?;
        ensure!(jobs.read("made/sub/copy")? == "from a folder\n");
        ensure!(jobs.read("renamed")? == "new\n");
        ensure!(ad.real("BytesSent") > Some(0.0), "{ad:?}");
        let ad = jobs.wait(pool, 3, 5)?;
        ensure!(
            ad.int("HoldReasonCode") == Some(12) && ad.int("HoldReasonSubCode") == Some(2),
            "{ad:?}"
        );
        ensure!(
            ad.text("HoldReason")
                .starts_with("Transfer output files failure at execution point"),
            "{ad:?}"
        );
        let ad = jobs.wait(pool, 4, 5)?;
        ensure!(
            ad.int("HoldReasonCode") == Some(6) && ad.int("HoldReasonSubCode") == Some(2),
            "{ad:?}"
        );
        for process in 0..3 {
            let events = jobs.events(process)?;
            ensure!(events == [0, 1, 5], "job {process}: {events:?}");
        }
        let events = jobs.events(3)?;
        ensure!(events.ends_with(&[21, 4, 12]), "{events:?}");
        execute.wait_free(pool)
    });
}

#[test]
fn jobs_end_on_our_pilot() {
    ends("jobends", Side::Ours);
}

#[test]
fn jobs_end_on_htcondors_startd() {
    ends("jobendspeer", Side::Htcondors);
}

/// What a user does to a running job.
fn stops(name: &str, side: Side) {
    on_pool(name, &[], |pool| {
        let execute = side.join(pool)?;
        let folder = pool.folder("alice")?;
        let sleep =
            "executable = /bin/sleep\ntransfer_executable = false\narguments = 600\nqueue 2";
        let jobs = submit(pool, &folder, sleep)?;
        jobs.wait_executing(0)?;
        jobs.wait_executing(1)?;
        pool.run(["rm", &jobs.id(0)])?;
        pool.run(["hold", &jobs.id(1)])?;
        let removed = jobs.wait(pool, 0, 3)?;
        ensure!(
            removed.text("RemoveReason").contains("condor_rm"),
            "{removed:?}"
        );
        let held = jobs.wait(pool, 1, 5)?;
        ensure!(held.int("HoldReasonCode") == Some(1), "{held:?}");
        ensure!(jobs.events(0)? == [0, 1, 4, 9], "{:?}", jobs.events(0)?);
        ensure!(jobs.events(1)? == [0, 1, 4, 12], "{:?}", jobs.events(1)?);
        execute.wait_free(pool)?;
        // It runs again, and is told to go elsewhere, by HTCondor's tool.
        pool.run(["release", &jobs.id(1)])?;
        jobs.wait(pool, 1, 2)?;
        let log = EventLog::new(jobs.folder.join("log"));
        let runs = || -> Result<usize> {
            Ok(jobs
                .events(1)?
                .iter()
                .filter(|number| **number == 1)
                .count())
        };
        wait::until("its second run", wait::PATIENCE, || {
            Ok((runs()? == 2).then_some(()))
        })?;
        pool.tool("admin", "condor_vacate_job", ["-fast", &jobs.id(1)])?;
        wait::until("its third run", wait::PATIENCE, || {
            Ok((runs()? == 3).then_some(()))
        })
        .with_context(|| format!("{:?}", log.events()))?;
        let ad = jobs.ad(pool, 1)?;
        ensure!(ad.int("NumJobStarts") == Some(3), "{ad:?}");
        pool.run(["rm", &jobs.id(1)])?;
        jobs.wait(pool, 1, 3)?;
        execute.wait_free(pool)
    });
}

#[test]
fn running_jobs_are_stopped_on_our_pilot() {
    stops("jobstops", Side::Ours);
}

#[test]
fn running_jobs_are_stopped_on_htcondors_startd() {
    stops("jobstopspeer", Side::Htcondors);
}

/// The end of a job that lost its shadow for a while.
fn survived(pool: &EmbeddedPool, jobs: &Submitted, process: u32) -> Result<()> {
    let ad = jobs.wait(pool, process, 4)?;
    ensure!(ad.int("ExitCode") == Some(5), "{ad:?}");
    ensure!(ad.int("NumJobStarts") == Some(1), "it ran twice: {ad:?}");
    ensure!(ad.int("NumJobReconnects") >= Some(1), "{ad:?}");
    ensure!(jobs.read("made")? == "survived\n");
    let events = jobs.events(process)?;
    ensure!(events == [0, 1, 22, 23, 5], "{events:?}");
    Ok(())
}

const SURVIVOR: &str = "sleep 12; echo survived > made; exit 5";

fn crash(name: &str, side: Side) {
    on_pool(name, &[], |pool| {
        let execute = side.join(pool)?;
        let folder = pool.folder("alice")?;
        let jobs = submit(pool, &folder, &shell(SURVIVOR))?;
        jobs.wait_executing(0)?;
        pool.crash_and_restart()?;
        survived(pool, &jobs, 0)?;
        execute.wait_free(pool)
    });
}

#[test]
fn a_job_on_our_pilot_survives_the_death_of_the_pool() {
    crash("jobcrash", Side::Ours);
}

#[test]
fn a_job_on_htcondors_startd_survives_the_death_of_the_pool() {
    crash("jobcrashpeer", Side::Htcondors);
}

/// Cuts the connection on which the starter at this address talks to its shadow. Both ends see it break.
fn cut(startd: &str) -> Result<()> {
    let port = startd
        .split(['?', '>'])
        .next()
        .and_then(|text| text.rsplit(':').next())
        .context("an address without a port")?;
    let cut = process::output(Command::new("ss").args([
        "-K",
        "-H",
        "state",
        "established",
        "src",
        &format!("127.0.0.1:{port}"),
    ]));
    // The kernel also names sockets that it will not destroy, as an error of its own.
    cut.map(drop).or(Ok(()))
}

fn network(name: &str, side: Side) {
    on_pool(name, &[], |pool| {
        let execute = side.join(pool)?;
        let folder = pool.folder("alice")?;
        let jobs = submit(pool, &folder, &shell(SURVIVOR))?;
        jobs.wait_executing(0)?;
        let ad = jobs.ad(pool, 0)?;
        cut(ad.text("StartdIpAddr"))?;
        // The output goes out under a key that was made after the cut: HTCondor's own shadow can't do that.
        survived(pool, &jobs, 0)?;
        execute.wait_free(pool)
    });
}

#[test]
fn a_job_on_our_pilot_survives_a_broken_connection() {
    network("jobcut", Side::Ours);
}

#[test]
fn a_job_on_htcondors_startd_survives_a_broken_connection() {
    network("jobcutpeer", Side::Htcondors);
}

#[test]
fn standard_files_are_streamed_and_chirp_is_served() {
    on_pool("jobstream", &[], |pool| {
        let execute = Side::Htcondors.join(pool)?;
        let folder = pool.folder("alice")?;
        fs::write(folder.join("in.txt"), "line of input\n")?;
        let script = "#!/bin/sh\n\
            chirp=/usr/libexec/condor/condor_chirp\n\
            $chirp set_job_attr_delayed ChirpDelayed 5\n\
            $chirp set_job_attr Told '\"by the job\"'\n\
            $chirp get_job_attr Told\n\
            $chirp ulog 'a line of the job'\n\
            $chirp fetch in.txt fetched && cat fetched\n\
            $chirp put fetched put.txt\n\
            $chirp read in.txt 4 && echo\n\
            $chirp set_job_attr Owner '\"root\"' || echo refused\n";
        fs::write(folder.join("chirp.sh"), script)?;
        let chirp = "executable = chirp.sh\n+WantIOProxy = true\nqueue";
        let chirps = submit(pool, &folder, chirp)?;
        let folder = pool.folder("alice")?;
        fs::write(folder.join("in.txt"), "line of input\n")?;
        let streams = "executable = /bin/sh\ntransfer_executable = false\n\
             arguments = \"-c 'cat; echo first; sleep 3; echo last; echo wrong >&2'\"\n\
             input = in.txt\nstream_input = true\nstream_output = true\nstream_error = true\nqueue";
        let jobs = submit(pool, &folder, streams)?;
        wait::until(
            "the first line to be there while the job runs",
            wait::PATIENCE,
            || {
                let said = jobs.read("out.0").unwrap_or_default();
                Ok((said == "line of input\nfirst\n").then_some(()))
            },
        )?;
        jobs.wait(pool, 0, 4)?;
        ensure!(jobs.read("out.0")? == "line of input\nfirst\nlast\n");
        ensure!(jobs.read("err.0")? == "wrong\n");
        let ad = chirps.wait(pool, 0, 4)?;
        ensure!(ad.int("ChirpDelayed") == Some(5), "{ad:?}");
        ensure!(ad.text("Told") == "by the job", "{ad:?}");
        ensure!(ad.text("Owner") != "root", "{ad:?}");
        let said = chirps.read("out.0")?;
        ensure!(
            said.starts_with("\"by the job\"\nline of input\nline\n")
                && said.ends_with("refused\n"),
            "{said}"
        );
        ensure!(chirps.read("put.txt")? == "line of input\n");
        ensure!(
            chirps.log()?.contains("a line of the job"),
            "{}",
            chirps.log()?
        );
        execute.wait_free(pool)
    });
}

#[test]
fn jobs_are_held_when_their_time_is_over() {
    on_pool("joblimit", &[], |pool| {
        let execute = Side::Ours.join(pool)?;
        let folder = pool.folder("alice")?;
        let jobs = submit(
            pool,
            &folder,
            "executable = /bin/sleep\ntransfer_executable = false\narguments = 600\n\
             allowed_execute_duration = 2\nqueue\n\
             allowed_execute_duration =\nallowed_job_duration = 3\nqueue",
        )?;
        for (process, code, words) in [
            (0, 47, "execute duration of 00:02"),
            (1, 46, "job duration of 00:03"),
        ] {
            let ad = jobs.wait(pool, process, 5)?;
            ensure!(ad.int("HoldReasonCode") == Some(code), "{ad:?}");
            ensure!(ad.text("HoldReason").contains(words), "{ad:?}");
        }
        execute.wait_free(pool)
    });
}

#[test]
fn a_renewed_proxy_reaches_the_running_job() {
    // HTCondor's own starter can't receive delegated proxies where OpenSSL is 3.5 or newer.
    let knobs = [
        "DELEGATE_JOB_GSI_CREDENTIALS = false",
        "SHADOW_CHECKPROXY_INTERVAL = 2",
    ];
    on_pool("jobproxy", &knobs, |pool| {
        let site = helper::site()?;
        let execute = Side::Htcondors.join(pool)?;
        let folder = pool.folder("alice")?;
        let proxy = folder.join("proxy.pem");
        let renew = |minutes| -> Result<String> {
            site.ca
                .proxy("alice", ProxyKind::Minutes(minutes), &proxy)?;
            process::give(&proxy, pool.owner())?;
            Ok(fs::read_to_string(&proxy)?)
        };
        let first = renew(60)?;
        let jobs = submit(
            pool,
            &folder,
            &format!(
                "x509userproxy = proxy.pem\n{}",
                shell(
                    "cp $X509_USER_PROXY before; while cmp -s before $X509_USER_PROXY; do sleep 0.2; done; cp $X509_USER_PROXY after"
                )
            ),
        )?;
        jobs.wait_executing(0)?;
        // The file's age is told in seconds.
        wait::pause(Duration::from_secs(1));
        let second = renew(120)?;
        jobs.wait(pool, 0, 4)?;
        ensure!(jobs.read("before")? == first);
        ensure!(jobs.read("after")? == second);
        execute.wait_free(pool)
    });
}
