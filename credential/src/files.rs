//! Reading files that decide about trust: certificates and CRLs of CAs, their namespaces, the lists
//! of VOMS servers, token keys.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::problem::TrustError;

/// A folder of such files. Nothing in it is read before it is needed, and nothing is kept.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    /// Refuse files that anybody but root can change.
    pub(crate) root_only: bool,
}

/// Largest ordinary file that is read, bytes.
pub(crate) const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Most directory entries looked at.
pub(crate) const MAX_ENTRIES: usize = 10_000;

impl Folder {
    /// The content of a file of this folder; `None` if there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, TrustError> {
        read(&self.path.join(name), self.root_only, MAX_FILE_BYTES)
    }

    /// The same for a file that may be large.
    pub(crate) fn read_up_to(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, TrustError> {
        read(&self.path.join(name), self.root_only, limit)
    }

    /// A folder inside this one; `None` if there is none.
    pub(crate) fn enter(&self, name: &str) -> Result<Option<Self>, TrustError> {
        let path = self.path.join(name);
        match fs::metadata(&path) {
            Ok(facts) if facts.is_dir() => {
                self.check_owner(&path, &facts)?;
                Ok(Some(Self {
                    path,
                    root_only: self.root_only,
                }))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(TrustError::Unreadable { path, source }),
        }
    }

    /// The names in it, in no order.
    pub(crate) fn names(&self) -> Result<Vec<PathBuf>, TrustError> {
        let unreadable = |source| TrustError::Unreadable {
            path: self.path.clone(),
            source,
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(unreadable)? {
            if names.len() == MAX_ENTRIES {
                return Err(TrustError::TooMany {
                    path: self.path.clone(),
                });
            }
            names.push(PathBuf::from(entry.map_err(unreadable)?.file_name()));
        }
        Ok(names)
    }

    fn check_owner(&self, path: &Path, facts: &fs::Metadata) -> Result<(), TrustError> {
        check_owner(path, facts, self.root_only)
    }
}

/// The content of a regular file; `None` if there is no such file.
pub(crate) fn read(
    path: &Path,
    root_only: bool,
    limit: u64,
) -> Result<Option<Vec<u8>>, TrustError> {
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
    if !facts.is_file() || facts.len() > limit {
        return Err(TrustError::Malformed {
            path: path.to_owned(),
        });
    }
    check_owner(path, &facts, root_only)?;
    let mut content = Vec::with_capacity(usize::try_from(facts.len()).unwrap_or(0) + 1);
    file.take(limit)
        .read_to_end(&mut content)
        .map_err(unreadable)?;
    Ok(Some(content))
}

/// Who may write to a file decides who is trusted.
fn check_owner(path: &Path, facts: &fs::Metadata, root_only: bool) -> Result<(), TrustError> {
    if root_only && (facts.uid() != 0 || facts.mode() & 0o022 != 0) {
        return Err(TrustError::Writable {
            path: path.to_owned(),
        });
    }
    Ok(())
}
