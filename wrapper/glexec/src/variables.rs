//! What the caller's environment asks for (requirements of section 1.2).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use launch_protocol::MAX_LABEL;

use crate::failure::Failure;

/// Names the payload user's bundle.
pub const CLIENT_CERT: &str = "GLEXEC_CLIENT_CERT";
/// Names what to copy for the target.
pub const SOURCE_PROXY: &str = "GLEXEC_SOURCE_PROXY";
/// Names where to put the copy.
pub const TARGET_PROXY: &str = "GLEXEC_TARGET_PROXY";
/// Names the caller's own credential.
pub const CALLERS_PROXY: &str = "X509_USER_PROXY";
/// How far to go.
pub const MODE: &str = "GLEXEC_MODE";
/// The caller's name for this call.
pub const ID: &str = "GLEXEC_ID";
/// Number of the descriptor that takes the report; ours, gLExec does not have it.
pub const REPORT_FD: &str = "GLEXEC_REPORT_FD";

/// Where the copy of the credential goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetProxy {
    /// Nowhere.
    None,
    /// To a private file that the configuration chooses.
    Private,
    /// To this file.
    At(PathBuf),
}

/// What mapping is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `lcmaps_get_account`: map, and lease an account if need be.
    GetAccount,
    /// `lcmaps_verify_account`: only an account that the identity has already.
    VerifyAccount,
}

/// A call, as the environment describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variables {
    /// The payload user's bundle.
    pub client_cert: PathBuf,
    /// What to copy; `None`: the same.
    pub source_proxy: Option<PathBuf>,
    /// Where to.
    pub target_proxy: TargetProxy,
    /// The caller's own credential, if it names one.
    pub callers_proxy: Option<PathBuf>,
    /// What mapping is wanted.
    pub mode: Mode,
    /// The caller's name for this call: printable, at most [`MAX_LABEL`] bytes.
    pub id: String,
}

/// The first value of a variable, as `getenv` has it.
pub fn value<'a>(environment: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    environment
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_os_str())
}

/// Reads the variables.
///
/// # Errors
/// On the first that is missing or has a value that is not allowed.
pub fn read(environment: &[(OsString, OsString)]) -> Result<Variables, Failure> {
    let get = |name| value(environment, name);
    Ok(Variables {
        client_cert: match get(CLIENT_CERT) {
            None => {
                let text =
                    "GLEXEC_CLIENT_CERT is not set; it must name the payload user's credential";
                return Err(Failure::caller("cert.unset", text));
            }
            Some(path) => absolute(CLIENT_CERT, "cert.path", path)?,
        },
        source_proxy: get(SOURCE_PROXY)
            .map(|path| absolute(SOURCE_PROXY, "source.path", path))
            .transpose()?,
        target_proxy: match get(TARGET_PROXY) {
            None => TargetProxy::Private,
            Some(path) if path == "/dev/null" => TargetProxy::None,
            Some(path) => TargetProxy::At(absolute(TARGET_PROXY, "target.path", path)?),
        },
        // Not used unless the site asks for it, so whether it can be is a later question.
        callers_proxy: get(CALLERS_PROXY).map(PathBuf::from),
        mode: match get(MODE).map(OsStr::as_bytes) {
            None | Some(b"lcmaps_get_account") => Mode::GetAccount,
            Some(b"lcmaps_verify_account") => Mode::VerifyAccount,
            Some(_) => {
                let text = "GLEXEC_MODE must be lcmaps_get_account or lcmaps_verify_account";
                return Err(Failure::caller("mode.unknown", text));
            }
        },
        id: label(get(ID).unwrap_or_default()),
    })
}

fn absolute(name: &str, code: &'static str, path: &OsStr) -> Result<PathBuf, Failure> {
    if path.is_empty() {
        let text = format!("{name} is empty; it must be the absolute path of a file");
        return Err(Failure::caller(code, text));
    }
    let path = Path::new(path);
    if !path.is_absolute() {
        let text = format!("{name} is {path:?}, which is not an absolute path");
        return Err(Failure::caller(code, text));
    }
    Ok(path.to_owned())
}

/// What is not printable is escaped, and too much is cut (never inside an escape).
fn label(id: &OsStr) -> String {
    let mut out = String::new();
    for byte in id.as_bytes() {
        let piece = match byte {
            b'\\' => "\\\\".to_owned(),
            b' '..=b'~' => char::from(*byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        };
        if out.len() + piece.len() > MAX_LABEL {
            break;
        }
        out.push_str(&piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    fn with(pairs: &[(&str, &str)]) -> Result<Variables, Failure> {
        let mut all = environment(&[(CLIENT_CERT, "/c")]);
        all.extend(environment(pairs));
        read(&all)
    }

    #[test]
    fn g9_each_variable_that_does_not_do_has_its_code() {
        let code = |result: Result<Variables, Failure>| {
            let failure = result.expect_err("refused");
            assert_eq!(failure.status.number(), 201);
            failure.code.into_owned()
        };
        assert_eq!(code(read(&[])), "cert.unset");
        for bad in ["", "c", "./c", "x509up"] {
            assert_eq!(code(read(&environment(&[(CLIENT_CERT, bad)]))), "cert.path");
            assert_eq!(code(with(&[(SOURCE_PROXY, bad)])), "source.path");
            assert_eq!(code(with(&[(TARGET_PROXY, bad)])), "target.path");
        }
        for bad in ["", "lcmaps_get_account ", "LCMAPS_GET_ACCOUNT", "uidgid"] {
            assert_eq!(code(with(&[(MODE, bad)])), "mode.unknown");
        }
    }

    #[test]
    fn unset_variables_have_their_defaults() {
        let plain = with(&[]).expect("fine");
        assert_eq!(plain.client_cert, Path::new("/c"));
        assert_eq!(plain.source_proxy, None);
        assert_eq!(plain.target_proxy, TargetProxy::Private);
        assert_eq!(plain.mode, Mode::GetAccount);
        assert_eq!(plain.id, "");
        let none = with(&[(TARGET_PROXY, "/dev/null")]).expect("fine");
        assert_eq!(none.target_proxy, TargetProxy::None);
        let verify = with(&[(MODE, "lcmaps_verify_account")]).expect("fine");
        assert_eq!(verify.mode, Mode::VerifyAccount);
    }

    #[test]
    fn the_first_of_two_equal_names_counts() {
        let twice = with(&[(CLIENT_CERT, "/other")]).expect("fine");
        assert_eq!(twice.client_cert, Path::new("/c"));
    }

    #[test]
    fn an_id_is_escaped_and_cut() {
        let id = |text: &[u8]| label(OsStr::from_bytes(text));
        assert_eq!(id(b"job 7.0"), "job 7.0");
        assert_eq!(id(b"a\nb\xff\\x41"), "a\\x0ab\\xff\\\\x41");
        assert_eq!(id(&[b'x'; 300]).len(), MAX_LABEL);
        let escapes = id(&[1; 300]);
        assert!(escapes.len() <= MAX_LABEL && escapes.ends_with("\\x01"));
    }
}
