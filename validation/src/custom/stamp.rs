//! Time stamps of result files: local time with the offset from UTC, a colon in it.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A moment, unix seconds, as result files have it: `2027-03-01T09:30:00+00:00`.
#[must_use]
pub fn local(seconds: i64) -> String {
    at(seconds, TimeZone::system())
}

fn at(seconds: i64, zone: TimeZone) -> String {
    Timestamp::from_second(seconds)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(zone)
        .strftime("%Y-%m-%dT%H:%M:%S%:z")
        .to_string()
}

/// Now, unix seconds.
#[must_use]
pub fn now() -> i64 {
    Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_has_a_colon() {
        assert_eq!(
            at(1_803_893_400, TimeZone::UTC),
            "2027-03-01T09:30:00+00:00"
        );
        let zone = TimeZone::fixed(jiff::tz::offset(-3));
        assert_eq!(at(1_803_893_400, zone), "2027-03-01T06:30:00-03:00");
    }
}
