//! Authorization levels and what they imply (protocol 01 section 5.10).

use std::fmt;

/// An authorization level of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// Anybody.
    Allow,
    /// Queries.
    Read,
    /// Commands that change something.
    Write,
    /// The pool's negotiator.
    Negotiator,
    /// The pool's administrators.
    Administrator,
    /// Changes of configuration.
    Config,
    /// Other daemons of the pool.
    Daemon,
    /// Servers we contact as a client.
    Client,
    /// Slot ads.
    AdvertiseStartd,
    /// Schedd ads.
    AdvertiseSchedd,
    /// Master ads.
    AdvertiseMaster,
}

impl Level {
    const ALL: [Self; 11] = [
        Self::Allow,
        Self::Read,
        Self::Write,
        Self::Negotiator,
        Self::Administrator,
        Self::Config,
        Self::Daemon,
        Self::Client,
        Self::AdvertiseStartd,
        Self::AdvertiseSchedd,
        Self::AdvertiseMaster,
    ];

    /// The level of HTCondor's name for it, any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|level| level.name().eq_ignore_ascii_case(name.trim()))
    }

    /// HTCondor's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Negotiator => "NEGOTIATOR",
            Self::Administrator => "ADMINISTRATOR",
            Self::Config => "CONFIG",
            Self::Daemon => "DAEMON",
            Self::Client => "CLIENT",
            Self::AdvertiseStartd => "ADVERTISE_STARTD",
            Self::AdvertiseSchedd => "ADVERTISE_SCHEDD",
            Self::AdvertiseMaster => "ADVERTISE_MASTER",
        }
    }

    /// True if who has this level also has `other`. ADMINISTRATOR does not imply DAEMON.
    pub fn implies(self, other: Self) -> bool {
        self == other
            || other == Self::Allow
            || match self {
                Self::Administrator | Self::Daemon => matches!(other, Self::Write | Self::Read),
                Self::Write
                | Self::Negotiator
                | Self::Config
                | Self::AdvertiseStartd
                | Self::AdvertiseSchedd
                | Self::AdvertiseMaster => other == Self::Read,
                Self::Allow | Self::Read | Self::Client => false,
            }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Level::*;

    #[test]
    fn implications_are_exactly_those_of_23_9_6() {
        assert!(Daemon.implies(Write) && Daemon.implies(Read) && Write.implies(Read));
        assert!(AdvertiseStartd.implies(Read));
        assert!(!Daemon.implies(AdvertiseStartd) && !Write.implies(AdvertiseStartd));
        assert!(!Administrator.implies(Daemon) && !Read.implies(Write));
    }
}
