//! Tokens of the SciTokens and WLCG profiles.

use std::fs;

use credential::{TokenIssuer, TokenOptions, verify_token};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sha::sha256;
use openssl::sign::Signer;

use super::Matrix;
use crate::common::token::{b64, jwk, jwks, signature, token};
use crate::common::{HOUR, NOW, ec_key, rsa_key};

const ISSUER: &str = "https://issuer.example";

fn claims(more: &str) -> String {
    format!(
        r#"{{"iss":"{ISSUER}","sub":"jane","aud":"here","scope":"compute.create","nbf":{NOW},"iat":{NOW},"exp":{}{more}}}"#,
        NOW + HOUR
    )
}

/// The claims with one member said otherwise; an empty value leaves it out.
fn with(name: &str, value: &str) -> String {
    let (nbf, exp) = (NOW.to_string(), (NOW + HOUR).to_string());
    let mut members: Vec<(&str, &str)> = vec![
        ("iss", "\"https://issuer.example\""),
        ("sub", "\"jane\""),
        ("aud", "\"here\""),
        ("scope", "\"compute.create\""),
        ("nbf", &nbf),
        ("iat", &nbf),
        ("exp", &exp),
    ];
    members.retain(|(own, _)| *own != name);
    if !value.is_empty() {
        members.push((name, value));
    }
    let members: Vec<String> = members
        .iter()
        .map(|(n, v)| format!("\"{n}\":{v}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn tokens() {
    let mut m = Matrix::default();
    let folder = tempfile::tempdir().unwrap();
    let (rsa, ec, small, other) = (rsa_key(2048), ec_key(), rsa_key(1024), ec_key());
    let file = folder.path().join("jwks");
    let keys = [
        jwk(&rsa, "r", r#","alg":"RS256","use":"sig""#),
        jwk(&ec, "e", ""),
        jwk(&small, "small", ""),
        jwk(&other, "enc", r#","use":"enc""#),
        jwk(&other, "p384", "").replace("P-256", "P-384"),
        r#"{"kty":"EC","crv":"P-256","kid":"broken","x":"AA","y":"AA"}"#.to_owned(),
        r#"{"kty":"oct","kid":"secret","k":"AAAA"}"#.to_owned(),
        r#"{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"AAAA"}"#.to_owned(),
    ];
    fs::write(&file, jwks(&keys)).unwrap();
    let issuer = TokenIssuer {
        url: ISSUER.into(),
        jwks: file,
    };
    let options = TokenOptions::new(
        vec![issuer],
        vec!["here".into(), "https://wlcg.cern.ch/jwt/v1/any".into()],
    );
    let mut judge = |case: &str, text: &str, wanted: &str| {
        let got = match verify_token(text.as_bytes(), &options, NOW) {
            Ok(token) => token.identity().to_string(),
            Err(error) => error.code().to_owned(),
        };
        m.note(case, got == wanted, wanted, &got);
    };
    let es = r#"{"alg":"ES256","typ":"JWT","kid":"e"}"#;
    let rs = r#"{"alg":"RS256","typ":"JWT","kid":"r"}"#;
    let jane = "https://issuer.example,jane";
    let good = token(&ec, es, &claims(""));
    judge("ES256", &good, jane);
    judge("RS256", &token(&rsa, rs, &claims("")), jane);
    judge("with a line end", &format!("{good}\n"), jane);
    for (case, header) in [
        ("at+jwt", r#"{"alg":"ES256","typ":"at+jwt","kid":"e"}"#),
        (
            "application/at+jwt",
            r#"{"alg":"ES256","typ":"application/at+jwt","kid":"e"}"#,
        ),
        ("small letters", r#"{"alg":"ES256","typ":"jwt","kid":"e"}"#),
        ("no type", r#"{"alg":"ES256","kid":"e"}"#),
        (
            "a member nobody knows",
            r#"{"alg":"ES256","kid":"e","x":{"y":[1]}}"#,
        ),
        ("blanks", "{ \"alg\" : \"ES256\" , \"kid\" : \"e\" }"),
    ] {
        judge(
            &format!("header: {case}"),
            &token(&ec, header, &claims("")),
            jane,
        );
    }
    for (case, header, wanted) in [
        (
            "no kid among several keys",
            r#"{"alg":"ES256"}"#,
            "token.key",
        ),
        (
            "a kid nobody has",
            r#"{"alg":"ES256","kid":"x"}"#,
            "token.key",
        ),
        (
            "a kid that is a number",
            r#"{"alg":"ES256","kid":1}"#,
            "token.malformed",
        ),
        (
            "a kid that is a path",
            r#"{"alg":"ES256","kid":"../../etc/passwd"}"#,
            "token.key",
        ),
        ("no alg", r#"{"kid":"e"}"#, "token.malformed"),
        ("alg none", r#"{"alg":"none","kid":"e"}"#, "token.algorithm"),
        ("alg None", r#"{"alg":"None","kid":"e"}"#, "token.algorithm"),
        (
            "alg of the other key",
            r#"{"alg":"RS256","kid":"e"}"#,
            "token.algorithm",
        ),
        (
            "alg ES384",
            r#"{"alg":"ES384","kid":"e"}"#,
            "token.algorithm",
        ),
        (
            "alg HS256",
            r#"{"alg":"HS256","kid":"e"}"#,
            "token.algorithm",
        ),
        (
            "alg in small letters",
            r#"{"alg":"es256","kid":"e"}"#,
            "token.algorithm",
        ),
        (
            "the other EC key",
            r#"{"alg":"ES256","kid":"enc"}"#,
            "token.algorithm",
        ),
        (
            "a key of another curve",
            r#"{"alg":"ES256","kid":"p384"}"#,
            "token.algorithm",
        ),
        (
            "a secret key",
            r#"{"alg":"HS256","kid":"secret"}"#,
            "token.algorithm",
        ),
        (
            "a key that cannot be read",
            r#"{"alg":"ES256","kid":"broken"}"#,
            "jwks.malformed",
        ),
        (
            "a key of its own",
            r#"{"alg":"ES256","kid":"e","jwk":{}}"#,
            "token.header",
        ),
        (
            "the address of a key",
            r#"{"alg":"ES256","kid":"e","jku":"https://x"}"#,
            "token.header",
        ),
        (
            "a certificate",
            r#"{"alg":"ES256","kid":"e","x5c":[]}"#,
            "token.header",
        ),
        (
            "the address of a certificate",
            r#"{"alg":"ES256","kid":"e","x5u":""}"#,
            "token.header",
        ),
        (
            "crit",
            r#"{"alg":"ES256","kid":"e","crit":["exp"]}"#,
            "token.header",
        ),
        (
            "an empty crit",
            r#"{"alg":"ES256","kid":"e","crit":[]}"#,
            "token.header",
        ),
        (
            "unencoded payload",
            r#"{"alg":"ES256","kid":"e","b64":false}"#,
            "token.header",
        ),
        (
            "an identity token",
            r#"{"alg":"ES256","kid":"e","typ":"id+jwt"}"#,
            "token.type",
        ),
        (
            "alg twice",
            r#"{"alg":"none","alg":"ES256","kid":"e"}"#,
            "token.malformed",
        ),
        ("a list", r#"["ES256"]"#, "token.malformed"),
    ] {
        judge(
            &format!("header: {case}"),
            &token(&ec, header, &claims("")),
            wanted,
        );
    }
    let small_header = r#"{"alg":"RS256","kid":"small"}"#;
    judge(
        "a key of RSA 1024",
        &token(&small, small_header, &claims("")),
        "token.algorithm",
    );
    judge(
        "another key signed",
        &token(&other, es, &claims("")),
        "token.signature",
    );
    // The public key as the secret of HS256.
    let signed = format!(
        "{}.{}",
        b64(br#"{"alg":"HS256","kid":"r"}"#),
        b64(claims("").as_bytes())
    );
    let secret = PKey::hmac(&rsa.public_key_to_pem().unwrap()).unwrap();
    let mac = Signer::new(MessageDigest::sha256(), &secret)
        .unwrap()
        .sign_oneshot_to_vec(signed.as_bytes())
        .unwrap();
    judge(
        "HS256 with the public key",
        &format!("{signed}.{}", b64(&mac)),
        "token.algorithm",
    );
    // Signatures.
    let signed = format!("{}.{}", b64(es.as_bytes()), b64(claims("").as_bytes()));
    let raw = signature(&ec, signed.as_bytes());
    let as_der = EcdsaSig::sign(&sha256(signed.as_bytes()), &ec.ec_key().unwrap())
        .unwrap()
        .to_der()
        .unwrap();
    for (case, bytes) in [
        ("DER", as_der),
        ("empty", vec![]),
        ("zeros", vec![0; 64]),
        ("one byte more", [raw.clone(), vec![0]].concat()),
        ("one byte less", raw[..63].to_vec()),
        ("r and s changed places", [&raw[32..], &raw[..32]].concat()),
    ] {
        judge(
            &format!("signature: {case}"),
            &format!("{signed}.{}", b64(&bytes)),
            "token.signature",
        );
    }
    // Form.
    for (case, text) in [
        ("two parts", signed),
        ("four parts", format!("{good}.x")),
        ("five parts", format!("{good}.x.y")),
        ("padding", format!("{good}=")),
        ("standard base64", good.replacen('.', ".+", 1)),
        ("a blank inside", good.replacen('.', ". ", 1)),
        ("a line break inside", good.replacen('.', ".\n", 1)),
        ("bits that are left over", {
            // The last character of 32 bytes in base64 has two bits to spare.
            let (head, last) = good.split_at(good.len() - 1);
            let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let next = alphabet.find(last).unwrap() | 1;
            format!("{head}{}", &alphabet[next..=next])
        }),
        ("only dots", "..".into()),
        ("a payload that is no JSON", token(&ec, es, "jane")),
        ("a token in a token", token(&ec, es, &format!("\"{good}\""))),
        ("a claim twice", token(&ec, es, &claims(r#","sub":"root""#))),
        (
            "a claim twice, escaped",
            token(&ec, es, &claims(r#","\u0073ub":"root""#)),
        ),
        (
            "a claim twice, deep",
            token(&ec, es, &claims(r#","x":{"a":1,"a":2}"#)),
        ),
    ] {
        judge(&format!("form: {case}"), &text, "token.malformed");
    }
    judge(
        "form: too large",
        &token(
            &ec,
            es,
            &claims(&format!(r#","x":"{}""#, "x".repeat(16_000))),
        ),
        "token.too-large",
    );
    judge(
        "form: quite large",
        &token(
            &ec,
            es,
            &claims(&format!(r#","x":"{}""#, "x".repeat(9_000))),
        ),
        jane,
    );
    // Claims.
    for (name, value) in [
        ("nbf", ""),
        ("iat", ""),
        ("aud", r#"["there","here"]"#),
        ("aud", r#""https://wlcg.cern.ch/jwt/v1/any""#),
        ("scope", r#""storage.read:/ compute.create""#),
        ("scope", r#""compute.create storage.read:/../../x""#),
        ("ver", r#""scitoken:2.0""#),
        ("ver", r#""scitokens:2.0""#),
        ("ver", r#""scitokens:1.0""#),
        ("wlcg.ver", r#""1.0""#),
        ("wlcg.ver", r#""1.2""#),
        ("nbf", &(NOW + 60).to_string()),
        ("exp", &(NOW + 1).to_string()),
        ("exp", &format!("{}.5", NOW + 1)),
        ("exp", &format!("{}e0", NOW + 9)),
        ("jti", r#""x""#),
        ("wlcg.groups", r#"["/lab"]"#),
        ("wlcg.groups", "[]"),
    ] {
        judge(
            &format!("{name} = {value}"),
            &token(&ec, es, &with(name, value)),
            jane,
        );
    }
    for (name, value, wanted) in [
        ("iss", "", "token.claim"),
        ("iss", "1", "token.claim"),
        ("iss", r#""https://issuer.example/""#, "token.issuer"),
        ("iss", r#""https://ISSUER.example""#, "token.issuer"),
        ("iss", r#""https://issuer.example.evil""#, "token.issuer"),
        ("iss", r#""""#, "token.issuer"),
        ("sub", "", "token.claim"),
        ("sub", r#""""#, "token.claim"),
        ("sub", r#"" ""#, "token.claim"),
        ("sub", r#""a\nb""#, "token.claim"),
        ("sub", r#""a\u0000""#, "token.claim"),
        ("sub", r#""Jörg""#, "token.claim"),
        ("sub", "7", "token.claim"),
        ("aud", "", "token.claim"),
        ("aud", r#""there""#, "token.audience"),
        ("aud", "[]", "token.audience"),
        ("aud", r#""HERE""#, "token.audience"),
        ("aud", r#""here ""#, "token.audience"),
        ("aud", r#""ANY""#, "token.audience"),
        ("aud", r#"["here",1]"#, "token.claim"),
        ("aud", r#"{"here":1}"#, "token.claim"),
        ("scope", "", "token.scope"),
        ("scope", r#""""#, "token.scope"),
        ("scope", r#""compute.creates""#, "token.scope"),
        ("scope", r#""compute.create:/x""#, "token.scope"),
        ("scope", r#""xcompute.create""#, "token.scope"),
        ("scope", r#""compute.create,storage.read""#, "token.scope"),
        ("scope", r#""compute.create\tx""#, "token.scope"),
        ("scope", r#""COMPUTE.CREATE""#, "token.scope"),
        ("scope", r#"["compute.create"]"#, "token.claim"),
        ("exp", "", "token.claim"),
        ("exp", "\"2000000000\"", "token.claim"),
        ("exp", "null", "token.claim"),
        ("exp", "-1", "token.claim"),
        ("exp", "1e300", "token.claim"),
        ("exp", &NOW.to_string(), "token.expired"),
        ("exp", &(NOW - 30).to_string(), "token.expired"),
        ("exp", "0", "token.expired"),
        ("exp", &(NOW + 90_000).to_string(), "token.lifetime"),
        ("nbf", &(NOW + 61).to_string(), "token.not-yet-valid"),
        ("iat", &(NOW + 61).to_string(), "token.not-yet-valid"),
        ("nbf", "\"0\"", "token.claim"),
        ("iat", "true", "token.claim"),
        ("nbf", "0", "token.lifetime"),
        ("ver", r#""scitoken:3.0""#, "token.claim"),
        ("ver", r#""mine:1""#, "token.claim"),
        ("ver", "2", "token.claim"),
        ("wlcg.ver", r#""2.0""#, "token.claim"),
        ("wlcg.groups", r#""/lab""#, "token.claim"),
        ("wlcg.groups", r#"["lab"]"#, "token.claim"),
        ("wlcg.groups", r#"[1]"#, "token.claim"),
    ] {
        judge(
            &format!("{name} = {value}"),
            &token(&ec, es, &with(name, value)),
            wanted,
        );
    }
    m.finish(120);
}

/// Keys of a set that share a name, or say what they must not; numbers and texts at the edge of what JSON has.
#[test]
fn odd_sets_and_numbers() {
    let mut m = Matrix::default();
    let folder = tempfile::tempdir().unwrap();
    let (rsa, ec) = (rsa_key(2048), ec_key());
    let file = folder.path().join("jwks");
    let mut judge = |case: &str, set: &str, text: &str, wanted: &str| {
        fs::write(&file, set).unwrap();
        let issuer = TokenIssuer {
            url: ISSUER.into(),
            jwks: file.clone(),
        };
        let options = TokenOptions::new(vec![issuer], vec!["here".into()]);
        let got = match verify_token(text.as_bytes(), &options, NOW) {
            Ok(token) => token.identity().to_string(),
            Err(error) => error.code().to_owned(),
        };
        m.note(case, got == wanted, wanted, &got);
    };
    let jane = "https://issuer.example,jane";
    let header = |algorithm: &str, kid: &str| format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#);
    let es = token(&ec, &header("ES256", "k"), &claims(""));
    let rs = token(&rsa, &header("RS256", "k"), &claims(""));
    let one = jwks(&[jwk(&ec, "k", "")]);
    // RFC 7517 4.5: keys of different kinds may share a name.
    let both = jwks(&[jwk(&rsa, "k", ""), jwk(&ec, "k", "")]);
    judge("two kinds of one name, EC", &both, &es, jane);
    judge("two kinds of one name, RSA", &both, &rs, jane);
    let twins = jwks(&[jwk(&ec_key(), "k", ""), jwk(&ec, "k", "")]);
    judge("two EC keys of one name", &twins, &es, "jwks.malformed");
    judge(
        "the same key twice",
        &jwks(&[jwk(&ec, "k", ""), jwk(&ec, "k", "")]),
        &es,
        "jwks.malformed",
    );
    for (case, more, wanted) in [
        (
            "for another algorithm",
            r#","alg":"ES384""#,
            "token.algorithm",
        ),
        (
            "for signing only",
            r#","key_ops":["sign"]"#,
            "token.algorithm",
        ),
        ("for verifying", r#","key_ops":["verify"]"#, jane),
        ("with a certificate", r#","x5c":["MIIB"]"#, jane),
        ("with its secret half", r#","d":"AAAA""#, jane),
    ] {
        judge(
            &format!("a key {case}"),
            &jwks(&[jwk(&ec, "k", more)]),
            &es,
            wanted,
        );
    }
    for (case, set) in [
        ("no set", "{}".to_owned()),
        ("an empty set", jwks(&[])),
        ("a byte order mark", format!("\u{feff}{one}")),
        ("something behind it", format!("{one}{{}}")),
        ("its keys twice", one.replacen('{', r#"{"keys":[],"#, 1)),
        ("a list", format!("[{one}]")),
    ] {
        let wanted = if case == "an empty set" {
            "token.key"
        } else {
            "jwks.malformed"
        };
        judge(&format!("a set: {case}"), &set, &es, wanted);
    }
    for (name, value, wanted) in [
        ("exp", "1e400", "token.malformed"),
        ("exp", "18446744073709551616", "token.claim"),
        ("exp", "-0", "token.expired"),
        ("exp", "253402300800", "token.claim"),
        ("exp", "[1798765200]", "token.claim"),
        ("nbf", "1798765201", "token.not-yet-valid"),
        ("iat", "-1", "token.claim"),
        ("iat", "0", "token.lifetime"),
        ("sub", r#""\ud83d""#, "token.malformed"),
        ("sub", r#""\ud83d\ude00""#, "token.claim"),
        ("sub", r#""a,b""#, "https://issuer.example,a,b"),
        ("aud", r#"{"here":1}"#, "token.claim"),
        ("aud", r#"["there","here","here"]"#, jane),
        ("iss", r#"["https://issuer.example"]"#, "token.claim"),
        ("iss", r#""https:\/\/issuer.example""#, jane),
        ("jti", "[]", jane),
        ("wlcg.ver", r#""1.0""#, jane),
        ("wlcg.ver", r#""1.2""#, jane),
    ] {
        let text = token(&ec, &header("ES256", "k"), &with(name, value));
        judge(&format!("{name} {value}"), &one, &text, wanted);
    }
    let deep = format!(r#","x":{}{}"#, "[".repeat(200), "]".repeat(200));
    let text = token(&ec, &header("ES256", "k"), &claims(&deep));
    judge(
        "two hundred lists in each other",
        &one,
        &text,
        "token.malformed",
    );
    for algorithm in ["PS256", "RS512", "ES256K", "EdDSA", "none", ""] {
        let text = token(&ec, &header(algorithm, "k"), &claims(""));
        judge(algorithm, &one, &text, "token.algorithm");
    }
    judge(
        "a name of nothing",
        &one,
        &token(&ec, &header("ES256", ""), &claims("")),
        "token.key",
    );
    m.finish(40);
}
