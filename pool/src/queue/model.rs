//! The queue in memory: what serves every question, with indexes for those that are asked often.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cedar::ClaimId;
use classad::ClassAd;

use super::autocluster::{Autoclusters, ClusterKey};
use super::edit::{Changes, Edit, status_of};
use super::error::SubmitError;
use super::policy::has_periodic;
use super::run::{RunRecord, Status};
use super::store::Op;
use crate::JobId;

/// The jobs of one submission.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) ad: Arc<ClassAd>,
    jobs: usize,
    periodic: bool,
    key: ClusterKey,
}

/// One job.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// What differs from the cluster's ad.
    pub(super) own: ClassAd,
    pub(super) cluster: Arc<ClassAd>,
    pub(super) status: Status,
    pub(super) owner: Arc<str>,
    pub(super) submitter: Arc<str>,
    pub(super) autocluster: u32,
    pub(super) run: Option<Arc<RunRecord>>,
    /// Set aside for a claim.
    pub(super) reserved: bool,
    /// Not offered before this time, after a failed start.
    pub(super) not_before: i64,
    /// Failed starts in a row.
    pub(super) failures: u32,
    /// Whether its periodic expressions, or those of its cluster, are worth a look.
    pub(super) periodic: bool,
    place: Place,
}

impl Job {
    /// The whole ad.
    pub(super) fn whole(&self) -> ClassAd {
        let mut ad = (*self.cluster).clone();
        ad.update(&self.own);
        ad.insert("AutoClusterId", i64::from(self.autocluster));
        ad
    }
}

/// Where an idle job stands among those of its submitter: best first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// `JobPrio`, negated.
    pub(super) prio: i64,
    pub(super) qdate: i64,
}

/// Idle jobs of one submitter that have one priority and one autocluster.
type Group = BTreeSet<(i64, JobId)>;

/// Numbers of jobs by status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    by_status: [usize; 8],
}

impl Counts {
    /// How many jobs have this status.
    pub(super) fn of(&self, status: Status) -> usize {
        self.slot(status).copied().unwrap_or(0)
    }

    /// How many jobs there are.
    pub(super) fn total(&self) -> usize {
        self.by_status.iter().sum()
    }

    /// Adds one job.
    pub(super) fn count(&mut self, status: Status) {
        self.change(status, 1);
    }

    fn slot(&self, status: Status) -> Option<&usize> {
        self.by_status.get(index(status))
    }

    fn change(&mut self, status: Status, by: isize) {
        if let Some(count) = self.by_status.get_mut(index(status)) {
            *count = count.saturating_add_signed(by);
        }
    }
}

fn index(status: Status) -> usize {
    usize::try_from(status.number()).unwrap_or(0)
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) next_cluster: i32,
    pub(super) clusters: BTreeMap<i32, Cluster>,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) owners: HashMap<Arc<str>, Counts>,
    /// By submitter, as the accountant knows them.
    pub(super) submitters: HashMap<Arc<str>, Counts>,
    pub(super) counts: Counts,
    /// Submitter, then priority (best first) and autocluster.
    pub(super) idle: HashMap<Arc<str>, BTreeMap<(i64, u32), Group>>,
    pub(super) running: HashSet<JobId>,
    /// Changed in memory, not yet handed to the writer.
    pub(super) dirty: BTreeSet<JobId>,
    /// Claims that were given back, which is not yet handed to the writer.
    pub(super) given_back: Vec<ClaimId>,
    /// Jobs being stored: they count for the limits.
    pub(super) arriving: usize,
    pub(super) arriving_by_owner: HashMap<Arc<str>, usize>,
    pub(super) autoclusters: Autoclusters,
    pub(super) totals: Totals,
}

/// What happened since the start, for the Scheduler ad.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) submitted: i64,
    pub(super) started: i64,
    pub(super) completed: i64,
    pub(super) removed: i64,
}

impl Model {
    /// The number of the next cluster.
    pub(super) fn take_cluster(&mut self) -> Result<i32, SubmitError> {
        let number = self.next_cluster.max(1);
        self.next_cluster = number
            .checked_add(1)
            .ok_or_else(|| SubmitError::Limit("all cluster numbers are used up".to_owned()))?;
        Ok(number)
    }

    /// Adds a cluster; its jobs follow.
    pub(super) fn add_cluster(&mut self, number: i32, ad: ClassAd) {
        let key = self.autoclusters.cluster_key(&ad);
        self.clusters.insert(
            number,
            Cluster {
                periodic: has_periodic(&ad),
                ad: Arc::new(ad),
                jobs: 0,
                key,
            },
        );
        self.next_cluster = self.next_cluster.max(number.saturating_add(1));
    }

    /// Adds a job of a cluster that was added.
    pub(super) fn add_job(&mut self, id: JobId, own: ClassAd, run: Option<RunRecord>) {
        let Some(cluster) = self.clusters.get_mut(&id.cluster) else {
            return;
        };
        cluster.jobs += 1;
        let ad = Arc::clone(&cluster.ad);
        let text = |name: &str| {
            let found = own.string(name).or_else(|| ad.string(name));
            found.unwrap_or_default()
        };
        let owner = text("Owner");
        let submitter = submitter(&text("User"), &text("AccountingGroup"));
        let (owner, submitter) = (self.shared_owner(&owner), self.shared(&submitter));
        let mut job = Job {
            own,
            cluster: ad,
            status: Status::Idle,
            owner,
            submitter,
            autocluster: 0,
            run: run.map(Arc::new),
            reserved: false,
            not_before: 0,
            failures: 0,
            periodic: false,
            place: Place::default(),
        };
        self.digest(id, &mut job);
        self.enter(id, &job);
        self.jobs.insert(id, job);
    }

    /// Works out what the indexes need from the job's ad.
    fn digest(&mut self, id: JobId, job: &mut Job) {
        let value = |name: &str| {
            let own = job.own.get(name).is_some();
            if own {
                job.own.int(name)
            } else {
                job.cluster.int(name)
            }
        };
        job.status = value("JobStatus")
            .and_then(Status::from_number)
            .unwrap_or(Status::Idle);
        job.place = Place {
            prio: value("JobPrio").unwrap_or(0).saturating_neg(),
            qdate: value("QDate").unwrap_or(0),
        };
        if let Some(cluster) = self.clusters.get(&id.cluster) {
            job.periodic = cluster.periodic || has_periodic(&job.own);
            job.autocluster = self.autoclusters.of(&cluster.key, &cluster.ad, &job.own);
        }
    }

    fn shared_owner(&self, text: &str) -> Arc<str> {
        match self.owners.get_key_value(text) {
            Some((known, _)) => Arc::clone(known),
            None => text.into(),
        }
    }

    fn shared(&self, text: &str) -> Arc<str> {
        match self.submitters.get_key_value(text) {
            Some((known, _)) => Arc::clone(known),
            None => text.into(),
        }
    }

    /// Puts a job into the indexes.
    fn enter(&mut self, id: JobId, job: &Job) {
        self.counts.change(job.status, 1);
        for (map, key) in [
            (&mut self.owners, &job.owner),
            (&mut self.submitters, &job.submitter),
        ] {
            map.entry(Arc::clone(key))
                .or_default()
                .change(job.status, 1);
        }
        if job.status == Status::Idle && job.run.is_none() {
            self.idle
                .entry(Arc::clone(&job.submitter))
                .or_default()
                .entry((job.place.prio, job.autocluster))
                .or_default()
                .insert((job.place.qdate, id));
        }
        if job.run.is_some() {
            self.running.insert(id);
        }
    }

    /// Takes a job out of the indexes.
    fn leave(&mut self, id: JobId, job: &Job) {
        self.counts.change(job.status, -1);
        for (map, key) in [
            (&mut self.owners, &job.owner),
            (&mut self.submitters, &job.submitter),
        ] {
            if let Some(counts) = map.get_mut(key) {
                counts.change(job.status, -1);
                if counts.total() == 0 {
                    map.remove(key);
                }
            }
        }
        if let Some(groups) = self.idle.get_mut(&job.submitter) {
            let key = (job.place.prio, job.autocluster);
            if let Some(group) = groups.get_mut(&key) {
                group.remove(&(job.place.qdate, id));
                if group.is_empty() {
                    groups.remove(&key);
                }
            }
            if groups.is_empty() {
                self.idle.remove(&job.submitter);
            }
        }
        self.running.remove(&id);
    }

    /// Changes a job: its indexes follow. `None`: it is not in the queue.
    pub(super) fn change<T>(&mut self, id: JobId, work: impl FnOnce(&mut Job) -> T) -> Option<T> {
        let mut job = self.jobs.remove(&id)?;
        self.leave(id, &job);
        let result = work(&mut job);
        self.digest(id, &mut job);
        self.enter(id, &job);
        self.jobs.insert(id, job);
        Some(result)
    }

    /// Applies what was worked out on the whole ad.
    pub(super) fn apply(&mut self, id: JobId, changes: &Changes) {
        self.change(id, |job| {
            let cluster = Arc::clone(&job.cluster);
            changes.apply(&mut job.own, &cluster);
        });
    }

    /// Begins a change of a job.
    pub(super) fn edit(&self, id: JobId) -> Option<Edit> {
        self.jobs.get(&id).map(|job| Edit::new(job.whole()))
    }

    /// What stores the job as it is now.
    pub(super) fn stored(&mut self, id: JobId) -> Option<Op> {
        self.dirty.remove(&id);
        let job = self.jobs.get(&id)?;
        Some(Op::Job(id, job.own.clone()))
    }

    /// Takes a job out of the queue; with the last one goes its cluster.
    pub(super) fn drop_job(&mut self, id: JobId) -> Vec<Op> {
        let Some(job) = self.jobs.remove(&id) else {
            return Vec::new();
        };
        self.leave(id, &job);
        self.dirty.remove(&id);
        let mut ops = vec![Op::DropJob(id)];
        if let Some(cluster) = self.clusters.get_mut(&id.cluster) {
            cluster.jobs = cluster.jobs.saturating_sub(1);
            if cluster.jobs == 0 {
                self.clusters.remove(&id.cluster);
                ops.push(Op::DropCluster(id.cluster));
            }
        }
        ops
    }

    /// More attributes tell autoclusters apart: all jobs are sorted anew.
    pub(super) fn extend_significant(&mut self, names: &[String]) {
        if !self.autoclusters.extend(names) {
            return;
        }
        for cluster in self.clusters.values_mut() {
            cluster.key = self.autoclusters.cluster_key(&cluster.ad);
        }
        let all: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in all {
            self.change(id, |_| ());
        }
    }

    /// The jobs of a cluster.
    pub(super) fn cluster_jobs(&self, cluster: i32) -> impl Iterator<Item = JobId> {
        let range = JobId::new(cluster, 0)..=JobId::new(cluster, i32::MAX);
        self.jobs.range(range).map(|(id, _)| *id)
    }
}

/// The name under which the accountant knows a job: `group.user@domain`, or the user.
fn submitter(user: &str, group: &str) -> String {
    if group.is_empty() {
        return user.to_owned();
    }
    let domain = user.split_once('@').map_or("", |(_, domain)| domain);
    format!("{group}@{domain}")
}

/// The status in a job's whole ad.
pub(super) fn status(ad: &ClassAd) -> Status {
    status_of(ad)
}

/// Autoclusters that no job has any more are forgotten when there are this many more than jobs.
const SPARE_AUTOCLUSTERS: usize = 10_000;

impl Model {
    /// Forgets old autoclusters if there are too many; the numbers begin anew then.
    pub(super) fn autoclusters_in_bounds(&mut self) {
        if self.autoclusters.len() < self.jobs.len() + SPARE_AUTOCLUSTERS {
            return;
        }
        self.autoclusters.forget();
        for cluster in self.clusters.values_mut() {
            cluster.key = self.autoclusters.cluster_key(&cluster.ad);
        }
        let all: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in all {
            self.change(id, |_| ());
        }
    }
}
