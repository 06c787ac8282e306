//! What a submission must be like before it is taken.

use classad::{ClassAd, Expr, Value};

use super::error::SubmitError;
use super::run::Status;

/// Attributes that the queue sets itself; a submitter's values are dropped.
const OURS: [&str; 18] = [
    "ClusterId",
    "User",
    "OsUser",
    "GlobalJobId",
    "AutoClusterId",
    "AutoClusterAttrs",
    "RemoteHost",
    "LastRemoteHost",
    "ShadowBday",
    "PublicClaimId",
    "StartdIpAddr",
    "JobStartDate",
    "JobCurrentStartDate",
    "JobCurrentStartExecutingDate",
    "JobLastStartDate",
    "CumulativeRemoteUserCpu",
    "CumulativeRemoteSysCpu",
    "ServerTime",
];

/// Code of jobs submitted on hold (`htcondor:src/condor_utils/condor_holdcodes.h`).
const SUBMITTED_ON_HOLD: i64 = 15;

/// `CONDOR_UNIVERSE_VANILLA` (`htcondor:src/condor_utils/condor_universe.h`).
const VANILLA: i64 = 5;

/// A submission in the form in which it is stored.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) cluster: ClassAd,
    pub(super) procs: Vec<ClassAd>,
}

/// What the queue knows and the submitter does not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// User part of the authenticated identity.
    pub(super) owner: &'a str,
    pub(super) uid_domain: &'a str,
    pub(super) max_ad_bytes: usize,
    pub(super) now: i64,
}

/// Checks a submission and adds what the queue adds, but for the job numbers.
pub(super) fn prepare(
    cluster: ClassAd,
    procs: Vec<ClassAd>,
    facts: Facts<'_>,
) -> Result<Prepared, SubmitError> {
    if procs.is_empty() {
        return Err(SubmitError::BadJob("a submission without jobs".to_owned()));
    }
    let mut cluster = without(&cluster);
    check_owner(&cluster, facts.owner)?;
    size(&cluster, facts.max_ad_bytes)?;
    cluster.insert("Owner", facts.owner);
    cluster.insert("User", format!("{}@{}", facts.owner, facts.uid_domain));
    cluster.insert("OsUser", facts.owner);
    cluster.insert("MyType", "Job");
    cluster.insert("TargetType", "Machine");
    cluster.insert("QDate", facts.now);
    // Sums begin at nothing, whatever the submitter says.
    for name in ["CumulativeRemoteUserCpu", "CumulativeRemoteSysCpu"] {
        cluster.insert(name, 0.0);
    }
    for (name, value) in defaults(facts.now) {
        if !cluster.contains(name) {
            cluster.insert(name, value);
        }
    }
    if cluster.int("JobUniverse") != Some(VANILLA) {
        return Err(SubmitError::BadJob(
            "this pool runs jobs of the vanilla universe only (JobUniverse = 5)".to_owned(),
        ));
    }
    if cluster.string("Cmd").is_none() && procs.iter().any(|own| own.string("Cmd").is_none()) {
        return Err(SubmitError::BadJob(
            "the job has no executable (Cmd)".to_owned(),
        ));
    }
    let mut out = Vec::with_capacity(procs.len());
    for (number, own) in procs.iter().enumerate() {
        let mut own = without(own);
        check_owner(&own, facts.owner)?;
        own.remove("Owner");
        size(&own, facts.max_ad_bytes)?;
        own.insert("ProcId", i64::try_from(number).unwrap_or(i64::MAX));
        let status = match own.contains("JobStatus") {
            true => own.int("JobStatus"),
            false => cluster.int("JobStatus"),
        };
        match status.and_then(Status::from_number) {
            Some(Status::Idle) => {}
            Some(Status::Held) => {
                let reasons: ClassAd = [("SubmittedOnHold", 1)].into_iter().collect();
                own.insert("NumHolds", 1);
                own.insert(
                    "NumHoldsByReason",
                    Expr::literal(Value::ClassAd(Box::new(reasons))),
                );
                if !own.contains("HoldReason") && !cluster.contains("HoldReason") {
                    own.insert("HoldReason", "submitted on hold at user's request");
                    own.insert("HoldReasonCode", SUBMITTED_ON_HOLD);
                    own.insert("HoldReasonSubCode", 0);
                }
            }
            _ => {
                return Err(SubmitError::BadJob(
                    "a new job must be idle or held (JobStatus 1 or 5)".to_owned(),
                ));
            }
        }
        // What its cluster says already need not be kept for each job.
        let own = own
            .iter()
            .filter(|(name, value)| cluster.get(name.as_str()) != Some(value))
            .map(|(name, value)| (name.clone(), value.clone()));
        out.push(own.collect());
    }
    Ok(Prepared {
        cluster,
        procs: out,
    })
}

/// The ad without what is not the submitter's to say, sizes rounded.
fn without(ad: &ClassAd) -> ClassAd {
    let mut kept: ClassAd = ad
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            !cedar::is_private(name) && !OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name))
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for (name, value) in ad.iter() {
        if let Some((raw, round)) = super::life::rounded(name.as_str(), value) {
            kept.insert(name, round);
            kept.insert(format!("{}_RAW", name.as_str()), raw);
        }
    }
    kept
}

fn check_owner(ad: &ClassAd, owner: &str) -> Result<(), SubmitError> {
    match ad.get("Owner") {
        None => Ok(()),
        Some(expr) if matches!(expr.as_literal(), Some(Value::Undefined)) => Ok(()),
        Some(_) if ad.string("Owner").as_deref() == Some(owner) => Ok(()),
        Some(expr) => Err(SubmitError::BadJob(format!(
            "the job says Owner = {}, but you are {owner:?} here; submit without Owner",
            expr.to_old()
        ))),
    }
}

fn size(ad: &ClassAd, limit: usize) -> Result<(), SubmitError> {
    let bytes = ad.to_old().len();
    if bytes > limit {
        return Err(SubmitError::Limit(format!(
            "the ad of a job has {bytes} bytes; the pool takes up to {limit}"
        )));
    }
    Ok(())
}

/// What a job ad has from its first day on (`htcondor:src/condor_utils/submit_utils.cpp`).
fn defaults(now: i64) -> Vec<(&'static str, Expr)> {
    let mut list: Vec<(&'static str, Expr)> = [
        ("JobStatus", Status::Idle.number()),
        ("EnteredCurrentStatus", now),
        ("JobUniverse", VANILLA),
        ("JobPrio", 0),
        ("NumJobStarts", 0),
        ("NumJobCompletions", 0),
        ("NumRestarts", 0),
        ("NumSystemHolds", 0),
        ("CurrentHosts", 0),
        ("MinHosts", 1),
        ("MaxHosts", 1),
        ("CommittedTime", 0),
        ("CumulativeSuspensionTime", 0),
        ("LastSuspensionTime", 0),
        ("TotalSuspensions", 0),
        ("ExitStatus", 0),
    ]
    .into_iter()
    .map(|(name, value)| (name, Expr::from(value)))
    .collect();
    list.extend(
        ["RemoteWallClockTime", "RemoteUserCpu", "RemoteSysCpu"].map(|name| (name, 0.0.into())),
    );
    list.extend([
        ("ExitBySignal", Expr::from(false)),
        ("Requirements", Expr::from(true)),
        ("Rank", Expr::from(0.0)),
    ]);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts<'_> = Facts {
        owner: "alice",
        uid_domain: "site.example",
        max_ad_bytes: 4000,
        now: 1000,
    };

    fn ad(text: &str) -> ClassAd {
        ClassAd::parse_old(text).unwrap()
    }

    #[test]
    fn nobody_submits_in_another_s_name() {
        let error = prepare(
            ad("Cmd = \"/x\"\nOwner = \"bob\""),
            vec![ClassAd::new()],
            FACTS,
        );
        assert!(matches!(error, Err(SubmitError::BadJob(text)) if text.contains("alice")));
        let hidden = prepare(
            ad("Cmd = \"/x\""),
            vec![ad("owner = strcat(\"b\", \"ob\")")],
            FACTS,
        );
        assert!(hidden.is_err());
        let good = prepare(
            ad("Cmd = \"/x\"\nUser = \"root@site.example\"\nClaimId = \"c\"\nQDate = 1"),
            vec![ad("ClusterId = 9\nProcId = 7\nuser = \"bob\"")],
            FACTS,
        )
        .unwrap();
        assert_eq!(
            good.cluster.string("User").as_deref(),
            Some("alice@site.example")
        );
        assert_eq!(good.cluster.int("QDate"), Some(1000));
        assert!(!good.cluster.contains("ClaimId"));
        assert_eq!(good.procs, [ad("ProcId = 0")]);
    }

    #[test]
    fn a_job_begins_idle_or_held() {
        let start = |status: &str| {
            prepare(
                ad("Cmd = \"/x\""),
                vec![ad(&format!("JobStatus = {status}"))],
                FACTS,
            )
        };
        assert!(start("4").is_err() && start("2").is_err() && start("\"x\"").is_err());
        let held = start("5").unwrap();
        assert_eq!(held.procs[0].int("HoldReasonCode"), Some(15));
    }

    #[test]
    fn huge_ads_and_empty_submissions_are_refused() {
        assert!(prepare(ad("Cmd = \"/x\""), vec![], FACTS).is_err());
        let huge = ad(&format!("Cmd = \"/x\"\nBig = \"{}\"", "y".repeat(5000)));
        assert!(matches!(
            prepare(huge, vec![ClassAd::new()], FACTS),
            Err(SubmitError::Limit(_))
        ));
    }
}
