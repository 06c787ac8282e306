use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::*;

fn shell(script: &str) -> Command {
    Command::new(Path::new("/bin/sh")).arg("-c").arg(script)
}

fn within(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

/// Whether a process is there and no zombie.
fn lives(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z"))
}

async fn gone(pid: &str) {
    let deadline = within(5000);
    while lives(pid) {
        assert!(Instant::now() < deadline, "{pid} still lives");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_child_says_and_ends() {
    let ended = shell("echo out; echo err >&2; exit 3").run().await.unwrap();
    assert_eq!(ended.how, How::Exited(3));
    assert_eq!(
        (ended.stdout.as_slice(), ended.stderr.as_slice()),
        (b"out\n".as_slice(), b"err\n".as_slice())
    );
    assert_eq!((ended.left, ended.survivors), (0, 0));
    let ended = shell("kill -9 $$").run().await.unwrap();
    assert_eq!(ended.how, How::Signalled(9));
    let merged = shell("echo a; echo b >&2; echo c")
        .output(Output::Merge)
        .run()
        .await
        .unwrap();
    assert_eq!(merged.stdout, b"a\nb\nc\n");
}

#[tokio::test]
async fn environment_directory_and_input_are_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("in"), "hello").unwrap();
    let ended = shell("cat; pwd; echo $A$HOME; umask; ls -l /proc/self/fd | wc -l")
        .clear_environment()
        .env("A", "b c")
        .directory(dir.path())
        .input(fs::File::open(dir.path().join("in")).unwrap().into())
        .run()
        .await
        .unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    let real = dir.path().canonicalize().unwrap();
    // Three descriptors, the listing itself, and the line of the total.
    assert_eq!(said, format!("hello{}\nb c\n0022\n5\n", real.display()));
}

#[tokio::test]
async fn what_cannot_be_executed_is_said() {
    let missing = Command::new(Path::new("/nonexistent/check")).run().await;
    let error = missing.unwrap_err();
    assert_eq!(error.to_string(), "cannot execute /nonexistent/check");
    assert!(matches!(
        Command::new(Path::new("no-such-program-here")).run().await,
        Err(ProcessError::NotFound { .. })
    ));
    let found = Command::new(Path::new("true")).run().await.unwrap();
    assert_eq!(found.how, How::Exited(0));
    assert!(matches!(
        Command::new(Path::new("true")).arg("a\0b").run().await,
        Err(ProcessError::ZeroByte(_))
    ));
}

#[tokio::test]
async fn a_script_without_a_first_line_is_read_by_a_shell() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("check");
    fs::write(&script, "echo $1 $0\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let ended = Command::new(&script).arg("one").run().await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&ended.stdout),
        format!("one {}\n", script.display())
    );
}

#[tokio::test]
async fn more_output_than_is_kept_does_not_stop_it() {
    let ended = shell("head -c 3000000 /dev/zero").run().await.unwrap();
    assert_eq!(ended.how, How::Exited(0));
    assert_eq!(ended.stdout.len(), OUTPUT_MAX);
}

#[tokio::test]
async fn one_that_escapes_and_ignores_signals_is_killed_at_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    // In sessions of their own, with all signals ignored, their parents gone.
    let script = format!(
        "cd {}; trap '' TERM INT HUP QUIT; \
         (setsid sh -c 'trap \"\" TERM INT HUP; echo $$ > one; (setsid sh -c \"echo \\$\\$ > two; exec sleep 1000\" &) ; \
         while :; do sleep 1000; done' &) ; \
         echo $$ > main; while :; do sleep 1000; done",
        dir.path().display()
    );
    let begin = Instant::now();
    let ended = shell(&script).deadline(within(700)).run().await.unwrap();
    assert_eq!(ended.how, How::TimedOut);
    assert!(begin.elapsed() >= Duration::from_millis(500));
    assert!(begin.elapsed() < Duration::from_secs(3));
    for name in ["main", "one", "two"] {
        let pid = fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(!lives(&pid), "{name}");
    }
}

#[tokio::test]
async fn one_that_heeds_the_friendly_end_may_tidy_up() {
    let ended = shell("trap 'echo tidy; exit 0' TERM; while :; do sleep 0.02; done")
        .deadline(within(1000))
        .run()
        .await
        .unwrap();
    assert_eq!(ended.how, How::TimedOut);
    assert_eq!(ended.stdout, b"tidy\n");
}

#[tokio::test]
async fn what_is_left_behind_ends_and_is_counted() {
    let begin = Instant::now();
    let ended = shell("setsid sleep 1000 & setsid sleep 1000 & echo $!")
        .run()
        .await
        .unwrap();
    assert_eq!(ended.how, How::Exited(0));
    assert_eq!(ended.left, 2);
    assert!(begin.elapsed() < Duration::from_secs(5));
    gone(&String::from_utf8(ended.stdout).unwrap()).await;
}

#[tokio::test]
async fn what_may_be_left_behind_lives_as_long_as_it_is_wanted() {
    let begin = Instant::now();
    let ended = shell("setsid sleep 1000 & echo $!")
        .leaves(true)
        .deadline(within(60_000))
        .run()
        .await
        .unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!((ended.how, ended.left), (How::Exited(0), 1));
    let pid = String::from_utf8(ended.stdout.clone()).unwrap();
    assert!(lives(&pid));
    let copy = ended.background.clone();
    drop(ended);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(lives(&pid));
    drop(copy);
    gone(&pid).await;
}

#[tokio::test]
async fn a_run_that_nobody_waits_for_ends() {
    let dir = tempfile::tempdir().unwrap();
    let note = dir.path().join("pid");
    let run = shell(&format!(
        "trap '' TERM; echo $$ > {}; sleep 1000; sleep 1000",
        note.display()
    ))
    .run();
    let read = || {
        fs::read_to_string(&note)
            .ok()
            .filter(|pid| pid.ends_with('\n'))
    };
    tokio::select! {
        _ = run => panic!("it ended"),
        () = async { while read().is_none() { tokio::time::sleep(Duration::from_millis(2)).await } } => {}
    }
    gone(&read().unwrap()).await;
}

#[tokio::test]
async fn a_tree_that_keeps_forking_is_killed() {
    let ended = shell("f() { (f &) ; exec sleep 1000; }; trap '' TERM; for i in 1 2 3; do (sh -c 'while :; do (sleep 100 &); sleep 0.01; done' &) ; done; sleep 1000")
        .deadline(within(400))
        .run()
        .await
        .unwrap();
    assert_eq!((ended.how, ended.survivors), (How::TimedOut, 0));
}

#[tokio::test]
async fn many_at_a_time_do_not_hold_each_other() {
    // A keeper that held another's pipe would keep it from being heard.
    let slow = tokio::spawn(shell("sleep 20").run());
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..20 {
        all.spawn(shell("exit 0").run());
    }
    while let Some(ended) = all.join_next().await {
        assert_eq!(ended.unwrap().unwrap().how, How::Exited(0));
    }
    assert!(!slow.is_finished(), "nothing has waited for the slow one");
    slow.abort();
}
