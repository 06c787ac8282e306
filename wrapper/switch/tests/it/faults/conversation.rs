//! A launch in which anything may be missing, and what its payload must say of itself.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::{Duration, Instant};

use launch_protocol::agent;
use launch_protocol::broker::{Answer, Command, Opened, Reply};
use launch_protocol::exec::ExecRequest;

use super::{Outcome, PATIENCE, tracer};
use crate::cell::{Cell, EXECUTE};
use crate::client::{Pilot, Socket, pipe_with, readable};

/// What the payload says about itself, in one write a line.
pub(super) const WHO: &str = "exec python3 -Sc '
import os
s = dict(l.split(\":\\t\", 1) for l in open(\"/proc/self/status\").read().splitlines() if \":\\t\" in l)
os.write(1, (\" \".join([s[k] for k in (\"Uid\", \"Gid\", \"Groups\", \"CapEff\", \"CapPrm\", \"CapInh\", \"CapAmb\", \"CapBnd\", \"NoNewPrivs\")]) + \"\\n\").encode())
os.write(1, os.getcwd().encode() + b\" \" + \" \".join(sorted(os.listdir(\"/proc/self/fd\"))).encode() + b\"\\n\")'";

/// Is this what the payload must say, as far as it came? The failure may have hit the payload's own interpreter.
pub(super) fn judge(cell: &Cell, uid: u32, place: &str, text: &str) -> Result<(), Outcome> {
    assert!(
        uid == cell.alice || cell.is_dynamic(uid),
        "ANOTHER ACCOUNT: {uid}"
    );
    let none = "0".repeat(16);
    let ids = format!("{uid}\t{uid}\t{uid}\t{uid}");
    let caps = [none.as_str(); 5].join(" ");
    let expected = |groups: &str| format!("{ids} {ids} {groups}  {caps} 1");
    // A number of its own has no further groups.
    let (fewer, all) = match uid == cell.alice {
        true => (uid.to_string(), format!("{uid} {}", uid + 1)),
        false => (String::new(), String::new()),
    };
    let (fewer, all) = (expected(&fewer), expected(&all));
    let mut lines = text
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_digit() || first == '/'));
    let has_fewer = match lines.next() {
        None => return Err(Outcome::Killed),
        Some(line) => {
            assert!(
                line == all || line == fewer,
                "ANOTHER IDENTITY: {text:?} instead of {all:?}"
            );
            line != all
        }
    };
    match lines.next() {
        None => return Err(Outcome::Killed),
        Some(line) => assert_eq!(line, format!("{place} 0 1 2 3"), "ANOTHER PLACE"),
    }
    if has_fewer {
        Err(Outcome::FewerGroups)
    } else {
        Ok(())
    }
}

/// What a pilot asks for, step by step.
pub(super) struct Conversation<'a> {
    pub(super) pilot: &'a mut Pilot,
    /// The payload's owner: Alice has an account, Bob gets a number.
    pub(super) owner: &'static str,
}

impl Conversation<'_> {
    pub(super) fn ask(
        &mut self,
        command: Command,
        credential: Option<&str>,
    ) -> Result<(Answer, Option<fs::File>), Outcome> {
        let pipe = credential.map(pipe_with);
        let descriptors: Vec<_> = pipe.iter().map(|pipe| pipe.as_raw_fd()).collect();
        let wanted = self.pilot.send(command, &descriptors);
        loop {
            let (packet, files) = receive(self.pilot.socket())?;
            let reply = Reply::decode(&packet).expect("a reply");
            if let (0, Answer::Refused(refusal)) = (reply.id, &reply.answer) {
                assert_plain(&refusal.message);
                return Err(Outcome::Refused(refusal.code.clone()));
            }
            if reply.id == wanted {
                return match reply.answer {
                    Answer::Refused(refusal) => {
                        assert_plain(&refusal.message);
                        Err(Outcome::Refused(refusal.code))
                    }
                    answer => Ok((answer, files.into_iter().next())),
                };
            }
            assert_eq!(reply.id, 0, "{reply:?}");
        }
    }

    /// A launch of the owner's, to its end.
    pub(super) fn launch(&mut self, cell: &Cell) -> Result<(), Outcome> {
        let (opened, done) = self.open_and_run(cell)?;
        if done == Err(Outcome::HungUp) {
            return done;
        }
        let payload = opened.payload;
        let closed = self.ask(Command::Close { payload }, None).map(drop);
        if done.is_err() { done } else { closed }
    }

    /// A launch without its end; how it ran.
    pub(super) fn open_and_run(
        &mut self,
        cell: &Cell,
    ) -> Result<(Opened, Result<(), Outcome>), Outcome> {
        let open = Command::open("1.0", EXECUTE);
        let credential = format!("accept 3600 full /CN={}", self.owner);
        let (Answer::Opened(opened), _) = self.ask(open, Some(&credential))? else {
            panic!("not opened")
        };
        assert_eq!(opened.uid, opened.gid);
        assert_eq!(opened.uid == cell.alice, self.owner == "Alice");
        let done = self.run(cell, &opened);
        Ok((opened, done))
    }

    fn run(&mut self, cell: &Cell, opened: &Opened) -> Result<(), Outcome> {
        let payload = opened.payload;
        let (Answer::Spawned { .. }, Some(socket)) =
            self.ask(Command::SpawnAgent { payload }, None)?
        else {
            panic!("not spawned")
        };
        let agent = Socket(socket.into());
        let reply = |agent: &Socket| -> Result<_, Outcome> {
            let (packet, files) = receive(agent)?;
            Ok((
                agent::Reply::decode(&packet).expect("a reply"),
                files.into_iter().next(),
            ))
        };
        match reply(&agent)?.0 {
            agent::Reply::Ready => {}
            agent::Reply::Trouble { message, .. } => {
                assert_plain(&message);
                return Err(Outcome::Refused("agent".into()));
            }
            other => panic!("{other:?}"),
        }
        let request = ExecRequest {
            path: "/bin/sh".into(),
            argv: vec![b"sh".to_vec(), b"-c".to_vec(), WHO.into()],
            env: vec![b"PATH=/usr/bin:/bin".to_vec()],
            ..ExecRequest::default()
        };
        let mut file = tempfile::tempfile_in("/tmp").expect("a file");
        file.write_all(&request.encode().expect("valid"))
            .expect("written");
        let null = fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .expect("null");
        let (mut output, write) = std::io::pipe().expect("pipe");
        let descriptors = [
            file.as_raw_fd(),
            null.as_raw_fd(),
            write.as_raw_fd(),
            write.as_raw_fd(),
        ];
        agent.send(&agent::Request::Exec.encode().expect("valid"), &descriptors);
        drop(write);
        let (agent::Reply::ExecStarting, Some(mut report)) = reply(&agent)? else {
            return Err(Outcome::Refused("exec".into()));
        };
        let (mut failure, mut text) = (Vec::new(), String::new());
        comes(&report, "the exec report never ends")?;
        report.read_to_end(&mut failure).expect("readable");
        if !failure.is_empty() {
            return Err(Outcome::Refused("exec".into()));
        }
        comes(&output, "the payload never ends")?;
        output.read_to_string(&mut text).expect("readable");
        let place = opened.sandbox_path().display().to_string();
        judge(cell, opened.uid, &place, &text)
    }
}

/// One sentence that somebody can read, and no debugging output.
pub(super) fn assert_plain(message: &str) {
    let debugging = [
        "Err(", "Some(", "None", "Errno", "panicked", "os error", "\n", "{ ",
    ];
    let found = debugging.iter().find(|word| message.contains(**word));
    assert!(
        message.len() > 10 && found.is_none(),
        "UNCLEAR: {message:?}"
    );
}

/// Waits for something to read; not if the victim has been stopped meanwhile, for then it is time to go.
fn comes(file: &impl AsFd, why: &'static str) -> Result<(), Outcome> {
    let start = Instant::now();
    while !readable(file, Duration::from_millis(20)) {
        if tracer::has_stopped() {
            return Err(Outcome::HungUp);
        }
        if start.elapsed() > PATIENCE {
            return Err(Outcome::Ended(why));
        }
    }
    Ok(())
}

fn receive(socket: &Socket) -> Result<(Vec<u8>, Vec<fs::File>), Outcome> {
    comes(&socket.0, "no answer")?;
    socket.receive().ok_or(Outcome::Ended("end of channel"))
}
