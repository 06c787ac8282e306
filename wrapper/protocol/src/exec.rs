//! What the agent becomes, and why it could not.
//!
//! The request is too large for a packet: the pilot encodes it into a memfd and sends that beside
//! [`crate::agent::Request::Exec`]. The failure, if any, comes on the close-on-exec pipe that the
//! agent hands back with [`crate::agent::Reply::ExecStarting`]: end-of-file means the payload
//! runs, [`ExecFailure`] means it does not and the agent exits with [`FAILED_EXIT`].

use std::path::PathBuf;

use crate::MAX_MESSAGE;
use crate::codec::{DecodeError, EncodeError, Reader, Text, Writer};

/// Largest encoded request, in bytes. Above what Linux takes on an `execve` (6 MiB with an unlimited
/// stack), so that "too big" is the kernel's answer.
pub const MAX_EXEC_REQUEST: usize = 8 * 1024 * 1024;

/// Largest encoded failure, in bytes; below `PIPE_BUF` twice over so that one read gets it all.
pub const MAX_EXEC_FAILURE: usize = 8 * 1024;

/// Exit status of an agent whose `execve` failed.
pub const FAILED_EXIT: i32 = 127;

/// `u64` value that stands for "no limit" in [`Limit`].
pub const UNLIMITED: u64 = u64::MAX;

const MAX_STRINGS: usize = 1 << 20;
const MAX_LIMITS: usize = 32;
const MAX_PROCESSORS: usize = 1024;
/// Numbers of processors end before this one.
const MAX_PROCESSOR: u32 = 8192;

/// One resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Linux `RLIMIT_` number.
    pub resource: u32,
    /// Soft limit, or [`UNLIMITED`].
    pub soft: u64,
    /// Hard limit, or [`UNLIMITED`]; clipped to what the agent may set.
    pub hard: u64,
}

/// How urgent reading and writing is to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoClass {
    /// The ordinary one.
    BestEffort,
    /// Only when nobody else wants the disk.
    Idle,
}

/// Priority of reading and writing, as of `ionice`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoPriority {
    /// Which class. There is no real-time one: it is root's to give.
    pub class: IoClass,
    /// 0 (first) to 7 (last) within the class.
    pub level: u8,
}

/// Everything about the program to become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// The program: absolute, or relative to `cwd`. It is never searched in a `PATH`.
    pub path: PathBuf,
    /// Arguments, the program's name first. No NUL bytes.
    pub argv: Vec<Vec<u8>>,
    /// Environment, each `NAME=value`. No NUL bytes.
    pub env: Vec<Vec<u8>>,
    /// Working directory: absolute, or relative to the sandbox; empty means the sandbox, or, with
    /// [`crate::agent::Request::ExecHere`], the directory that came beside it.
    pub cwd: PathBuf,
    /// File mode creation mask, at most 0o777.
    pub umask: u32,
    /// Added to the nice value, 0 to 19.
    pub nice: i32,
    /// Core file limit in bytes, [`UNLIMITED`], or nothing to leave it at 0.
    pub core_limit: Option<u64>,
    /// Further resource limits; what the site does not allow is clipped.
    pub rlimits: Vec<Limit>,
    /// Priority of reading and writing, or nothing to leave it.
    pub ionice: Option<IoPriority>,
    /// Numbers of the processors to run on, in ascending order; empty: all that the site allows.
    pub processors: Vec<u32>,
    /// Standard input is a terminal made for this payload, to become its controlling terminal.
    /// Otherwise it has none, whatever its standard input is.
    pub terminal: bool,
}

/// What the agent was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecStep {
    /// Reading the request.
    Request,
    /// Changing into the working directory.
    WorkingDirectory,
    /// Setting limits, nice value, mask.
    Limits,
    /// Arranging descriptors.
    Descriptors,
    /// `execve` itself.
    Exec,
}

/// Why the payload does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecFailure {
    /// Linux error number.
    pub errno: i32,
    /// What failed.
    pub step: ExecStep,
    /// The file or directory concerned, as given.
    pub path: PathBuf,
    /// One sentence for the job's owner.
    pub message: String,
}

impl ExecRequest {
    /// The content of the memfd.
    ///
    /// # Errors
    /// If a field is not what the agent accepts.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::tagged(1);
        w.path("path", &self.path);
        for (field, list) in [("argv", &self.argv), ("env", &self.env)] {
            w.count(field, list.len(), MAX_STRINGS);
            for item in list {
                w.c_bytes(field, item, MAX_EXEC_REQUEST);
            }
        }
        w.path("cwd", &self.cwd);
        if self.umask > 0o777 {
            return Err(EncodeError::BadValue("umask"));
        }
        w.u32(self.umask);
        if !(0..=19).contains(&self.nice) {
            return Err(EncodeError::BadValue("nice"));
        }
        w.i32(self.nice);
        w.bool(self.core_limit.is_some());
        if let Some(limit) = self.core_limit {
            w.u64(limit);
        }
        w.count("rlimits", self.rlimits.len(), MAX_LIMITS);
        for limit in &self.rlimits {
            w.u32(limit.resource);
            w.u64(limit.soft);
            w.u64(limit.hard);
        }
        w.bool(self.ionice.is_some());
        if let Some(IoPriority { class, level }) = self.ionice {
            w.bool(matches!(class, IoClass::Idle));
            if level > 7 {
                return Err(EncodeError::BadValue("ionice"));
            }
            w.u8(level);
        }
        w.count("processors", self.processors.len(), MAX_PROCESSORS);
        if !are_processors(&self.processors) {
            return Err(EncodeError::BadValue("processors"));
        }
        for number in &self.processors {
            w.u32(*number);
        }
        w.bool(self.terminal);
        w.finish(MAX_EXEC_REQUEST)
    }

    /// Reads the content of the memfd and checks every field.
    ///
    /// # Errors
    /// If the bytes are not exactly one request.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_EXEC_REQUEST {
            return Err(DecodeError::TooLong("message"));
        }
        let mut r = Reader::new(bytes);
        match r.u8()? {
            1 => {}
            tag => return Err(DecodeError::UnknownTag(tag)),
        }
        let strings = |r: &mut Reader<'_>, field| {
            let count = r.count(field, MAX_STRINGS, 4)?;
            (0..count)
                .map(|_| r.c_bytes(field, MAX_EXEC_REQUEST).map(<[u8]>::to_vec))
                .collect::<Result<Vec<_>, _>>()
        };
        let request = Self {
            path: r.path("path")?,
            argv: strings(&mut r, "argv")?,
            env: strings(&mut r, "env")?,
            cwd: r.path("cwd")?,
            umask: match r.u32()? {
                mask @ 0..=0o777 => mask,
                _ => return Err(DecodeError::BadValue("umask")),
            },
            nice: match r.i32()? {
                nice @ 0..=19 => nice,
                _ => return Err(DecodeError::BadValue("nice")),
            },
            core_limit: if r.bool("core_limit")? {
                Some(r.u64()?)
            } else {
                None
            },
            rlimits: {
                let count = r.count("rlimits", MAX_LIMITS, 20)?;
                (0..count)
                    .map(|_| {
                        Ok(Limit {
                            resource: r.u32()?,
                            soft: r.u64()?,
                            hard: r.u64()?,
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?
            },
            ionice: if r.bool("ionice")? {
                Some(IoPriority {
                    class: if r.bool("ionice")? {
                        IoClass::Idle
                    } else {
                        IoClass::BestEffort
                    },
                    level: match r.u8()? {
                        level @ 0..=7 => level,
                        _ => return Err(DecodeError::BadValue("ionice")),
                    },
                })
            } else {
                None
            },
            processors: {
                let count = r.count("processors", MAX_PROCESSORS, 4)?;
                (0..count).map(|_| r.u32()).collect::<Result<_, _>>()?
            },
            terminal: r.bool("terminal")?,
        };
        if !are_processors(&request.processors) {
            return Err(DecodeError::BadValue("processors"));
        }
        r.finish()?;
        Ok(request)
    }
}

fn are_processors(numbers: &[u32]) -> bool {
    numbers.is_sorted_by(|a, b| a < b) && numbers.iter().all(|number| *number < MAX_PROCESSOR)
}

impl ExecFailure {
    /// What the agent writes into the pipe, in one write.
    ///
    /// # Errors
    /// If `path` is not what the receiver accepts. Too long a `message` is cut instead.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::tagged(1);
        w.i32(self.errno);
        w.u8(match self.step {
            ExecStep::Request => 0,
            ExecStep::WorkingDirectory => 1,
            ExecStep::Limits => 2,
            ExecStep::Descriptors => 3,
            ExecStep::Exec => 4,
        });
        w.path("path", &self.path);
        w.message("message", &self.message, MAX_MESSAGE);
        w.finish(MAX_EXEC_FAILURE)
    }

    /// Reads what came out of the pipe until its end.
    ///
    /// # Errors
    /// If the bytes are not exactly one failure.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        match r.u8()? {
            1 => {}
            tag => return Err(DecodeError::UnknownTag(tag)),
        }
        let failure = Self {
            errno: r.i32()?,
            step: match r.u8()? {
                0 => ExecStep::Request,
                1 => ExecStep::WorkingDirectory,
                2 => ExecStep::Limits,
                3 => ExecStep::Descriptors,
                4 => ExecStep::Exec,
                _ => return Err(DecodeError::BadValue("step")),
            },
            path: r.path("path")?,
            message: r.text("message", Text::Free, MAX_MESSAGE)?,
        };
        r.finish()?;
        Ok(failure)
    }
}
