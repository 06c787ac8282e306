//! What root needs of the configuration.

use std::path::PathBuf;

use crate::codec::{DecodeError, Reader, Text, Writer, check};

/// Everything that root acts on. Names are account names, paths plain and absolute, lists bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Accounts that may call, by name. None of them, nor an account with the number of one, may be
    /// a target.
    pub caller_names: Vec<String>,
    /// The same for pool accounts: a prefix, followed by digits.
    pub caller_prefixes: Vec<String>,
    /// Groups whose members may call. No target may be a member.
    pub caller_groups: Vec<String>,
    /// Which accounts may be targets.
    pub targets: Targets,
    /// Directories below which sandboxes may be made; none is `/`.
    pub execute_dirs: Vec<PathBuf>,
    /// Where the helper's other programs are; else beside the helper itself.
    pub libexec: Option<PathBuf>,
    /// Directory of leases and records.
    pub rundir: PathBuf,
    /// Shared directory of pool accounts.
    pub gridmapdir: Option<PathBuf>,
    /// A pool account may be given to somebody else after so many seconds without use; 0: never.
    pub gridmapdir_min_idle: u32,
    /// Files that decisions are made from, to be passed in this order.
    pub policy_files: Vec<PathBuf>,
    /// For the verifier.
    pub verifier: VerifierSettings,
    /// Whose credentials must be presented.
    pub required: Required,
    /// Where audit lines go.
    pub audit: AuditSettings,
    /// Seconds that what was made ahead of need is kept.
    pub warm_time: u32,
    /// Seconds between a soft and a hard kill.
    pub kill_grace: u32,
    /// Seconds that payloads outlive a control channel that closed.
    pub orphan_grace: u32,
    /// Seconds before the end of a credential at which its payload is killed.
    pub kill_before_expiry: u32,
    /// What a payload may use.
    pub limits: LimitRules,
    /// What a payload sees of the node.
    pub isolation: Isolation,
    /// To be run before a payload.
    pub prologue: Option<Hook>,
    /// To be run after a payload.
    pub epilogue: Option<Hook>,
    /// The one-shot form stays and waits for the command rather than become it.
    pub linger: bool,
    /// Environment variables that a command of the one-shot form keeps.
    pub preserve_env: Vec<String>,
    /// Further words for the front of the one-shot form, `key=value` in the spelling of the
    /// configuration: root only passes them on.
    pub front: Vec<String>,
}

/// Which accounts may be targets (requirement M3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Smallest uid, at least 1.
    pub uid_min: u32,
    /// Largest uid.
    pub uid_max: u32,
    /// If any: an account must be named with one of these.
    pub prefixes: Vec<String>,
    /// Never these.
    pub forbidden: Vec<String>,
    /// First and last number of the dynamic accounts.
    pub dynamic_uids: Option<(u32, u32)>,
}

/// Arguments for the verifier and what root must have found trustworthy before it starts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierSettings {
    /// Its arguments, printable.
    pub words: Vec<String>,
    /// Directories among them.
    pub directories: Vec<PathBuf>,
    /// Files among them.
    pub files: Vec<PathBuf>,
}

/// Whose credentials must be presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Required {
    /// The payload owner's.
    User,
    /// The payload owner's and the pilot's own.
    PilotAndUser,
}

/// Where audit lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// The file, if any.
    pub file: Option<PathBuf>,
    /// Size in bytes at which it is set aside; 0: never.
    pub max_bytes: u64,
    /// How many old files are kept, at most 99.
    pub keep: u32,
    /// Facility for the system log, 0 to 23; `None`: not there.
    pub syslog_facility: Option<u8>,
}

/// What a payload may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitRules {
    /// Linux `RLIMIT_` numbers and the highest value each may have.
    pub rlimits: Vec<(u32, u64)>,
    /// Lowest nice value, 0 to 19.
    pub nice_min: u8,
    /// Most memory of all processes together, bytes.
    pub memory_bytes: Option<u64>,
    /// Most processes and threads.
    pub pids: Option<u32>,
    /// Most processors, in hundredths.
    pub cpu_percent: Option<u32>,
}

/// What a payload sees of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    /// Its own /tmp and /var/tmp.
    pub private_tmp: bool,
    /// Its own process numbers.
    pub private_pid: bool,
    /// Another root directory.
    pub chroot: Option<PathBuf>,
    /// Programs that belong to these are not executed (requirement S13).
    pub forbidden_owners: Vec<u32>,
}

/// A program that the site has run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The program.
    pub program: PathBuf,
    /// As which account; `None`: nobody.
    pub user: Option<String>,
    /// As which group; `None`: that of the account.
    pub group: Option<String>,
    /// For how many seconds at most.
    pub timeout: u32,
}

const MAX_LISTED: usize = 128;
const MAX_PLACES: usize = 64;
const MAX_FILES: usize = 32;
const MAX_WORDS: usize = 64;
const MAX_WORD: usize = 1024;
const MAX_LIMITS: usize = 16;
const MAX_VARIABLE: usize = 128;

impl Settings {
    pub(crate) fn put(&self, w: &mut Writer) {
        for list in [
            &self.caller_names,
            &self.caller_prefixes,
            &self.caller_groups,
        ] {
            names(w, "callers", list);
        }
        self.targets.put(w);
        paths(w, "execute_dirs", &self.execute_dirs, MAX_PLACES);
        w.option(self.libexec.as_ref(), |w, path| {
            w.plain_path("libexec", path);
        });
        w.plain_path("rundir", &self.rundir);
        w.option(self.gridmapdir.as_ref(), |w, path| {
            w.plain_path("gridmapdir", path);
        });
        w.u32(self.gridmapdir_min_idle);
        paths(w, "policy_files", &self.policy_files, MAX_FILES);
        self.verifier.put(w);
        w.bool(self.required == Required::PilotAndUser);
        self.audit.put(w);
        for seconds in [
            self.warm_time,
            self.kill_grace,
            self.orphan_grace,
            self.kill_before_expiry,
        ] {
            w.u32(seconds);
        }
        self.limits.put(w);
        self.isolation.put(w);
        for hook in [&self.prologue, &self.epilogue] {
            w.option(hook.as_ref(), |w, hook| hook.put(w));
        }
        w.bool(self.linger);
        w.list("preserve_env", &self.preserve_env, MAX_LISTED, |w, name| {
            w.text("preserve_env", name, Text::Graphic, MAX_VARIABLE);
        });
        w.list("front", &self.front, MAX_WORDS, |w, word| {
            w.text("front", word, Text::Printable, MAX_WORD);
        });
    }

    pub(crate) fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let settings = Self {
            caller_names: take_names(r, "callers")?,
            caller_prefixes: take_names(r, "callers")?,
            caller_groups: take_names(r, "callers")?,
            targets: Targets::take(r)?,
            execute_dirs: take_paths(r, "execute_dirs", MAX_PLACES)?,
            libexec: r.option("libexec", |r| r.plain_path("libexec"))?,
            rundir: r.plain_path("rundir")?,
            gridmapdir: r.option("gridmapdir", |r| r.plain_path("gridmapdir"))?,
            gridmapdir_min_idle: r.u32()?,
            policy_files: take_paths(r, "policy_files", MAX_FILES)?,
            verifier: VerifierSettings::take(r)?,
            required: if r.bool("required")? {
                Required::PilotAndUser
            } else {
                Required::User
            },
            audit: AuditSettings::take(r)?,
            warm_time: r.u32()?,
            kill_grace: r.u32()?,
            orphan_grace: r.u32()?,
            kill_before_expiry: r.u32()?,
            limits: LimitRules::take(r)?,
            isolation: Isolation::take(r)?,
            prologue: r.option("prologue", Hook::take)?,
            epilogue: r.option("epilogue", Hook::take)?,
            linger: r.bool("linger")?,
            preserve_env: r.list("preserve_env", MAX_LISTED, 5, |r| {
                r.text("preserve_env", Text::Graphic, MAX_VARIABLE)
            })?,
            front: r.list("front", MAX_WORDS, 4, |r| {
                r.text("front", Text::Printable, MAX_WORD)
            })?,
        };
        let below_root = |dir: &PathBuf| dir.file_name().is_some();
        check("execute_dirs", settings.execute_dirs.iter().all(below_root))?;
        Ok(settings)
    }
}

impl Targets {
    fn are_sound(&self) -> bool {
        let dynamic = self
            .dynamic_uids
            .is_none_or(|(first, last)| first >= 1000 && first <= last && last < u32::MAX - 1);
        self.uid_min >= 1 && self.uid_max < u32::MAX - 1 && dynamic
    }

    fn put(&self, w: &mut Writer) {
        w.refuse_unless("targets", self.are_sound());
        w.u32(self.uid_min);
        w.u32(self.uid_max);
        names(w, "prefixes", &self.prefixes);
        names(w, "forbidden", &self.forbidden);
        w.option(self.dynamic_uids.as_ref(), |w, (first, last)| {
            w.u32(*first);
            w.u32(*last);
        });
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let targets = Self {
            uid_min: r.u32()?,
            uid_max: r.u32()?,
            prefixes: take_names(r, "prefixes")?,
            forbidden: take_names(r, "forbidden")?,
            dynamic_uids: r.option("dynamic_uids", |r| Ok((r.u32()?, r.u32()?)))?,
        };
        check("targets", targets.are_sound())?;
        Ok(targets)
    }
}

impl VerifierSettings {
    fn put(&self, w: &mut Writer) {
        w.list("words", &self.words, MAX_WORDS, |w, word| {
            w.text("words", word, Text::Printable, MAX_WORD);
        });
        paths(w, "directories", &self.directories, MAX_FILES);
        paths(w, "files", &self.files, MAX_FILES);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            words: r.list("words", MAX_WORDS, 4, |r| {
                r.text("words", Text::Printable, MAX_WORD)
            })?,
            directories: take_paths(r, "directories", MAX_FILES)?,
            files: take_paths(r, "files", MAX_FILES)?,
        })
    }
}

impl Default for AuditSettings {
    /// To the system log only, where security belongs.
    fn default() -> Self {
        Self {
            file: None,
            max_bytes: 0,
            keep: 0,
            syslog_facility: Some(10),
        }
    }
}

impl AuditSettings {
    fn is_sound(&self) -> bool {
        self.keep <= 99 && self.syslog_facility.is_none_or(|facility| facility <= 23)
    }

    fn put(&self, w: &mut Writer) {
        w.refuse_unless("audit", self.is_sound());
        w.option(self.file.as_ref(), |w, path| w.plain_path("file", path));
        w.u64(self.max_bytes);
        w.u32(self.keep);
        w.option(self.syslog_facility.as_ref(), |w, facility| w.u8(*facility));
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let audit = Self {
            file: r.option("file", |r| r.plain_path("file"))?,
            max_bytes: r.u64()?,
            keep: r.u32()?,
            syslog_facility: r.option("syslog_facility", Reader::u8)?,
        };
        check("audit", audit.is_sound())?;
        Ok(audit)
    }
}

impl LimitRules {
    fn put(&self, w: &mut Writer) {
        w.list("rlimits", &self.rlimits, MAX_LIMITS, |w, (which, most)| {
            w.u32(*which);
            w.u64(*most);
        });
        w.refuse_unless("nice_min", self.nice_min <= 19);
        w.u8(self.nice_min);
        w.option(self.memory_bytes.as_ref(), |w, bytes| w.u64(*bytes));
        w.option(self.pids.as_ref(), |w, pids| w.u32(*pids));
        w.option(self.cpu_percent.as_ref(), |w, percent| w.u32(*percent));
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let rules = Self {
            rlimits: r.list("rlimits", MAX_LIMITS, 12, |r| Ok((r.u32()?, r.u64()?)))?,
            nice_min: r.u8()?,
            memory_bytes: r.option("memory_bytes", Reader::u64)?,
            pids: r.option("pids", Reader::u32)?,
            cpu_percent: r.option("cpu_percent", Reader::u32)?,
        };
        check("nice_min", rules.nice_min <= 19)?;
        Ok(rules)
    }
}

impl Isolation {
    fn put(&self, w: &mut Writer) {
        w.bool(self.private_tmp);
        w.bool(self.private_pid);
        w.option(self.chroot.as_ref(), |w, path| w.plain_path("chroot", path));
        w.list(
            "forbidden_owners",
            &self.forbidden_owners,
            MAX_LISTED,
            |w, uid| w.u32(*uid),
        );
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            private_tmp: r.bool("private_tmp")?,
            private_pid: r.bool("private_pid")?,
            chroot: r.option("chroot", |r| r.plain_path("chroot"))?,
            forbidden_owners: r.list("forbidden_owners", MAX_LISTED, 4, Reader::u32)?,
        })
    }
}

impl Hook {
    fn put(&self, w: &mut Writer) {
        w.plain_path("program", &self.program);
        for name in [&self.user, &self.group] {
            w.option(name.as_ref(), |w, name| w.name("hook", name));
        }
        w.u32(self.timeout);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            program: r.plain_path("program")?,
            user: r.option("hook", |r| r.name("hook"))?,
            group: r.option("hook", |r| r.name("hook"))?,
            timeout: r.u32()?,
        })
    }
}

fn names(w: &mut Writer, field: &'static str, list: &[String]) {
    w.list(field, list, MAX_LISTED, |w, name| w.name(field, name));
}

fn take_names(r: &mut Reader<'_>, field: &'static str) -> Result<Vec<String>, DecodeError> {
    r.list(field, MAX_LISTED, 5, |r| r.name(field))
}

fn paths(w: &mut Writer, field: &'static str, list: &[PathBuf], max: usize) {
    w.list(field, list, max, |w, path| w.plain_path(field, path));
}

fn take_paths(
    r: &mut Reader<'_>,
    field: &'static str,
    max: usize,
) -> Result<Vec<PathBuf>, DecodeError> {
    r.list(field, max, 5, |r| r.plain_path(field))
}
