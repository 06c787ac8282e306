//! Requirements G1, G5, G8, G13 to G15: what a call does when all is well.

use std::io::{BufRead as _, BufReader, Read as _};
use std::time::{Duration, Instant};

use crate::cell::{GLEXEC, HERE, in_cell, make_dir, put, said};

#[test]
fn g15_the_test_of_every_pilot_framework() {
    in_cell(|cell| {
        let said = cell.run("$GLEXEC \"$(readlink -f /bin/sh)\" -c 'id && echo \"Hello World\"'");
        assert_eq!(said.status, Some(0), "{said:?}");
        let (id, greeting) = said.out.split_once('\n').expect("two lines");
        let (alice, lab) = (cell.alice, cell.alice + 1);
        assert_eq!(
            id,
            format!("uid={alice}(alice) gid={alice}(alice) groups={alice}(alice),{lab}(lab)")
        );
        assert_eq!(greeting, "Hello World\n");
        assert_eq!(said.err, "");
        // The second half of that test: a script in the caller's directory.
        let said = cell.run(
            "printf '#!/bin/sh\\nid && echo \"Hello World\"\\n' >test2.sh && chmod a+x test2.sh && \
             $GLEXEC \"$PWD/test2.sh\"",
        );
        assert_eq!(said.status, Some(0), "{said:?}");
        assert!(said.out.starts_with(&format!("uid={alice}(alice)")));
        assert_eq!(said.out.lines().last(), Some("Hello World"));
    });
}

#[test]
fn g1_options() {
    in_cell(|cell| {
        let help = cell.run("$GLEXEC -h");
        assert_eq!((help.status, help.err.as_str()), (Some(0), ""));
        assert!(help.out.contains("GLEXEC_CLIENT_CERT"));
        let version = cell.run("$GLEXEC -v");
        assert_eq!((version.status, version.err.as_str()), (Some(0), ""));
        assert!(version.out.starts_with("glexec (sailplane) "));
        let built_in = cell.run("$GLEXEC -V");
        assert_eq!((built_in.status, built_in.out.as_str()), (Some(201), ""));
        let root = std::process::Command::new(GLEXEC).arg("-V").output();
        let root = said(root.expect("runs"));
        assert_eq!((root.status, root.err.as_str()), (Some(0), ""));
        assert!(root.out.contains("/etc/sailplane/switch.conf"), "{root:?}");
        for wrong in ["", "-x", "--broker", "--", "-vh"] {
            let said = cell.run(&format!("$GLEXEC {wrong}"));
            assert_eq!((said.status, said.out.as_str()), (Some(201), ""), "{wrong}");
            assert!(said.err.contains("[usage, "), "{said:?}");
        }
        // Nobody has been asked for anything.
        assert_eq!(cell.log(), "");
    });
}

#[test]
fn the_one_shot_form_is_the_same_by_another_name() {
    in_cell(|cell| {
        for call in ["--", ""] {
            let said = cell.run(&format!(
                "/usr/lib/sailplane/sailplane-switch {call} /usr/bin/id -u"
            ));
            assert_eq!(
                (said.status, said.out),
                (Some(0), format!("{}\n", cell.alice))
            );
        }
    });
}

#[test]
fn g2_commands_are_found_in_the_configured_path_only() {
    in_cell(|cell| {
        put("/tmp/evil/id", "#!/bin/sh\necho evil\n", 0o755);
        put("/tmp/evil/own", "#!/bin/sh\necho evil\n", 0o755);
        let said = cell.run("PATH=/tmp/evil $GLEXEC id -u");
        assert_eq!(
            (said.status, said.out),
            (Some(0), format!("{}\n", cell.alice))
        );
        let said = cell.run("PATH=/tmp/evil:$PATH $GLEXEC own");
        assert_eq!(said.status, Some(201), "{said:?}");
        assert!(said.err.contains("[command.missing, "), "{said:?}");
    });
}

#[test]
fn g5_the_environment_is_exactly_this() {
    in_cell(|cell| {
        let said = cell.run(
            "export GLEXEC_TARGET_PROXY=/dev/null GLEXEC_ENV=abc GLEXEC_ID=7.0 GLEXEC_X='a\nb'\n\
             export SECRET=1 LD_PRELOAD=/evil.so MALLOC_CHECK_=3 BASH_ENV=/evil IFS=/ HOME=/evil\n\
             export GLEXEC_SOURCE_PROXY=$GLEXEC_CLIENT_CERT\n\
             exec \"$GLEXEC\" /usr/bin/env -0",
        );
        assert_eq!(said.status, Some(0), "{said:?}");
        let mut variables: Vec<_> = said.out.trim_end_matches('\0').split('\0').collect();
        variables.sort_unstable();
        assert_eq!(
            variables,
            [
                "GLEXEC_ENV=abc",
                "GLEXEC_ID=7.0",
                "GLEXEC_TARGET_PROXY=/dev/null",
                "GLEXEC_X=a\nb",
                "HOME=/home/alice",
                "LOGNAME=alice",
                "PATH=/usr/local/bin:/usr/bin:/bin",
                "SHELL=/bin/bash",
                "USER=alice",
            ]
        );
    });
}

#[test]
fn g8_the_exit_status_is_the_commands_own() {
    in_cell(|cell| {
        for (script, status) in [
            ("exit 0", 0),
            ("exit 1", 1),
            ("exit 127", 127),
            ("exit 200", 200),
            ("exit 201", 204),
            ("exit 202", 204),
            ("exit 203", 204),
            ("exit 204", 204),
            ("exit 205", 205),
            ("exit 255", 255),
            ("kill -TERM $$", 143),
            ("kill -KILL $$", 137),
            ("kill -SEGV $$", 139),
        ] {
            let said = cell.run(&format!("exec $GLEXEC /bin/sh -c '{script}'"));
            assert_eq!(said.status, Some(status), "{script}: {said:?}");
        }
    });
}

#[test]
fn g13_directory_mask_and_streams_are_as_callers_expect() {
    in_cell(|cell| {
        let said =
            cell.run("umask 077; echo in | $GLEXEC /bin/sh -c 'pwd; umask; cat; echo err >&2'");
        assert_eq!(said.status, Some(0));
        assert_eq!(said.out, format!("{HERE}\n0022\nin\n"));
        assert_eq!(said.err, "err\n");
        make_dir("/scratch/pilot/own", cell.pilot, 0o700);
        let said = cell.run("cd own && $GLEXEC /bin/pwd");
        assert_eq!(
            (said.status, said.out.as_str()),
            (Some(0), "/\n"),
            "{}",
            said.err
        );
    });
}

#[test]
fn s12_no_other_descriptor_reaches_the_command() {
    in_cell(|cell| {
        let said = cell.run("exec $GLEXEC /bin/ls /proc/self/fd 3</etc/passwd 4</ 9>/tmp/x");
        // 3 is what `ls` itself reads.
        assert_eq!((said.status, said.out.as_str()), (Some(0), "0\n1\n2\n3\n"));
    });
}

#[test]
fn g14_a_lingering_helper_holds_nothing_of_the_callers() {
    in_cell(|cell| {
        // The command closes its streams and lives on: their other ends must see that at once.
        let script = "exec $GLEXEC /bin/sh -c 'exec >/dev/null 2>&1; sleep 30'";
        let mut child = cell.begin(script);
        let begin = Instant::now();
        let mut text = Vec::new();
        child
            .stdout
            .take()
            .expect("a pipe")
            .read_to_end(&mut text)
            .expect("readable");
        child
            .stderr
            .take()
            .expect("a pipe")
            .read_to_end(&mut text)
            .expect("readable");
        assert!(begin.elapsed() < Duration::from_secs(10));
        assert!(child.try_wait().expect("ours").is_none(), "it lingers");
        signal(child.id(), libc::SIGTERM);
        assert_eq!(child.wait().expect("ends").code(), Some(128 + 15));
    });
}

#[test]
fn g14_the_report_closes_when_the_command_runs() {
    in_cell(|cell| {
        let script = "export GLEXEC_REPORT_FD=3; exec 3>&1; exec $GLEXEC /bin/sleep 30 >/dev/null";
        let mut child = cell.begin(script);
        let mut text = String::new();
        child
            .stdout
            .take()
            .expect("a pipe")
            .read_to_string(&mut text)
            .expect("readable");
        assert!(
            text.starts_with("{\"event\":\"started\",\"pid\":"),
            "{text}"
        );
        assert!(
            text.contains("\"account\":\"alice\",\"identity\":\"/CN=Alice\""),
            "{text}"
        );
        assert!(child.try_wait().expect("ours").is_none(), "it lingers");
        signal(child.id(), libc::SIGTERM);
        child.wait().expect("ends");
    });
}

#[test]
fn signals_are_passed_on() {
    in_cell(|cell| {
        for name in ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM"] {
            let number = match name {
                "HUP" => libc::SIGHUP,
                "INT" => libc::SIGINT,
                "QUIT" => libc::SIGQUIT,
                "USR1" => libc::SIGUSR1,
                "USR2" => libc::SIGUSR2,
                _ => libc::SIGTERM,
            };
            let script = format!(
                "exec $GLEXEC /bin/sh -c 'trap \"echo got {name}; exit 7\" {name}; echo ready; \
                 while :; do sleep 0.05; done'"
            );
            let mut child = cell.begin(&script);
            let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
            assert_eq!(lines.next().expect("a line").expect("text"), "ready");
            signal(child.id(), number);
            assert_eq!(
                lines
                    .next()
                    .unwrap_or_else(|| panic!("no line for {name}"))
                    .expect("text"),
                format!("got {name}")
            );
            assert_eq!(child.wait().expect("ends").code(), Some(7));
        }
    });
}

#[test]
fn k2_a_killed_front_takes_the_command_with_it() {
    in_cell(|cell| {
        let mut child =
            cell.begin("exec $GLEXEC /bin/sh -c 'echo ready; setsid sleep 1000 & sleep 1000'");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        assert_eq!(lines.next().expect("a line").expect("text"), "ready");
        signal(child.id(), libc::SIGKILL);
        child.wait().expect("ends");
        let begin = Instant::now();
        while !crate::cell::processes_of(cell.alice).is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(10), "they live");
            std::thread::yield_now();
        }
    });
}

pub(crate) fn signal(process: u32, number: i32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(process).expect("small"));
    let signal = nix::sys::signal::Signal::try_from(number).expect("a signal");
    nix::sys::signal::kill(pid, signal).expect("sent");
}
