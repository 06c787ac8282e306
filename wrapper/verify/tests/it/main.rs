//! The program as the broker and as a person use it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "a test may panic"
)]

#[path = "../../../../credential/tests/common/mod.rs"]
mod common;

mod broker;
mod person;

use std::os::unix::fs::MetadataExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use common::ac::{AcSpec, carrier, generalized_time};
use common::crl::{CrlSpec, pem};
use common::{Cert, DAY, HOUR, Spec, hash, install_ca};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sailplane-verify");

/// A CA directory and a user of that CA, valid at the time of the test.
struct Site {
    directory: tempfile::TempDir,
    ca: Cert,
    user: Cert,
    now: i64,
}

impl Site {
    fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let now = i64::try_from(now).unwrap();
        let ca = Spec::ca("/O=Lab/CN=Lab CA")
            .valid(now - DAY, now + 9 * DAY)
            .self_signed();
        let user = Spec::user("/O=Lab/CN=Jane Doe")
            .valid(now - DAY, now + 9 * DAY)
            .signed_by(&ca);
        let directory = tempfile::tempdir().unwrap();
        install_ca(directory.path(), &ca);
        Self {
            directory,
            ca,
            user,
            now,
        }
    }

    /// For the broker's form, which trusts CA files of root only: `None`, and a line that says so,
    /// when the tests run under another account.
    fn of_root() -> Option<Self> {
        let site = Self::new();
        let root = std::fs::metadata(site.directory.path()).unwrap().uid() == 0;
        if !root {
            eprintln!("passed over: CA files that root owns can only be made by root");
        }
        root.then_some(site)
    }

    /// A limited proxy that ends `left` seconds from now.
    fn proxy(&self, left: i64) -> String {
        let spec = Spec::limited(&self.user, "1").valid(self.now - HOUR, self.now + left);
        spec.signed_by(&self.user).bundle(&[&self.user])
    }

    /// A proxy with attributes, and the server that certified them.
    fn voms_proxy(&self) -> (String, Cert) {
        let (begin, end) = (self.now - HOUR, self.now + HOUR);
        let server = Spec::user("/O=Lab/CN=voms.example.org")
            .set(|s| s.serial = 77)
            .valid(begin, end)
            .signed_by(&self.ca);
        let fqans = ["/vo.lab/prod/Role=pilot/Capability=NULL", "/vo.lab"];
        let ac = AcSpec::new(&self.user, &server, &fqans).set(|ac| {
            ac.not_before = generalized_time(begin);
            ac.not_after = generalized_time(end);
        });
        let carrier = carrier(&[ac.signed_by(&server)]);
        let proxy = Spec::proxy(&self.user, "1")
            .set(|s| s.extra.push(carrier))
            .valid(begin, end)
            .signed_by(&self.user);
        (proxy.bundle(&[&self.user]), server)
    }

    /// Installs a revocation list that names a certificate.
    fn revoke(&self, cert: &Cert) {
        let crl = CrlSpec::new(&self.ca, &[cert]).set(|crl| {
            crl.this_update = generalized_time(self.now - HOUR);
            crl.next_update = generalized_time(self.now + HOUR);
        });
        let path = self.directory.path().join(format!("{}.r0", hash(&self.ca)));
        std::fs::write(path, pem(&crl.signed_by(&self.ca))).unwrap();
    }
}
