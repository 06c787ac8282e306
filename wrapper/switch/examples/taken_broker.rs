//! A broker that has been taken over: it introduces itself as an honest one does, for it has not heard a
//! stranger yet, and from then on does whatever comes over the pilot's socket. `m` and a packet: that goes to the
//! monitor; `n` and a packet: to the name service; `w` and a packet: to the monitor, as if from the name service; `q`:
//! it ends. Answers, and what is beside them, come back as
//! they are. The real one is `sailplane-broker`.
//!
//! What stands in `/etc/sailplane/taken` makes it break the order of the introduction.

#[path = "../tests/it/sys.rs"]
mod sys;

use std::fs::{self, File};
use std::io::{IoSlice, IoSliceMut, Read as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;

use launch_protocol::MAX_PACKET;
use launch_protocol::monitor::{Ask, Numbers, Reply};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use sailplane_policy::config::Config;

const MONITOR: RawFd = 0;

fn main() -> ExitCode {
    match introduce() {
        Some((pilot, witness)) => {
            let mut names = None;
            while relay(&pilot, &witness, &mut names).is_some() {}
            ExitCode::SUCCESS
        }
        None => ExitCode::FAILURE,
    }
}

/// The pilot's socket, and that on which the monitor has believed what an honest one knows about names.
fn introduce() -> Option<(File, File)> {
    let hierarchies = own_unified().map(|path| ("cgroup2".to_owned(), path));
    let hierarchies = hierarchies.into_iter().collect();
    let (reply, beside) = ask(&Ask::Begin { hierarchies })?;
    let Reply::Begun { mut caller, .. } = reply else {
        return None;
    };
    let [mut conf, witness] = <[File; 2]>::try_from(beside).ok()?;
    let mut text = Vec::new();
    conf.read_to_end(&mut text).ok()?;
    let settings = Config::parse(&text).ok()?.settings;
    caller.name = Some("pilot".to_owned());
    caller.listed_users = vec![("pilot".to_owned(), caller.uid)];
    let configured = Ask::Configured(Box::new(settings));
    let admitted = Ask::Admitted {
        caller,
        may_omit_key: true,
        hooks: [(); 2].map(|()| Numbers {
            uid: 65_534,
            gid: 65_534,
            groups: Vec::new(),
        }),
    };
    let order = match fs::read_to_string("/etc/sailplane/taken")
        .unwrap_or_default()
        .as_str()
    {
        "admitted first" => vec![admitted],
        "configured twice" => vec![configured.clone(), configured, admitted],
        "begin twice" => vec![
            Ask::Begin {
                hierarchies: Vec::new(),
            },
            configured,
            admitted,
        ],
        "lease first" => vec![Ask::Adopt { payload: 1 }, configured, admitted],
        _ => vec![configured, admitted],
    };
    let mut beside = Vec::new();
    for question in order {
        (_, beside) = ask(&question)?;
    }
    Some((beside.into_iter().next()?, witness))
}

/// The own directory in the cgroup2 hierarchy.
fn own_unified() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    Some(PathBuf::from(line.split(' ').nth(4)?).join(own))
}

fn ask(question: &Ask) -> Option<(Reply, Vec<File>)> {
    transmit(MONITOR, &question.encode().ok()?, &[])?;
    let (packet, beside) = receive(MONITOR)?;
    Some((Reply::decode(&packet).ok()?, beside))
}

/// One order of the pilot's. `names`: the name service, once it has been started.
fn relay(pilot: &File, witness: &File, names: &mut Option<File>) -> Option<()> {
    let (packet, beside) = receive(pilot.as_raw_fd())?;
    let (whom, packet) = packet.split_first()?;
    let to = match whom {
        b'm' => MONITOR,
        b'n' => {
            if names.is_none() {
                *names = ask(&Ask::Names)?.1.into_iter().next();
            }
            names.as_ref()?.as_raw_fd()
        }
        b'w' => {
            // The other end may be closed, which is as good.
            let _ = transmit(witness.as_raw_fd(), packet, &beside);
            return transmit(pilot.as_raw_fd(), b"said", &[]);
        }
        _ => return None,
    };
    transmit(to, packet, &beside)?;
    // What is no question at all has no answer either, but an end.
    let unanswered = matches!(Ask::decode(packet), Ok(Ask::Audit { .. } | Ask::Decline(_)));
    if to == MONITOR && unanswered {
        return Some(());
    }
    let (answer, beside) = receive(to)?;
    transmit(pilot.as_raw_fd(), &answer, &beside)
}

fn transmit(socket: RawFd, packet: &[u8], beside: &[File]) -> Option<()> {
    let raw: Vec<_> = beside.iter().map(|file| file.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    let parts = [IoSlice::new(packet)];
    sendmsg::<UnixAddr>(socket, &parts, control, MsgFlags::MSG_NOSIGNAL, None).ok()?;
    Some(())
}

fn receive(socket: RawFd) -> Option<(Vec<u8>, Vec<File>)> {
    let mut buffer = vec![0; MAX_PACKET + 1];
    let mut control = nix::cmsg_space!([i32; 64]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket, &mut parts, Some(&mut control), flags).ok()?;
    let length = message.bytes;
    let mut beside = Vec::new();
    for item in message.cmsgs().ok()? {
        if let ControlMessageOwned::ScmRights(raw) = item {
            beside.extend(raw.into_iter().map(sys::own));
        }
    }
    buffer.truncate(length);
    (length > 0).then_some((buffer, beside))
}
