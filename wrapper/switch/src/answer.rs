//! What the monitor does when it is asked. Every number, name and path that the broker gives is checked against
//! what the monitor itself holds or knows.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use launch_protocol::broker::{OpenLimits, Refusal};
use launch_protocol::lease::Record;
use launch_protocol::monitor::{Ask, Linked, Reply, Target, Which};
use launch_protocol::policy::{Entry, Groups, LimitRules, Query, Settings};
use nix::fcntl::OFlag;
use nix::unistd::{getpid, pipe2};

use crate::account::{Rules, TargetAccount};
use crate::cgroup::Group;
use crate::held::Held;
use crate::introduce::{Standing, files};
use crate::lease::Lease;
use crate::monitor::{Answer, Monitor};
use crate::pool::Pool;
use crate::programs::start_recovery;
use crate::refuse::{caller, failed, mapping, site, trouble};
use crate::sandbox::{Place, Sandbox};
use crate::spawn::Child;
use crate::sys;
use crate::trusted::{self, Kind};

fn done() -> Answer {
    Ok((Reply::Done, Vec::new()))
}

fn plain(reply: Reply) -> Answer {
    Ok((reply, Vec::new()))
}

impl Monitor {
    pub(crate) fn answer(&mut self, ask: Ask, beside: &[OwnedFd]) -> Answer {
        match ask {
            Ask::Names => self.restart_names(),
            Ask::Verifier => {
                let (pid, socket) = self.standing.start_verifier(&self.ground)?;
                Ok((self.started(pid), vec![socket]))
            }
            Ask::Files => files(&self.standing.settings).map(|files| (Reply::Files, files)),
            Ask::Reread => self.reread().and_then(plain),
            Ask::Warm => {
                self.nursery.warm_up(&self.standing, &self.ground);
                done()
            }
            Ask::Cool => {
                self.nursery.close();
                self.standing.tracking.remove_orphans();
                done()
            }
            Ask::Judge { target, groups } => {
                let account = self.judge(&target, groups.as_ref())?;
                plain(Reply::Account((*account).clone()))
            }
            Ask::Lease { payload, target, groups, sweep: false } => self.lease(payload, &target, groups.as_ref()),
            Ask::Make { payload, label, place, limits, alone } => {
                self.make(payload, label, place.as_deref(), &limits, alone)
            }
            Ask::Limit { payload, label, limits } => self.limit(payload, label, &limits),
            Ask::Hatch { payload } => {
                self.find(payload)?.account()?;
                let (child, socket) = self.start_agent(payload, (None, false))?;
                Ok((Reply::Started { child }, vec![socket]))
            }
            Ask::Signal { child, signal } => self.signal(child, signal),
            Ask::SignalAll { payload, signal } => {
                let signal = checked(signal)?;
                self.find(payload)?.group.iter().for_each(|group| group.signal_all(signal));
                done()
            }
            Ask::Freeze { payload, stop } => {
                self.find(payload)?.group.iter().for_each(|group| group.freeze(stop));
                done()
            }
            Ask::Kill { payload } => {
                self.find(payload)?;
                self.kill(payload);
                done()
            }
            Ask::Errand { payload, errand } => {
                let may = !errand.is_wide() || self.further.is_some();
                let null = self.ground.null.as_fd();
                let held = self.held.get(&payload).ok_or_else(unknown)?;
                if !may && !held.account()?.dynamic {
                    return Err(caller("errand.shared", "others may use this account"));
                }
                let pid = held.run_errand(&errand, beside.first(), null, &self.standing)?;
                plain(self.started(pid))
            }
            Ask::Hook { payload, which, facts } => self.hook(payload, which, &facts),
            Ask::Bury { payload } => self.bury(payload),
            Ask::Abandon { payload } => {
                self.find(payload)?;
                self.kill(payload);
                self.held.remove(&payload);
                done()
            }
            Ask::Endings => plain(self.endings()),
            Ask::Recover if !self.standing.leases.has_stale() => done(),
            Ask::Recover => {
                let started = start_recovery().map_err(failed("recover.start", "cleaning up"))?;
                plain(self.started(started))
            }
            Ask::PoolClaim { lease, exact, keep } => {
                let pool = self.pool()?;
                pool.claim(&lease, &exact, keep)?;
                listed(&pool)
            }
            Ask::PoolLink { account, lease } => {
                let linked = self.pool()?.link(&account, &lease);
                plain(Reply::Linked(linked.map_err(failed("pool.lease", "leasing an account"))?))
            }
            Ask::PoolTouch { account, lease } => {
                let ours = self.pool()?.touch(&account, &lease) == Ok(true);
                plain(Reply::Linked(if ours { Linked::Done } else { Linked::LeaseExists }))
            }
            other => match self.further {
                Some(further) => further(self, other),
                None => Err(caller("monitor.mode", "that is for others, or was at the start")),
            },
        }
    }

    /// The site's gridmapdir.
    ///
    /// # Errors
    /// If there is none that can be trusted.
    pub fn pool(&self) -> Result<Pool, Refusal> {
        let path = self.standing.settings.gridmapdir.as_deref();
        Pool::open(path.ok_or_else(|| caller("conf.gridmapdir", "gridmapdir is not set"))?)
    }

    /// Requirement M3, by what the name service has told the monitor.
    ///
    /// # Errors
    /// If the account may be no target, or nobody knows it.
    pub fn judge(&mut self, target: &Target, groups: Option<&Groups>) -> Result<TargetAccount, Refusal> {
        let names = &mut self.broker.names;
        let groups = groups.map(|groups| {
            let mut number = |name: &String| match names.get(&Query::Group(name.clone())) {
                Some(Some(Entry::Group { gid })) => Ok(*gid),
                _ => Err(missing("map.group_missing", "group", name)),
            };
            let primary = groups.primary.as_ref().map(&mut number).transpose()?;
            Ok((primary, groups.secondary.iter().map(number).collect::<Result<Vec<_>, _>>()?))
        });
        let groups = groups.transpose()?;
        let rules = Rules { settings: &self.standing.settings, caller: &self.standing.caller, groups: groups.as_ref() };
        let (account, name) = match target {
            Target::Named(name) => {
                let known = names.get(&Query::Account(name.clone())).flatten();
                let entry = known.ok_or_else(|| missing("map.account_missing", "account", name))?;
                (TargetAccount::named(entry, rules), name.clone())
            }
            Target::Dynamic(uid) if names.get(&Query::Uid(*uid)) != Some(None) => {
                return Err(trouble("lease.taken", format!("uid {uid} belongs to an account")));
            }
            Target::Dynamic(uid) => (TargetAccount::dynamic(*uid, rules), format!("uid{uid}")),
        };
        account.map_err(|why| {
            let text = format!("the policy names account {name}, which no payload may use: {why}");
            mapping("map.account_unfit", text)
        })
    }

    /// This number may be given to a payload.
    ///
    /// # Errors
    /// If it is in use.
    pub fn expect_new(&self, payload: u32) -> Result<(), Refusal> {
        let free = payload != 0 && !self.held.contains_key(&payload);
        free.then_some(()).ok_or_else(|| caller("payload.number", "this number is in use"))
    }

    fn lease(&mut self, payload: u32, target: &Target, groups: Option<&Groups>) -> Answer {
        self.expect_new(payload)?;
        let account = self.judge(target, groups)?;
        let name = &account.name;
        let mut shared = self.held.values().filter_map(|held| held.account.as_ref());
        if !self.standing.tracking.places.has_groups() && shared.any(|it| it.uid == account.uid) {
            let text = "without cgroup2 one account can run one payload at a time";
            return Err(trouble("lease.busy", text));
        }
        let leases = &self.standing.leases;
        let lease = match account.dynamic {
            true => account.uid.to_string(),
            false => format!("{name}-{}-{payload}", getpid()),
        };
        let text = |why| format!("the lease {lease} {why}");
        let taken = leases.take(&lease);
        let lease = match taken.map_err(|errno| trouble("lease.failed", text(errno.desc())))? {
            Some(lease) if lease.is_new() => lease,
            // Of a monitor that lives, or of a dead one: its things are removed at the next start.
            _ => return Err(trouble("lease.busy", text("is taken"))),
        };
        // The sweeper takes its own lease first and looks for others then: one of the two sees the other.
        if !account.dynamic && leases.exists(&sweeping(name)) {
            leases.release(lease);
            return Err(trouble("lease.swept", format!("{name} is being swept; try again later")));
        }
        Ok(self.hold(payload, account, lease))
    }

    /// Keeps the books of a payload that has an account now.
    pub fn hold(&mut self, payload: u32, account: TargetAccount, lease: Lease) -> (Reply, Vec<OwnedFd>) {
        let reply = Reply::Account((*account).clone());
        let held = Held { account: Some(account), lease: Some(lease), ..Held::default() };
        self.held.insert(payload, held);
        (reply, Vec::new())
    }

    fn make(&mut self, payload: u32, label: String, place: Option<&Path>, limits: &OpenLimits, alone: bool) -> Answer {
        let Standing { settings, caller: pilot, tracking, .. } = &self.standing;
        let open = |path| Place::open(path, &settings.execute_dirs, pilot.uid);
        let place = place.map(open).transpose()?;
        let held = self.held.get_mut(&payload).ok_or_else(unknown)?;
        let account = held.account()?.clone();
        if held.group.is_some() {
            return Err(caller("payload.made", "this payload has a group already"));
        }
        let nest = self.nursery.take(&self.standing, &self.ground);
        let nest = nest.map_err(failed("group.failed", "making the payload's group"))?;
        let name = format!("dir_{}_{payload}", getpid());
        held.record = Record {
            uid: account.uid,
            gid: account.gid,
            dynamic: account.dynamic,
            sandbox: place.as_ref().map(|it| it.path.join(&name)).unwrap_or_default(),
            groups: tracking.directories(&nest.name),
            label,
        };
        let made = record(held).and_then(|()| restrict(&nest.group, limits, &settings.limits)).and_then(|()| {
            let own_tmp = settings.isolation.private_tmp;
            let make = |place| Sandbox::make(place, &name, &account, own_tmp);
            let sandbox = place.map(make).transpose();
            sandbox.map_err(failed("sandbox.failed", "making the sandbox"))
        });
        held.sandbox = match made {
            Ok(sandbox) => sandbox,
            Err(refusal) => {
                nest.take_down();
                return Err(refusal);
            }
        };
        let sandbox = held.sandbox.as_ref().map(Sandbox::path);
        held.group = Some(nest.group);
        let (child, socket) = self.start_agent(payload, (Some(nest.waiting), alone))?;
        Ok((Reply::Made { child, group: nest.name, sandbox }, vec![socket]))
    }

    /// For a payload that was made before anybody wanted it.
    fn limit(&mut self, payload: u32, label: String, limits: &OpenLimits) -> Answer {
        let rules = self.standing.settings.limits.clone();
        let held = self.find(payload)?;
        held.record.label = label;
        record(held)?;
        if let Some(group) = &held.group {
            restrict(group, limits, &rules)?;
        }
        done()
    }

    fn signal(&self, child: i32, signal: i32) -> Answer {
        let signal = checked(signal)?;
        // Not reaped, so the number is its own, and its session's.
        if self.children.contains_key(&child) && sys::kill(-child, signal).is_err() {
            // Between `fork` and `setsid` there is no process group of that number yet.
            let _ = sys::kill(child, signal);
        }
        done()
    }

    fn hook(&mut self, payload: u32, which: Which, facts: &[(String, String)]) -> Answer {
        self.expect_new(payload)?;
        let Standing { settings: Settings { prologue, epilogue, .. }, hooks, .. } = &self.standing;
        let (hook, who) = match which {
            Which::Prologue => (prologue, &hooks[0]),
            Which::Epilogue => (epilogue, &hooks[1]),
        };
        let hook = hook.as_ref().ok_or_else(|| caller("hook.none", "there is no such hook"))?;
        let program = &hook.program;
        let refuse = |why: &str| {
            let (what, program) = (which.word(), program.display());
            let text = format!("the site's {what} {program} has failed: {why}");
            site(&format!("hook.{what}"), text)
        };
        trusted::check(which.word(), program, Kind::File).map_err(|it| refuse(&it.message))?;
        let tracking = &self.standing.tracking;
        let name = format!("sailplane-{}-hook-{payload}", getpid());
        let failed = failed("hook.start", "the site's program could not be started");
        let group = tracking.places.has_groups().then(|| tracking.create(&name));
        let group = group.transpose().map_err(&failed)?;
        // Not waiting, for either side.
        let (said, stderr) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(failed)?;
        let null = self.ground.null.as_fd();
        let environment = which.environment(facts).into_iter().map(CString::new);
        let environment: Vec<_> = environment.flatten().collect();
        let descriptors = [null, null, stderr.as_fd()];
        let child = Child::plain(who, program, &[], &descriptors);
        let child = Child { environment: &environment, group: group.as_ref(), ..child };
        let pid = child.start().map_err(|errno| refuse(errno.desc()))?;
        self.held.insert(payload, Held { group, ..Held::default() });
        let child = pid.as_raw();
        self.children.insert(child, Some(payload));
        Ok((Reply::Started { child }, vec![said]))
    }

    fn bury(&mut self, payload: u32) -> Answer {
        let alive = self.children.values().any(|role| *role == Some(payload));
        let held = self.find(payload)?;
        if alive {
            return Err(trouble("close.processes", "processes of the payload are alive"));
        }
        held.remove()?;
        if let Some(lease) = self.held.remove(&payload).and_then(|held| held.lease) {
            self.standing.leases.release(lease);
        }
        done()
    }
}

pub(crate) fn unknown() -> Refusal {
    caller("payload.unknown", "there is no payload of this number")
}

/// The lease of whoever sweeps an account that others may use.
pub fn sweeping(account: &str) -> String {
    format!("{account}-sweep")
}

/// What is in the gridmapdir.
///
/// # Errors
/// If it cannot be read.
pub fn listed(pool: &Pool) -> Answer {
    let list = pool.list().map_err(failed("pool.read", "reading the gridmapdir"))?;
    Ok((Reply::Pool, vec![list]))
}

fn checked(signal: i32) -> Result<i32, Refusal> {
    let text = "signals have numbers from 1 to 64";
    let sound = (1..=64).contains(&signal);
    sound.then_some(signal).ok_or_else(|| caller("signal.number", text))
}

fn record(held: &Held) -> Result<(), Refusal> {
    let write = |lease: &Lease| lease.record(&held.record);
    let written = held.lease.as_ref().map_or(Ok(()), write);
    written.map_err(failed("lease.failed", "writing down the lease"))
}

fn restrict(group: &Group, limits: &OpenLimits, rules: &LimitRules) -> Result<(), Refusal> {
    let limited = group.restrict(limits, rules);
    limited.map_err(failed("group.limits", "limiting the payload's group"))
}

fn missing(code: &str, what: &str, name: &str) -> Refusal {
    mapping(code, format!("{what} {name}, which the policy names, does not exist"))
}
