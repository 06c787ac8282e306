//! Attribute names: compared without regard to ASCII case, printed as they were first spelled.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, OnceLock};

/// The name of an attribute.
///
/// Two names that differ only in ASCII case are the same name, as in HTCondor
/// (`htcondor:src/classad/classad/classad_containers.h`). The spelling is kept for printing. Cloning is cheap.
#[derive(Clone)]
pub struct AttrName {
    text: Arc<str>,
    hash: u32,
}

impl AttrName {
    /// The name as it was spelled.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Hash of the lower-cased name; equal names have equal hashes within one process.
    pub(crate) fn folded_hash(&self) -> u32 {
        self.hash
    }

    /// Whether the two spellings name the same attribute.
    pub(crate) fn matches(&self, other: &str) -> bool {
        self.text.eq_ignore_ascii_case(other)
    }
}

/// Hash of `text` with ASCII letters folded to lower case.
///
/// Names come from peers, so the start value is random per process: names that collide cannot be prepared beforehand.
pub(crate) fn folded_hash(text: &str) -> u32 {
    static SEED: OnceLock<u64> = OnceLock::new();
    let mut state = *SEED.get_or_init(|| RandomState::new().hash_one(0x5a11_u32));
    for byte in text.bytes() {
        state = (state ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state ^= state >> 29;
    }
    let folded = state ^ (state >> 32);
    u32::try_from(folded & 0xffff_ffff).unwrap_or(0)
}

impl From<&str> for AttrName {
    fn from(text: &str) -> Self {
        Self {
            hash: folded_hash(text),
            text: text.into(),
        }
    }
}

impl From<String> for AttrName {
    fn from(text: String) -> Self {
        Self {
            hash: folded_hash(&text),
            text: text.into(),
        }
    }
}

impl From<&String> for AttrName {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&Self> for AttrName {
    fn from(name: &Self) -> Self {
        name.clone()
    }
}

impl AsRef<str> for AttrName {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl PartialEq for AttrName {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.matches(&other.text)
    }
}

impl Eq for AttrName {}

impl PartialEq<str> for AttrName {
    fn eq(&self, other: &str) -> bool {
        self.matches(other)
    }
}

impl PartialEq<&str> for AttrName {
    fn eq(&self, other: &&str) -> bool {
        self.matches(other)
    }
}

impl Hash for AttrName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl Ord for AttrName {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = self.text.bytes().map(|b| b.to_ascii_lowercase());
        left.cmp(other.text.bytes().map(|b| b.to_ascii_lowercase()))
    }
}

impl PartialOrd for AttrName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for AttrName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for AttrName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_ignored_but_kept() {
        let name = AttrName::from("JobStatus");
        assert_eq!(name, AttrName::from("JOBSTATUS"));
        assert_eq!(name, "jobstatus");
        assert_eq!(name.to_string(), "JobStatus");
        let (a, b) = (AttrName::from("a"), AttrName::from("B"));
        assert!(a < b);
    }
}
