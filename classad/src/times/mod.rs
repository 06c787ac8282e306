//! Dates without a clock: the civil calendar, and the two spellings of times.
//!
//! There is no time zone data in this crate: "local time" is a fixed offset from UTC that the caller gives.

mod strftime;

use crate::value::{AbsoluteTime, real_to_int};

pub(crate) use strftime::strftime;

/// A point in time taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// 1..=12
    pub(crate) month: i64,
    /// 1..=31
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    /// 0 = Sunday
    pub(crate) weekday: i64,
    /// 0 = January 1st
    pub(crate) yearday: i64,
}

const DAY: i64 = 86_400;

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar. Months beyond 1..=12 carry into the year.
pub(crate) const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let months = year * 12 + month - 1;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Takes seconds since the epoch apart; `None` beyond some 290 million years.
pub(crate) fn civil(seconds: i64) -> Option<Civil> {
    if seconds.unsigned_abs() > 1 << 53 {
        return None;
    }
    let days = seconds.div_euclid(DAY);
    let rest = seconds.rem_euclid(DAY);
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Some(Civil {
        year,
        month,
        day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
        hour: rest / 3600,
        minute: rest / 60 % 60,
        second: rest % 60,
        weekday: (days + 4).rem_euclid(7),
        yearday: days - days_from_civil(year, 1, 1),
    })
}

/// `2003-01-25T09:00:00-06:00`.
pub(crate) fn format_absolute(time: AbsoluteTime) -> String {
    let offset = i64::from(time.offset);
    let Some(c) = time.seconds.checked_add(offset).and_then(civil) else {
        return String::new();
    };
    // HTCondor prints UTC with a minus sign (`htcondor:src/classad/util.cpp`, absTimeToString)
    let sign = if offset > 0 { '+' } else { '-' };
    let (hours, minutes) = (offset.abs() / 3600, offset.abs() / 60 % 60);
    format!(
        "{}-{:02}-{:02}T{:02}:{:02}:{:02}{sign}{hours:02}:{minutes:02}",
        c.year, c.month, c.day, c.hour, c.minute, c.second
    )
}

/// `[-][[days+]hh:]mm:]ss[.fff]`, leading parts that are zero left out.
pub(crate) fn format_relative(seconds: f64) -> String {
    let sign = if seconds < 0.0 { "-" } else { "" };
    let seconds = seconds.abs();
    let fraction = seconds - seconds.floor();
    let whole = real_to_int(seconds).max(0);
    let (days, hours, minutes) = (whole / DAY, whole % DAY / 3600, whole % 3600 / 60);
    let rest = if fraction == 0.0 {
        format!("{:02}", whole % 60)
    } else {
        let with_fraction = crate::value::int_to_real(whole % 60) + fraction;
        format!(
            "{:0>2}",
            crate::print::number::general(with_fraction, 6, false)
        )
    };
    if days > 0 {
        format!("{sign}{days}+{hours:02}:{minutes:02}:{rest}")
    } else if hours > 0 {
        format!("{sign}{hours:02}:{minutes:02}:{rest}")
    } else if minutes > 0 {
        format!("{sign}{minutes:02}:{rest}")
    } else {
        format!("{sign}{rest}")
    }
}

/// Reads `dddd dd dd dd dd dd`, any non-digits between the groups, all groups but the year optional, then optionally
/// `Z`, `+hhmm`, `-hh:mm`. Without an offset the time is taken as UTC.
pub(crate) fn parse_absolute(text: &str) -> Option<AbsoluteTime> {
    let trimmed = text.trim_end();
    let (body, offset) = split_offset(trimmed, text);
    let mut rest = body.as_bytes();
    let mut group = |width: usize| -> Option<i64> {
        let skip = rest.iter().take_while(|b| !b.is_ascii_digit()).count();
        rest = rest.get(skip..).unwrap_or_default();
        let digits = rest.get(..width)?;
        // as atoi does, a group ends at its first non-digit, yet takes its full width
        let number = digits
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .fold(0, |n, b| n * 10 + i64::from(b - b'0'));
        rest = rest.get(width..).unwrap_or_default();
        Some(number)
    };
    let year = group(4)?;
    let month = group(2);
    let day = group(2);
    let hour = group(2).unwrap_or(0);
    let minute = group(2).unwrap_or(0);
    let second = group(2).unwrap_or(0);
    if rest.iter().any(u8::is_ascii_digit) {
        return None;
    }
    // a missing month is January, a missing day the day before the 1st, as mktime() reads zeros
    let days = days_from_civil(year, month.unwrap_or(1), 0) + day.unwrap_or(0);
    let local = days * DAY + hour * 3600 + minute * 60 + second;
    if local == -1 {
        return None;
    }
    Some(AbsoluteTime {
        seconds: local - i64::from(offset),
        offset,
    })
}

/// Cuts a time zone from the end; the offset is in seconds.
fn split_offset<'a>(trimmed: &'a str, text: &'a str) -> (&'a str, i32) {
    if let Some(body) = trimmed
        .strip_suffix(['z', 'Z'])
        .filter(|body| !body.is_empty())
    {
        return (body, 0);
    }
    for (length, colon) in [(5, false), (6, true)] {
        let Some(at) = text.len().checked_sub(length).filter(|at| *at > 0) else {
            continue;
        };
        let Some(zone) = text.get(at..) else { continue };
        let sign = match zone.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => continue,
        };
        let (hours, minutes) = match (colon, zone.get(1..3), zone.get(3..), zone.get(4..)) {
            (false, Some(h), Some(m), _) => (h, m),
            (true, Some(h), Some(m), Some(after)) if m.starts_with(':') => (h, after),
            _ => continue,
        };
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if all_digits(hours) && all_digits(minutes) {
            let hours: i32 = hours.parse().unwrap_or(0);
            let minutes: i32 = minutes.parse().unwrap_or(0);
            return (
                text.get(..at).unwrap_or(""),
                sign * (hours * 3600 + minutes * 60),
            );
        }
    }
    (text, 0)
}

/// Reads `[-][days d|+][hours h|:][minutes m|:][seconds[.fff][s]]`.
pub(crate) fn parse_relative(text: &str) -> Option<f64> {
    let mut rest = text.trim_end();
    let mut total = 0.0;
    if let Some(before) = rest
        .strip_suffix(['s', 'S'])
        .or_else(|| rest.ends_with(|c: char| c.is_ascii_digit()).then_some(rest))
    {
        rest = before.trim_end();
        let cut = rest.trim_end_matches(|c: char| c.is_ascii_digit());
        let cut = match cut.strip_suffix('.') {
            Some(whole) => whole.trim_end_matches(|c: char| c.is_ascii_digit()),
            None => cut,
        };
        let digits = rest.get(cut.len()..).unwrap_or("");
        total += digits.parse::<f64>().unwrap_or(0.0);
        rest = cut;
    }
    for (letter, mark, unit) in [('m', ':', 60.0), ('h', ':', 3600.0), ('d', '+', 86_400.0)] {
        rest = rest.trim_end();
        let found = rest.strip_suffix(|c: char| c.eq_ignore_ascii_case(&letter) || c == mark);
        if let Some(before) = found {
            let before = before.trim_end();
            let cut = before.trim_end_matches(|c: char| c.is_ascii_digit());
            let digits = before.get(cut.len()..).unwrap_or("");
            total += unit * f64::from(digits.parse::<i32>().unwrap_or(0));
            rest = cut;
        }
    }
    rest = rest.trim_end();
    let (rest, sign) = match rest.strip_suffix('-') {
        Some(before) => (before, -1.0),
        None => (rest, 1.0),
    };
    rest.trim_end().is_empty().then_some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_round_trips() {
        for seconds in [
            0,
            -1,
            951_782_399,
            951_782_400,
            1_700_000_000,
            -62_135_596_800,
        ] {
            let c = civil(seconds).unwrap();
            let back = days_from_civil(c.year, c.month, c.day) * DAY
                + c.hour * 3600
                + c.minute * 60
                + c.second;
            assert_eq!(back, seconds);
        }
        assert_eq!(civil(0).unwrap().weekday, 4);
        assert_eq!(
            civil(951_782_400).map(|c| (c.month, c.day, c.yearday)),
            Some((2, 29, 59))
        );
    }

    #[test]
    fn times_are_read_and_printed() {
        let time = parse_absolute("2003-01-25T09:00:00-06:00").unwrap();
        assert_eq!((time.seconds, time.offset), (1_043_506_800, -21_600));
        assert_eq!(format_absolute(time), "2003-01-25T09:00:00-06:00");
        assert_eq!(
            parse_absolute("2003-01-25T09:00:00Z").unwrap().seconds,
            1_043_485_200
        );
        assert_eq!(parse_absolute("no time"), None);
        assert_eq!(parse_relative("1+00:02:00"), Some(86_520.0));
        assert_eq!(parse_relative("-5m"), Some(-300.0));
        assert_eq!(format_relative(86_520.0), "1+00:02:00");
        assert_eq!(format_relative(5.5), "5.5");
        assert_eq!(format_relative(-65.0), "-01:05");
    }
}
