//! `user-namespaces`: ordinary accounts can make namespaces, which containers and jobs without accounts of their own need.

use std::fs;
use std::sync::Arc;

use super::super::simple::{gather_and_judge, probe};
use super::super::sys;
use crate::check::{Check, Severity};
use crate::outcome::{Failure, Outcome};
use crate::probe::{Context, Probe, Running};

/// The check.
pub(in super::super) fn check(severity: Severity) -> Arc<dyn Probe> {
    let check = Check::new("user-namespaces", "namespaces of ordinary accounts").severity(severity);
    probe(check, run)
}

fn run(context: &Context) -> Running<'_> {
    Box::pin(gather_and_judge(context, gather, judge))
}

#[derive(Debug, Clone)]
struct Facts {
    /// What came of making some: what failed, and the Linux error number.
    trial: Result<(), (&'static str, i32)>,
    /// user.max_user_namespaces
    most: Option<u64>,
    /// kernel.unprivileged_userns_clone (Debian)
    clone_allowed: Option<u64>,
    /// kernel.apparmor_restrict_unprivileged_userns (Ubuntu)
    apparmor_restricts: Option<u64>,
}

fn gather() -> Facts {
    let number = |name: &str| {
        fs::read_to_string(format!("/proc/sys/{name}"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
    };
    Facts {
        trial: sys::try_user_namespace(),
        most: number("user/max_user_namespaces"),
        clone_allowed: number("kernel/unprivileged_userns_clone"),
        apparmor_restricts: number("kernel/apparmor_restrict_unprivileged_userns"),
    }
}

fn judge(facts: &Facts) -> Outcome {
    let outcome = match facts.trial {
        Ok(()) => Outcome::passed(),
        Err((what, errno)) => {
            let (cause, hint) = if facts.most == Some(0) {
                (
                    "user.max_user_namespaces is 0",
                    "set user.max_user_namespaces to some thousands",
                )
            } else if facts.clone_allowed == Some(0) {
                (
                    "kernel.unprivileged_userns_clone is 0",
                    "set kernel.unprivileged_userns_clone to 1",
                )
            } else if facts.apparmor_restricts == Some(1) {
                (
                    "kernel.apparmor_restrict_unprivileged_userns is 1",
                    "set it to 0, or give the pilot's program an AppArmor profile that has `userns`",
                )
            } else if errno == libc::ENOSPC {
                ("too many are in use", "raise user.max_user_namespaces")
            } else {
                (
                    "something forbids it",
                    "look at the container's seccomp profile, SELinux, and chroot",
                )
            };
            let why = format!(
                "ordinary accounts cannot make user namespaces here ({what}: {}): {cause}",
                nix::errno::Errno::from_raw(errno).desc()
            );
            Outcome::failed(Failure::site(why, hint).kind("WN_Resource"))
        }
    };
    outcome.attribute("SailplaneUserNamespaces", facts.trial.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(trial: Result<(), (&'static str, i32)>) -> Facts {
        Facts {
            trial,
            most: None,
            clone_allowed: None,
            apparmor_restricts: None,
        }
    }

    #[test]
    fn the_switch_that_forbids_them_is_named() {
        let refused = with(Err(("unshare", libc::EPERM)));
        let hint = |facts: &Facts| judge(facts).failure().unwrap().hint.clone();
        assert!(hint(&refused).contains("seccomp"));
        let most = Facts {
            most: Some(0),
            ..refused
        };
        assert!(hint(&most).contains("max_user_namespaces"));
        let ubuntu = Facts {
            apparmor_restricts: Some(1),
            ..with(Err(("mount", libc::EACCES)))
        };
        assert!(hint(&ubuntu).contains("AppArmor"));
        assert!(judge(&with(Ok(()))).is_passed());
    }

    #[test]
    fn a_trial_ends_with_an_answer() {
        // Either is right; what matters is that it comes back, and what it says.
        if let Err((what, errno)) = gather().trial {
            assert!(!what.is_empty() && errno > 0);
        }
    }
}
