//! Facts about machine and process that a configuration may refer to.

use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use nix::unistd::{User, getgid, getpid, getppid, getuid};

use crate::advertise::facts::NodeFacts;

/// What the pilot knows before it reads its configuration. HTCondor's names; `TILDE` (the home of an account
/// `condor`) is not among them.
#[derive(Debug, Clone, Default)]
pub struct Detected {
    /// Cores this process may use.
    pub cpus: u32,
    /// The name of the account.
    pub user_name: String,
    /// Home of the account.
    pub home: Option<PathBuf>,
    /// Whether the process is root.
    pub is_root: bool,
    /// The account's number.
    pub uid: u32,
    /// Variables that name credentials of the pilot's: `X509_USER_PROXY` and those of bearer tokens.
    pub credential_variables: Vec<(&'static str, String)>,
    pub(super) facts: Vec<(String, String)>,
}

impl Detected {
    /// Asks the machine.
    #[must_use]
    pub fn probe() -> Self {
        let node = NodeFacts::probe();
        let user = User::from_uid(getuid()).ok().flatten();
        let user_name = user
            .as_ref()
            .map_or_else(|| getuid().to_string(), |user| user.name.clone());
        let home = env::var_os("HOME")
            .map(PathBuf::from)
            .or_else(|| user.map(|user| user.dir));
        let is_root = getuid().is_root();
        let mut detected = Self {
            cpus: node.cpus,
            user_name,
            home,
            is_root,
            uid: getuid().as_raw(),
            credential_variables: credential_variables(),
            facts: Vec::new(),
        };
        detected.machine(&node);
        detected.process();
        detected.address();
        detected
    }

    /// One of the variables that name credentials.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        let mut variables = self.credential_variables.iter();
        variables
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.clone())
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.add(name, value);
        self
    }

    /// The facts, by HTCondor's names.
    pub fn facts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.facts
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn machine(&mut self, node: &NodeFacts) {
        let full = node.kernel.nodename.clone();
        let short = full.split('.').next().unwrap_or("").to_owned();
        let facts = [
            ("FULL_HOSTNAME", full.clone()),
            ("HOSTNAME", short),
            ("ARCH", node.arch()),
            ("UNAME_ARCH", node.kernel.machine.clone()),
            ("OPSYS", node.kernel.sysname.to_uppercase()),
            ("UNAME_OPSYS", node.kernel.sysname.clone()),
            ("UTSNAME_SYSNAME", node.kernel.sysname.clone()),
            ("UTSNAME_NODENAME", full),
            ("UTSNAME_RELEASE", node.kernel.release.clone()),
            ("UTSNAME_VERSION", node.kernel.version.clone()),
            ("UTSNAME_MACHINE", node.kernel.machine.clone()),
            ("OPSYSNAME", node.os.name.clone()),
            ("OPSYSMAJORVER", node.os.major.to_string()),
            ("OPSYSANDVER", format!("{}{}", node.os.name, node.os.major)),
            ("DETECTED_CPUS", node.cpus.to_string()),
            ("DETECTED_CPUS_LIMIT", node.cpus.to_string()),
            ("DETECTED_CORES", node.cpus.to_string()),
            ("DETECTED_MEMORY", node.memory_mib.to_string()),
        ];
        facts
            .into_iter()
            .for_each(|(name, value)| self.add(name, &value));
    }

    fn process(&mut self) {
        let facts = [
            ("USERNAME", self.user_name.clone()),
            ("REAL_UID", getuid().to_string()),
            ("REAL_GID", getgid().to_string()),
            ("PID", getpid().to_string()),
            ("PPID", getppid().to_string()),
            ("CondorIsAdmin", self.is_root.to_string()),
        ];
        facts
            .into_iter()
            .for_each(|(name, value)| self.add(name, &value));
        if let Ok(dir) = env::current_dir() {
            self.add("SAILPLANE_WORKING_DIRECTORY", &dir.to_string_lossy());
        }
    }

    fn address(&mut self) {
        let Some(ip) = outgoing_address() else { return };
        self.add("IP_ADDRESS", &ip.to_string());
        self.add("IP_ADDRESS_IS_IPV6", &ip.is_ipv6().to_string());
        self.add(
            if ip.is_ipv6() {
                "IPV6_ADDRESS"
            } else {
                "IPV4_ADDRESS"
            },
            &ip.to_string(),
        );
    }

    fn add(&mut self, name: &str, value: &str) {
        self.facts.push((name.to_owned(), value.to_owned()));
    }
}

fn credential_variables() -> Vec<(&'static str, String)> {
    const NAMES: [&str; 4] = [
        "X509_USER_PROXY",
        "BEARER_TOKEN",
        "BEARER_TOKEN_FILE",
        "XDG_RUNTIME_DIR",
    ];
    let set = |name| Some((name, env::var(name).ok().filter(|value| !value.is_empty())?));
    NAMES.into_iter().filter_map(set).collect()
}

/// The address that packets to the outside leave from. Nothing is sent: connecting a UDP socket only asks the routes.
fn outgoing_address() -> Option<IpAddr> {
    // An address of the documentation range (RFC 5737), and the discard port.
    let outside = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9));
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(outside).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
