//! Notices that a credential of the pilot's has been replaced on disk.
//!
//! By looking, not by being told: credentials are also kept on network file systems, which tell nothing, and are
//! replaced in every way there is (renamed into place, written over, linked).

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cedar::net::Credentials;
use cedar::security::{AuthMethod, SecurityPolicy};
use tokio::sync::watch;

/// Time between two looks. A renewal has minutes to hours.
const LOOK: Duration = Duration::from_secs(3);

/// What has changed may still be written to: it counts when it has stayed the same for so long.
const SETTLE: Duration = Duration::from_millis(500);

/// Most entries of a directory of tokens that are looked at.
const MAX_ENTRIES: usize = 1000;

/// The files that the pilot's credentials are in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialFiles {
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

/// What a look has shown: each file, and which content it has as far as its status tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Look(Vec<(PathBuf, Option<Status>)>);

/// Device, inode, size, and the times of the last change of content and of status.
type Status = (u64, u64, u64, (i64, i64), (i64, i64));

/// Hears of renewals. Clones hear of each on their own.
#[derive(Debug, Clone)]
pub struct Renewals {
    count: watch::Receiver<u64>,
}

impl CredentialFiles {
    /// The files of those credentials that `policy` can use.
    #[must_use]
    pub fn of(credentials: &Credentials, policy: &SecurityPolicy) -> Self {
        let has = |method| policy.methods.contains(&method);
        let mut all = Self::default();
        if has(AuthMethod::Token) {
            all.directories.clone_from(&credentials.token_directories);
        }
        if let Some(ssl) = credentials.ssl.as_ref().filter(|_| has(AuthMethod::Ssl)) {
            all.files.extend(ssl.certificate.clone());
            all.files.extend(ssl.key.clone());
        }
        if let Some(source) = &credentials.scitoken {
            all.files.extend(source.files().map(Path::to_owned));
        }
        all
    }

    /// All of them, directories and files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let all = self.directories.iter().chain(&self.files);
        all.map(PathBuf::as_path)
    }

    fn look(&self) -> Look {
        let mut seen: Vec<(PathBuf, Option<Status>)> = Vec::new();
        for directory in &self.directories {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            seen.extend(entries.take(MAX_ENTRIES).map(|entry| {
                let path = entry.path();
                let status = status(&path);
                (path, status)
            }));
        }
        seen.extend(self.files.iter().map(|path| (path.clone(), status(path))));
        seen.sort();
        Look(seen)
    }

    /// Begins to look. The task ends with the last of its hearers.
    #[must_use]
    pub fn watch(self) -> Renewals {
        let (sender, count) = watch::channel(0);
        tokio::spawn(async move {
            let Some(mut known) = self.looked().await else {
                return;
            };
            loop {
                tokio::select! {
                    () = sender.closed() => return,
                    () = tokio::time::sleep(LOOK) => {}
                }
                let Some(mut seen) = self.looked().await else {
                    return;
                };
                while seen != known {
                    tokio::time::sleep(SETTLE).await;
                    let Some(again) = self.looked().await else {
                        return;
                    };
                    if again == seen {
                        tracing::info!("the pilot's credentials have changed on disk");
                        known = again;
                        sender.send_modify(|count| *count += 1);
                        break;
                    }
                    seen = again;
                }
            }
        });
        Renewals { count }
    }

    async fn looked(&self) -> Option<Look> {
        let files = self.clone();
        // Network file systems may hang.
        let look = tokio::task::spawn_blocking(move || files.look());
        look.await.ok()
    }
}

impl Renewals {
    /// None ever.
    #[must_use]
    pub fn never() -> Self {
        Self {
            count: watch::channel(0).1,
        }
    }

    /// Waits for the next one. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) {
        if self.count.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// What has been renewed so far is taken into account.
    pub fn caught_up(&mut self) {
        self.count.mark_unchanged();
    }
}

/// Through links: whoever replaces a link's target has replaced the credential.
fn status(path: &Path) -> Option<Status> {
    let of = |facts: Metadata| {
        (
            facts.dev(),
            facts.ino(),
            facts.size(),
            (facts.mtime(), facts.mtime_nsec()),
            (facts.ctime(), facts.ctime_nsec()),
        )
    };
    fs::metadata(path).ok().map(of)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tokio::time::timeout;

    use super::*;

    fn files(folder: &Path) -> CredentialFiles {
        let tokens = folder.join("tokens");
        fs::create_dir(&tokens).unwrap();
        fs::write(tokens.join("pool"), "one").unwrap();
        fs::write(folder.join("proxy.pem"), "one").unwrap();
        CredentialFiles {
            directories: vec![tokens],
            files: vec![folder.join("proxy.pem"), folder.join("missing")],
        }
    }

    #[test]
    fn every_way_to_replace_a_credential_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let tokens = folder.path().join("tokens");
        let mut before = files.look();
        assert_eq!(before, files.look());
        let mut differs = |what: &str| {
            let now = files.look();
            assert_ne!(before, now, "{what}");
            before = now;
        };
        fs::write(tokens.join("pool"), "longer").unwrap();
        differs("written over");
        fs::write(folder.path().join("new"), "two").unwrap();
        fs::rename(folder.path().join("new"), folder.path().join("proxy.pem")).unwrap();
        differs("renamed into place");
        fs::write(tokens.join("other"), "three").unwrap();
        differs("added");
        fs::remove_file(tokens.join("pool")).unwrap();
        differs("removed");
        fs::write(folder.path().join("target1"), "a").unwrap();
        symlink(folder.path().join("target1"), tokens.join("link")).unwrap();
        differs("linked");
        fs::write(folder.path().join("target2"), "b").unwrap();
        fs::rename(folder.path().join("target2"), folder.path().join("target1")).unwrap();
        differs("behind a link");
        fs::write(folder.path().join("missing"), "x").unwrap();
        differs("made");
    }

    #[tokio::test]
    async fn a_renewal_is_told_once_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let mut renewals = files(folder.path()).watch();
        let mut other = renewals.clone();
        tokio::time::sleep(Duration::from_millis(200)).await;
        fs::write(folder.path().join("proxy.pem"), "renewed").unwrap();
        timeout(Duration::from_secs(10), renewals.next())
            .await
            .expect("told");
        timeout(Duration::from_secs(1), other.next())
            .await
            .expect("each is told");
        let more = timeout(LOOK + SETTLE, renewals.next()).await;
        assert!(more.is_err(), "told twice");
    }
}
