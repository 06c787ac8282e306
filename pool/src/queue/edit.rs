//! A change of one job under way: the whole ad as it becomes, and what differs from before.

use classad::{AttrName, ClassAd, EvalContext, Expr, Value};

use super::run::Status;

/// A job's whole ad while it is being changed.
#[derive(Debug, Clone)]
pub(super) struct Edit {
    ad: ClassAd,
    set: ClassAd,
    cleared: Vec<AttrName>,
}

impl Edit {
    /// Starts from the job's whole ad.
    pub(super) fn new(ad: ClassAd) -> Self {
        Self {
            ad,
            set: ClassAd::new(),
            cleared: Vec::new(),
        }
    }

    /// The ad as it is by now.
    pub(super) fn ad(&self) -> &ClassAd {
        &self.ad
    }

    /// Sets an attribute.
    pub(super) fn set(&mut self, name: impl Into<AttrName>, value: impl Into<Expr>) {
        let (name, value) = (name.into(), value.into());
        self.cleared.retain(|cleared| *cleared != name);
        self.ad.insert(name.clone(), value.clone());
        self.set.insert(name, value);
    }

    /// Takes an attribute away.
    pub(super) fn clear(&mut self, name: &str) {
        if self.ad.remove(name).is_some() {
            self.set.remove(name);
            self.cleared.push(name.into());
        }
    }

    /// Renames an attribute; the old value of `to` is lost only if there is a new one.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if let Some(value) = self.ad.get(from).cloned() {
            self.clear(from);
            self.set(to, value);
        }
    }

    /// The integer of an attribute, 0 if there is none.
    pub(super) fn int(&self, name: &str) -> i64 {
        self.ad.int(name).unwrap_or(0)
    }

    /// The number of an attribute, 0 if there is none.
    pub(super) fn real(&self, name: &str) -> f64 {
        self.ad.real(name).unwrap_or(0.0)
    }

    /// Adds to a counter.
    pub(super) fn add(&mut self, name: &str, by: i64) {
        let value = self.int(name).saturating_add(by);
        self.set(name, value);
    }

    /// Adds to a real number.
    pub(super) fn add_real(&mut self, name: &str, by: f64) {
        let value = self.real(name) + by;
        self.set(name, value);
    }

    /// The job's status; idle if the ad does not say.
    pub(super) fn status(&self) -> Status {
        status_of(&self.ad)
    }

    /// Changes the status and what says since when.
    pub(super) fn enter(&mut self, status: Status, now: i64) {
        let before = self.status();
        if before != status {
            self.set("LastJobStatus", before.number());
        }
        self.set("JobStatus", status.number());
        self.set("EnteredCurrentStatus", now);
        self.set("LastSuspensionTime", 0);
    }

    /// Evaluates an attribute in the ad as it is by now.
    pub(super) fn eval(&self, name: &str, now: i64) -> Value {
        EvalContext::new().my(&self.ad).now(now).eval_attr(name)
    }

    /// What to do to the attributes of the job itself: set these, take those away.
    pub(super) fn into_changes(self) -> Changes {
        Changes {
            whole: self.ad,
            set: self.set,
            cleared: self.cleared,
        }
    }
}

/// A change that is done.
#[derive(Debug, Clone)]
pub(super) struct Changes {
    /// The whole ad after the change.
    pub(super) whole: ClassAd,
    set: ClassAd,
    cleared: Vec<AttrName>,
}

impl Changes {
    /// Applies the change to the job's own attributes, which lie over those of its cluster.
    pub(super) fn apply(&self, own: &mut ClassAd, cluster: &ClassAd) {
        own.update(&self.set);
        for name in &self.cleared {
            own.remove(name.as_str());
            if cluster.contains(name.as_str()) {
                // An attribute of the cluster can only be covered.
                own.insert(name, Value::Undefined);
            }
        }
    }
}

/// `JobStatus` of an ad; idle if there is none.
pub(super) fn status_of(ad: &ClassAd) -> Status {
    ad.int("JobStatus")
        .and_then(Status::from_number)
        .unwrap_or(Status::Idle)
}
