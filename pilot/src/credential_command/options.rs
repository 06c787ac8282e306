//! The words behind `sailplane credential show` and `verify`, the same for both.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use credential::{
    LimitedProxies, TokenIssuer, TokenOptions, TrustStore, VerifyOptions, VomsOptions,
};
use jiff::Timestamp;

/// What is asked, and what is trusted.
#[derive(Debug, Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub struct Asked {
    /// Proxy, certificate or token; `-` is standard input
    pub file: PathBuf,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Judge it at this time, as Unix seconds or like 2026-11-25T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = time, allow_negative_numbers = true)]
    pub at: Option<i64>,
    /// Directory of trusted CAs
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/etc/grid-security/certificates",
        help_heading = "Certificates"
    )]
    pub ca_dir: PathBuf,
    /// Directory of VOMS servers; without it attributes are shown, but not judged
    #[arg(long, value_name = "DIR", help_heading = "Certificates")]
    pub voms_dir: Option<PathBuf>,
    /// Name of the host for attributes that name their targets [default: this host's]
    #[arg(long, value_name = "NAME", help_heading = "Certificates")]
    pub host: Option<String>,
    /// Refuse what a CA signed that has no revocation list
    #[arg(long, help_heading = "Certificates")]
    pub require_crl: bool,
    /// Accept what a CA signed that has neither a signing policy nor namespaces
    #[arg(long, help_heading = "Certificates")]
    pub allow_missing_namespace: bool,
    /// Accept proxies from before RFC 3820 (CN=proxy)
    #[arg(long, visible_alias = "accept-legacy", help_heading = "Certificates")]
    pub allow_legacy: bool,
    /// Accept proxies of the GT3 draft
    #[arg(long, visible_alias = "accept-gt3", help_heading = "Certificates")]
    pub allow_gt3: bool,
    /// Accept SHA-1 signatures
    #[arg(long, help_heading = "Certificates")]
    pub allow_sha1: bool,
    /// Accept a file without private key, such as a certificate that somebody has sent
    #[arg(long, help_heading = "Certificates")]
    pub allow_no_key: bool,
    /// Whether limited proxies are accepted
    #[arg(
        long,
        value_enum,
        value_name = "WHETHER",
        default_value_t,
        help_heading = "Certificates"
    )]
    pub limited_proxy: Limited,
    /// Seconds of validity that must be left
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        help_heading = "Certificates"
    )]
    pub minimum_left: u32,
    /// Longest validity of attribute certificates
    #[arg(long, value_name = "SECONDS", help_heading = "Certificates")]
    pub maximum_ac_lifetime: Option<u32>,
    /// Public keys of the issuer of tokens
    #[arg(
        long,
        value_name = "FILE",
        requires = "issuer",
        help_heading = "Tokens"
    )]
    pub jwks: Option<PathBuf>,
    /// Issuer of tokens
    #[arg(long, value_name = "URL", requires = "jwks", help_heading = "Tokens")]
    pub issuer: Option<String>,
    /// Name of the site in tokens; may be given more than once
    #[arg(long, value_name = "NAME", help_heading = "Tokens")]
    pub audience: Vec<String>,
    /// What a token has to allow; may be given more than once [default: compute.create]
    #[arg(long, value_name = "SCOPE", help_heading = "Tokens")]
    pub scope: Vec<String>,
    /// Longest validity of tokens
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 86_400,
        help_heading = "Tokens"
    )]
    pub maximum_token_lifetime: u32,
}

/// Form of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object
    Json,
}

/// Whether limited proxies are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Limited {
    /// Both kinds
    #[default]
    Allow,
    /// Full ones only
    Deny,
    /// Limited ones only
    Require,
}

impl Asked {
    pub(super) fn trust(&self) -> TrustStore {
        TrustStore::load(&self.ca_dir)
    }

    /// The rules for proxies at a time in Unix seconds.
    pub(super) fn rules(&self, at: i64) -> VerifyOptions {
        let mut rules = VerifyOptions::at(at);
        rules.limited = match self.limited_proxy {
            Limited::Allow => LimitedProxies::Allow,
            Limited::Deny => LimitedProxies::Deny,
            Limited::Require => LimitedProxies::Require,
        };
        rules.require_key = !self.allow_no_key;
        rules.require_crl = self.require_crl;
        rules.allow_missing_namespace = self.allow_missing_namespace;
        rules.accept_legacy = self.allow_legacy;
        rules.accept_gt3 = self.allow_gt3;
        rules.allow_sha1 = self.allow_sha1;
        rules.minimum_left = i64::from(self.minimum_left);
        rules.voms = self.voms_dir.as_deref().map(|directory| {
            let mut voms = VomsOptions::load(directory);
            voms.host = self.host.clone().or_else(this_host);
            voms.maximum_lifetime = self.maximum_ac_lifetime.map(i64::from);
            voms
        });
        rules
    }

    /// The rules for tokens.
    pub(super) fn token_rules(&self) -> TokenOptions {
        let issuers = self
            .issuer
            .iter()
            .zip(&self.jwks)
            .map(|(url, jwks)| TokenIssuer {
                url: url.clone(),
                jwks: jwks.clone(),
            })
            .collect();
        let mut rules = TokenOptions::new(issuers, self.audience.clone());
        if !self.scope.is_empty() {
            rules.scopes.clone_from(&self.scope);
        }
        rules.maximum_lifetime = i64::from(self.maximum_token_lifetime);
        rules
    }
}

fn this_host() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    Some(name).filter(|name| !name.is_empty())
}

fn time(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    text.parse::<Timestamp>()
        .map(Timestamp::as_second)
        .map_err(|_| "write it as Unix seconds or like 2026-11-25T12:00:00Z".to_owned())
}
