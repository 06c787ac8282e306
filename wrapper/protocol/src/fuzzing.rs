//! Entries for the fuzz targets `launch_protocol` and `switch_conf`.

use crate::{agent, broker, exec, monitor, order, policy, verdict};

/// First byte chooses the channel; what decodes must encode to the same bytes.
///
/// # Panics
/// If it does not: that is what the fuzzer looks for.
pub fn fuzz_launch_protocol(data: &[u8]) {
    let Some((channel, packet)) = data.split_first() else {
        return;
    };
    macro_rules! round_trip {
        ($kind:ty) => {
            if let Ok(value) = <$kind>::decode(packet) {
                assert_eq!(value.encode().as_deref(), Ok(packet));
            }
        };
    }
    match channel % 14 {
        0 => round_trip!(broker::Request),
        1 => round_trip!(broker::Reply),
        2 => round_trip!(agent::Request),
        3 => round_trip!(agent::Reply),
        4 => round_trip!(exec::ExecRequest),
        5 => round_trip!(exec::ExecFailure),
        6 => round_trip!(verdict::Verdict),
        7 => round_trip!(verdict::VerifyRequest),
        8 => round_trip!(policy::Request),
        9 => round_trip!(order::Order),
        10 => round_trip!(policy::Answer),
        11 => round_trip!(monitor::Ask),
        12 => {
            if let Ok(words) = verdict::words_of(packet) {
                assert_eq!(verdict::words_packet(&words).as_deref(), Ok(packet));
            }
        }
        _ => round_trip!(monitor::Reply),
    }
}

/// Entry for the fuzz target `switch_conf`: a lease record from any bytes.
pub fn fuzz_switch_conf(data: &[u8]) {
    let _ = crate::lease::Record::parse(data);
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_holds() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/switch_conf");
        let mut seen = 0;
        for file in std::fs::read_dir(corpus).expect("the corpus folder is in the repository") {
            let data = std::fs::read(file.expect("readable").path()).expect("readable");
            for cut in 0..=data.len() {
                super::fuzz_switch_conf(&data[..cut]);
            }
            seen += 1;
        }
        assert!(seen > 0);
    }
}
