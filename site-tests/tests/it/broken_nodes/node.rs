//! A node, how it is broken, and what a pilot finds there.

use std::fmt;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{Gid, Uid};
use sailplane_site_tests::helper::{self, Site};
use sailplane_site_tests::{PILOT_ACCOUNT, Pool, ProxyKind, process};
use serde_json::Value;
use tempfile::TempDir;

/// A node that never answers would keep everybody.
const LONGEST: &str = "60";

/// What all nodes have in common.
pub(super) struct Ground<'a> {
    pub(super) site: &'a Site,
    pub(super) pool: &'a Pool,
    owner: (Uid, Gid),
    program: PathBuf,
    folder: TempDir,
    noise: String,
}

/// A way of breaking a node.
#[derive(Default)]
pub(super) struct Case {
    pub(super) name: &'static str,
    /// By root, in a mount namespace of its own.
    root: String,
    /// By the account, before it becomes the pilot.
    account: String,
    knobs: Vec<(&'static str, String)>,
    unshare: Vec<&'static str>,
    check: &'static str,
    whose: &'static str,
    exit: i32,
    says: Vec<&'static str>,
}

/// What was found on a node.
pub(super) struct Verdict {
    exit: Option<i32>,
    /// The check that decides.
    decides: Option<String>,
    failures: Vec<Failed>,
    /// How many checks passed.
    passed: usize,
    said: String,
}

struct Failed {
    check: String,
    severity: String,
    is_transient: bool,
    whose: String,
    why: String,
    hint: String,
}

impl Case {
    /// A healthy node, until something is done to it.
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    /// Broken by root, with `$W` (a folder of the pilot's), `$EXECUTE`, `$CERTS` and `$PILOT` (its number).
    pub(super) fn root(mut self, line: &str) -> Self {
        self.root.push_str(line);
        self.root.push('\n');
        self
    }

    /// Broken by the account.
    pub(super) fn account(mut self, line: &str) -> Self {
        self.account.push_str(line);
        self.account.push('\n');
        self
    }

    /// In one more namespace of its own.
    pub(super) fn unshare(mut self, option: &'static str) -> Self {
        self.unshare.push(option);
        self
    }

    /// With a knob; `{W}` in its value is the folder, `{NOISE}` a service that is not of HTCondor's.
    pub(super) fn knob(mut self, name: &'static str, value: impl ToString) -> Self {
        self.knobs.push((name, value.to_string()));
        self
    }

    /// What has to be found: the check, whose it is, the exit status.
    pub(super) fn finds(mut self, check: &'static str, whose: &'static str, exit: i32) -> Self {
        (self.check, self.whose, self.exit) = (check, whose, exit);
        self
    }

    /// What its sentence or its hint has to name.
    pub(super) fn says(mut self, what: &'static str) -> Self {
        self.says.push(what);
        self
    }

    /// Whether that is what was found.
    pub(super) fn judge(&self, came: &Verdict) -> Result<()> {
        ensure!(
            came.exit == Some(self.exit),
            "exit status {:?} instead of {}",
            came.exit,
            self.exit
        );
        for failed in &came.failures {
            ensure!(
                !failed.hint.is_empty() && !failed.why.contains('\n'),
                "{} says nothing useful",
                failed.check
            );
            ensure!(failed.whose != "pilot", "{} blames us", failed.check);
        }
        if self.check.is_empty() {
            let fatal = came
                .failures
                .iter()
                .find(|failed| failed.severity == "fail");
            ensure!(fatal.is_none(), "something is found on a good node");
            ensure!(came.passed > 20, "only {} checks passed", came.passed);
            return Ok(());
        }
        let Some(found) = came
            .failures
            .iter()
            .find(|failed| failed.check == self.check)
        else {
            bail!("{} found nothing", self.check);
        };
        ensure!(
            found.whose == self.whose,
            "it is said to be the {}'s instead of the {}'s",
            found.whose,
            self.whose
        );
        for what in &self.says {
            ensure!(
                found.why.contains(what) || found.hint.contains(what),
                "nothing is said of {what:?}"
            );
        }
        if self.exit != 0 {
            ensure!(
                came.decides.as_deref() == Some(self.check),
                "{:?} decides",
                came.decides
            );
        }
        Ok(())
    }
}

impl<'a> Ground<'a> {
    pub(super) fn new(site: &'a Site, pool: &'a Pool) -> Result<Self> {
        let owner = process::ensure_account(PILOT_ACCOUNT)?;
        let folder = tempfile::Builder::new()
            .prefix("nodes-")
            .tempdir_in(helper::state())?;
        open(folder.path(), 0o755)?;
        let program = folder.path().join("sailplane");
        process::output(
            Command::new("install")
                .args(["-m", "755"])
                .arg(&site.pilot)
                .arg(&program),
        )?;
        let proxy = folder.path().join("proxy.pem");
        site.ca.proxy("alice", ProxyKind::Minutes(720), &proxy)?;
        let over = folder.path().join("over.pem");
        site.ca.proxy("alice", ProxyKind::Expired, &over)?;
        Ok(Self {
            site,
            pool,
            owner,
            program,
            folder,
            noise: noise()?,
        })
    }

    /// Breaks a node and looks at it.
    pub(super) fn look(&self, case: &Case) -> Result<Verdict> {
        let work = self.folder.path().join(case.name);
        let execute = self
            .site
            .execute
            .join(format!("node-{}-{}", std::process::id(), case.name));
        let came = self.look_at(case, &work, &execute);
        for path in [&work, &execute] {
            let gone = if path.is_dir() {
                fs::remove_dir_all(path)
            } else if path.exists() {
                fs::remove_file(path)
            } else {
                Ok(())
            };
            gone.with_context(|| format!("remove {}", path.display()))?;
        }
        came
    }

    fn look_at(&self, case: &Case, work: &Path, execute: &Path) -> Result<Verdict> {
        let tokens = work.join("tokens");
        let proxy = work.join("proxy.pem");
        let config = work.join("pilot.conf");
        fs::create_dir_all(&tokens)?;
        fs::create_dir(execute)?;
        fs::copy(self.pool.pilot_token(), tokens.join("pool"))?;
        fs::copy(self.folder.path().join("proxy.pem"), &proxy)?;
        fs::copy(
            process::source_tree().join("examples/pilot/pilot.conf"),
            &config,
        )?;
        for (path, mode) in [
            (work.to_owned(), 0o755),
            (execute.to_owned(), 0o755),
            (tokens.clone(), 0o700),
            (tokens.join("pool"), 0o600),
            (proxy.clone(), 0o600),
            (config, 0o644),
        ] {
            process::give(&path, self.owner)?;
            open(&path, mode)?;
        }
        let knobs = [
            ("COLLECTOR_HOST", self.pool.collector_host().to_owned()),
            ("NETWORK_INTERFACE", "127.0.0.1".to_owned()),
            ("NUM_SLOTS", "1".to_owned()),
            ("NUM_CPUS", "1".to_owned()),
            ("MEMORY", "256".to_owned()),
            ("EXECUTE", execute.display().to_string()),
            ("SAILPLANE_SWITCH", self.site.switch.display().to_string()),
            ("SAILPLANE_PILOT_PROXY", proxy.display().to_string()),
            ("SAILPLANE_CHECK_CONNECT_TIME", "2".to_owned()),
            ("SAILPLANE_CHECK_DISK", "100".to_owned()),
        ];
        let as_account = format!(
            "{}\nexec \"$PROGRAM\" validate --config \"$W/pilot.conf\" --format json \"$@\"",
            case.account
        );
        let as_root = format!(
            "{}\nexec setpriv --reuid \"$PILOT\" --regid \"$GROUP\" --clear-groups bash -ec \"$AS_ACCOUNT\" sh \"$@\"",
            case.root
        );
        let mut command = Command::new("timeout");
        command
            .args([LONGEST, "unshare"])
            .args(["--mount", "--propagation", "private"])
            .args(&case.unshare)
            .args(["sh", "-ec", &as_root, "sh"])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("AS_ACCOUNT", as_account)
            .env("PROGRAM", &self.program)
            .env("PILOT", self.owner.0.to_string())
            .env("GROUP", self.owner.1.to_string())
            .env("W", work)
            .env("PWD", work)
            .env("EXECUTE", execute)
            .env("CERTS", self.site.ca.certificates())
            .current_dir(work);
        let set = knobs
            .iter()
            .filter(|(name, _)| !case.knobs.iter().any(|(own, _)| own == name))
            .chain(&case.knobs);
        for (name, value) in set {
            let value = value
                .replace("{W}", &work.display().to_string())
                .replace("{NOISE}", &self.noise);
            command.arg("--set").arg(format!("{name}={value}"));
        }
        let output = command.output().context("run the node")?;
        Verdict::read(&output).with_context(|| {
            format!(
                "{}\n{}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }
}

impl Verdict {
    fn read(output: &std::process::Output) -> Result<Self> {
        let report: Value = serde_json::from_slice(&output.stdout).context("no report")?;
        let entries = report
            .pointer("/entries")
            .and_then(Value::as_array)
            .context("no entries")?;
        let text =
            |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let failures: Vec<Failed> = entries
            .iter()
            .filter_map(|entry| {
                let failure = entry.pointer("/outcome/status/failed")?;
                let severity = text(entry.pointer("/check/severity"));
                let at_most = text(entry.pointer("/outcome/at_most"));
                Some(Failed {
                    check: text(entry.pointer("/check/name")),
                    severity: if at_most.is_empty() {
                        severity
                    } else {
                        at_most
                    },
                    is_transient: failure.get("transient") == Some(&Value::Bool(true)),
                    whose: text(failure.get("whose")),
                    why: text(failure.get("why")),
                    hint: text(failure.get("hint")),
                })
            })
            .collect();
        let passed = entries
            .iter()
            .filter(|entry| {
                entry
                    .pointer("/outcome/status")
                    .is_some_and(|status| status == "passed")
            })
            .count();
        let decides = decisive(&failures).map(|failed| failed.check.clone());
        Ok(Self {
            exit: output.status.code(),
            decides,
            failures,
            passed,
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// A service that greets everybody and understands nobody, for as long as the test runs.
fn noise() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            // Whoever hangs up early may.
            let _ = stream.write_all(&b"SSH-2.0-OpenSSH_9.2\r\n".repeat(4));
        }
    });
    Ok(address)
}

/// The gravest, and of those the first that stays.
fn decisive(failures: &[Failed]) -> Option<&Failed> {
    let of = |severity: &str, is_transient: bool| {
        failures
            .iter()
            .find(|failed| failed.severity == severity && failed.is_transient == is_transient)
    };
    of("fail", false)
        .or_else(|| of("fail", true))
        .or_else(|| of("drain", false))
        .or_else(|| of("drain", true))
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "status {:?}, {} passed, decided by {:?}",
            self.exit, self.passed, self.decides
        )?;
        for failed in &self.failures {
            write!(
                f,
                "\n  {} ({}, {}): {}\n      -> {}",
                failed.check, failed.severity, failed.whose, failed.why, failed.hint
            )?;
        }
        if !self.said.trim().is_empty() {
            write!(f, "\n  it said: {}", self.said.trim())?;
        }
        Ok(())
    }
}

fn open(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("open {}", path.display()))
}
