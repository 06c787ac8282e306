//! Autoclusters: jobs that no slot can tell apart.
//!
//! Two jobs are of the same autocluster if they agree in every significant attribute: what their own `Requirements` and
//! `Rank` refer to, what they request, who they belong to, and whatever the slots' expressions refer to. The set is found
//! once for each cluster, and a job that differs from its cluster in none of it costs no more than a look-up.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use classad::{ClassAd, Value};

/// Significant without anybody saying so (`htcondor:src/condor_schedd.V6/autocluster.cpp` and what startds commonly
/// refer to).
const ALWAYS: [&str; 18] = [
    "Requirements",
    "Rank",
    "Owner",
    "User",
    "AccountingGroup",
    "ConcurrencyLimits",
    "JobUniverse",
    "NiceUser",
    "RequestCpus",
    "RequestMemory",
    "RequestDisk",
    "RequestGPUs",
    "ImageSize",
    "DiskUsage",
    "WantContainer",
    "x509userproxysubject",
    "x509UserProxyVOName",
    "x509UserProxyFirstFQAN",
];

/// Attributes that make every job one of its own; a reference to them means something else.
const NEVER: [&str; 4] = ["ClusterId", "ProcId", "GlobalJobId", "CurrentTime"];

/// The table of autoclusters.
#[derive(Debug, Default)]
pub(super) struct Autoclusters {
    numbers: HashMap<String, u32>,
    /// Names the slots refer to, in lower case.
    extra: BTreeSet<String>,
}

/// What tells the jobs of one cluster apart.
#[derive(Debug, Clone, Default)]
pub(super) struct ClusterKey {
    /// Significant names, in lower case, sorted.
    names: Vec<String>,
    /// The number of jobs that differ in none of them.
    base: u32,
}

impl Autoclusters {
    /// Adds significant names; true if there was a new one.
    pub(super) fn extend(&mut self, names: &[String]) -> bool {
        let before = self.extra.len();
        let known = |name: &String| {
            ALWAYS.iter().any(|known| known.eq_ignore_ascii_case(name))
                || NEVER.iter().any(|known| known.eq_ignore_ascii_case(name))
        };
        self.extra.extend(
            names
                .iter()
                .filter(|name| !known(name))
                .map(|name| name.to_ascii_lowercase()),
        );
        self.extra.len() > before
    }

    /// The names and the number of a cluster.
    pub(super) fn cluster_key(&mut self, cluster: &ClassAd) -> ClusterKey {
        let names = self.names(cluster);
        let base = self.number(&names, cluster, &ClassAd::new());
        ClusterKey { names, base }
    }

    /// The number of a job.
    pub(super) fn of(&mut self, key: &ClusterKey, cluster: &ClassAd, own: &ClassAd) -> u32 {
        if !key.names.iter().any(|name| own.contains(name)) {
            return key.base;
        }
        let changed_rules = ["Requirements", "Rank"]
            .iter()
            .any(|name| own.contains(name));
        if !changed_rules {
            return self.number(&key.names, cluster, own);
        }
        let mut whole = cluster.clone();
        whole.update(own);
        let names = self.names(&whole);
        self.number(&names, cluster, own)
    }

    fn names(&self, ad: &ClassAd) -> Vec<String> {
        let closure = ad.reference_closure(&ALWAYS);
        let mut names: BTreeSet<String> = ALWAYS
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect();
        names.extend(self.extra.iter().cloned());
        // A name without scope that this cluster lacks may still be an attribute of one of its jobs.
        names.extend(
            closure
                .my
                .iter()
                .chain(&closure.target)
                .map(|name| name.as_str().to_ascii_lowercase()),
        );
        names.retain(|name| !NEVER.iter().any(|never| never.eq_ignore_ascii_case(name)));
        names.into_iter().collect()
    }

    fn number(&mut self, names: &[String], cluster: &ClassAd, own: &ClassAd) -> u32 {
        let mut text = String::new();
        for name in names {
            let Some(value) = own.get(name).or_else(|| cluster.get(name)) else {
                continue;
            };
            if !matches!(value.as_literal(), Some(Value::Undefined)) {
                let _ = writeln!(text, "{name}={}", value.to_new());
            }
        }
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX - 1) + 1;
        *self.numbers.entry(text).or_insert(next)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Forgets the numbers, not the names.
    pub(super) fn forget(&mut self) {
        self.numbers.clear();
    }

    /// The significant names of an ad, for `AutoClusterAttrs`.
    pub(super) fn attributes(&self, ad: &ClassAd) -> Vec<String> {
        self.names(ad)
    }
}

/// The names that a slot's expressions refer to in jobs.
pub fn significant_for(slot: &ClassAd) -> Vec<String> {
    let closure = slot.reference_closure(&[
        "Requirements",
        "Start",
        "Rank",
        "SlotWeight",
        "WithinResourceLimits",
    ]);
    let names = closure.target.iter();
    names.map(|name| name.as_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ad(text: &str) -> ClassAd {
        ClassAd::parse_old(text).unwrap()
    }

    #[test]
    fn only_what_matters_for_a_match_makes_a_difference() {
        let mut table = Autoclusters::default();
        let cluster = ad(
            "Requirements = TARGET.Memory >= RequestMemory && Site == 3\nRequestMemory = 100\nArgs = \"a\"",
        );
        let key = table.cluster_key(&cluster);
        let mut of = |own: &str| table.of(&key, &cluster, &ad(own));
        let plain = of("Args = \"b\"\nProcId = 1");
        assert_eq!(of("ProcId = 2\nIwd = \"/x\""), plain);
        assert_ne!(of("RequestMemory = 200"), plain);
        assert_eq!(of("requestmemory = 100"), plain);
        assert_ne!(of("Site = 3"), plain);
        assert_ne!(
            of("Requirements = Other > 1\nOther = 1"),
            of("Requirements = Other > 1\nOther = 2")
        );
    }

    #[test]
    fn what_slots_ask_about_becomes_significant() {
        let mut table = Autoclusters::default();
        let slot = ad(
            "Requirements = START && WithinResourceLimits\nSTART = TARGET.WantWhole =?= true && HasCvmfs\nHasCvmfs = true",
        );
        let names = significant_for(&slot);
        assert!(names.iter().any(|name| name == "WantWhole"));
        assert!(!names.iter().any(|name| name == "HasCvmfs"));
        let cluster = ad("Requirements = true");
        let key = table.cluster_key(&cluster);
        let (a, b) = (ad("WantWhole = true"), ad("WantWhole = false"));
        assert_eq!(table.of(&key, &cluster, &a), table.of(&key, &cluster, &b));
        assert!(table.extend(&names));
        assert!(!table.extend(&names));
        let key = table.cluster_key(&cluster);
        assert_ne!(table.of(&key, &cluster, &a), table.of(&key, &cluster, &b));
    }
}
