//! HTCondor version strings: `$CondorVersion: X.Y.Z anything $`.

use std::fmt;

/// A release number, ordered as HTCondor orders them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

/// The release whose behaviour this crate implements and announces (protocol 01 section 3.3).
pub const COMPATIBLE: Version = Version::new(23, 9, 6);

impl Version {
    /// A version from its three numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// Reads the full banner, `$CondorVersion: 23.9.6 2024-08-08 BuildID: x $`, with the strictness
    /// of HTCondor's own parser (`htcondor:src/condor_utils/condor_version.cpp`).
    pub fn from_banner(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("$CondorVersion: ")?;
        if !rest.ends_with(" $") {
            return None;
        }
        let (number, _) = rest.split_once(' ')?;
        Self::from_short(number)
    }

    /// Reads the bare form `23.9.6`, as it stands in `ShortVersion` of a claim id.
    pub fn from_short(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut next = || parts.next()?.parse::<u32>().ok();
        let version = Self::new(next()?, next()?, next()?);
        parts.next().is_none().then_some(version)
    }

    /// The banner to announce: `program` is free text without blanks, such as `sailplane-0.1.0`.
    pub fn banner(self, program: &str) -> String {
        format!("$CondorVersion: {self} 2026-01-01 BuildID: {program} $")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banners_of_real_daemons_are_read_and_ours_is_one() {
        let debian = "$CondorVersion: 23.9.6 2026-07-12 PackageID: 23.9.6+dfsg-2.1+b10 $";
        assert_eq!(Version::from_banner(debian), Some(Version::new(23, 9, 6)));
        let ours = COMPATIBLE.banner("sailplane-0.1.0");
        assert_eq!(Version::from_banner(&ours), Some(COMPATIBLE));
    }

    #[test]
    fn text_that_htcondor_would_not_take_is_no_version() {
        for bad in [
            "",
            "23.9.6",
            "$CondorVersion: 23.9 x $",
            "$CondorVersion: 23.9.6 x",
        ] {
            assert_eq!(Version::from_banner(bad), None, "{bad}");
        }
    }

    #[test]
    fn order_is_numeric_not_textual() {
        assert!(Version::new(23, 10, 0) > Version::new(23, 9, 6));
    }
}
