//! What is written is read again, whatever it is.

use cedar::entropy::SystemEntropy;
use cedar::frame::Channel;
use cedar::secret::SessionKey;
use cedar::wire::{Coding, MessageReader, MessageWriter};
use cedar::{ClaimId, Sinful};
use classad::ClassAd;
use proptest::prelude::*;

fn codings() -> impl Strategy<Value = Coding> {
    prop_oneof![Just(Coding::Plain), Just(Coding::Encrypted)]
}

proptest! {
    #[test]
    fn values_survive(coding in codings(), int in any::<i64>(), text in "[^\\x00]{0,300}", raw in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut writer = MessageWriter::new(coding);
        writer.int(int).str(&text).bytes(&raw).str("end");
        let bytes = writer.finish().unwrap();
        let mut reader = MessageReader::new(coding, &bytes);
        prop_assert_eq!(reader.int().unwrap(), int);
        prop_assert_eq!(reader.str().unwrap(), text);
        prop_assert_eq!(reader.bytes(raw.len()).unwrap(), &raw[..]);
        prop_assert_eq!(reader.str().unwrap(), "end");
        reader.expect_end().unwrap();
    }

    #[test]
    fn doubles_keep_31_bits(value in -1e300f64..1e300) {
        let mut writer = MessageWriter::new(Coding::Plain);
        writer.double(value);
        let bytes = writer.finish().unwrap();
        let read = MessageReader::new(Coding::Plain, &bytes).double().unwrap();
        prop_assert!((read - value).abs() <= value.abs() * 2e-9, "{} {}", read, value);
    }

    #[test]
    fn ads_survive(coding in codings(), texts in proptest::collection::vec("[ -~]{0,40}", 0..8), number in any::<i64>(), flag in any::<bool>()) {
        let mut ad = ClassAd::new();
        for (index, text) in texts.iter().enumerate() {
            ad.insert(format!("S{index}"), text.as_str());
        }
        ad.insert("Number", number);
        ad.insert("Flag", flag);
        let mut writer = MessageWriter::new(coding);
        writer.ad(&ad);
        let bytes = writer.finish().unwrap();
        let read = MessageReader::new(coding, &bytes).ad().unwrap();
        for (index, text) in texts.iter().enumerate() {
            let name = format!("S{index}");
            prop_assert_eq!(read.string(&name), Some(text.clone()));
        }
        prop_assert_eq!(read.int("Number"), Some(number));
        prop_assert_eq!(read.bool("Flag"), Some(flag));
    }

    #[test]
    fn messages_survive_any_cutting(secure in any::<bool>(), messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..5000), 1..6), piece in 1usize..3000) {
        let key = SessionKey::new([3; 32]);
        let mut sender = Channel::new(1 << 20, false);
        let mut receiver = Channel::new(1 << 20, false);
        if secure {
            sender.secure(&key, &mut SystemEntropy).unwrap();
            receiver.secure(&key, &mut SystemEntropy).unwrap();
        }
        let mut wire = Vec::new();
        for message in &messages {
            sender.seal(message, &mut wire).unwrap();
        }
        let mut read = Vec::new();
        for bytes in wire.chunks(piece) {
            receiver.push(bytes);
            while let Some(message) = receiver.next_message().unwrap() {
                read.push(message);
            }
        }
        prop_assert_eq!(read, messages);
    }

    #[test]
    fn addresses_survive(a in any::<[u8; 4]>(), port in any::<u16>(), key in "[A-Za-z]{1,8}", value in "[!-~]{0,30}", alias in "[a-z.]{1,20}") {
        let sinful = Sinful::new(std::net::IpAddr::from(a), port)
            .with_addrs()
            .alias(&alias)
            .with(&key, Some(&value))
            .no_udp();
        let again = Sinful::parse(&sinful.to_string()).unwrap();
        prop_assert_eq!(&again, &sinful);
        prop_assert_eq!(again.param(&key), Some(value.as_str()));
    }

    #[test]
    fn claim_ids_survive(birth in any::<i64>(), sequence in any::<u64>(), port in any::<u16>()) {
        let address = Sinful::new("192.0.2.1".parse().unwrap(), port).no_udp();
        let claim = ClaimId::mint(&address, birth, sequence).unwrap();
        let again = ClaimId::parse(claim.as_str()).unwrap();
        prop_assert_eq!(again.session_id(), claim.session_id());
        let (again, claim) = (again.key().unwrap(), claim.key().unwrap());
        prop_assert_eq!(again.expose(), claim.expose());
    }

    #[test]
    fn any_text_is_an_address_or_an_error(text in "\\PC{0,80}") {
        let _ = Sinful::parse(&text);
        let _ = Sinful::parse(&format!("<{text}>"));
        let _ = ClaimId::parse(&text);
    }
}
