//! A renewed proxy for a running job, as the shadow brings it: copied (487) or delegated (500). Protocol page 03,
//! section 9.

use std::time::Duration;

use cedar::net::Stream;
use cedar::wire::MessageReader;
use credential::{DelegationError, DelegationRequest};
use launch_protocol::MAX_CREDENTIAL;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::commands::ServeError;
use crate::job::{Renewal, Wish};
use crate::slot::StartdHandle;

/// Largest file that is read only to be refused: the answer must not be lost to a connection closed over unread data.
const PROXY_LIMIT: usize = 1 << 20;

/// How long the job may take. The shadow waits a minute.
const JOB: Duration = Duration::from_secs(40);

/// Takes a copied proxy. `None`: the connection is of no use any more.
pub(super) async fn copied(
    startd: &StartdHandle,
    session: &str,
    mut reader: MessageReader<'_>,
    mut stream: Stream,
) -> Result<Option<Stream>, ServeError> {
    let size = usize::try_from(reader.int()?).unwrap_or(usize::MAX);
    if size > PROXY_LIMIT {
        return Ok(None);
    }
    let mut credential = Zeroizing::new(Vec::with_capacity(size));
    while credential.len() < size {
        let part = stream.recv().await?;
        let room = size - credential.len();
        credential.extend_from_slice(part.body().get(..room).unwrap_or_else(|| part.body()));
    }
    let renewal = if credential.len() > MAX_CREDENTIAL {
        Renewal::Refused
    } else {
        renew(startd, session, credential).await
    };
    answer(&mut stream, renewal).await?;
    Ok(Some(stream))
}

/// Has a proxy delegated: the key is made here and never leaves.
pub(super) async fn delegated(
    startd: &StartdHandle,
    session: &str,
    mut stream: Stream,
) -> Result<(), ServeError> {
    let made = tokio::task::spawn_blocking(DelegationRequest::generate).await;
    let Ok(request) = made else {
        return Ok(());
    };
    let request = request?;
    let mut message = stream.message();
    message
        .int(i64::try_from(request.csr_der().len()).unwrap_or(0))
        .bytes(request.csr_der());
    stream.send(message).await?;
    let reply = stream.recv().await?;
    let mut reader = reply.reader();
    let size = usize::try_from(reader.int()?).unwrap_or(usize::MAX);
    if size == 0 || size > MAX_CREDENTIAL {
        return Ok(());
    }
    let proxy = request.accept(reader.bytes(size)?);
    let renewal = match proxy {
        Ok(proxy) => renew(startd, session, Zeroizing::new(proxy.as_bytes().to_vec())).await,
        Err(error) => {
            tell(&error);
            Renewal::Refused
        }
    };
    answer(&mut stream, renewal).await
}

async fn renew(startd: &StartdHandle, session: &str, credential: Zeroizing<Vec<u8>>) -> Renewal {
    let (answer, outcome) = oneshot::channel();
    startd
        .wish(session.to_owned(), Wish::Renew { credential, answer })
        .await;
    match tokio::time::timeout(JOB, outcome).await {
        Ok(Ok(renewal)) => renewal,
        // The job does not run yet, or any more, or hangs: the shadow comes again.
        Ok(Err(_)) | Err(_) => Renewal::Refused,
    }
}

async fn answer(stream: &mut Stream, renewal: Renewal) -> Result<(), ServeError> {
    let mut reply = stream.message();
    reply.int(renewal.code());
    stream.send(reply).await?;
    Ok(())
}

fn tell(error: &DelegationError) {
    tracing::warn!(
        error = crate::blame::chain(error),
        "a renewed proxy was not delegated well"
    );
}
