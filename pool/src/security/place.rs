//! Where the pool runs.

use std::net::IpAddr;

/// Facts about process and machine that the configuration is read against. Tests make up their own.
#[derive(Debug, Clone)]
pub struct Place {
    /// Effective uid of the process.
    pub uid: u32,
    /// Login name of that uid.
    pub login: String,
    /// Name of the machine, with its domain if it has one.
    pub host_name: String,
    /// Home directory of the account, if it has one.
    pub home: Option<std::path::PathBuf>,
    /// Addresses of the machine, for `{:local_ips:}` in access lists.
    pub addresses: Vec<IpAddr>,
    /// Unix time.
    pub now: fn() -> i64,
}

impl Place {
    /// This process on this machine.
    #[must_use]
    pub fn here() -> Self {
        let uid = nix::unistd::geteuid();
        let user = nix::unistd::User::from_uid(uid).ok().flatten();
        let host_name = nix::unistd::gethostname().ok();
        Self {
            uid: uid.as_raw(),
            login: user
                .as_ref()
                .map_or_else(|| uid.to_string(), |user| user.name.clone()),
            host_name: host_name
                .map(|name| name.to_string_lossy().into_owned())
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "localhost".to_owned()),
            home: user
                .map(|user| user.dir)
                .filter(|dir| dir.is_absolute() && dir.parent().is_some()),
            addresses: own_addresses(),
            now: unix_now,
        }
    }
}

fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}

fn unix_now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}
