//! Functions on times. "Local time" is the context's fixed offset from UTC.

use std::rc::Rc;

use super::arguments::{between, exactly};
use super::convert::{Converted, to_int};
use crate::ClassAd;
use crate::eval::{Evaluated, Frame, Machine, Scope, Val};
use crate::expr::Call;
use crate::times::{Civil, civil, days_from_civil, strftime};
use crate::value::{AbsoluteTime, int_to_real, real_to_int};

/// `time()`: seconds since the epoch. An error without a clock.
pub(crate) fn time(m: &mut Machine, call: &Call, _: &Scope) -> Evaluated<Val> {
    Ok(match (m.now, call.args.is_empty()) {
        (Some(now), true) => Val::Integer(now),
        _ => Val::Error,
    })
}

/// `currentTime()`: now, as a point in time.
pub(crate) fn current_time(m: &mut Machine, call: &Call, _: &Scope) -> Evaluated<Val> {
    Ok(match (m.now, call.args.is_empty()) {
        (Some(seconds), true) => Val::AbsoluteTime(AbsoluteTime {
            seconds,
            offset: m.utc_offset,
        }),
        _ => Val::Error,
    })
}

/// `timeZoneOffset()`: a span.
pub(crate) fn time_zone_offset(m: &mut Machine, call: &Call, _: &Scope) -> Evaluated<Val> {
    Ok(if call.args.is_empty() {
        Val::RelativeTime(f64::from(m.utc_offset))
    } else {
        Val::Error
    })
}

/// `dayTime()`: the span since local midnight.
pub(crate) fn day_time(m: &mut Machine, call: &Call, _: &Scope) -> Evaluated<Val> {
    Ok(match (m.now, call.args.is_empty()) {
        (Some(now), true) => {
            let local = now.wrapping_add(i64::from(m.utc_offset));
            Val::RelativeTime(int_to_real(local.rem_euclid(86_400)))
        }
        _ => Val::Error,
    })
}

macro_rules! fields {
    ($($name:ident => $absolute:expr, $relative:expr);+ $(;)?) => {
        $(
            pub(crate) fn $name(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
                field(m, call, scope, $absolute, $relative)
            }
        )+
    };
}

/// Takes a field from a point in time.
type OfPoint = Option<fn(&Civil) -> i64>;
/// Takes a field from a span in seconds.
type OfSpan = Option<fn(i64) -> i64>;

fields! {
    get_year => Some(|c| c.year), None;
    get_month => Some(|c| c.month), None;
    get_day_of_year => Some(|c| c.yearday), None;
    get_day_of_month => Some(|c| c.day), None;
    get_day_of_week => Some(|c| c.weekday), None;
    get_days => None, Some(|s| s / 86_400);
    get_hours => Some(|c| c.hour), Some(|s| s % 86_400 / 3600);
    get_minutes => Some(|c| c.minute), Some(|s| s % 3600 / 60);
    get_seconds => Some(|c| c.second), Some(|s| s % 60);
}

fn field(
    m: &mut Machine,
    call: &Call,
    scope: &Scope,
    of_point: OfPoint,
    of_span: OfSpan,
) -> Evaluated<Val> {
    let number = match exactly(m, call, scope)? {
        Some([Val::AbsoluteTime(time)]) => {
            let local = time.seconds.wrapping_add(i64::from(m.utc_offset));
            of_point.and_then(|f| civil(local).map(|c| f(&c)))
        }
        Some([Val::RelativeTime(span)]) => of_span.map(|f| f(real_to_int(span))),
        _ => None,
    };
    Ok(number.map_or(Val::Error, Val::Integer))
}

/// `splitTime(t)`: an ad with `Year`, `Month` and so on, or `Days`, `Hours` and so on for a span.
pub(crate) fn split_time(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let ad = match exactly(m, call, scope)? {
        Some([Val::Undefined]) => return Ok(Val::Undefined),
        Some([Val::RelativeTime(span)]) => Some(split_span(span)),
        Some([val]) => point(&val, m.utc_offset).and_then(split_point),
        None => None,
    };
    Ok(ad.map_or(Val::Error, |ad| Val::Ad(Frame::nested(ad, Scope(None)))))
}

/// What counts as a point in time: seconds since the epoch too.
fn point(val: &Val, utc_offset: i32) -> Option<AbsoluteTime> {
    let seconds = match val {
        Val::Integer(i) => *i,
        Val::Real(r) => real_to_int(*r),
        Val::AbsoluteTime(time) => return Some(*time),
        _ => return None,
    };
    Some(AbsoluteTime {
        seconds,
        offset: utc_offset,
    })
}

fn split_point(time: AbsoluteTime) -> Option<ClassAd> {
    let c = civil(time.seconds.checked_add(i64::from(time.offset))?)?;
    let mut ad = ClassAd::new();
    ad.insert("Type", "AbsoluteTime");
    ad.insert("Year", c.year);
    ad.insert("Month", c.month);
    ad.insert("Day", c.day);
    ad.insert("Hours", c.hour);
    ad.insert("Minutes", c.minute);
    ad.insert("Seconds", c.second);
    ad.insert("Offset", time.offset);
    Some(ad)
}

fn split_span(span: f64) -> ClassAd {
    let whole = real_to_int(span.abs()).max(0);
    let fraction = span.abs() - span.abs().floor();
    let (mut days, mut hours, mut minutes) =
        (whole / 86_400, whole % 86_400 / 3600, whole % 3600 / 60);
    let mut seconds = int_to_real(whole % 60) + fraction;
    // only the largest part carries the sign
    if span < 0.0 {
        if days > 0 {
            days = -days;
        } else if hours > 0 {
            hours = -hours;
        } else if minutes > 0 {
            minutes = -minutes;
        } else {
            seconds = -seconds;
        }
    }
    let mut ad = ClassAd::new();
    ad.insert("Type", "RelativeTime");
    ad.insert("Days", days);
    ad.insert("Hours", hours);
    ad.insert("Minutes", minutes);
    ad.insert("Seconds", seconds);
    ad
}

/// `formatTime([time [, format]])`: as `strftime` in the C locale; the time may also be an ad like that of `splitTime`.
pub(crate) fn format_time(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some(vals) = between(m, call, scope, 0, 2)? else {
        return Ok(Val::Error);
    };
    let format = match vals.get(1) {
        None => "%c",
        Some(Val::String(format)) => format,
        Some(_) => return Ok(Val::Error),
    };
    let parts = match vals.first() {
        None => m
            .now
            .and_then(|now| civil(now.wrapping_add(i64::from(m.utc_offset)))),
        Some(Val::Ad(frame)) => Some(civil_of_ad(m, frame)?),
        Some(val) => point(val, m.utc_offset)
            .and_then(|t| t.seconds.checked_add(i64::from(t.offset)))
            .and_then(civil),
    };
    match parts.and_then(|parts| strftime(format, &parts)) {
        Some(text) => m.text(text),
        None => Ok(Val::Error),
    }
}

fn civil_of_ad(m: &mut Machine, frame: &Rc<Frame>) -> Evaluated<Civil> {
    let inside = Scope(Some(Rc::clone(frame)));
    let mut part = |name: &str| -> Evaluated<i64> {
        let val = match frame.ad.get(name) {
            Some(expr) => m.eval(expr, &inside)?,
            None => Val::Undefined,
        };
        // clamped so that no date overflows
        Ok(match val {
            Val::Integer(i) => i64::from(i32::try_from(i).unwrap_or(0)),
            _ => 0,
        })
    };
    let (year, month, day) = (part("Year")?, part("Month")?, part("Day")?);
    let days = days_from_civil(year, month, day);
    Ok(Civil {
        year,
        month,
        day,
        hour: part("Hours")?,
        minute: part("Minutes")?,
        second: part("Seconds")?,
        weekday: (days + 4).rem_euclid(7),
        yearday: days - days_from_civil(year, 1, 1),
    })
}

/// `interval(seconds)`: "days+hh:mm:ss", leading parts that are zero left out.
pub(crate) fn interval(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some([val]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    let Converted::Is(total) = to_int(&val) else {
        return Ok(Val::Error);
    };
    let (days, rest) = (total / 86_400, total % 86_400);
    let (hours, minutes, seconds) = (rest / 3600, rest % 3600 / 60, rest % 60);
    let (h, min, s) = (hours.abs(), minutes.abs(), seconds.abs());
    m.text(if days != 0 {
        format!("{days}+{h:02}:{min:02}:{s:02}")
    } else if hours != 0 {
        format!("{hours}:{min:02}:{s:02}")
    } else if minutes != 0 {
        format!("{minutes}:{s:02}")
    } else {
        format!("{seconds}")
    })
}
