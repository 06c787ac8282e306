//! Names in every spelling, and names that nobody may be mapped by.

use credential::{TrustStore, VerifyOptions, verify_proxy};

use super::{C, Deserves, Matrix, O, PRINTABLE, Raw, World};
use crate::common::NOW;
use crate::common::ac::sequence;
use crate::common::raw::{CN, UTF8, name, rdn};

const TELETEX: u8 = 20;
const IA5: u8 = 22;
const BMP: u8 = 30;
const UNIVERSAL: u8 = 28;
const NUMERIC: u8 = 18;
const BIT_STRING: u8 = 3;
const EMAIL: &str = "1.2.840.113549.1.9.1";
const UID: &str = "0.9.2342.19200300.100.1.1";
const DC: &str = "0.9.2342.19200300.100.1.25";

fn bundle(w: &World, subject: &[u8]) -> String {
    let user = Raw::user(&w.ca, subject.to_vec()).signed_by(&w.ca.key);
    let proxy = Raw::proxy(subject).signed_by(&user.key);
    proxy.bundle(&[&user])
}

#[test]
fn identities() {
    let w = World::new();
    let mut m = Matrix::default();
    let options = VerifyOptions::at(NOW);
    let cn = |tag, value: &[u8]| name(&[(CN, tag, value)]);
    for (case, subject, text) in [
        (
            "a slash",
            cn(UTF8, b"host/a.example"),
            r"/CN=host\/a.example",
        ),
        (
            "what looks like two attributes",
            cn(UTF8, b"a/CN=root"),
            r"/CN=a\/CN=root",
        ),
        ("a plus", cn(UTF8, b"a+b"), r"/CN=a\+b"),
        ("a backslash", cn(UTF8, br"a\b"), r"/CN=a\\b"),
        (
            "what looks like an escape",
            cn(UTF8, br"\x41"),
            r"/CN=\\x41",
        ),
        (
            "quotes and commas",
            cn(UTF8, br#""a", 'b'"#),
            r#"/CN="a", 'b'"#,
        ),
        ("an equals sign", cn(UTF8, b"a=b"), "/CN=a=b"),
        ("blanks at the ends", cn(UTF8, b" a "), "/CN= a "),
        (
            "an umlaut in UTF-8",
            cn(UTF8, "Jörg".as_bytes()),
            r"/CN=J\xC3\xB6rg",
        ),
        (
            "an umlaut in Latin-1",
            cn(TELETEX, b"J\xf6rg"),
            r"/CN=J\xC3\xB6rg",
        ),
        (
            "an umlaut in UTF-16",
            cn(BMP, b"\0J\0\xf6\0r\0g"),
            r"/CN=J\xC3\xB6rg",
        ),
        (
            "an umlaut in UTF-32",
            cn(UNIVERSAL, b"\0\0\0J\0\0\0\xf6"),
            r"/CN=J\xC3\xB6",
        ),
        ("IA5", cn(IA5, b"Jane"), "/CN=Jane"),
        ("digits", cn(NUMERIC, b"12 34"), "/CN=12 34"),
        ("an empty value", cn(UTF8, b""), "/CN="),
        (
            "an e-mail address",
            name(&[(CN, UTF8, b"J"), (EMAIL, IA5, b"j@lab.example")]),
            "/CN=J/emailAddress=j@lab.example",
        ),
        ("a user id", name(&[(UID, UTF8, b"jane")]), "/UID=jane"),
        (
            "domain components",
            name(&[(DC, IA5, b"org"), (DC, IA5, b"lab"), (CN, UTF8, b"J")]),
            "/DC=org/DC=lab/CN=J",
        ),
        (
            "a type without a short name",
            name(&[("1.2.3.4", UTF8, b"x")]),
            "/1.2.3.4=x",
        ),
        (
            "two attributes in one RDN",
            sequence(&[rdn(&[(CN, UTF8, b"Jane"), (UID, UTF8, b"j")])]),
            "/CN=Jane+UID=j",
        ),
        (
            "the same name twice",
            name(&[(CN, UTF8, b"a"), (CN, UTF8, b"a")]),
            "/CN=a/CN=a",
        ),
        ("a very long value", cn(UTF8, &[b'x'; 300]), "LONG"),
    ] {
        let long = format!("/CN={}", "x".repeat(300));
        let text = if text == "LONG" { &long } else { text };
        m.judge(
            case,
            bundle(&w, &subject),
            w.path(),
            &options,
            Deserves::Identity(text),
        );
    }
    for (case, subject, code) in [
        ("no RDN", sequence(&[]), "name.empty"),
        ("a line break", cn(UTF8, b"a\nb"), "name.control"),
        ("NUL", cn(UTF8, b"root\0x"), "name.control"),
        ("an escape character", cn(UTF8, b"\x1b[2J"), "name.control"),
        ("DEL", cn(PRINTABLE, b"a\x7f"), "name.control"),
        (
            "a control character in UTF-16",
            cn(BMP, b"\0a\0\n"),
            "name.control",
        ),
        (
            "a control character above ASCII",
            cn(UTF8, "a\u{85}".as_bytes()),
            "name.control",
        ),
        (
            "bytes that are not UTF-8",
            cn(UTF8, b"\xff"),
            "name.not-text",
        ),
        (
            "half a character of UTF-16",
            cn(BMP, b"\0a\0"),
            "name.not-text",
        ),
        ("a surrogate", cn(BMP, b"\xd8\0"), "name.not-text"),
        ("a bit string", cn(BIT_STRING, b"\0x"), "name.not-text"),
        ("an empty RDN", sequence(&[rdn(&[])]), "cert.malformed"),
        ("no SET", sequence(&[sequence(&[])]), "cert.malformed"),
    ] {
        m.judge(
            case,
            bundle(&w, &subject),
            w.path(),
            &options,
            Deserves::Code(code),
        );
    }
    m.finish(35);
}

/// Different names have different texts, even where people or tools would read them alike.
#[test]
fn look_alikes() {
    let w = World::new();
    let trust = TrustStore::load(w.path());
    let mut m = Matrix::default();
    let texts: Vec<String> = [
        name(&[(CN, UTF8, b"a"), (CN, UTF8, b"b")]),
        name(&[(CN, UTF8, b"a/CN=b")]),
        sequence(&[rdn(&[(CN, UTF8, b"a"), (CN, UTF8, b"b")])]),
        name(&[(CN, UTF8, b"a+CN=b")]),
        name(&[(CN, UTF8, br"a\/CN=b")]),
        name(&[(CN, UTF8, br"a\+CN=b")]),
        name(&[(CN, UTF8, "é".as_bytes())]),
        name(&[(CN, UTF8, br"\xC3\xA9")]),
        name(&[(CN, UTF8, "e\u{301}".as_bytes())]),
        name(&[(CN, UTF8, b"A")]),
        name(&[(CN, UTF8, b"a")]),
        name(&[(CN, UTF8, b" a")]),
        name(&[(CN, UTF8, "а".as_bytes())]), // Cyrillic
        name(&[(O, UTF8, b"a")]),
        name(&[(C, PRINTABLE, b"a")]),
        name(&[(EMAIL, IA5, b"a")]),
        name(&[("1.2.840.113549.1.9.2", IA5, b"a")]),
    ]
    .iter()
    .map(|subject| {
        let verdict = verify_proxy(
            bundle(&w, subject).as_bytes(),
            &trust,
            &VerifyOptions::at(NOW),
        );
        verdict.unwrap().identity().to_string()
    })
    .collect();
    for (index, text) in texts.iter().enumerate() {
        let twin = texts.iter().position(|other| other == text);
        m.note(text, twin == Some(index), "a text of its own", "another's");
    }
    m.finish(17);
}
