//! The real tools: proxies made by `grid-proxy-init` and `voms-proxy-init`.
//!
//! Where the tools are missing these tests fail when run as root, which is how CI runs them, and
//! say what to install; otherwise they pass over with a line that says so.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use credential::{
    TrustStore, VerifiedCredential, VerifyError, VerifyOptions, VomsOptions, verify_proxy,
};

use crate::common::{Cert, DAY, Spec, install_ca, rsa_key};

struct Site {
    directory: tempfile::TempDir,
    now: i64,
}

/// Whether a tool is there; see above for what happens when it is not.
pub(crate) fn have(tool: &str, package: &str) -> bool {
    if Command::new(tool).arg("-version").output().is_ok() {
        return true;
    }
    let root = fs::metadata("/proc/self")
        .is_ok_and(|facts| std::os::unix::fs::MetadataExt::uid(&facts) == 0);
    assert!(!root, "{tool} is missing: apt-get install {package}");
    eprintln!("passed over: {tool} (package {package}) is not installed");
    false
}

impl Site {
    /// A CA directory, and a user `jane` whose certificate and key are files.
    fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let now = i64::try_from(now).unwrap();
        let site = Self {
            directory: tempfile::tempdir().unwrap(),
            now,
        };
        let span = |spec: Spec| spec.valid(now - DAY, now + 30 * DAY);
        let ca = span(Spec::ca("/C=XX/O=Lab/CN=Lab CA"))
            .key(rsa_key(2048))
            .self_signed();
        fs::create_dir(site.path("certificates")).unwrap();
        install_ca(&site.path("certificates"), &ca);
        // Globus wants to know what a CA may sign.
        let policy = "access_id_CA X509 '/C=XX/O=Lab/CN=Lab CA'\npos_rights globus CA:sign\n\
                      cond_subjects globus '\"/C=XX/O=Lab/*\"'\n";
        let hash = ca.x509.subject_name_hash();
        fs::write(
            site.path(&format!("certificates/{hash:08x}.signing_policy")),
            policy,
        )
        .unwrap();
        let jane = span(Spec::user("/C=XX/O=Lab/CN=Jane Doe"))
            .key(rsa_key(2048))
            .signed_by(&ca);
        site.store("jane", &jane);
        let server = span(Spec::user("/C=XX/O=Lab/CN=voms.example.org"))
            .key(rsa_key(2048))
            .signed_by(&ca);
        site.store("voms", &server);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn store(&self, name: &str, cert: &Cert) {
        fs::write(self.path(&format!("{name}.pem")), cert.pem()).unwrap();
        let key = self.path(&format!("{name}.key"));
        fs::write(&key, cert.key_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    }

    /// Runs a proxy tool for given certificate and key files; the proxy is written to `out`.
    fn make(&self, tool: &str, cert: &str, key: &str, out: &str, options: &[&str]) {
        let mut command = Command::new(tool);
        command.env("X509_CERT_DIR", self.path("certificates"));
        command.env("RANDFILE", self.path("random"));
        command
            .arg("-cert")
            .arg(self.path(cert))
            .arg("-key")
            .arg(self.path(key));
        command.arg("-out").arg(self.path(out)).args(options);
        let run = command.output().unwrap();
        assert!(run.status.success(), "{tool} {options:?}: {run:?}");
    }

    fn grid_proxy(&self, out: &str, options: &[&str]) {
        self.make("grid-proxy-init", "jane.pem", "jane.key", out, options);
    }

    fn verify_at(&self, proxy: &str, at: i64) -> Result<VerifiedCredential, VerifyError> {
        let bundle = fs::read(self.path(proxy)).unwrap();
        let trust = TrustStore::load(&self.path("certificates"));
        verify_proxy(&bundle, &trust, &VerifyOptions::at(at))
    }

    #[track_caller]
    fn accept(&self, proxy: &str) -> VerifiedCredential {
        let credential = self.verify_at(proxy, self.now + 60).unwrap();
        assert_eq!(credential.identity().as_str(), "/C=XX/O=Lab/CN=Jane Doe");
        credential
    }

    #[track_caller]
    fn refuse(&self, proxy: &str) -> &'static str {
        crate::code(self.verify_at(proxy, self.now + 60))
    }
}

const GLOBUS: &str = "globus-proxy-utils";

#[test]
fn the_proxies_of_grid_proxy_init_are_accepted() {
    if !have("grid-proxy-init", GLOBUS) {
        return;
    }
    let site = Site::new();
    site.grid_proxy("default", &[]);
    let credential = site.accept("default");
    assert_eq!((credential.proxy_depth(), credential.limited()), (1, false));
    let left = credential.not_after().seconds_left(site.now);
    assert!(
        (43_000..43_500).contains(&left),
        "twelve hours, not {left} s"
    );
    site.grid_proxy("rfc", &["-rfc", "-valid", "1:30"]);
    let left = site.accept("rfc").not_after().seconds_left(site.now);
    assert!(
        (5_300..5_700).contains(&left),
        "ninety minutes, not {left} s"
    );
    site.grid_proxy("limited", &["-rfc", "-limited"]);
    assert!(site.accept("limited").limited());
    for bits in ["1024", "2048", "4096"] {
        site.grid_proxy("bits", &["-rfc", "-bits", bits]);
        site.accept("bits");
    }
}

#[test]
fn proxies_of_proxies_are_accepted() {
    if !have("grid-proxy-init", GLOBUS) {
        return;
    }
    let site = Site::new();
    site.grid_proxy("p1", &["-rfc"]);
    site.make("grid-proxy-init", "p1", "p1", "p2", &["-rfc"]);
    site.make("grid-proxy-init", "p2", "p2", "p3", &["-rfc", "-limited"]);
    assert_eq!(site.accept("p2").proxy_depth(), 2);
    let deepest = site.accept("p3");
    assert_eq!((deepest.proxy_depth(), deepest.limited()), (3, true));
}

#[test]
fn c12_other_kinds_and_expired_proxies_are_refused() {
    if !have("grid-proxy-init", GLOBUS) {
        return;
    }
    let site = Site::new();
    for (options, expected) in [
        (&["-old"][..], "proxy.legacy"),
        (&["-old", "-limited"], "proxy.legacy"),
        (&["-draft", "-limited"], "proxy.draft"),
        (&["-draft"], "proxy.draft"),
        (&["-rfc", "-independent"], "proxy.policy"),
        (&["-rfc", "-bits", "512"], "cert.key-size"),
    ] {
        site.grid_proxy("odd", options);
        assert_eq!(site.refuse("odd"), expected);
    }
    for (options, is_limited) in [
        (&["-old"][..], false),
        (&["-old", "-limited"], true),
        (&["-draft"], false),
        (&["-draft", "-limited"], true),
    ] {
        site.grid_proxy("old", options);
        let bundle = fs::read(site.path("old")).unwrap();
        let mut accepting = VerifyOptions::at(site.now + 60);
        accepting.accept_gt3 = true;
        accepting.accept_legacy = true;
        let trust = TrustStore::load(&site.path("certificates"));
        let credential = verify_proxy(&bundle, &trust, &accepting).unwrap();
        assert_eq!(credential.limited(), is_limited, "c12: {options:?}");
    }
    site.grid_proxy("short", &["-rfc", "-valid", "0:05"]);
    site.accept("short");
    let late = site.verify_at("short", site.now + 400);
    assert_eq!(crate::code(late), "proxy.expired");
}

/// What a VOMS server would have made of it: `voms-proxy-fake` signs with a server's key.
#[test]
fn a1_a7_the_attributes_of_voms_proxy_fake_are_accepted() {
    if !have("voms-proxy-fake", "voms-clients") {
        return;
    }
    let site = Site::new();
    let folder = site.path("vomsdir/vo.lab");
    fs::create_dir_all(&folder).unwrap();
    let list = "/C=XX/O=Lab/CN=voms.example.org\n/C=XX/O=Lab/CN=Lab CA\n";
    fs::write(folder.join("voms.example.org.lsc"), list).unwrap();
    let certificates = site.path("certificates");
    let (server, key) = (site.path("voms.pem"), site.path("voms.key"));
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let common: Vec<String> = ["-certdir", &text(&certificates), "-voms", "vo.lab"]
        .into_iter()
        .chain([
            "-uri",
            "voms.example.org:15000",
            "-ga",
            "nick=jane (vo.lab)",
        ])
        .chain(["-hostcert", &text(&server), "-hostkey", &text(&key)])
        .chain(["-fqan", "/vo.lab/prod/Role=pilot/Capability=NULL"])
        .chain(["-fqan", "/vo.lab/Role=NULL/Capability=NULL"])
        .map(str::to_owned)
        .collect();
    let verify = |at: i64, accept_old: bool| {
        let bundle = fs::read(site.path("voms")).unwrap();
        let mut options = VerifyOptions::at(at);
        options.voms = Some(VomsOptions::load(&site.path("vomsdir")));
        options.accept_gt3 = accept_old;
        options.accept_legacy = accept_old;
        verify_proxy(&bundle, &TrustStore::load(&certificates), &options)
    };
    for (options, is_limited, is_old) in [
        (&["-rfc"][..], false, false),
        (&["-rfc", "-limited"], true, false),
        (&["-rfc", "-newformat", "-bits", "1024"], false, false),
        (&["-rfc", "-vomslife", "1"], false, false),
        (&["-proxyver", "3"], false, true),
        (&["-proxyver", "2"], false, true),
    ] {
        let all: Vec<&str> = common
            .iter()
            .map(String::as_str)
            .chain(options.iter().copied())
            .collect();
        site.make("voms-proxy-fake", "jane.pem", "jane.key", "voms", &all);
        let credential = verify(site.now + 60, is_old).unwrap();
        let fqans: Vec<&str> = credential.fqans().iter().map(|f| f.as_str()).collect();
        assert_eq!(fqans, ["/vo.lab/prod/Role=pilot", "/vo.lab"], "{options:?}");
        assert_eq!(credential.limited(), is_limited);
        assert_eq!(credential.identity().as_str(), "/C=XX/O=Lab/CN=Jane Doe");
        if options.contains(&"-vomslife") {
            let left = credential.not_after().seconds_left(site.now);
            assert!((3_500..3_700).contains(&left), "one hour, not {left} s");
            let late = verify(site.now + 4_000, false);
            assert_eq!(crate::code(late), "ac.expired");
        }
        if is_old {
            let refused = crate::code(verify(site.now + 60, false));
            assert!(
                matches!(refused, "proxy.draft" | "proxy.legacy"),
                "{refused}"
            );
        }
    }
    fs::write(folder.join("voms.example.org.lsc"), "/CN=a\n/CN=b\n").unwrap();
    assert_eq!(crate::code(verify(site.now + 60, true)), "ac.lsc");
}

#[test]
fn the_proxies_of_voms_proxy_init_are_accepted() {
    if !have("voms-proxy-init", "voms-clients") {
        return;
    }
    let site = Site::new();
    let certificates = site.path("certificates");
    let certificates = ["-certdir", certificates.to_str().unwrap()];
    for (options, depth, limited) in [
        (&["-rfc"][..], 1, false),
        (&["-rfc", "-limited"], 1, true),
        (&["-rfc", "-bits", "1024"], 1, false),
    ] {
        let options = [options, &certificates].concat();
        site.make("voms-proxy-init", "jane.pem", "jane.key", "voms", &options);
        let credential = site.accept("voms");
        assert_eq!(
            (credential.proxy_depth(), credential.limited()),
            (depth, limited)
        );
    }
}
