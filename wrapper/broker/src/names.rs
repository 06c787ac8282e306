//! The name service, `sailplane-names`: asks it for accounts and groups. It stays as long as payloads are
//! expected; one that is not there, or has gone away, is started by the next who asks. The monitor hears its answers
//! beside us. Until the monitor has admitted somebody it believes ours as well, so that nothing has to be started where
//! the files of /etc know it all.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use launch_protocol::MAX_PACKET;
use launch_protocol::broker::{Refusal, RefusalClass};
use launch_protocol::monitor;
use launch_protocol::policy::{Answer, Entry, Query, Reply, Request};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sailplane_policy::look_up_in_files;

use crate::channel;
use crate::monitor::{CANNOT_START, Monitor};
use crate::refuse::{helper, trouble};

/// How long an answer may take (requirement S20).
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// How many accounts are looked up with one question: their groups must fit in one packet.
const QUERIES_AT_ONCE: usize = 32;
/// How long after the end of its socket to wait for the news how it has ended.
const NEWS: Duration = Duration::from_millis(50);

/// What came out of a question.
pub(crate) type Entries = Vec<Option<Entry>>;

/// The name service.
#[derive(Debug)]
pub(crate) struct Names {
    /// Where the monitor hears what we answer ourselves.
    witness: Option<OwnedFd>,
    running: Option<Running>,
    /// How the last one has ended, until the next is started.
    ended: Option<i32>,
    serial: u32,
    /// Questions under way: how many entries are due, and until when.
    asked: BTreeMap<u32, (usize, Instant)>,
    answers: BTreeMap<u32, Result<Entries, Refusal>>,
    /// Something was heard while one answer was waited for.
    news: bool,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Running {
    socket: OwnedFd,
    child: i32,
}

/// A look-up under way, in as many questions as it takes.
#[derive(Debug)]
pub(crate) struct LookUp(Vec<u32>);

impl Names {
    /// Until [`Self::be_distrusted`] the monitor hears on `witness` what we know of ourselves.
    pub(crate) fn new(witness: Option<OwnedFd>) -> Self {
        Self {
            witness,
            running: None,
            ended: None,
            serial: 0,
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
            news: false,
            buffer: vec![0; MAX_PACKET + 1],
        }
    }

    /// We shall hear strangers, and the monitor will not believe us any more.
    pub(crate) fn be_distrusted(&mut self) {
        self.witness = None;
    }

    /// Answers a question out of the files of /etc, if it may, and if they know.
    fn answer(&self, id: u32, question: &[u8], queries: &[Query]) -> Option<Entries> {
        let witness = self.witness.as_ref().filter(|_| self.running.is_none())?;
        let entries = look_up_in_files(queries)?;
        let reply = Reply::Names(entries.clone());
        let answer = Answer { id, reply }.encode().ok()?;
        let tell = |packet| channel::transmit(witness.as_fd(), packet, &[]).ok();
        tell(question)?;
        tell(&answer)?;
        Some(entries)
    }

    /// Starts it, if it does not run: somebody will ask.
    pub(crate) fn start(&mut self, monitor: &Monitor) -> Result<(), Refusal> {
        if self.running.is_none() {
            let (child, socket) = monitor.start(&monitor::Ask::Names)?;
            self.ended = None;
            self.running = Some(Running { socket, child });
        }
        Ok(())
    }

    fn send(&mut self, packet: &[u8], monitor: &Monitor) -> Result<(), Refusal> {
        let failed = |errno: Errno| {
            let text = format!("asking sailplane-names: {}", errno.desc());
            trouble("policy.ask", text)
        };
        if let Some(running) = &self.running {
            match channel::transmit(running.socket.as_fd(), packet, &[]) {
                Err(Errno::EPIPE | Errno::ECONNRESET) => self.stop(monitor),
                other => return other.map_err(failed),
            }
        }
        self.start(monitor)?;
        let running = self.running.as_ref().map(|it| it.socket.as_fd());
        running.map_or(Ok(()), |socket| {
            channel::transmit(socket, packet, &[]).map_err(failed)
        })
    }

    /// Asks; the answer is fetched with [`Self::take`].
    pub(crate) fn ask(&mut self, queries: &[Query], monitor: &Monitor) -> Result<LookUp, Refusal> {
        let mut ids = Vec::with_capacity(1);
        for part in queries.chunks(QUERIES_AT_ONCE) {
            self.serial += 1;
            let id = self.serial;
            let queries = part.to_vec();
            let packet = Request { id, queries }.encode().map_err(|error| {
                trouble("policy.ask", format!("asking sailplane-names: {error}"))
            })?;
            ids.push(id);
            if let Some(entries) = self.answer(id, &packet, part) {
                self.answers.insert(id, Ok(entries));
                continue;
            }
            self.send(&packet, monitor)?;
            self.asked
                .insert(id, (part.len(), Instant::now() + DEADLINE));
        }
        Ok(LookUp(ids))
    }

    /// What to poll while an answer is awaited.
    pub(crate) fn source(&self) -> Option<BorrowedFd<'_>> {
        let running = self.running.as_ref()?;
        (!self.asked.is_empty()).then(|| running.socket.as_fd())
    }

    /// When to look again even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.asked.values().map(|(_, deadline)| *deadline).min()
    }

    /// Takes in every answer that is there. One that says something else, or too late, is stopped.
    pub(crate) fn listen(&mut self, now: Instant, monitor: &Monitor) {
        while let Some(running) = &self.running {
            match channel::hear(running.socket.as_fd(), &mut self.buffer) {
                None => break,
                Some(Ok(packet)) => match Answer::decode(packet) {
                    Ok(Answer { id, reply }) if self.asked.contains_key(&id) => {
                        let due = self.asked.remove(&id).map(|(due, _)| due);
                        let answer = match reply {
                            Reply::Names(found) if Some(found.len()) == due => Ok(found),
                            Reply::Refused(refusal) => Err(refusal),
                            _ => Err(confused()),
                        };
                        self.answers.insert(id, answer);
                    }
                    _ => self.stop(monitor),
                },
                Some(Err(_)) => self.stop(monitor),
            }
        }
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            self.stop(monitor);
        }
    }

    /// The answer to a question, or the refusal that stands for a missing one; `None`: not yet.
    pub(crate) fn take(&mut self, look_up: &LookUp) -> Option<Result<Entries, Refusal>> {
        let ids = || look_up.0.iter();
        if ids().any(|id| self.asked.contains_key(id)) {
            return None;
        }
        let answers: Vec<_> = ids().map(|id| self.answers.remove(id)).collect();
        let mut all = Vec::new();
        for answer in answers {
            match answer {
                Some(Ok(entries)) => all.extend(entries),
                Some(Err(refusal)) => return Some(Err(refusal)),
                None => return Some(Err(self.silence())),
            }
        }
        Some(Ok(all))
    }

    /// Waits for an answer: at start, and when the configuration has changed.
    pub(crate) fn wait(&mut self, look_up: &LookUp, monitor: &Monitor) -> Result<Entries, Refusal> {
        loop {
            self.listen(Instant::now(), monitor);
            self.news = true;
            if let Some(outcome) = self.take(look_up) {
                return outcome;
            }
            let left = self.deadline().map_or(Duration::ZERO, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let sources = self.source().map(|it| PollFd::new(it, PollFlags::POLLIN));
            // Interrupted or timed out: `listen` finds out.
            let _ = poll(&mut Vec::from_iter(sources), timeout);
        }
    }

    /// Was anything heard on the way to something else, since the last time that this was asked?
    pub(crate) fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Asks and waits.
    pub(crate) fn look_up(
        &mut self,
        queries: &[Query],
        monitor: &Monitor,
    ) -> Result<Entries, Refusal> {
        let look_up = self.ask(queries, monitor)?;
        self.wait(&look_up, monitor)
    }

    /// Takes note that a child has been reaped; true if it was this one.
    pub(crate) fn reaped(&mut self, child: i32, status: i32) -> bool {
        let ours = self.running.as_ref().is_some_and(|it| it.child == child);
        if ours {
            self.running = None;
            self.ended = Some(status);
            self.asked.clear();
        }
        ours
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Lets it go: it ends with its socket.
    pub(crate) fn dismiss(&mut self) {
        self.running = None;
        self.asked.clear();
    }

    /// Takes it down; what it has not answered stays unanswered.
    fn stop(&mut self, monitor: &Monitor) {
        if let Some(Running { socket, child }) = self.running.take() {
            // Without it the helper ends even if it could not be killed.
            drop(socket);
            // If it was ending already, its status is kept.
            monitor.signal(child, libc::SIGKILL);
            self.ended = monitor.wait_for(child, NEWS);
        }
        self.asked.clear();
    }

    fn silence(&self) -> Refusal {
        let own = std::env::current_exe().unwrap_or_default();
        let program = own.with_file_name("sailplane-names");
        let program = program.display();
        if self.ended == Some(i32::from(CANNOT_START) << 8) {
            let text = format!(
                "{program}, or {program}-nss, cannot be started; check that all can execute them"
            );
            return helper(RefusalClass::SitePermanent, "policy.missing", text, false);
        }
        trouble("policy.silent", format!("{program} has not answered"))
    }
}

/// A helper has answered something else.
pub(crate) fn confused() -> Refusal {
    let text = "a helper has not answered what it was asked";
    trouble("policy.answer", text.to_owned())
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{MsgFlags, recv};
    use std::os::fd::AsRawFd as _;

    use super::*;
    use crate::channel::{packet_sockets, transmit};
    use crate::testing::Fake;

    /// What the service is asked next.
    fn asked(service: &OwnedFd) -> (u32, Vec<Query>) {
        let mut packet = vec![0; MAX_PACKET];
        let length = recv(service.as_raw_fd(), &mut packet, MsgFlags::empty()).expect("asked");
        let Request { id, queries } = Request::decode(&packet[..length]).expect("a question");
        (id, queries)
    }

    fn answer(service: &OwnedFd, id: u32, entries: Entries) {
        let reply = Reply::Names(entries);
        let packet = Answer { id, reply }.encode().expect("sound");
        transmit(service.as_fd(), &packet, &[]).expect("heard");
    }

    /// With one that runs already.
    fn connected(socket: OwnedFd) -> Names {
        let mut names = Names::new(None);
        names.running = Some(Running { socket, child: 7 });
        names
    }

    fn nobody() -> Vec<Query> {
        vec![Query::Uid(60_000)]
    }

    #[test]
    fn a_long_question_is_asked_in_parts_and_answered_whole() {
        let (fake, monitor) = Fake::start();
        let (ours, service) = packet_sockets().expect("sockets");
        let mut names = connected(ours);
        let queries: Vec<_> = (0..40).map(Query::Uid).collect();
        let look_up = names.ask(&queries, &monitor).expect("asked");
        let (first, part) = asked(&service);
        assert_eq!(part.len(), QUERIES_AT_ONCE);
        answer(&service, first, vec![None; 32]);
        names.listen(Instant::now(), &monitor);
        assert_eq!(names.take(&look_up), None);
        let (second, part) = asked(&service);
        let group = Some(Entry::Group { gid: 5 });
        answer(&service, second, vec![group.clone(); part.len()]);
        let all = names.wait(&look_up, &monitor).expect("answered");
        assert_eq!((all.len(), &all[0], &all[39]), (40, &None, &group));
        drop(monitor);
        fake.join();
    }

    #[test]
    fn s20_an_answer_that_is_none_or_comes_too_late_is_a_refusal() {
        let (fake, monitor) = Fake::start();
        let (ours, service) = packet_sockets().expect("sockets");
        let mut names = connected(ours);
        let look_up = names.ask(&nobody(), &monitor).expect("asked");
        let (id, _) = asked(&service);
        answer(&service, id, Vec::new());
        let refusal = names.wait(&look_up, &monitor).expect_err("too few");
        assert_eq!(refusal.code, "policy.answer");
        let look_up = names.ask(&nobody(), &monitor).expect("asked");
        answer(&service, 99, Vec::new());
        let refusal = names.wait(&look_up, &monitor).expect_err("another");
        assert_eq!(refusal.code, "policy.silent");
        // The next who asks has another one started.
        let look_up = names.ask(&nobody(), &monitor).expect("asked");
        assert_eq!(fake.books().asked, ["Signal", "Signal", "Names"]);
        names.listen(Instant::now() + DEADLINE, &monitor);
        let refusal = names.take(&look_up).expect("over").expect_err("too late");
        assert_eq!(refusal.code, "policy.silent");
    }

    #[test]
    fn one_that_cannot_be_started_is_named() {
        let (fake, monitor) = Fake::start();
        let (ours, service) = packet_sockets().expect("sockets");
        let mut names = connected(ours);
        drop(service);
        let look_up = names.ask(&nobody(), &monitor).expect("asked");
        assert!(names.reaped(101, i32::from(CANNOT_START) << 8));
        let refusal = names.wait(&look_up, &monitor).expect_err("gone");
        assert_eq!(refusal.code, "policy.missing");
        drop((fake, monitor));
    }
}
