//! Our own way to submit.

use cedar::net::Incoming;
use classad::ClassAd;

use super::Unserved;
use crate::queue::{Queue, SubmitError};

/// Largest submission, in bytes of its message.
const MAX_MESSAGE: usize = 64 << 20;

pub(super) async fn serve(queue: &Queue, incoming: &mut Incoming) -> Result<(), Unserved> {
    incoming.stream.set_max_message(MAX_MESSAGE);
    let mut message = incoming.stream.recv().await?;
    let wants_number = message.reader().ad()?.bool("Reserve") == Some(true);
    let mut reserved = None;
    if wants_number {
        let answer = match queue.reserve_cluster() {
            Ok(number) => {
                reserved = Some(number);
                done(number)
            }
            Err(error) => refused(&error),
        };
        let mut reply = incoming.stream.message();
        reply.ad(&answer);
        incoming.stream.send(reply).await?;
        if reserved.is_none() {
            return Ok(());
        }
        message = incoming.stream.recv().await?;
    }
    let most = queue.inner.config.max_jobs_per_submission;
    let (cluster, procs) = {
        let mut reader = message.reader();
        let _header = reader.ad()?;
        let cluster = reader.ad()?;
        let count = reader.int32()?;
        let mut procs = Vec::new();
        // What is above the limit is not read; the queue then says that it is too much.
        for _ in 0..usize::try_from(count)
            .unwrap_or(0)
            .min(most.saturating_add(1))
        {
            procs.push(reader.ad()?);
        }
        if procs.len() <= most {
            reader.expect_end()?;
        }
        (cluster, procs)
    };
    drop(message);
    let count = procs.len();
    let submitted = queue
        .submit_as(&incoming.peer, reserved, cluster, procs)
        .await;
    let answer = match submitted {
        Ok(cluster) => {
            tracing::info!(cluster, jobs = count, user = %incoming.peer.user, "submitted");
            done(cluster)
        }
        Err(error) => refused(&error),
    };
    let mut message = incoming.stream.message();
    message.ad(&answer);
    Ok(incoming.stream.send(message).await?)
}

fn done(cluster: i32) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("Result", 0);
    ad.insert("ClusterId", cluster);
    ad
}

fn refused(error: &SubmitError) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("Result", 1);
    ad.insert("ErrorCode", error.code());
    ad.insert("ErrorString", error.to_string());
    ad
}
