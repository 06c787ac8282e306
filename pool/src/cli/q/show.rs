//! Tables of jobs as `condor_q` prints them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use classad::ClassAd;

use super::What;
use crate::cli::jobs;
use crate::cli::table::{Column, Table};
use crate::queue::Status;

/// How jobs are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// One line for what was submitted together.
    Batches,
    /// One line for each job.
    Jobs,
    /// Held jobs with their reasons.
    Held,
    /// Running jobs with their slots.
    Running,
    /// No jobs, only numbers.
    Totals,
}

impl View {
    pub(super) fn of(what: &What) -> Self {
        if what.totals {
            Self::Totals
        } else if what.hold {
            Self::Held
        } else if what.run {
            Self::Running
        } else if what.nobatch {
            Self::Jobs
        } else {
            Self::Batches
        }
    }

    /// What must be asked for.
    pub(super) fn attributes(self) -> Vec<String> {
        let common = ["ClusterId", "ProcId", "Owner", "JobStatus", "QDate"];
        let more: &[&str] = match self {
            Self::Totals => &[],
            Self::Batches => &["JobBatchName", "Cmd", "TotalSubmitProcs"],
            Self::Jobs => &[
                "RemoteWallClockTime",
                "ShadowBday",
                "JobPrio",
                "ImageSize",
                "MemoryUsage",
                "Cmd",
                "Args",
                "Arguments",
            ],
            Self::Held => &["EnteredCurrentStatus", "HoldReason"],
            Self::Running => &["RemoteWallClockTime", "ShadowBday", "RemoteHost"],
        };
        let all = common.iter().chain(more);
        all.map(|name| (*name).to_owned()).collect()
    }

    fn table(self, ads: &[Arc<ClassAd>], now: i64) -> Option<Table> {
        Some(match self {
            Self::Totals => return None,
            Self::Batches => batches(ads),
            Self::Jobs => every(ads, now),
            Self::Held => held(ads),
            Self::Running => running(ads, now),
        })
    }
}

/// The whole page: where and when, the table, the totals.
pub(super) fn page(
    view: View,
    ads: &[Arc<ClassAd>],
    summary: &ClassAd,
    (address, now): &(String, i64),
    width: Option<usize>,
) -> String {
    let mut text = format!("-- Pool: {address} @ {}\n", stamp(*now));
    if let Some(table) = view.table(ads, *now).filter(|table| !table.is_empty()) {
        text.push_str(&table.render(width));
    }
    text.push('\n');
    text.push_str(&totals(summary));
    text
}

fn stamp(now: i64) -> String {
    jiff::Timestamp::from_second(now).map_or_else(
        |_| now.to_string(),
        |time| {
            let local = time.to_zoned(jiff::tz::TimeZone::system());
            local.strftime("%m/%d/%y %H:%M:%S").to_string()
        },
    )
}

fn every(ads: &[Arc<ClassAd>], now: i64) -> Table {
    let mut table = Table::new(vec![
        Column::right("ID"),
        Column::left("OWNER").shrinks_to(8),
        Column::left("SUBMITTED"),
        Column::right("RUN_TIME"),
        Column::left("ST"),
        Column::right("PRI"),
        Column::right("SIZE"),
        Column::left("CMD").shrinks_to(10),
    ]);
    for ad in ads {
        table.row(vec![
            jobs::id(ad),
            jobs::owner(ad),
            jobs::date(ad.int("QDate")),
            jobs::run_time(ad, now),
            jobs::letter(ad),
            ad.int("JobPrio").unwrap_or(0).to_string(),
            size(ad),
            jobs::command(ad),
        ]);
    }
    table
}

/// Memory in MB: what it used, else the size of its image.
fn size(ad: &ClassAd) -> String {
    let used = ad.real("MemoryUsage");
    let image = || ad.real("ImageSize").map(|kib| kib / 1024.0);
    format!("{:.1}", used.or_else(image).unwrap_or(0.0))
}

fn held(ads: &[Arc<ClassAd>]) -> Table {
    let mut table = Table::new(vec![
        Column::right("ID"),
        Column::left("OWNER").shrinks_to(8),
        Column::left("HELD_SINCE"),
        Column::left("HOLD_REASON"),
    ]);
    for ad in ads {
        table.row(vec![
            jobs::id(ad),
            jobs::owner(ad),
            jobs::date(ad.int("EnteredCurrentStatus")),
            ad.string("HoldReason").unwrap_or_default(),
        ]);
    }
    table
}

fn running(ads: &[Arc<ClassAd>], now: i64) -> Table {
    let mut table = Table::new(vec![
        Column::right("ID"),
        Column::left("OWNER").shrinks_to(8),
        Column::left("SUBMITTED"),
        Column::right("RUN_TIME"),
        Column::left("HOST(S)"),
    ]);
    for ad in ads {
        table.row(vec![
            jobs::id(ad),
            jobs::owner(ad),
            jobs::date(ad.int("QDate")),
            jobs::run_time(ad, now),
            ad.string("RemoteHost").unwrap_or_default(),
        ]);
    }
    table
}

/// What was submitted together, or carries one name.
#[derive(Default)]
struct Batch {
    submitted: i64,
    /// Jobs submitted, by cluster.
    sizes: BTreeMap<i64, i64>,
    in_queue: i64,
    done: i64,
    run: i64,
    idle: i64,
    hold: i64,
    first: (i64, i64),
    last: (i64, i64),
}

fn batches(ads: &[Arc<ClassAd>]) -> Table {
    // In the order of their first jobs.
    let mut order: Vec<(String, String)> = Vec::new();
    let mut found: BTreeMap<(String, String), Batch> = BTreeMap::new();
    for ad in ads {
        let (cluster, proc) = jobs::order(ad);
        let name = ad
            .string("JobBatchName")
            .unwrap_or_else(|| format!("ID: {cluster}"));
        let key = (jobs::owner(ad), name);
        let batch = found.entry(key.clone()).or_insert_with(|| {
            order.push(key);
            Batch {
                submitted: ad.int("QDate").unwrap_or(0),
                first: (cluster, proc),
                ..Batch::default()
            }
        });
        batch.last = (cluster, proc);
        batch.in_queue += 1;
        batch
            .sizes
            .insert(cluster, ad.int("TotalSubmitProcs").unwrap_or(0));
        match jobs::status(ad) {
            Some(Status::Idle) => batch.idle += 1,
            Some(Status::Held) => batch.hold += 1,
            Some(Status::Completed) => batch.done += 1,
            Some(status) if status.is_active() => batch.run += 1,
            _ => {}
        }
    }
    let any_held = found.values().any(|batch| batch.hold > 0);
    let mut columns = vec![
        Column::left("OWNER").shrinks_to(8),
        Column::left("BATCH_NAME").shrinks_to(8),
        Column::left("SUBMITTED"),
        Column::right("DONE"),
        Column::right("RUN"),
        Column::right("IDLE"),
    ];
    if any_held {
        columns.push(Column::right("HOLD"));
    }
    columns.extend([Column::right("TOTAL"), Column::left("JOB_IDS")]);
    let mut table = Table::new(columns);
    for key in order {
        let Some(batch) = found.remove(&key) else {
            continue;
        };
        let (owner, name) = key;
        let total = batch.sizes.values().sum::<i64>().max(batch.in_queue);
        // What is not in the queue any more is done.
        let done = total - batch.in_queue + batch.done;
        let mut row = vec![owner, name, jobs::date(Some(batch.submitted))];
        row.extend([done, batch.run, batch.idle].map(count));
        if any_held {
            row.push(count(batch.hold));
        }
        row.push(total.to_string());
        row.push(ids(batch.first, batch.last));
        table.row(row);
    }
    table
}

fn count(number: i64) -> String {
    match number {
        0 => "_".to_owned(),
        number => number.to_string(),
    }
}

fn ids(first: (i64, i64), last: (i64, i64)) -> String {
    if first == last {
        format!("{}.{}", first.0, first.1)
    } else if first.0 == last.0 {
        format!("{}.{}-{}", first.0, first.1, last.1)
    } else {
        format!("{}.{} ... {}.{}", first.0, first.1, last.0, last.1)
    }
}

/// The lines below the table.
fn totals(summary: &ClassAd) -> String {
    let mut text = String::new();
    let mut line = |who: &str, prefix: &str| {
        let number = |name: &str| summary.int(&format!("{prefix}{name}")).unwrap_or(0);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "Total for {who}: {} jobs; {} completed, {} removed, {} idle, {} running, {} held, {} suspended",
            number("Jobs"),
            number("Completed"),
            number("Removed"),
            number("Idle"),
            number("Running"),
            number("Held"),
            number("Suspended"),
        );
    };
    line("query", "");
    if let Some(me) = summary.string("MyName") {
        line(&me, "My");
    }
    line("all users", "Allusers");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ads(texts: &[&str]) -> Vec<Arc<ClassAd>> {
        let parse = |text: &&str| Arc::new(ClassAd::parse_old(text).unwrap());
        texts.iter().map(parse).collect()
    }

    fn words(line: &str) -> Vec<&str> {
        line.split_whitespace().collect()
    }

    #[test]
    fn what_was_submitted_together_is_one_line() {
        let ads = ads(&[
            "ClusterId = 3\nProcId = 2\nOwner = \"alice\"\nJobStatus = 1\nTotalSubmitProcs = 5",
            "ClusterId = 3\nProcId = 3\nOwner = \"alice\"\nJobStatus = 2\nTotalSubmitProcs = 5",
            "ClusterId = 3\nProcId = 4\nOwner = \"alice\"\nJobStatus = 5\nTotalSubmitProcs = 5",
            "ClusterId = 4\nProcId = 0\nOwner = \"bob\"\nJobStatus = 6\nJobBatchName = \"night\"",
            "ClusterId = 5\nProcId = 0\nOwner = \"bob\"\nJobStatus = 1\nJobBatchName = \"night\"",
        ]);
        let text = batches(&ads).render(None);
        let lines: Vec<_> = text.lines().map(words).collect();
        assert_eq!(
            lines[0],
            words("OWNER BATCH_NAME SUBMITTED DONE RUN IDLE HOLD TOTAL JOB_IDS")
        );
        assert_eq!(lines[1], words("alice ID: 3 ??? 2 1 1 1 5 3.2-4"));
        assert_eq!(lines[2], words("bob night ??? _ 1 1 _ 2 4.0 ... 5.0"));
    }

    #[test]
    fn each_job_has_its_size_and_command() {
        let ads = ads(&[
            "ClusterId = 3\nProcId = 2\nOwner = \"alice\"\nJobStatus = 1\nImageSize = 2048\nCmd = \"/bin/sleep\"\nArgs = \"60\"",
        ]);
        let text = every(&ads, 100).render(None);
        assert_eq!(
            words(text.lines().nth(1).unwrap()),
            words("3.2 alice ??? 0+00:00:00 I 0 2.0 sleep 60")
        );
    }

    #[test]
    fn totals_are_those_of_the_last_ad() {
        let summary = ClassAd::parse_old(
            "Jobs = 2\nIdle = 2\nMyName = \"alice\"\nMyJobs = 3\nMyHeld = 1\nAllusersJobs = 9",
        )
        .unwrap();
        let text = totals(&summary);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "Total for query: 2 jobs; 0 completed, 0 removed, 2 idle, 0 running, 0 held, 0 suspended"
        );
        assert!(lines[1].starts_with("Total for alice: 3 jobs") && lines[1].contains("1 held"));
        assert!(lines[2].starts_with("Total for all users: 9 jobs"));
    }
}
