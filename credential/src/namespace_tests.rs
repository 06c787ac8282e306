use super::*;
use crate::der::{push_header, tag};

/// A name of UTF8Strings.
fn name(parts: &[(&str, &str)]) -> Name {
    let wrap = |tag, content: &[u8]| {
        let mut out = Vec::new();
        push_header(&mut out, tag, content.len());
        out.extend_from_slice(content);
        out
    };
    let rdns: Vec<u8> = parts
        .iter()
        .flat_map(|(kind, value)| {
            let oid: &[u8] = match *kind {
                "CN" => &[0x55, 4, 3],
                "O" => &[0x55, 4, 10],
                _ => &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1],
            };
            let member = [wrap(tag::OID, oid), wrap(12, value.as_bytes())].concat();
            wrap(tag::SET, &wrap(tag::SEQUENCE, &member))
        })
        .collect();
    Name::parse(&wrap(tag::SEQUENCE, &rdns)).unwrap()
}

fn ca() -> Name {
    name(&[("O", "Lab"), ("CN", "CA")])
}

fn policy(text: &str) -> Result<Namespace, Malformed> {
    let mut namespace = Namespace::default();
    namespace.add_signing_policy(text.as_bytes())?;
    Ok(namespace)
}

fn namespaces(text: &str) -> Result<Namespace, Malformed> {
    let mut namespace = Namespace::default();
    namespace.add_namespaces(text.as_bytes())?;
    Ok(namespace)
}

fn jane() -> Name {
    name(&[("O", "Lab"), ("CN", "Jane Doe")])
}

#[test]
fn c14_a_signing_policy_permits_what_it_lists() {
    let head = "# a comment\n\n access_id_CA   X509   '/O=Lab/CN=CA'\n\
                pos_rights globus CA:sign\r\n";
    for patterns in [
        "'\"/O=Lab/*\"'",
        "'\"/O=Other/*\" \"/O=Lab/*\"'",
        "'\"/O=Lab/CN=Jane Doe\"'",
        "'\"/O=Lab/CN=Jane ???\"'",
        "'/O=Lab/*'",
        "\"/O=Lab/*\"",
        "/O=Lab/*",
        "'\"*Doe\"'",
    ] {
        let namespace = policy(&format!("{head}cond_subjects globus {patterns}")).unwrap();
        assert!(namespace.permits(&ca(), &jane()), "{patterns}");
        let stranger = name(&[("O", "Else"), ("CN", "X")]);
        assert!(!namespace.permits(&ca(), &stranger), "{patterns}");
        assert!(!namespace.permits(&name(&[("O", "Lab"), ("CN", "CB")]), &jane()));
    }
    let namespace = policy(&format!("{head}cond_subjects globus '\"/O=Lab/CN=J\"'")).unwrap();
    assert!(!namespace.permits(&ca(), &jane()), "a prefix is not enough");
}

#[test]
fn c14_several_cas_may_share_a_signing_policy() {
    let entry = |ca: &str, subject: &str| {
        format!(
            "access_id_CA X509 '{ca}'\npos_rights globus CA:sign\ncond_subjects globus '\"{subject}\"'\n"
        )
    };
    let text = entry("/O=Lab/CN=CB", "/O=Else/*") + &entry("/O=Lab/CN=CA", "/O=Lab/*");
    let namespace = policy(&text).unwrap();
    assert!(namespace.permits(&ca(), &jane()));
    assert!(!namespace.permits(&ca(), &name(&[("O", "Else")])));
}

#[test]
fn c14_what_is_not_understood_is_malformed() {
    let good = "access_id_CA X509 '/O=Lab/CN=CA'\npos_rights globus CA:sign\n";
    for (text, line) in [
        ("", 0),
        ("# nothing\n", 1),
        ("<html>", 1),
        ("cond_subjects globus '\"*\"'", 1),
        (
            "access_id_CA X509 '/O=Lab/CN=CA'\ncond_subjects globus '\"*\"'",
            2,
        ),
        (
            "access_id_CA X509 '/O=Lab/CN=CA'\npos_rights globus CA:read\ncond_subjects globus '\"*\"'",
            3,
        ),
        ("access_id_ANYBODY globus '*'\n", 1),
    ] {
        assert_eq!(policy(text).unwrap_err(), Malformed { line }, "{text:?}");
    }
    for rest in [
        "",
        "cond_subjects globus '\"*\n",
        "cond_subjects globus '\"*\" x'\n",
        "cond_subjects globus ''\n",
        "cond_subjects globus '\"\"'\n",
        "cond_subjects globus\n",
        "cond_subjects other '\"*\"'\n",
        "neg_rights globus CA:sign\ncond_subjects globus '\"*\"'\n",
        "cond_subjects globus '\"*\"'\n}\n",
    ] {
        assert!(policy(&format!("{good}{rest}")).is_err(), "{rest:?}");
    }
    assert!(Namespace::default().add_signing_policy(b"a\n\xff").is_err());
}

#[test]
fn c14_namespaces_permit_and_deny() {
    let statement = |what: &str, pattern: &str| {
        format!("TO Issuer \"/O=Lab/CN=CA\" \\\n  {what} Subject \"{pattern}\"\n")
    };
    for pattern in [
        "/O=Lab/.*",
        "/O=Lab/CN=Jane Doe",
        "^/O=Lab/CN=Jane.Doe$",
        "/O=(Lab|Else)/.*",
        "/O=[Ll]ab/.*",
        ".*",
    ] {
        let text = format!(
            "#NAMESPACES-VERSION: 1.0\n\n{}",
            statement("PERMIT", pattern)
        );
        assert!(
            namespaces(&text).unwrap().permits(&ca(), &jane()),
            "{pattern}"
        );
    }
    let namespace = namespaces("to issuer SELF permit subject \"/O=Lab/.*\" # all").unwrap();
    assert!(namespace.permits(&ca(), &jane()));
    assert!(!namespace.permits(&ca(), &name(&[("O", "Else")])));
    let text = statement("PERMIT", "/O=Lab/.*") + &statement("DENY", ".*Doe");
    assert!(!namespaces(&text).unwrap().permits(&ca(), &jane()));
    let other = statement("PERMIT", ".*").replace("CN=CA", "CN=CB");
    assert!(!namespaces(&other).unwrap().permits(&ca(), &jane()));
    // A dot is any one character, and everything must fit.
    let text = statement("PERMIT", "/O=Lab/CN=Jane");
    assert!(!namespaces(&text).unwrap().permits(&ca(), &jane()));
    // A star is no wildcard, as it is in signing policies.
    let text = statement("PERMIT", "/O=Lab*");
    assert!(!namespaces(&text).unwrap().permits(&ca(), &jane()));
    for bad in [
        "",
        "TO Issuer",
        "TO Issuer \"/O=Lab/CN=CA\" ALLOW Subject \"x\"",
        "TO Issuer /O=Lab PERMIT Subject \"x\"",
        "TO Issuer \"/O=Lab\" PERMIT Subject x",
        "TO Issuer \"/O=Lab PERMIT Subject x",
        &statement("PERMIT", "/O=(Lab|Else/.*"),
        &statement("PERMIT", "/O=[Ll/.*"),
        &statement("PERMIT", "*"),
        &statement("PERMIT", "\\d"),
        &(statement("PERMIT", ".*") + "TO"),
    ] {
        assert!(namespaces(bad).is_err(), "{bad:?}");
    }
    let escaped = statement("PERMIT", "/O=Lab/CN=a \\(b\\)\\.");
    let namespace = namespaces(&escaped).unwrap();
    assert!(namespace.permits(&ca(), &name(&[("O", "Lab"), ("CN", "a (b).")])));
}

#[test]
fn c14_old_and_new_spellings_of_a_name_are_one() {
    let mail = name(&[("O", "Lab"), ("E", "a@b"), ("CN", "host/a.example")]);
    for pattern in [
        "/O=Lab/Email=a@b/*",
        "/O=Lab/E=a@b/CN=host/a.example",
        "/O=Lab/emailAddress=a@b/CN=host\\/a.example",
    ] {
        let text = format!(
            "access_id_CA X509 '/O=Lab/CN=CA'\npos_rights globus CA:sign\ncond_subjects globus '\"{pattern}\"'"
        );
        assert!(policy(&text).unwrap().permits(&ca(), &mail), "{pattern}");
    }
    // One attribute that looks like two is not taken for two.
    let text = "access_id_CA X509 '/O=Lab/CN=CA'\npos_rights globus CA:sign\n\
                cond_subjects globus '\"/O=Lab/CN=*\"'";
    let forged = name(&[("O", "Lab/CN=Jane Doe")]);
    assert!(!policy(text).unwrap().permits(&ca(), &forged));
    assert!(policy(text).unwrap().permits(&ca(), &jane()));
}

#[test]
fn runs_are_matched_without_going_astray() {
    let pattern = Pattern::glob("*a*ab*b");
    for (text, expected) in [
        ("aabb", true),
        ("xaxabxb", true),
        ("ab", false),
        ("aab", false),
        ("aabab", true),
    ] {
        assert_eq!(pattern.matches(text), expected, "{text}");
    }
    // Quadratic at worst, not exponential.
    assert!(!Pattern::glob(&"*a".repeat(40)).matches(&"a".repeat(39)));
    assert!(Pattern::glob("").matches("") && !Pattern::glob("").matches("a"));
    assert!(Pattern::glob("*").matches(""));
}
