//! The text of identities.

use credential::{TrustStore, VerifyOptions};
use openssl::asn1::Asn1Type;
use openssl::nid::Nid;
use openssl::x509::X509Name;

use crate::common::{NOW, Spec, der};
use crate::verify_with;
use crate::{code, verify};

fn identity_of(name: X509Name) -> Result<String, &'static str> {
    let ca = Spec::ca("/O=Lab/CN=Lab CA").self_signed();
    let user = Spec::new(name).signed_by(&ca);
    let proxy_free = user.bundle(&[]);
    match verify(&proxy_free, &ca) {
        Ok(credential) => Ok(credential.identity().to_string()),
        Err(error) => Err(error.code()),
    }
}

fn cn(value: &str, kind: Asn1Type) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_nid_with_type(Nid::COMMONNAME, value, kind)
        .unwrap();
    name.build()
}

#[test]
fn c18_values_are_escaped_so_that_no_two_names_look_alike() {
    for (value, text) in [
        ("Jane Doe", "/CN=Jane Doe"),
        ("host/x.example", r"/CN=host\/x.example"),
        ("a+b", r"/CN=a\+b"),
        (r"a\b", r"/CN=a\\b"),
        (r"\xC3", r"/CN=\\xC3"),
        ("J\u{f6}rg", r"/CN=J\xC3\xB6rg"),
        ("\u{65e5}", r"/CN=\xE6\x97\xA5"),
        (
            r#"O'Brien, "Pat" <p@x.example>=1"#,
            r#"/CN=O'Brien, "Pat" <p@x.example>=1"#,
        ),
    ] {
        assert_eq!(
            identity_of(cn(value, Asn1Type::UTF8STRING)).as_deref(),
            Ok(text)
        );
    }
}

#[test]
fn string_types_do_not_matter() {
    for kind in [
        Asn1Type::PRINTABLESTRING,
        Asn1Type::IA5STRING,
        Asn1Type::T61STRING,
    ] {
        assert_eq!(identity_of(cn("Jane", kind)).as_deref(), Ok("/CN=Jane"));
    }
    // UTF-16 (BMPString) and UTF-8 of one character.
    let bmp = raw_name(&[(&[0x55, 4, 3], 30, &[0, 0xf6, 0x65, 0xe5])]);
    assert_eq!(identity_of(bmp).as_deref(), Ok(r"/CN=\xC3\xB6\xE6\x97\xA5"));
}

#[test]
fn c19_names_with_control_characters_or_without_anything_are_refused() {
    for value in ["a\nb", "a\0b", "\u{7f}", "\u{85}", "a\tb"] {
        let name = raw_name(&[(&[0x55, 4, 3], 12, value.as_bytes())]);
        assert_eq!(identity_of(name), Err("name.control"), "{value:?}");
    }
    assert_eq!(identity_of(raw_name(&[])), Err("name.empty"));
}

#[test]
fn c18_known_types_have_short_names_and_unknown_ones_numbers() {
    let name = raw_name(&[
        (
            &[9, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 100, 1, 25],
            22,
            b"org",
        ),
        (
            &[9, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 100, 1, 1],
            12,
            b"jd",
        ),
        (
            &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1],
            22,
            b"jd@x.example",
        ),
        (&[0x2b, 6, 1, 4, 1, 0x86, 0x8d, 0x1f, 1], 12, b"v"),
    ]);
    let text = "/DC=org/UID=jd/emailAddress=jd@x.example/1.3.6.1.4.1.99999.1=v";
    assert_eq!(identity_of(name).as_deref(), Ok(text));
}

#[test]
fn c18_attributes_of_one_rdn_are_joined_by_a_plus() {
    let member = |oid: &[u8], value: &[u8]| der(0x30, &[der(6, oid), der(12, value)].concat());
    let set = [
        member(&[0x55, 4, 3], b"Jane"),
        member(&[0x55, 4, 11], b"Lab"),
    ]
    .concat();
    let name = X509Name::from_der(&der(0x30, &der(0x31, &set))).unwrap();
    assert_eq!(identity_of(name).as_deref(), Ok("/CN=Jane+OU=Lab"));
}

#[test]
fn c5_issuer_names_match_across_string_types_case_and_blanks() {
    let ca = Spec::ca("/O=Lab/CN=Lab CA").self_signed();
    let spelled = raw_name(&[
        (&[0x55, 4, 10], 12, b"LAB"),
        (&[0x55, 4, 3], 19, b" lab  CA "),
    ]);
    let twin = Spec::new(spelled).set(|s| s.key = ca.key.clone());
    let issuer = crate::common::Cert {
        x509: twin.self_signed().x509,
        key: ca.key.clone(),
    };
    let user = Spec::user("/O=Lab/CN=Jane")
        .set(|s| s.key_identifiers = false)
        .signed_by(&issuer);
    let trust = TrustStore::from_pem(ca.pem().as_bytes()).unwrap();
    let verdict = verify_with(&user.bundle(&[]), &trust, &VerifyOptions::at(NOW));
    assert!(verdict.is_ok(), "{verdict:?}");
    let other = Spec::ca("/O=Lab/CN=LabCA").self_signed();
    assert_eq!(code(verify(&user.bundle(&[]), &other)), "chain.untrusted");
}

fn raw_name(attributes: &[(&[u8], u8, &[u8])]) -> X509Name {
    let rdns: Vec<u8> = attributes
        .iter()
        .flat_map(|(oid, tag, value)| {
            der(0x31, &der(0x30, &[der(6, oid), der(*tag, value)].concat()))
        })
        .collect();
    X509Name::from_der(&der(0x30, &rdns)).unwrap()
}
