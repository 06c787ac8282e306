//! `QUERY_SCHEDD_HISTORY`: the jobs that left, newest first (`htcondor:src/condor_tools/history.cpp`).

use cedar::net::Incoming;
use classad::{ClassAd, EvalContext, Expr};
use tokio::sync::{Semaphore, mpsc};

use super::{Batch, Unserved, failed, limit, projection};
use crate::queue::select::Condition;
use crate::queue::store::{HistoryQuery, reader};
use crate::queue::{Queue, now};

/// Questions about the history that are answered at the same time; further ones wait.
static PLACES: Semaphore = Semaphore::const_new(8);

/// Ads read ahead of the client.
const AHEAD: usize = 64;

pub(super) async fn serve(queue: &Queue, incoming: &mut Incoming) -> Result<(), Unserved> {
    let message = incoming.stream.recv().await?;
    let mut reader = message.reader();
    let query = reader.ad()?;
    reader.expect_end()?;
    if let Some(source) = query
        .string("HistoryRecordSource")
        .filter(|text| !text.is_empty())
    {
        let text = format!("this pool keeps no history of the kind {source}");
        return Batch::new(incoming).end(&failed(5, &text)).await;
    }
    // The semaphore is never closed.
    let _place = PLACES.acquire().await;
    let streamed = query.bool("StreamResults") == Some(true);
    if streamed {
        let mut first = ClassAd::new();
        first.insert("Owner", 1);
        first.insert("StreamResults", true);
        Batch::new(incoming).end(&first).await?;
    }
    let (sender, mut found) = mpsc::channel(AHEAD);
    let search = Search::new(&query);
    let file = queue.inner.file.clone();
    let work = tokio::task::spawn_blocking(move || search.run(&file, &sender));
    let names = projection(&query);
    let mut count: i64 = 0;
    // Without streaming the whole answer is one message.
    let mut whole = incoming.stream.message();
    let mut batch = Batch::new(incoming);
    while let Some(ad) = found.recv().await {
        count += 1;
        let ad = project(&ad, &names);
        if streamed {
            batch.ad(&ad).await?;
        } else {
            whole.ad_without_private(&ad);
        }
    }
    let last = match work.await {
        Ok(Ok(())) => {
            let mut last = ClassAd::new();
            last.insert("Owner", 0);
            last.insert("NumJobMatches", count);
            last.insert("MalformedAds", false);
            last.insert("AdCount", count);
            last
        }
        Ok(Err(error)) => failed(4, &format!("the history cannot be read: {error}")),
        Err(error) => failed(4, &format!("the search failed: {error}")),
    };
    if streamed {
        batch.end(&last).await
    } else {
        whole.ad_without_private(&last);
        Ok(incoming.stream.send(whole).await?)
    }
}

fn project(ad: &ClassAd, names: &[String]) -> ClassAd {
    if names.is_empty() {
        return ad.clone();
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let closure = ad.reference_closure(&names);
    closure
        .my
        .iter()
        .filter_map(|name| Some((name.clone(), ad.get(name.as_str())?.clone())))
        .collect()
}

/// What is looked for.
struct Search {
    query: HistoryQuery,
    condition: Option<Expr>,
    since: Option<Expr>,
    matches: usize,
    scans: usize,
    now: i64,
}

impl Search {
    fn new(query: &ClassAd) -> Self {
        let now = now();
        let condition = query.get("Requirements").cloned();
        let cluster = condition
            .as_ref()
            .and_then(|expr| Condition::new(expr, now).cluster());
        let matches = match query.int("NumJobMatches") {
            Some(0) | None => usize::MAX,
            Some(_) => limit(query, "NumJobMatches"),
        };
        Self {
            query: HistoryQuery {
                cluster,
                forwards: query.bool("HistoryReadForwards") == Some(true),
                ..HistoryQuery::default()
            },
            condition,
            since: query.get("Since").cloned(),
            matches,
            scans: limit(query, "ScanLimit"),
            now,
        }
    }

    fn run(&self, file: &std::path::Path, found: &mpsc::Sender<ClassAd>) -> rusqlite::Result<()> {
        let (mut scanned, mut sent) = (0, 0);
        if self.matches == 0 || self.scans == 0 {
            return Ok(());
        }
        self.query.run(&reader(file)?, |ad| {
            scanned += 1;
            let context = EvalContext::new().my(&ad).now(self.now);
            let holds = |expr: &Expr| context.eval(expr).as_bool() == Some(true);
            if self.since.as_ref().is_some_and(holds) {
                return false;
            }
            if self.condition.as_ref().is_none_or(holds) {
                sent += 1;
                // The client is gone.
                if found.blocking_send(ad).is_err() {
                    return false;
                }
            }
            sent < self.matches && scanned < self.scans
        })
    }
}
