//! Sizes with units (`htcondor:src/condor_utils/metric_units.cpp`, `parse_int64_bytes`).

/// A size that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// In units of `base` bytes, rounded up.
    pub(super) amount: i64,
    /// Whether a unit was written.
    pub(super) has_unit: bool,
}

/// Reads `2`, `1.5 GB`, `100k`: without a unit the number counts `base` bytes. `None` if it is anything else, such as an
/// expression.
pub(super) fn parse(text: &str, base: i64) -> Option<Size> {
    let text = text.trim();
    let digits = text
        .bytes()
        .enumerate()
        .take_while(|(at, byte)| byte.is_ascii_digit() || (*at == 0 && b"+-".contains(byte)))
        .count();
    let (whole, rest) = text.split_at_checked(digits)?;
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            rest.split_at_checked(digits)?
        }
        None => ("", rest),
    };
    if digits == 0 && !text.starts_with('.') {
        return None;
    }
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    // Three digits count; more would not change what is rounded up anyway.
    let thousandths = format!("{fraction:0<3}")
        .get(..3)
        .and_then(|text| text.parse::<i64>().ok())?;
    let unit = rest.trim_start();
    let multiplier = match unit.bytes().next() {
        None => base,
        Some(b'k' | b'K') => 1 << 10,
        Some(b'm' | b'M') => 1 << 20,
        Some(b'g' | b'G') => 1 << 30,
        Some(b't' | b'T') => 1 << 40,
        Some(_) => return None,
    };
    let after = unit.get(1..).unwrap_or("");
    let after = after.strip_prefix(['b', 'B']).unwrap_or(after);
    if !after.trim().is_empty() {
        return None;
    }
    let bytes = i128::from(whole) * i128::from(multiplier)
        + i128::from(thousandths) * i128::from(multiplier) / 1000;
    let amount = (bytes + i128::from(base) - 1) / i128::from(base);
    Some(Size {
        amount: i64::try_from(amount).ok()?,
        has_unit: !unit.is_empty(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        const MIB: i64 = 1 << 20;
        for (text, base, amount) in [
            ("100", MIB, Some(100)),
            ("2G", MIB, Some(2048)),
            ("2 gb", MIB, Some(2048)),
            ("1.5G", MIB, Some(1536)),
            ("1k", MIB, Some(1)),
            ("0.5M", 1 << 10, Some(512)),
            (".5G", MIB, Some(512)),
            ("1T", 1 << 10, Some(1 << 30)),
            // Rounded up, as there.
            ("-1", MIB, Some(0)),
            ("9223372036854775807T", MIB, None),
            ("10 * 2", MIB, None),
            ("10X", MIB, None),
            ("", MIB, None),
            ("G", MIB, None),
        ] {
            assert_eq!(parse(text, base).map(|size| size.amount), amount, "{text}");
        }
        assert!(parse("1G", MIB).unwrap().has_unit);
        assert!(!parse("1", MIB).unwrap().has_unit);
    }
}
