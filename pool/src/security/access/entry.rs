//! One entry of an access list (`htcondor:src/condor_io/condor_ipverify.cpp`, `split_entry`).

use super::network::{Network, NetworkError};

/// What an entry is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A netgroup, `+NAME`.
    Netgroup(String),
    /// Users at hosts.
    Users {
        /// Patterns, of which one must fit.
        users: Vec<String>,
        /// Where.
        host: Host,
    },
}

/// The host part of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// Addresses.
    Network(Network),
    /// A host name, or a pattern of host names.
    Name(String),
    /// The address of a daemon, which does not say where its connections come from; nothing fits.
    Sinful,
}

/// An entry that cannot mean anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The host part.
    #[error("{0}")]
    Network(#[from] NetworkError),
    /// Nothing in front of the slash, or behind it, or behind the `+`.
    #[error("a part of it is empty")]
    Empty,
    /// Too many slashes.
    #[error("write USER, HOST, USER/HOST, NETWORK/LENGTH or USER/NETWORK/LENGTH")]
    Slashes,
}

impl Entry {
    /// Reads one entry. `pool_names`: `condor@...` and `condor_pool@...` stand for each other.
    pub(crate) fn parse(text: &str, pool_names: bool) -> Result<Self, EntryError> {
        if let Some(group) = text.strip_prefix('+') {
            return match group {
                "" => Err(EntryError::Empty),
                group => Ok(Self::Netgroup(group.to_owned())),
            };
        }
        let (user, host) = split(text)?;
        if user.is_empty() || host.is_empty() {
            return Err(EntryError::Empty);
        }
        let mut users = vec![user.to_owned()];
        if pool_names {
            users.extend(other_name(user));
        }
        Ok(Self::Users {
            users,
            host: Host::parse(host)?,
        })
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, EntryError> {
        if let Some(network) = Network::parse(text)? {
            return Ok(Self::Network(network));
        }
        if text.contains('/') {
            return Err(EntryError::Slashes);
        }
        if text.contains(['<', '>', '?', ':']) {
            return Ok(Self::Sinful);
        }
        Ok(Self::Name(text.to_owned()))
    }
}

/// User and host of an entry.
fn split(text: &str) -> Result<(&str, &str), EntryError> {
    let Some((before, after)) = text.split_once('/') else {
        // An at sign makes it a user.
        return Ok(if text.contains('@') {
            (text, "*")
        } else {
            ("*", text)
        });
    };
    // Two slashes are user/network/length; one in front of which is a user or an asterisk is user/host.
    if after.contains('/') || before.contains('@') || text.starts_with('*') {
        return Ok((before, after));
    }
    match Network::parse(text)? {
        Some(_) => Ok(("*", text)),
        None => Ok((before, after)),
    }
}

fn other_name(user: &str) -> Option<String> {
    let (name, domain) = user.split_once('@')?;
    if name.eq_ignore_ascii_case("condor") {
        Some(format!("condor_pool@{domain}"))
    } else if name.eq_ignore_ascii_case("condor_pool") {
        Some(format!("condor@{domain}"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_taken_apart_as_condor_does() {
        let cases = [
            ("alice@x.org", "alice@x.org", "*"),
            ("*", "*", "*"),
            ("*/*", "*", "*"),
            ("node.x.org", "*", "node.x.org"),
            ("10.0.0.0/8", "*", "10.0.0.0/8"),
            ("fd00::/16", "*", "fd00::/16"),
            ("*/10.0.0.1", "*", "10.0.0.1"),
            ("alice@x.org/10.0.0.0/8", "alice@x.org", "10.0.0.0/8"),
            ("*/10.0.0.0/8", "*", "10.0.0.0/8"),
            ("alice@x.org/*.x.org", "alice@x.org", "*.x.org"),
            ("alice/node.x.org", "alice", "node.x.org"),
        ];
        for (text, user, host) in cases {
            let wanted = Entry::Users {
                users: vec![user.to_owned()],
                host: Host::parse(host).unwrap(),
            };
            assert_eq!(Entry::parse(text, true), Ok(wanted), "{text}");
        }
        for wrong in [
            "+",
            "/",
            "alice@x/",
            "/10.0.0.1",
            "a@b/10.0.0.1/32/x",
            "10.0.0.0/99",
        ] {
            assert!(Entry::parse(wrong, true).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_pool_has_two_names() {
        let Ok(Entry::Users { users, .. }) = Entry::parse("condor@*/h", true) else {
            panic!("no users");
        };
        assert_eq!(users, ["condor@*", "condor_pool@*"]);
        let Ok(Entry::Users { users, .. }) = Entry::parse("condor_pool@x", false) else {
            panic!("no users");
        };
        assert_eq!(users, ["condor_pool@x"]);
    }
}
