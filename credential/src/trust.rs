//! Trust anchors: a directory of CA certificates, read anew for every question.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::cert::Certificate;
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
    Directory(Directory),
    Fixed(Vec<Certificate>),
}

#[derive(Clone, Debug)]
struct Directory {
    path: PathBuf,
    /// Refuse files that anybody but root can change.
    root_only: bool,
}

/// Largest file of the directory that is read, bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Most certificates taken from one file.
const MAX_PER_FILE: usize = 512;
/// Highest number behind a hash. Two CAs with one hash are already rare.
const MAX_SAME_HASH: u32 = 64;
/// Most directory entries looked at in a search without hash.
const MAX_ENTRIES: usize = 10_000;

impl TrustStore {
    /// Trusts the CAs of a directory. Its files are opened by each verification, not here, so this
    /// cannot fail; a directory that cannot be read shows in
    /// [`VerifyError::Trust`](crate::VerifyError::Trust).
    #[must_use]
    pub fn load(directory: &Path) -> Self {
        Self(Source::Directory(Directory {
            path: directory.to_owned(),
            root_only: false,
        }))
    }

    /// The same, but a file counts only if root owns it and neither its group nor others may write
    /// to it: whoever can change it decides who is trusted. The directory itself and its parents
    /// are for the caller to check.
    #[must_use]
    pub fn load_root_only(directory: &Path) -> Self {
        Self(Source::Directory(Directory {
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
                let path = directory.path.join(format!("{hash:08x}.{number}"));
                let Some(text) = directory.read(&path)? else {
                    break;
                };
                if number == MAX_SAME_HASH {
                    return Err(TrustError::TooMany {
                        path: directory.path.clone(),
                    });
                }
                let certificates = parse_file(&text);
                if certificates.is_empty() {
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

    /// CA certificates of this subject in any PEM file of the directory.
    pub(crate) fn by_search(&self, subject: &Name) -> Result<Vec<Certificate>, TrustError> {
        let Source::Directory(directory) = &self.0 else {
            return Ok(Vec::new());
        };
        let unreadable = |source| TrustError::Unreadable {
            path: directory.path.clone(),
            source,
        };
        let mut found: Vec<Certificate> = Vec::new();
        for (count, entry) in fs::read_dir(&directory.path)
            .map_err(unreadable)?
            .enumerate()
        {
            if count == MAX_ENTRIES {
                return Err(TrustError::TooMany {
                    path: directory.path.clone(),
                });
            }
            let path = entry.map_err(unreadable)?.path();
            let wanted = path
                .extension()
                .and_then(|e| e.to_str())
                .is_some_and(|extension| {
                    matches!(extension, "pem" | "crt")
                        || (!extension.is_empty() && extension.bytes().all(|b| b.is_ascii_digit()))
                });
            if !wanted {
                continue;
            }
            let text = match directory.read(&path) {
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

fn parse_file(text: &[u8]) -> Vec<Certificate> {
    certificates_only(text, MAX_PER_FILE)
        .into_iter()
        .filter_map(|der| Certificate::parse(der, None).ok())
        .collect()
}

impl Directory {
    /// The content of a regular file; `None` if there is no such file.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, TrustError> {
        let unreadable = |source| TrustError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let facts = file.metadata().map_err(unreadable)?;
        if !facts.is_file() || facts.len() > MAX_FILE_BYTES {
            return Err(TrustError::Malformed {
                path: path.to_owned(),
            });
        }
        if self.root_only && (facts.uid() != 0 || facts.mode() & 0o022 != 0) {
            return Err(TrustError::Writable {
                path: path.to_owned(),
            });
        }
        let mut text = Vec::with_capacity(usize::try_from(facts.len()).unwrap_or(0) + 1);
        file.take(MAX_FILE_BYTES)
            .read_to_end(&mut text)
            .map_err(unreadable)?;
        Ok(Some(text))
    }
}
