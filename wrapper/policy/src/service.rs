//! The questions that need the configuration: what it says, who may call, who becomes whom. Whoever asks
//! brings the files along, opened by somebody who can tell whether they are trustworthy.

use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use launch_protocol::broker::Refusal;
use launch_protocol::policy::{Caller, Case, Decision, Settings};

use crate::admit::{Possible, admit};
use crate::config::{Config, MAX_CONFIG, Step};
use crate::decide::{Outcome, Policy, clip};
use crate::mapper::{self, Mapped};
use crate::refuse::{site, why};
use crate::store::{self, Document, State, Store};
use crate::target::Target;

/// Reads configuration and policy files, and keeps what cannot have changed.
#[derive(Debug, Default)]
pub struct Judge {
    current: Option<Current>,
    store: Store,
}

/// The configuration that the settings have come from.
#[derive(Debug)]
struct Current {
    config: Rc<Config>,
    text: Vec<u8>,
    /// Set while an equal state of the file means an equal text.
    settled: Option<State>,
}

/// Configuration and policy files at one moment.
#[derive(Clone, Debug)]
pub struct Files {
    config: Rc<Config>,
    documents: Vec<Rc<Document>>,
}

/// What [`Files::decide`] has come to.
pub enum Verdict {
    /// As whom.
    Decided(Decision),
    /// The external mapper must be asked, which takes as long as it takes: to be run in a thread.
    Mapper(MapperQuestion),
}

/// Asks the external mapper.
pub type MapperQuestion = Box<dyn FnOnce() -> Result<Decision, Refusal> + Send>;

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decided(decision) => f.debug_tuple("Decided").field(decision).finish(),
            Self::Mapper(_) => f.write_str("Mapper"),
        }
    }
}

impl Judge {
    /// Reads the configuration.
    ///
    /// # Errors
    /// If it cannot be read, or something in it is wrong.
    pub fn read(&mut self, file: &File) -> Result<Settings, Refusal> {
        self.store.clear();
        self.current = None;
        let current = Current::read(file)?;
        let settings = current.config.settings.clone();
        self.current = Some(current);
        Ok(settings)
    }

    /// Takes in the configuration and the files of [`Settings::policy_files`], opened now. `None`: the
    /// configuration is no longer the one that was read; read it again.
    ///
    /// # Errors
    /// If one of them cannot be read, or something in it is wrong.
    pub fn load(&mut self, config: &File, files: Vec<OwnedFd>) -> Result<Option<Files>, Refusal> {
        let Some(current) = self.current.as_mut() else {
            return Ok(None);
        };
        let config_is_same = current.is_same(config)?;
        let config = Rc::clone(&current.config);
        if !config_is_same || files.len() != config.files.len() {
            return Ok(None);
        }
        let documents = config
            .policy_files()
            .zip(files)
            .enumerate()
            .map(|(place, ((kind, path), file))| self.store.load(place, kind, path, file))
            .collect::<Result<_, _>>()?;
        Ok(Some(Files { config, documents }))
    }
}

impl Files {
    fn policy(&self) -> Policy<'_> {
        Policy {
            config: &self.config,
            documents: &self.documents,
        }
    }

    /// May this account call? True: and it need not present a private key.
    ///
    /// # Errors
    /// If it may not, or the lists contradict each other.
    pub fn admit(&self, caller: &Caller) -> Result<bool, Refusal> {
        let policy = self.policy();
        admit(policy.config, caller, &possible(&policy))
    }

    /// As whom does this credential's owner run?
    ///
    /// # Errors
    /// If as nobody.
    pub fn decide(&self, case: &Case) -> Result<Verdict, Refusal> {
        decide(&self.policy(), case)
    }

    /// Is there any way to a dynamic account?
    pub fn knows_dynamic(&self) -> bool {
        self.config.steps.contains(&Step::Dynamic)
    }
}

impl Current {
    fn read(file: &File) -> Result<Self, Refusal> {
        let (settled, text) = state_and_text(file)?;
        let config = Config::parse(&text).map_err(|errors| {
            let first = errors.first().map(ToString::to_string);
            let more = match errors.len() {
                0 | 1 => String::new(),
                number => format!(" (and {} more; see sailplane-policy check)", number - 1),
            };
            site(
                "conf.invalid",
                format!("switch.conf:{}{more}", first.unwrap_or_default()),
            )
        })?;
        Ok(Self {
            config: Rc::new(config),
            text,
            settled,
        })
    }

    /// Does the file still say the same?
    fn is_same(&mut self, file: &File) -> Result<bool, Refusal> {
        if let Some(settled) = self.settled
            && State::of(file).is_ok_and(|state| state == settled)
        {
            return Ok(true);
        }
        let (settled, text) = state_and_text(file)?;
        let same = text == self.text;
        if same {
            self.settled = settled;
        }
        Ok(same)
    }
}

fn state_and_text(file: &File) -> Result<(Option<State>, Vec<u8>), Refusal> {
    let unreadable = |error| site("conf.unreadable", format!("switch.conf: {}", why(&error)));
    let state = State::of(file).map_err(unreadable)?;
    // Before it is read: what changes while it is read shows by its time later.
    let settled = state.is_settled().then_some(state);
    let text = store::read(file, MAX_CONFIG + 1).map_err(unreadable)?;
    Ok((settled, text))
}

/// Every account that the maps name.
fn possible<'a>(policy: &Policy<'a>) -> Vec<Possible<'a>> {
    let mut all = Vec::new();
    for (path, document) in policy.files() {
        let hits: Vec<_> = match document {
            Document::Gridmap(map) => map.targets().collect(),
            Document::Vomsmap(map) => map.targets().collect(),
            Document::Tokenmap(map) => map.targets().collect(),
            Document::Bans(_) | Document::Groupmap(_) | Document::Mapper => continue,
        };
        all.extend(hits.into_iter().map(|hit| Possible {
            target: hit.target,
            source: format!("{}:{}", path.display(), hit.line),
        }));
    }
    all
}

fn decide(policy: &Policy<'_>, case: &Case) -> Result<Verdict, Refusal> {
    let mapper = match policy.decide(case)? {
        Outcome::Decided(decision) => return Ok(Verdict::Decided(decision)),
        Outcome::AskMapper => policy.config.mapper.clone(),
    };
    // What comes behind it is decided now, while the files are at hand.
    let otherwise = policy.decide_without_mapper(case);
    let Some((program, seconds)) = mapper else {
        return otherwise.map(Verdict::Decided);
    };
    let (config, case) = (policy.config.clone(), case.clone());
    Ok(Verdict::Mapper(Box::new(move || {
        match mapper::ask(&program, seconds, mapper::question(&case))? {
            Mapped::Nobody => otherwise,
            Mapped::To(target, groups) => {
                let source = clip(&program.display().to_string());
                let policy = Policy {
                    config: &config,
                    documents: &[],
                };
                match target {
                    Target::Account(name) => Ok(Decision::Account {
                        name,
                        groups,
                        source,
                    }),
                    Target::Pool(prefix) => policy.pool(&prefix, source, &case.holder, groups),
                }
            }
        }
    })))
}

#[cfg(test)]
mod tests;
