//! Why a call fails: exit status, stable code, one sentence, and whether waiting helps
//! (requirements of section 1.3, G9).

use std::borrow::Cow;
use std::fmt;

use launch_protocol::broker::{Refusal, RefusalClass, RefusedBy};
use launch_protocol::exec::{ExecFailure, ExecStep};
use nix::errno::Errno;

/// gLExec's own exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The caller can fix it.
    Caller,
    /// The administrator must fix it.
    Administrator,
    /// Not authorised.
    NotAuthorised,
    /// The command itself ended with one of these four.
    Command,
    /// This signal ended the call before the command ran.
    Signal(u8),
}

impl Status {
    /// The number.
    pub fn number(self) -> u8 {
        match self {
            Self::Caller => 201,
            Self::Administrator => 202,
            Self::NotAuthorised => 203,
            Self::Command => 204,
            Self::Signal(signal) => 128 | signal,
        }
    }
}

/// A call that did not run its command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit status.
    pub status: Status,
    /// Stable short code, such as `proxy.expired`.
    pub code: Cow<'static, str>,
    /// One sentence that says what to do.
    pub message: String,
    /// The same call may succeed later, with nobody changing anything.
    pub may_succeed_later: bool,
}

impl Failure {
    /// The caller can fix it.
    pub fn caller(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Status::Caller, code, message)
    }

    /// The administrator must fix it.
    pub fn administrator(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Status::Administrator, code, message)
    }

    /// A signal came before the command ran.
    pub(crate) fn interrupted(signal: i32) -> Self {
        let number = u8::try_from(signal & 0x7f).unwrap_or_default();
        let text = format!("stopped by signal {number} before the command was started");
        Self::new(Status::Signal(number), "call.interrupted", text)
    }

    fn new(status: Status, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: Cow::Borrowed(code),
            message: message.into(),
            may_succeed_later: false,
        }
    }

    /// For the report: one line of JSON.
    pub fn json(&self) -> String {
        format!(
            "{{\"event\":\"refused\",\"status\":{},\"code\":\"{}\",\"may_succeed_later\":{},\"message\":\"{}\"}}\n",
            self.status.number(),
            escape(&self.code),
            self.may_succeed_later,
            escape(&self.message)
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let later = if self.may_succeed_later {
            "may succeed later"
        } else {
            "will not succeed unless something changes"
        };
        write!(f, "{} [{}, {later}]", Line(&self.message), self.code)
    }
}

/// Text that stays on its line: everything but printable ASCII is escaped (requirement S10).
struct Line<'a>(&'a str);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b' '..=b'~' => write!(f, "{}", char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

/// The inside of a JSON string.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            ' '..='~' => out.push(character),
            _ => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out
}

/// Credential codes that mean "not trusted" rather than "broken or too old".
const UNTRUSTED: [&str; 8] = [
    "chain.",
    "ca.",
    "crl.",
    "namespace.",
    "ac.",
    "voms.",
    "token.",
    "issuer.",
];
/// Codes that mean "not authorised" whoever says them.
const UNAUTHORISED: [&str; 8] = [
    "caller.",
    "ban.",
    "banned.",
    "window.",
    "map.none",
    "map.names_failed",
    "lease.",
    "pool.",
];
/// Said of a verifier that a credential has brought down (requirement S20).
const CRASHED: [&str; 2] = ["verifier.died", "verifier.timeout"];

fn status_of(refusal: &Refusal) -> Status {
    let code = refusal.code.as_str();
    let begins = |list: &[&str]| list.iter().any(|prefix| code.starts_with(prefix));
    if code == "startup.version" {
        // The two halves of one installation do not match.
        return Status::Administrator;
    }
    if begins(&CRASHED) {
        return Status::Caller;
    }
    if begins(&UNAUTHORISED) {
        return Status::NotAuthorised;
    }
    match (refusal.who, refusal.class) {
        (_, RefusalClass::SitePermanent) => Status::Administrator,
        (RefusedBy::Credential, RefusalClass::Job | RefusalClass::Caller) if begins(&UNTRUSTED) => {
            Status::NotAuthorised
        }
        (RefusedBy::Credential | RefusedBy::Helper, RefusalClass::Job | RefusalClass::Caller) => {
            Status::Caller
        }
        (RefusedBy::Mapping, _) => Status::NotAuthorised,
        (_, RefusalClass::SiteTransient) => Status::Administrator,
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self {
            status: status_of(&refusal),
            code: Cow::Owned(refusal.code),
            message: refusal.message,
            may_succeed_later: refusal.may_succeed_later,
        }
    }
}

impl From<ExecFailure> for Failure {
    fn from(failure: ExecFailure) -> Self {
        let code = match (failure.step, Errno::from_raw(failure.errno)) {
            (ExecStep::Exec, Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG) => {
                "command.missing"
            }
            (ExecStep::Exec, Errno::EACCES | Errno::EPERM | Errno::EISDIR | Errno::ELOOP) => {
                "command.permission"
            }
            (ExecStep::Exec, Errno::ENOEXEC) => "command.format",
            (ExecStep::Exec, Errno::E2BIG) => "command.too_big",
            (ExecStep::Exec, Errno::ETXTBSY) => "command.busy",
            _ => return Self::administrator("command.start", failure.message),
        };
        Self::caller(code, failure.message)
    }
}

/// The exit status of a command that has ended: its own, 204 in place of gLExec's, 128 and the number
/// of the signal that killed it (requirement G8). `wait_status` is `waitpid`'s.
pub fn exit_status(wait_status: i32) -> u8 {
    let signal = wait_status & 0x7f;
    let status = if signal == 0 {
        wait_status >> 8 & 0xff
    } else {
        128 + signal
    };
    match u8::try_from(status) {
        Ok(201..=204) => Status::Command.number(),
        Ok(status) => status,
        Err(_) => u8::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(who: RefusedBy, class: RefusalClass, code: &str) -> Refusal {
        Refusal {
            class,
            code: code.to_owned(),
            message: "x".to_owned(),
            may_succeed_later: false,
            who,
        }
    }

    #[test]
    fn g8_the_exit_status_is_the_commands_own_but_for_four() {
        for code in 0..=255_u8 {
            let expected = if (201..=204).contains(&code) {
                204
            } else {
                code
            };
            assert_eq!(exit_status(i32::from(code) << 8), expected);
        }
        for signal in 1..=64_u8 {
            assert_eq!(exit_status(i32::from(signal)), 128 + signal);
            // With a core file.
            assert_eq!(exit_status(i32::from(signal) | 0x80), 128 + signal);
        }
    }

    #[test]
    fn g9_each_cause_has_its_status() {
        use RefusalClass::{Caller, Job, SitePermanent, SiteTransient};
        use RefusedBy::{Credential, Helper, Mapping};
        let table = [
            (Credential, Job, "proxy.expired", 201),
            (Credential, Job, "cert.expired", 201),
            (Credential, Job, "bundle.malformed", 201),
            (Credential, Job, "bundle.empty", 201),
            (Credential, Job, "proxy.pathlen", 201),
            (Credential, Job, "chain.untrusted", 203),
            (Credential, Job, "chain.signature", 203),
            (Credential, Job, "ac.signature", 203),
            (Credential, SitePermanent, "ca.unreadable", 202),
            (Credential, SiteTransient, "verifier.start", 202),
            (Credential, SiteTransient, "verifier.died", 201),
            (Mapping, Job, "map.none", 203),
            (Mapping, SitePermanent, "map.none", 203),
            (Mapping, Job, "ban.dn", 203),
            (Mapping, SitePermanent, "map.unreadable", 202),
            (Mapping, SiteTransient, "map.names_failed", 203),
            (Mapping, SiteTransient, "lease.none", 203),
            (Helper, Caller, "caller.not_listed", 203),
            (Helper, Caller, "caller.unfit", 203),
            (Helper, Caller, "open.credential", 201),
            (Helper, Caller, "startup.version", 202),
            (Helper, SitePermanent, "conf.invalid", 202),
            (Helper, SitePermanent, "conf.writable", 202),
            (Helper, SitePermanent, "startup.setuid", 202),
            (Helper, SiteTransient, "sandbox.failed", 202),
        ];
        for (who, class, code, status) in table {
            let failure = Failure::from(refusal(who, class, code));
            assert_eq!(failure.status.number(), status, "{code}");
            assert_eq!(failure.code, code);
        }
    }

    #[test]
    fn g9_the_flag_is_the_refusals_own() {
        let busy = Refusal {
            may_succeed_later: true,
            ..refusal(
                RefusedBy::Mapping,
                RefusalClass::SiteTransient,
                "lease.none",
            )
        };
        let failure = Failure::from(busy);
        assert!(failure.may_succeed_later);
        assert_eq!(failure.to_string(), "x [lease.none, may succeed later]");
        assert_eq!(
            failure.json(),
            "{\"event\":\"refused\",\"status\":203,\"code\":\"lease.none\",\"may_succeed_later\":true,\"message\":\"x\"}\n"
        );
    }

    #[test]
    fn s10_a_message_stays_on_its_line() {
        let failure = Failure::caller("x.y", "a\nb\u{1b}[2J\"é\u{1f600}");
        assert_eq!(
            failure.to_string(),
            "a\\x0ab\\x1b[2J\"\\xc3\\xa9\\xf0\\x9f\\x98\\x80 [x.y, will not succeed unless something changes]"
        );
        assert!(
            failure
                .json()
                .contains("a\\u000ab\\u001b[2J\\\"\\u00e9\\ud83d\\ude00")
        );
    }
}
