//! How dates are written: the knob `DEFAULT_USERLOG_FORMAT_OPTIONS`.

use condorconf::{Config, Error};

/// How the date of an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateForm {
    /// `2026-11-25 15:40:57`, else `11/25 15:40:57`.
    pub iso: bool,
    /// In UTC with a `Z` behind, else local time.
    pub utc: bool,
    /// With milliseconds.
    pub milliseconds: bool,
}

impl Default for DateForm {
    fn default() -> Self {
        Self {
            iso: true,
            utc: false,
            milliseconds: false,
        }
    }
}

/// The knob (`htcondor:src/condor_utils/condor_event.cpp`, `parse_opts`).
const KNOB: &str = "DEFAULT_USERLOG_FORMAT_OPTIONS";

impl DateForm {
    /// What the configuration says: `ISO_DATE`, `UTC`, `SUB_SECOND`, `LEGACY`; each but the last may have `!` before it.
    ///
    /// # Errors
    /// Another word; `XML` and `JSON` are not written here.
    pub fn from_config(config: &Config) -> Result<Self, Error> {
        let mut form = Self::default();
        for word in config.list(KNOB)? {
            let (name, yes) = match word.strip_prefix('!') {
                Some(name) => (name, false),
                None => (word.as_str(), true),
            };
            match name.to_ascii_uppercase().as_str() {
                "ISO_DATE" => form.iso = yes,
                "UTC" => form.utc = yes,
                "SUB_SECOND" => form.milliseconds = yes,
                "LEGACY" if yes => {
                    form = Self {
                        iso: false,
                        utc: false,
                        milliseconds: false,
                    };
                }
                "LEGACY" => form.iso = true,
                _ => {
                    return Err(config.wrong_type(
                        KNOB,
                        "a list of ISO_DATE, UTC, SUB_SECOND and LEGACY (XML and JSON are not written by this pool)",
                        &word,
                    ));
                }
            }
        }
        Ok(form)
    }

    /// The date as it stands in the head of an event.
    pub(super) fn date(self, time: &jiff::Zoned) -> String {
        let time = self.zoned(time);
        let mut text = time
            .strftime(if self.iso {
                "%Y-%m-%d %H:%M:%S"
            } else {
                "%m/%d %H:%M:%S"
            })
            .to_string();
        if self.milliseconds {
            text.push_str(&format!(".{:03}", time.millisecond()));
        }
        if self.utc {
            text.push('Z');
        }
        text
    }

    /// The date as it stands in an ad: always ISO, with milliseconds.
    pub(super) fn in_ad(self, time: &jiff::Zoned) -> String {
        let time = self.zoned(time);
        let end = if self.utc { "Z" } else { "" };
        format!(
            "{}.{:03}{end}",
            time.strftime("%Y-%m-%dT%H:%M:%S"),
            time.millisecond()
        )
    }

    fn zoned(self, time: &jiff::Zoned) -> jiff::Zoned {
        if self.utc {
            time.with_time_zone(jiff::tz::TimeZone::UTC)
        } else {
            time.clone()
        }
    }
}
