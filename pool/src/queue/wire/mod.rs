//! The commands: what `condor_q`, `condor_rm` and its like, `condor_history` and our own tools send.

mod act;
mod aggregate;
mod history;
mod qmgmt;
mod query;
mod submit;

use cedar::net::{Error, Incoming};
use cedar::security::Level;
use cedar::security::server::CommandRule;
use cedar::{MessageWriter, WireError};
use classad::ClassAd;
use thiserror::Error;

use super::Queue;

/// Acts on jobs (`htcondor:src/condor_includes/condor_commands.h`).
pub const ACT_ON_JOBS: i32 = 478;
/// Asks the schedd to look for slots soon. No payload, no answer.
pub const RESCHEDULE: i32 = 421;
/// Opens a conversation of the queue management protocol.
pub const QMGMT_WRITE_CMD: i32 = 1112;
/// Asks for the history.
pub const QUERY_SCHEDD_HISTORY: i32 = 515;
/// Asks for jobs.
pub const QUERY_JOB_ADS: i32 = 516;
/// Asks for jobs, as somebody in particular.
pub const QUERY_JOB_ADS_WITH_AUTH: i32 = 519;
/// Our own command to submit jobs (WRITE). Payload, one message: an ad, the cluster's ad, int n, n ads of the jobs. Answer:
/// an ad with `Result` (0: done) and `ClusterId`, or `ErrorString` and `ErrorCode`. A message with nothing but an ad
/// `Reserve = true` may come before: it is answered in the same way, and the jobs that follow get the number it names.
pub const SAILPLANE_SUBMIT: i32 = 74001;

/// Messages collected before they are sent.
const BATCH: usize = 256 * 1024;

/// Why a command was not served to its end.
#[derive(Debug, Error)]
enum Unserved {
    #[error(transparent)]
    Net(#[from] Error),
    #[error("the request cannot be read: {0}")]
    Wire(#[from] WireError),
    #[error("{0}")]
    Other(String),
}

/// Requests as strangers send them.
#[doc(hidden)]
pub mod fuzzing {
    /// A call of the queue management protocol, and a request to act on jobs.
    pub fn fuzz_queue_request(data: &[u8]) {
        super::qmgmt::fuzz(data);
        super::act::fuzz(&String::from_utf8_lossy(data));
    }

    #[test]
    fn the_corpus_is_read_without_a_panic() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/pool_queue");
        let mut count = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            fuzz_queue_request(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count >= 7);
    }
}

impl Queue {
    /// The commands served by [`Queue::serve`].
    pub fn commands() -> Vec<(i32, CommandRule)> {
        let rule = CommandRule::new;
        vec![
            (SAILPLANE_SUBMIT, rule(Level::Write)),
            (ACT_ON_JOBS, rule(Level::Write)),
            (RESCHEDULE, rule(Level::Write)),
            (QMGMT_WRITE_CMD, rule(Level::Write)),
            (QUERY_JOB_ADS, rule(Level::Read)),
            (QUERY_JOB_ADS_WITH_AUTH, rule(Level::Read)),
            (QUERY_SCHEDD_HISTORY, rule(Level::Read)),
        ]
    }

    /// Serves one command.
    pub async fn serve(&self, mut incoming: Incoming) {
        let done = match incoming.command {
            SAILPLANE_SUBMIT => submit::serve(self, &mut incoming).await,
            RESCHEDULE => {
                self.inner.changed.notify_one();
                Ok(())
            }
            QMGMT_WRITE_CMD => qmgmt::serve(self, &mut incoming).await,
            ACT_ON_JOBS => act::serve(self, &mut incoming).await,
            QUERY_JOB_ADS | QUERY_JOB_ADS_WITH_AUTH => query::serve(self, &mut incoming).await,
            QUERY_SCHEDD_HISTORY => history::serve(self, &mut incoming).await,
            other => Err(Unserved::Other(format!(
                "command {other} is not the queue's"
            ))),
        };
        if let Err(error) = done {
            let peer = incoming.stream.peer_addr();
            tracing::info!(%peer, user = %incoming.peer.user, command = incoming.command, %error, "a command to the job queue was not served");
        }
    }
}

/// Sends many small messages in few writes.
struct Batch<'a> {
    incoming: &'a mut Incoming,
    bytes: usize,
}

impl<'a> Batch<'a> {
    fn new(incoming: &'a mut Incoming) -> Self {
        Self { incoming, bytes: 0 }
    }

    fn message(&self) -> MessageWriter {
        self.incoming.stream.message()
    }

    /// One ad, one message.
    async fn ad(&mut self, ad: &ClassAd) -> Result<(), Unserved> {
        let mut message = self.message();
        message.ad_without_private(ad);
        self.bytes += message.len();
        if self.bytes < BATCH {
            self.incoming.stream.queue(message)?;
        } else {
            self.bytes = 0;
            self.incoming.stream.send(message).await?;
        }
        Ok(())
    }

    /// The last ad.
    async fn end(self, ad: &ClassAd) -> Result<(), Unserved> {
        let mut message = self.message();
        message.ad_without_private(ad);
        Ok(self.incoming.stream.send(message).await?)
    }
}

/// The last ad of an answer that failed: `Owner = 0` marks it as such.
fn failed(code: i64, text: &str) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("Owner", 0);
    ad.insert("ErrorString", text);
    ad.insert("ErrorCode", code);
    ad
}

/// Names separated by blanks, commas or line feeds.
fn names(text: &str) -> Vec<String> {
    text.split([' ', ',', '\n', '\t', '\r'])
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The projection of a query ad; empty: everything.
fn projection(query: &ClassAd) -> Vec<String> {
    query
        .string("Projection")
        .map(|text| names(&text))
        .unwrap_or_default()
}

/// A limit in a query ad; absent or negative: none.
fn limit(query: &ClassAd, name: &str) -> usize {
    query
        .int(name)
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX)
}
