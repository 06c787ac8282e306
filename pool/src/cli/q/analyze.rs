//! Why a job does not run, in one sentence.

use std::fmt::Write as _;
use std::sync::Arc;

use classad::ClassAd;

use super::WHAT;
use crate::cli::connect::{Pool, ToolError};
use crate::cli::jobs;
use crate::collector::Slot;
use crate::negotiator::analyse;
use crate::queue::Status;

/// Longest list of slots taken, in bytes.
const LONGEST: usize = 1 << 30;

/// Looks at the jobs, and at the slots of the pool if one of them is idle.
pub(super) async fn explain(pool: &Pool, ads: &[Arc<ClassAd>]) -> Result<String, ToolError> {
    let idle = ads.iter().any(|ad| jobs::status(ad) == Some(Status::Idle));
    let slots = if idle { slots(pool).await? } else { Vec::new() };
    let now = jiff::Timestamp::now().as_second();
    let mut text = String::new();
    for ad in ads {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}: {}", jobs::id(ad), sentence(ad, &slots, now));
    }
    if ads.is_empty() {
        text.push_str("There is no such job in the queue.\n");
    }
    Ok(text)
}

fn sentence(ad: &ClassAd, slots: &[Slot], now: i64) -> String {
    let since = jobs::date(ad.int("EnteredCurrentStatus"));
    match jobs::status(ad) {
        Some(Status::Held) => {
            let reason = ad.string("HoldReason").unwrap_or_default();
            format!("it is held since {since}: {reason}")
        }
        Some(status) if status.is_active() => {
            let slot = ad.string("RemoteHost").unwrap_or_default();
            format!("it is {status} on {slot} since {since}")
        }
        Some(Status::Idle) => {
            let mut text = analyse(ad, slots, now).to_string();
            if let Some(reason) = ad.string("LastRejMatchReason") {
                let when = jobs::date(ad.int("LastRejMatchTime"));
                // Writing to a string cannot fail.
                let _ = write!(text, " (its last start failed at {when}: {reason})");
            }
            text
        }
        Some(status) => format!("it is {status} since {since}"),
        None => "its ad does not say what it is at".to_owned(),
    }
}

/// The slots, as the collector shows them to everybody.
async fn slots(pool: &Pool) -> Result<Vec<Slot>, ToolError> {
    let mut query = ClassAd::new();
    query.insert("MyType", "Query");
    query.insert("TargetType", "Machine");
    query.insert("Requirements", true);
    let failed = |error| pool.failed(WHAT, error);
    let mut stream = pool.start(cedar::command::QUERY_STARTD_ADS, WHAT).await?;
    stream.set_max_message(LONGEST);
    let mut message = stream.message();
    message.ad(&query);
    stream.send(message).await.map_err(failed)?;
    let answer = stream.recv().await.map_err(failed)?;
    let read = || {
        let mut reader = answer.reader();
        let mut slots = Vec::new();
        while reader.int()? != 0 {
            let ad = reader.ad()?;
            slots.push(Slot {
                name: ad.string("Name").unwrap_or_default(),
                ad: Arc::new(ad),
                claim: None,
                child_claims: Vec::new(),
            });
        }
        Ok(slots)
    };
    read().map_err(|error| pool.malformed(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_sentence() {
        let of = |text: &str| sentence(&ClassAd::parse_old(text).unwrap(), &[], 0);
        assert!(of("JobStatus = 5\nHoldReason = \"no input\"").ends_with("no input"));
        assert!(of("JobStatus = 2\nRemoteHost = \"slot1@n\"").contains("running on slot1@n"));
        assert!(of("JobStatus = 3").contains("removed"));
        let idle = of("JobStatus = 1\nRequirements = true\nLastRejMatchReason = \"busy\"");
        assert!(idle.contains("busy") && !idle.starts_with(' '), "{idle}");
    }
}
