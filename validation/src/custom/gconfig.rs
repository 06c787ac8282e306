//! The program behind the functions that checks source: the dashboard, the lock, the variables, the result files.
//!
//! It is called many times by each check, so it starts nothing that it does not need.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::unistd::Pid;

use super::dashboard::{is_true, trimmed};
use super::lock::{self, Patience};
use super::result::{self, CheckResult, Run};
use super::store::{self, Store};
use super::{stamp, vars};

/// The file that a check writes.
pub const OWN_RESULT: &str = "otrb_output.xml";
/// The file that the runner makes of it.
pub const RUNNER_RESULT: &str = "otrx_output.xml";
/// All of them, one after the other.
pub const RESULT_LIST: &str = "otr_outlist.list";

const USAGE: &str = "\
usage: gconfig get KEY FILE [-i|--lower|--upper|--trim|--bool]
       gconfig add FILE KEY VALUE...
       gconfig trim FILE
       gconfig lock FILE PID | unlock FILE
       gconfig vars FILE NAME TYPE DEFAULT CONDORNAME REQUIRED EXPORT USERENV
       gconfig result -ok ID [METRIC VALUE]... | -error ID TYPE TEXT [METRIC VALUE]...
       gconfig augment -init | -process STATUS ID DIRECTORY COMMAND START END | -concat | -locked-concat";

/// Does what the words say, in the current directory. Returns the exit status.
pub fn run(words: &[OsString], out: &mut dyn Write, complaints: &mut dyn Write) -> u8 {
    let bytes: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let done = match bytes.as_slice() {
        [b"get", key, file] => get(key, file, b"-", out),
        [b"get", key, file, option] => get(key, file, option, out),
        [b"add", file, key, values @ ..] => add(file, key, values, complaints),
        [b"trim", file] => Store::at(path(file)).trim().map_err(said),
        [b"lock", file, holder] => hold(file, holder),
        [b"unlock", file] => lock::release(path(file)).map_err(said),
        [b"vars", file, columns @ ..] if !columns.is_empty() => set_vars(file, columns),
        [b"result", b"-ok", id, metrics @ ..] => write_result(id, None, metrics),
        [b"result", b"-error", id, kind, text, metrics @ ..] => {
            write_result(id, Some((kind, text)), metrics)
        }
        [b"augment", b"-init"] => init(Path::new(".")).map_err(said),
        [
            b"augment",
            b"-process",
            status,
            id,
            directory,
            command,
            start,
            end,
        ] => process(status, id, directory, command, start, end),
        [b"augment", b"-concat" | b"-locked-concat"] => {
            concat(Path::new("."), Path::new(RESULT_LIST))
        }
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => 0,
        Err(why) => {
            // A check whose standard error is closed gets its status all the same.
            let _ = writeln!(complaints, "{why}");
            1
        }
    }
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An error with its causes in one line.
fn said(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A file that cannot be read has no values: checks ask before it exists.
fn get(key: &[u8], file: &[u8], option: &[u8], out: &mut dyn Write) -> Result<(), String> {
    let board = Store::at(path(file)).load().unwrap_or_default();
    let found = match option {
        b"-i" => board.get_any_case(key),
        _ => board.get(key),
    };
    if option == b"--bool" {
        return match found {
            Some(value) if is_true(value) => Ok(()),
            _ => Err(format!("{} is not true", text(key))),
        };
    }
    let Some(value) = found else { return Ok(()) };
    let mut value = match option {
        b"--lower" => value.to_ascii_lowercase(),
        b"--upper" => value.to_ascii_uppercase(),
        b"--trim" => trimmed(value).to_vec(),
        _ => value.to_vec(),
    };
    value.push(b'\n');
    // Who asked may have stopped listening.
    let _ = out.write_all(&value).and_then(|()| out.flush());
    Ok(())
}

fn add(
    file: &[u8],
    key: &[u8],
    values: &[&[u8]],
    complaints: &mut dyn Write,
) -> Result<(), String> {
    if key.starts_with(b"#") {
        // Some write comments this way; they are of no use to anybody here.
        return Ok(());
    }
    let joined = values.join(&b' ');
    // One word with a blank in it is a whole line.
    let (key, value) = match key.iter().position(|&byte| byte == b' ') {
        Some(blank) if values.is_empty() => {
            let (key, rest) = key.split_at(blank);
            (key, rest.get(1..).unwrap_or_default().to_vec())
        }
        _ => (key, joined),
    };
    let lost = Store::at(path(file)).add(key, &value).map_err(said)?;
    if lost {
        let _ = writeln!(
            complaints,
            "the value of {} has more than one line; only the first was kept",
            text(key)
        );
    }
    Ok(())
}

fn hold(file: &[u8], holder: &[u8]) -> Result<(), String> {
    if !path(file).exists() {
        return Err(format!("cannot lock {}: there is no such file", text(file)));
    }
    let holder = text(holder)
        .parse()
        .map_err(|_| format!("{:?} is no process number", text(holder)))?;
    lock::hold_for(path(file), Pid::from_raw(holder), Patience::default()).map_err(said)
}

fn set_vars(file: &[u8], columns: &[&[u8]]) -> Result<(), String> {
    let line = columns.join(&b' ');
    if line.contains(&b'\n') {
        return Err("an entry of condor_vars.lst cannot have two lines".to_owned());
    }
    let name = columns.first().copied().unwrap_or_default();
    store::rewrite(path(file), Patience::default(), |before| {
        let mut after = Vec::with_capacity(before.len() + line.len() + 1);
        for old in before.split_inclusive(|&byte| byte == b'\n') {
            let same = std::str::from_utf8(old)
                .is_ok_and(|old| vars::name_of(old).is_some_and(|known| known.as_bytes() == name));
            if !same {
                after.extend_from_slice(old);
                if !old.ends_with(b"\n") {
                    after.push(b'\n');
                }
            }
        }
        after.extend_from_slice(&line);
        after.push(b'\n');
        after
    })
    .map_err(said)
}

fn write_result(
    id: &[u8],
    failure: Option<(&[u8], &[u8])>,
    metrics: &[&[u8]],
) -> Result<(), String> {
    let result = CheckResult {
        ok: failure.is_none(),
        failure: failure.map(|(kind, _)| text(kind)),
        metrics: metrics
            .chunks_exact(2)
            .filter_map(|pair| match pair {
                [name, value] => Some((text(name), text(value))),
                _ => None,
            })
            .collect(),
        detail: failure.map(|(_, detail)| text(detail)),
    };
    let document = result.render(&text(id), &stamp::local(stamp::now()));
    store::replace(Path::new(OWN_RESULT), document.as_bytes()).map_err(said)
}

/// Makes a folder ready for the next check: its result file has one empty line.
///
/// # Errors
/// Not writable.
pub fn init(folder: &Path) -> Result<(), store::StoreError> {
    store::replace(&folder.join(OWN_RESULT), b"\n")
}

/// What a check left in a folder, if it is of use.
#[must_use]
pub fn own_result(folder: &Path, passed: bool) -> Option<CheckResult> {
    let bytes = store::read_up_to(&folder.join(OWN_RESULT), result::MAX_BYTES)
        .ok()
        .flatten()?;
    result::usable(&String::from_utf8_lossy(&bytes), passed)
}

fn process(
    status: &[u8],
    id: &[u8],
    directory: &[u8],
    command: &[u8],
    start: &[u8],
    end: &[u8],
) -> Result<(), String> {
    let number = |word: &[u8], what: &str| {
        text(word)
            .parse::<i64>()
            .map_err(|_| format!("{:?} is no {what}", text(word)))
    };
    let status = number(status, "exit status")?;
    let (id, directory, command) = (text(id), text(directory), text(command));
    let run = Run {
        id: &id,
        cwd: &directory,
        command: &command,
        start: number(start, "time")?,
        end: number(end, "time")?,
        passed: status == 0,
        how: &format!("exit status {status}"),
    };
    let own = own_result(Path::new("."), run.passed);
    let document = result::augmented(&run, own.as_ref());
    store::replace(Path::new(RUNNER_RESULT), document.as_bytes()).map_err(said)
}

/// Appends the runner's result in a folder to the list. The list is read-only between two appends.
///
/// # Errors
/// One sentence.
pub fn concat(folder: &Path, list: &Path) -> Result<(), String> {
    let result = store::read_up_to(&folder.join(RUNNER_RESULT), result::MAX_BYTES)
        .map_err(said)?
        .unwrap_or_default();
    let element: Vec<u8> = result
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| !line.starts_with(b"<?xml"))
        .flatten()
        .copied()
        .collect();
    store::rewrite(list, Patience::default(), |mut all| {
        all.extend_from_slice(&element);
        all
    })
    .map_err(said)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o444);
    std::fs::set_permissions(list, mode).map_err(said)
}

/// Words of a command line, without its first.
#[must_use]
pub fn words_of_process() -> Vec<OsString> {
    std::env::args_os()
        .skip(1)
        .map(|word| OsString::from_vec(word.into_vec()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(words: &[&str]) -> (u8, String, String) {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let (mut out, mut complaints) = (Vec::new(), Vec::new());
        let status = run(&words, &mut out, &mut complaints);
        (status, text(&out), text(&complaints))
    }

    #[test]
    fn values_are_put_in_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("board");
        let file = file.to_str().unwrap();
        assert_eq!(call(&["get", "A", file]).0, 0);
        assert_eq!(call(&["add", file, "A", "two", "words"]).0, 0);
        assert_eq!(call(&["add", file, "B a whole line"]).0, 0);
        assert_eq!(call(&["add", file, "# note", "x"]).0, 0);
        assert_eq!(call(&["get", "A", file, "-"]).1, "two words\n");
        assert_eq!(call(&["get", "a", file, "-i"]).1, "two words\n");
        assert_eq!(call(&["get", "B", file, "--upper"]).1, "A WHOLE LINE\n");
        assert_eq!(call(&["get", "C", file]), (0, String::new(), String::new()));
        assert_eq!(call(&["add", file, "C", "1\n2"]).2.lines().count(), 1);
        assert_eq!(call(&["get", "C", file, "--bool"]).0, 0);
        assert_eq!(call(&["nonsense"]).0, 1);
    }

    #[test]
    fn a_name_has_one_line_in_the_list_of_variables() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("condor_vars.lst");
        std::fs::write(
            &file,
            "# A comment\nA.C S - + N N -\nAB S - + N N -\nA S - + N N -",
        )
        .unwrap();
        let name = file.to_str().unwrap();
        assert_eq!(
            call(&["vars", name, "A", "C", "-", "+", "N", "Y", "+"]).0,
            0
        );
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            "# A comment\nA.C S - + N N -\nAB S - + N N -\nA C - + N Y +\n"
        );
    }

    #[test]
    fn the_list_grows_and_is_read_only() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join(RESULT_LIST);
        std::fs::write(
            folder.path().join(RUNNER_RESULT),
            "<?xml version=\"1.0\"?>\n<OSGTestResult/>\n",
        )
        .unwrap();
        concat(folder.path(), &list).unwrap();
        concat(folder.path(), &list).unwrap();
        assert_eq!(
            std::fs::read_to_string(&list).unwrap(),
            "<OSGTestResult/>\n<OSGTestResult/>\n"
        );
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(&list).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o444);
    }
}
