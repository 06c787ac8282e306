//! U's half of the dialogue: what to send with the input, and what to make of the pilot's answers. No I/O.

use cedar::{Coding, MessageReader, MessageWriter, WireError};
use classad::ClassAd;
use thiserror::Error;

use super::ack::{Ack, bounded};
use super::plan::Crypto;
use super::{ALIVE_INTERVAL, BLOCK, EMPTY_FILE, UNREADABLE, command};

/// Largest certificate request of a pilot, bytes. That of a 2048 bit RSA key has 600.
const MAX_REQUEST: usize = 64 * 1024;

/// The pilot broke the protocol, or refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SendError {
    /// Not a message of the expected shape.
    #[error("the pilot sent a malformed message where {expected} was expected")]
    Malformed {
        /// What the dialogue was waiting for.
        expected: &'static str,
        /// How it is malformed.
        #[source]
        source: WireError,
    },
    /// A number outside its range.
    #[error("the pilot sent {value} as {what}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// What it is.
        value: i64,
    },
    /// The pilot will not let us go ahead.
    #[error("the pilot refuses to receive: {reason}")]
    Refused {
        /// Trying again may help.
        try_again: bool,
        /// `HoldReasonCode`, if it gave one.
        code: i64,
        /// `HoldReasonSubCode`.
        subcode: i64,
        /// Its words.
        reason: String,
    },
    /// A message came where none was due.
    #[error("the pilot sent a message where none was due")]
    Unexpected,
}

/// What a message of the pilot meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'m> {
    /// Read on.
    Nothing,
    /// The pilot is ready, and asks to hear from us at least this often, seconds. Send [`Sender::wait`] as long as it is
    /// not our turn and then [`Sender::go_ahead`].
    Ready {
        /// The interval; never less than a minute.
        interval: u64,
    },
    /// A certificate request for a delegated proxy, DER; empty if the pilot has none.
    Request(&'m [u8]),
    /// The pilot is done, too.
    Finished(Ack),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Nothing,
    GoAhead,
    AliveInterval { is_for_all: bool },
    OurTurn { is_for_all: bool },
    Request,
    Ack,
}

/// The dialogue's state.
#[derive(Debug)]
pub struct Sender {
    coding: Coding,
    expect: Expect,
    is_going_ahead: bool,
    limit: Option<u64>,
    items: u64,
}

impl Sender {
    /// A dialogue about to begin with [`Sender::header`].
    #[must_use]
    pub const fn new(coding: Coding) -> Self {
        Self {
            coding,
            expect: Expect::Nothing,
            is_going_ahead: false,
            limit: None,
            items: 0,
        }
    }

    /// The first message. An input is never the final transfer.
    #[must_use]
    pub fn header(&self, sandbox_size: u64) -> MessageWriter {
        let mut ad = ClassAd::new();
        ad.insert(
            "SandboxSize",
            i64::try_from(sandbox_size).unwrap_or(i64::MAX),
        );
        let mut message = MessageWriter::new(self.coding);
        message.int(0).ad(&ad);
        message
    }

    /// The beginning of a file. If [`Sender::must_wait`] says so afterwards, the go-ahead comes before the body.
    #[must_use]
    pub fn file(&mut self, name: &[u8], crypto: Crypto) -> Vec<MessageWriter> {
        let command = match crypto {
            Crypto::AsIs => command::FILE,
            Crypto::Encrypted => command::FILE_ENCRYPTED,
            Crypto::Unencrypted => command::FILE_UNENCRYPTED,
        };
        self.item(command, name)
    }

    /// The beginning of a directory; see [`Sender::file`].
    #[must_use]
    pub fn directory(&mut self, name: &[u8]) -> Vec<MessageWriter> {
        self.item(command::MAKE_DIR, name)
    }

    /// The beginning of a proxy to be delegated; see [`Sender::file`]. After the go-ahead call
    /// [`Sender::await_request`].
    #[must_use]
    pub fn proxy(&mut self, name: &[u8]) -> Vec<MessageWriter> {
        self.item(command::DELEGATED_PROXY, name)
    }

    /// The beginning of a file that the pilot fetches itself; see [`Sender::file`].
    #[must_use]
    pub fn url(&mut self, name: &[u8]) -> Vec<MessageWriter> {
        self.item(command::URL, name)
    }

    /// Whether an answer must be read before the body of the item.
    #[must_use]
    pub fn must_wait(&self) -> bool {
        matches!(
            self.expect,
            Expect::GoAhead | Expect::AliveInterval { .. } | Expect::OurTurn { .. }
        )
    }

    /// Most bytes the pilot takes, if it set a limit.
    #[must_use]
    pub const fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// It is not our turn yet.
    #[must_use]
    pub fn wait(&self) -> MessageWriter {
        let mut ad = ClassAd::new();
        ad.insert("Result", 0);
        ad.insert("Timeout", ALIVE_INTERVAL);
        let mut message = MessageWriter::new(self.coding);
        message.ad(&ad);
        message
    }

    /// It is our turn: the item's body may follow.
    #[must_use]
    pub fn go_ahead(&mut self) -> MessageWriter {
        if let Expect::OurTurn { is_for_all } = self.expect {
            self.is_going_ahead = is_for_all;
            self.expect = Expect::Nothing;
        }
        let mut ad = ClassAd::new();
        ad.insert("Result", 2);
        let mut message = MessageWriter::new(self.coding);
        message.ad(&ad);
        message
    }

    /// The body of a directory: its whole `st_mode`.
    #[must_use]
    pub fn directory_mode(&self, mode: u32) -> MessageWriter {
        self.int(i64::from(mode | 0o040_000))
    }

    /// The body of a URL.
    #[must_use]
    pub fn url_body(&self, url: &str) -> MessageWriter {
        let mut message = MessageWriter::new(self.coding);
        message.str(url);
        message
    }

    /// What stands before the data of a file; an empty file is complete with it.
    #[must_use]
    pub fn file_header(&self, mode: u32, size: u64) -> Vec<MessageWriter> {
        let mut sizes = MessageWriter::new(self.coding);
        sizes
            .int(i64::try_from(size).unwrap_or(i64::MAX))
            .int(i64::try_from(BLOCK).unwrap_or(i64::MAX));
        let mut messages = vec![self.int(i64::from(mode & 0o777)), sizes];
        if size == 0 {
            messages.push(self.int(EMPTY_FILE));
        }
        messages
    }

    /// The body of a file that cannot be read.
    #[must_use]
    pub fn unreadable_file(&self) -> Vec<MessageWriter> {
        let mut sizes = MessageWriter::new(self.coding);
        sizes.int(0).int(1);
        vec![self.int(UNREADABLE), sizes, self.int(EMPTY_FILE)]
    }

    /// The next message of the pilot is its certificate request.
    pub fn await_request(&mut self) {
        self.expect = Expect::Request;
    }

    /// The answer to a request: DER certificates, or nothing if there is none.
    #[must_use]
    pub fn certificates(&self, chain: &[u8]) -> MessageWriter {
        blob(self.coding, chain)
    }

    /// The end of the items and this side's report. The pilot's report is to be read next.
    #[must_use]
    pub fn finish(&mut self, ack: &Ack) -> Vec<MessageWriter> {
        self.expect = Expect::Ack;
        let mut report = MessageWriter::new(self.coding);
        report.ad(&ack.ad(self.items));
        vec![self.int(command::FINISHED), report]
    }

    /// Takes one message of the pilot.
    ///
    /// # Errors
    /// [`SendError`]; the dialogue is over then.
    pub fn handle<'m>(&mut self, body: &'m [u8]) -> Result<Heard<'m>, SendError> {
        let mut reader = MessageReader::new(self.coding, body);
        match self.expect {
            Expect::Nothing | Expect::OurTurn { .. } => Err(SendError::Unexpected),
            Expect::GoAhead => self.pilot_go_ahead(&mut reader),
            Expect::AliveInterval { is_for_all } => {
                const WHAT: &str = "an alive interval";
                let interval = reader.int().map_err(malformed(WHAT))?;
                reader.expect_end().map_err(malformed(WHAT))?;
                let seconds = u64::try_from(interval).map_err(|_| SendError::OutOfRange {
                    what: WHAT,
                    value: interval,
                })?;
                self.expect = Expect::OurTurn { is_for_all };
                Ok(Heard::Ready {
                    interval: seconds.max(60),
                })
            }
            Expect::Request => {
                self.expect = Expect::Nothing;
                read_blob(&mut reader, MAX_REQUEST).map(Heard::Request)
            }
            Expect::Ack => {
                const WHAT: &str = "an acknowledgement";
                let ad = reader.ad().map_err(malformed(WHAT))?;
                reader.expect_end().map_err(malformed(WHAT))?;
                self.expect = Expect::Nothing;
                Ok(Heard::Finished(Ack::from_ad(&ad)))
            }
        }
    }

    fn item(&mut self, command: i64, name: &[u8]) -> Vec<MessageWriter> {
        self.items += 1;
        let mut name_message = MessageWriter::new(self.coding);
        name_message.str_bytes(name);
        let mut messages = vec![self.int(command), name_message];
        if !self.is_going_ahead {
            messages.push(self.int(ALIVE_INTERVAL));
            self.expect = Expect::GoAhead;
        }
        messages
    }

    fn pilot_go_ahead(
        &mut self,
        reader: &mut MessageReader<'_>,
    ) -> Result<Heard<'static>, SendError> {
        const WHAT: &str = "a go-ahead";
        let ad = reader.ad().map_err(malformed(WHAT))?;
        reader.expect_end().map_err(malformed(WHAT))?;
        match ad.int("Result").unwrap_or(-1) {
            0 => Ok(Heard::Nothing),
            result @ 1.. => {
                self.limit = ad
                    .int("MaxTransferBytes")
                    .and_then(|limit| u64::try_from(limit).ok());
                self.expect = Expect::AliveInterval {
                    is_for_all: result > 1,
                };
                Ok(Heard::Nothing)
            }
            _ => Err(SendError::Refused {
                try_again: ad.bool("TryAgain").unwrap_or(true),
                code: ad.int("HoldReasonCode").unwrap_or(0),
                subcode: ad.int("HoldReasonSubCode").unwrap_or(0),
                reason: bounded(&ad.string("HoldReason").unwrap_or_default()),
            }),
        }
    }

    fn int(&self, value: i64) -> MessageWriter {
        let mut message = MessageWriter::new(self.coding);
        message.int(value);
        message
    }
}

/// A length and as many raw bytes: how both sides of a delegation put their part.
pub(super) fn blob(coding: Coding, bytes: &[u8]) -> MessageWriter {
    let mut message = MessageWriter::new(coding);
    message
        .int(i64::try_from(bytes.len()).unwrap_or(0))
        .bytes(bytes);
    message
}

/// Reads the pilot's part of a delegation.
pub(super) fn read_blob<'m>(
    reader: &mut MessageReader<'m>,
    limit: usize,
) -> Result<&'m [u8], SendError> {
    const WHAT: &str = "a certificate request";
    let length = reader.int().map_err(malformed(WHAT))?;
    let count = usize::try_from(length)
        .ok()
        .filter(|count| *count <= limit)
        .ok_or(SendError::OutOfRange {
            what: "the length of a certificate request",
            value: length,
        })?;
    let bytes = reader.bytes(count).map_err(malformed(WHAT))?;
    reader.expect_end().map_err(malformed(WHAT))?;
    Ok(bytes)
}

/// The largest request that is read.
pub(super) const fn max_request() -> usize {
    MAX_REQUEST
}

fn malformed(expected: &'static str) -> impl Fn(WireError) -> SendError {
    move |source| SendError::Malformed { expected, source }
}
