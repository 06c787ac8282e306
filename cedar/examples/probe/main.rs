//! Talks to a real HTCondor: a check by hand that both ends of this crate are understood.
//!
//! ```text
//! probe ping      COLLECTOR PROOFS COMMAND     may we run the command there?
//! probe query     COLLECTOR PROOFS [COUNT]     all ads (command 48), COUNT times
//! probe advertise COLLECTOR PROOFS NAME        a slot ad, seen in a query, then removed again
//! probe serve     PORT TRUSTDOMAIN CHECK...    a server for condor_ping and condor_status -direct
//! ```
//!
//! PROOFS, separated by commas, in order: `token:DIRECTORY`, `password:FILE`,
//! `ssl:CAFILE[:CERTIFICATE[:KEY]]`, `claim:NAME`, `fs`, `anonymous`. CHECK: `token:KEYFILE`,
//! `password:FILE`, `ssl:CAFILE:CERTIFICATE:KEY`, `fs:DIRECTORY`, `claim`, `anonymous`.

#![allow(
    clippy::print_stdout,
    reason = "a command line tool answers on its standard output"
)]

mod proof;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use cedar::net::{Client, Incoming, Policies, Server, ServerConfig, SessionCache, Stream};
use cedar::security::server::CommandTable;
use cedar::security::{Level, SecurityPolicy};
use cedar::{ClaimId, Sinful, command};
use classad::ClassAd;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["ping", collector, proofs, command] => ping(collector, proofs, command).await,
        ["query", collector, proofs] => query(collector, proofs, "1").await,
        ["query", collector, proofs, count] => query(collector, proofs, count).await,
        ["advertise", collector, proofs, name] => advertise(collector, proofs, name).await,
        ["serve", port, domain, checks @ ..] => serve(port, domain, checks).await,
        _ => Err(anyhow::anyhow!(
            "see the head of cedar/examples/probe.rs for the usage"
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("probe: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn client(proofs: &str) -> anyhow::Result<Client> {
    Ok(Client::new(proof::client(proofs)?, SessionCache::new()))
}

async fn ping(collector: &str, proofs: &str, number: &str) -> anyhow::Result<()> {
    let address = Sinful::from_contact(collector, 9618)?;
    let number = number.parse().context("COMMAND is a number")?;
    let user = client(proofs)?
        .query_authorization(&address, number)
        .await?;
    let name = command::name(number).unwrap_or("?");
    println!(
        "{number} {name}: allowed as {}",
        user.as_deref().unwrap_or("nobody")
    );
    Ok(())
}

/// Reads `int(1) ad ... int(0)`.
async fn read_ads(stream: &mut Stream) -> anyhow::Result<Vec<ClassAd>> {
    let answer = stream.recv().await?;
    let mut reader = answer.reader();
    let mut ads = Vec::new();
    while reader.int()? == 1 {
        ads.push(reader.ad()?);
    }
    reader.expect_end()?;
    Ok(ads)
}

async fn query_ads(
    client: &Client,
    address: &Sinful,
    requirements: &str,
) -> anyhow::Result<Vec<ClassAd>> {
    let mut stream = client
        .start_command(address, command::QUERY_ANY_ADS)
        .await?;
    let mut ad = ClassAd::new();
    ad.insert("MyType", "Query");
    ad.insert("TargetType", "Any");
    ad.insert_expr("Requirements", requirements)?;
    let mut message = stream.message();
    message.ad(&ad);
    stream.send(message).await?;
    read_ads(&mut stream).await
}

async fn query(collector: &str, proofs: &str, count: &str) -> anyhow::Result<()> {
    let address = Sinful::from_contact(collector, 9618)?;
    let client = client(proofs)?;
    for _ in 0..count.parse::<u32>()? {
        let start = Instant::now();
        let ads = query_ads(&client, &address, "true").await?;
        let types: Vec<_> = ads.iter().filter_map(|ad| ad.string("MyType")).collect();
        println!(
            "{} ads in {:?}: {} (sessions cached: {})",
            ads.len(),
            start.elapsed(),
            types.join(" "),
            client.sessions().len()
        );
    }
    Ok(())
}

fn slot_ad(name: &str, address: &Sinful) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("MyType", "Machine");
    ad.insert("TargetType", "Job");
    ad.insert("Name", name);
    ad.insert("Machine", name);
    ad.insert("MyAddress", address.to_string());
    ad.insert("StartdIpAddr", address.to_string());
    ad.insert("State", "Owner");
    ad.insert("Activity", "Idle");
    ad.insert("OSIssue", "\\S");
    ad
}

async fn advertise(collector: &str, proofs: &str, name: &str) -> anyhow::Result<()> {
    let address = Sinful::from_contact(collector, 9618)?;
    let client = client(proofs)?;
    let own = Sinful::new("127.0.0.1".parse()?, 9).with_addrs().no_udp();
    let mut stream = client
        .start_command(&address, command::UPDATE_STARTD_AD)
        .await?;
    println!(
        "known to the collector as {}",
        stream.our_user().unwrap_or("nobody")
    );
    let mut private = ClassAd::new();
    private.insert("ClaimId", ClaimId::mint(&own, 1, 1)?.as_str());
    let mut message = stream.message();
    message.ad(&slot_ad(name, &own)).ad(&private);
    stream.send(message).await?;
    // A second update on the same connection is a bare command.
    let mut message = stream.message();
    message.int(0).ad(&slot_ad(name, &own)).ad(&private);
    stream.send(message).await?;
    let wanted = format!("Name == \"{name}\"");
    let seen = query_ads(&client, &address, &wanted).await?;
    let issue = seen.first().and_then(|ad| ad.string("OSIssue"));
    println!("seen in the collector: {} (OSIssue {issue:?})", seen.len());
    let mut gone = ClassAd::new();
    gone.insert("MyType", "Query");
    gone.insert("TargetType", "Machine");
    gone.insert("Name", name);
    gone.insert_expr("Requirements", &wanted)?;
    let mut message = stream.message();
    message
        .int(i64::from(command::INVALIDATE_STARTD_ADS))
        .ad(&gone);
    stream.send(message).await?;
    // No answer: the query runs on another connection, so it may overtake the removal.
    for _ in 0..50 {
        if query_ads(&client, &address, &wanted).await?.is_empty() {
            println!("removed again");
            return Ok(());
        }
    }
    bail!("the collector still has the ad")
}

async fn serve(port: &str, domain: &str, checks: &[&str]) -> anyhow::Result<()> {
    let (methods, authenticators) = proof::server(checks)?;
    let table = CommandTable::new()
        .serve(command::QUERY_STARTD_ADS, Level::Read)
        .serve(command::UPDATE_STARTD_AD, Level::AdvertiseStartd)
        .permit(Level::Daemon, "*")
        .permit(Level::AdvertiseStartd, "*");
    let mut config =
        ServerConfig::for_sessions(SessionCache::new(), Arc::new(table), "sailplane-probe");
    config.policies = Policies::All(SecurityPolicy {
        methods,
        ..SecurityPolicy::default()
    });
    config.authenticators = authenticators;
    config.trust_domain = Some(domain.to_owned());
    let server = Server::new(config)?;
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
    println!("serving on {}", listener.local_addr()?);
    loop {
        let (tcp, peer) = listener.accept().await?;
        let server = server.clone();
        tokio::spawn(async move {
            match server.accept(tcp, peer).await {
                Ok(incoming) => {
                    println!(
                        "command {} (asked {:?}) from {} by {:?}, resumed {}, version {:?}",
                        incoming.command,
                        incoming.auth_command,
                        incoming.peer.user,
                        incoming.method(),
                        incoming.resumed,
                        incoming.stream.peer_version()
                    );
                    if let Err(error) = answer(incoming).await {
                        println!("{error:#}");
                    }
                }
                Err(error) => println!("{error}"),
            }
        });
    }
}

async fn answer(incoming: Incoming) -> anyhow::Result<()> {
    let Some(mut incoming) = incoming.serve_builtin().await? else {
        return Ok(());
    };
    let stream = &mut incoming.stream;
    let own = Sinful::new("127.0.0.1".parse()?, 9).with_addrs().no_udp();
    if incoming.command == command::QUERY_STARTD_ADS {
        let query = stream.recv().await?;
        println!("query: {}", query.reader().ad()?.to_old());
        let mut message = stream.message();
        message.int(1).ad(&slot_ad("probe@sailplane", &own)).int(0);
        stream.send(message).await?;
    } else {
        while let Ok(message) = stream.recv().await {
            println!("message of {} bytes", message.len());
        }
    }
    Ok(())
}
