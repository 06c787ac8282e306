//! Keys derived from recorded inputs.

use cedar::ClaimId;
use cedar::crypto::{self, EcdhKey};
use cedar::entropy::Purpose;
use cedar::security::token::SigningKeys;

use crate::support::{Recorded, hex_of, vector, vectors_with};

#[test]
fn ecdh_gives_the_recorded_session_keys() {
    let mut checked = 0;
    for name in vectors_with("derived") {
        let vector = vector(&name);
        let derived = &vector["derived"];
        let private = [
            &vector["inputs"]["client_ecdh_private"],
            &derived["ecdh_server_private"],
        ];
        let peer = [
            &derived["ecdh_server_public"],
            &derived["ecdh_client_public"],
        ];
        let private = private.into_iter().find(|value| value.is_string());
        let peer = peer.into_iter().find(|value| value.is_string());
        let (Some(private), Some(peer)) = (private, peer) else {
            continue;
        };
        let mut entropy = Recorded::new().with(Purpose::EcdhPrivateKey, hex_of(private));
        let own = EcdhKey::generate(&mut entropy).unwrap();
        let key = own.agree(&hex_of(peer)).unwrap();
        assert_eq!(key.expose()[..], hex_of(&derived["session_key"]), "{name}");
        checked += 1;
    }
    assert!(checked >= 20, "{checked} keys");
}

#[test]
fn claim_secrets_give_the_recorded_keys() {
    let table = vector("01_derivations");
    let secret = table["session_key_from_claim_secret"]["claim_secret_ascii"]
        .as_str()
        .unwrap();
    let key = crypto::session_key(secret.as_bytes()).unwrap();
    assert_eq!(
        key.expose()[..],
        hex_of(&table["session_key_from_claim_secret"]["key"])
    );
    for name in ["41_claim_id_session", "42_claim_session_request_claim"] {
        let vector = vector(name);
        let claim = ClaimId::parse(vector["inputs"]["claim_id"].as_str().unwrap()).unwrap();
        assert_eq!(
            claim.session_id(),
            vector["derived"]["session_id"].as_str().unwrap()
        );
        let key = claim.key().unwrap();
        assert_eq!(
            key.expose()[..],
            hex_of(&vector["derived"]["aes_key"]),
            "{name}"
        );
    }
    for name in vectors_with("security") {
        let security = &vector(&name)["security"];
        if let Some(text) = security["key_text"].as_str() {
            let key = crypto::session_key(text.as_bytes()).unwrap();
            assert_eq!(key.expose()[..], hex_of(&security["aes_key_hex"]), "{name}");
        }
    }
}

#[test]
fn a_token_issued_here_is_the_recorded_one() {
    let table = vector("01_derivations");
    let mut keys = SigningKeys::new();
    for file in table["signing_key_files"].as_array().unwrap() {
        let id = file["key_id"].as_str().unwrap();
        keys.add_file(id, &hex_of(&file["file_bytes"])).unwrap();
    }
    let token = table["idtoken_akep2"]["token"].as_str().unwrap();
    let payload = r#"{"iat":1700000000,"exp":4000000000,"iss":"test.pool","jti":"00112233445566778899aabbccddeeff","sub":"pilot@test.pool"}"#;
    assert_eq!(keys.issue("TESTKEY", payload).unwrap().unwrap(), token);
}

#[test]
fn a_point_off_the_curve_is_refused() {
    let own = EcdhKey::generate(&mut Recorded::new()).unwrap();
    let mut point = *own.public_point();
    point[64] ^= 1;
    assert!(own.agree(&point).is_err());
    assert!(own.agree(&[0]).is_err());
    assert!(own.agree(&[]).is_err());
    assert!(own.agree(&own.public_point()[..64]).is_err());
}
