//! The command's environment (requirement G5).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::variables::{CLIENT_CERT, REPORT_FD, SOURCE_PROXY};

/// Who the command will be, as far as variables tell.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// `USER` and `LOGNAME`.
    pub name: &'a str,
    /// `HOME`.
    pub home: &'a Path,
    /// `SHELL`.
    pub shell: &'a Path,
    /// `PATH`.
    pub path: &'a OsStr,
    /// `X509_USER_PROXY`, when a copy was made.
    pub proxy: Option<&'a Path>,
}

/// Variables beginning so never pass, whatever the configuration says.
const FORBIDDEN_BEGINNINGS: [&[u8]; 2] = [b"LD_", b"MALLOC_"];
/// Nor do these.
const FORBIDDEN: [&str; 5] = ["GCONV_PATH", "GLIBC_TUNABLES", "BASH_ENV", "ENV", "IFS"];
/// Variables of gLExec's own that name files or descriptors of the caller.
const CALLERS_OWN: [&str; 3] = [CLIENT_CERT, SOURCE_PROXY, REPORT_FD];

/// May a variable of this name reach a command under another account at all?
pub fn may_pass(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !bytes.is_empty()
        && !bytes.iter().any(|b| *b == b'=' || b.is_ascii_control())
        && !FORBIDDEN_BEGINNINGS
            .iter()
            .any(|beginning| bytes.starts_with(beginning))
        && !FORBIDDEN.iter().any(|known| name == *known)
}

/// Exactly what the command gets, as `NAME=value`, in this order: the caller's, then the account's.
pub fn build(
    callers: &[(OsString, OsString)],
    preserve: &[String],
    account: Account<'_>,
) -> Vec<Vec<u8>> {
    let mut own: Vec<(&OsStr, &OsStr)> = vec![
        (OsStr::new("HOME"), account.home.as_os_str()),
        (OsStr::new("USER"), OsStr::new(account.name)),
        (OsStr::new("LOGNAME"), OsStr::new(account.name)),
        (OsStr::new("SHELL"), account.shell.as_os_str()),
        (OsStr::new("PATH"), account.path),
    ];
    if let Some(proxy) = account.proxy {
        own.push((OsStr::new("X509_USER_PROXY"), proxy.as_os_str()));
    }
    let mut chosen: Vec<(&OsStr, &OsStr)> = Vec::new();
    for (name, value) in callers {
        let wanted = (name.as_bytes().starts_with(b"GLEXEC_")
            && !CALLERS_OWN.iter().any(|known| name == *known))
            || preserve.iter().any(|kept| name == kept.as_str());
        // Also X509_USER_PROXY when there is no copy: the caller's must not be mistaken for one.
        let ours = name == "X509_USER_PROXY" || own.iter().any(|(known, _)| known == name);
        let again = chosen.iter().any(|(known, _)| known == name);
        if wanted && !ours && !again && may_pass(name) {
            chosen.push((name, value));
        }
    }
    chosen
        .into_iter()
        .chain(own)
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(callers: &[(&str, &str)], preserve: &[&str], proxy: Option<&str>) -> Vec<String> {
        let callers: Vec<_> = callers
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let preserve: Vec<_> = preserve.iter().map(|name| (*name).to_owned()).collect();
        let account = Account {
            name: "pool007",
            home: Path::new("/home/pool007"),
            shell: Path::new("/bin/sh"),
            path: OsStr::new("/usr/bin:/bin"),
            proxy: proxy.map(Path::new),
        };
        build(&callers, &preserve, account)
            .into_iter()
            .map(|item| String::from_utf8(item).expect("text"))
            .collect()
    }

    const OWN: [&str; 5] = [
        "HOME=/home/pool007",
        "USER=pool007",
        "LOGNAME=pool007",
        "SHELL=/bin/sh",
        "PATH=/usr/bin:/bin",
    ];

    #[test]
    fn g5_the_environment_is_exactly_this() {
        let callers = [
            ("GLEXEC_CLIENT_CERT", "/c"),
            ("GLEXEC_SOURCE_PROXY", "/s"),
            ("GLEXEC_TARGET_PROXY", "/t"),
            ("GLEXEC_REPORT_FD", "3"),
            ("GLEXEC_ENV", "eJw="),
            ("GLEXEC_ID", "7.0"),
            ("GLEXEC_ENV", "second"),
            ("GLEXEC_BAD\nX", "1"),
            ("LANG", "C"),
            ("TZ", "UTC"),
            ("HOME", "/home/pilot"),
            ("PATH", "/tmp"),
            ("X509_USER_PROXY", "/pilot"),
            ("LD_PRELOAD", "/evil.so"),
            ("MALLOC_CHECK_", "3"),
            ("GCONV_PATH", "/evil"),
            ("GLIBC_TUNABLES", "x"),
            ("BASH_ENV", "/evil"),
            ("ENV", "/evil"),
            ("IFS", "/"),
            ("", "x"),
            ("SECRET", "x"),
        ];
        // Everything kept that can be, and then some.
        let preserve = [
            "LANG",
            "HOME",
            "PATH",
            "X509_USER_PROXY",
            "LD_PRELOAD",
            "MALLOC_CHECK_",
            "GCONV_PATH",
            "GLIBC_TUNABLES",
            "BASH_ENV",
            "ENV",
            "IFS",
            "",
        ];
        let mut expected = vec![
            "GLEXEC_TARGET_PROXY=/t",
            "GLEXEC_ENV=eJw=",
            "GLEXEC_ID=7.0",
            "LANG=C",
        ];
        expected.extend(OWN);
        expected.push("X509_USER_PROXY=/run/x");
        assert_eq!(text(&callers, &preserve, Some("/run/x")), expected);
    }

    #[test]
    fn g5_without_a_copy_there_is_no_proxy() {
        let callers = [("X509_USER_PROXY", "/pilot")];
        assert_eq!(text(&callers, &["X509_USER_PROXY"], None), OWN);
        assert_eq!(text(&[], &[], None), OWN);
    }
}
