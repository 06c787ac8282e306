//! Requirement S1 for the drop-in: odd conditions at start change nothing, or are refused.

use crate::cell::{GLEXEC, in_cell, said};

#[test]
fn s1_odd_conditions_change_nothing() {
    in_cell(|cell| {
        let expected = format!("{}\n", cell.alice);
        for condition in [
            "trap '' TERM INT HUP CHLD PIPE; umask 0777; exec $GLEXEC /usr/bin/id -u",
            "export GLEXEC_TARGET_PROXY=/dev/null; ulimit -S -f 0; ulimit -t 60; exec $GLEXEC /usr/bin/id -u",
            "ulimit -S -n 16; exec $GLEXEC /usr/bin/id -u",
            "ulimit -s 256; exec $GLEXEC /usr/bin/id -u",
            "mkdir gone; cd gone; rmdir ../gone; exec $GLEXEC /usr/bin/id -u",
            "exec $GLEXEC /usr/bin/id -u 3</ 4</etc/passwd 9</dev/null",
            "exec $GLEXEC /usr/bin/id -u 0<&-",
            "exec $GLEXEC /usr/bin/id -u 2>&- 0<&-",
            "exec env -i GLEXEC_CLIENT_CERT=$GLEXEC_CLIENT_CERT $GLEXEC /usr/bin/id -u",
        ] {
            let said = cell.run(condition);
            assert_eq!(
                (said.status, &said.out),
                (Some(0), &expected),
                "{condition}: {said:?}"
            );
        }
        // Nobody there to be told.
        let said = cell.run("$GLEXEC /usr/bin/id -u 0<&- 1>&- 2>&-; echo $?");
        assert!(said.out == "0\n" || said.out == "1\n", "{said:?}");
        let said = cell.run("exec $GLEXEC /no/such 2>&-");
        assert_eq!(said.status, Some(201));
    });
}

#[test]
fn s1_no_arguments_at_all_is_a_refusal() {
    in_cell(|cell| {
        // perl cannot make argc 0 either, but python can.
        let script = "exec python3 -c 'import ctypes; c = ctypes.CDLL(None); \
                      a = (ctypes.c_char_p * 1)(None); c.execve(b\"/opt/glite/sbin/glexec\", a, a)'";
        let said = cell.run(script);
        assert_eq!(
            (said.status, said.out.as_str()),
            (Some(201), ""),
            "{said:?}"
        );
    });
}

#[test]
fn s1_an_environment_of_two_megabytes_passes() {
    in_cell(|cell| {
        let mut shell = cell.shell("exec \"$GLEXEC\" /usr/bin/env -0");
        shell
            .env("GLEXEC", GLEXEC)
            .env("GLEXEC_TARGET_PROXY", "/dev/null");
        for number in 0..15 {
            shell.env(format!("BIG{number}"), "x".repeat(120_000));
        }
        let said = said(shell.output().expect("runs"));
        assert_eq!(said.status, Some(0), "{}", said.err);
        assert!(said.out.contains("GLEXEC=") || !said.out.contains("BIG"));
        assert!(!said.out.contains("BIG"));
        // And what is to be kept is.
        let mut shell = cell.shell("exec \"$GLEXEC\" /usr/bin/env -0");
        shell
            .env("GLEXEC", GLEXEC)
            .env("GLEXEC_TARGET_PROXY", "/dev/null");
        for number in 0..10 {
            shell.env(format!("GLEXEC_BIG{number}"), "x".repeat(120_000));
        }
        let said = crate::cell::said(shell.output().expect("runs"));
        assert_eq!(said.status, Some(0), "{}", said.err);
        assert!(said.out.len() > 1_200_000);
    });
}

#[test]
fn s5_nothing_is_pasted_into_shell_text() {
    in_cell(|cell| {
        let said = cell.run(
            "exec $GLEXEC /usr/bin/printf '[%s]\\n' \"a b\" \"'; id; '\" '$(id)' '' '-n' '*' 'x\ny'",
        );
        assert_eq!(
            (said.status, said.out.as_str()),
            (
                Some(0),
                "[a b]\n['; id; ']\n[$(id)]\n[]\n[-n]\n[*]\n[x\ny]\n"
            )
        );
    });
}

#[test]
fn s1_an_option_that_looks_like_ours_is_not() {
    in_cell(|cell| {
        // gLExec's name decides before any word does.
        for word in ["--broker", "--sweep", "--trace", "--version-x"] {
            let said = cell.run(&format!("$GLEXEC {word}"));
            assert_eq!(said.status, Some(201), "{word}: {said:?}");
        }
        let said = cell.run(&format!("exec -a --broker {GLEXEC} -x 2>&1 || true"));
        assert!(!said.out.contains("root"), "{said:?}");
    });
}

#[test]
fn s15_a_terminal_is_not_shared() {
    in_cell(|cell| {
        // `script` gives the call a terminal; the command must not have it as its own.
        let said = cell.run(
            "script -qec \"$GLEXEC /bin/sh -c 'ps -o tty= -p \\$\\$; exec 9<>/dev/tty && echo shared'\" /dev/null",
        );
        assert!(!said.out.contains("shared"), "{said:?}");
    });
}

#[test]
fn the_front_has_nothing_of_root_left() {
    in_cell(|cell| {
        let said = cell.run(
            "$GLEXEC /bin/sleep 5 & sleep 1; cat /proc/$!/status | \
             grep -E '^(Uid|Gid|Groups|CapPrm|CapEff|CapInh|NoNewPrivs|Name)'; kill $!",
        );
        let p = cell.pilot;
        let expected = format!("Uid:\t{p}\t{p}\t{p}\t{p}\nGid:\t{p}\t{p}\t{p}\t{p}\nGroups:\t \n");
        assert!(said.out.contains(&expected), "{said:?}");
        assert!(said.out.starts_with("Name:\tsailplane-glexe"), "{said:?}");
        for set in ["CapInh", "CapPrm", "CapEff"] {
            assert!(
                said.out.contains(&format!("{set}:\t0000000000000000\n")),
                "{said:?}"
            );
        }
        assert!(said.out.contains("NoNewPrivs:\t1\n"), "{said:?}");
    });
}
