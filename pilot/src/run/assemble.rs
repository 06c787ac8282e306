//! Turns knobs into the values that the parts are made of.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cedar::Sinful;
use cedar::net::{Client, ClientConfig, Server, SessionCache};
use cedar::security::server::LevelPolicyError;
use launch_protocol::broker::CredentialRequired;
use tokio::net::lookup_host;
use validation::engine::black_hole::Limits;

use super::StartError;
use super::switching::Switching;
use crate::advertise::facts::NodeFacts;
use crate::advertise::offer::{Identity, Offer, startd_name};
use crate::broker::BrokerHello;
use crate::job::{JobConfig, UseLimits};
use crate::join::TokenRequests;
use crate::knobs::Knobs;
use crate::serve;
use crate::slot::StartdConfig;
use crate::slot::clock::Clock;
use crate::slot::event::Policy;

/// What we call ourselves within version banners.
pub(super) const PROGRAM: &str = concat!("sailplane-", env!("CARGO_PKG_VERSION"));

/// The first address of a collector.
pub(super) async fn resolve(collector: &Sinful) -> Option<SocketAddr> {
    if let Some(address) = collector.socket_addr() {
        return Some(address);
    }
    lookup_host((collector.host(), collector.port()))
        .await
        .ok()?
        .next()
}

/// Who the pilot is.
pub(super) fn identity(
    knobs: &Knobs,
    node: &NodeFacts,
    address: SocketAddr,
    clock: &Clock,
) -> Identity {
    let host = knobs
        .network_hostname
        .clone()
        .unwrap_or_else(|| node.kernel.nodename.clone());
    Identity {
        startd_name: startd_name(knobs.startd_name.as_deref(), &host),
        address: self::address(address, &host, None, None).into(),
        machine: host,
        started: clock.started(),
        condor_version: cedar::version::COMPATIBLE.banner(PROGRAM),
        condor_platform: node.platform(),
    }
}

/// The address of the command port at `place`; `contacts`: where brokers can be asked for it. The parameters stand in the
/// order in which HTCondor writes them.
pub(super) fn address(
    place: SocketAddr,
    host: &str,
    private_network: Option<&str>,
    contacts: Option<&str>,
) -> Sinful {
    let mut address = Sinful::new(place.ip(), place.port());
    if let Some(contacts) = contacts {
        address = address.with("CCBID", Some(contacts));
    }
    if let Some(network) = private_network {
        address = address.with("PrivNet", Some(network));
    }
    address.with_addrs().alias(host).no_udp()
}

/// The client for collectors, schedds and shadows.
pub(super) fn client(knobs: &Knobs, identity: &Identity, sessions: SessionCache) -> Client {
    let mut config = ClientConfig::new("STARTD", PROGRAM);
    config.policy = knobs.client_policy.clone();
    config.credentials = knobs.credentials.clone();
    config.command_sock = Some(identity.address.get());
    config.trust_domain.clone_from(&knobs.trust_domain);
    Client::new(config, sessions)
}

/// Who asks for a token when there is none; `None` where nobody shall, or no directory could take one.
pub(super) fn token_requests(
    knobs: &Knobs,
    identity: &Identity,
    client: &Client,
) -> Option<TokenRequests> {
    let wanted = knobs.token_request.as_deref()?;
    let directory = knobs.credentials.token_directories.first()?.clone();
    Some(TokenRequests::new(
        client.config(),
        wanted,
        &identity.machine,
        directory,
    ))
}

/// The command port's end of the handshakes.
pub(super) fn server(
    knobs: &Knobs,
    identity: &Identity,
    sessions: SessionCache,
) -> Result<Server, LevelPolicyError> {
    let names = knobs.port_security.as_ref();
    serve::server(&identity.condor_version, PROGRAM, sessions, names)
}

/// The rules of the slots' task.
pub(super) fn startd_config(knobs: &Knobs, execute: PathBuf) -> StartdConfig {
    StartdConfig {
        policy: Policy {
            worklife: knobs.claim_worklife,
            killing_timeout: knobs.killing_timeout,
            ..Policy::default()
        },
        poll: knobs.polling_interval,
        noclaim: knobs.startd_noclaim_shutdown,
        shutdown_limit: knobs.shutdown_graceful_timeout,
        alives_missed: knobs.max_claim_alives_missed,
        execute,
        black_hole: black_hole(knobs),
        eviction: knobs.eviction.clone(),
    }
}

/// When the node counts as a black hole.
fn black_hole(knobs: &Knobs) -> Limits {
    let checks = &knobs.checks;
    let count = |name| checks.count(name);
    Limits {
        failures: usize::try_from(count("SAILPLANE_BLACK_HOLE_FAILURES")).unwrap_or(usize::MAX),
        window: checks.seconds("SAILPLANE_BLACK_HOLE_WINDOW"),
        pause: checks.seconds("SAILPLANE_BLACK_HOLE_PAUSE"),
        times: u32::try_from(count("SAILPLANE_BLACK_HOLE_TIMES")).unwrap_or(u32::MAX),
    }
}

/// How many slots there are.
pub(super) fn slots(knobs: &Knobs, node: &NodeFacts) -> u32 {
    let cpus = knobs.num_cpus.unwrap_or(node.cpus);
    knobs.num_slots.unwrap_or(cpus)
}

/// What is offered, with what the identity switch says.
pub(super) fn offer(
    knobs: &Knobs,
    node: &NodeFacts,
    identity: &Identity,
    hello: &BrokerHello,
    switching: &Switching,
) -> Offer {
    let facts = vec![
        (
            "SailplaneIdentitySwitch".to_owned(),
            switching.separates().into(),
        ),
        (
            "SailplaneSwitchVersion".to_owned(),
            hello.switch_version.as_str().into(),
        ),
        (
            "SailplaneTracking".to_owned(),
            hello.tracking.as_str().into(),
        ),
        (
            "SailplaneMemorySource".to_owned(),
            hello.memory_source.as_str().into(),
        ),
        ("SailplaneMapping".to_owned(), hello.mapping.as_str().into()),
        (
            "SailplaneIdentitySwitchBy".to_owned(),
            switching.by().into(),
        ),
        (
            "SailplaneIdentitySwitchReason".to_owned(),
            switching.reason().into(),
        ),
        (
            "SailplaneIsolation".to_owned(),
            switching.isolation().into(),
        ),
        (
            "SailplaneFeatures".to_owned(),
            hello.features.join(" ").as_str().into(),
        ),
        (
            "SailplaneLacks".to_owned(),
            switching.lacks.join("; ").as_str().into(),
        ),
        (
            "SailplaneJobCredential".to_owned(),
            switching.identity().word().into(),
        ),
        // As glideinWMS has it published; its frontends look at it.
        ("GLEXEC_JOB".to_owned(), switching.separates().into()),
    ];
    Offer {
        facts,
        condition: switching.identity().condition(),
        ..bare_offer(knobs, node, identity)
    }
}

/// What is offered, without anything about the identity switch.
pub(super) fn bare_offer(knobs: &Knobs, node: &NodeFacts, identity: &Identity) -> Offer {
    let cpus = knobs.num_cpus.unwrap_or(node.cpus);
    let memory = knobs
        .memory_mib
        .unwrap_or_else(|| node.memory_mib.saturating_sub(knobs.reserved_memory_mib));
    Offer {
        slots: slots(knobs, node),
        cpus,
        memory_mib: memory,
        start: knobs.start.clone(),
        rank: knobs.rank.clone(),
        max_retirement: knobs.max_job_retirement_time.clone(),
        max_vacate: knobs.machine_max_vacate_time.clone(),
        weight: knobs.slot_weight.clone(),
        uid_domain: uid_domain(knobs, identity),
        filesystem_domain: filesystem_domain(knobs, identity),
        collector_host: knobs.collector_host.clone(),
        disk_kib: knobs.disk_kib,
        reserved_disk_kib: knobs.reserved_disk_mib.saturating_mul(1024),
        condition: None,
        facts: Vec::new(),
        accounts: knobs.slot_users.clone(),
        attributes: knobs.startd_attrs.clone(),
        slot_attributes: knobs.slot_attrs.clone(),
        checks: Vec::new(),
    }
}

fn uid_domain(knobs: &Knobs, identity: &Identity) -> String {
    knobs
        .uid_domain
        .clone()
        .unwrap_or_else(|| identity.machine.clone())
}

/// A value that no submit host has, unless the operator says otherwise: with an equal one file transfer would be
/// turned off for many jobs, and nothing is shared with a pilot's sandbox (02, pitfall 9).
fn filesystem_domain(knobs: &Knobs, identity: &Identity) -> String {
    knobs
        .filesystem_domain
        .clone()
        .unwrap_or_else(|| format!("sailplane.{}.invalid", identity.startd_name))
}

/// What jobs need to know.
pub(super) fn job_config(
    knobs: &Knobs,
    identity: &Identity,
    execute: &Path,
    hello: &BrokerHello,
    switching: &Switching,
) -> Arc<JobConfig> {
    Arc::new(JobConfig {
        identity_switch: switching.separates(),
        identity: switching.identity().clone(),
        execute_dir: execute.to_owned(),
        uid_domain: uid_domain(knobs, identity),
        filesystem_domain: filesystem_domain(knobs, identity),
        condor_version: identity.condor_version.clone(),
        condor_platform: identity.condor_platform.clone(),
        credential_grace: knobs.credential_grace,
        credential_notice: knobs.credential_notice,
        max_vacate_time: knobs.max_vacate_time,
        killing_timeout: knobs.killing_timeout,
        initial_update_interval: knobs.starter_initial_update_interval,
        update_interval: knobs.starter_update_interval,
        figures_interval: knobs.eviction.is_needed().then_some(knobs.polling_interval),
        credential_refresh: knobs.credential_refresh,
        transfer_timeout: knobs.transfer_timeout,
        renice: knobs.renice,
        rlimit_as_mib: knobs.rlimit_as_mib,
        site_environment: knobs.site_environment.clone(),
        port_range: knobs.job_port_range,
        io_priority: knobs.io_priority,
        limits: UseLimits {
            memory: knobs.limit_memory && has(hello, "memory-limit"),
            processes: knobs.job_processes.filter(|_| has(hello, "pids-limit")),
        },
        pilot_proxy: knobs
            .pilot_proxy
            .clone()
            .filter(|_| hello.credential_required == CredentialRequired::PilotAndUser),
        ..JobConfig::default()
    })
}

/// Whether the helper says that it can do this here.
fn has(hello: &BrokerHello, feature: &str) -> bool {
    hello.features.iter().any(|known| known == feature)
}

/// The helper must make sandboxes where we want them.
///
/// # Errors
/// [`StartError::ExecuteNotAllowed`].
pub(super) fn check_execute(execute: &Path, hello: &BrokerHello) -> Result<(), StartError> {
    if hello
        .execute_dirs
        .iter()
        .any(|allowed| execute.starts_with(allowed))
    {
        return Ok(());
    }
    Err(StartError::ExecuteNotAllowed {
        execute: execute.to_owned(),
        allowed: hello.execute_dirs.clone(),
    })
}
