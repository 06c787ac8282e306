//! The downloading side's half of the dialogue: messages in, events and replies out. No I/O.
//!
//! Whoever drives a [`Receiver`] does what the events say and sends what they carry. It accepts exactly the order of
//! messages of protocol page 04, sections 3 to 7; anything else is a [`ReceiveError`] and the end of the connection.
//! Names are not judged here: an illegal name must not stop the consumption of what follows it.

use cedar::{Coding, MessageReader, MessageWriter, WireError};
use classad::ClassAd;
use thiserror::Error;

use super::{ALIVE_INTERVAL, Ack, EMPTY_FILE, UNREADABLE, command};

/// Largest block a sender may announce; four times what every known sender uses.
const MAX_BLOCK: i64 = 1 << 20;
/// Largest certificate chain of a delegated proxy.
const MAX_CHAIN: i64 = 256 * 1024;
/// Longest file name taken from the wire, bytes; the check for what is legal comes later.
const MAX_NAME: usize = 16 * 1024;
/// More items than this is not a sandbox.
const MAX_ITEMS: u64 = 10_000_000;

/// What a message meant.
#[derive(Debug)]
pub enum Received<'m> {
    /// The sender's announcement.
    Header {
        /// Whether this is the last transfer of the job; an input never is.
        is_final: bool,
        /// Bytes to come, as the sender reckoned.
        sandbox_size: i64,
    },
    /// Part of the dialogue; nothing to be done.
    Nothing,
    /// Send these, in order.
    Reply(Vec<MessageWriter>),
    /// A file begins; [`Received::Data`] or [`Received::EmptyFile`] follows.
    File(FileHeader),
    /// The whole message is data of the current file.
    Data {
        /// The file ends here.
        is_last: bool,
    },
    /// The current file is empty and ends here.
    EmptyFile,
    /// A directory.
    Directory {
        /// Its name.
        name: Vec<u8>,
        /// Permission bits.
        mode: u32,
    },
    /// A proxy is to be delegated: send a request made by [`Receiver::request_delegation`].
    Delegation {
        /// Name of its file.
        name: Vec<u8>,
    },
    /// The certificates of the delegated proxy.
    Certificates {
        /// DER, concatenated; empty when the sender failed.
        chain: &'m [u8],
    },
    /// An item this pilot does not take: a URL to be fetched.
    Url {
        /// Name of the file it would become.
        name: Vec<u8>,
    },
    /// The sender is done. Send [`Receiver::acknowledge`] and close.
    Finished(Ack),
}

/// What is known about a file before its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHeader {
    /// Its name.
    pub name: Vec<u8>,
    /// Permission bits, if the sender gave any.
    pub mode: Option<u32>,
    /// Its size, bytes.
    pub size: u64,
    /// The sender could not read it: whatever comes is to be discarded, and the sender will say so at the end.
    pub is_unreadable: bool,
}

/// The sender broke the protocol, or refused to go ahead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReceiveError {
    /// Not a message of the expected shape.
    #[error("malformed message where {expected} was expected")]
    Malformed {
        /// What the dialogue was waiting for.
        expected: &'static str,
        /// How it is malformed.
        #[source]
        source: WireError,
    },
    /// An unknown item command.
    #[error("unknown item command {0}")]
    UnknownCommand(i64),
    /// An unknown sub-command of an ad item.
    #[error("unknown sub-command {0}")]
    UnknownSubCommand(i64),
    /// A number outside its range.
    #[error("{what} is {value}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// What it is.
        value: i64,
    },
    /// A block is not as long as announced.
    #[error("a block of {got} bytes came where {expected} were announced")]
    BlockLength {
        /// What was announced.
        expected: u64,
        /// What came.
        got: usize,
    },
    /// The sender does not know the transfer key (protocol page 04, pitfall 12).
    #[error("the shadow does not know the transfer key any more")]
    KeyRefused,
    /// The sender will not go ahead.
    #[error("the shadow refuses to send: {reason}")]
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
    /// A message came after the end.
    #[error("a message came after the end of the transfer")]
    AfterEnd,
}

#[derive(Debug)]
enum Expect {
    Header,
    Command,
    Name { command: i64 },
    AliveInterval { command: i64, name: Vec<u8> },
    GoAhead { command: i64, name: Vec<u8> },
    Mode { name: Vec<u8> },
    Size { name: Vec<u8>, mode: i64 },
    Block { left: u64, block: u64 },
    EmptyMark,
    DirectoryMode { name: Vec<u8> },
    Certificates,
    Url { name: Vec<u8> },
    Other { name: Vec<u8> },
    Ack,
    Nothing,
}

/// The dialogue's state.
#[derive(Debug)]
pub struct Receiver {
    coding: Coding,
    expect: Expect,
    is_going_ahead: bool,
    items: u64,
    files: u64,
}

impl Receiver {
    /// A dialogue about to begin with the sender's header.
    #[must_use]
    pub const fn new(coding: Coding) -> Self {
        Self {
            coding,
            expect: Expect::Header,
            is_going_ahead: false,
            items: 0,
            files: 0,
        }
    }

    /// Whether the sender may be silent for long now, because it waits for its turn in a queue.
    #[must_use]
    pub const fn may_wait_long(&self) -> bool {
        matches!(self.expect, Expect::GoAhead { .. })
    }

    /// Takes one message.
    ///
    /// # Errors
    /// [`ReceiveError`]; the dialogue is over then.
    pub fn handle<'m>(&mut self, body: &'m [u8]) -> Result<Received<'m>, ReceiveError> {
        let mut reader = MessageReader::new(self.coding, body);
        match std::mem::replace(&mut self.expect, Expect::Nothing) {
            Expect::Header => self.header(&mut reader),
            Expect::Command => self.command(&mut reader),
            Expect::Name { command } => {
                let name = reader.str_bytes().map_err(malformed("a file name"))?;
                let name = if name.len() > MAX_NAME {
                    Vec::new()
                } else {
                    name.to_vec()
                };
                end(&reader, "a file name")?;
                if self.is_going_ahead {
                    self.body(command, name)
                } else {
                    self.expect = Expect::AliveInterval { command, name };
                    Ok(Received::Nothing)
                }
            }
            Expect::AliveInterval { command, name } => {
                let interval = one_int(&mut reader, "an alive interval")?;
                if interval < 0 {
                    return Err(ReceiveError::OutOfRange {
                        what: "the alive interval",
                        value: interval,
                    });
                }
                self.expect = Expect::GoAhead { command, name };
                let mut go_ahead = ClassAd::new();
                go_ahead.insert("Result", 2);
                go_ahead.insert("MaxTransferBytes", -1);
                let mut yes = MessageWriter::new(self.coding);
                yes.ad(&go_ahead);
                let mut alive = MessageWriter::new(self.coding);
                alive.int(ALIVE_INTERVAL);
                Ok(Received::Reply(vec![yes, alive]))
            }
            Expect::GoAhead { command, name } => self.go_ahead(&mut reader, command, name),
            Expect::Mode { name } => {
                let mode = one_int(&mut reader, "a file mode")?;
                self.expect = Expect::Size { name, mode };
                Ok(Received::Nothing)
            }
            Expect::Size { name, mode } => self.size(&mut reader, name, mode),
            Expect::Block { left, block } => self.block(body, left, block),
            Expect::EmptyMark => {
                let mark = one_int(&mut reader, "the mark of an empty file")?;
                if mark != EMPTY_FILE {
                    return Err(ReceiveError::OutOfRange {
                        what: "the mark of an empty file",
                        value: mark,
                    });
                }
                self.expect = Expect::Command;
                Ok(Received::EmptyFile)
            }
            Expect::DirectoryMode { name } => {
                let mode = permissions(one_int(&mut reader, "a directory mode")?);
                self.expect = Expect::Command;
                Ok(Received::Directory {
                    name,
                    mode: mode.unwrap_or(0o700),
                })
            }
            Expect::Certificates => {
                let length = reader.int().map_err(malformed("certificates"))?;
                if !(0..=MAX_CHAIN).contains(&length) {
                    return Err(ReceiveError::OutOfRange {
                        what: "the size of a certificate chain",
                        value: length,
                    });
                }
                let chain = reader
                    .bytes(usize::try_from(length).unwrap_or(0))
                    .map_err(malformed("certificates"))?;
                end(&reader, "certificates")?;
                self.expect = Expect::Command;
                Ok(Received::Certificates { chain })
            }
            Expect::Url { name } => {
                reader.str_bytes().map_err(malformed("a URL"))?;
                end(&reader, "a URL")?;
                self.expect = Expect::Command;
                Ok(Received::Url { name })
            }
            Expect::Other { name } => self.other(&mut reader, name),
            Expect::Ack => {
                let ad = one_ad(&mut reader, "the sender's acknowledgement")?;
                Ok(Received::Finished(Ack::from_ad(&ad)))
            }
            Expect::Nothing => Err(ReceiveError::AfterEnd),
        }
    }

    /// The message that asks for a delegated proxy; `request` is a PKCS#10 request in DER. An empty one says that
    /// there is none.
    #[must_use]
    pub fn request_delegation(&self, request: &[u8]) -> MessageWriter {
        let mut message = MessageWriter::new(self.coding);
        message
            .int(i64::try_from(request.len()).unwrap_or(0))
            .bytes(request);
        message
    }

    /// The last message of this side.
    #[must_use]
    pub fn acknowledge(&self, ack: &Ack) -> MessageWriter {
        let mut message = MessageWriter::new(self.coding);
        message.ad(&ack.ad(self.files));
        message
    }

    fn header(
        &mut self,
        reader: &mut MessageReader<'_>,
    ) -> Result<Received<'static>, ReceiveError> {
        const WHAT: &str = "the header of the transfer";
        let is_final = reader.int().map_err(malformed(WHAT))?;
        if is_final == 0 && reader.at_end() {
            return Err(ReceiveError::KeyRefused);
        }
        let ad = one_ad(reader, WHAT)?;
        self.expect = Expect::Command;
        Ok(Received::Header {
            is_final: is_final != 0,
            sandbox_size: ad.int("SandboxSize").unwrap_or(0),
        })
    }

    fn command(
        &mut self,
        reader: &mut MessageReader<'_>,
    ) -> Result<Received<'static>, ReceiveError> {
        let command = one_int(reader, "an item command")?;
        self.items += 1;
        if self.items > MAX_ITEMS {
            return Err(ReceiveError::OutOfRange {
                what: "the number of items",
                value: -1,
            });
        }
        self.expect = match command {
            command::FINISHED => Expect::Ack,
            command::FILE
            | command::FILE_ENCRYPTED
            | command::FILE_UNENCRYPTED
            | command::DELEGATED_PROXY
            | command::URL
            | command::MAKE_DIR
            | command::OTHER => Expect::Name { command },
            other => return Err(ReceiveError::UnknownCommand(other)),
        };
        Ok(Received::Nothing)
    }

    fn go_ahead(
        &mut self,
        reader: &mut MessageReader<'_>,
        command: i64,
        name: Vec<u8>,
    ) -> Result<Received<'static>, ReceiveError> {
        let ad = one_ad(reader, "a go-ahead")?;
        match ad.int("Result").unwrap_or(-1) {
            0 => {
                self.expect = Expect::GoAhead { command, name };
                Ok(Received::Nothing)
            }
            result @ 1.. => {
                self.is_going_ahead = result > 1;
                self.body(command, name)
            }
            _ => Err(ReceiveError::Refused {
                try_again: ad.bool("TryAgain").unwrap_or(true),
                code: ad.int("HoldReasonCode").unwrap_or(0),
                subcode: ad.int("HoldReasonSubCode").unwrap_or(0),
                reason: ad.string("HoldReason").unwrap_or_default(),
            }),
        }
    }

    /// Name and go-ahead are done; what comes next depends on the command.
    fn body(&mut self, command: i64, name: Vec<u8>) -> Result<Received<'static>, ReceiveError> {
        self.expect = match command {
            command::FILE | command::FILE_ENCRYPTED | command::FILE_UNENCRYPTED => {
                Expect::Mode { name }
            }
            command::MAKE_DIR => Expect::DirectoryMode { name },
            command::URL => Expect::Url { name },
            command::OTHER => Expect::Other { name },
            command::DELEGATED_PROXY => {
                self.files += 1;
                self.expect = Expect::Certificates;
                return Ok(Received::Delegation { name });
            }
            other => return Err(ReceiveError::UnknownCommand(other)),
        };
        Ok(Received::Nothing)
    }

    fn size(
        &mut self,
        reader: &mut MessageReader<'_>,
        name: Vec<u8>,
        mode: i64,
    ) -> Result<Received<'static>, ReceiveError> {
        let size = reader.int().map_err(malformed("a file size"))?;
        let block = reader.int().map_err(malformed("a block size"))?;
        end(reader, "a file size")?;
        let bytes = u64::try_from(size).map_err(|_| ReceiveError::OutOfRange {
            what: "a file size",
            value: size,
        })?;
        self.files += 1;
        self.expect = if bytes == 0 {
            Expect::EmptyMark
        } else {
            if !(1..=MAX_BLOCK).contains(&block) {
                return Err(ReceiveError::OutOfRange {
                    what: "a block size",
                    value: block,
                });
            }
            Expect::Block {
                left: bytes,
                block: u64::try_from(block).unwrap_or(1),
            }
        };
        let is_unreadable = mode == UNREADABLE;
        let mode = if is_unreadable {
            None
        } else {
            permissions(mode)
        };
        Ok(Received::File(FileHeader {
            name,
            mode,
            size: bytes,
            is_unreadable,
        }))
    }

    fn block(
        &mut self,
        body: &[u8],
        left: u64,
        block: u64,
    ) -> Result<Received<'static>, ReceiveError> {
        let expected = left.min(block);
        if u64::try_from(body.len()) != Ok(expected) {
            return Err(ReceiveError::BlockLength {
                expected,
                got: body.len(),
            });
        }
        let left = left - expected;
        self.expect = if left == 0 {
            Expect::Command
        } else {
            Expect::Block { left, block }
        };
        Ok(Received::Data { is_last: left == 0 })
    }

    /// An item described by an ad (protocol page 04, section 7).
    fn other(
        &mut self,
        reader: &mut MessageReader<'_>,
        name: Vec<u8>,
    ) -> Result<Received<'static>, ReceiveError> {
        const UPLOADED_BY_PLUGIN: i64 = 7;
        const DATA_REUSE: i64 = 8;
        let ad = one_ad(reader, "an item's ad")?;
        self.expect = Expect::Command;
        match ad.int("SubCommand").unwrap_or(-1) {
            UPLOADED_BY_PLUGIN => Ok(Received::Url { name }),
            DATA_REUSE => {
                // "Nothing of it is here": the files follow as ordinary items.
                let mut none = ClassAd::new();
                none.insert("Result", 1);
                let mut answer = MessageWriter::new(self.coding);
                answer.ad(&none);
                Ok(Received::Reply(vec![answer]))
            }
            other => Err(ReceiveError::UnknownSubCommand(other)),
        }
    }
}

/// The permission bits of a mode from the wire; zero means that there are none. Setuid, setgid and sticky are dropped.
fn permissions(mode: i64) -> Option<u32> {
    if mode == 0 {
        None
    } else {
        u32::try_from(mode & 0o777).ok()
    }
}

fn malformed(expected: &'static str) -> impl Fn(WireError) -> ReceiveError {
    move |source| ReceiveError::Malformed { expected, source }
}

fn end(reader: &MessageReader<'_>, expected: &'static str) -> Result<(), ReceiveError> {
    reader.expect_end().map_err(malformed(expected))
}

fn one_int(reader: &mut MessageReader<'_>, expected: &'static str) -> Result<i64, ReceiveError> {
    let value = reader.int().map_err(malformed(expected))?;
    end(reader, expected)?;
    Ok(value)
}

fn one_ad(reader: &mut MessageReader<'_>, expected: &'static str) -> Result<ClassAd, ReceiveError> {
    let ad = reader.ad().map_err(malformed(expected))?;
    end(reader, expected)?;
    Ok(ad)
}
