//! The account a payload runs as. A [`TargetAccount`] exists only if it passed requirement M3.

use std::fmt;
use std::path::{Path, PathBuf};

use launch_protocol::lease::Record;
use launch_protocol::monitor::{Account, BROKER_UIDS, FIRST_BROKER_UID};
use launch_protocol::policy::{Caller, Entry, Settings};

/// User and group number of "nobody", as which the helpers without privilege run.
pub(crate) const NOBODY: u32 = 65_534;

/// An account that may be switched to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetAccount {
    name: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    home: PathBuf,
    shell: PathBuf,
    dynamic: bool,
}

/// What an account is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) caller: &'a Caller,
    /// Groups in place of the account's own, if any were mapped.
    pub(crate) groups: Option<&'a MappedGroups>,
}

/// Numbers of mapped groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MappedGroups {
    pub(crate) primary: Option<u32>,
    pub(crate) secondary: Vec<u32>,
}

/// Why an account may not be switched to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    Root,
    Nobody,
    Broker,
    Caller,
    CallerGroup,
    OutOfRange,
    Dynamic,
    RootGroup,
    Forbidden,
    Prefix,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "it has root's number or an impossible one",
            Self::Nobody => "nobody is the verifier's account",
            Self::Broker => "brokers have such numbers",
            Self::Caller => "it is, or may be, the account of a pilot",
            Self::CallerGroup => "it is in a group whose members may be pilots",
            Self::OutOfRange => "its uid is outside target_uid_min to target_uid_max",
            Self::Dynamic => "its uid lies in dynamic_uids",
            Self::RootGroup => "it is a member of group 0",
            Self::Forbidden => "the configuration forbids it",
            Self::Prefix => "its name has none of the prefixes that the configuration allows",
        })
    }
}

impl TargetAccount {
    /// An account of the name service.
    pub(crate) fn named(entry: &Entry, rules: Rules<'_>) -> Result<Self, Unfit> {
        let Entry::Account { name, uid, gid, groups, home, shell } = entry else {
            return Err(Unfit::Root);
        };
        let Settings { caller_names, caller_prefixes, targets, .. } = rules.settings;
        let listed = caller_names.contains(name)
            || caller_prefixes.iter().any(|prefix| is_pool_name(name, prefix));
        if listed {
            return Err(Unfit::Caller);
        }
        if is_dynamic(*uid, rules.settings) {
            return Err(Unfit::Dynamic);
        }
        if targets.forbidden.contains(name) {
            return Err(Unfit::Forbidden);
        }
        let allowed = |prefix: &String| name.starts_with(prefix.as_str());
        if !targets.prefixes.is_empty() && !targets.prefixes.iter().any(allowed) {
            return Err(Unfit::Prefix);
        }
        let account = Self {
            name: name.clone(),
            uid: *uid,
            gid: *gid,
            groups: groups.clone(),
            home: home.clone(),
            shell: shell.clone(),
            dynamic: false,
        };
        account.admit(rules)
    }

    /// A dynamic account: a number, no entry anywhere, no groups but mapped ones.
    pub(crate) fn dynamic(uid: u32, rules: Rules<'_>) -> Result<Self, Unfit> {
        if !is_dynamic(uid, rules.settings) {
            return Err(Unfit::OutOfRange);
        }
        let account = Self {
            name: format!("uid{uid}"),
            uid,
            gid: uid,
            groups: Vec::new(),
            home: PathBuf::new(),
            shell: PathBuf::new(),
            dynamic: true,
        };
        account.admit(rules)
    }

    /// The account of a payload whose monitor is gone: root has written its numbers down after the check.
    pub(crate) fn recorded(record: &Record) -> Self {
        Self {
            name: format!("uid{}", record.uid),
            uid: record.uid,
            gid: record.gid,
            groups: Vec::new(),
            home: PathBuf::new(),
            shell: PathBuf::new(),
            dynamic: record.dynamic,
        }
    }

    fn admit(mut self, rules: Rules<'_>) -> Result<Self, Unfit> {
        if let Some(MappedGroups { primary, secondary }) = rules.groups {
            self.gid = primary.unwrap_or(self.gid);
            self.groups.clone_from(secondary);
        }
        let (caller, targets) = (rules.caller, &rules.settings.targets);
        let all = || self.groups.iter().chain([&self.gid]);
        if [0, u32::MAX].contains(&self.uid) || all().any(|gid| *gid == u32::MAX) {
            return Err(Unfit::Root);
        }
        if self.uid == NOBODY || self.gid == NOBODY {
            return Err(Unfit::Nobody);
        }
        if all().chain([&self.uid]).copied().any(is_brokers) {
            return Err(Unfit::Broker);
        }
        if self.uid == caller.uid || caller.listed_users.iter().any(|(_, uid)| *uid == self.uid) {
            return Err(Unfit::Caller);
        }
        let listed = |gid: &u32| caller.listed_groups.iter().any(|(_, listed)| listed == gid);
        if all().any(listed) {
            return Err(Unfit::CallerGroup);
        }
        if !(targets.uid_min..=targets.uid_max).contains(&self.uid) {
            return Err(Unfit::OutOfRange);
        }
        if all().any(|gid| *gid == 0) {
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

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Nobody else uses this uid: whatever runs under it is the payload's.
    pub(crate) fn is_dynamic(&self) -> bool {
        self.dynamic
    }

    /// As the broker is told.
    pub(crate) fn facts(&self) -> Account {
        Account {
            name: self.name.clone(),
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.clone(),
            home: self.home.clone(),
            shell: self.shell.clone(),
            dynamic: self.dynamic,
        }
    }
}

/// A number under which a broker may run.
pub(crate) fn is_brokers(number: u32) -> bool {
    (FIRST_BROKER_UID..FIRST_BROKER_UID + BROKER_UIDS).contains(&number)
}

/// A prefix and digits, as pool accounts are named.
pub(crate) fn is_pool_name(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn is_dynamic(uid: u32, settings: &Settings) -> bool {
    let range = settings.targets.dynamic_uids;
    range.is_some_and(|(first, last)| (first..=last).contains(&uid))
}

#[cfg(test)]
pub(crate) mod tests {
    use launch_protocol::policy::{AuditSettings, Isolation, LimitRules};
    use launch_protocol::policy::{Required, Targets, VerifierSettings};

    use super::*;

    /// A site with pilots `pilot` and `.glide`, uids to 70000, ten of them dynamic.
    pub(crate) fn settings() -> Settings {
        Settings {
            caller_names: vec!["pilot".into()],
            caller_prefixes: vec!["glide".into()],
            caller_groups: Vec::new(),
            targets: Targets {
                uid_min: 1000,
                uid_max: 70_000,
                prefixes: Vec::new(),
                forbidden: vec!["operator".into()],
                dynamic_uids: Some((60_000, 60_009)),
            },
            execute_dirs: vec!["/scratch".into()],
            libexec: None,
            rundir: "/run/sailplane".into(),
            gridmapdir: None,
            gridmapdir_min_idle: 0,
            policy_files: Vec::new(),
            verifier: VerifierSettings {
                words: Vec::new(),
                directories: Vec::new(),
                files: Vec::new(),
            },
            required: Required::User,
            audit: AuditSettings::default(),
            warm_time: 30,
            kill_grace: 10,
            orphan_grace: 0,
            kill_before_expiry: 60,
            limits: LimitRules::default(),
            isolation: Isolation::default(),
            prologue: None,
            epilogue: None,
            linger: true,
            preserve_env: Vec::new(),
            front: Vec::new(),
        }
    }

    fn caller() -> Caller {
        Caller {
            uid: 2000,
            name: Some("pilot".into()),
            listed_users: vec![("pilot".into(), 2000), ("other".into(), 2001)],
            listed_groups: vec![("pilots".into(), 2100)],
            ..Caller::default()
        }
    }

    fn entry(name: &str, uid: u32, gid: u32, groups: &[u32]) -> Entry {
        Entry::Account {
            name: name.into(),
            uid,
            gid,
            groups: groups.to_vec(),
            home: "/home/x".into(),
            shell: "/bin/sh".into(),
        }
    }

    fn judge(entry: &Entry, groups: Option<&MappedGroups>) -> Result<TargetAccount, Unfit> {
        let (settings, caller) = (settings(), caller());
        let rules = Rules { settings: &settings, caller: &caller, groups };
        TargetAccount::named(entry, rules)
    }

    #[test]
    fn m3_root_system_accounts_and_pilots_are_never_targets() {
        for (name, uid, gid, groups, why) in [
            ("toor", 0, 1000, &[][..], Unfit::Root),
            ("wrap", u32::MAX, 1000, &[], Unfit::Root),
            ("x", 3000, u32::MAX, &[], Unfit::Root),
            ("daemon", 2, 2, &[], Unfit::OutOfRange),
            ("big", 70_001, 1000, &[], Unfit::OutOfRange),
            ("nobody", 65_534, 1000, &[], Unfit::Nobody),
            ("x", 2000, 1000, &[], Unfit::Caller),
            ("x", 2001, 1000, &[], Unfit::Caller),
            ("pilot", 3000, 1000, &[], Unfit::Caller),
            ("glide3", 3000, 1000, &[], Unfit::Caller),
            ("x", 3000, 2100, &[], Unfit::CallerGroup),
            ("x", 3000, 1000, &[2100], Unfit::CallerGroup),
            ("x", 60_003, 1000, &[], Unfit::Dynamic),
            ("x", 3000, 0, &[], Unfit::RootGroup),
            ("x", 3000, 1000, &[5, 0], Unfit::RootGroup),
            ("operator", 3000, 1000, &[], Unfit::Forbidden),
        ] {
            assert_eq!(judge(&entry(name, uid, gid, groups), None), Err(why), "{name}");
        }
        // Mapped groups are judged like the account's own.
        let mapped = MappedGroups { primary: Some(0), secondary: Vec::new() };
        let good = entry("alice", 3000, 100, &[100]);
        assert_eq!(judge(&good, Some(&mapped)), Err(Unfit::RootGroup));
        assert_eq!(judge(&Entry::Group { gid: 5 }, None), Err(Unfit::Root));
    }

    #[test]
    fn m3_only_names_with_an_allowed_prefix_if_there_are_any() {
        let (mut settings, caller) = (settings(), caller());
        settings.targets.prefixes = vec!["grid".into()];
        let rules = Rules { settings: &settings, caller: &caller, groups: None };
        let judge = |name| TargetAccount::named(&entry(name, 3000, 100, &[]), rules);
        assert!(judge("grid01").is_ok());
        assert_eq!(judge("alice"), Err(Unfit::Prefix));
    }

    #[test]
    fn m8_groups_are_the_accounts_own_or_the_mapped_ones() {
        let alice = entry("alice", 3000, 100, &[100, 2101]);
        let account = judge(&alice, None).expect("fit");
        assert_eq!((account.gid(), account.groups()), (100, &[100, 2101][..]));
        let mapped = MappedGroups { primary: Some(300), secondary: vec![301] };
        let account = judge(&alice, Some(&mapped)).expect("fit");
        assert_eq!((account.gid(), account.groups()), (300, &[301][..]));
    }

    #[test]
    fn m3_a_dynamic_uid_outside_the_range_is_refused() {
        let (settings, caller) = (settings(), caller());
        let rules = Rules { settings: &settings, caller: &caller, groups: None };
        for uid in [0, 59_999, 60_010, u32::MAX] {
            assert_eq!(TargetAccount::dynamic(uid, rules), Err(Unfit::OutOfRange));
        }
        let account = TargetAccount::dynamic(60_004, rules).expect("fit");
        assert_eq!((account.uid(), account.gid()), (60_004, 60_004));
        assert!(account.is_dynamic() && account.groups().is_empty());
    }

    #[test]
    fn m4_pool_names_are_a_prefix_and_digits() {
        assert!(is_pool_name("atlas001", "atlas"));
        for other in ["atlas", "atlas1x", "atlasprd1", "cms1", ".atlas1"] {
            assert!(!is_pool_name(other, "atlas"), "{other}");
        }
    }
}
