//! What the site has configured, and who may call. The monitor opens the files by the rule of trusted
//! paths; they are read here.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Instant;

use launch_protocol::broker::{Refusal, RefusalClass};
use launch_protocol::is_account_name;
use launch_protocol::monitor::{Ask, Numbers, Reply, Which};
use launch_protocol::policy::{Caller, Entry, Hook, Query, Settings};
use sailplane_policy::{Files, Judge};

use crate::dynamic::Dynamic;
use crate::monitor::Monitor;
use crate::names::{Entries, LookUp, Names};
use crate::refuse::helper;

/// User and group number of "nobody", as which hooks run unless configured otherwise.
const NOBODY: u32 = 65_534;

/// The site's policy and the name service.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) settings: Settings,
    pub(crate) caller: Caller,
    /// The caller may present a credential without its private key.
    pub(crate) may_omit_key: bool,
    pub(crate) names: Names,
    pub(crate) dynamic: Dynamic,
    judge: Judge,
    /// The question about more numbers that is under way.
    learning: Option<(LookUp, Vec<Query>)>,
    /// It has not been answered: then only those that must be asked about are.
    unwilling: bool,
    /// Accounts and groups of hooks.
    hooks: Vec<(Query, Option<Entry>)>,
}

/// What must be known of the name service before anybody is admitted.
#[derive(Debug)]
pub(crate) struct Question {
    own: Query,
    users: Vec<Query>,
    groups: Vec<Query>,
    hooks: Vec<Query>,
    look_up: LookUp,
}

impl Site {
    /// Whose settings are known, with a name service that does not answer.
    #[cfg(test)]
    pub(crate) fn of(settings: Settings, caller: Caller) -> Self {
        Self {
            dynamic: Dynamic::new(settings.targets.dynamic_uids, 0),
            settings,
            caller,
            may_omit_key: false,
            names: Names::new(None),
            judge: Judge::default(),
            learning: None,
            unwilling: false,
            hooks: Vec::new(),
        }
    }

    /// Reads the configuration. Nobody is admitted yet.
    pub(crate) fn read(caller: Caller, config: &File, names: Names) -> Result<Self, Refusal> {
        let mut judge = Judge::default();
        let settings = judge.read(config)?;
        Ok(Self {
            dynamic: Dynamic::new(settings.targets.dynamic_uids, std::process::id()),
            settings,
            caller,
            may_omit_key: false,
            names,
            judge,
            learning: None,
            unwilling: false,
            hooks: Vec::new(),
        })
    }

    /// The configuration and the policy files, opened now.
    pub(crate) fn open_files(&self, monitor: &Monitor) -> Result<Vec<OwnedFd>, Refusal> {
        match monitor.ask_with(&Ask::Files, &[])? {
            (Reply::Files, files) => Ok(files),
            _ => Err(monitor.confused()),
        }
    }

    /// The same, read; `None`: the configuration has changed.
    pub(crate) fn files(&mut self, monitor: &Monitor) -> Result<Option<Files>, Refusal> {
        let files = self.open_files(monitor)?;
        self.load(files, monitor)
    }

    /// Takes them in.
    pub(crate) fn load(
        &mut self,
        files: Vec<OwnedFd>,
        monitor: &Monitor,
    ) -> Result<Option<Files>, Refusal> {
        let mut files = files.into_iter();
        let config = files.next().ok_or_else(|| monitor.confused())?;
        self.judge.load(&File::from(config), files.collect())
    }

    /// Reads everything again after the configuration has changed. The monitor has had somebody else read
    /// it, too, and admit the caller anew. True: the verifier's settings are others now.
    pub(crate) fn reread(&mut self, monitor: &Monitor) -> Result<bool, Refusal> {
        let Reply::Reread {
            settings,
            caller,
            may_omit_key,
        } = monitor.ask(&Ask::Reread)?
        else {
            return Err(monitor.confused());
        };
        let config = self.open_files(monitor)?.into_iter().next();
        let config = File::from(config.ok_or_else(|| monitor.confused())?);
        let ours = self.judge.read(&config)?;
        if ours != *settings {
            let text = "the configuration changes while it is read; ask again";
            let class = RefusalClass::SiteTransient;
            return Err(helper(class, "conf.changed", text.to_owned(), true));
        }
        if ours.targets.dynamic_uids != self.settings.targets.dynamic_uids {
            self.dynamic = Dynamic::new(ours.targets.dynamic_uids, std::process::id());
        }
        let other_verifier = ours.verifier != self.settings.verifier;
        (self.settings, self.caller, self.may_omit_key) = (ours, *caller, may_omit_key);
        let hooks = self.hook_queries();
        let found = self.names.look_up(&hooks, monitor)?;
        self.hooks = hooks.into_iter().zip(found).collect();
        Ok(other_verifier)
    }

    fn hook_queries(&self) -> Vec<Query> {
        let hooks = [&self.settings.prologue, &self.settings.epilogue];
        let of_hooks = hooks.into_iter().flatten().flat_map(|hook| {
            let user = hook.user.clone().map(Query::Account);
            user.into_iter().chain(hook.group.clone().map(Query::Group))
        });
        of_hooks.collect()
    }

    /// Asks who calls, who else may call, and as whom hooks run.
    pub(crate) fn ask(&mut self, monitor: &Monitor) -> Result<Question, Refusal> {
        let Settings {
            caller_names,
            caller_groups,
            ..
        } = &self.settings;
        let own = Query::Uid(self.caller.uid);
        let users: Vec<_> = caller_names.iter().cloned().map(Query::Name).collect();
        let groups: Vec<_> = caller_groups.iter().cloned().map(Query::Group).collect();
        let hooks = self.hook_queries();
        // With as few questions as will do: each has to wait for another process.
        let all = [std::slice::from_ref(&own), &users, &groups, &hooks];
        let look_up = self.names.ask(&all.concat(), monitor)?;
        Ok(Question {
            own,
            users,
            groups,
            hooks,
            look_up,
        })
    }

    /// Takes in the answers.
    pub(crate) fn learn(&mut self, question: Question, monitor: &Monitor) -> Result<(), Refusal> {
        let mut found = self.names.wait(&question.look_up, monitor)?.into_iter();
        let all = [
            std::slice::from_ref(&question.own),
            &question.users,
            &question.groups,
            &question.hooks,
        ];
        let [own, users, groups, of_hooks] =
            all.map(|queries| found.by_ref().take(queries.len()).collect::<Entries>());
        if let Some(Some(Entry::Account { name, .. })) = own.into_iter().next() {
            self.caller.name = Some(name).filter(|name| is_account_name(name));
        }
        self.caller.listed_users = numbers(&self.settings.caller_names, users);
        self.caller.listed_groups = numbers(&self.settings.caller_groups, groups);
        self.hooks = question.hooks.into_iter().zip(of_hooks).collect();
        Ok(())
    }

    /// Is no dynamic number known that belongs to nobody?
    pub(crate) fn is_ignorant(&self) -> bool {
        self.dynamic.free().is_empty()
    }

    /// Will the name service be asked about accounts, and does not run?
    pub(crate) fn lacks_names(&self) -> bool {
        !self.settings.policy_files.is_empty() && !self.names.is_running()
    }

    /// Should the name service be started, or be asked about more dynamic numbers, ahead of need?
    pub(crate) fn is_cold(&self) -> bool {
        self.learning.is_none()
            && !self.unwilling
            && (self.dynamic.knows_few() || self.lacks_names())
    }

    /// Starts it.
    pub(crate) fn start_names(&mut self, monitor: &Monitor) {
        self.unwilling = self.names.start(monitor).is_err();
    }

    /// Asks it.
    pub(crate) fn warm_up(&mut self, monitor: &Monitor) {
        if !self.dynamic.knows_few() {
            if self.lacks_names() {
                self.start_names(monitor);
            }
            return;
        }
        let queries = self.dynamic.unknown();
        let asked = self.names.ask(&queries, monitor);
        self.unwilling = asked.is_err();
        self.learning = asked.ok().map(|look_up| (look_up, queries));
    }

    /// Takes in what the name service has answered. True: more dynamic numbers are known than before.
    pub(crate) fn listen(&mut self, now: Instant, monitor: &Monitor) -> bool {
        self.names.listen(now, monitor);
        let mut learnt = false;
        if let Some((look_up, queries)) = &self.learning
            && let Some(outcome) = self.names.take(look_up)
        {
            match outcome {
                Ok(entries) => {
                    self.dynamic.learn(queries, &entries);
                    learnt = true;
                }
                Err(_) => self.unwilling = true,
            }
            self.learning = None;
        }
        learnt
    }

    /// What is configured to run before or after payloads.
    pub(crate) fn hook(&self, which: Which) -> Option<&Hook> {
        match which {
            Which::Prologue => self.settings.prologue.as_ref(),
            Which::Epilogue => self.settings.epilogue.as_ref(),
        }
    }

    /// Numbers of the account a hook runs as.
    pub(crate) fn account_of(&self, hook: &Hook) -> Result<Numbers, Refusal> {
        let find = |query: &Query| {
            let found = self.hooks.iter().find(|(asked, _)| asked == query);
            found.and_then(|(_, entry)| entry.as_ref())
        };
        let missing = |name: &str| {
            let text = format!("a hook runs as {name}, which does not exist");
            helper(RefusalClass::SitePermanent, "hook.account", text, false)
        };
        let mut numbers = Numbers {
            uid: NOBODY,
            gid: NOBODY,
            groups: Vec::new(),
        };
        if let Some(name) = &hook.user {
            let Some(Entry::Account {
                uid, gid, groups, ..
            }) = find(&Query::Account(name.clone()))
            else {
                return Err(missing(name));
            };
            numbers = Numbers {
                uid: *uid,
                gid: *gid,
                groups: groups.clone(),
            };
        }
        if let Some(name) = &hook.group {
            let Some(Entry::Group { gid }) = find(&Query::Group(name.clone())) else {
                return Err(missing(name));
            };
            (numbers.gid, numbers.groups) = (*gid, Vec::new());
        }
        Ok(numbers)
    }

    /// For the monitor: those of prologue and epilogue; root's, which it refuses, for an account that
    /// does not exist.
    pub(crate) fn hook_numbers(&self) -> [Numbers; 2] {
        [Which::Prologue, Which::Epilogue].map(|which| {
            let numbers = self.hook(which).map(|hook| self.account_of(hook));
            numbers.and_then(Result::ok).unwrap_or_default()
        })
    }
}

fn numbers(names: &[String], entries: Entries) -> Vec<(String, u32)> {
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
