//! What the processors can do, from `/proc/cpuinfo`.

use std::collections::HashSet;

/// Attributes of the processors that users match on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuFacts {
    /// `CpuFamily`.
    pub family: Option<i64>,
    /// `CpuModelNumber`.
    pub model: Option<i64>,
    /// `CpuCacheSize`, KiB.
    pub cache_kib: Option<i64>,
    flags: HashSet<String>,
}

/// Flags published as `has_<flag>`, present or not (`htcondor:src/condor_sysapi/processor_flags.cpp`).
const FLAGS: [&str; 8] = [
    "ssse3",
    "sse4_1",
    "sse4_2",
    "avx",
    "avx2",
    "avx512f",
    "avx512dq",
    "avx512_vnni",
];

/// What each level of the x86-64 psABI adds to the one before; a flag as the kernel spells it.
const LEVELS: [(&str, &[&str]); 3] = [
    (
        "x86_64-v2",
        &[
            "cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3",
        ],
    ),
    (
        "x86_64-v3",
        &[
            "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave",
        ],
    ),
    (
        "x86_64-v4",
        &["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"],
    ),
];

impl CpuFacts {
    /// Reads the text of `/proc/cpuinfo`; the first processor speaks for all.
    #[must_use]
    pub fn parse(cpuinfo: &str) -> Self {
        let mut facts = Self::default();
        for line in cpuinfo.lines().take_while(|line| !line.trim().is_empty()) {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            let number = value
                .split_whitespace()
                .next()
                .and_then(|word| word.parse().ok());
            match name.trim() {
                "cpu family" => facts.family = number,
                "model" => facts.model = number,
                "cache size" => facts.cache_kib = number,
                "flags" => facts.flags = value.split_whitespace().map(str::to_owned).collect(),
                _ => {}
            }
        }
        facts
    }

    /// `Microarch`: the highest psABI level of which all features are there. `None` off x86-64.
    #[must_use]
    pub fn microarch(&self, machine: &str) -> Option<&'static str> {
        if machine != "x86_64" {
            return None;
        }
        let complete = LEVELS
            .iter()
            .take_while(|(_, needs)| needs.iter().all(|flag| self.flags.contains(*flag)));
        Some(complete.last().map_or("x86_64-v1", |(name, _)| name))
    }

    /// The attributes `has_<flag>` with their values; none off x86.
    pub fn features(&self) -> impl Iterator<Item = (String, bool)> {
        let known = !self.flags.is_empty();
        FLAGS
            .iter()
            .filter(move |_| known)
            .map(|flag| (format!("has_{flag}"), self.flags.contains(*flag)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V3: &str = "processor : 0\ncpu family\t: 6\nmodel\t\t: 167\nmodel name : Some CPU\ncache size\t: 16384 KB\n\
        flags\t\t: lahf_lm cx16 popcnt pni sse4_1 sse4_2 ssse3 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave\n\n\
        processor : 1\nmodel : 999\n";

    #[test]
    fn the_first_processor_is_read() {
        let facts = CpuFacts::parse(V3);
        assert_eq!(
            (facts.family, facts.model, facts.cache_kib),
            (Some(6), Some(167), Some(16384))
        );
        assert_eq!(facts.microarch("x86_64"), Some("x86_64-v3"));
        assert!(
            facts
                .features()
                .any(|feature| feature == ("has_avx2".to_owned(), true))
        );
        assert!(
            facts
                .features()
                .any(|feature| feature == ("has_avx512f".to_owned(), false))
        );
    }

    #[test]
    fn other_architectures_claim_nothing() {
        let facts = CpuFacts::parse("processor : 0\nFeatures : fp asimd\n");
        assert_eq!(facts.microarch("aarch64"), None);
        assert_eq!(facts.features().count(), 0);
    }
}
