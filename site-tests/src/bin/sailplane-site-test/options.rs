//! The command line.

use std::path::PathBuf;

use clap::Parser;
use validation::report::Format;

/// Tries the identity-switch helper of this node out: how it is installed, who becomes whom, who is refused, and whether
/// what it starts can be killed, suspended and cleaned up. Run it as root, or as an account under which pilots run.
///
/// It changes nothing: it makes a folder below one of execute_dirs and removes it. What the helper logs stays.
///
/// Exit status: 0 nothing failed; 1 something did; 2 the command line cannot be used; 3 nothing could be tried. With
/// --format nagios: that of a plug-in.
///
/// Example: sailplane-site-test --credential /root/alice.pem --expect 'dn "/DC=org/CN=Mallory" refused ban.dn'
#[derive(Debug, Clone, Parser)]
#[command(name = "sailplane-site-test", version)]
pub(super) struct Options {
    /// A credential (proxy, or certificate and key, or token) that the helper must accept; each account that comes of
    /// one goes through launch, signals, kill, suspension and clean-up.
    #[arg(long, value_name = "FILE")]
    pub(super) credential: Vec<PathBuf>,

    /// Who becomes whom, one line in the form of --map.
    #[arg(long, value_name = "LINE")]
    pub(super) expect: Vec<String>,

    /// A file with such lines: `file PATH` or `dn NAME`, with any number of `fqan ATTRIBUTE`, and then `account NAME`,
    /// `pool PREFIX`, `dynamic`, or `refused [CODE]`. A name with blanks stands in double quotes.
    #[arg(long, value_name = "FILE")]
    pub(super) map: Vec<PathBuf>,

    /// The certificate of an authority that this node trusts for tests, with its key in --test-ca-key: names are then
    /// tried with credentials made for them.
    #[arg(long, value_name = "FILE", requires = "test_ca_key")]
    pub(super) test_ca: Option<PathBuf>,

    /// The private key of --test-ca, not encrypted.
    #[arg(long, value_name = "FILE", requires = "test_ca")]
    pub(super) test_ca_key: Option<PathBuf>,

    /// The pilot's own credential, where credential_required is pilot+user.
    #[arg(long, value_name = "FILE")]
    pub(super) pilot_credential: Option<PathBuf>,

    /// The account under which the helper is called; root only. Else the first of user_white_list that exists.
    #[arg(long = "as", value_name = "ACCOUNT")]
    pub(super) account: Option<String>,

    /// The helper.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/usr/lib/sailplane/sailplane-switch"
    )]
    pub(super) helper: PathBuf,

    /// The configuration that it was built for.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/sailplane/switch.conf"
    )]
    pub(super) config: PathBuf,

    /// One of execute_dirs. Else the first.
    #[arg(long, value_name = "DIR")]
    pub(super) execute: Option<PathBuf>,

    /// How many payloads are alive at the same time in the storm; 0: no storm.
    #[arg(long, value_name = "NUMBER", default_value_t = 32, value_parser = clap::value_parser!(u32).range(..=2000))]
    pub(super) storm: u32,

    /// The longest time that a payload may take to start, to be killed, or to be suspended, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(super) limit: u64,

    /// Warnings and what could not be tried count as failures in the exit status.
    #[arg(long)]
    pub(super) strict: bool,

    /// text, json, otrx or nagios.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) format: Format,

    /// Writes the report as a page, too: one file to be mailed.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}
