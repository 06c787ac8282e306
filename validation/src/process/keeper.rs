//! A keeper: the process between us and one child of a check.
//!
//! Every descendant of the child that loses its parent becomes the keeper's child (it is their subreaper), so nothing
//! escapes it: neither by a session of its own, nor by a double fork, nor by ignoring signals. It ends when they all
//! have. Nothing here allocates (see `sys.rs`).

use super::sys::{self, CONTROL, RESULT};

/// What a keeper tells; each with one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    /// The child is not there; an error number.
    NotStarted = b'F',
    /// The child could not become its program; an error number.
    NotExecuted = b'E',
    /// The child has ended; its raw status.
    Ended = b'S',
    /// So many processes of it were still there when it had.
    Left = b'L',
    /// So many could not be killed.
    Survivors = b'U',
}

/// Bytes of one message.
pub(super) const MESSAGE: usize = 5;

/// The order for a friendly end; the hard one is the end of the pipe.
pub(super) const TERM: u8 = b'T';

/// Rounds of killing, of which each waits up to [`PAUSE`]; what still lives then belongs to somebody else (a setuid
/// program), or hangs in the kernel.
const ROUNDS: u32 = 400;

/// Milliseconds.
const PAUSE: i32 = 10;

/// Tells.
pub(super) fn tell(tag: Tag, number: i32) {
    let [a, b, c, d] = number.to_le_bytes();
    sys::write(RESULT, &[tag as u8, a, b, c, d]);
}

/// Watches over `child` until nothing is left of it.
pub(super) fn watch(child: i32, leaves: bool) {
    if !live(child) {
        // Ordered to end it.
        end(Some(child));
        return;
    }
    let left = each_child(|_| ());
    if left > 0 {
        tell(Tag::Left, left);
        if leaves {
            // Nobody waits any more for what is told.
            sys::close(RESULT);
            keep_what_is_left();
        }
        end(None);
    }
}

/// Until the child has ended (true), or is ordered to.
fn live(child: i32) -> bool {
    loop {
        let mut ended = false;
        while let Ok(Some((pid, status))) = sys::reap() {
            if pid == child {
                tell(Tag::Ended, status);
                ended = true;
            }
        }
        if ended {
            return true;
        }
        if sys::wait(true, -1).control {
            let mut order = [0; 1];
            match sys::read(CONTROL, &mut order) {
                Some(1) if order == [TERM] => {
                    sys::signal(-child, libc::SIGTERM);
                    each_child(|pid| sys::signal(pid, libc::SIGTERM));
                }
                _ => return false,
            }
        }
    }
}

/// Until there is nothing left, or nobody wants it any more.
fn keep_what_is_left() {
    while !sys::wait(true, -1).control {
        loop {
            match sys::reap() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(()) => return,
            }
        }
    }
}

/// Kills whatever there is until there is nothing.
fn end(mut child: Option<i32>) {
    for _ in 0..ROUNDS {
        if let Some(child) = child {
            sys::signal(-child, libc::SIGKILL);
            sys::signal(child, libc::SIGKILL);
        }
        each_child(|pid| sys::signal(pid, libc::SIGKILL));
        sys::wait(false, PAUSE);
        loop {
            match sys::reap() {
                Ok(Some((pid, status))) => {
                    if child == Some(pid) {
                        tell(Tag::Ended, status);
                        child = None;
                    }
                }
                Ok(None) => break,
                Err(()) => return,
            }
        }
    }
    tell(Tag::Survivors, each_child(|_| ()));
}

/// Does something with each child of this process. Gives their number.
fn each_child(mut act: impl FnMut(i32)) -> i32 {
    let file = sys::open_children();
    if file < 0 {
        return 0;
    }
    let (mut count, mut number) = (0_i32, 0_i32);
    let mut bytes = [0; 4096];
    while let Some(read) = sys::read(file, &mut bytes).filter(|&read| read > 0) {
        for &byte in bytes.iter().take(read) {
            if byte.is_ascii_digit() {
                number = number
                    .wrapping_mul(10)
                    .wrapping_add(i32::from(byte.wrapping_sub(b'0')));
            } else if number > 0 {
                act(number);
                count = count.wrapping_add(1);
                number = 0;
            }
        }
    }
    sys::close(file);
    count
}
