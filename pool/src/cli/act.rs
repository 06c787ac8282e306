//! `sailplane pool rm`, `hold`, `release`: what users do to their jobs.

use std::process::ExitCode;

use classad::{ClassAd, Expr};

use super::connect::{self, Pool, Target, ToolError};
use super::jobs::{self, Word};
use crate::JobId;
use crate::queue::{ACT_ON_JOBS, ActResult, Action};

const WHAT: &str = "the request";

/// `OK` (`htcondor:src/condor_includes/condor_constants.h`).
const OK: i64 = 1;

/// Which jobs, and why
///
/// HTCondor's spellings with one dash (-constraint, -all, -reason) are understood as well.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  sailplane pool rm 12 13.4\n  sailplane pool hold --constraint 'JobPrio < 0' --reason 'not tonight'"
)]
pub struct Act {
    /// Which pool.
    #[command(flatten)]
    pub target: Target,
    /// Jobs (12.0), clusters (12) and users
    #[arg(value_name = "JOB", value_parser = jobs::word, required_unless_present_any = ["all", "constraint"])]
    words: Vec<Word>,
    /// All jobs that you may act on
    #[arg(long, conflicts_with_all = ["words", "constraint"])]
    pub all: bool,
    /// Jobs for which this expression is true
    #[arg(long, value_name = "EXPRESSION", value_parser = jobs::constraint, allow_hyphen_values = true)]
    pub constraint: Vec<Expr>,
    /// Why; it is shown with the job
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// With rm: forget the job at once, even if its slot does not answer
    #[arg(long)]
    pub forcex: bool,
}

/// Runs it; `action` is [`Action::Remove`], [`Action::Hold`] or [`Action::Release`].
pub fn run(action: Action, act: Act) -> ExitCode {
    let action = match action {
        Action::Remove if act.forcex => Action::RemoveByForce,
        action => action,
    };
    connect::run(async move {
        let pool = act.target.open()?;
        let mut any = false;
        for request in requests(&act) {
            let answer = ask(&pool, action, &request, act.reason.as_deref()).await?;
            any |= answer.int("ActionResult") == Some(OK);
            for (good, line) in tell(action, &request, &answer) {
                if good {
                    print(&line);
                } else {
                    connect::complain(&line);
                }
            }
        }
        Ok(if any {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })
}

#[expect(clippy::print_stdout, reason = "the tool's answer")]
fn print(line: &str) {
    println!("{line}");
}

/// What is asked of the pool at once.
#[derive(Debug, Clone)]
enum Request {
    Jobs(Vec<JobId>),
    /// Jobs for which the expression is true, and what to call them.
    Matching(Expr, String),
}

fn requests(act: &Act) -> Vec<Request> {
    if act.all {
        return vec![Request::Matching(
            Expr::from(true),
            "in the queue".to_owned(),
        )];
    }
    let mut list = Vec::new();
    if act.words.is_empty() {
        let text: Vec<String> = act.constraint.iter().map(Expr::to_old).collect();
        let which = format!("with {}", text.join(" and "));
        list.push(Request::Matching(
            jobs::requirements(&[], &act.constraint),
            which,
        ));
        return list;
    }
    let mut single = Vec::new();
    for word in &act.words {
        let which = match word {
            Word::Job(job) if act.constraint.is_empty() => {
                single.push(*job);
                continue;
            }
            Word::Job(job) => format!("with number {job}"),
            Word::Cluster(cluster) => format!("of cluster {cluster}"),
            Word::User(user) => format!("of {user}"),
        };
        let expr = jobs::requirements(std::slice::from_ref(word), &act.constraint);
        list.push(Request::Matching(expr, which));
    }
    if !single.is_empty() {
        list.push(Request::Jobs(single));
    }
    list
}

async fn ask(
    pool: &Pool,
    action: Action,
    request: &Request,
    reason: Option<&str>,
) -> Result<ClassAd, ToolError> {
    let mut ad = ClassAd::new();
    ad.insert("JobAction", action.number());
    match request {
        Request::Jobs(jobs) => {
            let ids: Vec<String> = jobs.iter().map(JobId::to_string).collect();
            ad.insert("ActionIds", ids.join(","));
            ad.insert("ActionResultType", 1);
        }
        Request::Matching(expr, _) => {
            ad.insert("ActionConstraint", expr.clone());
            ad.insert("ActionResultType", 2);
        }
    }
    if let Some(reason) = reason {
        let name = match action {
            Action::Hold => "HoldReason",
            Action::Release => "ReleaseReason",
            _ => "RemoveReason",
        };
        ad.insert(name, reason);
    }
    let failed = |error| pool.failed(WHAT, error);
    let mut stream = pool.start(ACT_ON_JOBS, WHAT).await?;
    let mut message = stream.message();
    message.ad(&ad);
    stream.send(message).await.map_err(failed)?;
    let answer = stream.recv().await.map_err(failed)?;
    let answer = answer
        .reader()
        .ad()
        .map_err(|error| pool.malformed(error))?;
    if answer.int("ActionResult") != Some(OK) {
        if let Some(why) = answer.string("ErrorString") {
            return Err(ToolError::Refused(why));
        }
        return Ok(answer);
    }
    let mut message = stream.message();
    message.int(OK);
    stream.send(message).await.map_err(failed)?;
    stream.recv().await.map_err(failed)?;
    Ok(answer)
}

/// What to say: good news and bad.
fn tell(action: Action, request: &Request, answer: &ClassAd) -> Vec<(bool, String)> {
    match request {
        Request::Jobs(jobs) => {
            let one = |job: &JobId| {
                let number = answer.int(&format!("job_{}_{}", job.cluster, job.proc));
                let good = number == Some(ActResult::Success.number());
                (good, sentence(action, *job, number.unwrap_or(0)))
            };
            jobs.iter().map(one).collect()
        }
        Request::Matching(_, which) => {
            let count = |result: ActResult| {
                answer
                    .int(&format!("result_total_{}", result.number()))
                    .unwrap_or(0)
            };
            let done = count(ActResult::Success);
            let mut list = Vec::new();
            if done > 0 {
                list.push((
                    true,
                    format!("{} {which} {}", jobs_in_words(done), past(action)),
                ));
            }
            let denied = count(ActResult::PermissionDenied);
            if denied > 0 {
                let text = format!(
                    "{} {which} not {}: not yours",
                    jobs_in_words(denied),
                    past(action)
                );
                list.push((false, text));
            }
            let rest = count(ActResult::BadStatus) + count(ActResult::AlreadyDone);
            if rest > 0 {
                let text = format!("{} {which} left as they are", jobs_in_words(rest));
                list.push((false, text));
            }
            if list.is_empty() {
                list.push((
                    false,
                    format!("there is no job {which} that could be {}", past(action)),
                ));
            }
            list
        }
    }
}

fn jobs_in_words(count: i64) -> String {
    match count {
        1 => "1 job".to_owned(),
        count => format!("{count} jobs"),
    }
}

fn past(action: Action) -> &'static str {
    match action {
        Action::Hold => "held",
        Action::Release => "released",
        Action::Remove => "marked for removal",
        Action::RemoveByForce => "removed by force",
        Action::Vacate | Action::VacateFast => "vacated",
    }
}

fn sentence(action: Action, job: JobId, result: i64) -> String {
    let is = |one: ActResult| one.number() == result;
    if is(ActResult::Success) {
        format!("job {job} {}", past(action))
    } else if is(ActResult::NotFound) {
        format!("job {job} is not in the queue")
    } else if is(ActResult::PermissionDenied) {
        format!("job {job} is not yours")
    } else if is(ActResult::AlreadyDone) {
        format!("job {job} was {} before", past(action))
    } else if is(ActResult::BadStatus) {
        match action {
            Action::Release => format!("job {job} is not held"),
            Action::RemoveByForce => {
                format!("job {job} must be removed before it can be forgotten by force")
            }
            _ => format!("job {job} is not in a state to be {}", past(action)),
        }
    } else {
        format!("job {job}: the pool does not say what came of it")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        act: Act,
    }

    fn act(words: &[&str]) -> Result<Act, clap::Error> {
        let all = std::iter::once(&"rm").chain(words);
        Ok(Program::try_parse_from(all)?.act)
    }

    #[test]
    fn nothing_and_everything_must_be_said() {
        assert!(act(&[]).is_err());
        assert!(act(&["--all", "12"]).is_err());
        assert!(act(&["12."]).is_err());
        let list = requests(&act(&["12.0", "12.1", "13", "bob"]).unwrap());
        assert!(matches!(&list[..], [
            Request::Matching(cluster, _),
            Request::Matching(user, _),
            Request::Jobs(jobs),
        ] if jobs.len() == 2 && cluster.to_old() == "(ClusterId == 13)" && user.to_old() == "(Owner == \"bob\")"));
        let list = requests(&act(&["12.0", "--constraint", "x > 1"]).unwrap());
        assert!(matches!(&list[..], [Request::Matching(expr, _)]
            if expr.to_old() == "(x > 1) && (ClusterId == 12 && ProcId == 0)"));
    }

    #[test]
    fn every_result_has_its_sentence() {
        let answer = ClassAd::parse_old("job_1_0 = 1\njob_1_1 = 2\njob_1_2 = 5").unwrap();
        let jobs = Request::Jobs((0..4).map(|proc| JobId::new(1, proc)).collect());
        let told = tell(Action::Hold, &jobs, &answer);
        assert_eq!(told[0], (true, "job 1.0 held".to_owned()));
        assert_eq!(told[1], (false, "job 1.1 is not in the queue".to_owned()));
        assert_eq!(told[2].1, "job 1.2 is not yours");
        assert!(!told[3].0);
        let matching = Request::Matching(Expr::from(true), "of cluster 7".to_owned());
        let totals = ClassAd::parse_old("result_total_1 = 2\nresult_total_5 = 1").unwrap();
        let told = tell(Action::Remove, &matching, &totals);
        assert_eq!(told[0].1, "2 jobs of cluster 7 marked for removal");
        assert_eq!(
            told[1].1,
            "1 job of cluster 7 not marked for removal: not yours"
        );
        let told = tell(Action::Release, &matching, &ClassAd::new());
        assert_eq!(
            told,
            [(
                false,
                "there is no job of cluster 7 that could be released".to_owned()
            )]
        );
    }
}
