//! One credential on its way: verify, judge, look up, lease. A state machine that the loop advances
//! whenever something it waits for has happened; it never waits for a peer.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use launch_protocol::broker::{OpenLimits, Purpose, Refusal, RefusalClass};
use launch_protocol::monitor::{Account, Ask, Errand, Linked, Reply, Target};
use launch_protocol::policy::{Case, Decision, Entry, Groups, Party, Query};
use launch_protocol::verdict;
use sailplane_policy::{Files, MapperQuestion, Verdict};

use crate::channel::packet_sockets;
use crate::monitor::{DONE, Monitor};
use crate::names::{Entries, LookUp, confused};
use crate::pool::Pool;
use crate::ready::{Ready, Taken};
use crate::refuse::{credential, helper, mapping, trouble, unix_now};
use crate::site::Site;
use crate::verifiers::{Verification, Verifiers};
use crate::writing::Writing;
use sailplane_policy::why;

/// How many free accounts of a pool are looked at.
const CANDIDATES: usize = 64;
/// How often the race for a pool account is run again.
const RACES: u32 = 8;
/// How long a look for processes of an account may take.
const LOOK: Duration = Duration::from_secs(10);
/// How many questions to the external mapper may be under way.
const MAX_MAPPERS: usize = 16;

/// What all openings work with.
pub(crate) struct Desk<'a> {
    pub(crate) monitor: &'a Monitor,
    pub(crate) site: &'a mut Site,
    pub(crate) verifiers: &'a mut Verifiers,
    pub(crate) ready: &'a mut Ready,
    /// For what verifiers say.
    pub(crate) buffer: &'a mut [u8],
    /// As many as questions to the external mapper are under way, and one.
    pub(crate) mappers: &'a Arc<()>,
    /// The pilot's own credential.
    pub(crate) pilot: Option<&'a Party>,
}

/// What a credential was handed in for.
#[derive(Debug)]
pub(crate) enum Goal {
    Open {
        place: Option<PathBuf>,
        slot_account: Option<String>,
        purpose: Purpose,
        limits: OpenLimits,
        agent: bool,
    },
    /// It is the pilot's own.
    Present,
    /// For a payload that runs already and belongs to `holder`.
    Renew {
        payload: u32,
        holder: Party,
        copy: Option<ProxyCopy>,
    },
}

impl Goal {
    /// What verifier and policy are told.
    pub(crate) fn purpose(&self) -> verdict::Purpose {
        match self {
            Self::Open {
                purpose: Purpose::VerifyOnly,
                ..
            } => verdict::Purpose::Verify,
            Self::Open { .. } => verdict::Purpose::Run,
            Self::Present => verdict::Purpose::Pilot,
            Self::Renew { .. } => verdict::Purpose::Renew,
        }
    }
}

/// A renewed credential also goes into the sandbox.
#[derive(Debug)]
pub(crate) struct ProxyCopy {
    pub(crate) credential: OwnedFd,
    pub(crate) name: PathBuf,
}

/// A credential on its way.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) request: u32,
    pub(crate) serial: u32,
    pub(crate) label: String,
    pub(crate) goal: Goal,
    /// Set once the credential has been accepted.
    pub(crate) party: Option<Party>,
    /// Configuration and policy files, opened for this one; `None`: the configuration has changed.
    files: Result<Option<Files>, Refusal>,
    stage: Stage,
    races: u32,
}

#[derive(Debug)]
enum Stage {
    Verifying(Verification),
    /// The external mapper's answer, and a socket that hangs up when it is there.
    Mapping(Receiver<Result<Decision, Refusal>>, OwnedFd),
    Naming(LookUp, Vec<Query>, Wish),
    /// The account writes its copy.
    Copying(Writing),
}

/// A decision on its way to an account.
#[derive(Clone, Debug)]
struct Wish {
    what: What,
    groups: Option<Groups>,
    source: String,
}

#[derive(Clone, Debug)]
enum What {
    Account {
        name: String,
    },
    /// `held`: the one candidate has the lease already.
    Pool {
        prefix: String,
        lease: String,
        candidates: Vec<String>,
        held: bool,
    },
    /// None of the numbers that are known to be nobody's is free.
    Dynamic,
}

/// The account and what keeps it.
#[derive(Debug)]
pub(crate) struct Mapped {
    /// Only if a payload is to be opened; not always complete.
    pub(crate) payload: Option<Taken>,
    pub(crate) account: Account,
    /// Name of the pool lease.
    pub(crate) pool: Option<String>,
    /// Where the policy says so, for the log.
    pub(crate) source: String,
}

impl Opening {
    pub(crate) fn new(
        request: u32,
        serial: u32,
        label: String,
        goal: Goal,
        files: Result<Option<Files>, Refusal>,
        verification: Verification,
    ) -> Self {
        Self {
            request,
            serial,
            label,
            goal,
            party: None,
            files,
            stage: Stage::Verifying(verification),
            races: 0,
        }
    }

    /// What to poll for reading; the name service's socket is polled for all together.
    pub(crate) fn source(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Verifying(verification) => verification.source(),
            Stage::Mapping(_, socket) => Some(socket.as_fd()),
            _ => None,
        }
    }

    /// When to look again even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Verifying(verification) => Some(verification.deadline()),
            Stage::Copying(writing) => Some(writing.deadline()),
            _ => None,
        }
    }

    /// Takes note that a child has been reaped; true if it was ours.
    pub(crate) fn reaped(&mut self, reaped: i32, status: i32) -> bool {
        match &mut self.stage {
            Stage::Copying(writing) => writing.reaped(reaped, status),
            _ => false,
        }
    }

    /// Goes as far as it can now; `None`: not there yet. Without an account where none was wanted.
    pub(crate) fn advance(
        &mut self,
        desk: &mut Desk<'_>,
        now: Instant,
    ) -> Option<Result<Option<Box<Mapped>>, Refusal>> {
        loop {
            let answer = match &mut self.stage {
                Stage::Verifying(verification) => {
                    match verification.advance(desk.verifiers, desk.buffer, now)? {
                        Ok(party) => self.verified(party, desk),
                        Err(refusal) => Err(refusal),
                    }
                }
                Stage::Mapping(answer, _) => match answer.try_recv() {
                    Ok(Ok(decision)) => self.decided(decision, desk),
                    Ok(Err(refusal)) => Err(refusal),
                    Err(TryRecvError::Empty) => return None,
                    Err(TryRecvError::Disconnected) => Err(confused()),
                },
                Stage::Naming(look_up, ..) => match desk.site.names.take(look_up)? {
                    Ok(entries) => self.named(&entries, desk),
                    Err(refusal) => Err(refusal),
                },
                Stage::Copying(writing) => {
                    let outcome = writing.outcome(desk.monitor, now)?;
                    outcome.map(|()| Next::Done(None))
                }
            };
            match answer {
                Ok(Next::Wait) => {}
                Ok(Next::Done(mapped)) => return Some(Ok(mapped)),
                Err(refusal) => return Some(Err(refusal)),
            }
        }
    }

    fn verified(&mut self, party: Party, desk: &mut Desk<'_>) -> Result<Next, Refusal> {
        if let Goal::Renew { holder, .. } = &self.goal
            && (party.kind, &party.identity) != (holder.kind, &holder.identity)
        {
            let text = "the new credential belongs to somebody else than the payload does";
            let class = RefusalClass::Job;
            return Err(credential(class, "renew.identity", text.to_owned(), false));
        }
        let case = (!matches!(self.goal, Goal::Present)).then(|| self.case(&party, desk));
        self.party = Some(party);
        let Some(case) = case else {
            return Ok(Next::Done(None));
        };
        let files = match &self.files {
            Ok(Some(files)) => files,
            Ok(None) => &reread(desk)?,
            Err(refusal) => return Err(refusal.clone()),
        };
        match files.decide(&case)? {
            Verdict::Decided(decision) => self.decided(decision, desk),
            Verdict::Mapper(question) => self.ask_mapper(question, desk),
        }
    }

    fn case(&self, holder: &Party, desk: &Desk<'_>) -> Case {
        let slot_account = match &self.goal {
            Goal::Open { slot_account, .. } => slot_account.clone(),
            _ => None,
        };
        let (caller, now_unix) = (&desk.site.caller, unix_now());
        Case {
            purpose: self.goal.purpose(),
            holder: holder.clone(),
            pilot: desk.pilot.filter(|it| it.not_after > now_unix).cloned(),
            caller_uid: caller.uid,
            caller_name: caller.name.clone(),
            slot_account,
            now_unix,
        }
    }

    /// In a thread of its own, because it takes as long as it takes.
    fn ask_mapper(&mut self, ask: MapperQuestion, desk: &Desk<'_>) -> Result<Next, Refusal> {
        let failed = |why: &str| trouble("mapper.failed", format!("the external mapper: {why}"));
        if Arc::strong_count(desk.mappers) > MAX_MAPPERS {
            let text = "too many questions to the external mapper at once; try again".to_owned();
            let class = RefusalClass::SiteTransient;
            return Err(mapping(class, "mapper.busy", text, true));
        }
        let (ours, theirs) = packet_sockets().map_err(|errno| failed(errno.desc()))?;
        let (sender, receiver) = channel();
        let counted = Arc::clone(desk.mappers);
        let run = move || {
            // If nobody wants to know any more, there is nobody to tell.
            let _ = sender.send(ask());
            drop((theirs, counted));
        };
        std::thread::Builder::new()
            .spawn(run)
            .map_err(|error| failed(&why(&error)))?;
        self.stage = Stage::Mapping(receiver, ours);
        Ok(Next::Wait)
    }

    fn decided(&mut self, decision: Decision, desk: &mut Desk<'_>) -> Result<Next, Refusal> {
        if let Goal::Renew { payload, copy, .. } = &mut self.goal {
            let Some(ProxyCopy { credential, name }) = copy.take() else {
                return Ok(Next::Done(None));
            };
            let writing = Writing::start(desk.monitor, *payload, name, credential.as_fd())?;
            self.stage = Stage::Copying(writing);
            return Ok(Next::Wait);
        }
        let runs = self.purpose() == Purpose::Run;
        if runs {
            desk.ready.expected = matches!(decision, Decision::Dynamic { .. });
        }
        let wish = match decision {
            Decision::Account {
                name,
                groups,
                source,
            } => Wish {
                what: What::Account { name },
                groups,
                source,
            },
            Decision::Dynamic { .. } if !runs => {
                let text = "this identity gets a number of its own for each payload, no account";
                let class = RefusalClass::SitePermanent;
                return Err(mapping(class, "map.dynamic", text.to_owned(), false));
            }
            Decision::Dynamic { groups } => Wish {
                what: What::Dynamic,
                groups,
                source: "dynamic_uids".to_owned(),
            },
            Decision::Pool {
                prefix,
                lease_name: lease,
                exact,
                groups,
                source,
            } => Wish {
                what: self.candidates(prefix, lease, exact, desk)?,
                groups,
                source,
            },
        };
        self.look_up(wish, desk)
    }

    /// Who has the lease, or could get it.
    fn candidates(
        &self,
        prefix: String,
        lease: String,
        exact: String,
        desk: &Desk<'_>,
    ) -> Result<What, Refusal> {
        let claim = Ask::PoolClaim {
            lease: lease.clone(),
            exact,
            keep: self.purpose() != Purpose::VerifyOnly,
        };
        let pool = match desk.monitor.ask_with(&claim, &[])? {
            (Reply::Pool, beside) => Pool::read(beside)?,
            _ => return Err(desk.monitor.confused()),
        };
        let holder = pool.holder(&lease, &prefix)?;
        let held = holder.is_some();
        let mut candidates = match holder {
            Some(name) => vec![name],
            None if self.purpose() == Purpose::VerifyOnly => Vec::new(),
            None => pool.free(&prefix),
        };
        candidates.truncate(CANDIDATES);
        if candidates.is_empty() {
            return Err(no_pool_account(&prefix));
        }
        Ok(What::Pool {
            prefix,
            lease,
            candidates,
            held,
        })
    }

    fn look_up(&mut self, wish: Wish, desk: &mut Desk<'_>) -> Result<Next, Refusal> {
        let mut queries: Vec<_> = match &wish.what {
            What::Account { name } => vec![Query::Account(name.clone())],
            What::Pool { candidates, .. } => {
                candidates.iter().cloned().map(Query::Account).collect()
            }
            What::Dynamic => Vec::new(),
        };
        let groups = wish.groups.iter();
        let groups = groups.flat_map(|groups| groups.primary.iter().chain(&groups.secondary));
        queries.extend(groups.cloned().map(Query::Group));
        if queries.is_empty() {
            return self.settle(&wish, &[], &[], desk);
        }
        self.ask_names(queries, wish, desk)
    }

    fn ask_names(
        &mut self,
        queries: Vec<Query>,
        wish: Wish,
        desk: &mut Desk<'_>,
    ) -> Result<Next, Refusal> {
        let look_up = desk.site.names.ask(&queries, desk.monitor)?;
        self.stage = Stage::Naming(look_up, queries, wish);
        Ok(Next::Wait)
    }

    fn named(&mut self, entries: &Entries, desk: &mut Desk<'_>) -> Result<Next, Refusal> {
        let Stage::Naming(_, queries, wish) = &self.stage else {
            return Err(confused());
        };
        if queries.len() != entries.len() {
            return Err(confused());
        }
        let (queries, wish) = (queries.clone(), wish.clone());
        self.settle(&wish, &queries, entries, desk)
    }

    /// From what the name service knows to an account and what keeps it.
    fn settle(
        &mut self,
        wish: &Wish,
        queries: &[Query],
        entries: &[Option<Entry>],
        desk: &mut Desk<'_>,
    ) -> Result<Next, Refusal> {
        desk.site.dynamic.learn(queries, entries);
        for (query, entry) in queries.iter().zip(entries) {
            if let (Query::Group(name), None) = (query, entry) {
                let text = format!("group {name}, which the policy names, does not exist");
                let class = RefusalClass::SitePermanent;
                return Err(mapping(class, "map.group_missing", text, false));
            }
        }
        match &wish.what {
            What::Account { name } => {
                if entries.first().and_then(Option::as_ref).is_none() {
                    let text = format!("account {name}, which the policy names, does not exist");
                    let class = RefusalClass::SitePermanent;
                    return Err(mapping(class, "map.account_missing", text, false));
                }
                let (account, leased) = match self.purpose() {
                    Purpose::Run => (self.lease(name, wish, desk)?, true),
                    _ => (judge(name, wish, desk)?, false),
                };
                Ok(self.mapped(account, leased, None, wish))
            }
            What::Pool {
                prefix,
                lease,
                candidates,
                held,
            } => {
                let existing = candidates.iter().zip(entries);
                let existing = existing.filter(|(_, entry)| entry.is_some());
                for (name, _) in existing {
                    let (account, got) = match held {
                        true => self.hold(name, lease, wish, desk)?,
                        false => match self.win(name, lease, wish, desk)? {
                            Some(outcome) => outcome,
                            None => continue,
                        },
                    };
                    match got {
                        Linked::Done => {
                            let leased = self.purpose() == Purpose::Run;
                            return Ok(self.mapped(account, leased, Some(lease.clone()), wish));
                        }
                        Linked::AccountTaken => {}
                        Linked::LeaseExists if self.races < RACES => {
                            self.races += 1;
                            return self.race_again(prefix, lease, wish, desk);
                        }
                        Linked::LeaseExists => break,
                    }
                }
                Err(no_pool_account(prefix))
            }
            What::Dynamic => self.dynamic(wish, desk),
        }
    }

    fn mapped(&self, account: Account, leased: bool, pool: Option<String>, wish: &Wish) -> Next {
        let payload = leased.then(|| Taken {
            payload: self.serial,
            account: account.clone(),
            nest: None,
        });
        Next::Done(Some(Box::new(Mapped {
            payload,
            account,
            pool,
            source: wish.source.clone(),
        })))
    }

    /// Leases an account that others may use at the same time.
    fn lease(&self, name: &str, wish: &Wish, desk: &Desk<'_>) -> Result<Account, Refusal> {
        desk.monitor.account(&Ask::Lease {
            payload: self.serial,
            target: Target::Named(name.to_owned()),
            groups: wish.groups.clone(),
            sweep: false,
        })
    }

    /// Gives a lease back.
    fn give_back(&self, desk: &Desk<'_>) {
        let payload = self.serial;
        let _ = desk.monitor.order(&Ask::Bury { payload });
    }

    /// A pool account that the identity has already.
    fn hold(
        &self,
        name: &str,
        lease: &str,
        wish: &Wish,
        desk: &Desk<'_>,
    ) -> Result<(Account, Linked), Refusal> {
        let touch = Ask::PoolTouch {
            account: name.to_owned(),
            lease: lease.to_owned(),
        };
        let runs = self.purpose() == Purpose::Run;
        let account = match runs {
            true => self.lease(name, wish, desk)?,
            false => judge(name, wish, desk)?,
        };
        if self.purpose() == Purpose::VerifyOnly {
            return Ok((account, Linked::Done));
        }
        let still = desk.monitor.linked(&touch) == Ok(Linked::Done);
        if !still && runs {
            self.give_back(desk);
        }
        let got = match still {
            true => Linked::Done,
            false => Linked::LeaseExists,
        };
        Ok((account, got))
    }

    /// A pool account that nobody has: if it is fit and as new, it is the identity's from now on.
    fn win(
        &self,
        name: &str,
        lease: &str,
        wish: &Wish,
        desk: &Desk<'_>,
    ) -> Result<Option<(Account, Linked)>, Refusal> {
        let Ok(account) = self.lease(name, wish, desk) else {
            return Ok(None);
        };
        let monitor = desk.monitor;
        let look = monitor.run_errand(self.serial, Errand::Alone { home: true }, LOOK);
        let got = if look == Ok(Some(DONE)) {
            monitor.linked(&Ask::PoolLink {
                account: name.to_owned(),
                lease: lease.to_owned(),
            })
        } else {
            Ok(Linked::AccountTaken)
        };
        if got != Ok(Linked::Done) || self.purpose() != Purpose::Run {
            self.give_back(desk);
        }
        let got = got?;
        Ok(Some((account, got)))
    }

    /// Somebody else was faster for this identity: look again who has it.
    fn race_again(
        &mut self,
        prefix: &str,
        lease: &str,
        wish: &Wish,
        desk: &mut Desk<'_>,
    ) -> Result<Next, Refusal> {
        let exact = self.party.as_ref().map(|party| party.identity.clone());
        let exact = exact.unwrap_or_default();
        let what = self.candidates(prefix.to_owned(), lease.to_owned(), exact, desk)?;
        let wish = wish.clone();
        self.look_up(Wish { what, ..wish }, desk)
    }

    /// A number that belongs to nobody: the one that is ready, or the first that is free.
    fn dynamic(&mut self, wish: &Wish, desk: &mut Desk<'_>) -> Result<Next, Refusal> {
        let place = match &self.goal {
            Goal::Open { place, .. } => place.as_ref(),
            _ => None,
        };
        if wish.groups.is_none()
            && let Some(taken) = desk.ready.take(desk.monitor, place)
        {
            return Ok(Next::Done(Some(Box::new(Mapped {
                account: taken.account.clone(),
                payload: Some(taken),
                pool: None,
                source: wish.source.clone(),
            }))));
        }
        if let Some(account) = self.lease_dynamic(wish, desk)? {
            return Ok(self.mapped(account, true, None, wish));
        }
        let unknown = desk.site.dynamic.unknown();
        if !unknown.is_empty() {
            let groups = wish.groups.iter();
            let groups = groups.flat_map(|groups| groups.primary.iter().chain(&groups.secondary));
            let groups = groups.cloned().map(Query::Group);
            let queries = unknown.into_iter().chain(groups).collect();
            return self.ask_names(queries, wish.clone(), desk);
        }
        let text = "every account of dynamic_uids is in use; try again later or make the range \
                    larger";
        let class = RefusalClass::SiteTransient;
        Err(mapping(class, "lease.none", text.to_owned(), true))
    }

    fn lease_dynamic(&self, wish: &Wish, desk: &mut Desk<'_>) -> Result<Option<Account>, Refusal> {
        let monitor = desk.monitor;
        for uid in desk.site.dynamic.free() {
            let lease = monitor.account(&Ask::Lease {
                payload: self.serial,
                target: Target::Dynamic(uid),
                groups: wish.groups.clone(),
                sweep: false,
            });
            let account = match lease {
                Ok(account) => account,
                Err(refusal) if monitor.is_gone() => return Err(refusal),
                Err(_) => continue,
            };
            let look = monitor.run_errand(self.serial, Errand::Alone { home: false }, LOOK);
            if look == Ok(Some(DONE)) {
                desk.site.dynamic.used(uid);
                return Ok(Some(account));
            }
            // Something runs as this number that no broker answers for.
            self.give_back(desk);
        }
        Ok(None)
    }

    fn purpose(&self) -> Purpose {
        match &self.goal {
            Goal::Open { purpose, .. } => *purpose,
            _ => Purpose::VerifyOnly,
        }
    }
}

enum Next {
    Wait,
    Done(Option<Box<Mapped>>),
}

/// May this account be a target?
fn judge(name: &str, wish: &Wish, desk: &Desk<'_>) -> Result<Account, Refusal> {
    desk.monitor.account(&Ask::Judge {
        target: Target::Named(name.to_owned()),
        groups: wish.groups.clone(),
    })
}

/// The configuration has changed since it was read.
fn reread(desk: &mut Desk<'_>) -> Result<Files, Refusal> {
    // Made by rules that are no longer in force.
    desk.ready.cool_down(desk.monitor);
    if desk.site.reread(desk.monitor)? {
        desk.verifiers.cool_down();
        let text = "the rules for credentials have just been changed; ask again";
        let class = RefusalClass::SiteTransient;
        return Err(helper(class, "conf.changed", text.to_owned(), true));
    }
    desk.site.files(desk.monitor)?.ok_or_else(confused)
}

fn no_pool_account(prefix: &str) -> Refusal {
    let text = format!(
        "no account {prefix}NUMBER of the gridmapdir is free, exists, runs nothing and has a clean home"
    );
    mapping(RefusalClass::SiteTransient, "pool.none", text, true)
}
