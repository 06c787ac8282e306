//! The command line (requirement G1).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use crate::failure::Failure;

/// What is asked on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// `-h`
    Help,
    /// `-v`
    Version,
    /// `-V`
    BuiltIn,
    /// Run this, with these arguments (the first of them its name).
    Run(OsString, Vec<OsString>),
}

/// For `-h`, and for whoever calls it wrongly.
pub const USAGE: &str = "usage: glexec [--] COMMAND [ARGUMENT...]
       glexec -h | -v | -V

Runs COMMAND under the account that belongs to the credential named by GLEXEC_CLIENT_CERT.
COMMAND is an absolute path, or is searched in the directories that the site has configured.

  -h  print this
  -v  print the version
  -V  print the built-in settings (root only)

variables  GLEXEC_CLIENT_CERT  file with the credential: chain and key, readable by the caller only
           GLEXEC_SOURCE_PROXY file to copy for COMMAND (the same, unless set)
           GLEXEC_TARGET_PROXY where to copy it to; /dev/null: nowhere
           GLEXEC_MODE         lcmaps_get_account (default) or lcmaps_verify_account
           GLEXEC_ENV          passed on; see glexec_wrapenv and glexec_unwrapenv
           GLEXEC_ID           the caller's name for this call, for the log
           GLEXEC_REPORT_FD    3: descriptor 3 takes a report in JSON, and closes when COMMAND runs
           X509_USER_PROXY     the caller's own credential, where the site wants to see that too

exit status  that of COMMAND, 128 and the number of the signal that killed it, or
             201 the caller can mend it, 202 the administrator can, 203 not authorised,
             204 COMMAND itself ended with one of these four
";

/// Reads the words behind the program's name.
///
/// # Errors
/// On an unknown option, or without a command.
pub fn read(words: &[OsString]) -> Result<Wish, Failure> {
    let usage = |text: String| Failure::caller("usage", format!("{text}; see glexec -h"));
    let Some(first) = words.first() else {
        return Err(usage("no command is given".to_owned()));
    };
    let command = match first.as_bytes() {
        b"--" => words.get(1..).unwrap_or_default(),
        b"-h" | b"--help" => return Ok(Wish::Help),
        b"-v" | b"--version" => return Ok(Wish::Version),
        b"-V" => return Ok(Wish::BuiltIn),
        option if option.starts_with(b"-") => {
            return Err(usage(format!("unknown option {:?}", shown(first))));
        }
        _ => words,
    };
    match command.first() {
        None => Err(usage("no command is given".to_owned())),
        Some(name) => Ok(Wish::Run(name.clone(), command.to_vec())),
    }
}

fn shown(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(words: &[&str]) -> Result<Wish, Failure> {
        read(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn run(words: &[&str]) -> Wish {
        Wish::Run(words[0].into(), words.iter().map(OsString::from).collect())
    }

    #[test]
    fn g1_each_form() {
        assert_eq!(wish(&["-h"]), Ok(Wish::Help));
        assert_eq!(wish(&["-v"]), Ok(Wish::Version));
        assert_eq!(wish(&["-V", "x"]), Ok(Wish::BuiltIn));
        assert_eq!(wish(&["id"]), Ok(run(&["id"])));
        assert_eq!(
            wish(&["/bin/id", "-u", "--"]),
            Ok(run(&["/bin/id", "-u", "--"]))
        );
        assert_eq!(wish(&["--", "-h"]), Ok(run(&["-h"])));
        assert_eq!(wish(&["--", "--", "x"]), Ok(run(&["--", "x"])));
        assert_eq!(wish(&["", "x"]), Ok(run(&["", "x"])));
        for bad in [&[][..], &["--"], &["-x"], &["-"], &["--broker"], &["-hv"]] {
            let failure = wish(bad).expect_err("refused");
            assert_eq!((failure.status.number(), &*failure.code), (201, "usage"));
        }
    }
}
