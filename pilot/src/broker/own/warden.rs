//! The warden of one payload that is started from elsewhere: inside namespaces, or under another account by way of the
//! site's own program. It stays outside, under the pilot's account, and passes requests in and answers out.
//!
//! ```text
//! router ── warden ── socket ── keeper (inside) ── agent, then payload
//! ```
//!
//! The keeper inside may be killed by its payload (under another account both have the same one), so nothing depends on
//! its goodwill: an answer is passed on only if the pilot asked for it and it is about this payload, and whether
//! anything of the payload lives is asked of the kernel, whose child subreaper the warden is.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ChildStderr;
use std::time::{Duration, Instant};

use launch_protocol::broker::{Answer, Command, Opened, Refusal, RefusalClass, Reply, Request};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signalfd::SignalFd;
use nix::unistd::{geteuid, getpid};
use zeroize::Zeroizing;

use super::credentials::{self, Bearer};
use super::entrance::{self, Door, Started};
use super::keeper::{Order, refusal, watch_children};
use super::router::complain;
use super::sandbox::Place;
use super::socket::{Packet, Socket};
use super::sys::{self, Reaped};
use super::{Entrance, OwnAccount, census};
use crate::broker::memfd;

/// How long the way in may take: a site's program may ask a service.
const ENTRANCE_LIMIT: Duration = Duration::from_secs(25);

/// How long the keeper inside may take to clean up, and its processes to end. Shorter than the pilot's patience.
const END_LIMIT: Duration = Duration::from_secs(100);

/// How long processes may outlive a kill before the site's program is asked to kill them.
const GRACE: Duration = Duration::from_millis(500);

/// Pause between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(50);

/// Where the payload's sandbox is below the warden's own directory, when they belong to different accounts.
pub(super) const SANDBOX: &str = "job";

/// The user's credential for the site's program.
const CREDENTIAL: &str = "credential.pem";

/// Opens a payload and wards it until it is closed or the router is gone. The result is this process's exit status.
pub(super) fn ward(own: &OwnAccount, order: Order<'_>, pilot: &Socket, orders: Socket) -> u8 {
    let Order { id, payload, .. } = order;
    match Warden::open(own, order, pilot, orders) {
        Ok((warden, opened)) => {
            pilot.answer(id, Answer::Opened(opened), None);
            warden.serve(payload)
        }
        Err(refusal) => {
            pilot.answer(id, Answer::Refused(refusal), None);
            0
        }
    }
}

struct Warden<'a> {
    own: &'a OwnAccount,
    pilot: &'a Socket,
    orders: Socket,
    children: SignalFd,
    payload: u32,
    bearer: Bearer,
    /// The sandbox, or what it lies in.
    place: Place,
    /// `/tmp` of a payload in namespaces.
    tmp: Option<Place>,
    door: Door,
    /// The keeper inside, while it lives.
    inside: Option<Socket>,
    /// The child that leads to it.
    first: i32,
    /// The payload's account, once the keeper inside has shown that it has it.
    uid: Option<u32>,
    /// What the site's program says.
    complaints: Option<ChildStderr>,
    /// Requests that were passed in: their answers are due.
    due: HashMap<u32, Due>,
    /// The leader runs, as far as it is known.
    is_led: bool,
    /// Something was started and is not all gone.
    is_occupied: bool,
    /// The keeper inside says that all is gone.
    is_said_empty: bool,
    /// The pilot wants everything killed, since then.
    killing: Option<Instant>,
}

/// What kind of an answer is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Spawned,
    Done,
    Usage,
    Replaced,
    Renewed(i64),
}

fn broken(what: &str, error: &io::Error) -> Refusal {
    refusal(
        "warden.broken",
        format!("cannot {what}: {error}"),
        RefusalClass::SiteTransient,
    )
}

impl<'a> Warden<'a> {
    fn open(
        own: &'a OwnAccount,
        order: Order<'_>,
        pilot: &'a Socket,
        orders: Socket,
    ) -> Result<(Self, Opened), Refusal> {
        let content = credentials::read(order.credential)?;
        let bearer = credentials::judge(&content, own.ca_directory.as_deref())?;
        prctl::set_child_subreaper(true)
            .map_err(|errno| broken("become the parent of orphans", &errno.into()))?;
        let children = watch_children().map_err(|error| broken("watch children", &error))?;
        let make = || {
            Place::make(order.execute, order.broker, order.payload).map_err(|error| {
                refusal(
                    "sandbox.make",
                    format!(
                        "cannot make a sandbox below {}: {error}",
                        order.execute.display()
                    ),
                    RefusalClass::SiteTransient,
                )
            })
        };
        let place = make()?;
        let tmp = match &own.entrance {
            Entrance::Open | Entrance::Namespaces { .. } => match make() {
                Ok(tmp) => Some(tmp),
                Err(refusal) => {
                    let _ = place.remove();
                    return Err(refusal);
                }
            },
            Entrance::Glexec { .. } | Entrance::Sudo { .. } => None,
        };
        match Self::enter(
            own,
            (order.payload, order.slot_account),
            &content,
            &place,
            tmp.as_ref(),
        ) {
            Ok((door, started)) => {
                let mut warden = Self {
                    own,
                    pilot,
                    orders,
                    children,
                    payload: order.payload,
                    bearer,
                    place,
                    tmp,
                    door,
                    inside: Some(started.socket),
                    first: started.first,
                    uid: None,
                    complaints: started.complaints,
                    due: HashMap::new(),
                    is_led: false,
                    is_occupied: false,
                    is_said_empty: false,
                    killing: None,
                };
                let greeted = warden.greeting();
                match greeted.and_then(|greeting| warden.opened(greeting)) {
                    Ok(opened) => Ok((warden, opened)),
                    Err(refusal) => {
                        warden.clear();
                        let _ = warden.remove();
                        Err(refusal)
                    }
                }
            }
            Err(refusal) => {
                let _ = place.remove();
                let _ = tmp.map_or(Ok(()), Place::remove);
                Err(refusal)
            }
        }
    }

    /// Makes the way in, and sends a keeper.
    fn enter(
        own: &OwnAccount,
        (payload, slot_account): (u32, Option<&str>),
        content: &Zeroizing<Vec<u8>>,
        place: &Place,
        tmp: Option<&Place>,
    ) -> Result<(Door, Started), Refusal> {
        let door = match tmp {
            Some(_) => Door::Namespaces,
            None => {
                // Until the other account has made its sandbox in it, anybody could make something in it: the name is
                // then taken, and the payload is refused.
                fs::set_permissions(place.path(), Permissions::from_mode(0o1733))
                    .map_err(|error| broken("open the way to the sandbox", &error))?;
                let file = place.path().join(CREDENTIAL);
                write_new(&file, content).map_err(|error| broken("keep the credential", &error))?;
                Door::foreign(&own.entrance, slot_account, file)?
            }
        };
        let sandbox = sandbox_in(place, tmp.is_some());
        let way = entrance::Way {
            sandbox: &sandbox,
            tmp: tmp.map(Place::path),
            payload,
        };
        let started = entrance::start(own, &door, way)?;
        Ok((door, started))
    }

    /// Waits for the first word from inside.
    fn greeting(&mut self) -> Result<Opened, Refusal> {
        let limit = Instant::now() + ENTRANCE_LIMIT;
        loop {
            let Some(inside) = &self.inside else {
                return Err(self.door.explain(None, ""));
            };
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(refusal(
                    "entrance.slow",
                    format!(
                        "{} did not start within {} seconds",
                        self.door,
                        ENTRANCE_LIMIT.as_secs()
                    ),
                    RefusalClass::SiteTransient,
                ));
            }
            let mut watched = [PollFd::new(inside.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left.min(Duration::from_secs(1)))
                .unwrap_or(PollTimeout::ZERO);
            match poll(&mut watched, timeout) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(broken("wait", &errno.into())),
            }
            return match inside.receive() {
                Ok(Some(packet)) => match Reply::decode(&packet.bytes).map(|reply| reply.answer) {
                    Ok(Answer::Opened(opened)) => Ok(opened),
                    Ok(Answer::Refused(refusal)) => Err(refusal),
                    _ => Err(refusal(
                        "entrance.strange",
                        format!("{} started something else", self.door),
                        RefusalClass::SitePermanent,
                    )),
                },
                Ok(None) | Err(_) => {
                    self.inside = None;
                    let status = self.reap_all(Duration::from_secs(5));
                    let said = self.complaint();
                    Err(self.door.explain(status, &said))
                }
            };
        }
    }

    /// Completes what the keeper inside says of itself, having looked whether it is true.
    fn opened(&mut self, greeting: Opened) -> Result<Opened, Refusal> {
        let sandbox = sandbox_in(&self.place, self.tmp.is_some());
        if self.tmp.is_none() {
            let checked = fs::symlink_metadata(&sandbox).is_ok_and(|facts| {
                facts.is_dir()
                    && facts.uid() == greeting.uid
                    && facts.uid() != geteuid().as_raw()
                    && facts.mode() & 0o7777 == 0o700
            });
            let closed = fs::set_permissions(self.place.path(), Permissions::from_mode(0o711));
            if !checked || closed.is_err() {
                let message = format!(
                    "{} did not change the account: the sandbox belongs to uid {}",
                    self.door, greeting.uid
                );
                return Err(refusal(
                    "entrance.no-switch",
                    message,
                    RefusalClass::SitePermanent,
                ));
            }
        }
        self.uid = Some(greeting.uid);
        Ok(Opened {
            payload: self.payload,
            identity: self.bearer.identity.clone(),
            not_after: self.bearer.not_after,
            limited: self.bearer.limited,
            sandbox: Some(sandbox),
            uid: greeting.uid,
            gid: greeting.gid,
            account: greeting.account,
            ..Opened::default()
        })
    }

    fn serve(mut self, payload: u32) -> u8 {
        debug_assert_eq!(payload, self.payload);
        loop {
            let Ok((asked, answered)) = self.wait() else {
                return self.end(None);
            };
            self.listen();
            if answered {
                self.answer();
            }
            self.reap();
            self.insist();
            if asked {
                match self.orders.receive() {
                    Ok(Some(packet)) => {
                        if let Some(id) = self.obey(packet) {
                            return self.end(Some(id));
                        }
                    }
                    Ok(None) | Err(_) => return self.end(None),
                }
            }
        }
    }

    fn wait(&self) -> nix::Result<(bool, bool)> {
        let mut watched = vec![
            PollFd::new(self.orders.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
        ];
        let inside = self.inside.as_ref().map(|inside| {
            watched.push(PollFd::new(inside.as_fd(), PollFlags::POLLIN));
            watched.len() - 1
        });
        if let Some(complaints) = &self.complaints {
            watched.push(PollFd::new(complaints.as_fd(), PollFlags::POLLIN));
        }
        let pause = self.is_occupied && (self.killing.is_some() || self.is_said_empty);
        let timeout = if pause {
            PollTimeout::try_from(PAUSE).unwrap_or(PollTimeout::ZERO)
        } else {
            PollTimeout::NONE
        };
        match poll(&mut watched, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let is_ready = |index: usize| watched.get(index).and_then(PollFd::any).unwrap_or(false);
        let ready = (is_ready(0), inside.is_some_and(is_ready));
        while let Ok(Some(_)) = self.children.read_signal() {}
        Ok(ready)
    }

    /// What the site's program has to say goes into the log.
    fn listen(&mut self) {
        let said = self.complaint();
        if !said.is_empty() {
            complain(&format!("{}: {said}", self.door));
        }
    }

    /// What it has said so far; its end is its last word.
    fn complaint(&mut self) -> String {
        const LONGEST: usize = 4096;
        let mut said = [0; LONGEST];
        let Some(complaints) = &mut self.complaints else {
            return String::new();
        };
        match complaints.read(&mut said) {
            Ok(0) => {
                self.complaints = None;
                String::new()
            }
            Ok(length) => {
                let text = String::from_utf8_lossy(said.get(..length).unwrap_or_default());
                let words: Vec<&str> = text.split_whitespace().collect();
                words.join(" ")
            }
            Err(_) => String::new(),
        }
    }

    /// Passes one answer on, if it is due.
    fn answer(&mut self) {
        let Some(inside) = &self.inside else { return };
        let Ok(Some(packet)) = inside.receive() else {
            self.lost();
            return;
        };
        let Ok(Reply { id, answer }) = Reply::decode(&packet.bytes) else {
            complain("a keeper inside sent a malformed message");
            self.lost();
            return;
        };
        let ours = self.payload;
        match answer {
            Answer::Exited {
                payload,
                wait_status,
            } if id == 0 && payload == ours && self.is_led => {
                self.is_led = false;
                let answer = Answer::Exited {
                    payload,
                    wait_status,
                };
                self.pilot.answer(0, answer, None);
            }
            // Whether that is true is asked of the kernel: see `reap`.
            Answer::Empty { payload } if id == 0 && payload == ours => self.is_said_empty = true,
            Answer::Refused(_) if id != 0 => {
                if self.due.remove(&id).is_some() {
                    self.pilot.answer(id, answer, None);
                }
            }
            _ => match (self.due.get(&id).copied(), &answer) {
                (Some(Due::Spawned), Answer::Spawned { payload, .. }) if *payload == ours => {
                    self.due.remove(&id);
                    self.is_led = true;
                    self.is_occupied = true;
                    self.is_said_empty = false;
                    self.killing = None;
                    let socket = packet.descriptor.as_ref().map(AsFd::as_fd);
                    self.pilot.answer(id, answer, socket);
                }
                (Some(Due::Done | Due::Replaced), Answer::Done)
                | (Some(Due::Usage), Answer::Usage(_)) => {
                    self.due.remove(&id);
                    self.pilot.answer(id, answer, None);
                }
                (Some(Due::Renewed(not_after)), Answer::Done) => {
                    self.due.remove(&id);
                    self.bearer.not_after = not_after;
                    self.pilot.answer(id, Answer::Renewed { not_after }, None);
                }
                _ => complain("a keeper inside said what it was not asked"),
            },
        }
    }

    fn empty(&mut self) {
        self.is_occupied = false;
        self.is_said_empty = false;
        self.killing = None;
        let payload = self.payload;
        if std::mem::take(&mut self.is_led) {
            let wait_status = libc::SIGKILL;
            let answer = Answer::Exited {
                payload,
                wait_status,
            };
            self.pilot.answer(0, answer, None);
        }
        self.pilot.answer(0, Answer::Empty { payload }, None);
    }

    /// The keeper inside is gone, long before its time.
    fn lost(&mut self) {
        self.inside = None;
        complain(&format!(
            "the keeper inside of payload {} is gone; its processes are killed",
            self.payload
        ));
        for id in std::mem::take(&mut self.due).into_keys() {
            let refusal = refusal(
                "keeper.died",
                "the payload's keeper died".to_owned(),
                RefusalClass::SiteTransient,
            );
            self.pilot.answer(id, Answer::Refused(refusal), None);
        }
        self.killing.get_or_insert_with(Instant::now);
    }

    /// Takes note of who has ended.
    fn reap(&mut self) {
        while let Reaped::Child(..) = sys::reap() {}
        let may_be_empty = self.is_occupied && (self.is_said_empty || self.inside.is_none());
        if may_be_empty && self.leftovers().is_empty() {
            self.empty();
        }
    }

    /// Processes of the payload. Below the site's program there are others, too: what it needs for itself, under accounts
    /// of its own.
    fn leftovers(&self) -> Vec<i32> {
        let table = census::read();
        let own = getpid().as_raw();
        let known = self.door.keepers(&table, self.first, self.inside.is_some());
        census::descendants(&table, own)
            .into_iter()
            .filter(|process| !process.is_zombie && !known.contains(&process.pid))
            .filter(|process| self.uid.is_none_or(|uid| census::has_uid(process.pid, uid)))
            .map(|process| process.pid)
            .collect()
    }

    /// What lives on though it was killed long enough ago is killed by the site's program: it takes the credential
    /// once more, and without a valid one it may not be done.
    fn insist(&mut self) {
        let Some(since) = self.killing else { return };
        if !self.is_occupied && self.inside.is_some() {
            return;
        }
        let left = self.leftovers();
        if left.is_empty() || since.elapsed() < GRACE {
            return;
        }
        self.killing = Some(Instant::now());
        self.door.kill(&left);
    }

    fn obey(&mut self, packet: Packet) -> Option<u32> {
        let Ok(Request { id, command }) = Request::decode(&packet.bytes) else {
            return None;
        };
        let due = match command {
            Command::Close { .. } => return Some(id),
            Command::SpawnAgent { .. } => Due::Spawned,
            Command::Signal { .. } => Due::Done,
            Command::Kill { .. } => {
                self.killing.get_or_insert_with(Instant::now);
                Due::Done
            }
            Command::Usage { .. } => Due::Usage,
            Command::Renew { .. } => {
                if let Err(refusal) = self.renew(id, packet) {
                    self.pilot.answer(id, Answer::Refused(refusal), None);
                }
                return None;
            }
            Command::Replace { .. } => Due::Replaced,
            Command::Hello { .. }
            | Command::Open { .. }
            | Command::Prepare { .. }
            | Command::Present => {
                return None;
            }
        };
        self.pass_in(id, due, &packet.bytes, packet.descriptor.as_ref());
        None
    }

    fn pass_in(&mut self, id: u32, due: Due, bytes: &[u8], beside: Option<&OwnedFd>) {
        let passed = self
            .inside
            .as_ref()
            .is_some_and(|inside| inside.send(bytes, beside.map(AsFd::as_fd)).is_ok());
        if passed {
            self.due.insert(id, due);
            return;
        }
        // Nobody is left to be signalled or killed; all else needs a keeper.
        let answer = match due {
            Due::Done => Answer::Done,
            _ => Answer::Refused(refusal(
                "keeper.died",
                "the payload's keeper died".to_owned(),
                RefusalClass::SiteTransient,
            )),
        };
        self.pilot.answer(id, answer, None);
    }

    fn renew(&mut self, id: u32, packet: Packet) -> Result<(), Refusal> {
        let Some(credential) = packet.descriptor else {
            return Err(refusal(
                "renew.descriptor",
                "no credential came with it".to_owned(),
                RefusalClass::Caller,
            ));
        };
        let content = credentials::read(credential)?;
        let renewed = credentials::judge(&content, self.own.ca_directory.as_deref())?;
        self.bearer.agrees_with(&renewed)?;
        if let Some(file) = self.door.credential() {
            replace(file, &content).map_err(|error| broken("keep the credential", &error))?;
        }
        let copy = memfd::sealed("credential", &content)
            .map_err(|error| broken("pass the credential on", &error))?;
        self.pass_in(
            id,
            Due::Renewed(renewed.not_after),
            &packet.bytes,
            Some(&copy),
        );
        Ok(())
    }

    /// Waits until all children are gone; gives the status of the first.
    fn reap_all(&self, limit: Duration) -> Option<i32> {
        let limit = Instant::now() + limit;
        let mut first = None;
        loop {
            match sys::reap() {
                Reaped::Child(_, status) => {
                    first.get_or_insert(status);
                }
                Reaped::Nobody => return first,
                Reaped::Nothing if Instant::now() >= limit => return first,
                Reaped::Nothing => {
                    let mut watched = [PollFd::new(self.children.as_fd(), PollFlags::POLLIN)];
                    let pause = PollTimeout::try_from(PAUSE).unwrap_or(PollTimeout::ZERO);
                    let _ = poll(&mut watched, pause);
                    while let Ok(Some(_)) = self.children.read_signal() {}
                }
            }
        }
    }

    /// Has everything killed and removed, and says so if somebody asked for it.
    fn end(mut self, asked: Option<u32>) -> u8 {
        self.clear();
        let survivors = !self.leftovers().is_empty();
        let (payload, pilot) = (self.payload, self.pilot);
        let removed = self.remove();
        let answer = match removed {
            _ if survivors => Answer::Refused(refusal(
                "close.processes",
                "killed processes of the payload do not end".to_owned(),
                RefusalClass::SiteTransient,
            )),
            Err(error) => Answer::Refused(refusal(
                "close.sandbox",
                format!("the sandbox cannot be removed: {error}"),
                RefusalClass::SiteTransient,
            )),
            Ok(()) => Answer::Closed,
        };
        if let Some(id) = asked {
            pilot.answer(id, answer, None);
        } else if let Answer::Refused(refusal) = answer {
            complain(&format!("payload {payload}: {}", refusal.message));
        }
        0
    }

    /// Removes what this account can remove; the rest is gone by then.
    fn remove(self) -> io::Result<()> {
        let tmp = self.tmp.map_or(Ok(()), Place::remove);
        self.place.remove().and(tmp)
    }

    /// Ends everything inside, and empties the sandbox as its owner.
    fn clear(&mut self) {
        // Its end is the keeper's order to kill, to clean up, and to end.
        let was_inside = self.inside.take().is_some();
        let limit = Instant::now() + END_LIMIT;
        let mut next_kill = Instant::now() + GRACE;
        while Instant::now() < limit {
            self.reap_all(PAUSE);
            let left = self.leftovers();
            let keepers = self.door.keepers(&census::read(), self.first, false);
            if left.is_empty() && keepers.is_empty() {
                break;
            }
            if !left.is_empty() && Instant::now() >= next_kill {
                self.door.kill(&left);
                next_kill = Instant::now() + GRACE * 4;
            }
        }
        if self.tmp.is_none() {
            let sandbox = self.place.path().join(SANDBOX);
            let is_left = |sandbox: &Path| {
                fs::read_dir(sandbox).map_or_else(
                    |error| error.kind() != io::ErrorKind::NotFound,
                    |mut entries| entries.next().is_some(),
                )
            };
            // The sandbox belongs to the other account: an empty one can be removed by the owner of what it lies in, and
            // only its owner can empty it.
            if fs::remove_dir(&sandbox).is_err() && is_left(&sandbox) {
                if !was_inside {
                    complain("the keeper inside could not clean up; the site's program does it");
                }
                self.door.empty(&sandbox);
                let _ = fs::remove_dir(&sandbox);
            }
        }
        self.listen();
    }
}

/// Where the payload's sandbox is: the warden's own directory, or one below it that another account has made.
fn sandbox_in(place: &Place, is_ours: bool) -> PathBuf {
    if is_ours {
        place.path().to_owned()
    } else {
        place.path().join(SANDBOX)
    }
}

fn write_new(path: &Path, content: &Zeroizing<Vec<u8>>) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)
}

fn replace(path: &Path, content: &Zeroizing<Vec<u8>>) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    write_new(&new, content)?;
    fs::rename(new, path)
}
