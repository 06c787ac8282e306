//! `sailplane-policy decide`: the questions that need the configuration.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use launch_protocol::broker::Refusal;
use launch_protocol::policy::{Ask, Case, Decision, Reply};

use crate::admit::{Possible, admit};
use crate::config::{Config, MAX_CONFIG};
use crate::decide::{Outcome, Policy, clip};
use crate::mapper::{self, Mapped};
use crate::refuse::site;
use crate::serve::{Service, Work};
use crate::store::{self, Document, State, Store};
use crate::target::Target;

/// Answers [`Ask::ReadConfig`], [`Ask::Admit`] and [`Ask::Decide`].
#[derive(Debug, Default)]
pub(crate) struct DecisionService {
    current: Option<Current>,
    store: Store,
}

/// The configuration that root holds the settings of.
#[derive(Debug)]
struct Current {
    config: Rc<Config>,
    text: Vec<u8>,
    /// Set while an equal state of the file means an equal text.
    settled: Option<State>,
}

impl Service for DecisionService {
    fn answer(&mut self, ask: Ask, files: Vec<OwnedFd>) -> Option<Work> {
        let mut files = files.into_iter();
        let config = files.next().map(File::from)?;
        let reply = match ask {
            Ask::ReadConfig if files.len() == 0 => self.read(&config),
            Ask::Admit(caller) => self.with_policy(&config, files.collect(), |policy| {
                let possible = possible(policy);
                let omit = admit(policy.config, &caller, &possible)?;
                Ok(Work::Now(Reply::Admitted { may_omit_key: omit }))
            })?,
            Ask::Decide(case) => {
                self.with_policy(&config, files.collect(), |policy| decide(policy, *case))?
            }
            Ask::ReadConfig | Ask::Names(_) => return None,
        };
        Some(reply)
    }
}

impl DecisionService {
    fn read(&mut self, file: &File) -> Work {
        self.store.clear();
        self.current = None;
        match Current::read(file) {
            Ok(current) => {
                let settings = current.config.settings.clone();
                self.current = Some(current);
                Work::Now(Reply::Settings(Box::new(settings)))
            }
            Err(refusal) => Work::Now(Reply::Refused(refusal)),
        }
    }

    /// Answers a question that needs everything; `None`: it did not come with the right files.
    fn with_policy(
        &mut self,
        config: &File,
        files: Vec<OwnedFd>,
        answer: impl FnOnce(&Policy<'_>) -> Result<Work, Refusal>,
    ) -> Option<Work> {
        let Some(current) = self.current.as_mut() else {
            // Started again, and not told anything yet.
            return Some(Work::Now(Reply::Reread));
        };
        match current.is_same(config) {
            Ok(true) => {}
            Ok(false) => return Some(Work::Now(Reply::Reread)),
            Err(refusal) => return Some(Work::Now(Reply::Refused(refusal))),
        }
        let config = Rc::clone(&current.config);
        if files.len() != config.files.len() {
            return None;
        }
        let mut documents = Vec::with_capacity(files.len());
        for (place, ((kind, path), file)) in config.policy_files().zip(files).enumerate() {
            match self.store.load(place, kind, path, file) {
                Ok(document) => documents.push(document),
                Err(refusal) => return Some(Work::Now(Reply::Refused(refusal))),
            }
        }
        let policy = Policy {
            config: &config,
            documents: &documents,
        };
        Some(answer(&policy).unwrap_or_else(|refusal| Work::Now(Reply::Refused(refusal))))
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
    let unreadable = |error| site("conf.unreadable", format!("switch.conf: {error}"));
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

fn decide(policy: &Policy<'_>, case: Case) -> Result<Work, Refusal> {
    let mapper = match policy.decide(&case)? {
        Outcome::Decided(decision) => return Ok(Work::Now(Reply::Decided(decision))),
        Outcome::AskMapper => policy.config.mapper.clone(),
    };
    // What comes behind it is decided now, while the files are at hand.
    let otherwise = policy.decide_without_mapper(&case);
    let Some((program, seconds)) = mapper else {
        return otherwise.map(|decision| Work::Now(Reply::Decided(decision)));
    };
    let config = policy.config.clone();
    Ok(Work::Later(Box::new(move || {
        let decided = match mapper::ask(&program, seconds, mapper::question(&case)) {
            Ok(Mapped::Nobody) => otherwise,
            Ok(Mapped::To(target, groups)) => {
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
            Err(refusal) => Err(refusal),
        };
        decided.map_or_else(Reply::Refused, Reply::Decided)
    })))
}

#[cfg(test)]
mod tests;
