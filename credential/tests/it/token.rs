//! Tokens: rules T1 to T4, each kept and each broken.

use std::fs;
use std::path::PathBuf;

use credential::{
    Blame, TokenError, TokenIssuer, TokenOptions, VerifiedToken, looks_like_token, verify_token,
};
use openssl::pkey::{PKey, Private};

use crate::common::token::{b64, jwk, jwks, signature, token};
use crate::common::{HOUR, NOW, ec_key, rsa_key};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://site.example";

/// An issuer with an EC key "ec" and an RSA key "rsa".
struct Issuer {
    directory: tempfile::TempDir,
    ec: PKey<Private>,
    rsa: PKey<Private>,
}

impl Issuer {
    fn new() -> Self {
        let issuer = Self {
            directory: tempfile::tempdir().unwrap(),
            ec: ec_key(),
            rsa: rsa_key(2048),
        };
        issuer.keys(&jwks(&[
            jwk(&issuer.ec, "ec", r#","use":"sig","alg":"ES256""#),
            jwk(&issuer.rsa, "rsa", r#","key_ops":["verify"],"x5t":"x""#),
            r#"{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"AA"}"#.into(),
            r#"{"kty":"EC","crv":"P-384","kid":"p384","x":"AA","y":"AA"}"#.into(),
        ]));
        issuer
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("jwks.json")
    }

    fn keys(&self, text: &str) {
        fs::write(self.file(), text).unwrap();
    }

    fn options(&self) -> TokenOptions {
        let known = TokenIssuer {
            url: ISSUER.into(),
            jwks: self.file(),
        };
        TokenOptions::new(vec![known], vec![AUDIENCE.into(), "ANY".into()])
    }

    fn verify(&self, text: &str) -> Result<VerifiedToken, TokenError> {
        verify_token(text.as_bytes(), &self.options(), NOW)
    }

    /// With a good header and these claims.
    fn claims(&self, claims: &str) -> Result<VerifiedToken, TokenError> {
        self.verify(&token(&self.ec, HEADER, claims))
    }

    /// With this header and good claims.
    fn header(&self, header: &str) -> Result<VerifiedToken, TokenError> {
        self.verify(&token(&self.ec, header, &claims("")))
    }
}

const HEADER: &str = r#"{"alg":"ES256","kid":"ec","typ":"JWT"}"#;

/// Good claims with one of them replaced: `"name":value`, or only `"name"` to leave it out.
fn claims(change: &str) -> String {
    let members = [
        format!(r#""iss":"{ISSUER}""#),
        r#""sub":"jane""#.into(),
        format!(r#""aud":["https://other.example","{AUDIENCE}"]"#),
        format!(r#""exp":{}"#, NOW + HOUR),
        format!(r#""nbf":{NOW}"#),
        format!(r#""iat":{NOW}"#),
        r#""scope":"storage.read:/ compute.create compute.read""#.into(),
        r#""wlcg.groups":["/lab","/lab/prod"]"#.into(),
    ];
    let name = change.split_inclusive('"').take(2).collect::<String>();
    let mut kept: Vec<String> = members
        .into_iter()
        .filter(|member| change.is_empty() || !member.starts_with(&name))
        .collect();
    if change.contains(':') {
        kept.push(change.to_owned());
    }
    format!("{{{}}}", kept.join(","))
}

#[track_caller]
fn code(verdict: Result<VerifiedToken, TokenError>) -> &'static str {
    match verdict {
        Ok(token) => panic!("accepted as {}", token.identity()),
        Err(error) => error.code(),
    }
}

#[test]
fn t1_tokens_of_both_algorithms_are_accepted() {
    let issuer = Issuer::new();
    let good = issuer.header(HEADER).unwrap();
    assert_eq!(good.identity().issuer(), ISSUER);
    assert_eq!(good.identity().subject(), "jane");
    assert_eq!(good.identity().to_string(), "https://issuer.example,jane");
    assert_eq!(
        good.groups(),
        [
            "https://issuer.example,/lab",
            "https://issuer.example,/lab/prod"
        ]
    );
    assert_eq!(good.scopes()[1], "compute.create");
    assert_eq!(good.not_after().unix(), NOW + HOUR);
    let rsa = token(&issuer.rsa, r#"{"alg":"RS256","kid":"rsa"}"#, &claims(""));
    assert!(issuer.verify(&rsa).is_ok());
    assert!(issuer.verify(&format!("\n {rsa}\r\n")).is_ok());
    for kind in ["jwt", "at+jwt", "application/at+JWT"] {
        let header = format!(r#"{{"alg":"ES256","kid":"ec","typ":"{kind}"}}"#);
        assert!(issuer.header(&header).is_ok(), "{kind}");
    }
}

#[test]
fn t1_only_three_parts_of_strict_base64url_are_a_token() {
    let issuer = Issuer::new();
    let good = token(&issuer.ec, HEADER, &claims(""));
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signed) = (parts[0], parts[1], parts[2]);
    for bad in [
        String::new(),
        header.to_owned(),
        format!("{header}.{payload}"),
        format!("{good}."),
        format!("{good}.{signed}"),
        format!("{header}=.{payload}.{signed}"),
        format!("{header}.{payload}.{signed}=="),
        format!("{header}.{payload}.{signed}+"),
        format!("{header}.{payload} .{signed}"),
        format!("{}.{payload}.{signed}", b64(b"{}x")),
        format!("{}.{payload}.{signed}", b64(b"[]")),
        format!("{}.{payload}.{signed}", b64(b"{\"kid\":\"ec\"}")),
        format!(
            "{}.{payload}.{signed}",
            b64(b"{\"alg\":\"ES256\",\"kid\":7}")
        ),
        format!(
            "{}.{payload}.{signed}",
            b64(b"{\"alg\":\"ES256\",\"alg\":\"ES256\"}")
        ),
        token(
            &issuer.ec,
            HEADER,
            &claims("").replace("\"sub\"", "\"sub\":\"root\",\"sub\""),
        ),
    ] {
        assert_eq!(code(issuer.verify(&bad)), "token.malformed", "{bad}");
    }
    // Bits that base64 leaves over must be zero, so that no token has two spellings.
    let mut twin = good.clone().into_bytes();
    let last = twin.last_mut().unwrap();
    *last += 1;
    assert_eq!(
        code(issuer.verify(&String::from_utf8(twin).unwrap())),
        "token.malformed"
    );
    let large = token(
        &issuer.ec,
        HEADER,
        &claims(&format!(r#""x":"{}""#, "a".repeat(16_000))),
    );
    assert_eq!(code(issuer.verify(&large)), "token.too-large");
}

#[test]
fn t1_the_key_decides_about_the_algorithm() {
    let issuer = Issuer::new();
    for header in [
        r#"{"alg":"none","kid":"ec"}"#,
        r#"{"alg":"HS256","kid":"ec"}"#,
        r#"{"alg":"RS256","kid":"ec"}"#,
        r#"{"alg":"es256","kid":"ec"}"#,
        r#"{"alg":"ES256","kid":"rsa"}"#,
        r#"{"alg":"EdDSA","kid":"ed"}"#,
        r#"{"alg":"ES384","kid":"p384"}"#,
    ] {
        assert_eq!(code(issuer.header(header)), "token.algorithm", "{header}");
    }
    let empty = format!(
        "{}.{}.",
        b64(br#"{"alg":"none"}"#),
        b64(claims("").as_bytes())
    );
    assert_eq!(code(issuer.verify(&empty)), "token.key");
    // The old trick: the public key as a shared secret.
    let signed = format!(
        "{}.{}",
        b64(br#"{"alg":"HS256","kid":"rsa"}"#),
        b64(claims("").as_bytes())
    );
    let secret = PKey::hmac(&issuer.rsa.public_key_to_pem().unwrap()).unwrap();
    let mut signer =
        openssl::sign::Signer::new(openssl::hash::MessageDigest::sha256(), &secret).unwrap();
    let mac = signer.sign_oneshot_to_vec(signed.as_bytes()).unwrap();
    let forged = format!("{signed}.{}", b64(&mac));
    assert_eq!(code(issuer.verify(&forged)), "token.algorithm");
    // Keys that are for something else, or too weak.
    let small = rsa_key(1024);
    for (key, more) in [
        (&issuer.ec, r#","use":"enc""#),
        (&issuer.ec, r#","alg":"ES384""#),
        (&issuer.ec, r#","key_ops":["sign"]"#),
        (&issuer.ec, r#","key_ops":"verify""#),
        (&small, ""),
    ] {
        issuer.keys(&jwks(&[jwk(key, "k", more)]));
        for algorithm in ["ES256", "RS256"] {
            let header = format!(r#"{{"alg":"{algorithm}","kid":"k"}}"#);
            let verdict = issuer.verify(&token(key, &header, &claims("")));
            assert_eq!(code(verdict), "token.algorithm", "{more}");
        }
    }
}

#[test]
fn t1_signatures_are_checked_to_the_last_bit() {
    let issuer = Issuer::new();
    let good = token(&issuer.ec, HEADER, &claims(""));
    let (signed, _) = good.rsplit_once('.').unwrap();
    let with = |bytes: &[u8]| issuer.verify(&format!("{signed}.{}", b64(bytes)));
    let right = signature(&issuer.ec, signed.as_bytes());
    assert!(with(&right).is_ok());
    let mut wrong = right.clone();
    wrong[40] ^= 1;
    let zero_r = [vec![0; 32], right[32..].to_vec()].concat();
    let zero_s = [right[..32].to_vec(), vec![0; 32]].concat();
    let der = openssl::ecdsa::EcdsaSig::sign(
        &openssl::sha::sha256(signed.as_bytes()),
        &issuer.ec.ec_key().unwrap(),
    )
    .unwrap()
    .to_der()
    .unwrap();
    let longer = [right.clone(), vec![0]].concat();
    for bad in [
        &wrong,
        &vec![0; 64],
        &zero_r,
        &zero_s,
        &der,
        &longer,
        &vec![],
        &vec![0xff; 64],
    ] {
        assert_eq!(code(with(bad)), "token.signature", "{bad:?}");
    }
    assert_eq!(code(with(&right[..63])), "token.signature");
    // By another key, and for another text.
    let stranger = token(&ec_key(), HEADER, &claims(""));
    assert_eq!(code(issuer.verify(&stranger)), "token.signature");
    let boss = b64(claims(r#""sub":"boss""#).as_bytes());
    let (header, _) = signed.split_once('.').unwrap();
    let moved = format!("{header}.{boss}.{}", b64(&right));
    assert_eq!(code(issuer.verify(&moved)), "token.signature");
    let rsa = token(&issuer.rsa, r#"{"alg":"RS256","kid":"rsa"}"#, &claims(""));
    let cut = rsa.rsplit_once('.').unwrap().0;
    assert_eq!(
        code(issuer.verify(&format!("{cut}.{}", b64(&[1; 256])))),
        "token.signature"
    );
}

#[test]
fn t1_keys_come_from_this_node_only() {
    let issuer = Issuer::new();
    for member in [
        r#""jku":"https://evil.example""#,
        r#""jwk":{}"#,
        r#""x5u":"https://evil.example""#,
        r#""x5c":[]"#,
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""b64":false"#,
        r#""enc":"A256GCM""#,
    ] {
        let header = format!(r#"{{"alg":"ES256","kid":"ec",{member}}}"#);
        assert_eq!(code(issuer.header(&header)), "token.header", "{member}");
    }
    for kind in [r#""dpop+jwt""#, r#""id_token""#, "7"] {
        let header = format!(r#"{{"alg":"ES256","kid":"ec","typ":{kind}}}"#);
        assert_eq!(code(issuer.header(&header)), "token.type", "{kind}");
    }
    assert_eq!(
        code(issuer.header(r#"{"alg":"ES256","kid":"other"}"#)),
        "token.key"
    );
    // No key id: only when there is nothing to choose.
    let bare = r#"{"alg":"ES256"}"#;
    assert_eq!(code(issuer.header(bare)), "token.key");
    issuer.keys(&jwks(&[jwk(&issuer.ec, "ec", "")]));
    assert!(issuer.header(bare).is_ok());
}

#[test]
fn t1_key_files_are_the_sites() {
    let issuer = Issuer::new();
    let key = jwk(&issuer.ec, "ec", "");
    for text in [
        String::new(),
        "{}".into(),
        key.clone(),
        jwks(&[key.clone(), key.clone()]),
        jwks(&[key.replace("\"x\":", "\"x\":\"AA\",\"x\":")]),
        jwks(&[key.replace("\"x\":\"", "\"x\":\"A")]),
        jwks(&["7".into()]),
        jwks(&[key.replace("\"ec\"", "7")]),
    ] {
        issuer.keys(&text);
        let error = issuer.header(HEADER).unwrap_err();
        assert_eq!(
            (error.code(), error.blame()),
            ("jwks.malformed", Blame::Site),
            "{text}"
        );
    }
    fs::remove_file(issuer.file()).unwrap();
    let error = issuer.header(HEADER).unwrap_err();
    assert_eq!(
        (error.code(), error.blame()),
        ("trust.unreadable", Blame::Site)
    );
    issuer.keys(&jwks(&[key]));
    let mut options = issuer.options();
    options.root_only = true;
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(issuer.file(), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o664);
    let text = token(&issuer.ec, HEADER, &claims(""));
    let verdict = verify_token(text.as_bytes(), &options, NOW);
    assert_eq!(code(verdict), "trust.writable");
}

#[test]
fn t2_the_issuer_is_compared_byte_by_byte() {
    let issuer = Issuer::new();
    for other in [
        "https://issuer.example/",
        "HTTPS://issuer.example",
        "https://issuer.exampl",
        "https://evil.example",
    ] {
        let verdict = issuer.claims(&claims(&format!(r#""iss":"{other}""#)));
        assert_eq!(code(verdict), "token.issuer", "{other}");
    }
    assert_eq!(code(issuer.claims(&claims(r#""iss""#))), "token.claim");
    assert_eq!(code(issuer.claims(&claims(r#""iss":7"#))), "token.claim");
    // One that looks like a certificate's name, or whose end could be elsewhere, is none.
    for url in ["/O=Lab/CN=Jane", "https://a.example,b", "https://a b"] {
        let mut options = issuer.options();
        options.issuers[0].url = url.into();
        let text = token(&issuer.ec, HEADER, &claims(&format!(r#""iss":"{url}""#)));
        let verdict = verify_token(text.as_bytes(), &options, NOW);
        assert_eq!(code(verdict), "token.issuer", "{url}");
    }
}

#[test]
fn t2_t4_the_subject_is_printable_and_never_a_certificates_name() {
    let issuer = Issuer::new();
    for wrong in [
        r#""sub""#,
        r#""sub":"""#,
        r#""sub":"  ""#,
        r#""sub":7"#,
        r#""sub":"a\nb""#,
        r#""sub":"é""#,
    ] {
        assert_eq!(
            code(issuer.claims(&claims(wrong))),
            "token.claim",
            "{wrong}"
        );
    }
    let long = format!(r#""sub":"{}""#, "a".repeat(1_100));
    assert_eq!(code(issuer.claims(&claims(&long))), "token.claim");
    let token = issuer
        .claims(&claims(r#""sub":"/C=XX/O=Lab/CN=Jane Doe""#))
        .unwrap();
    assert!(!token.identity().to_string().starts_with('/'));
    for wrong in [r#""/a\n""#, r#""lab""#, "7"] {
        let verdict = issuer.claims(&claims(&format!(r#""wlcg.groups":[{wrong}]"#)));
        assert_eq!(code(verdict), "token.claim", "{wrong}");
    }
    assert_eq!(
        code(issuer.claims(&claims(r#""wlcg.groups":"/lab""#))),
        "token.claim"
    );
    assert!(
        issuer
            .claims(&claims(r#""wlcg.groups""#))
            .unwrap()
            .groups()
            .is_empty()
    );
}

#[test]
fn t2_the_audience_contains_our_name() {
    let issuer = Issuer::new();
    for good in [
        r#""https://site.example""#,
        r#"["ANY"]"#,
        r#"["x","https://site.example"]"#,
    ] {
        assert!(
            issuer.claims(&claims(&format!(r#""aud":{good}"#))).is_ok(),
            "{good}"
        );
    }
    for other in [
        r#""https://site.example/""#,
        r#"["https://site"]"#,
        "[]",
        r#""any""#,
    ] {
        let verdict = issuer.claims(&claims(&format!(r#""aud":{other}"#)));
        assert_eq!(code(verdict), "token.audience", "{other}");
    }
    for wrong in [
        r#""aud""#,
        r#""aud":7"#,
        r#""aud":["https://site.example",7]"#,
    ] {
        assert_eq!(
            code(issuer.claims(&claims(wrong))),
            "token.claim",
            "{wrong}"
        );
    }
}

#[test]
fn t2_times_are_numbers_and_include_now() {
    let issuer = Issuer::new();
    let at = |name: &str, value: String| issuer.claims(&claims(&format!(r#""{name}":{value}"#)));
    assert!(at("exp", (NOW + 1).to_string()).is_ok());
    assert!(at("exp", format!("{}.5", NOW + 1)).is_ok());
    assert_eq!(code(at("exp", NOW.to_string())), "token.expired");
    for name in ["nbf", "iat"] {
        assert!(at(name, (NOW + 60).to_string()).is_ok());
        assert_eq!(
            code(at(name, (NOW + 61).to_string())),
            "token.not-yet-valid"
        );
        assert!(issuer.claims(&claims(&format!(r#""{name}""#))).is_ok());
    }
    assert_eq!(code(issuer.claims(&claims(r#""exp""#))), "token.claim");
    for name in ["exp", "nbf", "iat"] {
        for wrong in [
            r#""1798765200""#,
            "null",
            "true",
            "-1",
            "1e300",
            "[1798765200]",
        ] {
            let verdict = at(name, wrong.into());
            assert_eq!(code(verdict), "token.claim", "{name} {wrong}");
        }
    }
    assert!(at("exp", (NOW + 24 * HOUR).to_string()).is_ok());
    assert_eq!(
        code(at("exp", (NOW + 24 * HOUR + 1).to_string())),
        "token.lifetime"
    );
    assert_eq!(
        code(at("iat", (NOW - 24 * HOUR).to_string())),
        "token.lifetime"
    );
}

#[test]
fn t3_scopes_are_whole_words() {
    let issuer = Issuer::new();
    for good in ["compute.create", "a compute.create", "compute.create  b"] {
        assert!(
            issuer
                .claims(&claims(&format!(r#""scope":"{good}""#)))
                .is_ok(),
            "{good}"
        );
    }
    for other in [
        "",
        "compute",
        "compute.createx",
        "xcompute.create",
        "compute.create:/x",
        "compute.create,a",
    ] {
        let verdict = issuer.claims(&claims(&format!(r#""scope":"{other}""#)));
        assert_eq!(code(verdict), "token.scope", "{other}");
    }
    assert_eq!(code(issuer.claims(&claims(r#""scope""#))), "token.scope");
    assert_eq!(
        code(issuer.claims(&claims(r#""scope":["compute.create"]"#))),
        "token.claim"
    );
    let mut options = issuer.options();
    options.scopes = vec!["compute.create".into(), "compute.modify".into()];
    let text = token(&issuer.ec, HEADER, &claims(""));
    assert_eq!(
        code(verify_token(text.as_bytes(), &options, NOW)),
        "token.scope"
    );
}

#[test]
fn tokens_and_bundles_are_told_apart() {
    let issuer = Issuer::new();
    let text = token(&issuer.ec, HEADER, &claims(""));
    assert!(looks_like_token(text.as_bytes()) && looks_like_token(b" a.b\n"));
    for other in [
        "",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "a b.c",
        "a",
    ] {
        assert!(!looks_like_token(other.as_bytes()), "{other}");
    }
}
