//! D's half of the dialogue: the output of a pilot, message by message. No I/O.
//!
//! The pilot is not trusted: every number has a range, every order of messages but the right one is an error and the
//! end of the connection. Names are not judged here, because an illegal name must not stop the consumption of what
//! follows it.

use cedar::{Coding, MessageReader, MessageWriter, WireError};
use classad::ClassAd;
use thiserror::Error;

use super::ack::{Ack, bounded};
use super::{ALIVE_INTERVAL, EMPTY_FILE, UNREADABLE, command};

/// Largest block a pilot may announce; four times what every known sender uses.
const MAX_BLOCK: i64 = 1 << 20;
/// Longest file name taken from the wire, bytes; the check for what is legal comes later.
const MAX_NAME: usize = 16 * 1024;
/// More items than this is not a sandbox.
const MAX_ITEMS: u64 = 1_000_000;

/// What a message meant.
#[derive(Debug)]
pub enum Received {
    /// The pilot's announcement.
    Header {
        /// The job is over: the files go to the user. Otherwise they are for the next run.
        is_final: bool,
        /// Bytes to come, as the pilot reckoned.
        sandbox_size: u64,
    },
    /// Part of the dialogue; nothing to be done.
    Nothing,
    /// The pilot asks to go ahead. Send [`Receiver::wait`] as long as it is not its turn and then
    /// [`Receiver::go_ahead`].
    Asks {
        /// It must hear from us at least this often, seconds; never less than a minute.
        interval: u64,
    },
    /// Send this.
    Reply(MessageWriter),
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
        /// Permission bits; zero if the pilot gave none.
        mode: u32,
    },
    /// A file that the pilot has sent elsewhere itself.
    Elsewhere {
        /// Where to.
        url: String,
        /// Why it did not arrive, if it did not.
        problem: Option<String>,
    },
    /// The pilot is done. Send [`Receiver::acknowledge`] and close.
    Finished(Ack),
}

/// What is known about a file before its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHeader {
    /// Its name.
    pub name: Vec<u8>,
    /// Permission bits, if the pilot gave any.
    pub mode: Option<u32>,
    /// Its size, bytes.
    pub size: u64,
    /// The pilot could not read it: whatever comes is to be discarded, and the pilot will say so at the end.
    pub is_unreadable: bool,
}

/// The pilot broke the protocol, or refused to go ahead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReceiveError {
    /// Not a message of the expected shape.
    #[error("the pilot sent a malformed message where {expected} was expected")]
    Malformed {
        /// What the dialogue was waiting for.
        expected: &'static str,
        /// How it is malformed.
        #[source]
        source: WireError,
    },
    /// An item of a kind that no output has.
    #[error("the pilot sent an item of the unusable kind {0}")]
    Command(i64),
    /// An unknown sub-command of an ad item.
    #[error("the pilot sent an item of the unusable kind 999, {0}")]
    SubCommand(i64),
    /// A number outside its range.
    #[error("the pilot sent {value} as {what}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// What it is.
        value: i64,
    },
    /// More items than a sandbox may have.
    #[error("the pilot sent more than {MAX_ITEMS} items")]
    TooManyItems,
    /// A block is not as long as announced.
    #[error("the pilot sent a block of {got} bytes where {expected} were announced")]
    BlockLength {
        /// What was announced.
        expected: u64,
        /// What came.
        got: usize,
    },
    /// The pilot will not go ahead.
    #[error("the pilot refuses to send: {reason}")]
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

#[derive(Debug)]
enum Expect {
    Header,
    Command,
    Name {
        command: i64,
    },
    AliveInterval {
        command: i64,
        name: Vec<u8>,
    },
    /// Not the pilot's message but our decision.
    OurTurn {
        command: i64,
        name: Vec<u8>,
    },
    GoAhead {
        command: i64,
        name: Vec<u8>,
    },
    Mode {
        name: Vec<u8>,
    },
    Size {
        name: Vec<u8>,
        mode: i64,
    },
    Block {
        left: u64,
        block: u64,
    },
    EmptyMark,
    DirectoryMode {
        name: Vec<u8>,
    },
    Other,
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
}

impl Receiver {
    /// A dialogue about to begin with the pilot's header.
    #[must_use]
    pub const fn new(coding: Coding) -> Self {
        Self {
            coding,
            expect: Expect::Header,
            is_going_ahead: false,
            items: 0,
        }
    }

    /// Whether the pilot may be silent for long now, because it waits for its own turn.
    #[must_use]
    pub const fn may_wait_long(&self) -> bool {
        matches!(self.expect, Expect::GoAhead { .. })
    }

    /// It is not the pilot's turn yet.
    #[must_use]
    pub fn wait(&self) -> MessageWriter {
        let mut ad = ClassAd::new();
        ad.insert("Timeout", ALIVE_INTERVAL);
        ad.insert("Result", 0);
        let mut message = MessageWriter::new(self.coding);
        message.ad(&ad);
        message
    }

    /// It is the pilot's turn. `limit` is the most bytes it may send.
    #[must_use]
    pub fn go_ahead(&mut self, limit: Option<u64>) -> [MessageWriter; 2] {
        let mut ad = ClassAd::new();
        ad.insert("Result", 2);
        let limit = limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        ad.insert("MaxTransferBytes", limit);
        let mut answer = MessageWriter::new(self.coding);
        answer.ad(&ad);
        let mut interval = MessageWriter::new(self.coding);
        interval.int(ALIVE_INTERVAL);
        self.expect = match std::mem::replace(&mut self.expect, Expect::Nothing) {
            Expect::OurTurn { command, name } => Expect::GoAhead { command, name },
            other => other,
        };
        [answer, interval]
    }

    /// Takes one message. Its bytes are the file's data when the answer is [`Received::Data`].
    ///
    /// # Errors
    /// [`ReceiveError`]; the dialogue is over then.
    pub fn handle(&mut self, body: &[u8]) -> Result<Received, ReceiveError> {
        let mut reader = MessageReader::new(self.coding, body);
        match std::mem::replace(&mut self.expect, Expect::Nothing) {
            Expect::Header => self.header(&mut reader),
            Expect::Command => self.command(&mut reader),
            Expect::Name { command } => self.name(&mut reader, command),
            Expect::AliveInterval { command, name } => {
                const WHAT: &str = "an alive interval";
                let interval = one_int(&mut reader, WHAT)?;
                let interval = unsigned(WHAT, interval)?.max(60);
                self.expect = Expect::OurTurn { command, name };
                Ok(Received::Asks { interval })
            }
            Expect::GoAhead { command, name } => self.pilot_go_ahead(&mut reader, command, name),
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
                let mode = one_int(&mut reader, "a directory mode")?;
                self.expect = Expect::Command;
                Ok(Received::Directory {
                    name,
                    mode: permissions(mode),
                })
            }
            Expect::Other => self.other(&mut reader),
            Expect::Ack => {
                let ad = one_ad(&mut reader, "an acknowledgement")?;
                Ok(Received::Finished(Ack::from_ad(&ad)))
            }
            Expect::OurTurn { .. } | Expect::Nothing => Err(ReceiveError::Unexpected),
        }
    }

    /// The last message of this side.
    #[must_use]
    pub fn acknowledge(&self, ack: &Ack) -> MessageWriter {
        let mut message = MessageWriter::new(self.coding);
        message.ad(&ack.ad(self.items));
        message
    }

    fn header(&mut self, reader: &mut MessageReader<'_>) -> Result<Received, ReceiveError> {
        const WHAT: &str = "the header of the transfer";
        let is_final = reader.int().map_err(malformed(WHAT))?;
        let ad = one_ad(reader, WHAT)?;
        self.expect = Expect::Command;
        Ok(Received::Header {
            is_final: is_final != 0,
            sandbox_size: ad
                .int("SandboxSize")
                .and_then(|size| u64::try_from(size).ok())
                .unwrap_or(0),
        })
    }

    fn command(&mut self, reader: &mut MessageReader<'_>) -> Result<Received, ReceiveError> {
        self.expect = match one_int(reader, "an item command")? {
            command::FINISHED => Expect::Ack,
            command @ (command::FILE
            | command::FILE_ENCRYPTED
            | command::FILE_UNENCRYPTED
            | command::MAKE_DIR
            | command::OTHER) => {
                self.items += 1;
                if self.items > MAX_ITEMS {
                    return Err(ReceiveError::TooManyItems);
                }
                Expect::Name { command }
            }
            other => return Err(ReceiveError::Command(other)),
        };
        Ok(Received::Nothing)
    }

    fn name(
        &mut self,
        reader: &mut MessageReader<'_>,
        command: i64,
    ) -> Result<Received, ReceiveError> {
        let name = reader.str_bytes().map_err(malformed("a file name"))?;
        // An empty name is refused where names are judged.
        let name = if name.len() > MAX_NAME {
            Vec::new()
        } else {
            name.to_vec()
        };
        reader.expect_end().map_err(malformed("a file name"))?;
        if self.is_going_ahead {
            self.body(command, name);
        } else {
            self.expect = Expect::AliveInterval { command, name };
        }
        Ok(Received::Nothing)
    }

    fn pilot_go_ahead(
        &mut self,
        reader: &mut MessageReader<'_>,
        command: i64,
        name: Vec<u8>,
    ) -> Result<Received, ReceiveError> {
        let ad = one_ad(reader, "a go-ahead")?;
        match ad.int("Result").unwrap_or(-1) {
            0 => self.expect = Expect::GoAhead { command, name },
            result @ 1.. => {
                self.is_going_ahead = result > 1;
                self.body(command, name);
            }
            _ => {
                return Err(ReceiveError::Refused {
                    try_again: ad.bool("TryAgain").unwrap_or(true),
                    code: ad.int("HoldReasonCode").unwrap_or(0),
                    subcode: ad.int("HoldReasonSubCode").unwrap_or(0),
                    reason: bounded(&ad.string("HoldReason").unwrap_or_default()),
                });
            }
        }
        Ok(Received::Nothing)
    }

    /// Name and go-ahead are done; what comes next depends on the command.
    fn body(&mut self, command: i64, name: Vec<u8>) {
        self.expect = match command {
            command::MAKE_DIR => Expect::DirectoryMode { name },
            command::OTHER => Expect::Other,
            _ => Expect::Mode { name },
        };
    }

    fn size(
        &mut self,
        reader: &mut MessageReader<'_>,
        name: Vec<u8>,
        mode: i64,
    ) -> Result<Received, ReceiveError> {
        const WHAT: &str = "a file size";
        let size = reader.int().map_err(malformed(WHAT))?;
        let block = reader.int().map_err(malformed(WHAT))?;
        reader.expect_end().map_err(malformed(WHAT))?;
        let size = unsigned(WHAT, size)?;
        self.expect = if size == 0 {
            Expect::EmptyMark
        } else {
            let block = u64::try_from(block)
                .ok()
                .filter(|_| (1..=MAX_BLOCK).contains(&block))
                .ok_or(ReceiveError::OutOfRange {
                    what: "a block size",
                    value: block,
                })?;
            Expect::Block { left: size, block }
        };
        let is_unreadable = mode == UNREADABLE;
        let mode = Some(permissions(mode)).filter(|mode| *mode != 0 && !is_unreadable);
        Ok(Received::File(FileHeader {
            name,
            mode,
            size,
            is_unreadable,
        }))
    }

    fn block(&mut self, body: &[u8], left: u64, block: u64) -> Result<Received, ReceiveError> {
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
    fn other(&mut self, reader: &mut MessageReader<'_>) -> Result<Received, ReceiveError> {
        const UPLOADED_BY_PLUGIN: i64 = 7;
        const SIGN_URLS: i64 = 9;
        let ad = one_ad(reader, "an item's ad")?;
        self.expect = Expect::Command;
        match ad.int("SubCommand").unwrap_or(-1) {
            UPLOADED_BY_PLUGIN => Ok(Received::Elsewhere {
                url: bounded(&ad.string("OutputDestination").unwrap_or_default()),
                problem: (ad.int("Result") != Some(0))
                    .then(|| bounded(&ad.string("ErrorString").unwrap_or_default())),
            }),
            SIGN_URLS => {
                // None is signed; the pilot uses them as they are.
                let mut none = ClassAd::new();
                // It cannot fail: the text is a list.
                let _ = none.insert_expr("SignList", "{ }");
                let mut answer = MessageWriter::new(self.coding);
                answer.ad(&none);
                Ok(Received::Reply(answer))
            }
            other => Err(ReceiveError::SubCommand(other)),
        }
    }
}

/// The permission bits of a mode from the wire. Setuid, setgid and sticky are dropped.
fn permissions(mode: i64) -> u32 {
    u32::try_from(mode & 0o777).unwrap_or(0)
}

fn unsigned(what: &'static str, value: i64) -> Result<u64, ReceiveError> {
    u64::try_from(value).map_err(|_| ReceiveError::OutOfRange { what, value })
}

fn malformed(expected: &'static str) -> impl Fn(WireError) -> ReceiveError {
    move |source| ReceiveError::Malformed { expected, source }
}

fn one_int(reader: &mut MessageReader<'_>, expected: &'static str) -> Result<i64, ReceiveError> {
    let value = reader.int().map_err(malformed(expected))?;
    reader.expect_end().map_err(malformed(expected))?;
    Ok(value)
}

fn one_ad(reader: &mut MessageReader<'_>, expected: &'static str) -> Result<ClassAd, ReceiveError> {
    let ad = reader.ad().map_err(malformed(expected))?;
    reader.expect_end().map_err(malformed(expected))?;
    Ok(ad)
}
