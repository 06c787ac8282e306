//! Everything real: an authority, a user's certificate, a proxy, the verifier that verifies.

use std::process::Command;

use crate::cell::{CERT, Cell, LIBEXEC, REAL_VERIFIER, in_cell, own};

/// Makes an authority and a user's certificate in `/ca`, and the user's proxy for a number of days.
const MAKE: &str = r#"
set -e
mkdir -p /ca && cd /ca
cat >cnf <<'END'
[req]
distinguished_name = dn
prompt = no
[dn]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[user]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[proxy]
keyUsage = critical, digitalSignature
proxyCertInfo = critical, language:id-ppl-inheritAll
END
openssl req -x509 -newkey rsa:2048 -noenc -keyout ca.key -out ca.pem -days 10 -subj '/DC=test/CN=Drop-in CA' \
    -config cnf -extensions ca
issue() { # NAME SUBJECT ISSUER SECTION SERIAL
    openssl req -newkey rsa:2048 -noenc -keyout $1.key -out $1.csr -subj "$2" -config cnf
    openssl x509 -req -in $1.csr -out $1.pem -CA $3.pem -CAkey $3.key -set_serial $5 -days 2 -extfile cnf -extensions $4
}
issue alice '/DC=test/CN=Alice' ca user 2
issue proxy '/DC=test/CN=Alice/CN=3' alice proxy 3
cat proxy.pem proxy.key alice.pem >bundle
D=/etc/grid-security/certificates
H=$(openssl x509 -in ca.pem -noout -subject_hash)
cp ca.pem $D/$H.0
cat >$D/$H.signing_policy <<'END'
access_id_CA X509 '/DC=test/CN=Drop-in CA'
pos_rights globus CA:sign
cond_subjects globus '"/DC=test/*"'
END
printf '"/DC=test/CN=Alice" alice\n' >/etc/sailplane/gridmap
"#;

fn furnish(cell: &Cell) {
    let made = Command::new("sh").args(["-c", MAKE]).output();
    let made = made.expect("runs");
    let words = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{words}");
    let inside = |name: &str| format!("{LIBEXEC}/{name}");
    std::fs::rename(inside(REAL_VERIFIER), inside("sailplane-verify")).expect("there");
    std::fs::copy("/ca/bundle", CERT).expect("copied");
    own(CERT, cell.pilot, 0o600);
}

#[test]
fn g15_with_a_real_proxy() {
    in_cell(|cell| {
        furnish(cell);
        let said = cell.run("$GLEXEC \"$(readlink -f /bin/sh)\" -c 'id && echo \"Hello World\"'");
        assert_eq!(said.status, Some(0), "{said:?}");
        assert!(
            said.out.starts_with(&format!("uid={}(alice)", cell.alice)),
            "{said:?}"
        );
        assert_eq!(said.out.lines().last(), Some("Hello World"));
        // The copy is the bundle, byte for byte.
        let said =
            cell.run("$GLEXEC /bin/sh -c 'cat $X509_USER_PROXY' | cmp - $GLEXEC_CLIENT_CERT");
        assert_eq!((said.status, said.out.as_str()), (Some(0), ""), "{said:?}");
    });
}

#[test]
fn g9_a_real_proxy_that_will_not_do() {
    in_cell(|cell| {
        furnish(cell);
        for (damage, status) in [
            // Without its key; with somebody else's chain; not a certificate at all; empty.
            (
                "sed '/BEGIN.*PRIVATE KEY/,/END.*PRIVATE KEY/d' good >$C",
                201,
            ),
            ("head -c 700 good >$C", 201),
            ("echo x >$C", 201),
            (": >$C", 201),
        ] {
            let said = cell.run(&format!(
                "C=$GLEXEC_CLIENT_CERT; [ -e good ] || cp $C good; {damage}; chmod 600 $C; exec $GLEXEC /bin/echo ran"
            ));
            assert_eq!(
                (said.status, said.out.as_str()),
                (Some(status), ""),
                "{damage}: {said:?}"
            );
        }
        // An authority that the site does not know.
        std::fs::copy("/ca/bundle", CERT).expect("copied");
        own(CERT, cell.pilot, 0o600);
        for entry in std::fs::read_dir("/etc/grid-security/certificates")
            .expect("there")
            .flatten()
        {
            std::fs::remove_file(entry.path()).expect("removed");
        }
        let said = cell.run("exec $GLEXEC /bin/echo ran");
        assert_eq!(
            (said.status, said.out.as_str()),
            (Some(203), ""),
            "{said:?}"
        );
    });
}
