//! Attribute certificates: rules A1 to A7, each kept and each broken.

use std::fs;
use std::path::Path;

use credential::{
    Blame, TrustStore, VerifiedCredential, VerifyError, VerifyOptions, VomsOptions, verify_proxy,
};

use crate::code;
use crate::common::ac::{
    AcSpec, TARGETS, carrier, generalized_time, holder, issuer, sequence, serial, targets,
    voms_attribute,
};
use crate::common::{Cert, DAY, HOUR, NOW, Spec, der, dn, extension, install_ca, line, oid};

const AC_SEQUENCE: &str = crate::common::ac::AC_SEQUENCE;
const HOST: &str = "voms.example.org";

/// A CA directory, a VOMS directory that knows one server of one VO, and a user.
struct Vo {
    directory: tempfile::TempDir,
    ca: Cert,
    server: Cert,
    user: Cert,
}

impl Vo {
    fn new() -> Self {
        let ca = Spec::ca("/C=XX/O=Lab/CN=Lab CA").self_signed();
        let server = Spec::user("/C=XX/O=Lab/CN=voms.example.org")
            .set(|s| s.serial = 11)
            .signed_by(&ca);
        let user = Spec::user("/C=XX/O=Lab/CN=Jane Doe")
            .set(|s| s.serial = 0x8000_0012)
            .signed_by(&ca);
        let directory = tempfile::tempdir().unwrap();
        let vo = Self {
            directory,
            ca,
            server,
            user,
        };
        fs::create_dir(vo.certificates()).unwrap();
        install_ca(&vo.certificates(), &vo.ca);
        fs::create_dir_all(vo.vomsdir().join("vo.lab")).unwrap();
        vo.lsc(&vo.chain());
        vo
    }

    fn certificates(&self) -> std::path::PathBuf {
        self.directory.path().join("certificates")
    }

    fn vomsdir(&self) -> std::path::PathBuf {
        self.directory.path().join("vomsdir")
    }

    fn chain(&self) -> String {
        format!(
            "{}\n{}\n",
            line(self.server.x509.subject_name()),
            line(self.ca.x509.subject_name())
        )
    }

    fn lsc(&self, text: &str) {
        self.vo_file(&format!("{HOST}.lsc"), text);
    }

    fn vo_file(&self, name: &str, text: &str) {
        fs::write(self.vomsdir().join("vo.lab").join(name), text).unwrap();
    }

    fn ac(&self) -> AcSpec {
        AcSpec::new(
            &self.user,
            &self.server,
            &["/vo.lab/prod/Role=pilot/Capability=NULL", "/vo.lab"],
        )
    }

    fn good(&self) -> Vec<u8> {
        self.ac().signed_by(&self.server)
    }

    fn changed(&self, change: impl FnOnce(&mut AcSpec)) -> Vec<u8> {
        self.ac().set(change).signed_by(&self.server)
    }

    fn proxy(&self, acs: &[Vec<u8>]) -> Cert {
        let carrier = carrier(acs);
        Spec::proxy(&self.user, "1")
            .set(|s| s.extra.push(carrier))
            .signed_by(&self.user)
    }

    fn options(&self) -> VerifyOptions {
        let mut options = VerifyOptions::at(NOW);
        options.voms = Some(VomsOptions::load(&self.vomsdir()));
        options
    }

    fn verify_with(
        &self,
        bundle: &str,
        options: &VerifyOptions,
    ) -> Result<VerifiedCredential, VerifyError> {
        let trust = TrustStore::load(&self.certificates());
        verify_proxy(bundle.as_bytes(), &trust, options)
    }

    fn verify(&self, acs: &[Vec<u8>]) -> Result<VerifiedCredential, VerifyError> {
        let bundle = self.proxy(acs).bundle(&[&self.user]);
        self.verify_with(&bundle, &self.options())
    }

    #[track_caller]
    fn refuse(&self, ac: Vec<u8>) -> &'static str {
        code(self.verify(&[ac]))
    }

    #[track_caller]
    fn accept(&self, ac: Vec<u8>) -> VerifiedCredential {
        self.verify(&[ac]).unwrap()
    }
}

fn texts(credential: &VerifiedCredential) -> Vec<&str> {
    credential
        .fqans()
        .iter()
        .map(|fqan| fqan.as_str())
        .collect()
}

#[test]
fn a1_the_first_certificate_with_attributes_from_the_leaf_decides() {
    let vo = Vo::new();
    let credential = vo.accept(vo.good());
    assert_eq!(texts(&credential), ["/vo.lab/prod/Role=pilot", "/vo.lab"]);
    assert_eq!(credential.identity().as_str(), "/C=XX/O=Lab/CN=Jane Doe");
    // From a proxy above the leaf, too.
    let first = vo.proxy(&[vo.good()]);
    let second = Spec::proxy(&first, "2").signed_by(&first);
    let credential = vo
        .verify_with(&second.bundle(&[&first, &vo.user]), &vo.options())
        .unwrap();
    assert_eq!(texts(&credential).len(), 2);
    // The lower one hides the upper one, right or wrong.
    let other = AcSpec::new(&vo.user, &vo.server, &["/vo.lab/other"]).signed_by(&vo.server);
    let lower = Spec::proxy(&first, "3")
        .set(|s| s.extra.push(carrier(&[other])))
        .signed_by(&first);
    let credential = vo
        .verify_with(&lower.bundle(&[&first, &vo.user]), &vo.options())
        .unwrap();
    assert_eq!(texts(&credential), ["/vo.lab/other"]);
    let wrong = Spec::proxy(&first, "4")
        .set(|s| s.extra.push(carrier(&[vo.changed(|ac| ac.spoil = true)])))
        .signed_by(&first);
    let verdict = vo.verify_with(&wrong.bundle(&[&first, &vo.user]), &vo.options());
    assert_eq!(code(verdict), "ac.signature");
}

#[test]
fn a1_attributes_that_cannot_be_read_are_a_refusal() {
    let vo = Vo::new();
    let good = vo.good();
    for value in [
        vec![],
        sequence(&[]),
        sequence(&[sequence(&[])]),
        good.clone(),
        sequence(std::slice::from_ref(&good)),
        sequence(&[sequence(&[good.clone(), der(5, &[])])]),
        [sequence(&[sequence(std::slice::from_ref(&good))]), vec![0]].concat(),
        sequence(&[sequence(&[good[..good.len() - 1].to_vec()])]),
        sequence(&[sequence(&[der(0x30, b"x")])]),
    ] {
        let carrier = extension(AC_SEQUENCE, false, &value);
        let proxy = Spec::proxy(&vo.user, "1")
            .set(|s| s.extra.push(carrier))
            .signed_by(&vo.user);
        let verdict = vo.verify_with(&proxy.bundle(&[&vo.user]), &vo.options());
        assert_eq!(code(verdict), "ac.malformed", "{value:?}");
    }
}

#[test]
fn a1_without_a_voms_directory_nobody_has_attributes() {
    let vo = Vo::new();
    let bundle = vo.proxy(&[vo.good()]).bundle(&[&vo.user]);
    let credential = vo.verify_with(&bundle, &VerifyOptions::at(NOW)).unwrap();
    assert!(credential.fqans().is_empty());
    let plain = Spec::proxy(&vo.user, "1").signed_by(&vo.user);
    let credential = vo
        .verify_with(&plain.bundle(&[&vo.user]), &vo.options())
        .unwrap();
    assert!(credential.fqans().is_empty());
}

#[test]
fn a2_the_holder_is_the_user_of_this_path() {
    let vo = Vo::new();
    let user = &vo.user.x509;
    let subject = user.subject_name().to_der().unwrap();
    let ca = user.issuer_name().to_der().unwrap();
    let number = serial(&vo.user);
    // VOMS servers write the subject, RFC 5755 wants the issuer.
    for name in [&ca, &subject] {
        vo.accept(vo.changed(|ac| ac.holder = holder(name, &number)));
    }
    let mut other_number = number.clone();
    *other_number.last_mut().unwrap() ^= 1;
    let stranger = dn("/C=XX/O=Lab/CN=Mallory").to_der().unwrap();
    let id = |extra: &[u8]| [sequence(&[der(0xa4, &ca)]), der(2, &number), extra.to_vec()].concat();
    for wrong in [
        holder(&ca, &other_number),
        holder(&subject, &other_number),
        holder(&stranger, &number),
        // without the zero that keeps it positive
        holder(&ca, &number[1..]),
        sequence(&[]),
        // entityName instead, and beside
        sequence(&[der(0xa1, &der(0xa4, &subject))]),
        sequence(&[der(0xa0, &id(&[])), der(0xa1, &der(0xa4, &subject))]),
        // objectDigestInfo
        sequence(&[der(0xa2, &[])]),
        // issuerUID
        sequence(&[der(0xa0, &id(&der(3, &[0, 1])))]),
        // two names, and a name that is not a directory name
        sequence(&[der(
            0xa0,
            &[sequence(&[der(0xa4, &ca), der(0xa4, &ca)]), der(2, &number)].concat(),
        )]),
        sequence(&[der(
            0xa0,
            &[sequence(&[der(0x86, b"uri")]), der(2, &number)].concat(),
        )]),
    ] {
        let refused = vo.refuse(vo.changed(|ac| ac.holder = wrong.clone()));
        assert_eq!(refused, "ac.holder", "{wrong:?}");
    }
    // The attributes of another user.
    let other = Spec::user("/C=XX/O=Lab/CN=Boss")
        .set(|s| s.serial = 99)
        .signed_by(&vo.ca);
    let ac = AcSpec::new(&other, &vo.server, &["/vo.lab/Role=boss"]).signed_by(&vo.server);
    assert_eq!(vo.refuse(ac), "ac.holder");
}

#[test]
fn a3_the_issuer_is_the_signer() {
    let vo = Vo::new();
    let ca = vo.ca.x509.subject_name().to_der().unwrap();
    let own = vo.server.x509.subject_name().to_der().unwrap();
    for wrong in [
        issuer(&ca),
        // V1 form
        sequence(&[der(0xa4, &own)]),
        // none, two, not a directory name
        der(0xa0, &[]),
        der(0xa0, &sequence(&[der(0xa4, &own), der(0xa4, &own)])),
        der(0xa0, &sequence(&[der(0x86, b"voms.example.org")])),
        // baseCertificateID beside the name
        der(
            0xa0,
            &[sequence(&[der(0xa4, &own)]), der(0xa0, &[])].concat(),
        ),
    ] {
        let refused = vo.refuse(vo.changed(|ac| ac.issuer = wrong.clone()));
        assert_eq!(refused, "ac.issuer", "{wrong:?}");
    }
}

#[test]
fn a3_the_path_of_the_signer_must_verify() {
    let vo = Vo::new();
    let from = |server: &Cert| AcSpec::new(&vo.user, server, &["/vo.lab"]).signed_by(server);
    let like = || Spec::user("/C=XX/O=Lab/CN=voms.example.org");
    let expired = like().valid(NOW - 9 * DAY, NOW - 1).signed_by(&vo.ca);
    let error = vo.verify(&[from(&expired)]).unwrap_err();
    assert_eq!((error.code(), error.blame()), ("ac.signer", Blame::Job));
    assert!(
        error.to_string().contains("expired on 2026-12-31"),
        "{error}"
    );
    // Of the same name, from another CA: unknown, and self-made.
    let stranger = Spec::ca("/C=XX/O=Elsewhere/CN=Other CA").self_signed();
    let false_ca = Spec::ca("/C=XX/O=Lab/CN=Lab CA").self_signed();
    for ca in [&stranger, &false_ca] {
        let server = like().signed_by(ca);
        assert_eq!(vo.refuse(from(&server)), "ac.signer");
        let with_ca = AcSpec::new(&vo.user, &server, &["/vo.lab"]).set(|ac| {
            ac.certificates
                .as_mut()
                .unwrap()
                .push(ca.x509.to_der().unwrap())
        });
        assert_eq!(vo.refuse(with_ca.signed_by(&server)), "ac.signer");
    }
    assert_eq!(vo.refuse(from(&like().self_signed())), "ac.signer");
    // Trusted, but not the CA that the list names.
    install_ca(&vo.certificates(), &stranger);
    assert_eq!(vo.refuse(from(&like().signed_by(&stranger))), "ac.lsc");
    // The user as signer, a proxy of the server, the CA.
    assert_eq!(vo.refuse(from(&vo.user)), "ac.lsc");
    let proxy = Spec::proxy(&vo.server, "1").signed_by(&vo.server);
    let by_proxy = AcSpec::new(&vo.user, &proxy, &["/vo.lab"]).set(|ac| {
        ac.certificates
            .as_mut()
            .unwrap()
            .push(vo.server.x509.to_der().unwrap())
    });
    assert_eq!(vo.refuse(by_proxy.signed_by(&proxy)), "ac.signer");
    assert_eq!(vo.refuse(from(&vo.ca)), "ac.signer");
    // A server whose key is for something else.
    let wrong_usage = like().set(|s| {
        let mut usage = openssl::x509::extension::KeyUsage::new();
        usage.critical().key_encipherment();
        s.usage = Some(usage);
    });
    assert_eq!(vo.refuse(from(&wrong_usage.signed_by(&vo.ca))), "ac.signer");
    // Another key behind the right certificate.
    let ac = vo.ac().signed_by(&vo.user);
    assert_eq!(vo.refuse(ac), "ac.signature");
    // A certificate that does not belong there.
    let stray = vo.changed(|ac| {
        ac.certificates
            .as_mut()
            .unwrap()
            .push(vo.user.x509.to_der().unwrap());
    });
    assert_eq!(vo.refuse(stray), "ac.signer");
}

#[test]
fn a3_the_certificate_may_come_from_the_voms_directory() {
    let vo = Vo::new();
    fs::remove_file(vo.vomsdir().join(format!("vo.lab/{HOST}.lsc"))).unwrap();
    let without = || vo.changed(|ac| ac.certificates = None);
    // A certificate beside the attributes proves nothing by itself.
    for ac in [vo.good(), without()] {
        assert_eq!(vo.refuse(ac), "ac.no-signer");
    }
    vo.vo_file("server.pem", &vo.server.pem());
    for ac in [vo.good(), without()] {
        assert_eq!(texts(&vo.accept(ac)).len(), 2);
    }
    // With a list of names but no certificate beside the attributes as well.
    vo.lsc(&vo.chain());
    vo.accept(without());
    // One of the same name with another key; both together.
    let twin = Spec::user("/C=XX/O=Lab/CN=voms.example.org").signed_by(&vo.ca);
    vo.vo_file("server.pem", &twin.pem());
    assert_eq!(vo.refuse(without()), "ac.signature");
    vo.vo_file("server.pem", &(twin.pem() + &vo.server.pem()));
    vo.accept(without());
    let expired = Spec::user("/C=XX/O=Lab/CN=voms.example.org")
        .valid(NOW - 9 * DAY, NOW - 1)
        .key(vo.server.key.clone())
        .signed_by(&vo.ca);
    vo.vo_file("server.pem", &expired.pem());
    assert_eq!(vo.refuse(without()), "ac.signer");
}

#[test]
fn a4_the_list_of_names_must_match_exactly() {
    let vo = Vo::new();
    let (server, ca) = ("/C=XX/O=Lab/CN=voms.example.org", "/C=XX/O=Lab/CN=Lab CA");
    for text in [
        format!("{server}\n{ca}\n{ca}\n{ca}\n"),
        format!("/CN=a\n/CN=b\n------ NEXT CHAIN ------\n{server}\n{ca}\n"),
        format!("# the server\n\n{server}\r\n{ca}\r\n"),
    ] {
        vo.lsc(&text);
        let verdict = vo.verify(&[vo.good()]);
        assert!(verdict.is_ok(), "{text}: {verdict:?}");
    }
    for text in [
        format!("{server}\n/C=XX/O=Other/CN=CA\n"),
        format!("{ca}\n{server}\n"),
        format!("/C=XX/O=Lab/CN=voms2.example.org\n{ca}\n"),
        format!("{server}x\n{ca}\n"),
        format!("{server}\n{ca}\n/C=XX/O=Root/CN=Root\n"),
        format!("{server}\n/CN=b\n------ NEXT CHAIN ------\n/CN=a\n{ca}\n"),
    ] {
        vo.lsc(&text);
        assert_eq!(vo.refuse(vo.good()), "ac.lsc", "{text}");
    }
    for text in [format!("{server}\n"), String::new(), "no names\n".into()] {
        vo.lsc(&text);
        let error = vo.verify(&[vo.good()]).unwrap_err();
        assert_eq!(
            (error.code(), error.blame()),
            ("ac.lsc-malformed", Blame::Site)
        );
    }
}

#[test]
fn a4_a_server_below_a_subordinate_ca() {
    let vo = Vo::new();
    let sub = Spec::ca("/C=XX/O=Lab/CN=Sub CA").signed_by(&vo.ca);
    install_ca(&vo.certificates(), &sub);
    fs::remove_file(
        vo.certificates()
            .join(format!("{}.0", crate::common::hash(&sub))),
    )
    .unwrap();
    let server = Spec::user("/C=XX/O=Lab/CN=voms.example.org").signed_by(&sub);
    let ac = || {
        AcSpec::new(&vo.user, &server, &["/vo.lab"])
            .set(|ac| {
                ac.certificates
                    .as_mut()
                    .unwrap()
                    .push(sub.x509.to_der().unwrap())
            })
            .signed_by(&server)
    };
    let names =
        |rest: &str| format!("/C=XX/O=Lab/CN=voms.example.org\n/C=XX/O=Lab/CN=Sub CA\n{rest}");
    for rest in [
        "/C=XX/O=Lab/CN=Lab CA\n",
        "/C=XX/O=Lab/CN=Sub CA\n/C=XX/O=Lab/CN=Lab CA\n",
    ] {
        vo.lsc(&names(rest));
        vo.accept(ac());
    }
    // Too short for the two certificates that were sent, or another chain.
    for rest in ["", "/C=XX/O=Lab/CN=Other CA\n"] {
        vo.lsc(&names(rest));
        assert_eq!(vo.refuse(ac()), "ac.lsc");
    }
    // When only the server's own certificate is sent, its issuer is enough.
    let sub_is_known = || {
        let name = format!("{}.0", crate::common::hash(&sub));
        fs::write(vo.certificates().join(name), sub.pem()).unwrap();
    };
    sub_is_known();
    let alone = || AcSpec::new(&vo.user, &server, &["/vo.lab"]).signed_by(&server);
    for rest in ["", "/C=XX/O=Lab/CN=Lab CA\n"] {
        vo.lsc(&names(rest));
        vo.accept(alone());
    }
}

#[test]
fn a4_names_of_files_come_only_from_harmless_characters() {
    let vo = Vo::new();
    // What a way out of the directory would find.
    fs::write(vo.directory.path().join("voms.example.org.lsc"), vo.chain()).unwrap();
    for authority in [
        "../vomsdir/vo.lab://voms.example.org:15000",
        "..://voms.example.org:15000",
        "vo.lab://../vo.lab/voms.example.org:15000",
        "vo.lab",
        "://voms.example.org:15000",
        "vo.lab://voms.example.org",
    ] {
        let refused = vo.refuse(vo.changed(|ac| ac.authority = authority.into()));
        assert_eq!(refused, "ac.vo", "{authority}");
    }
    let unknown = vo.changed(|ac| {
        ac.authority = "vo.other://voms.example.org:15000".into();
        ac.fqans = vec!["/vo.other".into()];
    });
    assert_eq!(vo.refuse(unknown), "ac.unknown-vo");
    let other_host = vo.changed(|ac| ac.authority = "vo.lab://voms2.example.org:15000".into());
    assert_eq!(vo.refuse(other_host), "ac.no-signer");
}

#[test]
fn a4_the_server_of_one_vo_does_not_speak_for_another() {
    let vo = Vo::new();
    let other = vo.vomsdir().join("vo.other");
    fs::create_dir(&other).unwrap();
    let names = "/C=XX/O=Lab/CN=other.example.org\n/C=XX/O=Lab/CN=Lab CA\n";
    fs::write(other.join("other.example.org.lsc"), names).unwrap();
    fs::write(other.join("voms.example.org.lsc"), names).unwrap();
    for host in ["other.example.org", HOST] {
        let ac = vo.changed(|ac| {
            ac.authority = format!("vo.other://{host}:15000");
            ac.fqans = vec!["/vo.other/Role=admin".into()];
        });
        assert_eq!(vo.refuse(ac), "ac.lsc");
    }
}

#[test]
fn a5_version_algorithms_and_signature() {
    let vo = Vo::new();
    for version in [0, 2] {
        let refused = vo.refuse(vo.changed(|ac| ac.version = der(2, &[version])));
        assert_eq!(refused, "ac.version");
    }
    let sha384 = sequence(&[oid("1.2.840.10045.4.3.3")]);
    let refused = vo.refuse(vo.changed(|ac| ac.algorithm_outside = sha384.clone()));
    assert_eq!(refused, "ac.algorithms");
    let refused = vo.refuse(vo.changed(|ac| ac.algorithm_inside = sha384.clone()));
    assert_eq!(refused, "ac.algorithms");
    let both = |id: &str| {
        let id = sequence(&[oid(id)]);
        vo.refuse(vo.changed(|ac| {
            ac.algorithm_inside.clone_from(&id);
            ac.algorithm_outside = id;
        }))
    };
    assert_eq!(both("1.2.840.10045.4.3.3"), "ac.signature");
    assert_eq!(both("1.2.840.10045.4.1"), "ac.weak-signature");
    assert_eq!(both("1.2.840.113549.1.1.4"), "ac.weak-signature");
    assert_eq!(vo.refuse(vo.changed(|ac| ac.spoil = true)), "ac.signature");
}

#[test]
fn a5_validity_is_a_generalized_time_and_includes_now() {
    let vo = Vo::new();
    let at = |from: i64, to: i64| {
        vo.verify(&[vo.changed(|ac| {
            ac.not_before = generalized_time(from);
            ac.not_after = generalized_time(to);
        })])
    };
    assert!(at(NOW, NOW + 1).is_ok());
    assert_eq!(code(at(NOW + 1, NOW + 9)), "ac.not-yet-valid");
    assert_eq!(code(at(NOW - 9, NOW)), "ac.expired");
    for odd in [
        der(0x17, b"270101120000Z"),
        der(0x18, b"20270101120000"),
        der(0x18, b"20270101120000.5Z"),
        der(0x18, b"20270101120000+0100"),
        der(0x18, b"20271301120000Z"),
    ] {
        let refused = vo.refuse(vo.changed(|ac| ac.not_after = odd.clone()));
        assert_eq!(refused, "ac.malformed", "{odd:?}");
    }
}

#[test]
fn a5_unknown_critical_extensions_are_refused() {
    let vo = Vo::new();
    let with = |critical| vo.changed(|ac| ac.extra.push(("1.2.3.4", critical, der(5, &[]))));
    vo.accept(with(false));
    assert_eq!(vo.refuse(with(true)), "ac.critical");
    let twice = vo.changed(|ac| {
        ac.extra.push(("1.2.3.4", false, der(5, &[])));
        ac.extra.push(("1.2.3.4", false, der(5, &[])));
    });
    assert_eq!(vo.refuse(twice), "ac.malformed");
    // The issuer's key, told by an identifier.
    let key = |id: &[u8]| {
        let value = sequence(&[der(0x80, id)]);
        vo.changed(|ac| ac.extra.push(("2.5.29.35", false, value)))
    };
    let own = vo.server.x509.subject_key_id().unwrap().as_slice().to_vec();
    vo.accept(key(&own));
    assert_eq!(vo.refuse(key(&[1; 20])), "ac.issuer");
}

#[test]
fn a5_targets_must_name_this_host() {
    let vo = Vo::new();
    let verify = |value: &[u8], critical, host: Option<&str>| {
        let ac = vo.changed(|ac| ac.extra.push((TARGETS, critical, value.to_vec())));
        let mut options = vo.options();
        if let Some(voms) = &mut options.voms {
            voms.host = host.map(str::to_owned);
        }
        vo.verify_with(&vo.proxy(&[ac]).bundle(&[&vo.user]), &options)
    };
    let node = Some("node.example.org");
    for tag in [0x86, 0x82] {
        for critical in [true, false] {
            let ours = targets(tag, &["a.example.org", "node.example.org"]);
            assert!(verify(&ours, critical, node).is_ok());
            assert_eq!(code(verify(&ours, critical, None)), "ac.target");
            let other = targets(tag, &["node2.example.org", "node.example.org.evil"]);
            assert_eq!(code(verify(&other, critical, node)), "ac.target");
        }
    }
    assert_eq!(code(verify(&targets(0x86, &[]), true, node)), "ac.target");
    // VOMS makes each target a sequence, with the name, a group or a certificate in it.
    let by_voms = |tag: u8, host: &str| {
        let target = sequence(&[der(tag, &der(0x86, host.as_bytes()))]);
        sequence(&[sequence(&[target])])
    };
    assert!(verify(&by_voms(0xa0, "node.example.org"), true, node).is_ok());
    for other in [
        by_voms(0xa0, "a.example.org"),
        by_voms(0xa1, "node.example.org"),
    ] {
        assert_eq!(code(verify(&other, true, node)), "ac.target");
    }
    assert_eq!(code(verify(&der(0x30, b"x"), true, node)), "ac.malformed");
}

#[test]
fn a6_all_attributes_are_of_the_vo_and_harmless() {
    let vo = Vo::new();
    for wrong in [
        "/vo.other",
        "/vo.lab/a\"b",
        "/vo.lab\n",
        "/vo.lab/\0",
        "",
        "/vo.labor",
    ] {
        let ac = vo.changed(|ac| ac.fqans.push(wrong.into()));
        assert_eq!(vo.refuse(ac), "ac.fqan", "{wrong:?}");
    }
    assert_eq!(
        vo.refuse(vo.changed(|ac| ac.fqans.clear())),
        "ac.no-attributes"
    );
    let none = vo.changed(|ac| ac.attributes = Some(sequence(&[])));
    assert_eq!(vo.refuse(none), "ac.no-attributes");
    let twice = vo.changed(|ac| {
        let one = voms_attribute(&ac.authority, &sequence(&[der(4, b"/vo.lab")]));
        ac.attributes = Some(sequence(&[one[2..].to_vec(), one[2..].to_vec()]));
    });
    assert_eq!(vo.refuse(twice), "ac.malformed");
    let not_octets = vo.changed(|ac| {
        let values = sequence(&[der(12, b"/vo.lab")]);
        ac.attributes = Some(voms_attribute(&ac.authority, &values));
    });
    assert_eq!(vo.refuse(not_octets), "ac.malformed");
    let many = |count: usize| {
        vo.changed(|ac| ac.fqans = (0..count).map(|n| format!("/vo.lab/g{n}")).collect())
    };
    assert_eq!(texts(&vo.accept(many(64))).len(), 64);
    assert_eq!(vo.refuse(many(65)), "ac.too-many");
}

#[test]
fn a7_all_must_verify_and_the_earliest_end_counts() {
    let vo = Vo::new();
    let ending = |seconds, group: &str| {
        vo.changed(|ac| {
            ac.not_after = generalized_time(NOW + seconds);
            ac.fqans = vec![group.into()];
        })
    };
    let credential = vo
        .verify(&[ending(9 * HOUR, "/vo.lab/a"), ending(HOUR, "/vo.lab/b")])
        .unwrap();
    assert_eq!(texts(&credential), ["/vo.lab/a", "/vo.lab/b"]);
    assert_eq!(credential.not_after().unix(), NOW + HOUR);
    // The proxy ends first.
    let credential = vo.verify(&[ending(99 * HOUR, "/vo.lab/a")]).unwrap();
    assert_eq!(credential.not_after().unix(), NOW + 12 * HOUR);
    let bad = vo.changed(|ac| ac.spoil = true);
    for acs in [[vo.good(), bad.clone()], [bad, vo.good()]] {
        assert_eq!(code(vo.verify(&acs)), "ac.signature");
    }
    let many = vec![vo.good(); 17];
    assert_eq!(code(vo.verify(&many)), "ac.too-many");
    // A server that ends before what it says.
    let short = Spec::user("/C=XX/O=Lab/CN=voms.example.org")
        .valid(NOW - DAY, NOW + 60)
        .signed_by(&vo.ca);
    let ac = AcSpec::new(&vo.user, &short, &["/vo.lab"]).signed_by(&short);
    assert_eq!(vo.accept(ac).not_after().unix(), NOW + 60);
    let mut options = vo.options();
    if let Some(voms) = &mut options.voms {
        voms.maximum_lifetime = Some(12 * HOUR);
    }
    let bundle = vo.proxy(&[vo.good()]).bundle(&[&vo.user]);
    assert_eq!(code(vo.verify_with(&bundle, &options)), "ac.lifetime");
}

#[test]
fn c13_c14_hold_for_the_servers_of_a_vo() {
    let vo = Vo::new();
    crate::common::install_policy(&vo.certificates(), &vo.ca, "/C=XX/O=Lab/CN=Jane Doe");
    let error = vo.verify(&[vo.good()]).unwrap_err();
    assert_eq!(error.code(), "ac.signer");
    assert!(error.to_string().contains("signing policy"), "{error}");
}

#[test]
fn files_that_others_may_change_are_refused() {
    let vo = Vo::new();
    let mut options = vo.options();
    options.voms = Some(VomsOptions::load_root_only(&vo.vomsdir()));
    let bundle = vo.proxy(&[vo.good()]).bundle(&[&vo.user]);
    let list = vo.vomsdir().join(format!("vo.lab/{HOST}.lsc"));
    let folder = vo.vomsdir().join("vo.lab");
    for weak in [list.as_path(), folder.as_path()] {
        let before = mode(weak);
        set_mode(weak, before | 0o022);
        assert_eq!(code(vo.verify_with(&bundle, &options)), "trust.writable");
        set_mode(weak, before);
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode()
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
