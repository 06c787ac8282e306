//! Answers to a starter's calls, as messages. No I/O.

use std::fmt;

use cedar::secret::SecretText;
use cedar::{ClaimId, MessageWriter};
use classad::ClassAd;

/// Length of a file's status line with its padding.
const STATUS_LENGTH: usize = 1024;

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A number that is no failure: 0, a file's number, a place, a count.
    Value(i64),
    /// -1 and the reason, in HTCondor's platform-neutral numbers, which for what is used here are Linux's.
    Failed(i32),
    /// 0 and an ad.
    Ad(ClassAd),
    /// 0 and a string.
    Text(String),
    /// A count and so many bytes.
    Bytes(Vec<u8>),
    /// The length of a text, and the text.
    Listing(String),
    /// 0 and a line in 1024 bytes.
    Status(String),
    /// The end of a list of credentials, -1: there are none to be had.
    NoCredentials,
    /// 1 and the sessions of the claim.
    Sessions(Sessions),
}

/// Sessions of a claim, in words.
#[derive(Clone, PartialEq)]
pub struct Sessions {
    claim: ClaimId,
}

impl Sessions {
    /// Those of `claim`.
    #[must_use]
    pub fn of(claim: &ClaimId) -> Self {
        Self {
            claim: claim.clone(),
        }
    }

    /// `[info]` and key text: what stands behind the last `#`.
    fn secret_part(&self) -> (SecretText, SecretText) {
        let id = self.claim.as_str();
        let tail = id.rsplit_once('#').map_or("", |(_, tail)| tail);
        let (info, key) = match tail.rfind(']') {
            Some(at) => tail.split_at(at + 1),
            None => ("", tail),
        };
        (
            SecretText::new(info.to_owned()),
            SecretText::new(key.to_owned()),
        )
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({})", self.claim.public())
    }
}

impl Answer {
    /// Everything is in order.
    pub const OK: Self = Self::Value(0);

    /// Writes the answer into `message`.
    pub fn write(&self, message: &mut MessageWriter) {
        match self {
            Self::Value(value) => {
                message.int(*value);
            }
            Self::Failed(errno) => {
                message.int(-1).int(i64::from(*errno));
            }
            Self::Ad(ad) => {
                message.int(0).ad(ad);
            }
            Self::Text(text) => {
                message.int(0).str(text);
            }
            Self::Bytes(bytes) => {
                message.int(length(bytes.len())).bytes(bytes);
            }
            Self::Listing(text) => {
                message.int(length(text.len())).str(text);
            }
            Self::Status(line) => {
                let mut padded = line.as_bytes().to_vec();
                padded.resize(STATUS_LENGTH, 0);
                message.int(0).bytes(&padded);
            }
            Self::NoCredentials => {
                message.int(-1);
            }
            Self::Sessions(sessions) => {
                let (info, key) = sessions.secret_part();
                message.int(1);
                for id in [
                    sessions.claim.session_id(),
                    &sessions.claim.file_transfer_session_id(),
                ] {
                    message.str(id).str(info.expose()).str(key.expose());
                }
            }
        }
    }
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
