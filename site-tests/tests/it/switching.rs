//! The trial of the identity switch ([`validation::switching`]) with everything that a site may have: our helper, a gLExec,
//! `sudo`, namespaces, nothing.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::unistd::{Gid, Uid, chown};
use sailplane_site_tests::helper::{self, Site};
use sailplane_site_tests::{PILOT_ACCOUNT, ProxyKind, process, say};
use validation::switching::client::Launcher;
use validation::switching::{Account, Script, rehearse};
use validation::{Outcome, Status, Whose};

use crate::excuse;
use crate::foreign::{ACCOUNTS, Rule};

/// A folder of the pilot's own, until it is dropped.
struct Ground {
    execute: PathBuf,
    proxy: PathBuf,
    account: (Uid, Gid),
}

impl Ground {
    fn new(site: &Site, name: &str) -> Result<Self> {
        let account = process::ensure_account(PILOT_ACCOUNT)?;
        let execute = site
            .execute
            .join(format!("trial-{name}-{}", std::process::id()));
        fs::create_dir_all(&execute)?;
        // Other accounts make their sandboxes here themselves.
        fs::set_permissions(&execute, fs::Permissions::from_mode(0o1777))?;
        chown(&execute, Some(account.0), Some(account.1))?;
        let proxy = execute.join("proxy");
        site.ca.proxy("alice", ProxyKind::Minutes(60), &proxy)?;
        chown(&proxy, Some(account.0), Some(account.1))?;
        Ok(Self {
            execute,
            proxy,
            account,
        })
    }

    fn script(&self, launcher: (PathBuf, Vec<OsString>), account: Account) -> Script {
        Script {
            launcher: Launcher {
                program: launcher.0,
                arguments: launcher.1,
                account: Some((self.account.0.as_raw(), self.account.1.as_raw())),
            },
            account,
            execute: self.execute.clone(),
            credential: Some(self.proxy.clone()),
            pilot_proxy: Some(self.proxy.clone()),
            slot_account: None,
        }
    }

    /// Nothing but what was put here is here.
    fn is_clean(&self) -> Result<()> {
        let left: Vec<_> = fs::read_dir(&self.execute)?
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| name != "proxy")
            .collect();
        ensure!(
            left.is_empty(),
            "left in {}: {left:?}",
            self.execute.display()
        );
        Ok(())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.execute);
    }
}

fn own(site: &Site, more: &[&str]) -> (PathBuf, Vec<OsString>) {
    let words = ["own-account-broker"].map(OsString::from).into_iter();
    let agent = helper::bare_agent().into_os_string();
    let ca = [
        OsString::from("ca"),
        site.ca.certificates().into_os_string(),
    ];
    let more = more.iter().map(OsString::from);
    (
        site.pilot.clone(),
        words.chain([agent]).chain(ca).chain(more).collect(),
    )
}

fn all_pass(results: &[(&'static str, Outcome)]) -> Result<()> {
    ensure!(results.len() == 13, "{} parts", results.len());
    for (name, outcome) in results {
        ensure!(outcome.is_passed(), "{name}: {:?}", outcome.status);
    }
    Ok(())
}

fn play(name: &str, body: impl FnOnce() -> Result<()>) {
    if let Some(reason) = excuse(false) {
        say(&format!("{name} not run: {reason}"));
        return;
    }
    if let Err(error) = body() {
        panic!("{name}: {error:?}");
    }
}

#[test]
fn every_part_of_the_trial_passes_with_our_helper() {
    play("trial-helper", || {
        let site = helper::site()?;
        let ground = Ground::new(site, "helper")?;
        let launcher = (site.switch.clone(), vec!["--broker".into()]);
        all_pass(&rehearse(&ground.script(launcher, Account::Other)))?;
        ground.is_clean()
    });
}

#[test]
fn every_part_of_the_trial_passes_without_a_helper() {
    play("trial-none", || {
        let site = helper::bare()?;
        for (name, more) in [("open", &[][..]), ("namespaces", &["namespaces", ""][..])] {
            let ground = Ground::new(site, name)?;
            let mut script = ground.script(own(site, more), Account::Own);
            all_pass(&rehearse(&script)).with_context(|| name.to_owned())?;
            // Jobs without a credential run there, too, and are not asked for it.
            script.credential = None;
            for (part, outcome) in rehearse(&script) {
                let is_asked = part == "switch-credential";
                ensure!(
                    outcome.is_passed() != is_asked && outcome.failure().is_none(),
                    "{name} {part}: {:?}",
                    outcome.status
                );
            }
            ground.is_clean()?;
        }
        Ok(())
    });
}

#[test]
fn every_part_of_the_trial_passes_with_a_sites_own_programs() {
    play("trial-foreign", || {
        helper::site()?;
        let site = helper::bare()?;
        let ground = Ground::new(site, "glexec")?;
        let script = ground.script(
            own(site, &["glexec", "/usr/lib/sailplane/glexec"]),
            Account::Other,
        );
        all_pass(&rehearse(&script)).context("glexec")?;
        ground.is_clean()?;
        if !Path::new("/usr/bin/sudo").exists() {
            say("trial with sudo not run: there is none on this machine");
            return Ok(());
        }
        let _rule = Rule::make()?;
        let ground = Ground::new(site, "sudo")?;
        let mut script = ground.script(own(site, &["sudo", "/usr/bin/sudo"]), Account::Other);
        script.slot_account = Some(ACCOUNTS[0].to_owned());
        all_pass(&rehearse(&script)).context("sudo")?;
        ground.is_clean()
    });
}

#[test]
fn what_does_not_work_is_named_and_the_rest_is_not_tried() {
    play("trial-broken", || {
        let site = helper::site()?;
        let ground = Ground::new(site, "broken")?;
        let launcher = || (site.switch.clone(), vec!["--broker".into()]);
        let first = |script: &Script| -> Result<(String, Whose)> {
            let results = rehearse(script);
            let failed: Vec<_> = results
                .iter()
                .filter_map(|(_, outcome)| outcome.failure())
                .collect();
            ensure!(failed.len() == 1, "{results:?}");
            let skipped = results
                .iter()
                .filter(|(_, outcome)| matches!(outcome.status, Status::Skipped { .. }))
                .count();
            ensure!(skipped >= 10, "{skipped} skipped");
            Ok((failed[0].why.clone(), failed[0].whose))
        };
        // A caller that the site does not know.
        let mut script = ground.script(launcher(), Account::Other);
        script.launcher.account = Some((64_322, 64_322));
        let (why, whose) = first(&script)?;
        ensure!(
            whose == Whose::Site && why.contains("the helper that starts jobs does not work"),
            "{why}"
        );
        // A program that is not there, one that is no helper, and one without its bit.
        let mut script = ground.script(
            (PathBuf::from("/no/such/switch"), Vec::new()),
            Account::Other,
        );
        ensure!(first(&script)?.0.contains("/no/such/switch"));
        script.launcher.program = "/bin/false".into();
        ensure!(first(&script)?.0.contains("is gone"));
        let copy = ground.execute.join("copy-of-switch");
        fs::copy(&site.switch, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        script.launcher.program.clone_from(&copy);
        script.launcher.arguments = vec!["--broker".into()];
        let (why, whose) = first(&script)?;
        fs::remove_file(&copy)?;
        ensure!(whose == Whose::Site, "{why}");
        // A folder that the site does not allow, and a credential that is none.
        let script = Script {
            execute: "/tmp".into(),
            ..ground.script(launcher(), Account::Other)
        };
        let results = rehearse(&script);
        let start = results[0].1.failure().context("it starts")?;
        ensure!(
            start.whose == Whose::Factory && start.why.contains("makes no sandboxes in /tmp"),
            "{}",
            start.why
        );
        let nonsense = ground.execute.join("nonsense");
        fs::write(&nonsense, "no credential")?;
        let script = Script {
            credential: Some(nonsense.clone()),
            ..ground.script(launcher(), Account::Other)
        };
        let (why, whose) = first(&script)?;
        fs::remove_file(&nonsense)?;
        ensure!(
            whose == Whose::Frontend && why.contains("an account for a job does not work"),
            "{why}"
        );
        ground.is_clean()
    });
}
