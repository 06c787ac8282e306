//! Payloads that are made before anybody wants them, through the whole helper: with enough numbers for dynamic accounts
//! (the usual cell has too few) one with lease, group, sandbox and agent is always there. It must be no other than one
//! that is made when it is wanted, and must not stay behind, whoever ends when.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use launch_protocol::agent::Reply;
use launch_protocol::broker::{Answer, Command, Opened};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cell::{Cell, EXECUTE, children, groups_of, in_cell, names_in, own, processes_of, put};
use crate::client::{Pilot, eventually, pipe_with};
use crate::strays::strays;

const LEASES: &str = "/run/sailplane/leases";
const SOON: Duration = Duration::from_secs(10);
/// The fewest numbers with which one is kept ready.
const ENOUGH: u32 = 8;

fn numbers(first: u32, count: u32) -> String {
    format!("dynamic_uids = {first}-{}\n", first + count - 1)
}

/// A test in a cell with so many numbers, and with these lines in its configuration.
fn with_numbers(lines: &'static str, test: impl FnOnce(&Cell) + Send + 'static) {
    in_cell(move |cell| {
        cell.configure(&(numbers(cell.first, ENOUGH) + lines));
        test(cell);
    });
}

/// The account of the payload that is ready beside those that are open.
fn ready(open: &[&Opened]) -> Option<u32> {
    let is_open = |uid: &u32| open.iter().any(|opened| opened.uid == *uid);
    let leased = names_in(LEASES)
        .into_iter()
        .filter_map(|name| name.parse().ok());
    let mut others = leased.filter(|uid| !is_open(uid));
    let uid = others.next()?;
    assert_eq!(others.next(), None, "more than one is ready");
    let complete = !processes_of(uid).is_empty() && names_in(EXECUTE).len() == open.len() + 1;
    complete.then_some(uid)
}

#[track_caller]
fn await_ready(open: &[&Opened]) -> u32 {
    let start = Instant::now();
    while ready(open).is_none() {
        let there = (names_in(LEASES), names_in(EXECUTE), strays());
        assert!(start.elapsed() < SOON, "none is made ahead: {there:?}");
        let _ = nix::poll::poll(&mut [], 5_u8);
    }
    ready(open).expect("ready")
}

/// A pilot with one ready: the first is made when it is known where payloads are wanted.
fn start(cell: &Cell) -> Pilot {
    let mut pilot = Pilot::start(cell);
    let first = pilot.try_open("accept 600 full /CN=First").expect("opens");
    pilot.close(first.payload);
    await_ready(&[]);
    pilot
}

/// Nothing of this monitor is left anywhere.
fn assert_clean(monitor: u32) {
    eventually("the end of everybody", SOON, || strays().is_empty());
    assert_eq!(names_in(EXECUTE), Vec::<String>::new());
    assert_eq!(names_in(LEASES), Vec::<String>::new());
    assert_eq!(groups_of(monitor), Vec::<std::path::PathBuf>::new());
}

#[test]
fn one_that_was_made_ahead_is_a_payload_like_any_other() {
    with_numbers("", |cell| {
        let mut pilot = start(cell);
        let uid = await_ready(&[]);
        // Nobody else can reach into it while it waits.
        let place = format!("{EXECUTE}/{}", names_in(EXECUTE)[0]);
        use std::os::unix::fs::MetadataExt as _;
        let facts = fs::metadata(&place).expect("there");
        assert_eq!((facts.uid(), facts.mode() & 0o7777), (uid, 0o700));
        let one = pilot.open();
        assert_eq!((one.uid, one.lease.as_str()), (uid, "dynamic"));
        assert_eq!(one.sandbox_path().display().to_string(), place);
        // The next is ready while this one runs.
        let running = pilot.begin(one.payload, "echo up; exec sleep 1000");
        assert_eq!(running.line(), "up");
        let next = await_ready(&[&one]);
        let two = pilot.open();
        assert_eq!(two.uid, next);
        assert_ne!((two.uid, &two.sandbox), (one.uid, &one.sandbox));
        let script = "id -u; id -G; umask; pwd; ls -A; grep -E 'NoNewPrivs|CapBnd' /proc/self/status; \
            set -- /proc/$$/fd/*; echo $#";
        let (output, status) = pilot.run(two.payload, script);
        let wanted = format!(
            "{0}\n{0}\n0022\n{1}\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\n4\n",
            two.uid,
            two.sandbox_path().display()
        );
        assert_eq!((output, status), (wanted, 0));
        // Killing one leaves the other, and the one that waits.
        let third = await_ready(&[&one, &two]);
        pilot.kill_to_the_end(one.payload);
        assert!(processes_of(one.uid).is_empty() && !processes_of(third).is_empty());
        pilot.close(one.payload);
        pilot.close(two.payload);
        assert_eq!(pilot.hang_up(), Some(0));
        assert_clean(pilot.id());
        // The log names the job, in the record of the lease too while it ran.
        assert_eq!(
            cell.log()
                .matches("\"event\":\"open\",\"verdict\":\"accepted\"")
                .count(),
            3,
            "{}",
            cell.log()
        );
    });
}

#[test]
fn k9_many_one_after_the_other_find_nothing_of_each_other() {
    with_numbers("", |cell| {
        let mut pilot = start(cell);
        for round in 0..ENOUGH * 3 {
            // Some before the next is ready, some after.
            if round % 3 == 0 {
                await_ready(&[]);
            }
            let opened = pilot.open();
            let script = "ls -A . /tmp /var/tmp /dev/shm | grep -v ':$' | tr -d '\\n'; ipcs -m | grep -c $(id -u); \
                echo left >/tmp/mine; echo left >mine; (setsid sleep 1000 >/dev/null 2>&1 &)";
            let output = pilot.begin(opened.payload, script).output();
            let mut event = pilot.event();
            while matches!(event, Answer::Empty { .. }) {
                event = pilot.event();
            }
            assert_eq!(output, "0\n", "round {round}");
            assert!(
                matches!(event, Answer::Exited { wait_status: 0, .. }),
                "round {round}: {event:?}"
            );
            pilot.close(opened.payload);
            assert!(processes_of(opened.uid).is_empty());
        }
        assert_eq!(pilot.hang_up(), Some(0));
        assert_clean(pilot.id());
        assert_eq!(names_in("/tmp"), Vec::<String>::new());
    });
}

#[test]
fn k6_it_is_warned_renewed_and_killed_by_its_own_credential() {
    with_numbers("kill_before_expiry = 58\nkill_grace = 1\n", |cell| {
        let mut pilot = start(cell);
        let uid = await_ready(&[]);
        let opened = pilot.try_open("accept 60 full /CN=Bob").expect("opens");
        assert_eq!(opened.uid, uid);
        let payload = opened.payload;
        let running = pilot.begin(
            payload,
            "trap '' TERM; echo up; while :; do sleep 0.1; done",
        );
        assert_eq!(running.line(), "up");
        // Of somebody else's it takes none.
        let mut renew = |credential: &str| {
            let pipe = pipe_with(credential);
            let command = Command::Renew {
                payload,
                proxy: None,
            };
            pilot.ask(command, &[pipe.as_raw_fd()]).0
        };
        assert!(matches!(
            renew("accept 600 full /CN=Eve"),
            Answer::Refused(_)
        ));
        let start = Instant::now();
        assert!(matches!(
            renew("accept 61 full /CN=Bob"),
            Answer::Renewed { .. }
        ));
        assert_eq!(pilot.event(), Answer::Expiring { payload });
        assert!(
            start.elapsed() > Duration::from_millis(1500),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(pilot.event(), Answer::KilledForExpiry { payload });
        assert!(matches!(
            pilot.event(),
            Answer::Exited { wait_status: 9, .. }
        ));
        assert_eq!(pilot.event(), Answer::Empty { payload });
        pilot.close(payload);
        assert_eq!(pilot.hang_up(), Some(0));
        assert_clean(pilot.id());
    });
}

/// Ends somebody while one is ready, and one is open or not.
fn ends(who: impl Fn(&mut Pilot) -> Option<i32> + Send + 'static) {
    with_numbers("", move |cell| {
        for with_open in [false, true] {
            let mut pilot = start(cell);
            let opened = with_open.then(|| pilot.open());
            await_ready(&opened.iter().collect::<Vec<_>>());
            who(&mut pilot);
            pilot.end();
            assert_clean(pilot.id());
        }
    });
}

#[test]
fn k2_a_pilot_that_goes_while_one_is_ready_leaves_nothing() {
    ends(Pilot::hang_up);
}

#[test]
fn k10_a_monitor_that_is_killed_while_one_is_ready_leaves_nothing() {
    ends(|pilot| {
        kill(Pid::from_raw(pilot.id().cast_signed()), Signal::SIGKILL).expect("killed");
        None
    });
}

#[test]
fn k10_a_broker_that_is_killed_while_one_is_ready_leaves_nothing() {
    ends(|pilot| {
        kill(Pid::from_raw(pilot.broker().cast_signed()), Signal::SIGKILL).expect("killed");
        None
    });
}

#[test]
fn k2_a_monitor_that_is_terminated_while_one_is_ready_leaves_nothing() {
    ends(|pilot| {
        kill(Pid::from_raw(pilot.id().cast_signed()), Signal::SIGTERM).expect("sent");
        None
    });
}

#[test]
fn one_whose_agent_has_died_is_given_to_nobody() {
    with_numbers("", |cell| {
        let mut pilot = start(cell);
        for _ in 0..3 {
            let uid = await_ready(&[]);
            for pid in processes_of(uid) {
                kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("killed");
            }
            // Whether the broker has heard of it or not.
            eventually("its end", SOON, || processes_of(uid).is_empty());
            let opened = pilot.open();
            assert_eq!(pilot.run(opened.payload, "echo fine").0, "fine\n");
            pilot.close(opened.payload);
        }
        assert_eq!(pilot.hang_up(), Some(0));
        assert_clean(pilot.id());
    });
}

#[test]
fn m1_a_ban_between_making_and_taking_counts() {
    let bans = "/etc/sailplane/bans";
    in_cell(move |cell| {
        put(bans, "# nobody\n", 0o644);
        cell.configure(&(numbers(cell.first, ENOUGH) + &format!("ban_lists = {bans}\n")));
        let mut pilot = start(cell);
        let uid = await_ready(&[]);
        put(bans, "dn \"/CN=Bob\"\n", 0o644);
        let refusal = pilot
            .try_open("accept 600 full /CN=Bob")
            .expect_err("banned");
        assert_eq!(refusal.code, "ban.dn");
        // What was made for nobody in particular is there for the next.
        assert_eq!(await_ready(&[]), uid);
        let opened = pilot.try_open("accept 600 full /CN=Carol").expect("opens");
        assert_eq!(opened.uid, uid);
        // Somebody with an account of their own does not get it, and leaves it alone.
        let next = await_ready(&[&opened]);
        let alice = pilot.try_open("accept 600 full /CN=Alice").expect("opens");
        assert_eq!(alice.uid, cell.alice);
        assert!(!processes_of(next).is_empty());
        assert_eq!(pilot.hang_up(), Some(0));
        assert_clean(pilot.id());
    });
}

#[test]
fn g10_a_configuration_that_changes_between_making_and_taking_counts() {
    with_numbers("", |cell| {
        let mut pilot = start(cell);
        // Other numbers.
        let other = cell.first + 20;
        cell.configure(&numbers(other, ENOUGH));
        let opened = pilot.open();
        assert!((other..other + ENOUGH).contains(&opened.uid), "{opened:?}");
        pilot.close(opened.payload);
        await_ready(&[]);
        // Another view of the node, and limits.
        cell.configure(&(numbers(other, ENOUGH) + "private_tmp = yes\nlimits = nofile=77\n"));
        put("/tmp/outside", "", 0o644);
        let opened = pilot.open();
        let (output, _) = pilot.run(opened.payload, "ls -A /tmp; ulimit -Hn");
        assert_eq!(output, "77\n");
        pilot.close(opened.payload);
        await_ready_with_tmp();
        let opened = pilot.open();
        assert_eq!(
            pilot.run(opened.payload, "ls -A /tmp; ulimit -Hn").0,
            "77\n"
        );
        pilot.close(opened.payload);
        // No dynamic accounts any more, and a caller who is not on the list.
        cell.configure(&(numbers(other, ENOUGH) + "user_white_list = somebody\n"));
        let refusal = pilot
            .try_open("accept 600 full /CN=Bob")
            .expect_err("refused");
        assert_eq!(refusal.code, "caller.not_listed");
        assert_eq!(pilot.hang_up(), Some(0));
        assert_clean(pilot.id());
    });
}

/// With directories for `/tmp` and `/var/tmp` beside the sandbox.
fn await_ready_with_tmp() {
    eventually("a payload made ahead", SOON, || {
        names_in(EXECUTE).len() == 3
    });
}

#[test]
fn s9_a_place_that_is_wanted_elsewhere_or_changes_is_looked_at_again() {
    with_numbers("", |cell| {
        let other = "/scratch/other";
        fs::create_dir_all(other).expect("made");
        own(other, cell.pilot, 0o755);
        let mut pilot = start(cell);
        let here = pilot.try_open_in("accept 600 full /CN=Bob", EXECUTE);
        pilot.close(here.expect("opens").payload);
        await_ready(&[]);
        // It is in the wrong place now.
        let opened = pilot
            .try_open_in("accept 600 full /CN=Bob", other)
            .expect("opens");
        assert!(opened.sandbox_path().starts_with(other));
        pilot.close(opened.payload);
        eventually("one made there", SOON, || names_in(other).len() == 1);
        // The caller moves it away and puts a link there: what was made is reached by its descriptor only.
        let name = names_in(other).remove(0);
        fs::rename(format!("{other}/{name}"), format!("{other}/moved")).expect("moved");
        std::os::unix::fs::symlink("/etc", format!("{other}/{name}")).expect("linked");
        let opened = pilot
            .try_open_in("accept 600 full /CN=Bob", other)
            .expect("opens");
        // The agent is where it was, or sees that this is not its account's place and says so.
        let (_, agent) = pilot.try_spawn(opened.payload).expect("spawns");
        let (reply, _) = agent.reply();
        assert!(
            matches!(reply, Reply::Trouble { .. } | Reply::Ready),
            "{reply:?}"
        );
        drop(agent);
        let (answer, _) = pilot.ask(
            Command::Close {
                payload: opened.payload,
            },
            &[],
        );
        assert!(
            matches!(answer, Answer::Closed | Answer::Refused(_)),
            "{answer:?}"
        );
        pilot.hang_up();
        assert!(
            fs::exists("/etc/sailplane/switch.conf").expect("seen"),
            "nothing of /etc is gone"
        );
        for name in names_in(other) {
            let path = format!("{other}/{name}");
            let _ = fs::remove_file(&path);
            let _ = fs::remove_dir_all(&path);
        }
    });
}

#[test]
fn none_is_kept_when_no_job_comes() {
    with_numbers("warm_time = 1\n", |cell| {
        let mut pilot = start(cell);
        let is_cold = |pilot: &Pilot| {
            let servants = ["sailplane-job", "sailplane-verify", "sailplane-names"];
            names_in(LEASES).is_empty()
                && names_in(EXECUTE).is_empty()
                && groups_of(pilot.id()).is_empty()
                && servants
                    .iter()
                    .all(|name| children(pilot.id(), name).is_empty())
        };
        eventually("nothing waits any more", SOON, || is_cold(&pilot));
        let opened = pilot.open();
        assert_eq!(pilot.run(opened.payload, "echo up").0, "up\n");
        pilot.close(opened.payload);
        await_ready(&[]);
        eventually("nothing waits any more", SOON, || is_cold(&pilot));
        pilot.prepare();
        await_ready(&[]);
        assert_eq!(pilot.hang_up(), Some(0));
        assert_clean(pilot.id());
    });
}

#[test]
fn k5_a_storm_on_payloads_that_were_made_ahead_asks_nobody() {
    const MANY: u32 = 300;
    in_cell(|cell| {
        // Beyond those of all cells.
        let first = 700_000_000 + std::process::id() % 1_000_000 * 1000;
        cell.configure(&numbers(first, MANY + 20));
        let mut pilot = Pilot::start(cell);
        let mut running = Vec::new();
        let mut payloads = Vec::new();
        for _ in 0..MANY {
            let opened = pilot.open();
            assert!((first..first + MANY + 20).contains(&opened.uid));
            running.push(pilot.begin(opened.payload, "exec sleep 1000"));
            payloads.push(opened.payload);
        }
        // From here on nobody could authorise anything.
        fs::remove_dir_all("/etc/sailplane").expect("removed");
        fs::remove_dir_all("/etc/grid-security").expect("removed");
        for name in ["sailplane-names", "sailplane-verify"] {
            fs::remove_file(format!("{}/{name}", crate::cell::LIBEXEC)).expect("removed");
            for pid in children(pilot.id(), name) {
                kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("killed");
            }
        }
        let decisions = || {
            cell.log()
                .lines()
                .filter(|line| line.contains("verdict"))
                .count()
        };
        let before = decisions();
        let start = Instant::now();
        let mut left = payloads.len();
        let mut next = payloads.iter();
        // A few on their way at any time: a pilot that does not read is taken for gone.
        let mut under_way = 0;
        while left > 0 {
            while under_way < 8
                && let Some(payload) = next.next()
            {
                pilot.send(Command::Close { payload: *payload }, &[]);
                under_way += 1;
            }
            let (_, answer, _) = pilot.reply();
            assert_eq!(answer, Answer::Closed);
            (left, under_way) = (left - 1, under_way - 1);
        }
        println!(
            "{MANY} payloads made ahead, cancelled and cleaned up in {:?}",
            start.elapsed()
        );
        assert_eq!(
            decisions(),
            before,
            "nothing is authorised when payloads are cancelled"
        );
        assert_eq!(pilot.hang_up(), Some(0));
        drop(running);
        assert_clean(pilot.id());
    });
}

#[test]
fn s12_what_waits_tells_its_agents_news_to_whoever_gets_it() {
    with_numbers("", |cell| {
        let mut pilot = start(cell);
        let opened = pilot.open();
        let (_, agent) = pilot.try_spawn(opened.payload).expect("spawns");
        // One greeting, not two, and nothing before it.
        assert_eq!(agent.reply().0, Reply::Ready);
        let (reply, _) = agent.ask(&launch_protocol::agent::Request::OpenRead {
            path: "none".into(),
            follow: false,
        });
        assert!(matches!(reply, Reply::Failed { .. }), "{reply:?}");
        drop(agent);
        pilot.close(opened.payload);
        assert_eq!(pilot.hang_up(), Some(0));
        assert_clean(pilot.id());
    });
}
