//! `sailplane-policy trace`: who was uid U at time T, what did this name run. Reads audit lines that
//! the helper wrote; as whatever is in them came from strangers, it does so without privilege.

mod output;
mod query;
mod run;

pub(crate) use self::query::Query;
pub(crate) use self::run::trace;

use serde::{Deserialize, Serialize};

/// One line of the log, as far as it matters here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    time: f64,
    event: String,
    verdict: String,
    request: String,
    caller_uid: Option<u32>,
    caller: String,
    job: String,
    identity: String,
    fqans: Vec<String>,
    account: String,
    uid: Option<u32>,
    gids: Vec<u32>,
    lease: String,
    source: String,
    code: String,
    reason: String,
}

/// A payload, from its opening to its end; or a refusal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Run {
    /// Unix seconds.
    from: f64,
    /// `None`: no end is recorded.
    to: Option<f64>,
    uid: Option<u32>,
    gids: Vec<u32>,
    account: String,
    job: String,
    identity: String,
    fqans: Vec<String>,
    caller: String,
    caller_uid: Option<u32>,
    lease: String,
    source: String,
    request: String,
    /// Why it was refused.
    refused: Option<String>,
}

/// All that the log tells.
#[derive(Debug, Default)]
pub(crate) struct History {
    runs: Vec<Run>,
    /// Lines that are not audit lines.
    pub(crate) strange: usize,
}

impl History {
    /// Takes in the lines of one file; files come oldest first.
    pub(crate) fn read(&mut self, text: &[u8]) {
        for line in text.split(|byte| *byte == b'\n') {
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice::<Event>(line) {
                Ok(event) => self.take(event),
                Err(_) => self.strange += 1,
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event.event.as_str() {
            "open" => self.open(event),
            "close" => self.end(|run| run.request == event.request, event.time),
            // The broker is gone, and all it ran; or another found what it left.
            "end" if event.request.is_empty() => {}
            "recover" if event.uid.is_some() => {
                self.end(|run| run.uid == event.uid && is_dynamic(run), event.time);
            }
            _ => {}
        }
    }

    fn open(&mut self, event: Event) {
        let refused =
            (event.verdict != "accepted").then(|| format!("{}: {}", event.code, event.reason));
        let run = Run {
            from: event.time,
            to: refused.is_some().then_some(event.time),
            uid: event.uid,
            gids: event.gids,
            account: event.account,
            job: event.job,
            identity: event.identity,
            fqans: event.fqans,
            caller: event.caller,
            caller_uid: event.caller_uid,
            lease: event.lease,
            source: event.source,
            request: event.request,
            refused,
        };
        // A number that serves one payload at a time has left the one before.
        if is_dynamic(&run) {
            self.end(|before| before.uid == run.uid, run.from);
        }
        self.runs.push(run);
    }

    fn end(&mut self, whose: impl Fn(&Run) -> bool, time: f64) {
        for run in &mut self.runs {
            if run.to.is_none() && whose(run) {
                run.to = Some(time);
            }
        }
    }

    /// The runs that a query is about.
    pub(crate) fn find(&self, query: &Query) -> Vec<&Run> {
        self.runs.iter().filter(|run| query.means(run)).collect()
    }
}

/// An account that is only a number.
fn is_dynamic(run: &Run) -> bool {
    run.uid
        .is_some_and(|uid| run.account == format!("uid{uid}"))
}

#[cfg(test)]
mod tests;
