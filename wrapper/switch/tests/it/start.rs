//! Requirements S1, S4, G3, G11: who may start the helper, and in what condition.

use launch_protocol::VERSION;
use launch_protocol::broker::{Answer, Command, RefusalClass};

use crate::cell::{Cell, LIBEXEC, in_cell, own};
use crate::client::{Pilot, Start};

/// Starts a broker that must refuse; its exit status, standard error, and code on the socket.
fn refused(start: Start) -> (Option<i32>, String, String) {
    let mut pilot = start.start();
    let code = match pilot.ask(Command::Hello { version: VERSION }, &[]).0 {
        Answer::Refused(refusal) => {
            assert!(matches!(
                refusal.class,
                RefusalClass::Caller | RefusalClass::SitePermanent
            ));
            refusal.code
        }
        other => panic!("not refused: {other:?}"),
    };
    let status = pilot.end();
    (status, pilot.last_words(), code)
}

fn wrapped(cell: &Cell, wrap: &str) -> Start {
    Start {
        wrap: wrap.to_owned(),
        ..Start::usual(cell)
    }
}

#[test]
fn g11_a_caller_that_is_not_listed_is_refused() {
    in_cell(|cell| {
        let (status, words, code) = refused(Start {
            uid: cell.alice,
            ..Start::usual(cell)
        });
        assert_eq!((status, code.as_str()), (Some(203), "caller.not_listed"));
        assert!(
            words.contains("(alice) is not in user_white_list"),
            "{words}"
        );
        assert!(
            cell.log()
                .contains("\"event\":\"start\",\"verdict\":\"refused\"")
        );
    });
}

#[test]
fn g11_root_is_a_caller_only_if_listed() {
    in_cell(|cell| {
        let (status, _, code) = refused(Start {
            uid: 0,
            ..Start::usual(cell)
        });
        assert_eq!((status, code.as_str()), (Some(203), "caller.not_listed"));
    });
}

#[test]
fn s23_a_payload_account_is_refused_even_if_everyone_is_listed() {
    in_cell(|cell| {
        cell.configure("user_white_list = *\n");
        let (status, _, code) = refused(Start {
            uid: cell.first + 1,
            ..Start::usual(cell)
        });
        assert_eq!((status, code.as_str()), (Some(203), "caller.unfit"));
        // And a payload itself cannot even become root.
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let script = format!("{LIBEXEC}/sailplane-switch --broker 2>&1 3<&0; echo $?");
        let (output, _) = pilot.run(opened.payload, &script);
        assert!(
            output.ends_with("201\n") || output.ends_with("202\n"),
            "{output}"
        );
    });
}

#[test]
fn g3_a_program_without_the_bit_says_so() {
    in_cell(|cell| {
        own("/opt/sailplane/sailplane-switch", 0, 0o755);
        let (status, words, code) = refused(Start::usual(cell));
        assert_eq!((status, code.as_str()), (Some(202), "startup.setuid"));
        assert!(
            words.contains("/opt/sailplane/sailplane-switch must belong to root"),
            "{words}"
        );
    });
}

#[test]
fn g3_a_caller_with_no_new_privs_is_told_so() {
    in_cell(|cell| {
        let (status, words, code) = refused(wrapped(cell, "exec setpriv --no-new-privs {}"));
        assert_eq!((status, code.as_str()), (Some(202), "startup.no_new_privs"));
        assert!(words.contains("no_new_privs"), "{words}");
    });
}

#[test]
fn g3_a_nosuid_mount_is_named() {
    in_cell(|cell| {
        use nix::mount::{MsFlags, mount};
        let dir = "/opt/sailplane";
        let none = None::<&str>;
        mount(Some(dir), dir, none, MsFlags::MS_BIND, none).expect("bind");
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID;
        mount(none, dir, none, flags, none).expect("remount");
        let (status, words, code) = refused(Start::usual(cell));
        assert_eq!((status, code.as_str()), (Some(202), "startup.nosuid"));
        assert!(words.contains("mounted nosuid"), "{words}");
    });
}

#[test]
fn s4_a_user_namespace_is_refused() {
    in_cell(|cell| {
        let start = Start {
            uid: 0,
            wrap: "exec unshare -U -r {}".to_owned(),
            ..Start::usual(cell)
        };
        let (status, _, code) = refused(start);
        assert_eq!((status, code.as_str()), (Some(202), "startup.userns"));
    });
}

#[test]
fn s1_no_standard_descriptors_are_no_problem() {
    in_cell(|cell| {
        let mut pilot = wrapped(cell, "exec {} 0<&- 1>&- 2>&-").start();
        pilot.greet();
        let opened = pilot.open();
        assert_eq!(
            pilot.run(opened.payload, "echo out; echo err >&2").0,
            "out\nerr\n"
        );
    });
}

#[test]
fn s1_odd_conditions_at_start_change_nothing() {
    let conditions = [
        // Soft limits only: not every root may raise hard ones. Ignored signals, an odd mask.
        "trap '' TERM INT CHLD PIPE; umask 0777; exec {}",
        "ulimit -c 0; ulimit -S -f 0; ulimit -t 60; exec {}",
        "ulimit -S -n 16; exec {}",
        "ulimit -s 256; exec {}",
        // A directory that is gone.
        "mkdir /tmp/gone; cd /tmp/gone; rmdir /tmp/gone; exec {}",
        // Further descriptors.
        "exec 4</etc/passwd 5>/tmp/x 9</; exec {}",
    ];
    in_cell(move |cell| {
        for condition in conditions {
            let mut pilot = wrapped(cell, condition).start();
            pilot.greet();
            let opened = pilot.open();
            let (output, status) = pilot.run(opened.payload, "umask; ls /proc/self/fd; trap");
            // 3 is what `ls` itself reads.
            assert_eq!(
                (output.as_str(), status),
                ("0022\n0\n1\n2\n3\n", 0),
                "{condition}"
            );
            pilot.close(opened.payload);
            assert_eq!(pilot.hang_up(), Some(0), "{condition}");
        }
    });
}

#[test]
fn s1_a_hostile_environment_reaches_nobody() {
    in_cell(|cell| {
        let hostile = [
            ("LD_PRELOAD", "/tmp/evil.so"),
            ("LD_LIBRARY_PATH", "/tmp"),
            ("LD_AUDIT", "/tmp/evil.so"),
            ("GCONV_PATH", "/tmp"),
            ("GLIBC_TUNABLES", "glibc.malloc.check=3"),
            ("MALLOC_TRACE", "/tmp/trace"),
            ("BASH_ENV", "/tmp/evil.sh"),
            ("OPENSSL_CONF", "/tmp/evil.cnf"),
            ("RUST_BACKTRACE", "full"),
            ("PATH", "/tmp"),
            ("IFS", "/"),
        ];
        let env = hostile
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let big = (0..16).map(|n| (format!("BIG{n}"), "x".repeat(120_000)));
        let mut pilot = Start {
            env: env.chain(big).collect(),
            ..Start::usual(cell)
        }
        .start();
        pilot.greet();
        let broker = std::fs::read(format!("/proc/{}/environ", pilot.id())).expect("readable");
        // What the kernel laid out at start is still shown; the libraries' view is empty.
        assert!(!broker.is_empty());
        let opened = pilot.open();
        let (output, _) = pilot.run(opened.payload, "/usr/bin/env | sort");
        assert_eq!(
            output,
            format!(
                "PATH=/usr/bin:/bin\nPWD={}\n",
                opened.sandbox_path().display()
            )
        );
        assert_eq!(crate::cell::names_in("/tmp"), Vec::<String>::new());
    });
}

#[test]
fn k1_the_caller_can_neither_signal_nor_trace_monitor_or_broker() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let all = format!("{} {}", pilot.id(), pilot.broker());
        let script = format!(
            "for id in {all}; do kill -KILL $id; kill -STOP $id; cat /proc/$id/maps /proc/$id/mem; done"
        );
        let attack = std::process::Command::new("setpriv")
            .args([
                &format!("--reuid={}", cell.pilot),
                &format!("--regid={}", cell.pilot),
            ])
            .args(["--clear-groups", "sh", "-c", &script])
            .output()
            .expect("runs");
        let words = String::from_utf8_lossy(&attack.stderr);
        assert_eq!(words.matches("not permitted").count(), 4, "{words}");
        assert!(attack.stdout.is_empty());
        let opened = pilot.open();
        pilot.close(opened.payload);
    });
}

#[test]
fn the_command_line_is_fixed() {
    in_cell(|cell| {
        for arguments in ["", "--help", "--broker=x"] {
            let output = std::process::Command::new("sh")
                .arg("-c")
                .arg(format!("exec {LIBEXEC}/sailplane-switch {arguments}"))
                .output()
                .expect("runs");
            assert_eq!(output.status.code(), Some(201), "{arguments}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("usage: sailplane-switch"));
        }
        // Without a socket on 3.
        let line = format!("exec {LIBEXEC}/sailplane-switch --broker 3</dev/null");
        let output = std::process::Command::new("sh")
            .args(["-c", &line])
            .output()
            .expect("runs");
        assert_eq!(output.status.code(), Some(201));
        assert!(String::from_utf8_lossy(&output.stderr).contains("startup.socket"));
        let _ = cell;
    });
}

#[test]
fn another_protocol_version_is_refused() {
    in_cell(|cell| {
        let mut pilot = Start::usual(cell).start();
        let (answer, _) = pilot.ask(
            Command::Hello {
                version: VERSION + 1,
            },
            &[],
        );
        let Answer::Refused(refusal) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(refusal.code, "startup.version");
        assert_eq!(pilot.end(), Some(201));
    });
}
