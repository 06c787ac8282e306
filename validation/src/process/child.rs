//! Our end of a child: it is started, heard, told to end, and forgotten when nothing is left of it.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{AccessFlags, Pid, access, pipe2};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::keeper::{MESSAGE, TERM, Tag};
use super::sys::{self, Ends, Image};
use super::{Background, Command, Ended, How, OUTPUT_MAX, Output, ProcessError};

/// How long the last words of a child are waited for when it has ended; something that could not be killed may hold the
/// pipe.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How often it is seen whether a keeper that was left with something to keep has ended.
const KEEPER_POLL: Duration = Duration::from_millis(500);

/// A child that runs.
pub(super) struct Child {
    program: PathBuf,
    /// Its keeper kills everything when this is closed.
    control: Option<OwnedFd>,
    told: JoinHandle<Vec<u8>>,
    said: Option<Vec<u8>>,
    stdout: Capture,
    stderr: Capture,
    /// It was told to end at its limit.
    pub(super) late: bool,
}

impl Child {
    /// Starts it.
    pub(super) fn start(command: Command) -> Result<Self, ProcessError> {
        let Command {
            program,
            arguments,
            environment,
            clear,
            directory,
            input,
            output,
            leaves,
            ..
        } = command;
        let variables = variables(environment, clear);
        let program = find(program, &variables)?;
        let mut words = vec![zero_free(program.as_os_str())?];
        for argument in &arguments {
            words.push(zero_free(argument)?);
        }
        let directory = directory
            .map(|path| zero_free(path.as_os_str()))
            .transpose()?;
        let variables = variables
            .into_iter()
            .map(|(name, value)| {
                let mut both = name;
                both.push("=");
                both.push(value);
                zero_free(&both)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let image = Image::new(
            zero_free(program.as_os_str())?,
            words,
            variables,
            directory,
            leaves,
        );
        tracing::trace!(program = %program.display(), words = image.len(), "starting");
        Self::fork(program, &image, input, output).map_err(ProcessError::Start)
    }

    fn fork(
        program: PathBuf,
        image: &Image,
        input: Option<OwnedFd>,
        output: Output,
    ) -> io::Result<Self> {
        let input = match input {
            Some(input) => input,
            None => File::open("/dev/null")?.into(),
        };
        let (control_end, control) = pipe2(OFlag::O_CLOEXEC)?;
        let (told, result_end) = pipe2(OFlag::O_CLOEXEC)?;
        let ours = || io::stderr().as_fd().try_clone_to_owned();
        let (stdout, stdout_end, stderr, stderr_end) = match output {
            Output::Keep => {
                let (stdout, stdout_end) = pipe2(OFlag::O_CLOEXEC)?;
                let (stderr, stderr_end) = pipe2(OFlag::O_CLOEXEC)?;
                (Some(stdout), stdout_end, Some(stderr), stderr_end)
            }
            Output::Merge => {
                let (stdout, end) = pipe2(OFlag::O_CLOEXEC)?;
                (Some(stdout), end.try_clone()?, None, end)
            }
            Output::Inherit => (None, ours()?, None, ours()?),
        };
        let told = Receiver::from_owned_fd(told)?;
        let stdout = Capture::start(stdout)?;
        let stderr = Capture::start(stderr)?;
        let keeper = sys::fork_keeper(
            image,
            &Ends {
                stdin: input.as_fd(),
                stdout: stdout_end.as_fd(),
                stderr: stderr_end.as_fd(),
                control: control_end.as_fd(),
                result: result_end.as_fd(),
            },
        )?;
        Ok(Self {
            program,
            control: Some(control),
            told: tokio::spawn(listen(told, Pid::from_raw(keeper), image.leaves)),
            said: None,
            stdout,
            stderr,
            late: false,
        })
    }

    /// Comes back when nothing is left of it.
    pub(super) async fn gone(&mut self) {
        if self.said.is_none() {
            self.said = Some((&mut self.told).await.unwrap_or_default());
        }
    }

    /// Asks it to end.
    pub(super) fn ask(&self) {
        if let Some(control) = &self.control {
            // Gone already if this fails.
            let _ = nix::unistd::write(control, &[TERM]);
        }
    }

    /// Ends it.
    pub(super) fn kill(&mut self) {
        self.control = None;
    }

    /// Its end, when nothing is left of it.
    pub(super) async fn wait(mut self, begin: Instant) -> Result<Ended, ProcessError> {
        self.gone().await;
        let elapsed = begin.elapsed();
        let said = self.said.take().unwrap_or_default();
        let program = self.program.clone();
        let (mut how, mut left, mut survivors) = (None, 0, 0);
        for message in said.chunks_exact(MESSAGE) {
            let [tag, a, b, c, d] = *message else {
                continue;
            };
            let number = i32::from_le_bytes([a, b, c, d]);
            let source = io::Error::from_raw_os_error(number);
            match tag {
                _ if tag == Tag::NotStarted as u8 => return Err(ProcessError::Start(source)),
                _ if tag == Tag::NotExecuted as u8 => {
                    let missing = (source.raw_os_error() == Some(libc::ENOENT))
                        .then(|| super::missing_interpreter(&program))
                        .flatten();
                    return Err(match missing {
                        Some(interpreter) => ProcessError::NoInterpreter {
                            program,
                            interpreter,
                        },
                        None => ProcessError::Exec { program, source },
                    });
                }
                _ if tag == Tag::Ended as u8 => how = Some(ending(number)),
                _ if tag == Tag::Left as u8 => left = u32::try_from(number).unwrap_or(0),
                _ if tag == Tag::Survivors as u8 => survivors = u32::try_from(number).unwrap_or(0),
                _ => {}
            }
        }
        let how = match how {
            _ if self.late => How::TimedOut,
            Some(how) => how,
            None => return Err(ProcessError::KeeperDied { program }),
        };
        // What it left behind lives as long as this.
        let background = (how != How::TimedOut && left > 0)
            .then(|| self.control.take())
            .flatten()
            .map(|control| Background(Arc::new(control)));
        Ok(Ended {
            background,
            how,
            stdout: self.stdout.end().await,
            stderr: self.stderr.end().await,
            elapsed,
            left,
            survivors,
        })
    }
}

fn ending(status: i32) -> How {
    if libc::WIFSIGNALED(status) {
        How::Signalled(libc::WTERMSIG(status))
    } else {
        How::Exited(libc::WEXITSTATUS(status))
    }
}

/// Everything the keeper says, and then the keeper's end; goes on when nobody waits for the child any more.
async fn listen(mut told: Receiver, keeper: Pid, leaves: bool) -> Vec<u8> {
    let mut said = Vec::new();
    if let Err(error) = told.read_to_end(&mut said).await {
        tracing::debug!("a keeper cannot be heard: {error}");
    }
    if leaves {
        // It may have been left with something to keep.
        tokio::spawn(async move {
            while matches!(
                waitpid(keeper, Some(WaitPidFlag::WNOHANG)),
                Ok(WaitStatus::StillAlive)
            ) {
                tokio::time::sleep(KEEPER_POLL).await;
            }
        });
        return said;
    }
    // Its last descriptor is closed, so it is ending.
    let reaped = tokio::task::spawn_blocking(move || waitpid(keeper, None)).await;
    tracing::trace!(?reaped, "a keeper has ended");
    said
}

/// What comes out of a pipe.
struct Capture {
    kept: Arc<Mutex<Vec<u8>>>,
    task: Option<JoinHandle<()>>,
}

impl Capture {
    fn start(pipe: Option<OwnedFd>) -> io::Result<Self> {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let task = match pipe {
            Some(pipe) => Some(tokio::spawn(Self::read(
                Receiver::from_owned_fd(pipe)?,
                kept.clone(),
            ))),
            None => None,
        };
        Ok(Self { kept, task })
    }

    async fn read(mut pipe: Receiver, kept: Arc<Mutex<Vec<u8>>>) {
        let mut bytes = vec![0; 8192];
        while let Ok(count) = pipe.read(&mut bytes).await {
            if count == 0 {
                return;
            }
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let room = OUTPUT_MAX.saturating_sub(kept.len()).min(count);
            kept.extend(bytes.iter().take(room));
        }
    }

    async fn end(&mut self) -> Vec<u8> {
        if let Some(mut task) = self.task.take()
            && timeout(LAST_WORDS, &mut task).await.is_err()
        {
            task.abort();
        }
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Nobody wants to know any more, and a survivor may hold the pipe for ever.
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The child's environment.
fn variables(own: Vec<(OsString, OsString)>, clear: bool) -> Vec<(OsString, OsString)> {
    let mut all: Vec<(OsString, OsString)> = if clear {
        Vec::new()
    } else {
        env::vars_os()
            .filter(|(name, _)| !own.iter().any(|(known, _)| known == name))
            .collect()
    };
    all.extend(own);
    all
}

/// Where programs are if nothing says so.
const DEFAULT_PATH: &str = "/usr/bin:/bin";

/// The file of a program.
fn find(program: PathBuf, variables: &[(OsString, OsString)]) -> Result<PathBuf, ProcessError> {
    if program.as_os_str().as_bytes().contains(&b'/') {
        return Ok(program);
    }
    let path = variables
        .iter()
        .rev()
        .find(|(name, _)| name == "PATH")
        .map(|(_, value)| value.as_os_str())
        .unwrap_or_else(|| DEFAULT_PATH.as_ref());
    env::split_paths(path)
        .map(|directory| directory.join(&program))
        .find(|file| is_executable(file))
        .ok_or(ProcessError::NotFound { program })
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && access(file, AccessFlags::X_OK).is_ok()
}

fn zero_free(text: &OsStr) -> Result<CString, ProcessError> {
    CString::new(text.as_bytes())
        .map_err(|error| ProcessError::ZeroByte(OsString::from_vec(error.into_vec())))
}
