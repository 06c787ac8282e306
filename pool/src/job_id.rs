//! A job's number in the queue.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// `cluster.proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    /// The number `submit` printed, from 1.
    pub cluster: i32,
    /// The job within the submission, from 0.
    pub proc: i32,
}

/// Text that is no job number.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no job number; write CLUSTER.PROC, such as 12.0")]
pub struct NotAJobId(String);

impl JobId {
    /// The job `proc` of `cluster`.
    pub fn new(cluster: i32, proc: i32) -> Self {
        Self { cluster, proc }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.cluster, self.proc)
    }
}

impl FromStr for JobId {
    type Err = NotAJobId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse().ok().filter(|number: &i32| *number >= 0);
        text.split_once('.')
            .and_then(|(cluster, proc)| Some(Self::new(number(cluster)?, number(proc)?)))
            .ok_or_else(|| NotAJobId(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_printed() {
        let id = JobId::new(12, 3);
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "",
            "12",
            "12.",
            ".3",
            "-1.0",
            "1.-1",
            "1.2.3",
            "99999999999.0",
        ] {
            assert!(wrong.parse::<JobId>().is_err(), "{wrong}");
        }
    }
}
