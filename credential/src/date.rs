//! Unix seconds as a date people can read. The only calendar arithmetic of the crate.

use std::fmt;

use crate::der::{Element, NotDer, tag};

/// Shows Unix seconds as `2026-11-25 15:35:24 UTC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Utc(pub(crate) i64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0.div_euclid(86_400);
        let second = self.0.rem_euclid(86_400);
        // Count from 1 March of year 0, so that the leap day is the last of its year; an era is
        // the 400 years after which the Gregorian calendar repeats itself.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
            second / 3_600,
            second / 60 % 60,
            second % 60
        )
    }
}

/// Reads a UTCTime or GeneralizedTime in the one form that RFC 5280 4.1.2.5 allows: with seconds,
/// without fractions, in UTC.
pub(crate) fn parse_time(element: &Element<'_>) -> Result<i64, NotDer> {
    let digits = element.content.strip_suffix(b"Z").ok_or(NotDer)?;
    let (year, rest) = match (element.tag, digits.len()) {
        (tag::UTC_TIME, 12) => {
            let year = number(digits.get(..2))?;
            // RFC 5280 4.1.2.5.1
            let century = if year >= 50 { 1900 } else { 2000 };
            (century + year, digits.get(2..))
        }
        (tag::GENERALIZED_TIME, 14) => (number(digits.get(..4))?, digits.get(4..)),
        _ => return Err(NotDer),
    };
    let rest = rest.ok_or(NotDer)?;
    let part = |index: usize| number(rest.get(index..index + 2));
    let (month, day) = (part(0)?, part(2)?);
    let (hour, minute, second) = (part(4)?, part(6)?, part(8)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return Err(NotDer),
    };
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return Err(NotDer);
    }
    Ok(days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn number(digits: Option<&[u8]>) -> Result<i64, NotDer> {
    digits.ok_or(NotDer)?.iter().try_fold(0, |sum, digit| {
        if digit.is_ascii_digit() {
            Ok(sum * 10 + i64::from(digit - b'0'))
        } else {
            Err(NotDer)
        }
    })
}

/// The reverse of what [`Utc`] does.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_their_one_form() {
        let read = |tag, text: &str| {
            parse_time(&Element {
                tag,
                content: text.as_bytes(),
                whole: &[],
            })
            .ok()
        };
        for (tag, text, seconds) in [
            (tag::UTC_TIME, "700101000000Z", 0),
            (tag::UTC_TIME, "261125153524Z", 1_795_620_924),
            (tag::UTC_TIME, "491231235959Z", 2_524_607_999),
            (tag::UTC_TIME, "500101000000Z", -631_152_000),
            (tag::GENERALIZED_TIME, "20000229000000Z", 951_782_400),
            (tag::GENERALIZED_TIME, "99991231235959Z", 253_402_300_799),
        ] {
            assert_eq!(read(tag, text), Some(seconds), "{text}");
        }
        for (tag, text) in [
            (tag::UTC_TIME, "20261125153524Z"),
            (tag::GENERALIZED_TIME, "261125153524Z"),
            (tag::GENERALIZED_TIME, "20261125153524"),
            (tag::GENERALIZED_TIME, "20261125153524+0000"),
            (tag::GENERALIZED_TIME, "20261125153524.5Z"),
            (tag::GENERALIZED_TIME, "202611251535Z"),
            (tag::GENERALIZED_TIME, "20260229000000Z"),
            (tag::GENERALIZED_TIME, "20261301000000Z"),
            (tag::GENERALIZED_TIME, "2026-1-1000000Z"),
            (tag::GENERALIZED_TIME, "20261125246060Z"),
            (tag::OCTET_STRING, "20261125153524Z"),
        ] {
            assert_eq!(read(tag, text), None, "{text}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (1_795_620_924, "2026-11-25 15:35:24 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(Utc(seconds).to_string(), text);
        }
    }
}
