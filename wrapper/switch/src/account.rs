//! The account a payload runs as. A [`TargetAccount`] exists only if it passed requirement M3.

use std::ops::Deref;

use launch_protocol::is_pool_name;
use launch_protocol::monitor::{Account, BROKER_UIDS, FIRST_BROKER_UID};
use launch_protocol::policy::{Caller, Entry, Settings};

/// User and group number of "nobody", as which the helpers without privilege run.
pub(crate) const NOBODY: u32 = 65_534;

/// An account that may be switched to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetAccount(Account);

impl Deref for TargetAccount {
    type Target = Account;

    fn deref(&self) -> &Account {
        &self.0
    }
}

/// What an account is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) caller: &'a Caller,
    /// Groups in place of the account's own, if any were mapped.
    pub(crate) groups: Option<&'a MappedGroups>,
}

/// Numbers of mapped groups: primary and secondary ones.
pub(crate) type MappedGroups = (Option<u32>, Vec<u32>);

/// Why an account may not be switched to.
pub(crate) type Unfit = &'static str;

const ROOT: Unfit = "it has root's number or an impossible one";
const NOBODYS: Unfit = "nobody is the verifier's account";
const BROKER: Unfit = "brokers have such numbers";
const CALLER: Unfit = "it is, or may be, the account of a pilot";
const CALLER_GROUP: Unfit = "it is in a group whose members may be pilots";
const OUT_OF_RANGE: Unfit = "its uid is outside target_uid_min to target_uid_max";
const DYNAMIC: Unfit = "its uid lies in dynamic_uids";
const ROOT_GROUP: Unfit = "it is a member of group 0";
const FORBIDDEN: Unfit = "the configuration forbids it";
const PREFIX: Unfit = "its name has none of the prefixes that the configuration allows";

impl TargetAccount {
    /// An account of the name service.
    pub(crate) fn named(entry: &Entry, rules: Rules<'_>) -> Result<Self, Unfit> {
        let Entry::Account { name, uid, gid, groups, home, shell } = entry.clone() else {
            return Err(ROOT);
        };
        let Settings { caller_names, caller_prefixes, targets, .. } = rules.settings;
        let listed = |prefix: &String| is_pool_name(&name, prefix);
        if caller_names.contains(&name) || caller_prefixes.iter().any(listed) {
            return Err(CALLER);
        }
        if is_dynamic(uid, rules.settings) {
            return Err(DYNAMIC);
        }
        if targets.forbidden.contains(&name) {
            return Err(FORBIDDEN);
        }
        let allowed = |prefix: &String| name.starts_with(prefix.as_str());
        if !targets.prefixes.is_empty() && !targets.prefixes.iter().any(allowed) {
            return Err(PREFIX);
        }
        Self::admit(Account { name, uid, gid, groups, home, shell, dynamic: false }, rules)
    }

    /// A dynamic account: a number, no entry anywhere, no groups but mapped ones.
    pub(crate) fn dynamic(uid: u32, rules: Rules<'_>) -> Result<Self, Unfit> {
        if !is_dynamic(uid, rules.settings) {
            return Err(OUT_OF_RANGE);
        }
        let name = format!("uid{uid}");
        Self::admit(Account { name, uid, gid: uid, dynamic: true, ..Account::default() }, rules)
    }

    /// The account of a payload whose monitor is gone: root has written its numbers down after the check.
    pub fn recorded(account: Account) -> Self {
        Self(account)
    }

    fn admit(mut account: Account, rules: Rules<'_>) -> Result<Self, Unfit> {
        if let Some((primary, secondary)) = rules.groups {
            account.gid = primary.unwrap_or(account.gid);
            account.groups.clone_from(secondary);
        }
        let uid = account.uid;
        let (caller, targets) = (rules.caller, &rules.settings.targets);
        let groups = || account.groups.iter().chain([&account.gid]).copied();
        if [0, u32::MAX].contains(&uid) || groups().any(|gid| gid == u32::MAX) {
            return Err(ROOT);
        }
        if uid == NOBODY || account.gid == NOBODY {
            return Err(NOBODYS);
        }
        if groups().chain([uid]).any(is_brokers) {
            return Err(BROKER);
        }
        if uid == caller.uid || caller.listed_users.iter().any(|(_, listed)| *listed == uid) {
            return Err(CALLER);
        }
        let listed = |gid: u32| caller.listed_groups.iter().any(|(_, listed)| *listed == gid);
        if groups().any(listed) {
            return Err(CALLER_GROUP);
        }
        if !(targets.uid_min..=targets.uid_max).contains(&uid) {
            return Err(OUT_OF_RANGE);
        }
        if groups().any(|gid| gid == 0) {
            return Err(ROOT_GROUP);
        }
        Ok(Self(account))
    }
}

/// A number under which a broker may run.
pub(crate) fn is_brokers(number: u32) -> bool {
    (FIRST_BROKER_UID..FIRST_BROKER_UID + BROKER_UIDS).contains(&number)
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
            verifier: VerifierSettings { words: Vec::new(), directories: Vec::new(), files: Vec::new() },
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
            ("toor", 0, 1000, &[][..], ROOT),
            ("wrap", u32::MAX, 1000, &[], ROOT),
            ("x", 3000, u32::MAX, &[], ROOT),
            ("daemon", 2, 2, &[], OUT_OF_RANGE),
            ("big", 70_001, 1000, &[], OUT_OF_RANGE),
            ("nobody", 65_534, 1000, &[], NOBODYS),
            ("x", 2000, 1000, &[], CALLER),
            ("x", 2001, 1000, &[], CALLER),
            ("pilot", 3000, 1000, &[], CALLER),
            ("glide3", 3000, 1000, &[], CALLER),
            ("x", 3000, 2100, &[], CALLER_GROUP),
            ("x", 3000, 1000, &[2100], CALLER_GROUP),
            ("x", 60_003, 1000, &[], DYNAMIC),
            ("x", 3000, 0, &[], ROOT_GROUP),
            ("x", 3000, 1000, &[5, 0], ROOT_GROUP),
            ("operator", 3000, 1000, &[], FORBIDDEN),
        ] {
            assert_eq!(judge(&entry(name, uid, gid, groups), None), Err(why), "{name}");
        }
        // Mapped groups are judged like the account's own.
        let mapped = (Some(0), Vec::new());
        let good = entry("alice", 3000, 100, &[100]);
        assert_eq!(judge(&good, Some(&mapped)), Err(ROOT_GROUP));
        assert_eq!(judge(&Entry::Group { gid: 5 }, None), Err(ROOT));
    }

    #[test]
    fn m3_only_names_with_an_allowed_prefix_if_there_are_any() {
        let (mut settings, caller) = (settings(), caller());
        settings.targets.prefixes = vec!["grid".into()];
        let rules = Rules { settings: &settings, caller: &caller, groups: None };
        let judge = |name| TargetAccount::named(&entry(name, 3000, 100, &[]), rules);
        assert!(judge("grid01").is_ok());
        assert_eq!(judge("alice"), Err(PREFIX));
    }

    #[test]
    fn m8_groups_are_the_accounts_own_or_the_mapped_ones() {
        let alice = entry("alice", 3000, 100, &[100, 2101]);
        let account = judge(&alice, None).expect("fit");
        assert_eq!((account.gid, &account.groups[..]), (100, &[100, 2101][..]));
        let mapped = (Some(300), vec![301]);
        let account = judge(&alice, Some(&mapped)).expect("fit");
        assert_eq!((account.gid, &account.groups[..]), (300, &[301][..]));
    }

    #[test]
    fn m3_a_dynamic_uid_outside_the_range_is_refused() {
        let (settings, caller) = (settings(), caller());
        let rules = Rules { settings: &settings, caller: &caller, groups: None };
        for uid in [0, 59_999, 60_010, u32::MAX] {
            assert_eq!(TargetAccount::dynamic(uid, rules), Err(OUT_OF_RANGE));
        }
        let account = TargetAccount::dynamic(60_004, rules).expect("fit");
        assert_eq!((account.uid, account.gid), (60_004, 60_004));
        assert!(account.dynamic && account.groups.is_empty());
    }
}
