//! Credentials made here, before our own verification, OpenSSL and the grid tools.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use credential::issue::{
    Authority, IssueError, KeyType, ProxyIssuer, ProxyKind, ProxyOptions, UserCertificate,
};
use credential::{
    DelegationRequest, LimitedProxies, TrustStore, VerifiedCredential, VerifyError, VerifyOptions,
    verify_proxy,
};
use openssl::x509::X509Req;

use crate::common::{DAY, HOUR, NOW, Spec, proxy_info, rsa_key};

struct Demo {
    authority: Authority,
    user: UserCertificate,
    now: i64,
}

impl Demo {
    fn at(now: i64, key: KeyType) -> Self {
        let authority = Authority::new("/C=XX/O=Demo/CN=Demo CA", key, now, 30 * DAY).unwrap();
        let user = authority
            .user("/C=XX/O=Demo/CN=Jane Doe", now, DAY)
            .unwrap();
        Self {
            authority,
            user,
            now,
        }
    }

    fn new() -> Self {
        Self::at(NOW, KeyType::P256)
    }

    fn proxy(&self, kind: ProxyKind, lifetime: i64) -> Vec<u8> {
        let options = ProxyOptions {
            lifetime: Some(lifetime),
            kind,
            ..ProxyOptions::at(self.now)
        };
        let proxy = self
            .user
            .issuer()
            .unwrap()
            .proxy(KeyType::P256, &options)
            .unwrap();
        proxy.as_bytes().to_vec()
    }

    fn verify(&self, bundle: &[u8]) -> Result<VerifiedCredential, VerifyError> {
        let trust = TrustStore::from_pem(&self.authority.certificate_pem().unwrap()).unwrap();
        let mut options = VerifyOptions::at(self.now);
        options.second_opinion = credential::SecondOpinion::Always;
        verify_proxy(bundle, &trust, &options)
    }
}

/// A proxy for a request, as the receiving side keeps it.
fn delegate(source: &[u8], options: &ProxyOptions) -> Vec<u8> {
    let request = DelegationRequest::generate().unwrap();
    let issuer = ProxyIssuer::from_pem(source).unwrap();
    let answer = issuer.sign_request(request.csr_der(), options).unwrap();
    request.accept(&answer).unwrap().as_bytes().to_vec()
}

fn inherit(now: i64) -> ProxyOptions {
    ProxyOptions {
        kind: ProxyKind::Inherit,
        ..ProxyOptions::at(now)
    }
}

#[test]
fn users_and_proxies_are_accepted_with_their_name_and_end() {
    let demo = Demo::new();
    let plain = demo.verify(demo.user.pem().as_bytes()).unwrap();
    assert_eq!(
        (plain.identity().as_str(), plain.proxy_depth()),
        ("/C=XX/O=Demo/CN=Jane Doe", 0)
    );
    assert_eq!(plain.not_after().unix(), NOW + DAY);
    let full = demo.verify(&demo.proxy(ProxyKind::Inherit, HOUR)).unwrap();
    assert_eq!(
        (full.limited(), full.proxy_depth(), full.not_after().unix()),
        (false, 1, NOW + HOUR)
    );
    let limited = demo.verify(&demo.proxy(ProxyKind::Limited, HOUR)).unwrap();
    assert_eq!(
        (limited.limited(), limited.identity().as_str()),
        (true, "/C=XX/O=Demo/CN=Jane Doe")
    );
}

#[test]
fn a_delegated_proxy_is_one_more_of_the_same_user_and_never_outlives_its_source() {
    let demo = Demo::new();
    let source = demo.proxy(ProxyKind::Inherit, 2 * HOUR);
    let hour = ProxyOptions {
        lifetime: Some(HOUR),
        ..ProxyOptions::at(NOW)
    };
    let delegated = demo.verify(&delegate(&source, &hour)).unwrap();
    assert_eq!(
        (delegated.proxy_depth(), delegated.limited()),
        (2, true),
        "limited unless asked for more"
    );
    assert_eq!(delegated.not_after().unix(), NOW + HOUR);
    assert_eq!(delegated.identity().as_str(), "/C=XX/O=Demo/CN=Jane Doe");
    let long = ProxyOptions {
        lifetime: Some(DAY),
        ..inherit(NOW)
    };
    let delegated = demo.verify(&delegate(&source, &long)).unwrap();
    assert_eq!(
        (delegated.limited(), delegated.not_after().unix()),
        (false, NOW + 2 * HOUR)
    );
    let issuer = ProxyIssuer::from_pem(&source).unwrap();
    assert_eq!(
        (issuer.not_after(), issuer.end_of(&long)),
        (NOW + 2 * HOUR, NOW + 2 * HOUR)
    );
    assert!(issuer.subject().contains("Jane Doe") && !issuer.is_limited());
}

#[test]
fn a_limited_proxy_gives_limited_ones_only() {
    let demo = Demo::new();
    let source = demo.proxy(ProxyKind::Limited, HOUR);
    assert!(ProxyIssuer::from_pem(&source).unwrap().is_limited());
    let delegated = delegate(&source, &inherit(NOW));
    assert!(demo.verify(&delegated).unwrap().limited());
    // Nor does one more in between wash it off.
    assert!(
        demo.verify(&delegate(&delegated, &inherit(NOW)))
            .unwrap()
            .limited()
    );
    let trust = TrustStore::from_pem(&demo.authority.certificate_pem().unwrap()).unwrap();
    let mut options = VerifyOptions::at(NOW);
    options.limited = LimitedProxies::Deny;
    assert!(verify_proxy(&delegated, &trust, &options).is_err());
}

#[test]
fn each_proxy_has_a_name_of_its_own() {
    let demo = Demo::new();
    let name = |bundle: Vec<u8>| demo.verify(&bundle).unwrap().subject().to_owned();
    assert_ne!(
        name(demo.proxy(ProxyKind::Limited, HOUR)),
        name(demo.proxy(ProxyKind::Limited, HOUR))
    );
}

#[test]
fn what_cannot_sign_is_told_why() {
    let demo = Demo::new();
    let refuse = |bundle: &[u8]| ProxyIssuer::from_pem(bundle).err().unwrap();
    let proxy = demo.proxy(ProxyKind::Inherit, HOUR);
    let text = String::from_utf8(proxy.clone()).unwrap();
    let key = text.find("-----BEGIN EC").unwrap();
    let end = text[key..].find("KEY-----\n").map(|at| key + at).unwrap();
    let end = text[end + 9..]
        .find("KEY-----\n")
        .map(|at| end + 9 + at + 9)
        .unwrap();
    let without_key = format!("{}{}", &text[..key], &text[end..]);
    assert!(matches!(refuse(without_key.as_bytes()), IssueError::NoKey));
    let other = demo
        .authority
        .user("/C=XX/O=Demo/CN=Eve", NOW, DAY)
        .unwrap();
    let other = String::from_utf8(other.pem().as_bytes().to_vec()).unwrap();
    let foreign_key = format!(
        "{without_key}{}",
        &other[other.find("-----BEGIN EC").unwrap()..]
    );
    assert!(matches!(
        refuse(foreign_key.as_bytes()),
        IssueError::Source(_)
    ));
    assert!(matches!(refuse(b"nonsense"), IssueError::Source(_)));

    // A proxy that allows none below it, and a CA.
    let ca = Spec::ca("/C=XX/O=Lab/CN=Lab CA").self_signed();
    let user = Spec::user("/C=XX/O=Lab/CN=Jane").signed_by(&ca);
    let last = Spec::proxy_with(
        &user,
        "1",
        &proxy_info(Some(0), crate::common::INHERIT_ALL, None),
    )
    .signed_by(&user);
    assert!(matches!(
        refuse(last.bundle(&[&user]).as_bytes()),
        IssueError::PathLength(_)
    ));
    assert!(matches!(
        refuse(ca.bundle(&[]).as_bytes()),
        IssueError::Ca(_)
    ));
    let next_to_last = Spec::proxy_with(
        &user,
        "1",
        &proxy_info(Some(1), crate::common::INHERIT_ALL, None),
    )
    .signed_by(&user);
    assert!(ProxyIssuer::from_pem(next_to_last.bundle(&[&user]).as_bytes()).is_ok());

    let late = ProxyOptions::at(NOW + HOUR);
    let request = DelegationRequest::generate().unwrap();
    let ended = ProxyIssuer::from_pem(&proxy)
        .unwrap()
        .sign_request(request.csr_der(), &late);
    assert!(
        matches!(ended, Err(IssueError::Ended(end)) if end == NOW + HOUR),
        "{ended:?}"
    );
}

#[test]
fn requests_must_be_signed_by_the_key_they_name() {
    let demo = Demo::new();
    let issuer = demo.user.issuer().unwrap();
    let good = DelegationRequest::generate().unwrap().csr_der().to_vec();
    let sign = |request: &[u8]| issuer.sign_request(request, &ProxyOptions::at(NOW));
    assert!(sign(&good).is_ok());
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(matches!(sign(&forged), Err(IssueError::RequestSignature)));
    // Another key in the place of the signed one.
    let other = DelegationRequest::generate().unwrap().csr_der().to_vec();
    let mut mixed = good.clone();
    let modulus = 60..200;
    mixed[modulus.clone()].copy_from_slice(&other[modulus]);
    assert!(sign(&mixed).is_err());
    for bad in [
        &b""[..],
        b"\x30\x00",
        &good[..good.len() - 1],
        &[good.clone(), vec![0]].concat(),
    ] {
        assert!(matches!(sign(bad), Err(IssueError::Request)), "{bad:?}");
    }
    let mut weak = openssl::x509::X509ReqBuilder::new().unwrap();
    let key = rsa_key(512);
    weak.set_pubkey(&key).unwrap();
    weak.sign(&key, openssl::hash::MessageDigest::sha256())
        .unwrap();
    assert!(matches!(
        sign(&weak.build().to_der().unwrap()),
        Err(IssueError::RequestKey(_))
    ));
    // What HTCondor 23.9.6 sends says version 3.
    let mut old = openssl::x509::X509ReqBuilder::new().unwrap();
    let key = rsa_key(2048);
    old.set_pubkey(&key).unwrap();
    if old.set_version(2).is_ok() {
        old.sign(&key, openssl::hash::MessageDigest::sha256())
            .unwrap();
        let old: X509Req = old.build();
        assert!(sign(&old.to_der().unwrap()).is_ok());
    }
}

#[test]
fn names_are_read_or_refused() {
    for bad in [
        "",
        "CN=x",
        "/",
        "/CN",
        "/CN=",
        "/=x",
        "/NOSUCH=x",
        "/C=Germany/CN=x",
    ] {
        let made = Authority::new(bad, KeyType::P256, NOW, DAY);
        assert!(
            matches!(made, Err(IssueError::Name(_))),
            "{bad:?}: {made:?}"
        );
    }
}

struct Files {
    directory: tempfile::TempDir,
    demo: Demo,
}

impl Files {
    /// Everything as files, valid now.
    fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let demo = Demo::at(i64::try_from(now).unwrap(), KeyType::Rsa2048);
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("certificates")).unwrap();
        demo.authority
            .write_to(&directory.path().join("certificates"))
            .unwrap();
        Self { directory, demo }
    }

    fn certificates(&self) -> PathBuf {
        self.directory.path().join("certificates")
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

fn output(program: &str, arguments: &[&str], directory: &Path) -> String {
    let mut command = Command::new(program);
    let done = command
        .args(arguments)
        .env("X509_CERT_DIR", directory)
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?}: {text}");
    text
}

#[test]
fn openssl_finds_the_authority_by_its_hash_and_accepts_users_servers_and_proxies() {
    let files = Files::new();
    let demo = &files.demo;
    let directory = files.certificates();
    let source = demo.proxy(ProxyKind::Inherit, HOUR);
    let delegated = files.write("delegated", &delegate(&source, &ProxyOptions::at(demo.now)));
    let host = demo
        .authority
        .server(
            "/C=XX/O=Demo/CN=host",
            &["pool.test", "127.0.0.1"],
            demo.now,
            DAY,
        )
        .unwrap();
    let host = files.write("host", host.pem().as_bytes());
    let user = files.write("user", demo.user.pem().as_bytes());
    for (path, extra) in [
        (&user, &[][..]),
        (&host, &["-verify_hostname", "pool.test"]),
        (&host, &["-verify_ip", "127.0.0.1"]),
        (&delegated, &["-allow_proxy_certs"]),
    ] {
        let (path, directory_text) = (path.to_str().unwrap(), directory.to_str().unwrap());
        let mut arguments = vec!["verify", "-CApath", directory_text];
        arguments.extend(extra);
        arguments.extend(["-untrusted", path, path]);
        assert!(
            output("openssl", &arguments, &directory).contains(": OK"),
            "{arguments:?}"
        );
    }
    let trust = TrustStore::load(&directory);
    let delegated = fs::read(&delegated).unwrap();
    assert!(verify_proxy(&delegated, &trust, &VerifyOptions::at(demo.now)).is_ok());
}

#[test]
fn the_grid_tools_read_what_is_made_here() {
    if !crate::globus::have("grid-proxy-info", "globus-proxy-utils") {
        return;
    }
    let files = Files::new();
    let demo = &files.demo;
    let directory = files.certificates();
    for (kind, word) in [
        (ProxyKind::Inherit, "RFC 3820 compliant impersonation proxy"),
        (ProxyKind::Limited, "RFC 3820 compliant limited proxy"),
    ] {
        let proxy = files.write(
            "proxy",
            &delegate(
                &demo.proxy(ProxyKind::Inherit, HOUR),
                &ProxyOptions {
                    kind,
                    ..ProxyOptions::at(demo.now)
                },
            ),
        );
        let path = proxy.to_str().unwrap();
        let told = output("grid-proxy-info", &["-file", path, "-all"], &directory);
        assert!(
            told.contains("identity : /C=XX/O=Demo/CN=Jane Doe"),
            "{told}"
        );
        assert!(told.contains(word), "{told}");
        assert!(
            told.contains("timeleft : 0:59:") || told.contains("timeleft : 1:00:00"),
            "{told}"
        );
    }
    // And make a proxy of the user's certificate, which they verify against the directory and its signing policy.
    let user = files.write("user", demo.user.pem().as_bytes());
    let user = user.to_str().unwrap();
    let out = files.directory.path().join("theirs");
    let arguments = [
        "-cert",
        user,
        "-key",
        user,
        "-out",
        out.to_str().unwrap(),
        "-verify",
        "-rfc",
    ];
    output("grid-proxy-init", &arguments, &directory);
    assert!(demo.verify(&fs::read(&out).unwrap()).is_ok());
}

#[test]
fn requests_of_the_corpus_are_signed_or_refused() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/delegation_request");
    let mut count = 0;
    for seed in fs::read_dir(corpus).unwrap() {
        credential::fuzzing::fuzz_delegation_request(&fs::read(seed.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0);
}
