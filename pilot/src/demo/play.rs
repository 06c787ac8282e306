//! The play: pool and pilot start, the users send their jobs, and what happens is written down.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::{Timestamp, Unit};

use super::actor::{Actor, command, pause};
use super::checks;
use super::interrupt;
use super::job_log::{self, Event};
use super::people::Person;
use super::programs::Programs;
use super::report::{Ending, Job, Report};
use super::scene::{self, DOMAIN, Scene};
use super::screen::{Line, Screen};
use super::stage::{Separation, Stage};
use super::stories::{End, STORIES, Story};

/// How long the slowest part may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most of an output file that is shown.
const SHOWN: usize = 4000;

/// A job that was sent.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    /// Which.
    pub(super) story: &'a Story,
    /// Number in the queue.
    pub(super) cluster: String,
    /// Its folder.
    pub(super) folder: PathBuf,
    /// What its log says so far.
    pub(super) events: Vec<Event>,
    line: Line,
    removal_asked: bool,
}

/// Plays.
pub(super) fn play(
    stage: &Stage,
    programs: &Programs,
    screen: &Screen,
) -> Result<Report, Box<dyn Error>> {
    let began = Instant::now();
    let when = Timestamp::now().round(Unit::Second)?;
    if let Separation::None(why) = stage.separation() {
        screen.step(&format!("not shown: accounts of the users' own; {why}"));
    }
    screen.step("making accounts, a certificate authority and the users' proxies");
    let scene = scene::set(stage, programs)?;
    let tools = Tools {
        stage,
        programs,
        scene: &scene,
    };
    screen.step("starting the pool");
    let mut pool = tools.pool()?;
    screen.step("starting the pilot");
    let mut pilot = tools.pilot()?;
    screen.step("the users send their jobs");
    let start = Timestamp::now().as_millisecond();
    let mut sent = Vec::new();
    for story in STORIES {
        if story.needs_accounts && !stage.separates() {
            continue;
        }
        sent.push(tools.submit(story, screen)?);
    }
    watch(&tools, &mut sent, &mut pool, &mut pilot)?;
    screen.step("retiring the pilot, then the pool");
    let left = checks::left_behind();
    let retired = pilot.stop(Duration::from_secs(20));
    let pool_words = pool.last_words();
    let stopped = pool.stop(Duration::from_secs(20));
    let audit = fs::read_to_string(&scene.audit).unwrap_or_default();
    let jobs: Vec<Job> = sent
        .iter()
        .map(|job| tools.job(job, start, &audit))
        .collect();
    let mut report = Report {
        when: when.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        host: nix::unistd::gethostname()?.to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        not_shown: match stage.separation() {
            Separation::Accounts => None,
            Separation::None(why) => Some(why.clone()),
        },
        took: u64::try_from(began.elapsed().as_millis()).unwrap_or(0),
        jobs,
        checks: Vec::new(),
    };
    report.checks = checks::all(&checks::Seen {
        report: &report,
        sent: &sent,
        scene: &scene,
        left: &left,
        retired,
        stopped,
        pool_words: &pool_words,
    });
    Ok(report)
}

/// What is called while the play goes on.
#[derive(Debug)]
struct Tools<'a> {
    stage: &'a Stage,
    programs: &'a Programs,
    scene: &'a Scene,
}

impl Tools<'_> {
    fn pool(&self) -> Result<Actor, Box<dyn Error>> {
        let mut command = command(&self.programs.sailplane, None, self.stage.root());
        command
            .args(["pool", "serve", "--die-with-parent", "--config"])
            .arg(&self.scene.pool_conf);
        let mut pool = Actor::start("the pool", command, &self.stage.path("pool.log"))?;
        let address = self.stage.path("pool/address");
        pool.wait_until("say where it is", PATIENCE, || {
            let text = fs::read_to_string(&address).unwrap_or_default();
            text.lines()
                .next()
                .filter(|line| line.contains('>'))
                .map(str::to_owned)
        })?;
        Ok(pool)
    }

    fn pilot(&self) -> Result<Actor, Box<dyn Error>> {
        let address = fs::read_to_string(self.stage.path("pool/address"))?;
        let address = address.lines().next().unwrap_or_default().to_owned();
        let token = self.tool(
            None,
            self.stage.root(),
            &[
                "token",
                "create",
                "--identity",
                &format!("pilot@{DOMAIN}"),
                "--scope",
                "ADVERTISE_STARTD",
            ],
        )?;
        self.stage.file(
            &self.scene.tokens.join("pilot"),
            token.as_bytes(),
            0o600,
            self.scene.pilot.as_ref(),
        )?;
        let folder = self
            .scene
            .tokens
            .parent()
            .unwrap_or_else(|| self.stage.root());
        let mut command = command(&self.programs.sailplane, self.scene.pilot.as_ref(), folder);
        command
            .args(["run", "--die-with-parent", "--config"])
            .arg(&self.scene.pilot_conf)
            .arg("--set")
            .arg(format!("COLLECTOR_HOST={address}"));
        let mut pilot = Actor::start("the pilot", command, &self.stage.path("pilot.log"))?;
        pilot.wait_until("join the pool", PATIENCE, || {
            let slots = self
                .tool(None, self.stage.root(), &["status", "-af", "Name"])
                .ok()?;
            (!slots.trim().is_empty()).then_some(())
        })?;
        Ok(pilot)
    }

    fn submit<'a>(&self, story: &'a Story, screen: &Screen) -> Result<Sent<'a>, Box<dyn Error>> {
        let folder = self.scene.folder(story);
        let person = self.scene.person(story.user);
        let answer = self.tool(person, &folder, &["submit", "-terse", "job.sub"])?;
        // "12.0 - 12.0"
        let cluster = answer
            .split('.')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        let mut line = screen.job(&format!("{:<6} {}", story.user, story.name));
        line.show("sent", false, "");
        Ok(Sent {
            story,
            cluster,
            folder,
            events: Vec::new(),
            line,
            removal_asked: false,
        })
    }

    fn remove(&self, job: &mut Sent<'_>) -> Result<(), Box<dyn Error>> {
        job.removal_asked = true;
        let person = self.scene.person(job.story.user);
        self.tool(person, &job.folder, &["rm", &job.cluster])?;
        Ok(())
    }

    /// Calls `sailplane pool ...` as a user; its output.
    fn tool(
        &self,
        person: Option<&Person>,
        folder: &Path,
        words: &[&str],
    ) -> Result<String, Box<dyn Error>> {
        let account = person
            .map(|person| &person.account)
            .filter(|_| self.stage.separates());
        let mut call: Command = command(&self.programs.sailplane, account, folder);
        let (verb, rest) = words.split_at(if words.first() == Some(&"token") {
            2
        } else {
            1
        });
        call.arg("pool")
            .args(verb)
            .arg("--config")
            .arg(&self.scene.pool_conf)
            .args(rest);
        if verb.first() != Some(&"token") {
            let address = fs::read_to_string(self.stage.path("pool/address"))?;
            call.arg("--pool")
                .arg(address.lines().next().unwrap_or_default());
        }
        let output = call.output()?;
        if !output.status.success() {
            let words = words.join(" ");
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("sailplane pool {words} failed: {}", said.trim()).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What is told about a job.
    fn job(&self, job: &Sent<'_>, start: i64, audit: &str) -> Job {
        let story = job.story;
        let (end, result) = job_log::result(&job.events);
        let as_meant = match story.end {
            End::Exit(0) => end == Ending::Good,
            End::Exit(code) => result == format!("exit code {code}"),
            End::Held => end == Ending::Held,
            End::Removed(_) => end == Ending::Removed,
        };
        let people = &self.scene.people;
        let index = people
            .iter()
            .position(|person| person.account.name == story.user);
        Job {
            id: format!("{}.0", job.cluster),
            name: story.name.to_owned(),
            user: story.user.to_owned(),
            user_index: index.unwrap_or(0),
            shows: story.shows.to_owned(),
            account: checks::account(audit, &job.cluster, people).or_else(|| {
                checks::printed_uid(&job.folder).map(|uid| checks::account_name(&uid, people))
            }),
            result,
            reason: job_log::reason(&job.events),
            as_meant,
            end,
            spans: job_log::spans(&job.events, start),
            output: outputs(story, &job.folder),
        }
    }
}

/// Follows the jobs until all are over.
fn watch(
    tools: &Tools<'_>,
    sent: &mut [Sent<'_>],
    pool: &mut Actor,
    pilot: &mut Actor,
) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    loop {
        let mut open = 0;
        for job in sent.iter_mut() {
            let text = fs::read_to_string(job.folder.join("job.log")).unwrap_or_default();
            job.events = job_log::parse(&text);
            let over = job_log::is_over(&job.events);
            let mut more = String::new();
            if over {
                more = job_log::result(&job.events).1;
                if let Some(reason) = job_log::reason(&job.events) {
                    more = format!("{more}: {reason}");
                }
            }
            job.line.show(job_log::state(&job.events), over, &more);
            open += usize::from(!over);
            if let (End::Removed(after), Some(at), false) = (
                job.story.end,
                job_log::began(&job.events),
                job.removal_asked,
            ) {
                let ran = Timestamp::now().as_millisecond() - at;
                if ran >= i64::try_from(after * 1000).unwrap_or(0) {
                    tools.remove(job)?;
                }
            }
        }
        if open == 0 {
            return Ok(());
        }
        pool.check()?;
        pilot.check()?;
        interrupt::check()?;
        if began.elapsed() > PATIENCE {
            // The report says which jobs have not ended.
            return Ok(());
        }
        pause();
    }
}

/// The files that came back, and the beginning of each.
fn outputs(story: &Story, folder: &Path) -> Vec<(String, String)> {
    let known = |name: &str| {
        name == "job.sub"
            || name == "job.log"
            || name == format!("{}.sh", story.name)
            || story
                .files
                .iter()
                .any(|(file, _)| file.split('/').next() == Some(name))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = fs::read(entry.path()).unwrap_or_default();
        if known(&name) || text.is_empty() {
            continue;
        }
        let shown = text.get(..text.len().min(SHOWN)).unwrap_or_default();
        found.push((name, String::from_utf8_lossy(shown).into_owned()));
    }
    found.sort();
    found
}
