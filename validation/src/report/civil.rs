//! Unix seconds as a date. Always UTC: a report that was mailed is read in other time zones.

use jiff::Timestamp;

/// `2026-03-01T09:30:00`, to be followed by `Z` or a zone offset.
pub(super) fn iso(unix: i64) -> String {
    written(unix, "%Y-%m-%dT%H:%M:%S")
}

/// `2026-03-01 09:30:00 UTC`.
pub(super) fn for_people(unix: i64) -> String {
    written(unix, "%Y-%m-%d %H:%M:%S UTC")
}

/// A moment that no calendar has (from a broken clock) is shown as what it is.
fn written(unix: i64, form: &str) -> String {
    Timestamp::from_second(unix).map_or_else(
        |_| format!("@{unix}"),
        |moment| moment.strftime(form).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_clock_is_no_reason_to_panic() {
        assert_eq!(iso(1_772_357_400), "2026-03-01T09:30:00");
        assert_eq!(for_people(-1), "1969-12-31 23:59:59 UTC");
        assert_eq!(iso(i64::MAX), "@9223372036854775807");
    }
}
