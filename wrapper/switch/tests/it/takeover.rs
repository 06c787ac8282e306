//! A broker that has been taken over: whatever it asks the monitor for, it gets no more than its verdicts could have
//! given it. The broker of these tests (`examples/taken_broker.rs`) asks what comes over the pilot's socket, so each
//! test speaks to the monitor itself.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsRawFd as _, RawFd};
use std::process::Command as Program;
use std::time::Duration;

use launch_protocol::broker::{self, OpenLimits, Refusal};
use launch_protocol::monitor::{
    Ask, BROKER_UIDS, Errand, FIRST_BROKER_UID, Linked, Reply, Target, Which,
};
use launch_protocol::policy::{self, Entry, Groups, Query};

use crate::cell::{
    Cell, DYNAMIC, EXECUTE, LIBEXEC, TAKEN, children, groups_of, in_cell, names_in, own,
    processes_of, put,
};
use crate::client::{Pilot, Start, eventually, pipe_with};
use crate::strays::strays;

const SOON: Duration = Duration::from_secs(10);

const HONEST: &str = "sailplane-broker.honest";

fn program(name: &str) -> String {
    format!("{LIBEXEC}/{name}")
}

/// Puts this one in the broker's place.
fn install(name: &str) {
    let draft = program("draft");
    fs::copy(program(name), &draft).expect("copied");
    fs::rename(draft, program("sailplane-broker")).expect("renamed");
}

/// Puts the other broker in the place of the real one.
fn take_over() {
    if !fs::exists(program(HONEST)).expect("known") {
        fs::rename(program("sailplane-broker"), program(HONEST)).expect("renamed");
    }
    install(TAKEN);
}

/// The monitor and a broker in a stranger's hands.
struct Taken {
    pilot: Pilot,
}

/// In a cell with these lines in its configuration.
fn with_taken(lines: &'static str, test: impl FnOnce(&Cell, &mut Taken) + Send + 'static) {
    in_cell(move |cell| {
        cell.configure(lines);
        take_over();
        let mut taken = Taken::start(cell);
        test(cell, &mut taken);
        taken.end(cell);
    });
}

impl Taken {
    fn start(cell: &Cell) -> Self {
        take_over();
        let pilot = Start::usual(cell).start();
        let taken = Self { pilot };
        // It runs. What cleans up after it is an honest one again, as it would be.
        let question = Ask::Endings.encode().expect("a question");
        let _ = taken.relay(b'm', &question, &[]);
        install(HONEST);
        taken
    }

    fn relay(&self, whom: u8, packet: &[u8], beside: &[RawFd]) -> Option<(Vec<u8>, Vec<fs::File>)> {
        let packet = [&[whom], packet].concat();
        self.pilot.socket().send(&packet, beside);
        self.pilot.socket().receive()
    }

    /// The monitor does not answer this, but ends, and says so to the pilot.
    fn ends_with(&self, packet: &[u8], beside: &[RawFd]) {
        let Some((packet, _)) = self.relay(b'm', packet, beside) else {
            return;
        };
        let last_word = broker::Reply::decode(&packet).expect("a word to the pilot");
        let broker::Reply { id, answer } = last_word;
        assert!(
            id == 0 && matches!(answer, broker::Answer::Refused(_)),
            "{answer:?}"
        );
    }

    fn ask_with(&self, ask: &Ask, beside: &[RawFd]) -> (Reply, Vec<fs::File>) {
        let packet = ask.encode().expect("a question");
        let (reply, files) = self
            .relay(b'm', &packet, beside)
            .expect("the monitor lives");
        (Reply::decode(&reply).expect("an answer"), files)
    }

    fn ask(&self, ask: &Ask) -> Reply {
        self.ask_with(ask, &[]).0
    }

    /// What must be refused; the code.
    fn refused(&self, ask: &Ask) -> String {
        match self.ask(ask) {
            Reply::Refused(Refusal { code, .. }) => code,
            other => panic!("{ask:?} is answered with {other:?}"),
        }
    }

    /// Asks the name service, which shows the monitor what it has answered.
    fn look_up(&self, queries: Vec<Query>) {
        let packet = policy::Request { id: 1, queries }
            .encode()
            .expect("a question");
        self.relay(b'n', &packet, &[]).expect("names answer");
    }

    /// Tells the monitor itself what the name service has been asked and has answered.
    fn claim(&self, query: Query, entry: Option<Entry>) {
        let queries = vec![query];
        let question = policy::Request { id: 1, queries }.encode().expect("sound");
        let reply = policy::Reply::Names(vec![entry]);
        let answer = policy::Answer { id: 1, reply }.encode().expect("sound");
        for packet in [question, answer] {
            self.relay(b'w', &packet, &[]).expect("said");
        }
    }

    fn lease(&self, payload: u32, target: Target) -> Ask {
        Ask::Lease {
            payload,
            target,
            groups: None,
            sweep: false,
        }
    }

    /// A payload in a dynamic account, with its agent.
    fn make(&self, cell: &Cell, payload: u32) -> i32 {
        let uid = cell.first + payload;
        self.look_up(vec![Query::Uid(uid)]);
        let leased = self.ask(&self.lease(payload, Target::Dynamic(uid)));
        assert!(
            matches!(&leased, Reply::Account(account) if account.uid == uid),
            "{leased:?}"
        );
        match self.ask(&make(payload, Some(EXECUTE))) {
            Reply::Made { child, .. } => child,
            other => panic!("{other:?}"),
        }
    }

    /// The broker goes, and with it everything.
    fn end(&mut self, cell: &Cell) {
        self.pilot.socket = None;
        self.pilot.end();
        self.gone(cell);
    }

    /// Nothing is left: at once of processes, after the guardian's work of all the rest.
    fn gone(&self, cell: &Cell) {
        eventually("the end of all processes", SOON, || strays().is_empty());
        for uid in (cell.first..cell.first + DYNAMIC).chain([cell.alice]) {
            assert_eq!(processes_of(uid), Vec::<u32>::new());
        }
        assert_eq!(groups_of(self.pilot.id()), Vec::<std::path::PathBuf>::new());
        assert_eq!(names_in(EXECUTE), Vec::<String>::new());
        assert_eq!(names_in("/run/sailplane/leases"), Vec::<String>::new());
    }
}

fn make(payload: u32, place: Option<&str>) -> Ask {
    Ask::Make {
        payload,
        label: "1.0".to_owned(),
        place: place.map(Into::into),
        limits: OpenLimits::default(),
        alone: false,
    }
}

fn named(name: &str) -> Target {
    Target::Named(name.to_owned())
}

#[test]
fn m3_a_taken_broker_gets_no_account_that_is_no_target() {
    with_taken("", |cell, taken| {
        // Its own word does not count any more, now that it may have heard a stranger.
        let (query, entry) = (
            Query::Account("bin".to_owned()),
            Entry::Account {
                name: "bin".to_owned(),
                uid: cell.first - 1,
                gid: cell.first - 1,
                groups: Vec::new(),
                home: "/".into(),
                shell: "/bin/sh".into(),
            },
        );
        taken.claim(query, Some(entry));
        taken.claim(Query::Uid(cell.first), None);
        let code = taken.refused(&taken.lease(1, named("bin")));
        assert!(code.starts_with("map."), "{code}");
        let code = taken.refused(&taken.lease(1, Target::Dynamic(cell.first)));
        assert_eq!(code, "lease.taken");
        let names = ["root", "toor", "daemon", "pilot", "twin", "nobody", "ghost"];
        // Not before the name service was asked, and not afterwards either.
        for name in names {
            assert_eq!(
                taken.refused(&taken.lease(1, named(name))),
                "map.account_missing"
            );
        }
        taken.look_up(names.map(|name| Query::Account(name.to_owned())).to_vec());
        for name in names {
            let code = taken.refused(&taken.lease(1, named(name)));
            let wanted = if name == "ghost" {
                "map.account_missing"
            } else {
                "map.account_unfit"
            };
            assert_eq!(code, wanted, "{name}");
        }
        // Numbers: of nobody, of the caller, of a named account, beside the range, of brokers; those of the range only
        // after it is known that nobody has them.
        let numbers = [
            0,
            1,
            65_534,
            u32::MAX,
            cell.pilot,
            cell.alice,
            cell.first - 1,
            cell.first + DYNAMIC,
            FIRST_BROKER_UID,
            FIRST_BROKER_UID + BROKER_UIDS - 1,
        ];
        for uid in numbers {
            assert_eq!(
                taken.refused(&taken.lease(1, Target::Dynamic(uid))),
                "lease.taken"
            );
        }
        taken.look_up(numbers.map(Query::Uid).to_vec());
        for uid in numbers {
            let code = taken.refused(&taken.lease(1, Target::Dynamic(uid)));
            assert!(
                ["lease.taken", "map.account_unfit"].contains(&code.as_str()),
                "{uid}: {code}"
            );
        }
        assert_eq!(
            taken.refused(&taken.lease(1, Target::Dynamic(cell.first))),
            "lease.taken"
        );
        // Groups of root, of nobody, and such as do not exist, in either place.
        taken.look_up(vec![
            Query::Uid(cell.first),
            Query::Group("root".to_owned()),
            Query::Group("ghosts".to_owned()),
        ]);
        for name in ["root", "ghosts", "lab"] {
            let groups = [
                Groups {
                    primary: Some(name.to_owned()),
                    secondary: Vec::new(),
                },
                Groups {
                    primary: None,
                    secondary: vec![name.to_owned()],
                },
            ];
            for groups in groups {
                let ask = Ask::Lease {
                    payload: 1,
                    target: Target::Dynamic(cell.first),
                    groups: Some(groups),
                    sweep: false,
                };
                let code = taken.refused(&ask);
                let wanted = if name == "root" {
                    "map.account_unfit"
                } else {
                    "map.group_missing"
                };
                assert_eq!(code, wanted, "{name}");
            }
        }
        // One payload has one account, and one account one payload.
        taken.make(cell, 1);
        let code = taken.refused(&taken.lease(1, Target::Dynamic(cell.first + 2)));
        assert_eq!(code, "payload.number");
        let code = taken.refused(&taken.lease(2, Target::Dynamic(cell.first + 1)));
        assert_eq!(code, "lease.busy");
        assert_eq!(
            taken.refused(&taken.lease(0, Target::Dynamic(cell.first + 3))),
            "payload.number"
        );
    });
}

#[test]
fn k1_a_taken_broker_can_signal_nobody_but_payloads() {
    with_taken("", |cell, taken| {
        let child = taken.make(cell, 1);
        let monitor = taken.pilot.id().cast_signed();
        let mut bystander = Program::new("sleep").arg("1000").spawn().expect("starts");
        let strangers = [
            1,
            0,
            -1,
            i32::MIN,
            i32::MAX,
            monitor,
            -monitor,
            taken.pilot.broker().cast_signed(),
            -taken.pilot.broker().cast_signed(),
            bystander.id().cast_signed(),
            std::process::id().cast_signed(),
            -child,
        ];
        for child in strangers {
            for signal in [libc::SIGKILL, libc::SIGSTOP, libc::SIGTERM] {
                assert_eq!(taken.ask(&Ask::Signal { child, signal }), Reply::Done);
            }
        }
        for name in ["sailplane-guard"] {
            for child in children(taken.pilot.id(), name) {
                let child = child.cast_signed();
                let ask = Ask::Signal {
                    child,
                    signal: libc::SIGKILL,
                };
                assert_eq!(taken.ask(&ask), Reply::Done);
            }
            assert_eq!(children(taken.pilot.id(), name).len(), 1, "{name}");
        }
        assert!(matches!(bystander.try_wait(), Ok(None)), "it sleeps");
        bystander.kill().expect("killed");
        bystander.wait().expect("reaped");
        for signal in [-1, 0, 65, i32::MAX] {
            let one = taken.refused(&Ask::Signal { child, signal });
            let all = taken.refused(&Ask::SignalAll { payload: 1, signal });
            assert_eq!([one.as_str(), &all], ["signal.number"; 2], "{signal}");
        }
        for payload in [0, 2, u32::MAX] {
            for ask in [
                Ask::SignalAll { payload, signal: 9 },
                Ask::Freeze {
                    payload,
                    stop: true,
                },
                Ask::Kill { payload },
                Ask::Hatch { payload },
                Ask::Bury { payload },
                Ask::Abandon { payload },
                make(payload, None),
                Ask::Limit {
                    payload,
                    label: String::new(),
                    limits: OpenLimits::default(),
                },
                Ask::Errand {
                    payload,
                    errand: Errand::KillAll,
                },
            ] {
                assert_eq!(taken.refused(&ask), "payload.unknown");
            }
        }
        // Its own payload it may kill; then there is nothing at which the next number could be hit.
        assert_eq!(taken.ask(&Ask::Kill { payload: 1 }), Reply::Done);
        eventually(
            "the agent's end",
            SOON,
            || matches!(taken.ask(&Ask::Endings), Reply::Endings { ended, .. } if ended.iter().any(|(pid, _)| *pid == child)),
        );
        let ask = Ask::Signal {
            child,
            signal: libc::SIGKILL,
        };
        assert_eq!(taken.ask(&ask), Reply::Done);
    });
}

#[test]
fn s9_a_taken_broker_chooses_no_path() {
    with_taken("", |cell, taken| {
        for (folder, owner, mode) in [
            ("/scratch/strangers", cell.alice, 0o777),
            ("/outside", cell.pilot, 0o755),
            (EXECUTE, cell.pilot, 0o755),
        ] {
            fs::create_dir_all(folder).expect("made");
            own(folder, owner, mode);
        }
        std::os::unix::fs::symlink("/outside", "/scratch/link").expect("linked");
        taken.look_up(vec![Query::Uid(cell.first)]);
        taken.ask(&taken.lease(1, Target::Dynamic(cell.first)));
        for place in [
            "/",
            "/etc",
            "/root",
            "/outside",
            "/scratch/link",
            "/scratch/strangers",
            "/scratch/missing",
            "/scratch/../outside",
            "/scratch/./pilot",
            "/scratchy",
            "relative",
            "",
            "/proc/self/cwd",
        ] {
            let code = taken.refused(&make(1, Some(place)));
            assert!(code.starts_with("execdir."), "{place}: {code}");
        }
        assert_eq!(names_in("/outside"), Vec::<String>::new());
        assert!(matches!(
            taken.ask(&make(1, Some(EXECUTE))),
            Reply::Made { .. }
        ));
        assert_eq!(taken.refused(&make(1, Some(EXECUTE))), "payload.made");
        // A credential goes into the sandbox or nowhere.
        put("/outside/proxy", "keep", 0o666);
        for name in ["../x", "/outside/proxy", "a/../../x", "", ".", ".."] {
            let credential = pipe_with("secret");
            let errand = Errand::PutProxy { name: name.into() };
            let ask = Ask::Errand { payload: 1, errand };
            let (reply, _) = taken.ask_with(&ask, &[credential.as_raw_fd()]);
            if let Reply::Started { child } = reply {
                let mut status = None;
                eventually("the errand's end", SOON, || {
                    let Reply::Endings { ended, .. } = taken.ask(&Ask::Endings) else {
                        return false;
                    };
                    status = status
                        .or_else(|| ended.iter().find(|(pid, _)| *pid == child).map(|it| it.1));
                    status.is_some()
                });
                assert_ne!(status, Some(0), "{name:?}");
            }
        }
        assert_eq!(fs::read_to_string("/outside/proxy").expect("there"), "keep");
        assert_eq!(names_in(EXECUTE).len(), 1);
    });
}

#[test]
fn m7_a_taken_broker_touches_no_account_that_others_may_use() {
    with_taken("", |cell, taken| {
        let alices = Program::new("setpriv")
            .args([
                format!("--reuid={}", cell.alice),
                format!("--regid={}", cell.alice),
            ])
            .args([
                "--clear-groups",
                "sh",
                "-c",
                "echo alices >/tmp/alices; exec sleep 1000",
            ])
            .spawn();
        let mut alices = alices.expect("starts");
        eventually("her file", SOON, || {
            fs::exists("/tmp/alices").unwrap_or(false)
        });
        taken.look_up(vec![Query::Account("alice".to_owned())]);
        taken.ask(&taken.lease(1, named("alice")));
        // Nothing of a monitor that is gone is there to be cleaned up.
        assert_eq!(taken.ask(&Ask::Recover), Reply::Done);
        let null = fs::File::open("/dev/null").expect("opened");
        for errand in [
            Errand::Remove {
                account: true,
                if_alone: false,
            },
            Errand::Remove {
                account: true,
                if_alone: true,
            },
            Errand::KillAll,
            Errand::Sweep {
                places: vec!["/tmp".into()],
            },
        ] {
            let beside = vec![null.as_raw_fd(); errand.descriptors()];
            let ask = Ask::Errand { payload: 1, errand };
            let code = match taken.ask_with(&ask, &beside).0 {
                Reply::Refused(refusal) => refusal.code,
                other => panic!("{other:?}"),
            };
            assert_eq!(code, "errand.shared");
        }
        // What is for administrators is for nobody else.
        for ask in [
            Ask::Spool { payload: 1 },
            Ask::PoolList,
            Ask::Adopt { payload: 7 },
            Ask::Lease {
                payload: 7,
                target: named("alice"),
                groups: None,
                sweep: true,
            },
            Ask::PoolRelease {
                account: "alice".to_owned(),
                lease: "%2fcn%3dalice".to_owned(),
                idle_since: i64::MAX,
            },
        ] {
            assert_eq!(taken.refused(&ask), "monitor.mode");
        }
        for ask in [
            Ask::Begin {
                hierarchies: Vec::new(),
            },
            Ask::PoolClaim {
                lease: "%2fcn%3dalice".to_owned(),
                exact: "/CN=Alice".to_owned(),
                keep: true,
            },
            Ask::PoolLink {
                account: "alice".to_owned(),
                lease: "%2fcn%3dalice".to_owned(),
            },
        ] {
            taken.refused(&ask);
        }
        let facts = vec![("X".to_owned(), "1".to_owned())];
        for which in [Which::Prologue, Which::Epilogue] {
            let ask = Ask::Hook {
                payload: 7,
                which,
                facts: facts.clone(),
            };
            assert_eq!(taken.refused(&ask), "hook.none");
        }
        assert!(matches!(alices.try_wait(), Ok(None)), "it sleeps");
        assert_eq!(names_in("/tmp"), ["alices"]);
        alices.kill().expect("killed");
        alices.wait().expect("reaped");
    });
}

#[test]
fn m5_a_taken_broker_leases_pool_accounts_by_their_files_only() {
    with_taken(
        "gridmapdir = /etc/grid-security/gridmapdir\n",
        |cell, taken| {
            let dir = "/etc/grid-security/gridmapdir";
            for name in ["pool01", "pool02"] {
                put(format!("{dir}/{name}"), "", 0o644);
            }
            put("/etc/grid-security/precious", "keep", 0o644);
            let lease = "%2fcn%3dbob".to_owned();
            let link = |account: &str| {
                taken.ask(&Ask::PoolLink {
                    account: account.to_owned(),
                    lease: lease.clone(),
                })
            };
            assert!(matches!(
                link("pool03"),
                Reply::Linked(_) | Reply::Refused(_)
            ));
            assert_eq!(link("pool01"), Reply::Linked(Linked::Done));
            assert_eq!(names_in(dir), [lease.as_str(), "pool01", "pool02"]);
            // Names of other files do not even come out of the encoder; the monitor takes them from nobody.
            let good = Ask::PoolLink {
                account: "pool02".to_owned(),
                lease: "%2fcn%3dcarol".to_owned(),
            };
            let packet = good.encode().expect("a question");
            let bad = String::from_utf8_lossy(&packet).replace("%2fcn%3dcarol", "../precious%2");
            assert_eq!(bad.len(), packet.len());
            taken.ends_with(bad.as_bytes(), &[]);
            taken.pilot.end();
            taken.gone(cell);
            assert_eq!(names_in(dir), [lease.as_str(), "pool01", "pool02"]);
            assert_eq!(
                fs::read_to_string("/etc/grid-security/precious").expect("there"),
                "keep"
            );
        },
    );
}

#[test]
fn m9_a_taken_broker_forges_no_line_of_the_log() {
    with_taken("", |cell, taken| {
        let before = cell.log().lines().count();
        let forged = "\"event\":\"open\",\"verdict\":\"accepted\",\"uid\":0";
        let audit = |line: &str| {
            let ask = Ask::Audit {
                line: line.to_owned(),
            };
            let packet = [b"m".as_slice(), &ask.encode().expect("printable")].concat();
            taken.pilot.socket().send(&packet, &[]);
        };
        // A lie in its own name is all that it can tell.
        audit(forged);
        taken.ask(&Ask::Endings);
        let log = cell.log();
        let lines: Vec<_> = log.lines().skip(before).collect();
        let monitor = format!(",\"monitor\":{},{forged}}}", taken.pilot.id());
        assert_eq!(lines.len(), 1, "{log}");
        assert!(
            lines[0].starts_with("{\"time\":1") && lines[0].ends_with(&monitor),
            "{log}"
        );
        taken.end(cell);
        // Anybody else's name, another time, a second object, a second line: not even its own encoder lets that
        // through, and the monitor takes it from nobody.
        for evil in [
            "\"time\":1",
            "\"monitor\":1",
            "\"\\u0074ime\":1",
            "\"a\":1} {\"b\":1",
            "\"a\":\n1",
        ] {
            let line = format!("{forged},{evil}");
            assert!(
                Ask::Audit { line: line.clone() }.encode().is_err(),
                "{evil}"
            );
            let harmless = Ask::Audit {
                line: format!("\"a\":\"{}\"", "x".repeat(line.len() - 6)),
            };
            let mut packet = harmless.encode().expect("sound");
            let start = packet.len() - line.len();
            packet.splice(start.., line.into_bytes());
            let mut taken = Taken::start(cell);
            taken.ends_with(&packet, &[]);
            assert_eq!(taken.pilot.end(), Some(202));
            taken.gone(cell);
        }
        assert_eq!(cell.log().matches(forged).count(), 1, "{}", cell.log());
    });
}

#[test]
fn s21_what_a_taken_broker_tells_the_sites_programs_is_data() {
    in_cell(|cell| {
        put(
            "/opt/site/prologue",
            "#!/bin/sh\nexport -p >/var/site/environment\nid -u >/var/site/who\n",
            0o755,
        );
        fs::create_dir_all("/var/site").expect("made");
        own("/var/site", 65_534, 0o755);
        cell.configure("prologue = /opt/site/prologue\n");
        take_over();
        let mut taken = Taken::start(cell);
        let hook = |payload, name: &str, value: &str| Ask::Hook {
            payload,
            which: Which::Prologue,
            facts: vec![(name.to_owned(), value.to_owned())],
        };
        let value = "a\nLD_PRELOAD=/tmp/evil.so\n$(touch /tmp/evil)";
        let Reply::Started { child } = taken.ask(&hook(3, "JOB", value)) else {
            panic!("it starts");
        };
        eventually(
            "the prologue's end",
            SOON,
            || matches!(taken.ask(&Ask::Endings), Reply::Endings { ended, .. } if ended.contains(&(child, 0))),
        );
        let told = fs::read_to_string("/var/site/environment").expect("written");
        assert!(!told.contains("export LD_PRELOAD"), "{told}");
        assert!(told.contains("export SAILPLANE_JOB="), "{told}");
        assert_eq!(
            fs::read_to_string("/var/site/who").expect("written"),
            "65534\n"
        );
        assert_eq!(names_in("/tmp"), Vec::<String>::new());
        // Names are words; what is none ends it all.
        assert!(hook(4, "A=B", "").encode().is_err());
        assert!(hook(4, "A\nB", "").encode().is_err());
        taken.end(cell);
    });
}

#[test]
fn k2_a_taken_broker_that_ends_or_babbles_takes_everything_along() {
    in_cell(|cell| {
        take_over();
        let nonsense = vec![7; 300];
        let cut = Ask::Kill { payload: 1 }.encode().expect("a question")[..3].to_vec();
        let long = [Ask::Endings.encode().expect("a question"), vec![0]].concat();
        for packet in [nonsense, cut, long] {
            let mut taken = Taken::start(cell);
            taken.make(cell, 1);
            taken.ends_with(&packet, &[]);
            assert_eq!(taken.pilot.end(), Some(202));
            taken.gone(cell);
        }
        // A descriptor where none belongs, and none where one does.
        let errand = Errand::PutProxy {
            name: "proxy".into(),
        };
        for (ask, count) in [(Ask::Endings, 1), (Ask::Errand { payload: 1, errand }, 0)] {
            let mut taken = Taken::start(cell);
            taken.make(cell, 1);
            let file = pipe_with("");
            let beside = [file.as_raw_fd()];
            let packet = ask.encode().expect("a question");
            taken.ends_with(&packet, &beside[..count]);
            assert_eq!(taken.pilot.end(), Some(202));
            taken.gone(cell);
        }
        // It hangs up without a word.
        let mut taken = Taken::start(cell);
        taken.make(cell, 1);
        taken.pilot.socket().send(b"q", &[]);
        assert_eq!(taken.pilot.end(), Some(0));
        taken.gone(cell);
    });
}

#[test]
fn k1_the_order_of_the_introduction_is_fixed() {
    in_cell(|cell| {
        take_over();
        for order in [
            "admitted first",
            "configured twice",
            "begin twice",
            "lease first",
        ] {
            put("/etc/sailplane/taken", order, 0o644);
            let mut taken = Taken::start(cell);
            assert_eq!(taken.pilot.end(), Some(202), "{order}");
            taken.gone(cell);
        }
    });
}

#[test]
fn s11_a_broker_is_nobody_and_can_do_nothing_to_anybody() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, "echo up; sleep 1000");
        assert_eq!(running.line(), "up");
        let status = fs::read_to_string(format!("/proc/{}/status", pilot.broker())).expect("there");
        let field = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .expect("listed");
            line.trim_start_matches(':').trim().to_owned()
        };
        let ids = |name: &str| -> BTreeSet<u32> {
            field(name)
                .split_ascii_whitespace()
                .flat_map(str::parse)
                .collect()
        };
        let uid = *ids("Uid").first().expect("one");
        assert_eq!(
            (ids("Uid"), ids("Gid")),
            (BTreeSet::from([uid]), BTreeSet::from([uid]))
        );
        assert!(
            (FIRST_BROKER_UID..FIRST_BROKER_UID + BROKER_UIDS).contains(&uid),
            "{uid}"
        );
        assert_eq!(field("Groups"), "");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!(field("NoNewPrivs"), "1");
        let facts = format!("/proc/{}", pilot.broker());
        assert_eq!(fs::read(format!("{facts}/environ")).expect("readable"), b"");
        assert_eq!(
            fs::read_link(format!("{facts}/cwd")).expect("readable"),
            std::path::Path::new("/")
        );
        assert_eq!(
            processes_of(uid),
            [pilot.broker()],
            "nobody shares its number"
        );
        // Another process of that number, as one that runs in the broker would be: to the monitor, the other helpers
        // and the payload it can do nothing.
        let list = format!("/proc/{0}/task/{0}/children", pilot.id());
        let list = fs::read_to_string(list).expect("readable");
        let own_pid = pilot.broker().to_string();
        let others = list.split_whitespace().filter(|pid| *pid != own_pid);
        let others: Vec<_> = others
            .map(str::to_owned)
            .chain([pilot.id().to_string()])
            .collect();
        assert!(others.len() >= 4, "{others:?}");
        let script = format!(
            "for pid in {}; do kill -9 $pid; kill -STOP $pid; cat /proc/$pid/mem /proc/$pid/environ; \
             ls /proc/$pid/fd; done; cat {LIBEXEC}/../../etc/sailplane/switch.conf >/dev/null; \
             ls /run/sailplane/leases; touch /run/sailplane/leases/x {EXECUTE}/x",
            others.join(" ")
        );
        let attack = Program::new("setpriv")
            .args([
                format!("--reuid={uid}"),
                format!("--regid={uid}"),
                "--clear-groups".to_owned(),
            ])
            .args(["sh", "-c", &script])
            .output()
            .expect("runs");
        assert!(attack.stdout.is_empty(), "{attack:?}");
        assert_eq!(pilot.usage(opened.payload).processes, 2, "sh and sleep");
        pilot.close(opened.payload);
        assert_eq!(pilot.hang_up(), Some(0));
    });
}

#[test]
fn m3_nobody_with_a_brokers_number_may_call_or_be_called() {
    in_cell(|cell| {
        for uid in [FIRST_BROKER_UID, FIRST_BROKER_UID + BROKER_UIDS - 1] {
            let passwd = fs::read_to_string("/etc/passwd").expect("there");
            put(
                "/etc/passwd",
                &format!("{passwd}clash:x:{uid}:{uid}::/:/bin/sh\n"),
                0o644,
            );
            put("/etc/sailplane/gridmap", "\"/CN=Clash\" clash\n", 0o644);
            cell.configure("user_white_list = pilot, clash\n");
            let mut caller = Start {
                uid,
                ..Start::usual(cell)
            }
            .start();
            assert_eq!(caller.end(), Some(203));
            assert!(caller.last_words().contains("caller.number"));
            cell.configure("");
            let mut pilot = Pilot::start(cell);
            let refusal = pilot
                .try_open("accept 3600 full /CN=Clash")
                .expect_err("a broker's");
            assert_eq!(refusal.code, "map.account_unfit", "{refusal:?}");
            assert_eq!(pilot.hang_up(), Some(0));
        }
    });
}
