//! Credentials by the hundred, good and broken, each with the verdict it deserves: written from the
//! RFCs and from what common tools make of them, not from the code.

mod bundle;
mod certificate;
mod chain;
mod directory;
mod names;
mod oddities;
mod proxy;
mod pss;
mod revocation;
mod token;
mod tools;
mod voms;

use std::path::Path;

use credential::{SecondOpinion, TrustStore, VerifyOptions, verify_proxy};

use crate::common::raw::{CN, Piece, Raw, UTF8, name};
use crate::common::{Cert, NOW, Spec, install_ca};

const C: &str = "2.5.4.6";
const O: &str = "2.5.4.10";
const PRINTABLE: u8 = 0x13;

/// Where the user is `/C=XX/O=Lab/CN=Jane Doe`.
const JANE: &str = "/C=XX/O=Lab/CN=Jane Doe";

/// A CA in a directory, a user, and a proxy.
struct World {
    directory: tempfile::TempDir,
    ca: Cert,
    user: Piece,
    proxy: Piece,
}

impl World {
    fn new() -> Self {
        let ca = Spec::ca("/C=XX/O=Lab/CN=Lab CA").self_signed();
        let directory = tempfile::tempdir().unwrap();
        install_ca(directory.path(), &ca);
        let user = Raw::user(&ca, jane()).signed_by(&ca.key);
        let proxy = Raw::proxy(&jane()).signed_by(&user.key);
        Self {
            directory,
            ca,
            user,
            proxy,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A proxy of Jane, changed.
    fn proxy_with(&self, change: impl FnOnce(&mut Raw)) -> String {
        let proxy = Raw::proxy(&jane()).set(change).signed_by(&self.user.key);
        proxy.bundle(&[&self.user])
    }

    /// Jane's certificate changed, with a proxy of it.
    fn user_with(&self, change: impl FnOnce(&mut Raw)) -> String {
        let raw = Raw::user(&self.ca, jane()).set(change);
        let subject = raw.subject.clone();
        let user = raw.signed_by(&self.ca.key);
        let proxy = Raw::proxy(&subject).signed_by(&user.key);
        proxy.bundle(&[&user])
    }
}

/// The name of the user.
fn jane() -> Vec<u8> {
    name(&[
        (C, PRINTABLE, b"XX"),
        (O, UTF8, b"Lab"),
        (CN, UTF8, b"Jane Doe"),
    ])
}

/// Collects what is wrong, so that one run shows all of it.
#[derive(Default)]
struct Matrix {
    cases: usize,
    wrong: Vec<String>,
}

/// What a case deserves.
#[derive(Clone, Copy)]
enum Deserves<'a> {
    /// This identity.
    Identity(&'a str),
    /// A refusal with this code.
    Code(&'a str),
}

impl Matrix {
    fn accept(&mut self, case: &str, bundle: impl AsRef<[u8]>, directory: &Path) {
        self.judge(
            case,
            bundle,
            directory,
            &VerifyOptions::at(NOW),
            Deserves::Identity(JANE),
        );
    }

    fn refuse(&mut self, case: &str, bundle: impl AsRef<[u8]>, directory: &Path, code: &str) {
        self.judge(
            case,
            bundle,
            directory,
            &VerifyOptions::at(NOW),
            Deserves::Code(code),
        );
    }

    fn judge(
        &mut self,
        case: &str,
        bundle: impl AsRef<[u8]>,
        directory: &Path,
        options: &VerifyOptions,
        deserves: Deserves<'_>,
    ) {
        let trust = TrustStore::load(directory);
        let verdict = verify_proxy(bundle.as_ref(), &trust, options);
        let got = match &verdict {
            Ok(credential) => format!("accepted {}", credential.identity()),
            Err(error) => format!("refused {}: {error}", error.code()),
        };
        let is_right = match (&verdict, deserves) {
            (Ok(credential), Deserves::Identity(wanted)) => {
                credential.identity().as_str() == wanted
            }
            (Err(error), Deserves::Code(wanted)) => error.code() == wanted,
            _ => false,
        };
        let wanted = match deserves {
            Deserves::Identity(wanted) => format!("accepted {wanted}"),
            Deserves::Code(wanted) => format!("refused {wanted}"),
        };
        self.note(case, is_right, &wanted, &got);
        // Whatever is accepted OpenSSL accepts too, but for the kinds of proxies that it does not know.
        if verdict.is_ok() && !options.accept_gt3 && !options.accept_legacy {
            let mut twice = options.clone();
            twice.second_opinion = SecondOpinion::Always;
            let second = verify_proxy(bundle.as_ref(), &trust, &twice);
            if let Err(error) = second {
                self.wrong
                    .push(format!("{case}: OpenSSL would refuse it: {error}"));
            }
        }
    }

    fn note(&mut self, case: &str, is_right: bool, wanted: &str, got: &str) {
        self.cases += 1;
        if !is_right {
            self.wrong.push(format!("{case}: wanted {wanted}, {got}"));
        }
    }

    /// The verdict over this part of the matrix, which has at least so many cases.
    #[track_caller]
    fn finish(self, at_least: usize) {
        assert!(
            self.wrong.is_empty(),
            "{} of {}:\n{}",
            self.wrong.len(),
            self.cases,
            self.wrong.join("\n")
        );
        assert!(self.cases >= at_least, "only {} cases", self.cases);
    }
}
