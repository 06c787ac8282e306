use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{User, mkfifo};

use super::testing::{give, home, is_root, owner, user_files};
use super::{FileError, Kind, NoAccess, OpenWrite};

const LONG: Duration = Duration::from_secs(600);

fn content(file: OwnedFd) -> String {
    let mut text = String::new();
    fs::File::from(file).read_to_string(&mut text).unwrap();
    text
}

fn new_file(mode: u32) -> OpenWrite {
    OpenWrite {
        mode,
        create: true,
        truncate: true,
        ..OpenWrite::default()
    }
}

fn errno<T: std::fmt::Debug>(outcome: Result<T, FileError>) -> Errno {
    match outcome {
        Err(FileError::Refused { errno, .. }) => errno,
        other => panic!("{other:?}"),
    }
}

/// Every process whose parent is this one and whose command line names the account.
fn children_of_account(name: &str) -> Vec<i32> {
    let uid = User::from_name(name).unwrap().unwrap().uid.as_raw();
    let us = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let field = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .unwrap_or_default()
        };
        let is_child = field("PPid:") == us && !field("State:").starts_with('Z');
        if is_child && field("Uid:").split(' ').next() == Some(uid.to_string().as_str()) {
            found.push(pid);
        }
    }
    found
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn files_are_written_read_listed_renamed_and_removed_as_the_owner() {
    let owner = owner();
    let (home, children) = (home(&owner), user_files(LONG));
    let files = children.files.as_owner(&owner);
    let at = |name: &str| home.path().join(name);

    let (file, _) = files.open_write(&at("a"), new_file(0o666)).await.unwrap();
    fs::File::from(file).write_all(b"one").unwrap();
    let append = OpenWrite {
        append: true,
        ..OpenWrite::default()
    };
    let (file, _) = files.open_write(&at("a"), append).await.unwrap();
    fs::File::from(file).write_all(b", two").unwrap();
    let (file, facts) = files.open_read(&at("a")).await.unwrap();
    assert_eq!(content(file), "one, two");
    assert_eq!((facts.kind, facts.size, facts.mode), (Kind::File, 8, 0o644));
    let user = User::from_name(&owner).unwrap().unwrap();
    assert_eq!(fs::metadata(at("a")).unwrap().uid(), user.uid.as_raw());
    assert_eq!(
        files.ids().await.unwrap(),
        (user.uid.as_raw(), user.gid.as_raw())
    );

    files.make_dir(&at("d"), 0o777).await.unwrap();
    files.make_dir(&at("d/e"), 0o700).await.unwrap();
    files
        .open_write(&at("d/e/f"), new_file(0o600))
        .await
        .unwrap();
    symlink("/", at("d/link")).unwrap();
    symlink("nowhere", at("d/broken")).unwrap();
    assert!(files.is_link(&at("d/link")).await.unwrap());
    let listed = files.list(home.path(), 100).await.unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|entry| {
            (
                entry.path.to_str().unwrap(),
                entry.metadata.kind,
                entry.is_link,
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            ("a", Kind::File, false),
            ("d", Kind::Directory, false),
            ("d/broken", Kind::Link, true),
            ("d/e", Kind::Directory, false),
            ("d/link", Kind::Directory, true),
            ("d/e/f", Kind::File, false),
        ]
    );
    assert_eq!(errno(files.list(home.path(), 5).await), Errno::EOVERFLOW);

    files.rename(&at("a"), &at("b")).await.unwrap();
    files.set_mode(&at("b"), 0o777).await.unwrap();
    assert_eq!(
        files.stat(&at("b")).await.unwrap().mode,
        0o755,
        "others never write"
    );
    files.unlink(&at("b")).await.unwrap();
    assert_eq!(errno(files.stat(&at("b")).await), Errno::ENOENT);
    assert_eq!(errno(files.remove_dir(&at("d")).await), Errno::ENOTEMPTY);
    files.clear_dir(&at("d")).await.unwrap();
    files.remove_dir(&at("d")).await.unwrap();
    assert!(
        Path::new("/etc").exists(),
        "links are removed, not followed"
    );
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused_at_once() {
    let owner = owner();
    let (home, children) = (home(&owner), user_files(LONG));
    let files = children.files.as_owner(&owner);
    let pipe = home.path().join("pipe");
    mkfifo(&pipe, Mode::from_bits_truncate(0o666)).unwrap();
    fs::set_permissions(&pipe, fs::Permissions::from_mode(0o666)).unwrap();
    for path in [pipe.as_path(), Path::new("/dev/zero")] {
        let refused = files.open_read(path).await.unwrap_err();
        assert!(matches!(refused, FileError::NotRegular { .. }), "{refused}");
        assert!(
            refused.to_string().contains("not a regular file"),
            "{refused}"
        );
    }
    assert_eq!(
        errno(files.open_write(&pipe, OpenWrite::default()).await),
        Errno::ENXIO
    );
    assert_eq!(errno(files.open_read(home.path()).await), Errno::EISDIR);
    // Users name it where they do not want a file.
    files
        .open_write(Path::new("/dev/null"), new_file(0o644))
        .await
        .unwrap();
    for bad in [
        PathBuf::from("a\0b"),
        PathBuf::new(),
        PathBuf::from("x".repeat(5000)),
    ] {
        let refused = files.open_read(&bad).await.unwrap_err();
        assert!(matches!(refused, FileError::Path { .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_path_beneath_a_directory_stays_there() {
    let owner = owner();
    let (home, children) = (home(&owner), user_files(LONG));
    let files = children.files.as_owner(&owner);
    let inside = home.path().join("in");
    files.make_dir(&inside, 0o755).await.unwrap();
    files
        .make_dir(&home.path().join("out"), 0o755)
        .await
        .unwrap();
    symlink("../out", inside.join("way")).unwrap();
    symlink("../out/file", inside.join("name")).unwrap();
    symlink(home.path().join("out"), inside.join("absolute")).unwrap();
    symlink("real", inside.join("own")).unwrap();
    let beneath = || OpenWrite {
        beneath: Some(inside.clone()),
        ..new_file(0o644)
    };
    for name in ["way/x", "name", "absolute/x", "../out/x"] {
        let opened = files.open_write(Path::new(name), beneath()).await;
        assert_eq!(errno(opened), Errno::EXDEV, "{name}");
    }
    assert_eq!(
        errno(
            files
                .make_dir_beneath(&inside, Path::new("way/d"), 0o755)
                .await
        ),
        Errno::EXDEV
    );
    assert_eq!(fs::read_dir(home.path().join("out")).unwrap().count(), 0);
    files.open_write(Path::new("own"), beneath()).await.unwrap();
    assert!(inside.join("real").exists());
    files
        .make_dir_beneath(&inside, Path::new("d"), 0o755)
        .await
        .unwrap();
    files.open_write(Path::new("d/x"), beneath()).await.unwrap();
    assert!(inside.join("d/x").exists());
}

#[tokio::test]
async fn many_requests_and_long_answers_go_through_one_child() {
    let owner = owner();
    let (home, children) = (home(&owner), user_files(LONG));
    for number in 0..2000 {
        fs::write(
            home.path().join(format!("{number:04}-{}", "x".repeat(200))),
            b"",
        )
        .unwrap();
    }
    let files = children.files.as_owner(&owner);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..400 {
        let (files, home) = (files.clone(), home.path().to_owned());
        tasks.spawn(async move {
            if number % 20 == 0 {
                files.list(&home, 10_000).await.map(|listed| listed.len())
            } else {
                let name = home.join(format!("{number:04}-{}", "x".repeat(200)));
                files.open_read(&name).await.map(|_| 2000)
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        assert_eq!(done.unwrap(), Ok(2000));
    }
    assert_eq!(
        children_of_account(&owner)
            .len()
            .min(children.files.running()),
        1
    );
}

#[tokio::test]
async fn an_idle_child_ends_and_another_one_takes_its_place() {
    let owner = owner();
    let children = user_files(Duration::from_millis(50));
    let files = children.files.as_owner(&owner);
    for _ in 0..3 {
        files.check().await.unwrap();
        until("the child is put away", || children.files.running() == 0).await;
    }
}

#[tokio::test]
async fn who_has_no_account_is_told() {
    let children = user_files(LONG);
    let refused = children
        .files
        .as_owner("no-such-user-here")
        .check()
        .await
        .unwrap_err();
    assert!(
        matches!(
            &refused,
            FileError::NoAccess {
                why: NoAccess::NoAccount,
                ..
            }
        ),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("no-such-user-here"),
        "{refused}"
    );
    let root = children.files.as_owner("root").check().await.unwrap_err();
    assert!(
        matches!(
            root,
            FileError::NoAccess {
                why: NoAccess::Root,
                ..
            }
        ),
        "{root}"
    );
    if !is_root() {
        let other = children.files.as_owner("daemon").check().await.unwrap_err();
        assert!(
            matches!(
                other,
                FileError::NoAccess {
                    why: NoAccess::NotRoot { .. },
                    ..
                }
            ),
            "{other}"
        );
    }
}

#[tokio::test]
async fn a_child_that_is_killed_fails_its_request_and_is_replaced() {
    let owner = owner();
    if !is_root() {
        println!("not run, needs root: a killed child");
        return;
    }
    let children = user_files(LONG);
    let files = children.files.as_owner(&owner);
    files.check().await.unwrap();
    let pids = children_of_account(&owner);
    for pid in &pids {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(*pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
    until("the death is noticed", || children.files.running() == 0).await;
    files.check().await.unwrap();
}

#[tokio::test]
async fn owners_are_kept_apart_and_children_have_no_privileges() {
    if !is_root() {
        println!("not run, needs root: attacks on the owners' processes");
        return;
    }
    let children = user_files(LONG);
    let (one, other) = (
        children.files.as_owner("daemon"),
        children.files.as_owner("bin"),
    );
    let home = home("bin");
    let secret = home.path().join("secret");
    fs::write(&secret, b"s").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    give(&secret, "bin");

    assert_eq!(content(other.open_read(&secret).await.unwrap().0), "s");
    assert_eq!(errno(one.open_read(&secret).await), Errno::EACCES);
    assert_eq!(
        errno(one.open_write(&secret, OpenWrite::default()).await),
        Errno::EACCES
    );
    assert_eq!(errno(one.unlink(&secret).await), Errno::EACCES);
    assert_eq!(errno(one.set_mode(&secret, 0o644).await), Errno::EPERM);
    assert_eq!(
        errno(one.open_read(Path::new("/etc/shadow")).await),
        Errno::EACCES
    );
    // The way round by a link that the pool follows with more rights.
    let mine = super::testing::home("daemon");
    symlink(&secret, mine.path().join("link")).unwrap();
    assert_eq!(
        errno(one.open_read(&mine.path().join("link")).await),
        Errno::EACCES
    );
    assert_eq!(
        errno(one.open_read(Path::new("/proc/1/environ")).await),
        Errno::EACCES
    );

    let pids = children_of_account("bin");
    assert_eq!(pids.len(), 1, "one process for each owner");
    let status = fs::read_to_string(format!("/proc/{}/status", pids[0])).unwrap();
    let line = |key: &str| {
        status
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_else(|| panic!("{key}"))
    };
    let uid = User::from_name("bin")
        .unwrap()
        .unwrap()
        .uid
        .as_raw()
        .to_string();
    assert_eq!(
        line("Uid:").split_whitespace().skip(1).collect::<Vec<_>>(),
        [uid.as_str(); 4]
    );
    for none in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert!(line(none).ends_with("0000000000000000"), "{}", line(none));
    }
    // The flag belongs to a thread and those that it starts; a test program has one more thread than a real child.
    let threads = fs::read_dir(format!("/proc/{}/task", pids[0]))
        .unwrap()
        .flatten();
    let sealed = threads
        .map(|thread| fs::read_to_string(thread.path().join("status")).unwrap_or_default())
        .filter(|status| status.contains("NoNewPrivs:\t1"))
        .count();
    assert_eq!(sealed, 4, "threads that serve");
    assert!(
        !line("Groups:")
            .split_whitespace()
            .skip(1)
            .any(|group| group == "0"),
        "{}",
        line("Groups:")
    );
    let descriptors = fs::read_dir(format!("/proc/{}/fd", pids[0]))
        .unwrap()
        .count();
    assert!(
        descriptors <= 5,
        "{descriptors} descriptors are open in an idle child"
    );
    assert_eq!(
        fs::read_link(format!("/proc/{}/cwd", pids[0])).unwrap(),
        Path::new("/")
    );
}

/// Tells the test program that it is a pool that is going to be killed.
const POOL: &str = "POOL_TEST_POOL";

/// Not a test: a pool with a child, until it is killed.
#[tokio::test]
async fn pool_to_be_killed() {
    let Ok(report) = std::env::var(POOL) else {
        return;
    };
    let children = user_files(LONG);
    children.files.as_owner(&owner()).check().await.unwrap();
    let pids = children_of_account(&owner());
    fs::write(
        report,
        pids.iter()
            .map(|pid| format!("{pid}\n"))
            .collect::<String>(),
    )
    .unwrap();
    tokio::time::sleep(LONG).await;
}

#[tokio::test]
async fn children_end_with_a_pool_that_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("pids");
    let mut pool = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "files::tests::pool_to_be_killed",
            "--test-threads=1",
        ])
        .env(POOL, &report)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("the pool has its child", || {
        fs::read_to_string(&report).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    let pids: Vec<String> = fs::read_to_string(&report)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    assert!(!pids.is_empty());
    pool.kill().unwrap();
    pool.wait().unwrap();
    until("the child is gone", || {
        pids.iter().all(|pid| {
            // A zombie may wait for a reaper in a container without an init.
            fs::read_to_string(format!("/proc/{pid}/status"))
                .map_or(true, |status| status.contains("State:\tZ"))
        })
    })
    .await;
}

#[test]
fn packets_of_the_corpus_are_read_or_refused() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/user_files");
    let mut count = 0;
    for seed in
        fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()))
    {
        super::fuzzing::fuzz_user_files(&fs::read(seed.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0);
}
