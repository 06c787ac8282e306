//! What tests share: a site, and a monitor that has no root.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use launch_protocol::MAX_PACKET;
use launch_protocol::monitor::{Account, Ask, Errand, Reply, Target};
use launch_protocol::policy::{
    AuditSettings, Isolation, LimitRules, Required, Settings, Targets, VerifierSettings,
};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{MsgFlags, recv};

use crate::channel::{packet_sockets, transmit};
use crate::monitor::Monitor;
use crate::refuse::trouble;

/// A site with pilot `pilot`, uids to 70000, ten of them dynamic.
pub(crate) fn settings() -> Settings {
    Settings {
        caller_names: vec!["pilot".into()],
        caller_prefixes: Vec::new(),
        caller_groups: Vec::new(),
        targets: Targets {
            uid_min: 1000,
            uid_max: 70_000,
            prefixes: Vec::new(),
            forbidden: Vec::new(),
            dynamic_uids: Some((60_000, 60_009)),
        },
        execute_dirs: vec!["/scratch".into()],
        libexec: None,
        rundir: "/run/sailplane".into(),
        gridmapdir: None,
        gridmapdir_min_idle: 0,
        policy_files: Vec::new(),
        verifier: VerifierSettings {
            words: Vec::new(),
            directories: Vec::new(),
            files: Vec::new(),
        },
        required: Required::User,
        audit: AuditSettings::default(),
        warm_time: 30,
        kill_grace: 10,
        orphan_grace: 0,
        kill_before_expiry: 60,
        limits: LimitRules::default(),
        isolation: Isolation::default(),
        prologue: None,
        epilogue: None,
        linger: true,
        preserve_env: Vec::new(),
        front: Vec::new(),
    }
}

/// A monitor that keeps the books and starts nothing. Children have numbers from 100; errands end at once.
#[derive(Debug)]
pub(crate) struct Fake {
    books: Arc<Mutex<Books>>,
    bell: EventFd,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
pub(crate) struct Books {
    /// What was asked, in words.
    pub(crate) asked: Vec<String>,
    /// Payloads that have a lease.
    pub(crate) leased: BTreeSet<u32>,
    /// Numbers that others have leased.
    pub(crate) taken: BTreeSet<u32>,
    /// Numbers as which something runs.
    pub(crate) busy: BTreeSet<u32>,
    /// Ends that nobody has asked for yet.
    pub(crate) ended: Vec<(i32, i32)>,
    children: i32,
    /// The other ends of sockets.
    kept: Vec<OwnedFd>,
    uids: std::collections::BTreeMap<u32, u32>,
}

impl Fake {
    /// And the broker's end of it.
    pub(crate) fn start() -> (Self, Monitor) {
        let (ours, theirs) = packet_sockets().expect("sockets");
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = EventFd::from_value_and_flags(0, flags).expect("an eventfd");
        let (heard, rung) = (bell.as_fd(), bell.as_fd());
        let heard = heard.try_clone_to_owned().expect("a copy");
        let rung = rung.try_clone_to_owned().expect("a copy");
        let books = Arc::new(Mutex::new(Books {
            children: 100,
            ..Books::default()
        }));
        let shared = Arc::clone(&books);
        let thread = std::thread::spawn(move || serve(&theirs, &rung, &shared));
        let fake = Self {
            books,
            bell,
            thread: Some(thread),
        };
        (fake, Monitor::new(ours, heard))
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("whole")
    }

    /// A child ends.
    pub(crate) fn end(&self, child: i32, status: i32) {
        self.books().ended.push((child, status));
        self.bell.write(1).expect("rung");
    }

    /// Waits until the broker's end is gone.
    pub(crate) fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

fn serve(socket: &OwnedFd, bell: &OwnedFd, books: &Mutex<Books>) {
    let mut buffer = vec![0; MAX_PACKET];
    while let Ok(length @ 1..) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        let ask = Ask::decode(&buffer[..length]).expect("a question");
        if matches!(ask, Ask::Audit { .. }) {
            continue;
        }
        let mut books = books.lock().expect("whole");
        let before = books.ended.len();
        let (reply, beside) = books.answer(ask);
        if books.ended.len() > before {
            nix::unistd::write(bell, &1_u64.to_ne_bytes()).expect("rung");
        }
        drop(books);
        let beside: Vec<_> = beside.iter().map(|file| file.as_fd()).collect();
        let packet = reply.encode().expect("sound");
        transmit(socket.as_fd(), &packet, &beside).expect("heard");
    }
}

impl Books {
    fn child(&mut self) -> (i32, Vec<OwnedFd>) {
        let (ours, theirs) = packet_sockets().expect("sockets");
        self.kept.push(ours);
        self.children += 1;
        (self.children, vec![theirs])
    }

    fn answer(&mut self, ask: Ask) -> (Reply, Vec<OwnedFd>) {
        let words = format!("{ask:?}");
        let name = words.split([' ', '(']).next().unwrap_or_default();
        self.asked.push(name.to_owned());
        let reply = match ask {
            Ask::Lease {
                payload,
                target: Target::Dynamic(uid),
                ..
            } => {
                if self.taken.contains(&uid) || !self.leased.insert(payload) {
                    Reply::Refused(trouble("lease.busy", "taken".to_owned()))
                } else {
                    self.uids.insert(payload, uid);
                    Reply::Account(account(uid))
                }
            }
            Ask::Make { payload, alone, .. } => {
                let (child, beside) = self.child();
                let uid = self.uids.get(&payload).copied().unwrap_or_default();
                if alone && self.busy.contains(&uid) {
                    self.kept.pop();
                    self.ended.push((child, 2 << 8));
                } else if let Some(agent) = self.kept.last() {
                    transmit(agent.as_fd(), b"ready", &[]).expect("heard");
                }
                let reply = Reply::Made {
                    child,
                    group: "group".to_owned(),
                    sandbox: Some("/scratch/dir_1".into()),
                };
                return (reply, beside);
            }
            Ask::Hatch { .. } | Ask::Verifier | Ask::Names => {
                let (child, beside) = self.child();
                return (Reply::Started { child }, beside);
            }
            Ask::Errand { payload, errand } => {
                self.children += 1;
                let uid = self.uids.get(&payload).copied().unwrap_or_default();
                let looks = matches!(errand, Errand::Alone { .. } | Errand::Remove { .. });
                let in_use = looks && self.busy.contains(&uid);
                self.ended
                    .push((self.children, if in_use { 2 << 8 } else { 0 }));
                Reply::Started {
                    child: self.children,
                }
            }
            Ask::Bury { payload } => {
                self.leased.remove(&payload);
                Reply::Done
            }
            Ask::Endings => Reply::Endings {
                ended: std::mem::take(&mut self.ended),
                terminate: false,
            },
            _ => Reply::Done,
        };
        (reply, Vec::new())
    }
}

/// A dynamic account.
pub(crate) fn account(uid: u32) -> Account {
    Account {
        name: format!("uid{uid}"),
        uid,
        gid: uid,
        groups: Vec::new(),
        home: "".into(),
        shell: "".into(),
        dynamic: true,
    }
}
