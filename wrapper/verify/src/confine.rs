//! What a process takes from itself before it reads a foreign byte.
//!
//! Resource limits first, then a filter of system calls. It allows the few that a verification makes, kills the
//! process for those that nothing but an intruder would make here, and answers every other with
//! `EPERM`, so that a C library which tries something new keeps working.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

use crate::sys;

/// Seconds of processor time. A verification takes under a millisecond.
const CPU_SECONDS: u64 = 5;
/// Bytes of address space. The program with its libraries has about 20 MiB.
const ADDRESS_SPACE: u64 = 256 * 1024 * 1024;
/// Descriptors: the standard ones, the credential, a CA file and a directory, and a few to spare.
const DESCRIPTORS: u64 = 16;
/// Bytes that may be written to a file when the verdict of a by-hand run is redirected into one.
const TEXT_FILE: u64 = 64 * 1024;

/// Which step of the confinement failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfineError {
    /// A resource limit.
    #[error("a resource limit cannot be set: {0}")]
    Limit(#[source] io::Error),
    /// The process attributes.
    #[error("the process attributes cannot be set: {0}")]
    Attribute(#[source] io::Error),
    /// The filter does not compile.
    #[error("the system call filter cannot be made: {0}")]
    Build(#[from] BackendError),
    /// The kernel refuses the filter.
    #[error("the system call filter cannot be installed: {0}")]
    Install(#[from] seccompiler::Error),
}

/// What stays possible. Made ahead, because compiling the filters takes longer than a verification.
#[derive(Debug)]
pub(crate) struct Confinement {
    file_size: u64,
    filter: BpfProgram,
}

impl Confinement {
    /// Answers go to the socket that is descriptor 0.
    ///
    /// # Errors
    /// A filter that does not compile.
    pub(crate) fn for_broker() -> Result<Self, ConfineError> {
        Self::new(libc::STDIN_FILENO, 0)
    }

    /// The verdict is printed.
    ///
    /// # Errors
    /// A filter that does not compile.
    pub(crate) fn by_hand() -> Result<Self, ConfineError> {
        Self::new(libc::STDOUT_FILENO, TEXT_FILE)
    }

    /// `output`: what may be written to, beside standard error.
    fn new(output: RawFd, file_size: u64) -> Result<Self, ConfineError> {
        let arch = std::env::consts::ARCH.try_into()?;
        let filter = |rules, otherwise, matched| -> Result<BpfProgram, BackendError> {
            SeccompFilter::new(rules, otherwise, matched, arch)?.try_into()
        };
        let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let allowed = filter(allowed(output)?, refuse.clone(), SeccompAction::Allow)?;
        let deadly = filter(deadly(), refuse, SeccompAction::KillProcess)?;
        Ok(Self {
            file_size,
            filter: one_after_another(allowed, deadly),
        })
    }

    /// Confines this process for good. Also sets no_new_privs.
    ///
    /// # Errors
    /// Any step that fails; then the process must not read a credential.
    pub(crate) fn apply(&self) -> Result<(), ConfineError> {
        for (resource, limit) in [
            (libc::RLIMIT_CORE, 0),
            (libc::RLIMIT_CPU, CPU_SECONDS),
            (libc::RLIMIT_AS, ADDRESS_SPACE),
            (libc::RLIMIT_FSIZE, self.file_size),
            (libc::RLIMIT_NOFILE, DESCRIPTORS),
            (libc::RLIMIT_NPROC, 0),
        ] {
            sys::limit(resource, limit).map_err(ConfineError::Limit)?;
        }
        sys::harden().map_err(ConfineError::Attribute)?;
        seccompiler::apply_filter(&self.filter)?;
        Ok(())
    }
}

/// A filter that asks the second where the first has no rule. One that is installed costs the kernel less than two. What
/// a filter does with calls of which it has no rule is its last instruction, and jumps lead forward only.
fn one_after_another(mut first: BpfProgram, second: BpfProgram) -> BpfProgram {
    first.pop();
    first.extend(second);
    first
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn allowed(output: RawFd) -> Result<Rules, BackendError> {
    let mut rules: Rules = ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
    let no_execute = |index| masked(index, libc::PROT_EXEC.unsigned_abs().into(), 0);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![SeccompRule::new(vec![no_execute(2)?])?]);
    }
    // Files may be opened for reading, never made, cut or written.
    let writing = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
    let read_only = masked(2, writing.unsigned_abs().into(), 0)?;
    rules.insert(libc::SYS_openat, vec![SeccompRule::new(vec![read_only])?]);
    let mut writes = Vec::new();
    for descriptor in [output, libc::STDERR_FILENO] {
        let same = SeccompCondition::new(
            0,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            descriptor.unsigned_abs().into(),
        )?;
        writes.push(SeccompRule::new(vec![same])?);
    }
    rules.insert(libc::SYS_sendto, writes.clone());
    rules.insert(libc::SYS_write, writes);
    Ok(rules)
}

fn masked(index: u8, mask: u64, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(
        index,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(mask),
        value,
    )
}

/// Calls that are harmless whatever their arguments.
const ALWAYS: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getdents64,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_newfstatat,
    // What the C library makes of `poll`, by architecture.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_setitimer,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
];

/// Calls nothing in this program makes: an attempt is an attack, and the end.
fn deadly() -> Rules {
    let mut calls = vec![
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_sendmsg,
        libc::SYS_sendmmsg,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_pidfd_send_signal,
        libc::SYS_setuid,
        libc::SYS_setresuid,
        libc::SYS_setreuid,
        libc::SYS_setgid,
        libc::SYS_setresgid,
        libc::SYS_setregid,
        libc::SYS_setgroups,
        libc::SYS_capset,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_chroot,
        libc::SYS_pivot_root,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_kexec_load,
        libc::SYS_open_by_handle_at,
        libc::SYS_unlinkat,
        libc::SYS_renameat2,
        libc::SYS_linkat,
        libc::SYS_symlinkat,
        libc::SYS_mkdirat,
        libc::SYS_fchmodat,
        libc::SYS_fchownat,
        libc::SYS_truncate,
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_unlink,
        libc::SYS_rename,
    ]);
    calls.into_iter().map(|call| (call, Vec::new())).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::Confinement;

    const ACTION: &str = "SAILPLANE_TEST_CONFINED_ACTION";

    /// Not a test by itself: what `run` starts in a process of its own.
    #[test]
    fn confined_child() {
        let Some(action) = std::env::var_os(ACTION) else {
            return;
        };
        Confinement::by_hand().unwrap().apply().unwrap();
        let refused = |result: std::io::Result<()>| {
            assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
        };
        match action.to_str().unwrap() {
            "read" => assert!(fs::read("/proc/self/status").is_ok()),
            "list" => assert!(fs::read_dir("/").unwrap().count() > 0),
            "create" => refused(File::create("/tmp/sailplane-verify-must-not-exist").map(drop)),
            "append" => {
                refused(File::options().append(true).open("/dev/null").map(drop));
            }
            "remove" => refused(fs::remove_dir("/nonexistent")),
            "connect" => drop(std::net::TcpStream::connect("127.0.0.1:1")),
            "listen" => drop(std::os::unix::net::UnixListener::bind("/tmp/never")),
            "exec" => drop(Command::new("/bin/true").status()),
            "thread" => drop(std::thread::spawn(|| ()).join()),
            other => panic!("unknown action {other}"),
        }
    }

    fn run(action: &str) -> std::process::ExitStatus {
        let program = std::env::current_exe().unwrap();
        Command::new(program)
            .args([
                "--exact",
                "confine::tests::confined_child",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(ACTION, action)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap()
    }

    #[test]
    fn reading_works_and_changing_files_is_refused() {
        for action in ["read", "list", "create", "append", "remove"] {
            let status = run(action);
            assert!(status.success(), "{action}: {status}");
        }
    }

    #[test]
    fn network_programs_and_processes_are_deadly() {
        for action in ["connect", "listen", "exec", "thread"] {
            assert_eq!(run(action).signal(), Some(libc::SIGSYS), "{action}");
        }
    }
}
