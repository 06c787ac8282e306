//! `kernel-security`: what protects the node, published, and asked for by those who want it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::super::node::status;
use super::super::simple::{gather_and_judge, probe};
use crate::check::Check;
use crate::outcome::{Failure, Outcome, Whose};
use crate::probe::{Context, Probe, Running};

/// What can be asked for.
const DEMANDS: [&str; 5] = ["selinux", "apparmor", "yama", "lockdown", "mitigations"];

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    probe(
        Check::new(
            "kernel-security",
            "protections of the kernel, and holes of the processors",
        ),
        run,
    )
}

fn run(context: &Context) -> Running<'_> {
    let demands = context
        .knobs()
        .list("SAILPLANE_CHECK_KERNEL_SECURITY")
        .to_vec();
    Box::pin(gather_and_judge(
        context,
        || gather(Path::new("/sys"), Path::new("/proc")),
        move |facts| judge(facts, &demands),
    ))
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    /// Enforcing, or only permissive; `None`: not there.
    selinux_enforcing: Option<bool>,
    apparmor: bool,
    /// 0: any process of an account may trace any other of it.
    yama_scope: Option<u64>,
    /// `none`, `integrity` or `confidentiality`.
    lockdown: Option<String>,
    /// Holes of the processors that nothing is done about.
    vulnerable: Vec<String>,
    /// The pilot cannot gain privileges: setuid programs do not work.
    no_new_privileges: bool,
    fips: bool,
}

fn gather(sys: &Path, proc: &Path) -> Facts {
    let text = |path: &Path| {
        fs::read_to_string(path)
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let own = text(&proc.join("self/status")).unwrap_or_default();
    let mut vulnerable: Vec<String> = fs::read_dir(sys.join("devices/system/cpu/vulnerabilities"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| text(&entry.path()).is_some_and(|text| text.starts_with("Vulnerable")))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    vulnerable.sort_unstable();
    Facts {
        selinux_enforcing: text(&sys.join("fs/selinux/enforce")).map(|text| text == "1"),
        apparmor: text(&sys.join("module/apparmor/parameters/enabled"))
            .is_some_and(|text| text == "Y"),
        yama_scope: text(&proc.join("sys/kernel/yama/ptrace_scope"))
            .and_then(|text| text.parse().ok()),
        lockdown: text(&sys.join("kernel/security/lockdown")).and_then(|text| chosen(&text)),
        vulnerable,
        no_new_privileges: status::number(&own, "NoNewPrivs") == Some(1),
        fips: text(&proc.join("sys/crypto/fips_enabled")).is_some_and(|text| text == "1"),
    }
}

/// `none [integrity] confidentiality`: what is in brackets.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

/// What to do about demands that are not met.
fn turn_on(demands: &[String]) -> String {
    let mut all: Vec<&str> = demands
        .iter()
        .filter_map(|demand| match demand.as_str() {
            "selinux" => Some("`setenforce 1`, and SELINUX=enforcing in /etc/selinux/config"),
            "apparmor" => Some("boot with apparmor=1 security=apparmor"),
            "yama" => Some("`sysctl -w kernel.yama.ptrace_scope=1`, and the same in /etc/sysctl.d"),
            "lockdown" => Some("boot with lockdown=integrity"),
            "mitigations" => Some(
                "install the processor's microcode and the kernel's updates, and boot without mitigations=off",
            ),
            _ => None,
        })
        .collect();
    all.push("or ask for less in SAILPLANE_CHECK_KERNEL_SECURITY");
    all.join("; ")
}

fn judge(facts: &Facts, demands: &[String]) -> Outcome {
    let lacks = |demand: &str| match demand {
        "selinux" => {
            (facts.selinux_enforcing != Some(true)).then(|| match facts.selinux_enforcing {
                None => "SELinux is not there".to_owned(),
                Some(_) => "SELinux is only permissive".to_owned(),
            })
        }
        "apparmor" => (!facts.apparmor).then(|| "AppArmor is not on".to_owned()),
        "yama" => facts.yama_scope.is_none_or(|scope| scope == 0).then(|| {
            "processes of an account may trace each other (kernel.yama.ptrace_scope)".to_owned()
        }),
        "lockdown" => facts
            .lockdown
            .as_deref()
            .is_none_or(|word| word == "none")
            .then(|| "the kernel is not locked down".to_owned()),
        "mitigations" => (!facts.vulnerable.is_empty())
            .then(|| format!("nothing is done about {}", facts.vulnerable.join(", "))),
        _ => None,
    };
    let unknown = demands
        .iter()
        .find(|word| !DEMANDS.contains(&word.to_ascii_lowercase().as_str()));
    let (wanted, lacking): (Vec<String>, Vec<String>) = demands
        .iter()
        .map(|demand| demand.to_ascii_lowercase())
        .filter_map(|demand| lacks(&demand).map(|lack| (demand, lack)))
        .unzip();
    let outcome = if let Some(word) = unknown {
        let why =
            format!("SAILPLANE_CHECK_KERNEL_SECURITY has {word:?}, which cannot be asked for");
        Outcome::failed(
            Failure::new(
                Whose::Factory,
                why,
                format!("use some of: {}", DEMANDS.join(", ")),
            )
            .kind("Config"),
        )
    } else if lacking.is_empty() {
        Outcome::passed()
    } else {
        let why = format!(
            "the node is less protected than SAILPLANE_CHECK_KERNEL_SECURITY asks for: {}",
            lacking.join("; ")
        );
        Outcome::failed(Failure::site(why, turn_on(&wanted)).kind("WN_Resource"))
    };
    let selinux = match facts.selinux_enforcing {
        None => "none",
        Some(true) => "enforcing",
        Some(false) => "permissive",
    };
    outcome
        .text("selinux", selinux)
        .text(
            "lockdown",
            facts.lockdown.clone().unwrap_or_else(|| "none".to_owned()),
        )
        .text("vulnerable", facts.vulnerable.join(" "))
        .attribute("SailplaneSELinux", selinux)
        .attribute("SailplaneAppArmor", facts.apparmor)
        .attribute("SailplaneFips", facts.fips)
        .attribute("SailplaneNoNewPrivileges", facts.no_new_privileges)
        .attribute("SailplaneVulnerable", facts.vulnerable.join(",").as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_node_is_read() {
        let (sys, proc) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (root, path, text) in [
            (&sys, "fs/selinux/enforce", "0"),
            (
                &sys,
                "kernel/security/lockdown",
                "none [integrity] confidentiality\n",
            ),
            (
                &sys,
                "devices/system/cpu/vulnerabilities/meltdown",
                "Not affected\n",
            ),
            (
                &sys,
                "devices/system/cpu/vulnerabilities/mds",
                "Vulnerable: Clear CPU buffers attempted, no microcode; SMT Host state unknown\n",
            ),
            (&proc, "self/status", "NoNewPrivs:\t1\n"),
            (&proc, "sys/kernel/yama/ptrace_scope", "1\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let facts = gather(sys.path(), proc.path());
        assert_eq!(facts.selinux_enforcing, Some(false));
        assert_eq!(facts.lockdown.as_deref(), Some("integrity"));
        assert_eq!(facts.vulnerable, ["mds"]);
        assert!(facts.no_new_privileges);
        let demand = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        assert!(judge(&facts, &[]).is_passed());
        assert!(judge(&facts, &demand(&["yama", "LOCKDOWN"])).is_passed());
        let outcome = judge(&facts, &demand(&["selinux", "mitigations"]));
        assert!(
            outcome
                .failure()
                .unwrap()
                .why
                .ends_with("SELinux is only permissive; nothing is done about mds")
        );
        assert_eq!(
            judge(&facts, &demand(&["grsecurity"]))
                .failure()
                .unwrap()
                .whose,
            Whose::Factory
        );
    }
}
