//! What goes on by itself, beside answering commands.

use std::sync::Arc;
use std::time::Duration;

use cedar::security::SslServer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Pool;

/// How often the ads of the queue are renewed in our own collector, at most.
const ADS: Duration = Duration::from_secs(2);

/// How often what users have used is written down, so that fair share outlives the process.
const ACCOUNTS: Duration = Duration::from_secs(60);

/// How often spooled files of jobs that are gone are looked for.
const SWEEP: Duration = Duration::from_secs(3600);

/// How often renewed certificates are looked for.
const CERTIFICATES: Duration = Duration::from_secs(3600);

/// The name under which that is kept.
const ACCOUNTANT: &str = "accountant";

/// How often jobs' periodic expressions are looked at (`PERIODIC_EXPR_INTERVAL` of HTCondor is a minute).
const TICK: Duration = Duration::from_secs(5);

/// Starts everything; it ends when `cancel` says so.
pub(super) fn start(pool: &Pool, tasks: &TaskTracker, cancel: &CancellationToken) {
    if let Some(accounts) = pool.queue.recall(ACCOUNTANT) {
        pool.negotiator.restore(&accounts);
    }
    let negotiator = pool.negotiator.clone();
    let (collector, queue, schedd) = (
        pool.collector.clone(),
        pool.queue.clone(),
        pool.schedd.clone(),
    );
    let stop = cancel.clone();
    tasks.spawn(async move {
        negotiator
            .run(collector, Arc::new(queue), Arc::new(schedd), stop)
            .await;
    });
    let (schedd, stop) = (pool.schedd.clone(), cancel.clone());
    tasks.spawn(async move { schedd.run(stop).await });
    tasks.spawn(until(cancel.clone(), kicks(pool.clone())));
    tasks.spawn(until(cancel.clone(), ads(pool.clone())));
    tasks.spawn(until(cancel.clone(), ticks(pool.clone())));
    tasks.spawn(until(cancel.clone(), accounts(pool.clone())));
    tasks.spawn(until(cancel.clone(), sweeps(pool.clone())));
}

pub(super) async fn until(cancel: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = cancel.cancelled() => {}
    }
}

/// New jobs and new slots are worth a cycle of the negotiator.
async fn kicks(pool: Pool) {
    let (jobs, slots) = (pool.queue.changed(), pool.collector.changed());
    loop {
        tokio::select! {
            () = jobs.notified() => {}
            () = slots.notified() => {}
        }
        pool.negotiator.kick();
    }
}

async fn ads(pool: Pool) {
    loop {
        for ad in pool.queue.ads() {
            pool.collector.advertise(ad);
        }
        tokio::time::sleep(ADS).await;
    }
}

async fn ticks(pool: Pool) {
    loop {
        tokio::time::sleep(TICK).await;
        pool.queue.tick().await;
    }
}

/// Reads the server's certificate, key and trust anchors again, so that renewed ones need no restart.
pub(super) async fn renew_certificates(ssl: Arc<SslServer>) {
    loop {
        tokio::time::sleep(CERTIFICATES).await;
        let ssl = Arc::clone(&ssl);
        match tokio::task::spawn_blocking(move || ssl.reload()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the SSL files could not be read again; the old ones stay in use");
            }
            Err(error) => tracing::warn!(%error, "reading the SSL files failed"),
        }
    }
}

async fn accounts(pool: Pool) {
    loop {
        tokio::time::sleep(ACCOUNTS).await;
        pool.queue.remember(ACCOUNTANT, &pool.negotiator.accounts());
    }
}

/// Spooled files of jobs that left the queue while they were not running, or while the pool was dead.
async fn sweeps(pool: Pool) {
    loop {
        let queue = pool.queue.clone();
        pool.transfers
            .sweep_spool(|job| queue.status(job).is_some())
            .await;
        tokio::time::sleep(SWEEP).await;
    }
}
