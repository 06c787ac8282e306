//! The directory of trusted CAs: names of files, renewed and cross-certified CAs, namespaces.

use std::fs;
use std::path::Path;

use credential::VerifyOptions;

use super::{Deserves, JANE, Matrix, Raw, World, jane};
use crate::common::ac::generalized_time;
use crate::common::raw::{CN, Piece, UTF8, name};
use crate::common::{Cert, DAY, NOW, Spec, hash, install_at, install_bare_ca, install_ca};

fn old_hash(ca: &Cert) -> String {
    // MD5 of the name as encoded, first four bytes, little endian.
    let name = ca.x509.subject_name().to_der().unwrap();
    let digest = openssl::hash::hash(openssl::hash::MessageDigest::md5(), &name).unwrap();
    format!(
        "{:08x}",
        u32::from_le_bytes(digest[..4].try_into().unwrap())
    )
}

fn under(ca: &Cert) -> String {
    let user = Raw::user(ca, jane()).signed_by(&ca.key);
    Raw::proxy(&jane()).signed_by(&user.key).bundle(&[&user])
}

const POLICY: &str = "access_id_CA X509 '/C=XX/O=Lab/CN=Lab CA'\npos_rights globus CA:sign\n\
                      cond_subjects globus '\"*\"'\n";

#[test]
fn names_of_files() {
    let ca = Spec::ca("/C=XX/O=Lab/CN=Lab CA").self_signed();
    let other = Spec::ca("/C=XX/O=Other/CN=Other CA").self_signed();
    let bundle = under(&ca);
    let mut m = Matrix::default();
    let with = |files: &[(String, String)]| {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        directory
    };
    let (new, old) = (hash(&ca), old_hash(&ca));
    let policy = |hash: &str| (format!("{hash}.signing_policy"), POLICY.to_owned());
    for (case, files) in [
        (
            "new hash",
            vec![(format!("{new}.0"), ca.pem()), policy(&new)],
        ),
        (
            "old hash",
            vec![(format!("{old}.0"), ca.pem()), policy(&old)],
        ),
        (
            "both",
            vec![
                (format!("{new}.0"), ca.pem()),
                (format!("{old}.0"), ca.pem()),
                policy(&old),
            ],
        ),
        (
            "certificate under the new hash, policy under the old",
            vec![(format!("{new}.0"), ca.pem()), policy(&old)],
        ),
        (
            "a collision before it",
            vec![
                (format!("{new}.0"), other.pem()),
                (format!("{new}.1"), ca.pem()),
                policy(&new),
            ],
        ),
        (
            "a collision behind it",
            vec![
                (format!("{new}.0"), ca.pem()),
                (format!("{new}.1"), other.pem()),
                policy(&new),
            ],
        ),
        (
            "two in one file",
            vec![(format!("{new}.0"), other.pem() + &ca.pem()), policy(&new)],
        ),
        (
            "with text before it",
            vec![
                (format!("{new}.0"), format!("Lab CA\n======\n{}", ca.pem())),
                policy(&new),
            ],
        ),
        (
            "CR LF",
            vec![
                (format!("{new}.0"), ca.pem().replace('\n', "\r\n")),
                policy(&new),
            ],
        ),
        (
            "any name that ends in .pem",
            vec![("lab-ca.pem".into(), ca.pem()), policy(&new)],
        ),
        (
            "any name that ends in .crt",
            vec![("lab-ca.crt".into(), ca.pem()), policy(&new)],
        ),
        (
            "rubbish under another name",
            vec![
                (format!("{new}.0"), ca.pem()),
                policy(&new),
                ("00000000.0".into(), "?".into()),
                ("x.info".into(), "?".into()),
            ],
        ),
    ] {
        let directory = with(&files);
        m.accept(case, &bundle, directory.path());
    }
    for (case, files, code) in [
        ("nothing", vec![], "chain.untrusted"),
        (
            "only the other CA",
            vec![(format!("{}.0", hash(&other)), other.pem())],
            "chain.untrusted",
        ),
        (
            "only the other CA under this hash",
            vec![(format!("{new}.0"), other.pem())],
            "chain.untrusted",
        ),
        (
            "a gap in the numbers",
            vec![
                (format!("{new}.1"), ca.pem()),
                policy(&new),
                ("x".into(), "?".into()),
            ],
            "accepted",
        ),
        (
            "a name that says nothing",
            vec![("lab-ca".into(), ca.pem()), policy(&new)],
            "chain.untrusted",
        ),
        (
            "no certificate in the file",
            vec![(format!("{new}.0"), "?".into()), policy(&new)],
            "trust.malformed",
        ),
        (
            "an empty file",
            vec![(format!("{new}.0"), String::new()), policy(&new)],
            "trust.malformed",
        ),
        (
            "no policy",
            vec![(format!("{new}.0"), ca.pem())],
            "namespace.missing",
        ),
        (
            "an empty policy",
            vec![
                (format!("{new}.0"), ca.pem()),
                (format!("{new}.signing_policy"), String::new()),
            ],
            "namespace.malformed",
        ),
        (
            "the policy of another CA",
            vec![
                (format!("{new}.0"), ca.pem()),
                (
                    format!("{new}.signing_policy"),
                    POLICY.replace("Lab CA", "Other CA"),
                ),
            ],
            "chain.namespace",
        ),
    ] {
        let directory = with(&files);
        match code {
            "accepted" => m.accept(case, &bundle, directory.path()),
            code => m.refuse(case, &bundle, directory.path(), code),
        }
    }
    m.refuse(
        "no such directory",
        &bundle,
        Path::new("/nonexistent/certificates"),
        "trust.unreadable",
    );
    m.finish(23);
}

#[test]
fn a_ca_below_another_that_was_renewed() {
    let mut m = Matrix::default();
    let root = Spec::ca("/C=XX/O=Lab/CN=Root CA").self_signed();
    let first = Spec::ca("/C=XX/O=Lab/CN=Lab CA").signed_by(&root);
    let make = |serial: u32, from: i64, to: i64| {
        Spec::ca("/C=XX/O=Lab/CN=Lab CA")
            .set(|s| s.serial = serial)
            .valid(from, to)
            .key(first.key.clone())
            .signed_by(&root)
    };
    let (old, now, new) = (
        make(1, NOW - 9 * DAY, NOW - DAY),
        make(2, NOW - 2 * DAY, NOW + 99 * DAY),
        make(3, NOW - DAY, NOW + 199 * DAY),
    );
    let user = Spec::user(JANE).signed_by(&first);
    let proxy = Spec::proxy(&user, "1").signed_by(&user);
    let with = |ca: &Cert| {
        let directory = tempfile::tempdir().unwrap();
        install_ca(directory.path(), &root);
        install_ca(directory.path(), ca);
        directory
    };
    let bundle = |ca: &Cert| proxy.bundle(&[&user, ca]);
    m.accept("the same in both", bundle(&now), with(&now).path());
    m.accept("newer in the bundle", bundle(&new), with(&now).path());
    m.accept("newer in the directory", bundle(&now), with(&new).path());
    m.accept("expired in the directory", bundle(&new), with(&old).path());
    m.refuse(
        "expired in the bundle",
        bundle(&old),
        with(&new).path(),
        "bundle.stray",
    );
    m.refuse(
        "expired in both",
        bundle(&old),
        with(&old).path(),
        "ca.expired",
    );
    let twin = Spec::ca("/C=XX/O=Lab/CN=Lab CA").signed_by(&root);
    m.refuse(
        "of another key in the bundle",
        bundle(&twin),
        with(&now).path(),
        "bundle.stray",
    );
    let other_root = Spec::ca("/C=XX/O=Other/CN=Root CA").self_signed();
    let crossed = Spec::ca("/C=XX/O=Lab/CN=Lab CA")
        .key(first.key.clone())
        .signed_by(&other_root);
    m.refuse(
        "of an unknown root in the bundle",
        bundle(&crossed),
        with(&now).path(),
        "chain.untrusted",
    );
    m.finish(8);
}

#[test]
fn several_certificates_of_one_ca() {
    let mut m = Matrix::default();
    let make = |serial: u32, from: i64, to: i64, key: &Cert| {
        Spec::ca("/C=XX/O=Lab/CN=Lab CA")
            .set(|s| s.serial = serial)
            .valid(from, to)
            .key(key.key.clone())
            .self_signed()
    };
    let first = Spec::ca("/C=XX/O=Lab/CN=Lab CA").self_signed();
    let (old, new) = (
        make(1, NOW - 9 * DAY, NOW - DAY, &first),
        make(2, NOW - 2 * DAY, NOW + 99 * DAY, &first),
    );
    let early = make(3, NOW + DAY, NOW + 199 * DAY, &first);
    let bundle = under(&new);
    let with = |cas: &[&Cert]| {
        let directory = tempfile::tempdir().unwrap();
        cas.iter().for_each(|ca| install_ca(directory.path(), ca));
        directory
    };
    m.accept("the expired one first", &bundle, with(&[&old, &new]).path());
    m.accept("the expired one last", &bundle, with(&[&new, &old]).path());
    m.accept(
        "the one of tomorrow first",
        &bundle,
        with(&[&early, &new]).path(),
    );
    m.accept("all three", &bundle, with(&[&old, &early, &new]).path());
    m.refuse(
        "only the expired one",
        &bundle,
        with(&[&old]).path(),
        "ca.expired",
    );
    m.refuse(
        "expired and of tomorrow",
        &bundle,
        with(&[&old, &early]).path(),
        "ca.not-yet-valid",
    );
    // A CA of the same name and another key.
    let twin = Spec::ca("/C=XX/O=Lab/CN=Lab CA").self_signed();
    m.accept("a namesake first", &bundle, with(&[&twin, &new]).path());
    m.accept("a namesake last", &bundle, with(&[&new, &twin]).path());
    m.refuse(
        "only a namesake",
        under(&new),
        with(&[&twin]).path(),
        "chain.signature",
    );
    // Certified by a root as well as by itself.
    let root = Spec::ca("/C=XX/O=Root/CN=Root").self_signed();
    let crossed = Spec::ca("/C=XX/O=Lab/CN=Lab CA")
        .set(|s| s.serial = 5)
        .key(new.key.clone())
        .signed_by(&root);
    m.accept(
        "cross-certified first",
        &bundle,
        with(&[&crossed, &new]).path(),
    );
    m.accept(
        "cross-certified last",
        &bundle,
        with(&[&new, &crossed]).path(),
    );
    m.accept(
        "cross-certified first, with the root",
        &bundle,
        with(&[&crossed, &new, &root]).path(),
    );
    m.accept(
        "only cross-certified, with the root",
        &bundle,
        with(&[&crossed, &root]).path(),
    );
    m.refuse(
        "only cross-certified",
        &bundle,
        with(&[&crossed]).path(),
        "chain.untrusted",
    );
    m.accept(
        "cross-certified, and itself expired",
        &bundle,
        with(&[&old, &crossed, &root]).path(),
    );
    let along = bundle.clone() + &crossed.pem();
    m.accept(
        "the cross-certificate came along",
        &along,
        with(&[&root]).set_policy(&crossed).path(),
    );
    m.refuse(
        "it came along and is not needed",
        &along,
        with(&[&new]).path(),
        "bundle.stray",
    );
    // Two CAs that certify each other, and nobody else.
    let (a, b) = (
        Spec::ca("/CN=A").self_signed(),
        Spec::ca("/CN=B").self_signed(),
    );
    let a_by_b = Spec::ca("/CN=A").key(a.key.clone()).signed_by(&b);
    let b_by_a = Spec::ca("/CN=B").key(b.key.clone()).signed_by(&a);
    m.refuse(
        "a ring of CAs",
        under(&a_by_b),
        with(&[&a_by_b, &b_by_a]).path(),
        "chain.too-long",
    );
    m.accept(
        "a ring with a way out",
        under(&a_by_b),
        with(&[&a_by_b, &b_by_a, &b]).path(),
    );
    // A CA that changed its key: the new one certified by the old.
    let next = Spec::ca("/C=XX/O=Lab/CN=Lab CA")
        .set(|s| s.serial = 6)
        .signed_by(&new);
    // Names alone do not tell the two apart.
    let user = Spec::user("/C=XX/O=Lab/CN=Jane Doe").signed_by(&next);
    let rolled = Piece::from(&user).bundle(&[&Piece::from(&next)]);
    m.accept(
        "a new key that the old one certified came along",
        &rolled,
        with(&[&new]).path(),
    );
    m.finish(20);
}

trait SetPolicy {
    fn set_policy(self, ca: &Cert) -> Self;
}

impl SetPolicy for tempfile::TempDir {
    fn set_policy(self, ca: &Cert) -> Self {
        crate::common::install_policy(self.path(), ca, "*");
        self
    }
}

#[test]
fn namespaces() {
    let mut m = Matrix::default();
    let ca = Spec::ca("/C=XX/O=Lab/CN=Lab CA").self_signed();
    let bundle = under(&ca);
    let with = |policy: Option<&str>, namespaces: Option<&str>| {
        let directory = tempfile::tempdir().unwrap();
        install_bare_ca(directory.path(), &ca);
        let write = |extension: &str, text: &str| {
            fs::write(
                directory.path().join(format!("{}.{extension}", hash(&ca))),
                text,
            )
            .unwrap()
        };
        if let Some(text) = policy {
            write("signing_policy", text);
        }
        if let Some(text) = namespaces {
            write("namespaces", text);
        }
        directory
    };
    let eacl = |ca: &str, subjects: &str| {
        format!(
            "access_id_CA\tX509\t{ca}\npos_rights\tglobus\tCA:sign\ncond_subjects\tglobus\t{subjects}\n"
        )
    };
    let lab = "'/C=XX/O=Lab/CN=Lab CA'";
    let good = [
        ("one subject", eacl(lab, "'\"/C=XX/O=Lab/*\"'")),
        ("single quotes only", eacl(lab, "'/C=XX/O=Lab/*'")),
        ("double quotes only", eacl(lab, "\"/C=XX/O=Lab/*\"")),
        (
            "several subjects",
            eacl(lab, "'\"/C=DE/*\" \"/C=XX/O=Lab/*\"'"),
        ),
        ("the whole name", eacl(lab, "'\"/C=XX/O=Lab/CN=Jane Doe\"'")),
        (
            "a question mark",
            eacl(lab, "'\"/C=XX/O=La?/CN=Jane?Doe\"'"),
        ),
        ("everything", eacl(lab, "'\"*\"'")),
        (
            "comments and blank lines",
            format!("# EACL\n\n{}\n# end\n", eacl(lab, "'\"/C=XX/*\"'")),
        ),
        ("CR LF", eacl(lab, "'\"/C=XX/*\"'").replace('\n', "\r\n")),
        (
            "the second of two",
            eacl("'/C=DE/CN=Other'", "'\"/C=DE/*\"'") + &eacl(lab, "'\"/C=XX/*\"'"),
        ),
        (
            "two for the same CA",
            eacl(lab, "'\"/C=DE/*\"'") + &eacl(lab, "'\"/C=XX/*\"'"),
        ),
        (
            "no line end at the end",
            eacl(lab, "'\"/C=XX/*\"'").trim_end().to_owned(),
        ),
    ];
    for (case, text) in &good {
        m.accept(
            &format!("policy: {case}"),
            &bundle,
            with(Some(text), None).path(),
        );
    }
    for (case, text, code) in [
        (
            "another subject",
            eacl(lab, "'\"/C=DE/*\"'"),
            "chain.namespace",
        ),
        (
            "a name that only begins like it",
            eacl(lab, "'\"/C=XX/O=Lab/CN=Jane\"'"),
            "chain.namespace",
        ),
        (
            "letters of another case",
            eacl(lab, "'\"/c=xx/o=lab/*\"'"),
            "chain.namespace",
        ),
        (
            "another CA",
            eacl("'/C=XX/O=Lab/CN=Lab'", "'\"*\"'"),
            "chain.namespace",
        ),
        (
            "the right to sign is missing",
            "access_id_CA X509 '/C=XX/O=Lab/CN=Lab CA'\ncond_subjects globus '\"*\"'\n".into(),
            "namespace.malformed",
        ),
        (
            "another right",
            eacl(lab, "'\"*\"'").replace("CA:sign", "CA:revoke"),
            "namespace.malformed",
        ),
        (
            "subjects without a CA",
            "cond_subjects globus '\"*\"'\n".into(),
            "namespace.malformed",
        ),
        (
            "no subjects",
            "access_id_CA X509 '/C=XX/O=Lab/CN=Lab CA'\npos_rights globus CA:sign\n".into(),
            "namespace.malformed",
        ),
        (
            "a word nobody knows",
            eacl(lab, "'\"*\"'") + "neg_rights globus CA:sign\n",
            "namespace.malformed",
        ),
        (
            "a quote that does not end",
            eacl(lab, "'\"/C=XX/*"),
            "namespace.malformed",
        ),
        (
            "an empty pattern",
            eacl(lab, "'\"\"'"),
            "namespace.malformed",
        ),
        ("only comments", "# nothing\n".into(), "namespace.malformed"),
        ("a web page", "<html>\n".into(), "namespace.malformed"),
        (
            "bytes that are no text",
            "\u{0}\u{1}".into(),
            "namespace.malformed",
        ),
    ] {
        m.refuse(
            &format!("policy: {case}"),
            &bundle,
            with(Some(&text), None).path(),
            code,
        );
    }
    let statement = |verb: &str, pattern: &str| {
        format!("TO Issuer \"/C=XX/O=Lab/CN=Lab CA\" \\\n  {verb} Subject \"{pattern}\"\n")
    };
    for (case, text) in [
        ("one", statement("PERMIT", "/C=XX/O=Lab/CN=.*")),
        ("anchors", statement("PERMIT", "^/C=XX/O=Lab/CN=Jane Doe$")),
        (
            "SELF",
            "TO Issuer SELF PERMIT Subject \"/C=XX/.*\"\n".into(),
        ),
        (
            "small letters",
            "to issuer \"/C=XX/O=Lab/CN=Lab CA\" permit subject \"/C=XX/.*\"\n".into(),
        ),
        (
            "four lines",
            "TO Issuer \\\n\"/C=XX/O=Lab/CN=Lab CA\" \\\nPERMIT Subject \\\n\"/C=XX/.*\"\n".into(),
        ),
        (
            "comments",
            format!(
                "#NAMESPACES-VERSION: 1.0\n#\n{}",
                statement("PERMIT", "/C=XX/.*")
            ),
        ),
        (
            "another CA beside",
            format!(
                "TO Issuer \"/CN=Other\" PERMIT Subject \".*\"\n{}",
                statement("PERMIT", "/C=XX/.*")
            ),
        ),
        (
            "a denial of others",
            statement("PERMIT", "/C=XX/.*") + &statement("DENY", "/C=XX/O=Lab/CN=Mallory"),
        ),
        ("escaped dots", statement("PERMIT", r"/C=XX/O=Lab/CN=.*")),
        ("a set", statement("PERMIT", "/C=[XY]X/O=Lab/CN=[^/]+")),
        ("alternatives", statement("PERMIT", "(/C=DE|/C=XX)/.*")),
        (
            "an optional part",
            statement("PERMIT", "/C=XX(/O=Lab)?/CN=.*"),
        ),
        (
            "CR LF",
            statement("PERMIT", "/C=XX/.*").replace('\n', "\r\n"),
        ),
    ] {
        m.accept(
            &format!("namespaces: {case}"),
            &bundle,
            with(None, Some(&text)).path(),
        );
    }
    for (case, text, code) in [
        (
            "another subject",
            statement("PERMIT", "/C=DE/.*"),
            "chain.namespace",
        ),
        (
            "only the beginning",
            statement("PERMIT", "/C=XX/O=Lab"),
            "chain.namespace",
        ),
        (
            "a denial",
            statement("PERMIT", "/C=XX/.*") + &statement("DENY", "/C=XX/O=Lab/.*"),
            "chain.namespace",
        ),
        (
            "a denial first",
            statement("DENY", "/C=XX/O=Lab/.*") + &statement("PERMIT", "/C=XX/.*"),
            "chain.namespace",
        ),
        (
            "only a denial of others",
            statement("DENY", "/C=DE/.*"),
            "chain.namespace",
        ),
        (
            "a set of other characters",
            statement("PERMIT", "/C=[YZ]X/.*"),
            "chain.namespace",
        ),
        (
            "alternatives, none of which fits",
            statement("PERMIT", "(/C=YX|/C=DE)/.*"),
            "chain.namespace",
        ),
        (
            "a class by name",
            statement("PERMIT", "/C=[[:upper:]]*/.*"),
            "namespace.malformed",
        ),
        (
            "a count",
            statement("PERMIT", "/C=X{2}/.*"),
            "namespace.malformed",
        ),
        (
            "a word is missing",
            "TO Issuer \"/CN=x\" Subject \"/C=XX/.*\"\n".into(),
            "namespace.malformed",
        ),
        (
            "half a statement behind",
            statement("PERMIT", "/C=XX/.*") + "TO Issuer\n",
            "namespace.malformed",
        ),
        (
            "a quote that does not end",
            "TO Issuer \"/CN=x PERMIT Subject\n".into(),
            "namespace.malformed",
        ),
        ("nothing", String::new(), "namespace.malformed"),
    ] {
        m.refuse(
            &format!("namespaces: {case}"),
            &bundle,
            with(None, Some(&text)).path(),
            code,
        );
    }
    let permit = statement("PERMIT", "/C=XX/.*");
    let deny = statement("DENY", "/C=XX/O=Lab/.*");
    let other = eacl(lab, "'\"/C=DE/*\"'");
    let both = &good[0].1;
    m.accept(
        "both files permit",
        &bundle,
        with(Some(both), Some(&permit)).path(),
    );
    m.accept(
        "only the namespaces permit",
        &bundle,
        with(Some(&other), Some(&permit)).path(),
    );
    m.refuse(
        "the policy permits, the namespaces deny",
        &bundle,
        with(Some(both), Some(&deny)).path(),
        "chain.namespace",
    );
    m.refuse(
        "the policy is broken, the namespaces permit",
        &bundle,
        with(Some("?"), Some(&permit)).path(),
        "namespace.malformed",
    );
    let mut lax = VerifyOptions::at(NOW);
    lax.allow_missing_namespace = true;
    m.judge(
        "neither, and that is allowed",
        &bundle,
        with(None, None).path(),
        &lax,
        Deserves::Identity(JANE),
    );
    m.judge(
        "outside, and missing ones are allowed",
        &bundle,
        with(Some(&other), None).path(),
        &lax,
        Deserves::Code("chain.namespace"),
    );
    m.finish(53);
}

#[test]
fn proxies_need_no_namespace() {
    let w = World::new();
    let mut m = Matrix::default();
    crate::common::install_policy(w.path(), &w.ca, "/C=XX/O=Lab/CN=Jane Doe");
    m.accept(
        "the proxy's longer name is nobody's business",
        w.proxy.bundle(&[&w.user]),
        w.path(),
    );
    // The CA between is a subject of its root.
    let root = Spec::ca("/C=XX/O=Root/CN=Root").self_signed();
    let sub = Spec::ca("/C=XX/O=Lab/CN=Sub").signed_by(&root);
    install_ca(w.path(), &root);
    install_ca(w.path(), &sub);
    m.accept("a CA below a root that permits it", under(&sub), w.path());
    crate::common::install_policy(w.path(), &root, "/C=XX/O=Lab/CN=Jane Doe");
    m.refuse(
        "a CA below a root that does not",
        under(&sub),
        w.path(),
        "chain.namespace",
    );
    let late = Raw::user(&w.ca, name(&[(CN, UTF8, b"x")]))
        .set(|raw| raw.not_after = generalized_time(NOW - 1))
        .signed_by(&w.ca.key);
    m.refuse(
        "expired and outside: the first is told",
        Piece::bundle(&late, &[]),
        w.path(),
        "cert.expired",
    );
    install_at(w.path(), &hash(&w.ca), &w.ca);
    m.accept("the same CA twice", w.proxy.bundle(&[&w.user]), w.path());
    m.finish(5);
}
