//! What the pilot tells the checks about itself: where it works, whom it will speak to, what it offers.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// The pilot, as far as checks may want to know.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Where the sandboxes of jobs will be (`EXECUTE`); it exists.
    pub execute: PathBuf,
    /// The directory the pilot was started in (`LOCAL_DIR`, if not set).
    pub start_directory: PathBuf,
    /// A private directory for the checks, mode 0755, which the pilot removes when it ends. Custom checks have their
    /// work area in it.
    pub scratch: PathBuf,
    /// Where the program is; its neighbours are found by it.
    pub program: Option<PathBuf>,
    /// The collectors, in their order.
    pub collectors: Vec<Endpoint>,
    /// The brokers for connections from outside (CCB), in their order.
    pub ccb: Vec<Endpoint>,
    /// The pilot's proxy.
    pub pilot_proxy: Option<PathBuf>,
    /// Where its tokens are, in the order of searching.
    pub token_directories: Vec<PathBuf>,
    /// Where the CAs are.
    pub ca_directory: Option<PathBuf>,
    /// Where the trusted VOMS servers are.
    pub voms_directory: Option<PathBuf>,
    /// What the site has for changing accounts.
    pub switch: SwitchOffer,
    /// How a broker for jobs is started; none where the site's checks run without a pilot.
    pub launcher: Option<Launcher>,
    /// Whether jobs have to get accounts of their own (the frontend's wish).
    pub identity_switch: Wish,
    /// Whether jobs without accounts of their own have to get namespaces.
    pub isolation: Wish,
    /// The program that works in sandboxes under the pilot's own account.
    pub job_agent: Option<PathBuf>,
    /// Cores offered to jobs, all slots together.
    pub cpus: u32,
    /// Memory offered to jobs, MiB, all slots together.
    pub memory_mib: u64,
    /// Slots.
    pub slots: u32,
    /// The accounts of slots, counted from 1.
    pub slot_users: BTreeMap<u32, String>,
    /// What custom checks may want to know of the configuration: each knob that is set, with its value.
    pub configuration: BTreeMap<String, String>,
}

/// Somebody to speak to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As it was configured, or as it is written for HTCondor.
    pub text: String,
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// How the other end of the launch protocol is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// The helper, or the pilot's own program as the broker.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// User and group it is started as, by root; otherwise as ourselves.
    pub account: Option<(u32, u32)>,
}

/// What a site has for changing accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SwitchOffer {
    /// Our helper.
    Helper(PathBuf),
    /// A gLExec.
    Glexec(PathBuf),
    /// `sudo`.
    Sudo(PathBuf),
    /// Nothing.
    #[default]
    Nothing,
}

/// How much something is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wish {
    /// No pilot without.
    #[default]
    Required,
    /// Where it can be had.
    Optional,
    /// Not at all.
    Never,
}
