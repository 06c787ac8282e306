//! What the site's configuration says about the drop-in form; the broker passes it on as
//! `key=value` words.

use std::ffi::OsString;
use std::path::PathBuf;

use launch_protocol::broker::Hello;

use crate::failure::Failure;

/// How input files are locked while they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lock {
    /// `flock(2)`.
    #[default]
    Flock,
    /// `fcntl(2)`.
    Fcntl,
    /// Not at all.
    Disabled,
}

/// Where the copy of the credential goes if the caller does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyPlace {
    /// Into a directory of this one call, which is gone afterwards.
    #[default]
    Run,
    /// Into the account's home directory.
    Home,
}

/// The configuration, as far as it concerns the front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Wait for the command.
    pub linger: bool,
    /// Variables of the caller that the command gets.
    pub preserve_env: Vec<String>,
    /// Where commands are searched; also the command's `PATH`.
    pub command_path: Vec<PathBuf>,
    /// Copy the credential at all.
    pub create_target_proxy: bool,
    /// Where to, if the caller does not say.
    pub proxy_place: ProxyPlace,
    /// How the caller's files are locked.
    pub input_lock: Lock,
    /// A command may not be reached through a symbolic link.
    pub no_symlinks: bool,
    /// Say nothing to the system log.
    pub silent: bool,
    /// 1 (errors) to 5 (everything); gLExec's own scale.
    pub log_level: u8,
    /// Facility of the system log, its number.
    pub facility: u8,
    /// Switch nothing.
    pub logging_only: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            linger: true,
            preserve_env: Vec::new(),
            command_path: ["/usr/local/bin", "/usr/bin", "/bin"]
                .map(PathBuf::from)
                .to_vec(),
            create_target_proxy: true,
            proxy_place: ProxyPlace::default(),
            input_lock: Lock::default(),
            no_symlinks: false,
            silent: false,
            log_level: 3,
            facility: DAEMON,
            logging_only: false,
        }
    }
}

const DAEMON: u8 = 3;

/// Facilities by name, in the order of their numbers; 12 to 15 have no name.
const FACILITIES: [&str; 12] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp",
];

fn facility(name: &str) -> Option<u8> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("log_").unwrap_or(&name);
    if let Some(local) = name.strip_prefix("local") {
        return local.parse().ok().filter(|n| *n < 8).map(|n: u8| 16 + n);
    }
    let place = FACILITIES.iter().position(|known| *known == name)?;
    u8::try_from(place).ok()
}

impl Settings {
    /// Out of the broker's greeting.
    ///
    /// # Errors
    /// On a word whose value is not understood: the two halves do not match. Unknown words are for
    /// somebody else.
    pub fn of(hello: &Hello) -> Result<Self, Failure> {
        Self::parse(hello.linger, &hello.preserve_env, &hello.front)
    }

    /// Out of the words themselves.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn parse(linger: bool, preserve_env: &[String], words: &[String]) -> Result<Self, Failure> {
        let mut settings = Self {
            linger,
            preserve_env: preserve_env.to_vec(),
            ..Self::default()
        };
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                continue;
            };
            if settings.take(key, value).is_none() {
                let text =
                    format!("the configuration says {key} = {value}, which is not understood");
                return Err(Failure::administrator("conf.invalid", text));
            }
        }
        Ok(settings)
    }

    /// `None`: a known key with an unknown value.
    fn take(&mut self, key: &str, value: &str) -> Option<()> {
        let yes = || match value {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        };
        match key {
            "command_path" => {
                let path: Vec<_> = value.split(':').map(PathBuf::from).collect();
                if !path.iter().all(|dir| dir.is_absolute()) {
                    return None;
                }
                self.command_path = path;
            }
            "create_target_proxy" => self.create_target_proxy = yes()?,
            "target_proxy_place" => {
                self.proxy_place = match value {
                    "run" => ProxyPlace::Run,
                    "home" => ProxyPlace::Home,
                    _ => return None,
                }
            }
            "input_lock_mechanism" => {
                self.input_lock = match value {
                    "flock" => Lock::Flock,
                    "fcntl" => Lock::Fcntl,
                    "disabled" => Lock::Disabled,
                    _ => return None,
                }
            }
            "prohibit_exec_via_symlink" => self.no_symlinks = yes()?,
            "silent_logging" => self.silent = yes()?,
            "log_level" => {
                self.log_level = value.parse().ok().filter(|level| (0..=5).contains(level))?;
            }
            "syslog_facility" => self.facility = facility(value)?,
            "logging_only" => self.logging_only = yes()?,
            _ => {}
        }
        Some(())
    }

    /// The command's `PATH`.
    pub fn path_variable(&self) -> OsString {
        let mut joined = OsString::new();
        for dir in &self.command_path {
            if !joined.is_empty() {
                joined.push(":");
            }
            joined.push(dir);
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Result<Settings, Failure> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        Settings::parse(true, &[], &words)
    }

    #[test]
    fn every_word_is_heard() {
        let settings = words(&[
            "command_path=/opt/bin:/usr/bin",
            "create_target_proxy=no",
            "target_proxy_place=home",
            "input_lock_mechanism=fcntl",
            "prohibit_exec_via_symlink=yes",
            "silent_logging=yes",
            "log_level=5",
            "syslog_facility=LOG_LOCAL3",
            "logging_only=yes",
            "something_else=1",
        ])
        .expect("understood");
        assert_eq!(settings.path_variable(), "/opt/bin:/usr/bin");
        let expected = Settings {
            linger: true,
            preserve_env: Vec::new(),
            command_path: vec!["/opt/bin".into(), "/usr/bin".into()],
            create_target_proxy: false,
            proxy_place: ProxyPlace::Home,
            input_lock: Lock::Fcntl,
            no_symlinks: true,
            silent: true,
            log_level: 5,
            facility: 19,
            logging_only: true,
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn a_value_that_is_not_understood_is_the_administrators() {
        for bad in [
            "command_path=bin",
            "create_target_proxy=maybe",
            "target_proxy_place=tmp",
            "input_lock_mechanism=",
            "log_level=6",
            "syslog_facility=nobody",
        ] {
            let failure = words(&[bad]).expect_err(bad);
            assert_eq!(
                (failure.status.number(), &*failure.code),
                (202, "conf.invalid")
            );
        }
    }

    #[test]
    fn facilities_have_their_numbers() {
        let table = [("kern", 0), ("daemon", 3), ("AUTHPRIV", 10), ("local7", 23)];
        for (name, number) in table {
            assert_eq!(facility(name), Some(number), "{name}");
        }
        assert_eq!(facility("local8"), None);
    }
}
