//! The built-in checks of a node, all of them, beside shell scripts that look at the same things one after the other, as
//! pilots have had it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use sailplane_site_tests::helper::Site;
use sailplane_site_tests::{PILOT_ACCOUNT, process};

use super::report::Comparison;
use super::stats::Sample;
use crate::console;

/// What a script looks at, and how: ours are many more checks than these.
const SCRIPTS: [(&str, &str); 20] = [
    ("space", "[ $(df -kP . | awk 'NR==2 {print $4}') -gt 1000 ]"),
    ("inodes", "[ $(df -iP . | awk 'NR==2 {print $4}') -gt 100 ]"),
    (
        "write",
        "f=$(mktemp ./t.XXXXXX) && echo x > $f && mv $f $f.2 && grep -q x $f.2 && rm $f.2",
    ),
    (
        "exec",
        "printf '#!/bin/sh\\nexit 0\\n' > ./s.sh && chmod 755 ./s.sh && ./s.sh && rm ./s.sh",
    ),
    ("tmp", "f=$(mktemp /tmp/t.XXXXXX) && rm $f"),
    (
        "devices",
        "[ -c /dev/null ] && [ -c /dev/zero ] && [ -r /dev/urandom ]",
    ),
    (
        "memory",
        "[ $(awk '/MemTotal/ {print $2}' /proc/meminfo) -gt 100000 ]",
    ),
    (
        "cpus",
        "[ $(grep -c ^processor /proc/cpuinfo) -ge 1 ] && [ $(nproc) -ge 1 ]",
    ),
    ("files", "[ $(ulimit -n) -ge 64 ]"),
    (
        "processes",
        "[ $(ulimit -u) = unlimited ] || [ $(ulimit -u) -ge 64 ]",
    ),
    ("system", ". /etc/os-release && [ -n \"$ID\" ]"),
    ("kernel", "[ $(uname -r | cut -d. -f1) -ge 3 ]"),
    (
        "security",
        "cat /proc/sys/kernel/yama/ptrace_scope /proc/sys/kernel/kptr_restrict > /dev/null 2>&1; true",
    ),
    ("namespaces", "unshare --user true 2> /dev/null; true"),
    (
        "groups",
        "grep -q . /proc/self/cgroup && grep -q cgroup /proc/mounts",
    ),
    (
        "authorities",
        "n=0; for c in \"$CERTS\"/*.0; do openssl x509 -noout -checkend 0 -in \"$c\" > /dev/null && n=$((n+1)); done; [ $n -gt 0 ]",
    ),
    (
        "lists",
        "for c in \"$CERTS\"/*.r0; do [ ! -e \"$c\" ] || openssl crl -noout -nextupdate -in \"$c\" > /dev/null; done",
    ),
    ("cvmfs", "[ ! -d /cvmfs ] || ls /cvmfs > /dev/null"),
    (
        "container",
        "command -v apptainer || command -v singularity || true",
    ),
    ("shutdown", "[ ! -e /run/nologin ] && [ ! -e /etc/nologin ]"),
];

/// Takes turns.
pub(crate) fn compare(site: &Site, rounds: usize) -> Result<Vec<Comparison>> {
    let owner = process::ensure_account(PILOT_ACCOUNT)?;
    let folder = tempfile::Builder::new()
        .prefix("bench-checks-")
        .tempdir_in(&site.execute)?;
    process::give(folder.path(), owner)?;
    let program = folder.path().join("sailplane");
    process::output(
        Command::new("install")
            .args(["-m", "755"])
            .arg(&site.pilot)
            .arg(&program),
    )?;
    for (name, script) in SCRIPTS {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/bash\n{script}\n"))?;
        process::output(Command::new("chmod").arg("755").arg(&path))?;
    }
    let certificates = site.ca.certificates();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        if round % 10 == 0 {
            console::line(&format!(
                "checks of the node, round {} of {rounds}",
                round + 1
            ));
        }
        let began = Instant::now();
        let mut command = as_pilot(&program, folder.path(), owner);
        command.args(["validate", "--format", "json"]);
        for set in [
            "COLLECTOR_HOST=192.0.2.1",
            // Neither the network nor the trial of the switch, which no script has.
            "SAILPLANE_CHECKS_OFF=collector-*,ccb-*,clock",
            "SAILPLANE_SWITCH_TRIAL=FALSE",
            "SAILPLANE_IDENTITY_SWITCH=NEVER",
            "SAILPLANE_SWITCH=none",
            "NUM_CPUS=1",
            "NUM_SLOTS=1",
            "MEMORY=256",
            "SAILPLANE_CHECK_DISK=100",
        ] {
            command.args(["--set", set]);
        }
        let execute = folder.path().join("execute").display().to_string();
        command.args(["--set", &format!("EXECUTE={execute}")]);
        command.args([
            "--set",
            &format!("SAILPLANE_CA_DIRECTORY={}", certificates.display()),
        ]);
        let output = command.output().context("run the checks")?;
        ours.push(began.elapsed().as_secs_f64() * 1000.0);
        ensure!(
            output.status.success(),
            "the checks say {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stdout)
        );
        let began = Instant::now();
        for (name, _) in SCRIPTS {
            let status = as_pilot(&folder.path().join(name), folder.path(), owner)
                .env("CERTS", &certificates)
                .stdout(Stdio::null())
                .status()
                .with_context(|| format!("run the script {name}"))?;
            ensure!(status.success(), "the script {name} ends with {status}");
        }
        theirs.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(vec![Comparison {
        what: "all built-in checks of a healthy node, without network and switch, ms",
        peer: "20 shell scripts for the same, one by one",
        ours: Sample::new(ours),
        theirs: Sample::new(theirs),
        more_is_better: false,
    }])
}

fn as_pilot(program: &Path, folder: &Path, owner: (nix::unistd::Uid, nix::unistd::Gid)) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .uid(owner.0.as_raw())
        .gid(owner.1.as_raw())
        .stdin(Stdio::null());
    command
}
