//! From the table of knobs to checked values.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cedar::Sinful;
use classad::{EvalContext, Expr, Value};
use condorconf::Config;
use launch_protocol::exec::{IoClass, IoPriority};

use super::detected::Detected;
use super::error::{KnobErrors, Problem};
use super::reader::{Reader, is_configured};
use super::{Knobs, Offered, SwitchWish, attributes, ccb, listing, security, table};
use crate::identity::CredentialWish;
use crate::job::environment;
use crate::slot::eviction::Eviction;

/// Where collectors listen: `htcondor:src/condor_utils/param_info.in`, `COLLECTOR_PORT`.
pub(super) const COLLECTOR_PORT: u16 = 9618;

/// `MaxVacateTime`, for a `MachineMaxVacateTime` that needs a job to be evaluated.
const VACATE: Duration = Duration::from_secs(600);

/// Knobs of HTCondor's startd and starter that change what happens to jobs there and have no effect here; and the
/// value that asks for what the pilot does anyway, empty where there is none.
const WITHOUT_EFFECT: [(&str, &str); 12] = [
    ("SUSPEND", "False"),
    ("WANT_SUSPEND", "False"),
    ("CONTINUE", "True"),
    ("WANT_VACATE", "True"),
    ("KILL", "False"),
    ("NUM_SLOTS_TYPE_1", ""),
    ("SLOT_TYPE_1", ""),
    ("USER_JOB_WRAPPER", ""),
    ("STARTD_CRON_JOBLIST", ""),
    ("TCP_FORWARDING_HOST", ""),
    ("OUT_LOWPORT", ""),
    ("SINGULARITY_JOB", "False"),
];

pub(super) fn check(config: &Config, detected: &Detected) -> Result<Knobs, KnobErrors> {
    let mut reader = Reader::new(config);
    let knobs = read(&mut reader, detected);
    unknown_knobs(&mut reader);
    sizes(&mut reader, &knobs, detected);
    match KnobErrors::from_vec(reader.errors) {
        Some(errors) => Err(errors),
        None => Ok(Knobs {
            warnings: warnings(config, reader.warnings),
            ..knobs
        }),
    }
}

pub(super) fn read(reader: &mut Reader<'_>, detected: &Detected) -> Knobs {
    let mut client_policy = security::client_policy(reader);
    let credentials = security::credentials(reader, &mut client_policy, detected);
    let machine_max_vacate_time = reader.expression("MachineMaxVacateTime");
    let startd_attrs = attributes::common(reader);
    let ports = port_range(reader, "LOWPORT", "HIGHPORT");
    let command_ports = port_range(reader, "IN_LOWPORT", "IN_HIGHPORT");
    Knobs {
        collectors: collectors(reader),
        collector_host: reader.text("COLLECTOR_HOST").unwrap_or_default(),
        credentials,
        token_request: security::token_request(reader, &client_policy),
        client_policy,
        trust_domain: reader.text("TRUST_DOMAIN"),
        port_security: security::port(reader),
        network_interface: reader.text("NETWORK_INTERFACE").unwrap_or_default(),
        network_hostname: reader.text("NETWORK_HOSTNAME"),
        ccb: ccb::read(reader),
        port_range: command_ports.or(ports),
        job_port_range: ports,
        startd_name: reader.text("STARTD_NAME"),
        uid_domain: domain(reader, "UID_DOMAIN"),
        filesystem_domain: domain(reader, "FILESYSTEM_DOMAIN"),
        log: reader.path("LOG"),
        execute: reader.path("EXECUTE").unwrap_or_default(),
        num_cpus: reader.number("NUM_CPUS"),
        memory_mib: reader.number("MEMORY"),
        reserved_memory_mib: reader.number("RESERVED_MEMORY").unwrap_or(0),
        disk_kib: reader.number("DISK"),
        reserved_disk_mib: reader.number("RESERVED_DISK").unwrap_or(0),
        num_slots: reader.number("NUM_SLOTS"),
        start: reader.expression("START"),
        rank: reader.expression("RANK"),
        slot_weight: reader.expression("SLOT_WEIGHT"),
        max_job_retirement_time: reader.expression("MAXJOBRETIREMENTTIME"),
        max_vacate_time: constant_seconds(&machine_max_vacate_time).unwrap_or(VACATE),
        machine_max_vacate_time,
        eviction: Eviction {
            preempt: reader.expression("PREEMPT"),
            hold: reader.expression("WANT_HOLD"),
            reason: reader.expression("WANT_HOLD_REASON"),
            subcode: reader.expression("WANT_HOLD_SUBCODE"),
        },
        slot_attrs: attributes::of_slots(reader, &startd_attrs),
        startd_attrs,
        update_interval: reader.seconds("UPDATE_INTERVAL"),
        polling_interval: reader.seconds("POLLING_INTERVAL"),
        startd_noclaim_shutdown: reader.optional_seconds("STARTD_NOCLAIM_SHUTDOWN"),
        claim_worklife: reader.number("CLAIM_WORKLIFE").map(Duration::from_secs),
        max_claim_alives_missed: reader.number("MAX_CLAIM_ALIVES_MISSED").unwrap_or(0),
        killing_timeout: reader.seconds("KILLING_TIMEOUT"),
        shutdown_graceful_timeout: reader.seconds("SHUTDOWN_GRACEFUL_TIMEOUT"),
        starter_initial_update_interval: reader.seconds("STARTER_INITIAL_UPDATE_INTERVAL"),
        starter_update_interval: reader.seconds("STARTER_UPDATE_INTERVAL"),
        transfer_timeout: reader.seconds("STARTER_UPLOAD_TIMEOUT"),
        site_environment: site_environment(reader),
        credential_refresh: reader.optional_seconds("SEC_CREDENTIAL_REFRESH"),
        renice: reader.number("JOB_RENICE_INCREMENT").unwrap_or(0),
        rlimit_as_mib: reader
            .number("STARTER_RLIMIT_AS")
            .filter(|&limit: &u64| limit > 0),
        sailplane_switch: offered(reader),
        identity_switch: SwitchWish::of(
            reader.choice("SAILPLANE_IDENTITY_SWITCH"),
            SwitchWish::Required,
        ),
        isolation: SwitchWish::of(reader.choice("SAILPLANE_ISOLATION"), SwitchWish::Optional),
        job_credential: CredentialWish::of(reader.choice("SAILPLANE_JOB_CREDENTIAL")),
        job_token: reader.text("SAILPLANE_JOB_TOKEN").unwrap_or_default(),
        hide: hidden(reader),
        slot_users: slot_users(reader),
        pilot_proxy: reader.path("SAILPLANE_PILOT_PROXY"),
        job_agent: reader.path("SAILPLANE_JOB_AGENT"),
        ca_directory: reader.path("SAILPLANE_CA_DIRECTORY"),
        limit_memory: reader.choice("CGROUP_MEMORY_LIMIT_POLICY") != Some("none"),
        job_processes: reader
            .number("SAILPLANE_JOB_PROCESSES")
            .filter(|&limit: &u64| limit > 0),
        io_priority: io_priority(reader.choice("SAILPLANE_JOB_IO_PRIORITY")),
        credential_grace: reader.seconds("SAILPLANE_CREDENTIAL_GRACE"),
        credential_notice: reader.seconds("SAILPLANE_CREDENTIAL_NOTICE"),
        max_lifetime: reader.optional_seconds("SAILPLANE_MAX_LIFETIME"),
        configuration: configuration(reader.config),
        checks: checks(reader),
        warnings: Vec::new(),
        dump: listing::dump(reader.config),
    }
}

fn collectors(reader: &mut Reader<'_>) -> Vec<Sinful> {
    let (name, contacts) = reader.list("COLLECTOR_HOST");
    let wrong = reader
        .errors
        .iter()
        .any(|error| error.knob().eq_ignore_ascii_case(name));
    if contacts.is_empty() && !wrong {
        reader.fail(
            name,
            Problem::Missing {
                hint: "name the pool's collector, or set CONDOR_HOST",
            },
        );
    }
    let mut collectors = Vec::new();
    for text in contacts {
        match Sinful::from_contact(&text, COLLECTOR_PORT) {
            Ok(collector) if collector.port() == 0 => reader.fail(name, Problem::NoPort { text }),
            Ok(collector) => collectors.push(collector),
            Err(cause) => reader.fail(name, Problem::Address { text, cause }),
        }
    }
    collectors
}

fn port_range(reader: &mut Reader<'_>, low: &str, high: &str) -> Option<(u16, u16)> {
    let before = reader.errors.len();
    let bounds: (Option<u16>, Option<u16>) = (reader.number(low), reader.number(high));
    match bounds {
        (Some(first), Some(last)) if first <= last => Some((first, last)),
        (None, None) => None,
        // A bound that is wrong in itself has been complained about.
        _ if reader.errors.len() > before => None,
        (first, last) => {
            let text = |bound: Option<u16>| {
                bound.map_or_else(|| "(not set)".to_owned(), |port| port.to_string())
            };
            let set = if first.is_some() { low } else { high };
            reader.fail(
                set,
                Problem::PortRange {
                    low: text(first),
                    high: text(last),
                },
            );
            None
        }
    }
}

/// A domain that somebody set; without one the configuration language makes it the host's name.
fn domain(reader: &mut Reader<'_>, name: &str) -> Option<String> {
    let value = reader.text(name);
    value.filter(|_| is_configured(reader.config.origin(name)))
}

/// The site's helper. Who has configured gLExec for HTCondor's own starter need not do it again.
fn offered(reader: &mut Reader<'_>) -> Offered {
    const NAME: &str = "SAILPLANE_SWITCH";
    let text = reader.text(NAME).unwrap_or_default();
    let glexec = reader.text("GLEXEC");
    let wanted = reader
        .text("GLEXEC_JOB")
        .is_some_and(|text| text.eq_ignore_ascii_case("true"));
    if let Some(path) = glexec.filter(|_| wanted && !is_configured(reader.config.origin(NAME))) {
        if path.starts_with('/') {
            return Offered::Glexec(path.into());
        }
        reader.fail("GLEXEC", Problem::NotAbsolute { text: path });
    }
    Offered::parse(text.trim()).unwrap_or_else(|| {
        reader.fail(NAME, Problem::Helper { text });
        Offered::Nothing
    })
}

fn hidden(reader: &mut Reader<'_>) -> Vec<PathBuf> {
    let (name, list) = reader.list("SAILPLANE_HIDE");
    let mut paths = Vec::new();
    for text in list {
        if text.starts_with('/') {
            paths.push(PathBuf::from(text));
        } else {
            reader.fail(name, Problem::NotAbsolute { text });
        }
    }
    paths
}

/// `SLOT<N>_USER`, HTCondor's name for the account of a slot's jobs.
fn slot_users(reader: &mut Reader<'_>) -> BTreeMap<u32, String> {
    let slots: Vec<(u32, String)> = reader
        .config
        .iter()
        .filter_map(|knob| {
            let (number, rest) = attributes::slot_knob(knob.name)?;
            rest.eq_ignore_ascii_case("USER")
                .then(|| (number, knob.name.to_owned()))
        })
        .collect();
    let mut users = BTreeMap::new();
    for (number, name) in slots {
        let Some(user) = reader.value(&name).filter(|user| !user.is_empty()) else {
            continue;
        };
        if is_account(&user) {
            users.insert(number, user);
        } else {
            reader.fail(&name, Problem::Account { text: user });
        }
    }
    users
}

fn io_priority(word: Option<&str>) -> Option<IoPriority> {
    match word? {
        "IDLE" => Some(IoPriority {
            class: IoClass::Idle,
            level: 0,
        }),
        level => level.parse().ok().map(|level| IoPriority {
            class: IoClass::BestEffort,
            level,
        }),
    }
}

/// Whether a name can be an account's, and cannot be taken for an option.
fn is_account(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn site_environment(reader: &mut Reader<'_>) -> Vec<(String, String)> {
    const NAME: &str = "STARTER_JOB_ENVIRONMENT";
    let text = reader.text(NAME).unwrap_or_default();
    environment::parse_site(&text).unwrap_or_else(|cause| {
        reader.fail(NAME, Problem::Environment(cause));
        Vec::new()
    })
}

/// What somebody set; what cannot be expanded is left out, because it may not be meant for the pilot.
fn configuration(config: &Config) -> BTreeMap<String, String> {
    config
        .iter()
        .filter(|knob| is_configured(Some(knob.origin)))
        .filter_map(|knob| {
            let value = config.get(knob.name).ok().flatten()?;
            Some((knob.name.to_owned(), value))
        })
        .collect()
}

/// What the checks have, each value of its kind.
fn checks(reader: &mut Reader<'_>) -> validation::Knobs {
    let mut knobs = validation::Knobs::default();
    for knob in validation::knob::tables().into_iter().flatten() {
        if let Some(name) = knob.names.first()
            && let Some(value) = reader.of_kind(name, knob.kind)
        {
            knobs.set(name, value);
        }
    }
    for (name, sentence) in validation::engine::mistakes(&knobs) {
        reader.fail(name, Problem::Check { sentence });
    }
    knobs
}

fn constant_seconds(expr: &Expr) -> Option<Duration> {
    match EvalContext::new().eval(expr) {
        Value::Integer(seconds) => Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))),
        Value::Real(seconds) => Duration::try_from_secs_f64(seconds.max(0.0)).ok(),
        _ => None,
    }
}

/// More slots than cores would offer cores twice.
fn sizes(reader: &mut Reader<'_>, knobs: &Knobs, detected: &Detected) {
    let cpus = knobs.num_cpus.unwrap_or(detected.cpus).max(1);
    if let Some(slots) = knobs.num_slots.filter(|&slots| slots > cpus) {
        reader.fail("NUM_SLOTS", Problem::TooManySlots { slots, cpus });
    }
}

fn unknown_knobs(reader: &mut Reader<'_>) {
    const PREFIX: &str = "SAILPLANE_";
    let unknown: Vec<String> = reader
        .config
        .iter()
        .filter(|knob| is_configured(Some(knob.origin)))
        .map(|knob| knob.name)
        .filter(|name| {
            let bare = name.rsplit_once('.').map_or(*name, |(_, bare)| bare);
            bare.get(..PREFIX.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(PREFIX))
                && table::find(bare).is_none()
        })
        .map(str::to_owned)
        .collect();
    for name in unknown {
        let bare = name
            .rsplit_once('.')
            .map_or(name.as_str(), |(_, bare)| bare);
        reader.fail(
            &name,
            Problem::Unknown {
                nearest: nearest(bare),
            },
        );
    }
}

/// The knob of ours that is spelled nearly as `name`.
fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let ours = table::all()
        .flat_map(|knob| knob.names)
        .filter(|known| known.starts_with("SAILPLANE_"));
    ours.map(|known| (distance(&name, known), *known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 4)
        .map(|(_, known)| known)
}

/// Least number of letters to change, insert or remove (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, x) in a.bytes().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (place, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let change = diagonal + usize::from(x != y);
            diagonal = *place;
            *place = change.min(left + 1).min(diagonal + 1);
            left = *place;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

fn warnings(config: &Config, own: Vec<String>) -> Vec<String> {
    let mut all: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
    all.extend(own);
    for (name, harmless) in WITHOUT_EFFECT {
        let asks_for_more = config
            .raw(name)
            .is_some_and(|raw| !raw.trim().eq_ignore_ascii_case(harmless));
        if let Some(origin) = config
            .origin(name)
            .filter(|origin| asks_for_more && is_configured(Some(origin)))
        {
            all.push(format!("{origin}: {name}: has no effect on this pilot"));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(nearest("SAILPLANE_SWITHC"), Some("SAILPLANE_SWITCH"));
        assert_eq!(
            nearest("SAILPLANE_CREDENTIALS_GRACE"),
            Some("SAILPLANE_CREDENTIAL_GRACE")
        );
        assert_eq!(nearest("SAILPLANE_COLOUR"), None);
    }
}
