//! Reports for tests of the renderers.

use std::time::Duration;

use crate::check::{Check, Origin, Owner, Severity};
use crate::findings::{Entry, FORMAT, Fact, Node, Report, Setting, Verdict};
use crate::outcome::{Failure, Outcome, Threshold, Whose};

/// What a hostile or careless script may say: markup, a Nagios separator, control characters, a very long word.
pub(crate) const NASTY: &str =
    "<script>alert('x')</script> & \"quoted\" | a=1;2 \u{1b}[31mred\u{7} ]]> \u{202e}end";

fn report(entries: Vec<(Check, Outcome)>) -> Report {
    let verdict = Verdict::of(entries.iter().map(|(check, outcome)| (check, outcome)));
    Report {
        format: FORMAT,
        version: "0.1.0".to_owned(),
        started: 1_772_357_400,
        elapsed: Duration::from_millis(2_345),
        verdict,
        node: Node {
            host: "node7.example.org".to_owned(),
            account: "pilot".to_owned(),
            uid: 990,
            system: "Debian GNU/Linux 12 (bookworm)".to_owned(),
            kernel: "6.1.0-18-amd64".to_owned(),
            arch: "x86_64".to_owned(),
            facts: vec![Fact {
                name: "Work folder".to_owned(),
                value: "/srv/scratch/a-very-long-name-without-any-place-to-break-it/glide_Xk2aQz/execute".to_owned(),
            }],
        },
        settings: vec![Setting {
            knob: "SAILPLANE_CHECK_DISK_FREE".to_owned(),
            value: "20480".to_owned(),
            unit: "MiB".to_owned(),
            default: true,
        }],
        entries: entries
            .into_iter()
            .map(|(check, outcome)| Entry { check, outcome })
            .collect(),
    }
}

/// Nothing at all.
pub(crate) fn empty() -> Report {
    report(Vec::new())
}

/// All is well.
pub(crate) fn healthy() -> Report {
    let mut space =
        Outcome::passed().number("free", 81_920.0, "MiB", Some(Threshold::AtLeast(20_480.0)));
    space.elapsed = Duration::from_millis(3);
    report(vec![
        (
            Check::new("disk-space", "space, quota and rights of the work folder"),
            space,
        ),
        (
            Check::new("clock", "the clock against the pool's"),
            Outcome::passed(),
        ),
    ])
}

/// One of each kind, and text that wants to break out.
pub(crate) fn broken() -> Report {
    let mut hanging = Outcome::failed(
        Failure::new(
            Whose::Frontend,
            "did not end within 10 s and was killed",
            "make /srv/site/check-squid end, or raise its limit",
        )
        .transient()
        .kind("TimeOut"),
    )
    .detail(format!("{NASTY}\nsecond line\n{}", "x".repeat(300)));
    hanging.elapsed = Duration::from_secs(10);
    report(vec![
        (
            Check::new(
                "helper-mode",
                "mode and owner of the identity-switch helper",
            ),
            Outcome::failed(Failure::site(
                "/usr/lib/sailplane/sailplane-switch has mode 0755, so it cannot become root",
                "chown root:root /usr/lib/sailplane/sailplane-switch && chmod 4755 /usr/lib/sailplane/sailplane-switch",
            )),
        ),
        (
            Check::new("disk-space", "space, quota and rights of the work folder"),
            Outcome::failed(
                Failure::site(
                    "/srv/scratch has 812 MiB free and 20480 MiB are needed",
                    "free space in /srv/scratch, or lower SAILPLANE_CHECK_DISK_FREE",
                )
                .kind("WN_Resource"),
            )
            .number("free", 812.0, "MiB", Some(Threshold::AtLeast(20_480.0)))
            .number("used", 99.2, "%", None),
        ),
        (
            Check::new("shutdown", "a shutdown that the site announced").severity(Severity::Drain),
            Outcome::failed(
                Failure::site(
                    "the site shuts this node down at 18:00",
                    "nothing; the pilot drains",
                )
                .transient(),
            ),
        ),
        (
            Check::new("crl-age", "age of the revocation lists"),
            Outcome::failed(Failure::site(
                "3 of 90 revocation lists are over",
                "see that fetch-crl runs",
            ))
            .number("overdue", 3.0, "", Some(Threshold::AtMost(0.0)))
            .at_most(Severity::Warn),
        ),
        (
            Check::new("client-check-squid-sh", "check_squid.sh of the frontend")
                .owner(Owner::Frontend)
                .origin(Origin::Custom {
                    scope: "client".to_owned(),
                    file: "check_squid.sh".to_owned(),
                })
                .severity(Severity::Warn),
            hanging,
        ),
        (
            Check::new("gpu", "GPUs").severity(Severity::AttributeOnly),
            Outcome::failed(Failure::site(
                "nvidia-smi ended with 9",
                "install the driver",
            )),
        ),
        (
            Check::new("cvmfs", "CVMFS repositories"),
            Outcome::skipped("no repository is asked for"),
        ),
        (
            Check::new("identity-switch", "id and a greeting through the helper"),
            Outcome::skipped("helper-mode has not passed"),
        ),
        (
            Check::new("memory", "memory granted and there"),
            Outcome::passed()
                .number("granted", 4_096.0, "MiB", None)
                .text("source", NASTY),
        ),
        (
            Check::new("clock", "the clock against the pool's"),
            Outcome::passed().number("offset", 0.012_3, "s", Some(Threshold::AtMost(60.0))),
        ),
        (
            Check::new(
                "a-check-with-quite-a-long-name-as-somebody-will-surely-bring",
                NASTY,
            ),
            Outcome::passed(),
        ),
    ])
}
