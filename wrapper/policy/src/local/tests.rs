use super::*;
use crate::names::NameService;

const SWITCH: &str = "# comment\npasswd:  files systemd\ngroup: files systemd # behind\n\nhosts: files dns [!UNAVAIL=return]\n";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:100:Alice, of:/home/alice:\nbob:x:1001:100::/../x:/bin/zsh\n\
                      alice:x:1002:100::/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nusers:x:100:alice\ncms:x:2000:bob,alice\natlas:x:2001:alicebob,bob\ncms2:x:2000:alice\n";

const TABLES: Tables<'_> = Tables {
    switch: SWITCH,
    passwd: PASSWD,
    group: GROUP,
    is_systemd_silent: true,
};

fn one(tables: &Tables<'_>, query: Query) -> Option<Option<Entry>> {
    let mut found = tables.answer(&[query])?;
    assert_eq!(found.len(), 1);
    found.pop()
}

fn account(name: &str, uid: u32, groups: &[u32], home: &str, shell: &str) -> Entry {
    Entry::Account {
        name: name.into(),
        uid,
        gid: 100,
        groups: groups.to_vec(),
        home: home.into(),
        shell: shell.into(),
    }
}

#[test]
fn s3_the_files_answer_as_the_name_service_does() {
    let alice = |groups| account("alice", 1000, groups, "/home/alice", "/bin/sh");
    let all = TABLES.answer(&[
        Query::Account("alice".into()),
        Query::Name("alice".into()),
        Query::Uid(1001),
        Query::Uid(310_000),
        Query::Group("cms".into()),
        Query::Group("lhcb".into()),
        Query::Name("carol".into()),
    ]);
    let expected = vec![
        Some(alice(&[100, 2000])),
        Some(alice(&[])),
        Some(account("bob", 1001, &[], "/", "/bin/zsh")),
        None,
        Some(Entry::Group { gid: 2000 }),
        None,
        None,
    ];
    assert_eq!(all, Some(expected));
    // A number that a second line gives to a known name is that line's.
    let Some(Some(Entry::Account { name, .. })) = one(&TABLES, Query::Uid(1002)) else {
        panic!("there is one")
    };
    assert_eq!(name, "alice");
}

#[test]
fn s3_what_another_service_might_know_is_left_to_it() {
    let loud = Tables {
        is_systemd_silent: false,
        ..TABLES
    };
    // What the files know they know first.
    assert!(one(&loud, Query::Uid(1000)).is_some());
    assert!(one(&loud, Query::Group("cms".into())).is_some());
    for query in [
        Query::Uid(310_000),
        Query::Name("carol".into()),
        Query::Group("lhcb".into()),
        // Groups are those of all services.
        Query::Account("alice".into()),
    ] {
        assert_eq!(one(&loud, query), None);
    }
    // Known by heart, wherever nothing else is.
    for query in [
        Query::Uid(65_534),
        Query::Name("nobody".into()),
        Query::Account("nobody".into()),
        Query::Group("nogroup".into()),
    ] {
        assert_eq!(one(&TABLES, query), None);
    }
    for switch in [
        "",
        "passwd: files\n",
        "passwd: files sss\ngroup: files\n",
        "passwd: sss files\ngroup: files\n",
        "passwd: compat\ngroup: files\n",
        "passwd: files [SUCCESS=continue] systemd\ngroup: files\n",
        "passwd: files\ngroup: files [SUCCESS=merge] systemd\n",
        "passwd: files\ngroup: files\ninitgroups: files sss\n",
        "passwd: files\ngroup: files\npasswd: sss\n",
        "passwd files\ngroup: files\n",
    ] {
        assert_eq!(
            one(&Tables { switch, ..TABLES }, Query::Uid(1000)),
            None,
            "{switch}"
        );
    }
    let alone = Tables {
        switch: "group:files\npasswd:\tfiles\n",
        ..loud
    };
    assert_eq!(one(&alone, Query::Uid(310_000)), Some(None));
    assert!(one(&alone, Query::Account("alice".into())).is_some());
}

#[test]
fn s3_a_file_that_is_not_plain_is_left_to_the_name_service() {
    for line in [
        "+",
        "+::::::",
        "+@admins::::::",
        "-bob::::::",
        " carol:x:1:1::/:/bin/sh",
        "carol:x:1:1::/",
        "carol:x:1:1::/:/bin/sh:more",
        "carol:x::1::/:/bin/sh",
        "carol:x:01:1::/:/bin/sh",
        "carol:x:0x1:1::/:/bin/sh",
        "carol:x:-1:1::/:/bin/sh",
        "carol:x:4294967296:1::/:/bin/sh",
        ":x:1:1::/:/bin/sh",
        "carol smith:x:1:1::/:/bin/sh",
    ] {
        let passwd = format!("{PASSWD}{line}\n");
        let tables = Tables {
            passwd: &passwd,
            ..TABLES
        };
        assert_eq!(one(&tables, Query::Uid(1000)), None, "{line}");
    }
    for line in [
        "+:::",
        "cms:x:1",
        "cms:x:1:a:b",
        "cms:x:1: alice",
        "cms:x:1:alice, bob",
        "cms:x::",
    ] {
        let group = format!("{GROUP}{line}\n");
        let tables = Tables {
            group: &group,
            ..TABLES
        };
        assert_eq!(one(&tables, Query::Uid(1000)), None, "{line}");
    }
}

/// Whatever this node has in its files.
#[test]
fn s3_the_files_of_this_node_say_what_its_name_service_says() {
    let names = fs::read_to_string("/etc/passwd").expect("there");
    let names = names.lines().filter_map(|line| line.split(':').next());
    let groups = fs::read_to_string("/etc/group").expect("there");
    let groups = groups.lines().filter_map(|line| line.split(':').next());
    let queries = names
        .flat_map(|name| [Query::Account(name.into()), Query::Name(name.into())])
        .chain(groups.map(|name| Query::Group(name.into())))
        .chain([0, 1, 65_534, 310_000, 4_000_000_000].map(Query::Uid))
        .chain([
            Query::Account("nobody-at-all".into()),
            Query::Group("none-at-all".into()),
        ]);
    for query in queries {
        let query = [query];
        let Some(ours) = look_up(&query) else {
            continue;
        };
        let Reply::Names(theirs) = NameService.answer(&query) else {
            panic!("the name service answers")
        };
        let sorted = |entries: Vec<Option<Entry>>| {
            let mut entries = entries;
            for entry in entries.iter_mut().flatten() {
                if let Entry::Account { groups, .. } = entry {
                    groups.sort_unstable();
                }
            }
            entries
        };
        assert_eq!(sorted(ours), sorted(theirs), "{query:?}");
    }
}
