//! What a slot weighs, and what a job takes from a partitionable one.

use classad::{ClassAd, EvalContext, Value};

/// Memory is given out in steps of this many MiB, disk in steps of this many KiB
/// (`MODIFY_REQUEST_EXPR_REQUESTMEMORY` and `..._REQUESTDISK` of HTCondor's startd).
const MEMORY_STEP: i64 = 128;
const DISK_STEP: i64 = 1024;

/// Resources with a name of their own; the rest is in `MachineResources`.
const STANDARD: [&str; 3] = ["Cpus", "Memory", "Disk"];

/// Weight of a slot: its `SlotWeight`, else its cores; at least a little, so that no slot is free.
pub(super) fn slot_weight(ad: &ClassAd, now: i64) -> f64 {
    let context = EvalContext::new().my(ad).now(now);
    let weight = context.eval_attr("SlotWeight").as_real();
    weight
        .or_else(|| ad.real("Cpus"))
        .filter(|weight| weight.is_finite())
        .unwrap_or(1.0)
        .max(0.001)
}

/// Whether parts of the slot can be claimed.
pub(super) fn is_partitionable(ad: &ClassAd) -> bool {
    ad.bool("PartitionableSlot") == Some(true)
}

/// What a job would take of a partitionable slot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// Name of the resource and amount.
    amounts: Vec<(String, i64)>,
}

impl Part {
    /// Computes it; `None` if the slot has too little left.
    pub(super) fn of(slot: &ClassAd, job: &ClassAd, now: i64) -> Option<Self> {
        let context = EvalContext::new().my(job).target(slot).now(now);
        let request = |name: &str| match context.eval_attr(&format!("Request{name}")) {
            Value::Integer(amount) => Some(amount),
            Value::Real(amount) => Some(ceiling(amount)),
            _ => None,
        };
        let mut amounts = Vec::new();
        let custom = slot.string("MachineResources").unwrap_or_default();
        let custom = custom
            .split([' ', ','])
            .filter(|name| !name.is_empty() && *name != "Swap")
            .filter(|name| {
                !STANDARD
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(name))
            });
        for name in STANDARD.into_iter().chain(custom) {
            let amount = request(name).unwrap_or(if name == "Cpus" { 1 } else { 0 });
            let amount = match name {
                "Memory" => round_up(amount, MEMORY_STEP),
                "Disk" => round_up(amount, DISK_STEP),
                _ => amount,
            }
            .max(0);
            let left = slot.int(name).unwrap_or(0);
            // The startd rounds up only as far as there is something left.
            let amount = if amount > left && request(name).is_none_or(|asked| asked <= left) {
                left
            } else {
                amount
            };
            if amount > left || (name == "Cpus" && left < 1) {
                return None;
            }
            amounts.push((name.to_owned(), amount));
        }
        Some(Self { amounts })
    }

    /// Takes it out of the slot's ad.
    pub(super) fn take_from(&self, slot: &mut ClassAd) {
        for (name, amount) in &self.amounts {
            if let Some(left) = slot.int(name) {
                slot.insert(name.as_str(), left - amount);
            }
        }
    }

    /// Weight of the part, by the slot's own rule.
    pub(super) fn weight(&self, slot: &ClassAd, now: i64) -> f64 {
        let mut part = slot.clone();
        for (name, amount) in &self.amounts {
            part.insert(name.as_str(), *amount);
        }
        slot_weight(&part, now)
    }
}

fn round_up(amount: i64, step: i64) -> i64 {
    match amount.checked_add(step - 1) {
        Some(sum) if amount > 0 => sum / step * step,
        _ => amount,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "saturates, and no slot has that much"
)]
fn ceiling(amount: f64) -> i64 {
    amount.ceil() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ad(text: &str) -> ClassAd {
        ClassAd::parse_old(text).unwrap()
    }

    #[test]
    fn a_part_is_rounded_as_the_startd_rounds_it() {
        let mut slot = ad(
            "PartitionableSlot = true\nCpus = 4\nMemory = 300\nDisk = 5000\nGPUs = 1\nMachineResources = \"Cpus Memory Disk Swap GPUs\"\nSlotWeight = Cpus * 2",
        );
        let job = ad("RequestCpus = 2\nRequestMemory = 100\nRequestDisk = 1000\nRequestGPUs = 1");
        let part = Part::of(&slot, &job, 0).unwrap();
        assert!((part.weight(&slot, 0) - 4.0).abs() < 1e-9);
        part.take_from(&mut slot);
        let left =
            |slot: &ClassAd| ["Cpus", "Memory", "Disk", "GPUs"].map(|name| slot.int(name).unwrap());
        assert_eq!(left(&slot), [2, 172, 3976, 0]);
        assert_eq!(Part::of(&slot, &job, 0), None, "no GPU is left");
        // 150 MiB would be 256, which is more than there is, but 150 is not
        let job = ad("RequestMemory = 150");
        let part = Part::of(&slot, &job, 0).unwrap();
        part.take_from(&mut slot);
        assert_eq!(left(&slot), [1, 0, 3976, 0]);
        assert_eq!(Part::of(&slot, &ad("RequestMemory = 1"), 0), None);
        assert_eq!(Part::of(&slot, &ad("RequestCpus = 2"), 0), None);
    }
}
