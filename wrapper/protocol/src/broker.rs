//! Pilot and broker: open, spawn, signal, account, close.

use std::path::{Path, PathBuf};

use crate::codec::{DecodeError, EncodeError, Reader, Text, Writer};
pub use crate::verdict::RefusalClass;
use crate::verdict::{MAX_FQAN, MAX_FQANS};
use crate::{MAX_CODE, MAX_IDENTITY, MAX_LABEL, MAX_LEASE, MAX_MESSAGE, MAX_PACKET};

/// A packet from the pilot to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the pilot, not 0; the reply repeats it.
    pub id: u32,
    /// What is asked.
    pub command: Command,
}

/// What a pilot can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// First message; answered by [`Answer::Hello`].
    Hello {
        /// [`crate::VERSION`] of the pilot.
        version: u32,
    },
    /// Verify, map, lease an account, make the sandbox, open a group. One descriptor beside it:
    /// the credential, a memfd or a pipe, read to its end by the verifier.
    /// Answered by [`Answer::Opened`] or [`Answer::Refused`].
    Open {
        /// Names the job in the audit log: printable ASCII, at most [`MAX_LABEL`] bytes.
        job_label: String,
        /// Absolute directory below which the sandbox is made; must be one of the configured ones
        /// or lie below one. `None`: no sandbox.
        execute_dir: Option<PathBuf>,
        /// The account that the pilot's configuration gives this slot (`SLOT<N>_USER`); the site's
        /// policy says whether it may.
        slot_account: Option<String>,
        /// How far to go.
        purpose: Purpose,
        /// Limits of the payload's group; the site's own are never exceeded.
        limits: OpenLimits,
        /// Start its first agent, too: see [`Opened::agent`].
        agent: bool,
    },
    /// The pilot's own credential (one descriptor beside it), for sites that require `pilot+user`. It is
    /// verified now, kept until it ends, and judged again at each [`Self::Open`]. Answered by
    /// [`Answer::Presented`] or [`Answer::Refused`]; a refused one leaves an earlier one in force.
    Present,
    /// A new credential for a payload (one descriptor beside it). Verified and judged like the first and
    /// accepted only for the same identity. Answered by [`Answer::Renewed`], or [`Answer::Refused`]: then
    /// the old deadline stays.
    Renew {
        /// Which payload.
        payload: u32,
        /// Below the sandbox, the file that the account gets the new credential in; `None`: no file.
        proxy: Option<PathBuf>,
    },
    /// Put a file into the sandbox in the place of the one of that name, while the payload runs (one descriptor
    /// beside it: what the file shall hold, a memfd of at most [`crate::MAX_CREDENTIAL`] bytes). The account
    /// itself writes it, mode 0600, and renames it: whoever reads has the old content or the new. Answered by
    /// [`Answer::Done`], or [`Answer::Refused`]: then the old file stays.
    Replace {
        /// Which payload.
        payload: u32,
        /// Relative to the sandbox. Its directory must be there, and be the account's alone.
        file: PathBuf,
    },
    /// Start the agent as the payload's account. Refused while an earlier one, or anything it
    /// left behind, still lives. Answered by [`Answer::Spawned`] with the agent's socket.
    SpawnAgent {
        /// Which payload.
        payload: u32,
    },
    /// Send a signal. Answered by [`Answer::Done`], also when nothing is left to be signalled.
    /// `SIGSTOP` and `SIGCONT` to all freeze and thaw the whole group where the kernel can.
    Signal {
        /// Which payload.
        payload: u32,
        /// Linux signal number, 1 to 64.
        signal: i32,
        /// To whom.
        scope: SignalScope,
    },
    /// Kill every process of the payload, now. Answered by [`Answer::Done`] when the order has
    /// been given; [`Answer::Empty`] follows.
    Kill {
        /// Which payload.
        payload: u32,
    },
    /// What has it used so far? Answered by [`Answer::Usage`].
    Usage {
        /// Which payload.
        payload: u32,
    },
    /// Kill what is left, remove the sandbox and the group, free the account. Answered by
    /// [`Answer::Closed`], or [`Answer::Refused`] with class site if something could not be removed
    /// (the payload's number is gone in either case).
    Close {
        /// Which payload.
        payload: u32,
    },
    /// An [`Self::Open`] is to be expected: have ready what can be made before it is known for whom.
    /// Only saves time; `Open` works without it. Answered by [`Answer::Done`].
    Prepare {
        /// It will want a sandbox, most likely below the first of [`Hello::execute_dirs`].
        sandbox: bool,
    },
}

/// How far an [`Command::Open`] goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// All the way: a payload exists afterwards.
    #[default]
    Run,
    /// Verify, judge and map; take no lease. [`Opened::payload`] is 0.
    VerifyOnly,
    /// Verify, judge, map and lease a pool account; nothing else exists afterwards.
    /// [`Opened::payload`] is 0.
    GetAccount,
}

/// Limits of a payload's group. `None`: what the site says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenLimits {
    /// Memory of all processes together, bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at a time.
    pub pids: Option<u64>,
    /// Processors, in thousandths of one.
    pub cpu_millis: Option<u64>,
}

/// Whose credential a site wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialRequired {
    /// The payload owner's.
    #[default]
    User,
    /// The pilot's too; see [`Command::Present`].
    PilotAndUser,
}

/// Whom a signal reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalScope {
    /// The process group of the spawned process.
    Leader,
    /// Every process of the payload.
    All,
}

/// A packet from the broker to the pilot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The request's id, or 0 for an event.
    pub id: u32,
    /// What is said.
    pub answer: Answer,
}

/// What a broker can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Command::Hello`].
    Hello(Hello),
    /// To [`Command::Open`].
    Opened(Opened),
    /// To [`Command::SpawnAgent`]; one descriptor beside it, the pilot's end of the agent's socket.
    Spawned {
        /// Which payload.
        payload: u32,
        /// Process number of the agent, later of the payload; to be shown, not signalled.
        pid: u32,
    },
    /// To [`Command::Signal`], [`Command::Kill`] and [`Command::Prepare`].
    Done,
    /// To [`Command::Usage`].
    Usage(Usage),
    /// To [`Command::Close`]: nothing is left.
    Closed,
    /// The request was not carried out. With id 0: the broker itself will not start.
    Refused(Refusal),
    /// To [`Command::Present`].
    Presented {
        /// The verified identity.
        identity: String,
        /// Until when it is kept, Unix seconds.
        not_after: i64,
    },
    /// To [`Command::Renew`].
    Renewed {
        /// Earliest end of validity in the new credential, Unix seconds.
        not_after: i64,
    },
    /// Event: the payload's credential is about to expire; its leader has been sent `SIGTERM`.
    Expiring {
        /// Which payload.
        payload: u32,
    },
    /// Event: its credential was not renewed in time, so everything of the payload has been killed.
    KilledForExpiry {
        /// Which payload.
        payload: u32,
    },
    /// Event: the spawned process has ended and was reaped.
    Exited {
        /// Which payload.
        payload: u32,
        /// As from `waitpid`: exit code in bits 8 to 15, signal in bits 0 to 6, core in bit 7.
        wait_status: i32,
    },
    /// Event, after [`Answer::Exited`]: no process of the payload is left.
    Empty {
        /// Which payload.
        payload: u32,
    },
}

/// The broker introduces itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// [`crate::VERSION`] of the broker.
    pub version: u32,
    /// Version of the program, for logs.
    pub switch_version: String,
    /// How processes are tracked: `cgroup2`; `freezer` of the old kind where there is no cgroup2
    /// mount; `sweep` where there is neither.
    pub tracking: String,
    /// Where memory figures come from: `cgroup2`, `cgroup1` or `proc`.
    pub memory_source: String,
    /// Configured directories below which sandboxes may be made.
    pub execute_dirs: Vec<PathBuf>,
    /// How identities become accounts, in words.
    pub mapping: String,
    /// Whose credential is required.
    pub credential_required: CredentialRequired,
    /// The drop-in form waits for its command (`linger = yes`).
    pub linger: bool,
    /// Variables of its caller that the drop-in form keeps.
    pub preserve_env: Vec<String>,
    /// What this node can do beside the minimum: `memory-limit`, `pids-limit`, `io-usage`,
    /// `private-tmp`, `private-pid`, ... What is not there cannot be had.
    pub features: Vec<String>,
    /// Words for the unprivileged front, `key=value`; the broker does not look at them.
    pub front: Vec<String>,
}

/// A payload exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The payload's number for all later requests; not reused by this broker. 0: none was opened,
    /// because the [`Purpose`] was not to run one.
    pub payload: u32,
    /// User number of the account.
    pub uid: u32,
    /// Primary group number.
    pub gid: u32,
    /// Name of the account; for a dynamic one `uid` and the number, for example `uid60001`.
    pub account: String,
    /// Home directory of the account, empty for a dynamic one.
    pub home: PathBuf,
    /// Login shell of the account, empty for a dynamic one.
    pub shell: PathBuf,
    /// The verified identity.
    pub identity: String,
    /// The verified attributes, in their order.
    pub fqans: Vec<String>,
    /// Earliest end of validity in the credential, Unix seconds.
    pub not_after: i64,
    /// The credential holds a limited proxy.
    pub limited: bool,
    /// How the account is held: `account`, `dynamic`, or `pool` and the name of its lease.
    pub lease: String,
    /// The sandbox: an empty directory of the account, mode 0700.
    pub sandbox: Option<PathBuf>,
    /// Process number of the first agent, if one was asked for and could be started at once; then its socket stands
    /// beside the message. Otherwise [`Command::SpawnAgent`] starts it, or says why it cannot be.
    pub agent: Option<u32>,
}

/// What a payload has used, all its processes together, dead ones included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User CPU time, microseconds.
    pub user_usec: u64,
    /// System CPU time, microseconds.
    pub system_usec: u64,
    /// Memory in use now, bytes.
    pub memory_current_bytes: u64,
    /// Highest memory use seen, bytes.
    pub memory_peak_bytes: u64,
    /// Processes alive now.
    pub processes: u32,
    /// Time since the first agent was spawned, until the group was last empty, microseconds.
    pub wall_usec: u64,
    /// Where the memory figures come from; see [`Hello::memory_source`].
    pub memory_source: String,
    /// Most processes alive at a time, where it is known.
    pub processes_peak: Option<u64>,
    /// Bytes read from block devices, where there is a controller.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to block devices, where there is a controller.
    pub io_write_bytes: Option<u64>,
    /// Processes killed because the group had reached its memory limit, where there is a controller.
    pub oom_kills: Option<u64>,
}

/// Which part of the helper refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedBy {
    /// The credential did not verify.
    Credential,
    /// No account for the identity.
    Mapping,
    /// The helper itself or its configuration.
    Helper,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose fault it is.
    pub class: RefusalClass,
    /// Stable short code: `map.none`, `proxy.expired`, `lease.none`, ...
    pub code: String,
    /// One sentence that says what to do.
    pub message: String,
    /// The same request may succeed later, with nobody changing anything.
    pub may_succeed_later: bool,
    /// Which part refused.
    pub who: RefusedBy,
}

const MAX_WORD: usize = 256;
const MAX_EXECUTE_DIRS: usize = 64;
const MAX_WORDS: usize = 64;

impl Command {
    /// The plain [`Self::Open`]: a payload with a sandbox below `execute_dir`, nothing else asked for.
    pub fn open(job_label: impl Into<String>, execute_dir: impl Into<PathBuf>) -> Self {
        Self::Open {
            job_label: job_label.into(),
            execute_dir: Some(execute_dir.into()),
            slot_account: None,
            purpose: Purpose::Run,
            limits: OpenLimits::default(),
            agent: false,
        }
    }

    /// How many descriptors travel beside this message.
    pub fn descriptors(&self) -> usize {
        usize::from(matches!(
            self,
            Self::Open { .. } | Self::Present | Self::Renew { .. } | Self::Replace { .. }
        ))
    }
}

impl Answer {
    /// How many descriptors travel beside this message.
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Opened(opened) => usize::from(opened.agent.is_some()),
            other => usize::from(matches!(other, Self::Spawned { .. })),
        }
    }
}

impl Request {
    /// The packet.
    ///
    /// # Errors
    /// If a field is not what the receiver accepts.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::tagged(match &self.command {
            Command::Hello { .. } => 1,
            Command::Open { .. } => 2,
            Command::SpawnAgent { .. } => 3,
            Command::Signal { .. } => 4,
            Command::Kill { .. } => 5,
            Command::Usage { .. } => 6,
            Command::Close { .. } => 7,
            Command::Prepare { .. } => 8,
            Command::Present => 9,
            Command::Renew { .. } => 10,
            Command::Replace { .. } => 11,
        });
        w.u32(self.id);
        match &self.command {
            Command::Hello { version } => w.u32(*version),
            Command::Open {
                job_label,
                execute_dir,
                slot_account,
                purpose,
                limits,
                agent,
            } => {
                w.text("job_label", job_label, Text::Printable, MAX_LABEL);
                w.option(execute_dir.as_ref(), |w, dir| w.path("execute_dir", dir));
                w.option(slot_account.as_ref(), |w, name| {
                    w.text("slot_account", name, Text::Identity, MAX_WORD);
                });
                purpose.put(&mut w);
                limits.put(&mut w);
                w.bool(*agent);
            }
            Command::Signal {
                payload,
                signal,
                scope,
            } => {
                w.u32(*payload);
                w.i32(*signal);
                w.bool(matches!(scope, SignalScope::All));
            }
            Command::SpawnAgent { payload }
            | Command::Kill { payload }
            | Command::Usage { payload }
            | Command::Close { payload } => w.u32(*payload),
            Command::Renew { payload, proxy } => {
                w.u32(*payload);
                w.option(proxy.as_ref(), |w, path| w.path("proxy", path));
            }
            Command::Replace { payload, file } => {
                w.u32(*payload);
                w.path("file", file);
            }
            Command::Prepare { sandbox } => w.bool(*sandbox),
            Command::Present => {}
        }
        w.finish(MAX_PACKET)
    }

    /// Reads a packet and checks every field.
    ///
    /// # Errors
    /// If the bytes are not exactly one request.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(packet);
        let tag = r.u8()?;
        let id = r.u32()?;
        let command = match tag {
            1 => Command::Hello { version: r.u32()? },
            2 => Command::Open {
                job_label: r.text("job_label", Text::Printable, MAX_LABEL)?,
                execute_dir: r.option("execute_dir", |r| r.path("execute_dir"))?,
                slot_account: r.option("slot_account", |r| {
                    r.text("slot_account", Text::Identity, MAX_WORD)
                })?,
                purpose: Purpose::take(&mut r)?,
                limits: OpenLimits::take(&mut r)?,
                agent: r.bool("agent")?,
            },
            3 => Command::SpawnAgent { payload: r.u32()? },
            4 => Command::Signal {
                payload: r.u32()?,
                signal: r.i32()?,
                scope: if r.bool("scope")? {
                    SignalScope::All
                } else {
                    SignalScope::Leader
                },
            },
            5 => Command::Kill { payload: r.u32()? },
            6 => Command::Usage { payload: r.u32()? },
            7 => Command::Close { payload: r.u32()? },
            8 => Command::Prepare {
                sandbox: r.bool("sandbox")?,
            },
            9 => Command::Present,
            10 => Command::Renew {
                payload: r.u32()?,
                proxy: r.option("proxy", |r| r.path("proxy"))?,
            },
            11 => Command::Replace {
                payload: r.u32()?,
                file: r.path("file")?,
            },
            tag => return Err(DecodeError::UnknownTag(tag)),
        };
        r.finish()?;
        Ok(Self { id, command })
    }
}

impl Purpose {
    fn put(self, w: &mut Writer) {
        w.u8(match self {
            Self::Run => 0,
            Self::VerifyOnly => 1,
            Self::GetAccount => 2,
        });
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8()? {
            0 => Self::Run,
            1 => Self::VerifyOnly,
            2 => Self::GetAccount,
            _ => return Err(DecodeError::BadValue("purpose")),
        })
    }
}

impl OpenLimits {
    /// The lower of the job's and the site's, each.
    pub fn within(&self, site: &crate::policy::LimitRules) -> Self {
        let lower = |job: Option<u64>, site: Option<u64>| job.into_iter().chain(site).min();
        let processors = site.cpu_percent.map(|percent| u64::from(percent) * 10);
        Self {
            memory_bytes: lower(self.memory_bytes, site.memory_bytes),
            pids: lower(self.pids, site.pids.map(u64::from)),
            cpu_millis: lower(self.cpu_millis, processors),
        }
    }

    pub(crate) fn put(&self, w: &mut Writer) {
        for limit in [self.memory_bytes, self.pids, self.cpu_millis] {
            w.option(limit.as_ref(), |w, limit| w.u64(*limit));
        }
    }

    pub(crate) fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            memory_bytes: r.option("memory_bytes", Reader::u64)?,
            pids: r.option("pids", Reader::u64)?,
            cpu_millis: r.option("cpu_millis", Reader::u64)?,
        })
    }
}

impl Reply {
    /// The packet.
    ///
    /// # Errors
    /// If a field is not what the receiver accepts. Too long a `message` is cut instead.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::tagged(match &self.answer {
            Answer::Hello(_) => 1,
            Answer::Opened(_) => 2,
            Answer::Spawned { .. } => 3,
            Answer::Done => 4,
            Answer::Usage(_) => 5,
            Answer::Closed => 6,
            Answer::Refused(_) => 7,
            Answer::Exited { .. } => 8,
            Answer::Empty { .. } => 9,
            Answer::Presented { .. } => 10,
            Answer::Renewed { .. } => 11,
            Answer::Expiring { .. } => 12,
            Answer::KilledForExpiry { .. } => 13,
        });
        w.u32(self.id);
        match &self.answer {
            Answer::Hello(hello) => hello.put(&mut w),
            Answer::Opened(opened) => opened.put(&mut w),
            Answer::Spawned { payload, pid } => {
                w.u32(*payload);
                w.u32(*pid);
            }
            Answer::Done | Answer::Closed => {}
            Answer::Usage(usage) => usage.put(&mut w),
            Answer::Refused(refusal) => refusal.put(&mut w),
            Answer::Exited {
                payload,
                wait_status,
            } => {
                w.u32(*payload);
                w.i32(*wait_status);
            }
            Answer::Presented {
                identity,
                not_after,
            } => {
                w.text("identity", identity, Text::Identity, MAX_IDENTITY);
                w.i64(*not_after);
            }
            Answer::Renewed { not_after } => w.i64(*not_after),
            Answer::Empty { payload }
            | Answer::Expiring { payload }
            | Answer::KilledForExpiry { payload } => w.u32(*payload),
        }
        w.finish(MAX_PACKET)
    }

    /// Reads a packet and checks every field.
    ///
    /// # Errors
    /// If the bytes are not exactly one reply or event.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(packet);
        let tag = r.u8()?;
        let id = r.u32()?;
        let answer = match tag {
            1 => Answer::Hello(Hello::take(&mut r)?),
            2 => Answer::Opened(Opened::take(&mut r)?),
            3 => Answer::Spawned {
                payload: r.u32()?,
                pid: r.u32()?,
            },
            4 => Answer::Done,
            5 => Answer::Usage(Usage::take(&mut r)?),
            6 => Answer::Closed,
            7 => Answer::Refused(Refusal::take(&mut r)?),
            8 => Answer::Exited {
                payload: r.u32()?,
                wait_status: r.i32()?,
            },
            9 => Answer::Empty { payload: r.u32()? },
            10 => Answer::Presented {
                identity: r.text("identity", Text::Identity, MAX_IDENTITY)?,
                not_after: r.i64()?,
            },
            11 => Answer::Renewed {
                not_after: r.i64()?,
            },
            12 => Answer::Expiring { payload: r.u32()? },
            13 => Answer::KilledForExpiry { payload: r.u32()? },
            tag => return Err(DecodeError::UnknownTag(tag)),
        };
        r.finish()?;
        Ok(Self { id, answer })
    }
}

impl Hello {
    fn put(&self, w: &mut Writer) {
        w.u32(self.version);
        w.text(
            "switch_version",
            &self.switch_version,
            Text::Printable,
            MAX_WORD,
        );
        w.text("tracking", &self.tracking, Text::Printable, MAX_WORD);
        w.text(
            "memory_source",
            &self.memory_source,
            Text::Printable,
            MAX_WORD,
        );
        w.count("execute_dirs", self.execute_dirs.len(), MAX_EXECUTE_DIRS);
        for dir in &self.execute_dirs {
            w.path("execute_dirs", dir);
        }
        w.text("mapping", &self.mapping, Text::Free, MAX_MESSAGE);
        w.bool(matches!(
            self.credential_required,
            CredentialRequired::PilotAndUser
        ));
        w.bool(self.linger);
        w.texts(
            "preserve_env",
            &self.preserve_env,
            Text::Printable,
            MAX_WORDS,
            MAX_WORD,
        );
        w.texts("features", &self.features, Text::Code, MAX_WORDS, MAX_WORD);
        w.texts("front", &self.front, Text::Printable, MAX_WORDS, MAX_WORD);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: r.u32()?,
            switch_version: r.text("switch_version", Text::Printable, MAX_WORD)?,
            tracking: r.text("tracking", Text::Printable, MAX_WORD)?,
            memory_source: r.text("memory_source", Text::Printable, MAX_WORD)?,
            execute_dirs: {
                let count = r.count("execute_dirs", MAX_EXECUTE_DIRS, 4)?;
                (0..count)
                    .map(|_| r.path("execute_dirs"))
                    .collect::<Result<_, _>>()?
            },
            mapping: r.text("mapping", Text::Free, MAX_MESSAGE)?,
            credential_required: if r.bool("credential_required")? {
                CredentialRequired::PilotAndUser
            } else {
                CredentialRequired::User
            },
            linger: r.bool("linger")?,
            preserve_env: r.texts("preserve_env", Text::Printable, MAX_WORDS, MAX_WORD)?,
            features: r.texts("features", Text::Code, MAX_WORDS, MAX_WORD)?,
            front: r.texts("front", Text::Printable, MAX_WORDS, MAX_WORD)?,
        })
    }
}

impl Opened {
    /// The sandbox, or an empty path where there is none.
    pub fn sandbox_path(&self) -> &Path {
        self.sandbox.as_deref().unwrap_or_else(|| Path::new(""))
    }

    fn put(&self, w: &mut Writer) {
        w.u32(self.payload);
        w.u32(self.uid);
        w.u32(self.gid);
        w.text("account", &self.account, Text::Identity, MAX_WORD);
        w.path("home", &self.home);
        w.path("shell", &self.shell);
        w.text("identity", &self.identity, Text::Identity, MAX_IDENTITY);
        w.texts("fqans", &self.fqans, Text::Identity, MAX_FQANS, MAX_FQAN);
        w.i64(self.not_after);
        w.bool(self.limited);
        w.text("lease", &self.lease, Text::Printable, MAX_LEASE);
        w.option(self.sandbox.as_ref(), |w, dir| w.path("sandbox", dir));
        w.option(self.agent.as_ref(), |w, pid| w.u32(*pid));
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            payload: r.u32()?,
            uid: r.u32()?,
            gid: r.u32()?,
            account: r.text("account", Text::Identity, MAX_WORD)?,
            home: r.path("home")?,
            shell: r.path("shell")?,
            identity: r.text("identity", Text::Identity, MAX_IDENTITY)?,
            fqans: r.texts("fqans", Text::Identity, MAX_FQANS, MAX_FQAN)?,
            not_after: r.i64()?,
            limited: r.bool("limited")?,
            lease: r.text("lease", Text::Printable, MAX_LEASE)?,
            sandbox: r.option("sandbox", |r| r.path("sandbox"))?,
            agent: r.option("agent", Reader::u32)?,
        })
    }
}

impl Usage {
    fn put(&self, w: &mut Writer) {
        w.u64(self.user_usec);
        w.u64(self.system_usec);
        w.u64(self.memory_current_bytes);
        w.u64(self.memory_peak_bytes);
        w.u32(self.processes);
        w.u64(self.wall_usec);
        w.text(
            "memory_source",
            &self.memory_source,
            Text::Printable,
            MAX_WORD,
        );
        for figure in [
            self.processes_peak,
            self.io_read_bytes,
            self.io_write_bytes,
            self.oom_kills,
        ] {
            w.option(figure.as_ref(), |w, figure| w.u64(*figure));
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            user_usec: r.u64()?,
            system_usec: r.u64()?,
            memory_current_bytes: r.u64()?,
            memory_peak_bytes: r.u64()?,
            processes: r.u32()?,
            wall_usec: r.u64()?,
            memory_source: r.text("memory_source", Text::Printable, MAX_WORD)?,
            processes_peak: r.option("processes_peak", Reader::u64)?,
            io_read_bytes: r.option("io_read_bytes", Reader::u64)?,
            io_write_bytes: r.option("io_write_bytes", Reader::u64)?,
            oom_kills: r.option("oom_kills", Reader::u64)?,
        })
    }
}

impl Refusal {
    pub(crate) fn put(&self, w: &mut Writer) {
        self.class.put(w);
        w.text("code", &self.code, Text::Code, MAX_CODE);
        w.message("message", &self.message, MAX_MESSAGE);
        w.bool(self.may_succeed_later);
        w.u8(match self.who {
            RefusedBy::Credential => 0,
            RefusedBy::Mapping => 1,
            RefusedBy::Helper => 2,
        });
    }

    pub(crate) fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            class: RefusalClass::take(r)?,
            code: r.text("code", Text::Code, MAX_CODE)?,
            message: r.text("message", Text::Free, MAX_MESSAGE)?,
            may_succeed_later: r.bool("may_succeed_later")?,
            who: match r.u8()? {
                0 => RefusedBy::Credential,
                1 => RefusedBy::Mapping,
                2 => RefusedBy::Helper,
                _ => return Err(DecodeError::BadValue("who")),
            },
        })
    }
}
