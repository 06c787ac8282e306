//! The shadow of a test: answers the syscalls, sends the input, takes the output, and remembers everything.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cedar::claim::ClaimId;
use cedar::net::{Client, ClientConfig, Server, ServerConfig, SessionCache, Stream};
use cedar::security::Level;
use cedar::security::server::CommandTable;
use cedar::{Coding, Sinful, command};
use classad::ClassAd;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::super::{
    Activation, JobConfig, JobEnd, JobProgress, JobServices, LineEnds, LineState, Reconnect,
    Renewal, SlotFacts, StopOrder, Wish, WishSender, Wishes, run,
};
use crate::broker::testing::{self, Helper, Script};
use crate::identity::IdentityPolicy;
use crate::transfer::receive::{Received, Receiver};
use crate::transfer::select::{Item, ItemKind};
use crate::transfer::testing::Directory;
use crate::transfer::upload::{self, upload};
use crate::transfer::{Ack, DelegationKeys, Link, Wire};

const PATIENCE: Duration = Duration::from_secs(20);

/// What the shadow was told and given.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Numbers of the calls, in order.
    pub(super) calls: Vec<i64>,
    /// Ads of register_job_info.
    pub(super) updates: Vec<ClassAd>,
    /// Lines for the job's log.
    pub(super) notices: Vec<String>,
    /// The event of the last ulog.
    pub(super) event: Option<ClassAd>,
    /// Wait status and reason of job_exit.
    pub(super) exit: Option<(i64, i64)>,
    /// Names and contents of the output, and whether it was final.
    pub(super) output: Option<(bool, BTreeMap<String, Vec<u8>>)>,
    /// How often output was sent.
    pub(super) outputs: u32,
    /// Transfer keys that were refused.
    pub(super) refused: Vec<String>,
    /// What it sends for the services of the job; `None`: it has not got them.
    pub(super) services: Option<Vec<(&'static str, &'static str)>>,
    /// What the slot heard about the connection.
    pub(super) lines: Vec<LineState>,
    /// The transfer key that is good.
    key: String,
    /// The shadow goes away instead of answering to this call, once.
    pub(super) dies_at: Option<i64>,
    /// Before it answers to these calls it brings a renewed proxy, and waits to hear what became of it.
    pub(super) renews_at: Vec<i64>,
    /// The calls it has done so at; `None`: no answer, as the proxy was dropped.
    pub(super) renewals: Vec<(i64, Option<Renewal>)>,
    /// Where it brings them.
    wishes: Option<WishSender>,
}

/// How a journey is set up.
#[derive(Debug)]
pub(super) struct Setup {
    /// Lines of the job ad beside the common ones.
    pub(super) ad: String,
    /// Files of the input, besides the proxy: name and shell script.
    pub(super) script: String,
    pub(super) not_after: i64,
    pub(super) refuse: Option<launch_protocol::broker::RefusalClass>,
    /// What the kernel killed for want of memory.
    pub(super) oom_kills: Option<u64>,
    /// What decides whose the job is.
    pub(super) identity: IdentityPolicy,
    /// The shadow never serves a transfer.
    pub(super) is_stalling: bool,
    /// As in [`Record`].
    pub(super) dies_at: Option<i64>,
    /// As in [`Record`].
    pub(super) renews_at: Vec<i64>,
    /// As in [`Record`].
    pub(super) services: Option<Vec<(&'static str, &'static str)>>,
}

/// A journey in progress.
pub(super) struct Journey {
    pub(super) orders: mpsc::Sender<StopOrder>,
    pub(super) wishes: WishSender,
    pub(super) progress: watch::Receiver<JobProgress>,
    pub(super) record: Arc<Mutex<Record>>,
    pub(super) helper: Helper,
    pub(super) shadow_task: JoinHandle<()>,
    run: JoinHandle<JobEnd>,
    door: Door,
    reconnects: mpsc::Sender<Reconnect>,
    cleanups: tokio_util::task::TaskTracker,
    folder: tempfile::TempDir,
}

/// How shadows reach the pilot.
struct Door {
    listener: TcpListener,
    server: Server,
    client: Client,
    claim: ClaimId,
    address: Sinful,
    shadow_address: Sinful,
}

impl Door {
    /// A new connection: the shadow's end and the pilot's.
    async fn connect(&self, command: i32) -> (Stream, Stream) {
        let (ours, theirs) = tokio::join!(
            self.client
                .start_command_in_session(&self.address, command, self.claim.session_id()),
            async {
                let (tcp, peer) = self.listener.accept().await.unwrap();
                self.server.accept(tcp, peer).await.unwrap().stream
            }
        );
        (ours.unwrap(), theirs)
    }
}

impl Journey {
    /// A shadow comes back, with this transfer key; the shadow knows `good`.
    pub(super) async fn comes_back(&mut self, key: &str, good: &str) {
        let (shadow, stream) = self.door.connect(command::CA_CMD).await;
        let mut ad = ClassAd::new();
        ad.insert("TransferKey", key);
        ad.insert("TransferSocket", self.door.shadow_address.to_string());
        good.clone_into(&mut self.record.lock().unwrap().key);
        self.shadow_task = tokio::spawn(answer(shadow, ClassAd::new(), Arc::clone(&self.record)));
        // A job that has ended takes nobody.
        let _ = self.reconnects.send(Reconnect { stream, ad }).await;
    }

    /// The text of a file in the sandbox.
    pub(super) fn text_of(&self, name: &str) -> String {
        let path = self.folder.path().join("execute/dir_1").join(name);
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Makes a file in the sandbox.
    pub(super) fn make(&self, name: &str) {
        std::fs::write(self.folder.path().join("execute/dir_1").join(name), "").unwrap();
    }

    /// Size of a file in the sandbox.
    pub(super) fn size_of(&self, name: &str) -> u64 {
        let path = self.folder.path().join("execute/dir_1").join(name);
        std::fs::metadata(path).map_or(0, |facts| facts.len())
    }

    /// Waits until the payload has ended.
    pub(super) async fn until_payload_is_gone(&self) {
        self.until("the payload to end", || self.helper.script.is_idle())
            .await;
    }

    /// Waits until so many transfer keys were refused.
    pub(super) async fn refused(&self, count: usize) {
        self.until("a refused key", || {
            self.record.lock().unwrap().refused.len() >= count
        })
        .await;
    }

    async fn until(&self, what: &str, done: impl Fn() -> bool) {
        let wait = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("waited in vain for {what}"));
    }

    /// Waits until the job has noticed that its shadow is gone.
    pub(super) async fn adrift(&self) {
        let lost = async {
            while self.record.lock().unwrap().lines.last() != Some(&LineState::Disconnected) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, lost)
            .await
            .expect("the loss is noticed");
    }

    /// The end of the journey; checks that nothing is left of the sandbox.
    pub(super) async fn end(self) -> (JobEnd, Record) {
        let end = tokio::time::timeout(PATIENCE, self.run)
            .await
            .expect("it ends")
            .unwrap();
        self.cleanups.close();
        tokio::time::timeout(PATIENCE, self.cleanups.wait())
            .await
            .expect("cleanups end");
        if !self.helper.is_dead() {
            let (opened, closed) = self.helper.script.counts();
            assert_eq!(opened, closed, "every sandbox is closed");
            let left = std::fs::read_dir(self.folder.path().join("execute"))
                .unwrap()
                .count();
            assert_eq!(left, 0, "no sandbox is left");
        }
        self.shadow_task.abort();
        (end, std::mem::take(&mut *self.record.lock().unwrap()))
    }

    /// Waits until the shadow has heard a call.
    pub(super) async fn heard(&self, call: i64) {
        let heard = async {
            while !self.record.lock().unwrap().calls.contains(&call) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, heard)
            .await
            .expect("the call is made");
    }

    /// Waits until the payload has made a file in its sandbox.
    pub(super) async fn made(&self, name: &str) {
        let path = self.folder.path().join("execute/dir_1").join(name);
        let made = async {
            while !path.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, made)
            .await
            .expect("the file is made");
    }
}

fn server(sessions: &SessionCache, commands: &[i32]) -> Server {
    let table = commands.iter().fold(CommandTable::new(), |table, number| {
        table.serve(*number, Level::Allow)
    });
    Server::new(ServerConfig::for_sessions(
        sessions.clone(),
        Arc::new(table),
        "test",
    ))
    .unwrap()
}

async fn listen() -> (TcpListener, Sinful) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (
        listener,
        Sinful::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port).no_udp(),
    )
}

/// Activates a claim and lets [`run`] do its work.
pub(super) async fn begin(setup: Setup) -> Journey {
    let folder = tempfile::tempdir().unwrap();
    let submit = folder.path().join("submit");
    let execute = folder.path().join("execute");
    std::fs::create_dir(&submit).unwrap();
    std::fs::create_dir(&execute).unwrap();
    std::fs::write(submit.join("proxy.pem"), "a proxy").unwrap();
    testing::write_script(&submit.join("job.sh"), &setup.script);

    let (pilot_listener, pilot_address) = listen().await;
    let (shadow_listener, shadow_address) = listen().await;
    let claim = ClaimId::mint(&pilot_address, 1, 1).unwrap();
    let (pilot_sessions, shadow_sessions) = (SessionCache::new(), SessionCache::new());
    pilot_sessions
        .register_claim(&claim, "submit-side@matchsession")
        .unwrap();
    shadow_sessions
        .register_claim(&claim, "execute-side@matchsession")
        .unwrap();

    // The shadow activates the claim.
    let door = Door {
        listener: pilot_listener,
        server: server(&pilot_sessions, &[command::ACTIVATE_CLAIM, command::CA_CMD]),
        client: Client::new(ClientConfig::new("SHADOW", "test"), shadow_sessions.clone()),
        claim: claim.clone(),
        address: pilot_address.clone(),
        shadow_address: shadow_address.clone(),
    };
    let (activated, accepted) = door.connect(command::ACTIVATE_CLAIM).await;
    let record = Arc::new(Mutex::new(Record {
        key: "1#key".to_owned(),
        dies_at: setup.dies_at,
        renews_at: setup.renews_at,
        services: setup.services,
        ..Record::default()
    }));
    let ad = job_ad(&setup.ad, &shadow_address);
    if !setup.is_stalling {
        let transfers = server(
            &shadow_sessions,
            &[command::FILETRANS_UPLOAD, command::FILETRANS_DOWNLOAD],
        );
        tokio::spawn(serve_transfers(
            shadow_listener,
            transfers,
            submit,
            Arc::clone(&record),
        ));
    } else {
        std::mem::forget(shadow_listener);
    }
    let shadow_task = tokio::spawn(answer(activated, ad, Arc::clone(&record)));

    let mut helper = Script::new(&execute, setup.not_after);
    helper.refuse = setup.refuse;
    helper.oom_kills = setup.oom_kills;
    let (broker, helper) = testing::start(helper).await;
    let config = JobConfig {
        execute_dir: execute,
        identity: setup.identity,
        credential_grace: Duration::from_secs(2),
        max_vacate_time: Duration::from_secs(5),
        initial_update_interval: Duration::from_millis(50),
        update_interval: Duration::from_millis(100),
        credential_refresh: Some(Duration::from_millis(150)),
        transfer_timeout: PATIENCE,
        ..JobConfig::default()
    };
    let services = JobServices {
        config: Arc::new(config),
        broker,
        client: Client::new(ClientConfig::new("STARTD", "test"), pilot_sessions),
        address: pilot_address.into(),
        delegation_keys: DelegationKeys::lazy(),
        cleanups: tokio_util::task::TaskTracker::new(),
    };
    let cleanups = services.cleanups.clone();
    let slot = SlotFacts {
        name: "slot1@test".to_owned(),
        short_name: "slot1".to_owned(),
        machine: "test".to_owned(),
        cpus: 1,
        memory_mib: 100,
        disk_kib: 1000,
        machine_ad: ClassAd::new(),
        account: None,
    };
    let heard = Arc::clone(&record);
    let (line, reconnects) = LineEnds::new(move |state| heard.lock().unwrap().lines.push(state));
    let (wishes, wishes_receiver) = Wishes::channel();
    record.lock().unwrap().wishes = Some(wishes.clone());
    let activation = Activation {
        claim,
        stream: accepted,
        slot,
        line,
        wishes: wishes_receiver,
    };
    let (orders, order_receiver) = mpsc::channel(4);
    let (progress_sender, progress) = watch::channel(JobProgress::default());
    let run = tokio::spawn(run(services, activation, order_receiver, progress_sender));
    Journey {
        orders,
        wishes,
        progress,
        record,
        helper,
        shadow_task,
        run,
        door,
        reconnects,
        cleanups,
        folder,
    }
}

fn job_ad(lines: &str, shadow: &Sinful) -> ClassAd {
    let mut ad = ClassAd::parse_old(
        "ClusterId = 1\nProcId = 0\nJobUniverse = 5\nCmd = \"/home/alice/job.sh\"\nOut = \"o\"\nErr = \"e\"\n\
         ShouldTransferFiles = \"YES\"\nx509userproxy = \"/tmp/proxy.pem\"\nTransferKey = \"1#key\"\n\
         GlobalJobId = \"s#1.0#1\"\nUser = \"alice@test\"\n",
    )
    .unwrap();
    ad.insert("TransferSocket", shadow.to_string());
    ad.update(&ClassAd::parse_old(lines).unwrap());
    ad
}

/// The syscall socket, until job_exit, a ulog, or its end.
async fn answer(mut stream: Stream, ad: ClassAd, record: Arc<Mutex<Record>>) {
    while let Ok(message) = stream.recv().await {
        let mut reader = message.reader();
        let call = reader.int().unwrap();
        let mut reply = stream.message();
        if call == 302 {
            let services = record.lock().unwrap().services.clone();
            for (service, content) in services.iter().flatten() {
                let mut ad = ClassAd::new();
                ad.insert("Service", *service);
                ad.insert("Data", STANDARD.encode(content));
                reply.int(1).ad(&ad);
            }
            reply.int(if services.is_some() { 0 } else { -1 });
        } else {
            reply.int(0);
        }
        let renews = {
            let record = record.lock().unwrap();
            let renews = record.renews_at.contains(&call);
            record.wishes.clone().filter(|_| renews)
        };
        if let Some(wishes) = renews {
            let (answer, outcome) = oneshot::channel();
            let credential = b"a proxy of Alice".to_vec().into();
            wishes.send(Wish::Renew { credential, answer });
            let renewal = outcome.await.ok();
            record.lock().unwrap().renewals.push((call, renewal));
        }
        {
            let mut record = record.lock().unwrap();
            record.calls.push(call);
            if record.dies_at == Some(call) {
                record.dies_at = None;
                return;
            }
            match call {
                -63 => {
                    reply.ad(&ad);
                }
                -81 => record.updates.push(reader.ad().unwrap()),
                -65 => record.exit = Some((reader.int().unwrap(), reader.int().unwrap())),
                284 => {
                    let event = reader.ad().unwrap();
                    if event.int("EventTypeNumber") == Some(8) {
                        record.notices.push(event.string("Info").unwrap());
                        continue; // it has no answer
                    }
                    record.event = Some(event);
                    return;
                }
                _ => {}
            }
        }
        if stream.send(reply).await.is_err() || call == -65 {
            return;
        }
    }
}

async fn serve_transfers(
    listener: TcpListener,
    server: Server,
    submit: PathBuf,
    record: Arc<Mutex<Record>>,
) {
    while let Ok((tcp, peer)) = listener.accept().await {
        let incoming = server.accept(tcp, peer).await.unwrap();
        let command = incoming.command;
        let mut stream = incoming.stream;
        let key = stream.recv().await.unwrap().reader().str().unwrap();
        if key != record.lock().unwrap().key {
            record.lock().unwrap().refused.push(key);
            let mut refusal = stream.message();
            refusal.int(0);
            stream.send(refusal).await.unwrap();
            continue;
        }
        let mut link = Link::new(stream, PATIENCE);
        if command == command::FILETRANS_UPLOAD {
            send_input(&mut link, &submit).await;
        } else {
            let output = take_output(&mut link).await;
            let mut record = record.lock().unwrap();
            record.outputs += 1;
            record.output = output;
        }
    }
}

async fn send_input(link: &mut Link, submit: &std::path::Path) {
    let items = ["proxy.pem", "job.sh"].map(|name| Item {
        name: name.into(),
        kind: ItemKind::File {
            path: name.into(),
            size: 0,
        },
    });
    let request = upload::Request {
        items: &items,
        bytes: 0,
        is_final: false,
        patience: PATIENCE,
        from: "shadow",
        to: "starter",
    };
    // A pilot that gives up in between is part of some stories.
    let _ = upload(link, &mut Directory::new(submit), request).await;
}

async fn take_output(link: &mut Link) -> Option<(bool, BTreeMap<String, Vec<u8>>)> {
    let mut receiver = Receiver::new(Coding::Encrypted);
    let mut files = BTreeMap::new();
    let mut current = (String::new(), Vec::new());
    let mut is_output_final = false;
    loop {
        let body = link.recv(PATIENCE).await.ok()?;
        match receiver.handle(body.as_ref()).unwrap() {
            Received::Header { is_final, .. } => is_output_final = is_final,
            Received::Reply(replies) => {
                for reply in replies {
                    link.queue(reply).unwrap();
                }
                link.flush().await.ok()?;
            }
            Received::File(header) => {
                current = (String::from_utf8(header.name).unwrap(), Vec::new())
            }
            Received::Data { is_last } => {
                current.1.extend_from_slice(body.as_ref());
                if is_last {
                    files.insert(
                        std::mem::take(&mut current.0),
                        std::mem::take(&mut current.1),
                    );
                }
            }
            Received::EmptyFile => {
                files.insert(std::mem::take(&mut current.0), Vec::new());
            }
            Received::Finished(theirs) => {
                let ack = if theirs.is_success() {
                    Ack::SUCCESS
                } else {
                    theirs
                };
                link.queue(receiver.acknowledge(&ack)).unwrap();
                link.flush().await.ok()?;
                return Some((is_output_final, files));
            }
            _ => {}
        }
    }
}
