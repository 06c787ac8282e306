//! The keys of the configuration that concern this form, each with its effect.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::cell::{Cell, in_cell, put};

fn run(cell: &Cell, keys: &str, script: &str) -> (Option<i32>, String) {
    cell.configure(keys);
    let said = cell.run(script);
    (said.status, said.out + &said.err)
}

fn fine(text: &str) -> (Option<i32>, String) {
    (Some(0), text.to_owned())
}

#[test]
fn g10_keys_have_their_effects() {
    in_cell(|cell| {
        let show = "exec $GLEXEC /bin/sh -c 'echo $X509_USER_PROXY'";
        assert_eq!(run(cell, "create_target_proxy = no\n", show), fine("\n"));
        let (status, out) = run(cell, "target_proxy_place = home\n", show);
        assert_eq!(status, Some(0), "{out}");
        assert!(out.starts_with("/home/alice/.x509up_u"), "{out}");
        let (status, out) = run(cell, "target_proxy_place = run\n", show);
        assert_eq!(status, Some(0), "{out}");
        assert!(out.starts_with("/scratch/run/dir_"), "{out}");
        // Gone afterwards.
        assert_eq!(std::fs::read_dir("/scratch/run").expect("there").count(), 0);

        put("/opt/tools/tool", "#!/bin/sh\necho $PATH\n", 0o755);
        let path = "command_path = /opt/tools:/bin\n";
        assert_eq!(
            run(cell, path, "exec $GLEXEC tool"),
            fine("/opt/tools:/bin\n")
        );

        let keep = "preserve_env_variables = LANG, TZ\n";
        let script = "LANG=C TZ=UTC OTHER=1 exec $GLEXEC /bin/sh -c 'echo $LANG $TZ $OTHER'";
        assert_eq!(run(cell, keep, script), fine("C UTC\n"));
    });
}

#[test]
fn s13_g10_commands_behind_links_can_be_prohibited() {
    in_cell(|cell| {
        std::os::unix::fs::symlink("/usr/bin/id", "/opt/id").expect("made");
        let link = "exec $GLEXEC /opt/id -un";
        assert_eq!(run(cell, "", link), fine("alice\n"));
        let strict = "prohibit_exec_via_symlink = yes\n";
        let (status, words) = run(cell, strict, link);
        assert_eq!(status, Some(201));
        assert!(words.contains("[command.symlink, "), "{words}");
        let real = "exec $GLEXEC $(readlink -f /usr/bin/id) -un";
        assert_eq!(run(cell, strict, real), fine("alice\n"));
    });
}

#[test]
fn g13_without_lingering_the_end_is_the_commands_own() {
    in_cell(|cell| {
        let no = "linger = no\n";
        for status in [0, 7, 201, 203, 204] {
            let script = format!("exec $GLEXEC /bin/sh -c 'exit {status}'");
            assert_eq!(run(cell, no, &script), (Some(status), String::new()));
        }
        // Killed, not 128 and something.
        assert_eq!(
            run(cell, no, "exec $GLEXEC /bin/sh -c 'kill -TERM $$'"),
            (None, String::new())
        );
        assert_eq!(
            run(cell, no, "exec $GLEXEC /bin/sh -c 'kill -KILL $$'"),
            (None, String::new())
        );
        // With it.
        let yes = "linger = yes\n";
        let script = "exec $GLEXEC /bin/sh -c 'kill -TERM $$'";
        assert_eq!(run(cell, yes, script), (Some(143), String::new()));
    });
}

#[test]
fn g10_a_value_that_is_not_understood_is_202() {
    in_cell(|cell| {
        for bad in [
            "create_target_proxy = perhaps",
            "target_proxy_place = tmp",
            "command_path = bin",
            "prohibit_exec_via_symlink = 1x",
            "linger = 2x",
            "logging_only = sometimes",
            "input_lock_mechanism = hope",
        ] {
            let (status, words) = run(cell, &format!("{bad}\n"), "exec $GLEXEC /bin/echo ran");
            assert_eq!(status, Some(202), "{bad}: {words}");
            assert!(words.contains("[conf.invalid, "), "{bad}: {words}");
        }
    });
}

#[test]
fn the_pilots_own_credential_is_shown_where_the_site_wants_it() {
    in_cell(|cell| {
        let both = "credential_required = pilot+user\n";
        let call = "exec $GLEXEC /usr/bin/id -un";
        for (setting, code) in [
            ("unset X509_USER_PROXY", "pilot.unset"),
            ("X509_USER_PROXY=x509_pilot", "pilot.path"),
            ("X509_USER_PROXY=/nowhere", "cert.unreadable"),
            ("X509_USER_PROXY=/etc/passwd", "cert.owner"),
        ] {
            let (status, words) = run(cell, both, &format!("{setting}; {call}"));
            assert_eq!(status, Some(201), "{words}");
            assert!(words.contains(&format!("[{code}, ")), "{words}");
        }
        put(
            "/scratch/pilot/x509_pilot",
            "accept 3600 full /CN=Pilot",
            0o600,
        );
        crate::cell::own("/scratch/pilot/x509_pilot", cell.pilot, 0o600);
        assert_eq!(run(cell, both, call), fine("alice\n"));
        // It is never the identity that is mapped.
        put("/scratch/pilot/x509_pilot", "reject proxy.expired", 0o600);
        let (status, words) = run(cell, both, call);
        assert_eq!(status, Some(201), "{words}");
        assert!(words.contains("[proxy.expired, "), "{words}");
        assert_eq!(
            run(cell, "credential_required = user\n", call),
            fine("alice\n")
        );
    });
}

#[test]
fn verifying_an_account_leases_none() {
    in_cell(|cell| {
        let uid = cell.alice + 10;
        let mut passwd = std::fs::read_to_string("/etc/passwd").expect("there");
        passwd.push_str(&format!("pool01:x:{uid}:{uid}::/home/pool01:/bin/sh\n"));
        put("/etc/passwd", &passwd, 0o644);
        crate::cell::make_dir("/home/pool01", uid, 0o700);
        put("/etc/sailplane/gridmap", "\"/CN=Alice\" .pool\n", 0o644);
        put("/etc/grid-security/gridmapdir/pool01", "", 0o644);
        let keys = "gridmapdir = /etc/grid-security/gridmapdir\n";
        let verify = "GLEXEC_MODE=lcmaps_verify_account exec $GLEXEC /usr/bin/id -un";
        let get = "GLEXEC_MODE=lcmaps_get_account exec $GLEXEC /usr/bin/id -un";
        let (status, words) = run(cell, keys, verify);
        assert_eq!(status, Some(203), "{words}");
        assert_eq!(run(cell, keys, get), fine("pool01\n"));
        assert_eq!(run(cell, keys, verify), fine("pool01\n"));
        // And the same account each time: frameworks call more than once.
        assert_eq!(run(cell, keys, get), fine("pool01\n"));
    });
}

#[test]
fn the_system_log_has_the_lines_that_accounting_looks_for() {
    in_cell(|cell| {
        // A /dev of our own, so that its log is ours too.
        let script = "mount -t tmpfs -o mode=755 dev /dev && mknod -m 666 /dev/null c 1 3 && \
                      mknod -m 666 /dev/urandom c 1 9 && mkdir -m 1777 /dev/shm";
        let made = std::process::Command::new("sh")
            .args(["-c", script])
            .status();
        assert!(made.expect("runs").success());
        let log = UnixDatagram::bind("/dev/log").expect("bound");
        std::fs::set_permissions(
            "/dev/log",
            std::os::unix::fs::PermissionsExt::from_mode(0o666),
        )
        .expect("set");
        log.set_read_timeout(Some(Duration::from_secs(2)))
            .expect("set");
        // Read as they come: the kernel keeps ten for whoever is slow.
        let reader = std::thread::spawn(move || {
            let mut lines = Vec::new();
            let mut buffer = [0; 2048];
            while let Ok(length) = log.recv(&mut buffer) {
                lines.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
            lines
        });
        cell.configure("syslog_facility = local3\n");
        let said = cell.run("GLEXEC_ID=job7 $GLEXEC /bin/true; $GLEXEC /no/such");
        assert_eq!(said.status, Some(201), "{said:?}");
        let lines = reader.join().expect("reads");
        let find = |text: &str| {
            lines
                .iter()
                .find(|line| line.contains(text))
                .unwrap_or_else(|| panic!("no {text} in {lines:#?}"))
        };
        let started = find(&format!("]: Started, target uid {}", cell.alice));
        // local3 is 19, notice 5.
        assert!(started.starts_with("<157>glexec.mon["), "{started}");
        find("Used DN: \"/CN=Alice\"");
        find("Terminated, CPU user ");
        assert!(find("runs as alice").starts_with("<157>glexec["));
        assert!(find("[command.missing, ").starts_with("<155>glexec["));
    });
}
