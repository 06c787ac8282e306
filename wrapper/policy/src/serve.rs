//! The loop around a service: one packet in, one packet out, on descriptor 0.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use launch_protocol::MAX_PACKET;
use launch_protocol::policy::{Answer, Query, Reply, Request};
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockType, UnixAddr, getsockopt, recv, recvmsg, sendmsg, sockopt,
};

use crate::refuse::site;
use crate::sys;

/// Something that answers questions about names.
pub(crate) trait Service {
    /// Can it answer these? Asked before they are taken from the socket; if it cannot, [`Service::pass_on`] comes next.
    fn can_answer(&mut self, _queries: &[Query]) -> bool {
        true
    }

    /// Becomes somebody who can, and who finds the question still waiting. Returns only if that fails.
    fn pass_on(&mut self) -> ExitCode {
        ExitCode::FAILURE
    }

    /// One entry a query, or why there are none.
    fn answer(&mut self, queries: &[Query]) -> Reply;
}

/// The descriptor of the witness, if there is one.
const WITNESS: i32 = 3;

/// The socket on which root is shown everything that is asked here and answered, because it is not root that
/// asks. There is one if descriptor 3 was made by whom the questions' socket was made by: whoever starts
/// this program for other ends may have left something open there.
pub(crate) fn witness(questions: BorrowedFd<'_>) -> Option<OwnedFd> {
    let witness = sys::inherited(WITNESS)?;
    let maker = |socket: BorrowedFd<'_>| {
        let maker = getsockopt(&socket, sockopt::PeerCredentials).ok()?;
        let kind = getsockopt(&socket, sockopt::SockType).ok()?;
        (kind == SockType::SeqPacket).then_some((maker.pid(), maker.uid()))
    };
    let is_same = maker(witness.as_fd()).is_some() && maker(witness.as_fd()) == maker(questions);
    is_same.then_some(witness)
}

/// Answers until root closes its end. The witness is shown each question and then its answer, before whoever
/// asked has it. Whatever is not a proper question ends the program: root
/// then refuses what it had asked, and starts another.
pub(crate) fn serve(
    socket: BorrowedFd<'_>,
    witness: Option<BorrowedFd<'_>>,
    service: &mut dyn Service,
) -> ExitCode {
    // A panic message could carry foreign bytes into the log.
    std::panic::set_hook(Box::new(|_| {}));
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        if let Ok(request) = Request::decode(ahead(socket, &mut buffer))
            && !service.can_answer(&request.queries)
        {
            return service.pass_on();
        }
        let (packet, files) = match receive(socket, &mut buffer) {
            Ok(Some(received)) => received,
            Ok(None) => return ExitCode::SUCCESS,
            Err(_) => return ExitCode::FAILURE,
        };
        let Ok(request) = Request::decode(packet) else {
            return ExitCode::FAILURE;
        };
        if witness.is_some_and(|witness| send(witness, packet).is_err()) {
            return ExitCode::FAILURE;
        }
        // Nothing that this service needs comes beside a question.
        if !files.is_empty() {
            return ExitCode::FAILURE;
        }
        let reply = service.answer(&request.queries);
        let sent = answer(request.id, reply).and_then(|packet| {
            witness.map_or(Ok(()), |witness| send(witness, &packet))?;
            send(socket, &packet)
        });
        if sent.is_err() {
            return ExitCode::FAILURE;
        }
    }
}

/// A packet and what came beside it.
type Received<'a> = (&'a [u8], Vec<OwnedFd>);

/// The packet that comes next, which stays where it is; nothing: none comes, or it is of no use.
fn ahead<'a>(socket: BorrowedFd<'_>, buffer: &'a mut [u8]) -> &'a [u8] {
    let length = recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_PEEK).unwrap_or(0);
    buffer.get(..length).unwrap_or_default()
}

/// One packet; `None`: the end.
fn receive<'a>(
    socket: BorrowedFd<'_>,
    buffer: &'a mut [u8],
) -> Result<Option<Received<'a>>, Errno> {
    // As many as the kernel passes at once, so that none is lost and left open unseen.
    let mut control = nix::cmsg_space!([i32; 253]);
    let mut files = Vec::new();
    let (length, flags) = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        let raw = socket.as_raw_fd();
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<UnixAddr>(raw, &mut parts, Some(&mut control), flags) {
            Ok(message) => {
                for item in message.cmsgs().into_iter().flatten() {
                    if let ControlMessageOwned::ScmRights(raw) = item {
                        files.extend(raw.into_iter().map(sys::own));
                    }
                }
                break (message.bytes, message.flags);
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    };
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(Errno::EMSGSIZE);
    }
    match buffer.get(..length) {
        Some(packet) if length > 0 => Ok(Some((packet, files))),
        _ => Ok(None),
    }
}

fn answer(id: u32, reply: Reply) -> Result<Vec<u8>, Errno> {
    Answer { id, reply }
        .encode()
        .or_else(|_| too_much(id).encode())
        .map_err(|_| Errno::EMSGSIZE)
}

fn send(socket: BorrowedFd<'_>, packet: &[u8]) -> Result<(), Errno> {
    loop {
        let parts = [IoSlice::new(packet)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        match sendmsg::<UnixAddr>(socket.as_raw_fd(), &parts, &[], flags, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// An answer above the limits of a packet: an account in thousands of groups, lists without end.
fn too_much(id: u32) -> Answer {
    let message = "the answer is too large for the helper: too many names, groups or paths";
    let reply = Reply::Refused(site("policy.too_large", message.to_owned()));
    Answer { id, reply }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, send as send_raw, socketpair};

    use super::*;

    struct Echo;

    impl Service for Echo {
        fn answer(&mut self, queries: &[Query]) -> Reply {
            Reply::Names(vec![None; queries.len()])
        }
    }

    fn converse(packets: &[&[u8]]) -> (Vec<u8>, ExitCode) {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("socket");
        for packet in packets {
            send_raw(ours.as_raw_fd(), packet, MsgFlags::empty()).expect("sent");
        }
        nix::sys::socket::shutdown(ours.as_raw_fd(), nix::sys::socket::Shutdown::Write)
            .expect("shut down");
        let code = serve(theirs.as_fd(), None, &mut Echo);
        drop(theirs);
        let mut answer = vec![0; MAX_PACKET];
        let length = recv(ours.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap_or(0);
        answer.truncate(length);
        (answer, code)
    }

    #[test]
    fn s20_what_is_no_question_ends_the_service_without_an_answer() {
        let queries = vec![Query::Uid(5), Query::Uid(6)];
        let question = Request { id: 7, queries }.encode().expect("encodes");
        let (answer, code) = converse(&[&question]);
        let expected = Answer {
            id: 7,
            reply: Reply::Names(vec![None, None]),
        };
        assert_eq!(Answer::decode(&answer), Ok(expected));
        assert_eq!(code, ExitCode::SUCCESS);
        for bad in [&b"\x01"[..], b"nonsense", &question[..question.len() - 1]] {
            assert_eq!(converse(&[bad]), (Vec::new(), ExitCode::FAILURE));
        }
        assert_eq!(converse(&[]), (Vec::new(), ExitCode::SUCCESS));
    }
}
