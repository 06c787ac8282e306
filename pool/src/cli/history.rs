//! `sailplane pool history`: the jobs that left the queue.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use classad::{ClassAd, Expr};

use super::ads::AdOutput;
use super::connect::{self, Pool, Target, ToolError};
use super::jobs::{self, Word};
use super::table::{Column, Table, terminal_width};
use crate::queue::QUERY_SCHEDD_HISTORY;

const WHAT: &str = "the question about the history";

/// Show the jobs that left the queue, the last one first
///
/// HTCondor's spellings with one dash (-constraint, -af, -limit, ...) are understood as well.
#[derive(Debug, Clone, clap::Args)]
pub struct History {
    /// Which pool.
    #[command(flatten)]
    pub target: Target,
    /// Jobs (12.0), clusters (12) and users
    #[arg(value_name = "JOB", value_parser = jobs::word)]
    words: Vec<Word>,
    /// How ads are printed.
    #[command(flatten)]
    pub output: AdOutput,
    /// Only jobs for which this expression is true
    #[arg(long, value_name = "EXPRESSION", value_parser = jobs::constraint, allow_hyphen_values = true)]
    pub constraint: Vec<Expr>,
    /// No more jobs than this
    #[arg(long, alias = "match", value_name = "NUMBER")]
    pub limit: Option<u32>,
    /// The first one first
    #[arg(long)]
    pub forwards: bool,
}

/// What the table needs.
const TABLE: [&str; 11] = [
    "ClusterId",
    "ProcId",
    "Owner",
    "QDate",
    "RemoteWallClockTime",
    "ShadowBday",
    "JobStatus",
    "CompletionDate",
    "Cmd",
    "Args",
    "Arguments",
];

/// Runs it.
pub fn run(history: History) -> ExitCode {
    connect::run(async move {
        let pool = history.target.open()?;
        let ads = ask(&pool, &query(&history)).await?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        let written = if history.output.is_table() {
            let text = table(&ads).render(terminal_width());
            out.write_all(text.as_bytes())
        } else {
            history.output.print(&ads, &mut out)
        };
        match written.and_then(|()| out.flush()) {
            // Whoever reads us has had enough.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(ToolError::Local {
                what: "cannot write the answer".to_owned(),
                source: error,
            }),
            _ => Ok(ExitCode::SUCCESS),
        }
    })
}

fn query(history: &History) -> ClassAd {
    let mut ad = ClassAd::new();
    let requirements = jobs::requirements(&history.words, &history.constraint);
    ad.insert("Requirements", requirements);
    ad.insert("NumJobMatches", history.limit.map_or(-1, i64::from));
    ad.insert("StreamResults", true);
    if history.forwards {
        ad.insert("HistoryReadForwards", true);
    }
    let names = if history.output.is_table() {
        TABLE.map(str::to_owned).to_vec()
    } else {
        history.output.projection()
    };
    if !names.is_empty() {
        ad.insert("Projection", names.join(","));
    }
    ad
}

async fn ask(pool: &Pool, query: &ClassAd) -> Result<Vec<Arc<ClassAd>>, ToolError> {
    let failed = |error| pool.failed(WHAT, error);
    let mut stream = pool.start(QUERY_SCHEDD_HISTORY, WHAT).await?;
    let mut message = stream.message();
    message.ad(query);
    stream.send(message).await.map_err(failed)?;
    let mut ads = Vec::new();
    loop {
        let message = stream.recv().await.map_err(failed)?;
        let ad = message
            .reader()
            .ad()
            .map_err(|error| pool.malformed(error))?;
        // Jobs have a name there, the first and the last ad a number.
        match ad
            .get("Owner")
            .and_then(Expr::as_literal)
            .and_then(|value| value.as_int())
        {
            Some(0) => {
                return match ad.string("ErrorString") {
                    Some(why) => Err(ToolError::Refused(why)),
                    None => Ok(ads),
                };
            }
            Some(_) => {}
            None => ads.push(Arc::new(ad)),
        }
    }
}

fn table(ads: &[Arc<ClassAd>]) -> Table {
    let mut table = Table::new(vec![
        Column::right("ID"),
        Column::left("OWNER").shrinks_to(8),
        Column::left("SUBMITTED"),
        Column::right("RUN_TIME"),
        Column::left("ST"),
        Column::left("COMPLETED"),
        Column::left("CMD").shrinks_to(10),
    ]);
    for ad in ads {
        table.row(vec![
            jobs::id(ad),
            jobs::owner(ad),
            jobs::date(ad.int("QDate")),
            jobs::run_time(ad, 0),
            jobs::letter(ad),
            jobs::date(ad.int("CompletionDate")),
            jobs::command(ad),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_condor_history() {
        let done = "ClusterId = 3\nProcId = 1\nOwner = \"alice\"\nRemoteWallClockTime = 61.0\nJobStatus = 4\nCmd = \"/bin/sleep\"\nArguments = \"60\"";
        let removed = "ClusterId = 2\nProcId = 0\nOwner = \"bob\"\nJobStatus = 3\nCompletionDate = 0\nCmd = \"x\"";
        let ads = [done, removed].map(|text| Arc::new(ClassAd::parse_old(text).unwrap()));
        let text = table(&ads).render(None);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].split_whitespace().eq([
            "ID",
            "OWNER",
            "SUBMITTED",
            "RUN_TIME",
            "ST",
            "COMPLETED",
            "CMD"
        ]));
        assert!(lines[1].split_whitespace().eq([
            "3.1",
            "alice",
            "???",
            "0+00:01:01",
            "C",
            "???",
            "sleep",
            "60"
        ]));
        assert!(lines[2].split_whitespace().eq([
            "2.0",
            "bob",
            "???",
            "0+00:00:00",
            "X",
            "???",
            "x"
        ]));
    }
}
