//! One `Open` on its way: verify, map, look up. A state machine that the loop advances whenever
//! something it waits for has happened; it never waits itself.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use launch_protocol::broker::{Refusal, RefusalClass};
use nix::unistd::Pid;

use crate::mapping::{Known, Mapped, Policy, Step};
use crate::names::{Lookup, Query};
use crate::refuse::mapping;
use crate::sandbox::Place;
use crate::verifiers::{Accepted, Verification};

/// A request to open a payload.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) request: u32,
    pub(crate) serial: u32,
    pub(crate) label: String,
    pub(crate) place: Place,
    /// Set once the credential has been accepted.
    pub(crate) accepted: Option<Accepted>,
    /// An account taken ahead; to be released if it is still here at the end.
    pub(crate) reserved: Option<Mapped>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Verifying(Verification),
    LookingUp { query: Query, lookup: Lookup },
    Over,
}

impl Opening {
    pub(crate) fn new(
        request: u32,
        serial: u32,
        label: String,
        place: Place,
        verification: Verification,
    ) -> Self {
        Self {
            request,
            serial,
            label,
            place,
            accepted: None,
            reserved: None,
            stage: Stage::Verifying(verification),
        }
    }

    /// What to poll for reading.
    pub(crate) fn source(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Verifying(verification) => verification.is_open().then(|| verification.as_fd()),
            Stage::LookingUp { lookup, .. } => Some(lookup.as_fd()),
            Stage::Over => None,
        }
    }

    /// When to look again even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Verifying(verification) => Some(verification.deadline()),
            Stage::LookingUp { lookup, .. } => Some(lookup.deadline()),
            Stage::Over => None,
        }
    }

    /// Takes note that a child has been reaped; true if it was one of ours.
    pub(crate) fn reaped(&mut self, child: Pid, status: i32) -> bool {
        match &mut self.stage {
            Stage::Verifying(verification) => {
                // Others may wait for the same news.
                verification.reaped(child, status);
                false
            }
            Stage::LookingUp { lookup, .. } => lookup.reaped(child),
            Stage::Over => false,
        }
    }

    /// Goes as far as it can now; `None`: not there yet.
    pub(crate) fn advance(
        &mut self,
        known: &mut Known,
        policy: Policy<'_>,
        now: Instant,
    ) -> Option<Result<Mapped, Refusal>> {
        let asked = match &mut self.stage {
            Stage::Verifying(verification) => match verification.advance(now)? {
                Ok(accepted) => {
                    self.accepted = Some(accepted);
                    None
                }
                Err(refusal) => return Some(Err(refusal)),
            },
            Stage::LookingUp { query, lookup } => match lookup.advance(now)? {
                Ok(answers) => {
                    known.learn(query, answers.into_iter().next().flatten(), now);
                    Some(query.clone())
                }
                Err(failed) => {
                    let message = format!("the account cannot be looked up: {}", failed.0);
                    let class = RefusalClass::SiteTransient;
                    return Some(Err(mapping(class, "map.names_failed", message, true)));
                }
            },
            Stage::Over => return None,
        };
        self.stage = Stage::Over;
        if let Some(reserved) = self.reserved.take() {
            return Some(Ok(reserved));
        }
        let identity = self
            .accepted
            .as_ref()
            .map(|accepted| accepted.identity.as_str())?;
        match known.map(identity, asked.as_ref(), policy, now) {
            Ok(Step::Done(mapped)) => Some(Ok(mapped)),
            Ok(Step::Ask(query)) => {
                match Lookup::start(std::slice::from_ref(&query), policy.null) {
                    Ok(lookup) => {
                        self.stage = Stage::LookingUp { query, lookup };
                        None
                    }
                    Err(errno) => {
                        let message = format!("the account cannot be looked up: {}", errno.desc());
                        let class = RefusalClass::SiteTransient;
                        Some(Err(mapping(class, "map.names_failed", message, true)))
                    }
                }
            }
            Err(refusal) => Some(Err(refusal)),
        }
    }
}
