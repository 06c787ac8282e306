//! Entry for the fuzz target `switch_conf`.

use crate::{config, gridmap, lease, names};

/// The configuration, the map file, a lease record and a look-up's answer from any bytes.
///
/// # Panics
/// If an accepted configuration breaks a promise: that is what the fuzzer looks for.
pub fn fuzz_switch_conf(data: &[u8]) {
    if let Ok(config) = config::Config::parse(data) {
        assert!(!config.callers.is_empty());
        assert!(
            config
                .execute_dirs
                .iter()
                .all(|dir| dir.is_absolute() && dir.parent().is_some())
        );
        assert!(!config.is_dynamic(0) && !config.is_dynamic(config::NOBODY));
        assert!(config.target_uid_min > 0);
    }
    if let Ok(Some(account)) = gridmap::find(data, "/CN=x") {
        assert!(config::is_account_name(account));
    }
    let _ = lease::Record::parse(data);
    let _ = names::decode(data, 2);
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
