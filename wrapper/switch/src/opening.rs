//! One credential on its way: verify, judge, look up, lease. A state machine that the loop advances
//! whenever something it waits for has happened; it never waits itself.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use launch_protocol::broker::{OpenLimits, Purpose, Refusal, RefusalClass};
use launch_protocol::policy::{Ask, Case, Decision, Entry, Groups, Party, Query, Reply};
use launch_protocol::verdict;
use nix::unistd::Pid;

use crate::account::{MappedGroups, Rules, TargetAccount, Unfit};
use crate::errands::Runner;
use crate::lease::{Lease, LeaseDir, Taken};
use crate::pool::{Linked, Pool};
use crate::refuse::{credential, helper, mapping, trouble, unix_now};
use crate::sandbox::Place;
use crate::servant::DEADLINE;
use crate::site::{Site, confused, untrusted};
use crate::sweep::sweep_lease;
use crate::sys;
use crate::verifiers::{Verification, Verifiers};

/// How many free accounts of a pool are looked at.
const CANDIDATES: usize = 64;
/// How often the race for a pool account is run again.
const RACES: u32 = 8;

/// What all openings work with.
pub(crate) struct Desk<'a> {
    pub(crate) site: &'a mut Site,
    pub(crate) verifiers: &'a mut Verifiers,
    pub(crate) leases: &'a LeaseDir,
    pub(crate) runner: Runner<'a>,
    /// The pilot's own credential.
    pub(crate) pilot: Option<&'a Party>,
}

/// What a credential was handed in for.
#[derive(Debug)]
pub(crate) enum Goal {
    Open {
        place: Option<Place>,
        slot_account: Option<String>,
        purpose: Purpose,
        limits: OpenLimits,
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
    pub(crate) account: TargetAccount,
    pub(crate) sandbox: PathBuf,
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
    /// Configuration and policy files, opened for this one.
    files: Vec<File>,
    stage: Stage,
    reread: bool,
    races: u32,
}

#[derive(Debug)]
enum Stage {
    Verifying(Verification),
    Deciding(u32),
    Naming(u32, Vec<Query>, Wish),
    /// The account writes its copy; with the wait status, once reaped.
    Copying {
        child: Pid,
        ended: Option<i32>,
        deadline: Instant,
    },
}

/// A decision on its way to an account.
#[derive(Clone, Debug)]
struct Wish {
    what: What,
    groups: Option<Groups>,
    source: String,
}

impl Wish {
    fn instead(&self, what: What) -> Self {
        let wish = self.clone();
        Self { what, ..wish }
    }
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
    /// `more`: none of the numbers that are known to be nobody's is free.
    Dynamic {
        more: bool,
    },
}

/// The account and what keeps it.
#[derive(Debug)]
pub(crate) struct Mapped {
    pub(crate) account: TargetAccount,
    /// Only if a payload is to be opened.
    pub(crate) lease: Option<Lease>,
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
        files: Vec<File>,
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
            reread: false,
            races: 0,
        }
    }

    /// What to poll for reading; the helpers' sockets are polled for all together.
    pub(crate) fn source(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Verifying(verification) => verification.source(),
            _ => None,
        }
    }

    /// When to look again even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Verifying(verification) => Some(verification.deadline()),
            Stage::Copying { deadline, .. } => Some(*deadline),
            _ => None,
        }
    }

    /// Takes note that a child has been reaped; true if it was ours.
    pub(crate) fn reaped(&mut self, reaped: Pid, status: i32) -> bool {
        match &mut self.stage {
            Stage::Copying { child, ended, .. } if *child == reaped => {
                *ended = Some(status);
                true
            }
            _ => false,
        }
    }

    /// Goes as far as it can now; `None`: not there yet. Without an account where none was wanted.
    pub(crate) fn advance(
        &mut self,
        desk: &mut Desk<'_>,
        now: Instant,
    ) -> Option<Result<Option<Mapped>, Refusal>> {
        loop {
            let answer = match &mut self.stage {
                Stage::Verifying(verification) => {
                    match verification.advance(desk.verifiers, now)? {
                        Ok(party) => self.verified(party, desk),
                        Err(refusal) => Err(refusal),
                    }
                }
                Stage::Deciding(id) => match desk.site.decide.take(*id)? {
                    Ok(reply) => self.decided(reply, desk),
                    Err(refusal) => Err(refusal),
                },
                Stage::Naming(id, ..) => match desk.site.names.take(*id)? {
                    Ok(reply) => self.named(reply, desk),
                    Err(refusal) => Err(refusal),
                },
                Stage::Copying { ended: Some(0), .. } => Ok(Next::Done(None)),
                Stage::Copying { ended: Some(_), .. } => Err(not_copied("the account cannot")),
                Stage::Copying {
                    child, deadline, ..
                } if now >= *deadline => {
                    // Not reaped, so the number is its own.
                    let _ = sys::kill(child.as_raw(), libc::SIGKILL);
                    Err(not_copied("it took too long"))
                }
                Stage::Copying { .. } => return None,
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
        self.party = Some(party);
        if matches!(self.goal, Goal::Present) {
            return Ok(Next::Done(None));
        }
        self.ask(desk)
    }

    fn ask(&mut self, desk: &mut Desk<'_>) -> Result<Next, Refusal> {
        let slot_account = match &self.goal {
            Goal::Open { slot_account, .. } => slot_account.clone(),
            _ => None,
        };
        let holder = self.party.clone().ok_or_else(confused)?;
        let caller = &desk.site.caller;
        let case = Case {
            purpose: self.goal.purpose(),
            holder,
            pilot: desk.pilot.filter(|it| it.not_after > unix_now()).cloned(),
            caller_uid: caller.uid,
            caller_name: caller.name.clone(),
            slot_account,
            now_unix: unix_now(),
        };
        let beside: Vec<_> = self.files.iter().map(|file| file.as_fd()).collect();
        let ask = Ask::Decide(Box::new(case));
        self.stage = Stage::Deciding(desk.site.decide.ask(ask, &beside, desk.runner.null)?);
        Ok(Next::Wait)
    }

    fn decided(&mut self, reply: Reply, desk: &mut Desk<'_>) -> Result<Next, Refusal> {
        let decision = match reply {
            Reply::Decided(decision) => decision,
            Reply::Reread if !self.reread => {
                self.reread = true;
                reread(desk)?;
                self.files = desk.site.files()?;
                return self.ask(desk);
            }
            _ => return Err(confused()),
        };
        if let Goal::Renew { copy, .. } = &self.goal {
            let Some(copy) = copy else {
                return Ok(Next::Done(None));
            };
            let child = desk
                .runner
                .put_proxy(
                    &copy.account,
                    &copy.sandbox,
                    &copy.name,
                    copy.credential.as_fd(),
                )
                .map_err(|errno| not_copied(errno.desc()))?;
            self.stage = Stage::Copying {
                child,
                ended: None,
                deadline: Instant::now() + DEADLINE,
            };
            return Ok(Next::Wait);
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
            Decision::Dynamic { groups } => Wish {
                what: What::Dynamic { more: false },
                groups,
                source: "dynamic_uids".to_owned(),
            },
            Decision::Pool {
                prefix,
                lease_name: lease,
                exact,
                groups,
                source,
            } => {
                let keep = self.purpose() != Purpose::VerifyOnly;
                open_pool(desk.site)?.claim(&lease, &exact, keep)?;
                let what = self.candidates(prefix, lease, desk)?;
                Wish {
                    what,
                    groups,
                    source,
                }
            }
        };
        self.look_up(wish, desk)
    }

    /// Who has the lease, or could get it.
    fn candidates(&self, prefix: String, lease: String, desk: &Desk<'_>) -> Result<What, Refusal> {
        let pool = open_pool(desk.site)?;
        let holder = pool.holder(&lease, &prefix)?;
        let held = holder.is_some();
        let mut candidates = match holder {
            Some(name) => vec![name],
            None if self.purpose() == Purpose::VerifyOnly => Vec::new(),
            None => pool
                .free(&prefix)
                .map_err(|errno| trouble("pool.read", errno.desc().to_owned()))?,
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
            What::Dynamic { more: true } => desk.site.dynamic.unknown(),
            What::Dynamic { more: false } => Vec::new(),
        };
        let groups = wish.groups.iter();
        let groups = groups.flat_map(|groups| groups.primary.iter().chain(&groups.secondary));
        queries.extend(groups.cloned().map(Query::Group));
        if queries.is_empty() {
            return self.settle(&wish, &[], &[], desk);
        }
        let ask = Ask::Names(queries.clone());
        let id = desk.site.names.ask(ask, &[], desk.runner.null)?;
        self.stage = Stage::Naming(id, queries, wish);
        Ok(Next::Wait)
    }

    fn named(&mut self, reply: Reply, desk: &mut Desk<'_>) -> Result<Next, Refusal> {
        let (Stage::Naming(_, queries, wish), Reply::Names(entries)) = (&self.stage, reply) else {
            return Err(confused());
        };
        if queries.len() != entries.len() {
            return Err(confused());
        }
        let (queries, wish) = (queries.clone(), wish.clone());
        self.settle(&wish, &queries, &entries, desk)
    }

    /// From what the name service knows to an account and what keeps it.
    fn settle(
        &mut self,
        wish: &Wish,
        queries: &[Query],
        entries: &[Option<Entry>],
        desk: &mut Desk<'_>,
    ) -> Result<Next, Refusal> {
        let groups = wish
            .groups
            .as_ref()
            .map(|wanted| numbers(wanted, queries, entries));
        let groups = groups.transpose()?;
        let pool = match &wish.what {
            What::Pool { .. } => Some(open_pool(desk.site)?),
            _ => None,
        };
        desk.site.dynamic.learn(queries, entries);
        let Site {
            settings,
            caller,
            dynamic,
            ..
        } = &mut *desk.site;
        let rules = Rules {
            settings,
            caller,
            groups: groups.as_ref(),
        };
        match &wish.what {
            What::Account { name } => {
                let entry = entries.first().and_then(Option::as_ref).ok_or_else(|| {
                    let text = format!("account {name}, which the policy names, does not exist");
                    mapping(
                        RefusalClass::SitePermanent,
                        "map.account_missing",
                        text,
                        false,
                    )
                })?;
                let account = TargetAccount::named(entry, rules).map_err(|why| unfit(name, why))?;
                self.keep(account, None, wish, desk)
            }
            What::Pool {
                prefix,
                lease,
                candidates,
                held,
            } => {
                let pool = pool.ok_or_else(confused)?;
                for (name, entry) in candidates.iter().zip(entries) {
                    let account = match entry.as_ref().map(|it| TargetAccount::named(it, rules)) {
                        Some(Ok(account)) if account.name() == name => account,
                        Some(Err(why)) if *held => return Err(unfit(name, why)),
                        _ => continue,
                    };
                    let failed = |errno: nix::errno::Errno| {
                        trouble("pool.lease", format!("lease {lease}: {}", errno.desc()))
                    };
                    let got = if *held {
                        let still = self.purpose() == Purpose::VerifyOnly
                            || pool.touch(name, lease) == Ok(true);
                        if still {
                            Linked::Done
                        } else {
                            Linked::LeaseExists
                        }
                    } else if desk.runner.is_unused(&account) {
                        pool.link(name, lease).map_err(failed)?
                    } else {
                        Linked::AccountTaken
                    };
                    match got {
                        Linked::Done => return self.keep(account, Some(lease.clone()), wish, desk),
                        Linked::AccountTaken => {}
                        Linked::LeaseExists if self.races < RACES => {
                            self.races += 1;
                            let what = self.candidates(prefix.clone(), lease.clone(), desk)?;
                            return self.look_up(wish.instead(what), desk);
                        }
                        Linked::LeaseExists => break,
                    }
                }
                Err(no_pool_account(prefix))
            }
            What::Dynamic { .. } if self.purpose() != Purpose::Run => {
                let text = "this identity gets a number of its own for each payload, no account";
                let class = RefusalClass::SitePermanent;
                Err(mapping(class, "map.dynamic", text.to_owned(), false))
            }
            What::Dynamic { .. } => match dynamic.take(rules, desk.leases, desk.runner) {
                Some((account, lease)) => Ok(Next::Done(Some(Mapped {
                    account,
                    lease: Some(lease),
                    pool: None,
                    source: wish.source.clone(),
                }))),
                None if !dynamic.unknown().is_empty() => {
                    let what = What::Dynamic { more: true };
                    self.look_up(wish.instead(what), desk)
                }
                None => {
                    let text = "every account of dynamic_uids is in use; try again later or make \
                                the range larger";
                    let class = RefusalClass::SiteTransient;
                    Err(mapping(class, "lease.none", text.to_owned(), true))
                }
            },
        }
    }

    /// An account that others may use at the same time.
    fn keep(
        &self,
        account: TargetAccount,
        pool: Option<String>,
        wish: &Wish,
        desk: &Desk<'_>,
    ) -> Result<Next, Refusal> {
        let mut lease = None;
        if self.purpose() == Purpose::Run {
            let name = format!("{}-{}-{}", account.name(), std::process::id(), self.serial);
            lease = match desk.leases.take(&name) {
                Ok(Taken::Fresh(lease)) => Some(lease),
                // A dead broker with our number: its things are removed at the next start.
                Ok(_) => return Err(trouble("lease.busy", format!("the lease {name} is taken"))),
                Err(errno) => {
                    let text = format!("the lease {name}: {}", errno.desc());
                    return Err(trouble("lease.failed", text));
                }
            };
            // See there: one of the two sees the other.
            if let Some(lease) = lease.take_if(|_| desk.leases.exists(&sweep_lease(&account))) {
                desk.leases.release(lease);
                let text = format!("{} is being swept; try again later", account.name());
                return Err(trouble("lease.swept", text));
            }
        }
        Ok(Next::Done(Some(Mapped {
            account,
            lease,
            pool,
            source: wish.source.clone(),
        })))
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
    Done(Option<Mapped>),
}

/// The configuration has changed since it was read.
fn reread(desk: &mut Desk<'_>) -> Result<(), Refusal> {
    let before = desk.site.settings.verifier.clone();
    desk.site.reread(desk.runner.null)?;
    if before == desk.site.settings.verifier {
        return Ok(());
    }
    *desk.verifiers = desk.site.verifiers()?;
    let text = "the rules for credentials have just been changed; ask again";
    let class = RefusalClass::SiteTransient;
    Err(helper(class, "conf.changed", text.to_owned(), true))
}

fn not_copied(why: &str) -> Refusal {
    let text = format!("the renewed credential could not be put into the sandbox: {why}");
    trouble("renew.write", text)
}

fn open_pool(site: &Site) -> Result<Pool, Refusal> {
    let path = site.settings.gridmapdir.as_deref().ok_or_else(confused)?;
    Pool::open(path).map_err(|error| untrusted("gridmapdir", &error))
}

fn numbers(
    wanted: &Groups,
    queries: &[Query],
    entries: &[Option<Entry>],
) -> Result<MappedGroups, Refusal> {
    let number = |name: &String| {
        let known = queries
            .iter()
            .zip(entries)
            .find_map(|(query, entry)| match (query, entry) {
                (Query::Group(asked), Some(Entry::Group { gid })) if asked == name => Some(*gid),
                _ => None,
            });
        known.ok_or_else(|| {
            let text = format!("group {name}, which the policy names, does not exist");
            mapping(
                RefusalClass::SitePermanent,
                "map.group_missing",
                text,
                false,
            )
        })
    };
    Ok(MappedGroups {
        primary: wanted.primary.as_ref().map(number).transpose()?,
        secondary: wanted
            .secondary
            .iter()
            .map(number)
            .collect::<Result<_, _>>()?,
    })
}

fn no_pool_account(prefix: &str) -> Refusal {
    let text = format!(
        "no account {prefix}NUMBER of the gridmapdir is free, exists, runs nothing and has a clean home"
    );
    mapping(RefusalClass::SiteTransient, "pool.none", text, true)
}

fn unfit(name: &str, why: Unfit) -> Refusal {
    let text = format!("the policy names account {name}, which no payload may use: {why}");
    mapping(
        RefusalClass::SitePermanent,
        "map.account_unfit",
        text,
        false,
    )
}
