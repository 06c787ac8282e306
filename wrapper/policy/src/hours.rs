//! The hours of the week in which payloads may be started.

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use crate::config::values::{number, words};

const DAY: u32 = 24 * 60;

/// Windows of the week and the clock they go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    windows: Vec<Window>,
    zone: Zone,
}

/// The clock of a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Zone {
    /// That of the node.
    #[default]
    Local,
    /// A named one.
    Named(String),
}

/// From a minute of some days to a minute of the same or the next day.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    /// Monday first.
    days: [bool; 7],
    from: u32,
    /// Above `from`; above a day: it ends in the next one.
    to: u32,
}

impl Zone {
    /// `local`, `UTC`, or a name that this node knows.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "local" {
            return Some(Self::Local);
        }
        TimeZone::get(text).ok()?;
        Some(Self::Named(text.to_owned()))
    }

    fn load(&self) -> Option<TimeZone> {
        match self {
            Self::Local => Some(TimeZone::system()),
            Self::Named(name) => TimeZone::get(name).ok(),
        }
    }
}

impl Hours {
    /// `Mon-Fri 20:00-06:00, Sat, Sun 12:00-24:00`: days, hours, or both; a window that ends before
    /// it begins ends on the next day.
    pub(crate) fn parse(text: &str, zone: Zone) -> Option<Self> {
        let windows = text
            .split(',')
            .map(|part| Window::parse(part.trim()))
            .collect::<Option<Vec<_>>>()?;
        Some(Self { windows, zone })
    }

    /// May a payload be started at this time? Not if the clock cannot be told.
    pub(crate) fn admit(&self, unix: i64) -> bool {
        let (Some(zone), Ok(time)) = (self.zone.load(), Timestamp::from_second(unix)) else {
            return false;
        };
        let there = time.to_zoned(zone);
        let day = day_number(there.weekday());
        let minute =
            u32::from(there.hour().unsigned_abs()) * 60 + u32::from(there.minute().unsigned_abs());
        self.windows.iter().any(|window| window.holds(day, minute))
    }
}

impl Window {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = words(text);
        let (first, second) = (parts.next()?, parts.next());
        if parts.next().is_some() {
            return None;
        }
        match second {
            Some(hours) => {
                let (from, to) = hours_of(hours)?;
                Some(Self {
                    days: days_of(first)?,
                    from,
                    to,
                })
            }
            None => match hours_of(first) {
                Some((from, to)) => Some(Self {
                    days: [true; 7],
                    from,
                    to,
                }),
                None => Some(Self {
                    days: days_of(first)?,
                    from: 0,
                    to: DAY,
                }),
            },
        }
    }

    fn holds(&self, day: usize, minute: u32) -> bool {
        let on = |day: usize| self.days.get(day).copied().unwrap_or(false);
        let range = self.from..self.to;
        (on(day) && range.contains(&minute))
            || (on((day + 6) % 7) && range.contains(&(minute + DAY)))
    }
}

fn day_number(day: Weekday) -> usize {
    usize::try_from(day.to_monday_zero_offset()).unwrap_or(0)
}

fn day_of(text: &str) -> Option<usize> {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let text = text.to_ascii_lowercase();
    DAYS.iter().position(|day| *day == text)
}

/// `Mon` or `Fri-Mon`.
fn days_of(text: &str) -> Option<[bool; 7]> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (day_of(first)?, day_of(last)?);
    let mut days = [false; 7];
    let length = (last + 7 - first) % 7;
    for step in 0..=length {
        *days.get_mut((first + step) % 7)? = true;
    }
    Some(days)
}

/// `20:00-06:00`
fn hours_of(text: &str) -> Option<(u32, u32)> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (minute_of(from)?, minute_of(to)?);
    if from == DAY {
        return None;
    }
    Some((from, if to <= from { to + DAY } else { to }))
}

fn minute_of(text: &str) -> Option<u32> {
    // Before anything is multiplied: what is longer is no time of day.
    let (hour, minute) = text.split_once(':').filter(|_| text.len() <= 5)?;
    let (hour, minute): (u32, u32) = (number(hour)?, number(minute)?);
    let sound = minute < 60 && hour * 60 + minute <= DAY;
    sound.then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unix time of a minute of the week that began on Monday 2026-11-23, UTC.
    fn at(day: i64, hour: i64, minute: i64) -> i64 {
        1_795_392_000 + ((day * 24 + hour) * 60 + minute) * 60
    }

    fn hours(text: &str) -> Hours {
        Hours::parse(text, Zone::Named("UTC".into())).expect("understood")
    }

    #[test]
    fn a_time_of_too_many_digits_is_refused() {
        let text = "Mon-Fri 0000000407329394:00-06:00";
        assert!(Hours::parse(text, Zone::Named("UTC".into())).is_none());
    }

    #[test]
    fn windows_of_the_week() {
        let hours = hours("Mon-Fri 20:00-06:00, Sat, Sun 00:00-12:00");
        for (day, hour, minute, open) in [
            (0, 19, 59, false),
            (0, 20, 0, true),
            (1, 5, 59, true),
            (1, 6, 0, false),
            (4, 23, 0, true),
            (5, 3, 0, true),
            (5, 15, 0, true),
            (6, 11, 59, true),
            (6, 12, 0, false),
            (0, 3, 0, false),
        ] {
            assert_eq!(
                hours.admit(at(day, hour, minute)),
                open,
                "{day} {hour}:{minute}"
            );
        }
    }

    #[test]
    fn days_and_hours_alone() {
        assert!(hours("08:00-18:00").admit(at(6, 8, 0)));
        assert!(!hours("08:00-18:00").admit(at(6, 18, 0)));
        assert!(hours("Sun-Mon").admit(at(0, 0, 0)) && !hours("Sun-Mon").admit(at(1, 0, 0)));
        assert!(hours("00:00-24:00").admit(at(3, 23, 59)));
        assert!(hours("12:00-12:00").admit(at(3, 11, 59)));
    }

    #[test]
    fn a_zone_moves_the_window() {
        let there =
            Hours::parse("08:00-09:00", Zone::Named("Asia/Tokyo".into())).expect("understood");
        assert!(there.admit(at(0, 23, 30)) && !there.admit(at(0, 8, 30)));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for bad in [
            "",
            "Mon,",
            "Monday",
            "25:00-26:00",
            "8-9",
            "24:00-25:00",
            "Mon 08:00",
            "Mon 08:00-09:00 x",
            "08:60-09:00",
        ] {
            assert_eq!(Hours::parse(bad, Zone::Local), None, "{bad}");
        }
        assert_eq!(Zone::parse("Mars/Olympus"), None);
    }
}
