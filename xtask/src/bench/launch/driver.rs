//! The processes that launch: one as root, one as the pilot's account.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sailplane_site_tests::helper::Site;
use sailplane_site_tests::{PILOT_ACCOUNT, process, wait};
use serde_json::json;

use super::table::Cost;
use super::{Place, WARM_UP, Way, tools};

/// Who launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Root, where a peer needs that.
    Root,
    /// The pilot's account.
    Pilot,
}

/// Milliseconds of many launches of one way.
#[derive(Debug, Default)]
pub(crate) struct Times {
    pub(crate) first: Vec<f64>,
    pub(crate) end: Vec<f64>,
}

pub(crate) type AllTimes = HashMap<&'static str, Times>;

/// One of the processes.
#[derive(Debug)]
pub(crate) struct Driver {
    who: Who,
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Driver {
    pub(crate) fn start(place: &Place, site: &Site, who: Who, ways: &[Way]) -> Result<Self> {
        let helper = (who == Who::Pilot).then(
            || json!({"switch": site.switch, "execute": place.execute, "proxy": place.plain}),
        );
        let ways: serde_json::Map<_, _> = ways
            .iter()
            .filter(|way| way.who == who)
            .map(|way| (way.key.to_owned(), way.plan.clone()))
            .collect();
        let plan = place.folder.join(format!("plan-{who:?}.json"));
        let text = serde_json::to_vec(&json!({"helper": helper, "ways": ways}))?;
        std::fs::write(&plan, text)?;
        let mut command = Command::new(&place.driver);
        command
            .arg(&plan)
            .current_dir(&place.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if who == Who::Pilot {
            let (uid, gid) = process::ensure_account(PILOT_ACCOUNT)?;
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        let mut child = command.spawn().context("start the launch driver")?;
        let requests = child.stdin.take().context("no pipe")?;
        let answers = BufReader::new(child.stdout.take().context("no pipe")?);
        Ok(Self {
            who,
            child,
            requests,
            answers,
        })
    }

    fn ask(&mut self, request: &str) -> Result<Vec<f64>> {
        writeln!(self.requests, "{request}").context("ask the launch driver")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            bail!("{request}: the launch driver has ended");
        }
        line.split_whitespace()
            .map(|word| word.parse().context("read the launch driver's answer"))
            .collect()
    }

    /// Seconds from the order to the end of the last.
    pub(crate) fn storm(&mut self, count: usize) -> Result<f64> {
        let answer = self.ask(&format!("storm {count}"))?;
        Ok(answer.first().context("no answer")? / 1e6)
    }

    /// What the resident helper costs: its memory, and its system calls per launch.
    pub(crate) fn cost(&mut self, key: &str) -> Result<Cost> {
        const LAUNCHES: u32 = 20;
        let pids = tools::helpers_of(self.child.id());
        let memory = pids.iter().filter_map(|pid| tools::pss(*pid)).sum::<f64>();
        let watch = tools::Watch::attach(&pids)?;
        for _ in 0..LAUNCHES {
            wait::pause(super::PAUSE);
            self.ask(key)?;
        }
        wait::pause(super::PAUSE);
        Ok(Cost {
            memory: Some(memory),
            calls: Some(watch.finish()? / f64::from(LAUNCHES)),
        })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Launches in every way, one after the other, so many times.
pub(crate) fn take_turns(
    drivers: &mut [&mut Driver],
    ways: &[Way],
    rounds: usize,
    pause: Duration,
) -> Result<AllTimes> {
    let mut all = AllTimes::new();
    for round in 0..rounds + WARM_UP {
        for way in ways {
            let driver = drivers
                .iter_mut()
                .find(|driver| driver.who == way.who)
                .context("no driver")?;
            wait::pause(pause);
            let answer = driver.ask(way.key).with_context(|| way.key)?;
            let [first, end] = answer.as_slice() else {
                bail!("{}: two numbers were expected", way.key)
            };
            if round >= WARM_UP {
                let times = all.entry(way.key).or_default();
                times.first.push(first / 1000.0);
                times.end.push(end / 1000.0);
            }
        }
    }
    Ok(all)
}
