//! The main job, for a person to watch: raises a real HTCondor pool, installs the helper, starts a pilot under an
//! ordinary account, runs jobs of three users, and shows who ran what under which account. Started by
//! `site-tests/main-job`.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sailplane_site_tests::helper::{self, Site};
use sailplane_site_tests::{
    Ad, Event, Example, JobState, PILOT_ACCOUNT, Pilot, PilotOptions, Pool, PoolOptions, Submitted,
    process, wait,
};

const USERS: [&str; 3] = ["alice", "bob", "carol"];

fn main() -> ExitCode {
    let mut screen = Screen::new();
    match run(&mut screen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.line(&format!("failed: {error:?}"));
            ExitCode::FAILURE
        }
    }
}

fn run(screen: &mut Screen) -> Result<()> {
    if let Some(reason) = process::obstacle() {
        bail!("the main job {reason}");
    }
    let present = std::path::Path::new("/etc/sailplane/switch.conf").exists();
    screen.step("building the pilot and the helper, installing the helper");
    let site = helper::site()?;
    let played = play(screen, site);
    if !present {
        screen.step("removing the helper");
        helper::uninstall()?;
    }
    played
}

fn play(screen: &mut Screen, site: &Site) -> Result<()> {
    screen.step(
        "raising an HTCondor 23.9.6 pool (the first time, its programs are fetched from Debian)",
    );
    let pool = Pool::raise(&PoolOptions {
        name: "main-job".to_owned(),
        ..PoolOptions::default()
    })?;
    screen.step(&format!(
        "starting a pilot as {PILOT_ACCOUNT}, for the pool at {}",
        pool.collector_host()
    ));
    let mut pilot = Pilot::start(
        site,
        &pool,
        &PilotOptions {
            slots: 3,
            ..PilotOptions::default()
        },
    )?;
    pilot.wait_joined(&pool, 3)?;
    screen.step("sending jobs of alice, bob and carol, each with a proxy from grid-proxy-init");
    let mut sent = Vec::new();
    for example in Example::ALL {
        for user in USERS {
            sent.push(Sent {
                user,
                example,
                submitted: example.submit(user, &pool, &site.ca)?,
            });
        }
    }
    watch(screen, &sent, &pilot)?;
    let rows = sent
        .iter()
        .map(|job| job.row(&pool))
        .collect::<Result<Vec<_>>>()?;
    screen.step("retiring the pilot, taking the pool down");
    drop(pilot);
    drop(pool);
    report(screen, &rows, site)
}

/// Shows how far the jobs are until all have left the queue.
fn watch(screen: &mut Screen, sent: &[Sent], pilot: &Pilot) -> Result<()> {
    let patience = Duration::from_secs(180);
    wait::until("all jobs to end", patience, || {
        let (mut running, mut done) = (0, 0);
        for job in sent {
            let events = job.submitted.log().events()?;
            if let Some(held) = events.iter().find(|event| event.number == Event::HELD) {
                bail!("job {} of {} was held: {}", held.job, job.user, held.text);
            }
            if events.iter().any(|event| event.number == Event::TERMINATED) {
                done += 1;
            } else if events.iter().any(|event| event.number == Event::EXECUTE) {
                running += 1;
            }
        }
        let waiting = sent.len() - running - done;
        screen.progress(&format!(
            "jobs: {waiting} waiting, {running} running, {done} done"
        ));
        Ok((done == sent.len()).then_some(()))
    })
    .with_context(|| format!("the pilot's log:\n{}", pilot.log()))
}

struct Sent {
    user: &'static str,
    example: Example,
    submitted: Submitted,
}

struct Row {
    job: String,
    user: &'static str,
    name: &'static str,
    uid: u32,
    result: String,
    right: bool,
    waited: i64,
    ran: i64,
}

impl Sent {
    fn row(&self, pool: &Pool) -> Result<Row> {
        let job = self.submitted.job()?;
        let ad = pool.wait_for(job, JobState::Completed, wait::PATIENCE)?;
        let output = self.example.output(&self.submitted)?;
        let uid = output.lines().next().unwrap_or_default();
        let code = ad.int("ExitCode");
        let time = |name: &str| Ad::int(&ad, name).unwrap_or_default();
        Ok(Row {
            job: job.to_string(),
            user: self.user,
            name: self.example.name(),
            uid: uid
                .parse()
                .with_context(|| format!("the job said {uid:?} instead of a user number"))?,
            result: code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit {code}")),
            right: code == Some(if self.example == Example::Fails { 3 } else { 0 }),
            waited: time("JobStartDate") - time("QDate"),
            ran: time("CompletionDate") - time("JobStartDate"),
        })
    }
}

/// Prints the table and checks what it shows.
fn report(screen: &mut Screen, rows: &[Row], site: &Site) -> Result<()> {
    let (pilot, _) = process::ensure_account(PILOT_ACCOUNT)?;
    screen.line("");
    screen.line(&format!(
        "{:<6} {:<6} {:<6} {:<22} {:<8} waited  ran",
        "job", "user", "what", "account", "result"
    ));
    for row in rows {
        let account = format!("dynamic, uid {}", row.uid);
        screen.line(&format!(
            "{:<6} {:<6} {:<6} {account:<22} {:<8} {:>4} s {:>3} s",
            row.job, row.user, row.name, row.result, row.waited, row.ran
        ));
    }
    screen.line("");
    screen.line(&format!(
        "the pilot itself ran as {PILOT_ACCOUNT} (uid {pilot}); no payload did"
    ));
    for row in rows {
        ensure!(
            row.right,
            "job {} should not have ended with {}",
            row.job,
            row.result
        );
        ensure!(
            site.uids.contains(&row.uid) && row.uid != pilot.as_raw(),
            "job {} ran as uid {}",
            row.job,
            row.uid
        );
    }
    let users = |uid: u32| {
        rows.iter()
            .filter(|row| row.uid == uid)
            .map(|row| row.user)
            .collect::<BTreeSet<_>>()
    };
    let reused = rows.iter().find(|row| users(row.uid).len() > 1);
    if let Some(row) = reused {
        screen.line(&format!(
            "uid {} served several users, one after the other, never two at a time",
            row.uid
        ));
    }
    Ok(())
}

/// Lines for a person; on a terminal the last line may be overwritten by the next progress.
struct Screen {
    began: Instant,
    terminal: bool,
    progress: String,
}

impl Screen {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            terminal: std::io::stdout().is_terminal(),
            progress: String::new(),
        }
    }

    fn step(&mut self, text: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        self.line(&format!("[{seconds:6.1} s] {text}"));
    }

    fn progress(&mut self, text: &str) {
        if text == self.progress {
            return;
        }
        if self.terminal {
            self.write(&format!("\r\x1b[K           {text}"));
        } else {
            self.write(&format!("           {text}\n"));
        }
        text.clone_into(&mut self.progress);
    }

    fn line(&mut self, text: &str) {
        let end = if self.terminal && !self.progress.is_empty() {
            "\n"
        } else {
            ""
        };
        self.progress.clear();
        self.write(&format!("{end}{text}\n"));
    }

    #[expect(
        clippy::unused_self,
        reason = "only a screen may write, so that lines and progress do not mix"
    )]
    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A closed pipe means that nobody reads any more: not a failure of the main job.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
