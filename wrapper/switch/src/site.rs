//! What the site has configured, and whether the caller may call. Root opens the files by the rule of
//! trusted paths; `sailplane-policy` reads them.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use launch_protocol::broker::{Refusal, RefusalClass};
use launch_protocol::is_account_name;
use launch_protocol::policy::{Ask, Caller, Entry, Hook, Query, Reply, Settings};
use nix::unistd::{getgid, getgroups, getppid, getuid};

use crate::CONFDIR;
use crate::account::NOBODY;
use crate::dynamic::Dynamic;
use crate::refuse::{helper, trouble};
use crate::servant::Servant;
use crate::startup;
use crate::trusted::{self, Kind, TrustError};
use crate::verifiers::Verifiers;

/// How many accounts are looked up with one question: their groups must fit in one packet.
const QUERIES_AT_ONCE: usize = 32;

/// The site's policy as far as root knows it, and the two helpers that know the rest.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) settings: Settings,
    pub(crate) caller: Caller,
    /// The caller may present a credential without its private key.
    pub(crate) may_omit_key: bool,
    /// Judges; sees what strangers have written.
    pub(crate) decide: Servant,
    /// Looks up accounts; sees nothing of that kind.
    pub(crate) names: Servant,
    pub(crate) dynamic: Dynamic,
    /// The question about more numbers that is under way.
    learning: Option<(u32, Vec<Query>)>,
    /// It has not answered one: then only those that must.
    unwilling: bool,
    /// Accounts and groups of hooks.
    hooks: Vec<(Query, Option<Entry>)>,
}

/// Who calls, as the kernel says. To be asked before all uids become root's.
pub(crate) fn real_caller() -> Caller {
    let further = getgroups().unwrap_or_default();
    Caller {
        uid: getuid().as_raw(),
        groups: std::iter::once(getgid())
            .chain(further)
            .map(|gid| gid.as_raw())
            .collect(),
        executable: std::fs::read_link(format!("/proc/{}/exe", getppid())).ok(),
        ..Caller::default()
    }
}

impl Site {
    /// Reads the configuration. Nobody is admitted yet.
    pub(crate) fn read(caller: Caller, null: BorrowedFd<'_>) -> Result<Self, Refusal> {
        let mut decide = servant("sailplane-policy", &["decide"])?;
        let mut names = servant("sailplane-names", &[])?;
        // It takes a while to start; if it does not, whoever asks it will be told.
        let _ = names.start_ahead(null);
        let settings = settings(&mut decide, null)?;
        Ok(Self {
            dynamic: Dynamic::new(settings.targets.dynamic_uids),
            settings,
            caller,
            may_omit_key: false,
            decide,
            names,
            learning: None,
            unwilling: false,
            hooks: Vec::new(),
        })
    }

    /// Reads everything again after the configuration has changed, and admits the caller anew.
    pub(crate) fn reread(&mut self, null: BorrowedFd<'_>) -> Result<(), Refusal> {
        let fresh = settings(&mut self.decide, null)?;
        if fresh.targets.dynamic_uids != self.settings.targets.dynamic_uids {
            self.dynamic = Dynamic::new(fresh.targets.dynamic_uids);
        }
        self.settings = fresh;
        self.admit(null, || ())
    }

    /// The configuration and the policy files, opened now.
    pub(crate) fn files(&self) -> Result<Vec<File>, Refusal> {
        std::iter::once(&conf())
            .chain(&self.settings.policy_files)
            .map(|path| trusted::open_file(path).map_err(|error| untrusted("policy", &error)))
            .collect()
    }

    /// Should the name service be asked about more dynamic numbers, ahead of need?
    pub(crate) fn is_cold(&self) -> bool {
        self.learning.is_none() && !self.unwilling && self.dynamic.knows_few()
    }

    /// Asks it.
    pub(crate) fn warm_up(&mut self, null: BorrowedFd<'_>) {
        let queries = self.dynamic.unknown();
        let asked = self.names.ask(Ask::Names(queries.clone()), &[], null);
        self.unwilling = asked.is_err();
        self.learning = asked.ok().map(|id| (id, queries));
    }

    /// Takes in what the helpers have answered.
    pub(crate) fn listen(&mut self, now: Instant) {
        self.decide.listen(now);
        self.names.listen(now);
        if let Some((id, queries)) = &self.learning
            && let Some(outcome) = self.names.take(*id)
        {
            match outcome {
                Ok(Reply::Names(entries)) => self.dynamic.learn(queries, &entries),
                _ => self.unwilling = true,
            }
            self.learning = None;
        }
    }

    /// Looks up the caller, whoever else may call, and some dynamic uids; then asks. `meanwhile`: what
    /// to do while the name service works.
    pub(crate) fn admit(
        &mut self,
        null: BorrowedFd<'_>,
        meanwhile: impl FnOnce(),
    ) -> Result<(), Refusal> {
        let Settings {
            caller_names,
            caller_groups,
            ..
        } = &self.settings;
        let own = [Query::Uid(self.caller.uid)];
        let users: Vec<_> = caller_names.iter().cloned().map(Query::Account).collect();
        let groups: Vec<_> = caller_groups.iter().cloned().map(Query::Group).collect();
        let dynamic = self.dynamic.unknown();
        let hooks = [&self.settings.prologue, &self.settings.epilogue];
        let hooks = hooks.into_iter().flatten().flat_map(|hook| {
            let user = hook.user.clone().map(Query::Account);
            user.into_iter().chain(hook.group.clone().map(Query::Group))
        });
        let hooks: Vec<_> = hooks.collect();
        // With as few questions as will do: each has to wait for another process.
        let all = [own.as_slice(), &users, &groups, &dynamic, &hooks];
        let mut found = self
            .look_up_while(&all.concat(), null, meanwhile)?
            .into_iter();
        let [own, users, groups, taken, of_hooks] =
            all.map(|queries| found.by_ref().take(queries.len()).collect::<Vec<_>>());
        if let Some(Some(Entry::Account { name, .. })) = own.into_iter().next() {
            self.caller.name = Some(name).filter(|name| is_account_name(name));
        }
        self.caller.listed_users = numbers(&self.settings.caller_names, users);
        self.caller.listed_groups = numbers(&self.settings.caller_groups, groups);
        self.dynamic.learn(&dynamic, &taken);
        self.hooks = hooks.into_iter().zip(of_hooks).collect();
        let files = self.files()?;
        let beside: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
        let ask = Ask::Admit(self.caller.clone());
        let id = self.decide.ask(ask, &beside, null)?;
        match self.decide.wait(id)? {
            Reply::Admitted { may_omit_key } => self.may_omit_key = may_omit_key,
            _ => return Err(confused()),
        }
        Ok(())
    }

    /// Asks the name service and waits.
    pub(crate) fn look_up(
        &mut self,
        queries: &[Query],
        null: BorrowedFd<'_>,
    ) -> Result<Vec<Option<Entry>>, Refusal> {
        self.look_up_while(queries, null, || ())
    }

    /// The same, and does something else before it waits.
    fn look_up_while(
        &mut self,
        queries: &[Query],
        null: BorrowedFd<'_>,
        meanwhile: impl FnOnce(),
    ) -> Result<Vec<Option<Entry>>, Refusal> {
        let mut entries = Vec::new();
        let mut meanwhile = Some(meanwhile);
        for part in queries.chunks(QUERIES_AT_ONCE) {
            let id = self.names.ask(Ask::Names(part.to_vec()), &[], null)?;
            if let Some(work) = meanwhile.take() {
                work();
            }
            match self.names.wait(id)? {
                Reply::Names(found) if found.len() == part.len() => entries.extend(found),
                _ => return Err(confused()),
            }
        }
        Ok(entries)
    }

    /// Numbers of the account a hook runs as: uid, gid, further groups.
    pub(crate) fn account_of(&self, hook: &Hook) -> Result<(u32, u32, Vec<u32>), Refusal> {
        let find = |query: &Query| {
            let found = self.hooks.iter().find(|(asked, _)| asked == query);
            found.and_then(|(_, entry)| entry.as_ref())
        };
        let missing = |name: &str| {
            let text = format!("a hook runs as {name}, which does not exist");
            helper(RefusalClass::SitePermanent, "hook.account", text, false)
        };
        let (mut uid, mut gid, mut groups) = (NOBODY, NOBODY, Vec::new());
        if let Some(name) = &hook.user {
            let Some(Entry::Account {
                uid: its,
                gid: own,
                groups: all,
                ..
            }) = find(&Query::Account(name.clone()))
            else {
                return Err(missing(name));
            };
            (uid, gid, groups) = (*its, *own, all.clone());
        }
        if let Some(name) = &hook.group {
            let Some(Entry::Group { gid: its }) = find(&Query::Group(name.clone())) else {
                return Err(missing(name));
            };
            (gid, groups) = (*its, Vec::new());
        }
        Ok((uid, gid, groups))
    }

    /// Where a program of the helper is.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf, Refusal> {
        let libexec = self.settings.libexec.clone();
        let path = libexec.unwrap_or_else(beside_ourselves).join(name);
        trust("libexec", &path, Kind::File).map(|()| path)
    }

    /// The verifier with what is configured for it.
    pub(crate) fn verifiers(&self) -> Result<Verifiers, Refusal> {
        let wanted = &self.settings.verifier;
        for path in &wanted.directories {
            trust("certdir or vomsdir", path, Kind::Directory)?;
        }
        for path in &wanted.files {
            trust("token keys", path, Kind::File)?;
        }
        let program = self.program("sailplane-verify")?;
        let servant = Servant::new(program, wanted.words.clone());
        Ok(Verifiers::new(servant))
    }
}

/// The configuration.
pub(crate) fn conf() -> PathBuf {
    Path::new(CONFDIR).join("switch.conf")
}

/// Where our other programs are unless the configuration says otherwise.
pub(crate) fn beside_ourselves() -> PathBuf {
    let own = startup::own_path();
    own.parent().map(Path::to_owned).unwrap_or_default()
}

/// One of those that must be known before the configuration is.
fn servant(name: &str, words: &[&str]) -> Result<Servant, Refusal> {
    let program = beside_ourselves().join(name);
    trust("policy", &program, Kind::File)?;
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    Ok(Servant::new(program, words))
}

fn settings(decide: &mut Servant, null: BorrowedFd<'_>) -> Result<Settings, Refusal> {
    let file = trusted::open_file(&conf()).map_err(|error| untrusted("configuration", &error))?;
    let id = decide.ask(Ask::ReadConfig, &[file.as_fd()], null)?;
    match decide.wait(id)? {
        Reply::Settings(settings) => Ok(*settings),
        _ => Err(confused()),
    }
}

fn numbers(names: &[String], entries: Vec<Option<Entry>>) -> Vec<(String, u32)> {
    let number = |entry| match entry {
        Entry::Account { uid, .. } => uid,
        Entry::Group { gid } => gid,
    };
    let found = entries.into_iter().map(|entry| entry.map(number));
    names
        .iter()
        .zip(found)
        .filter_map(|(name, number)| Some((name.clone(), number?)))
        .collect()
}

fn trust(key: &str, path: &Path, kind: Kind) -> Result<(), Refusal> {
    trusted::check(path, kind).map_err(|error| untrusted(key, &error))
}

pub(crate) fn untrusted(key: &str, error: &TrustError) -> Refusal {
    let class = RefusalClass::SitePermanent;
    helper(class, error.code(), format!("{key}: {error}"), false)
}

/// A helper has answered something else.
pub(crate) fn confused() -> Refusal {
    let text = "sailplane-policy has not answered what it was asked";
    trouble("policy.answer", text.to_owned())
}
