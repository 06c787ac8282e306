//! The users of the demo.

use super::stage::Account;
use std::path::Path;

/// A user of the pool.
#[derive(Debug, Clone)]
pub(super) struct Person {
    /// Login name on the submit side.
    pub(super) account: Account,
    /// Whether the node has an account for the user; otherwise one is lent.
    pub(super) mapped: bool,
}

/// Which credential a job is sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proxy {
    /// Valid for hours.
    Good,
    /// Valid for some seconds.
    EndsSoon,
    /// Made with a certificate of an authority that nobody trusts, in the user's name.
    Forged,
}

impl Proxy {
    /// Its file in the user's home.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Good => "proxy.pem",
            Self::EndsSoon => "proxy-that-ends-soon.pem",
            Self::Forged => "forged-proxy.pem",
        }
    }
}

/// First number of the demo's accounts. The range 60578 to 61183 is left free by distributions and by systemd, and lies
/// within what a container maps.
const FIRST_ID: u32 = 60_901;
/// Numbers that are lent to users without an account.
pub(super) const LENT: (u32, u32) = (61_000, 61_099);

/// The pilot's account, and four users.
pub(super) fn cast(homes: &Path) -> (Account, Vec<Person>) {
    let account = |index: u32, name: &str| Account {
        name: name.to_owned(),
        id: FIRST_ID + index,
        home: homes.join(name),
    };
    let users = ["alice", "bob", "carol", "dave"];
    let people = users.iter().zip(1..).map(|(name, index)| Person {
        account: account(index, name),
        mapped: *name != "dave",
    });
    (account(0, "pilot"), people.collect())
}
