//! Whose fault an end of the pilot is, and the exit status that says so.
//!
//! A factory operator sees thousands of pilots end and reads few logs: the status alone must tell whether to look at
//! the configuration, at the site, at the pool, or at us.

use std::process::ExitCode;

pub use cedar::net::chain;
use validation::Class;

/// Why the program ended. The numbers are a contract; they only ever grow in number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// 0: the pilot retired as it was meant to.
    Retired,
    /// 2: the command line is wrong (clap's own status).
    Usage,
    /// 3: the configuration is wrong.
    Configuration,
    /// 10: this node cannot run jobs until its administrator does something.
    SitePermanent,
    /// 11: this node could not run jobs now; another attempt may succeed.
    SiteTransient,
    /// 20: the pool could not be reached, or would not have us.
    Pool,
    /// 30: the factory has to do something about what it sends.
    Factory,
    /// 31: what the factory sends could not be had now.
    FactoryTransient,
    /// 40: the frontend has to do something about what it asks for or sends.
    Frontend,
    /// 41: the same, but it may pass.
    FrontendTransient,
    /// 70: a mistake of ours.
    Pilot,
}

impl Exit {
    /// All of them, for the help text.
    pub const ALL: [Self; 11] = [
        Self::Retired,
        Self::Usage,
        Self::Configuration,
        Self::SitePermanent,
        Self::SiteTransient,
        Self::Pool,
        Self::Factory,
        Self::FactoryTransient,
        Self::Frontend,
        Self::FrontendTransient,
        Self::Pilot,
    ];

    /// Of a failed check.
    #[must_use]
    pub const fn of_class(class: Class) -> Self {
        match class {
            Class::Site => Self::SitePermanent,
            Class::SiteTransient => Self::SiteTransient,
            Class::Pool => Self::Pool,
            Class::Factory => Self::Factory,
            Class::FactoryTransient => Self::FactoryTransient,
            Class::Frontend => Self::Frontend,
            Class::FrontendTransient => Self::FrontendTransient,
            Class::Pilot => Self::Pilot,
        }
    }

    /// The exit status.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Retired => 0,
            Self::Usage => 2,
            Self::Configuration => 3,
            Self::SitePermanent => 10,
            Self::SiteTransient => 11,
            Self::Pool => 20,
            Self::Factory => 30,
            Self::FactoryTransient => 31,
            Self::Frontend => 40,
            Self::FrontendTransient => 41,
            Self::Pilot => 70,
        }
    }

    /// What the status means.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Retired => "retired cleanly",
            Self::Usage => "the command line is wrong",
            Self::Configuration => "the configuration is wrong",
            Self::SitePermanent => "the node cannot run jobs; its administrator has to act",
            Self::SiteTransient => "the node could not run jobs now; trying again may help",
            Self::Pool => "the pool could not be reached or refused us",
            Self::Factory => "what the factory sends is wrong",
            Self::FactoryTransient => "what the factory sends could not be had now",
            Self::Frontend => {
                "what the frontend asks for cannot be had here, or what it sends is wrong"
            }
            Self::FrontendTransient => "what the frontend asks for could not be had now",
            Self::Pilot => "an error in sailplane itself; please report it",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_has_one_status_for_pilot_and_report() {
        for class in Class::ALL {
            assert_eq!(Exit::of_class(class).code(), class.code());
        }
    }

    #[test]
    fn every_status_is_its_own() {
        let mut codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Exit::ALL.len());
    }
}
