//! From a verified identity to an account, step by step: the map file, then the dynamic accounts.
//! Steps that need the name service end in a question; the answer comes back later.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use launch_protocol::broker::{Refusal, RefusalClass};

use crate::account::{Caller, TargetAccount, Unfit};
use crate::config::Config;
use crate::errands::Runner;
use crate::gridmap::{self, MAX_GRIDMAP};
use crate::lease::{Lease, LeaseDir, Taken};
use crate::names::{Answers, Entry, Query};
use crate::refuse::{mapping, trouble};
use crate::spawn::Identity;
use crate::trusted;

/// How long an account's entry is believed.
const BELIEVED: Duration = Duration::from_secs(60);
/// How many uids of the dynamic range are looked up at start, together with the caller.
pub(crate) const LOOKED_UP_AT_START: u32 = 64;

/// What the name service has said.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Accounts by name, and until when they are believed.
    accounts: HashMap<String, (Entry, Instant)>,
    /// Dynamic uids: is there an account with this number?
    taken: HashMap<u32, bool>,
    /// Where the search for a free dynamic account begins; moves on so that a uid rests.
    next: u32,
    /// A dynamic uid as which nothing ran when we looked, ahead of need. What has run as it since was
    /// started by a broker that had its lease, and gave that back only after it had seen the last
    /// process of it gone. So it need not be looked at again.
    vetted: Option<u32>,
    /// None was found; do not look again before somebody asks.
    barren: bool,
}

/// How many uids are looked at ahead of need, in one idle moment.
const VETTED_AT_ONCE: u32 = 4;

/// The account and the lease that keeps it.
#[derive(Debug)]
pub(crate) struct Mapped {
    pub(crate) account: TargetAccount,
    pub(crate) lease: Lease,
}

/// How far the mapping is.
#[derive(Debug)]
pub(crate) enum Step {
    Done(Mapped),
    /// To be continued with [`Known::learn`] and another [`Known::map`].
    Ask(Query),
}

/// Everything the mapping works with.
#[derive(Clone, Copy)]
pub(crate) struct Policy<'a> {
    pub(crate) config: &'a Config,
    pub(crate) caller: &'a Caller,
    pub(crate) leases: &'a LeaseDir,
    pub(crate) null: BorrowedFd<'a>,
    pub(crate) runner: Runner<'a>,
    /// Names the lease of a mapped account.
    pub(crate) serial: u32,
}

impl Known {
    /// Spreads brokers over the range, so that they do not all begin at its first account.
    pub(crate) fn new(start: u32) -> Self {
        Self {
            next: start,
            ..Self::default()
        }
    }

    /// Takes in an answer of the name service.
    pub(crate) fn learn(&mut self, query: &Query, answer: Option<Entry>, now: Instant) {
        match query {
            Query::Uid(uid) => {
                self.taken.insert(*uid, answer.is_some());
            }
            Query::Name(name) => {
                if let Some(entry) = answer {
                    self.accounts.insert(name.clone(), (entry, now + BELIEVED));
                } else {
                    self.accounts.remove(name);
                }
            }
        }
    }

    /// Takes in the answers to several questions.
    pub(crate) fn learn_all(&mut self, queries: &[Query], answers: Answers, now: Instant) {
        for (query, answer) in queries.iter().zip(answers) {
            self.learn(query, answer, now);
        }
    }

    /// Should a dynamic account be looked at ahead of need?
    pub(crate) fn is_cold(&self, config: &Config) -> bool {
        config.dynamic_uids.is_some() && self.vetted.is_none() && !self.barren
    }

    /// Somebody will ask soon.
    pub(crate) fn expect_use(&mut self) {
        self.barren = false;
    }

    /// Has one been looked at?
    pub(crate) fn is_warm(&self) -> bool {
        self.vetted.is_some()
    }

    /// What was seen is too old to rely on.
    pub(crate) fn cool_down(&mut self) {
        self.vetted = None;
    }

    /// Looks for a dynamic account that is free, ahead of need. Takes no lease: that would keep the
    /// account from brokers that need it now.
    pub(crate) fn vet(&mut self, policy: Policy<'_>) {
        self.barren = true;
        let Some((first, last)) = policy.config.dynamic_uids else {
            return;
        };
        let count = last - first + 1;
        let mut looks = 0;
        for step in 0..count {
            let place = self.next.wrapping_add(step) % count;
            let uid = first + place;
            let account = TargetAccount::dynamic(uid, policy.config, policy.caller);
            match (self.taken.get(&uid), account) {
                // To be asked for when it is needed.
                (None, _) => return,
                (Some(false), Ok(account)) if !policy.leases.exists(&uid.to_string()) => {
                    if policy.runner.is_in_use(&Identity::from(&account)) == Ok(false) {
                        self.vetted = Some(uid);
                        self.barren = false;
                        self.next = place;
                        return;
                    }
                    looks += 1;
                }
                _ => {}
            }
            if looks == VETTED_AT_ONCE {
                return;
            }
        }
    }

    /// Takes an account ahead, while the credential is still being verified: where nothing but
    /// dynamic accounts exist, it does not matter who it is for.
    pub(crate) fn reserve(&mut self, policy: Policy<'_>) -> Option<Mapped> {
        if policy.config.gridmap.is_some() {
            return None;
        }
        match self.dynamic(policy) {
            Ok(Step::Done(mapped)) => Some(mapped),
            _ => None,
        }
    }

    /// The account for an identity. `asked`: the last question, if its answer has been learned.
    pub(crate) fn map(
        &mut self,
        identity: &str,
        asked: Option<&Query>,
        policy: Policy<'_>,
        now: Instant,
    ) -> Result<Step, Refusal> {
        if let Some(name) = in_gridmap(identity, policy.config)? {
            return self.named(name, asked, policy, now);
        }
        if policy.config.dynamic_uids.is_some() {
            return self.dynamic(policy);
        }
        let message = format!("there is no line for {identity} in the map file");
        Err(mapping(RefusalClass::Job, "map.none", message, false))
    }

    fn named(
        &self,
        name: String,
        asked: Option<&Query>,
        policy: Policy<'_>,
        now: Instant,
    ) -> Result<Step, Refusal> {
        let query = Query::Name(name.clone());
        let entry = match self.accounts.get(&name) {
            Some((entry, until)) if now < *until => entry,
            _ if asked == Some(&query) => {
                let message = format!("the map file names account {name}, which does not exist");
                return Err(mapping(
                    RefusalClass::SitePermanent,
                    "map.account_missing",
                    message,
                    false,
                ));
            }
            _ => return Ok(Step::Ask(query)),
        };
        let account = TargetAccount::mapped(entry, policy.config, policy.caller)
            .map_err(|unfit| refused(&name, unfit))?;
        let lease = format!("{name}-{}-{}", std::process::id(), policy.serial);
        match policy.leases.take(&lease) {
            Ok(Taken::Fresh(lease)) => Ok(Step::Done(Mapped { account, lease })),
            // A dead broker with our number: its things are removed at the next start.
            Ok(_) => Err(trouble("lease.busy", format!("the lease {lease} is taken"))),
            Err(errno) => Err(trouble(
                "lease.failed",
                format!("the lease {lease}: {}", errno.desc()),
            )),
        }
    }

    fn dynamic(&mut self, policy: Policy<'_>) -> Result<Step, Refusal> {
        let Some((first, last)) = policy.config.dynamic_uids else {
            return Err(none_free());
        };
        let count = last - first + 1;
        let vetted = self.vetted.take();
        self.barren = false;
        for step in 0..count {
            let uid = first + self.next.wrapping_add(step) % count;
            match self.taken.get(&uid) {
                None => return Ok(Step::Ask(Query::Uid(uid))),
                Some(true) => continue,
                Some(false) => {}
            }
            let Ok(account) = TargetAccount::dynamic(uid, policy.config, policy.caller) else {
                continue;
            };
            let Ok(Taken::Fresh(lease)) = policy.leases.take(&uid.to_string()) else {
                continue;
            };
            if vetted != Some(uid)
                && policy.runner.is_in_use(&Identity::from(&account)) != Ok(false)
            {
                // Something runs as this uid that no broker answers for.
                policy.leases.release(lease);
                continue;
            }
            self.next = self.next.wrapping_add(step) % count + 1;
            return Ok(Step::Done(Mapped { account, lease }));
        }
        Err(none_free())
    }
}

fn none_free() -> Refusal {
    let message =
        "every account of dynamic_uids is in use; try again later or make the range larger";
    mapping(
        RefusalClass::SiteTransient,
        "lease.none",
        message.to_owned(),
        true,
    )
}

fn refused(name: &str, unfit: Unfit) -> Refusal {
    let message = format!("the map file names account {name}, which no payload may use: {unfit}");
    mapping(
        RefusalClass::SitePermanent,
        "map.account_unfit",
        message,
        false,
    )
}

fn in_gridmap(identity: &str, config: &Config) -> Result<Option<String>, Refusal> {
    let Some(path) = &config.gridmap else {
        return Ok(None);
    };
    let broken = |code: &str, why: String| {
        mapping(
            RefusalClass::SitePermanent,
            code,
            format!("the map file cannot be used: {why}"),
            false,
        )
    };
    let file = trusted::open_file(path).map_err(|error| broken(error.code(), error.to_string()))?;
    let mut text = Vec::new();
    file.take(MAX_GRIDMAP + 1)
        .read_to_end(&mut text)
        .map_err(|error| broken("map.unreadable", format!("{}: {error}", path.display())))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_GRIDMAP {
        return Err(broken(
            "map.too_large",
            format!("{} is too large", path.display()),
        ));
    }
    gridmap::find(&text, identity)
        .map(|account| account.map(str::to_owned))
        .map_err(|error| broken("map.syntax", format!("{}, {error}", path.display())))
}
