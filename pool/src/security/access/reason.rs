//! Why somebody may not.

use std::net::IpAddr;

use cedar::security::{Level, PeerIdentity};

use crate::security::levels::chain;

/// Why a level was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// An entry of a DENY list fits.
    Denied { list: String, entry: String },
    /// A DENY list has host names, and the resolver did not say the peer's in time.
    NameUnknown { list: String },
    /// There is no ALLOW list.
    NoList { level: Level },
    /// No entry of the ALLOW list fits, nor of a list that implies the level.
    NotListed {
        level: Level,
        list: Option<String>,
        by_token: bool,
    },
}

impl Reason {
    /// One sentence for the log.
    pub(crate) fn sentence(&self, peer: &PeerIdentity, from: Option<IpAddr>) -> String {
        let who = match from {
            Some(from) => format!("{} from {}", peer.user, from.to_canonical()),
            None => peer.user.clone(),
        };
        match self {
            Self::Denied { list, entry } => {
                format!("{list} denies {who}: its entry {entry} fits")
            }
            Self::NameUnknown { list } => format!(
                "{list} has names of hosts, and the resolver did not give the name of {who} in time; asked again, it may know it"
            ),
            Self::NoList { level } => {
                let knobs: Vec<_> = chain(*level, false)
                    .into_iter()
                    .map(|name| format!("ALLOW_{name}"))
                    .collect();
                let knobs = match knobs.as_slice() {
                    [first, second] => format!("neither {first} nor {second}"),
                    _ => format!("none of {}", knobs.join(", ")),
                };
                format!("nobody may {level}: {knobs} is set")
            }
            Self::NotListed {
                level,
                list,
                by_token,
            } => {
                let list = list.as_ref().map_or_else(
                    || format!("ALLOW_{level} is not set"),
                    |list| format!("{list} has no entry that fits {who}"),
                );
                let token = if *by_token {
                    format!(", its proof is no token with the scope condor:/{level}")
                } else {
                    String::new()
                };
                let above = if crate::security::levels::directly_above(*level).is_empty() {
                    String::new()
                } else if token.is_empty() {
                    format!(", and no list of a level that implies {level} has one")
                } else {
                    format!(", and no level implies {level}")
                };
                format!("{list}{token}{above}")
            }
        }
    }
}
