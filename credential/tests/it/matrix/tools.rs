//! Credentials made by OpenSSL's own programs, as sites without grid software do, and what `openssl
//! verify` says about each: nothing that it refuses is accepted here.

use std::fs;
use std::path::Path;
use std::process::Command;

use credential::VerifyOptions;

use super::{Deserves, JANE, Matrix};

const CONFIGURATION: &str = "
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[user]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid, issuer:always
subjectAltName = email:jane@lab.example
[encrypts]
keyUsage = critical, keyEncipherment
[proxy]
keyUsage = critical, digitalSignature, keyEncipherment
proxyCertInfo = critical, language:id-ppl-inheritAll
[limited]
proxyCertInfo = critical, language:1.3.6.1.4.1.3536.1.1.1.9
[independent]
proxyCertInfo = critical, language:id-ppl-independent
[last]
proxyCertInfo = critical, language:id-ppl-inheritAll, pathlen:0
[named]
proxyCertInfo = critical, language:id-ppl-inheritAll
subjectAltName = DNS:host.example
[signs]
keyUsage = keyCertSign
proxyCertInfo = critical, language:id-ppl-inheritAll
[is_ca]
basicConstraints = critical, CA:TRUE
proxyCertInfo = critical, language:id-ppl-inheritAll
[stated]
proxyCertInfo = language:id-ppl-inheritAll
";

struct Shop {
    folder: tempfile::TempDir,
}

impl Shop {
    fn run(&self, arguments: &str) {
        // Names have blanks: ~ stands for one.
        let words = arguments
            .split_whitespace()
            .map(|word| word.replace('~', " "));
        let run = Command::new("openssl")
            .args(words)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "openssl {arguments}: {}",
            String::from_utf8_lossy(&run.stderr)
        );
    }

    /// `NAME.pem` and `NAME.key` for a subject, signed by `issuer`.
    fn issue(
        &self,
        name: &str,
        subject: &str,
        issuer: &str,
        extensions: &str,
        key: &str,
        more: &str,
    ) {
        self.run(&format!("genpkey {key} -out {name}.key"));
        self.run(&format!(
            "req -new -key {name}.key -subj {subject} -config c -out {name}.csr"
        ));
        let extensions = match extensions {
            "" => String::new(),
            section => format!("-extfile c -extensions {section}"),
        };
        self.run(&format!("x509 -req -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial -days 9 {extensions} {more} -out {name}.pem"));
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What `openssl verify` says.
    fn accepts(&self, leaf: &str, chain: &[&str]) -> bool {
        let between: String = chain
            .iter()
            .map(|name| self.text(&format!("{name}.pem")))
            .collect();
        let mut command = Command::new("openssl");
        command.args(["verify", "-allow_proxy_certs", "-CApath", "cas"]);
        if !between.is_empty() {
            fs::write(self.path().join("between"), between).unwrap();
            command.args(["-untrusted", "between"]);
        }
        command.arg(format!("{leaf}.pem")).current_dir(self.path());
        command.output().unwrap().status.success()
    }
}

const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
const SMALL: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:1024";
const EC: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";

#[test]
fn credentials_of_the_openssl_programs() {
    let shop = Shop {
        folder: tempfile::tempdir().unwrap(),
    };
    fs::write(shop.path().join("c"), CONFIGURATION).unwrap();
    fs::create_dir(shop.path().join("cas")).unwrap();
    shop.run(&format!("genpkey {RSA} -out ca.key"));
    shop.run("req -x509 -key ca.key -subj /C=XX/O=Lab/CN=Lab~CA -config c -extensions ca -days 9 -out ca.pem");
    fs::copy(shop.path().join("ca.pem"), shop.path().join("cas/ca.pem")).unwrap();
    shop.run("rehash cas");
    let hash = openssl::x509::X509::from_pem(shop.text("ca.pem").as_bytes())
        .unwrap()
        .subject_name_hash();
    let policy = "access_id_CA X509 '/C=XX/O=Lab/CN=Lab CA'\npos_rights globus CA:sign\ncond_subjects globus '\"/C=XX/O=Lab/*\"'\n";
    fs::write(
        shop.path().join(format!("cas/{hash:08x}.signing_policy")),
        policy,
    )
    .unwrap();
    let jane = "/C=XX/O=Lab/CN=Jane~Doe";
    shop.issue("jane", jane, "ca", "user", RSA, "");
    shop.issue("plain", jane, "ca", "", EC, "");
    shop.issue("encrypts", jane, "ca", "encrypts", EC, "");
    shop.issue("weak", jane, "ca", "user", SMALL, "");
    shop.issue("sha1", jane, "ca", "user", EC, "-sha1");
    let one = "/C=XX/O=Lab/CN=Jane~Doe/CN=1";
    for (name, issuer, section, key) in [
        ("p1", "jane", "proxy", RSA),
        ("p1024", "jane", "proxy", SMALL),
        ("pec", "jane", "proxy", EC),
        ("limited", "jane", "limited", EC),
        ("independent", "jane", "independent", EC),
        ("last", "jane", "last", EC),
        ("named", "jane", "named", EC),
        ("signs", "jane", "signs", EC),
        ("isca", "jane", "is_ca", EC),
        ("stated", "jane", "stated", EC),
        ("none", "jane", "user", EC),
        ("ofplain", "plain", "proxy", EC),
        ("ofencrypts", "encrypts", "proxy", EC),
        ("ofweak", "weak", "proxy", EC),
        ("ofsha1", "sha1", "proxy", EC),
        ("ofca", "ca", "proxy", EC),
    ] {
        shop.issue(name, one, issuer, section, key, "");
    }
    let two = "/C=XX/O=Lab/CN=Jane~Doe/CN=1/CN=2";
    shop.issue("p2", two, "p1", "proxy", EC, "");
    shop.issue("l2", two, "p1", "limited", EC, "");
    shop.issue("fullbelow", two, "limited", "proxy", EC, "");
    shop.issue("toodeep", two, "last", "proxy", EC, "");
    shop.issue(
        "alien",
        "/C=XX/O=Lab/CN=Mallory/CN=1",
        "jane",
        "proxy",
        EC,
        "",
    );
    shop.issue("outside", "/C=DE/O=Lab/CN=Jane", "ca", "user", EC, "");
    let mut m = Matrix::default();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let now = i64::try_from(now).unwrap() + 1;
    let mut judge = |leaf: &str, chain: &[&str], deserves| {
        let rest: String = chain
            .iter()
            .map(|name| shop.text(&format!("{name}.pem")))
            .collect();
        let bundle = shop.text(&format!("{leaf}.pem")) + &shop.text(&format!("{leaf}.key")) + &rest;
        m.judge(
            leaf,
            bundle,
            &shop.path().join("cas"),
            &VerifyOptions::at(now),
            deserves,
        );
        // The other way round there are many that only OpenSSL accepts.
        let theirs = shop.accepts(leaf, chain);
        let is_agreed = theirs || matches!(deserves, Deserves::Code(_));
        m.note(
            &format!("{leaf}, openssl verify"),
            is_agreed,
            "accepted by OpenSSL",
            "refused",
        );
    };
    let is = Deserves::Identity(JANE);
    let code = Deserves::Code;
    for (leaf, chain, deserves) in [
        ("jane", &[][..], is),
        ("plain", &[], is),
        ("encrypts", &[], is),
        ("p1", &["jane"], is),
        ("p1024", &["jane"], is),
        ("pec", &["jane"], is),
        ("limited", &["jane"], is),
        ("last", &["jane"], is),
        ("ofplain", &["plain"], is),
        ("p2", &["p1", "jane"], is),
        ("l2", &["p1", "jane"], is),
        ("p2", &["jane", "p1"], is),
        ("p1", &["jane", "ca"], is),
        ("independent", &["jane"], code("proxy.policy")),
        ("named", &["jane"], code("proxy.alternative-name")),
        ("signs", &["jane"], code("proxy.key-usage")),
        ("isca", &["jane"], code("proxy.ca")),
        ("stated", &["jane"], code("proxy.extension")),
        ("none", &["jane"], code("chain.issuer")),
        ("ofencrypts", &["encrypts"], code("proxy.issuer")),
        ("ofweak", &["weak"], code("cert.key-size")),
        ("ofsha1", &["sha1"], code("cert.weak-signature")),
        ("ofca", &[], code("proxy.issuer")),
        (
            "fullbelow",
            &["limited", "jane"],
            code("proxy.full-below-limited"),
        ),
        ("toodeep", &["last", "jane"], code("proxy.pathlen")),
        ("alien", &["jane"], code("proxy.subject")),
        ("outside", &[], code("chain.namespace")),
        ("p1", &[], code("chain.incomplete")),
        ("p2", &["jane"], code("chain.incomplete")),
        ("weak", &[], code("cert.key-size")),
    ] {
        judge(leaf, chain, deserves);
    }
    m.finish(60);
}
