//! `sailplane credential` as an operator runs it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use credential::issue::{Authority, KeyType, ProxyKind, ProxyOptions};
use serde_json::{Value, json};

const HOUR: i64 = 3600;

/// Exit status, standard output.
fn ask(folder: &Path, words: &[&str]) -> (i32, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_sailplane"))
        .arg("credential")
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    (run.status.code().unwrap(), text)
}

/// A CA directory `cas`, a proxy `proxy` and a limited one `limited`, of an hour.
fn site() -> (tempfile::TempDir, i64) {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    let authority = Authority::new("/C=XX/O=Lab/CN=CA", KeyType::P256, now, 99 * HOUR).unwrap();
    fs::create_dir(folder.path().join("cas")).unwrap();
    authority.write_to(&folder.path().join("cas")).unwrap();
    let user = authority
        .user("/C=XX/O=Lab/CN=Jane", now, 9 * HOUR)
        .unwrap();
    let mut options = ProxyOptions::at(now);
    options.lifetime = Some(HOUR);
    let issuer = user.issuer().unwrap();
    let proxy = issuer.proxy(KeyType::P256, &options).unwrap();
    fs::write(folder.path().join("proxy"), proxy.as_bytes()).unwrap();
    options.kind = ProxyKind::Limited;
    let limited = issuer.proxy(KeyType::P256, &options).unwrap();
    fs::write(folder.path().join("limited"), limited.as_bytes()).unwrap();
    (folder, now)
}

#[test]
fn only_what_verifies_gives_exit_status_0() {
    let (folder, now) = site();
    let late = (now + 2 * HOUR).to_string();
    let accepted = "accepted    /C=XX/O=Lab/CN=Jane\n";
    for word in ["show", "verify"] {
        for (words, status, says) in [
            ("proxy --ca-dir cas", 0, accepted),
            ("limited --ca-dir cas", 0, accepted),
            (
                &*format!("proxy --ca-dir cas --at {late}"),
                1,
                "REFUSED     proxy.expired\n",
            ),
            ("proxy --ca-dir .", 1, "REFUSED     chain.untrusted\n"),
            (
                "proxy --ca-dir cas --require-crl",
                1,
                "REFUSED     crl.missing\n",
            ),
            (
                "limited --ca-dir cas --limited-proxy deny",
                1,
                "REFUSED     proxy.limited\n",
            ),
            ("cas/nothing --ca-dir cas", 2, ""),
            ("proxy --ca-dir cas --jwks k", 2, ""),
        ] {
            let all: Vec<&str> = [word].into_iter().chain(words.split(' ')).collect();
            let (got, text) = ask(folder.path(), &all);
            assert_eq!(got, status, "{all:?}: {text}");
            assert!(text.starts_with(says), "{all:?}: {text}");
        }
    }
}

#[test]
fn json_has_the_promised_fields() {
    let (folder, now) = site();
    let words = ["verify", "limited", "--ca-dir", "cas", "--format", "json"];
    let (status, text) = ask(folder.path(), &words);
    assert_eq!(status, 0);
    let value: Value = serde_json::from_str(&text).unwrap();
    let subject = value["subject"].as_str().unwrap();
    assert!(subject.starts_with("/C=XX/O=Lab/CN=Jane/CN="), "{value}");
    for (field, wanted) in [
        ("verdict", json!("accepted")),
        ("code", json!(null)),
        ("kind", json!("proxy")),
        ("identity", json!("/C=XX/O=Lab/CN=Jane")),
        ("fqans", json!([])),
        ("limited", json!(true)),
        ("not_after", json!(now + HOUR)),
    ] {
        assert_eq!(value[field], wanted, "{field}");
    }
    assert_eq!(value["path"].as_array().unwrap().len(), 3);
    fs::write(folder.path().join("token"), "eyJhbGciOiJub25lIn0.e30.").unwrap();
    let (status, text) = ask(folder.path(), &["show", "token", "--format", "json"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 1);
    assert_eq!(value["verdict"], "refused");
    assert_eq!(
        (&value["kind"], &value["code"]),
        (&json!("token"), &json!("token.claim"))
    );
}
