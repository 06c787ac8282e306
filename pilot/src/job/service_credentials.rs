//! The job's OAuth credentials: fetched from the shadow, put into the sandbox, renewed there while the job runs
//! (`htcondor:src/condor_starter.V6.1/jic_shadow.cpp`, `refreshSandboxCredentialsOAuth`).
//!
//! The files are made by the agent, before it becomes the payload. A renewed one takes the place of the old one by a
//! rename, which a process of the payload's account does; whoever reads has the old content or the new, whole.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cedar::{MessageReader, WireError};
use classad::ClassAd;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::hold::{Hold, HoldCode};
use super::trouble::Trouble;
use crate::blame::chain;
use crate::broker::{Agent, BrokerError, Payload, memfd};
use crate::transfer::SandboxPath;

/// Directory of the credentials in the sandbox; `_CONDOR_CREDS` names it.
pub const DIRECTORY: &str = ".condor_creds";

/// Ending of the files' names.
const ENDING: &str = ".use";

/// Most services of a job.
const MAX_SERVICES: usize = 64;

/// Largest credential, bytes.
const MAX_CREDENTIAL: usize = launch_protocol::MAX_CREDENTIAL;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A service whose credential a job needs, `OAuthServicesNeeded`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// As the submit side spells it, such as `scitokens` or `cms*readonly`.
    pub name: String,
    /// Its file, below [`DIRECTORY`].
    file: PathBuf,
}

impl Service {
    /// Its file, below the sandbox.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// The credential of one service, as the shadow sends it.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceCredential {
    /// Whose.
    pub service: String,
    /// What the file shall hold.
    pub content: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for ServiceCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceCredential")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// What the shadow answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The credentials it has for the job.
    Credentials(Vec<ServiceCredential>),
    /// It has not all of them; it holds the job.
    Unavailable,
}

impl Sent {
    /// The token of one service, without what is around it.
    ///
    /// # Errors
    /// It was not sent: the job is to be held.
    pub(super) fn token(
        &self,
        services: &[Service],
        service: &str,
    ) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let Self::Credentials(sent) = self else {
            return Err(unavailable(
                services,
                "the submit side has not got them all",
            ));
        };
        find(sent, service)
            .map(|credential| Zeroizing::new(credential.content.trim_ascii().to_vec()))
            .ok_or_else(|| {
                unavailable(
                    services,
                    &format!("the submit side did not send that of {service}"),
                )
            })
    }
}

/// Reads `OAuthServicesNeeded`: names between commas or blanks.
///
/// # Errors
/// A [`Hold`] for a name that cannot be a file's.
pub(super) fn needed(ad: &ClassAd) -> Result<Vec<Service>, Hold> {
    let text = ad.string("OAuthServicesNeeded").unwrap_or_default();
    let mut services: Vec<Service> = Vec::new();
    for name in text.split([',', ' ', '\t']).filter(|name| !name.is_empty()) {
        if services.iter().any(|known| known.name == name) {
            continue;
        }
        let refuse = |why: &str| {
            let reason = format!(
                "The job needs credentials of a service {name:?} (OAuthServicesNeeded), and {why}"
            );
            Hold::new(HoldCode::CorruptedCredential, libc::EINVAL, reason)
        };
        if services.len() >= MAX_SERVICES {
            return Err(refuse("of more services than a job may name"));
        }
        let file_name = format!("{}{ENDING}", name.replace('*', "_"));
        if file_name.contains('/') || SandboxPath::parse(&file_name).is_err() {
            return Err(refuse("that cannot be the name of a file"));
        }
        let file = Path::new(DIRECTORY).join(file_name);
        if services.iter().any(|known| known.file == file) {
            return Err(refuse("another service has the same file"));
        }
        services.push(Service {
            name: name.to_owned(),
            file,
        });
    }
    Ok(services)
}

/// Reads the answer to `getcreds`: ads, each announced by a 1, then a 0, or a negative number if something is missing.
///
/// # Errors
/// [`WireError`].
pub(super) fn read(mut reader: MessageReader<'_>) -> Result<Sent, WireError> {
    let mut credentials = Vec::new();
    loop {
        let more = reader.int()?;
        if more <= 0 {
            reader.expect_end()?;
            return Ok(match more {
                0 => Sent::Credentials(credentials),
                _ => Sent::Unavailable,
            });
        }
        let ad = reader.ad()?;
        if credentials.len() >= MAX_SERVICES {
            return Ok(Sent::Unavailable);
        }
        let data = Zeroizing::new(ad.string("Data").unwrap_or_default());
        let content = STANDARD
            .decode(data.trim())
            .map(Zeroizing::new)
            .unwrap_or_default();
        if content.is_empty() || content.len() > MAX_CREDENTIAL {
            return Ok(Sent::Unavailable);
        }
        credentials.push(ServiceCredential {
            service: service_name(&ad.string("Service").unwrap_or_default()),
            content,
        });
    }
}

/// Shadows before 10.8 send the name of the file instead of the service's.
fn service_name(sent: &str) -> String {
    match sent.strip_suffix(ENDING) {
        Some(name) if name.contains('*') => name.to_owned(),
        Some(name) => name.replace('_', "*"),
        None => sent.to_owned(),
    }
}

/// The files in the sandbox.
#[derive(Debug)]
pub(super) struct ServiceFiles {
    files: Vec<ServiceFile>,
}

#[derive(Debug)]
struct ServiceFile {
    service: String,
    /// Below the sandbox.
    file: PathBuf,
    content: Hidden,
}

/// What a file holds.
struct Hidden(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes hidden", self.0.len())
    }
}

impl ServiceFiles {
    /// Makes directory and files through the agent, each file for its owner alone, and fills them.
    pub(super) async fn make(
        agent: &mut Agent,
        services: &[Service],
        sent: Sent,
    ) -> Result<Self, Trouble> {
        let Sent::Credentials(sent) = sent else {
            return Err(unavailable(
                services,
                "the submit side has not got them all",
            ));
        };
        agent.make_dir(Path::new(DIRECTORY), DIRECTORY_MODE).await?;
        let mut files = Vec::with_capacity(services.len());
        for service in services {
            let Some(credential) = find(&sent, &service.name) else {
                return Err(unavailable(
                    services,
                    &format!("the submit side did not send that of {}", service.name),
                ));
            };
            let file = agent.create(&service.file, FILE_MODE).await?;
            file.write_all_at(&credential.content, 0).map_err(|error| {
                let reason = format!(
                    "Cannot write {} in the sandbox: {error}",
                    service.file.display()
                );
                let code = error.raw_os_error().unwrap_or(0);
                Trouble::from(Hold::new(HoldCode::SandboxHandOver, code, reason))
            })?;
            files.push(ServiceFile {
                service: service.name.clone(),
                file: service.file.clone(),
                content: Hidden(credential.content.clone()),
            });
        }
        Ok(Self { files })
    }

    /// What is new for a service.
    pub(super) fn news<'a>(
        &self,
        sent: &'a [ServiceCredential],
        service: &str,
    ) -> Option<&'a [u8]> {
        let credential = find(sent, service)?;
        let known = self.files.iter().find(|file| file.service == service)?;
        (known.content.0 != credential.content).then(|| credential.content.trim_ascii())
    }

    /// Puts what is new into the sandbox. One service's trouble does not keep the others from being renewed, and is
    /// looked into again with the next answer of the shadow.
    ///
    /// # Errors
    /// [`BrokerError::Gone`]: there is nobody any more who could.
    pub(super) async fn renew(
        &mut self,
        payload: &Payload,
        sent: &[ServiceCredential],
    ) -> Result<(), BrokerError> {
        // All at once: a payload can hinder the process that writes for a while, and everything else waits for this.
        let mut under_way = JoinSet::new();
        for (index, known) in self.files.iter().enumerate() {
            let Some(credential) = find(sent, &known.service) else {
                continue;
            };
            if credential.content == known.content.0 {
                continue;
            }
            let replacement = memfd::sealed("credential", &credential.content)
                .map(|content| payload.replace(&known.file, content))
                .map_err(BrokerError::Socket);
            let content = Hidden(credential.content.clone());
            under_way.spawn(async move {
                let outcome = match replacement {
                    Ok(replacement) => replacement.await,
                    Err(error) => Err(error),
                };
                (index, content, outcome)
            });
        }
        while let Some(Ok((index, content, outcome))) = under_way.join_next().await {
            let Some(known) = self.files.get_mut(index) else {
                continue;
            };
            match outcome {
                Ok(()) => {
                    tracing::info!(
                        service = known.service,
                        "a credential of the job was renewed in its sandbox"
                    );
                    known.content = content;
                }
                Err(BrokerError::Gone) => return Err(BrokerError::Gone),
                Err(error) => tracing::warn!(
                    service = known.service,
                    error = chain(&error),
                    "a renewed credential cannot be put into the sandbox; the job keeps the old one, and it is tried \
                     again"
                ),
            }
        }
        Ok(())
    }
}

fn find<'a>(sent: &'a [ServiceCredential], service: &str) -> Option<&'a ServiceCredential> {
    sent.iter().find(|credential| credential.service == service)
}

fn unavailable(services: &[Service], why: &str) -> Trouble {
    let names: Vec<_> = services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    let reason = format!(
        "The job needs credentials of {} (OAuthServicesNeeded), and {why}",
        names.join(", ")
    );
    Hold::new(HoldCode::CorruptedCredential, 0, reason).into()
}

#[cfg(test)]
mod tests {
    use cedar::{Coding, MessageWriter};

    use super::*;

    fn ad(text: &str) -> ClassAd {
        ClassAd::parse_old(text).unwrap()
    }

    fn answer(entries: &[(&str, &str)], end: i64) -> Result<Sent, WireError> {
        let mut message = MessageWriter::new(Coding::Encrypted);
        for (service, data) in entries {
            let mut ad = ClassAd::new();
            ad.insert("Service", *service);
            ad.insert("Data", *data);
            message.int(1).ad(&ad);
        }
        message.int(end);
        let body = message.finish().unwrap();
        read(MessageReader::new(Coding::Encrypted, &body))
    }

    #[test]
    fn services_are_named_once_and_become_files() {
        let list = needed(&ad(
            "OAuthServicesNeeded = \"scitokens, cms*read scitokens\"",
        ))
        .unwrap();
        let files: Vec<_> = list.iter().map(|s| s.file.display().to_string()).collect();
        assert_eq!(
            files,
            [".condor_creds/scitokens.use", ".condor_creds/cms_read.use"]
        );
        assert!(needed(&ad("A = 1")).unwrap().is_empty());
        for bad in ["../../etc/passwd", "a/b", "x*y,x_y"] {
            let hold = needed(&ad(&format!("OAuthServicesNeeded = \"{bad}\""))).unwrap_err();
            assert_eq!(hold.code, HoldCode::CorruptedCredential, "{bad}");
        }
        let many: Vec<_> = (0..=MAX_SERVICES).map(|n| format!("s{n}")).collect();
        assert!(
            needed(&ad(&format!(
                "OAuthServicesNeeded = \"{}\"",
                many.join(",")
            )))
            .is_err()
        );
    }

    #[test]
    fn answers_of_new_and_of_old_shadows_are_understood() {
        let Sent::Credentials(sent) =
            answer(&[("scitokens", "YWJj"), ("cms_read.use", "ZGVm")], 0).unwrap()
        else {
            panic!("not available");
        };
        assert_eq!(sent[0].service, "scitokens");
        assert_eq!(*sent[0].content, b"abc");
        assert_eq!(sent[1].service, "cms*read");
        assert!(!format!("{sent:?}").contains("abc"));
        assert_eq!(answer(&[], -1).unwrap(), Sent::Unavailable);
        assert_eq!(answer(&[("a", "YWJj")], -1).unwrap(), Sent::Unavailable);
        assert_eq!(answer(&[("a", "!")], 0).unwrap(), Sent::Unavailable);
        assert_eq!(answer(&[("a", "")], 0).unwrap(), Sent::Unavailable);
        assert!(read(MessageReader::new(Coding::Encrypted, b"")).is_err());
    }
}
