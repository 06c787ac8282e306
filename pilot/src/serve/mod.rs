//! The command port: takes connections from schedds and shadows and passes what they say to the slots' task.
//!
//! Sessions of claims are always served: a peer shows by the session that it was given the claim id, and may then use
//! the commands of that one claim (protocol page 01, section 6.3). Other peers are served where the configuration says
//! who may do what and gives them a way to prove who they are (`door`); where it does not, nothing such a peer does is
//! logged above debug.

pub mod address;
mod administer;
mod ca;
mod commands;
mod door;
mod renewal;

pub(crate) use commands::UPDATE_GSI_CRED;
pub(crate) use door::server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cedar::net::{Reversed, Server};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::slot::StartdHandle;

/// Most connections at a time that are not yet a job's. More wait in the kernel's queue.
const CONNECTIONS: usize = 512;

/// Pause after the kernel could not accept a connection, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The command port.
#[derive(Debug)]
pub struct Port {
    /// Where connections come in.
    pub listener: TcpListener,
    /// Connections that were made to peers who cannot make them to us. They are served like all others: who speaks at
    /// their other ends has to prove it there.
    pub reversed: mpsc::Receiver<Reversed>,
    /// Does the handshakes.
    pub server: Arc<Server>,
    /// Who answers.
    pub startd: StartdHandle,
    /// Closes the port.
    pub stop: CancellationToken,
}

impl Port {
    /// Serves until told to stop. Connections in progress are then dropped.
    pub async fn run(mut self) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut tasks = JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(Reversed { tcp, peer }) = self.reversed.recv() => Ok((tcp, peer)),
                () = self.stop.cancelled() => return,
            };
            while tasks.try_join_next().is_some() {}
            match accepted {
                Ok((tcp, peer)) => {
                    let (server, startd) = (Arc::clone(&self.server), self.startd.clone());
                    tasks.spawn(async move {
                        connection(server, startd, tcp, peer).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("cannot accept connections on the command port: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn connection(server: Arc<Server>, startd: StartdHandle, tcp: TcpStream, peer: SocketAddr) {
    match server.accept(tcp, peer).await {
        Ok(incoming) => {
            let command = incoming.command;
            if let Err(error) = commands::serve(&startd, incoming).await {
                tracing::debug!(%peer, command, "a command failed: {error}");
            }
        }
        Err(error) => tracing::debug!(%peer, "turned a connection away: {error}"),
    }
}
