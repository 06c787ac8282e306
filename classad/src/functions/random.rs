//! Random numbers for `random()`.

use std::hash::{BuildHasher, RandomState};

/// A small generator (splitmix64); not for secrets.
#[derive(Debug)]
pub(crate) struct Random {
    state: Option<u64>,
}

impl Random {
    pub(crate) const fn new(seed: Option<u64>) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits. Without a seed the first call draws one from the process's hash keys.
    pub(crate) fn next(&mut self) -> u64 {
        let state = self
            .state
            .get_or_insert_with(|| RandomState::new().hash_one(0_u8));
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A real in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        let bits = u32::try_from(self.next() >> 32).unwrap_or(0);
        f64::from(bits) / 4_294_967_296.0
    }
}
