//! Which files go back.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::super::select::{Catalogue, Choice, ItemKind, Selected, select};
use super::super::testing::Directory;
use super::super::{Sandbox, SandboxPath};

struct Job {
    root: tempfile::TempDir,
    before: Catalogue,
}

const STREAMS: [&str; 2] = ["_condor_stdout", "_condor_stderr"];

impl Job {
    /// A sandbox as it is when the payload begins.
    async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in [
            "job.sh",
            "proxy.pem",
            "in1.txt",
            "in2.txt",
            ".job.ad",
            ".machine.ad",
            "_condor_stdout",
            "_condor_stderr",
        ] {
            fs::write(root.path().join(name), name).unwrap();
        }
        fs::create_dir(root.path().join("indir")).unwrap();
        let entries = Directory::new(root.path())
            .list(Path::new(""))
            .await
            .unwrap();
        Self {
            before: Catalogue::of(&entries),
            root,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    async fn select(&self, list: Option<&[&str]>, keep: bool, core: Option<&str>) -> Selected {
        let mut sandbox = Directory::new(self.root.path());
        let now = sandbox.list(Path::new("")).await.unwrap();
        let list: Option<Vec<String>> =
            list.map(|list| list.iter().map(|name| (*name).to_owned()).collect());
        let streams = STREAMS.map(|name| SandboxPath::parse(name).unwrap());
        select(
            &mut sandbox,
            Choice {
                list: list.as_deref(),
                preserve_relative_paths: keep,
                not_output: &[Path::new("job.sh"), Path::new("proxy.pem")],
                streams: &[&streams[0], &streams[1]],
                before: &self.before,
                sandbox: self.root.path(),
                core_name: core,
            },
            &now,
        )
        .await
        .unwrap()
    }
}

/// The names as they travel; a slash marks a directory, a question mark something impossible.
fn names(selected: &Selected) -> Vec<String> {
    selected
        .items
        .iter()
        .map(|item| {
            let name = String::from_utf8_lossy(&item.name).into_owned();
            match item.kind {
                ItemKind::Directory { .. } => name + "/",
                ItemKind::File { .. } => name,
                ItemKind::Impossible { .. } => name + "?",
            }
        })
        .collect()
}

#[tokio::test]
async fn without_a_list_new_and_changed_files_of_the_top_level_go_back() {
    let job = Job::start().await;
    fs::write(job.path("in1.txt"), "in1.tx2").unwrap();
    fs::write(job.path("out.txt"), "new").unwrap();
    fs::write(job.path(".hidden"), "new").unwrap();
    fs::write(job.path("job.sh"), "rewritten").unwrap();
    fs::write(job.path("proxy.pem"), "renewed").unwrap();
    fs::write(job.path(".update.ad"), "x").unwrap();
    fs::write(job.path(".docker_sock"), "x").unwrap();
    fs::create_dir(job.path("outdir")).unwrap();
    fs::write(job.path("outdir/inner"), "x").unwrap();
    symlink("out.txt", job.path("link")).unwrap();
    symlink("outdir", job.path("dirlink")).unwrap();
    symlink("/nowhere", job.path("dangling")).unwrap();
    let selected = job.select(None, false, None).await;
    assert_eq!(
        names(&selected),
        [
            ".hidden",
            "in1.txt",
            "link",
            "out.txt",
            "_condor_stdout",
            "_condor_stderr"
        ]
    );
    assert_eq!(selected.names, [".hidden", "in1.txt", "link", "out.txt"]);
}

#[tokio::test]
async fn a_change_within_the_same_second_and_size_is_seen() {
    let job = Job::start().await;
    // Same name, same size, at once.
    fs::write(job.path("in2.txt"), "in2.TXT").unwrap();
    assert_eq!(
        names(&job.select(None, false, None).await),
        ["in2.txt", "_condor_stdout", "_condor_stderr"]
    );
}

#[tokio::test]
async fn a_list_is_taken_literally() {
    let job = Job::start().await;
    fs::create_dir_all(job.path("outdir/x")).unwrap();
    fs::write(job.path("outdir/x/a.txt"), "a").unwrap();
    fs::write(job.path("outdir/b.txt"), "b").unwrap();
    fs::write(job.path("other.txt"), "c").unwrap();
    let selected = job.select(Some(&["outdir", "in1.txt"]), false, None).await;
    let wanted = [
        "outdir/",
        "outdir/b.txt",
        "outdir/x/",
        "outdir/x/a.txt",
        "in1.txt",
        "_condor_stdout",
        "_condor_stderr",
    ];
    assert_eq!(names(&selected), wanted);
    assert_eq!(selected.names, ["outdir", "in1.txt"]);
    assert_eq!(names(&job.select(Some(&[]), false, None).await), STREAMS);
}

#[tokio::test]
async fn names_lose_or_keep_their_directories() {
    let job = Job::start().await;
    fs::create_dir_all(job.path("a/b")).unwrap();
    fs::write(job.path("a/b/c.txt"), "c").unwrap();
    fs::write(job.path("a/d.txt"), "d").unwrap();
    let list = ["a/b/c.txt", "a/d.txt"];
    assert_eq!(
        names(&job.select(Some(&list), false, None).await)[..2],
        ["c.txt", "d.txt"]
    );
    assert_eq!(
        names(&job.select(Some(&list), true, None).await)[..4],
        ["a/", "a/b/", "a/b/c.txt", "a/d.txt"]
    );
    assert_eq!(
        names(&job.select(Some(&["a/"]), false, None).await)[..3],
        ["b/", "d.txt", "b/c.txt"]
    );
    let absolute = job.path("a/d.txt");
    assert_eq!(
        names(
            &job.select(Some(&[absolute.to_str().unwrap()]), false, None)
                .await
        )[0],
        "d.txt"
    );
}

#[tokio::test]
async fn what_cannot_be_sent_is_an_item_all_the_same() {
    let job = Job::start().await;
    fs::create_dir(job.path("d")).unwrap();
    symlink("../d", job.path("d/self")).unwrap();
    let selected = job
        .select(Some(&["missing", "../up", "/etc/passwd", "d"]), false, None)
        .await;
    assert_eq!(
        names(&selected)[..5],
        ["missing?", "up?", "passwd?", "d/", "d/self?"]
    );
    let errnos: Vec<_> = selected
        .items
        .iter()
        .filter_map(|item| match item.kind {
            ItemKind::Impossible { errno, .. } => Some(errno),
            _ => None,
        })
        .collect();
    assert_eq!(
        errnos,
        [libc::ENOENT, libc::EPERM, libc::EPERM, libc::EISDIR]
    );
}

#[tokio::test]
async fn a_core_file_goes_back_under_the_jobs_number() {
    let job = Job::start().await;
    fs::write(job.path("core.4711"), "core").unwrap();
    fs::write(job.path("core.txt"), "not a core").unwrap();
    let selected = job.select(None, false, Some("core.93.0")).await;
    assert_eq!(names(&selected)[..2], ["core.93.0", "core.txt"]);
}
