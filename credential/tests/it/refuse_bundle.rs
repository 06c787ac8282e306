//! Files that are not a credential, and files with parts of somebody else's.

use credential::{TrustStore, VerifyOptions};
use openssl::bn::BigNum;
use openssl::pkey::PKey;
use openssl::rsa::RsaPrivateKeyBuilder;
use openssl::symm::Cipher;

use crate::common::{Cert, NOW, Spec, ec_key, rsa_key};
use crate::verify_with;
use crate::{Pki, code, verify};

#[test]
fn c2_empty_and_damaged_files_have_codes_of_their_own() {
    let pki = Pki::new();
    let good = pki.proxy.bundle(&[&pki.user]);
    let cases = [
        (String::new(), "bundle.empty"),
        ("no certificate here\n".into(), "bundle.empty"),
        (pki.proxy.key_pem(), "bundle.empty"),
        (
            good.replacen("-----END CERTIFICATE-----", "", 1),
            "bundle.malformed",
        ),
        (format!("{good}\0"), "bundle.nul"),
        (good.repeat(2), "bundle.two-keys"),
        (pki.proxy.pem() + &pki.user.pem(), "bundle.no-key"),
        ("x".repeat(300_000), "bundle.too-large"),
        (pki.user.pem().repeat(21), "bundle.too-many"),
        (
            good.replace("EC PRIVATE KEY", "DSA PRIVATE KEY"),
            "bundle.key-malformed",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(code(verify(&text, &pki.ca)), expected);
    }
}

#[test]
fn c2_a_certificate_block_with_something_else_in_it_is_refused() {
    let pki = Pki::new();
    let text = "-----BEGIN CERTIFICATE-----\nMAMCAQU=\n-----END CERTIFICATE-----\n";
    assert_eq!(
        code(verify(&(pki.user.bundle(&[]) + text), &pki.ca)),
        "cert.malformed"
    );
}

#[test]
fn c2_every_key_form_is_read_and_encrypted_ones_are_refused() {
    let ca = Spec::ca("/O=Lab/CN=Lab CA").self_signed();
    for key in [rsa_key(2048), ec_key()] {
        let user = Spec::user("/O=Lab/CN=Jane").key(key.clone()).signed_by(&ca);
        let pkcs8 = String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        for text in [user.bundle(&[]), user.pem() + &pkcs8, pkcs8 + &user.pem()] {
            assert!(verify(&text, &ca).is_ok());
            assert!(verify(&text.replace('\n', "\r\n"), &ca).is_ok());
        }
        let cipher = Cipher::aes_256_cbc();
        let sealed = key
            .private_key_to_pem_pkcs8_passphrase(cipher, b"secret")
            .unwrap();
        let sealed = String::from_utf8(sealed).unwrap();
        assert_eq!(
            code(verify(&(user.pem() + &sealed), &ca)),
            "bundle.key-encrypted"
        );
    }
    let key = rsa_key(2048);
    let user = Spec::user("/O=Lab/CN=Jane").key(key.clone()).signed_by(&ca);
    let sealed = key
        .rsa()
        .unwrap()
        .private_key_to_pem_passphrase(Cipher::aes_128_cbc(), b"x")
        .unwrap();
    let text = user.pem() + std::str::from_utf8(&sealed).unwrap();
    assert_eq!(code(verify(&text, &ca)), "bundle.key-encrypted");
}

#[test]
fn c3_the_key_must_be_that_of_the_first_certificate() {
    let pki = Pki::new();
    let with_key = |key: &Cert| pki.proxy.pem() + &key.key_pem() + &pki.user.pem();
    assert!(verify(&with_key(&pki.proxy), &pki.ca).is_ok());
    assert_eq!(
        code(verify(&with_key(&pki.user), &pki.ca)),
        "bundle.key-mismatch"
    );
    let stranger = Spec::user("/O=Lab/CN=x").key(rsa_key(2048)).self_signed();
    assert_eq!(
        code(verify(&with_key(&stranger), &pki.ca)),
        "bundle.key-mismatch"
    );
    let stranger = Spec::user("/O=Lab/CN=x").self_signed();
    assert_eq!(
        code(verify(&with_key(&stranger), &pki.ca)),
        "bundle.key-mismatch"
    );
}

/// A certificate is public. Its modulus in a key file proves nothing, though comparing the public
/// halves (what `X509_check_private_key` does) is satisfied by it.
#[test]
fn c3_an_rsa_key_made_up_around_the_public_modulus_is_refused() {
    let ca = Spec::ca("/O=Lab/CN=Lab CA").self_signed();
    let user = Spec::user("/O=Lab/CN=Victim")
        .key(rsa_key(2048))
        .signed_by(&ca);
    let victim = user.key.rsa().unwrap();
    let other = rsa_key(2048).rsa().unwrap();
    let copy = |n: &openssl::bn::BigNumRef| n.to_owned().unwrap();
    let one = || BigNum::from_u32(1).unwrap();
    let forge = |p: BigNum, q: BigNum| {
        RsaPrivateKeyBuilder::new(copy(victim.n()), copy(victim.e()), copy(other.d()))
            .unwrap()
            .set_factors(p, q)
            .unwrap()
            .set_crt_params(
                copy(other.dmp1().unwrap()),
                copy(other.dmq1().unwrap()),
                copy(other.iqmp().unwrap()),
            )
            .unwrap()
            .build()
    };
    for rsa in [
        forge(copy(other.p().unwrap()), copy(other.q().unwrap())),
        forge(copy(victim.n()), one()),
        forge(one(), copy(victim.n())),
    ] {
        let forged = PKey::from_rsa(rsa.clone()).unwrap();
        assert!(
            user.x509.public_key().unwrap().public_eq(&forged),
            "as OpenSSL sees it"
        );
        let key = String::from_utf8(rsa.private_key_to_pem().unwrap()).unwrap();
        assert_eq!(
            code(verify(&(user.pem() + &key), &ca)),
            "bundle.key-malformed"
        );
    }
}

#[test]
fn c3_an_ec_key_that_only_claims_the_public_point_is_refused() {
    let pki = Pki::new();
    let victim = pki.user.key.ec_key().unwrap();
    let other = ec_key().ec_key().unwrap();
    let forged = openssl::ec::EcKey::from_private_components(
        victim.group(),
        other.private_key(),
        victim.public_key(),
    )
    .unwrap();
    let key = String::from_utf8(forged.private_key_to_pem().unwrap()).unwrap();
    assert_eq!(
        code(verify(&(pki.user.pem() + &key), &pki.ca)),
        "bundle.key-mismatch"
    );
}

#[test]
fn c3_a_missing_key_is_accepted_only_by_option() {
    let pki = Pki::new();
    let trust = TrustStore::from_pem(pki.ca.pem().as_bytes()).unwrap();
    let mut options = VerifyOptions::at(NOW);
    options.require_key = false;
    let bundle = pki.proxy.pem() + &pki.user.pem();
    assert!(verify_with(&bundle, &trust, &options).is_ok());
}

#[test]
fn c4_certificates_of_somebody_else_make_the_bundle_invalid_wherever_they_stand() {
    let pki = Pki::new();
    let (other, other_proxy) = pki.other_user();
    let own = pki.proxy.bundle(&[&pki.user]);
    assert_eq!(
        code(verify(&(own.clone() + &other.pem()), &pki.ca)),
        "bundle.stray"
    );
    let chain = other_proxy.pem() + &other.pem();
    assert_eq!(
        code(verify(&(own.clone() + &chain), &pki.ca)),
        "bundle.stray"
    );
    // Prepended, the other chain is the path and the key does not fit it.
    assert_eq!(
        code(verify(&(chain.clone() + &own), &pki.ca)),
        "bundle.key-mismatch"
    );
    let trust = TrustStore::from_pem(pki.ca.pem().as_bytes()).unwrap();
    let mut options = VerifyOptions::at(NOW);
    options.require_key = false;
    let prepended = chain + &pki.proxy.pem() + &pki.user.pem();
    let verdict = verify_with(&prepended, &trust, &options);
    assert_eq!(code(verdict), "bundle.stray");
    let between = pki.proxy.bundle(&[&other, &pki.user]);
    assert_eq!(code(verify(&between, &pki.ca)), "bundle.stray");
}

#[test]
fn c4_exact_copies_and_the_anchor_are_no_strays() {
    let pki = Pki::new();
    let text = pki
        .proxy
        .bundle(&[&pki.user, &pki.proxy, &pki.user, &pki.ca]);
    let credential = verify(&text, &pki.ca).unwrap();
    assert_eq!(credential.proxy_depth(), 1);
}

#[test]
fn c4_two_certificates_of_the_user_in_one_bundle_are_one_too_many() {
    let pki = Pki::new();
    let renewed = Spec::user("/C=XX/O=Lab/CN=Jane Doe")
        .set(|s| s.serial = 9)
        .signed_by(&pki.ca);
    for chain in [[&pki.user, &renewed], [&renewed, &pki.user]] {
        let refused = code(verify(&pki.proxy.bundle(&chain), &pki.ca));
        assert!(
            matches!(refused, "bundle.stray" | "chain.signature"),
            "{refused}"
        );
    }
}
