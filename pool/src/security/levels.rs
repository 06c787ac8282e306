//! Levels, and where the configuration of a level is looked up.
//!
//! `htcondor:src/condor_utils/condor_perms.cpp`; protocol page 01, section 5.10.

use cedar::security::Level;

/// Every level that commands can need.
pub(super) const LEVELS: [Level; 11] = [
    Level::Allow,
    Level::Read,
    Level::Write,
    Level::Negotiator,
    Level::Administrator,
    Level::Config,
    Level::Daemon,
    Level::Client,
    Level::AdvertiseStartd,
    Level::AdvertiseSchedd,
    Level::AdvertiseMaster,
];

/// The names under which a setting of `level` is looked up, the strongest first. `legacy`: before 9.0 DAEMON fell back
/// to WRITE (`LEGACY_ALLOW_SEMANTICS`).
pub(super) fn chain(level: Level, legacy: bool) -> Vec<&'static str> {
    let mut names = vec![level.name()];
    let advertises = matches!(
        level,
        Level::AdvertiseStartd | Level::AdvertiseSchedd | Level::AdvertiseMaster
    );
    if advertises {
        names.push(Level::Daemon.name());
    }
    if legacy && (advertises || level == Level::Daemon) {
        names.push(Level::Write.name());
    }
    names.push("DEFAULT");
    names
}

/// The levels of which each implies `level` directly, in the order of HTCondor's table.
pub(super) fn directly_above(level: Level) -> &'static [Level] {
    match level {
        Level::Read => &[
            Level::Write,
            Level::Negotiator,
            Level::Config,
            Level::AdvertiseStartd,
            Level::AdvertiseSchedd,
            Level::AdvertiseMaster,
        ],
        Level::Write => &[Level::Administrator, Level::Daemon],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_agrees_with_what_is_implied() {
        for level in LEVELS.into_iter().filter(|level| *level != Level::Allow) {
            for other in LEVELS {
                let mut reached = vec![level];
                while let Some(next) = reached
                    .iter()
                    .flat_map(|level| directly_above(*level))
                    .find(|above| !reached.contains(above))
                {
                    reached.push(*next);
                }
                assert_eq!(
                    reached.contains(&other),
                    other.implies(level),
                    "{other} {level}"
                );
            }
        }
    }
}
