//! Whose account an authenticated identity stands for.
//!
//! Jobs' files are opened under the account that `Owner` names. So only identities of our own `UID_DOMAIN` own jobs here:
//! `alice@elsewhere` is not this machine's alice.

use cedar::security::PeerIdentity;

/// A peer, seen by the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity<'a> {
    /// A user of this domain, and with that an account here.
    Local(&'a str),
    /// Somebody who is known, but has no account here by that name.
    Foreign {
        /// All of the name.
        identity: &'a str,
    },
    /// Not authenticated.
    Nobody,
}

impl<'a> Identity<'a> {
    /// What `who` is in `uid_domain`.
    pub(super) fn of(who: &'a PeerIdentity, uid_domain: &str) -> Self {
        if !who.is_authenticated() {
            return Self::Nobody;
        }
        let identity = who.user.as_str();
        match identity.split_once('@') {
            Some((user, domain)) if !user.is_empty() && domain.eq_ignore_ascii_case(uid_domain) => {
                Self::Local(user)
            }
            _ => Self::Foreign { identity },
        }
    }
}

#[cfg(test)]
mod tests {
    use cedar::security::AuthMethod;

    use super::*;

    #[test]
    fn only_our_own_domain_has_accounts_here() {
        let who = |user: &str| PeerIdentity::proven(user.to_owned(), AuthMethod::Token);
        let local = who("alice@Site.Example");
        assert_eq!(
            Identity::of(&local, "site.example"),
            Identity::Local("alice")
        );
        for name in [
            "alice@other",
            "alice",
            "@site.example",
            "alice@x@site.example",
        ] {
            let peer = who(name);
            assert_eq!(
                Identity::of(&peer, "site.example"),
                Identity::Foreign { identity: name }
            );
        }
        let nobody = PeerIdentity::unauthenticated();
        assert_eq!(Identity::of(&nobody, "unmapped"), Identity::Nobody);
    }
}
