//! For tests: a helper that is a task of the test. It makes sandboxes in a folder of the test, starts payloads as the
//! account of the test, and does in all other things what the real one does.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use launch_protocol::agent::{Reply as AgentReply, Request as AgentRequest};
use launch_protocol::broker::{Answer, Command, Hello, Opened, RefusedBy, Reply, Request, Usage};
use launch_protocol::exec::{ExecFailure, ExecRequest, ExecStep};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::channel::{self, Channel};
use super::{Broker, Refusal, RefusalClass, VERSION};
use crate::transfer::testing::Directory;
use crate::transfer::{Sandbox, StoreError};

/// What the helper of a test was asked and how it is to behave.
#[derive(Debug)]
pub(crate) struct Script {
    /// Below it sandboxes are made.
    pub(crate) root: PathBuf,
    /// End of every credential, Unix seconds.
    pub(crate) not_after: i64,
    /// What the kernel killed for want of memory.
    pub(crate) oom_kills: Option<u64>,
    /// Refuse to open, with this class.
    pub(crate) refuse: Option<RefusalClass>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    opened: u32,
    closed: u32,
    leader: Option<Pid>,
    credential: Vec<u8>,
}

impl Script {
    pub(crate) fn new(root: &Path, not_after: i64) -> Self {
        Self {
            root: root.to_owned(),
            not_after,
            oom_kills: None,
            refuse: None,
            state: Mutex::default(),
        }
    }

    /// How many payloads were opened, and how many closed.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let state = self.state.lock().unwrap();
        (state.opened, state.closed)
    }

    /// The credential of the last payload.
    pub(crate) fn credential(&self) -> Vec<u8> {
        self.state.lock().unwrap().credential.clone()
    }

    /// Whether no payload runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.state.lock().unwrap().leader.is_none()
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.state.lock().unwrap().leader {
            let _ = killpg(leader, signal);
        }
    }
}

/// A running helper.
#[derive(Debug)]
pub(crate) struct Helper {
    pub(crate) script: Arc<Script>,
    socket: Arc<Channel>,
    task: tokio::task::JoinHandle<()>,
}

impl Helper {
    /// It dies; its payloads are killed, but nothing is cleaned up.
    pub(crate) async fn die(&mut self) {
        self.socket.hang_up();
        self.script.signal(Signal::SIGKILL);
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.task.is_finished()
    }
}

/// Starts a helper.
pub(crate) async fn start(script: Script) -> (Broker, Helper) {
    let (ours, theirs) = channel::pair().unwrap();
    let script = Arc::new(script);
    let socket = Arc::new(Channel::new(theirs).unwrap());
    let task = tokio::spawn(serve(Arc::clone(&socket), Arc::clone(&script)));
    let (broker, _) = Broker::over(Channel::new(ours).unwrap()).await.unwrap();
    (
        broker,
        Helper {
            script,
            socket,
            task,
        },
    )
}

async fn reply(socket: &Channel, id: u32, answer: Answer, descriptors: &[BorrowedFd<'_>]) {
    let packet = Reply { id, answer }.encode().unwrap();
    // A pilot that is gone needs no answer.
    let _ = socket.send(&packet, descriptors).await;
}

async fn serve(socket: Arc<Channel>, script: Arc<Script>) {
    while let Ok(Some(packet)) = socket.receive().await {
        let Request { id, command } = Request::decode(&packet.bytes).unwrap();
        let answer = match command {
            Command::Hello { .. } => Answer::Hello(Hello {
                version: VERSION,
                switch_version: "test".to_owned(),
                tracking: "none".to_owned(),
                memory_source: "none".to_owned(),
                mapping: "none".to_owned(),
                ..Hello::default()
            }),
            Command::Open { .. } => open(&script, packet.descriptors.into_iter().next().unwrap()),
            Command::SpawnAgent { payload } => {
                let (ours, theirs) = channel::pair().unwrap();
                let answer = Answer::Spawned { payload, pid: 4711 };
                reply(&socket, id, answer, &[ours.as_fd()]).await;
                let agent = Channel::new(theirs).unwrap();
                tokio::spawn(be_agent(
                    agent,
                    payload,
                    Arc::clone(&script),
                    Arc::clone(&socket),
                ));
                continue;
            }
            Command::Signal { signal, .. } => {
                script.signal(Signal::try_from(signal).unwrap());
                Answer::Done
            }
            Command::Prepare { .. } => Answer::Done,
            Command::Present => Answer::Presented {
                identity: "/DC=test/CN=Pilot".to_owned(),
                not_after: script.not_after,
            },
            Command::Renew { proxy, .. } => {
                // A token is nobody's file but the pilot's.
                assert!(proxy.is_none_or(|file| file == Path::new("proxy.pem")));
                renew(&script, packet.descriptors.into_iter().next().unwrap())
            }
            Command::Replace { payload, file } => {
                let content = content_of(packet.descriptors.into_iter().next().unwrap());
                let path = sandbox(&script, payload).join(file);
                let new = path.with_extension("new");
                fs::write(&new, content).unwrap();
                fs::rename(new, path).unwrap();
                Answer::Done
            }
            Command::Kill { .. } => {
                script.signal(Signal::SIGKILL);
                Answer::Done
            }
            Command::Usage { .. } => Answer::Usage(Usage {
                user_usec: 1_500_000,
                memory_peak_bytes: 5 << 20,
                processes: 1,
                oom_kills: script.oom_kills,
                ..Usage::default()
            }),
            Command::Close { payload } => {
                script.signal(Signal::SIGKILL);
                fs::remove_dir_all(sandbox(&script, payload)).unwrap();
                script.state.lock().unwrap().closed += 1;
                Answer::Closed
            }
        };
        reply(&socket, id, answer, &[]).await;
    }
}

fn sandbox(script: &Script, payload: u32) -> PathBuf {
    script.root.join(format!("dir_{payload}"))
}

fn content_of(credential: OwnedFd) -> Vec<u8> {
    let mut content = Vec::new();
    fs::File::from(credential)
        .read_to_end(&mut content)
        .unwrap();
    content
}

/// Whose it is stands in the credential of a test.
fn renew(script: &Script, credential: OwnedFd) -> Answer {
    let content = content_of(credential);
    if content.ends_with(b"of Bob") {
        return Answer::Refused(Refusal {
            class: RefusalClass::Job,
            code: "renew.identity".to_owned(),
            message: "It is another's.".to_owned(),
            may_succeed_later: false,
            who: RefusedBy::Credential,
        });
    }
    script.state.lock().unwrap().credential = content;
    Answer::Renewed {
        not_after: script.not_after + 3600,
    }
}

fn open(script: &Script, credential: OwnedFd) -> Answer {
    if let Some(class) = script.refuse {
        return Answer::Refused(Refusal {
            class,
            code: "test.refused".to_owned(),
            message: "This test refuses.".to_owned(),
            may_succeed_later: false,
            who: RefusedBy::Credential,
        });
    }
    let content = content_of(credential);
    let mut state = script.state.lock().unwrap();
    state.opened += 1;
    state.credential = content;
    let payload = state.opened;
    fs::create_dir(sandbox(script, payload)).unwrap();
    Answer::Opened(Opened {
        payload,
        uid: 1,
        gid: 1,
        account: "test".to_owned(),
        identity: "/DC=test/CN=Alice".to_owned(),
        not_after: script.not_after,
        limited: false,
        sandbox: Some(sandbox(script, payload)),
        ..Opened::default()
    })
}

async fn be_agent(agent: Channel, payload: u32, script: Arc<Script>, socket: Arc<Channel>) {
    let say = async |answer: AgentReply, descriptor: Option<BorrowedFd<'_>>| {
        let _ = agent
            .send(&answer.encode().unwrap(), descriptor.as_slice())
            .await;
    };
    let mut directory = Directory::new(&sandbox(&script, payload));
    say(AgentReply::Ready, None).await;
    let mut wait_status = 0;
    while let Ok(Some(packet)) = agent.receive().await {
        let done = |result: Result<(), StoreError>| match result {
            Ok(()) => AgentReply::Done,
            Err(error) => failed(error),
        };
        match AgentRequest::decode(&packet.bytes).unwrap() {
            AgentRequest::MakeDir { path, mode } => {
                say(done(directory.make_dir(&path, mode).await), None).await;
            }
            AgentRequest::SetMode { path, mode } => {
                say(done(directory.set_mode(&path, mode).await), None).await;
            }
            AgentRequest::Create { path, mode } => match directory.create(&path, mode).await {
                Ok(file) => say(AgentReply::Opened, Some(file.as_fd())).await,
                Err(error) => say(failed(error), None).await,
            },
            AgentRequest::OpenRead { path, .. } => match directory.open_read(&path).await {
                Ok((file, size, mode)) => {
                    say(AgentReply::OpenedRead { size, mode }, Some(file.as_fd())).await;
                }
                Err(error) => say(failed(error), None).await,
            },
            AgentRequest::List { path } => match directory.list(&path).await {
                Ok(entries) => {
                    say(
                        AgentReply::Entries {
                            entries,
                            more: false,
                        },
                        None,
                    )
                    .await
                }
                Err(error) => say(failed(error), None).await,
            },
            AgentRequest::Remove { .. }
            | AgentRequest::ExecHere
            | AgentRequest::PutProxy { .. } => panic!("the pilot does not ask for that"),
            AgentRequest::Exec => {
                let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
                say(AgentReply::ExecStarting, Some(read.as_fd())).await;
                wait_status = become_payload(packet.descriptors, write.into(), &script).await;
                break;
            }
        }
    }
    script.state.lock().unwrap().leader = None;
    reply(
        &socket,
        0,
        Answer::Exited {
            payload,
            wait_status,
        },
        &[],
    )
    .await;
    reply(&socket, 0, Answer::Empty { payload }, &[]).await;
}

fn failed(error: StoreError) -> AgentReply {
    AgentReply::Failed {
        errno: error.errno().unwrap(),
        message: error.to_string(),
    }
}

async fn become_payload(descriptors: Vec<OwnedFd>, mut pipe: fs::File, script: &Script) -> i32 {
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().unwrap();
    let mut request = Vec::new();
    fs::File::from(next()).read_to_end(&mut request).unwrap();
    let request = ExecRequest::decode(&request).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut command = tokio::process::Command::new(&request.path);
    command
        .args(request.argv.iter().skip(1).map(|argument| text(argument)))
        .env_clear()
        .envs(request.env.iter().map(|entry| {
            let entry = text(entry);
            let (name, value) = entry.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        }))
        .current_dir(&request.cwd)
        .stdin(Stdio::from(next()))
        .stdout(Stdio::from(next()))
        .stderr(Stdio::from(next()))
        .process_group(0);
    // A test beside this one that is just forking may still have the program open for writing.
    let spawned = loop {
        match command.spawn() {
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => {
                tokio::task::yield_now().await
            }
            other => break other,
        }
    };
    drop(command);
    match spawned {
        Ok(mut child) => {
            let leader = i32::try_from(child.id().unwrap()).unwrap();
            script.state.lock().unwrap().leader = Some(Pid::from_raw(leader));
            drop(pipe);
            std::os::unix::process::ExitStatusExt::into_raw(child.wait().await.unwrap())
        }
        Err(error) => {
            let failure = ExecFailure {
                errno: error.raw_os_error().unwrap(),
                step: ExecStep::Exec,
                path: request.path.clone(),
                message: format!("cannot execute {}", request.path.display()),
            };
            pipe.write_all(&failure.encode().unwrap()).unwrap();
            127 << 8
        }
    }
}

/// Makes a script of a test.
pub(crate) fn write_script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
