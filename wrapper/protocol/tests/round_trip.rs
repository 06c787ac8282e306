//! What encodes decodes to the same value, and nothing that arrives can do worse than be refused.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use launch_protocol::agent::{self, Entry, EntryKind};
use launch_protocol::broker::{
    Answer, Command, CredentialRequired, Hello, OpenLimits, Opened, Purpose as OpenPurpose,
    Refusal, RefusalClass, RefusedBy, Reply, Request, SignalScope, Usage,
};
use launch_protocol::exec::{ExecFailure, ExecRequest, ExecStep, IoClass, IoPriority, Limit};
use launch_protocol::verdict::{CredentialKind, Purpose, Verdict, VerifyRequest};
use launch_protocol::{DecodeError, EncodeError, MAX_PACKET, fuzzing, order};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn c_bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(1_u8..=255, 0..max)
}

fn path() -> impl Strategy<Value = PathBuf> {
    c_bytes(60).prop_map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
}

fn class() -> impl Strategy<Value = RefusalClass> {
    prop_oneof![
        Just(RefusalClass::Job),
        Just(RefusalClass::SiteTransient),
        Just(RefusalClass::SitePermanent),
        Just(RefusalClass::Caller)
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        any::<u32>().prop_map(|version| Command::Hello { version }),
        (
            "[ -~]{0,256}",
            option::of(path()),
            option::of("[ -~]{1,40}"),
            select(vec![
                OpenPurpose::Run,
                OpenPurpose::VerifyOnly,
                OpenPurpose::GetAccount,
            ]),
            any::<([Option<u64>; 3], bool)>(),
        )
            .prop_map(
                |(job_label, execute_dir, slot_account, purpose, (limits, agent))| {
                    Command::Open {
                        job_label,
                        execute_dir,
                        slot_account,
                        purpose,
                        limits: OpenLimits {
                            memory_bytes: limits[0],
                            pids: limits[1],
                            cpu_millis: limits[2],
                        },
                        agent,
                    }
                }
            ),
        Just(Command::Present),
        (any::<u32>(), option::of(path()))
            .prop_map(|(payload, proxy)| Command::Renew { payload, proxy }),
        (any::<u32>(), path()).prop_map(|(payload, file)| Command::Replace { payload, file }),
        any::<u32>().prop_map(|payload| Command::SpawnAgent { payload }),
        (any::<u32>(), any::<i32>(), any::<bool>()).prop_map(|(payload, signal, all)| {
            let scope = if all {
                SignalScope::All
            } else {
                SignalScope::Leader
            };
            Command::Signal {
                payload,
                signal,
                scope,
            }
        }),
        any::<u32>().prop_map(|payload| Command::Kill { payload }),
        any::<u32>().prop_map(|payload| Command::Usage { payload }),
        any::<u32>().prop_map(|payload| Command::Close { payload }),
        any::<bool>().prop_map(|sandbox| Command::Prepare { sandbox }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let hello = (
        any::<u32>(),
        "[ -~]{0,40}",
        vec(path(), 0..5),
        "[^\0]{0,100}",
        vec("[a-z-]{1,20}", 0..5),
        any::<bool>(),
    )
        .prop_map(|(version, word, execute_dirs, mapping, words, yes)| {
            Answer::Hello(Hello {
                version,
                switch_version: word.clone(),
                tracking: word.clone(),
                memory_source: word,
                execute_dirs,
                mapping,
                credential_required: if yes {
                    CredentialRequired::PilotAndUser
                } else {
                    CredentialRequired::User
                },
                linger: yes,
                preserve_env: words.clone(),
                features: words.clone(),
                front: words,
            })
        });
    let opened = (
        any::<(u32, u32, u32, i64, bool)>(),
        "[ -~]{1,40}",
        "[ -~]{1,900}",
        vec("[ -~]{1,255}", 0..8),
        (path(), path(), option::of(path())),
        ("[ -~]{0,255}", any::<Option<u32>>()),
    )
        .prop_map(
            |(
                (payload, uid, gid, not_after, limited),
                account,
                identity,
                fqans,
                (home, shell, sandbox),
                (lease, agent),
            )| {
                Answer::Opened(Opened {
                    payload,
                    uid,
                    gid,
                    account,
                    home,
                    shell,
                    identity,
                    fqans,
                    not_after,
                    limited,
                    lease,
                    sandbox,
                    agent,
                })
            },
        );
    let figures = any::<([u64; 5], u32, [Option<u64>; 4])>();
    let usage = (figures, "[ -~]{0,40}").prop_map(|((n, processes, more), memory_source)| {
        Answer::Usage(Usage {
            user_usec: n[0],
            system_usec: n[1],
            memory_current_bytes: n[2],
            memory_peak_bytes: n[3],
            processes,
            wall_usec: n[4],
            memory_source,
            processes_peak: more[0],
            io_read_bytes: more[1],
            io_write_bytes: more[2],
            oom_kills: more[3],
        })
    });
    let refused = (
        class(),
        "[a-z0-9._-]{1,64}",
        "[^\0]{0,200}",
        any::<bool>(),
        select(vec![
            RefusedBy::Credential,
            RefusedBy::Mapping,
            RefusedBy::Helper,
        ]),
    )
        .prop_map(|(class, code, message, may_succeed_later, who)| {
            Answer::Refused(Refusal {
                class,
                code,
                message,
                may_succeed_later,
                who,
            })
        });
    prop_oneof![
        hello,
        opened,
        usage,
        refused,
        any::<(u32, u32)>().prop_map(|(payload, pid)| Answer::Spawned { payload, pid }),
        any::<(u32, i32)>().prop_map(|(payload, wait_status)| Answer::Exited {
            payload,
            wait_status
        }),
        any::<u32>().prop_map(|payload| Answer::Empty { payload }),
        ("[ -~]{1,900}", any::<i64>()).prop_map(|(identity, not_after)| Answer::Presented {
            identity,
            not_after
        }),
        any::<i64>().prop_map(|not_after| Answer::Renewed { not_after }),
        any::<u32>().prop_map(|payload| Answer::Expiring { payload }),
        any::<u32>().prop_map(|payload| Answer::KilledForExpiry { payload }),
        Just(Answer::Done),
        Just(Answer::Closed),
    ]
}

fn agent_request() -> impl Strategy<Value = agent::Request> {
    use agent::Request as R;
    prop_oneof![
        (path(), 0..=0o777_u32).prop_map(|(path, mode)| R::MakeDir { path, mode }),
        (path(), 0..=0o777_u32).prop_map(|(path, mode)| R::Create { path, mode }),
        (path(), any::<bool>()).prop_map(|(path, follow)| R::OpenRead { path, follow }),
        path().prop_map(|path| R::List { path }),
        (path(), 0..=0o777_u32).prop_map(|(path, mode)| R::SetMode { path, mode }),
        path().prop_map(|path| R::Remove { path }),
        Just(R::Exec),
        Just(R::ExecHere),
        (path(), any::<bool>()).prop_map(|(path, make_dir)| R::PutProxy { path, make_dir }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let kinds = vec![
        EntryKind::File,
        EntryKind::Directory,
        EntryKind::LinkToFile,
        EntryKind::LinkToDirectory,
        EntryKind::Other,
    ];
    (
        path(),
        select(kinds),
        any::<(u64, u64, i64, i64)>(),
        0..=0o7777_u32,
    )
        .prop_map(
            move |(name, kind, (size, inode, mtime_ns, ctime_ns), mode)| Entry {
                name,
                kind,
                size,
                inode,
                mtime_ns,
                ctime_ns,
                mode,
            },
        )
}

fn agent_reply() -> impl Strategy<Value = agent::Reply> {
    use agent::Reply as R;
    prop_oneof![
        Just(R::Ready),
        (any::<i32>(), "[^\0]{0,200}").prop_map(|(errno, message)| R::Trouble { errno, message }),
        (any::<i32>(), "[^\0]{0,200}").prop_map(|(errno, message)| R::Failed { errno, message }),
        Just(R::Done),
        Just(R::Opened),
        (any::<u64>(), 0..=0o7777_u32).prop_map(|(size, mode)| R::OpenedRead { size, mode }),
        (vec(entry(), 0..20), any::<bool>())
            .prop_map(|(entries, more)| R::Entries { entries, more }),
        Just(R::ExecStarting),
        path().prop_map(|path| R::ProxyPut { path }),
    ]
}

fn place() -> impl Strategy<Value = order::Place> {
    (path(), any::<(u64, u64)>()).prop_map(|(path, (device, inode))| order::Place {
        path,
        device,
        inode,
    })
}

fn orders() -> impl Strategy<Value = order::Order> {
    let view = (
        any::<(bool, bool)>(),
        vec(place(), 0..=2),
        option::of(path()),
        option::of((place(), path())),
    )
        .prop_map(|((own_proc, own_tmp), tmp, chroot, sandbox)| order::View {
            own_proc,
            own_tmp,
            tmp,
            chroot,
            sandbox,
        });
    (
        any::<(u32, u32, u8)>(),
        vec(any::<u32>(), 0..8),
        vec(any::<(u32, u64)>(), 0..8),
        view,
        vec(path().prop_map(PathBuf::into_os_string), 0..4),
    )
        .prop_map(
            |((uid, gid, nice), groups, rlimits, view, words)| order::Order {
                uid,
                gid,
                groups,
                nice,
                rlimits,
                view,
                words,
            },
        )
}

fn io_priority() -> impl Strategy<Value = IoPriority> {
    (select(vec![IoClass::BestEffort, IoClass::Idle]), 0..=7_u8)
        .prop_map(|(class, level)| IoPriority { class, level })
}

fn exec_request() -> impl Strategy<Value = ExecRequest> {
    (
        (path(), path()),
        (vec(c_bytes(40), 0..8), vec(c_bytes(40), 0..8)),
        (0..=0o777_u32, 0..=19, any::<Option<u64>>()),
        vec(any::<(u32, u64, u64)>(), 0..8),
        (
            option::of(io_priority()),
            prop::collection::btree_set(0..8192_u32, 0..8),
            any::<bool>(),
        ),
    )
        .prop_map(
            |((path, cwd), (argv, env), (umask, nice, core_limit), limits, rest)| ExecRequest {
                path,
                argv,
                env,
                cwd,
                umask,
                nice,
                core_limit,
                rlimits: limits
                    .into_iter()
                    .map(|(resource, soft, hard)| Limit {
                        resource,
                        soft,
                        hard,
                    })
                    .collect(),
                ionice: rest.0,
                processors: rest.1.into_iter().collect(),
                terminal: rest.2,
            },
        )
}

fn exec_failure() -> impl Strategy<Value = ExecFailure> {
    let steps = vec![
        ExecStep::Request,
        ExecStep::WorkingDirectory,
        ExecStep::Limits,
        ExecStep::Descriptors,
        ExecStep::Exec,
    ];
    (any::<i32>(), select(steps), path(), "[^\0]{0,200}").prop_map(
        move |(errno, step, path, message)| ExecFailure {
            errno,
            step,
            path,
            message,
        },
    )
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let accepted = (
        (any::<u32>(), any::<bool>(), "[ -~]{1,1000}"),
        vec("[ -~]{1,255}", 0..10),
        vec("[ -~]{1,100}", 0..17),
        (any::<i64>(), any::<bool>()),
    )
        .prop_map(
            |((id, is_token, name), fqans, issuers, (not_after, limited))| {
                let (kind, identity) = if is_token {
                    (CredentialKind::Token, format!("https://{name}"))
                } else {
                    (CredentialKind::Proxy, format!("/{name}"))
                };
                Verdict::Accepted {
                    id,
                    kind,
                    identity,
                    fqans,
                    issuers,
                    not_after,
                    limited,
                }
            },
        );
    prop_oneof![
        accepted,
        (any::<u32>(), "[a-z0-9._-]{1,64}", "[^\0]{0,200}", class()).prop_map(
            |(id, code, message, class)| Verdict::Rejected {
                id,
                code,
                message,
                class,
            }
        ),
    ]
}

fn verify_request() -> impl Strategy<Value = VerifyRequest> {
    let purposes = vec![
        Purpose::Run,
        Purpose::Renew,
        Purpose::Verify,
        Purpose::Pilot,
    ];
    (any::<u32>(), select(purposes), any::<bool>()).prop_map(|(id, purpose, may_lack_key)| {
        VerifyRequest {
            id,
            purpose,
            may_lack_key,
        }
    })
}

/// The value comes back; no shorter or longer packet is taken for it.
macro_rules! assert_round_trip {
    ($kind:ty, $value:expr, $cut:expr) => {{
        let value = $value;
        let packet = value.encode().expect("a valid value encodes");
        prop_assert_eq!(<$kind>::decode(&packet), Ok(value));
        let cut = $cut.index(packet.len());
        prop_assert!(<$kind>::decode(&packet[..cut]).is_err());
        let mut longer = packet;
        longer.push(0);
        prop_assert!(<$kind>::decode(&longer).is_err());
    }};
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests(id: u32, command in command(), cut: prop::sample::Index) {
        assert_round_trip!(Request, Request { id, command }, cut);
    }

    #[test]
    fn replies(id: u32, answer in answer(), cut: prop::sample::Index) {
        assert_round_trip!(Reply, Reply { id, answer }, cut);
    }

    #[test]
    fn agent_requests(request in agent_request(), cut: prop::sample::Index) {
        assert_round_trip!(agent::Request, request, cut);
    }

    #[test]
    fn agent_replies(reply in agent_reply(), cut: prop::sample::Index) {
        assert_round_trip!(agent::Reply, reply, cut);
    }

    #[test]
    fn orders_of_root(order in orders(), cut: prop::sample::Index) {
        assert_round_trip!(order::Order, order, cut);
    }

    #[test]
    fn exec_requests(request in exec_request(), cut: prop::sample::Index) {
        assert_round_trip!(ExecRequest, request, cut);
    }

    #[test]
    fn exec_failures(failure in exec_failure(), cut: prop::sample::Index) {
        assert_round_trip!(ExecFailure, failure, cut);
    }

    #[test]
    fn verdicts(verdict in verdict(), cut: prop::sample::Index) {
        assert_round_trip!(Verdict, verdict, cut);
    }

    #[test]
    fn verify_requests(request in verify_request(), cut: prop::sample::Index) {
        assert_round_trip!(VerifyRequest, request, cut);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(data in vec(any::<u8>(), 0..200)) {
        fuzzing::fuzz_launch_protocol(&data);
    }
}

#[test]
fn the_corpus_holds() {
    let corpus = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fuzz/corpus/launch_protocol"
    );
    let mut seen = 0;
    for file in std::fs::read_dir(corpus).expect("the corpus folder is in the repository") {
        let file = file.expect("readable").path();
        fuzzing::fuzz_launch_protocol(&std::fs::read(file).expect("readable"));
        seen += 1;
    }
    assert!(seen > 0);
}

fn accepted(identity: &str) -> Verdict {
    Verdict::Accepted {
        id: 7,
        kind: CredentialKind::Proxy,
        identity: identity.to_owned(),
        fqans: vec!["/vo/group".into()],
        issuers: vec!["/CN=CA".into()],
        not_after: 0,
        limited: false,
    }
}

#[test]
fn a_verdict_that_could_forge_a_log_line_is_refused() {
    for identity in ["", "/CN=a\n/CN=root", "/CN=\u{1b}[2J", "/CN=é"] {
        assert_eq!(
            accepted(identity).encode(),
            Err(EncodeError::BadValue("identity")),
            "{identity:?}"
        );
    }
    let packet = accepted("/CN=x").encode().expect("valid");
    for (byte, field) in [(b'x', "identity"), (b'v', "fqans"), (b'A', "issuers")] {
        let mut packet = packet.clone();
        let place = packet.iter().position(|b| *b == byte).expect("there");
        packet[place] = b'\n';
        assert_eq!(Verdict::decode(&packet), Err(DecodeError::BadValue(field)));
    }
}

#[test]
fn a_token_never_passes_for_a_certificate() {
    let mut verdict = accepted("/CN=x");
    let packet = verdict.encode().expect("valid");
    if let Verdict::Accepted { kind, .. } = &mut verdict {
        *kind = CredentialKind::Token;
    }
    assert_eq!(verdict.encode(), Err(EncodeError::BadValue("identity")));
    // Magic, tag and id come before the kind.
    let mut packet = packet;
    packet[6] = 1;
    assert_eq!(
        Verdict::decode(&packet),
        Err(DecodeError::BadValue("identity"))
    );
}

#[test]
fn more_or_longer_attributes_than_allowed_are_refused() {
    let with = |count: usize, length: usize| {
        let mut verdict = accepted("/CN=x");
        if let Verdict::Accepted { fqans, .. } = &mut verdict {
            *fqans = vec!["a".repeat(length); count];
        }
        verdict.encode()
    };
    assert!(with(60, 255).is_ok() && with(64, 200).is_ok());
    assert_eq!(with(65, 1), Err(EncodeError::TooLong("fqans")));
    assert_eq!(with(1, 256), Err(EncodeError::TooLong("fqan")));
    assert_eq!(with(64, 255), Err(EncodeError::TooLong("message")));
}

#[test]
fn names_that_end_early_in_c_are_refused() {
    let command = Command::Open {
        job_label: "1.0".into(),
        execute_dir: Some("/tmp/a\0b".into()),
        slot_account: None,
        purpose: OpenPurpose::Run,
        limits: OpenLimits::default(),
        agent: false,
    };
    assert_eq!(
        Request { id: 1, command }.encode(),
        Err(EncodeError::BadValue("execute_dir"))
    );
    let request = ExecRequest {
        argv: vec![b"a\0b".to_vec()],
        ..ExecRequest::default()
    };
    assert_eq!(request.encode(), Err(EncodeError::BadValue("argv")));
}

#[test]
fn set_id_bits_cannot_be_asked_for() {
    let request = agent::Request::Create {
        path: "x".into(),
        mode: 0o4755,
    };
    assert_eq!(request.encode(), Err(EncodeError::BadValue("mode")));
}

#[test]
fn a_listing_fills_a_packet_and_no_more() {
    let entry = Entry {
        name: "x".into(),
        kind: EntryKind::File,
        size: 0,
        inode: 0,
        mtime_ns: 0,
        ctime_ns: 0,
        mode: 0,
    };
    let fits = (MAX_PACKET - agent::ENTRIES_OVERHEAD) / (agent::ENTRY_OVERHEAD + 1);
    let full = agent::Reply::Entries {
        entries: vec![entry.clone(); fits],
        more: true,
    };
    assert!(full.encode().is_ok());
    let over = agent::Reply::Entries {
        entries: vec![entry; fits + 1],
        more: true,
    };
    assert_eq!(over.encode(), Err(EncodeError::TooLong("message")));
}

#[test]
fn the_verifiers_words_are_told_whole_or_not_at_all() {
    let words = ["/etc/grid-security", "vomsdir=/x y", ""].map(str::to_owned);
    let packet = launch_protocol::verdict::words_packet(&words).expect("sound");
    assert_eq!(
        launch_protocol::verdict::words_of(&packet),
        Ok(words.to_vec())
    );
    for bad in [vec!["a\0b".to_owned()], vec!["x".repeat(MAX_PACKET)]] {
        assert!(launch_protocol::verdict::words_packet(&bad).is_err());
    }
    for bad in [&b""[..], b"no end", b"\xff\0"] {
        assert!(launch_protocol::verdict::words_of(bad).is_err(), "{bad:?}");
    }
}
