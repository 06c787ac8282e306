//! Entry for the fuzz target `switch_conf`.

use launch_protocol::lease;

/// A lease record from any bytes.
pub fn fuzz_switch_conf(data: &[u8]) {
    let _ = lease::Record::parse(data);
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
