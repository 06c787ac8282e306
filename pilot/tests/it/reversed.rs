//! Peers that the pilot connects to, because they cannot connect to it.

use std::net::Ipv4Addr;
use std::time::Duration;

use cedar::claim::ClaimId;
use cedar::net::Reversed;
use cedar::{Sinful, command};
use sailplane::job::JobEnd;
use sailplane::slot::Order;
use sailplane::slot::event::Policy;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::pair::{Pilot, Setup, SubmitSide};

const REQUEST: &str = "MyType = \"Job\"\nUser = \"alice@pool\"\nRequirements = true";
const JOB: &str =
    "MyType = \"Job\"\nUser = \"alice@pool\"\nClusterId = 7\nProcId = 1\nRequirements = true";

/// The peer's end of a connection that the pilot has made.
async fn reverse(reversed: &mpsc::Sender<Reversed>) -> TcpStream {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let peer = listener.local_addr().unwrap();
    let tcp = TcpStream::connect(peer).await.unwrap();
    let (theirs, _) = listener.accept().await.unwrap();
    reversed.send(Reversed { tcp, peer }).await.unwrap();
    theirs
}

/// An address at which each connection becomes one that the pilot has made.
async fn broker(pilot: &Pilot) -> Sinful {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = Sinful::from(listener.local_addr().unwrap());
    let reversed = pilot.reversed.clone();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut theirs = reverse(&reversed).await;
            tokio::spawn(async move { copy_bidirectional(&mut tcp, &mut theirs).await });
        }
    });
    address
}

#[tokio::test]
async fn a_claim_works_over_them_as_over_any() {
    let mut pilot = Pilot::start(Setup::default()).await;
    let address = broker(&pilot).await;
    let schedd = SubmitSide::matched(&pilot).await.through(address);
    assert_eq!(schedd.request(REQUEST).await.0, 1);
    let (answer, _syscalls) = schedd.activate(JOB).await;
    assert_eq!(answer, 1);
    pilot.job().await.end(JobEnd::Finished);
    let again = schedd.deactivate(command::DEACTIVATE_CLAIM_FORCIBLY).await;
    assert_eq!(again, Some(true));
    schedd.release().await;
    pilot.reaches("Unclaimed/Idle").await;
}

#[tokio::test]
async fn a_stranger_gains_nothing_by_being_connected_to() {
    let pilot = Pilot::start(Setup::default()).await;
    let address = broker(&pilot).await;
    let mut stranger = SubmitSide::matched(&pilot).await.through(address);
    // Of the right form, but not the pilot's.
    stranger.claim = ClaimId::mint(&pilot.address, 1, 1).unwrap();
    assert!(stranger.open(command::REQUEST_CLAIM).await.is_err());
    // Nothing is said before the peer has spoken, and nonsense ends it.
    let mut tcp = reverse(&pilot.reversed).await;
    let mut heard = [0; 1];
    let silence = tokio::time::timeout(Duration::from_millis(50), tcp.read(&mut heard)).await;
    assert!(silence.is_err(), "the pilot spoke first: {heard:?}");
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(tcp.read(&mut heard).await.unwrap_or(0), 0);
    assert_eq!(pilot.state().await, "Unclaimed/Idle");
}

#[tokio::test]
async fn silent_ones_do_not_keep_others_out() {
    let pilot = Pilot::start(Setup::default()).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(reverse(&pilot.reversed).await);
    }
    let schedd = SubmitSide::matched(&pilot).await;
    assert_eq!(schedd.request(REQUEST).await.0, 1);
}

#[tokio::test]
async fn a_new_address_is_in_ads_and_offers_and_jobs_go_on() {
    let setup = Setup {
        policy: Policy {
            goodbye: Duration::from_millis(100),
            ..Policy::default()
        },
        ..Setup::default()
    };
    let mut pilot = Pilot::start(setup).await;
    let late = SubmitSide::matched(&pilot).await;
    let new = Sinful::parse("<127.0.0.1:1?CCBID=192.0.2.1:9618#5&noUDP>").unwrap();
    assert!(pilot.published.set(new.clone()));
    pilot.startd.order(Order::Moved).await;
    let ad = pilot.ad().await;
    for name in ["MyAddress", "StartdIpAddr"] {
        assert_eq!(ad.string(name), Some(new.to_string()));
    }
    assert!(
        !ad.contains("AddressV1"),
        "it knows only the way without a broker"
    );
    let mut schedd = SubmitSide::matched(&pilot)
        .await
        .through(pilot.address.clone());
    let id = schedd.claim.as_str();
    assert!(
        id.starts_with(&new.to_string()),
        "{}",
        schedd.claim.public()
    );
    // Matched before the change: the id is not good any more, and the next match has another.
    assert_eq!(late.request(REQUEST).await.0, 0);
    assert_eq!(schedd.request(REQUEST).await.0, 1);
    let (_, _syscalls) = schedd.activate(JOB).await;
    let played = pilot.job().await;
    // The broker is restarted while the job runs.
    pilot.published.set(pilot.address.clone());
    pilot.startd.order(Order::Moved).await;
    let address = pilot.ad().await.string("MyAddress");
    assert_eq!(address, Some(pilot.address.to_string()));
    played.end(JobEnd::Finished);
    // The shadow's way to this claim is gone with the broker's memory. The schedd is told, and another is offered.
    assert_eq!(schedd.hears().await.0, command::RELEASE_CLAIM);
    pilot.reaches("Unclaimed/Idle").await;
}
