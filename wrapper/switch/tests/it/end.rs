//! Requirements K2 to K10: whatever happens, nothing is left.

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use launch_protocol::broker::{Answer, Command, SignalScope};

use crate::cell::{EXECUTE, groups_of, in_cell, names_in, processes_of};
use crate::client::{Pilot, Running, Start, eventually, pipe_with};
use crate::strays::strays;

/// Nothing of this monitor and account is left.
fn assert_nothing_left(monitor: u32, uid: u32) {
    assert_eq!(processes_of(uid), Vec::<u32>::new());
    assert_eq!(groups_of(monitor), Vec::<std::path::PathBuf>::new());
    assert_eq!(names_in(EXECUTE), Vec::<String>::new());
    assert_eq!(names_in("/run/sailplane/leases"), Vec::<String>::new());
}

const SECOND: Duration = Duration::from_secs(1);

/// Ways to escape: double fork, own session, ignored signals, a bounded fork bomb, a stopped process.
const ESCAPE: &str = "trap '' TERM HUP INT; \
    (setsid sh -c 'sleep 1000 & sleep 1001' &) ; (sh -c '(sleep 1002 &)' &) ; \
    bomb() { [ $1 -gt 0 ] && { bomb $(($1-1)) & bomb $(($1-1)) & }; sleep 1003; }; bomb 5 & \
    sh -c 'kill -STOP $$' & \
    mkdir -p deep/er; chmod 000 deep; echo ready; exec sleep 1004";

fn wait_for_escapes(running: &Running, uid: u32) {
    assert_eq!(running.line(), "ready");
    eventually("the bomb", Duration::from_secs(10), || {
        processes_of(uid).len() > 60
    });
}

#[test]
fn k5_kill_reaches_everything() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, ESCAPE);
        wait_for_escapes(&running, opened.uid);
        let start = Instant::now();
        pilot.kill(opened.payload);
        let wanted = Answer::Exited {
            payload: opened.payload,
            wait_status: 9,
        };
        assert_eq!(pilot.event(), wanted);
        assert_eq!(
            pilot.event(),
            Answer::Empty {
                payload: opened.payload
            }
        );
        assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
        assert!(processes_of(opened.uid).is_empty());
        // The sandbox is there until it is closed; another agent can look into it.
        assert_eq!(pilot.run(opened.payload, "ls").0, "deep\n");
        pilot.close(opened.payload);
        pilot.hang_up();
        assert_nothing_left(pilot.id(), opened.uid);
    });
}

#[test]
fn k2_end_of_the_channel_cleans_up_within_a_second() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, ESCAPE);
        wait_for_escapes(&running, opened.uid);
        let idle = pilot.open();
        let start = Instant::now();
        assert_eq!(pilot.hang_up(), Some(0));
        assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
        assert_nothing_left(pilot.id(), opened.uid);
        assert_nothing_left(pilot.id(), idle.uid);
        assert!(
            cell.log()
                .contains(r#""event":"leave","why":"end of channel","payloads":"2""#),
            "{}",
            cell.log()
        );
    });
}

#[test]
fn k2_a_malformed_packet_ends_everything() {
    in_cell(|cell| {
        let good = launch_protocol::broker::Request {
            id: 9,
            command: Command::Kill { payload: 1 },
        };
        let good = good.encode().expect("valid");
        let mut long = good.clone();
        long.push(0);
        for packet in [
            b"nonsense".to_vec(),
            long,
            good[..4].to_vec(),
            vec![7; 32 * 1024],
        ] {
            let mut pilot = Pilot::start(cell);
            let opened = pilot.open();
            let running = pilot.begin(opened.payload, "echo ready; sleep 1000");
            assert_eq!(running.line(), "ready");
            pilot.socket().send(&packet, &[]);
            assert_eq!(pilot.end(), Some(0));
            assert_nothing_left(pilot.id(), opened.uid);
        }
        // A descriptor where none belongs, and none where one does.
        let mut pilot = Pilot::start(cell);
        pilot.send(Command::Kill { payload: 1 }, &[pipe_with("").as_raw_fd()]);
        assert_eq!(pilot.end(), Some(0));
        let mut pilot = Pilot::start(cell);
        pilot.send(Command::open("x", EXECUTE), &[]);
        assert_eq!(pilot.end(), Some(0));
    });
}

#[test]
fn k2_a_pilot_that_is_killed_leaves_nothing() {
    in_cell(|cell| {
        // The pilot's end is held by a process that is then killed with -9.
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, ESCAPE);
        wait_for_escapes(&running, opened.uid);
        let socket = pilot.socket.take().expect("open");
        let mut holder = std::process::Command::new("sleep")
            .arg("1000")
            .stdin(socket.0)
            .spawn()
            .expect("starts");
        assert!(!processes_of(opened.uid).is_empty());
        holder.kill().expect("killed");
        holder.wait().expect("reaped");
        assert_eq!(pilot.end(), Some(0));
        assert_nothing_left(pilot.id(), opened.uid);
    });
}

#[test]
fn k2_a_monitor_that_is_terminated_cleans_up() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, ESCAPE);
        wait_for_escapes(&running, opened.uid);
        let monitor = nix::unistd::Pid::from_raw(pilot.id().cast_signed());
        nix::sys::signal::kill(monitor, nix::sys::signal::Signal::SIGTERM).expect("sent");
        assert_eq!(pilot.end(), Some(0));
        assert_nothing_left(pilot.id(), opened.uid);
    });
}

/// Kills one of the two that a pilot cannot do without, while payloads do what they can to stay.
fn kill_one(who: impl Fn(&Pilot) -> u32 + Send + 'static, status: Option<i32>) {
    in_cell(move |cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let mapped = pilot.try_open("accept 3600 full /CN=Alice").expect("opens");
        let running = pilot.begin(opened.payload, ESCAPE);
        wait_for_escapes(&running, opened.uid);
        let alices = pilot.begin(
            mapped.payload,
            "(setsid sleep 1000 &); echo ready; sleep 1000",
        );
        assert_eq!(alices.line(), "ready");
        let victim = nix::unistd::Pid::from_raw(who(&pilot).cast_signed());
        let start = Instant::now();
        nix::sys::signal::kill(victim, nix::sys::signal::Signal::SIGKILL).expect("sent");
        assert_eq!(pilot.end(), status);
        eventually("the guardian's work", Duration::from_secs(5), || {
            names_in("/run/sailplane/leases").is_empty()
        });
        println!("all clean after {:?}", start.elapsed());
        assert_nothing_left(pilot.id(), opened.uid);
        assert_nothing_left(pilot.id(), mapped.uid);
        // Whoever was not killed goes as well.
        let gone = || strays().is_empty();
        eventually("the end of the last", Duration::from_secs(5), gone);
    });
}

#[test]
fn k10_a_killed_monitor_is_cleaned_up_after() {
    kill_one(Pilot::id, None);
}

#[test]
fn k10_a_killed_broker_is_cleaned_up_after() {
    // A machine's trouble that may be over the next time.
    kill_one(Pilot::broker, Some(202));
}

#[test]
fn k2_a_broker_that_stops_answering_does_not_keep_payloads_alive() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, ESCAPE);
        wait_for_escapes(&running, opened.uid);
        let broker = nix::unistd::Pid::from_raw(pilot.broker().cast_signed());
        let monitor = nix::unistd::Pid::from_raw(pilot.id().cast_signed());
        nix::sys::signal::kill(broker, nix::sys::signal::Signal::SIGSTOP).expect("sent");
        // Nobody hears the pilot hang up. Its batch system kills the monitor then.
        nix::sys::signal::kill(monitor, nix::sys::signal::Signal::SIGKILL).expect("sent");
        assert_eq!(pilot.end(), None);
        eventually("the guardian's work", Duration::from_secs(5), || {
            names_in("/run/sailplane/leases").is_empty()
        });
        assert_nothing_left(pilot.id(), opened.uid);
        let gone = || strays().is_empty();
        eventually("the end of the last", Duration::from_secs(5), gone);
    });
}

#[test]
fn k10_what_a_dead_monitor_and_its_guardian_left_is_recovered_at_start() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, ESCAPE);
        wait_for_escapes(&running, opened.uid);
        let children = format!("/proc/{0}/task/{0}/children", pilot.id());
        let children = std::fs::read_to_string(children).expect("readable");
        let all: Vec<i32> = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect();
        // Everything that is root's: the monitor and whoever watches it.
        let kill = |pid| {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        };
        for pid in all {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            if status.contains("Uid:\t0\t") {
                kill(pid);
            }
        }
        kill(pilot.id().cast_signed());
        assert_eq!(pilot.end(), None);
        assert!(
            !processes_of(opened.uid).is_empty(),
            "only the leader dies with the monitor"
        );
        assert_eq!(names_in("/run/sailplane/leases"), [opened.uid.to_string()]);
        let next = Pilot::start(cell);
        assert_nothing_left(pilot.id(), opened.uid);
        assert!(
            cell.log().contains("\"event\":\"recover\",\"lease\":"),
            "{}",
            cell.log()
        );
        drop(next);
    });
}

#[test]
fn signals_reach_whom_they_should() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let script = "exec python3 -c '
import os, signal
def say(word): signal.signal(signal.SIGUSR1, lambda *_: os.write(1, word))
say(b\"leader\\n\")
if os.fork() == 0:
    os.setsid(); say(b\"other\\n\"); os.write(1, b\"up\\n\")
while True: signal.pause()
'";
        let running = pilot.begin(opened.payload, script);
        assert_eq!(running.line(), "up");
        pilot.signal(opened.payload, libc::SIGUSR1, SignalScope::Leader);
        assert_eq!(running.line(), "leader");
        pilot.signal(opened.payload, libc::SIGUSR1, SignalScope::All);
        let mut both = [running.line(), running.line()];
        both.sort();
        assert_eq!(both, ["leader", "other"]);
        // Suspended and resumed, and no number that is none.
        pilot.signal(opened.payload, libc::SIGSTOP, SignalScope::All);
        pilot.signal(opened.payload, libc::SIGCONT, SignalScope::All);
        let bad = Command::Signal {
            payload: opened.payload,
            signal: 65,
            scope: SignalScope::All,
        };
        assert!(
            matches!(pilot.ask(bad, &[]).0, Answer::Refused(refusal) if refusal.code == "signal.number")
        );
        pilot.close(opened.payload);
        // After the end there is nobody to be signalled, and no payload of that number.
        let late = Command::Kill {
            payload: opened.payload,
        };
        assert!(
            matches!(pilot.ask(late, &[]).0, Answer::Refused(refusal) if refusal.code == "payload.unknown")
        );
    });
}

#[test]
fn k7_orphans_and_dead_children_are_counted() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        // An orphan burns half a second of CPU and holds 64 MiB; nobody waits for it.
        let script = "(setsid python3 -c '
import time
hold = bytearray(b\"x\") * (64 << 20)
while time.process_time() < 0.5: pass
' &) ; exit 0";
        let start = Instant::now();
        let (_, status) = pilot.run(opened.payload, script);
        assert_eq!(status, 0);
        let usage = pilot.usage(opened.payload);
        assert!(usage.user_usec + usage.system_usec > 450_000, "{usage:?}");
        assert!(usage.memory_peak_bytes > 64 << 20, "{usage:?}");
        assert_eq!(usage.processes, 0);
        assert!(usage.wall_usec > 450_000);
        assert!(Duration::from_micros(usage.wall_usec) <= start.elapsed());
        pilot.close(opened.payload);
    });
}

#[test]
fn k4_a_second_agent_waits_for_an_empty_group() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, "(setsid sleep 1000 &); echo ready");
        assert_eq!(running.line(), "ready");
        assert!(matches!(
            pilot.event(),
            Answer::Exited { wait_status: 0, .. }
        ));
        let refusal = pilot
            .try_spawn(opened.payload)
            .map(|_| ())
            .expect_err("an orphan lives");
        assert_eq!(refusal.code, "agent.busy");
        assert_eq!(pilot.usage(opened.payload).processes, 1);
        pilot.kill(opened.payload);
        assert_eq!(
            pilot.event(),
            Answer::Empty {
                payload: opened.payload
            }
        );
        assert_eq!(pilot.run(opened.payload, "echo again").0, "again\n");
        pilot.close(opened.payload);
    });
}

#[test]
fn k9_nothing_waits_for_the_next_user_of_a_uid() {
    in_cell(|cell| {
        cell.configure(&format!("dynamic_uids = {0}-{0}\n", cell.first));
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let script = "echo trap >/tmp/x; mkdir /var/tmp/d; echo trap >/var/tmp/d/y; \
            chmod 000 /var/tmp/d; echo trap >/dev/shm/z; ipcmk -M 4096 >/dev/null; ipcs -m | grep -c 0x";
        let (output, _) = pilot.run(opened.payload, script);
        assert_ne!(output, "0\n");
        std::fs::write("/tmp/roots", "").expect("written");
        pilot.close(opened.payload);
        assert_eq!(names_in("/tmp"), ["roots"]);
        assert!(names_in("/var/tmp").is_empty() && names_in("/dev/shm").is_empty());
        let again = pilot.open();
        assert_eq!(again.uid, opened.uid);
        let (output, _) = pilot.run(again.payload, "grep -cw $(id -u) /proc/sysvipc/shm");
        assert_eq!(output, "0\n");
    });
}

#[test]
fn s9_hostile_trees_are_removed_without_following_anything() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        std::fs::create_dir("/scratch/precious").expect("made");
        std::fs::write("/scratch/precious/file", "keep").expect("written");
        std::fs::set_permissions(
            "/scratch/precious",
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        )
        .expect("mode");
        let script = "python3 - <<'EOF'
import os
os.symlink('/scratch/precious', 'link')
os.symlink('/scratch/precious/file', 'file')
os.mkfifo('fifo')
os.mkdir('locked'); open('locked/x', 'w').close(); os.mkdir('locked/y'); os.chmod('locked', 0)
os.mkdir('readonly'); open('readonly/x', 'w').close(); os.chmod('readonly', 0o555)
open(b'\\xff\\n name', 'w').close()
top = os.getcwd()
for n in range(3000):
    os.mkdir('d' * 200); os.chdir('d' * 200)
os.chmod(top, 0)
EOF
echo made";
        assert_eq!(pilot.run(opened.payload, script).0, "made\n");
        pilot.close(opened.payload);
        pilot.hang_up();
        assert_nothing_left(pilot.id(), opened.uid);
        assert_eq!(
            std::fs::read_to_string("/scratch/precious/file").expect("there"),
            "keep"
        );
    });
}

#[test]
fn s9_what_cannot_be_removed_is_reported() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        // A mount inside, as only root can make one.
        let inside = opened.sandbox_path().join("mounted");
        std::fs::create_dir(&inside).expect("made");
        let none = None::<&str>;
        let flags = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(Some("/etc"), &inside, none, flags, none).expect("bind");
        let (answer, _) = pilot.ask(
            Command::Close {
                payload: opened.payload,
            },
            &[],
        );
        let Answer::Refused(refusal) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(refusal.code, "close.sandbox");
        assert!(std::fs::metadata("/etc/passwd").is_ok());
        // Recorded, and done by the next broker once it can be.
        assert_eq!(names_in("/run/sailplane/leases").len(), 1);
        nix::mount::umount(&inside).expect("unmounted");
        std::fs::remove_dir(&inside).expect("removed");
        let _next = Pilot::start(cell);
        assert!(names_in("/run/sailplane/leases").is_empty());
        assert!(names_in(EXECUTE).is_empty());
    });
}

#[test]
fn the_agent_ends_with_its_socket_and_many_payloads_run_at_once() {
    in_cell(|cell| {
        let mut pilot = Start::usual(cell).start();
        pilot.greet();
        let all: Vec<_> = (0..4).map(|_| pilot.open()).collect();
        let running: Vec<_> = all
            .iter()
            .map(|one| pilot.begin(one.payload, "echo up; sleep 1000"))
            .collect();
        assert!(running.iter().all(|one| one.line() == "up"));
        let closing: Vec<_> = all
            .iter()
            .map(|one| {
                pilot.send(
                    Command::Close {
                        payload: one.payload,
                    },
                    &[],
                )
            })
            .collect();
        let mut closed: Vec<_> = (0..4)
            .map(|_| {
                let (id, answer, _) = pilot.reply();
                assert_eq!(answer, Answer::Closed);
                id
            })
            .collect();
        closed.sort_unstable();
        assert_eq!(closed, closing);
        let opened = pilot.open();
        drop(pilot.spawn(opened.payload));
        // Events of the four come first.
        eventually("the agent's end", Duration::from_secs(5), || {
            pilot.event()
                == Answer::Exited {
                    payload: opened.payload,
                    wait_status: 0,
                }
        });
    });
}
