//! What the monitor does when it is asked. Every number, name and path that the broker gives is checked against
//! what the monitor itself holds or knows.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use launch_protocol::broker::{OpenLimits, Refusal, RefusalClass};
use launch_protocol::lease::Record;
use launch_protocol::monitor::{
    Adopted, Ask, Errand, Linked, MAX_LISTED, Mode, Reply, Target, Which,
};
use launch_protocol::policy::{Groups, Query};
use nix::fcntl::OFlag;
use nix::unistd::{getpid, pipe2};

use crate::account::{MappedGroups, Rules, TargetAccount};
use crate::cgroup::Group;
use crate::held::Held;
use crate::hooks;
use crate::introduce::{files, untrusted};
use crate::lease::{Lease, Taken};
use crate::monitor::{Monitor, Role, failed};
use crate::pool::Pool;
use crate::refuse::{caller, helper, mapping, trouble};
use crate::sandbox::{Place, Sandbox};
use crate::spool;
use crate::sys;

type Answer = Result<(Reply, Vec<OwnedFd>), Refusal>;

fn done() -> Answer {
    Ok((Reply::Done, Vec::new()))
}

fn plain(reply: Reply) -> Answer {
    Ok((reply, Vec::new()))
}

impl Monitor {
    pub(crate) fn answer(&mut self, ask: Ask, beside: Vec<OwnedFd>) -> Answer {
        match ask {
            Ask::Begin { .. } | Ask::Configured(_) | Ask::Admitted { .. } => {
                Err(caller("monitor.order", "that was asked at the start"))
            }
            Ask::Decline(_) | Ask::Audit { .. } => done(),
            Ask::Names => self.restart_names(),
            Ask::Verifier => {
                let (pid, socket) = self.standing.start_verifier(self.null.as_fd())?;
                Ok((self.started(pid), vec![socket]))
            }
            Ask::Files => {
                let files = files(&self.standing.settings)?;
                Ok((Reply::Files, files.into_iter().map(OwnedFd::from).collect()))
            }
            Ask::Reread => self.reread().and_then(plain),
            Ask::Warm => {
                self.warm_up();
                done()
            }
            Ask::Cool => {
                self.nursery.close();
                done()
            }
            Ask::Judge { target, groups } => {
                let account = self.judge(&target, groups.as_ref())?;
                plain(Reply::Account(account.facts()))
            }
            Ask::Lease { payload, target, groups, sweep } => {
                self.lease(payload, &target, groups.as_ref(), sweep)
            }
            Ask::Make { payload, label, place, limits } => {
                self.make(payload, label, place.as_deref(), &limits)
            }
            Ask::Limit { payload, label, limits } => self.limit(payload, label, &limits),
            Ask::Hatch { payload } => {
                self.find(payload)?.account()?;
                let started = self.start_agent(payload, None);
                let (child, socket) =
                    started.map_err(failed("spawn.failed", "the agent could not be started"))?;
                Ok((Reply::Started { child }, vec![socket]))
            }
            Ask::Signal { child, signal } => self.signal(child, signal),
            Ask::SignalAll { payload, signal } => {
                if let Some(group) = &self.find(payload)?.group {
                    group.signal_all(checked(signal)?);
                }
                done()
            }
            Ask::Freeze { payload, stop } => {
                if let Some(group) = &self.find(payload)?.group {
                    group.freeze(stop);
                }
                done()
            }
            Ask::Kill { payload } => {
                self.find(payload)?;
                self.kill(payload);
                done()
            }
            Ask::Errand { payload, errand } => {
                self.expect_own(payload, &errand)?;
                let held = self.held.get(&payload);
                let held =
                    held.ok_or_else(|| caller("payload.unknown", "there is no such payload"))?;
                let (pid, report) = held.run_errand(&errand, beside.first(), self.kit())?;
                Ok((self.started(pid), report.into_iter().collect()))
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
            Ask::Adopt { payload } => self.adopt(payload),
            Ask::PoolClaim { lease, exact, prefix, keep } => {
                let pool = self.pool()?;
                pool.claim(&lease, &exact, keep)?;
                pool.holder(&lease, &prefix).map(Reply::Holder).and_then(plain)
            }
            Ask::PoolFree { prefix } => {
                let free = self.pool()?.free(&prefix);
                let free = free.map_err(failed("pool.read", "reading the gridmapdir"))?;
                let names = free.into_iter().map(|name| (name, String::new()));
                plain(Reply::Pool(names.take(MAX_LISTED).collect()))
            }
            Ask::PoolLink { account, lease } => {
                let linked = self.pool()?.link(&account, &lease);
                let what = |errno: nix::errno::Errno| format!("lease {lease}: {}", errno.desc());
                let linked = linked.map_err(|errno| trouble("pool.lease", what(errno)))?;
                plain(Reply::Linked(linked))
            }
            Ask::PoolTouch { account, lease } => {
                let ours = self.pool()?.touch(&account, &lease) == Ok(true);
                let linked = if ours { Linked::Done } else { Linked::LeaseExists };
                plain(Reply::Linked(linked))
            }
            Ask::PoolList { idle_since, skip } => {
                self.expect_administrator()?;
                let pool = self.pool()?;
                let all = match idle_since {
                    Some(since) => pool.idle(since),
                    None => pool.accounts(),
                };
                let all = all.map_err(failed("pool.read", "reading the gridmapdir"))?;
                let all = all.into_iter().skip(usize::try_from(skip).unwrap_or(usize::MAX));
                plain(Reply::Pool(all.take(MAX_LISTED).collect()))
            }
            Ask::PoolRelease { account, lease, idle_since } => {
                self.expect_administrator()?;
                let prefix = format!("{account}-");
                let names = self.standing.leases.names();
                let used = names.iter().any(|name| name.starts_with(&prefix));
                let released = !used
                    && self
                        .pool()?
                        .release(&lease, idle_since)
                        .map_err(failed("pool.release", "ending a lease"))?;
                let linked = if released { Linked::Done } else { Linked::AccountTaken };
                plain(Reply::Linked(linked))
            }
            Ask::Spool { payload } => {
                self.expect_administrator()?;
                let uid = self.find(payload)?.account()?.uid();
                let (removed, left) = spool::remove_jobs(uid);
                plain(Reply::Spool { removed, left })
            }
        }
    }

    /// What reaches beyond a payload's own sandbox and group is done to an account that is the payload's alone.
    fn expect_own(&mut self, payload: u32, errand: &Errand) -> Result<(), Refusal> {
        let wide = matches!(
            errand,
            Errand::Remove { account: true, .. } | Errand::KillAll | Errand::Sweep { .. }
        );
        let sweeps = self.expect_administrator().is_ok();
        let own = self.find(payload)?.account()?.is_dynamic();
        let text = "others may use this account";
        (own || sweeps || !wide).then_some(()).ok_or_else(|| caller("errand.shared", text))
    }

    fn expect_administrator(&self) -> Result<(), Refusal> {
        let asked = matches!(self.mode, Mode::Sweep | Mode::Release);
        asked.then_some(()).ok_or_else(|| caller("monitor.mode", "that is for administrators"))
    }

    fn pool(&self) -> Result<Pool, Refusal> {
        let text = "gridmapdir is not set";
        let path = self.standing.settings.gridmapdir.as_deref();
        let path = path.ok_or_else(|| caller("conf.gridmapdir", text))?;
        Pool::open(path).map_err(|error| untrusted("gridmapdir", &error))
    }

    /// Requirement M3, by what the name service has told the monitor.
    fn judge(
        &mut self,
        target: &Target,
        groups: Option<&Groups>,
    ) -> Result<TargetAccount, Refusal> {
        let names = &mut self.broker.names;
        let groups = groups.map(|groups| {
            let mut number = |name: &String| match names.get(&Query::Group(name.clone())) {
                Some(Some(launch_protocol::policy::Entry::Group { gid })) => Ok(*gid),
                _ => Err(missing("map.group_missing", "group", name)),
            };
            let primary = groups.primary.as_ref().map(&mut number).transpose()?;
            let secondary = groups.secondary.iter().map(number).collect::<Result<_, _>>()?;
            Ok(MappedGroups { primary, secondary })
        });
        let groups = groups.transpose()?;
        let rules = Rules {
            settings: &self.standing.settings,
            caller: &self.standing.caller,
            groups: groups.as_ref(),
        };
        let (account, name) = match target {
            Target::Named(name) => {
                let known = names.get(&Query::Account(name.clone())).flatten();
                let entry = known.ok_or_else(|| missing("map.account_missing", "account", name))?;
                (TargetAccount::named(entry, rules), name.clone())
            }
            Target::Dynamic(uid) if names.get(&Query::Uid(*uid)) != Some(None) => {
                let text = format!("uid {uid} belongs to an account");
                return Err(trouble("lease.taken", text));
            }
            Target::Dynamic(uid) => (TargetAccount::dynamic(*uid, rules), format!("uid{uid}")),
        };
        account.map_err(|why| {
            let text = format!("the policy names account {name}, which no payload may use: {why}");
            let class = RefusalClass::SitePermanent;
            mapping(class, "map.account_unfit", text, false)
        })
    }

    fn expect_new(&self, payload: u32) -> Result<(), Refusal> {
        let text = "this number is in use";
        let used = payload == 0 || self.held.contains_key(&payload);
        (!used).then_some(()).ok_or_else(|| caller("payload.number", text))
    }

    fn lease(
        &mut self,
        payload: u32,
        target: &Target,
        groups: Option<&Groups>,
        sweep: bool,
    ) -> Answer {
        self.expect_new(payload)?;
        let account = self.judge(target, groups)?;
        let uid = account.uid();
        let shared = self.held.values().filter_map(|held| held.account.as_ref());
        if !self.standing.tracking.has_groups() && shared.into_iter().any(|it| it.uid() == uid) {
            let text = "without cgroup2 one account can run one payload at a time";
            return Err(trouble("lease.busy", text.to_owned()));
        }
        let lease = self.take_lease(payload, &account, sweep)?;
        let facts = account.facts();
        let held = Held { account: Some(account), lease: Some(lease), ..Held::default() };
        self.held.insert(payload, held);
        plain(Reply::Account(facts))
    }

    fn take_lease(
        &self,
        payload: u32,
        account: &TargetAccount,
        sweep: bool,
    ) -> Result<Lease, Refusal> {
        let leases = &self.standing.leases;
        let sweeping = format!("{}-sweep", account.name());
        let name = match (account.is_dynamic(), sweep) {
            (true, _) => account.uid().to_string(),
            (false, true) => sweeping.clone(),
            (false, false) => format!("{}-{}-{payload}", account.name(), getpid()),
        };
        let lease = match leases.take(&name) {
            Ok(Taken::Fresh(lease)) => lease,
            // Of a broker that lives, or of a dead one: its things are removed at the next start.
            Ok(_) => return Err(trouble("lease.busy", format!("the lease {name} is taken"))),
            Err(errno) => {
                let text = format!("the lease {name}: {}", errno.desc());
                return Err(trouble("lease.failed", text));
            }
        };
        // Whoever runs payloads takes its own lease first and looks for the sweeper's then, and the sweeper
        // does the reverse: one of the two sees the other.
        let prefix = format!("{}-", account.name());
        let mut others = leases.names().into_iter().filter(|other| *other != name);
        let met = match (account.is_dynamic(), sweep) {
            (true, _) => false,
            (false, true) => others.any(|other| other.starts_with(&prefix)),
            (false, false) => leases.exists(&sweeping),
        };
        if met {
            leases.release(lease);
            let text = format!("{} is being swept or used; try again later", account.name());
            return Err(trouble("lease.swept", text));
        }
        Ok(lease)
    }

    fn make(
        &mut self,
        payload: u32,
        label: String,
        place: Option<&Path>,
        limits: &OpenLimits,
    ) -> Answer {
        let settings = &self.standing.settings;
        let open = |path: &Path| {
            let place = Place::open(path, &settings.execute_dirs, self.standing.caller.uid);
            place.map_err(|error| {
                let class = RefusalClass::SitePermanent;
                helper(class, error.code, error.text, false)
            })
        };
        let place = place.map(open).transpose()?;
        let own_tmp = settings.isolation.private_tmp;
        let held = self.find(payload)?;
        let account = held.account()?.clone();
        if held.group.is_some() {
            return Err(caller("payload.made", "this payload has a group already"));
        }
        let nest = self.take_nest();
        let nest = nest.map_err(failed("group.failed", "making the payload's group"))?;
        let name = format!("dir_{}_{payload}", getpid());
        let directories = self.standing.tracking.directories(&nest.name);
        let held = self.held.get_mut(&payload);
        let held = held.ok_or_else(|| caller("payload.unknown", "it is gone"))?;
        held.record = Record {
            uid: account.uid(),
            gid: account.gid(),
            dynamic: account.is_dynamic(),
            sandbox: place.as_ref().map(|it| it.path_of(&name)).unwrap_or_default(),
            groups: directories,
            label,
        };
        let made = record(held)
            .and_then(|()| restrict(&nest.group, limits, &self.standing.settings.limits))
            .and_then(|()| {
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
        let started = self.start_agent(payload, Some(nest.waiting));
        let (child, socket) =
            started.map_err(failed("spawn.failed", "the agent could not be started"))?;
        let group = nest.name;
        let reply = Reply::Made { child, group, sandbox };
        Ok((reply, vec![socket]))
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
        let (hook, [before, after]) = {
            let settings = &self.standing.settings;
            let hook = match which {
                Which::Prologue => &settings.prologue,
                Which::Epilogue => &settings.epilogue,
            };
            let text = "there is no such hook";
            (hook.as_ref().ok_or_else(|| caller("hook.none", text))?, &self.standing.hooks)
        };
        let who = match which {
            Which::Prologue => before,
            Which::Epilogue => after,
        };
        self.hooks_made += 1;
        let tracking = &self.standing.tracking;
        let name = format!("sailplane-{}-hook-{}", getpid(), self.hooks_made);
        let group = match tracking.has_groups() {
            true => Some(tracking.create(&name)),
            false => None,
        };
        let start = "the site's program could not be started";
        let mut group = group.transpose().map_err(failed("hook.start", start))?;
        // Not waiting, for either side.
        let said = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK);
        let (said, stderr) = said.map_err(failed("hook.start", start))?;
        let null = self.null.as_fd();
        let descriptors = [null, null, stderr.as_fd()];
        let started = hooks::start((which, hook), who, facts, &descriptors, group.as_ref());
        if let (Err(_), Some(group)) = (&started, &mut group) {
            let _ = group.remove();
        }
        let pid = started?;
        let held = Held { group, ..Held::default() };
        self.held.insert(payload, held);
        self.children.insert(pid.as_raw(), Role::Payload(payload));
        let child = pid.as_raw();
        Ok((Reply::Started { child }, vec![said]))
    }

    fn bury(&mut self, payload: u32) -> Answer {
        let alive = self.children.values().any(|role| *role == Role::Payload(payload));
        let held = self.find(payload)?;
        if alive {
            let text = "processes of the payload are alive";
            return Err(trouble("close.processes", text.to_owned()));
        }
        held.remove()?;
        if let Some(lease) = self.held.remove(&payload).and_then(|held| held.lease) {
            self.standing.leases.release(lease);
        }
        done()
    }

    /// The next lease whose lock is free: it has no monitor.
    fn adopt(&mut self, payload: u32) -> Answer {
        self.expect_new(payload)?;
        let leases = &self.standing.leases;
        let stale = self.stale.get_or_insert_with(|| leases.names());
        while let Some(name) = stale.pop() {
            let (lease, record) = match leases.take(&name) {
                Ok(Taken::Stale(lease, Some(record))) => (lease, record),
                // Its monitor died before it had made anything.
                Ok(Taken::Fresh(lease) | Taken::Stale(lease, None)) => {
                    leases.release(lease);
                    continue;
                }
                Ok(Taken::Held) | Err(_) => continue,
            };
            let sandbox = match (left(&record, record.uid), left(&record, 0)) {
                (Some(sandbox), _) => Some(sandbox),
                // Root's own, if the monitor died before it was given away: then it is empty.
                (None, Some(sandbox)) => {
                    let _ = sandbox.remove_tops();
                    None
                }
                // None was wanted, or made, or somebody has put something of his own there.
                (None, None) => None,
            };
            let adopted = Adopted {
                lease: name,
                label: record.label.clone(),
                uid: record.uid,
                dynamic: record.dynamic,
                groups: record.groups.clone(),
                sandbox: sandbox.is_some(),
            };
            let held = Held {
                account: Some(TargetAccount::recorded(&record)),
                lease: Some(lease),
                group: Some(Group::left(record.groups.clone())),
                sandbox,
                record,
                numbers: None,
            };
            self.held.insert(payload, held);
            return plain(Reply::Adopted(Some(adopted)));
        }
        self.stale = None;
        self.standing.tracking.remove_orphans();
        plain(Reply::Adopted(None))
    }
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

fn restrict(
    group: &Group,
    limits: &OpenLimits,
    rules: &launch_protocol::policy::LimitRules,
) -> Result<(), Refusal> {
    let limited = group.restrict(limits, rules);
    limited.map_err(failed("group.limits", "limiting the payload's group"))
}

/// The sandbox of a record, if it is there and belongs to `owner`.
fn left(record: &Record, owner: u32) -> Option<Sandbox> {
    let place = Place::reopen(record.sandbox.parent()?).ok()?;
    let name = record.sandbox.file_name()?.to_str()?;
    Sandbox::adopt(place, name, owner)
}

fn missing(code: &str, what: &str, name: &str) -> Refusal {
    let text = format!("{what} {name}, which the policy names, does not exist");
    mapping(RefusalClass::SitePermanent, code, text, false)
}
