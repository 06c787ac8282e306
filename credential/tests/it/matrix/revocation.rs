//! Revocation lists: there and not, right and wrong, of this CA and of another.

use std::fs;

use credential::VerifyOptions;

use super::{Deserves, JANE, Matrix, World};
use crate::common::ac::{generalized_time as time, sequence};
use crate::common::crl::{CrlSpec, pem};
use crate::common::{Cert, DAY, NOW, Spec, der, hash, oid};

type Change = fn(&mut CrlSpec);

#[test]
fn lists() {
    let w = World::new();
    let mut m = Matrix::default();
    let bundle = w.proxy.bundle(&[&w.user]);
    let jane = w.user.cert();
    let write = |number: u32, content: &[u8]| {
        fs::write(w.path().join(format!("{}.r{number}", hash(&w.ca))), content).unwrap();
    };
    let list = |revoked: &[&Cert], change: Change| {
        CrlSpec::new(&w.ca, revoked).set(change).signed_by(&w.ca)
    };
    let stranger = Spec::user("/CN=other").set(|s| s.serial = 77).self_signed();
    m.accept("none", &bundle, w.path());
    let mut strict = VerifyOptions::at(NOW);
    strict.require_crl = true;
    m.judge(
        "none where one is required",
        &bundle,
        w.path(),
        &strict,
        Deserves::Code("crl.missing"),
    );
    let good: [(&str, Change); 9] = [
        ("an empty list", |crl| crl.revoked.clear()),
        ("others", |_| ()),
        ("no extensions", |crl| crl.extensions.clear()),
        ("version 1", |crl| {
            crl.version.clear();
            crl.extensions.clear();
        }),
        ("valid from now", |crl| crl.this_update = time(NOW)),
        ("a serial number that begins like Jane's", |crl| {
            crl.revoked = vec![(vec![7, 7], vec![])]
        }),
        ("Jane's serial number, negative", |crl| {
            crl.revoked = vec![(vec![0xf9], vec![])]
        }),
        ("an authority key identifier", |crl| {
            crl.extensions
                .push(("2.5.29.35", false, sequence(&[der(0x80, &[1; 20])])))
        }),
        ("the place where it is found", |crl| {
            crl.extensions.push((
                "2.5.29.28",
                true,
                sequence(&[der(0xa0, &der(0xa0, &der(0x86, b"http://lab.example/crl")))]),
            ))
        }),
    ];
    for (case, change) in good {
        write(0, &list(&[&stranger], change));
        m.accept(case, &bundle, w.path());
    }
    write(0, pem(&list(&[&stranger], |_| ())).as_bytes());
    m.accept("PEM", &bundle, w.path());
    m.judge(
        "PEM where one is required",
        &bundle,
        w.path(),
        &strict,
        Deserves::Identity(JANE),
    );
    let bad: [(&str, Change, &str); 17] = [
        ("Jane", |_| (), "cert.revoked"),
        ("Jane, revoked tomorrow", |_| (), "cert.revoked"),
        ("expired", |crl| crl.next_update = time(NOW), "crl.expired"),
        (
            "of tomorrow",
            |crl| crl.this_update = time(NOW + DAY),
            "crl.not-yet-valid",
        ),
        (
            "without its next update",
            |crl| crl.next_update.clear(),
            "crl.malformed",
        ),
        (
            "version 3",
            |crl| crl.version = der(2, &[2]),
            "crl.malformed",
        ),
        (
            "version 1 with extensions",
            |crl| crl.version.clear(),
            "crl.malformed",
        ),
        (
            "of another issuer",
            |crl| crl.issuer = super::name(&[(super::CN, super::UTF8, b"x")]),
            "crl.issuer",
        ),
        (
            "a delta",
            |crl| crl.extensions.push(("2.5.29.27", true, der(2, &[1]))),
            "crl.partial",
        ),
        (
            "a delta, not critical",
            |crl| crl.extensions.push(("2.5.29.27", false, der(2, &[1]))),
            "crl.partial",
        ),
        (
            "indirect",
            |crl| {
                crl.extensions
                    .push(("2.5.29.28", true, sequence(&[der(0x84, &[0xff])])))
            },
            "crl.partial",
        ),
        (
            "only users",
            |crl| {
                crl.extensions
                    .push(("2.5.29.28", true, sequence(&[der(0x81, &[0xff])])))
            },
            "crl.partial",
        ),
        (
            "only some reasons",
            |crl| {
                crl.extensions
                    .push(("2.5.29.28", true, sequence(&[der(0x83, &[1, 6])])))
            },
            "crl.partial",
        ),
        (
            "a critical extension nobody knows",
            |crl| crl.extensions.push(("1.2.3.4", true, der(5, &[]))),
            "crl.critical",
        ),
        (
            "two algorithms",
            |crl| crl.algorithm_outside = sequence(&[oid("1.2.840.10045.4.3.3")]),
            "crl.malformed",
        ),
        (
            "SHA-1 said",
            |crl| {
                (crl.algorithm_inside, crl.algorithm_outside) = (
                    sequence(&[oid("1.2.840.10045.4.1")]),
                    sequence(&[oid("1.2.840.10045.4.1")]),
                )
            },
            "crl.signature",
        ),
        (
            "an entry of another CA's",
            |crl| {
                crl.revoked = vec![(
                    vec![1],
                    sequence(&[sequence(&[
                        oid("2.5.29.29"),
                        der(1, &[0xff]),
                        der(4, &[0x30, 0]),
                    ])]),
                )]
            },
            "crl.malformed",
        ),
    ];
    for (case, change, code) in bad {
        write(0, &list(&[&jane], change));
        m.refuse(case, &bundle, w.path(), code);
    }
    let other = Spec::ca("/C=XX/O=Lab/CN=Lab CA").self_signed();
    write(0, &CrlSpec::new(&other, &[]).signed_by(&other));
    m.refuse(
        "signed with another key",
        &bundle,
        w.path(),
        "crl.signature",
    );
    write(1, &list(&[], |_| ()));
    m.accept(
        "signed with another key, and a good one behind it",
        &bundle,
        w.path(),
    );
    write(1, &list(&[&jane], |_| ()));
    m.refuse(
        "the good one behind it names Jane",
        &bundle,
        w.path(),
        "cert.revoked",
    );
    write(0, &list(&[], |_| ()));
    m.refuse(
        "two good ones, the second names Jane",
        &bundle,
        w.path(),
        "cert.revoked",
    );
    write(0, b"");
    m.refuse("an empty file", &bundle, w.path(), "crl.malformed");
    write(0, b"<html>");
    m.refuse("a web page", &bundle, w.path(), "crl.malformed");
    let whole = list(&[], |_| ());
    write(0, &whole[..whole.len() - 9]);
    m.refuse("cut short", &bundle, w.path(), "crl.malformed");
    write(0, &[whole, vec![0]].concat());
    m.refuse("a byte behind it", &bundle, w.path(), "crl.malformed");
    fs::remove_file(w.path().join(format!("{}.r0", hash(&w.ca)))).unwrap();
    m.accept(
        "a number is missing: what is behind it is not read",
        &bundle,
        w.path(),
    );
    m.finish(39);
}
