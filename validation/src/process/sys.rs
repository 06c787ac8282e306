//! What a process does between `fork` and `exec`, and the calls that have no safe form.
//!
//! The program that forks has many threads, one of which may hold any lock of the library at that moment. So everything
//! that runs in the copy (this file from [`fork_keeper`] on, and `keeper.rs`) makes system calls and nothing else: it
//! neither allocates nor frees, and uses only memory of its own stack or that was made ready before.
#![allow(
    unsafe_code,
    reason = "system calls without a safe wrapper; nothing else in this crate is unsafe"
)]

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use super::keeper;

/// What is executed, in the form the kernel takes: made before the fork, read after it.
pub(super) struct Image {
    /// The file.
    program: CString,
    words: Vec<CString>,
    variables: Vec<CString>,
    arguments: Vec<*const c_char>,
    /// The same through a shell, for scripts that do not say what reads them.
    shell_arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    directory: Option<CString>,
    /// What the child leaves behind goes on.
    pub(super) leaves: bool,
}

// SAFETY: the pointers point into the strings beside them, which are on the heap and never changed.
unsafe impl Send for Image {}

/// Shells that read a script without a first line that names one, as the ones who call scripts from a shell get it.
const SHELLS: [&CStr; 2] = [c"/bin/bash", c"/bin/sh"];

impl Image {
    /// Makes ready: `words` are the program and its arguments.
    pub(super) fn new(
        program: CString,
        words: Vec<CString>,
        variables: Vec<CString>,
        directory: Option<CString>,
        leaves: bool,
    ) -> Self {
        let pointers = |all: &[CString]| -> Vec<*const c_char> {
            all.iter().map(|word| word.as_ptr()).collect()
        };
        let mut arguments = pointers(&words);
        let mut shell_arguments = vec![c"sh".as_ptr(), program.as_ptr()];
        shell_arguments.extend(arguments.iter().skip(1));
        let mut environment = pointers(&variables);
        for list in [&mut arguments, &mut shell_arguments, &mut environment] {
            list.push(ptr::null());
        }
        Self {
            program,
            words,
            variables,
            arguments,
            shell_arguments,
            environment,
            directory,
            leaves,
        }
    }

    /// Words and variables, so that nobody thinks they are not used: the pointers are into them.
    pub(super) fn len(&self) -> usize {
        self.words.len() + self.variables.len()
    }
}

/// The descriptors of a keeper, by where they come from.
pub(super) struct Ends<'a> {
    pub(super) stdin: BorrowedFd<'a>,
    pub(super) stdout: BorrowedFd<'a>,
    pub(super) stderr: BorrowedFd<'a>,
    pub(super) control: BorrowedFd<'a>,
    pub(super) result: BorrowedFd<'a>,
}

/// Where a keeper has what; 0 to 2 are the child's.
pub(super) const CONTROL: RawFd = 3;
/// Where it tells what becomes of the child.
pub(super) const RESULT: RawFd = 4;
/// Where it hears of children that have ended.
pub(super) const SIGNALS: RawFd = 5;
/// Numbers from here on are free to be used while the others are put into place.
const ABOVE: RawFd = 10;

/// A copy of this process that keeps the child. Gives its number.
///
/// # Errors
/// The system's.
pub(super) fn fork_keeper(image: &Image, ends: &Ends<'_>) -> io::Result<i32> {
    // No handler of ours may run in the copy: it would write to the pipes of this process.
    let old = block_all();
    // SAFETY: the copy runs `keep`, which follows the rule of this file, and never returns.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        keep(image, ends);
    }
    let failed = (pid < 0).then(io::Error::last_os_error);
    restore(&old);
    failed.map_or(Ok(pid), Err)
}

fn block_all() -> libc::sigset_t {
    let mut all = empty_set();
    let mut old = empty_set();
    // SAFETY: writes one set that outlives the call.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: reads one set and writes another; both outlive the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old) };
    old
}

fn restore(old: &libc::sigset_t) {
    // SAFETY: reads one set that outlives the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old, ptr::null_mut()) };
}

fn empty_set() -> libc::sigset_t {
    // SAFETY: a set of signals is plain numbers, and all zero is the empty one on Linux.
    unsafe { std::mem::zeroed() }
}

/// The life of the copy.
fn keep(image: &Image, ends: &Ends<'_>) -> ! {
    // A session of its own: signals for the pilot's group are none of the keeper's.
    // SAFETY: takes and gives numbers.
    unsafe { libc::setsid() };
    // Whatever escapes its parents becomes a child of this process.
    // SAFETY: takes numbers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    // SAFETY: reads a string that lives for ever.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"check-keeper".as_ptr(), 0, 0, 0) };
    default_signals();
    if !place(ends) || !listen_for_children() {
        finish(1);
    }
    // SAFETY: as for the first fork; this copy has one thread.
    let child = unsafe { libc::fork() };
    match child {
        0 => become_child(image),
        -1 => {
            keeper::tell(keeper::Tag::NotStarted, errno());
            finish(1)
        }
        _ => {
            for number in 0..CONTROL {
                // Whoever reads the child's output must not wait for its keeper.
                // SAFETY: these are the copy's own, and it does not use them.
                unsafe { libc::close(number) };
            }
            keeper::watch(child, image.leaves);
            finish(0)
        }
    }
}

fn place(ends: &Ends<'_>) -> bool {
    let from = [
        (ends.stdin.as_raw_fd(), 0),
        (ends.stdout.as_raw_fd(), 1),
        (ends.stderr.as_raw_fd(), 2),
        (ends.control.as_raw_fd(), CONTROL),
        (ends.result.as_raw_fd(), RESULT),
    ];
    let mut above = [(-1, -1); 5];
    for (slot, (number, to)) in above.iter_mut().zip(from) {
        // SAFETY: takes and gives numbers.
        let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, ABOVE) };
        if copy < 0 {
            return false;
        }
        *slot = (copy, to);
    }
    for (number, to) in above {
        let flags = if to < CONTROL { 0 } else { libc::O_CLOEXEC };
        // SAFETY: takes numbers; what `to` was before is not used in this copy any more.
        if unsafe { libc::dup3(number, to, flags) } < 0 {
            return false;
        }
    }
    close_from(SIGNALS);
    true
}

fn close_from(first: RawFd) {
    // SAFETY: this copy uses no descriptor from `first` up.
    let closed = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first.cast_unsigned(),
            libc::c_uint::MAX,
            0,
        )
    };
    if closed == 0 {
        return;
    }
    // Before Linux 5.9.
    for number in first..65_536 {
        // SAFETY: as above; a number that is not open is refused, harmlessly.
        unsafe { libc::close(number) };
    }
}

fn listen_for_children() -> bool {
    let mut set = empty_set();
    // SAFETY: changes one set that outlives the call.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
    // SAFETY: reads one set that outlives the call.
    let signals =
        unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if signals == SIGNALS || signals < 0 {
        return signals == SIGNALS;
    }
    // SAFETY: takes numbers.
    let moved = unsafe { libc::dup3(signals, SIGNALS, libc::O_CLOEXEC) };
    // SAFETY: ours, and not used under this number.
    unsafe { libc::close(signals) };
    moved == SIGNALS
}

fn default_signals() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: sets no handler.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// The child's last steps before it is another program.
fn become_child(image: &Image) -> ! {
    // SAFETY: takes and gives numbers.
    unsafe { libc::setsid() };
    // SAFETY: takes and gives numbers.
    unsafe { libc::umask(0o022) };
    let ready = image.directory.as_ref().is_none_or(|directory| {
        // SAFETY: reads a string that was made before the fork.
        (unsafe { libc::chdir(directory.as_ptr()) }) == 0
    });
    if ready {
        restore(&empty_set());
        execute(&image.program, &image.arguments, image);
        if errno() == libc::ENOEXEC {
            for shell in SHELLS {
                execute(shell, &image.shell_arguments, image);
            }
        }
    }
    keeper::tell(keeper::Tag::NotExecuted, errno());
    finish(127)
}

fn execute(program: &CStr, arguments: &[*const c_char], image: &Image) {
    // SAFETY: both lists were made before the fork and end with a null pointer; their strings live in `image`, or for
    // ever.
    unsafe {
        libc::execve(
            program.as_ptr(),
            arguments.as_ptr(),
            image.environment.as_ptr(),
        )
    };
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn finish(status: i32) -> ! {
    // SAFETY: ends this process, and runs nothing of its parent's.
    unsafe { libc::_exit(status) }
}

/// Writes to a descriptor of the keeper. A reader that is gone does not matter.
pub(super) fn write(number: RawFd, bytes: &[u8]) {
    // SAFETY: reads `bytes`, which outlives the call.
    unsafe { libc::write(number, bytes.as_ptr().cast(), bytes.len()) };
}

/// Reads from a descriptor of the keeper; `None`: an error.
pub(super) fn read(number: RawFd, bytes: &mut [u8]) -> Option<usize> {
    // SAFETY: writes into `bytes`, which outlives the call.
    let count = unsafe { libc::read(number, bytes.as_mut_ptr().cast(), bytes.len()) };
    usize::try_from(count).ok()
}

/// What a keeper waits for.
pub(super) struct Heard {
    /// An order, or the end of whoever gives them.
    pub(super) control: bool,
}

/// Waits for an order or a child, or so many milliseconds.
pub(super) fn wait(orders: bool, milliseconds: i32) -> Heard {
    let mut places = [
        libc::pollfd {
            fd: SIGNALS,
            events: libc::POLLIN,
            revents: 0,
        },
        libc::pollfd {
            fd: if orders { CONTROL } else { -1 },
            events: libc::POLLIN,
            revents: 0,
        },
    ];
    // SAFETY: reads and writes the two places, which outlive the call.
    unsafe { libc::poll(places.as_mut_ptr(), 2, milliseconds) };
    let [signals, control] = places;
    if signals.revents != 0 {
        let mut ignored = [0; 512];
        read(SIGNALS, &mut ignored);
    }
    Heard {
        control: control.revents != 0,
    }
}

/// A child that has ended: number and raw status. `Ok(None)`: none has. `Err`: there are none.
pub(super) fn reap() -> Result<Option<(i32, i32)>, ()> {
    let mut status = 0;
    // SAFETY: writes one number that outlives the call.
    match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) } {
        0 => Ok(None),
        -1 if errno() == libc::EINTR => Ok(None),
        -1 => Err(()),
        pid => Ok(Some((pid, status))),
    }
}

/// Signals a child of this process, which cannot have been replaced by another: only this process reaps it. A negative
/// number means the group.
pub(super) fn signal(child: i32, number: i32) {
    // SAFETY: takes and gives numbers.
    unsafe { libc::kill(child, number) };
}

/// Opens the list of this thread's children; -1: it cannot be had.
pub(super) fn open_children() -> RawFd {
    // SAFETY: reads a string that lives for ever.
    unsafe {
        libc::open(
            c"/proc/thread-self/children".as_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    }
}

/// Closes a descriptor of the keeper.
pub(super) fn close(number: RawFd) {
    // SAFETY: takes a number that the caller opened and does not use again.
    unsafe { libc::close(number) };
}
