//! `sailplane pool q`: the jobs in the queue.

mod analyze;
mod show;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use classad::{ClassAd, Expr};

use self::show::View;
use super::ads::AdOutput;
use super::connect::{self, Pool, Target, ToolError};
use super::jobs::{self, Word};
use crate::queue::{QUERY_JOB_ADS_WITH_AUTH, Status};

const WHAT: &str = "the question about the queue";

/// Show the jobs in the queue: your own, or those you name
///
/// HTCondor's spellings with one dash (-nobatch, -constraint, -af, ...) are understood as well.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  sailplane pool q --nobatch\n  sailplane pool q 12 --autoformat ProcId JobStatus\n  sailplane pool q --analyze 12.0"
)]
pub struct Q {
    /// Which pool.
    #[command(flatten)]
    pub target: Target,
    /// Jobs (12.0), clusters (12) and users
    #[arg(value_name = "JOB", value_parser = jobs::word)]
    words: Vec<Word>,
    /// Which jobs are shown, and how.
    #[command(flatten)]
    pub what: What,
    /// How ads are printed.
    #[command(flatten)]
    pub output: AdOutput,
    /// Only jobs for which this expression is true
    #[arg(long, value_name = "EXPRESSION", value_parser = jobs::constraint, allow_hyphen_values = true)]
    pub constraint: Vec<Expr>,
    /// No more jobs than this
    #[arg(long, value_name = "NUMBER")]
    pub limit: Option<u32>,
}

/// Which jobs are shown, and how.
#[derive(Debug, Clone, Default, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own on the command line"
)]
pub struct What {
    /// Everybody's jobs
    #[arg(long, visible_alias = "all-users", alias = "all")]
    pub allusers: bool,
    /// One line for each job
    #[arg(long)]
    pub nobatch: bool,
    /// Held jobs, and why
    #[arg(long, alias = "held", conflicts_with_all = ["run", "totals"])]
    pub hold: bool,
    /// Running jobs, and where
    #[arg(long, conflicts_with = "totals")]
    pub run: bool,
    /// Only the numbers of jobs
    #[arg(long)]
    pub totals: bool,
    /// Say of each job why it does not run
    #[arg(long, visible_alias = "better-analyze", conflicts_with_all = ["hold", "run", "totals", "form"])]
    pub analyze: bool,
}

/// Runs it.
pub fn run(q: Q) -> ExitCode {
    connect::run(async move {
        let pool = q.target.open()?;
        let (mut ads, summary) = ask(&pool, &query(&q)).await?;
        ads.sort_by_cached_key(|ad| jobs::order(ad));
        let text = if q.what.analyze {
            analyze::explain(&pool, &ads).await?
        } else if q.output.is_table() {
            let now = jiff::Timestamp::now().as_second();
            let view = View::of(&q.what);
            let place = (pool.address.to_string(), now);
            show::page(view, &ads, &summary, &place, super::table::terminal_width())
        } else {
            let mut text = Vec::new();
            // Into memory it cannot fail.
            let _ = q.output.print(&ads, &mut text);
            String::from_utf8_lossy(&text).into_owned()
        };
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // Whoever reads us has had enough.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(ToolError::Local {
                what: "cannot write the answer".to_owned(),
                source: error,
            }),
            _ => Ok(ExitCode::SUCCESS),
        }
    })
}

fn query(q: &Q) -> ClassAd {
    let mut conditions = q.constraint.clone();
    let is = |status: Status| Expr::parse_old(&format!("JobStatus == {}", status.number()));
    if q.what.hold {
        conditions.extend(is(Status::Held));
    } else if q.what.run {
        conditions.extend(Expr::parse_old(
            "JobStatus == 2 || JobStatus == 6 || JobStatus == 7",
        ));
    }
    let mut ad = ClassAd::new();
    ad.insert("Requirements", jobs::requirements(&q.words, &conditions));
    // Whoever names jobs wants those, whosever they are.
    if q.words.is_empty() && !q.what.allusers {
        ad.insert("MyJobs", true);
    }
    if let Some(limit) = q.limit {
        ad.insert("LimitResults", limit);
    }
    ad.insert("SendServerTime", false);
    if q.what.totals && q.output.is_table() {
        ad.insert("SummaryOnly", true);
    }
    let names = if q.what.analyze {
        Vec::new()
    } else if q.output.is_table() {
        View::of(&q.what).attributes()
    } else {
        q.output.projection()
    };
    if !names.is_empty() {
        ad.insert("Projection", names.join(" "));
    }
    ad
}

/// The jobs, and the ad with the totals.
async fn ask(pool: &Pool, query: &ClassAd) -> Result<(Vec<Arc<ClassAd>>, ClassAd), ToolError> {
    let failed = |error| pool.failed(WHAT, error);
    let mut stream = pool.start(QUERY_JOB_ADS_WITH_AUTH, WHAT).await?;
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
        // A job's owner is a name; a number marks the last ad.
        let owner = ad.get("Owner").and_then(Expr::as_literal);
        if owner.is_none_or(|owner| owner.as_int().is_none()) {
            ads.push(Arc::new(ad));
            continue;
        }
        return match ad.string("ErrorString") {
            Some(why) => Err(ToolError::Refused(why)),
            None => Ok((ads, ad)),
        };
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        q: Q,
    }

    fn query_of(words: &[&str]) -> ClassAd {
        let all = std::iter::once(&"q").chain(words);
        query(&Program::try_parse_from(all).unwrap().q)
    }

    #[test]
    fn own_jobs_unless_others_are_named() {
        assert_eq!(query_of(&[]).bool("MyJobs"), Some(true));
        for words in [&["--allusers"][..], &["12"], &["bob"]] {
            assert!(!query_of(words).contains("MyJobs"), "{words:?}");
        }
        let ad = query_of(&["12.1", "--hold", "--constraint", "x"]);
        assert_eq!(
            ad.get("Requirements").unwrap().to_old(),
            "(x) && (JobStatus == 5) && (ClusterId == 12 && ProcId == 1)"
        );
    }

    #[test]
    fn whole_ads_are_asked_for_only_if_they_are_shown() {
        assert!(
            query_of(&["--nobatch"])
                .string("Projection")
                .unwrap()
                .contains("Cmd")
        );
        assert_eq!(
            query_of(&["--autoformat", "Iwd"])
                .string("Projection")
                .unwrap(),
            "Iwd"
        );
        assert!(!query_of(&["--long"]).contains("Projection"));
        assert!(!query_of(&["--analyze", "1.0"]).contains("Projection"));
    }
}
