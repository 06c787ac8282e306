//! Whole transfers over real connections, with claims and keys, as the pilot makes them.

use std::fs;
use std::time::Duration;

use cedar::net::{Client, ClientConfig, Server, ServerConfig, SessionCache, Stream};
use cedar::security::server::CommandTable;
use cedar::security::{EXECUTE_SIDE, Level, SUBMIT_SIDE};
use cedar::{ClaimId, MessageWriter, Sinful, command};
use tokio::net::TcpListener;

use super::super::config::TransfersConfig;
use super::super::ticket::{Direction, Outcome, TransferEvent, TransferTicket};
use super::super::{Transfers, command as item};
use super::Site;

/// The pool's port, and a pilot's client.
struct Pool {
    site: Site,
    transfers: Transfers,
    claim: ClaimId,
    address: Sinful,
    client: Client,
}

async fn pool(change: impl FnOnce(&mut Site, &mut TransfersConfig)) -> Pool {
    let mut site = Site::new();
    let mut config = TransfersConfig::new(site.spool.path().to_owned(), "submit.test".to_owned());
    config.patience = Duration::from_secs(30);
    site.ad.insert("TransferExecutable", false);
    change(&mut site, &mut config);
    let transfers = Transfers::new(config, site.user_files());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Sinful::from(listener.local_addr().unwrap());
    let claim = ClaimId::mint(&address, 1, 1).unwrap();
    let sessions = SessionCache::new();
    sessions.register_claim(&claim, EXECUTE_SIDE).unwrap();
    let table = CommandTable::new()
        .serve(command::FILETRANS_UPLOAD, Level::Allow)
        .serve(command::FILETRANS_DOWNLOAD, Level::Allow);
    let server = Server::new(ServerConfig::for_sessions(
        sessions,
        std::sync::Arc::new(table),
        "test",
    ))
    .unwrap();
    let serving = transfers.clone();
    tokio::spawn(async move {
        loop {
            let (tcp, peer) = listener.accept().await.unwrap();
            let (server, serving) = (server.clone(), serving.clone());
            tokio::spawn(async move {
                if let Ok(incoming) = server.accept(tcp, peer).await {
                    serving.serve(incoming).await;
                }
            });
        }
    });
    let ours = SessionCache::new();
    ours.register_claim(&claim, SUBMIT_SIDE).unwrap();
    Pool {
        site,
        transfers,
        claim,
        address,
        client: Client::new(ClientConfig::new("STARTER", "test"), ours),
    }
}

impl Pool {
    fn register(&self) -> TransferTicket {
        self.transfers
            .register(&self.site.ad, &self.claim, "slot1@exec.test")
            .unwrap()
    }

    /// Connects and names the key.
    async fn connect(&self, command: i32, key: &str) -> Stream {
        let session = self.claim.file_transfer_session_id();
        let mut stream = self
            .client
            .start_command_in_session(&self.address, command, &session)
            .await
            .unwrap();
        let mut message = stream.message();
        message.str(key);
        stream.send(message).await.unwrap();
        stream
    }
}

async fn int(stream: &mut Stream) -> i64 {
    stream.recv().await.unwrap().reader().int().unwrap()
}

async fn say(stream: &mut Stream, build: impl FnOnce(&mut MessageWriter)) {
    let mut message = stream.message();
    build(&mut message);
    stream.send(message).await.unwrap();
}

async fn say_ad(stream: &mut Stream, attributes: &[(&str, i64)]) {
    let mut ad = classad::ClassAd::new();
    for (name, value) in attributes {
        ad.insert(*name, *value);
    }
    say(stream, |message| {
        message.ad(&ad);
    })
    .await;
}

/// A pilot that sends one file and hears the acknowledgement.
async fn send_file(stream: &mut Stream, name: &str, content: &[u8]) -> classad::ClassAd {
    begin_file(stream, name, content.len()).await;
    for block in content.chunks(super::super::BLOCK) {
        stream.send_bytes_message(block).await.unwrap();
    }
    say(stream, |message| {
        message.int(item::FINISHED);
    })
    .await;
    say_ad(stream, &[("Result", 0)]).await;
    stream.recv().await.unwrap().reader().ad().unwrap()
}

async fn begin_file(stream: &mut Stream, name: &str, size: usize) {
    let mut ad = classad::ClassAd::new();
    ad.insert("SandboxSize", i64::try_from(size).unwrap());
    say(stream, |message| {
        message.int(1).ad(&ad);
    })
    .await;
    for number in [Some(item::FILE), None, Some(300)] {
        say(stream, |message| {
            match number {
                Some(number) => message.int(number),
                None => message.str(name),
            };
        })
        .await;
    }
    assert_eq!(
        stream
            .recv()
            .await
            .unwrap()
            .reader()
            .ad()
            .unwrap()
            .int("Result"),
        Some(2)
    );
    assert_eq!(int(stream).await, 300);
    say_ad(stream, &[("Result", 2)]).await;
    say(stream, |message| {
        message.int(0o600);
    })
    .await;
    say(stream, |message| {
        message.int(i64::try_from(size).unwrap()).int(262_144);
    })
    .await;
}

#[tokio::test]
async fn a_large_output_arrives_and_the_ticket_tells_of_it() {
    let pool = pool(|site, _| site.ad.insert("Out", "out.txt")).await;
    let mut ticket = pool.register();
    let content: Vec<u8> = (0..5_000_003_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let mut stream = pool
        .connect(command::FILETRANS_DOWNLOAD, ticket.key())
        .await;
    let ack = send_file(&mut stream, "_condor_stdout", &content).await;
    assert_eq!(ack.int("Result"), Some(0));
    drop(stream);
    let report = ticket.output_result().await.unwrap();
    assert_eq!(report.outcome, Outcome::Done);
    assert_eq!(
        (report.bytes, report.files, report.is_spooled),
        (5_000_003, 1, false)
    );
    assert_eq!(
        fs::read(pool.site.home.path().join("out.txt")).unwrap(),
        content
    );
    assert_eq!(
        ticket.next_event().await,
        Some(TransferEvent::Queued(Direction::Output))
    );
    assert!(matches!(
        ticket.next_event().await,
        Some(TransferEvent::Started {
            direction: Direction::Output,
            ..
        })
    ));
    assert_eq!(
        ticket.next_event().await,
        Some(TransferEvent::Finished(report))
    );
}

#[tokio::test]
async fn a_wrong_key_gets_nothing_and_a_dropped_ticket_is_worth_nothing() {
    let pool = pool(|_, _| {}).await;
    let ticket = pool.register();
    let key = ticket.key().to_owned();
    for wrong in [
        String::new(),
        "x".repeat(key.len()),
        format!("{key}0"),
        key[1..].to_owned(),
    ] {
        let mut stream = pool.connect(command::FILETRANS_UPLOAD, &wrong).await;
        let message = stream.recv().await.unwrap();
        assert_eq!(
            (message.reader().int().unwrap(), message.len()),
            (0, 8),
            "{wrong:?}"
        );
    }
    // The plain session of the claim is not that of its files.
    let session = pool.claim.session_id();
    let mut stream = pool
        .client
        .start_command_in_session(&pool.address, command::FILETRANS_UPLOAD, session)
        .await
        .unwrap();
    say(&mut stream, |message| {
        message.str(&key);
    })
    .await;
    assert_eq!(stream.recv().await.unwrap().len(), 8);

    let second = pool.register();
    assert_ne!(second.key(), key, "each run has a key of its own");
    let mut stream = pool.connect(command::FILETRANS_UPLOAD, &key).await;
    assert_eq!(
        stream.recv().await.unwrap().len(),
        8,
        "a newer run takes the place of the older"
    );
    drop(ticket);
    let mut stream = pool.connect(command::FILETRANS_UPLOAD, second.key()).await;
    let header = stream.recv().await.unwrap();
    assert!(
        header.len() > 8,
        "dropping the older ticket does not touch the newer"
    );
    let key = second.key().to_owned();
    drop(second);
    let mut stream = pool.connect(command::FILETRANS_UPLOAD, &key).await;
    assert_eq!(stream.recv().await.unwrap().len(), 8);
}

#[tokio::test]
async fn a_pilot_that_lost_its_connection_may_begin_again() {
    let pool = pool(|site, _| site.ad.insert("Out", "out.txt")).await;
    let mut ticket = pool.register();
    let mut first = pool
        .connect(command::FILETRANS_DOWNLOAD, ticket.key())
        .await;
    begin_file(&mut first, "_condor_stdout", 100).await;
    // The first connection stands still, unnoticed.
    let mut second = pool
        .connect(command::FILETRANS_DOWNLOAD, ticket.key())
        .await;
    let ack = send_file(&mut second, "_condor_stdout", b"again").await;
    assert_eq!(ack.int("Result"), Some(0));
    drop(second);
    assert_eq!(ticket.output_result().await.unwrap().outcome, Outcome::Done);
    assert_eq!(pool.site.read("out.txt"), "again");
    assert!(first.recv().await.is_err(), "the first is closed");
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_hold() {
    let pool = pool(|site, _| site.ad.insert("Out", "out.txt")).await;
    let mut ticket = pool.register();
    let mut stream = pool
        .connect(command::FILETRANS_DOWNLOAD, ticket.key())
        .await;
    begin_file(&mut stream, "_condor_stdout", 1_000_000).await;
    stream.send_bytes_message(&[0; 262_144]).await.unwrap();
    drop(stream);
    let report = ticket.output_result().await.unwrap();
    assert!(matches!(report.outcome, Outcome::TryAgain(_)), "{report:?}");
    assert!(!ticket.is_busy());
}

#[tokio::test]
async fn too_much_output_is_refused_with_its_own_code() {
    let pool = pool(|site, _| site.ad.insert("MaxTransferOutputMB", 1)).await;
    let mut ticket = pool.register();
    let mut stream = pool
        .connect(command::FILETRANS_DOWNLOAD, ticket.key())
        .await;
    let ack = send_file(&mut stream, "big", &vec![1; 1_100_000]).await;
    assert_eq!(
        (ack.int("Result"), ack.int("HoldReasonCode")),
        (Some(-1), Some(33))
    );
    drop(stream);
    let report = ticket.output_result().await.unwrap();
    let Outcome::Hold(failure) = report.outcome else {
        panic!("{report:?}")
    };
    assert_eq!(failure.code, 33);
    assert!(failure.reason.contains("max=1 MB"), "{}", failure.reason);
    assert!(!pool.site.home.path().join("big").exists());
}

#[tokio::test]
async fn too_much_input_is_told_before_any_of_it_is_sent() {
    let pool = pool(|site, config| {
        site.write("big", &vec![1; 3 << 20], 0o644);
        site.ad.insert("TransferInput", "big");
        config.max_input_mb = Some(2);
    })
    .await;
    let mut ticket = pool.register();
    let mut stream = pool.connect(command::FILETRANS_UPLOAD, ticket.key()).await;
    stream.recv().await.unwrap();
    assert_eq!(int(&mut stream).await, item::FINISHED);
    let ack = stream.recv().await.unwrap().reader().ad().unwrap();
    assert_eq!(
        (ack.int("Result"), ack.int("HoldReasonCode")),
        (Some(-1), Some(32))
    );
    say_ad(&mut stream, &[("Result", -1)]).await;
    drop(stream);
    let report = ticket.input_done().await.unwrap();
    assert!(
        matches!(report.outcome, Outcome::Hold(ref failure) if failure.code == 32),
        "{:?}",
        report.outcome
    );
}

#[tokio::test]
async fn a_file_system_without_room_holds_the_job_with_its_errno() {
    if !crate::files::testing::is_root() {
        println!("not run, needs root: a full disk");
        return;
    }
    let pool = pool(|site, _| site.ad.insert("TransferOutput", "res")).await;
    let small = pool.site.home.path().join("res");
    fs::create_dir(&small).unwrap();
    let mount = |arguments: &[&str]| {
        let done = std::process::Command::new(arguments[0])
            .args(&arguments[1..])
            .status()
            .unwrap();
        assert!(done.success(), "{arguments:?}");
    };
    let path = small.to_str().unwrap();
    mount(&[
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=64k,mode=0777",
        "none",
        path,
    ]);
    let mut ticket = pool.register();
    let mut stream = pool
        .connect(command::FILETRANS_DOWNLOAD, ticket.key())
        .await;
    let ack = send_file(&mut stream, "res/big", &vec![1; 2_000_000]).await;
    drop(stream);
    let report = ticket.output_result().await;
    mount(&["umount", path]);
    assert_eq!(ack.int("HoldReasonSubCode"), Some(i64::from(libc::ENOSPC)));
    let Outcome::Hold(failure) = report.unwrap().outcome else {
        panic!()
    };
    assert_eq!(
        (failure.code, failure.subcode),
        (12, i64::from(libc::ENOSPC))
    );
    assert!(failure.reason.contains("res/big"), "{}", failure.reason);
    assert!(
        failure.reason.starts_with("Transfer output files failure at access point submit.test while receiving files from execution point slot1@exec.test. Details: "),
        "{}",
        failure.reason
    );
}

#[tokio::test]
async fn a_spool_folder_goes_when_the_job_leaves() {
    let pool = pool(|_, _| {}).await;
    let files = pool.site.files();
    let spool = pool.site.spool();
    spool.begin(&files).await.unwrap();
    let how = crate::files::OpenWrite {
        mode: 0o644,
        create: true,
        ..Default::default()
    };
    files
        .make_dir(&spool.incoming().join("d"), 0o755)
        .await
        .unwrap();
    files
        .open_write(&spool.incoming().join("d/f"), how.clone())
        .await
        .unwrap();
    // A pool that is killed now has neither lost the old nor taken the new.
    spool.settle(&files).await.unwrap();
    assert!(!spool.kept().join("d").exists());
    spool.commit(&files).await.unwrap();
    assert!(spool.kept().join("d/f").exists());
    // A second eviction replaces what it brings and keeps what it does not.
    spool.begin(&files).await.unwrap();
    files
        .open_write(&spool.incoming().join("g"), how.clone())
        .await
        .unwrap();
    files
        .open_write(&spool.incoming().join("d"), how)
        .await
        .unwrap();
    spool.commit(&files).await.unwrap();
    assert!(spool.kept().join("d").is_file() && spool.kept().join("g").exists());
    pool.transfers
        .remove_spool(pool.site.job().id, files.owner())
        .await;
    assert_eq!(fs::read_dir(pool.site.spool.path()).unwrap().count(), 0);
}
