//! What `q`, `history`, `rm`, `hold` and `release` have in common: which jobs are meant, and how jobs are shown.

use std::fmt::Write as _;
use std::str::FromStr;

use classad::{ClassAd, Expr, Value};

use crate::JobId;
use crate::queue::Status;

/// Which jobs are meant, as given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// `12.3`
    Job(JobId),
    /// `12`
    Cluster(i32),
    /// `alice`
    User(String),
}

/// Reads one word: a job, a cluster or a user.
pub(super) fn word(text: &str) -> Result<Word, String> {
    if let Ok(job) = JobId::from_str(text) {
        return Ok(Word::Job(job));
    }
    if let Ok(cluster) = text.parse::<i32>() {
        return match cluster {
            1.. => Ok(Word::Cluster(cluster)),
            _ => Err("clusters are counted from 1".to_owned()),
        };
    }
    match text.chars().next() {
        Some(first) if first.is_ascii_digit() || first == '-' => {
            Err("neither a job (12.0), nor a cluster (12), nor a user".to_owned())
        }
        None => Err("an empty word".to_owned()),
        Some(_) => Ok(Word::User(text.to_owned())),
    }
}

/// Reads an expression.
pub(super) fn constraint(text: &str) -> Result<Expr, String> {
    Expr::parse_old(text).map_err(|error| format!("not a ClassAd expression: {error}"))
}

impl Word {
    /// The condition on a job's ad.
    pub(super) fn condition(&self) -> String {
        match self {
            Self::Job(job) => format!("(ClusterId == {} && ProcId == {})", job.cluster, job.proc),
            Self::Cluster(cluster) => format!("(ClusterId == {cluster})"),
            Self::User(user) => {
                let name = if user.contains('@') { "User" } else { "Owner" };
                let user = Expr::literal(Value::String(user.clone())).to_old();
                format!("({name} == {user})")
            }
        }
    }
}

/// The condition that all of this puts on jobs: one of the words, and all of the expressions.
pub(super) fn requirements(words: &[Word], constraints: &[Expr]) -> Expr {
    let mut conditions: Vec<String> = constraints
        .iter()
        .map(|expr| format!("({})", expr.to_old()))
        .collect();
    match words {
        [] => {}
        [one] => conditions.push(one.condition()),
        many => {
            let any: Vec<String> = many.iter().map(Word::condition).collect();
            conditions.push(format!("({})", any.join(" || ")));
        }
    }
    if conditions.is_empty() {
        return Expr::from(true);
    }
    // Made of expressions, it is one.
    Expr::parse_old(&conditions.join(" && ")).unwrap_or_else(|_| Expr::from(false))
}

/// `12.0`
pub(super) fn id(ad: &ClassAd) -> String {
    let number = |name| {
        ad.int(name)
            .map_or_else(|| "?".to_owned(), |n| n.to_string())
    };
    format!("{}.{}", number("ClusterId"), number("ProcId"))
}

/// The numbers of a job, to sort by.
pub(super) fn order(ad: &ClassAd) -> (i64, i64) {
    (
        ad.int("ClusterId").unwrap_or(0),
        ad.int("ProcId").unwrap_or(0),
    )
}

/// The owner, or a question mark.
pub(super) fn owner(ad: &ClassAd) -> String {
    ad.string("Owner").unwrap_or_else(|| "?".to_owned())
}

/// A day and a time, without the year: `11/25 15:40`.
pub(super) fn date(seconds: Option<i64>) -> String {
    seconds
        .filter(|seconds| *seconds > 0)
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(
            || "???".to_owned(),
            |time| {
                let local = time.to_zoned(jiff::tz::TimeZone::system());
                local.strftime("%m/%d %H:%M").to_string()
            },
        )
}

/// Days, hours, minutes, seconds: `1+02:03:04`.
pub(super) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    format!(
        "{days}+{:02}:{:02}:{:02}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// How long it has run, over all runs.
pub(super) fn run_time(ad: &ClassAd, now: i64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "cut to whole seconds on purpose"
    )]
    let before = ad.real("RemoteWallClockTime").unwrap_or(0.0) as i64;
    let running = status(ad).is_some_and(Status::is_active);
    let began = ad.int("ShadowBday").filter(|began| running && *began > 0);
    span(before + began.map_or(0, |began| now - began))
}

/// Its status, if the ad says.
pub(super) fn status(ad: &ClassAd) -> Option<Status> {
    ad.int("JobStatus").and_then(Status::from_number)
}

/// The letter of its status.
pub(super) fn letter(ad: &ClassAd) -> String {
    status(ad).map_or('?', Status::letter).to_string()
}

/// The program without its folder, and its arguments.
pub(super) fn command(ad: &ClassAd) -> String {
    let path = ad.string("Cmd").unwrap_or_default();
    let mut text = path.rsplit('/').next().unwrap_or_default().to_owned();
    let arguments = ad.string("Arguments").or_else(|| ad.string("Args"));
    if let Some(arguments) = arguments.filter(|arguments| !arguments.is_empty()) {
        // Writing to a string cannot fail.
        let _ = write!(text, " {arguments}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_jobs_clusters_and_users() {
        assert_eq!(word("12.3"), Ok(Word::Job(JobId::new(12, 3))));
        assert_eq!(word("12"), Ok(Word::Cluster(12)));
        assert_eq!(word("alice@x"), Ok(Word::User("alice@x".to_owned())));
        for wrong in ["0", "-1", "12.", "1.2.3", ""] {
            assert!(word(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_job_is_one_of_the_words_and_fulfils_all_conditions() {
        let words = [word("12").unwrap(), word("a\"b").unwrap()];
        let all = requirements(&words, &[constraint("x > 1 || y").unwrap()]);
        assert_eq!(
            all.to_old(),
            "(x > 1 || y) && ((ClusterId == 12) || (Owner == \"a\\\"b\"))"
        );
        assert_eq!(requirements(&[], &[]).to_old(), "true");
        let one = requirements(&words[..1], &[]);
        assert_eq!(one.to_old(), "(ClusterId == 12)");
    }

    #[test]
    fn times_are_those_of_condor_q() {
        let ad = ClassAd::parse_old("RemoteWallClockTime = 60.7\nShadowBday = 100\nJobStatus = 2")
            .unwrap();
        assert_eq!(run_time(&ad, 90_000), "1+00:59:20");
        let idle =
            ClassAd::parse_old("RemoteWallClockTime = 60.7\nShadowBday = 100\nJobStatus = 1")
                .unwrap();
        assert_eq!(run_time(&idle, 90_000), "0+00:01:00");
        assert_eq!(date(Some(0)), "???");
    }
}
