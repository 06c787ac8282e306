//! The same submit files given to `condor_submit` on a real pool and to `sailplane pool submit` on the embedded one, and
//! the jobs in the two queues compared, attribute by attribute.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sailplane_site_tests::{EmbeddedOptions, EmbeddedPool, Pool, PoolOptions, process, say};
use serde_json::{Map, Value};

/// Attributes that differ by nature, and why.
const DIFFERENT: &[(&str, &str)] = &[
    (
        "AuthTokenId",
        "the token with which condor_submit proved its user; ours proved it without one",
    ),
    ("AuthTokenIssuer", "as AuthTokenId"),
    ("AuthTokenSubject", "as AuthTokenId"),
    (
        "AutoClusterAttrs",
        "which attributes tell jobs apart is each pool's own affair",
    ),
    ("AutoClusterId", "a number of each pool's own"),
    ("CondorPlatform", "names the program that submitted"),
    ("CondorVersion", "names the program that submitted"),
    ("EnteredCurrentStatus", "a time"),
    ("GlobalJobId", "holds the schedd's name and a time"),
    ("OsUser", "the two pools have other users and domains"),
    ("Owner", "the two pools have other users and domains"),
    ("QDate", "a time"),
    ("ServerTime", "a time"),
    ("User", "the two pools have other users and domains"),
    (
        "AcctGroupUser",
        "is the user where the file does not name one",
    ),
    (
        "AccountingGroup",
        "ends with the user where the file does not name one",
    ),
    ("LastJobStatus", "set when a status changes"),
];

/// Submit files that cannot be compared here, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "getenv-true",
        "the two tools are started with other environments",
    ),
    (
        "getenv-list",
        "the two tools are started with other environments",
    ),
    (
        "macros",
        "the two tools are started with other environments",
    ),
    (
        "no-executable-transfer-absolute",
        "programs of the host and of HTCondor's tree have other sizes",
    ),
    (
        "nothing-but-sleep",
        "programs of the host and of HTCondor's tree have other sizes",
    ),
];

type Attributes = Map<String, Value>;

fn corpus() -> PathBuf {
    process::source_tree().join("pool/tests/submit")
}

/// A copy of the corpus from which the pools' users submit.
fn copy(to: &Path, owner: (nix::unistd::Uid, nix::unistd::Gid)) -> Result<()> {
    process::output(Command::new("cp").args(["-r", "--"]).arg(corpus()).arg(to))?;
    process::output(
        Command::new("chown")
            .args(["-R", &format!("{}:{}", owner.0, owner.1)])
            .arg(to),
    )?;
    Ok(())
}

fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(corpus())? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        if path.extension().is_some_and(|end| end == "sub")
            && let Some(name) = name
            && !LEFT_OUT.iter().any(|(left_out, _)| *left_out == name)
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// `12.0 - 12.3` as the number of the cluster.
fn cluster(said: &str) -> Result<u64> {
    let number = said
        .trim()
        .lines()
        .last()
        .and_then(|line| line.split('.').next());
    number
        .and_then(|number| number.trim().parse().ok())
        .with_context(|| format!("the tool said {said:?}"))
}

/// All jobs of a queue by cluster, in the order of their numbers.
fn by_cluster(json: &str) -> Result<BTreeMap<u64, Vec<Attributes>>> {
    let mut clusters: BTreeMap<u64, Vec<Attributes>> = BTreeMap::new();
    let jobs: Vec<Attributes> = serde_json::from_str(json).context("read condor_q's answer")?;
    for job in jobs {
        let number = job.get("ClusterId").and_then(Value::as_u64);
        clusters
            .entry(number.context("a job without ClusterId")?)
            .or_default()
            .push(job);
    }
    for jobs in clusters.values_mut() {
        jobs.sort_by_key(|job| job.get("ProcId").and_then(Value::as_u64));
    }
    Ok(clusters)
}

fn differences(name: &str, ours: &[Attributes], theirs: &[Attributes]) -> Vec<String> {
    if ours.len() != theirs.len() {
        return vec![format!("{name}: {} jobs, not {}", ours.len(), theirs.len())];
    }
    let fold = |job: &Attributes| -> BTreeMap<String, Value> {
        job.iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .collect()
    };
    let mut found = Vec::new();
    for (number, (our, their)) in ours.iter().zip(theirs).enumerate() {
        let (our, their) = (fold(our), fold(their));
        let all: BTreeSet<&String> = our.keys().chain(their.keys()).collect();
        for attribute in all {
            let excused = DIFFERENT
                .iter()
                .any(|(different, _)| different.eq_ignore_ascii_case(attribute));
            if !excused && our.get(attribute) != their.get(attribute) {
                found.push(format!(
                    "{name} job {number} {attribute}: ours {}, theirs {}",
                    our.get(attribute).unwrap_or(&Value::Null),
                    their.get(attribute).unwrap_or(&Value::Null)
                ));
            }
        }
    }
    found
}

#[test]
fn the_same_files_give_the_same_jobs() {
    if let Some(reason) = process::obstacle() {
        say(&format!("submissions not run: {reason}"));
        return;
    }
    crate::judge("submissions", play());
}

fn play() -> Result<()> {
    let domain = "FILESYSTEM_DOMAIN=files.submissions.test".to_owned();
    let real = Pool::raise(&PoolOptions {
        name: "submissions".to_owned(),
        // Jobs are to be seen as they were submitted.
        knobs: vec![
            domain.clone(),
            "SUBMIT_SKIP_FILECHECKS=true".to_owned(),
            "PERIODIC_EXPR_INTERVAL=3600".to_owned(),
        ],
        ..PoolOptions::default()
    })?;
    let ours = EmbeddedPool::raise(&EmbeddedOptions {
        name: "submissions".to_owned(),
        knobs: vec![
            domain,
            "PERIODIC_EXPR_INTERVAL=3600".to_owned(),
            "SCHEDD_INTERVAL=2".to_owned(),
        ],
        ..EmbeddedOptions::default()
    })?;
    let folder = real.folder("alice")?.join("corpus");
    copy(&folder, real.owner())?;
    let mut pairs = Vec::new();
    for name in names()? {
        let file = format!("{name}.sub");
        let mut command = real.tool_command("alice", "condor_submit", ["-terse", &file]);
        let theirs = cluster(&process::output(command.current_dir(&folder))?)?;
        let mut command = ours.command(["submit", "--terse", &file]);
        let our = cluster(&process::output(command.current_dir(&folder))?)?;
        ensure!(our == theirs, "{name}: cluster {our}, not {theirs}");
        pairs.push((name, our));
    }
    let their_jobs = by_cluster(&real.tool("admin", "condor_q", ["-all", "-json"])?)?;
    let our_jobs = by_cluster(&ours.tool("admin", "condor_q", ["-all", "-json"])?)?;
    let mut wrong = Vec::new();
    for (name, cluster) in &pairs {
        let jobs = |of: &BTreeMap<u64, Vec<Attributes>>| of.get(cluster).cloned();
        wrong.extend(differences(
            name,
            &jobs(&our_jobs).with_context(|| format!("{name} is not in our queue"))?,
            &jobs(&their_jobs).with_context(|| format!("{name} is not in the real queue"))?,
        ));
    }
    ensure!(pairs.len() >= 60, "only {} submit files", pairs.len());
    ensure!(
        wrong.is_empty(),
        "{} differences:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

/// A job's event log is what HTCondor's own `condor_wait` reads, and its bindings where this machine has them.
#[test]
fn condor_wait_reads_the_event_log() {
    if let Some(reason) = process::obstacle() {
        say(&format!("event_log not run: {reason}"));
        return;
    }
    crate::judge("event_log", play_log());
}

fn play_log() -> Result<()> {
    let pool = EmbeddedPool::raise(&EmbeddedOptions {
        name: "event-log".to_owned(),
        ..EmbeddedOptions::default()
    })?;
    let folder = pool.folder("alice")?;
    let log = folder.join("job.log");
    let file = folder.join("job.sub");
    fs::write(
        &file,
        "executable = /bin/true\ntransfer_executable = false\nlog = job.log\njob_ad_information_attrs = Cmd\nqueue 2\n",
    )?;
    let mut command = pool.command(["submit", "--terse", "job.sub"]);
    let number = cluster(&process::output(command.current_dir(&folder))?)?.to_string();
    for action in ["hold", "release", "rm"] {
        pool.run([action, number.as_str()])?;
    }
    let path = log.display().to_string();
    // It ends when all jobs of the log have left the queue.
    let said = pool.tool("alice", "condor_wait", ["-wait", "30", path.as_str()])?;
    ensure!(said.contains("All jobs done."), "condor_wait said {said:?}");
    let text = fs::read_to_string(&log)?;
    let order = ["000 (", "012 (", "013 (", "009 ("].map(|head| text.find(head));
    ensure!(
        order.iter().all(Option::is_some) && order.is_sorted(),
        "the events are not in order:\n{text}"
    );
    bindings(&path, &text)
}

/// HTCondor's Python bindings see every event.
fn bindings(path: &str, text: &str) -> Result<()> {
    const SCRIPT: &str = "import sys, htcondor\n\
        for event in htcondor.JobEventLog(sys.argv[1]).events(stop_after=0):\n    print(int(event.type))";
    let python = std::env::var("SAILPLANE_HTCONDOR_PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python)
        .args(["-c", "import htcondor"])
        .output();
    if !there.is_ok_and(|output| output.status.success()) {
        say(
            "the event log is not read with HTCondor's bindings: python3 here has no module htcondor",
        );
        return Ok(());
    }
    let seen = process::output(Command::new(&python).args(["-c", SCRIPT, path]))?;
    let seen: Vec<u32> = seen.lines().filter_map(|line| line.parse().ok()).collect();
    let heads = text
        .split("\n...\n")
        .filter_map(|event| event.get(..3)?.parse::<u32>().ok());
    let written: Vec<u32> = heads.collect();
    ensure!(
        seen == written,
        "the bindings saw {seen:?}, written were {written:?}"
    );
    Ok(())
}
