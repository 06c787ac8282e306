//! Free slots that no job can tell apart.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use classad::{ClassAd, assignment_old};

use super::cycle::CycleInput;
use super::weight::{Part, is_partitionable, slot_weight};
use crate::collector::Slot;

/// What is always significant in a slot's ad: its policy and what it has to give.
const SLOT_NAMES: [&str; 7] = [
    "Requirements",
    "SlotWeight",
    "Cpus",
    "Memory",
    "Disk",
    "MachineResources",
    "PartitionableSlot",
];

/// What is always significant in a job's ad.
const JOB_NAMES: [&str; 6] = [
    "Requirements",
    "Rank",
    "RequestCpus",
    "RequestMemory",
    "RequestDisk",
    "RequestGPUs",
];

/// The free slots in groups.
#[derive(Debug)]
pub(super) struct Groups {
    /// Attributes of a slot that matter in this cycle, by name.
    significant: BTreeSet<String>,
    groups: Vec<Group>,
    by_signature: HashMap<String, usize>,
    free: usize,
}

#[derive(Debug)]
struct Group {
    /// The ad of one of them, or of one that was.
    ad: Arc<ClassAd>,
    /// The best is the last.
    members: Vec<Slot>,
}

impl Groups {
    /// Groups the free slots of a cycle.
    pub(super) fn of(input: &CycleInput) -> Self {
        let mut significant: BTreeSet<String> = SLOT_NAMES
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect();
        let mut add = |name: &str| significant.insert(name.to_ascii_lowercase());
        let job_names = input.ranks.job_names();
        let names: Vec<&str> = JOB_NAMES
            .into_iter()
            .chain(job_names.iter().map(String::as_str))
            .collect();
        for request in input
            .submitters
            .iter()
            .flat_map(|submitter| &submitter.requests)
        {
            for name in request.ad.reference_closure(&names).target {
                add(name.as_str());
            }
        }
        for name in input.ranks.names() {
            add(&name);
        }
        let mut groups = Self {
            significant,
            groups: Vec::new(),
            by_signature: HashMap::new(),
            free: 0,
        };
        // Members are taken from the end: the lowest slot number goes first.
        for slot in input.slots.iter().rev().filter(|slot| is_free(slot)) {
            groups.free += 1;
            groups.put(slot.clone());
        }
        groups
    }

    /// Number of free slots at the beginning.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// Number of groups, empty ones included.
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// The ad of a group that has slots left.
    pub(super) fn open(&self, number: usize) -> Option<&ClassAd> {
        let group = self.groups.get(number)?;
        (!group.members.is_empty()).then_some(&*group.ad)
    }

    /// Takes a slot, or the part of one that the job needs; the rest of it stays. With its weight.
    pub(super) fn take(&mut self, number: usize, job: &ClassAd, now: i64) -> Option<(Slot, f64)> {
        let group = self.groups.get_mut(number)?;
        let slot = group.members.last()?;
        if !is_partitionable(&slot.ad) {
            let weight = slot_weight(&slot.ad, now);
            return group.members.pop().map(|slot| (slot, weight));
        }
        let part = Part::of(&slot.ad, job, now)?;
        let slot = group.members.pop()?;
        let weight = part.weight(&slot.ad, now);
        let mut rest = slot.clone();
        part.take_from(Arc::make_mut(&mut rest.ad));
        if rest.ad.int("Cpus").unwrap_or(0) > 0 {
            self.put(rest);
        }
        Some((slot, weight))
    }

    fn put(&mut self, slot: Slot) {
        let signature = self.signature(&slot.ad);
        if let Some(group) = self
            .by_signature
            .get(&signature)
            .and_then(|number| self.groups.get_mut(*number))
        {
            group.members.push(slot);
            return;
        }
        self.by_signature.insert(signature, self.groups.len());
        self.groups.push(Group {
            ad: Arc::clone(&slot.ad),
            members: vec![slot],
        });
    }

    /// The significant part of an ad as text: slots with the same are the same to every job of the cycle. Names that
    /// `eval()` makes up are not seen; slots that differ in nothing else would be taken for equal.
    fn signature(&self, ad: &ClassAd) -> String {
        let custom = ad.string("MachineResources").unwrap_or_default();
        let names: Vec<&str> = self
            .significant
            .iter()
            .map(String::as_str)
            .chain(custom.split([' ', ',']).filter(|name| !name.is_empty()))
            .collect();
        let mut lines: Vec<String> = ad
            .reference_closure(&names)
            .my
            .iter()
            .filter_map(|name| {
                let mut line = assignment_old(name, ad.get(name.as_str())?);
                let length = name.as_str().len();
                if let Some(name) = line.get_mut(..length) {
                    name.make_ascii_lowercase();
                }
                Some(line)
            })
            .collect();
        lines.sort_unstable();
        let mut text = String::new();
        for line in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// The attributes of jobs that the slots' policies refer to, each once.
pub(super) fn asked_of_jobs(slots: &[Slot]) -> Vec<String> {
    let mut names = BTreeSet::new();
    for slot in slots {
        let found = slot
            .ad
            .reference_closure(&["Requirements", "Rank", "SlotWeight"]);
        for name in found.target {
            let name = name.as_str().to_ascii_lowercase();
            names.insert(name);
        }
    }
    names.into_iter().collect()
}

/// Whether a slot may be given away: nobody has it, and it can be claimed.
pub(super) fn is_free(slot: &Slot) -> bool {
    slot.claim.is_some()
        && slot.ad.bool("Offline") != Some(true)
        && slot
            .ad
            .string("State")
            .is_none_or(|state| state.eq_ignore_ascii_case("Unclaimed"))
}
