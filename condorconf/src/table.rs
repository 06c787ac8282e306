//! The table of knobs: case-insensitive names, raw values, origins.

use std::collections::BTreeMap;

use crate::origin::Origin;

/// One knob as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The name in the spelling of its first assignment.
    pub(crate) name: String,
    /// The value with references to other knobs unexpanded.
    pub(crate) raw: String,
    pub(crate) origin: Origin,
}

/// All knobs, and below them the defaults.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    entries: BTreeMap<String, Entry>,
    defaults: BTreeMap<String, Entry>,
}

/// Which prefixes are looked up before the bare name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    pub(crate) subsys: Option<String>,
    pub(crate) local_name: Option<String>,
}

impl Table {
    pub(crate) fn insert(&mut self, name: &str, raw: String, origin: Origin) {
        let entry = self.entries.entry(key(name)).or_insert_with(|| Entry {
            name: name.to_owned(),
            raw: String::new(),
            origin: Origin::Default,
        });
        entry.raw = raw;
        entry.origin = origin;
    }

    pub(crate) fn insert_default(&mut self, name: &str, raw: &str) {
        let entry = Entry {
            name: name.to_owned(),
            raw: raw.to_owned(),
            origin: Origin::Default,
        };
        self.defaults.insert(key(name), entry);
    }

    /// The entry of exactly this name, not a default.
    pub(crate) fn exact(&self, name: &str) -> Option<&Entry> {
        self.entries.get(&key(name))
    }

    /// The entry that counts for `name`: `LOCALNAME.name`, then `SUBSYS.name`, then `name`, each first as set and
    /// then as default (`htcondor:src/condor_utils/config.cpp`, `lookup_macro`).
    pub(crate) fn lookup(&self, name: &str, scope: &Scope) -> Option<&Entry> {
        let prefixes = [scope.local_name.as_deref(), scope.subsys.as_deref()];
        for prefix in prefixes.into_iter().flatten() {
            let full = key(&format!("{prefix}.{name}"));
            if let Some(entry) = self.entries.get(&full).or_else(|| self.defaults.get(&full)) {
                return Some(entry);
            }
        }
        let bare = key(name);
        self.entries.get(&bare).or_else(|| self.defaults.get(&bare))
    }

    /// All entries by name; a default only where nothing is set.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        let mut all: BTreeMap<&String, &Entry> = self.defaults.iter().collect();
        all.extend(self.entries.iter());
        all.into_values()
    }

    /// The entries that were set, by name.
    pub(crate) fn set_entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}
