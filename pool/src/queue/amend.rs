//! Changes of single attributes of jobs that are in the queue, as `condor_qedit` and `condor_prio` make them.

use classad::{AttrName, Expr};

use super::Queue;
use super::act::{ActError, Actor, Effects};
use crate::JobId;

/// What only the queue may change: whose job it is, its numbers, its status and where it runs.
const PROTECTED: [&str; 16] = [
    "ClusterId",
    "ProcId",
    "Owner",
    "User",
    "OsUser",
    "GlobalJobId",
    "QDate",
    "MyType",
    "TargetType",
    "JobStatus",
    "AutoClusterId",
    "EnteredCurrentStatus",
    "RemoteHost",
    "ShadowBday",
    "PublicClaimId",
    "StartdIpAddr",
];

/// Why an attribute cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no such job.
    NoJob,
    /// It is somebody else's, or the attribute is the queue's own.
    Denied,
}

/// One attribute of one job.
pub(super) type Amendment = (JobId, AttrName, Expr);

impl Queue {
    /// Whether somebody may change an attribute of a job.
    pub(super) fn may_amend(
        &self,
        actor: &Actor,
        job: JobId,
        name: &AttrName,
    ) -> Result<(), Refusal> {
        let model = self.model();
        let found = model.jobs.get(&job).ok_or(Refusal::NoJob)?;
        let name = name.as_str();
        let protected = PROTECTED.iter().any(|own| own.eq_ignore_ascii_case(name));
        if protected || cedar::is_private(name) || !actor.may(found) {
            return Err(Refusal::Denied);
        }
        Ok(())
    }

    /// Changes attributes; on the disk when it returns. Jobs that left meanwhile are passed over.
    pub(super) async fn amend(&self, amendments: Vec<Amendment>) -> Result<(), ActError> {
        let receiver = {
            let mut model = self.model();
            let mut effects = Effects::default();
            for (job, name, value) in amendments {
                let Some(mut edit) = model.edit(job) else {
                    continue;
                };
                edit.set(name, value);
                self.put(&mut model, job, &edit, &mut effects);
            }
            effects.released = true;
            self.dispatch(effects)
        };
        match receiver.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(ActError::Disk(why)),
            Err(_) => Err(ActError::Disk("the job queue is closed".to_owned())),
        }
    }
}
