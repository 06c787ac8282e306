//! What `sailplane-job` does as an account, between broker and monitor and on its own command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::codec::{DecodeError, Reader, Writer};

const MAX_PLACES: usize = 32;

/// What `sailplane-job` does as an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Empties the sandbox; `account`: and removes whatever else the account has left; `if_alone`: if
    /// nothing runs as it.
    Remove {
        /// Also in shared places.
        account: bool,
        /// Ends with 2 and removes nothing if anything runs as the account.
        if_alone: bool,
    },
    /// Ends with 0 if nothing runs as the account; `home`: and its home is as empty as a new one.
    Alone {
        /// Look at the home directory too.
        home: bool,
    },
    /// Kills everything that runs as the account.
    KillAll,
    /// Ends with 2 if anything that descends from the monitor runs as the account.
    Members,
    /// Signals that.
    SignalMembers {
        /// Number of the signal.
        signal: i32,
    },
    /// Removes everything that the account has left (one descriptor beside the question: where the report
    /// goes).
    Sweep {
        /// Shared folders, if not the usual ones.
        places: Vec<PathBuf>,
    },
    /// Puts a file with a credential (one descriptor beside the question) into the sandbox under this name.
    PutProxy {
        /// Relative to the sandbox.
        name: PathBuf,
    },
}

impl Errand {
    /// How many descriptors travel beside it: one becomes standard input and output of the program.
    pub fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Sweep { .. } | Self::PutProxy { .. }))
    }

    /// Does it reach beyond a payload's own sandbox and group? Then only an account that is the payload's
    /// alone may be asked for it.
    pub fn is_wide(&self) -> bool {
        matches!(
            self,
            Self::Remove { account: true, .. } | Self::KillAll | Self::Sweep { .. }
        )
    }

    /// It cannot wait for those whom it is about.
    pub fn is_urgent(&self) -> bool {
        matches!(self, Self::KillAll | Self::SignalMembers { .. })
    }

    /// The command line of `sailplane-job`, without its name. `monitor`: its process number, as payloads see it.
    pub fn words(&self, sandbox: &Path, home: &Path, monitor: u32) -> Vec<OsString> {
        let below = || ["--below".into(), monitor.to_string().into()];
        let mut words: Vec<OsString> = Vec::new();
        match self {
            Self::Remove { account, if_alone } => {
                words.push("--remove".into());
                words.extend(if_alone.then(|| "--if-alone".into()));
                words.extend(account.then(|| "--everywhere".into()));
            }
            Self::Alone { home: look } => {
                words.push("--alone".into());
                words.extend(look.then(|| home.into()));
            }
            Self::KillAll => words.push("--kill-all".into()),
            Self::Members => {
                words.push("--members".into());
                words.extend(below());
            }
            Self::SignalMembers { signal } => {
                words.extend(["--signal".into(), signal.to_string().into()]);
                words.extend(below());
            }
            Self::Sweep { places } => {
                words.push("--sweep".into());
                words.extend(places.iter().map(Into::into));
            }
            Self::PutProxy { name } => {
                words.extend(["--put-proxy".into(), sandbox.into(), name.into()]);
            }
        }
        words
    }

    pub(crate) fn put(&self, w: &mut Writer) {
        match self {
            Self::Remove { account, if_alone } => {
                w.u8(0);
                w.bool(*account);
                w.bool(*if_alone);
            }
            Self::Alone { home } => {
                w.u8(1);
                w.bool(*home);
            }
            Self::KillAll => w.u8(2),
            Self::Members => w.u8(3),
            Self::SignalMembers { signal } => {
                w.u8(4);
                w.i32(*signal);
            }
            Self::Sweep { places } => {
                w.u8(5);
                w.list("places", places, MAX_PLACES, |w, path| {
                    w.path("places", path);
                });
            }
            Self::PutProxy { name } => {
                w.u8(6);
                w.path("name", name);
            }
        }
    }

    pub(crate) fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8()? {
            0 => Self::Remove {
                account: r.bool("account")?,
                if_alone: r.bool("if_alone")?,
            },
            1 => Self::Alone {
                home: r.bool("home")?,
            },
            2 => Self::KillAll,
            3 => Self::Members,
            4 => Self::SignalMembers { signal: r.i32()? },
            5 => Self::Sweep {
                places: r.list("places", MAX_PLACES, 4, |r| r.path("places"))?,
            },
            6 => Self::PutProxy {
                name: r.path("name")?,
            },
            _ => return Err(DecodeError::BadValue("errand")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errand_has_its_words() {
        let remove = |account, if_alone| Errand::Remove { account, if_alone };
        for (errand, words) in [
            (remove(false, false), "--remove"),
            (remove(true, true), "--remove --if-alone --everywhere"),
            (Errand::Alone { home: false }, "--alone"),
            (Errand::Alone { home: true }, "--alone /home/a"),
            (Errand::KillAll, "--kill-all"),
            (Errand::Members, "--members --below 7"),
            (
                Errand::SignalMembers { signal: 19 },
                "--signal 19 --below 7",
            ),
            (
                Errand::Sweep {
                    places: vec!["/tmp".into()],
                },
                "--sweep /tmp",
            ),
            (
                Errand::PutProxy { name: "p".into() },
                "--put-proxy /scratch/dir_1 p",
            ),
        ] {
            let line = errand.words(Path::new("/scratch/dir_1"), Path::new("/home/a"), 7);
            let line = line.join(std::ffi::OsStr::new(" "));
            assert_eq!(line.to_str(), Some(words));
        }
    }
}
