//! What is looked for.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::Run;
use crate::config::values::number;
use crate::dn::{Likeness, Name};
use crate::pattern::Pattern;

/// The words of the command line.
#[derive(Debug, Default)]
pub(crate) struct Query {
    uid: Option<u32>,
    at: Option<f64>,
    dn: Option<(Name, Pattern)>,
    account: Option<String>,
    job: Option<String>,
    pub(crate) json: bool,
}

impl Query {
    /// Reads `--uid U`, `--at TIME`, `--dn DN`, `--account NAME`, `--job ID`, `--format table|json`.
    ///
    /// # Errors
    /// A sentence about the first word that is not understood.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let mut query = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words
                .next()
                .ok_or_else(|| format!("{word} needs a value"))?;
            match *word {
                "--uid" => {
                    let uid = number(value).ok_or_else(|| format!("{value} is not a uid"))?;
                    query.uid = Some(uid);
                }
                "--at" => query.at = Some(time(value)?),
                "--dn" => {
                    let pattern = Pattern::parse(value);
                    let pattern =
                        pattern.ok_or_else(|| format!("{value} has a set without its end"))?;
                    query.dn = Some((Name::new(value), pattern));
                }
                "--account" => query.account = Some((*value).to_owned()),
                "--job" => query.job = Some((*value).to_owned()),
                "--format" => {
                    query.json = match *value {
                        "json" => true,
                        "table" => false,
                        other => return Err(format!("there is no format {other}; table or json")),
                    }
                }
                other => return Err(format!("unknown option {other}")),
            }
        }
        let any = query.uid.is_some()
            || query.dn.is_some()
            || query.account.is_some()
            || query.job.is_some();
        if any || query.at.is_some() {
            Ok(query)
        } else {
            Err("one of --uid, --dn, --account, --job, --at is needed".to_owned())
        }
    }

    /// Is it about this run?
    pub(super) fn means(&self, run: &Run) -> bool {
        let at = |time: f64| {
            // Whole seconds, as people type them.
            run.refused.is_none() && run.from.floor() <= time && run.to.is_none_or(|to| time <= to)
        };
        let is_named = |(name, pattern): &(Name, Pattern)| {
            name.likeness(&Name::new(&run.identity)) != Likeness::Different
                || pattern.matches(&run.identity)
        };
        self.uid.is_none_or(|uid| run.uid == Some(uid))
            && self.at.is_none_or(at)
            && self.dn.as_ref().is_none_or(is_named)
            && self
                .account
                .as_ref()
                .is_none_or(|name| *name == run.account)
            && self.job.as_ref().is_none_or(|job| *job == run.job)
    }
}

/// Unix seconds, a time with a zone, or a time of this node's clock.
fn time(text: &str) -> Result<f64, String> {
    let seconds = text.strip_prefix('@').unwrap_or(text);
    if let Some(seconds) = number::<u32>(seconds) {
        return Ok(f64::from(seconds));
    }
    let zoned = text.parse::<Timestamp>().ok();
    let local = || {
        let there = text.parse::<DateTime>().ok()?;
        Some(there.to_zoned(TimeZone::system()).ok()?.timestamp())
    };
    let time = zoned.or_else(local).ok_or_else(|| {
        format!(
            "{text} is not a time; write 2026-03-01T03:00:00Z, \"2026-03-01 03:00\" or Unix seconds"
        )
    })?;
    Ok(time.as_duration().as_secs_f64())
}
