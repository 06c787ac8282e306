//! Entries for the fuzz targets: any bytes as a policy file, and the promises that must hold.

use launch_protocol::is_account_name;
use launch_protocol::monitor::Ask;
use launch_protocol::policy::{CredentialKind, Party, is_lease_name};

use crate::bans::Bans;
use crate::config::{Config, NOBODY};
use crate::dn::Name;
use crate::gridmap::{Finding, Gridmap};
use crate::hours::{Hours, Zone};
use crate::lease_name::lease_name;
use crate::mapper::{self, Mapped};
use crate::pattern::Pattern;
use crate::target::Target;
use crate::tokenmap::Tokenmap;
use crate::trace::History;
use crate::vomsmap::{self, Groupmap, Vomsmap};

/// The configuration.
///
/// # Panics
/// If an accepted file breaks a promise: that is what the fuzzer looks for.
pub fn fuzz_switch_conf(data: &[u8]) {
    let Ok(config) = Config::parse(data) else {
        return;
    };
    let settings = &config.settings;
    assert!(settings.targets.uid_min > 0);
    assert!(!config.is_dynamic(0) && !config.is_dynamic(NOBODY));
    assert_eq!(config.files.len(), settings.policy_files.len());
    assert!(!config.callers.is_empty() || !settings.caller_groups.is_empty());
    // What root would refuse to read must not come out of here.
    let told = Ask::Configured(Box::new(settings.clone()));
    if let Ok(packet) = told.encode() {
        assert_eq!(Ask::decode(&packet), Ok(told));
    }
}

/// The first byte chooses the kind of file, the rest is its text. The mapper's answer, windows and
/// audit lines count as files.
///
/// # Panics
/// If an accepted file breaks a promise: that is what the fuzzer looks for.
pub fn fuzz_policy_files(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else {
        return;
    };
    let lossy = String::from_utf8_lossy(text);
    match kind % 8 {
        0 => {
            if let Ok(map) = Gridmap::parse(text) {
                for who in ["/CN=x", "/DC=org/CN=a\\/b", "/CN=x/y=z"] {
                    if let Finding::Mapped(hit) = map.find(&Name::new(who), true) {
                        check(hit.target);
                    }
                }
                map.targets().for_each(|hit| check(hit.target));
            }
        }
        1 => {
            if let Ok(map) = Vomsmap::parse(text) {
                let fqans = ["/vo/Role=NULL".to_owned(), "/vo/g/Role=x".to_owned()];
                if let vomsmap::Finding::Mapped(hit) = map.find(&fqans) {
                    check(hit.target);
                }
            }
        }
        2 => {
            if let Ok(map) = Groupmap::parse(text)
                && let Some(groups) = map.groups(&["/vo".to_owned(), "/vo/g".to_owned()])
            {
                assert!(
                    groups
                        .primary
                        .iter()
                        .chain(&groups.secondary)
                        .all(|name| is_account_name(name))
                );
                let name = lease_name("/CN=x", Some(&groups));
                assert!(name.is_none_or(|name| is_lease_name(&name)));
            }
        }
        3 => {
            if let Ok(map) = Tokenmap::parse(text) {
                map.targets().for_each(|hit| check(hit.target));
                // A distinguished name is nobody here.
                assert_eq!(map.find("/CN=x", &[], true), None);
            }
        }
        4 => {
            if let Ok(bans) = Bans::parse(text) {
                let _ = bans.find(&Party {
                    kind: CredentialKind::Proxy,
                    identity: "/CN=x".to_owned(),
                    fqans: vec!["/vo".to_owned()],
                    issuers: vec!["/CN=CA".to_owned()],
                    limited: false,
                    not_after: 0,
                });
            }
        }
        5 => {
            if let Ok(Mapped::To(target, _)) = mapper::read_answer(text, "/m".as_ref()) {
                check(&target);
            }
        }
        6 => {
            if let Some(hours) = Hours::parse(&lossy, Zone::Named("UTC".to_owned())) {
                let _ = hours.admit(0);
            }
            if let Some(pattern) = Pattern::parse(&lossy) {
                let _ = pattern.matches("/CN=x/y=z");
            }
            let name = Name::new(&lossy);
            let _ = name.spellings();
            if let Some(name) = lease_name(&name.older_spelling(), None) {
                assert!(is_lease_name(&name));
            }
        }
        _ => History::default().read(text),
    }
}

fn check(target: &Target) {
    let (Target::Account(name) | Target::Pool(name)) = target;
    assert!(is_account_name(name));
}

#[cfg(test)]
mod tests {
    /// Every cut of some files of each kind; the fuzzer takes it from there.
    #[test]
    fn the_promises_hold_for_every_cut_of_a_file() {
        let files = [
            "\"/DC=org/CN=x\" a\n/CN=x .pool\n\"/CN=[a-z]*\" .p\n",
            "\"/vo/*\" .vo\n\"/vo*\" a\n",
            "\"/vo\" g\n\"/vo/g/*\" h\n",
            "\"https://i,s\" a\n\"https://i,/g*\" .p\n",
            "dn \"/CN=x*\"\nfqan \"/vo\"\nca \"/CN=CA\"\ntoken \"https://i,*\"\n",
            "{\"account\":\"a\",\"groups\":{\"primary\":\"g\",\"secondary\":[]}}",
            "Mon-Fri 20:00-06:00, Sat",
            "{\"time\":1,\"event\":\"open\",\"verdict\":\"accepted\",\"uid\":5}\n",
        ];
        for (kind, file) in files.iter().enumerate() {
            for cut in 0..=file.len() {
                let mut data = vec![u8::try_from(kind).expect("few")];
                data.extend_from_slice(&file.as_bytes()[..cut]);
                super::fuzz_policy_files(&data);
            }
        }
        let conf = "[switch]\nuser_white_list=a\ncertdir=/c\ndynamic_uids=60000-60009\n";
        for cut in 0..=conf.len() {
            super::fuzz_switch_conf(&conf.as_bytes()[..cut]);
        }
    }
}
