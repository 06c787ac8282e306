//! The queue as a whole: on a real disk, through its public face.

mod crash;
mod disk;
mod flow;
mod outbox;

use std::path::Path;
use std::sync::{Arc, Mutex};

use cedar::security::{AuthMethod, PeerIdentity};
use classad::ClassAd;

use super::*;
use crate::user_log::{self, Entry, Event, Receipt};

/// Remembers the numbers of the events of each job.
#[derive(Default)]
pub(super) struct Log(pub(super) Mutex<Vec<(String, u16)>>);

impl EventSink for Log {
    fn compose(&self, job: &ClassAd, event: &Event) -> Option<Entry> {
        let id = format!(
            "{}.{}",
            job.int("ClusterId").unwrap_or(-1),
            job.int("ProcId").unwrap_or(-1)
        );
        Some(Entry {
            log: user_log::Log {
                owner: String::new(),
                path: id.into(),
            },
            text: format!("{}\n", event.number()),
        })
    }

    fn append(&self, entry: Entry, receipt: Receipt) {
        let id = entry.log.path.to_str().unwrap();
        let numbers = entry.text.lines().map(|number| number.parse().unwrap());
        lock(&self.0).extend(numbers.map(|number| (id.to_owned(), number)));
        receipt.settle();
    }

    fn replay(&self, entries: Vec<(Entry, Receipt)>) {
        for (entry, receipt) in entries {
            self.append(entry, receipt);
        }
    }
}

impl Log {
    pub(super) fn of(&self, job: JobId) -> Vec<u16> {
        let id = job.to_string();
        let all = lock(&self.0);
        let mine = all.iter().filter(|(of, _)| *of == id);
        mine.map(|(_, number)| *number).collect()
    }
}

pub(super) fn who(user: &str) -> PeerIdentity {
    PeerIdentity::proven(format!("{user}@site.example"), AuthMethod::Fs)
}

pub(super) fn config(directory: &Path) -> QueueConfig {
    let mut config = QueueConfig::new(directory.to_owned(), "site.example", "submit.site.example");
    config.is_administrator = Arc::new(|who, _| who.user.starts_with("root@"));
    config
}

pub(super) fn open(directory: &Path) -> (Queue, Arc<Log>) {
    let log = Arc::new(Log::default());
    let queue = Queue::open(config(directory), Arc::clone(&log) as Arc<dyn EventSink>).unwrap();
    (queue, log)
}

pub(super) fn ad(text: &str) -> ClassAd {
    ClassAd::parse_old(text).unwrap()
}

pub(super) fn procs(count: usize) -> Vec<ClassAd> {
    (0..count)
        .map(|number| ad(&format!("ProcId = {number}\nArgs = \"{number}\"")))
        .collect()
}

pub(super) fn run(slot: &str) -> RunRecord {
    let claim = format!("<127.0.0.1:9618>#1700000000#1#[CryptoMethods=\"AES\";]{slot}secret");
    RunRecord {
        claim_id: cedar::ClaimId::parse(&claim).unwrap(),
        slot: slot.to_owned(),
        startd: "<127.0.0.1:9618>".to_owned(),
        slot_ad: ad("Cpus = 2\nSlotWeight = 2\nMemory = 4000\nRequirements = true\nSlotID = 3"),
    }
}

pub(super) fn exited(code: i32) -> RunOutcome {
    RunOutcome::Exited {
        status: code << 8,
        coredump: false,
        ad: ad("RemoteUserCpu = 1.5\nBytesSent = 10.0"),
    }
}
