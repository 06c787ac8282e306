//! What is in the gridmapdir, by the monitor's list (requirements M4, M6, M7): an account is a file, its lease a
//! second name of that file.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;

use launch_protocol::broker::{Refusal, RefusalClass};
use launch_protocol::policy::is_lease_name;
use launch_protocol::{is_account_name, is_pool_name};

use crate::refuse::{mapping, trouble};

/// One name of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    inode: u64,
    links: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
    used: i64,
    name: String,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Pool(Vec<Name>);

impl Pool {
    /// Reads what came beside the monitor's answer.
    pub(crate) fn read(beside: Vec<OwnedFd>) -> Result<Self, Refusal> {
        let text = beside.into_iter().next().and_then(|list| {
            let (mut list, mut text) = (File::from(list), String::new());
            list.rewind().ok()?;
            list.read_to_string(&mut text).ok().map(|_| text)
        });
        text.and_then(|text| Self::parse(&text)).ok_or_else(|| {
            let text = "the list of the gridmapdir cannot be read";
            trouble("pool.read", text.to_owned())
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let name = |line: &str| {
            let mut words = line.splitn(6, ' ');
            let mut number = || words.next()?.parse::<i64>().ok();
            Some(Name {
                inode: number()?.cast_unsigned(),
                links: number()?.try_into().ok()?,
                changed: (number()?, number()?),
                used: number()?,
                name: words.next()?.to_owned(),
            })
        };
        text.lines().map(name).collect::<Option<_>>().map(Self)
    }

    /// The account that a lease is for, if there is one.
    pub(crate) fn holder(&self, lease: &str, prefix: &str) -> Result<Option<String>, Refusal> {
        let broken = |why: &str| {
            let text = format!("lease {lease} of the gridmapdir {why}");
            mapping(RefusalClass::SitePermanent, "pool.broken", text, false)
        };
        let Some(found) = self.0.iter().find(|it| it.name == lease) else {
            return Ok(None);
        };
        if found.links != 2 {
            return Err(broken("does not belong to exactly one account"));
        }
        let mut others = self.0.iter().filter(|it| it.name != lease);
        match others.find(|it| it.inode == found.inode) {
            Some(Name { name, .. }) if is_pool_name(name, prefix) => Ok(Some(name.clone())),
            Some(_) => Err(broken("belongs to an account of another pool")),
            None => Err(broken("changes while it is read")),
        }
    }

    /// Accounts without a lease, first the one that was released longest ago: that is when the kernel last
    /// changed the file's link count.
    pub(crate) fn free(&self, prefix: &str) -> Vec<String> {
        let is_free = |it: &&Name| is_pool_name(&it.name, prefix) && it.links == 1;
        let mut free: Vec<_> = self.0.iter().filter(is_free).collect();
        free.sort_by_key(|it| it.changed);
        free.into_iter().map(|it| it.name.clone()).collect()
    }

    /// Accounts, and their leases that were last used before `before` (Unix seconds).
    pub(crate) fn idle(&self, before: i64) -> Vec<(String, String)> {
        let account_of = |inode| {
            let mut names = self.0.iter().filter(|it| it.inode == inode);
            names.find(|it| !is_lease_name(&it.name))
        };
        let leases = self.0.iter().filter(|it| is_lease_name(&it.name));
        leases
            .filter(|it| it.used < before)
            .filter_map(|it| Some((account_of(it.inode)?.name.clone(), it.name.clone())))
            .collect()
    }

    /// All accounts, leased or not.
    pub(crate) fn accounts(self) -> Vec<String> {
        let names = self.0.into_iter().map(|it| it.name);
        names.filter(|name| is_account_name(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: &str = "%2fcn%3dalice";

    fn pool(text: &str) -> Pool {
        Pool::parse(text).expect("a list")
    }

    #[test]
    fn m4_a_lease_is_a_second_name_of_the_accounts_file() {
        let text = "7 2 10 0 50 grid01\n8 1 10 0 50 grid00\n7 2 10 0 50 %2fcn%3dalice\n";
        assert_eq!(pool(text).holder(LEASE, "grid"), Ok(Some("grid01".into())));
        assert_eq!(pool(text).holder("%2fcn%3dbob", "grid"), Ok(None));
        assert_eq!(pool(text).free("grid"), ["grid00"]);
        assert_eq!(pool(text).accounts(), ["grid01", "grid00"]);
        let broken = [
            (text, "cms"),
            ("7 3 1 0 5 grid01\n7 3 1 0 5 %2fcn%3dalice\n", "grid"),
            ("9 1 1 0 5 %2fcn%3dalice\n", "grid"),
            ("9 2 1 0 5 %2fcn%3dalice\n8 2 1 0 5 grid01\n", "grid"),
        ];
        for (text, prefix) in broken {
            let refusal = pool(text).holder(LEASE, prefix).expect_err(text);
            assert_eq!(refusal.code, "pool.broken");
        }
    }

    #[test]
    fn m6_the_account_released_longest_ago_comes_first() {
        let text = "1 1 30 5 0 grid02\n2 1 30 4 0 grid00\n3 1 9 9 0 grid01\n4 1 0 0 0 gridx\n";
        assert_eq!(pool(text).free("grid"), ["grid01", "grid00", "grid02"]);
    }

    #[test]
    fn m7_only_leases_that_were_not_used_since_are_idle() {
        let text = "7 2 1 0 50 grid01\n7 2 1 0 50 %2fa\n8 2 1 0 60 %2fb\n8 2 1 0 60 grid00\n";
        let idle = vec![("grid01".to_owned(), "%2fa".to_owned())];
        assert_eq!(pool(text).idle(60), idle);
        assert_eq!(pool(text).idle(50), []);
    }

    #[test]
    fn a_list_that_is_none_is_refused() {
        for bad in ["x", "1 1 1 1 1", "1 -1 1 1 1 a", "1 1 1 1 a b"] {
            assert!(Pool::parse(bad).is_none(), "{bad}");
        }
        assert!(Pool::read(Vec::new()).is_err());
    }
}
