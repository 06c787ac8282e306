//! Plan, places and remaps: no I/O.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use proptest::prelude::*;

use super::super::job::TransferJob;
use super::super::place::{NoPlace, Place, Places};
use super::super::plan::{self, Crypto, Found, Item, ItemKind, Role};
use super::super::remaps::{Circle, Remaps};
use crate::files::{Entry, Kind, Metadata};

fn job(attributes: &[(&str, &str)]) -> TransferJob {
    let mut ad = classad::ClassAd::new();
    for (name, value) in [("Owner", "o"), ("Iwd", "/iwd"), ("Cmd", "bin/run")] {
        ad.insert(name, value);
    }
    ad.insert("ClusterId", 1);
    ad.insert("ProcId", 0);
    for (name, value) in attributes {
        match *value {
            "true" => ad.insert(*name, true),
            "false" => ad.insert(*name, false),
            text => ad.insert(*name, text),
        }
    }
    TransferJob::from_ad(&ad, "slot").unwrap()
}

fn facts(kind: Kind, size: u64) -> Metadata {
    Metadata {
        kind,
        size,
        mode: 0o750,
        modified: 0,
        uid: 1,
    }
}

fn entry(path: &str, kind: Kind, is_link: bool) -> Entry {
    Entry {
        path: PathBuf::from(path),
        metadata: facts(kind, 5),
        is_link,
    }
}

/// Every source is a file of ten bytes, or what `found` says.
fn items_of(job: &TransferJob, found: impl Fn(&str) -> Option<Found>) -> Vec<Item> {
    let found: Vec<_> = plan::sources(job, None)
        .into_iter()
        .map(|source| {
            let what = match source.role {
                Role::Url => Found::Unknown,
                _ => found(&source.given).unwrap_or_else(|| Found::One(facts(Kind::File, 10))),
            };
            (source, what)
        })
        .collect();
    plan::items(job, &found)
}

fn names(items: &[Item]) -> Vec<String> {
    items.iter().map(|item| plan::shown(&item.name)).collect()
}

#[test]
fn everything_a_job_names_is_sent_once_and_the_proxy_first() {
    let job = job(&[
        ("TransferInput", "a, /abs/b,a,p.pem"),
        ("In", "stdin"),
        ("x509userproxy", "/iwd/p.pem"),
        ("EncryptInputFiles", "*.secret,a"),
    ]);
    let items = items_of(&job, |_| None);
    assert_eq!(names(&items), ["p.pem", "a", "b", "stdin", "run"]);
    assert!(
        matches!(&items[0].kind, ItemKind::Proxy { path, .. } if path == Path::new("/iwd/p.pem"))
    );
    assert!(
        matches!(&items[1].kind, ItemKind::File { path, crypto: Crypto::Encrypted, .. } if path == Path::new("/iwd/a"))
    );
    assert!(
        matches!(&items[2].kind, ItemKind::File { path, crypto: Crypto::AsIs, .. } if path == Path::new("/abs/b"))
    );
    assert_eq!(plan::total(&items), 50);
}

#[test]
fn null_files_and_a_program_that_stays_are_left_out() {
    let job = job(&[
        ("In", "/dev/null"),
        ("TransferExecutable", "false"),
        ("x509userproxy", ""),
    ]);
    assert_eq!(plan::sources(&job, None), []);
}

#[test]
fn directories_come_before_their_content_and_a_slash_means_the_content_only() {
    let tree = || {
        Some(Found::Tree(
            facts(Kind::Directory, 0),
            vec![
                entry("f", Kind::File, false),
                entry("sub", Kind::Directory, false),
                entry("pipe", Kind::Other, false),
                entry("sub/g", Kind::File, true),
            ],
        ))
    };
    let with = job(&[
        ("TransferInput", "some/dir"),
        ("TransferExecutable", "false"),
    ]);
    assert_eq!(
        names(&items_of(&with, |_| tree())),
        ["dir", "dir/f", "dir/sub", "dir/sub/g"]
    );
    let without = job(&[
        ("TransferInput", "some/dir/"),
        ("TransferExecutable", "false"),
    ]);
    assert_eq!(
        names(&items_of(&without, |_| tree())),
        ["f", "sub", "sub/g"]
    );
    let kept = job(&[
        ("TransferInput", "some/dir,some/file"),
        ("TransferExecutable", "false"),
        ("PreserveRelativePaths", "true"),
    ]);
    let items = items_of(&kept, |given| (given == "some/dir").then(tree).flatten());
    assert_eq!(
        names(&items),
        [
            "some",
            "some/dir",
            "some/dir/f",
            "some/dir/sub",
            "some/dir/sub/g",
            "some/file"
        ]
    );
}

#[test]
fn what_cannot_be_sent_is_told_with_its_reason() {
    let job = job(&[
        (
            "TransferInput",
            "gone,link,http://x.test/data/u.txt?v=1,dir",
        ),
        ("TransferExecutable", "false"),
    ]);
    let items = items_of(&job, |given| match given {
        "gone" => Some(Found::Failed(Errno::ENOENT)),
        "link" => Some(Found::LinkToDirectory),
        "dir" => Some(Found::Tree(
            facts(Kind::Directory, 0),
            vec![
                entry("to-dir", Kind::Directory, true),
                entry("broken", Kind::Link, true),
            ],
        )),
        _ => None,
    });
    let impossible = |item: &Item| match &item.kind {
        ItemKind::Impossible { path, errno, .. } => {
            Some((path.to_str().unwrap().to_owned(), *errno))
        }
        _ => None,
    };
    assert_eq!(
        items.iter().filter_map(impossible).collect::<Vec<_>>(),
        [
            ("/iwd/gone".to_owned(), Errno::ENOENT),
            ("/iwd/link".to_owned(), Errno::EISDIR),
            ("/iwd/dir/to-dir".to_owned(), Errno::EISDIR),
            ("/iwd/dir/broken".to_owned(), Errno::ENOENT),
        ]
    );
    let url = items
        .iter()
        .find(|item| matches!(item.kind, ItemKind::Url(_)))
        .unwrap();
    assert_eq!(url.name, b"u.txt");
}

#[test]
fn a_spooled_file_takes_the_place_of_an_input_of_its_name() {
    let job = job(&[("TransferInput", "state"), ("TransferExecutable", "false")]);
    let spooled = [PathBuf::from("state")];
    let sources = plan::sources(&job, Some((Path::new("/spool/1/0"), &spooled)));
    let found: Vec<_> = sources
        .into_iter()
        .map(|source| (source, Found::One(facts(Kind::File, 1))))
        .collect();
    let items = plan::items(&job, &found);
    assert_eq!(names(&items), ["state"]);
    assert!(
        matches!(&items[0].kind, ItemKind::File { path, .. } if path == Path::new("/spool/1/0/state"))
    );
}

#[test]
fn outputs_go_where_the_user_said_and_nowhere_else() {
    let job = job(&[
        ("Out", "logs/out.txt"),
        ("Err", "/abs/err.txt"),
        ("TransferOutput", "res,deep/list.txt"),
        ("TransferInput", "in.txt"),
        (
            "TransferOutputRemaps",
            "a=b;c=/else/where/d;res/x=y ; u=http://x/y;one=two;two=one",
        ),
    ]);
    let places = Places::of_user(&job);
    let named = |path: &str| Ok(Place::Named(PathBuf::from(path)));
    let beneath = |path: &str| {
        Ok(Place::Beneath {
            base: PathBuf::from("/iwd"),
            path: PathBuf::from(path),
        })
    };
    assert_eq!(places.of(b"_condor_stdout"), named("/iwd/logs/out.txt"));
    assert_eq!(places.of(b"_condor_stderr"), named("/abs/err.txt"));
    assert_eq!(places.of(b"a"), named("/iwd/b"));
    assert_eq!(
        places.of(b"a/f"),
        named("/iwd/b/f"),
        "a directory is remapped with what is in it"
    );
    assert_eq!(places.of(b"c"), named("/else/where/d"));
    assert_eq!(places.of(b"res/x"), named("/iwd/y"));
    assert_eq!(
        places.of(b"res/z"),
        named("/iwd/res/z"),
        "the user listed its directory"
    );
    assert_eq!(places.of(b"list.txt"), named("/iwd/list.txt"));
    assert_eq!(places.of(b"in.txt"), named("/iwd/in.txt"));
    assert_eq!(places.of(b"other"), beneath("other"));
    assert_eq!(
        places.of(b".ssh/authorized_keys"),
        beneath(".ssh/authorized_keys")
    );
    assert_eq!(places.of(b"u"), Err(NoPlace::Url("http://x/y".to_owned())));
    assert!(matches!(places.of(b"one"), Err(NoPlace::Circle(_))));
    for bad in [
        &b"/etc/passwd"[..],
        b"..",
        b"a/../../x",
        b"",
        b".",
        b"x\0y",
        &[b'x'; 5000],
    ] {
        assert!(
            matches!(places.of(bad), Err(NoPlace::Name { .. })),
            "{bad:?}"
        );
    }
    let folder = Path::new("/spool/1/0.tmp");
    assert_eq!(
        Places::of_spool(&job, folder).of(b"a"),
        Ok(Place::Beneath {
            base: folder.to_owned(),
            path: PathBuf::from("a"),
        }),
        "an intermediate file keeps its name"
    );
}

#[test]
fn remaps_are_read_as_htcondor_reads_them() {
    for (text, name, wanted) in [
        ("a=b", "a", Some("b")),
        (" a = b ; c = d ", "c", Some("d")),
        ("a=b;", "a", Some("b")),
        ("a=b;a=c", "a", Some("b")),
        ("x=y;nonsense;a=b", "a", Some("b")),
        ("a=b;b=c", "a", Some("c")),
        ("d=e", "d/f/g", Some("e/f/g")),
        ("d/f=e", "d/f/g", Some("e/g")),
        (r"a\=b=c", "a=b", Some("c")),
        (r"a=b\;c;d=e", "a", Some("b;c")),
        (r"a=b\;c;d=e", "d", Some("e")),
        ("a=b", "ab", None),
        ("", "a", None),
    ] {
        assert_eq!(
            Remaps::parse(text).apply(name).unwrap().as_deref(),
            wanted,
            "{text:?} {name:?}"
        );
    }
    assert_eq!(Remaps::parse("a=a/b").apply("a"), Err(Circle));
    let deep = "d/".repeat(1000) + "f";
    assert_eq!(
        Remaps::parse("a=b").apply(&deep),
        Ok(None),
        "a deep path is no circle"
    );
    let (below, wanted) = (format!("a/{deep}"), format!("b/{deep}"));
    assert_eq!(Remaps::parse("a=b").apply(&below), Ok(Some(wanted)));
}

proptest! {
    #[test]
    fn nothing_a_pilot_says_leaves_the_directory(name in prop::collection::vec(prop::sample::select(b"./ab\0\xff".to_vec()), 0..12)) {
        let job = job(&[("TransferOutput", "a,b/ab"), ("Out", "o")]);
        if let Ok(place) = Places::of_user(&job).of(&name) {
            let path = place.path();
            prop_assert!(path.starts_with("/iwd"));
            prop_assert!(path.components().all(|part| part != std::path::Component::ParentDir));
        }
    }

    #[test]
    fn a_remap_without_special_characters_is_found_and_final(rules in prop::collection::vec(("[a-c]{1,3}", "[d-f/]{1,4}"), 0..6), name in "[a-f]{1,3}") {
        let text: Vec<_> = rules.iter().map(|(from, to)| format!("{from}={to}")).collect();
        let remaps = Remaps::parse(&text.join(";"));
        let wanted = rules.iter().find(|(from, _)| *from == name).map(|(_, to)| to.clone());
        prop_assert_eq!(remaps.apply(&name).unwrap(), wanted);
    }

    #[test]
    fn any_text_of_remaps_is_read(text in r"[a=b;\\/ \t]{0,40}", name in "[ab/]{0,6}") {
        let remaps = Remaps::parse(&text);
        // Whatever comes of a name in the rules, or a circle: a name that is not in them stays.
        let _ = remaps.apply(&name);
        prop_assert_eq!(remaps.apply("z/a"), Ok(None));
    }
}
