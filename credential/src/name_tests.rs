use openssl::x509::X509Name;
use proptest::prelude::*;

use super::*;

/// Attribute types the random names are made of.
const TYPES: &[&[u8]] = &[&[0x55, 4, 3], &[0x55, 4, 10], &[0x55, 4, 11], &[0x2a, 3, 4]];

type Rdns = Vec<Vec<(usize, String)>>;

fn encode(rdns: &Rdns, tag_of: impl Fn(&str) -> u8) -> Vec<u8> {
    let wrap = |tag, content: &[u8]| {
        let mut out = Vec::new();
        push_header(&mut out, tag, content.len());
        out.extend_from_slice(content);
        out
    };
    let sets: Vec<u8> = rdns
        .iter()
        .flat_map(|members| {
            let set: Vec<u8> = members
                .iter()
                .flat_map(|(kind, value)| {
                    let oid = wrap(tag::OID, TYPES[*kind]);
                    let value = wrap(tag_of(value), value.as_bytes());
                    wrap(tag::SEQUENCE, &[oid, value].concat())
                })
                .collect();
            wrap(tag::SET, &set)
        })
        .collect();
    wrap(tag::SEQUENCE, &sets)
}

fn names() -> impl Strategy<Value = Rdns> {
    // Few characters, chosen to collide if anything can.
    let value = prop_oneof![
        "[a/+=\\\\xC3 ]{0,6}",
        "[\u{c3}\u{e9}a\\\\x]{0,4}",
        "CN=[ab/+]{0,3}",
        "\\\\x[0-9A-F]{2}",
    ];
    let attribute = (0..TYPES.len(), value);
    prop::collection::vec(prop::collection::vec(attribute, 1..3), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn c19_different_names_never_have_the_same_text(a in names(), b in names()) {
        let text = |rdns| Name::parse(&encode(rdns, |_| 12)).unwrap().text().unwrap();
        prop_assert_eq!(text(&a) == text(&b), a == b);
    }

    #[test]
    fn the_text_can_be_read_back(rdns in names()) {
        let text = Name::parse(&encode(&rdns, |_| 12)).unwrap().text().unwrap();
        prop_assert_eq!(read_back(&text), rdns);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
        if let Ok(name) = Name::parse(&bytes) {
            let _ = (name.text(), name.display(), name.hash());
        }
    }
}

/// The inverse of `text`, written independently of it.
fn read_back(text: &str) -> Rdns {
    let mut rdns: Rdns = Vec::new();
    let mut bytes = text.bytes().peekable();
    while let Some(separator) = bytes.next() {
        let mut kind = Vec::new();
        for byte in bytes.by_ref().take_while(|byte| *byte != b'=') {
            kind.push(byte);
        }
        let names: [&[u8]; 4] = [b"CN", b"O", b"OU", b"1.2.3.4"];
        let kind = names.iter().position(|name| *name == kind).unwrap();
        let mut value = Vec::new();
        while let Some(byte) = bytes.next_if(|byte| !matches!(byte, b'/' | b'+')) {
            if byte != b'\\' {
                value.push(byte);
                continue;
            }
            match bytes.next().unwrap() {
                b'x' => {
                    let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                    let digits = std::str::from_utf8(&digits).unwrap().to_owned();
                    value.push(u8::from_str_radix(&digits, 16).unwrap());
                }
                plain => value.push(plain),
            }
        }
        let attribute = (kind, String::from_utf8(value).unwrap());
        match separator {
            b'/' => rdns.push(vec![attribute]),
            _ => rdns.last_mut().unwrap().push(attribute),
        }
    }
    rdns
}

#[test]
fn hashes_are_those_of_openssl() {
    let mixed = |value: &str| {
        if value.len().is_multiple_of(2) {
            12
        } else {
            19
        }
    };
    for rdns in [
        vec![vec![(0, "Jane Doe".to_owned())]],
        vec![
            vec![(1, " Big   LAB ".into())],
            vec![(0, "A".into()), (2, "b".into())],
        ],
        vec![
            vec![(1, "X".into())],
            vec![(3, "odd type".into())],
            vec![(0, "\tq\u{b}".into())],
        ],
        vec![vec![(0, String::new())]],
    ] {
        let der = encode(&rdns, mixed);
        let ours = Name::parse(&der).unwrap();
        let theirs = X509Name::from_der(&der).unwrap();
        assert_eq!(ours.hash(), Some(openssl_hash(&theirs)), "{rdns:?}");
    }
}

/// By way of a certificate, the only place where the bindings offer the hash.
fn openssl_hash(name: &openssl::x509::X509NameRef) -> u32 {
    let mut builder = openssl::x509::X509::builder().unwrap();
    builder.set_subject_name(name).unwrap();
    builder.build().subject_name_hash()
}

#[test]
fn a_proxy_name_is_one_cn_longer() {
    let name = |rdns: &[&[(usize, &str)]]| {
        let rdns: Rdns = rdns
            .iter()
            .map(|rdn| {
                rdn.iter()
                    .map(|(kind, value)| (*kind, (*value).to_owned()))
                    .collect()
            })
            .collect();
        Name::parse(&encode(&rdns, |_| 12)).unwrap()
    };
    let user = name(&[&[(1, "Lab")], &[(0, "Jane")]]);
    assert!(name(&[&[(1, "LAB")], &[(0, "jane")], &[(0, "1")]]).extends_by_cn(&user));
    assert!(!name(&[&[(1, "Lab")], &[(0, "Jane")], &[(2, "1")]]).extends_by_cn(&user));
    assert!(!name(&[&[(1, "Lab")], &[(0, "Jane")], &[(0, "1"), (0, "2")]]).extends_by_cn(&user));
    assert!(!name(&[&[(1, "Lab")], &[(0, "Jane"), (0, "1")]]).extends_by_cn(&user));
    let legacy = |cn| name(&[&[(1, "Lab")], &[(0, "Jane")], &[(0, cn)]]).legacy_proxy_of(&user);
    assert_eq!(legacy("Proxy"), Some(false));
    assert_eq!(legacy("limited proxy"), Some(true));
    assert_eq!(legacy("a proxy"), None);
}

#[test]
fn values_that_are_not_text_have_none() {
    let octets = encode(&vec![vec![(0, "octets".to_owned())]], |_| tag::OCTET_STRING);
    assert_eq!(
        Name::parse(&octets).unwrap().text(),
        Err(NameProblem::NotText)
    );
    let broken_utf8 = [0x30, 12, 0x31, 10, 0x30, 8, 6, 3, 0x55, 4, 3, 12, 1, 0xff];
    assert_eq!(
        Name::parse(&broken_utf8).unwrap().text(),
        Err(NameProblem::NotText)
    );
}

#[test]
fn messages_get_a_short_printable_name() {
    let long = vec![vec![(0, "x".repeat(5_000))]];
    let name = Name::parse(&encode(&long, |_| 12)).unwrap();
    assert_eq!(name.display().len(), DISPLAY_LIMIT + 3);
    let bell = vec![vec![(0, "\u{7}".to_owned())]];
    assert_eq!(
        Name::parse(&encode(&bell, |_| 12)).unwrap().display(),
        "(unprintable name)"
    );
}
