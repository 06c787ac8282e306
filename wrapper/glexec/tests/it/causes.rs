//! The table of section 1.3 and requirements G4, G6, G9, S20: one call per cause, its status, its code.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::cell::{CERT, CONF, Cell, HERE, LIBEXEC, in_cell, make_dir, own, put};

/// A script of the pilot must be refused with this status and code, and run nothing.
fn refused(cell: &Cell, script: &str, status: i32, code: &str) -> String {
    let said = cell.run(script);
    assert_eq!(said.status, Some(status), "{script}: {said:?}");
    assert_eq!(said.out, "", "{script}: {said:?}");
    let expected = format!("[{code}, will not succeed unless something changes]\n");
    assert!(said.err.ends_with(&expected), "{script}: {said:?}");
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
    said.err
}

const CALL: &str = "exec $GLEXEC /bin/echo ran";

#[test]
fn g9_g4_what_the_caller_can_mend_is_201() {
    in_cell(|cell| {
        let table = [
            ("unset GLEXEC_CLIENT_CERT", "cert.unset"),
            ("export GLEXEC_CLIENT_CERT=", "cert.path"),
            ("export GLEXEC_CLIENT_CERT=x509_payload", "cert.path"),
            ("export GLEXEC_CLIENT_CERT=/nowhere", "cert.unreadable"),
            ("export GLEXEC_CLIENT_CERT=/root/x", "cert.unreadable"),
            ("export GLEXEC_CLIENT_CERT=/dev/null", "cert.kind"),
            ("export GLEXEC_CLIENT_CERT=$PWD", "cert.kind"),
            ("mkfifo f; export GLEXEC_CLIENT_CERT=$PWD/f", "cert.kind"),
            (
                "ln -sf x509_payload l; export GLEXEC_CLIENT_CERT=$PWD/l",
                "cert.kind",
            ),
            (
                "cp x509_payload c; chmod 640 c; export GLEXEC_CLIENT_CERT=$PWD/c",
                "cert.mode",
            ),
            (
                "cp x509_payload d; chmod 604 d; export GLEXEC_CLIENT_CERT=$PWD/d",
                "cert.mode",
            ),
            (
                "cp x509_payload e; chmod 4600 e; export GLEXEC_CLIENT_CERT=$PWD/e",
                "cert.mode",
            ),
            ("export GLEXEC_CLIENT_CERT=/etc/passwd", "cert.owner"),
            ("export GLEXEC_SOURCE_PROXY=", "source.path"),
            ("export GLEXEC_SOURCE_PROXY=/etc/passwd", "cert.owner"),
            ("export GLEXEC_TARGET_PROXY=", "target.path"),
            ("export GLEXEC_TARGET_PROXY=proxy", "target.path"),
            ("export GLEXEC_MODE=uidgid", "mode.unknown"),
            ("export GLEXEC_REPORT_FD=5", "report.fd"),
        ];
        for (setting, code) in table {
            refused(cell, &format!("{setting}; {CALL}"), 201, code);
        }
        for (command, code) in [
            ("/no/such/command", "command.missing"),
            ("no-such-command", "command.missing"),
            ("./relative", "command.relative"),
            ("/etc/passwd", "command.permission"),
            ("/etc", "command.permission"),
            ("$PWD/empty", "command.format"),
            ("/root/secret", "command.permission"),
            ("''", "command.missing"),
        ] {
            put("/scratch/pilot/empty", "", 0o755);
            refused(cell, &format!("exec $GLEXEC {command}"), 201, code);
        }
        for code in [
            "proxy.expired",
            "cert.malformed",
            "bundle.empty",
            "proxy.pathlen",
        ] {
            cell.credential(&format!("reject {code}"));
            refused(cell, CALL, 201, code);
        }
    });
}

#[test]
fn s20_a_verifier_that_a_credential_brings_down_is_201() {
    in_cell(|cell| {
        for fault in ["kill", "exit 7", "empty"] {
            cell.credential(fault);
            let said = cell.run(CALL);
            assert_eq!(
                (said.status, said.out.as_str()),
                (Some(201), ""),
                "{fault}: {said:?}"
            );
        }
    });
}

#[test]
fn g9_what_the_administrator_must_mend_is_202() {
    in_cell(|cell| {
        cell.configure("no_such_key = 1\n");
        refused(cell, CALL, 202, "conf.invalid");
        cell.configure("");
        std::fs::set_permissions(CONF, std::fs::Permissions::from_mode(0o666)).expect("set");
        refused(cell, CALL, 202, "conf.writable");
        std::fs::remove_file(CONF).expect("removed");
        refused(cell, CALL, 202, "conf.missing");
        cell.configure("");
        std::fs::remove_file(format!("{LIBEXEC}/sailplane-job")).expect("removed");
        let said = cell.run(CALL);
        assert_eq!(
            (said.status, said.out.as_str()),
            (Some(202), ""),
            "{said:?}"
        );
    });
}

#[test]
fn g9_who_is_not_authorised_gets_203() {
    in_cell(|cell| {
        cell.credential("accept 3600 full /CN=Nobody");
        refused(cell, CALL, 203, "map.none");
        cell.credential("reject chain.untrusted");
        refused(cell, CALL, 203, "chain.untrusted");
        cell.credential("accept 3600 full /CN=Alice");
        cell.configure("user_white_list = somebody\n");
        refused(cell, CALL, 203, "caller.not_listed");
        // S23: a payload account is refused, whoever is listed.
        cell.configure("");
        let script = format!(
            "exec $GLEXEC /bin/sh -c '{} /bin/echo ran; echo $?'",
            crate::cell::GLEXEC
        );
        let said = cell.run(&script);
        assert!(!said.out.contains("ran"), "{said:?}");
        assert!(
            ["201\n", "202\n", "203\n"].contains(&said.out.as_str()),
            "{said:?}"
        );
    });
}

#[test]
fn g3_a_program_that_cannot_switch_says_why() {
    in_cell(|cell| {
        own(format!("{LIBEXEC}/sailplane-switch"), 0, 0o755);
        refused(cell, CALL, 202, "startup.setuid");
        own(format!("{LIBEXEC}/sailplane-switch"), 0, 0o4755);
        refused(
            cell,
            "exec setpriv --no-new-privs $GLEXEC /bin/echo ran",
            202,
            "startup.no_new_privs",
        );
        refused(
            cell,
            "exec unshare -U -r $GLEXEC /bin/echo ran",
            202,
            "startup.userns",
        );
        use nix::mount::{MsFlags, mount};
        let none = None::<&str>;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID;
        mount(none, LIBEXEC, none, flags, none).expect("remount");
        refused(cell, CALL, 202, "startup.nosuid");
    });
}

#[test]
fn g3_logging_only_checks_everything_and_switches_nothing() {
    in_cell(|cell| {
        own(format!("{LIBEXEC}/sailplane-switch"), 0, 0o755);
        cell.configure("logging_only = yes\n");
        let said = cell.run("exec $GLEXEC /bin/sh -c 'id -u; echo $HOME $X509_USER_PROXY; exit 3'");
        let expected = format!("{}\n/home/pilot {CERT}\n", cell.pilot);
        assert_eq!((said.status, said.out), (Some(3), expected), "{}", said.err);
        // A refusal is still a refusal.
        refused(
            cell,
            "unset GLEXEC_CLIENT_CERT; exec $GLEXEC /bin/echo ran",
            201,
            "cert.unset",
        );
        refused(cell, "exec $GLEXEC /no/such", 201, "command.missing");
        cell.credential("reject proxy.expired");
        refused(cell, CALL, 201, "proxy.expired");
        cell.credential("accept 3600 full /CN=Nobody");
        refused(cell, CALL, 203, "map.none");
        cell.credential("accept 3600 full /CN=Alice");
        cell.configure("logging_only = yes\nuser_white_list = somebody\n");
        refused(cell, CALL, 203, "caller.not_listed");
        // Not configured, it is not fallen into.
        cell.configure("logging_only = no\n");
        refused(cell, CALL, 202, "startup.setuid");
    });
}

#[test]
fn g9_the_report_says_it_to_machines() {
    in_cell(|cell| {
        let said = cell.run(
            "unset GLEXEC_CLIENT_CERT; export GLEXEC_REPORT_FD=3; \
             $GLEXEC /bin/echo ran 3>report; echo $?; cat report",
        );
        assert!(
            said.out.starts_with(
                "201\n{\"event\":\"refused\",\"status\":201,\"code\":\"cert.unset\",\
                 \"may_succeed_later\":false,\"message\":\""
            ),
            "{said:?}"
        );
    });
}

#[test]
fn g6_the_copy_belongs_to_the_account_alone() {
    in_cell(|cell| {
        make_dir("/scratch/alice", cell.alice, 0o700);
        cell.credential("accept 3600 full /CN=Alice");
        let show =
            "exec $GLEXEC /bin/sh -c 'cat $X509_USER_PROXY && stat -c %u:%a $X509_USER_PROXY'";
        let expected = format!("accept 3600 full /CN=Alice{}:600\n", cell.alice);
        // A private one.
        let said = cell.run(show);
        assert_eq!(
            (said.status, said.out),
            (Some(0), expected.clone()),
            "{}",
            said.err
        );
        let target = "export GLEXEC_TARGET_PROXY=/scratch/alice/proxy;";
        for _ in 0..2 {
            // The second time in place of the first.
            let said = cell.run(&format!("{target} {show}"));
            assert_eq!(
                (said.status, said.out),
                (Some(0), expected.clone()),
                "{}",
                said.err
            );
        }
        let facts = std::fs::metadata("/scratch/alice/proxy").expect("there");
        assert_eq!((facts.uid(), facts.mode() & 0o7777), (cell.alice, 0o600));
        // Another source.
        put("/scratch/pilot/other", "other", 0o600);
        own("/scratch/pilot/other", cell.pilot, 0o600);
        let said = cell.run(&format!(
            "export GLEXEC_SOURCE_PROXY=$PWD/other; {target} exec $GLEXEC /bin/sh -c 'cat $X509_USER_PROXY'"
        ));
        assert_eq!(
            (said.status, said.out.as_str()),
            (Some(0), "other"),
            "{}",
            said.err
        );
    });
}

#[test]
fn g6_an_unusable_place_is_201_and_left_alone() {
    in_cell(|cell| {
        make_dir("/scratch/alice", cell.alice, 0o700);
        make_dir("/scratch/open", cell.alice, 0o777);
        make_dir("/scratch/other", cell.pilot, 0o755);
        put("/scratch/alice/roots", "root's", 0o600);
        make_dir("/scratch/alice/dir", cell.alice, 0o755);
        std::os::unix::fs::symlink("/scratch/open", "/scratch/alice/link").expect("made");
        for place in [
            "/root/proxy",
            "/root",
            "/nowhere/proxy",
            "/scratch/open/proxy",
            "/scratch/other/proxy",
            "/tmp/proxy",
            "/scratch/alice/roots",
            "/scratch/alice/dir",
            "/scratch/alice/link/proxy",
        ] {
            let script = format!("export GLEXEC_TARGET_PROXY={place}; {CALL}");
            refused(cell, &script, 201, "target.unusable");
        }
        let text = std::fs::read_to_string("/scratch/alice/roots").expect("there");
        assert_eq!(text, "root's");
        assert!(!std::fs::exists("/tmp/proxy").expect("known"));
        // A full disk.
        use nix::mount::{MsFlags, mount};
        make_dir("/scratch/full", cell.alice, 0o700);
        let options = format!("size=4k,uid={0},gid={0},mode=700", cell.alice);
        let none = MsFlags::empty();
        mount(
            Some("x"),
            "/scratch/full",
            Some("tmpfs"),
            none,
            Some(options.as_str()),
        )
        .expect("tmpfs");
        let big = "x".repeat(100_000);
        put(format!("{HERE}/big"), &big, 0o600);
        own(format!("{HERE}/big"), cell.pilot, 0o600);
        let script = format!(
            "export GLEXEC_SOURCE_PROXY=$PWD/big GLEXEC_TARGET_PROXY=/scratch/full/proxy; {CALL}"
        );
        refused(cell, &script, 201, "target.unusable");
        let left = std::fs::read_dir("/scratch/full").expect("there").count();
        assert_eq!(left, 0, "half a copy is left");
    });
}

#[test]
fn s8_messages_do_not_depend_on_what_the_caller_cannot_see() {
    in_cell(|cell| {
        put("/root/there", "x", 0o600);
        let words = |path: &str| {
            let script = format!("export GLEXEC_CLIENT_CERT={path}; {CALL}");
            cell.run(&script).err.replace(path, "PATH")
        };
        assert_eq!(words("/root/there"), words("/root/not-there"));
    });
}

#[test]
fn the_credential_can_be_exchanged_only_before_it_is_opened() {
    in_cell(|cell| {
        // Whoever renames files about during calls gets one of the two, whole, every time.
        put("/etc/sailplane/gridmap", "\"/CN=Alice\" alice\n", 0o644);
        let script = format!(
            "cp {CERT} a; echo 'accept 3600 full /CN=Eve' >b; chmod 600 a b; \
             (while :; do ln -f a c && mv c {CERT}; ln -f b c && mv c {CERT}; done) 2>/dev/null & \
             for i in 1 2 3 4 5 6 7 8; do $GLEXEC /usr/bin/id -un; echo $?; done; kill $!"
        );
        let said = cell.run(&script);
        for pair in said.out.lines().collect::<Vec<_>>().windows(2) {
            if pair[0] == "alice" {
                assert_eq!(pair[1], "0");
            }
        }
        let numbers = said.out.lines().filter(|line| *line != "alice");
        for number in numbers {
            // 201: caught between link and rename, when there are two links or none.
            assert!(["0", "203", "201"].contains(&number), "{said:?}");
        }
    });
}
