//! The collector over loopback connections: updates, queries, and who may do what.

use std::sync::Arc;
use std::time::Duration;

use cedar::net::{Client, ClientConfig, Server, ServerConfig, SessionCache, Stream};
use cedar::security::server::{
    Authenticators, Authorizer, CommandRule, CommandTable, Decision, Policies,
};
use cedar::security::token::{SigningKeys, Token};
use cedar::security::{Level, PeerIdentity, SecurityPolicy};
use cedar::{Sinful, command};
use classad::{ClassAd, Expr};
use pool::collector::{Collector, CollectorConfig, Kind};
use tokio::net::TcpListener;

const UPDATE_AD_GENERIC: i32 = 58;
const QUERY_GENERIC_ADS: i32 = 74;

fn keys() -> SigningKeys {
    let mut keys = SigningKeys::new();
    keys.add_file("POOL", b"pool key material").unwrap();
    keys
}

/// Pilots may advertise slots, the administrator may do everything.
struct Rules(CommandTable);

impl Authorizer for Rules {
    fn rule(&self, command: i32) -> Option<CommandRule> {
        self.0.rule(command)
    }

    fn decide(&self, peer: &PeerIdentity, _: Option<std::net::IpAddr>, level: Level) -> Decision {
        let admin = peer.user.starts_with("admin@");
        let pilot = peer.user.starts_with("pilot@");
        if admin || level == Level::Read || pilot && level == Level::AdvertiseStartd {
            Decision::Allowed
        } else {
            Decision::Denied("not in the test's list".to_owned())
        }
    }

    fn commands(&self) -> Vec<i32> {
        self.0.commands()
    }
}

struct Bench {
    collector: Collector,
    address: Sinful,
}

impl Bench {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Sinful::from(listener.local_addr().unwrap());
        let collector = Collector::new(CollectorConfig::new(address.clone(), "here"));
        let table = Collector::commands()
            .into_iter()
            .fold(CommandTable::new(), |table, (number, rule)| {
                table.serve_with(number, rule.level, &rule.alternates)
            });
        let mut config =
            ServerConfig::for_sessions(SessionCache::new(), Arc::new(Rules(table)), "test-1");
        config.policies = Policies::All(SecurityPolicy::default());
        config.authenticators = Authenticators {
            signing_keys: keys(),
            ..Authenticators::default()
        };
        config.trust_domain = Some("test.pool".to_owned());
        let server = Server::new(config).unwrap();
        let serving = collector.clone();
        tokio::spawn(async move {
            while let Ok((tcp, peer)) = listener.accept().await {
                let (server, collector) = (server.clone(), serving.clone());
                tokio::spawn(async move {
                    if let Ok(incoming) = server.accept(tcp, peer).await {
                        collector.serve(incoming).await;
                    }
                });
            }
        });
        Self { collector, address }
    }

    fn client(user: &str) -> Client {
        let payload = format!(r#"{{"iss":"test.pool","sub":"{user}@test.pool","iat":1700000000}}"#);
        let token = keys().issue("POOL", &payload).unwrap().unwrap();
        let mut config = ClientConfig::new("TOOL", "test-1");
        config.credentials.tokens = vec![Token::parse(&token).unwrap()];
        config.timeout = Duration::from_secs(20);
        Client::new(config, SessionCache::new())
    }

    async fn open(&self, user: &str, command: i32) -> Result<Stream, cedar::net::Error> {
        Self::client(user)
            .start_command(&self.address, command)
            .await
    }

    async fn ask(&self, user: &str, command: i32, query: &str) -> Vec<ClassAd> {
        let mut stream = self.open(user, command).await.unwrap();
        let mut message = stream.message();
        message.ad(&ad(query));
        stream.send(message).await.unwrap();
        let answer = stream.recv().await.unwrap();
        let mut reader = answer.reader();
        let mut ads = Vec::new();
        while reader.int().unwrap() == 1 {
            ads.push(reader.ad().unwrap());
        }
        reader.expect_end().unwrap();
        ads
    }
}

fn ad(text: &str) -> ClassAd {
    ClassAd::parse_old(text).unwrap()
}

fn slot(name: &str) -> ClassAd {
    ad(&format!(
        "MyType = \"Machine\"\nName = \"{name}\"\nMyAddress = \"<10.0.0.1:5>\"\nState = \"Unclaimed\"\nCpus = 2"
    ))
}

fn private(number: u32) -> ClassAd {
    ad(&format!(
        "MyType = \"Machine\"\nClaimId = \"<10.0.0.1:5>#1#{number}#secret\""
    ))
}

/// Sends what is already written and waits until the collector has taken all of it: it closes then.
async fn finish(mut stream: Stream) {
    stream.shutdown().await.unwrap();
    assert!(stream.recv().await.unwrap_err().is_closed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_updates_and_an_invalidation_on_one_connection() {
    let bench = Bench::start().await;
    let mut stream = bench
        .open("pilot", command::UPDATE_STARTD_AD)
        .await
        .unwrap();
    for number in 1..=3_u32 {
        let mut message = stream.message();
        if number > 1 {
            message.int(i64::from(command::UPDATE_STARTD_AD));
        }
        message
            .ad(&slot(&format!("slot{number}@a")))
            .ad(&private(number));
        stream.queue(message).unwrap();
    }
    let mut message = stream.message();
    message
        .int(i64::from(command::INVALIDATE_STARTD_ADS))
        .ad(&ad("MyType = \"Query\"\nTargetType = \"Machine\"\nName = \"slot2@a\"\nMyAddress = \"<10.0.0.1:5>\""));
    stream.queue(message).unwrap();
    let mut message = stream.message();
    message.int(i64::from(command::DC_NOP));
    stream.send(message).await.unwrap();
    finish(stream).await;

    let slots = bench.collector.slots();
    let names: Vec<_> = slots.iter().map(|slot| slot.name.as_str()).collect();
    assert_eq!(names, ["slot1@a", "slot3@a"]);
    assert_eq!(
        slots[1].claim.as_ref().unwrap().public(),
        "<10.0.0.1:5>#1#3#..."
    );
    assert_eq!(
        slots[0].ad.string("AuthenticatedIdentity").as_deref(),
        Some("pilot@test.pool")
    );
    assert_eq!(
        slots[0].ad.string("AuthenticationMethod").as_deref(),
        Some("TOKEN")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_update_and_claim_ids_for_the_negotiator_alone() {
    let bench = Bench::start().await;
    let mut stream = bench
        .open("pilot", command::UPDATE_STARTD_AD_WITH_ACK)
        .await
        .unwrap();
    let mut message = stream.message();
    message.ad(&slot("slot1@a")).ad(&private(1));
    stream.send(message).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().reader().int().unwrap(), 1);

    let query = "MyType = \"Query\"\nTargetType = \"Machine\"\nRequirements = true";
    let public = bench.ask("pilot", command::QUERY_STARTD_ADS, query).await;
    assert_eq!(public.len(), 1);
    assert!(!public[0].to_old().contains("secret"));
    let all = bench
        .ask(
            "pilot",
            command::QUERY_ANY_ADS,
            "SendPrivateAttributes = true",
        )
        .await;
    assert_eq!(all.len(), 2, "the slot and the collector itself");
    assert!(all.iter().all(|ad| !ad.to_old().contains("secret")));

    assert!(
        bench
            .open("pilot", command::QUERY_STARTD_PVT_ADS)
            .await
            .is_err()
    );
    let secret = bench
        .ask("admin", command::QUERY_STARTD_PVT_ADS, query)
        .await;
    assert_eq!(
        secret[0].string("ClaimId").as_deref(),
        Some("<10.0.0.1:5>#1#1#secret")
    );
    assert_eq!(secret[0].string("Name").as_deref(), Some("slot1@a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_for_slots_serves_for_nothing_else() {
    let bench = Bench::start().await;
    let mut stream = bench
        .open("pilot", command::UPDATE_STARTD_AD)
        .await
        .unwrap();
    let mut message = stream.message();
    message.ad(&slot("slot1@a"));
    stream.queue(message).unwrap();
    let mut message = stream.message();
    message
        .int(i64::from(UPDATE_AD_GENERIC))
        .ad(&ad("MyType = \"Defrag\"\nName = \"d\""));
    stream.send(message).await.unwrap();
    assert!(stream.recv().await.is_err());
    assert_eq!(bench.collector.slots().len(), 1);
    assert!(
        bench
            .collector
            .query(&Kind::from_type("Defrag"), None, &[], None)
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_that_htcondor_does_not_know_have_tables_of_their_own() {
    let bench = Bench::start().await;
    let mut stream = bench.open("admin", UPDATE_AD_GENERIC).await.unwrap();
    let mut message = stream.message();
    message.ad(&ad(
        "MyType = \"Defrag\"\nName = \"d\"\nA = B + 1\nB = 2\nC = 3",
    ));
    stream.send(message).await.unwrap();
    finish(stream).await;
    let query = "TargetType = \"Defrag\"\nRequirements = C == 3\nProjection = \"A,Name\"";
    let found = bench.ask("pilot", QUERY_GENERIC_ADS, query).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].int("A"), Some(3));
    assert!(!found[0].contains("C"));
    let none = "TargetType = \"Defrag\"\nRequirements = C == 4";
    assert!(bench.ask("pilot", QUERY_GENERIC_ADS, none).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_answer_comes_whole_and_keeps_no_update_waiting() {
    let bench = Bench::start().await;
    let text = "x".repeat(200);
    for number in 0..10_000 {
        let mut ad = slot(&format!("slot{number}@a"));
        ad.insert("Filler", text.as_str());
        bench.collector.advertise(ad);
    }
    // A tool that asks and does not read.
    let mut slow = bench
        .open("pilot", command::QUERY_STARTD_ADS)
        .await
        .unwrap();
    let mut message = slow.message();
    message.ad(&ad("MyType = \"Query\""));
    slow.send(message).await.unwrap();
    let mut stream = bench
        .open("pilot", command::UPDATE_STARTD_AD_WITH_ACK)
        .await
        .unwrap();
    let mut message = stream.message();
    message.ad(&slot("another@a")).ad(&private(1));
    stream.send(message).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().reader().int().unwrap(), 1);
    // The snapshot was taken before or after the update; it is whole.
    let answer = slow.recv().await.unwrap();
    let mut reader = answer.reader();
    let mut count = 0;
    while reader.int().unwrap() == 1 {
        reader.ad().unwrap();
        count += 1;
    }
    assert!(count == 10_000 || count == 10_001, "{count}");
    let limited = bench
        .ask("pilot", command::QUERY_STARTD_ADS, "LimitResults = 7")
        .await;
    assert_eq!(limited.len(), 7);
    let constraint = Expr::parse_old("Name == \"another@a\"").unwrap();
    let names = ["Name".to_owned()];
    let one = bench
        .collector
        .query(&Kind::Machine, Some(&constraint), &names, Some(5));
    assert_eq!((one.len(), one[0].len()), (1, 1));
}
