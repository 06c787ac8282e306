//! The accounts of this machine.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, getgrouplist};

use super::error::NoAccess;

/// What a process needs to act as somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<Gid>,
}

/// The account `name`, if this process can act for it. Blocks: the data base may be a directory server.
pub(super) fn find(name: &str) -> Result<Account, NoAccess> {
    find_for(name, Uid::effective())
}

fn find_for(name: &str, us: Uid) -> Result<Account, NoAccess> {
    // What is looked up in files and sent to servers should at least look like a name.
    if name.is_empty()
        || name.len() > 256
        || name
            .bytes()
            .any(|byte| byte <= b' ' || byte == b':' || byte == b'/')
    {
        return Err(NoAccess::NoAccount);
    }
    let user = match User::from_name(name) {
        Ok(Some(user)) => user,
        // Some name services say "no such file" when they mean that they do not know.
        Ok(None) | Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => {
            return Err(NoAccess::NoAccount);
        }
        Err(errno) => return Err(NoAccess::Lookup(errno)),
    };
    if user.uid.is_root() {
        return Err(NoAccess::Root);
    }
    if !us.is_root() && us != user.uid {
        let own = User::from_uid(us).ok().flatten();
        return Err(NoAccess::NotRoot {
            own: own.map_or_else(|| format!("uid {us}"), |own| own.name),
        });
    }
    let c_name = CString::new(name).map_err(|_| NoAccess::NoAccount)?;
    let groups = getgrouplist(&c_name, user.gid).map_err(NoAccess::Lookup)?;
    Ok(Account {
        name: user.name,
        uid: user.uid,
        gid: user.gid,
        groups,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_an_account_are_told_from_root_and_from_others() {
        assert_eq!(find("no-such-account-here"), Err(NoAccess::NoAccount));
        for odd in ["", "a b", "a:b", "../x", "a\nb"] {
            assert_eq!(find(odd), Err(NoAccess::NoAccount), "{odd:?}");
        }
        assert_eq!(find("root"), Err(NoAccess::Root));
        let refused = find_for("nobody", Uid::from_raw(12_345)).unwrap_err();
        assert_eq!(
            refused,
            NoAccess::NotRoot {
                own: "uid 12345".to_owned()
            }
        );
        assert!(find_for("nobody", Uid::from_raw(0)).is_ok());
    }
}
