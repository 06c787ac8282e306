//! `strftime` in the C locale.

use std::fmt::Write as _;

use super::{Civil, days_from_civil};

/// Longest text, as HTCondor's buffer has it (`htcondor:src/classad/fnCall.cpp`, `make_formatted_time`).
const LONGEST: usize = 1022;

const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Formats a time; `None` if the text becomes too long. What is no conversion stands for itself.
pub(crate) fn strftime(format: &str, c: &Civil) -> Option<String> {
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(letter) = rest.next() {
        if letter == '%' {
            // E and O ask for the locale's alternative digits: there are none in the C locale
            let conversion = match rest.next() {
                Some('E' | 'O') => rest.next(),
                other => other,
            };
            match conversion {
                Some(conversion) => convert(&mut text, conversion, c),
                None => text.push('%'),
            }
        } else {
            text.push(letter);
        }
        if text.len() > LONGEST {
            return None;
        }
    }
    Some(text)
}

fn convert(text: &mut String, conversion: char, c: &Civil) {
    let weekday = pick(&WEEKDAYS, c.weekday);
    let month = pick(&MONTHS, c.month - 1);
    let short = |name: &'static str| name.get(..3).unwrap_or(name);
    let hour12 = if c.hour % 12 == 0 { 12 } else { c.hour % 12 };
    let half = if c.hour >= 12 { "PM" } else { "AM" };
    let (iso_year, iso_week) = iso_week(c);
    let _infallible = match conversion {
        'a' => write!(text, "{}", short(weekday)),
        'A' => write!(text, "{weekday}"),
        'b' | 'h' => write!(text, "{}", short(month)),
        'B' => write!(text, "{month}"),
        'c' => write!(
            text,
            "{} {} {:>2} {:02}:{:02}:{:02} {}",
            short(weekday),
            short(month),
            c.day,
            c.hour,
            c.minute,
            c.second,
            c.year
        ),
        'C' => write!(text, "{:02}", c.year.div_euclid(100)),
        'd' => write!(text, "{:02}", c.day),
        'D' | 'x' => write!(
            text,
            "{:02}/{:02}/{:02}",
            c.month,
            c.day,
            c.year.rem_euclid(100)
        ),
        'e' => write!(text, "{:>2}", c.day),
        'F' => write!(text, "{}-{:02}-{:02}", c.year, c.month, c.day),
        'g' => write!(text, "{:02}", iso_year.rem_euclid(100)),
        'G' => write!(text, "{iso_year}"),
        'H' => write!(text, "{:02}", c.hour),
        'I' => write!(text, "{hour12:02}"),
        'j' => write!(text, "{:03}", c.yearday + 1),
        'k' => write!(text, "{:>2}", c.hour),
        'l' => write!(text, "{hour12:>2}"),
        'm' => write!(text, "{:02}", c.month),
        'M' => write!(text, "{:02}", c.minute),
        'n' => writeln!(text),
        'p' => write!(text, "{half}"),
        'P' => write!(text, "{}", half.to_ascii_lowercase()),
        'r' => write!(text, "{hour12:02}:{:02}:{:02} {half}", c.minute, c.second),
        'R' => write!(text, "{:02}:{:02}", c.hour, c.minute),
        's' => {
            let days = days_from_civil(c.year, c.month, c.day);
            write!(
                text,
                "{}",
                days * 86_400 + c.hour * 3600 + c.minute * 60 + c.second
            )
        }
        'S' => write!(text, "{:02}", c.second),
        't' => write!(text, "\t"),
        'T' | 'X' => write!(text, "{:02}:{:02}:{:02}", c.hour, c.minute, c.second),
        'u' => write!(text, "{}", if c.weekday == 0 { 7 } else { c.weekday }),
        'U' => write!(text, "{:02}", (c.yearday + 7 - c.weekday) / 7),
        'V' => write!(text, "{iso_week:02}"),
        'w' => write!(text, "{}", c.weekday),
        'W' => write!(text, "{:02}", (c.yearday + 7 - (c.weekday + 6) % 7) / 7),
        'y' => write!(text, "{:02}", c.year.rem_euclid(100)),
        'Y' => write!(text, "{}", c.year),
        'z' => write!(text, "+0000"),
        // the only zone without data about zones
        'Z' => write!(text, "UTC"),
        '%' => write!(text, "%"),
        other => write!(text, "%{other}"),
    };
}

fn pick(names: &[&'static str], at: i64) -> &'static str {
    usize::try_from(at)
        .ok()
        .and_then(|at| names.get(at))
        .copied()
        .unwrap_or("?")
}

/// Year and week of ISO 8601: the week belongs to the year its Thursday is in.
fn iso_week(c: &Civil) -> (i64, i64) {
    let thursday = c.yearday - (c.weekday + 6) % 7 + 3;
    let length = |year: i64| days_from_civil(year + 1, 1, 1) - days_from_civil(year, 1, 1);
    if thursday < 0 {
        (c.year - 1, (thursday + length(c.year - 1)) / 7 + 1)
    } else if thursday >= length(c.year) {
        (c.year + 1, 1)
    } else {
        (c.year, thursday / 7 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::civil;
    use super::*;

    #[test]
    fn common_formats() {
        let c = civil(1_700_000_000).unwrap();
        let show = |format: &str| strftime(format, &c).unwrap();
        assert_eq!(show("%c"), "Tue Nov 14 22:13:20 2023");
        assert_eq!(
            show("%Y-%m-%dT%H:%M:%S %j %U %W %V %u"),
            "2023-11-14T22:13:20 318 46 46 46 2"
        );
        assert_eq!(show("%I:%M %p %% %q"), "10:13 PM % %q");
        assert_eq!(strftime(&"x".repeat(2000), &c), None);
    }

    #[test]
    fn iso_weeks_at_the_turn_of_the_year() {
        let week = |seconds: i64| strftime("%G-%V", &civil(seconds).unwrap()).unwrap();
        assert_eq!(week(1_609_459_200), "2020-53"); // 2021-01-01, a Friday
        assert_eq!(week(1_546_214_400), "2019-01"); // 2018-12-31, a Monday
    }
}
