//! `QUERY_JOB_ADS`: one message for each job, then one with the totals (`htcondor:src/condor_schedd.V6/schedd.cpp`,
//! command_query_job_ads).

use cedar::net::Incoming;
use classad::{ClassAd, Expr};

use super::{Batch, Unserved, aggregate, failed, limit, projection};
use crate::queue::identity::Identity;
use crate::queue::model::Counts;
use crate::queue::select::{Condition, Snapshot};
use crate::queue::{Queue, Status, now};

pub(super) async fn serve(queue: &Queue, incoming: &mut Incoming) -> Result<(), Unserved> {
    let message = incoming.stream.recv().await?;
    let mut reader = message.reader();
    let query = reader.ad()?;
    reader.expect_end()?;
    if query.bool("ProjectionIsGroupBy") == Some(true)
        || query.bool("QueryDefaultAutocluster") == Some(true)
    {
        return aggregate::answer(queue, incoming, &query).await;
    }
    let me = only_mine(queue, incoming, &query);
    let found = find(queue.clone(), &query, me.clone()).await?;
    let now = now();
    let mut counts = Counts::default();
    let most = limit(&query, "LimitResults");
    let summary_only = query.bool("SummaryOnly") == Some(true);
    let server_time = query.bool("SendServerTime").unwrap_or(true);
    let names = projection(&query);
    let mut batch = Batch::new(incoming);
    for job in found.iter().take(most) {
        counts.count(job.status);
        if summary_only {
            continue;
        }
        let mut ad = if names.is_empty() {
            job.whole()
        } else {
            job.part(names.iter().map(String::as_str))
        };
        if server_time {
            ad.insert("ServerTime", now);
        }
        batch.ad(&ad).await?;
    }
    batch
        .end(&summary(queue, &counts, me.as_deref(), now))
        .await
}

/// The jobs of a query, found off the runtime's own threads.
pub(super) async fn find(
    queue: Queue,
    query: &ClassAd,
    owner: Option<String>,
) -> Result<Vec<Snapshot>, Unserved> {
    let everything = Expr::from(true);
    let requirements = query.get("Requirements").unwrap_or(&everything);
    let condition = Condition::new(requirements, now());
    let work = tokio::task::spawn_blocking(move || {
        let mut jobs = condition.candidates(&queue.model());
        jobs.retain(|job| {
            owner.as_deref().is_none_or(|owner| owner == &*job.owner) && condition.holds(job)
        });
        jobs
    });
    work.await
        .map_err(|error| Unserved::Other(format!("the search failed: {error}")))
}

/// The owner, if the question is about the asker's own jobs only. An administrator sees all.
fn only_mine(queue: &Queue, incoming: &Incoming, query: &ClassAd) -> Option<String> {
    let wanted = query.get("MyJobs")?;
    if wanted.as_literal().and_then(|value| value.as_bool()) == Some(false) {
        return None;
    }
    let from = Some(incoming.stream.peer_addr().ip());
    if (queue.inner.config.is_administrator)(&incoming.peer, from) {
        return None;
    }
    match Identity::of(&incoming.peer, &queue.inner.config.uid_domain) {
        Identity::Local(owner) => Some(owner.to_owned()),
        // Nobody's: no owner has a name with a domain.
        Identity::Foreign { identity } => Some(identity.to_owned()),
        // Without proof the tool's own guess is as good as any: the jobs are everybody's to see.
        Identity::Nobody => query.string("Me"),
    }
}

/// The last ad, from which the tools print their totals.
fn summary(queue: &Queue, found: &Counts, me: Option<&str>, now: i64) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("Owner", 0);
    ad.insert("ErrorCode", 0);
    ad.insert("ServerTime", now);
    ad.insert("MyType", "Summary");
    let (all, mine) = {
        let model = queue.model();
        let mine = me.and_then(|me| model.owners.get(me).copied());
        (model.counts, mine)
    };
    publish(&mut ad, "Allusers", &all);
    publish(&mut ad, "", found);
    if let Some(me) = me {
        publish(&mut ad, "My", &mine.unwrap_or_default());
        ad.insert("MyName", me);
    }
    ad
}

fn publish(ad: &mut ClassAd, prefix: &str, counts: &Counts) {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let running = counts.of(Status::Running) + counts.of(Status::TransferringOutput);
    let list = [
        ("Jobs", counts.total()),
        ("Idle", counts.of(Status::Idle)),
        ("Running", running),
        ("Removed", counts.of(Status::Removed)),
        ("Completed", counts.of(Status::Completed)),
        ("Held", counts.of(Status::Held)),
        ("Suspended", counts.of(Status::Suspended)),
    ];
    for (name, count) in list {
        ad.insert(format!("{prefix}{name}"), number(count));
    }
    for name in ["Jobs", "Idle", "Running", "Removed", "Completed", "Held"] {
        ad.insert(format!("{prefix}Scheduler{name}"), 0);
    }
}

/// The answer to a question that makes no sense.
pub(super) async fn refuse(incoming: &mut Incoming, text: &str) -> Result<(), Unserved> {
    Batch::new(incoming).end(&failed(1, text)).await
}
