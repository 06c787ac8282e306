//! Registrations at CCB servers, and the connections that are made for them (protocol 01 section 8).
//!
//! One task a broker: it keeps the connection, answers requests by connecting to who asked, and hands the sockets on, to be
//! served as if they had been accepted.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use classad::ClassAd;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::client::{Client, within};
use super::error::{Error, ErrorKind, chain};
use super::keepalive::keep_alive;
use super::stream::{Stream, WriteHalf};
use crate::ccb::{
    self, BrokerError, Contact, Due, Heard, HelloError, Place, Registration, Report, Request,
    RequestError, Settings,
};
use crate::entropy::{Entropy, Purpose, SystemEntropy};
use crate::wire::WireError;
use crate::{Sinful, ad_wire, command};

/// How long the making of one reversed connection may take.
const DIAL: Duration = Duration::from_secs(20);

/// A connection that we made for a broker: the peer speaks first on it, as on one that was accepted.
#[derive(Debug)]
pub struct Reversed {
    /// The connection; nothing was read from it.
    pub tcp: TcpStream,
    /// The address it was made to.
    pub peer: SocketAddr,
}

/// How things stand with one broker.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Where the broker can be asked for us; kept while the connection to it is down.
    pub contact: Option<Contact>,
    /// Whether the broker passes requests on to us now.
    pub up: bool,
    /// How often registering failed, or the connection was lost.
    pub failures: u64,
    /// The last failure, as one sentence with its causes.
    pub last_error: Option<String>,
}

/// Registrations at one or several brokers. They end when this is dropped.
#[derive(Debug)]
pub struct Registrations {
    standings: watch::Receiver<Vec<Standing>>,
    _tasks: JoinSet<()>,
}

/// The connection to a broker failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// The connection or its handshake.
    #[error(transparent)]
    Net(#[from] Error),
    /// The broker does not keep to the protocol, or refuses us.
    #[error("{broker}: {error}")]
    Broker {
        /// Its address.
        broker: Sinful,
        /// What it did.
        error: BrokerError,
    },
    /// A message of it is no ad.
    #[error("{broker}: a message of the CCB server cannot be read")]
    Message {
        /// Its address.
        broker: Sinful,
        /// What is wrong with it.
        source: WireError,
    },
}

/// No reversed connection could be made.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("cannot connect to {peer}")]
    Connect { peer: SocketAddr, source: ErrorKind },
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error("nobody serves reversed connections any more")]
    Closed,
}

impl Registrations {
    /// Registers at each of `brokers`, and goes on doing so until dropped. `client` proves who we are; reversed connections
    /// come out of `connections`, and when nobody takes them in time they are closed.
    ///
    /// Must be called within a tokio runtime.
    pub fn start(
        client: &Client,
        brokers: &[Sinful],
        settings: &Settings,
        connections: &mpsc::Sender<Reversed>,
    ) -> Self {
        let (known, standings) = watch::channel(vec![Standing::default(); brokers.len()]);
        let known = Arc::new(known);
        let mut tasks = JoinSet::new();
        for (index, broker) in brokers.iter().enumerate() {
            let keeper = Keeper {
                client: client.clone(),
                broker: broker.clone(),
                registration: Registration::new(settings.clone()),
                began: Instant::now(),
                connections: connections.clone(),
                known: Arc::clone(&known),
                index,
                dials: JoinSet::new(),
            };
            tasks.spawn(keeper.run());
        }
        Self {
            standings,
            _tasks: tasks,
        }
    }

    /// How things stand, in the order of the brokers; tells also of changes.
    pub fn standings(&self) -> watch::Receiver<Vec<Standing>> {
        self.standings.clone()
    }
}

/// The value of `CCBID` in our address, by how things stand; `None` while no broker knows us.
pub fn contacts(standings: &[Standing]) -> Option<String> {
    ccb::contacts(standings.iter().filter_map(|one| one.contact.as_ref()))
}

/// How a connection that a broker asked for came out.
type Dialled = (Box<Request>, Report);

/// The task of one broker.
struct Keeper {
    client: Client,
    broker: Sinful,
    registration: Registration,
    began: Instant,
    connections: mpsc::Sender<Reversed>,
    known: Arc<watch::Sender<Vec<Standing>>>,
    index: usize,
    /// Outlast the connection on which they were asked for.
    dials: JoinSet<Dialled>,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            let error = match self.connect().await {
                Ok(stream) => match self.serve(stream).await {
                    Ok(never) => match never {},
                    Err(error) => error,
                },
                Err(error) => error.into(),
            };
            let wait = self.registration.lost(random());
            let text = chain(&error);
            tracing::warn!(broker = %self.broker, retry_in = ?wait, "not registered at the CCB server: {text}");
            self.tell(Some(text));
            self.pause(wait).await;
        }
    }

    /// Waits; connections that are being made meanwhile go on.
    async fn pause(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                Some(done) = self.dials.join_next() => {
                    // The broker that asked has gone.
                    self.dialled(done);
                }
            }
        }
    }

    /// A session of its own: one that the broker has forgotten, because it was restarted, would be found out only after a
    /// while, and others wait for it.
    async fn connect(&self) -> Result<Stream, Error> {
        let register = command::CCB_REGISTER;
        self.client
            .start_command_afresh(&self.broker, register)
            .await
    }

    /// Runs one connection to its end.
    async fn serve(&mut self, mut stream: Stream) -> Result<Infallible, RegistrationError> {
        let place = Place {
            peer: stream.peer_addr().ip(),
            local: stream.local_addr().ip(),
        };
        stream.set_max_message(ccb::MAX_MESSAGE);
        // Whole messages may be far apart; silence is looked after by the registration.
        stream.set_read_timeout(None);
        let user = stream.our_user().map(str::to_owned);
        let (mut read, mut write) = stream.into_split();
        let ad = self.registration.connected(self.now(), place);
        send(&mut write, &ad).await?;
        loop {
            let due = self.registration.due().map(|due| self.began + due);
            tokio::select! {
                message = read.recv() => {
                    let message = message?;
                    let ad = message.reader().ad().map_err(|source| RegistrationError::Message {
                        broker: self.broker.clone(),
                        source,
                    })?;
                    let heard = self.registration.heard(self.now(), &ad);
                    match heard.map_err(|error| self.broken(error))? {
                        Heard::Nothing => {}
                        Heard::Registered { changed } => {
                            tracing::info!(
                                broker = %self.broker,
                                contact = self.registration.contact().map(Contact::as_str),
                                changed,
                                as_user = user,
                                "registered at the CCB server"
                            );
                            self.tell(None);
                        }
                        Heard::Dial(request) => self.dial(request, place),
                        Heard::Refuse { report, why } => {
                            tracing::debug!(broker = %self.broker, "no reversed connection: {why}");
                            send(&mut write, &report).await?;
                        }
                        Heard::Ignored(what) => {
                            tracing::debug!(broker = %self.broker, "passed over: {what}");
                        }
                    }
                }
                Some(done) = self.dials.join_next() => {
                    if let Some(ad) = self.dialled(done) {
                        send(&mut write, &ad).await?;
                    }
                }
                () = reached(due) => {
                    let due = self.registration.tick(self.now());
                    if let Due::Heartbeat(ad) = due.map_err(|error| self.broken(error))? {
                        send(&mut write, &ad).await?;
                    }
                }
            }
        }
    }

    fn dial(&mut self, request: Box<Request>, place: Place) {
        let connections = self.connections.clone();
        let client = self.client.config().subsystem.clone();
        let broker = self.broker.clone();
        self.dials.spawn(async move {
            let made = tokio::time::timeout(DIAL, reverse(&request, place, &client, &connections));
            let report = match made.await {
                Ok(made) => made.map_err(|error| chain(&error)),
                Err(_) => Err(format!("no connection within {} s", DIAL.as_secs())),
            };
            let peer = request.name();
            match &report {
                Ok(()) => tracing::debug!(%broker, peer, "made a reversed connection"),
                Err(why) => {
                    tracing::info!(%broker, peer, "could not make a reversed connection: {why}")
                }
            }
            (request, report)
        });
    }

    /// What to tell the broker of a connection that was made, or not.
    fn dialled(&mut self, done: Result<Dialled, JoinError>) -> Option<ClassAd> {
        match done {
            Ok((request, report)) => self.registration.finished(&request, &report),
            // A task that panicked; the peer runs into its time limit.
            Err(_) => {
                self.registration.abandoned();
                None
            }
        }
    }

    fn tell(&self, error: Option<String>) {
        self.known.send_modify(|standings| {
            let Some(standing) = standings.get_mut(self.index) else {
                return;
            };
            standing.contact = self.registration.contact().cloned();
            standing.up = self.registration.is_up();
            if error.is_some() {
                standing.failures += 1;
                standing.last_error = error;
            }
        });
    }

    fn broken(&self, error: BrokerError) -> RegistrationError {
        RegistrationError::Broker {
            broker: self.broker.clone(),
            error,
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Makes a reversed connection and hands it on.
async fn reverse(
    request: &Request,
    place: Place,
    client: &str,
    connections: &mpsc::Sender<Reversed>,
) -> Result<(), DialError> {
    let (target, peer) = request.target(place)?;
    let hello = request.hello(&target, client)?;
    let fail = |source: ErrorKind| DialError::Connect { peer, source };
    let mut tcp = within(DIAL, TcpStream::connect(peer)).await.map_err(fail)?;
    let io = |error| fail(ErrorKind::Io(error));
    tcp.set_nodelay(true).map_err(io)?;
    keep_alive(&tcp).map_err(io)?;
    let place = connections.reserve().await.map_err(|_| DialError::Closed)?;
    tcp.write_all(&hello).await.map_err(io)?;
    place.send(Reversed { tcp, peer });
    Ok(())
}

/// Cookie and connect ids have come on this very connection. Without them the broker takes an answer for an attack, so that
/// they go back on it even where the pool has no encryption.
async fn send(write: &mut WriteHalf, ad: &ClassAd) -> Result<(), Error> {
    let mut message = write.message();
    ad_wire::write(&mut message, ad, true);
    write.send(message).await
}

/// Never completes without a time.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A number that spreads pauses; 0 from a generator that fails is as good.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let _ = SystemEntropy.fill(Purpose::Name, &mut bytes);
    u64::from_le_bytes(bytes)
}
