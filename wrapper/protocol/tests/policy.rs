//! The terms of the policy on the wires: what encodes decodes to the same value, and what root would have to
//! doubt does not decode.

use std::path::PathBuf;

use launch_protocol::broker::{Refusal, RefusalClass, RefusedBy};
use launch_protocol::monitor::{Ask, Target};
use launch_protocol::policy::{
    Answer, AuditSettings, Caller, Entry, Hook, Isolation, LimitRules, Query, Reply, Request,
    Required, Settings, Targets, VerifierSettings,
};
use launch_protocol::{DecodeError, fuzzing};
use proptest::array::{uniform3, uniform4};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z_][a-zA-Z0-9_.-]{0,63}"
}

fn path() -> impl Strategy<Value = PathBuf> {
    "(/[a-z0-9 ]{1,12}){1,4}".prop_map(PathBuf::from)
}

fn query() -> impl Strategy<Value = Query> {
    prop_oneof![
        name().prop_map(Query::Account),
        any::<u32>().prop_map(Query::Uid),
        name().prop_map(Query::Group),
    ]
}

fn caller() -> impl Strategy<Value = Caller> {
    let listed = || vec((name(), any::<u32>()), 0..5);
    (
        any::<u32>(),
        of(name()),
        vec(any::<u32>(), 0..9),
        of(path()),
        listed(),
        listed(),
    )
        .prop_map(
            |(uid, name, groups, executable, listed_users, listed_groups)| Caller {
                uid,
                name,
                groups,
                executable,
                listed_users,
                listed_groups,
            },
        )
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

fn reply() -> impl Strategy<Value = Reply> {
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
    prop_oneof![vec(of(entry), 0..9).prop_map(Reply::Names), refused]
}

/// What a broker tells the monitor of the policy before it has heard a pilot.
fn told() -> impl Strategy<Value = Ask> {
    let configured = settings().prop_map(|settings| Ask::Configured(Box::new(settings)));
    let admitted = (caller(), any::<bool>()).prop_map(|(caller, may_omit_key)| Ask::Admitted {
        caller: Box::new(caller),
        may_omit_key,
        hooks: Default::default(),
    });
    prop_oneof![configured, admitted]
}

proptest! {
    #[test]
    fn requests_survive(id in any::<u32>(), queries in vec(query(), 0..20)) {
        let request = Request { id, queries };
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
    fn what_is_told_of_the_policy_survives(ask in told()) {
        let packet = ask.encode().expect("encodes");
        prop_assert_eq!(Ask::decode(&packet), Ok(ask));
        for cut in 0..packet.len() {
            prop_assert!(Ask::decode(&packet[..cut]).is_err());
        }
    }

    #[test]
    fn one_flipped_bit_never_breaks_the_promise(
        reply in reply(), ask in told(), place in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let reply = Answer { id: 1, reply }.encode().expect("encodes");
        for (channel, mut packet) in [(10, reply), (11, ask.encode().expect("encodes"))] {
            let place = place.index(packet.len());
            packet[place] ^= 1 << bit;
            packet.insert(0, channel);
            fuzzing::fuzz_launch_protocol(&packet);
        }
    }
}

fn lease(name: &str) -> Ask {
    Ask::Lease {
        payload: 1,
        target: Target::Named(name.into()),
        groups: None,
        sweep: false,
    }
}

#[test]
fn m3_a_lease_is_for_an_account_and_nothing_else() {
    for bad in ["", "0", "-a", "a b", "a/b", "..", "a\n", &"a".repeat(65)] {
        assert!(lease(bad).encode().is_err(), "{bad:?}");
    }
    // The same on the way in: "alice" becomes a number, a path, a word with a blank.
    let good = lease("alice").encode().expect("encodes");
    for bad in [*b"12345", *b"a/../", *b"a b c", *b"alic\n"] {
        let mut packet = good.clone();
        let place = packet
            .windows(5)
            .position(|part| part == b"alice")
            .expect("there");
        packet[place..place + 5].copy_from_slice(&bad);
        assert!(matches!(
            Ask::decode(&packet),
            Err(DecodeError::BadValue(_))
        ));
    }
}

#[test]
fn m5_a_lease_is_never_the_file_of_an_account() {
    let link = |lease: &str| {
        Ask::PoolLink {
            account: "atlas001".into(),
            lease: lease.into(),
        }
        .encode()
    };
    assert!(link("%2fcn%3dx:atlas").is_ok());
    for bad in [
        "",
        "atlas001",
        "../%2f",
        ".%2f",
        "%2f/..",
        "%2f\n",
        &"%".repeat(256),
    ] {
        assert!(link(bad).is_err(), "{bad:?}");
    }
}
