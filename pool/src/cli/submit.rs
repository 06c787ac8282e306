//! `sailplane pool submit`: reads a submit file and sends the jobs to the queue.

mod files;
mod print;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use cedar::version::COMPATIBLE;
use classad::ClassAd;
use nix::unistd::getuid;

use super::connect::{PROGRAM, Pool, Target, ToolError, complain, local, run as run_tool};
use crate::config::user_name;
use crate::queue::SAILPLANE_SUBMIT;
use crate::submit::{Banner, Submission, SubmitContext, SubmitErrors, SubmitFiles, parse};

use files::{Once, Real};

/// Submit jobs.
#[derive(Debug, Clone, clap::Args)]
pub struct Submit {
    /// The submit file (- for standard input), and NAME=VALUE for macros that are set before it is read
    #[arg(value_name = "FILE|NAME=VALUE")]
    pub what: Vec<String>,
    /// A line that counts as if it stood before the first queue; may be given more than once
    #[arg(short, long, value_name = "COMMAND")]
    pub append: Vec<String>,
    /// What follows the word queue, if the file has none; takes all arguments up to the next option
    #[arg(short, long, value_name = "ARGUMENTS", num_args = 1..)]
    pub queue: Vec<String>,
    /// Send nothing; write the jobs' attributes to FILE (- for standard output)
    #[arg(long, value_name = "FILE")]
    pub dry_run: Option<PathBuf>,
    /// Do not look whether executable and input files are there
    #[arg(short = 'd', long = "disable")]
    pub disable_checks: bool,
    /// Print only the first and the last job's number
    #[arg(short, long)]
    pub terse: bool,
    /// Print the attributes of each job
    #[arg(short, long)]
    pub verbose: bool,
    /// The schedd's name; a pool of this kind has one only, and the option is there for scripts
    #[arg(short, long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where the pool is.
    #[command(flatten)]
    pub target: Target,
}

/// Submits; the status is 0 if the jobs are in the queue.
#[must_use]
pub fn run(submit: &Submit) -> ExitCode {
    run_tool(work(submit))
}

async fn work(submit: &Submit) -> Result<ExitCode, ToolError> {
    let pool = submit.target.open()?;
    let (file, assignments) = sorted(&submit.what);
    let files = Once::new(Real);
    let text = match &file {
        None => String::new(),
        Some(name) => {
            let bytes = files
                .read(name)
                .map_err(|error| local("cannot read", name.as_ref(), error))?;
            let Ok(text) = String::from_utf8(bytes) else {
                complain(&format!("{name} is no text in UTF-8"));
                return Ok(ExitCode::FAILURE);
            };
            text
        }
    };
    let name = match file.as_deref() {
        None => "-queue",
        Some("-") => "<stdin>",
        Some(name) => name,
    };
    let mut context = context(submit, &pool, assignments)?;
    // Everything that can be wrong is found before the pool is asked for anything.
    let submission = match parse(&text, name, &context, &files) {
        Ok(submission) => submission,
        Err(errors) => return Ok(refuse(&errors)),
    };
    for warning in &submission.warnings {
        print::warning(&warning.to_string());
    }
    if let Some(target) = &submit.dry_run {
        print::dry_run(target, &submission)?;
        print::submitted(submit, &submission, context.cluster, "dry-run");
        return Ok(ExitCode::SUCCESS);
    }
    let source = Source {
        text: &text,
        name,
        files: &files,
    };
    send(submit, &pool, &mut context, submission, &source).await
}

/// Where the jobs come from.
struct Source<'s> {
    text: &'s str,
    name: &'s str,
    files: &'s Once<Real>,
}

/// Two steps on one connection: the number of the cluster, with which the jobs are made again if it stands in them, and
/// then the jobs.
async fn send(
    submit: &Submit,
    pool: &Pool,
    context: &mut SubmitContext,
    mut submission: Submission,
    source: &Source<'_>,
) -> Result<ExitCode, ToolError> {
    const WHAT: &str = "the submission";
    let mut stream = pool.start(SAILPLANE_SUBMIT, WHAT).await?;
    let mut message = stream.message();
    let mut header = ClassAd::new();
    header.insert("Reserve", true);
    message.ad(&header);
    stream
        .send(message)
        .await
        .map_err(|error| pool.failed(WHAT, error))?;
    let reply = stream
        .recv()
        .await
        .map_err(|error| pool.failed(WHAT, error))?;
    context.cluster = number(&reply.reader().ad().map_err(|error| pool.malformed(error))?)?;
    if submission.uses_cluster {
        submission = match parse(source.text, source.name, context, source.files) {
            Ok(submission) => submission,
            Err(errors) => return Ok(refuse(&errors)),
        };
    }
    submission.cluster.insert("ClusterId", context.cluster);
    let mut message = stream.message();
    message.ad(&ClassAd::new());
    message.ad(&submission.cluster);
    message.int(i64::try_from(submission.procs.len()).unwrap_or(i64::MAX));
    for own in &submission.procs {
        message.ad(own);
    }
    stream
        .send(message)
        .await
        .map_err(|error| pool.failed(WHAT, error))?;
    let reply = stream
        .recv()
        .await
        .map_err(|error| pool.failed(WHAT, error))?;
    let cluster = number(&reply.reader().ad().map_err(|error| pool.malformed(error))?)?;
    print::submitted(submit, &submission, cluster, "submitted");
    Ok(ExitCode::SUCCESS)
}

/// The number of the cluster in an answer, or the pool's refusal.
fn number(answer: &ClassAd) -> Result<i32, ToolError> {
    let number = answer
        .int("ClusterId")
        .and_then(|number| i32::try_from(number).ok())
        .filter(|_| answer.int("Result") == Some(0));
    number.ok_or_else(|| {
        ToolError::Refused(
            answer.string("ErrorString").unwrap_or_else(|| {
                "the pool refused the submission and did not say why".to_owned()
            }),
        )
    })
}

fn refuse(errors: &SubmitErrors) -> ExitCode {
    for error in &errors.0 {
        complain(&format!("submit: {error}"));
    }
    ExitCode::FAILURE
}

/// The file and the assignments among the words of the command line.
fn sorted(words: &[String]) -> (Option<String>, Vec<(String, String)>) {
    let mut file = None;
    let mut assignments = Vec::new();
    for word in words {
        match word.split_once('=') {
            Some((name, value)) if condorconf::macros::is_name(name) => {
                assignments.push((name.to_owned(), value.to_owned()));
            }
            _ => file = Some(word.clone()),
        }
    }
    (file, assignments)
}

fn context(
    submit: &Submit,
    pool: &Pool,
    assignments: Vec<(String, String)>,
) -> Result<SubmitContext, ToolError> {
    let config = &pool.config;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(0);
    let cwd = std::env::current_dir().map_err(|error| local("cannot find", ".".as_ref(), error))?;
    let platform = format!(
        "$CondorPlatform: {}_{} $",
        config.string("ARCH", "X86_64")?,
        config.string("OPSYS", "LINUX")?
    );
    let queue = match submit.queue.as_slice() {
        [] => None,
        words => Some(words.join(" ")),
    };
    Ok(SubmitContext {
        cluster: 1,
        cwd: cwd.to_string_lossy().into_owned(),
        owner: user_name(),
        uid: getuid().as_raw(),
        uid_domain: config.string("UID_DOMAIN", "")?,
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect::<BTreeMap<_, _>>(),
        now: seconds,
        utc_offset: jiff::Zoned::now().offset().seconds(),
        seed: u64::from(now.subsec_nanos())
            ^ now.as_secs().rotate_left(32)
            ^ u64::from(std::process::id()),
        banner: Banner {
            version: COMPATIBLE.banner(PROGRAM),
            platform,
        },
        knobs: SubmitContext::knobs_of(config)?,
        assignments,
        appended: submit.append.clone(),
        queue,
        check_files: !submit.disable_checks,
    })
}

/// Jobs of a submission.
fn count(submission: &Submission) -> usize {
    submission.procs.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_a_name_before_an_equals_sign_are_macros() {
        let words = ["a.sub", "N=3", "x.y=z=1", "dir/with=sign/b.sub"].map(str::to_owned);
        let (file, assignments) = sorted(&words);
        assert_eq!(file.as_deref(), Some("a.sub"));
        assert_eq!(
            assignments,
            [("N", "3"), ("x.y", "z=1"), ("dir/with", "sign/b.sub")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn an_answer_without_a_number_is_a_refusal() {
        let mut answer = ClassAd::new();
        answer.insert("Result", 1);
        answer.insert("ErrorString", "no");
        assert_eq!(number(&answer).unwrap_err().to_string(), "no");
        answer.insert("Result", 0);
        answer.insert("ClusterId", 7);
        assert_eq!(number(&answer).unwrap(), 7);
    }
}
