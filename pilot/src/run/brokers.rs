//! The pilot's registrations at brokers of connections (CCB), and the address that follows from them.
//!
//! They begin while the node is checked, like the links, because the address that the brokers give is in every ad and every
//! claim id. A broker that is late, or gives another number after a restart, changes the address of a pilot that is
//! at work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cedar::ccb::{MAX_DIALS, Settings};
use cedar::net::{Client, Registrations, Reversed, Standing, contacts};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{StartError, assemble};
use crate::advertise::offer::Identity;
use crate::knobs::Ccb;
use crate::slot::{Order, StartdHandle};

/// Reversed connections that may wait for the command port.
const WAITING: usize = 64;

/// How long the first ads wait for brokers that do not answer.
const FIRST_ANSWERS: Duration = Duration::from_secs(20);

/// The registrations.
#[derive(Debug)]
pub(super) struct Brokers {
    place: SocketAddr,
    client: Client,
    identity: Arc<Identity>,
    connections: mpsc::Sender<Reversed>,
    knobs: Ccb,
    registrations: Option<Registrations>,
}

impl Brokers {
    /// None yet. `place` is where the command port is; the connections that are made come out of the receiver.
    pub(super) fn new(
        place: SocketAddr,
        client: Client,
        identity: Arc<Identity>,
    ) -> (Self, mpsc::Receiver<Reversed>) {
        let (connections, receiver) = mpsc::channel(WAITING);
        let brokers = Self {
            place,
            client,
            identity,
            connections,
            knobs: Ccb::default(),
            registrations: None,
        };
        (brokers, receiver)
    }

    /// Registers as `knobs` want it. Nothing happens if they want what was wanted before.
    pub(super) fn register(&mut self, knobs: &Ccb) {
        if self.knobs == *knobs {
            return;
        }
        self.knobs = knobs.clone();
        let settings = Settings {
            name: format!("STARTD {}", self.identity.startd_name),
            heartbeat: knobs.heartbeat,
            reconnect: knobs.reconnect,
            max_dials: MAX_DIALS,
        };
        self.registrations = (!knobs.brokers.is_empty()).then(|| {
            Registrations::start(&self.client, &knobs.brokers, &settings, &self.connections)
        });
    }

    /// Waits until it is known under which address the pilot can be reached, within limits, and publishes it.
    ///
    /// # Errors
    /// [`StartError::NoBroker`] if there has to be a broker and is none.
    pub(super) async fn settle(&self) -> Result<(), StartError> {
        let Some(mut standings) = self.standings() else {
            self.publish(&[]);
            return Ok(());
        };
        let is_up = |known: &[Standing]| known.iter().any(|one| one.up);
        let limit = if self.knobs.required {
            let up = standings.wait_for(|known| is_up(known));
            // At the end of the time things stand as they do.
            let _ = timeout(self.knobs.timeout, up).await;
            Duration::ZERO
        } else {
            FIRST_ANSWERS
        };
        let answered = |known: &Vec<Standing>| known.iter().all(|one| one.up || one.failures > 0);
        let _ = timeout(limit, standings.wait_for(answered)).await;
        let known = standings.borrow().clone();
        self.publish(&known);
        if is_up(&known) {
            return Ok(());
        }
        let why = known
            .into_iter()
            .find_map(|one| one.last_error)
            .unwrap_or_else(|| "no answer in time".to_owned());
        if self.knobs.required {
            return Err(StartError::NoBroker { why });
        }
        tracing::warn!(
            "no CCB server of CCB_ADDRESS has registered the pilot so far, so that its slots can be used only by who reaches its \
             command port: {why}"
        );
        Ok(())
    }

    /// Publishes every change of the address from now on.
    pub(super) fn follow(self, startd: StartdHandle) -> JoinSet<()> {
        let mut follower = JoinSet::new();
        if let Some(mut standings) = self.standings() {
            follower.spawn(async move {
                loop {
                    let known = standings.borrow_and_update().clone();
                    if self.publish(&known) {
                        tracing::info!(address = %self.identity.address, "the pilot's address has changed");
                        startd.order(Order::Moved).await;
                    }
                    // The sender lives as long as the registrations, which are ours.
                    if standings.changed().await.is_err() {
                        return;
                    }
                }
            });
        }
        follower
    }

    fn standings(&self) -> Option<watch::Receiver<Vec<Standing>>> {
        self.registrations.as_ref().map(Registrations::standings)
    }

    /// True if the address is another one now.
    fn publish(&self, known: &[Standing]) -> bool {
        let contacts = contacts(known);
        let network = self.knobs.private_network.as_deref();
        let host = &self.identity.machine;
        let address = assemble::address(self.place, host, network, contacts.as_deref());
        self.client.set_command_sock(address.clone());
        self.identity.address.set(address)
    }
}
