//! Trust anchors: a directory of CA certificates, read anew for every question.

use std::path::{Path, PathBuf};

use crate::cert::Certificate;
use crate::files::Folder;
use crate::name::Name;
use crate::pem::certificates_only;
use crate::problem::TrustError;

/// The CAs that are trusted.
///
/// A directory in the form of the IGTF distribution and of `openssl rehash`: a certificate is found
/// under `HASH.0`, `HASH.1` and so on, HASH being the hash of its subject in the way of OpenSSL 1.0
/// and later, or that of OpenSSL 0.9.8 and older. So that a plain folder of CA certificates works as
/// well, files ending in `.pem`, `.crt` or a dot and a number are searched for a CA of the wanted
/// name when no hash leads to one. Every file is PEM; what is in it besides certificates is ignored.
///
/// Nothing is read before it is needed and nothing is kept: a verification opens the one or two
/// files of its own CAs, and a CA removed from the directory is no longer trusted from then on.
#[derive(Clone, Debug)]
pub struct TrustStore(Source);

#[derive(Clone, Debug)]
enum Source {
    Directory(Folder),
    Fixed(Vec<Certificate>),
}

/// Most certificates taken from one file.
const MAX_PER_FILE: usize = 512;
/// Highest number behind a hash. Two CAs with one hash are already rare.
const MAX_SAME_HASH: u32 = 64;
/// Largest CRL that is read, bytes. Those of large CAs have a few million.
const MAX_CRL_BYTES: u64 = 32 * 1024 * 1024;

impl TrustStore {
    /// Trusts the CAs of a directory. Its files are opened by each verification, not here, so this
    /// cannot fail; a directory that cannot be read shows in
    /// [`VerifyError::Trust`](crate::VerifyError::Trust).
    #[must_use]
    pub fn load(directory: &Path) -> Self {
        Self(Source::Directory(Folder {
            path: directory.to_owned(),
            root_only: false,
        }))
    }

    /// The same, but a file counts only if root owns it and neither its group nor others may write
    /// to it: whoever can change it decides who is trusted. The directory itself and its parents
    /// are for the caller to check.
    #[must_use]
    pub fn load_root_only(directory: &Path) -> Self {
        Self(Source::Directory(Folder {
            path: directory.to_owned(),
            root_only: true,
        }))
    }

    /// Trusts the CA certificates of a PEM text, and no others.
    ///
    /// # Errors
    /// [`TrustError::Malformed`] when it holds no readable certificate.
    pub fn from_pem(text: &[u8]) -> Result<Self, TrustError> {
        let found = parse_file(text);
        if found.is_empty() {
            return Err(TrustError::Malformed {
                path: PathBuf::from("(text)"),
            });
        }
        Ok(Self(Source::Fixed(found)))
    }

    /// Certificates of this subject that the hash-named files lead to.
    pub(crate) fn by_hash(&self, subject: &Name) -> Result<Vec<Certificate>, TrustError> {
        let directory = match &self.0 {
            Source::Fixed(all) => {
                return Ok(all
                    .iter()
                    .filter(|ca| ca.subject.same_as(subject))
                    .cloned()
                    .collect());
            }
            Source::Directory(directory) => directory,
        };
        let mut found = Vec::new();
        // The new hash first: where both exist they are links to the same file, and one is enough.
        for hash in [subject.hash(), subject.old_hash()].into_iter().flatten() {
            for number in 0..=MAX_SAME_HASH {
                let name = format!("{hash:08x}.{number}");
                let Some(text) = directory.read(&name)? else {
                    break;
                };
                if number == MAX_SAME_HASH {
                    return Err(TrustError::TooMany {
                        path: directory.path.clone(),
                    });
                }
                let certificates = parse_file(&text);
                if certificates.is_empty() {
                    let path = directory.path.join(name);
                    return Err(TrustError::Malformed { path });
                }
                found.extend(
                    certificates
                        .into_iter()
                        .filter(|ca| ca.subject.same_as(subject)),
                );
            }
            if !found.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    /// A file `HASH.extension` beside the certificate of a CA, under either hash. `Ok(None)`: there
    /// is no such file. Meaningless, and never called, without a directory.
    pub(crate) fn beside(
        &self,
        ca: &Name,
        extension: &str,
    ) -> Result<Option<(PathBuf, Vec<u8>)>, TrustError> {
        let Source::Directory(directory) = &self.0 else {
            return Ok(None);
        };
        for hash in [ca.hash(), ca.old_hash()].into_iter().flatten() {
            let name = format!("{hash:08x}.{extension}");
            if let Some(content) = directory.read_up_to(&name, MAX_CRL_BYTES)? {
                return Ok(Some((directory.path.join(name), content)));
            }
        }
        Ok(None)
    }

    /// Whether this is a directory, whose CAs have namespaces and CRLs beside them.
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.0, Source::Directory(_))
    }

    /// CA certificates of this subject in any PEM file of the directory.
    pub(crate) fn by_search(&self, subject: &Name) -> Result<Vec<Certificate>, TrustError> {
        let Source::Directory(directory) = &self.0 else {
            return Ok(Vec::new());
        };
        let mut found: Vec<Certificate> = Vec::new();
        for name in directory.names()? {
            let wanted = name
                .extension()
                .and_then(|e| e.to_str())
                .is_some_and(|extension| {
                    matches!(extension, "pem" | "crt")
                        || (!extension.is_empty() && extension.bytes().all(|b| b.is_ascii_digit()))
                });
            let Some(name) = name.to_str().filter(|_| wanted) else {
                continue;
            };
            let text = match directory.read(name) {
                Ok(Some(text)) => text,
                Err(error @ TrustError::Writable { .. }) => return Err(error),
                // One unreadable file among many must not stop the search for another.
                Ok(None) | Err(_) => continue,
            };
            for certificate in parse_file(&text) {
                let known = found.iter().any(|other| other.der == certificate.der);
                if !known && certificate.basic.ca && certificate.subject.same_as(subject) {
                    found.push(certificate);
                }
            }
        }
        Ok(found)
    }
}

pub(crate) fn parse_file(text: &[u8]) -> Vec<Certificate> {
    certificates_only(text, MAX_PER_FILE)
        .into_iter()
        .filter_map(|der| Certificate::parse(der, None).ok())
        .collect()
}
