//! The packets between root and the policy service: what encodes decodes to the same value, and
//! what root would have to doubt does not decode.

use std::path::PathBuf;

use launch_protocol::broker::{Refusal, RefusalClass, RefusedBy};
use launch_protocol::policy::{
    Answer, Ask, AuditSettings, Caller, Case, CredentialKind, Decision, Entry, Groups, Hook,
    Isolation, LimitRules, Party, Purpose, Query, Reply, Request, Required, Settings, Targets,
    VerifierSettings,
};
use launch_protocol::{DecodeError, EncodeError, fuzzing};
use proptest::array::{uniform3, uniform4};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z_][a-zA-Z0-9_.-]{0,63}"
}

fn path() -> impl Strategy<Value = PathBuf> {
    "(/[a-z0-9 ]{1,12}){1,4}".prop_map(PathBuf::from)
}

fn party() -> impl Strategy<Value = Party> {
    (
        select(vec![CredentialKind::Proxy, CredentialKind::Token]),
        "[ -~]{1,200}",
        vec("[ -~]{1,100}", 0..8),
        vec("[ -~]{1,100}", 0..4),
        any::<(bool, i64)>(),
    )
        .prop_map(
            |(kind, identity, fqans, issuers, (limited, not_after))| Party {
                kind,
                identity,
                fqans,
                issuers,
                limited,
                not_after,
            },
        )
}

fn query() -> impl Strategy<Value = Query> {
    prop_oneof![
        name().prop_map(Query::Account),
        any::<u32>().prop_map(Query::Uid),
        name().prop_map(Query::Group),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let listed = || vec((name(), any::<u32>()), 0..5);
    let caller = (
        any::<u32>(),
        of(name()),
        vec(any::<u32>(), 0..9),
        of(path()),
        listed(),
        listed(),
    )
        .prop_map(
            |(uid, name, groups, executable, listed_users, listed_groups)| {
                Ask::Admit(Caller {
                    uid,
                    name,
                    groups,
                    executable,
                    listed_users,
                    listed_groups,
                })
            },
        );
    let case = (
        select(vec![Purpose::Run, Purpose::Renew, Purpose::Verify]),
        party(),
        of(party()),
        of(name()),
        of(name()),
        any::<(u32, i64)>(),
    )
        .prop_map(
            |(purpose, holder, pilot, caller_name, slot_account, (caller_uid, now_unix))| {
                Ask::Decide(Box::new(Case {
                    purpose,
                    holder,
                    pilot,
                    caller_uid,
                    caller_name,
                    slot_account,
                    now_unix,
                }))
            },
        );
    prop_oneof![
        Just(Ask::ReadConfig),
        caller,
        case,
        vec(query(), 0..20).prop_map(Ask::Names),
    ]
}

prop_compose! {
    fn targets()(
        uid_min in 1_u32..5000, uid_max in 5000_u32..u32::MAX - 1, prefixes in vec(name(), 0..3),
        forbidden in vec(name(), 0..3), dynamic_uids in of((1000_u32..2000, 3000_u32..4000)),
    ) -> Targets {
        Targets { uid_min, uid_max, prefixes, forbidden, dynamic_uids }
    }
}

fn hook() -> impl Strategy<Value = Option<Hook>> {
    of((path(), of(name()), of(name()), any::<u32>()).prop_map(
        |(program, user, group, timeout)| Hook {
            program,
            user,
            group,
            timeout,
        },
    ))
}

prop_compose! {
    fn settings()(
        [caller_names, caller_prefixes, caller_groups] in uniform3(vec(name(), 0..4)), targets in targets(),
        [execute_dirs, policy_files, directories, files] in uniform4(vec(path(), 0..4)),
        [libexec, gridmapdir, file, chroot] in uniform4(of(path())), rundir in path(), words in vec("[ -~]{0,40}", 0..6),
        [gridmapdir_min_idle, warm_time, kill_grace, orphan_grace, kill_before_expiry] in any::<[u32; 5]>(), limits in any::<(u64, Option<u64>, Option<u32>, Option<u32>)>(),
        small in (0_u8..20, 0_u32..100, of(0_u8..24)), [both, private_tmp, private_pid] in any::<[bool; 3]>(),
        hooks in (hook(), hook()), preserve_env in vec("[A-Z_]{1,20}", 0..5), front in vec("[ -~]{0,40}", 0..6), linger in any::<bool>(),
    ) -> Settings {
        Settings {
            caller_names,
            caller_prefixes,
            caller_groups,
            targets,
            execute_dirs,
            libexec,
            rundir,
            gridmapdir,
            gridmapdir_min_idle,
            policy_files,
            verifier: VerifierSettings { words, directories, files },
            required: if both { Required::PilotAndUser } else { Required::User },
            audit: AuditSettings {
                file, max_bytes: limits.0, keep: small.1, syslog_facility: small.2,
            },
            warm_time,
            kill_grace,
            orphan_grace,
            kill_before_expiry,
            limits: LimitRules {
                rlimits: vec![(7, limits.0)], nice_min: small.0, memory_bytes: limits.1,
                pids: limits.2, cpu_percent: limits.3,
            },
            isolation: Isolation {
                private_tmp, private_pid, chroot, forbidden_owners: vec![kill_grace],
            },
            prologue: hooks.0,
            epilogue: hooks.1,
            linger,
            preserve_env,
            front,
        }
    }
}

fn groups() -> impl Strategy<Value = Option<Groups>> {
    of((of(name()), vec(name(), 0..4))
        .prop_map(|(primary, secondary)| Groups { primary, secondary }))
}

fn reply() -> impl Strategy<Value = Reply> {
    let decision = prop_oneof![
        (name(), groups(), "[ -~]{0,80}").prop_map(|(name, groups, source)| Decision::Account {
            name,
            groups,
            source
        }),
        (
            name(),
            "%2f[a-z0-9%:]{0,90}",
            "[ -~]{1,90}",
            groups(),
            "[ -~]{0,80}"
        )
            .prop_map(
                |(prefix, lease_name, exact, groups, source)| Decision::Pool {
                    prefix,
                    lease_name,
                    exact,
                    groups,
                    source
                }
            ),
        groups().prop_map(|groups| Decision::Dynamic { groups }),
    ];
    let entry = prop_oneof![
        (
            "[!-~]{1,60}",
            any::<(u32, u32)>(),
            vec(any::<u32>(), 0..20),
            path(),
            path()
        )
            .prop_map(|(name, (uid, gid), groups, home, shell)| Entry::Account {
                name,
                uid,
                gid,
                groups,
                home,
                shell
            }),
        any::<u32>().prop_map(|gid| Entry::Group { gid }),
    ];
    let refused = ("[a-z0-9._-]{1,64}", "[^\0]{0,100}", any::<bool>()).prop_map(
        |(code, message, may_succeed_later)| {
            Reply::Refused(Refusal {
                class: RefusalClass::SitePermanent,
                code,
                message,
                may_succeed_later,
                who: RefusedBy::Mapping,
            })
        },
    );
    prop_oneof![
        settings().prop_map(|settings| Reply::Settings(Box::new(settings))),
        any::<bool>().prop_map(|may_omit_key| Reply::Admitted { may_omit_key }),
        decision.prop_map(Reply::Decided),
        vec(of(entry), 0..9).prop_map(Reply::Names),
        refused,
        Just(Reply::Reread),
    ]
}

proptest! {
    #[test]
    fn requests_survive(id in any::<u32>(), ask in ask()) {
        let request = Request { id, ask };
        let packet = request.encode().expect("encodes");
        prop_assert_eq!(Request::decode(&packet), Ok(request));
        for cut in 0..packet.len() {
            prop_assert!(Request::decode(&packet[..cut]).is_err());
        }
    }

    #[test]
    fn answers_survive(id in any::<u32>(), reply in reply()) {
        let answer = Answer { id, reply };
        let packet = answer.encode().expect("encodes");
        prop_assert_eq!(Answer::decode(&packet), Ok(answer));
        let mut longer = packet;
        longer.push(0);
        prop_assert!(Answer::decode(&longer).is_err());
    }

    #[test]
    fn one_flipped_bit_never_breaks_the_promise(reply in reply(), place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut packet = Answer { id: 1, reply }.encode().expect("encodes");
        let place = place.index(packet.len());
        packet[place] ^= 1 << bit;
        packet.insert(0, 9);
        fuzzing::fuzz_launch_protocol(&packet);
    }
}

fn answer(reply: Reply) -> Result<Vec<u8>, EncodeError> {
    Answer { id: 1, reply }.encode()
}

fn account(name: &str) -> Reply {
    Reply::Decided(Decision::Account {
        name: name.into(),
        groups: None,
        source: String::new(),
    })
}

#[test]
fn m3_a_decision_names_an_account_and_nothing_else() {
    for bad in ["", "0", "-a", "a b", "a/b", "..", "a\n", &"a".repeat(65)] {
        assert!(answer(account(bad)).is_err(), "{bad:?}");
    }
    // The same on the way in: "alice" becomes a number, a path, a word with a blank.
    let good = answer(account("alice")).expect("encodes");
    for bad in [*b"12345", *b"a/../", *b"a b c", *b"alic\n"] {
        let mut packet = good.clone();
        let place = packet
            .windows(5)
            .position(|part| part == b"alice")
            .expect("there");
        packet[place..place + 5].copy_from_slice(&bad);
        assert_eq!(Answer::decode(&packet), Err(DecodeError::BadValue("name")));
    }
}

#[test]
fn m5_a_lease_is_never_the_file_of_an_account() {
    let pool = |lease_name: &str| {
        answer(Reply::Decided(Decision::Pool {
            prefix: "atlas".into(),
            lease_name: lease_name.into(),
            exact: "/CN=x".into(),
            groups: None,
            source: String::new(),
        }))
    };
    assert!(pool("%2fcn%3dx:atlas").is_ok());
    for bad in [
        "",
        "atlas001",
        "../%2f",
        ".%2f",
        "%2f/..",
        "%2f\n",
        &"%".repeat(256),
    ] {
        assert!(pool(bad).is_err(), "{bad:?}");
    }
}
