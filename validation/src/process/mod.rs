//! Children of checks, which end with everything they started.

mod child;
mod keeper;
mod sys;

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use child::Child;

/// Output of a child that is kept, bytes of each stream; the rest is read and dropped.
pub const OUTPUT_MAX: usize = 64 * 1024;

/// Time between the friendly and the hard end of a child at its limit; less if the limit is short.
pub const GRACE: Duration = Duration::from_secs(1);

/// A child to be.
#[derive(Debug)]
pub struct Command {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    clear: bool,
    directory: Option<PathBuf>,
    input: Option<OwnedFd>,
    output: Output,
    leaves: bool,
    deadline: Option<Instant>,
}

/// What becomes of what a child says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Output {
    /// It is kept, up to [`OUTPUT_MAX`] bytes of each stream.
    #[default]
    Keep,
    /// It is kept in one stream, the standard output of [`Ended`], in the order in which it was said.
    Merge,
    /// All of it goes to our standard error, so that reports stay clean.
    Inherit,
}

/// A child that ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// How.
    pub how: How,
    /// The first [`OUTPUT_MAX`] bytes of its standard output.
    pub stdout: Vec<u8>,
    /// The first [`OUTPUT_MAX`] bytes of its standard error.
    pub stderr: Vec<u8>,
    /// How long it took.
    pub elapsed: Duration,
    /// Processes that it left behind: they were killed, or are kept by `background`.
    pub left: u32,
    /// What keeps them, if it may leave something behind ([`Command::leaves`]).
    pub background: Option<Background>,
    /// Processes of it that could not be killed: they run under another account, or hang in the kernel.
    pub survivors: u32,
}

/// Processes that a child left behind. They are killed when the last copy of this is dropped, and when we die.
#[derive(Debug, Clone)]
#[expect(
    dead_code,
    reason = "held, so that the keeper sees when it is not any more"
)]
pub struct Background(std::sync::Arc<OwnedFd>);

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// At its limit, by us.
    TimedOut,
}

/// A child that did not run.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be executed.
    #[error("cannot execute {}", program.display())]
    Exec {
        /// The file.
        program: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is a script, and what its first line names is not there.
    #[error("cannot execute {}: its first line names the interpreter {interpreter}, which is not there", program.display())]
    NoInterpreter {
        /// The script.
        program: PathBuf,
        /// What it names.
        interpreter: String,
    },
    /// No directory of `PATH` has it.
    #[error("there is no program {} in PATH", program.display())]
    NotFound {
        /// Its name.
        program: PathBuf,
    },
    /// The system has no room for it.
    #[error("cannot start a process")]
    Start(#[source] std::io::Error),
    /// Its keeper died: somebody killed it, or the memory is exhausted.
    #[error("the keeper of {} was killed", program.display())]
    KeeperDied {
        /// The file.
        program: PathBuf,
    },
    /// A word of it has a zero byte.
    #[error("{0:?} has a zero byte")]
    ZeroByte(OsString),
}

/// What the first line of a script names, if it is not there.
fn missing_interpreter(program: &Path) -> Option<String> {
    use std::io::Read;

    let mut head = Vec::new();
    let file = std::fs::File::open(program).ok()?;
    // As much as the kernel reads.
    file.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let interpreter = line.trim_start_matches([' ', '\t']);
    // A line end of another system is a part of the name for the kernel.
    let interpreter = interpreter.split([' ', '\t']).next()?;
    (!Path::new(interpreter).exists()).then(|| interpreter.escape_default().to_string())
}

impl Command {
    /// Runs `program`, a path or (without a slash) a name to be looked for in `PATH`, without arguments, in our
    /// environment and directory, with nothing to read. A script without a first line that names its interpreter is read
    /// by a shell.
    #[must_use]
    pub fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            clear: false,
            directory: None,
            input: None,
            output: Output::Keep,
            leaves: false,
            deadline: None,
        }
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// With more arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// With a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Without our environment.
    #[must_use]
    pub const fn clear_environment(mut self) -> Self {
        self.clear = true;
        self
    }

    /// In another directory.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// With something to read.
    #[must_use]
    pub fn input(mut self, input: OwnedFd) -> Self {
        self.input = Some(input);
        self
    }

    /// What becomes of what it says.
    #[must_use]
    pub const fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// Whether what it leaves behind when it ends by itself goes on running, until [`Ended::background`] is dropped.
    /// Otherwise it is killed. At the deadline everything is, in any case.
    #[must_use]
    pub const fn leaves(mut self, leaves: bool) -> Self {
        self.leaves = leaves;
        self
    }

    /// When it has to have ended.
    #[must_use]
    pub const fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Runs it to its end. Shortly before the deadline it is asked to end, at the deadline (or when this future is
    /// dropped) it is killed with everything it started. What it left behind when it ended by itself is killed, too.
    ///
    /// # Errors
    /// [`ProcessError`]: it was not run.
    pub async fn run(self) -> Result<Ended, ProcessError> {
        let deadline = self.deadline;
        let begin = Instant::now();
        let mut child = Child::start(self)?;
        let Some(deadline) = deadline else {
            return child.wait(begin).await;
        };
        let whole = deadline.saturating_duration_since(begin);
        let friendly = deadline - GRACE.min(whole / 5);
        if timeout_at(friendly, child.gone()).await.is_err() {
            child.late = true;
            child.ask();
            if timeout_at(deadline, child.gone()).await.is_err() {
                child.kill();
            }
        }
        child.wait(begin).await
    }
}

#[cfg(test)]
mod tests;
