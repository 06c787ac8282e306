//! Names of signals, as job ads and `ExitReason` spell them.

const NAMES: [(&str, i32, &str); 31] = [
    ("SIGHUP", libc::SIGHUP, "Hangup"),
    ("SIGINT", libc::SIGINT, "Interrupt"),
    ("SIGQUIT", libc::SIGQUIT, "Quit"),
    ("SIGILL", libc::SIGILL, "Illegal instruction"),
    ("SIGTRAP", libc::SIGTRAP, "Trace/breakpoint trap"),
    ("SIGABRT", libc::SIGABRT, "Aborted"),
    ("SIGBUS", libc::SIGBUS, "Bus error"),
    ("SIGFPE", libc::SIGFPE, "Floating point exception"),
    ("SIGKILL", libc::SIGKILL, "Killed"),
    ("SIGUSR1", libc::SIGUSR1, "User defined signal 1"),
    ("SIGSEGV", libc::SIGSEGV, "Segmentation fault"),
    ("SIGUSR2", libc::SIGUSR2, "User defined signal 2"),
    ("SIGPIPE", libc::SIGPIPE, "Broken pipe"),
    ("SIGALRM", libc::SIGALRM, "Alarm clock"),
    ("SIGTERM", libc::SIGTERM, "Terminated"),
    ("SIGSTKFLT", libc::SIGSTKFLT, "Stack fault"),
    ("SIGCHLD", libc::SIGCHLD, "Child exited"),
    ("SIGCONT", libc::SIGCONT, "Continued"),
    ("SIGSTOP", libc::SIGSTOP, "Stopped (signal)"),
    ("SIGTSTP", libc::SIGTSTP, "Stopped"),
    ("SIGTTIN", libc::SIGTTIN, "Stopped (tty input)"),
    ("SIGTTOU", libc::SIGTTOU, "Stopped (tty output)"),
    ("SIGURG", libc::SIGURG, "Urgent I/O condition"),
    ("SIGXCPU", libc::SIGXCPU, "CPU time limit exceeded"),
    ("SIGXFSZ", libc::SIGXFSZ, "File size limit exceeded"),
    ("SIGVTALRM", libc::SIGVTALRM, "Virtual timer expired"),
    ("SIGPROF", libc::SIGPROF, "Profiling timer expired"),
    ("SIGWINCH", libc::SIGWINCH, "Window changed"),
    ("SIGIO", libc::SIGIO, "I/O possible"),
    ("SIGPWR", libc::SIGPWR, "Power failure"),
    ("SIGSYS", libc::SIGSYS, "Bad system call"),
];

/// The number of a signal given as `SIGTERM`, `TERM`, `term` or `15`.
#[must_use]
pub fn number(text: &str) -> Option<i32> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES
        .iter()
        .find(|(name, ..)| name.strip_prefix("SIG") == Some(bare))
        .map(|(_, number, _)| *number)
}

/// What a signal did, in words: `died on signal 9 (Killed)`.
#[must_use]
pub fn exit_reason(signal: i32) -> String {
    match NAMES.iter().find(|(_, number, _)| *number == signal) {
        Some((_, _, words)) => format!("died on signal {signal} ({words})"),
        None => format!("died on signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for text in ["SIGTERM", "TERM", "sigterm", " 15 "] {
            assert_eq!(number(text), Some(15), "{text}");
        }
        for text in ["", "SIG", "0", "65", "SIGNAL", "-9"] {
            assert_eq!(number(text), None, "{text}");
        }
        assert_eq!(exit_reason(9), "died on signal 9 (Killed)");
        assert_eq!(exit_reason(40), "died on signal 40");
    }
}
