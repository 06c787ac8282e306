//! By hand: credential on standard input, verdict on standard output.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::common::HOUR;
use crate::{PROGRAM, Site};

fn run(arguments: &[&std::ffi::OsStr], input: &str) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may refuse its arguments before it reads anything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn the_verdict_is_printed_and_decides_the_exit_status() {
    let site = Site::new();
    let directory = site.directory.path().as_os_str();
    let good = run(&[directory], &site.proxy(HOUR));
    assert_eq!(good.status.code(), Some(0));
    let expected = format!(
        "accepted\nidentity: /O=Lab/CN=Jane Doe\nends: {} (Unix time)\nlimited: yes\n",
        site.now + HOUR
    );
    assert_eq!(String::from_utf8(good.stdout).unwrap(), expected);
    let bad = run(&[directory], &site.proxy(-5));
    assert_eq!(bad.status.code(), Some(1));
    let text = String::from_utf8(bad.stdout).unwrap();
    assert!(text.starts_with("refused\ncode: proxy.expired\nreason: the proxy certificate"));
}

#[test]
fn the_verdict_may_go_into_a_file() {
    let site = Site::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let credential = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(credential.path(), site.proxy(HOUR)).unwrap();
    let status = Command::new(PROGRAM)
        .arg(site.directory.path())
        .stdin(credential.reopen().unwrap())
        .stdout(file.reopen().unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(
        std::fs::read_to_string(file.path())
            .unwrap()
            .starts_with("accepted\n")
    );
}

#[test]
fn wrong_arguments_are_explained() {
    for (arguments, expected) in [
        (&[][..], "usage: sailplane-verify CERTDIR"),
        (&["a", "b"], "does not know the word 'b'"),
        (&["a", "accept-gt3=maybe"], "'accept-gt3=maybe' has a value"),
    ] {
        let arguments: Vec<_> = arguments.iter().map(std::ffi::OsStr::new).collect();
        let output = run(&arguments, "");
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(expected), "{text}");
    }
}
