//! Who starts the payloads: the site's helper, or this program under the pilot's own account.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use launch_protocol::broker::CredentialRequired;
use nix::unistd::{User, geteuid};

use super::foreign::{self, ForeignError};
use super::lacks::lacks;
use super::reconcile::{Decision, How, Next, Wishes, next};
use crate::blame::chain;
use crate::broker::own::{Entrance, OwnAccount, THIS_PROGRAM};
use crate::broker::{Broker, BrokerError, BrokerHello};
use crate::identity::{self, IdentityPolicy, SiteNeeds};
use crate::join::CredentialFiles;
use crate::knobs::{Knobs, Offered, SwitchWish};

/// The agent's program, and where a site has it.
const AGENT: &str = "sailplane-job";
const INSTALLED: &str = "/usr/lib/sailplane/sailplane-job";

/// There is nobody to start payloads.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The helper does not work.
    #[error("the identity-switch helper does not work")]
    Helper(#[from] BrokerError),
    /// The site's own program does not.
    #[error("the site's own way to change accounts does not work")]
    Foreign(#[from] ForeignError),
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
    /// What is wished and what the site offers do not go together.
    #[error("{reason}")]
    Irreconcilable {
        /// One sentence.
        reason: String,
    },
}

/// How payloads are started, for as long as the pilot lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Switching {
    decision: Decision,
    offered: Offered,
    /// Where this program is the broker.
    own: Option<OwnAccount>,
    /// The pilot's own credential.
    pilot_proxy: Option<PathBuf>,
    /// What decides whose a job is.
    identity: IdentityPolicy,
    /// What cannot be had, each a few words.
    pub(super) lacks: Vec<String>,
}

/// A broker that was started in trial, and is the one if the decision is for it.
type Trial = Result<(Option<OwnAccount>, Broker, BrokerHello), SwitchError>;

impl Switching {
    /// Reconciles what is wished with what there is, and starts whoever starts the payloads.
    ///
    /// # Errors
    /// [`SwitchError`].
    pub(super) async fn start(
        knobs: &Knobs,
        slots: u32,
    ) -> Result<(Self, Broker, BrokerHello), SwitchError> {
        let wishes = Wishes {
            identity: knobs.identity_switch,
            isolation: knobs.isolation,
        };
        let offered = knobs.sailplane_switch.clone();
        let (mut helper, mut namespaces) = (None::<Trial>, None::<Trial>);
        loop {
            let said = [&helper, &namespaces].map(|trial| {
                let trial = trial.as_ref()?;
                Some(trial.as_ref().map(drop).map_err(|error| chain(error)))
            });
            let [tried, tried_namespaces] = said.each_ref().map(|said| {
                said.as_ref()
                    .map(|said| said.as_ref().copied().map_err(String::as_str))
            });
            match next(wishes, &offered, tried, tried_namespaces) {
                Next::TryHelper => helper = Some(try_helper(knobs, &offered, slots).await),
                Next::TryNamespaces => {
                    let hide = hidden(knobs);
                    let entrance = Entrance::Namespaces { hide };
                    let own = own_account(knobs, entrance)?;
                    namespaces = Some(start_own(own).await);
                }
                Next::Use(decision) => {
                    let trial = match decision.how {
                        How::Helper => helper.take(),
                        How::Namespaces => namespaces.take(),
                        How::OwnAccount => {
                            Some(start_own(own_account(knobs, Entrance::Open)?).await)
                        }
                    };
                    let Some(trial) = trial else {
                        return Err(BrokerError::Gone.into());
                    };
                    let (own, broker, hello) = trial?;
                    let needs = needs(decision.how, &offered);
                    let identity =
                        identity::reconcile(knobs.job_credential, needs, &knobs.job_token)
                            .map_err(|error| SwitchError::Irreconcilable {
                                reason: error.to_string(),
                            })?;
                    let switching = Self {
                        identity,
                        lacks: lacks(decision.how, &offered, &hello.features),
                        decision,
                        offered,
                        own,
                        pilot_proxy: knobs.pilot_proxy.clone(),
                    };
                    return Ok((switching, broker, hello));
                }
                Next::Fail(reason) => {
                    return Err(match helper {
                        Some(Err(error)) if namespaces.is_none() => error,
                        _ => SwitchError::Irreconcilable { reason },
                    });
                }
            }
        }
    }

    /// Starts it again, in the same way: a pilot that has said that it separates jobs does not stop doing so.
    ///
    /// # Errors
    /// [`SwitchError`].
    pub(super) async fn restart(&self) -> Result<(Broker, BrokerHello), SwitchError> {
        match (&self.own, self.offered.path()) {
            (Some(own), _) => start_own(own.clone())
                .await
                .map(|(_, broker, hello)| (broker, hello)),
            (None, Some(path)) => start_switch(path, self.pilot_proxy.as_deref()).await,
            (None, None) => Err(BrokerError::Gone.into()),
        }
    }

    /// What decides whose a job is.
    pub(super) const fn identity(&self) -> &IdentityPolicy {
        &self.identity
    }

    /// Whether payloads get accounts of their own.
    pub(super) fn separates(&self) -> bool {
        self.decision.how == How::Helper
    }

    /// Who changes the accounts, one word.
    pub(super) fn by(&self) -> &'static str {
        if self.separates() {
            self.offered.word()
        } else {
            Offered::Nothing.word()
        }
    }

    /// What stands between the payloads, and between them and the pilot.
    pub(super) const fn isolation(&self) -> &'static str {
        match self.decision.how {
            How::Helper => "account",
            How::Namespaces => "namespaces",
            How::OwnAccount => "none",
        }
    }

    /// Why so, one sentence.
    pub(super) fn reason(&self) -> &str {
        &self.decision.reason
    }

    /// Says once how the jobs are started, and what cannot be had.
    pub(super) fn tell(&self, hello: &BrokerHello) {
        let agent = self.own.as_ref().map(|own| own.agent.display().to_string());
        let verified_against = self
            .own
            .as_ref()
            .and_then(|own| Some(own.ca_directory.as_ref()?.display().to_string()));
        let reason = self.reason();
        match self.decision.how {
            How::Helper => tracing::info!(
                by = self.by(),
                version = hello.switch_version,
                tracking = hello.tracking,
                mapping = hello.mapping,
                agent,
                "the identity-switch helper is ready ({reason})"
            ),
            How::Namespaces => tracing::warn!(
                agent,
                verified_against,
                "no identity switch: all jobs run under this account, each in namespaces of its own, where it sees \
                 neither the pilot nor other jobs ({reason})"
            ),
            How::OwnAccount => tracing::warn!(
                agent,
                verified_against,
                "no identity switch: all jobs run under this account and are protected neither from each other nor the \
                 pilot from them ({reason})"
            ),
        }
        for lack in &self.lacks {
            tracing::warn!("not to be had here: {lack}");
        }
    }
}

/// What has to be known of a job for it to be started in this way.
const fn needs(how: How, offered: &Offered) -> SiteNeeds {
    match (how, offered) {
        (How::Namespaces | How::OwnAccount, _) => SiteNeeds::Nothing,
        (How::Helper, Offered::Switch(_)) => SiteNeeds::ProxyOrToken,
        (How::Helper, _) => SiteNeeds::Proxy,
    }
}

async fn try_helper(knobs: &Knobs, offered: &Offered, slots: u32) -> Trial {
    let entrance = match offered {
        Offered::Switch(path) => {
            let (broker, hello) = start_switch(path, knobs.pilot_proxy.as_deref()).await?;
            return Ok((None, broker, hello));
        }
        Offered::Glexec(program) => Entrance::Glexec {
            program: program.clone(),
            pilot_proxy: knobs.pilot_proxy.clone(),
        },
        Offered::Sudo(program) => Entrance::Sudo {
            program: program.clone(),
        },
        Offered::Nothing => return Err(BrokerError::Gone.into()),
    };
    let own = own_account(knobs, entrance)?;
    foreign::check(&own, knobs, slots).await?;
    start_own(own).await
}

/// Starts our own helper, and shows it the pilot's credential if it wants to see one.
async fn start_switch(
    path: &Path,
    pilot_proxy: Option<&Path>,
) -> Result<(Broker, BrokerHello), SwitchError> {
    let (broker, hello) = Broker::start(path).await?;
    if hello.credential_required == CredentialRequired::PilotAndUser {
        match pilot_proxy {
            Some(proxy) => broker.show(proxy).await?,
            None => tracing::warn!(
                "this site wants to see the pilot's own credential, and there is none to show: set SAILPLANE_PILOT_PROXY"
            ),
        }
    }
    Ok((broker, hello))
}

async fn start_own(own: OwnAccount) -> Trial {
    let (broker, hello) = Broker::start_own(Path::new(THIS_PROGRAM), &own)
        .await
        .map_err(|error| match error {
            // Its own word is enough.
            BrokerError::Refused(refusal) => SwitchError::Irreconcilable {
                reason: refusal.message,
            },
            other => SwitchError::Own(other),
        })?;
    Ok((Some(own), broker, hello))
}

fn own_account(knobs: &Knobs, entrance: Entrance) -> Result<OwnAccount, SwitchError> {
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
            entrance,
        }),
        None => Err(SwitchError::NoAgent { looked_at: places }),
    }
}

/// How this program is started as the broker that would be used without the helper: through the site's other means, in
/// namespaces, or plainly. `None`: it could not be.
pub(super) fn own_launcher(knobs: &Knobs) -> Option<(PathBuf, Vec<OsString>)> {
    let entrance = match (&knobs.sailplane_switch, knobs.identity_switch) {
        (Offered::Glexec(program), SwitchWish::Required | SwitchWish::Optional) => {
            Entrance::Glexec {
                program: program.clone(),
                pilot_proxy: knobs.pilot_proxy.clone(),
            }
        }
        (Offered::Sudo(program), SwitchWish::Required | SwitchWish::Optional) => Entrance::Sudo {
            program: program.clone(),
        },
        _ if knobs.isolation == SwitchWish::Never => Entrance::Open,
        _ => Entrance::Namespaces {
            hide: hidden(knobs),
        },
    };
    let own = own_account(knobs, entrance).ok()?;
    Some((std::env::current_exe().ok()?, own.arguments()))
}

/// What payloads in namespaces do not see of the pilot's.
fn hidden(knobs: &Knobs) -> Vec<PathBuf> {
    let home = User::from_uid(geteuid())
        .ok()
        .flatten()
        .map(|user| user.dir);
    let mut paths: Vec<PathBuf> = knobs
        .hide
        .iter()
        .chain(&knobs.log)
        .chain(&knobs.pilot_proxy)
        .chain(&home)
        .cloned()
        .collect();
    let own = CredentialFiles::of(&knobs.credentials, &knobs.client_policy);
    paths.extend(own.paths().map(Path::to_owned));
    paths.push(knobs.execute.clone());
    paths.extend(std::env::current_dir());
    paths.extend(std::env::var_os("HOME").map(PathBuf::from));
    paths.retain(|path| path.is_absolute());
    paths.sort_unstable();
    paths.dedup();
    paths
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
