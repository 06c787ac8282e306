//! Who starts the payloads: the identity-switch helper, or this program under the pilot's own account.

use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::blame::chain;
use crate::broker::own::{OwnAccount, THIS_PROGRAM};
use crate::broker::{Broker, BrokerError, BrokerHello};
use crate::knobs::{Knobs, SwitchWish};

/// The agent's program, and where a site has it.
const AGENT: &str = "sailplane-job";
const INSTALLED: &str = "/usr/lib/sailplane/sailplane-job";

/// There is nobody to start payloads.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The helper does not work.
    #[error("the identity-switch helper does not work")]
    Helper(#[from] BrokerError),
    /// There is no program to work in sandboxes.
    #[error("no agent to start jobs under the pilot's own account: there is no {}", looked_at.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and no "))]
    NoAgent {
        /// Where it could have been.
        looked_at: Vec<PathBuf>,
    },
    /// Jobs would be root.
    #[error("the pilot runs as root, and no job is run under that account")]
    Root,
    /// This program does not start again.
    #[error("jobs cannot be started under the pilot's own account")]
    Own(#[source] BrokerError),
}

/// How payloads are started, for as long as the pilot lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Switching {
    /// By the helper at this path, each under its user's account.
    Helper(PathBuf),
    /// All under the pilot's account.
    Own {
        /// How.
        own: OwnAccount,
        /// Why so, one sentence.
        why: String,
    },
}

/// What the wish and the helper's start come to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    /// Start the helper, then ask again.
    TryHelper,
    /// Payloads get accounts of their own.
    UseHelper,
    /// They do not; why, in one sentence.
    OwnAccount(String),
    /// There is no pilot.
    Fail,
}

/// `helper`: nothing before it was tried, then whether it started, or why not.
fn decide(wish: SwitchWish, helper: Option<Result<(), &str>>) -> Decision {
    match (wish, helper) {
        (SwitchWish::Never, _) => {
            Decision::OwnAccount("SAILPLANE_IDENTITY_SWITCH is NEVER".to_owned())
        }
        (_, None) => Decision::TryHelper,
        (_, Some(Ok(()))) => Decision::UseHelper,
        (SwitchWish::Optional, Some(Err(error))) => Decision::OwnAccount(format!(
            "SAILPLANE_IDENTITY_SWITCH is OPTIONAL, and {error}"
        )),
        (SwitchWish::Required, Some(Err(_))) => Decision::Fail,
    }
}

impl Switching {
    /// Starts whoever starts the payloads.
    ///
    /// # Errors
    /// [`SwitchError`].
    pub(super) async fn start(knobs: &Knobs) -> Result<(Self, Broker, BrokerHello), SwitchError> {
        let wish = knobs.identity_switch;
        let mut tried = None;
        if decide(wish, None) == Decision::TryHelper {
            tried =
                Some(Broker::start(knobs.sailplane_switch.path().unwrap_or(Path::new("/"))).await);
        }
        let said = match &tried {
            None => None,
            Some(Ok(_)) => Some(Ok(())),
            Some(Err(error)) => Some(Err(chain(error))),
        };
        let decision = decide(
            wish,
            said.as_ref()
                .map(|said| said.as_ref().map(drop).map_err(String::as_str)),
        );
        match (decision, tried) {
            (Decision::OwnAccount(why), _) => {
                let own = own_account(knobs)?;
                let switching = Self::Own { own, why };
                let (broker, hello) = switching.restart().await?;
                Ok((switching, broker, hello))
            }
            (_, Some(Ok((broker, hello)))) => Ok((
                Self::Helper(
                    knobs
                        .sailplane_switch
                        .path()
                        .unwrap_or(Path::new("/"))
                        .to_owned(),
                ),
                broker,
                hello,
            )),
            (_, Some(Err(error))) => Err(error.into()),
            (_, None) => Err(BrokerError::Gone.into()),
        }
    }

    /// Starts it again, in the same way: a pilot that has said that it separates jobs does not stop doing so.
    ///
    /// # Errors
    /// [`SwitchError`].
    pub(super) async fn restart(&self) -> Result<(Broker, BrokerHello), SwitchError> {
        match self {
            Self::Helper(path) => Ok(Broker::start(path).await?),
            Self::Own { own, .. } => Broker::start_own(Path::new(THIS_PROGRAM), own)
                .await
                .map_err(SwitchError::Own),
        }
    }

    /// Whether payloads get accounts of their own.
    pub(super) const fn separates(&self) -> bool {
        matches!(self, Self::Helper(_))
    }
}

fn own_account(knobs: &Knobs) -> Result<OwnAccount, SwitchError> {
    if geteuid().is_root() {
        return Err(SwitchError::Root);
    }
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let places = places(knobs.job_agent.as_deref(), beside);
    match places.iter().find(|place| place.is_file()) {
        Some(agent) => Ok(OwnAccount {
            agent: agent.clone(),
            ca_directory: knobs.ca_directory.clone(),
        }),
        None => Err(SwitchError::NoAgent { looked_at: places }),
    }
}

/// Where the agent may be, best first.
fn places(knob: Option<&Path>, beside: Option<&Path>) -> Vec<PathBuf> {
    match knob {
        Some(path) => vec![path.to_owned()],
        None => beside
            .map(|folder| folder.join(AGENT))
            .into_iter()
            .chain([PathBuf::from(INSTALLED)])
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wish_and_helper_come_to() {
        use SwitchWish::{Never, Optional, Required};
        let own = |text: &str| Decision::OwnAccount(text.to_owned());
        let gone = Some(Err("it is gone"));
        for (wish, helper, wanted) in [
            (Required, None, Decision::TryHelper),
            (Required, Some(Ok(())), Decision::UseHelper),
            (Required, gone, Decision::Fail),
            (Optional, None, Decision::TryHelper),
            (Optional, Some(Ok(())), Decision::UseHelper),
            (
                Optional,
                gone,
                own("SAILPLANE_IDENTITY_SWITCH is OPTIONAL, and it is gone"),
            ),
            (Never, None, own("SAILPLANE_IDENTITY_SWITCH is NEVER")),
            (
                Never,
                Some(Ok(())),
                own("SAILPLANE_IDENTITY_SWITCH is NEVER"),
            ),
            (Never, gone, own("SAILPLANE_IDENTITY_SWITCH is NEVER")),
        ] {
            assert_eq!(decide(wish, helper), wanted, "{wish:?} {helper:?}");
        }
    }

    #[test]
    fn a_named_agent_is_the_only_one() {
        assert_eq!(
            places(Some(Path::new("/x/agent")), Some(Path::new("/bin"))),
            [PathBuf::from("/x/agent")]
        );
        assert_eq!(
            places(None, Some(Path::new("/opt"))),
            [PathBuf::from("/opt/sailplane-job"), INSTALLED.into()]
        );
        assert_eq!(places(None, None), [PathBuf::from(INSTALLED)]);
    }
}
