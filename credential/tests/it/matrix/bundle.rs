//! The file: what people and programs do to PEM.

use credential::VerifyOptions;
use openssl::ec::{Asn1Flag, EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::symm::Cipher;

use super::{Deserves, JANE, Matrix, Raw, World, jane};
use crate::common::NOW;
use crate::common::raw::block;

#[test]
fn files_as_they_come() {
    let w = World::new();
    let (proxy, key, user) = (w.proxy.pem(), w.proxy.key_pem(), w.user.pem());
    let ca = w.ca.pem();
    let mut m = Matrix::default();
    let good = [
        (
            "as grid-proxy-init writes it",
            format!("{proxy}{key}{user}"),
        ),
        ("key first", format!("{key}{proxy}{user}")),
        ("key last", format!("{proxy}{user}{key}")),
        ("with the trust anchor", format!("{proxy}{key}{user}{ca}")),
        (
            "user and CA the wrong way round",
            format!("{proxy}{key}{ca}{user}"),
        ),
        (
            "everything twice but the key",
            format!("{proxy}{key}{user}{proxy}{user}{ca}{ca}"),
        ),
        ("CR LF", format!("{proxy}{key}{user}").replace('\n', "\r\n")),
        (
            "no line end at the end",
            format!("{proxy}{key}{user}").trim_end().to_owned(),
        ),
        (
            "blank lines between",
            format!("\n\n{proxy}\n\n{key}\n{user}\n\n"),
        ),
        (
            "text of openssl x509 -text between",
            format!("Certificate:\n    Data:\n{proxy}{key}subject=/CN=Mallory\n{user}"),
        ),
        (
            "blanks at the ends of lines",
            format!("{proxy}{key}{user}").replace('\n', "  \n"),
        ),
        (
            "tabs at the beginning of lines of base64",
            proxy.replace("\nM", "\n\tM") + &key + &user,
        ),
        ("one long line of base64", {
            let (head, rest) = proxy.split_once('\n').unwrap();
            let (body, tail) = rest.split_once("-----END").unwrap();
            format!(
                "{head}\n{}\n-----END{tail}{key}{user}",
                body.replace('\n', "")
            )
        }),
        (
            "the older label",
            proxy.replace("CERTIFICATE", "X509 CERTIFICATE") + &key + &user,
        ),
        (
            "a request and a CRL, which nobody reads",
            format!(
                "{proxy}{key}{user}{}{}",
                block("CERTIFICATE REQUEST", &[0x30, 0]),
                block("X509 CRL", &[0x30, 0])
            ),
        ),
        (
            "DH parameters",
            format!("{proxy}{key}{}{user}", block("DH PARAMETERS", &[0x30, 0])),
        ),
        (
            "the user's own certificate and key, no proxy",
            w.user.bundle(&[]),
        ),
        (
            "UTF-8 in the text between",
            format!("für Jane\n{proxy}{key}{user}"),
        ),
    ];
    for (case, text) in good {
        m.accept(case, text, w.path());
    }
    let encrypted = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
    let pkcs8 = encrypted(
        w.proxy
            .key
            .private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret")
            .unwrap(),
    );
    let sec1 = encrypted(
        w.proxy
            .key
            .ec_key()
            .unwrap()
            .private_key_to_pem_passphrase(Cipher::aes_256_cbc(), b"secret")
            .unwrap(),
    );
    let other = Raw::user(&w.ca, jane()).signed_by(&w.ca.key);
    let bad = [
        ("nothing", String::new(), "bundle.empty"),
        ("white space", " \n\n".into(), "bundle.empty"),
        ("words", "no credential here\n".into(), "bundle.empty"),
        ("only the key", key.clone(), "bundle.empty"),
        (
            "an HTML page",
            "<html><body>404</body></html>\n".into(),
            "bundle.empty",
        ),
        (
            "lone carriage returns",
            format!("{proxy}{key}{user}").replace('\n', "\r"),
            "bundle.malformed",
        ),
        ("no key", format!("{proxy}{user}"), "bundle.no-key"),
        (
            "the user's key",
            format!("{proxy}{}{user}", w.user.key_pem()),
            "bundle.key-mismatch",
        ),
        (
            "the key of another certificate of the same name",
            format!("{proxy}{}{user}", other.key_pem()),
            "bundle.key-mismatch",
        ),
        (
            "an RSA key for an EC certificate",
            format!(
                "{proxy}{}{user}",
                String::from_utf8(Rsa::generate(1024).unwrap().private_key_to_pem().unwrap())
                    .unwrap()
            ),
            "bundle.key-mismatch",
        ),
        (
            "two keys",
            format!("{proxy}{key}{user}{}", w.user.key_pem()),
            "bundle.two-keys",
        ),
        (
            "the same key twice",
            format!("{proxy}{key}{user}{key}"),
            "bundle.two-keys",
        ),
        (
            "an encrypted PKCS#8 key",
            format!("{proxy}{pkcs8}{user}"),
            "bundle.key-encrypted",
        ),
        (
            "an encrypted SEC1 key",
            format!("{proxy}{sec1}{user}"),
            "bundle.key-encrypted",
        ),
        (
            "the key's label is that of RSA",
            format!("{proxy}{}{user}", key.replace("PRIVATE", "RSA PRIVATE")),
            "bundle.key-malformed",
        ),
        (
            "a DSA key",
            format!("{proxy}{}{user}", key.replace("PRIVATE", "DSA PRIVATE")),
            "bundle.key-malformed",
        ),
        (
            "an empty key",
            format!("{proxy}{}{user}", block("PRIVATE KEY", &[0x30, 0])),
            "bundle.key-malformed",
        ),
        (
            "a byte of NUL at the end",
            format!("{proxy}{key}{user}\0"),
            "bundle.nul",
        ),
        (
            "cut in the middle of a block",
            format!("{proxy}{key}{}", &user[..user.len() / 2]),
            "bundle.malformed",
        ),
        (
            "END of another label",
            format!("{proxy}{key}{}", user.replace("END CERTIFICATE", "END KEY")),
            "bundle.malformed",
        ),
        (
            "BEGIN inside a block",
            format!("-----BEGIN CERTIFICATE-----\n{proxy}{key}{user}"),
            "bundle.malformed",
        ),
        (
            "padding in the middle",
            format!("{key}{}{user}", proxy.replacen("M", "=", 1)),
            "bundle.malformed",
        ),
        (
            "bytes behind the certificate in its block",
            format!(
                "{}{key}{user}",
                block("CERTIFICATE", &[w.proxy.der.clone(), vec![0]].concat())
            ),
            "bundle.malformed",
        ),
        (
            "a length in more bytes than it needs",
            format!(
                "{}{key}{user}",
                block("CERTIFICATE", &{
                    let mut der = w.proxy.der.clone();
                    der.splice(1..4, [0x83, 0, der[2], der[3]]);
                    der
                })
            ),
            "bundle.malformed",
        ),
        (
            "indefinite length",
            format!(
                "{}{key}{user}",
                block("CERTIFICATE", &{
                    let mut der = w.proxy.der.clone();
                    der.splice(1..4, [0x80]);
                    der.extend([0, 0]);
                    der
                })
            ),
            "bundle.malformed",
        ),
        (
            "a certificate that other programs take for the first",
            format!(
                "{}{proxy}{key}{user}",
                w.user.pem().replace("CERTIFICATE", "TRUSTED CERTIFICATE")
            ),
            "bundle.malformed",
        ),
        (
            "a sequence that is no certificate",
            format!(
                "{}{proxy}{key}{user}",
                block("CERTIFICATE", &[0x30, 3, 2, 1, 1])
            ),
            "cert.malformed",
        ),
        (
            "too large",
            format!("{proxy}{key}{user}{}", "\n".repeat(256 * 1024)),
            "bundle.too-large",
        ),
        (
            "twenty-one certificates",
            format!("{proxy}{key}{}", user.repeat(20)),
            "bundle.too-many",
        ),
    ];
    for (case, text, code) in bad {
        m.refuse(case, text, w.path(), code);
    }
    let mut without_key = VerifyOptions::at(NOW);
    without_key.require_key = false;
    m.judge(
        "no key where none is needed",
        format!("{proxy}{user}"),
        w.path(),
        &without_key,
        Deserves::Identity(JANE),
    );
    m.judge(
        "a wrong key where none is needed",
        format!("{proxy}{}{user}", w.user.key_pem()),
        w.path(),
        &without_key,
        Deserves::Code("bundle.key-mismatch"),
    );
    m.finish(48);
}

/// Keys of every form, and keys that only look like one.
#[test]
fn keys() {
    let w = World::new();
    let mut m = Matrix::default();
    let sign = |key: &PKey<openssl::pkey::Private>| {
        let raw = Raw::proxy(&jane()).set(|raw| raw.key = key.clone());
        raw.signed_by(&w.user.key)
    };
    let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
    for nid in [Nid::X9_62_PRIME256V1, Nid::SECP384R1, Nid::SECP521R1] {
        let group = EcGroup::from_curve_name(nid).unwrap();
        let ec = EcKey::generate(&group).unwrap();
        let key = PKey::from_ec_key(ec.clone()).unwrap();
        let proxy = sign(&key);
        let sec1 = text(ec.private_key_to_pem().unwrap());
        m.accept(
            &format!("{nid:?} PKCS#8"),
            proxy.bundle(&[&w.user]),
            w.path(),
        );
        m.accept(
            &format!("{nid:?} SEC1"),
            proxy.pem() + &sec1 + &w.user.pem(),
            w.path(),
        );
    }
    for bits in [1024, 2048, 3072] {
        let rsa = Rsa::generate(bits).unwrap();
        let key = PKey::from_rsa(rsa.clone()).unwrap();
        let proxy = sign(&key);
        let pkcs1 = text(rsa.private_key_to_pem().unwrap());
        m.accept(
            &format!("RSA {bits} PKCS#8"),
            proxy.bundle(&[&w.user]),
            w.path(),
        );
        m.accept(
            &format!("RSA {bits} PKCS#1"),
            proxy.pem() + &pkcs1 + &w.user.pem(),
            w.path(),
        );
    }
    for (case, nid) in [
        ("secp256k1", Nid::SECP256K1),
        ("P-224", Nid::SECP224R1),
        ("brainpool", Nid::BRAINPOOL_P256R1),
    ] {
        let group = EcGroup::from_curve_name(nid).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        // The key block itself is of a curve nobody here knows.
        m.refuse(
            case,
            sign(&key).bundle(&[&w.user]),
            w.path(),
            "bundle.key-malformed",
        );
    }
    let mut explicit = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    explicit.set_asn1_flag(Asn1Flag::EXPLICIT_CURVE);
    let key = PKey::from_ec_key(EcKey::generate(&explicit).unwrap()).unwrap();
    let proxy = sign(&key);
    m.refuse(
        "explicit parameters",
        proxy.bundle(&[&w.user]),
        w.path(),
        "bundle.key-malformed",
    );
    let ed = PKey::generate_ed25519().unwrap();
    m.refuse(
        "Ed25519",
        sign(&ed).bundle(&[&w.user]),
        w.path(),
        "bundle.key-malformed",
    );
    let mut lenient = VerifyOptions::at(NOW);
    lenient.require_key = false;
    for (case, piece) in [
        ("explicit parameters, no key", &proxy),
        ("Ed25519, no key", &sign(&ed)),
    ] {
        let bundle = piece.pem() + &w.user.pem();
        m.judge(
            case,
            bundle,
            w.path(),
            &lenient,
            Deserves::Code("cert.key-kind"),
        );
    }
    m.finish(19);
}
