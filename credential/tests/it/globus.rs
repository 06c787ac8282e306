//! The real tools: proxies made by `grid-proxy-init` and `voms-proxy-init`.
//!
//! Where the tools are missing these tests fail when run as root, which is how CI runs them, and
//! say what to install; otherwise they pass over with a line that says so.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use credential::{TrustStore, VerifiedCredential, VerifyError, VerifyOptions, verify_proxy};

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
fn other_kinds_and_expired_proxies_are_refused() {
    if !have("grid-proxy-init", GLOBUS) {
        return;
    }
    let site = Site::new();
    for (options, expected) in [
        (&["-old"][..], "proxy.legacy"),
        (&["-draft"], "proxy.draft"),
        (&["-rfc", "-independent"], "proxy.policy"),
        (&["-rfc", "-bits", "512"], "cert.key-size"),
    ] {
        site.grid_proxy("odd", options);
        assert_eq!(site.refuse("odd"), expected);
    }
    site.grid_proxy("short", &["-rfc", "-valid", "0:05"]);
    site.accept("short");
    let late = site.verify_at("short", site.now + 400);
    assert_eq!(crate::code(late), "proxy.expired");
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
