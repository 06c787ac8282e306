//! The pool's end of a child.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Stdio;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};

use super::account::Account;
use super::api::FilesConfig;
use super::channel::{self, Incoming};
use super::child::ARGUMENT;
use super::error::NoAccess;
use super::protocol::{Entry, Metadata, Reply, Request};
use super::sys;

/// Requests on their way at a time; more wait for their turn.
const IN_FLIGHT: usize = 32;

/// How long a new child may take to be ready.
const START: Duration = Duration::from_secs(30);

/// What a child answered.
#[derive(Debug)]
pub(super) enum Answer {
    Done,
    Opened(OwnedFd, Metadata),
    Facts(Metadata),
    Entries(Vec<Entry>),
}

/// Why there is no answer of that kind.
#[derive(Debug)]
pub(super) enum Failed {
    /// The child never saw the request.
    NotTaken,
    /// The child died before it answered.
    Died,
    /// The kernel refused.
    Errno(Errno),
    /// Not a regular file.
    NotRegular,
}

type Answered = Result<Answer, Failed>;

/// A running child. Clones share it; it ends some time after the last one has been used.
#[derive(Debug, Clone)]
pub(super) struct Process {
    requests: mpsc::Sender<(Request, oneshot::Sender<Answered>)>,
}

impl Process {
    /// Starts a child for `account` and waits until it is what it should be.
    pub(super) async fn start(config: &FilesConfig, account: &Account) -> Result<Self, NoAccess> {
        let failed =
            |what: &str, why: &dyn std::fmt::Display| NoAccess::Start(format!("{what}: {why}"));
        let (ours, theirs) = channel::pair().map_err(|errno| failed("no socket", &errno.desc()))?;
        let groups: Vec<String> = account.groups.iter().map(ToString::to_string).collect();
        let mut child = Command::new(&config.program)
            .arg(ARGUMENT)
            .arg(account.uid.to_string())
            .arg(account.gid.to_string())
            .arg(groups.join(","))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&config.program.display().to_string(), &error))?;
        nonblocking(&ours).map_err(|errno| failed("no socket", &errno.desc()))?;
        let socket = sys::watch(ours).map_err(|error| failed("no socket", &error))?;
        let mut buffer = channel::buffer();
        match tokio::time::timeout(START, receive(&socket, &mut buffer)).await {
            Ok(Some((0, Reply::Ready, _))) => {}
            Ok(Some((0, Reply::Failed { errno }, _))) => {
                let errno = Errno::from_raw(errno);
                return Err(NoAccess::Start(format!(
                    "it could not become {}: {}",
                    account.name,
                    errno.desc()
                )));
            }
            Ok(_) => return Err(NoAccess::Start("it ended at once".to_owned())),
            Err(_) => return Err(NoAccess::Start("it did not get ready in time".to_owned())),
        }
        let (requests, incoming) = mpsc::channel(IN_FLIGHT);
        tracing::debug!(owner = %account.name, pid = child.id(), "started the process that opens this owner's files");
        let idle = config.idle;
        tokio::spawn(async move {
            let mut talk = Talk::new();
            talk.run(&socket, &mut buffer, incoming, idle).await;
            // Closing the socket is the sign to end; a child that hangs on a dead file server is killed by the drop.
            drop(socket);
            let _ = tokio::time::timeout(Duration::from_secs(2), child.wait()).await;
        });
        Ok(Self { requests })
    }

    /// Whether it takes requests.
    pub(super) fn is_alive(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Asks and waits for the answer.
    pub(super) async fn ask(&self, request: Request) -> Answered {
        let (answer, answered) = oneshot::channel();
        if self.requests.send((request, answer)).await.is_err() {
            return Err(Failed::NotTaken);
        }
        answered.await.unwrap_or(Err(Failed::Died))
    }
}

struct Waiting {
    answer: oneshot::Sender<Answered>,
    entries: Vec<Entry>,
    /// Most entries that were asked for.
    limit: usize,
}

/// The conversation with one child.
struct Talk {
    waiting: HashMap<u64, Waiting>,
    next_id: u64,
    /// What the socket has not taken yet.
    outgoing: Option<Vec<u8>>,
}

impl Talk {
    fn new() -> Self {
        Self {
            waiting: HashMap::new(),
            next_id: 1,
            outgoing: None,
        }
    }

    /// Until the child ends or has been idle.
    async fn run(
        &mut self,
        socket: &AsyncFd<OwnedFd>,
        buffer: &mut [u8],
        mut requests: mpsc::Receiver<(Request, oneshot::Sender<Answered>)>,
        idle: Duration,
    ) {
        let mut is_open = true;
        while is_open || !self.waiting.is_empty() {
            let is_idle = self.waiting.is_empty();
            let may_take = is_open && self.outgoing.is_none() && self.waiting.len() < IN_FLIGHT;
            tokio::select! {
                request = requests.recv(), if may_take => match request {
                    Some((request, answer)) => self.take(&request, answer),
                    None => is_open = false,
                },
                // Replies are read while a request waits to be sent, or both sides could wait for each other.
                sent = send(socket, self.outgoing.as_deref().unwrap_or_default()), if self.outgoing.is_some() => {
                    self.outgoing = None;
                    if sent.is_err() {
                        break;
                    }
                }
                reply = receive(socket, buffer) => match reply {
                    Some((id, reply, file)) => self.handle(id, reply, file),
                    None => break,
                },
                // What is in the queue already is still answered.
                () = tokio::time::sleep(idle), if is_idle && !requests.is_closed() => requests.close(),
            }
        }
        requests.close();
        while let Ok((_, answer)) = requests.try_recv() {
            let _ = answer.send(Err(Failed::NotTaken));
        }
    }

    fn take(&mut self, request: &Request, answer: oneshot::Sender<Answered>) {
        let id = self.next_id;
        self.next_id += 1;
        self.outgoing = Some(request.encode(id));
        let limit = match request {
            Request::List { limit, .. } => usize::try_from(*limit).unwrap_or(usize::MAX),
            _ => 0,
        };
        self.waiting.insert(
            id,
            Waiting {
                answer,
                entries: Vec::new(),
                limit,
            },
        );
    }

    fn handle(&mut self, id: u64, reply: Reply, file: Option<OwnedFd>) {
        if let Reply::Entries(mut entries) = reply {
            if let Some(waiting) = self.waiting.get_mut(&id) {
                let room = waiting.limit.saturating_sub(waiting.entries.len());
                entries.truncate(room);
                waiting.entries.append(&mut entries);
            }
            return;
        }
        let Some(waiting) = self.waiting.remove(&id) else {
            return;
        };
        let answer = match (reply, file) {
            (Reply::Done, None) if waiting.limit > 0 => Ok(Answer::Entries(waiting.entries)),
            (Reply::Done, None) => Ok(Answer::Done),
            (Reply::Opened(facts), Some(file)) => Ok(Answer::Opened(file, facts)),
            (Reply::Facts(facts), None) => Ok(Answer::Facts(facts)),
            (Reply::Failed { errno }, None) => Err(Failed::Errno(Errno::from_raw(errno))),
            (Reply::NotRegular, None) => Err(Failed::NotRegular),
            _ => Err(Failed::Died),
        };
        // Whoever asked may have stopped waiting; a descriptor closes then.
        let _ = waiting.answer.send(answer);
    }
}

/// The next reply; `None`: the child has ended, or talks nonsense. Dropping the future loses nothing.
async fn receive(
    socket: &AsyncFd<OwnedFd>,
    buffer: &mut [u8],
) -> Option<(u64, Reply, Option<OwnedFd>)> {
    loop {
        let got = socket
            .async_io(Interest::READABLE, |socket| {
                Ok(channel::receive(socket, buffer)?)
            })
            .await;
        return match got {
            Ok(Incoming::Packet(length, mut files)) => {
                let (id, reply) = Reply::decode(buffer.get(..length)?).ok()?;
                let file = files.pop();
                files.is_empty().then_some((id, reply, file))
            }
            Ok(Incoming::End) => None,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => None,
        };
    }
}

async fn send(socket: &AsyncFd<OwnedFd>, packet: &[u8]) -> std::io::Result<()> {
    socket
        .async_io(Interest::WRITABLE, |socket| {
            Ok(channel::send(socket, packet, None)?)
        })
        .await
}

fn nonblocking(socket: &OwnedFd) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(socket.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(socket.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}
