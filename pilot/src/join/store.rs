//! Puts a token that a pool has issued into the directory of tokens.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cedar::net::IssuedToken;

/// The directory cannot take a token.
#[derive(Debug, thiserror::Error)]
#[error("a token cannot be stored in {} (SEC_TOKEN_DIRECTORY)", directory.display())]
pub struct StoreError {
    /// The directory.
    pub directory: PathBuf,
    /// The cause.
    #[source]
    source: io::Error,
}

/// Makes the directory if it is missing, and tries whether a file can be made there: before an administrator is asked
/// to approve a token that would then be lost.
///
/// # Errors
/// [`StoreError`].
pub(super) fn prepare(directory: &Path) -> Result<(), StoreError> {
    let attempt = || {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let trial = hidden(directory);
        create(&trial)?;
        fs::remove_file(trial)
    };
    attempt().map_err(|source| StoreError {
        directory: directory.to_owned(),
        source,
    })
}

/// Writes the token, mode 0600 from the first byte, under a name that is its trust domain's; it takes the place of an
/// earlier one at once, so no reader sees a half.
///
/// # Errors
/// [`StoreError`].
pub(super) fn store(directory: &Path, issued: &IssuedToken) -> Result<PathBuf, StoreError> {
    let path = directory.join(name(&issued.token.claims().issuer));
    let new = hidden(directory);
    let attempt = || {
        let mut file = create(&new)?;
        file.write_all(issued.text.expose().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    attempt().map_err(|source| {
        let _ = fs::remove_file(&new);
        StoreError {
            directory: directory.to_owned(),
            source,
        }
    })?;
    Ok(path)
}

/// Readers of tokens pass over names that begin with a dot.
fn hidden(directory: &Path) -> PathBuf {
    let random = crate::backoff::random();
    directory.join(format!(".sailplane-{}-{random:016x}", std::process::id()))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// The issuer is the server's word: only harmless characters of it become part of a file's name.
fn name(issuer: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let kept: String = issuer
        .chars()
        .map(|c| if harmless(c) { c } else { '_' })
        .take(200)
        .collect();
    format!("requested-{kept}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use cedar::secret::SecretText;
    use cedar::security::token::{SigningKeys, Token};

    use super::*;

    fn issued(issuer: &str) -> IssuedToken {
        let mut keys = SigningKeys::new();
        keys.add_file("POOL", &[1; 32]).unwrap();
        let payload = format!(r#"{{"iss":"{issuer}","sub":"condor@{issuer}"}}"#);
        let text = keys.issue("POOL", &payload).unwrap().unwrap();
        IssuedToken {
            token: Token::parse(&text).unwrap(),
            text: SecretText::new(text),
        }
    }

    #[test]
    fn a_token_is_for_its_owner_only_and_replaces_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("a/tokens.d");
        prepare(&directory).unwrap();
        let first = store(&directory, &issued("pool.example.org")).unwrap();
        let second = store(&directory, &issued("pool.example.org")).unwrap();
        assert_eq!(first, second);
        assert_eq!(fs::metadata(&first).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        let left: Vec<_> = fs::read_dir(&directory).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        let found = cedar::security::token::read_directory(&directory);
        assert_eq!(found.tokens.len(), 1);
    }

    #[test]
    fn a_server_does_not_choose_where_the_token_goes() {
        assert_eq!(name("../../etc/x\n"), "requested-.._.._etc_x_");
        assert!(name(&"x".repeat(9999)).len() < 255);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named_before_anybody_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let error = prepare(&file.join("tokens")).unwrap_err().to_string();
        assert!(error.contains("file/tokens") && error.contains("SEC_TOKEN_DIRECTORY"));
    }
}
