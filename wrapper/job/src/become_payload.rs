//! From the exec request to `execve`.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use launch_protocol::exec::{ExecFailure, ExecRequest, ExecStep, Limit, MAX_EXEC_REQUEST};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl;
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fchdir, pipe2, write};

use crate::agent::Rules;
use crate::files::kind;
use crate::{Failure, sys, words};

/// Everything that can be checked before the pilot is told that it starts.
pub(crate) struct Payload {
    request: ExecRequest,
    stdio: [OwnedFd; 3],
    /// The caller's working directory.
    here: Option<OwnedFd>,
    report_read: OwnedFd,
    report_write: OwnedFd,
}

/// Reads the request out of the memfd and makes the close-on-exec pipe.
pub(crate) fn prepare(mut descriptors: Vec<OwnedFd>) -> Result<Payload, Failure> {
    let bad = |errno: Errno, why: &str| {
        Failure::new(
            errno,
            format!("the request to start the payload cannot be used: {why}"),
        )
    };
    let here = (descriptors.len() > 4).then(|| descriptors.pop()).flatten();
    let Ok([request, stdin, stdout, stderr]) = <[OwnedFd; 4]>::try_from(descriptors) else {
        return Err(bad(Errno::EBADMSG, "it needs four descriptors"));
    };
    let bytes = read_all(File::from(request)).map_err(|e| bad(e, e.desc()))?;
    let request = ExecRequest::decode(&bytes).map_err(|e| bad(Errno::EBADMSG, &e.to_string()))?;
    let (report_read, report_write) = pipe2(OFlag::O_CLOEXEC).map_err(|e| bad(e, e.desc()))?;
    Ok(Payload {
        request,
        stdio: [stdin, stdout, stderr],
        here,
        report_read,
        report_write,
    })
}

fn read_all(file: File) -> Result<Vec<u8>, Errno> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    let size = file.metadata().map_err(errno)?.len();
    let size = usize::try_from(size)
        .ok()
        .filter(|size| *size <= MAX_EXEC_REQUEST)
        .ok_or(Errno::EMSGSIZE)?;
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, 0).map_err(errno)?;
    Ok(bytes)
}

impl Payload {
    /// The pilot's end of the pipe.
    pub(crate) fn report(&self) -> BorrowedFd<'_> {
        self.report_read.as_fd()
    }

    /// Returns only if the payload could not be started, after the reason went into the pipe.
    pub(crate) fn run(self, sandbox: Option<&Path>, rules: &Rules) {
        let Self {
            request,
            stdio,
            here,
            report_read,
            report_write,
        } = self;
        drop(report_read);
        // One that the account may not enter is none of its business.
        if let Some(here) = here
            && fchdir(&here).is_err()
        {
            let _ = chdir("/");
        }
        let sandbox = sandbox.unwrap_or_else(|| Path::new("/"));
        let failure = attempt(&request, stdio, sandbox, rules);
        if let Ok(packet) = failure.encode() {
            // Nobody reads: then nobody wants to know.
            let _ = write(&report_write, &packet);
        }
    }
}

fn attempt(
    request: &ExecRequest,
    stdio: [OwnedFd; 3],
    sandbox: &Path,
    rules: &Rules,
) -> ExecFailure {
    match arrange(request, stdio, sandbox).and_then(|()| judge(request, rules)) {
        Err(failure) => failure,
        Ok(()) => execute(request),
    }
}

fn failed(step: ExecStep, errno: Errno, path: &Path, message: String) -> ExecFailure {
    ExecFailure {
        errno: errno as i32,
        step,
        path: path.to_owned(),
        message,
    }
}

fn arrange(
    request: &ExecRequest,
    [stdin, stdout, stderr]: [OwnedFd; 3],
    sandbox: &Path,
) -> Result<(), ExecFailure> {
    // The working directory still is the sandbox, so that a relative one starts there.
    if !request.cwd.as_os_str().is_empty() {
        chdir(&request.cwd).map_err(|errno| {
            let trouble = words::cannot_enter(&sandbox.join(&request.cwd), errno);
            failed(
                ExecStep::WorkingDirectory,
                errno,
                &request.cwd,
                trouble.message,
            )
        })?;
    }
    let limits = |errno: Errno, what: String| {
        let message = format!("cannot set {what}: {}", errno.desc());
        failed(ExecStep::Limits, errno, Path::new(""), message)
    };
    for limit in &request.rlimits {
        set_limit(limit).map_err(|e| limits(e, format!("resource limit {}", limit.resource)))?;
    }
    let core = request.core_limit.unwrap_or(0);
    let core = Limit {
        resource: sys::CORE,
        soft: core,
        hard: core,
    };
    set_limit(&core).map_err(|e| limits(e, "the core file limit".to_owned()))?;
    sys::add_nice(request.nice);
    if let Some(priority) = request.ionice {
        sys::set_io_priority(priority).map_err(|e| limits(e, "the disk priority".to_owned()))?;
    }
    if !request.processors.is_empty() {
        sys::run_only_on(&request.processors).map_err(|e| {
            let what = format!("the processors {:?} to run on", request.processors);
            limits(e, what)
        })?;
    }
    umask(Mode::from_bits_truncate(request.umask));
    prctl::set_no_new_privs().map_err(|e| limits(e, "no_new_privs".to_owned()))?;

    dup2_stdin(&stdin)
        .and_then(|()| dup2_stdout(&stdout))
        .and_then(|()| dup2_stderr(&stderr))
        .and_then(|()| {
            if request.terminal {
                sys::control_terminal()?;
            }
            sys::close_all_on_exec()
        })
        .map_err(|errno| {
            let message = format!("cannot arrange the payload's descriptors: {}", errno.desc());
            failed(ExecStep::Descriptors, errno, Path::new(""), message)
        })?;
    sys::reset_signals();
    Ok(())
}

/// A hard limit above what the account may have is clipped, the soft one with it.
fn set_limit(limit: &Limit) -> Result<(), Errno> {
    let (_, most) = sys::limit(limit.resource)?;
    let hard = limit.hard.min(most);
    sys::set_limit(limit.resource, limit.soft.min(hard), hard)
}

/// The site's rules for programs, judged on the opened file (requirement S13). Whether it may be
/// executed is the kernel's to say, which then opens it once more: whoever can exchange it in between
/// has this account, and may start what it likes without us.
fn judge(request: &ExecRequest, rules: &Rules) -> Result<(), ExecFailure> {
    let path = &request.path;
    let refuse = |errno: Errno, why: String| {
        let message = format!("cannot execute {}: {why}", path.display());
        Err(failed(ExecStep::Exec, errno, path, message))
    };
    let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    flags.set(OFlag::O_NOFOLLOW, rules.no_links);
    // What cannot be opened cannot be executed either, and there the reason is told better.
    let Ok(facts) = open(path, flags, Mode::empty()).and_then(fstat) else {
        return Ok(());
    };
    if kind(&facts) == SFlag::S_IFLNK {
        let why = "it is a link, and this site does not allow programs behind links".to_owned();
        return refuse(Errno::ELOOP, why);
    }
    if rules.forbidden_owners.contains(&facts.st_uid) {
        let why = format!("this site does not allow programs of uid {}", facts.st_uid);
        return refuse(Errno::EACCES, why);
    }
    Ok(())
}

fn execute(request: &ExecRequest) -> ExecFailure {
    let strings = |list: &[Vec<u8>]| {
        list.iter()
            .map(|item| CString::new(item.as_slice()))
            .collect::<Result<Vec<_>, _>>()
    };
    let path = CString::new(request.path.as_os_str().as_bytes());
    let (Ok(path), Ok(argv), Ok(env)) = (path, strings(&request.argv), strings(&request.env))
    else {
        // The decoder has refused NUL bytes already.
        let message = "a name holds a NUL byte".to_owned();
        return failed(ExecStep::Request, Errno::EINVAL, &request.path, message);
    };
    let Err(errno) = execve(&path, &argv, &env);
    failed(
        ExecStep::Exec,
        errno,
        &request.path,
        words::cannot_execute(request, errno),
    )
}
