mod hostile;
mod places;
mod round_trips;
mod vectors;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use cedar::{Coding, MessageReader, MessageWriter};
use classad::ClassAd;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::job::TransferJob;
use super::spool::SpoolFolder;
use super::texts::Sides;
use super::turn::Turn;
use super::wire::{LinkError, Wire};
use crate::files::OwnerFiles;
use crate::files::testing::{Files, home, owner, user_files};

/// One end of a connection without a network.
pub(super) struct Pipe {
    out: mpsc::UnboundedSender<Vec<u8>>,
    incoming: mpsc::UnboundedReceiver<Vec<u8>>,
    queued: Vec<Vec<u8>>,
}

/// Two connected ends.
pub(super) fn pipe() -> (Pipe, Pipe) {
    let (one_out, two_in) = mpsc::unbounded_channel();
    let (two_out, one_in) = mpsc::unbounded_channel();
    let end = |out, incoming| Pipe {
        out,
        incoming,
        queued: Vec::new(),
    };
    (end(one_out, one_in), end(two_out, two_in))
}

impl Wire for Pipe {
    fn coding(&self) -> Coding {
        Coding::Encrypted
    }

    async fn recv(&mut self, body: &mut Vec<u8>, _patience: Duration) -> Result<(), LinkError> {
        assert!(
            self.queued.is_empty(),
            "waiting for an answer to a message that was not sent"
        );
        *body = self.incoming.recv().await.ok_or(LinkError::Closed)?;
        Ok(())
    }

    fn queue(&mut self, message: MessageWriter) -> Result<(), LinkError> {
        self.queued.push(message.finish().unwrap());
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        let mut queued = self.queued.drain(..);
        queued
            .try_for_each(|message| self.out.send(message))
            .map_err(|_| LinkError::Closed)
    }

    async fn send_block(&mut self, data: &[u8]) -> Result<(), LinkError> {
        assert!(!data.is_empty());
        self.flush().await?;
        self.out.send(data.to_vec()).map_err(|_| LinkError::Closed)
    }
}

impl Pipe {
    /// The next message of the other side; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        self.incoming.recv().await
    }

    pub(super) fn say(&self, body: Vec<u8>) {
        // The other side may have given up.
        let _ = self.out.send(body);
    }
}

/// It is always our turn.
pub(super) struct Now;

impl Turn for Now {
    async fn come(&mut self, _patience: Duration) -> bool {
        true
    }
}

pub(super) fn ad(body: &[u8]) -> ClassAd {
    MessageReader::new(Coding::Encrypted, body).ad().unwrap()
}

/// One message of a recorded conversation.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) is_ours: bool,
    pub(super) body: Vec<u8>,
    /// The bytes were not recorded; `body` has the right length only.
    pub(super) is_elided: bool,
}

/// The encrypted messages of a recorded conversation after the transfer key, in order.
pub(super) fn recorded(name: &str) -> Vec<Recorded> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name)
        .with_extension("json");
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let messages = json["messages"].as_array().unwrap();
    let encrypted = messages
        .iter()
        .filter(|message| message["encrypted"] == true);
    encrypted
        .skip(1)
        .map(|message| {
            let length = usize::try_from(message["payload_len"].as_u64().unwrap()).unwrap();
            let hex = message["payload_hex"].as_str().unwrap_or_default();
            let digits = (0..hex.len()).step_by(2);
            let body: Vec<u8> = digits
                .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
                .collect();
            let is_elided = body.len() != length;
            Recorded {
                is_ours: message["from"] == "shadow",
                body: if is_elided { vec![b'x'; length] } else { body },
                is_elided,
            }
        })
        .collect()
}

/// A user with a job.
pub(super) struct Site {
    pub(super) home: TempDir,
    pub(super) spool: TempDir,
    pub(super) ad: ClassAd,
    owner: String,
    children: Files,
}

impl Site {
    pub(super) fn new() -> Self {
        let owner = owner();
        let home = home(&owner);
        let mut ad = ClassAd::new();
        ad.insert("Owner", owner.as_str());
        ad.insert("Iwd", home.path().to_str().unwrap());
        ad.insert("Cmd", "job.sh");
        ad.insert("ClusterId", 7);
        ad.insert("ProcId", 0);
        let spool = tempfile::tempdir().unwrap();
        // The owner must be able to go through it.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(spool.path(), mode).unwrap();
        Self {
            home,
            spool,
            ad,
            owner,
            children: user_files(Duration::from_secs(60)),
        }
    }

    pub(super) fn files(&self) -> OwnerFiles {
        self.children.files.as_owner(&self.owner)
    }

    pub(super) fn user_files(&self) -> crate::files::UserFiles {
        self.children.files.clone()
    }

    pub(super) fn job(&self) -> TransferJob {
        TransferJob::from_ad(&self.ad, "slot1@exec.test").unwrap()
    }

    pub(super) fn spool(&self) -> SpoolFolder {
        SpoolFolder::new(self.spool.path(), self.job().id)
    }

    /// Writes a file of the owner.
    pub(super) fn write(&self, name: &str, content: &[u8], mode: u32) {
        let path = self.home.path().join(name);
        for parent in path
            .ancestors()
            .skip(1)
            .take_while(|parent| *parent != self.home.path())
            .collect::<Vec<_>>()
            .iter()
            .rev()
        {
            if !parent.exists() {
                fs::create_dir(parent).unwrap();
                self.give(parent);
            }
        }
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        self.give(&path);
    }

    fn give(&self, path: &Path) {
        if crate::files::testing::is_root() {
            crate::files::testing::give(path, &self.owner);
        }
    }

    pub(super) fn read(&self, name: &str) -> String {
        let path = self.home.path().join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

pub(super) fn sides() -> Sides {
    Sides {
        ours: SocketAddr::from(([127, 0, 0, 1], 9618)),
        theirs: SocketAddr::from(([127, 0, 0, 1], 21756)),
        host: "submit.test".to_owned(),
        slot: "slot1@exec.test".to_owned(),
    }
}
