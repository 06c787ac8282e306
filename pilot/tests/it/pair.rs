//! A pilot's execute half with jobs that are played, and a submit side that speaks to it over the wire.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use cedar::claim::ClaimId;
use cedar::net::{Client, ClientConfig, Reversed, Server, ServerConfig, SessionCache, Stream};
use cedar::security::server::CommandTable;
use cedar::security::{EXECUTE_SIDE, Level};
use cedar::{Sinful, command};
use classad::{ClassAd, Expr};
use sailplane::advertise::board::{Board, BoardReader};
use sailplane::advertise::facts::NodeFacts;
use sailplane::advertise::offer::{Identity, Offer};
use sailplane::advertise::published::Published;
use sailplane::job::{Activation, JobEnd, JobProgress, StopOrder};
use sailplane::serve::Port;
use sailplane::slot::clock::Clock;
use sailplane::slot::event::Policy;
use sailplane::slot::eviction::Eviction;
use sailplane::slot::{
    Ending, JobRunner, Parts, Startd, StartdCommands, StartdConfig, StartdHandle,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use validation::engine::black_hole::Limits;

const WAIT: Duration = Duration::from_secs(10);

/// A job that was started: the test plays it.
pub(crate) struct Played {
    pub(crate) activation: Activation,
    pub(crate) orders: mpsc::Receiver<StopOrder>,
    pub(crate) progress: watch::Sender<JobProgress>,
    end: tokio::sync::oneshot::Sender<JobEnd>,
}

impl Played {
    pub(crate) fn end(self, end: JobEnd) {
        self.end.send(end).expect("the slot waits for its job");
    }
}

/// What a pilot in a test is made of.
pub(crate) struct Pilot {
    pub(crate) startd: StartdHandle,
    pub(crate) address: Sinful,
    /// The address in ads and claim ids.
    pub(crate) published: Published,
    /// Where connections are given to the command port that were made by the pilot.
    pub(crate) reversed: mpsc::Sender<Reversed>,
    pub(crate) ending: JoinHandle<Ending>,
    _board: BoardReader,
    jobs: mpsc::Receiver<Played>,
}

/// Settings that tests change.
pub(crate) struct Setup {
    pub(crate) start: &'static str,
    pub(crate) policy: Policy,
    pub(crate) noclaim: Option<Duration>,
    pub(crate) black_hole: Limits,
    pub(crate) eviction: Eviction,
}

/// So many failures that no test has them by chance.
pub(crate) const NO_HOLE: Limits = Limits {
    failures: 0,
    window: Duration::from_secs(600),
    pause: Duration::from_secs(300),
    times: 0,
};

impl Default for Setup {
    fn default() -> Self {
        Self {
            start: "true",
            policy: Policy::default(),
            noclaim: None,
            black_hole: NO_HOLE,
            eviction: Eviction::default(),
        }
    }
}

impl Pilot {
    pub(crate) async fn start(setup: Setup) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = Sinful::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port).no_udp();
        let published = Published::new(address.clone());
        let clock = Clock::start();
        let identity = Arc::new(Identity {
            startd_name: "test".to_owned(),
            machine: "test".to_owned(),
            address: published.clone(),
            started: clock.started(),
            condor_version: cedar::version::COMPATIBLE.banner("test"),
            condor_platform: "$CondorPlatform: X86_64-Test $".to_owned(),
        });
        let sessions = SessionCache::new();
        let client = Client::new(ClientConfig::new("STARTD", "test"), sessions.clone());
        let (startd, commands) = StartdCommands::channel();
        let (board, reader) = Board::new();
        let (started, jobs) = mpsc::channel(8);
        let runner = JobRunner::new(move |activation, orders, progress| {
            let started = started.clone();
            async move {
                let (end, ended) = tokio::sync::oneshot::channel();
                started
                    .send(Played {
                        activation,
                        orders,
                        progress,
                        end,
                    })
                    .await
                    .ok();
                ended.await.unwrap_or(JobEnd::Evicted)
            }
        });
        let zero = Expr::from(0_i64);
        let offer = Offer {
            slots: 1,
            cpus: 1,
            memory_mib: 1024,
            start: Expr::parse_old(setup.start).unwrap(),
            rank: zero.clone(),
            max_retirement: zero,
            max_vacate: Expr::from(600_i64),
            weight: Expr::parse_old("Cpus").unwrap(),
            uid_domain: "test".to_owned(),
            filesystem_domain: "test".to_owned(),
            collector_host: String::new(),
            disk_kib: None,
            reserved_disk_kib: 0,
            condition: None,
            facts: Vec::new(),
            accounts: std::collections::BTreeMap::new(),
            attributes: Vec::new(),
            slot_attributes: Default::default(),
            checks: Vec::new(),
        };
        let config = StartdConfig {
            policy: setup.policy,
            poll: Duration::from_millis(200),
            noclaim: setup.noclaim,
            shutdown_limit: Duration::from_secs(60),
            alives_missed: 6,
            execute: "/tmp".into(),
            black_hole: setup.black_hole,
            eviction: setup.eviction,
        };
        let table = [
            command::REQUEST_CLAIM,
            command::ACTIVATE_CLAIM,
            command::DEACTIVATE_CLAIM_FORCIBLY,
        ]
        .into_iter()
        .chain([
            command::DEACTIVATE_CLAIM,
            command::RELEASE_CLAIM,
            command::ALIVE,
            command::CA_CMD,
            command::SUSPEND_CLAIM,
            command::CONTINUE_CLAIM,
            command::DELEGATE_GSI_CRED_STARTER,
            487,
        ])
        .chain([command::QUERY_STARTD_ADS])
        .fold(CommandTable::new(), |table, number| {
            table.serve(number, Level::Daemon)
        });
        let server = Server::new(ServerConfig::for_sessions(
            sessions.clone(),
            Arc::new(table),
            "test",
        ))
        .unwrap();
        let parts = Parts {
            config,
            identity,
            offer,
            client,
            runner,
            sessions,
            board,
            clock,
            commands,
        };
        let slots = Startd::new(parts, &NodeFacts::probe()).unwrap();
        let (reversed, connections) = mpsc::channel(1);
        let port = Port {
            listener,
            reversed: connections,
            server: Arc::new(server),
            startd: startd.clone(),
            stop: CancellationToken::new(),
        };
        tokio::spawn(port.run());
        Self {
            startd,
            address,
            published,
            reversed,
            ending: tokio::spawn(slots.run()),
            _board: reader,
            jobs,
        }
    }

    /// The slot's public ad.
    pub(crate) async fn ad(&self) -> ClassAd {
        self.startd.slot_updates(vec![0]).await.remove(0).public
    }

    /// The claim id that the collector would be told now.
    pub(crate) async fn offered(&self) -> ClaimId {
        self.startd
            .slot_updates(vec![0])
            .await
            .remove(0)
            .claim
            .unwrap()
    }

    pub(crate) async fn state(&self) -> String {
        let ad = self.ad().await;
        format!(
            "{}/{}",
            ad.string("State").unwrap(),
            ad.string("Activity").unwrap()
        )
    }

    /// Waits until the slot shows this state.
    pub(crate) async fn reaches(&self, state: &str) {
        let reached = async {
            while self.state().await != state {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(WAIT, reached).await.is_err() {
            panic!("stayed {} and did not become {state}", self.state().await);
        }
    }

    pub(crate) async fn job(&mut self) -> Played {
        tokio::time::timeout(WAIT, self.jobs.recv())
            .await
            .expect("a job starts")
            .unwrap()
    }
}

/// A schedd and its shadows.
pub(crate) struct SubmitSide {
    client: Client,
    pilot: Sinful,
    pub(crate) claim: ClaimId,
    pub(crate) address: Sinful,
    heard: mpsc::Receiver<(i32, Stream)>,
}

impl SubmitSide {
    /// One that was given the pilot's present claim id by a negotiator.
    pub(crate) async fn matched(pilot: &Pilot) -> Self {
        let claim = pilot.offered().await;
        let sessions = SessionCache::new();
        sessions.register_claim(&claim, EXECUTE_SIDE).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = Sinful::new(
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            listener.local_addr().unwrap().port(),
        );
        let mut table = CommandTable::new().permit(Level::Daemon, EXECUTE_SIDE);
        table = table
            .serve(command::ALIVE, Level::Daemon)
            .serve(command::RELEASE_CLAIM, Level::Daemon);
        let server = Server::new(ServerConfig::for_sessions(
            sessions.clone(),
            Arc::new(table),
            "test",
        ))
        .unwrap();
        let (tell, heard) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((tcp, peer)) = listener.accept().await {
                if let Ok(incoming) = server.accept(tcp, peer).await {
                    tell.send((incoming.command, incoming.stream)).await.ok();
                }
            }
        });
        let client = Client::new(ClientConfig::new("SCHEDD", "test"), sessions);
        Self {
            client,
            pilot: pilot.address.clone(),
            claim,
            address,
            heard,
        }
    }

    /// The same, who finds the pilot elsewhere.
    pub(crate) fn through(mut self, address: Sinful) -> Self {
        self.pilot = address;
        self
    }

    pub(crate) async fn open(&self, command: i32) -> Result<Stream, cedar::net::Error> {
        self.client
            .start_command_in_session(&self.pilot, command, self.claim.session_id())
            .await
    }

    /// REQUEST_CLAIM; the integers of the answer up to the first that ends it, and the ad if there was one.
    pub(crate) async fn request(&self, job: &str) -> (i64, Option<ClassAd>) {
        let mut stream = self.open(command::REQUEST_CLAIM).await.unwrap();
        let mut message = stream.message();
        message
            .str(self.claim.as_str())
            .ad(&ClassAd::parse_old(job).unwrap());
        message.str(&self.address.to_string()).int(300).int(0);
        stream.send(message).await.unwrap();
        let answer = stream.recv().await.unwrap();
        let mut reader = answer.reader();
        let first = reader.int().unwrap();
        if first != 7 {
            reader.expect_end().unwrap();
            return (first, None);
        }
        assert_eq!(reader.str().unwrap(), self.claim.as_str());
        let ad = reader.ad().unwrap();
        (reader.int().unwrap(), Some(ad))
    }

    /// ACTIVATE_CLAIM; the answer, and the connection.
    pub(crate) async fn activate(&self, job: &str) -> (i64, Stream) {
        let mut stream = self.open(command::ACTIVATE_CLAIM).await.unwrap();
        let mut message = stream.message();
        message
            .str(self.claim.as_str())
            .int(2)
            .ad(&ClassAd::parse_old(job).unwrap());
        stream.send(message).await.unwrap();
        let answer = stream.recv().await.unwrap();
        (answer.reader().int().unwrap(), stream)
    }

    /// CA_CMD; the answer, and the connection.
    pub(crate) async fn classad_command(&self, ad: &ClassAd) -> (ClassAd, Stream) {
        let mut stream = self.open(command::CA_CMD).await.unwrap();
        let mut message = stream.message();
        message.ad(ad);
        stream.send(message).await.unwrap();
        let answer = stream.recv().await.unwrap().reader().ad().unwrap();
        (answer, stream)
    }

    /// 403 or 404; the `Start` of the answer.
    pub(crate) async fn deactivate(&self, command: i32) -> Option<bool> {
        let mut stream = self.open(command).await.ok()?;
        let mut message = stream.message();
        message.str(self.claim.as_str());
        stream.send(message).await.ok()?;
        stream
            .recv()
            .await
            .ok()?
            .reader()
            .ad()
            .unwrap()
            .bool("Start")
    }

    pub(crate) async fn release(&self) {
        self.tell(command::RELEASE_CLAIM).await;
    }

    /// A command that is the claim's id and has no answer.
    pub(crate) async fn tell(&self, command: i32) {
        let mut stream = self.open(command).await.unwrap();
        let mut message = stream.message();
        message.str(self.claim.as_str());
        stream.send(message).await.unwrap();
    }

    /// The next command that the pilot sends to the schedd.
    pub(crate) async fn hears(&mut self) -> (i32, Stream) {
        tokio::time::timeout(WAIT, self.heard.recv())
            .await
            .expect("the pilot speaks")
            .unwrap()
    }
}
