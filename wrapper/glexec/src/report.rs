//! The report on descriptor 3, for callers that want more than a number: one line of JSON, when the
//! command runs or when it will not. The descriptor closes then, whatever the command does.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use launch_protocol::broker::Opened;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::failure::Failure;
use crate::front::start_line;
use crate::sys;
use crate::variables::{REPORT_FD, value};

/// Where the set-uid half puts what the caller had on 3, because our control socket is there.
const PLACE: i32 = 4;

/// Where the report goes, until it has gone.
#[derive(Debug, Default)]
pub(crate) struct Report(Option<File>);

impl Report {
    /// Takes the descriptor over; closes it if the caller wants no report.
    pub(crate) fn take(environment: &[(OsString, OsString)]) -> Result<Self, Failure> {
        let open = fcntl(sys::borrow(PLACE), FcntlArg::F_GETFD).is_ok();
        let file: Option<OwnedFd> = open.then(|| sys::own(PLACE));
        match (value(environment, REPORT_FD), file) {
            (None, _) => Ok(Self(None)),
            (Some(number), Some(file)) if number == "3" => {
                let _ = fcntl(&file, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
                Ok(Self(Some(file.into())))
            }
            (Some(_), _) => {
                let text = "GLEXEC_REPORT_FD must be 3, and descriptor 3 open; \
                            all others are closed before anything is read";
                Err(Failure::caller("report.fd", text))
            }
        }
    }

    /// The command runs.
    pub(crate) fn started(&mut self, opened: &Opened, command: u32) {
        self.write(&start_line(opened, command));
    }

    /// It does not.
    pub(crate) fn refused(&mut self, failure: &Failure) {
        self.write(&failure.json());
    }

    fn write(&mut self, line: &str) {
        if let Some(mut file) = self.0.take() {
            // Nobody reads: then nobody wants to know.
            let _ = file.write_all(line.as_bytes());
        }
    }
}
