//! The programs that wrap and unwrap an environment, called like the historical ones
//! (`glexec_wrapenv.pl`, `glexec_unwrapenv.pl`).

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::wrap;
use sailplane_policy::why;

/// Exit status when the command could not be found, as of a shell.
const NOT_FOUND: u8 = 127;
/// And when it could not be started.
const NOT_STARTED: u8 = 126;

/// `glexec_wrapenv [--exclude=NAME[,NAME...]]...`
pub fn wrap(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<_> = arguments.into_iter().skip(1).collect();
    let exclude = match options(&words) {
        Ok((exclude, [])) => exclude,
        Ok((_, [stranger, ..])) => return complain("glexec_wrapenv", &unknown(stranger), 1),
        Err(text) => return complain("glexec_wrapenv", &text, 1),
    };
    let environment: Vec<_> = std::env::vars_os().collect();
    let pairs = environment
        .iter()
        .map(|(name, value)| (name.as_os_str(), value.as_os_str()));
    let written =
        wrap::wrap(pairs, &exclude).and_then(|text| std::io::stdout().write_all(text.as_bytes()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain("glexec_wrapenv", &error.to_string(), 1),
    }
}

/// `glexec_unwrapenv [--exclude=NAME[,NAME...]]... [--] COMMAND [ARGUMENT...]`
///
/// As with the historical one, a single word is a line for the shell: pilots rely on it.
pub fn unwrap(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let name = "glexec_unwrapenv";
    let words: Vec<_> = arguments.into_iter().skip(1).collect();
    let (exclude, command) = match options(&words) {
        Ok((_, [])) => return complain(name, "no command is given", 1),
        Ok(found) => found,
        Err(text) => return complain(name, &text, 1),
    };
    let Some(text) = std::env::var_os("GLEXEC_ENV").filter(|text| !text.is_empty()) else {
        return complain(
            name,
            "GLEXEC_ENV is not set, so there is nothing to pass on",
            1,
        );
    };
    let variables = match wrap::unwrap(text.as_bytes(), &exclude) {
        Ok(variables) => variables,
        Err(error) => return complain(name, &error.to_string(), 1),
    };
    let Some(mut program) = program(command) else {
        return complain(name, "the command is empty", 1);
    };
    let error = program.envs(variables).exec();
    let text = format!(
        "cannot execute {}: {}",
        program.get_program().to_string_lossy(),
        why(&error)
    );
    let status = if error.kind() == std::io::ErrorKind::NotFound {
        NOT_FOUND
    } else {
        NOT_STARTED
    };
    complain(name, &text, status)
}

/// What makes a single word a line for the shell.
const SHELL: &[u8] = b"$&*(){}[]'\";\\|?<>~`\n";

fn program(command: &[OsString]) -> Option<Command> {
    let mut program;
    match command {
        [line] if line.as_bytes().iter().any(|b| SHELL.contains(b)) => {
            program = Command::new("/bin/sh");
            program.arg("-c").arg(line);
        }
        [line] => {
            let mut words = line
                .as_bytes()
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty())
                .map(OsStr::from_bytes);
            program = Command::new(words.next()?);
            program.args(words);
        }
        [first, rest @ ..] => {
            program = Command::new(first);
            program.args(rest);
        }
        [] => return None,
    }
    Some(program)
}

/// The names to leave out, and what follows the options.
fn options(words: &[OsString]) -> Result<(Vec<OsString>, &[OsString]), String> {
    let mut exclude = Vec::new();
    let mut rest = words;
    while let [word, tail @ ..] = rest {
        let bytes = word.as_bytes();
        let (list, after) = match (bytes, tail) {
            (b"--", _) => return Ok((exclude, tail)),
            (b"--exclude" | b"-exclude", [list, after @ ..]) => (list.as_bytes(), after),
            _ => match bytes
                .strip_prefix(b"--exclude=")
                .or_else(|| bytes.strip_prefix(b"-exclude="))
            {
                Some(list) => (list, tail),
                None if bytes.starts_with(b"-") => return Err(unknown(word)),
                None => break,
            },
        };
        exclude.extend(
            list.split(|b| *b == b',')
                .filter(|name| !name.is_empty())
                .map(|name| OsStr::from_bytes(name).to_owned()),
        );
        rest = after;
    }
    Ok((exclude, rest))
}

fn unknown(word: &OsStr) -> String {
    format!("{word:?} is not understood; --exclude=NAME[,NAME...] is")
}

pub(crate) fn complain(name: &str, text: &str, status: u8) -> ExitCode {
    // Nobody listening is no reason to fail otherwise.
    let _ = std::io::stderr().write_all(format!("{name}: {text}\n").as_bytes());
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<OsString> {
        list.iter().map(OsString::from).collect()
    }

    #[test]
    fn g7_options_of_the_historical_tools_are_understood() {
        let all = words(&["--exclude=A,B", "--exclude", "C", "--", "id", "-u"]);
        let (exclude, rest) = options(&all).expect("understood");
        assert_eq!((exclude, rest), (words(&["A", "B", "C"]), &all[4..]));
        let plain = words(&["id", "--exclude=A"]);
        assert_eq!(options(&plain), Ok((Vec::new(), &plain[..])));
        assert!(options(&words(&["--excluded"])).is_err());
    }

    #[test]
    fn a_single_word_is_a_line() {
        let shown = |list: &[&str]| {
            let program = program(&words(list)).expect("a program");
            let mut all = vec![program.get_program().to_owned()];
            all.extend(program.get_args().map(OsStr::to_owned));
            all
        };
        assert_eq!(
            shown(&["cd /x; ./run 2>&1"]),
            words(&["/bin/sh", "-c", "cd /x; ./run 2>&1"])
        );
        assert_eq!(shown(&["  id  -u "]), words(&["id", "-u"]));
        assert_eq!(
            shown(&["echo", "a;b", "c d"]),
            words(&["echo", "a;b", "c d"])
        );
        assert!(program(&words(&[" "])).is_none());
    }
}
