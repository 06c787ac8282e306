use std::fs;
use std::path::{Path, PathBuf};

use launch_protocol::policy::{CredentialKind, Groups, Party, Purpose};

use super::*;

/// A site: its files, read as if root had opened them.
struct Site {
    folder: tempfile::TempDir,
    judge: Judge,
    settings: Settings,
}

const NOW: i64 = 1_795_392_000;

fn open(path: &Path) -> OwnedFd {
    File::open(path).expect("there").into()
}

impl Site {
    fn new(lines: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("written");
        }
        let text = format!("[switch]\nuser_white_list=pilot\ncertdir=/c\n{lines}\n");
        let text = text.replace("@/", &format!("{}/", folder.path().display()));
        fs::write(folder.path().join("switch.conf"), text).expect("written");
        let mut judge = Judge::default();
        let config = File::open(folder.path().join("switch.conf")).expect("there");
        let settings = judge.read(&config).expect("good");
        Self {
            folder,
            judge,
            settings,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn load(&mut self) -> Result<Option<Files>, Refusal> {
        let config = File::open(self.path("switch.conf")).expect("there");
        let files = self.settings.policy_files.iter().map(|path| open(path));
        self.judge.load(&config, files.collect())
    }

    fn decide(&mut self, case: Case) -> Result<Decision, Refusal> {
        match self.load()?.expect("the same").decide(&case)? {
            Verdict::Decided(decision) => Ok(decision),
            Verdict::Mapper(ask) => ask(),
        }
    }

    fn code(&mut self, case: Case) -> String {
        self.decide(case).expect_err("refused").code
    }

    fn account(&mut self, case: Case) -> String {
        match self.decide(case).expect("decided") {
            Decision::Account { name, .. } => name,
            Decision::Pool { prefix, .. } => format!(".{prefix}"),
            Decision::Dynamic { .. } => "dynamic".to_owned(),
        }
    }
}

fn somebody(identity: &str, fqans: &[&str]) -> Party {
    let is_token = identity.starts_with("https:");
    Party {
        kind: if is_token {
            CredentialKind::Token
        } else {
            CredentialKind::Proxy
        },
        identity: identity.into(),
        fqans: fqans.iter().map(|fqan| (*fqan).to_owned()).collect(),
        issuers: vec!["/CN=CA".into()],
        limited: false,
        not_after: NOW + 3600,
    }
}

fn case(identity: &str, fqans: &[&str]) -> Case {
    Case {
        purpose: Purpose::Run,
        holder: somebody(identity, fqans),
        pilot: None,
        caller_uid: 2000,
        caller_name: Some("pilot".into()),
        slot_account: None,
        now_unix: NOW,
    }
}

const EVERYTHING: &str = "\
ban_lists=@/bans\ngridmap=@/gridmap\nvomsmap=@/vomsmap\ngroupmapfile=@/groups\ntokenmap=@/tokens
vomsdir=/v
token_issuers=https://a.example=/j\ntoken_audience=x\ngridmapdir=@/pool\nslot_accounts=.slot
dynamic_uids=300000-300009\nmapping=vomsmap gridmap tokenmap slot dynamic\ngridmap_patterns=yes";

fn everything() -> Site {
    Site::new(
        EVERYTHING,
        &[
            ("bans", "dn \"/CN=Eve\"\nfqan \"/bad/*\"\n"),
            ("gridmap", "\"/CN=Alice\" alice\n\"/DC=net/*\" .net\n"),
            (
                "vomsmap",
                "\"/atlas/Role=production\" atlasprd\n\"/atlas/*\" .atlas\n\"/vo*\" eve\n",
            ),
            (
                "groups",
                "\"/atlas/Role=production\" prod\n\"/atlas\" atlas\n",
            ),
            ("tokens", "\"https://a.example,alice\" talice\n"),
        ],
    )
}

#[test]
fn m1_the_order_of_the_maps_is_the_configured_one() {
    let mut site = everything();
    for (identity, fqans, wanted) in [
        ("/CN=Alice", &[][..], "alice"),
        ("/CN=Alice", &["/atlas/Role=production"], "atlasprd"),
        ("/CN=Bob", &["/atlas"], ".atlas"),
        ("/DC=net/CN=x", &["/cms"], ".net"),
        ("/CN=Bob", &["/cms"], "dynamic"),
        ("https://a.example,alice", &[], "talice"),
        ("https://a.example,bob", &[], "dynamic"),
    ] {
        assert_eq!(
            site.account(case(identity, fqans)),
            wanted,
            "{identity} {fqans:?}"
        );
    }
    let mut slot = case("/CN=Bob", &[]);
    slot.slot_account = Some("slot3".into());
    assert_eq!(site.account(slot.clone()), "slot3");
    slot.slot_account = Some("root".into());
    assert_eq!(site.code(slot), "slot.not_allowed");
}

#[test]
fn m1_a_ban_comes_before_every_map() {
    let mut site = everything();
    assert_eq!(
        site.code(case("/CN=Eve", &["/atlas/Role=production"])),
        "ban.dn"
    );
    assert_eq!(
        site.code(case("/CN=Alice", &["/atlas", "/bad/x"])),
        "ban.fqan"
    );
    let mut renewal = case("/CN=Eve", &[]);
    renewal.purpose = Purpose::Renew;
    assert_eq!(site.code(renewal), "ban.dn");
    let mut led = case("/CN=Alice", &[]);
    led.pilot = Some(somebody("/CN=Eve", &[]));
    assert_eq!(site.code(led), "ban.dn");
}

#[test]
fn m1_a_ban_counts_from_the_next_launch_on() {
    let mut site = everything();
    for round in 0..20 {
        fs::write(site.path("bans"), "# nobody\n").expect("written");
        assert_eq!(site.account(case("/CN=Alice", &[])), "alice", "{round}");
        // As many bytes as before, within the same tick of the clock.
        fs::write(site.path("bans"), "/CN=Alice").expect("written");
        assert_eq!(site.code(case("/CN=Alice", &[])), "ban.dn", "{round}");
    }
}

#[test]
fn m1_a_file_that_is_not_understood_stops_everything() {
    for name in ["bans", "gridmap", "vomsmap", "groups", "tokens"] {
        let mut site = everything();
        fs::write(site.path(name), "\"broken\n").expect("written");
        let refusal = site.decide(case("/CN=Alice", &[])).expect_err("refused");
        assert_eq!(refusal.code, "policy.syntax");
        assert!(
            refusal.message.contains(&format!("/{name}:1: ")),
            "{}",
            refusal.message
        );
        assert!(refusal.class == launch_protocol::broker::RefusalClass::SitePermanent);
    }
}

#[test]
fn a_changed_configuration_is_read_again() {
    let mut site = everything();
    let text = fs::read_to_string(site.path("switch.conf")).expect("text");
    fs::write(site.path("switch.conf"), &text).expect("written");
    assert_eq!(site.account(case("/CN=Alice", &[])), "alice");
    fs::write(site.path("switch.conf"), text + "#\n").expect("written");
    assert!(site.load().expect("readable").is_none());
}

#[test]
fn files_of_another_configuration_are_of_no_use() {
    let mut site = everything();
    let config = File::open(site.path("switch.conf")).expect("there");
    assert!(
        site.judge
            .load(&config, vec![])
            .expect("readable")
            .is_none()
    );
    let mut fresh = Judge::default();
    assert!(fresh.load(&config, vec![]).expect("readable").is_none());
}

#[test]
fn m5_m8_a_lease_carries_the_names_of_the_groups() {
    let mut site = everything();
    let decision = site.decide(case("/CN=Bob\\/x", &["/atlas", "/atlas/Role=production"]));
    assert_eq!(
        decision,
        Ok(Decision::Pool {
            prefix: "atlas".into(),
            lease_name: "%2fcn%3dbob%2fx:atlas:prod".into(),
            exact: "/CN=Bob\\/x".into(),
            groups: Some(Groups {
                primary: Some("atlas".into()),
                secondary: vec!["prod".into()]
            }),
            source: format!("{}:2", site.path("vomsmap").display()),
        })
    );
    // By name alone the groups are the account's.
    let decision = site
        .decide(case("/DC=net/CN=x", &["/cms"]))
        .expect("decided");
    assert!(
        matches!(decision, Decision::Pool { groups: None, .. }),
        "{decision:?}"
    );
}

#[test]
fn m10_a_wildcard_in_the_name_of_the_vo_is_refused_with_a_warning() {
    let mut site = Site::new(
        "vomsmap=@/vomsmap\nvomsdir=/v",
        &[("vomsmap", "\"/vo*\" eve\n")],
    );
    let refusal = site
        .decide(case("/CN=A", &["/vouch"]))
        .expect_err("refused");
    assert_eq!(refusal.code, "map.none");
    assert!(
        refusal.message.contains("vomsmap:1 does not count"),
        "{}",
        refusal.message
    );
}

#[test]
fn g11_the_maps_count_when_a_caller_is_judged() {
    let mut site = Site::new(
        "gridmap=@/gridmap",
        &[("gridmap", "\"/CN=A\" alice\n\"/CN=P\" pilot\n")],
    );
    let caller = Caller {
        uid: 2000,
        name: Some("pilot".into()),
        listed_users: vec![("pilot".into(), 2000)],
        ..Caller::default()
    };
    let files = site.load().expect("readable").expect("the same");
    let refusal = files.admit(&caller).expect_err("refused");
    assert_eq!(refusal.code, "conf.listed_target");
    assert!(
        refusal.message.contains("/gridmap:2"),
        "{}",
        refusal.message
    );
    fs::write(site.path("gridmap"), "\"/CN=A\" alice\n").expect("written");
    let files = site.load().expect("readable").expect("the same");
    assert_eq!(files.admit(&caller), Ok(false));
}

#[test]
fn a_pilot_of_its_own_is_required_if_so_configured() {
    let mut site = Site::new(
        "gridmap=@/m\ncredential_required=pilot+user",
        &[("m", "/CN=A a\n")],
    );
    let mut case = case("/CN=A", &[]);
    assert_eq!(site.code(case.clone()), "pilot.missing");
    case.pilot = Some(somebody("/CN=Pilot", &[]));
    assert_eq!(site.account(case.clone()), "a");
    case.pilot.as_mut().expect("a pilot").not_after = NOW;
    assert_eq!(site.code(case), "pilot.expired");
}

#[test]
fn payloads_start_only_at_allowed_hours_and_are_renewed_at_any() {
    let lines = "gridmap=@/m\nallowed_hours=Tue 10:00-11:00\nallowed_hours_zone=UTC";
    let mut site = Site::new(lines, &[("m", "/CN=A a\n")]);
    let refusal = site.decide(case("/CN=A", &[])).expect_err("closed");
    assert!(refusal.code == "time.closed" && refusal.may_succeed_later);
    let mut renewal = case("/CN=A", &[]);
    renewal.purpose = Purpose::Renew;
    assert_eq!(site.account(renewal), "a");
    let mut tuesday = case("/CN=A", &[]);
    tuesday.now_unix += 34 * 3600 + 60;
    tuesday.holder.not_after = tuesday.now_unix + 60;
    assert_eq!(site.account(tuesday), "a");
}

#[test]
fn the_mapper_is_asked_in_its_turn() {
    use std::os::unix::fs::PermissionsExt as _;
    let script = "#!/bin/sh\nread q\ncase \"$q\" in *CN=A*) echo '{\"pool\":\"ext\"}';; *CN=B*) echo '{}';; *) exit 1;; esac\n";
    let lines = "mapper=@/mapper\ngridmapdir=@/pool\ndynamic_uids=300000-300009";
    let mut site = Site::new(lines, &[("mapper", script)]);
    fs::set_permissions(site.path("mapper"), fs::Permissions::from_mode(0o755)).expect("mode");
    assert_eq!(site.account(case("/CN=A", &[])), ".ext");
    assert_eq!(site.account(case("/CN=B", &[])), "dynamic");
    assert_eq!(site.code(case("/CN=C", &[])), "mapper.failed");
}

#[test]
fn a_pool_without_its_directory_is_the_sites_mistake() {
    let mut site = Site::new("gridmap=@/m", &[("m", "/CN=A .pool\n")]);
    assert_eq!(site.code(case("/CN=A", &[])), "conf.gridmapdir");
}

#[test]
fn an_expired_credential_is_mapped_to_nobody() {
    let mut site = everything();
    let mut late = case("/CN=Alice", &[]);
    late.now_unix = late.holder.not_after;
    assert_eq!(site.code(late), "proxy.expired");
}
