//! Where the pool listens, and how others learn of it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use cedar::Sinful;
use condorconf::Config;
use tokio::net::TcpListener;

use super::{ServeError, file_error};
use crate::cli::connect::{COLLECTOR_PORT, PROGRAM};

/// Removes the address file when the pool stops.
#[derive(Debug)]
pub(super) struct Announced(PathBuf);

impl Drop for Announced {
    fn drop(&mut self) {
        // If it is gone already, all is well.
        let _ = fs::remove_file(&self.0);
    }
}

/// Listens at the port of `COLLECTOR_HOST`, on `NETWORK_INTERFACE`.
pub(super) async fn listen(
    config: &Config,
    machine: &str,
) -> Result<(TcpListener, Sinful), ServeError> {
    let interface = interface(config)?;
    let host = config.required("COLLECTOR_HOST")?;
    let contact = Sinful::from_contact(&host, COLLECTOR_PORT).map_err(|_| ServeError::Address {
        knob: "COLLECTOR_HOST",
        value: host.clone(),
    })?;
    let wanted = SocketAddr::new(interface.bind, contact.port());
    let failed = |source| ServeError::Listen {
        address: wanted.to_string(),
        source,
    };
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    // Clients check a certificate against the name by which they were told to find us.
    let alias = if contact.socket_addr().is_some() {
        machine
    } else {
        contact.host()
    };
    let address = Sinful::new(interface.public, port)
        .with_addrs()
        .alias(alias)
        .no_udp();
    Ok((listener, address))
}

struct Interface {
    bind: IpAddr,
    public: IpAddr,
}

/// `NETWORK_INTERFACE`: an address of ours, or `*` for all of them.
fn interface(config: &Config) -> Result<Interface, ServeError> {
    let value = config.required("NETWORK_INTERFACE")?;
    if value.trim() == "*" {
        return Ok(Interface {
            bind: Ipv4Addr::UNSPECIFIED.into(),
            public: outward(),
        });
    }
    let ip: IpAddr = value.trim().parse().map_err(|_| ServeError::Address {
        knob: "NETWORK_INTERFACE",
        value: value.clone(),
    })?;
    let public = if ip.is_unspecified() { outward() } else { ip };
    Ok(Interface { bind: ip, public })
}

/// The address that connections to the outside come from. Nothing is sent: connecting a datagram socket only asks the
/// routing table. The address asked for belongs to a block kept for documentation (RFC 5737).
///
/// A machine without a way out has only itself to talk to.
fn outward() -> IpAddr {
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    ask().map_or_else(|_| Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

/// Writes `COLLECTOR_ADDRESS_FILE` as HTCondor's daemons do: address, version, platform, a line each. Others never see
/// half of it.
pub(super) fn announce(config: &Config, address: &Sinful) -> Result<Announced, ServeError> {
    let path = PathBuf::from(config.required("COLLECTOR_ADDRESS_FILE")?);
    let version = cedar::version::COMPATIBLE.banner(PROGRAM);
    let platform = format!(
        "$CondorPlatform: {}-{} $",
        std::env::consts::ARCH.to_uppercase(),
        std::env::consts::OS
    );
    if let Some(above) = path.parent() {
        fs::create_dir_all(above).map_err(file_error(above))?;
    }
    let new = path.with_extension("new");
    fs::write(&new, format!("{address}\n{version}\n{platform}\n")).map_err(file_error(&new))?;
    fs::rename(&new, &path).map_err(file_error(&path))?;
    Ok(Announced(path))
}
