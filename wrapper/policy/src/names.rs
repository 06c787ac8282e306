//! The name service: accounts and groups as the system's databases know them (requirement S3).
//!
//! Those databases may load plug-ins and talk to servers. All of that happens here, in a process
//! without privilege that sees nothing but names and numbers which root has checked.

use std::ffi::CString;
use std::path::PathBuf;

use launch_protocol::is_plain_absolute;
use launch_protocol::policy::{Entry, Query, Reply};
use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use crate::refuse::later;
use crate::serve::Service;

/// Answers each query out of the system's databases.
#[derive(Debug)]
pub(crate) struct NameService;

impl Service for NameService {
    fn answer(&mut self, queries: &[Query]) -> Reply {
        answer(queries)
    }
}

fn answer(queries: &[Query]) -> Reply {
    let entries = queries.iter().map(look_up).collect::<Result<Vec<_>, _>>();
    match entries {
        Ok(entries) => Reply::Names(entries),
        Err(errno) => Reply::Refused(later(
            "names.failed",
            format!(
                "accounts cannot be looked up: {}; check the name service of this node",
                errno.desc()
            ),
        )),
    }
}

fn look_up(query: &Query) -> Result<Option<Entry>, Errno> {
    Ok(match query {
        Query::Account(name) => match found(User::from_name(name))? {
            Some(user) => {
                let login = CString::new(user.name.as_str()).map_err(|_| Errno::EINVAL)?;
                // The call itself cannot fail; what went wrong below it shows only here.
                Errno::clear();
                let groups = getgrouplist(&login, user.gid)?;
                if let errno @ (Errno::EIO
                | Errno::EINTR
                | Errno::ENOMEM
                | Errno::EMFILE
                | Errno::ENFILE) = Errno::last()
                {
                    return Err(errno);
                }
                Some(account(user, groups.into_iter().map(Gid::as_raw).collect()))
            }
            None => None,
        },
        Query::Name(name) => found(User::from_name(name))?.map(|user| account(user, Vec::new())),
        Query::Uid(uid) => {
            found(User::from_uid(Uid::from_raw(*uid)))?.map(|user| account(user, Vec::new()))
        }
        Query::Group(name) => found(Group::from_name(name))?.map(|group| Entry::Group {
            gid: group.gid.as_raw(),
        }),
    })
}

/// POSIX leaves open how "no such entry" looks; these are the known ways.
fn found<T>(result: Result<Option<T>, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        other => other,
    }
}

fn account(user: User, groups: Vec<u32>) -> Entry {
    Entry::Account {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups,
        home: plain(user.dir, "/"),
        shell: plain(user.shell, "/bin/sh"),
    }
}

/// The path, if it can be one.
pub(crate) fn plain(path: PathBuf, otherwise: &str) -> PathBuf {
    if is_plain_absolute(&path) {
        path
    } else {
        PathBuf::from(otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_the_look_up_really_asks_the_system() {
        let queries = [
            Query::Account("root".into()),
            Query::Account("no-such-account".into()),
            Query::Uid(0),
            Query::Group("root".into()),
            Query::Group("no-such-group".into()),
        ];
        let Reply::Names(entries) = answer(&queries) else {
            panic!("the system answers");
        };
        assert!(
            matches!(&entries[0], Some(Entry::Account { uid: 0, gid: 0, groups, .. })
            if groups.contains(&0))
        );
        assert_eq!(entries[1], None);
        assert!(
            matches!(&entries[2], Some(Entry::Account { name, groups, .. })
            if name == "root" && groups.is_empty())
        );
        assert_eq!(entries[3], Some(Entry::Group { gid: 0 }));
        assert_eq!(entries[4], None);
    }
}
