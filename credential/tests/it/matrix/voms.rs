//! VOMS attributes, beyond what the tests of each rule have.

use std::fs;

use credential::{VerifyOptions, VomsOptions};

use super::{Deserves, JANE, Matrix, Raw, World, jane};
use crate::common::ac::{
    AC_SEQUENCE, AcSpec, TARGETS, generalized_time as time, holder, issuer, sequence, serial,
    targets, voms_attribute,
};
use crate::common::raw::ext;
use crate::common::{Cert, HOUR, NOW, Spec, der};

type Change = fn(&mut AcSpec);

struct Vo {
    w: World,
    server: Cert,
    user: Cert,
    options: VerifyOptions,
    vomsdir: tempfile::TempDir,
}

impl Vo {
    fn new() -> Self {
        let w = World::new();
        let server = Spec::user("/C=XX/O=Lab/CN=voms.example.org")
            .set(|s| s.serial = 11)
            .signed_by(&w.ca);
        let vomsdir = tempfile::tempdir().unwrap();
        fs::create_dir(vomsdir.path().join("vo.lab")).unwrap();
        let names = "/C=XX/O=Lab/CN=voms.example.org\n/C=XX/O=Lab/CN=Lab CA\n";
        fs::write(vomsdir.path().join("vo.lab/voms.example.org.lsc"), names).unwrap();
        let mut options = VerifyOptions::at(NOW);
        options.voms = Some(VomsOptions::load(vomsdir.path()));
        let user = w.user.cert();
        Self {
            w,
            server,
            user,
            options,
            vomsdir,
        }
    }

    fn ac(&self, change: impl FnOnce(&mut AcSpec)) -> Vec<u8> {
        AcSpec::new(
            &self.user,
            &self.server,
            &["/vo.lab/prod/Role=pilot/Capability=NULL", "/vo.lab"],
        )
        .set(change)
        .signed_by(&self.server)
    }

    /// A proxy with this value of the extension.
    fn carry(&self, value: &[u8]) -> String {
        self.w
            .proxy_with(|raw| raw.extensions.push(ext(AC_SEQUENCE, false, value)))
    }

    fn with(&self, acs: &[Vec<u8>]) -> String {
        self.carry(&sequence(&[sequence(acs)]))
    }
}

#[test]
fn attributes() {
    let vo = Vo::new();
    let mut m = Matrix::default();
    let mut judge = |case: &str, bundle: String, deserves| {
        m.judge(case, bundle, vo.w.path(), &vo.options, deserves)
    };
    let is = Deserves::Identity(JANE);
    judge("none", vo.w.proxy.bundle(&[&vo.w.user]), is);
    judge("one", vo.with(&[vo.ac(|_| ())]), is);
    judge(
        "two of one VO",
        vo.with(&[vo.ac(|_| ()), vo.ac(|_| ())]),
        is,
    );
    let good: [(&str, Change); 6] = [
        ("role NULL", |ac| {
            ac.fqans = vec!["/vo.lab/Role=NULL/Capability=NULL".into()]
        }),
        ("a capability", |ac| {
            ac.fqans = vec!["/vo.lab/Role=x/Capability=y".into()]
        }),
        ("deep groups", |ac| {
            ac.fqans = vec!["/vo.lab/a/b/c/d-e_f.g".into()]
        }),
        ("begins now", |ac| ac.not_before = time(NOW)),
        ("an extension nobody knows", |ac| {
            ac.extra.push(("1.2.3.4", false, der(5, &[])))
        }),
        ("generic attributes", |ac| {
            ac.extra
                .push(("1.3.6.1.4.1.8005.100.100.11", false, sequence(&[])))
        }),
    ];
    for (case, change) in good {
        judge(case, vo.with(&[vo.ac(change)]), is);
    }
    let bad: [(&str, Change, &str); 31] = [
        ("expired", |ac| ac.not_after = time(NOW), "ac.expired"),
        (
            "of tomorrow",
            |ac| ac.not_before = time(NOW + 1),
            "ac.not-yet-valid",
        ),
        (
            "a UTCTime",
            |ac| ac.not_after = der(0x17, b"270102000000Z"),
            "ac.malformed",
        ),
        (
            "a time without seconds",
            |ac| ac.not_after = der(0x18, b"202701020000Z"),
            "ac.malformed",
        ),
        ("version 1", |ac| ac.version = der(2, &[0]), "ac.version"),
        ("no version", |ac| ac.version.clear(), "ac.malformed"),
        ("no holder", |ac| ac.holder = sequence(&[]), "ac.holder"),
        (
            "a holder by name",
            |ac| ac.holder = sequence(&[der(0xa1, &der(0xa4, &jane()))]),
            "ac.holder",
        ),
        (
            "another user's number",
            |ac| ac.holder = holder(&super::name(&[(super::CN, super::UTF8, b"x")]), &[7]),
            "ac.holder",
        ),
        ("no issuer", |ac| ac.issuer = der(0xa0, &[]), "ac.issuer"),
        (
            "another issuer",
            |ac| ac.issuer = issuer(&jane()),
            "ac.issuer",
        ),
        (
            "an issuer by DNS name",
            |ac| ac.issuer = der(0xa0, &sequence(&[der(0x82, b"voms.example.org")])),
            "ac.issuer",
        ),
        (
            "an issuer in the old form",
            |ac| ac.issuer = sequence(&[der(0xa4, &jane())]),
            "ac.issuer",
        ),
        (
            "another VO's attribute",
            |ac| ac.fqans.push("/other/Role=x".into()),
            "ac.fqan",
        ),
        (
            "a VO that begins alike",
            |ac| ac.fqans = vec!["/vo.labs".into()],
            "ac.fqan",
        ),
        (
            "a quote",
            |ac| ac.fqans = vec!["/vo.lab/Role=\"x".into()],
            "ac.fqan",
        ),
        (
            "a star",
            |ac| ac.fqans = vec!["/vo.lab/*".into()],
            "ac.fqan",
        ),
        (
            "a line break",
            |ac| ac.fqans = vec!["/vo.lab/Role=x\n".into()],
            "ac.fqan",
        ),
        (
            "dots that climb",
            |ac| ac.fqans = vec!["/vo.lab/../other".into()],
            "ac.fqan",
        ),
        ("no attribute", |ac| ac.fqans.clear(), "ac.no-attributes"),
        (
            "no VOMS attribute at all",
            |ac| ac.attributes = Some(sequence(&[])),
            "ac.no-attributes",
        ),
        (
            "a VO nobody knows",
            |ac| {
                ac.authority = "other://voms.example.org:1".into();
                ac.fqans = vec!["/other".into()];
            },
            "ac.unknown-vo",
        ),
        (
            "another server",
            |ac| ac.authority = "vo.lab://voms2.example.org:1".into(),
            "ac.no-signer",
        ),
        (
            "no port",
            |ac| ac.authority = "vo.lab://voms.example.org".into(),
            "ac.vo",
        ),
        (
            "a way out",
            |ac| ac.authority = "vo.lab://../../x:1".into(),
            "ac.vo",
        ),
        (
            "for another host",
            |ac| {
                ac.extra
                    .push((TARGETS, true, targets(0x86, &["other.example"])))
            },
            "ac.target",
        ),
        (
            "for no host",
            |ac| ac.extra.push((TARGETS, true, targets(0x86, &[]))),
            "ac.target",
        ),
        (
            "critical and unknown",
            |ac| ac.extra.push(("1.2.3.4", true, der(5, &[]))),
            "ac.critical",
        ),
        (
            "an extension twice",
            |ac| ac.extra.push(("2.5.29.56", false, der(5, &[]))),
            "ac.malformed",
        ),
        ("changed afterwards", |ac| ac.spoil = true, "ac.signature"),
        (
            "two algorithms",
            |ac| ac.algorithm_outside = sequence(&[crate::common::oid("1.2.840.10045.4.3.3")]),
            "ac.algorithms",
        ),
    ];
    for (case, change, code) in bad {
        judge(case, vo.with(&[vo.ac(change)]), Deserves::Code(code));
        let second = vo.with(&[vo.ac(|_| ()), vo.ac(change)]);
        judge(&format!("{case}, second"), second, Deserves::Code(code));
    }
    // The extension itself.
    for (case, value) in [
        ("empty", vec![]),
        ("no list", sequence(&[])),
        ("an empty list", sequence(&[sequence(&[])])),
        (
            "two lists",
            sequence(&[sequence(&[vo.ac(|_| ())]), sequence(&[vo.ac(|_| ())])]),
        ),
        (
            "bytes behind it",
            [sequence(&[sequence(&[vo.ac(|_| ())])]), vec![0]].concat(),
        ),
        ("something else", der(4, b"x")),
    ] {
        judge(
            &format!("the extension: {case}"),
            vo.carry(&value),
            Deserves::Code("ac.malformed"),
        );
    }
    let many: Vec<Vec<u8>> = (0..17).map(|_| vo.ac(|_| ())).collect();
    judge("seventeen", vo.with(&many), Deserves::Code("ac.too-many"));
    let full = vo.ac(|ac| ac.fqans = (0..65).map(|n| format!("/vo.lab/g{n}")).collect());
    judge(
        "sixty-five attributes",
        vo.with(&[full]),
        Deserves::Code("ac.too-many"),
    );
    // Whose they are.
    let mallory = Spec::user("/C=XX/O=Lab/CN=Mallory")
        .set(|s| s.serial = 99)
        .signed_by(&vo.w.ca);
    let theirs = AcSpec::new(&mallory, &vo.server, &["/vo.lab/Role=admin"]).signed_by(&vo.server);
    judge(
        "of another user",
        vo.with(&[theirs]),
        Deserves::Code("ac.holder"),
    );
    let of_proxy = vo.ac(|ac| ac.holder = holder(&jane(), &serial(&vo.w.proxy.cert())));
    judge(
        "of the proxy's number, which is the user's too",
        vo.with(&[of_proxy]),
        is,
    );
    // Who signed them.
    let by = |signer: &Cert| AcSpec::new(&vo.user, signer, &["/vo.lab"]).signed_by(signer);
    judge(
        "signed by the user",
        vo.with(&[by(&vo.user)]),
        Deserves::Code("ac.lsc"),
    );
    let stranger = Spec::user("/C=XX/O=Lab/CN=voms.example.org").self_signed();
    judge(
        "signed by a namesake of the server that signed itself",
        vo.with(&[by(&stranger)]),
        Deserves::Code("ac.signer"),
    );
    let twin = Spec::user("/C=XX/O=Lab/CN=voms.example.org").signed_by(&vo.w.ca);
    judge(
        "signed by another certificate of the server",
        vo.with(&[by(&twin)]),
        is,
    );
    let old = Spec::user("/C=XX/O=Lab/CN=voms.example.org")
        .valid(NOW - 9 * HOUR, NOW - 1)
        .signed_by(&vo.w.ca);
    judge(
        "signed by an expired server",
        vo.with(&[by(&old)]),
        Deserves::Code("ac.signer"),
    );
    let not_sent = vo.ac(|ac| ac.certificates = None);
    judge(
        "the server's certificate is not there",
        vo.with(&[not_sent]),
        Deserves::Code("ac.no-signer"),
    );
    // Where they are.
    let upper = Raw::proxy(&jane())
        .with(ext(
            AC_SEQUENCE,
            false,
            &sequence(&[sequence(&[vo.ac(|_| ())])]),
        ))
        .signed_by(&vo.w.user.key);
    let name = upper.cert().x509.subject_name().to_der().unwrap();
    let below = Raw::proxy(&name).signed_by(&upper.key);
    judge(
        "in the upper proxy",
        below.bundle(&[&upper, &vo.w.user]),
        is,
    );
    let spoiled = vo.ac(|ac| ac.spoil = true);
    let below = Raw::proxy(&name)
        .with(ext(AC_SEQUENCE, false, &sequence(&[sequence(&[spoiled])])))
        .signed_by(&upper.key);
    judge(
        "bad ones below good ones",
        below.bundle(&[&upper, &vo.w.user]),
        Deserves::Code("ac.signature"),
    );
    let critical = vo.w.proxy_with(|raw| {
        raw.extensions.push(ext(
            AC_SEQUENCE,
            true,
            &sequence(&[sequence(&[vo.ac(|_| ())])]),
        ))
    });
    judge(
        "in a critical extension",
        critical,
        Deserves::Code("cert.critical"),
    );
    let voms_attribute = voms_attribute(
        "vo.lab://voms.example.org:1",
        &sequence(&[der(0x0c, b"/vo.lab")]),
    );
    let odd = vo.ac(|ac| ac.attributes = Some(voms_attribute));
    judge(
        "attributes as UTF-8 strings",
        vo.with(&[odd]),
        Deserves::Code("ac.malformed"),
    );
    fs::write(
        vo.vomsdir.path().join("vo.lab/voms.example.org.lsc"),
        "rubbish\n",
    )
    .unwrap();
    judge(
        "a list of names that is none",
        vo.with(&[vo.ac(|_| ())]),
        Deserves::Code("ac.lsc-malformed"),
    );
    m.finish(90);
}

/// Attributes that are rare, from servers that something is wrong with.
#[test]
fn rare_attributes() {
    let vo = Vo::new();
    let mut m = Matrix::default();
    let mut judge = |case: &str, bundle: String, deserves| {
        m.judge(case, bundle, vo.w.path(), &vo.options, deserves)
    };
    let is = Deserves::Identity(JANE);
    for fqan in [
        "/vo.lab/Capability=NULL",
        "/vo.lab/Role=a b",
        "/vo.lab/g/Capability=x",
        "/vo.lab/Role",
    ] {
        let ac = vo.ac(|ac| ac.fqans = vec![fqan.into()]);
        judge(fqan, vo.with(&[ac]), is);
    }
    for fqan in [
        "/vo.lab/Role=a/Role=b",
        "/vo.lab/Capability=a/Role=b",
        "/vo.lab/Role=a/g",
        "/vo.lab//g",
        "/vo.lab/",
        "vo.lab/g",
        "/VO.LAB",
        "/",
        "",
        "/vo.lab/role=a=b",
        "/vo.lab/Group=a",
        "/vo.lab/\u{e9}",
    ] {
        let ac = vo.ac(|ac| ac.fqans = vec![fqan.into()]);
        judge(fqan, vo.with(&[ac]), Deserves::Code("ac.fqan"));
    }
    let bad: [(&str, Change, &str); 6] = [
        (
            "two issuers",
            |ac| {
                let names = [der(0xa4, &jane()), der(0xa4, &jane())].concat();
                ac.issuer = der(0xa0, &sequence(&[names]));
            },
            "ac.issuer",
        ),
        (
            "a key of another server",
            |ac| {
                ac.extra
                    .push(("2.5.29.35", false, sequence(&[der(0x80, &[9; 20])])));
            },
            "ac.issuer",
        ),
        (
            "two values of the attribute",
            |ac| {
                let one = voms_attribute(
                    "vo.lab://voms.example.org:15000",
                    &sequence(&[der(4, b"/vo.lab")]),
                );
                let mut two = one.clone();
                two.extend(&one[2..]);
                ac.attributes = Some(sequence(&[one[2..].to_vec(), one[2..].to_vec()]));
            },
            "ac.malformed",
        ),
        (
            "ends before it begins",
            |ac| {
                ac.not_before = time(NOW + 9);
                ac.not_after = time(NOW + 5);
            },
            "ac.not-yet-valid",
        ),
        (
            "a holder's number with a zero too many",
            |ac| {
                let name = Spec::ca("/C=XX/O=Lab/CN=Lab CA").self_signed();
                let name = name.x509.subject_name().to_der().unwrap();
                ac.holder = holder(&name, &[0, 7]);
            },
            "ac.holder",
        ),
        (
            "for this host's namesake elsewhere",
            |ac| {
                ac.extra
                    .push((TARGETS, true, targets(0x86, &["here.example.evil.net"])));
            },
            "ac.target",
        ),
    ];
    for (case, change, code) in bad {
        judge(case, vo.with(&[vo.ac(change)]), Deserves::Code(code));
    }
    // The server is on the list of its CA.
    let list = crate::common::crl::CrlSpec::new(&vo.w.ca, &[&vo.server]).signed_by(&vo.w.ca);
    let path =
        vo.w.path()
            .join(format!("{}.r0", crate::common::hash(&vo.w.ca)));
    fs::write(&path, list).unwrap();
    judge(
        "from a revoked server",
        vo.with(&[vo.ac(|_| ())]),
        Deserves::Code("ac.signer"),
    );
    fs::remove_file(&path).unwrap();
    // Other lines of the list of names.
    let lsc = vo.vomsdir.path().join("vo.lab/voms.example.org.lsc");
    let names = fs::read_to_string(&lsc).unwrap();
    for (case, text, deserves) in [
        (
            "two chains, the second fits",
            format!("/CN=a\n/CN=b\n------NEXT CHAIN------\n{names}"),
            is,
        ),
        (
            "two chains, neither fits",
            "/CN=a\n/CN=b\n------ NEXT CHAIN ------\n/CN=c\n/CN=d\n".to_owned(),
            Deserves::Code("ac.lsc"),
        ),
        (
            "blanks and an empty line",
            format!("\n  {}\n", names.replace('\n', "  \n")),
            is,
        ),
        (
            "only the server",
            names.lines().next().unwrap().to_owned(),
            Deserves::Code("ac.lsc-malformed"),
        ),
        (
            "small letters",
            names.to_lowercase(),
            Deserves::Code("ac.lsc"),
        ),
    ] {
        fs::write(&lsc, text).unwrap();
        judge(
            &format!("the list: {case}"),
            vo.with(&[vo.ac(|_| ())]),
            deserves,
        );
    }
    m.finish(28);
}
