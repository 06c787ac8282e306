//! The tables of `status`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use classad::ClassAd;

use super::What;
use crate::cli::table::{Column, Table};

/// What is shown, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum View {
    Slots,
    Available,
    Claimed,
    Compact,
    Schedd,
    Submitters,
    Master,
    Negotiator,
    Collector,
    Any,
    Type(String),
}

/// States in the order of HTCondor's totals.
const STATES: [&str; 7] = [
    "Owner",
    "Claimed",
    "Unclaimed",
    "Matched",
    "Preempting",
    "Drained",
    "Backfill",
];

impl View {
    pub(super) fn of(what: &What) -> Self {
        match what {
            What {
                subsystem: Some(name),
                ..
            } => Self::Type(name.clone()),
            What { compact: true, .. } => Self::Compact,
            What { claimed: true, .. } => Self::Claimed,
            What {
                available: true, ..
            } => Self::Available,
            What { schedd: true, .. } => Self::Schedd,
            What {
                submitters: true, ..
            } => Self::Submitters,
            What { master: true, .. } => Self::Master,
            What {
                negotiator: true, ..
            } => Self::Negotiator,
            What {
                collector: true, ..
            } => Self::Collector,
            What { any: true, .. } => Self::Any,
            _ => Self::Slots,
        }
    }

    /// Number of the command that asks for it (`htcondor:src/condor_includes/condor_commands.h`).
    pub(super) fn command(&self) -> i32 {
        match self {
            Self::Slots | Self::Available | Self::Claimed | Self::Compact => 5,
            Self::Schedd => 6,
            Self::Master => 7,
            Self::Submitters => 12,
            Self::Collector => 20,
            Self::Any => 48,
            Self::Negotiator => 50,
            Self::Type(_) => 74,
        }
    }

    pub(super) fn target_type(&self) -> &str {
        match self {
            Self::Slots | Self::Available | Self::Claimed | Self::Compact => "Machine",
            Self::Schedd => "Scheduler",
            Self::Master => "DaemonMaster",
            Self::Submitters => "Submitter",
            Self::Collector => "Collector",
            Self::Any => "Any",
            Self::Negotiator => "Negotiator",
            Self::Type(name) => name,
        }
    }

    /// What all of the ads must fulfil.
    pub(super) fn condition(&self) -> Option<&'static str> {
        match self {
            Self::Available => Some("State == \"Unclaimed\""),
            Self::Claimed => Some("State == \"Claimed\""),
            _ => None,
        }
    }

    /// What the table needs.
    pub(super) fn attributes(&self) -> Vec<String> {
        let names: &[&str] = match self {
            Self::Slots | Self::Available | Self::Claimed | Self::Compact => &[
                "Name",
                "Machine",
                "OpSys",
                "Arch",
                "State",
                "Activity",
                "LoadAvg",
                "Memory",
                "MyCurrentTime",
                "LastHeardFrom",
                "EnteredCurrentActivity",
                "RemoteUser",
                "RemoteOwner",
                "ClientMachine",
                "SlotID",
                "DSlotId",
                "Cpus",
                "TotalCpus",
                "TotalMemory",
                "PartitionableSlot",
                "DynamicSlot",
            ],
            _ => &[],
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The table with its totals, or the totals alone.
    pub(super) fn table(
        &self,
        ads: &[Arc<ClassAd>],
        width: Option<usize>,
        only_totals: bool,
    ) -> String {
        if ads.is_empty() {
            return String::new();
        }
        let mut text = String::new();
        if !only_totals {
            text.push_str(&self.rows(ads).render(width));
        }
        let totals = match self {
            Self::Slots | Self::Available | Self::Claimed | Self::Compact => Some(slot_totals(ads)),
            Self::Schedd | Self::Submitters => Some(job_totals(ads)),
            _ => None,
        };
        if let Some(totals) = totals {
            if !only_totals {
                text.push('\n');
            }
            text.push_str(&totals.render(width));
        }
        text
    }

    fn rows(&self, ads: &[Arc<ClassAd>]) -> Table {
        let now = unix_now();
        let mut table = Table::new(self.columns());
        if *self == Self::Compact {
            machines(ads, &mut table);
            return table;
        }
        for ad in ads {
            let text = |name: &str| ad.string(name).unwrap_or_default();
            let number = |name: &str| whole(ad, name);
            let jobs = |name: &str| {
                let total = format!("Total{name}");
                whole(ad, if ad.contains(&total) { &total } else { name })
            };
            table.row(match self {
                Self::Slots | Self::Available => vec![
                    text("Name"),
                    text("OpSys"),
                    text("Arch"),
                    text("State"),
                    text("Activity"),
                    load(ad),
                    number("Memory"),
                    activity_time(ad, now),
                ],
                Self::Claimed => vec![
                    text("Name"),
                    text("OpSys"),
                    text("Arch"),
                    load(ad),
                    ad.string("RemoteUser")
                        .unwrap_or_else(|| text("RemoteOwner")),
                    text("ClientMachine"),
                ],
                Self::Schedd | Self::Submitters => vec![
                    text("Name"),
                    text("Machine"),
                    jobs("RunningJobs"),
                    jobs("IdleJobs"),
                    jobs("HeldJobs"),
                ],
                Self::Master => vec![
                    text("Name"),
                    text("Machine"),
                    ad.int("DaemonStartTime")
                        .map_or_else(String::new, |start| span(now - start)),
                ],
                Self::Negotiator => vec![
                    text("Name"),
                    ad.int("LastNegotiationCycleEnd0")
                        .filter(|end| *end > 0)
                        .map_or_else(String::new, |end| span(now - end)),
                    number("LastNegotiationCycleDuration0"),
                    number("LastNegotiationCycleTotalSlots0"),
                    number("LastNegotiationCycleActiveSubmitterCount0"),
                    number("LastNegotiationCycleNumIdleJobs0"),
                    number("LastNegotiationCycleMatches0"),
                    number("LastNegotiationCycleRejections0"),
                ],
                Self::Collector => vec![
                    text("Name"),
                    text("Machine"),
                    number("RunningJobs"),
                    number("IdleJobs"),
                    number("HostsTotal"),
                ],
                Self::Any | Self::Type(_) | Self::Compact => vec![text("MyType"), text("Name")],
            });
        }
        table
    }

    fn columns(&self) -> Vec<Column> {
        let name = || Column::left("Name").shrinks_to(12);
        let machine = || Column::left("Machine").shrinks_to(8);
        let left = Column::left;
        let right = Column::right;
        match self {
            Self::Slots | Self::Available => vec![
                name(),
                left("OpSys"),
                left("Arch"),
                left("State"),
                left("Activity"),
                right("LoadAv"),
                right("Mem"),
                right("ActvtyTime"),
            ],
            Self::Claimed => vec![
                name(),
                left("OpSys"),
                left("Arch"),
                right("LoadAv"),
                left("RemoteUser").shrinks_to(10),
                left("ClientMachine").shrinks_to(10),
            ],
            Self::Compact => vec![
                machine(),
                left("Platform"),
                right("Slots"),
                right("Busy"),
                right("Cpus"),
                right("FreeCpus"),
                right("Mem"),
                right("FreeMem"),
            ],
            Self::Schedd | Self::Submitters => vec![
                name(),
                machine(),
                right("RunningJobs"),
                right("IdleJobs"),
                right("HeldJobs"),
            ],
            Self::Master => vec![name(), machine(), right("Uptime")],
            Self::Negotiator => vec![
                name(),
                right("SinceCycle"),
                right("(Sec)"),
                right("Slots"),
                right("Submitrs"),
                right("Jobs"),
                right("Matches"),
                right("Rejections"),
            ],
            Self::Collector => vec![
                name(),
                machine(),
                right("RunningJobs"),
                right("IdleJobs"),
                right("HostsTotal"),
            ],
            Self::Any | Self::Type(_) => vec![left("MyType"), name()],
        }
    }
}

/// Slots by platform and state.
fn slot_totals(ads: &[Arc<ClassAd>]) -> Table {
    let mut platforms: BTreeMap<String, [usize; STATES.len()]> = BTreeMap::new();
    for ad in ads {
        let state = ad.string("State").unwrap_or_default();
        if let Some(at) = STATES.iter().position(|known| *known == state)
            && let Some(count) = platforms.entry(platform(ad)).or_default().get_mut(at)
        {
            *count += 1;
        }
    }
    let mut columns = vec![Column::right(""), Column::right("Total")];
    columns.extend(STATES.map(Column::right));
    let mut table = Table::new(columns);
    let mut all = [0; STATES.len()];
    let line = |name: &str, counts: &[usize]| {
        let mut cells = vec![name.to_owned(), counts.iter().sum::<usize>().to_string()];
        cells.extend(counts.iter().map(ToString::to_string));
        cells
    };
    for (name, counts) in &platforms {
        table.row(line(name, counts));
        for (sum, count) in all.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    table.row(line("Total", &all));
    table
}

fn job_totals(ads: &[Arc<ClassAd>]) -> Table {
    let sum = |name: &str| {
        let total = format!("Total{name}");
        let one = |ad: &Arc<ClassAd>| ad.int(&total).or_else(|| ad.int(name)).unwrap_or(0);
        ads.iter().map(one).sum::<i64>().to_string()
    };
    let names = ["RunningJobs", "IdleJobs", "HeldJobs"];
    let mut columns = vec![Column::left("")];
    columns.extend(names.map(Column::right));
    let mut table = Table::new(columns);
    let mut cells = vec!["Total".to_owned()];
    cells.extend(names.map(sum));
    table.row(cells);
    table
}

/// One row for each machine.
fn machines(ads: &[Arc<ClassAd>], table: &mut Table) {
    let mut machines: BTreeMap<String, Vec<&ClassAd>> = BTreeMap::new();
    for ad in ads {
        machines
            .entry(ad.string("Machine").unwrap_or_default())
            .or_default()
            .push(ad);
    }
    for (name, slots) in &machines {
        let sum = |name: &str, wanted: fn(&ClassAd) -> bool| {
            let counted = slots.iter().filter(|ad| wanted(ad));
            counted
                .map(|ad| ad.int(name).unwrap_or(0))
                .sum::<i64>()
                .to_string()
        };
        // Of a partitionable slot only what is left is in its ad; the rest is in those of its parts.
        let free: fn(&ClassAd) -> bool = |ad| ad.string("State").as_deref() == Some("Unclaimed");
        let busy = slots
            .iter()
            .filter(|ad| ad.string("State").as_deref() == Some("Claimed"));
        table.row(vec![
            name.clone(),
            slots.first().map(|ad| platform(ad)).unwrap_or_default(),
            slots.len().to_string(),
            busy.count().to_string(),
            sum("Cpus", |_| true),
            sum("Cpus", free),
            sum("Memory", |_| true),
            sum("Memory", free),
        ]);
    }
}

fn platform(ad: &ClassAd) -> String {
    let text = |name: &str| ad.string(name).unwrap_or_default();
    format!("{}/{}", text("Arch"), text("OpSys"))
}

/// Where a slot stands among those of its machine: by number, then by name.
pub(super) fn slot_order(ad: &ClassAd) -> (i64, i64, String) {
    let number = |name: &str| ad.int(name).unwrap_or(0);
    (
        number("SlotID"),
        number("DSlotId"),
        ad.string("Name").unwrap_or_default(),
    )
}

fn whole(ad: &ClassAd, name: &str) -> String {
    ad.int(name)
        .map_or_else(String::new, |number| number.to_string())
}

fn load(ad: &ClassAd) -> String {
    ad.real("LoadAvg")
        .map_or_else(String::new, |load| format!("{load:.3}"))
}

/// How long the slot has been doing what it does: by its own clock when it said so, and the time since then.
fn activity_time(ad: &ClassAd, now: i64) -> String {
    let Some(entered) = ad.int("EnteredCurrentActivity") else {
        return String::new();
    };
    let heard = ad.int("LastHeardFrom").unwrap_or(now);
    let its_time = ad.int("MyCurrentTime").unwrap_or(heard);
    span(
        its_time
            .saturating_sub(entered)
            .saturating_add(now.saturating_sub(heard)),
    )
}

/// Seconds as days+hours:minutes:seconds.
fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    format!(
        "{days}+{:02}:{:02}:{:02}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ads(texts: &[&str]) -> Vec<Arc<ClassAd>> {
        let parse = |text: &&str| Arc::new(ClassAd::parse_old(text).unwrap());
        texts.iter().map(parse).collect()
    }

    #[test]
    fn slots_and_their_totals() {
        let now = unix_now();
        let idle = format!(
            "Name = \"slot1@a\"\nMachine = \"a\"\nOpSys = \"LINUX\"\nArch = \"X86_64\"\nState = \"Unclaimed\"\nActivity = \"Idle\"\nLoadAvg = 0.5\nMemory = 2048\nCpus = 3\nMyCurrentTime = {now}\nLastHeardFrom = {now}\nEnteredCurrentActivity = {}",
            now - 90_061
        );
        let busy = idle
            .replace("Unclaimed", "Claimed")
            .replace("slot1@a", "slot1_1@a")
            .replace("Cpus = 3", "Cpus = 1");
        let ads = ads(&[&idle, &busy]);
        let text = View::Slots.table(&ads, None, false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].starts_with("slot1@a   LINUX X86_64 Unclaimed Idle      0.500 2048 1+01:01:0"),
            "{text}"
        );
        assert!(
            lines[4].ends_with("Total Owner Claimed Unclaimed Matched Preempting Drained Backfill")
        );
        let totals: Vec<&str> = lines[6].split_whitespace().collect();
        assert_eq!(totals[..5], ["Total", "2", "0", "1", "1"]);
        let compact = View::Compact.table(&ads, None, false);
        let cells: Vec<&str> = compact.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            cells,
            ["a", "X86_64/LINUX", "2", "1", "4", "3", "4096", "2048"]
        );
        assert_eq!(View::Slots.table(&[], None, false), "");
        assert_eq!(View::Slots.table(&ads, None, true).lines().count(), 3);
    }

    #[test]
    fn job_numbers_are_added_up() {
        let ads = ads(&[
            "Name = \"s1\"\nMachine = \"a\"\nTotalRunningJobs = 3\nTotalIdleJobs = 4\nTotalHeldJobs = 0",
            "Name = \"u@x\"\nMachine = \"a\"\nRunningJobs = 1\nIdleJobs = 0\nHeldJobs = 2",
        ]);
        let text = View::Schedd.table(&ads, None, false);
        let last: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(last, ["Total", "4", "4", "2"]);
    }
}
