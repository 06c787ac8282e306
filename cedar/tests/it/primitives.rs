//! Values and ads against the recorded tables.

use cedar::wire::{Coding, MessageReader, MessageWriter, WireError};
use classad::ClassAd;

use crate::support::{assert_ad, frames, hex_of, vector, vectors_with};

#[test]
fn the_tables_of_primitive_values_hold_both_ways() {
    let table = vector("00_primitives");
    for row in table["int"].as_array().unwrap() {
        let value = row["value"].as_i64().unwrap();
        let mut writer = MessageWriter::new(Coding::Plain);
        writer.int(value);
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes, hex_of(&row["bytes"]));
        assert_eq!(MessageReader::new(Coding::Plain, &bytes).int(), Ok(value));
    }
    for row in table["double"].as_array().unwrap() {
        let mut writer = MessageWriter::new(Coding::Plain);
        writer.double(row["value"].as_f64().unwrap());
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes, hex_of(&row["bytes"]), "{row}");
        let read = MessageReader::new(Coding::Plain, &bytes).double().unwrap();
        let wanted = row["decoded_by_peer"].as_f64().unwrap();
        assert!(
            (read - wanted).abs() <= wanted.abs() * 1e-12,
            "{read} {wanted}"
        );
    }
    for (field, coding) in [
        ("string_plain", Coding::Plain),
        ("string_when_encryption_is_on", Coding::Encrypted),
    ] {
        for row in table[field].as_array().unwrap() {
            let text = row["value"].as_str().unwrap();
            let mut writer = MessageWriter::new(coding);
            writer.str(text);
            let bytes = writer.finish().unwrap();
            assert_eq!(bytes, hex_of(&row["bytes"]));
            let mut reader = MessageReader::new(coding, &bytes);
            assert_eq!(reader.str().as_deref(), Ok(text));
            reader.expect_end().unwrap();
        }
    }
}

#[test]
fn the_legacy_null_string_reads_as_empty() {
    let table = vector("00_primitives");
    for (field, coding) in [("plain", Coding::Plain), ("encrypted", Coding::Encrypted)] {
        let bytes = hex_of(&table["null_string_marker"][field]);
        let mut reader = MessageReader::new(coding, &bytes);
        assert_eq!(reader.str().as_deref(), Ok(""));
        assert!(reader.at_end());
    }
}

#[test]
fn small_ads_are_coded_as_recorded() {
    let table = vector("00_primitives");
    let mut ad = ClassAd::new();
    ad.insert("Command", 441);
    for (field, coding) in [
        ("classad_plain", Coding::Plain),
        ("classad_when_encryption_is_on", Coding::Encrypted),
    ] {
        let mut writer = MessageWriter::new(coding);
        writer.ad(&ad);
        assert_eq!(writer.finish().unwrap(), hex_of(&table[field]["bytes"]));
    }
}

#[test]
fn the_ads_of_every_handshake_decode_to_the_recorded_values() {
    let mut checked = 0;
    for name in vectors_with("frames") {
        let vector = vector(&name);
        let frames = frames(&vector);
        for field in ["security_ad", "client_security_ad"] {
            if !vector["decoded"][field].is_object() {
                continue;
            }
            let opening = frames
                .iter()
                .map(|frame| &frame.raw[5..])
                .find(|body| body.starts_with(&60010i64.to_be_bytes()));
            let Some(body) = opening else { continue };
            let mut reader = MessageReader::new(Coding::Plain, body);
            reader.int().unwrap();
            assert_ad(&reader.ad().unwrap(), &vector["decoded"][field], &name);
            reader.expect_end().unwrap();
            checked += 1;
        }
        for field in ["server_reply_ad", "server_resume_reply", "resume_reply"] {
            if vector["decoded"][field].is_object() {
                // The first answer to the opening; a reversed connection has frames before it.
                let answer = frames
                    .iter()
                    .skip_while(|frame| !frame.raw[5..].starts_with(&60010i64.to_be_bytes()))
                    .find(|frame| frame.dir == crate::support::Dir::ToClient)
                    .unwrap();
                let mut reader = MessageReader::new(Coding::Plain, &answer.raw[5..]);
                let ad = reader
                    .ad()
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_ad(&ad, &vector["decoded"][field], &name);
                checked += 1;
            }
        }
        if vector["decoded"]["post_auth_ad"].is_object() {
            let sealed = frames
                .iter()
                .filter(|frame| frame.dir == crate::support::Dir::ToClient)
                .find_map(|frame| frame.plain.as_ref());
            if let Some(plain) = sealed.filter(|_| name != "33_no_authentication_query") {
                let mut reader = MessageReader::new(Coding::Encrypted, plain);
                let ad = reader
                    .ad()
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_ad(&ad, &vector["decoded"]["post_auth_ad"], &name);
                checked += 1;
            }
        }
    }
    assert!(checked >= 60, "{checked} ads");
}

#[test]
fn private_attributes_behind_a_marker_are_read_and_counted_once() {
    let vector = vector("40_private_ads_zkm");
    let plain: Vec<u8> = frames(&vector)
        .into_iter()
        .filter(|frame| frame.dir == crate::support::Dir::ToClient)
        .filter_map(|frame| frame.plain)
        .skip(1)
        .flatten()
        .collect();
    let mut reader = MessageReader::new(Coding::Encrypted, &plain);
    for wanted in vector["decoded"]["result"].as_array().unwrap() {
        assert_eq!(reader.int(), Ok(1));
        let ad = reader.ad().unwrap();
        assert_ad(&ad, wanted, "private ad");
        assert!(cedar::ClaimId::parse(&ad.string("ClaimId").unwrap()).is_ok());
    }
    assert_eq!(reader.int(), Ok(0));
    reader.expect_end().unwrap();
}

#[test]
fn private_attributes_never_leave_in_clear() {
    let mut ad = ClassAd::new();
    ad.insert("Name", "slot1");
    ad.insert("CLAIMID", "secret");
    ad.insert("_Condor_Priv_X", "secret");
    let read = |coding, private: bool| {
        let mut writer = MessageWriter::new(coding);
        if private {
            writer.ad(&ad);
        } else {
            writer.ad_without_private(&ad);
        }
        let bytes = writer.finish().unwrap();
        MessageReader::new(coding, &bytes).ad().unwrap().len()
    };
    assert_eq!(read(Coding::Plain, true), 1);
    assert_eq!(read(Coding::Encrypted, true), 3);
    assert_eq!(read(Coding::Encrypted, false), 1);
}

#[test]
fn lines_that_crossed_a_real_collector_mean_the_same_after_our_coding() {
    let table = vector("50_classad_coding");
    for field in ["sent_lines", "received_lines"] {
        let lines: Vec<_> = table[field]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line.as_str().unwrap())
            .collect();
        let mut writer = MessageWriter::new(Coding::Encrypted);
        writer.int(i64::try_from(lines.len()).unwrap());
        for line in &lines {
            writer.str(line);
        }
        writer.str("Machine").str("Job");
        let bytes = writer.finish().unwrap();
        let ad = MessageReader::new(Coding::Encrypted, &bytes).ad().unwrap();
        assert_eq!(ad.len(), lines.len(), "{field}");
        assert_eq!(ad.string("S1").as_deref(), Some("a\\b\"c"));
        assert_eq!(ad.string("S2").as_deref(), Some("ends with backslash\\"));
        assert_eq!(ad.string("S4").as_deref(), Some("tab\there"));
        assert_eq!(ad.int("I3"), Some(i64::MIN));
        assert_eq!(ad.string("Utf8").as_deref(), Some("caf\u{e9}"));
        let mut again = MessageWriter::new(Coding::Plain);
        again.ad(&ad);
        let bytes = again.finish().unwrap();
        assert_eq!(MessageReader::new(Coding::Plain, &bytes).ad().unwrap(), ad);
    }
}

#[test]
fn the_recorded_double_arrives() {
    let vector = vector("53_double_set_priority_factor");
    let sent = vector["decoded"]["double"].as_f64().unwrap();
    let plain: Vec<u8> = frames(&vector)
        .into_iter()
        .filter(|frame| frame.dir == crate::support::Dir::ToServer)
        .filter_map(|frame| frame.plain)
        .next()
        .unwrap();
    let mut reader = MessageReader::new(Coding::Encrypted, &plain);
    reader.str().unwrap();
    assert!((reader.double().unwrap() - sent).abs() < 1e-6);
}

#[test]
fn a_message_must_be_read_to_its_end() {
    let bytes = 7i64.to_be_bytes();
    let reader = MessageReader::new(Coding::Plain, &bytes);
    assert_eq!(reader.expect_end(), Err(WireError::LeftOver { left: 8 }));
}
