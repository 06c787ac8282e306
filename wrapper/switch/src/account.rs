//! The account a payload runs as. A [`TargetAccount`] exists only if it passed requirement M3.

use std::fmt;

use crate::config::{CallerPattern, Config, NOBODY};
use crate::names::Entry;

/// An account that may be switched to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetAccount {
    name: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    dynamic: bool,
}

/// Who called: the pilot's account.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Real uid of whoever started the helper.
    pub(crate) uid: u32,
    /// Its name, if it has one.
    pub(crate) name: Option<String>,
    /// Uids of all accounts named in `user_white_list`.
    pub(crate) listed: Vec<u32>,
}

/// Why an account may not be switched to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    Root,
    Nobody,
    Caller,
    OutOfRange,
    Dynamic,
    RootGroup,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "it has root's number or an impossible one",
            Self::Nobody => "nobody is the verifier's account",
            Self::Caller => "it is, or may be, the account of a pilot",
            Self::OutOfRange => "its uid is outside target_uid_min to target_uid_max",
            Self::Dynamic => "its uid lies in dynamic_uids",
            Self::RootGroup => "it is a member of group 0",
        })
    }
}

impl TargetAccount {
    /// A named account out of the map file.
    pub(crate) fn mapped(entry: &Entry, config: &Config, caller: &Caller) -> Result<Self, Unfit> {
        let listed = config.callers.iter().any(|pattern| {
            !matches!(pattern, CallerPattern::Anyone) && pattern.matches(&entry.name)
        });
        if listed {
            return Err(Unfit::Caller);
        }
        if config.is_dynamic(entry.uid) {
            return Err(Unfit::Dynamic);
        }
        let account = Self {
            name: entry.name.clone(),
            uid: entry.uid,
            gid: entry.gid,
            groups: entry.groups.clone(),
            dynamic: false,
        };
        account.admit(config, caller)
    }

    /// A dynamic account: a number, no entry anywhere, no further groups.
    pub(crate) fn dynamic(uid: u32, config: &Config, caller: &Caller) -> Result<Self, Unfit> {
        if !config.is_dynamic(uid) {
            return Err(Unfit::OutOfRange);
        }
        let name = format!("uid{uid}");
        Self {
            name,
            uid,
            gid: uid,
            groups: Vec::new(),
            dynamic: true,
        }
        .admit(config, caller)
    }

    fn admit(self, config: &Config, caller: &Caller) -> Result<Self, Unfit> {
        if [0, u32::MAX].contains(&self.uid) || self.gid == u32::MAX {
            return Err(Unfit::Root);
        }
        if self.uid == NOBODY || self.gid == NOBODY {
            return Err(Unfit::Nobody);
        }
        if self.uid == caller.uid || caller.listed.contains(&self.uid) {
            return Err(Unfit::Caller);
        }
        if !(config.target_uid_min..=config.target_uid_max).contains(&self.uid) {
            return Err(Unfit::OutOfRange);
        }
        if self.gid == 0
            || self
                .groups
                .iter()
                .any(|group| [0, u32::MAX].contains(group))
        {
            return Err(Unfit::RootGroup);
        }
        Ok(self)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    pub(crate) fn gid(&self) -> u32 {
        self.gid
    }

    /// Supplementary groups.
    pub(crate) fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// Nobody else uses this uid: whatever runs under it is the payload's.
    pub(crate) fn is_dynamic(&self) -> bool {
        self.dynamic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = b"[switch]\nuser_white_list=pilot .glide\ncertdir=/c\nexecute_dirs=/x\n\
            target_uid_max=70000\ndynamic_uids=60000-60009\n";
        Config::parse(text).expect("good")
    }

    fn caller() -> Caller {
        Caller {
            uid: 2000,
            name: Some("pilot".into()),
            listed: vec![2000, 2001],
        }
    }

    fn entry(name: &str, uid: u32, gid: u32, groups: &[u32]) -> Entry {
        Entry {
            name: name.into(),
            uid,
            gid,
            groups: groups.to_vec(),
        }
    }

    #[test]
    fn m3_root_system_accounts_and_pilots_are_never_targets() {
        let judge = |e| TargetAccount::mapped(&e, &config(), &caller()).expect_err("unfit");
        assert_eq!(judge(entry("toor", 0, 1000, &[])), Unfit::Root);
        assert_eq!(judge(entry("wrap", u32::MAX, 1000, &[])), Unfit::Root);
        assert_eq!(judge(entry("daemon", 2, 2, &[])), Unfit::OutOfRange);
        assert_eq!(judge(entry("big", 70_001, 1000, &[])), Unfit::OutOfRange);
        assert_eq!(judge(entry("nobody", 65_534, 1000, &[])), Unfit::Nobody);
        assert_eq!(judge(entry("x", 2000, 1000, &[])), Unfit::Caller);
        assert_eq!(judge(entry("x", 2001, 1000, &[])), Unfit::Caller);
        assert_eq!(judge(entry("glide3", 3000, 1000, &[])), Unfit::Caller);
        assert_eq!(judge(entry("x", 60_003, 1000, &[])), Unfit::Dynamic);
        assert_eq!(judge(entry("x", 3000, 0, &[])), Unfit::RootGroup);
        assert_eq!(judge(entry("x", 3000, 1000, &[5, 0])), Unfit::RootGroup);
    }

    #[test]
    fn m8_a_fit_account_keeps_its_groups() {
        let account = TargetAccount::mapped(
            &entry("alice", 3000, 100, &[100, 2100]),
            &config(),
            &caller(),
        );
        assert_eq!(account.expect("fit").groups(), [100, 2100]);
        let account = TargetAccount::dynamic(60_004, &config(), &caller()).expect("fit");
        assert_eq!(
            (account.uid(), account.gid(), account.groups().len()),
            (60_004, 60_004, 0)
        );
        assert!(account.is_dynamic());
    }

    #[test]
    fn m3_a_dynamic_uid_outside_the_range_is_refused() {
        for uid in [0, 59_999, 60_010, u32::MAX] {
            assert_eq!(
                TargetAccount::dynamic(uid, &config(), &caller()),
                Err(Unfit::OutOfRange)
            );
        }
    }
}
