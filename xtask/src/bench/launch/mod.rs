//! Launch of a program under another account, beside everything else that can do it.

mod driver;
mod peers;
mod table;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use sailplane_site_tests::helper::{self, Site};
use sailplane_site_tests::{PILOT_ACCOUNT, ProxyKind, process};
use serde_json::json;

use super::report::Comparison;
use super::stats::Sample;
use crate::console;
use driver::{Driver, Who};
use peers::SudoRule;
pub(crate) use table::HEADING;
use table::{Cost, Row};

/// The account that the peers switch to.
const TARGET: &str = "nobody";
/// Between two launches: less than the pool needs between two jobs of a slot.
const PAUSE: Duration = Duration::from_millis(30);
/// Not counted, because they fill caches, on every side.
const WARM_UP: usize = 5;

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Launches of each way.
    pub(crate) launches: usize,
    /// Payloads that are cancelled at once.
    pub(crate) storm: usize,
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Findings {
    /// Rows for the table of all comparisons.
    pub(crate) comparisons: Vec<Comparison>,
    /// A section of its own.
    pub(crate) section: String,
}

/// One way to launch, on its way into a table.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// For the driver.
    pub(crate) key: &'static str,
    /// For people.
    pub(crate) label: &'static str,
    pub(crate) who: Who,
    pub(crate) plan: serde_json::Value,
    /// The command line, where it is one; without the payload it runs.
    pub(crate) command: Option<Vec<String>>,
}

impl Way {
    pub(crate) fn command(
        key: &'static str,
        label: &'static str,
        who: Who,
        words: Vec<String>,
        environment: &serde_json::Value,
    ) -> Self {
        Self {
            key,
            label,
            who,
            plan: json!({"command": {"words": words, "environment": environment}}),
            command: Some(words),
        }
    }
}

pub(crate) fn compare(site: &Site, scale: Scale) -> Result<Findings> {
    let place = Place::prepare(site)?;
    let rule = SudoRule::write(&[Path::new("/bin/true"), &place.tools.stamp])?;
    let (peers, missing) = peers::all(&place.tools, &place.folder)?;
    for text in &missing {
        console::complain(text);
    }
    let ours = place.ours(site);
    let stamped: Vec<Way> = ours.into_iter().chain(peers).collect();
    let (true_ours, true_theirs) = place.of_true();
    let truths = [true_ours, vec![true_theirs]].concat();

    let all = [stamped.clone(), truths.clone()].concat();
    let mut pilot = Driver::start(&place, site, Who::Pilot, &all)?;
    let mut root = Driver::start(&place, site, Who::Root, &all)?;
    console::line(&format!(
        "launches under another account, {} ways, {} times each, taking turns",
        all.len(),
        scale.launches
    ));
    let mut times = driver::take_turns(&mut [&mut pilot, &mut root], &all, scale.launches, PAUSE)?;
    let whole = ["true-verified", "true-sudo"];
    let at_once: Vec<Way> = truths
        .iter()
        .filter(|way| whole.contains(&way.key))
        .cloned()
        .collect();
    let close = driver::take_turns(
        &mut [&mut pilot, &mut root],
        &at_once,
        scale.launches,
        Duration::ZERO,
    )?;

    console::line("memory and system calls");
    let mut rows = Vec::new();
    for way in &stamped {
        let cost = match &way.command {
            Some(words) => place.tools.cost(way.who, words, &way.plan),
            None => pilot.cost(way.key),
        };
        let sample = times.remove(way.key).context("no times")?;
        rows.push(Row {
            label: way.label,
            key: way.key,
            first: Sample::new(sample.first),
            end: Sample::new(sample.end),
            cost: cost.unwrap_or_else(|error| {
                console::complain(&format!("{}: {error:#}", way.label));
                Cost::default()
            }),
        });
    }
    console::line(&format!("{} payloads cancelled at once", scale.storm));
    let storm = pilot.storm(scale.storm)?;
    drop(rule);

    let section = table::section(&rows, &missing, scale.storm, storm);
    let end = |times: &driver::AllTimes, key: &str| -> Result<Sample> {
        Ok(Sample::new(times.get(key).context("no times")?.end.clone()))
    };
    let row = |what, ours: &str, times: &driver::AllTimes| -> Result<Comparison> {
        Ok(Comparison {
            what,
            peer: "sudo",
            ours: end(times, ours)?,
            theirs: end(times, "true-sudo")?,
            more_is_better: false,
        })
    };
    let comparisons = vec![
        row(
            "launch of `true`, account open already, ms",
            "true-opened",
            &times,
        )?,
        row(
            "launch of `true`, proxy verified, account leased, sandbox made, ms",
            "true-verified",
            &times,
        )?,
        row(
            "the same, each at once after the one before, ms",
            "true-verified",
            &close,
        )?,
    ];
    Ok(Findings {
        comparisons,
        section,
    })
}

/// Where everything of this comparison lies; removed when it ends.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) execute: PathBuf,
    pub(crate) driver: PathBuf,
    pub(crate) tools: tools::Tools,
    pub(crate) plain: PathBuf,
    pub(crate) voms: PathBuf,
}

impl Place {
    fn prepare(site: &Site) -> Result<Self> {
        let owner = process::ensure_account(PILOT_ACCOUNT)?;
        let folder = helper::state().join("bench-launch");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let tools = tools::Tools::build(&folder)?;
        let driver = folder.join("launch-driver");
        process::output(
            Command::new("install")
                .args(["-m", "755"])
                .arg(build_driver()?)
                .arg(&driver),
        )?;
        let (plain, voms) = (folder.join("plain.pem"), folder.join("voms.pem"));
        site.ca.proxy("alice", ProxyKind::Minutes(600), &plain)?;
        site.ca.voms_proxy("alice", &voms)?;
        for proxy in [&plain, &voms] {
            process::give(proxy, owner)?;
        }
        let execute = site.execute.join("bench");
        fs::create_dir_all(&execute)?;
        process::give(&execute, owner)?;
        Ok(Self {
            folder,
            execute,
            driver,
            tools,
            plain,
            voms,
        })
    }

    fn ours(&self, site: &Site) -> Vec<Way> {
        let stamp = &self.tools.stamp;
        let resident = |key, label, plan| Way {
            key,
            label,
            who: Who::Pilot,
            plan,
            command: None,
        };
        let mut ways = vec![
            resident(
                "opened",
                "**resident**, account open already",
                json!({"opened": {"program": stamp}}),
            ),
            resident(
                "plain",
                "**resident**, proxy verified, account leased, sandbox made",
                json!({"verified": {"program": stamp, "proxy": self.plain}}),
            ),
            resident(
                "voms",
                "**resident**, the same with a VOMS proxy",
                json!({"verified": {"program": stamp, "proxy": self.voms}}),
            ),
        ];
        let glexec = site.switch.with_file_name("glexec");
        if glexec.exists() {
            for (key, label, proxy) in [
                (
                    "one-shot",
                    "**one-shot** `glexec CMD`, proxy verified",
                    &self.plain,
                ),
                (
                    "one-shot-voms",
                    "**one-shot** `glexec CMD`, VOMS proxy verified",
                    &self.voms,
                ),
            ] {
                let words = [&glexec, stamp].map(|path| path.display().to_string());
                let environment = json!({
                    "GLEXEC_CLIENT_CERT": proxy,
                    "GLEXEC_TARGET_PROXY": "/dev/null",
                });
                ways.push(Way::command(
                    key,
                    label,
                    Who::Pilot,
                    words.to_vec(),
                    &environment,
                ));
            }
        } else {
            console::complain("glexec is not installed: no one-shot rows");
        }
        ways
    }

    /// The same with `true`: ours and sudo.
    fn of_true(&self) -> (Vec<Way>, Way) {
        let ours = [
            ("true-opened", json!({"opened": {"program": "/bin/true"}})),
            (
                "true-verified",
                json!({"verified": {"program": "/bin/true", "proxy": self.plain}}),
            ),
        ];
        let ours = ours.map(|(key, plan)| Way {
            key,
            label: key,
            who: Who::Pilot,
            plan,
            command: None,
        });
        let sudo = ["sudo", "-n", "-u", TARGET, "/bin/true"].map(str::to_owned);
        let sudo = Way::command(
            "true-sudo",
            "true-sudo",
            Who::Pilot,
            sudo.to_vec(),
            &json!({"PATH": "/usr/bin:/bin"}),
        );
        (ours.to_vec(), sudo)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for folder in [&self.folder, &self.execute] {
            if let Err(error) = fs::remove_dir_all(folder) {
                console::complain(&format!("{} can't be removed: {error}", folder.display()));
            }
        }
    }
}

fn build_driver() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.parent().context("this program has no folder")?;
    let target = folder.parent().context("the target folder has no parent")?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(process::source_tree()).args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--target-dir",
    ]);
    command.arg(target).args([
        "--package",
        "sailplane-site-tests",
        "--example",
        "launch-driver",
    ]);
    process::output(&mut command)?;
    Ok(folder.join("examples/launch-driver"))
}
