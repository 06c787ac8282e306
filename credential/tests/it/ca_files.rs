//! What lies beside a CA's certificate: revocation lists (rule C13) and namespaces (rule C14).

use std::fs;

use credential::{Blame, TrustStore, VerifiedCredential, VerifyError, VerifyOptions, verify_proxy};

use crate::code;
use crate::common::crl::{CrlSpec, pem};
use crate::common::{Cert, DAY, NOW, Spec, der, hash, install_bare_ca, install_ca, install_policy};

/// A root, a CA below it, a user and a proxy; both CAs in the directory.
struct Site {
    directory: tempfile::TempDir,
    root: Cert,
    sub: Cert,
    user: Cert,
    bundle: String,
}

impl Site {
    fn new() -> Self {
        let root = Spec::ca("/C=XX/O=Root/CN=Root").self_signed();
        let sub = Spec::ca("/C=XX/O=Lab/CN=Sub CA")
            .set(|s| s.serial = 5)
            .signed_by(&root);
        let user = Spec::user("/C=XX/O=Lab/CN=Jane Doe")
            .set(|s| s.serial = 0xf000_0007)
            .signed_by(&sub);
        let proxy = Spec::proxy(&user, "1").signed_by(&user);
        let bundle = proxy.bundle(&[&user]);
        let directory = tempfile::tempdir().unwrap();
        install_ca(directory.path(), &root);
        install_ca(directory.path(), &sub);
        Self {
            directory,
            root,
            sub,
            user,
            bundle,
        }
    }

    fn write(&self, ca: &Cert, extension: &str, content: impl AsRef<[u8]>) {
        let name = format!("{}.{extension}", hash(ca));
        fs::write(self.directory.path().join(name), content).unwrap();
    }

    fn remove(&self, ca: &Cert, extension: &str) {
        let name = format!("{}.{extension}", hash(ca));
        fs::remove_file(self.directory.path().join(name)).unwrap();
    }

    fn options() -> VerifyOptions {
        VerifyOptions::at(NOW)
    }

    fn verify_with(&self, options: &VerifyOptions) -> Result<VerifiedCredential, VerifyError> {
        let trust = TrustStore::load(self.directory.path());
        verify_proxy(self.bundle.as_bytes(), &trust, options)
    }

    fn verify(&self) -> Result<VerifiedCredential, VerifyError> {
        self.verify_with(&Self::options())
    }

    /// With this CRL of the CA that issued the user.
    #[track_caller]
    fn with_crl(
        &self,
        change: impl FnOnce(&mut CrlSpec),
    ) -> Result<VerifiedCredential, VerifyError> {
        let other = Spec::user("/CN=other").set(|s| s.serial = 77).self_signed();
        let crl = CrlSpec::new(&self.sub, &[&other])
            .set(change)
            .signed_by(&self.sub);
        self.write(&self.sub, "r0", pem(&crl));
        self.verify()
    }
}

#[test]
fn c13_a_good_list_without_the_certificate_changes_nothing() {
    let site = Site::new();
    assert!(site.verify().is_ok());
    assert!(site.with_crl(|_| {}).is_ok());
    assert!(site.with_crl(|crl| crl.revoked.clear()).is_ok());
    // DER, version 1 without extensions, text before the block.
    let crl = || CrlSpec::new(&site.sub, &[]);
    site.write(&site.sub, "r0", crl().signed_by(&site.sub));
    assert!(site.verify().is_ok());
    let version_1 = crl().set(|crl| {
        crl.version.clear();
        crl.extensions.clear();
    });
    let text = format!("CRL of the Lab\n{}", pem(&version_1.signed_by(&site.sub)));
    site.write(&site.sub, "r0", text);
    assert!(site.verify().is_ok());
}

#[test]
fn c13_revoked_users_and_cas_are_refused() {
    let site = Site::new();
    let crl = CrlSpec::new(&site.sub, &[&site.user]).signed_by(&site.sub);
    for content in [crl.clone(), pem(&crl).into_bytes()] {
        site.write(&site.sub, "r0", content);
        let error = site.verify().unwrap_err();
        assert_eq!((error.code(), error.blame()), ("cert.revoked", Blame::Job));
        let text = error.to_string();
        assert!(
            text.contains("Jane Doe") && text.contains("2026-12-31"),
            "{text}"
        );
    }
    // In a second list of the same CA, with a reason, among many.
    let many: Vec<(Vec<u8>, Vec<u8>)> = (1..200).map(|n| (vec![n / 2 + 1, n], vec![])).collect();
    let reason = {
        let value = der(4, &der(10, &[1]));
        der(0x30, &der(0x30, &[der(6, &[0x55, 29, 21]), value].concat()))
    };
    let crl = CrlSpec::new(&site.sub, &[&site.user]).set(|crl| {
        crl.revoked[0].1 = reason;
        crl.revoked.splice(0..0, many);
    });
    site.write(
        &site.sub,
        "r0",
        CrlSpec::new(&site.sub, &[]).signed_by(&site.sub),
    );
    site.write(&site.sub, "r1", crl.signed_by(&site.sub));
    assert_eq!(code(site.verify()), "cert.revoked");
    site.remove(&site.sub, "r1");
    assert!(site.verify().is_ok());
    // The CA itself, by its root.
    let crl = CrlSpec::new(&site.root, &[&site.sub]).signed_by(&site.root);
    site.write(&site.root, "r0", pem(&crl));
    let error = site.verify().unwrap_err();
    assert_eq!(error.code(), "ca.revoked");
}

#[test]
fn c13_stale_and_future_lists_are_refused_as_the_sites_fault() {
    use crate::common::ac::generalized_time as time;
    let site = Site::new();
    assert!(site.with_crl(|crl| crl.this_update = time(NOW)).is_ok());
    let refused = site.with_crl(|crl| crl.this_update = time(NOW + 1));
    assert_eq!(code(refused), "crl.not-yet-valid");
    let error = site
        .with_crl(|crl| crl.next_update = time(NOW))
        .unwrap_err();
    assert_eq!((error.code(), error.blame()), ("crl.expired", Blame::Site));
    assert!(error.to_string().contains(&hash(&site.sub)), "{error}");
    assert_eq!(
        code(site.with_crl(|crl| crl.next_update.clear())),
        "crl.malformed"
    );
}

#[test]
fn c13_forged_lists_are_refused() {
    let site = Site::new();
    let forged = CrlSpec::new(&site.sub, &[]).signed_by(&site.root);
    site.write(&site.sub, "r0", pem(&forged));
    assert_eq!(code(site.verify()), "crl.signature");
    let other = CrlSpec::new(&site.root, &[]).signed_by(&site.root);
    site.write(&site.sub, "r0", pem(&other));
    assert_eq!(code(site.verify()), "crl.issuer");
    // A good one beside it is enough: two CAs may share a hash.
    site.write(
        &site.sub,
        "r1",
        pem(&CrlSpec::new(&site.sub, &[]).signed_by(&site.sub)),
    );
    assert!(site.verify().is_ok());
    site.write(
        &site.sub,
        "r1",
        pem(&CrlSpec::new(&site.sub, &[&site.user]).signed_by(&site.sub)),
    );
    assert_eq!(code(site.verify()), "cert.revoked");
    site.remove(&site.sub, "r1");
    for garbage in [
        "",
        "no list",
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    ] {
        site.write(&site.sub, "r0", garbage);
        assert_eq!(code(site.verify()), "crl.malformed", "{garbage:?}");
    }
    let sha384 = der(0x30, &crate::common::oid("1.2.840.10045.4.3.3"));
    assert_eq!(
        code(site.with_crl(|crl| crl.algorithm_outside = sha384)),
        "crl.malformed"
    );
    let sha1 = der(0x30, &crate::common::oid("1.2.840.10045.4.1"));
    let refused = site.with_crl(|crl| {
        crl.algorithm_outside.clone_from(&sha1);
        crl.algorithm_inside = sha1;
    });
    assert_eq!(code(refused), "crl.signature");
}

#[test]
fn c13_delta_indirect_and_partial_lists_are_refused() {
    let site = Site::new();
    let with = |id, critical, value: Vec<u8>| {
        site.with_crl(|crl| crl.extensions.push((id, critical, value)))
    };
    let point = |content: &[u8]| der(0x30, content);
    assert!(with("2.5.29.28", true, point(&der(0xa0, &[]))).is_ok());
    assert_eq!(code(with("2.5.29.27", true, der(2, &[1]))), "crl.partial");
    assert_eq!(code(with("2.5.29.27", false, der(2, &[1]))), "crl.partial");
    // indirect, only users, only CAs, only some reasons
    for narrow in [
        der(0x84, &[0xff]),
        der(0x81, &[0xff]),
        der(0x82, &[0xff]),
        der(0x83, &[1, 2]),
    ] {
        assert_eq!(code(with("2.5.29.28", true, point(&narrow))), "crl.partial");
    }
    assert_eq!(code(with("1.2.3.4", true, der(5, &[]))), "crl.critical");
    assert!(with("1.2.3.4", false, der(5, &[])).is_ok());
    // An entry about another CA's certificate.
    let foreign = der(
        0x30,
        &der(
            0x30,
            &[
                der(6, &[0x55, 29, 29]),
                der(1, &[0xff]),
                der(4, &der(0x30, &[])),
            ]
            .concat(),
        ),
    );
    let refused = site.with_crl(|crl| crl.revoked[0].1 = foreign);
    assert_eq!(code(refused), "crl.malformed");
}

#[test]
fn c13_a_ca_needs_the_right_to_sign_lists() {
    let site = Site::new();
    let mut usage = openssl::x509::extension::KeyUsage::new();
    usage.critical().key_cert_sign();
    let weak = Spec::ca("/C=XX/O=Lab/CN=Weak CA")
        .set(|s| s.usage = Some(usage))
        .self_signed();
    install_ca(site.directory.path(), &weak);
    let user = Spec::user("/C=XX/O=Lab/CN=Jane").signed_by(&weak);
    site.write(&weak, "r0", pem(&CrlSpec::new(&weak, &[]).signed_by(&weak)));
    let trust = TrustStore::load(site.directory.path());
    let verdict = verify_proxy(user.bundle(&[]).as_bytes(), &trust, &Site::options());
    assert_eq!(code(verdict), "crl.key-usage");
}

#[test]
fn c13_a_missing_list_is_refused_where_one_is_required() {
    let site = Site::new();
    let mut options = Site::options();
    options.require_crl = true;
    let error = site.verify_with(&options).unwrap_err();
    assert_eq!((error.code(), error.blame()), ("crl.missing", Blame::Site));
    site.write(
        &site.sub,
        "r0",
        pem(&CrlSpec::new(&site.sub, &[]).signed_by(&site.sub)),
    );
    assert_eq!(code(site.verify_with(&options)), "crl.missing");
    site.write(
        &site.root,
        "r0",
        pem(&CrlSpec::new(&site.root, &[]).signed_by(&site.root)),
    );
    assert!(site.verify_with(&options).is_ok());
    let fixed = TrustStore::from_pem((site.root.pem() + &site.sub.pem()).as_bytes()).unwrap();
    let verdict = verify_proxy(site.bundle.as_bytes(), &fixed, &options);
    assert_eq!(code(verdict), "crl.missing");
}

#[test]
fn c13_c5_the_old_hash_leads_to_a_cas_files_too() {
    let site = Site::new();
    let old = {
        let file = site.directory.path().join("ca.txt");
        fs::write(&file, site.sub.pem()).unwrap();
        let tool = std::process::Command::new("openssl")
            .args(["x509", "-noout", "-subject_hash_old", "-in"])
            .arg(&file)
            .output()
            .expect("the openssl program (package openssl) is needed");
        String::from_utf8(tool.stdout).unwrap().trim().to_owned()
    };
    let folder = site.directory.path();
    for extension in ["0", "signing_policy"] {
        let new = folder.join(format!("{}.{extension}", hash(&site.sub)));
        fs::rename(new, folder.join(format!("{old}.{extension}"))).unwrap();
    }
    assert!(site.verify().is_ok());
    let crl = CrlSpec::new(&site.sub, &[&site.user]).signed_by(&site.sub);
    fs::write(folder.join(format!("{old}.r0")), pem(&crl)).unwrap();
    assert_eq!(code(site.verify()), "cert.revoked");
}

#[test]
fn c14_subjects_outside_the_namespace_of_their_ca_are_refused() {
    let site = Site::new();
    install_policy(site.directory.path(), &site.sub, "/C=XX/O=Lab/CN=J*");
    assert!(site.verify().is_ok());
    install_policy(site.directory.path(), &site.sub, "/C=XX/O=Lab/CN=K*");
    let error = site.verify().unwrap_err();
    assert_eq!(
        (error.code(), error.blame()),
        ("chain.namespace", Blame::Job)
    );
    let text = error.to_string();
    assert!(
        text.contains("Jane Doe") && text.contains("Sub CA"),
        "{text}"
    );
    // Either file may permit; an explicit denial wins.
    let namespaces = |what: &str| {
        format!("TO Issuer \"/C=XX/O=Lab/CN=Sub CA\" {what} Subject \"/C=XX/O=Lab/.*\"\n")
    };
    site.write(&site.sub, "namespaces", namespaces("PERMIT"));
    assert!(site.verify().is_ok());
    install_policy(site.directory.path(), &site.sub, "*");
    site.write(&site.sub, "namespaces", namespaces("DENY"));
    assert_eq!(code(site.verify()), "chain.namespace");
    site.remove(&site.sub, "namespaces");
    // The same for the CA below the root.
    install_policy(site.directory.path(), &site.root, "/C=XX/O=Root/*");
    let error = site.verify().unwrap_err();
    assert_eq!(error.code(), "chain.namespace");
    assert!(
        error.to_string().contains("'/C=XX/O=Lab/CN=Sub CA'"),
        "{error}"
    );
}

#[test]
fn c14_files_that_cannot_be_understood_permit_nothing() {
    let site = Site::new();
    for (extension, content) in [
        (
            "signing_policy",
            "access_id_CA X509 '/C=XX/O=Lab/CN=Sub CA'\noops\n",
        ),
        ("namespaces", "TO Issuer nobody\n"),
        ("namespaces", ""),
    ] {
        install_ca(site.directory.path(), &site.sub);
        site.write(&site.sub, extension, content);
        let error = site.verify().unwrap_err();
        assert_eq!(
            (error.code(), error.blame()),
            ("namespace.malformed", Blame::Site)
        );
        assert!(error.to_string().contains(extension), "{error}");
        site.remove(&site.sub, extension);
    }
}

#[test]
fn c14_a_ca_without_either_file_certifies_nobody_unless_the_option_says_so() {
    let site = Site::new();
    site.remove(&site.sub, "signing_policy");
    let error = site.verify().unwrap_err();
    assert_eq!(
        (error.code(), error.blame()),
        ("namespace.missing", Blame::Site)
    );
    assert!(error.to_string().contains("Sub CA"), "{error}");
    let mut options = Site::options();
    options.allow_missing_namespace = true;
    assert!(site.verify_with(&options).is_ok());
    // The option is no licence to break what is there.
    install_policy(site.directory.path(), &site.sub, "/C=XX/O=Else/*");
    assert_eq!(code(site.verify_with(&options)), "chain.namespace");
}

#[test]
fn c14_proxies_are_no_subjects_of_a_ca() {
    let ca = Spec::ca("/O=Lab/CN=CA").self_signed();
    let user = Spec::user("/O=Lab/CN=Jane").signed_by(&ca);
    let directory = tempfile::tempdir().unwrap();
    install_bare_ca(directory.path(), &ca);
    install_policy(directory.path(), &ca, "/O=Lab/CN=Jane");
    let proxy = Spec::proxy(&user, "1")
        .valid(NOW - 9, NOW + DAY)
        .signed_by(&user);
    let trust = TrustStore::load(directory.path());
    let bundle = proxy.bundle(&[&user]);
    assert!(verify_proxy(bundle.as_bytes(), &trust, &Site::options()).is_ok());
}
