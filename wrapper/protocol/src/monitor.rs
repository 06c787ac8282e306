//! The broker and the monitor.
//!
//! The monitor is `sailplane-switch`: root, small, and deaf to pilots. It starts `sailplane-broker` under a
//! user number that nobody else has, and does for it what only root can do: leases, groups, sandboxes,
//! agents, signals, the log. The broker speaks with the pilot, with the verifier and with the name
//! service, and decides; it holds no privilege.
//!
//! The broker asks, the monitor answers each question at once, in order; [`Ask::Audit`] alone has no
//! answer. On descriptor 0 the broker finds its end of the packet socket, on 3 an eventfd that becomes
//! readable when there is something to fetch with [`Ask::Endings`]. End of file on either side: the monitor
//! kills every payload and leaves the rest to recovery; the broker exits.
//!
//! # Start
//!
//! [`Ask::Begin`], [`Ask::Configured`], [`Ask::Admitted`], in this order; only the answer to the last brings
//! the pilot's socket. So what the monitor believes about the site's configuration comes from a process that
//! has not read a byte of a stranger yet. [`Ask::Decline`] instead of any of them ends the start.
//!
//! # What a broker that has been taken over can do
//!
//! Switch to an account that may be a target (requirement M3), in a sandbox, with a lease: that is what
//! its verdicts decide anyway. Not: another account, a path of its own, a program of its own, a signal to
//! a process that is not a payload's, a line of the log that is not marked as its own.

use std::path::PathBuf;

use crate::broker::{OpenLimits, Refusal};
use crate::codec::{DecodeError, EncodeError, Reader, Text, Writer, check};
use crate::line::is_members;
use crate::policy::{Caller, Groups, Settings};
use crate::{MAX_IDENTITY, MAX_LABEL, MAX_LEASE, MAX_PACKET};

pub use crate::errand::Errand;

/// The first of the user numbers under which brokers run. No account may have one of these: neither as a
/// caller nor as a target. Nobody hands out numbers as high as these.
pub const FIRST_BROKER_UID: u32 = 0x7F00_0000;
/// How many there are: for each process number that Linux can give a monitor, one for its broker and, half
/// the way further, one for the fresh broker that reads a configuration which has changed meanwhile.
pub const BROKER_UIDS: u32 = 0x0080_0000;

/// The process number of the monitor whose group is called so.
pub fn monitor_of_group(name: &str) -> Option<i32> {
    name.strip_prefix("sailplane-")?
        .split_once('-')?
        .0
        .parse()
        .ok()
}

/// The numbers of the broker that this monitor starts for this: its own among all of the machine, and the one that has
/// heard a pilot has no power over the one that is to be believed.
pub fn broker_numbers(mode: Mode, monitor: u32) -> Numbers {
    let block = BROKER_UIDS / 2;
    let first = FIRST_BROKER_UID + if mode == Mode::Configure { block } else { 0 };
    let own = first + monitor % block;
    Numbers {
        uid: own,
        gid: own,
        groups: Vec::new(),
    }
}

/// Longest line of the log, bytes.
pub const MAX_LINE: usize = 4096;
/// Most endings in one answer.
pub const MAX_LISTED: usize = 64;

/// What the monitor has been started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To serve a pilot.
    Serve,
    /// To answer what is configured and who may call, nothing else.
    Configure,
    /// To clean up after monitors that are gone.
    Recover,
    /// To sweep accounts (`--sweep`).
    Sweep,
    /// To end leases of pool accounts that nobody has used for long (`--release-leases`).
    Release,
}

/// The word that tells a broker which serves that it is for a single payload.
pub const SINGLE: &str = "--single";

/// Where groups of payloads are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracking {
    /// `cgroup2`, if groups can be made there, and the controllers of old hierarchies that are used beside it or in
    /// its place; the pilot's own directory in each.
    pub hierarchies: Vec<(String, PathBuf)>,
    /// Controllers that a group in cgroup2 has.
    pub within: Vec<String>,
}

/// The new hierarchy's name in lists.
pub const UNIFIED: &str = "cgroup2";
/// The old hierarchy by which processes are told apart where there is no new one.
pub const FREEZER: &str = "freezer";

impl Tracking {
    /// The pilot's own directory in a hierarchy that is used.
    pub fn place(&self, hierarchy: &str) -> Option<&PathBuf> {
        let found = self.hierarchies.iter().find(|(name, _)| name == hierarchy);
        found.map(|(_, path)| path)
    }

    /// Has a group in cgroup2 this controller?
    pub fn is_within(&self, controller: &str) -> bool {
        self.within.iter().any(|known| known == controller)
    }

    /// Are processes told apart by group, or only by account?
    pub fn has_groups(&self) -> bool {
        [UNIFIED, FREEZER]
            .iter()
            .any(|name| self.place(name).is_some())
    }
}

/// An account that may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// By name; the name service must have been asked just before.
    Named(String),
    /// By number, out of the dynamic ones; the name service must have denied that it has an account.
    Dynamic(u32),
}

/// An account that may be switched to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// User number.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory; empty for a dynamic account.
    pub home: PathBuf,
    /// Login shell; empty for a dynamic account.
    pub shell: PathBuf,
    /// A number that nobody else has.
    pub dynamic: bool,
}

/// The numbers that a program runs under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// User number.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Which program of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Before a payload.
    Prologue,
    /// After it.
    Epilogue,
}

impl Which {
    /// As it is called in the configuration and in codes.
    pub fn word(self) -> &'static str {
        match self {
            Self::Prologue => "prologue",
            Self::Epilogue => "epilogue",
        }
    }

    /// The environment of such a program, `NAME=value` each: what it is told, and nothing that it would have to
    /// look up in the caller's.
    pub fn environment(self, facts: &[(String, String)]) -> Vec<String> {
        let told = facts
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let told = std::iter::once(("HOOK", self.word())).chain(told);
        let told = told.map(|(name, value)| format!("SAILPLANE_{name}={value}"));
        let path = "PATH=/usr/bin:/bin:/usr/sbin:/sbin".to_owned();
        std::iter::once(path).chain(told).collect()
    }
}

/// What the broker can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The first. `hierarchies`: `cgroup2` or the name of an old controller, and the pilot's own directory
    /// there. Answered by [`Reply::Begun`].
    Begin {
        /// What was found in the kernel's lists.
        hierarchies: Vec<(String, PathBuf)>,
    },
    /// What the configuration says. Answered by [`Reply::Files`].
    Configured(Box<Settings>),
    /// The caller may call. Answered by [`Reply::Admitted`].
    Admitted {
        /// With the names and numbers of all that may call.
        caller: Box<Caller>,
        /// It may present a credential without its private key.
        may_omit_key: bool,
        /// As whom prologue and epilogue run.
        hooks: [Numbers; 2],
    },
    /// It may not, or the start cannot go on. Not answered: the monitor ends.
    Decline(Refusal),
    /// Start the name service (again). Answered by [`Reply::Started`] with its socket.
    Names,
    /// Start the verifier. Answered by [`Reply::Started`] with its socket.
    Verifier,
    /// Open configuration and policy files anew. Answered by [`Reply::Files`].
    Files,
    /// The configuration has changed. Answered by [`Reply::Reread`], or [`Reply::Refused`].
    Reread,
    /// Make a group and a child in it ahead of need. Answered by [`Reply::Done`].
    Warm,
    /// Take down what was made ahead of need. Answered by [`Reply::Done`].
    Cool,
    /// May this account be a target? Answered by [`Reply::Account`].
    Judge {
        /// Which.
        target: Target,
        /// Groups in place of its own.
        groups: Option<Groups>,
    },
    /// Lease an account for a payload. Answered by [`Reply::Account`].
    Lease {
        /// The payload's number, not in use yet.
        payload: u32,
        /// Which.
        target: Target,
        /// Groups in place of its own.
        groups: Option<Groups>,
        /// To sweep it: nobody may have a lease of it.
        sweep: bool,
    },
    /// Make group, sandbox and agent for a lease. Answered by [`Reply::Made`] with the agent's socket.
    Make {
        /// Which payload.
        payload: u32,
        /// For the record and the log.
        label: String,
        /// Below which directory its sandbox is made; `None`: it has none.
        place: Option<PathBuf>,
        /// Of its group.
        limits: OpenLimits,
        /// The agent ends, with the status of [`crate::errand::Errand::Alone`], unless it is its account's only process.
        alone: bool,
    },
    /// Set limits of a payload that was made ahead of need. Answered by [`Reply::Done`].
    Limit {
        /// Which payload.
        payload: u32,
        /// For the record.
        label: String,
        /// Of its group.
        limits: OpenLimits,
    },
    /// One more agent. Answered by [`Reply::Started`] with its socket.
    Hatch {
        /// Of which payload.
        payload: u32,
    },
    /// Signal a child's process group. Answered by [`Reply::Done`], also when it is gone.
    Signal {
        /// Which child.
        child: i32,
        /// Number of the signal.
        signal: i32,
    },
    /// Signal every process of a group. Answered by [`Reply::Done`].
    SignalAll {
        /// Which payload.
        payload: u32,
        /// Number of the signal.
        signal: i32,
    },
    /// Stop a group, or let it run on. Answered by [`Reply::Done`].
    Freeze {
        /// Which payload.
        payload: u32,
        /// Stop it.
        stop: bool,
    },
    /// Kill group and agents. Answered by [`Reply::Done`].
    Kill {
        /// Which payload.
        payload: u32,
    },
    /// Have something done as the payload's account. Answered by [`Reply::Started`].
    Errand {
        /// Whose account and sandbox.
        payload: u32,
        /// What.
        errand: Errand,
    },
    /// Start a program of the site, in a group of its own. Answered by [`Reply::Started`] with its standard
    /// error.
    Hook {
        /// A number of its own, not in use yet.
        payload: u32,
        /// Which program.
        which: Which,
        /// What it is told: `SAILPLANE_NAME=value` each.
        facts: Vec<(String, String)>,
    },
    /// It is over: remove (empty) sandbox and group, give the lease back. Answered by [`Reply::Done`], or by
    /// [`Reply::Refused`]: then it is still there.
    Bury {
        /// Which payload.
        payload: u32,
    },
    /// Leave it to recovery. Answered by [`Reply::Done`].
    Abandon {
        /// Which payload.
        payload: u32,
    },
    /// Which children have ended? Answered by [`Reply::Endings`].
    Endings,
    /// A line for the log: the members of a JSON object, printable ASCII, with plain names, without its
    /// brackets and without those that the monitor adds (`time`, `monitor`). Not answered.
    Audit {
        /// At most [`MAX_LINE`] bytes.
        line: String,
    },
    /// Clean up after monitors that are gone. Answered by [`Reply::Started`], or by [`Reply::Done`]: no payload is
    /// left of any.
    Recover,
    /// Take over what a monitor that is gone has left of a payload. Answered by [`Reply::Adopted`], to
    /// administrators only, as everything below is that the gridmapdir is not needed for.
    Adopt {
        /// A number of its own, not in use yet.
        payload: u32,
    },
    /// Makes sure that a lease in the gridmapdir is for this identity; `keep`: from now on. Answered by
    /// [`Reply::Pool`].
    PoolClaim {
        /// Name of the lease.
        lease: String,
        /// The identity as it is spelled.
        exact: String,
        /// It is to be leased.
        keep: bool,
    },
    /// Lease an account. Answered by [`Reply::Linked`].
    PoolLink {
        /// Name of the account.
        account: String,
        /// Name of the lease.
        lease: String,
    },
    /// Say that a lease is in use. Answered by [`Reply::Linked`]: `Done`, or `LeaseExists` if it is not that
    /// account's any more.
    PoolTouch {
        /// Name of the account.
        account: String,
        /// Name of the lease.
        lease: String,
    },
    /// What is in the gridmapdir? Answered by [`Reply::Pool`].
    PoolList,
    /// End a lease of a payload's account that has not been used since. Answered by [`Reply::Linked`]:
    /// `Done`, or `AccountTaken` if it is in use.
    PoolRelease {
        /// Name of the account.
        account: String,
        /// Name of the lease.
        lease: String,
        /// Unix seconds.
        idle_since: i64,
    },
    /// Remove the account's jobs of cron and at. Answered by [`Reply::Spool`].
    Spool {
        /// Whose account.
        payload: u32,
    },
}

/// What became of the wish to lease a pool account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// It is leased, or released.
    Done,
    /// Somebody else was faster with this account, or uses it.
    AccountTaken,
    /// Somebody else was faster for this identity.
    LeaseExists,
}

/// What is left of a payload whose monitor is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Name of the lease.
    pub lease: String,
    /// What the job was called.
    pub label: String,
    /// User number.
    pub uid: u32,
    /// A number that nobody else has.
    pub dynamic: bool,
    /// Its groups: the first is the one that processes are told by.
    pub groups: Vec<PathBuf>,
    /// There is a sandbox.
    pub sandbox: bool,
}

/// What the monitor can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Ask::Begin`]. Beside it two descriptors: the configuration, and a socket for questions about names that the
    /// broker answers by itself until somebody is admitted, as the name service shows its own
    /// ([`crate::policy::Witness`]).
    Begun {
        /// What for.
        mode: Mode,
        /// The monitor's process number.
        monitor: i32,
        /// Who calls, as the kernel says; nobody is admitted yet.
        caller: Box<Caller>,
    },
    /// To [`Ask::Admitted`], with the pilot's socket beside it in [`Mode::Serve`].
    Admitted {
        /// Where groups are made.
        tracking: Tracking,
    },
    /// Beside it the configuration and the policy files, in the order of [`Settings::policy_files`].
    Files,
    /// To [`Ask::Reread`]: as from [`Ask::Configured`] and [`Ask::Admitted`] of a fresh broker.
    Reread {
        /// What is configured now.
        settings: Box<Settings>,
        /// The caller, admitted anew.
        caller: Box<Caller>,
        /// It may present a credential without its private key.
        may_omit_key: bool,
    },
    /// That is done.
    Done,
    /// A child runs.
    Started {
        /// Its process number.
        child: i32,
    },
    /// To [`Ask::Judge`] and [`Ask::Lease`].
    Account(Account),
    /// To [`Ask::Make`].
    Made {
        /// The agent's process number.
        child: i32,
        /// Name of the group in each hierarchy.
        group: String,
        /// The sandbox.
        sandbox: Option<PathBuf>,
    },
    /// To [`Ask::Endings`].
    Endings {
        /// Process numbers and wait statuses, at most [`MAX_LISTED`]; if so many, ask again.
        ended: Vec<(i32, i32)>,
        /// The monitor was asked to end.
        terminate: bool,
    },
    /// To [`Ask::Adopt`]; `None`: nothing (more) is left.
    Adopted(Option<Adopted>),
    /// What is in the gridmapdir, beside it in a file: one line for each regular file, with the number of its
    /// inode, how many names that has, when it was changed (seconds, nanoseconds) and last used (seconds), and
    /// its name, a blank between each.
    Pool,
    /// To [`Ask::PoolLink`], [`Ask::PoolTouch`] and [`Ask::PoolRelease`].
    Linked(Linked),
    /// To [`Ask::Spool`].
    Spool {
        /// Jobs that are gone.
        removed: u32,
        /// Jobs that could not be removed.
        left: u32,
    },
    /// It cannot be, or may not.
    Refused(Refusal),
}

const MAX_HIERARCHIES: usize = 16;
const MAX_FACTS: usize = 16;
const MAX_FACT: usize = 4096;
const MAX_GROUPS: usize = 2048;
const MAX_WORD: usize = 64;

impl Ask {
    /// How many descriptors travel beside this message.
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Errand { errand, .. } => errand.descriptors(),
            _ => 0,
        }
    }

    /// The packet.
    ///
    /// # Errors
    /// If a field is not what the receiver accepts.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::new();
        self.put(&mut w);
        w.finish(MAX_PACKET)
    }

    /// Reads a packet and checks every field.
    ///
    /// # Errors
    /// If the bytes are not exactly one question.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(packet);
        let ask = Self::take(&mut r)?;
        r.finish()?;
        Ok(ask)
    }

    fn put(&self, w: &mut Writer) {
        match self {
            Self::Begin { hierarchies } => {
                w.u8(1);
                put_hierarchies(w, hierarchies);
            }
            Self::Configured(settings) => {
                w.u8(2);
                settings.put(w);
            }
            Self::Admitted {
                caller,
                may_omit_key,
                hooks,
            } => {
                w.u8(3);
                caller.put(w);
                w.bool(*may_omit_key);
                hooks.iter().for_each(|numbers| numbers.put(w));
            }
            Self::Decline(refusal) => {
                w.u8(4);
                refusal.put(w);
            }
            Self::Names => w.u8(5),
            Self::Verifier => w.u8(6),
            Self::Files => w.u8(7),
            Self::Reread => w.u8(8),
            Self::Warm => w.u8(9),
            Self::Cool => w.u8(10),
            Self::Judge { target, groups } => {
                w.u8(11);
                target.put(w);
                put_groups(w, groups.as_ref());
            }
            Self::Lease {
                payload,
                target,
                groups,
                sweep,
            } => {
                w.u8(12);
                w.u32(*payload);
                target.put(w);
                put_groups(w, groups.as_ref());
                w.bool(*sweep);
            }
            Self::Make {
                payload,
                label,
                place,
                limits,
                alone,
            } => {
                w.u8(13);
                w.u32(*payload);
                w.text("label", label, Text::Printable, MAX_LABEL);
                w.option(place.as_ref(), |w, path| w.path("place", path));
                limits.put(w);
                w.bool(*alone);
            }
            Self::Limit {
                payload,
                label,
                limits,
            } => {
                w.u8(14);
                w.u32(*payload);
                w.text("label", label, Text::Printable, MAX_LABEL);
                limits.put(w);
            }
            Self::Hatch { payload } => {
                w.u8(15);
                w.u32(*payload);
            }
            Self::Signal { child, signal } => {
                w.u8(16);
                w.i32(*child);
                w.i32(*signal);
            }
            Self::SignalAll { payload, signal } => {
                w.u8(17);
                w.u32(*payload);
                w.i32(*signal);
            }
            Self::Freeze { payload, stop } => {
                w.u8(18);
                w.u32(*payload);
                w.bool(*stop);
            }
            Self::Kill { payload } => {
                w.u8(19);
                w.u32(*payload);
            }
            Self::Errand { payload, errand } => {
                w.u8(20);
                w.u32(*payload);
                errand.put(w);
            }
            Self::Hook {
                payload,
                which,
                facts,
            } => {
                w.u8(21);
                w.u32(*payload);
                w.bool(*which == Which::Epilogue);
                w.list("facts", facts, MAX_FACTS, |w, (name, value)| {
                    w.text("name", name, Text::Account, MAX_WORD);
                    w.c_bytes("value", value.as_bytes(), MAX_FACT);
                });
            }
            Self::Bury { payload } => {
                w.u8(22);
                w.u32(*payload);
            }
            Self::Abandon { payload } => {
                w.u8(23);
                w.u32(*payload);
            }
            Self::Endings => w.u8(24),
            Self::Audit { line } => {
                w.u8(25);
                w.refuse_unless("line", is_members(line));
                w.text("line", line, Text::Printable, MAX_LINE);
            }
            Self::Adopt { payload } => {
                w.u8(26);
                w.u32(*payload);
            }
            Self::PoolClaim { lease, exact, keep } => {
                w.u8(27);
                put_lease(w, lease);
                w.text("exact", exact, Text::Identity, MAX_IDENTITY);
                w.bool(*keep);
            }
            Self::Recover => w.u8(28),
            Self::PoolLink { account, lease } => {
                w.u8(29);
                w.name("account", account);
                put_lease(w, lease);
            }
            Self::PoolTouch { account, lease } => {
                w.u8(30);
                w.name("account", account);
                put_lease(w, lease);
            }
            Self::PoolList => w.u8(31),
            Self::PoolRelease {
                account,
                lease,
                idle_since,
            } => {
                w.u8(32);
                w.name("account", account);
                put_lease(w, lease);
                w.i64(*idle_since);
            }
            Self::Spool { payload } => {
                w.u8(33);
                w.u32(*payload);
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8()? {
            1 => Self::Begin {
                hierarchies: take_hierarchies(r)?,
            },
            2 => Self::Configured(Box::new(Settings::take(r)?)),
            3 => Self::Admitted {
                caller: Box::new(Caller::take(r)?),
                may_omit_key: r.bool("may_omit_key")?,
                hooks: [Numbers::take(r)?, Numbers::take(r)?],
            },
            4 => Self::Decline(Refusal::take(r)?),
            5 => Self::Names,
            6 => Self::Verifier,
            7 => Self::Files,
            8 => Self::Reread,
            9 => Self::Warm,
            10 => Self::Cool,
            11 => Self::Judge {
                target: Target::take(r)?,
                groups: take_groups(r)?,
            },
            12 => Self::Lease {
                payload: r.u32()?,
                target: Target::take(r)?,
                groups: take_groups(r)?,
                sweep: r.bool("sweep")?,
            },
            13 => Self::Make {
                payload: r.u32()?,
                label: r.text("label", Text::Printable, MAX_LABEL)?,
                place: r.option("place", |r| r.path("place"))?,
                limits: OpenLimits::take(r)?,
                alone: r.bool("alone")?,
            },
            14 => Self::Limit {
                payload: r.u32()?,
                label: r.text("label", Text::Printable, MAX_LABEL)?,
                limits: OpenLimits::take(r)?,
            },
            15 => Self::Hatch { payload: r.u32()? },
            16 => Self::Signal {
                child: r.i32()?,
                signal: r.i32()?,
            },
            17 => Self::SignalAll {
                payload: r.u32()?,
                signal: r.i32()?,
            },
            18 => Self::Freeze {
                payload: r.u32()?,
                stop: r.bool("stop")?,
            },
            19 => Self::Kill { payload: r.u32()? },
            20 => Self::Errand {
                payload: r.u32()?,
                errand: Errand::take(r)?,
            },
            21 => Self::Hook {
                payload: r.u32()?,
                which: match r.bool("which")? {
                    true => Which::Epilogue,
                    false => Which::Prologue,
                },
                facts: r.list("facts", MAX_FACTS, 8, |r| {
                    let name = r.text("name", Text::Account, MAX_WORD)?;
                    let value = r.c_bytes("value", MAX_FACT)?;
                    let value = String::from_utf8(value.to_vec());
                    Ok((name, value.map_err(|_| DecodeError::BadValue("value"))?))
                })?,
            },
            22 => Self::Bury { payload: r.u32()? },
            23 => Self::Abandon { payload: r.u32()? },
            24 => Self::Endings,
            25 => {
                let line = r.text("line", Text::Printable, MAX_LINE)?;
                check("line", is_members(&line))?;
                Self::Audit { line }
            }
            26 => Self::Adopt { payload: r.u32()? },
            27 => Self::PoolClaim {
                lease: take_lease(r)?,
                exact: r.text("exact", Text::Identity, MAX_IDENTITY)?,
                keep: r.bool("keep")?,
            },
            28 => Self::Recover,
            29 => Self::PoolLink {
                account: r.name("account")?,
                lease: take_lease(r)?,
            },
            30 => Self::PoolTouch {
                account: r.name("account")?,
                lease: take_lease(r)?,
            },
            31 => Self::PoolList,
            32 => Self::PoolRelease {
                account: r.name("account")?,
                lease: take_lease(r)?,
                idle_since: r.i64()?,
            },
            33 => Self::Spool { payload: r.u32()? },
            tag => return Err(DecodeError::UnknownTag(tag)),
        })
    }
}

impl Reply {
    /// The packet.
    ///
    /// # Errors
    /// If a field is not what the receiver accepts.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::new();
        self.put(&mut w);
        w.finish(MAX_PACKET)
    }

    /// Reads a packet and checks every field.
    ///
    /// # Errors
    /// If the bytes are not exactly one answer.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(packet);
        let reply = Self::take(&mut r)?;
        r.finish()?;
        Ok(reply)
    }

    fn put(&self, w: &mut Writer) {
        match self {
            Self::Begun {
                mode,
                monitor,
                caller,
            } => {
                w.u8(1);
                w.u8(match mode {
                    Mode::Serve => 0,
                    Mode::Configure => 1,
                    Mode::Recover => 2,
                    Mode::Sweep => 3,
                    Mode::Release => 4,
                });
                w.i32(*monitor);
                caller.put(w);
            }
            Self::Admitted { tracking } => {
                w.u8(15);
                put_hierarchies(w, &tracking.hierarchies);
                w.texts("within", &tracking.within, Text::Account, 16, MAX_WORD);
            }
            Self::Files => w.u8(2),
            Self::Reread {
                settings,
                caller,
                may_omit_key,
            } => {
                w.u8(3);
                settings.put(w);
                caller.put(w);
                w.bool(*may_omit_key);
            }
            Self::Done => w.u8(4),
            Self::Started { child } => {
                w.u8(5);
                w.i32(*child);
            }
            Self::Account(account) => {
                w.u8(6);
                account.put(w);
            }
            Self::Made {
                child,
                group,
                sandbox,
            } => {
                w.u8(7);
                w.i32(*child);
                w.text("group", group, Text::Graphic, MAX_WORD);
                w.option(sandbox.as_ref(), |w, path| w.path("sandbox", path));
            }
            Self::Endings { ended, terminate } => {
                w.u8(8);
                w.list("ended", ended, MAX_LISTED, |w, (child, status)| {
                    w.i32(*child);
                    w.i32(*status);
                });
                w.bool(*terminate);
            }
            Self::Adopted(adopted) => {
                w.u8(9);
                w.option(adopted.as_ref(), |w, adopted| adopted.put(w));
            }
            Self::Pool => w.u8(11),
            Self::Linked(linked) => {
                w.u8(12);
                w.u8(match linked {
                    Linked::Done => 0,
                    Linked::AccountTaken => 1,
                    Linked::LeaseExists => 2,
                });
            }
            Self::Spool { removed, left } => {
                w.u8(13);
                w.u32(*removed);
                w.u32(*left);
            }
            Self::Refused(refusal) => {
                w.u8(14);
                refusal.put(w);
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8()? {
            1 => Self::Begun {
                mode: match r.u8()? {
                    0 => Mode::Serve,
                    1 => Mode::Configure,
                    2 => Mode::Recover,
                    3 => Mode::Sweep,
                    4 => Mode::Release,
                    _ => return Err(DecodeError::BadValue("mode")),
                },
                monitor: r.i32()?,
                caller: Box::new(Caller::take(r)?),
            },
            15 => Self::Admitted {
                tracking: Tracking {
                    hierarchies: take_hierarchies(r)?,
                    within: r.texts("within", Text::Account, 16, MAX_WORD)?,
                },
            },
            2 => Self::Files,
            3 => Self::Reread {
                settings: Box::new(Settings::take(r)?),
                caller: Box::new(Caller::take(r)?),
                may_omit_key: r.bool("may_omit_key")?,
            },
            4 => Self::Done,
            5 => Self::Started { child: r.i32()? },
            6 => Self::Account(Account::take(r)?),
            7 => Self::Made {
                child: r.i32()?,
                group: r.text("group", Text::Graphic, MAX_WORD)?,
                sandbox: r.option("sandbox", |r| r.path("sandbox"))?,
            },
            8 => Self::Endings {
                ended: r.list("ended", MAX_LISTED, 8, |r| Ok((r.i32()?, r.i32()?)))?,
                terminate: r.bool("terminate")?,
            },
            9 => Self::Adopted(r.option("adopted", Adopted::take)?),
            11 => Self::Pool,
            12 => Self::Linked(match r.u8()? {
                0 => Linked::Done,
                1 => Linked::AccountTaken,
                2 => Linked::LeaseExists,
                _ => return Err(DecodeError::BadValue("linked")),
            }),
            13 => Self::Spool {
                removed: r.u32()?,
                left: r.u32()?,
            },
            14 => Self::Refused(Refusal::take(r)?),
            tag => return Err(DecodeError::UnknownTag(tag)),
        })
    }
}

impl Target {
    fn put(&self, w: &mut Writer) {
        match self {
            Self::Named(name) => {
                w.u8(0);
                w.name("target", name);
            }
            Self::Dynamic(uid) => {
                w.u8(1);
                w.u32(*uid);
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8()? {
            0 => Self::Named(r.name("target")?),
            1 => Self::Dynamic(r.u32()?),
            _ => return Err(DecodeError::BadValue("target")),
        })
    }
}

impl Account {
    /// Its numbers alone.
    pub fn numbers(&self) -> Numbers {
        Numbers {
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.clone(),
        }
    }

    fn put(&self, w: &mut Writer) {
        w.text("name", &self.name, Text::Graphic, 255);
        w.u32(self.uid);
        w.u32(self.gid);
        w.list("groups", &self.groups, MAX_GROUPS, |w, gid| w.u32(*gid));
        w.path("home", &self.home);
        w.path("shell", &self.shell);
        w.bool(self.dynamic);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: r.text("name", Text::Graphic, 255)?,
            uid: r.u32()?,
            gid: r.u32()?,
            groups: r.list("groups", MAX_GROUPS, 4, Reader::u32)?,
            home: r.path("home")?,
            shell: r.path("shell")?,
            dynamic: r.bool("dynamic")?,
        })
    }
}

impl Numbers {
    fn put(&self, w: &mut Writer) {
        w.u32(self.uid);
        w.u32(self.gid);
        w.list("groups", &self.groups, MAX_GROUPS, |w, gid| w.u32(*gid));
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            uid: r.u32()?,
            gid: r.u32()?,
            groups: r.list("groups", MAX_GROUPS, 4, Reader::u32)?,
        })
    }
}

impl Adopted {
    fn put(&self, w: &mut Writer) {
        w.text("lease", &self.lease, Text::Free, MAX_LEASE);
        w.text("label", &self.label, Text::Free, MAX_LABEL);
        w.u32(self.uid);
        w.bool(self.dynamic);
        w.list("groups", &self.groups, MAX_HIERARCHIES, |w, path| {
            w.path("groups", path);
        });
        w.bool(self.sandbox);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            lease: r.text("lease", Text::Free, MAX_LEASE)?,
            label: r.text("label", Text::Printable, MAX_LABEL)?,
            uid: r.u32()?,
            dynamic: r.bool("dynamic")?,
            groups: r.list("groups", MAX_HIERARCHIES, 4, |r| r.path("groups"))?,
            sandbox: r.bool("sandbox")?,
        })
    }
}

fn put_hierarchies(w: &mut Writer, hierarchies: &[(String, PathBuf)]) {
    w.list(
        "hierarchies",
        hierarchies,
        MAX_HIERARCHIES,
        |w, (name, path)| {
            w.text("hierarchy", name, Text::Account, MAX_WORD);
            w.path("hierarchy", path);
        },
    );
}

fn take_hierarchies(r: &mut Reader<'_>) -> Result<Vec<(String, PathBuf)>, DecodeError> {
    r.list("hierarchies", MAX_HIERARCHIES, 8, |r| {
        let name = r.text("hierarchy", Text::Account, MAX_WORD)?;
        Ok((name, r.path("hierarchy")?))
    })
}

fn put_groups(w: &mut Writer, groups: Option<&Groups>) {
    w.option(groups, |w, groups| groups.put(w));
}

fn take_groups(r: &mut Reader<'_>) -> Result<Option<Groups>, DecodeError> {
    r.option("groups", Groups::take)
}

fn put_lease(w: &mut Writer, lease: &str) {
    w.refuse_unless("lease", crate::policy::is_lease_name(lease));
    w.text("lease", lease, Text::Graphic, MAX_LEASE);
}

fn take_lease(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    let lease = r.text("lease", Text::Graphic, MAX_LEASE)?;
    check("lease", crate::policy::is_lease_name(&lease))?;
    Ok(lease)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(ask: &Ask) {
        let packet = ask.encode().expect("sound");
        assert_eq!(Ask::decode(&packet).as_ref(), Ok(ask));
    }

    #[test]
    fn questions_come_out_as_they_went_in() {
        let groups = Some(Groups {
            primary: None,
            secondary: vec!["atlas".to_owned()],
        });
        for ask in [
            Ask::Begin {
                hierarchies: vec![("cgroup2".to_owned(), "/sys/fs/cgroup/a".into())],
            },
            Ask::Lease {
                payload: 3,
                target: Target::Named("alice".to_owned()),
                groups,
                sweep: false,
            },
            Ask::Make {
                payload: 3,
                label: "12.0".to_owned(),
                place: Some("/work".into()),
                limits: OpenLimits::default(),
                alone: true,
            },
            Ask::Errand {
                payload: 3,
                errand: Errand::PutProxy {
                    name: "proxy".into(),
                },
            },
            Ask::PoolLink {
                account: "grid01".to_owned(),
                lease: "%2fcn%3da".to_owned(),
            },
        ] {
            there_and_back(&ask);
        }
    }

    #[test]
    fn a_group_tells_whose_it_is() {
        assert_eq!(monitor_of_group("sailplane-17-3"), Some(17));
        assert_eq!(monitor_of_group("sailplane-17-hook-3"), Some(17));
        for other in ["sailplane-17", "sailplane-x-1", "17-3", "sailplane--1"] {
            assert_eq!(monitor_of_group(other), None, "{other}");
        }
    }

    #[test]
    fn s11_two_brokers_have_no_number_in_common() {
        let serves = broker_numbers(Mode::Serve, 4_000_000);
        let configures = broker_numbers(Mode::Configure, 4_000_000);
        assert!(serves.uid != configures.uid && serves.uid != broker_numbers(Mode::Serve, 7).uid);
        for number in [serves.uid, configures.gid] {
            assert!((FIRST_BROKER_UID..FIRST_BROKER_UID + BROKER_UIDS).contains(&number));
        }
    }

    #[test]
    fn a_hook_is_told_what_it_is_and_finds_no_variable_of_others() {
        let facts = vec![("JOB".to_owned(), "1.0=a b".to_owned())];
        assert_eq!(
            Which::Epilogue.environment(&facts),
            [
                "PATH=/usr/bin:/bin:/usr/sbin:/sbin",
                "SAILPLANE_HOOK=epilogue",
                "SAILPLANE_JOB=1.0=a b"
            ]
        );
    }

    #[test]
    fn a_line_of_the_log_is_one_line_and_a_lease_is_no_path() {
        let line = "\"a\":1\n".to_owned();
        assert!(Ask::Audit { line }.encode().is_err());
        for lease in ["../x%", "alice", "a/%2f"] {
            let ask = Ask::PoolLink {
                account: "grid01".to_owned(),
                lease: lease.to_owned(),
            };
            assert!(ask.encode().is_err(), "{lease}");
        }
    }
}
