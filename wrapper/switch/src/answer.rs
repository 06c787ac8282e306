//! What the monitor does when it is asked. Every number, name and path that the broker gives is checked against
//! what the monitor itself holds or knows.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use launch_protocol::broker::{OpenLimits, Refusal, RefusalClass};
use launch_protocol::lease::Record;
use launch_protocol::monitor::{Ask, Linked, Reply, Target, Which};
use launch_protocol::policy::{Entry, Groups, LimitRules, Query};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{getpid, pipe2};

use crate::account::{MappedGroups, Rules, TargetAccount};
use crate::cgroup::Group;
use crate::held::Held;
use crate::introduce::{files, untrusted};
use crate::lease::Lease;
use crate::monitor::{Answer, Monitor, Role, failed};
use crate::pool::Pool;
use crate::programs::start_recovery;
use crate::refuse::{caller, helper, mapping, trouble};
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
    pub(crate) fn answer(&mut self, ask: Ask, beside: Vec<OwnedFd>) -> Answer {
        match ask {
            Ask::Begin { .. } | Ask::Configured(_) | Ask::Admitted { .. } => {
                Err(caller("monitor.order", "that was asked at the start"))
            }
            Ask::Decline(_) | Ask::Audit { .. } => done(),
            Ask::Names => self.restart_names(),
            Ask::Verifier => {
                let (pid, socket) = self.standing.start_verifier(self.nursery.null.as_fd())?;
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
                plain(Reply::Account((*account).clone()))
            }
            Ask::Lease { payload, target, groups, sweep: false } => {
                self.lease(payload, &target, groups.as_ref())
            }
            Ask::Make { payload, label, place, limits } => {
                self.make(payload, label, place.as_deref(), &limits)
            }
            Ask::Limit { payload, label, limits } => self.limit(payload, label, &limits),
            Ask::Hatch { payload } => {
                self.find(payload)?.account()?;
                let (child, socket) = self.start_agent(payload, None)?;
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
                let may = !errand.is_wide() || self.further.is_some();
                let null = self.nursery.null.as_fd();
                let held = self.held.get(&payload);
                let held = held.ok_or_else(|| caller("payload.unknown", "there is none"))?;
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
            Ask::Recover => {
                self.standing.tracking.remove_orphans();
                if !self.standing.leases.has_stale() {
                    return done();
                }
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
                let what = |errno: Errno| format!("lease {lease}: {}", errno.desc());
                let linked = linked.map_err(|errno| trouble("pool.lease", what(errno)))?;
                plain(Reply::Linked(linked))
            }
            Ask::PoolTouch { account, lease } => {
                let ours = self.pool()?.touch(&account, &lease) == Ok(true);
                let linked = if ours { Linked::Done } else { Linked::LeaseExists };
                plain(Reply::Linked(linked))
            }
            other => match self.further {
                Some(further) => further(self, other),
                None => Err(caller("monitor.mode", "that is for administrators")),
            },
        }
    }

    /// The site's gridmapdir.
    ///
    /// # Errors
    /// If there is none that can be trusted.
    pub fn pool(&self) -> Result<Pool, Refusal> {
        let text = "gridmapdir is not set";
        let path = self.standing.settings.gridmapdir.as_deref();
        let path = path.ok_or_else(|| caller("conf.gridmapdir", text))?;
        Pool::open(path).map_err(|error| untrusted("gridmapdir", &error))
    }

    /// Requirement M3, by what the name service has told the monitor.
    ///
    /// # Errors
    /// If the account may be no target, or nobody knows it.
    pub fn judge(
        &mut self,
        target: &Target,
        groups: Option<&Groups>,
    ) -> Result<TargetAccount, Refusal> {
        let names = &mut self.broker.names;
        let groups = groups.map(|groups| {
            let mut number = |name: &String| match names.get(&Query::Group(name.clone())) {
                Some(Some(Entry::Group { gid })) => Ok(*gid),
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

    /// This number may be given to a payload.
    ///
    /// # Errors
    /// If it is in use.
    pub fn expect_new(&self, payload: u32) -> Result<(), Refusal> {
        let text = "this number is in use";
        let used = payload == 0 || self.held.contains_key(&payload);
        (!used).then_some(()).ok_or_else(|| caller("payload.number", text))
    }

    fn lease(&mut self, payload: u32, target: &Target, groups: Option<&Groups>) -> Answer {
        self.expect_new(payload)?;
        let account = self.judge(target, groups)?;
        let name = &account.name;
        let mut shared = self.held.values().filter_map(|held| held.account.as_ref());
        if !self.standing.tracking.has_groups() && shared.any(|it| it.uid == account.uid) {
            let text = "without cgroup2 one account can run one payload at a time";
            return Err(trouble("lease.busy", text.to_owned()));
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
            let text = format!("{name} is being swept; try again later");
            return Err(trouble("lease.swept", text));
        }
        Ok(self.hold(payload, account, lease))
    }

    /// Keeps the books of a payload that has an account now.
    pub fn hold(
        &mut self,
        payload: u32,
        account: TargetAccount,
        lease: Lease,
    ) -> (Reply, Vec<OwnedFd>) {
        let reply = Reply::Account((*account).clone());
        let held = Held { account: Some(account), lease: Some(lease), ..Held::default() };
        self.held.insert(payload, held);
        (reply, Vec::new())
    }

    fn make(
        &mut self,
        payload: u32,
        label: String,
        place: Option<&Path>,
        limits: &OpenLimits,
    ) -> Answer {
        let settings = &self.standing.settings;
        let caller_uid = self.standing.caller.uid;
        let open = |path: &Path| Place::open(path, &settings.execute_dirs, caller_uid);
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
            uid: account.uid,
            gid: account.gid,
            dynamic: account.dynamic,
            sandbox: place.as_ref().map(|it| it.path.join(&name)).unwrap_or_default(),
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
        let (child, socket) = self.start_agent(payload, Some(nest.waiting))?;
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
        let [before, after] = &self.standing.hooks;
        let (hook, who) = match which {
            Which::Prologue => (&self.standing.settings.prologue, before),
            Which::Epilogue => (&self.standing.settings.epilogue, after),
        };
        let program = match hook {
            Some(hook) => &hook.program,
            None => return Err(caller("hook.none", "there is no such hook")),
        };
        let refuse = |why: &str| {
            let (what, program) = (which.word(), program.display());
            let text = format!("the site's {what} {program} has failed: {why}");
            helper(RefusalClass::SitePermanent, &format!("hook.{what}"), text, false)
        };
        trusted::check(program, Kind::File).map_err(|error| refuse(&error.to_string()))?;
        self.hooks_made += 1;
        let tracking = &self.standing.tracking;
        let name = format!("sailplane-{}-hook-{}", getpid(), self.hooks_made);
        let group = tracking.has_groups().then(|| tracking.create(&name));
        let failed = failed("hook.start", "the site's program could not be started");
        let mut group = group.transpose().map_err(&failed)?;
        // Not waiting, for either side.
        let said = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK);
        let started = said.map_err(&failed).and_then(|(said, stderr)| {
            let null = self.nursery.null.as_fd();
            let environment = which.environment(facts).into_iter().map(CString::new);
            let environment: Vec<_> = environment.flatten().collect();
            let (words, descriptors) = ([program.as_os_str()], [null, null, stderr.as_fd()]);
            let child = Child::plain(who, program, &words, &descriptors);
            let child = Child { environment: &environment, group: group.as_ref(), ..child };
            child.start().map(|pid| (pid, said)).map_err(|errno| refuse(errno.desc()))
        });
        if let (Err(_), Some(group)) = (&started, &mut group) {
            let _ = group.remove();
        }
        let (pid, said) = started?;
        self.held.insert(payload, Held { group, ..Held::default() });
        let child = pid.as_raw();
        self.children.insert(child, Role::Payload(payload));
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
    let text = format!("{what} {name}, which the policy names, does not exist");
    mapping(RefusalClass::SitePermanent, code, text, false)
}
