//! What the probe proves itself with, or checks its clients with, from words of the command line.

use anyhow::{Context, bail};
use cedar::net::{ClientConfig, FsAuthentication};
use cedar::security::server::{Authenticators, UserLookup};
use cedar::security::token::SigningKeys;
use cedar::security::{
    AuthMethod, Authorities, IdentityMap, PoolPassword, SslClientFiles, SslServer, SslServerFiles,
};
use std::sync::Arc;

fn read(path: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.to_owned())
}

fn authorities(file: &str) -> Authorities {
    Authorities {
        file: Some(file.into()),
        ..Authorities::default()
    }
}

/// A client with one or more proofs, separated by commas.
pub(crate) fn client(proofs: &str) -> anyhow::Result<ClientConfig> {
    let mut config = ClientConfig::new("TOOL", "sailplane-probe");
    config.policy.methods.clear();
    let credentials = &mut config.credentials;
    for proof in proofs.split(',') {
        let parts: Vec<_> = proof.split(':').collect();
        let method = match parts.as_slice() {
            ["token", directory] => {
                credentials.token_directories.push(directory.into());
                AuthMethod::Token
            }
            ["password", file] => {
                credentials.password = Some(PoolPassword::from_file_content(&read(file)?)?);
                AuthMethod::Password
            }
            ["ssl", ca, rest @ ..] => {
                credentials.ssl = Some(SslClientFiles {
                    authorities: authorities(ca),
                    certificate: rest.first().map(Into::into),
                    key: rest.get(1).map(Into::into),
                    ..SslClientFiles::default()
                });
                AuthMethod::Ssl
            }
            ["claim", name] => {
                credentials.claim_to_be = Some((*name).to_owned());
                AuthMethod::ClaimToBe
            }
            ["fs"] => {
                credentials.fs = FsAuthentication::On;
                AuthMethod::Fs
            }
            ["anonymous"] => AuthMethod::Anonymous,
            _ => bail!("unknown proof {proof}"),
        };
        config.policy.methods.push(method);
    }
    Ok(config)
}

/// The methods of a server, in order, and what they need.
pub(crate) fn server(proofs: &[&str]) -> anyhow::Result<(Vec<AuthMethod>, Authenticators)> {
    let mut methods = Vec::new();
    let mut checks = Authenticators {
        identity_map: Some(Arc::new(Names)),
        uid_domain: "probe".to_owned(),
        ..Authenticators::default()
    };
    for proof in proofs {
        let parts: Vec<_> = proof.split(':').collect();
        methods.push(match parts.as_slice() {
            ["token", file] => {
                let mut keys = SigningKeys::new();
                keys.add_file("POOL", &read(file)?)?;
                checks.signing_keys = keys;
                AuthMethod::Token
            }
            ["password", file] => {
                checks.password = Some(PoolPassword::from_file_content(&read(file)?)?);
                AuthMethod::Password
            }
            ["ssl", ca, certificate, key] => {
                let server = SslServer::load(SslServerFiles {
                    certificate: certificate.into(),
                    key: key.into(),
                    authorities: authorities(ca),
                    require_client_certificate: false,
                    allow_proxy: true,
                })?;
                checks.ssl = Some(Arc::new(server));
                AuthMethod::Ssl
            }
            ["fs", directory] => {
                let names: UserLookup = Arc::new(|uid| Some(format!("uid{uid}")));
                checks.fs_directory = Some(directory.into());
                checks.user_lookup = Some(names);
                AuthMethod::Fs
            }
            ["claim"] => {
                checks.claim_to_be = true;
                AuthMethod::ClaimToBe
            }
            ["anonymous"] => {
                checks.anonymous = true;
                AuthMethod::Anonymous
            }
            _ => bail!("unknown proof {proof}"),
        });
    }
    Ok((methods, checks))
}

/// Names users of certificates by their last common name.
struct Names;

impl IdentityMap for Names {
    fn map(&self, method: AuthMethod, name: &str) -> Option<String> {
        let (_, common) = name.rsplit_once("/CN=")?;
        (method == AuthMethod::Ssl).then(|| format!("{common}@certificates"))
    }
}
