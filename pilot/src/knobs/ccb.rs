//! The knobs of a pilot that cannot be connected to.

use std::time::Duration;

use cedar::Sinful;

use super::check::COLLECTOR_PORT;
use super::error::Problem;
use super::reader::Reader;

/// Who passes connections on to the pilot, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ccb {
    /// `CCB_ADDRESS`: the brokers; empty: the pilot is connected to.
    pub brokers: Vec<Sinful>,
    /// `CCB_HEARTBEAT_INTERVAL`; `None`: no heartbeats.
    pub heartbeat: Option<Duration>,
    /// `CCB_RECONNECT_TIME`.
    pub reconnect: Duration,
    /// `CCB_TIMEOUT`.
    pub timeout: Duration,
    /// `CCB_REQUIRED_TO_START`.
    pub required: bool,
    /// `PRIVATE_NETWORK_NAME`.
    pub private_network: Option<String>,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Ccb {
    Ccb {
        brokers: brokers(reader),
        heartbeat: reader.optional_seconds("CCB_HEARTBEAT_INTERVAL"),
        reconnect: reader.seconds("CCB_RECONNECT_TIME"),
        timeout: reader.seconds("CCB_TIMEOUT"),
        required: reader.flag("CCB_REQUIRED_TO_START"),
        private_network: private_network(reader),
    }
}

fn brokers(reader: &mut Reader<'_>) -> Vec<Sinful> {
    let (name, contacts) = reader.list("CCB_ADDRESS");
    let mut brokers = Vec::new();
    for text in contacts {
        // The number of somebody who is registered there is no part of the address.
        let bare = text.split('#').next().unwrap_or(&text);
        match Sinful::from_contact(bare, COLLECTOR_PORT) {
            Ok(broker) if broker.port() == 0 => reader.fail(name, Problem::NoPort { text }),
            // Twice at one broker would be two numbers for one port.
            Ok(broker) if brokers.contains(&broker) => {}
            Ok(broker) => brokers.push(broker),
            Err(cause) => reader.fail(name, Problem::Address { text, cause }),
        }
    }
    brokers
}

fn private_network(reader: &mut Reader<'_>) -> Option<String> {
    const NAME: &str = "PRIVATE_NETWORK_NAME";
    let text = reader.text(NAME)?.trim().to_owned();
    if text.is_empty() {
        return None;
    }
    if text.chars().all(|c| c.is_ascii_graphic()) {
        return Some(text);
    }
    reader.fail(NAME, Problem::NetworkName { text });
    None
}
