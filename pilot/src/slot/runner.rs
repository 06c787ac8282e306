//! What runs an activated job, as far as the slot is concerned: a function, so that the slot can be tested without
//! jobs, and so that the helper beneath the jobs can be replaced while the slots live on.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::job::{self, Activation, JobEnd, JobProgress, JobServices, StopOrder};

type Running = Pin<Box<dyn Future<Output = JobEnd> + Send>>;
type Start = dyn Fn(Activation, mpsc::Receiver<StopOrder>, watch::Sender<JobProgress>) -> Running
    + Send
    + Sync;

/// Starts jobs. Clones start them in the same way.
#[derive(Clone)]
pub struct JobRunner(Arc<Start>);

impl JobRunner {
    /// A runner that calls `start` for each activation.
    pub fn new<S, F>(start: S) -> Self
    where
        S: Fn(Activation, mpsc::Receiver<StopOrder>, watch::Sender<JobProgress>) -> F
            + Send
            + Sync
            + 'static,
        F: Future<Output = JobEnd> + Send + 'static,
    {
        Self(Arc::new(move |activation, orders, progress| {
            Box::pin(start(activation, orders, progress))
        }))
    }

    /// The real one.
    #[must_use]
    pub fn with_services(services: JobServices) -> Self {
        Self::new(move |activation, orders, progress| {
            job::run(services.clone(), activation, orders, progress)
        })
    }

    /// Runs one job to its end.
    pub async fn run(
        &self,
        activation: Activation,
        orders: mpsc::Receiver<StopOrder>,
        progress: watch::Sender<JobProgress>,
    ) -> JobEnd {
        (self.0)(activation, orders, progress).await
    }
}

impl fmt::Debug for JobRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobRunner")
    }
}
