//! Submit, start, update, finish.

use std::sync::Arc;

use cedar::ClaimId;
use cedar::security::PeerIdentity;
use classad::{AttrName, ClassAd};
use tokio::sync::oneshot;

use super::error::{NotStartable, QueueError, SubmitError};
use super::identity::Identity;
use super::life::{self, Next};
use super::run::{AfterRun, RunOutcome, RunRecord, Status};
use super::store::{Op, Request};
use super::submission::{Facts, Prepared, prepare};
use super::{Queue, now};
use crate::JobId;
use crate::user_log::{Entry, Event};

/// Longest wait before a job that failed to start is offered again, in seconds.
const LONGEST_PAUSE: i64 = 300;

/// The first such wait; doubled with every failure.
const FIRST_PAUSE: i64 = 5;

impl Queue {
    /// Adds a cluster of jobs; durable when it returns. `procs` hold what differs between the jobs.
    ///
    /// # Errors
    /// Nothing was submitted, and why.
    pub async fn submit(
        &self,
        who: &PeerIdentity,
        cluster: ClassAd,
        procs: Vec<ClassAd>,
    ) -> Result<i32, SubmitError> {
        self.submit_as(who, None, cluster, procs).await
    }

    /// Takes a cluster's number before its jobs are known, so that they can have it in their file names. A number that is
    /// not used is lost.
    ///
    /// # Errors
    /// All numbers are used up.
    pub fn reserve_cluster(&self) -> Result<i32, SubmitError> {
        self.model().take_cluster()
    }

    /// As [`Queue::submit`], with a number that [`Queue::reserve_cluster`] gave.
    pub(super) async fn submit_as(
        &self,
        who: &PeerIdentity,
        reserved: Option<i32>,
        cluster: ClassAd,
        procs: Vec<ClassAd>,
    ) -> Result<i32, SubmitError> {
        let config = &self.inner.config;
        let owner = match Identity::of(who, &config.uid_domain) {
            Identity::Local(user) => user,
            Identity::Foreign { identity } => {
                return Err(SubmitError::Foreign {
                    identity: identity.to_owned(),
                    uid_domain: config.uid_domain.clone(),
                });
            }
            Identity::Nobody => return Err(SubmitError::NotAuthenticated),
        };
        let count = procs.len();
        if count > config.max_jobs_per_submission {
            return Err(SubmitError::Limit(format!(
                "{count} jobs in one submission; the pool takes up to {} (MAX_JOBS_PER_SUBMISSION)",
                config.max_jobs_per_submission
            )));
        }
        let facts = Facts {
            owner,
            uid_domain: &config.uid_domain,
            max_ad_bytes: config.max_ad_bytes,
            now: now(),
        };
        let prepared = prepare(cluster, procs, facts)?;
        if let Some(admission) = &config.admission {
            admission(prepared.cluster.clone())
                .await
                .map_err(SubmitError::NeverRuns)?;
        }
        let (sender, receiver) = oneshot::channel();
        let number = self.admit(owner, reserved, prepared, facts.now, sender)?;
        match receiver.await {
            Ok(Ok(())) => Ok(number),
            Ok(Err(why)) => Err(SubmitError::Disk(why)),
            Err(_) => Err(SubmitError::Disk("the job queue is closed".to_owned())),
        }
    }

    /// Takes a number and hands the jobs to the writer. They are in the queue when they are on the disk, whether or not
    /// anybody still waits for that.
    fn admit(
        &self,
        owner: &str,
        reserved: Option<i32>,
        prepared: Prepared,
        qdate: i64,
        told: oneshot::Sender<Result<(), String>>,
    ) -> Result<i32, SubmitError> {
        let Prepared {
            mut cluster,
            mut procs,
        } = prepared;
        let config = &self.inner.config;
        let owner: Arc<str> = owner.into();
        let (number, next) = self.make_room(&owner, reserved, procs.len())?;
        // Without the lock: there may be thousands.
        cluster.insert("ClusterId", number);
        cluster.insert(
            "TotalSubmitProcs",
            i64::try_from(procs.len()).unwrap_or(i64::MAX),
        );
        let mut ops = vec![Op::NextCluster(next), Op::Cluster(number, cluster.clone())];
        let mut entries = Vec::new();
        for own in &mut procs {
            let job = JobId::new(number, proc_of(own));
            let name = &config.schedd_name;
            own.insert("GlobalJobId", format!("{name}#{job}#{qdate}"));
            self.tell_submitted(&cluster, own, &mut entries);
            ops.push(Op::Job(job, own.clone()));
        }
        let model = self.model();
        let outgoing = self.inner.outbox.keep(entries, &mut ops);
        let queue = self.clone();
        self.send(Request {
            ops,
            keep: false,
            done: Some(Box::new(move |result| {
                queue.admitted(&owner, number, cluster, procs, result.is_ok());
                if result.is_ok() {
                    queue.hand_over(outgoing);
                    queue.inner.changed.notify_one();
                }
                // Nobody may be waiting any more; the jobs are in the queue all the same.
                let _ = told.send(result);
            })),
        });
        drop(model);
        Ok(number)
    }

    /// The number of a cluster whose jobs count from now on, and the one after it.
    fn make_room(
        &self,
        owner: &Arc<str>,
        reserved: Option<i32>,
        count: usize,
    ) -> Result<(i32, i32), SubmitError> {
        let config = &self.inner.config;
        let mut model = self.model();
        let have = model.jobs.len() + model.arriving;
        if have + count > config.max_jobs_submitted {
            return Err(SubmitError::Limit(format!(
                "the queue has {have} jobs and takes up to {} (MAX_JOBS_SUBMITTED)",
                config.max_jobs_submitted
            )));
        }
        let arriving = model.arriving_by_owner.get(owner).copied().unwrap_or(0);
        let have = model.owners.get(owner).map_or(0, |counts| counts.total()) + arriving;
        if have + count > config.max_jobs_per_owner {
            return Err(SubmitError::Limit(format!(
                "{owner} has {have} jobs and may have up to {} (MAX_JOBS_PER_OWNER)",
                config.max_jobs_per_owner
            )));
        }
        let number = match reserved {
            Some(number) => number,
            None => model.take_cluster()?,
        };
        model.arriving += count;
        *model
            .arriving_by_owner
            .entry(Arc::clone(owner))
            .or_default() += count;
        Ok((number, model.next_cluster))
    }

    /// What the log tells of a new job.
    fn tell_submitted(&self, cluster: &ClassAd, own: &ClassAd, entries: &mut Vec<Entry>) {
        let events = &self.inner.events;
        // One whole ad at a time: thousands of them would take much memory.
        let mut ad = cluster.clone();
        ad.update(own);
        let submit = Event::Submit {
            host: self.inner.config.address.clone(),
            notes: ad.string("SubmitEventNotes"),
            user_notes: ad.string("SubmitEventUserNotes"),
        };
        entries.extend(events.compose(&ad, &submit));
        if super::model::status(&ad) == Status::Held {
            let edit = super::edit::Edit::new(ad);
            entries.extend(events.compose(edit.ad(), &life::held_event(&edit)));
        }
    }

    fn admitted(
        &self,
        owner: &Arc<str>,
        number: i32,
        cluster: ClassAd,
        procs: Vec<ClassAd>,
        stored: bool,
    ) {
        let mut model = self.model();
        model.arriving = model.arriving.saturating_sub(procs.len());
        if let Some(arriving) = model.arriving_by_owner.get_mut(owner) {
            *arriving = arriving.saturating_sub(procs.len());
            if *arriving == 0 {
                model.arriving_by_owner.remove(owner);
            }
        }
        if stored {
            model.totals.submitted += i64::try_from(procs.len()).unwrap_or(0);
            model.add_cluster(number, cluster);
            for own in procs {
                let job = JobId::new(number, proc_of(&own));
                model.add_job(job, own, None);
            }
        }
    }

    /// The job runs; durable when it returns. To be called before the claim is activated.
    ///
    /// # Errors
    /// The job must not be started.
    pub async fn start(&self, job: JobId, run: RunRecord) -> Result<(), NotStartable> {
        let receiver = self.begin_run(job, run)?;
        let disk = |why| NotStartable::Disk { job, why };
        match receiver.await {
            Ok(result) => result.map_err(disk),
            Err(_) => Err(disk("the job queue is closed".to_owned())),
        }
    }

    fn begin_run(
        &self,
        id: JobId,
        run: RunRecord,
    ) -> Result<oneshot::Receiver<Result<(), String>>, NotStartable> {
        let mut model = self.model();
        let job = model.jobs.get(&id).ok_or(NotStartable::Gone(id))?;
        if job.status != Status::Idle || job.run.is_some() {
            return Err(NotStartable::NotIdle {
                job: id,
                status: job.status,
            });
        }
        let mut edit = super::edit::Edit::new(job.whole());
        life::start(&mut edit, &run, now());
        let changes = edit.into_changes();
        model.change(id, |job| {
            let cluster = Arc::clone(&job.cluster);
            changes.apply(&mut job.own, &cluster);
            job.run = Some(Arc::new(run.clone()));
            job.reserved = false;
        });
        model.totals.started += 1;
        let mut ops: Vec<Op> = model.stored(id).into_iter().collect();
        ops.push(Op::Run(id, run));
        let (sender, receiver) = oneshot::channel();
        let queue = self.clone();
        self.send(Request {
            ops,
            keep: false,
            done: Some(Box::new(move |result| {
                if let Err(why) = &result {
                    let outcome = RunOutcome::NotStarted {
                        reason: why.clone(),
                    };
                    // The run may have been ended already; then there is nothing to take back.
                    let _ = queue.end_run(id, &outcome);
                }
                let _ = sender.send(result);
            })),
        });
        Ok(receiver)
    }

    /// Progress of a running job: usage, `JobStatus` 2, 6 or 7, and what the job sets by itself. Stored within seconds.
    /// The usage (`RemoteUserCpu`, `RemoteSysCpu`) is that of this run. Nothing happens if the job does not run.
    pub async fn update(&self, job: JobId, attributes: ClassAd) {
        let mut model = self.model();
        if !model.running.contains(&job) {
            return;
        }
        let Some(mut edit) = model.edit(job) else {
            return;
        };
        life::update(&mut edit, &attributes, now());
        model.apply(job, &edit.into_changes());
        model.dirty.insert(job);
    }

    /// The run is over; durable when it returns, however long that takes. Evaluates the job's policy and writes the
    /// job's log.
    ///
    /// # Errors
    /// The job does not run, as far as the queue knows.
    pub async fn finish(&self, job: JobId, outcome: RunOutcome) -> Result<AfterRun, QueueError> {
        let (after, receiver) = self.end_run(job, &outcome)?;
        match receiver.await {
            Ok(Ok(())) => Ok(after),
            Ok(Err(_)) | Err(_) => Err(QueueError::Closed),
        }
    }

    fn end_run(
        &self,
        id: JobId,
        outcome: &RunOutcome,
    ) -> Result<(AfterRun, oneshot::Receiver<Result<(), String>>), QueueError> {
        let now = now();
        let mut model = self.model();
        let job = model.jobs.get(&id).ok_or(QueueError::Gone(id))?;
        if job.run.is_none() {
            return Err(QueueError::NotRunning(id));
        }
        let mut edit = super::edit::Edit::new(job.whole());
        let finished = life::finish(&mut edit, outcome, &self.inner.system, now);
        let changes = edit.into_changes();
        let failed = matches!(outcome, RunOutcome::NotStarted { .. });
        model.change(id, |job| {
            let cluster = Arc::clone(&job.cluster);
            changes.apply(&mut job.own, &cluster);
            job.run = None;
            job.failures = if failed { job.failures + 1 } else { 0 };
            if failed {
                let pause = FIRST_PAUSE << (job.failures - 1).min(10);
                job.not_before = now + pause.min(LONGEST_PAUSE);
            }
        });
        match finished.after {
            AfterRun::Completed => model.totals.completed += 1,
            AfterRun::Removed => model.totals.removed += 1,
            AfterRun::Held { .. } | AfterRun::Idle => {}
        }
        let mut ops = vec![Op::DropRun(id)];
        match finished.next {
            Next::Leaves => ops.extend(self.retire(&mut model, id)),
            Next::Stays => ops.extend(model.stored(id)),
        }
        let events = finished.events.iter();
        let entries = events.filter_map(|event| self.inner.events.compose(&changes.whole, event));
        let outgoing = self.inner.outbox.keep(entries.collect(), &mut ops);
        let (sender, receiver) = oneshot::channel();
        let queue = self.clone();
        self.send(Request {
            ops,
            keep: true,
            done: Some(Box::new(move |result| {
                if result.is_ok() {
                    queue.hand_over(outgoing);
                }
                let _ = sender.send(result);
            })),
        });
        drop(model);
        if finished.after == AfterRun::Idle {
            self.inner.changed.notify_one();
        }
        Ok((finished.after, receiver))
    }

    /// A claim that had runs is given back, or the startd has ended it. Stored within seconds; the next process gives back
    /// what is not.
    pub fn claim_over(&self, claim: &ClaimId) {
        self.model().given_back.push(claim.clone());
    }

    /// From the queue to the history.
    pub(super) fn retire(&self, model: &mut super::model::Model, id: JobId) -> Vec<Op> {
        let Some(job) = model.jobs.get(&id) else {
            return Vec::new();
        };
        let mut whole = job.whole();
        let private =
            |(name, _): (&AttrName, _)| cedar::is_private(name.as_str()).then(|| name.to_string());
        let private: Vec<String> = whole.iter().filter_map(private).collect();
        for name in private {
            whole.remove(&name);
        }
        let mut ops = vec![Op::History(id, job.owner.to_string(), whole)];
        ops.extend(model.drop_job(id));
        ops
    }

    /// Hands everything that changed in memory only to the writer, and waits for it. With it go the events that their logs
    /// have by now.
    pub(super) async fn store_progress(&self) {
        let receiver = {
            let mut model = self.model();
            let dirty = std::mem::take(&mut model.dirty);
            let mut ops: Vec<Op> = dirty.iter().filter_map(|id| model.stored(*id)).collect();
            ops.extend(model.given_back.drain(..).map(Op::DropClaim));
            if ops.is_empty() && self.inner.outbox.settled().is_empty() {
                return;
            }
            let (sender, receiver) = oneshot::channel();
            self.send(Request {
                ops,
                keep: true,
                done: Some(Box::new(move |_| {
                    let _ = sender.send(());
                })),
            });
            receiver
        };
        // Not stored: the queue is closed.
        let _ = receiver.await;
    }
}

fn proc_of(own: &ClassAd) -> i32 {
    own.int("ProcId")
        .and_then(|proc| i32::try_from(proc).ok())
        .unwrap_or(0)
}
