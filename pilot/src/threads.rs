//! The runtime, started only where its threads can be: it panics otherwise, and so do libraries that count on it.

use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::runtime::{Builder, Runtime};

/// Threads beside the workers: what blocks has some of its own.
const BESIDE: usize = 2;

/// The limit of processes is too low for the pilot itself.
#[derive(Debug, thiserror::Error)]
#[error("the pilot cannot start the {threads} threads that it needs")]
pub struct NoThreads {
    threads: usize,
    #[source]
    source: io::Error,
}

impl NoThreads {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        "raise the limit of processes for the batch system's jobs (ulimit -u, pids.max), or look for processes of the account \
         that earlier jobs left behind"
    }
}

/// A runtime with so many workers.
///
/// # Errors
/// [`NoThreads`].
pub fn runtime(workers: usize) -> Result<Runtime, NoThreads> {
    let threads = workers.saturating_add(BESIDE);
    let failed = |source| NoThreads { threads, source };
    try_out(threads).map_err(failed)?;
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(failed)
}

/// A runtime in this thread alone.
///
/// # Errors
/// [`NoThreads`].
pub fn small_runtime() -> Result<Runtime, NoThreads> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| NoThreads { threads: 1, source })
}

/// Has so many threads at the same time, for a moment.
fn try_out(count: usize) -> io::Result<()> {
    let mut running = Vec::new();
    let mut result = Ok(());
    for _ in 0..count {
        let (hold, held) = mpsc::channel::<()>();
        match thread::Builder::new().spawn(move || held.recv().is_ok()) {
            Ok(thread) => running.push((hold, thread)),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    for (hold, thread) in running {
        drop(hold);
        // It does nothing that could go wrong.
        let _ = thread.join();
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_threads_here() {
        let runtime = runtime(2).unwrap();
        assert_eq!(runtime.block_on(async { 7 }), 7);
        assert_eq!(small_runtime().unwrap().block_on(async { 8 }), 8);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = NoThreads {
            threads: 4,
            source: io::Error::from_raw_os_error(libc::EAGAIN),
        };
        assert!(error.to_string().contains("4 threads") && error.hint().contains("ulimit -u"));
    }
}
