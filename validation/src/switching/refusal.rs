//! What an error of the launch protocol is to a check: whose it is, and what to do.

use launch_protocol::broker::{Refusal, RefusalClass, RefusedBy};

use super::agent::AgentError;
use super::client::ClientError;
use crate::outcome::{Failure, Whose};

/// A failure with the client's words. `doing` completes the sentence "... does not work".
pub(super) fn failure(doing: &str, error: &ClientError) -> Failure {
    let why = format!("{doing} does not work: {error}");
    let failure = match error {
        ClientError::Refused(refusal) => return of_refusal(doing, refusal),
        ClientError::Spawn { .. } => Failure::site(
            why,
            "look at the program that SAILPLANE_SWITCH names, as the pilot's account",
        ),
        ClientError::Version(_) => Failure::site(
            why,
            "let the site install the helper of the pilot's version, or send pilots of the helper's",
        ),
        ClientError::Gone { .. } | ClientError::Timeout(_) => Failure::site(
            why,
            "look at the helper's log (`journalctl -t sailplane-switch`)",
        )
        .transient(),
        ClientError::Malformed(_)
        | ClientError::Unexpected(_)
        | ClientError::Encode(_)
        | ClientError::Socket(_) => Failure::new(
            Whose::Pilot,
            why,
            "report it to the authors of pilot and helper, with both versions",
        ),
    };
    failure.kind("WN_Resource")
}

/// The same of the agent.
pub(super) fn of_agent(doing: &str, error: &AgentError) -> Failure {
    let why = format!("{doing} does not work: {error}");
    match error {
        AgentError::Client(error) => failure(doing, error),
        AgentError::Trouble { errno: libc::ENOSPC | libc::EDQUOT, .. }
        | AgentError::Failed { errno: libc::ENOSPC | libc::EDQUOT, .. } => {
            Failure::site(why, "make room where EXECUTE is, in bytes and in files (`df -h`, `df -i`), or raise the quota of the job's account")
                .transient()
                .kind("WN_Resource")
        }
        AgentError::Trouble { .. } | AgentError::Failed { .. } | AgentError::Exec(_) => {
            Failure::site(why, "look at the directory that is named, and at the ones above it, as the job's account").kind("WN_Resource")
        }
        AgentError::Gone | AgentError::Timeout => {
            Failure::site(why, "look at the helper's log (`journalctl -t sailplane-switch`), and for what kills processes of the job's account")
                .transient()
                .kind("WN_Resource")
        }
        AgentError::Malformed(_) | AgentError::Unexpected | AgentError::Encode(_) | AgentError::Socket(_) => {
            Failure::new(Whose::Pilot, why, "report it to the authors of pilot and helper, with both versions")
        }
    }
}

/// How the helper speaks of a caller whose number has no name.
const NO_NAME: &str = "(no name)";

fn of_refusal(doing: &str, refusal: &Refusal) -> Failure {
    let why = format!(
        "{doing} does not work: {} [{}]",
        refusal.message, refusal.code
    );
    let failure = match (refusal.class, refusal.who) {
        // The credential that is tried is the frontend's.
        (RefusalClass::Job, RefusedBy::Credential) => {
            Failure::new(Whose::Frontend, why, "send pilots with a credential that the site accepts, or name one to try with (SAILPLANE_SWITCH_CREDENTIAL)").kind("VO_Proxy")
        }
        (RefusalClass::Job, _) => {
            Failure::site(why, "let the site map the credential to an account (docs/site-policy.md), or name one to try with (SAILPLANE_SWITCH_CREDENTIAL)").kind("Config")
        }
        (RefusalClass::Caller, _) if refusal.message.contains(NO_NAME) => {
            Failure::site(why, "no name service of the node knows an account of this number (`getent passwd NUMBER`): mend /etc/passwd and its rights \
                                (mode 0644), SSSD or LDAP; or put the number on the helper's list of callers (user_white_list in /etc/sailplane/switch.conf)").kind("Config")
        }
        (RefusalClass::Caller, _) => {
            Failure::site(why, "let the site put the pilot's account on the helper's list of callers (user_white_list in /etc/sailplane/switch.conf)").kind("Config")
        }
        (RefusalClass::SitePermanent, _) => {
            Failure::site(why, "mend what is named; `sailplane-policy check /etc/sailplane/switch.conf` says more").kind("WN_Resource")
        }
        (RefusalClass::SiteTransient, _) => {
            Failure::site(why, "it may pass; if not, see whether accounts are held by dead pilots (`sailplane-switch --sweep`)").kind("WN_Resource")
        }
    };
    if refusal.may_succeed_later {
        failure.transient()
    } else {
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_to_whom_they_concern() {
        let refused = |class, who| {
            let refusal = Refusal {
                class,
                code: "x.y".into(),
                message: "no".into(),
                may_succeed_later: class == RefusalClass::SiteTransient,
                who,
            };
            failure("an account for a job", &ClientError::Refused(refusal))
        };
        let credential = refused(RefusalClass::Job, RefusedBy::Credential);
        assert_eq!(
            credential.why,
            "an account for a job does not work: no [x.y]"
        );
        assert_eq!(credential.whose, Whose::Frontend);
        assert_eq!(
            refused(RefusalClass::Job, RefusedBy::Mapping).whose,
            Whose::Site
        );
        assert!(
            refused(RefusalClass::Caller, RefusedBy::Helper)
                .hint
                .contains("user_white_list")
        );
        assert!(refused(RefusalClass::SiteTransient, RefusedBy::Helper).transient);
    }
}
