//! CAs, lists, credentials.

use std::path::Path;
use std::process::Command;

use validation::Whose;

use crate::node::{Node, open};

fn sh(folder: &Path, line: &str) {
    let output = Command::new("sh")
        .args(["-ec", line])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{line}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A CA with a list that ends at a time (`openssl` spelling).
fn authority(folder: &Path, until: &str) {
    std::fs::write(
        folder.join("ca.conf"),
        "[ca]\ndefault_ca=x\n[x]\ndatabase=index\ndefault_md=sha256\n",
    )
    .unwrap();
    sh(
        folder,
        &format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out cert -days 3 -subj '/CN=CA' 2>&1
             touch index
             openssl ca -config ca.conf -gencrl -crl_lastupdate 20200101000000Z -crl_nextupdate {until} -keyfile key -cert cert -out crl 2>&1
             cp cert 0123abcd.0; cp crl 0123abcd.r0"
        ),
    );
}

#[test]
fn no_directory_and_an_empty_one() {
    let failure = Node::new("ca-directory")
        .authorities(Path::new("/no/such/ca"))
        .failure();
    assert!(
        failure.whose == Whose::Site && failure.why.contains("/no/such/ca"),
        "{failure:?}"
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(
        Node::new("ca-directory")
            .authorities(empty.path())
            .failure()
            .why
            .contains("0 valid CAs")
    );
}

#[test]
fn lists_that_are_over() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path(), "20200201000000Z");
    for check in ["ca-directory", "crl-age"] {
        let failure = Node::new(check).authorities(folder.path()).failure();
        assert!(failure.why.contains("0123abcd.r0 (over for"), "{failure:?}");
        assert!(failure.hint.contains("fetch-crl"));
    }
    authority(folder.path(), "20990201000000Z");
    for check in ["ca-directory", "crl-age"] {
        assert!(
            Node::new(check)
                .authorities(folder.path())
                .outcome()
                .is_passed()
        );
    }
}

#[test]
fn a_proxy_about_to_end() {
    let folder = tempfile::tempdir().unwrap();
    sh(
        folder.path(),
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out cert -days 1 -subj '/CN=me' 2>&1; cat cert key > proxy",
    );
    let proxy = folder.path().join("proxy");
    open(&proxy, 0o600);
    assert!(
        Node::new("pilot-credential")
            .proxy(&proxy)
            .outcome()
            .is_passed()
    );
    let failure = Node::new("pilot-credential")
        .proxy(&proxy)
        .knob("SAILPLANE_CHECK_PROXY_LIFE", 200_000)
        .failure();
    assert!(
        failure.whose == Whose::Frontend && failure.why.contains("200000 s are asked for"),
        "{failure:?}"
    );
    open(&proxy, 0o644);
    assert!(
        Node::new("pilot-credential")
            .proxy(&proxy)
            .failure()
            .why
            .contains("mode 0644")
    );
    let gone = Node::new("pilot-credential")
        .proxy(&folder.path().join("no"))
        .failure();
    assert!(gone.why.contains("No such file"), "{gone:?}");
}

#[test]
fn tokens_that_are_over() {
    let folder = tempfile::tempdir().unwrap();
    // {"alg":"HS256"} . {"exp":5}
    std::fs::write(
        folder.path().join("pool"),
        "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjV9.c2ln\n",
    )
    .unwrap();
    let failure = Node::new("pilot-credential")
        .tokens(folder.path())
        .failure();
    assert!(failure.why.contains("are over since"), "{failure:?}");
}
