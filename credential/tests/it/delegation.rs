//! Delegation, with this test as the submit side.

use credential::{DelegationError, DelegationRequest};
use openssl::x509::X509Req;

use crate::common::{Cert, LIMITED, Spec, proxy_info, rsa_key};
use crate::{Pki, verify};

/// What a delegating peer does with a request: certifies its key under the user's proxy.
fn delegate(request: &DelegationRequest, issuer: &Cert, chain: &[&Cert]) -> Vec<u8> {
    let request = X509Req::from_der(request.csr_der()).unwrap();
    let public = request.public_key().unwrap();
    assert!(request.verify(&public).unwrap());
    let info = proxy_info(None, LIMITED, None);
    let mut spec = Spec::proxy_with(issuer, "4711", &info);
    // A key pair type is asked for, so the public half travels in one.
    spec.key = openssl::pkey::PKey::private_key_from_der(&public_only(&public)).unwrap();
    let proxy = spec.signed_by(issuer);
    let mut der = proxy.x509.to_der().unwrap();
    for cert in [issuer].iter().chain(chain) {
        der.extend(cert.x509.to_der().unwrap());
    }
    der
}

/// An RSA key with this public half and nonsense for the private one.
fn public_only(public: &openssl::pkey::PKeyRef<openssl::pkey::Public>) -> Vec<u8> {
    let public = public.rsa().unwrap();
    let other = rsa_key(2048).rsa().unwrap();
    let copy = |n: &openssl::bn::BigNumRef| n.to_owned().unwrap();
    openssl::rsa::RsaPrivateKeyBuilder::new(copy(public.n()), copy(public.e()), copy(other.d()))
        .unwrap()
        .set_factors(copy(other.p().unwrap()), copy(other.q().unwrap()))
        .unwrap()
        .set_crt_params(
            copy(other.dmp1().unwrap()),
            copy(other.dmq1().unwrap()),
            copy(other.iqmp().unwrap()),
        )
        .unwrap()
        .build()
        .private_key_to_der()
        .unwrap()
}

#[test]
fn the_request_has_version_0_an_rsa_2048_key_sha256_and_no_subject() {
    let request = DelegationRequest::generate().unwrap();
    let parsed = X509Req::from_der(request.csr_der()).unwrap();
    assert_eq!(parsed.version(), 0);
    assert_eq!(parsed.subject_name().entries().count(), 0);
    let public = parsed.public_key().unwrap();
    assert_eq!(public.bits(), 2048);
    assert!(parsed.verify(&public).unwrap());
    let sha256_with_rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
    assert!(
        request
            .csr_der()
            .windows(9)
            .any(|window| window == sha256_with_rsa)
    );
}

#[test]
fn the_answer_becomes_a_proxy_file_that_verifies() {
    let pki = Pki::new();
    let request = DelegationRequest::generate().unwrap();
    let answer = delegate(&request, &pki.proxy, &[&pki.user]);
    let pem = request.accept(&answer).unwrap();
    let text = std::str::from_utf8(pem.as_bytes()).unwrap();
    let labels: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("-----BEGIN "))
        .collect();
    let expected = [
        "CERTIFICATE-----",
        "RSA PRIVATE KEY-----",
        "CERTIFICATE-----",
        "CERTIFICATE-----",
    ];
    assert_eq!(labels, expected);
    assert!(text.lines().all(|line| line.len() <= 64));
    let credential = verify(text, &pki.ca).unwrap();
    assert_eq!(credential.identity().as_str(), "/C=XX/O=Lab/CN=Jane Doe");
    assert_eq!(credential.proxy_depth(), 2);
    assert!(credential.limited());
    assert!(
        openssl::rsa::Rsa::private_key_from_pem(pem.as_bytes())
            .unwrap()
            .check_key()
            .unwrap()
    );
}

#[test]
fn answers_that_are_not_for_us_are_refused() {
    let pki = Pki::new();
    let fresh = || DelegationRequest::generate().unwrap();
    let own = pki.proxy.x509.to_der().unwrap();
    let answer = fresh().accept(&own).unwrap_err();
    assert!(matches!(answer, DelegationError::OtherKey));
    assert_eq!(answer.code(), "delegation.other-key");
    assert!(matches!(fresh().accept(&[]), Err(DelegationError::Empty)));
    let request = fresh();
    let good = delegate(&request, &pki.proxy, &[&pki.user]);
    let malformed = |bytes: &[u8]| matches!(fresh().accept(bytes), Err(DelegationError::Malformed));
    assert!(malformed(&good[..good.len() - 1]));
    assert!(malformed(b"\x04\x01x"));
    assert!(malformed(b"\x30\x03\x02\x01\x05"));
    let many: Vec<u8> = own.repeat(21);
    assert!(matches!(
        fresh().accept(&many),
        Err(DelegationError::TooLarge | DelegationError::Malformed)
    ));
    assert!(matches!(
        fresh().accept(&vec![0x30; 200_000]),
        Err(DelegationError::TooLarge)
    ));
    assert!(request.accept(&good).is_ok());
}

#[test]
fn nothing_of_the_key_is_shown() {
    let pki = Pki::new();
    let request = DelegationRequest::generate().unwrap();
    assert_eq!(format!("{request:?}"), "DelegationRequest { .. }");
    let answer = delegate(&request, &pki.user, &[]);
    let pem = request.accept(&answer).unwrap();
    let shown = format!("{pem:?}");
    assert!(
        shown.starts_with("SecretPem(") && shown.len() < 30,
        "{shown}"
    );
}
