//! A pilot in a hundred lines: starts the monitor, speaks the launch protocol to its broker and to agents, and
//! waits.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command as Program, Stdio};
use std::time::{Duration, Instant};

use launch_protocol::broker::{
    Answer, Command, Hello, Opened, Refusal, Reply, Request, SignalScope, Usage,
};
use launch_protocol::exec::{ExecFailure, ExecRequest};
use launch_protocol::{MAX_PACKET, VERSION, agent};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, socketpair,
};

use crate::cell::{Cell, EXECUTE, LIBEXEC, children};
use crate::sys;

/// No wait is longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// One packet socket.
pub(crate) struct Socket(pub(crate) OwnedFd);

impl Socket {
    pub(crate) fn send(&self, packet: &[u8], descriptors: &[RawFd]) {
        let rights = [ControlMessage::ScmRights(descriptors)];
        let control = if descriptors.is_empty() {
            &[][..]
        } else {
            &rights[..]
        };
        let parts = [IoSlice::new(packet)];
        // A peer that is gone shows when its answer is awaited.
        let _ = sendmsg::<UnixAddr>(
            self.0.as_raw_fd(),
            &parts,
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
    }

    /// Sends if that is possible without waiting.
    pub(crate) fn send_now(&self, packet: &[u8]) {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let _ = nix::sys::socket::send(self.0.as_raw_fd(), packet, flags);
    }

    /// A packet and its descriptors; `None` at the end of the channel.
    pub(crate) fn receive(&self) -> Option<(Vec<u8>, Vec<File>)> {
        assert!(readable(&self.0, PATIENCE), "nothing arrived in time");
        let mut buffer = vec![0; MAX_PACKET];
        let mut control = nix::cmsg_space!([i32; 8]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let raw = self.0.as_raw_fd();
        let message = recvmsg::<UnixAddr>(raw, &mut parts, Some(&mut control), flags).ok()?;
        let length = message.bytes;
        let mut files = Vec::new();
        for item in message.cmsgs().expect("not truncated") {
            if let ControlMessageOwned::ScmRights(raw) = item {
                files.extend(raw.into_iter().map(sys::own));
            }
        }
        (length > 0).then(|| (buffer[..length].to_vec(), files))
    }
}

pub(crate) fn readable(file: &impl std::os::fd::AsFd, patience: Duration) -> bool {
    let mut polled = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(patience).expect("short");
    poll(&mut polled, timeout) == Ok(1)
}

/// Waits until something holds; panics if it does not in time.
pub(crate) fn eventually(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < patience, "not in time: {what}");
        let _ = poll(&mut [], PollTimeout::from(5_u8));
    }
}

/// A running monitor with its broker.
pub(crate) struct Pilot {
    pub(crate) socket: Option<Socket>,
    /// The set-uid program.
    pub(crate) monitor: Child,
    pub(crate) hello: Option<Hello>,
    next: u32,
    events: VecDeque<Answer>,
}

/// How to start the monitor.
pub(crate) struct Start {
    pub(crate) program: String,
    /// What `sh -c` executes in place of `exec PROGRAM --broker`; `{}` stands for that.
    pub(crate) wrap: String,
    pub(crate) uid: u32,
    pub(crate) env: Vec<(String, String)>,
}

impl Start {
    pub(crate) fn usual(cell: &Cell) -> Self {
        Self {
            program: format!("{LIBEXEC}/sailplane-switch"),
            wrap: "exec {}".to_owned(),
            uid: cell.pilot,
            env: Vec::new(),
        }
    }

    pub(crate) fn start(self) -> Pilot {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("sockets");
        let line = format!("{} --broker 3<&0 0</dev/null", self.program);
        let monitor = Program::new("/bin/sh")
            .arg("-c")
            .arg(self.wrap.replace("{}", &line))
            .env_clear()
            .envs(self.env)
            .uid(self.uid)
            .gid(self.uid)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh starts");
        Pilot {
            socket: Some(Socket(ours)),
            monitor,
            hello: None,
            next: 0,
            events: VecDeque::new(),
        }
    }
}

impl Pilot {
    /// A broker that has said hello.
    pub(crate) fn start(cell: &Cell) -> Self {
        let mut pilot = Start::usual(cell).start();
        pilot.greet();
        pilot
    }

    pub(crate) fn greet(&mut self) {
        match self.ask(Command::Hello { version: VERSION }, &[]) {
            (Answer::Hello(hello), _) => self.hello = Some(hello),
            (other, _) => panic!("no hello but {other:?}; {}", self.last_words()),
        }
    }

    /// The monitor's process number.
    pub(crate) fn id(&self) -> u32 {
        self.monitor.id()
    }

    /// The broker's process number.
    pub(crate) fn broker(&self) -> u32 {
        match children(self.id(), "sailplane-broker")[..] {
            [broker] => broker,
            ref other => panic!("brokers: {other:?}"),
        }
    }

    pub(crate) fn socket(&self) -> &Socket {
        self.socket.as_ref().expect("not closed")
    }

    /// Sends a request and does not wait; returns its id.
    pub(crate) fn send(&mut self, command: Command, descriptors: &[RawFd]) -> u32 {
        self.next += 1;
        let packet = Request {
            id: self.next,
            command,
        }
        .encode()
        .expect("valid");
        self.socket().send(&packet, descriptors);
        self.next
    }

    /// The next reply, whatever it is; events are put aside.
    pub(crate) fn reply(&mut self) -> (u32, Answer, Option<File>) {
        loop {
            let Some((packet, files)) = self.socket().receive() else {
                panic!("the broker is gone: {}", self.last_words());
            };
            let Reply { id, answer } = Reply::decode(&packet).expect("a reply");
            assert_eq!(files.len(), answer.descriptors());
            match answer {
                Answer::Exited { .. }
                | Answer::Empty { .. }
                | Answer::Expiring { .. }
                | Answer::KilledForExpiry { .. } => self.events.push_back(answer),
                answer => return (id, answer, files.into_iter().next()),
            }
        }
    }

    pub(crate) fn ask(
        &mut self,
        command: Command,
        descriptors: &[RawFd],
    ) -> (Answer, Option<File>) {
        let wanted = self.send(command, descriptors);
        let (id, answer, file) = self.reply();
        assert!(
            id == wanted || id == 0,
            "reply to {id} instead of {wanted}: {answer:?}"
        );
        (answer, file)
    }

    /// The next event.
    pub(crate) fn event(&mut self) -> Answer {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        let (packet, _) = self.socket().receive().expect("the broker lives");
        let Reply { id, answer } = Reply::decode(&packet).expect("a reply");
        assert_eq!(id, 0, "{answer:?}");
        answer
    }

    pub(crate) fn try_open(&mut self, credential: &str) -> Result<Opened, Refusal> {
        self.try_open_in(credential, EXECUTE)
    }

    pub(crate) fn try_open_in(
        &mut self,
        credential: &str,
        execute_dir: &str,
    ) -> Result<Opened, Refusal> {
        let file = pipe_with(credential);
        let command = Command::open("1.0", execute_dir);
        match self.ask(command, &[file.as_raw_fd()]) {
            (Answer::Opened(opened), _) => Ok(opened),
            (Answer::Refused(refusal), _) => Err(refusal),
            (other, _) => panic!("{other:?}"),
        }
    }

    /// Asks for a payload and does not wait.
    pub(crate) fn send_open(&mut self, credential: &str) {
        let file = pipe_with(credential);
        self.send(Command::open("1.0", EXECUTE), &[file.as_raw_fd()]);
    }

    /// A payload in a dynamic account.
    pub(crate) fn open(&mut self) -> Opened {
        self.try_open("accept 3600 full /CN=Bob").expect("opens")
    }

    pub(crate) fn try_spawn(&mut self, payload: u32) -> Result<(u32, Agent), Refusal> {
        match self.ask(Command::SpawnAgent { payload }, &[]) {
            (Answer::Spawned { pid, .. }, Some(file)) => Ok((pid, Agent::of(file))),
            (Answer::Refused(refusal), _) => Err(refusal),
            (other, _) => panic!("{other:?}"),
        }
    }

    /// An agent that is ready.
    pub(crate) fn spawn(&mut self, payload: u32) -> Agent {
        let (_, agent) = self.try_spawn(payload).expect("spawns");
        assert_eq!(agent.reply().0, agent::Reply::Ready);
        agent
    }

    /// Runs a shell script as the payload, to its end; its output and wait status.
    pub(crate) fn run(&mut self, payload: u32, script: &str) -> (String, i32) {
        let running = self.begin(payload, script);
        let output = running.output();
        let Answer::Exited { wait_status, .. } = self.event() else {
            panic!("no exit")
        };
        assert_eq!(self.event(), Answer::Empty { payload });
        (output, wait_status)
    }

    /// Starts a shell script as the payload.
    pub(crate) fn begin(&mut self, payload: u32, script: &str) -> Running {
        let agent = self.spawn(payload);
        let request = ExecRequest {
            path: "/bin/sh".into(),
            argv: vec![b"sh".to_vec(), b"-c".to_vec(), script.into()],
            env: vec![b"PATH=/usr/bin:/bin".to_vec()],
            umask: 0o022,
            ..ExecRequest::default()
        };
        agent
            .exec(&request)
            .unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    pub(crate) fn signal(&mut self, payload: u32, signal: i32, scope: SignalScope) {
        let (answer, _) = self.ask(
            Command::Signal {
                payload,
                signal,
                scope,
            },
            &[],
        );
        assert_eq!(answer, Answer::Done);
    }

    pub(crate) fn kill(&mut self, payload: u32) {
        assert_eq!(self.ask(Command::Kill { payload }, &[]).0, Answer::Done);
    }

    /// Kills a payload and hears that it is dead, and then that nothing of it is left.
    pub(crate) fn kill_to_the_end(&mut self, payload: u32) {
        self.kill(payload);
        let exited = self.event();
        assert!(
            matches!(exited, Answer::Exited { payload: whose, wait_status: 9, .. } if whose == payload),
            "{exited:?}"
        );
        assert_eq!(self.event(), Answer::Empty { payload });
    }

    /// Announces a payload.
    pub(crate) fn prepare(&mut self) {
        assert_eq!(
            self.ask(Command::Prepare { sandbox: true }, &[]).0,
            Answer::Done
        );
    }

    pub(crate) fn usage(&mut self, payload: u32) -> Usage {
        match self.ask(Command::Usage { payload }, &[]) {
            (Answer::Usage(usage), _) => usage,
            (other, _) => panic!("{other:?}"),
        }
    }

    pub(crate) fn close(&mut self, payload: u32) {
        assert_eq!(self.ask(Command::Close { payload }, &[]).0, Answer::Closed);
    }

    /// Hangs up and waits for the monitor; its exit status.
    pub(crate) fn hang_up(&mut self) -> Option<i32> {
        self.socket = None;
        self.end()
    }

    /// Waits for the monitor's end.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("the monitor's end", PATIENCE, || {
            status = self.monitor.try_wait().expect("a child");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// What the monitor has said on standard error, after its end.
    pub(crate) fn last_words(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.monitor.stderr.take() {
            let _ = self.monitor.wait();
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        self.socket = None;
        let _ = self.monitor.wait();
    }
}

/// An agent's socket.
pub(crate) struct Agent {
    pub(crate) socket: Socket,
}

/// A payload that has been started.
pub(crate) struct Running {
    output: File,
}

impl Running {
    /// What it prints until all its processes have closed their output.
    pub(crate) fn output(&self) -> String {
        let mut text = Vec::new();
        let mut file = &self.output;
        file.read_to_end(&mut text).expect("readable");
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The next line.
    pub(crate) fn line(&self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        let mut file = &self.output;
        loop {
            assert!(readable(&self.output, PATIENCE), "no line in time");
            match file.read(&mut byte) {
                Ok(1) if byte[0] != b'\n' => line.push(byte[0]),
                _ => return String::from_utf8_lossy(&line).into_owned(),
            }
        }
    }
}

impl Agent {
    pub(crate) fn of(socket: File) -> Self {
        Self {
            socket: Socket(socket.into()),
        }
    }

    pub(crate) fn reply(&self) -> (agent::Reply, Option<File>) {
        let (packet, files) = self.socket.receive().expect("the agent lives");
        let reply = agent::Reply::decode(&packet).expect("a reply");
        assert_eq!(files.len(), reply.descriptors());
        (reply, files.into_iter().next())
    }

    pub(crate) fn ask(&self, request: &agent::Request) -> (agent::Reply, Option<File>) {
        self.socket.send(&request.encode().expect("valid"), &[]);
        self.reply()
    }

    /// Becomes the payload; its output is a pipe.
    pub(crate) fn exec(self, request: &ExecRequest) -> Result<Running, ExecFailure> {
        let null = null();
        self.exec_with(request, null.as_raw_fd(), None)
    }

    /// The same with this standard input.
    pub(crate) fn exec_on(
        self,
        request: &ExecRequest,
        stdin: RawFd,
    ) -> Result<Running, ExecFailure> {
        self.exec_with(request, stdin, None)
    }

    /// The same in this directory.
    pub(crate) fn exec_here(
        self,
        request: &ExecRequest,
        here: RawFd,
    ) -> Result<Running, ExecFailure> {
        let null = null();
        self.exec_with(request, null.as_raw_fd(), Some(here))
    }

    fn exec_with(
        self,
        request: &ExecRequest,
        stdin: RawFd,
        here: Option<RawFd>,
    ) -> Result<Running, ExecFailure> {
        let mut memfd = tempfile::tempfile_in("/tmp").expect("a file");
        memfd
            .write_all(&request.encode().expect("valid"))
            .expect("written");
        let (output, write) = std::io::pipe().expect("pipe");
        let mut descriptors = vec![
            memfd.as_raw_fd(),
            stdin,
            write.as_raw_fd(),
            write.as_raw_fd(),
        ];
        descriptors.extend(here);
        let order = if here.is_some() {
            agent::Request::ExecHere
        } else {
            agent::Request::Exec
        };
        self.socket
            .send(&order.encode().expect("valid"), &descriptors);
        drop(write);
        let (reply, report) = self.reply();
        assert_eq!(reply, agent::Reply::ExecStarting);
        let mut report = report.expect("a pipe");
        let mut text = Vec::new();
        report.read_to_end(&mut text).expect("readable");
        if text.is_empty() {
            Ok(Running {
                output: File::from(OwnedFd::from(output)),
            })
        } else {
            Err(ExecFailure::decode(&text).expect("a failure"))
        }
    }
}

pub(crate) fn null() -> File {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .expect("null")
}

/// The read end of a pipe with this text in it.
pub(crate) fn pipe_with(text: &str) -> OwnedFd {
    let (read, mut write) = std::io::pipe().expect("pipe");
    write.write_all(text.as_bytes()).expect("fits");
    read.into()
}
