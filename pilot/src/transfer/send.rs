//! The uploading side's half of the dialogue: what to send, and what to make of the answers. No I/O.

use cedar::{Coding, MessageReader, MessageWriter, WireError};
use classad::ClassAd;
use thiserror::Error;

use super::{ALIVE_INTERVAL, Ack, BLOCK, EMPTY_FILE, UNREADABLE, command};

/// The receiver broke the protocol, or refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SendError {
    /// Not a message of the expected shape.
    #[error("malformed message where {expected} was expected")]
    Malformed {
        /// What the dialogue was waiting for.
        expected: &'static str,
        /// How it is malformed.
        #[source]
        source: WireError,
    },
    /// The receiver does not know the transfer key (protocol page 04, pitfall 12).
    #[error("the shadow does not know the transfer key any more")]
    KeyRefused,
    /// The receiver will not let us go ahead.
    #[error("the shadow refuses to receive: {reason}")]
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
    #[error("a message came where none was due")]
    Unexpected,
}

/// What a message from the receiver meant.
#[derive(Debug)]
pub enum Heard {
    /// Read on.
    Nothing,
    /// Send this and go on with the item.
    GoAhead(MessageWriter),
    /// The receiver is done, too.
    Finished(Ack),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Nothing,
    GoAhead,
    AliveInterval { is_for_all: bool },
    Ack,
}

/// The dialogue's state.
#[derive(Debug)]
pub struct Sender {
    coding: Coding,
    expect: Expect,
    is_going_ahead: bool,
    limit: Option<u64>,
    files: u64,
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
            files: 0,
        }
    }

    /// The first message: a final transfer goes to the user's directory, another one to the spool.
    #[must_use]
    pub fn header(&self, is_final: bool, sandbox_size: u64) -> MessageWriter {
        let mut ad = ClassAd::new();
        ad.insert(
            "SandboxSize",
            i64::try_from(sandbox_size).unwrap_or(i64::MAX),
        );
        let mut message = MessageWriter::new(self.coding);
        message.int(i64::from(is_final)).ad(&ad);
        message
    }

    /// The beginning of a file. If [`Sender::must_wait`] says so afterwards, the go-ahead comes before the body.
    #[must_use]
    pub fn file(&mut self, name: &[u8]) -> Vec<MessageWriter> {
        self.files += 1;
        self.item(command::FILE, name)
    }

    /// The beginning of a directory; see [`Sender::file`].
    #[must_use]
    pub fn directory(&mut self, name: &[u8]) -> Vec<MessageWriter> {
        self.item(command::MAKE_DIR, name)
    }

    /// Whether an answer must be read before the body of the item.
    #[must_use]
    pub fn must_wait(&self) -> bool {
        matches!(self.expect, Expect::GoAhead | Expect::AliveInterval { .. })
    }

    /// Most bytes the receiver takes, if it set a limit.
    #[must_use]
    pub const fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// The body of a directory.
    #[must_use]
    pub fn directory_mode(&self, mode: u32) -> MessageWriter {
        self.int(i64::from(mode))
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

    /// The end of the items and this side's report. The receiver's report is to be read next.
    #[must_use]
    pub fn finish(&mut self, ack: &Ack) -> Vec<MessageWriter> {
        self.expect = Expect::Ack;
        let mut report = MessageWriter::new(self.coding);
        report.ad(&ack.ad(self.files));
        vec![self.int(command::FINISHED), report]
    }

    /// Takes one message of the receiver.
    ///
    /// # Errors
    /// [`SendError`]; the dialogue is over then.
    pub fn handle(&mut self, body: &[u8]) -> Result<Heard, SendError> {
        let mut reader = MessageReader::new(self.coding, body);
        match self.expect {
            Expect::Nothing => Err(SendError::Unexpected),
            Expect::GoAhead => self.go_ahead(body, &mut reader),
            Expect::AliveInterval { is_for_all } => {
                const WHAT: &str = "an alive interval";
                reader.int().map_err(malformed(WHAT))?;
                reader.expect_end().map_err(malformed(WHAT))?;
                self.is_going_ahead = is_for_all;
                self.expect = Expect::Nothing;
                let mut ad = ClassAd::new();
                ad.insert("Result", 2);
                let mut message = MessageWriter::new(self.coding);
                message.ad(&ad);
                Ok(Heard::GoAhead(message))
            }
            Expect::Ack => {
                const WHAT: &str = "the receiver's acknowledgement";
                let ad = reader.ad().map_err(malformed(WHAT))?;
                reader.expect_end().map_err(malformed(WHAT))?;
                self.expect = Expect::Nothing;
                Ok(Heard::Finished(Ack::from_ad(&ad)))
            }
        }
    }

    fn item(&mut self, command: i64, name: &[u8]) -> Vec<MessageWriter> {
        let mut name_message = MessageWriter::new(self.coding);
        name_message.str_bytes(name);
        let mut messages = vec![self.int(command), name_message];
        if !self.is_going_ahead {
            messages.push(self.int(ALIVE_INTERVAL));
            self.expect = Expect::GoAhead;
        }
        messages
    }

    fn go_ahead(
        &mut self,
        body: &[u8],
        reader: &mut MessageReader<'_>,
    ) -> Result<Heard, SendError> {
        const WHAT: &str = "a go-ahead";
        // An int alone is the answer to an unknown transfer key; an ad takes more room.
        if body.len() == size_of::<i64>() {
            return Err(SendError::KeyRefused);
        }
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
                reason: ad.string("HoldReason").unwrap_or_default(),
            }),
        }
    }

    fn int(&self, value: i64) -> MessageWriter {
        let mut message = MessageWriter::new(self.coding);
        message.int(value);
        message
    }
}

fn malformed(expected: &'static str) -> impl Fn(WireError) -> SendError {
    move |source| SendError::Malformed { expected, source }
}
