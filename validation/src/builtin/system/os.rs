//! `operating-system`: the distribution is one that the jobs can use.

use std::fs;
use std::sync::Arc;

use super::super::node::os_release::{self, OsRelease, Wanted};
use super::super::simple::{gather_and_judge, probe};
use crate::check::Check;
use crate::outcome::{Failure, Outcome, Whose};
use crate::probe::{Context, Probe, Running};

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    probe(
        Check::new("operating-system", "distribution and version"),
        run,
    )
}

fn run(context: &Context) -> Running<'_> {
    let wanted = context.knobs().list("SAILPLANE_CHECK_SYSTEMS").to_vec();
    Box::pin(gather_and_judge(context, gather, move |os| {
        judge(os, &wanted)
    }))
}

fn gather() -> OsRelease {
    let text = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok());
    os_release::parse(&text.unwrap_or_default())
}

fn judge(os: &OsRelease, wanted: &[String]) -> Outcome {
    let name = if os.name.is_empty() {
        "a system without /etc/os-release"
    } else {
        &os.name
    };
    let unreadable = wanted.iter().find(|word| Wanted::parse(word).is_none());
    let is_wanted = wanted.is_empty()
        || wanted
            .iter()
            .filter_map(|word| Wanted::parse(word))
            .any(|wanted| wanted.takes(os));
    let outcome = if let Some(word) = unreadable {
        let why = format!("SAILPLANE_CHECK_SYSTEMS has {word:?}, which names no system");
        Outcome::failed(
            Failure::new(
                Whose::Factory,
                why,
                "write ID or ID>=VERSION as in /etc/os-release: `rhel>=8 debian>=12`",
            )
            .kind("Config"),
        )
    } else if is_wanted {
        Outcome::passed()
    } else {
        let why = format!(
            "this node has {name}, and jobs need one of: {}",
            wanted.join(", ")
        );
        Outcome::failed(
            Failure::site(
                why,
                "send no pilots here, or let the site install another system (a container will do)",
            )
            .kind("WN_Resource"),
        )
    };
    outcome.text("system", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_wanted_is_named() {
        let os = os_release::parse(
            "ID=centos\nVERSION_ID=\"7\"\nPRETTY_NAME=\"CentOS Linux 7 (Core)\"\nID_LIKE=\"rhel fedora\"\n",
        );
        let wanted = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        assert!(judge(&os, &[]).is_passed());
        assert!(judge(&os, &wanted(&["debian", "rhel>=7"])).is_passed());
        let outcome = judge(&os, &wanted(&["rhel>=8"]));
        let failure = outcome.failure().unwrap();
        assert_eq!(
            failure.why,
            "this node has CentOS Linux 7 (Core), and jobs need one of: rhel>=8"
        );
        assert_eq!(
            judge(&os, &wanted(&[">="])).failure().unwrap().whose,
            Whose::Factory
        );
    }
}
