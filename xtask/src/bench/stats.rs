//! Samples and what is said of them.

/// Repeated measurements of one thing, in the unit of its comparison.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    values: Vec<f64>,
}

impl Sample {
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { values }
    }

    /// How many.
    pub(crate) fn n(&self) -> usize {
        self.values.len()
    }

    /// Half of the values are below.
    pub(crate) fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// A tenth of the values are below.
    pub(crate) fn low(&self) -> f64 {
        self.at(0.1)
    }

    /// A tenth of the values are above.
    pub(crate) fn high(&self) -> f64 {
        self.at(0.9)
    }

    /// The value below which `share` of all lie, by linear interpolation; NaN without values.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a handful of values: positions are small and not negative"
    )]
    fn at(&self, share: f64) -> f64 {
        let Some(last) = self.values.len().checked_sub(1) else {
            return f64::NAN;
        };
        let position = share * last as f64;
        let below = self
            .values
            .get(position.floor() as usize)
            .copied()
            .unwrap_or(f64::NAN);
        let above = self
            .values
            .get(position.ceil() as usize)
            .copied()
            .unwrap_or(f64::NAN);
        below + (above - below) * position.fract()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_spread() {
        let sample = Sample::new(vec![5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(sample.n(), 5);
        assert!((sample.median() - 3.0).abs() < 1e-9);
        assert!((sample.low() - 1.4).abs() < 1e-9);
        assert!((sample.high() - 4.6).abs() < 1e-9);
    }

    #[test]
    fn no_value_is_no_number() {
        assert!(Sample::default().median().is_nan());
    }
}
