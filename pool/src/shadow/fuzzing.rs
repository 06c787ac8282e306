//! Entry points for the fuzzer: what an execute machine sends.

use cedar::{ClaimId, Coding, MessageReader};

use super::syscall::Call;
use crate::schedd::claim::{Activated, Claimed, may_go_on};

/// The id the answer to a request for a claim is compared with.
const ASKED: &str = "<127.0.0.1:1>#1#1#[CryptoMethods=\"AES\";]0123456789abcdef";

/// Requests of a starter, and answers of a startd. The first byte chooses what it is.
pub fn fuzz_execute_side(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    let reader = || MessageReader::new(Coding::Encrypted, body);
    match kind % 4 {
        0 => drop(Call::read(reader())),
        1 => {
            if let Ok(asked) = ClaimId::parse(ASKED) {
                drop(Claimed::read(reader(), &asked));
            }
        }
        2 => drop(Activated::read(reader())),
        _ => drop(may_go_on(reader())),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_passes() {
        let seeds =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/execute_side");
        let mut count = 0;
        for seed in std::fs::read_dir(&seeds).unwrap() {
            super::fuzz_execute_side(&std::fs::read(seed.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 10, "only {count} seeds");
    }
}
