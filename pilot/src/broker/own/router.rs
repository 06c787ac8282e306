//! The broker's first process: takes the pilot's requests and passes each to the keeper of its payload. It holds
//! nothing of a payload itself, and outlives the pilot until the last keeper has cleaned up.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use launch_protocol::VERSION;
use launch_protocol::broker::{Answer, Command, Hello, Purpose, Refusal, RefusalClass, Request};
use nix::sys::prctl;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, getpid, setsid};

use super::keeper::{Order, keep, refusal, wait, watch_children};
use super::sandbox::sweep;
use super::socket::{Packet, Socket, pair};
use super::sys::{self, Reaped};
use super::warden::ward;
use super::{Entrance, MEMORY_SOURCE, OwnAccount, TRACKING, census, entrance};

/// Pause between two looks for processes that outlived their keeper.
const STRAY_PAUSE: u16 = 20;

/// How many requests to one keeper are remembered, to be answered should it die.
const REMEMBERED: usize = 16;

/// A keeper as the router sees it.
#[derive(Debug)]
struct Kept {
    pid: i32,
    socket: Socket,
    /// The last requests it was given.
    requests: VecDeque<u32>,
}

struct Router {
    own: OwnAccount,
    /// Why no payload can be started.
    unfit: Option<Refusal>,
    pilot: Socket,
    children: SignalFd,
    next: u32,
    keepers: HashMap<u32, Kept>,
    /// Children that sweep.
    sweepers: HashSet<i32>,
    swept: HashSet<PathBuf>,
    /// Payloads whose keeper died, and whose processes are not all gone yet.
    orphaned: Vec<u32>,
}

/// Serves until the pilot is gone and nothing is left.
pub(super) fn run(own: OwnAccount) -> ExitCode {
    let Some(pilot) = sys::take_control() else {
        complain("this is started by the pilot, not by hand");
        return ExitCode::from(2);
    };
    // What is sent to the pilot's group or terminal is the pilot's business; it tells us what follows from it.
    let _ = setsid();
    let prepared = SigSet::all()
        .thread_block()
        .and_then(|()| prctl::set_child_subreaper(true))
        .map_err(std::io::Error::from)
        .and_then(|()| watch_children());
    match prepared {
        Ok(children) => {
            // Known before any payload comes, and said in answer to the pilot's hello.
            let unfit = match &own.entrance {
                Entrance::Namespaces { hide } => entrance::try_namespaces(hide).err(),
                _ => None,
            };
            let router = Router {
                own,
                unfit,
                pilot: Socket::new(pilot),
                children,
                next: 1,
                keepers: HashMap::new(),
                sweepers: HashSet::new(),
                swept: HashSet::new(),
                orphaned: Vec::new(),
            };
            router.serve()
        }
        Err(error) => {
            complain(&format!("cannot watch over payloads: {error}"));
            ExitCode::FAILURE
        }
    }
}

pub(super) fn complain(text: &str) {
    use std::io::Write;
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(std::io::stderr().lock(), "sailplane: {text}");
}

impl Router {
    fn serve(mut self) -> ExitCode {
        loop {
            let pause = (!self.orphaned.is_empty()).then_some(STRAY_PAUSE);
            let is_asked = wait(&self.pilot, &self.children, pause);
            self.reap();
            match is_asked {
                Ok(false) => {}
                Ok(true) => match self.pilot.receive() {
                    Ok(Some(packet)) => match Request::decode(&packet.bytes) {
                        Ok(request) => self.obey(request, packet),
                        Err(error) => {
                            complain(&format!("the pilot sent a malformed request: {error}"));
                            return self.end(ExitCode::FAILURE);
                        }
                    },
                    Ok(None) => return self.end(ExitCode::SUCCESS),
                    Err(error) => {
                        complain(&format!("the launch socket failed: {error}"));
                        return self.end(ExitCode::FAILURE);
                    }
                },
                Err(error) => {
                    complain(&format!("cannot wait for requests: {error}"));
                    return self.end(ExitCode::FAILURE);
                }
            }
        }
    }

    fn obey(&mut self, Request { id, command }: Request, packet: Packet) {
        match command {
            Command::Hello { version } if version == VERSION => {
                if let Some(refusal) = &self.unfit {
                    self.pilot
                        .answer(id, Answer::Refused(refusal.clone()), None);
                    return;
                }
                let hello = Hello {
                    version: VERSION,
                    switch_version: env!("CARGO_PKG_VERSION").to_owned(),
                    tracking: TRACKING.to_owned(),
                    memory_source: MEMORY_SOURCE.to_owned(),
                    // Wherever the account can write.
                    execute_dirs: vec![PathBuf::from("/")],
                    mapping: self.own.entrance.mapping(),
                    features: self.own.entrance.features(),
                    ..Hello::default()
                };
                self.pilot.answer(id, Answer::Hello(hello), None);
            }
            Command::Hello { .. } => {
                let message = format!("this broker speaks version {VERSION}");
                self.refuse(id, "hello.version", message);
            }
            Command::Prepare { .. } => self.pilot.answer(id, Answer::Done, None),
            Command::Open {
                execute_dir: Some(execute_dir),
                purpose: Purpose::Run,
                slot_account,
                ..
            } => match packet.descriptor {
                Some(credential) => {
                    self.open(id, &execute_dir, slot_account.as_deref(), credential);
                }
                None => self.refuse(
                    id,
                    "open.descriptor",
                    "no credential came with it".to_owned(),
                ),
            },
            Command::Open { .. } | Command::Present => {
                let message = "without a helper there is no such thing".to_owned();
                self.refuse(id, "request.unsupported", message);
            }
            Command::SpawnAgent { payload }
            | Command::Signal { payload, .. }
            | Command::Kill { payload }
            | Command::Usage { payload }
            | Command::Renew { payload, .. }
            | Command::Replace { payload, .. }
            | Command::Close { payload } => self.pass_on(id, payload, &packet),
        }
    }

    fn open(&mut self, id: u32, execute: &Path, slot_account: Option<&str>, credential: OwnedFd) {
        if self.swept.insert(execute.to_owned()) {
            self.sweep(execute);
        }
        let payload = self.next;
        let (ours, theirs) = match pair() {
            Ok(ends) => ends,
            Err(errno) => return self.refuse(id, "open.socket", errno.desc().to_owned()),
        };
        let broker = getpid().as_raw();
        let forked = {
            let (own, pilot, keepers) = (&self.own, &self.pilot, &mut self.keepers);
            let ours = Some(ours);
            let mut parts = Some((theirs, credential));
            let mut kept = ours;
            let pid = sys::child(|| {
                // A copy of another keeper's end would keep that keeper from seeing the end of the router.
                keepers.clear();
                drop(kept.take());
                let Some((theirs, credential)) = parts.take() else {
                    return 1;
                };
                let order = Order {
                    id,
                    payload,
                    execute,
                    credential,
                    slot_account,
                    broker,
                };
                let orders = Socket::new(theirs);
                if own.entrance == Entrance::Open {
                    keep(own, order, pilot, orders)
                } else {
                    ward(own, order, pilot, orders)
                }
            });
            pid.map(|pid| (pid, kept.take()))
        };
        match forked {
            Ok((pid, Some(socket))) => {
                self.next = self.next.wrapping_add(1).max(1);
                self.keepers.insert(
                    payload,
                    Kept {
                        pid: pid.as_raw(),
                        socket: Socket::new(socket),
                        requests: VecDeque::from([id]),
                    },
                );
            }
            Ok((_, None)) => {}
            Err(errno) => self.refuse(id, "open.fork", errno.desc().to_owned()),
        }
    }

    fn pass_on(&mut self, id: u32, payload: u32, packet: &Packet) {
        let passed = self.keepers.get_mut(&payload).is_some_and(|kept| {
            if kept.requests.len() >= REMEMBERED {
                kept.requests.pop_front();
            }
            kept.requests.push_back(id);
            let beside = packet.descriptor.as_ref().map(AsFd::as_fd);
            kept.socket.send(&packet.bytes, beside).is_ok()
        });
        if !passed {
            self.refuse(
                id,
                "payload.unknown",
                format!("there is no payload {payload} any more"),
            );
        }
    }

    fn refuse(&self, id: u32, code: &str, message: String) {
        let refusal = refusal(code, message, RefusalClass::SiteTransient);
        self.pilot.answer(id, Answer::Refused(refusal), None);
    }

    fn sweep(&mut self, execute: &Path) {
        let keepers = &mut self.keepers;
        let forked = sys::child(|| {
            keepers.clear();
            sweep(execute);
            0
        });
        self.sweepers.extend(forked.ok().map(Pid::as_raw));
    }

    fn reap(&mut self) {
        while let Reaped::Child(pid, status) = sys::reap() {
            self.sweepers.remove(&pid);
            let payload = self
                .keepers
                .iter()
                .find(|(_, kept)| kept.pid == pid)
                .map(|(payload, _)| *payload);
            if let Some(payload) = payload
                && let Some(kept) = self.keepers.remove(&payload)
                && status != 0
            {
                self.lost(payload, kept, status);
            }
        }
        self.settle_orphans();
    }

    /// A keeper died before its time; its leader dies by itself, and what else it had is ours now.
    fn lost(&mut self, payload: u32, kept: Kept, status: i32) {
        complain(&format!(
            "the keeper of payload {payload} died (wait status {status}); its processes are killed"
        ));
        for id in kept.requests {
            self.refuse(id, "keeper.died", "the payload's keeper died".to_owned());
        }
        self.orphaned.push(payload);
    }

    fn settle_orphans(&mut self) {
        if self.orphaned.is_empty() {
            return;
        }
        let strays = self.strays();
        for pid in &strays {
            sys::signal(*pid, libc::SIGKILL);
        }
        if !strays.is_empty() {
            return;
        }
        for payload in std::mem::take(&mut self.orphaned) {
            let exited = Answer::Exited {
                payload,
                wait_status: libc::SIGKILL,
            };
            self.pilot.answer(0, exited, None);
            self.pilot.answer(0, Answer::Empty { payload }, None);
        }
        for execute in self.swept.clone() {
            self.sweep(&execute);
        }
    }

    /// Descendants that belong to no keeper.
    fn strays(&self) -> Vec<i32> {
        let table = census::read();
        let own = getpid().as_raw();
        let mut known: HashSet<i32> = self.sweepers.clone();
        for kept in self.keepers.values() {
            known.insert(kept.pid);
            let theirs = census::descendants(&table, kept.pid);
            known.extend(theirs.iter().map(|process| process.pid));
        }
        census::descendants(&table, own)
            .into_iter()
            .map(|process| process.pid)
            .filter(|pid| !known.contains(pid))
            .collect()
    }

    /// The keepers see the end of their sockets and clean up; whatever escapes them is killed here.
    fn end(mut self, status: ExitCode) -> ExitCode {
        let mut waiting: HashSet<i32> = self.keepers.values().map(|kept| kept.pid).collect();
        self.keepers.clear();
        loop {
            loop {
                match sys::reap() {
                    Reaped::Child(pid, _) => {
                        waiting.remove(&pid);
                        self.sweepers.remove(&pid);
                    }
                    Reaped::Nothing => break,
                    Reaped::Nobody => return status,
                }
            }
            if waiting.is_empty() {
                // A sweeper that is still at work goes on without us.
                if self.strays().is_empty() {
                    return status;
                }
                for pid in self.strays() {
                    sys::signal(pid, libc::SIGKILL);
                }
            }
            use nix::poll::{PollFd, PollFlags, poll};
            let mut watched = [PollFd::new(self.children.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut watched, STRAY_PAUSE);
            while let Ok(Some(_)) = self.children.read_signal() {}
        }
    }
}
