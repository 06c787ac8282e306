//! Accounts and groups out of the files of /etc, where the name service would look there too and nowhere else.
//!
//! Whatever is not plain (another service, an action in brackets, a line that the C library may read in another way, a
//! cache daemon) is left to the name service itself: an answer from here is one that it would have given.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use launch_protocol::policy::{Entry, Query, Reply};

use crate::names::plain;
use crate::refuse::later;
use crate::serve::Service;

/// The program for everything else, beside this one.
const NAME_SERVICE: &str = "sailplane-names-nss";

/// Exit status of a program that could not become another; as of the monitor's children.
const CANNOT_START: u8 = 126;

/// The socket of the C library's cache daemon (glibc, `nscd/nscd-client.h`).
const CACHE: &str = "/var/run/nscd/socket";

/// What `nss-systemd` gets its knowledge from, other than the accounts root and nobody: the manager of a running
/// systemd, and records (`nss-systemd(8)`, `nss-user-lookup` of systemd's user database).
const SYSTEMD: [&str; 8] = [
    "/run/systemd/system",
    "/run/systemd/userdb",
    "/run/systemd/dynamic-uid",
    "/run/userdb",
    "/run/host/userdb",
    "/etc/userdb",
    "/usr/local/lib/userdb",
    "/usr/lib/userdb",
];

/// Those that `nss-systemd` knows by heart.
const BY_HEART: [&str; 3] = ["root", "nobody", "nogroup"];
const NUMBERS_BY_HEART: [u32; 2] = [0, 65_534];

/// Larger files are the name service's.
const MAX_FILE: u64 = 1 << 20;

/// Answers out of the files, as long as it can.
#[derive(Debug)]
pub(crate) struct LocalNames {
    /// Where the name service is.
    otherwise: PathBuf,
    found: Option<Vec<Option<Entry>>>,
}

impl LocalNames {
    pub(crate) fn new() -> Self {
        let own = fs::read_link("/proc/self/exe").unwrap_or_default();
        let (otherwise, found) = (own.with_file_name(NAME_SERVICE), None);
        Self { otherwise, found }
    }
}

impl Service for LocalNames {
    fn can_answer(&mut self, queries: &[Query]) -> bool {
        self.found = look_up(queries);
        self.found.is_some()
    }

    fn pass_on(&mut self) -> ExitCode {
        let _ = Command::new(&self.otherwise).env_clear().exec();
        ExitCode::from(CANNOT_START)
    }

    fn answer(&mut self, queries: &[Query]) -> Reply {
        match self.found.take() {
            Some(found) if found.len() == queries.len() => Reply::Names(found),
            // It is the question that was looked at: nobody else reads from the socket.
            _ => Reply::Refused(later(
                "names.failed",
                "accounts were looked up out of turn".to_owned(),
            )),
        }
    }
}

/// What the files of /etc say, one entry a query; `None`: somebody else has to be asked.
pub fn look_up(queries: &[Query]) -> Option<Vec<Option<Entry>>> {
    if !is_missing(Path::new(CACHE)) {
        return None;
    }
    let tables = Tables {
        switch: &read("/etc/nsswitch.conf")?,
        passwd: &read("/etc/passwd")?,
        group: &read("/etc/group")?,
        is_systemd_silent: SYSTEMD.iter().all(|path| is_missing(Path::new(path))),
    };
    tables.answer(queries)
}

fn is_missing(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn read(path: &str) -> Option<String> {
    let is_small = fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() <= MAX_FILE);
    is_small.then(|| fs::read_to_string(path).ok())?
}

/// The files' texts, and whether `nss-systemd` has anything to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables<'a> {
    pub(crate) switch: &'a str,
    pub(crate) passwd: &'a str,
    pub(crate) group: &'a str,
    pub(crate) is_systemd_silent: bool,
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
    shell: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Tables<'_> {
    /// One entry a query; `None`: the name service must be asked.
    pub(crate) fn answer(&self, queries: &[Query]) -> Option<Vec<Option<Entry>>> {
        let (users_alone, groups_alone) = services(self.switch)?;
        let users_end_here = users_alone || self.is_systemd_silent;
        let groups_end_here = groups_alone || self.is_systemd_silent;
        let users = lines(self.passwd, user)?;
        let groups = lines(self.group, group)?;
        let plain_account = |found: Option<&User<'_>>, by_heart: bool| match found {
            Some(user) => Some(Some(user.entry(Vec::new()))),
            None => (users_end_here && !by_heart).then_some(None),
        };
        let answer = |query: &Query| match query {
            Query::Uid(uid) => plain_account(
                users.iter().find(|it| it.uid == *uid),
                NUMBERS_BY_HEART.contains(uid),
            ),
            Query::Name(name) => plain_account(
                users.iter().find(|it| it.name == name),
                BY_HEART.contains(&name.as_str()),
            ),
            Query::Account(name) => {
                let found = users.iter().find(|it| it.name == name);
                let Some(user) = found else {
                    return plain_account(None, BY_HEART.contains(&name.as_str()));
                };
                groups_end_here.then(|| Some(user.entry(user.groups(&groups))))
            }
            Query::Group(name) => match groups.iter().find(|it| it.name == name) {
                Some(group) => Some(Some(Entry::Group { gid: group.gid })),
                None => (groups_end_here && !BY_HEART.contains(&name.as_str())).then_some(None),
            },
        };
        queries.iter().map(answer).collect()
    }
}

impl User<'_> {
    fn entry(&self, groups: Vec<u32>) -> Entry {
        Entry::Account {
            name: self.name.to_owned(),
            uid: self.uid,
            gid: self.gid,
            groups,
            home: plain(PathBuf::from(self.home), "/"),
            shell: plain(PathBuf::from(self.shell), "/bin/sh"),
        }
    }

    /// As `getgrouplist` has them: its own first, each once.
    fn groups(&self, all: &[Group<'_>]) -> Vec<u32> {
        let mut groups = vec![self.gid];
        let is_member = |group: &&Group<'_>| group.members.split(',').any(|it| it == self.name);
        for group in all.iter().filter(is_member) {
            if !groups.contains(&group.gid) {
                groups.push(group.gid);
            }
        }
        groups
    }
}

/// Are users, and groups, in the files alone; `None`: other services than files and, behind it, systemd are asked, or
/// in another way than is usual (`nsswitch.conf(5)`).
fn services(text: &str) -> Option<(bool, bool)> {
    let (mut users, mut groups) = (None, None);
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some((database, services)) = line.split_once(':') else {
            if line.is_empty() {
                continue;
            }
            return None;
        };
        let which = match database.trim() {
            "passwd" => &mut users,
            "group" => &mut groups,
            "initgroups" | "passwd_compat" | "group_compat" => return None,
            _ => continue,
        };
        let words: Vec<_> = services.split_whitespace().collect();
        let alone = match words.as_slice() {
            ["files"] => true,
            ["files", "systemd"] => false,
            _ => return None,
        };
        if which.replace(alone).is_some() {
            return None;
        }
    }
    Some((users?, groups?))
}

/// Each line read; `None`: one cannot be.
fn lines<'a, T>(text: &'a str, read: impl Fn(&'a str) -> Option<T>) -> Option<Vec<T>> {
    let lines = text
        .split('\n')
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(read).collect()
}

fn user(line: &str) -> Option<User<'_>> {
    let fields: Vec<_> = line.split(':').collect();
    let [name, _, uid, gid, _, home, shell] = <[&str; 7]>::try_from(fields).ok()?;
    is_name(name).then_some(())?;
    let (uid, gid) = (number(uid)?, number(gid)?);
    Some(User {
        name,
        uid,
        gid,
        home,
        shell,
    })
}

fn group(line: &str) -> Option<Group<'_>> {
    let fields: Vec<_> = line.split(':').collect();
    let [name, _, gid, members] = <[&str; 4]>::try_from(fields).ok()?;
    let is_plain = !members.contains(|it: char| it.is_whitespace() || it.is_control());
    (is_name(name) && is_plain).then_some(())?;
    Some(Group {
        name,
        gid: number(gid)?,
        members,
    })
}

/// One that all read alike; those with a sign before them include other services (`compat`).
fn is_name(name: &str) -> bool {
    let is_plain = |it: u8| it.is_ascii_alphanumeric() || b"_.-$@\\".contains(&it);
    name.bytes().all(is_plain) && name.bytes().next().is_some_and(|it| it != b'-')
}

/// Digits only, as few as can be.
fn number(text: &str) -> Option<u32> {
    let is_plain =
        text.bytes().all(|it| it.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests;
