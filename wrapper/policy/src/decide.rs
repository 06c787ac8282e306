//! From a verified credential to an account, in the order of requirement M1: who is required, who is
//! banned, what time it is, and only then the maps. Pure: everything it needs is an argument.

use std::path::Path;
use std::rc::Rc;

use launch_protocol::broker::Refusal;
use launch_protocol::policy::{
    Case, CredentialKind, Decision, Groups, Party, Purpose, Required, is_lease_name,
};

use crate::config::{Config, FileKind, Step};
use crate::dn::Name;
use crate::gridmap;
use crate::lease_name::lease_name;
use crate::refuse::{caller, job, later, site};
use crate::store::Document;
use crate::target::{Hit, Target};
use crate::vomsmap;

/// Configuration and files at one moment.
pub(crate) struct Policy<'a> {
    pub(crate) config: &'a Config,
    /// In the order of the configuration's list of files.
    pub(crate) documents: &'a [Rc<Document>],
}

/// How far a decision is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Decided(Decision),
    /// The external mapper is to be asked; should it know nothing, what comes behind it counts.
    AskMapper,
}

impl<'a> Policy<'a> {
    /// All files with their paths.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'a Path, &'a Document)> {
        let documents = self.documents.iter().map(Rc::as_ref);
        self.config
            .policy_files()
            .map(|(_, path)| path)
            .zip(documents)
    }

    fn document(&self, kind: FileKind) -> Option<(&'a Path, &'a Document)> {
        let place = self.config.files.iter().position(|one| *one == kind)?;
        self.files().nth(place)
    }

    /// Decides, as far as that goes without the external mapper.
    pub(crate) fn decide(&self, case: &Case) -> Result<Outcome, Refusal> {
        self.check(case)?;
        let mut hint = None;
        for step in &self.config.steps {
            if *step == Step::Mapper {
                return Ok(Outcome::AskMapper);
            }
            if let Some(decision) = self.take(*step, case, &mut hint)? {
                return Ok(Outcome::Decided(decision));
            }
        }
        Err(self.nobody(case, hint))
    }

    /// Goes on behind the external mapper, which knew nothing.
    pub(crate) fn decide_without_mapper(&self, case: &Case) -> Result<Decision, Refusal> {
        let mut hint = None;
        let behind = self
            .config
            .steps
            .iter()
            .skip_while(|step| **step != Step::Mapper);
        for step in behind.skip(1) {
            if let Some(decision) = self.take(*step, case, &mut hint)? {
                return Ok(decision);
            }
        }
        Err(self.nobody(case, hint))
    }

    /// Everything that comes before the maps.
    fn check(&self, case: &Case) -> Result<(), Refusal> {
        let settings = &self.config.settings;
        match &case.pilot {
            None if settings.required == Required::PilotAndUser => {
                return Err(caller(
                    "pilot.missing",
                    "this site requires the pilot's own credential besides the user's; present it first"
                        .to_owned(),
                ));
            }
            Some(pilot) if pilot.not_after <= case.now_unix => {
                return Err(caller(
                    "pilot.expired",
                    "the pilot's own credential has expired; present a new one".to_owned(),
                ));
            }
            _ => {}
        }
        if case.holder.not_after <= case.now_unix {
            return Err(job(
                "proxy.expired",
                "the credential has expired".to_owned(),
            ));
        }
        self.check_bans(&case.holder, job)?;
        if let Some(pilot) = &case.pilot {
            self.check_bans(pilot, caller)?;
        }
        let open = |hours: &crate::hours::Hours| hours.admit(case.now_unix);
        let closed = self.config.hours.as_ref().is_some_and(|hours| !open(hours));
        if closed && case.purpose != Purpose::Renew {
            return Err(later(
                "time.closed",
                "this site starts payloads only at the hours of allowed_hours in its configuration"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    fn check_bans(
        &self,
        party: &Party,
        refuse: fn(&str, String) -> Refusal,
    ) -> Result<(), Refusal> {
        for (path, document) in self.files() {
            let Document::Bans(bans) = document else {
                continue;
            };
            if let Some(ban) = bans.find(party) {
                let message = format!(
                    "{} is banned at this site ({}:{})",
                    party.identity,
                    path.display(),
                    ban.line
                );
                return Err(refuse(&format!("ban.{}", ban.by), message));
            }
        }
        Ok(())
    }

    fn take(
        &self,
        step: Step,
        case: &Case,
        hint: &mut Option<String>,
    ) -> Result<Option<Decision>, Refusal> {
        let holder = &case.holder;
        let is_token = holder.kind == CredentialKind::Token;
        let patterns = self.config.gridmap_patterns;
        match step {
            Step::Gridmap if !is_token => {
                let Some((path, Document::Gridmap(map))) = self.document(FileKind::Gridmap) else {
                    return Ok(None);
                };
                match map.find(&Name::new(&holder.identity), patterns) {
                    gridmap::Finding::Mapped(hit) => self.found(&hit, path, holder, None).map(Some),
                    gridmap::Finding::Nothing => Ok(None),
                    gridmap::Finding::Unclear(line) => Err(site(
                        "map.unclear",
                        format!(
                            "{}:{line} may or may not mean {}; write the name with a backslash \
                             before each slash and plus inside a value",
                            path.display(),
                            holder.identity
                        ),
                    )),
                }
            }
            Step::Vomsmap if !is_token => {
                let Some((path, Document::Vomsmap(map))) = self.document(FileKind::Vomsmap) else {
                    return Ok(None);
                };
                match map.find(&holder.fqans) {
                    vomsmap::Finding::Mapped(hit) => {
                        let groups = self.groups(holder);
                        self.found(&hit, path, holder, groups).map(Some)
                    }
                    vomsmap::Finding::Nothing(line) => {
                        *hint = line.map(|line| {
                            format!(
                                "; {}:{line} does not count, because a wildcard in the name of the \
                                 VO admits other VOs",
                                path.display()
                            )
                        });
                        Ok(None)
                    }
                }
            }
            Step::Tokenmap if is_token => {
                let Some((path, Document::Tokenmap(map))) = self.document(FileKind::Tokenmap)
                else {
                    return Ok(None);
                };
                map.find(&holder.identity, &holder.fqans, patterns)
                    .map(|hit| self.found(&hit, path, holder, None))
                    .transpose()
            }
            Step::Slot => self.slot(case),
            Step::Dynamic => Ok(Some(Decision::Dynamic {
                groups: if is_token { None } else { self.groups(holder) },
            })),
            Step::Gridmap | Step::Vomsmap | Step::Tokenmap | Step::Mapper => Ok(None),
        }
    }

    /// Groups by attributes (requirement M8).
    fn groups(&self, holder: &Party) -> Option<Groups> {
        match self.document(FileKind::Groupmap) {
            Some((_, Document::Groupmap(map))) => map.groups(&holder.fqans),
            _ => None,
        }
    }

    fn slot(&self, case: &Case) -> Result<Option<Decision>, Refusal> {
        let Some(name) = &case.slot_account else {
            return Ok(None);
        };
        if !self
            .config
            .slot_accounts
            .iter()
            .any(|slot| slot.matches(name))
        {
            return Err(caller(
                "slot.not_allowed",
                format!("the pilot asks for account {name}, which slot_accounts does not name"),
            ));
        }
        Ok(Some(Decision::Account {
            name: name.clone(),
            groups: None,
            source: "slot_accounts".to_owned(),
        }))
    }

    fn found(
        &self,
        hit: &Hit<'_>,
        path: &Path,
        holder: &Party,
        groups: Option<Groups>,
    ) -> Result<Decision, Refusal> {
        let source = clip(&format!("{}:{}", path.display(), hit.line));
        match hit.target {
            Target::Account(name) => Ok(Decision::Account {
                name: name.clone(),
                groups,
                source,
            }),
            Target::Pool(prefix) => self.pool(prefix, source, holder, groups),
        }
    }

    /// A lease in the directory of pool accounts.
    pub(crate) fn pool(
        &self,
        prefix: &str,
        source: String,
        holder: &Party,
        groups: Option<Groups>,
    ) -> Result<Decision, Refusal> {
        if self.config.settings.gridmapdir.is_none() {
            return Err(site(
                "conf.gridmapdir",
                format!("{source} leads to pool accounts .{prefix}, but gridmapdir is not set"),
            ));
        }
        let identity = match holder.kind {
            CredentialKind::Proxy => Name::new(&holder.identity).older_spelling(),
            CredentialKind::Token => holder.identity.clone(),
        };
        let lease_name = lease_name(&identity, groups.as_ref())
            .filter(|name| is_lease_name(name))
            .ok_or_else(|| {
                let who = &holder.identity;
                job(
                    "lease.name_too_long",
                    format!("the name {who} is too long for a lease of a pool account"),
                )
            })?;
        Ok(Decision::Pool {
            prefix: prefix.to_owned(),
            lease_name,
            exact: holder.identity.clone(),
            groups,
            source,
        })
    }

    fn nobody(&self, case: &Case, hint: Option<String>) -> Refusal {
        let hint = hint.unwrap_or_default();
        let who = &case.holder.identity;
        let message = format!("there is no line for {who} in the map files of this site{hint}");
        job("map.none", message)
    }
}

/// Text for the log: printable and not too long.
pub(crate) fn clip(text: &str) -> String {
    text.chars()
        .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
        .take(255)
        .collect()
}
