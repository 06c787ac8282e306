//! `ACT_ON_JOBS`: what would come of it is told first, and done when the tool says so
//! (`htcondor:src/condor_schedd.V6/schedd.cpp`, actOnJobs).

use cedar::net::Incoming;
use classad::ClassAd;

use super::Unserved;
use crate::queue::{ActResult, Action, Outcome, Queue, Selection};

/// `OK` (`htcondor:src/condor_includes/condor_constants.h`).
const OK: i64 = 1;

/// `AR_LONG`, one result for each job; everything else means totals.
const LONG: i64 = 1;
const TOTALS: i64 = 2;

/// Number of `AR_LIMIT_EXCEEDED`, the last of the results.
const RESULTS: i64 = 6;

/// A command ad, understood.
#[derive(Debug)]
struct Wanted {
    action: Action,
    selection: Selection,
    reason: String,
    subcode: i32,
    long: bool,
}

pub(super) async fn serve(queue: &Queue, incoming: &mut Incoming) -> Result<(), Unserved> {
    let message = incoming.stream.recv().await?;
    let mut reader = message.reader();
    let ad = reader.ad()?;
    reader.expect_end()?;
    let wanted = match read(&ad) {
        Ok(wanted) => wanted,
        Err(why) => return refuse(incoming, &why).await,
    };
    let from = Some(incoming.stream.peer_addr().ip());
    let actor = match queue.actor(&incoming.peer, from) {
        Ok(actor) => actor,
        Err(error) => return refuse(incoming, &error.to_string()).await,
    };
    let jobs = {
        let (queue, action, selection) = (queue.clone(), wanted.action, wanted.selection);
        let work = tokio::task::spawn_blocking(move || queue.selected(action, &selection));
        work.await
            .map_err(|error| Unserved::Other(format!("the search failed: {error}")))?
    };
    let foreseen = queue.rehearse(&actor, wanted.action, &jobs);
    let any = foreseen
        .iter()
        .any(|outcome| outcome.result == ActResult::Success);
    let mut answer = results(&foreseen, wanted.long);
    answer.insert("JobAction", wanted.action.number());
    answer.insert("ActionResult", i64::from(any));
    let total = queue.model().jobs.len();
    answer.insert("TotalJobAds", i64::try_from(total).unwrap_or(i64::MAX));
    answer.insert("IsQueueSuperUser", actor.administrator);
    let mut message = incoming.stream.message();
    message.ad(&answer);
    incoming.stream.send(message).await?;
    if !any {
        return Ok(());
    }
    let message = incoming.stream.recv().await?;
    if message.reader().int()? != OK {
        return Err(Unserved::Other("the tool took it back".to_owned()));
    }
    let done = queue
        .commit(&actor, wanted.action, &jobs, &wanted.reason, wanted.subcode)
        .await;
    if let Err(error) = done {
        // No answer: the tool then says that the action may have failed.
        return Err(Unserved::Other(error.to_string()));
    }
    let mut message = incoming.stream.message();
    message.int(OK);
    Ok(incoming.stream.send(message).await?)
}

async fn refuse(incoming: &mut Incoming, why: &str) -> Result<(), Unserved> {
    let mut ad = results(&[], false);
    ad.insert("ActionResult", 0);
    ad.insert("ErrorString", why);
    let mut message = incoming.stream.message();
    message.ad(&ad);
    Ok(incoming.stream.send(message).await?)
}

fn read(ad: &ClassAd) -> Result<Wanted, String> {
    let number = ad
        .int("JobAction")
        .ok_or("the request names no JobAction")?;
    let action = Action::from_number(number)
        .ok_or_else(|| format!("this pool cannot do JobAction {number} to jobs"))?;
    let selection = match (ad.get("ActionConstraint"), ad.string("ActionIds")) {
        (Some(expr), None) => Selection::Constraint(expr.clone()),
        (None, Some(ids)) => Selection::from_ids(&ids)
            .map_err(|part| format!("{part:?} is neither a job nor a cluster"))?,
        _ => return Err("the request must have either ActionConstraint or ActionIds".to_owned()),
    };
    let reason = match action {
        Action::Hold => "HoldReason",
        Action::Release => "ReleaseReason",
        _ => "RemoveReason",
    };
    let subcode = ad.int("HoldReasonSubCode").unwrap_or(0);
    Ok(Wanted {
        action,
        selection,
        reason: ad.string(reason).unwrap_or_default(),
        subcode: i32::try_from(subcode).unwrap_or(0),
        long: ad.int("ActionResultType") == Some(LONG),
    })
}

fn results(outcomes: &[Outcome], long: bool) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("ActionResultType", if long { LONG } else { TOTALS });
    if long {
        for Outcome { job, result } in outcomes {
            ad.insert(format!("job_{}_{}", job.cluster, job.proc), result.number());
        }
        return ad;
    }
    for number in 0..=RESULTS {
        let count = outcomes
            .iter()
            .filter(|outcome| outcome.result.number() == number)
            .count();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        ad.insert(format!("result_total_{number}"), count);
    }
    ad
}

/// Reads any text as the ad of a request, and as a condition on jobs.
pub(super) fn fuzz(text: &str) {
    if let Ok(ad) = ClassAd::parse_old(text)
        && let Ok(Wanted {
            selection: Selection::Constraint(expr),
            ..
        }) = read(&ad)
    {
        crate::queue::select::Condition::new(&expr, 0);
    }
}
