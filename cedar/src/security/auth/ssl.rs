//! SSL: TLS records inside messages, in strict turns (protocol 01 section 5.4,
//! `htcondor:src/condor_io/condor_auth_ssl.cpp`).
//!
//! TLS here only proves who is who: the session key comes from ECDH as with the other methods, and
//! the 256 bytes that the server sends through TLS at the end are read and thrown away.

mod client;
mod name;
mod server;

use std::fmt;
use std::io::{self, Read, Write};

pub(crate) use client::ClientSsl;
use openssl::ssl::{Error, ErrorCode, Ssl, SslStream};
pub(crate) use server::ServerSsl;

use super::{MethodFailure, internal};
use crate::error::HandshakeError;
use crate::wire::{Coding, MessageReader, MessageWriter, WireError};

/// Status values of the messages.
const ERROR: i64 = -1;
const OK: i64 = 0;
const SENDING: i64 = 1;
const RECEIVING: i64 = 2;
const QUITTING: i64 = 3;
const HOLDING: i64 = 4;

/// Most turns of one phase.
const MAX_ROUNDS: u32 = 256;

/// Length of the key that goes through TLS, in bytes.
const KEY_LEN: usize = 256;

/// Most bytes of TLS records in one message.
const MAX_DATA: usize = 1_048_576;

/// A message of the phases in which TLS records travel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Records<'a> {
    pub(crate) status: i64,
    pub(crate) data: &'a [u8],
}

impl<'a> Records<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = MessageReader::new(Coding::Plain, body);
        let status = reader.int()?;
        let length = reader.int()?;
        let data = match usize::try_from(length) {
            Ok(size) if size <= MAX_DATA => reader.bytes(size)?,
            _ => return Err(WireError::BadLength { length, at: 8 }),
        };
        reader.expect_end()?;
        Ok(Self { status, data })
    }

    /// True if the peer has given up.
    fn is_end(&self) -> bool {
        matches!(self.status, ERROR | QUITTING)
    }
}

fn message(status: i64, data: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let mut message = MessageWriter::new(Coding::Plain);
    let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
    message.int(status).int(length).bytes(data);
    message.finish().map_err(internal)
}

/// The message of phase 0.
fn readiness(status: i64) -> Vec<u8> {
    status.to_be_bytes().to_vec()
}

fn read_readiness(body: &[u8], name: &'static str) -> Result<i64, HandshakeError> {
    let mut reader = MessageReader::new(Coding::Plain, body);
    let status = reader.int().map_err(HandshakeError::wire(name))?;
    reader.expect_end().map_err(HandshakeError::wire(name))?;
    Ok(status)
}

/// The two directions of TLS, in memory.
#[derive(Default)]
struct Wires {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Read for Wires {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.input.as_slice().read(buffer)?;
        self.input.drain(..count);
        Ok(count)
    }
}

impl Write for Wires {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One end of TLS and where it stands.
pub(crate) struct Tls {
    stream: SslStream<Wires>,
    /// The last status we sent.
    sent: i64,
    rounds: u32,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("sent", &self.sent)
            .field("rounds", &self.rounds)
            .finish_non_exhaustive()
    }
}

/// What is to be said after a step of TLS.
struct Said {
    message: Vec<u8>,
    /// Set if TLS has failed: the message is our last.
    failure: Option<MethodFailure>,
}

impl Tls {
    fn new(ssl: Ssl) -> Result<Self, openssl::error::ErrorStack> {
        Ok(Self {
            stream: SslStream::new(ssl, Wires::default())?,
            sent: RECEIVING,
            rounds: 0,
        })
    }

    fn feed(&mut self, data: &[u8]) {
        self.stream.get_mut().input.extend_from_slice(data);
    }

    fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.stream.get_mut().output)
    }

    /// Begins the next phase.
    fn next_phase(&mut self) {
        self.sent = RECEIVING;
        self.rounds = 0;
    }

    /// Goes on with `step` until it is complete, and puts what TLS wants to say in a message.
    fn advance(
        &mut self,
        step: impl FnOnce(&mut SslStream<Wires>) -> Result<(), Error>,
    ) -> Result<Said, HandshakeError> {
        self.rounds += 1;
        let mut failure = None;
        if self.sent != HOLDING {
            self.sent = match step(&mut self.stream) {
                Ok(()) => HOLDING,
                Err(error) if error.code() == ErrorCode::WANT_READ => RECEIVING,
                Err(error) if error.code() == ErrorCode::WANT_WRITE => SENDING,
                Err(error) => {
                    failure = Some(MethodFailure::Tls(self.reason(&error)));
                    QUITTING
                }
            };
        }
        if failure.is_none() && self.rounds > MAX_ROUNDS {
            failure = Some(MethodFailure::Tls("it takes too many rounds".to_owned()));
            self.sent = QUITTING;
        }
        let output = self.take_output();
        Ok(Said {
            message: message(self.sent, &output)?,
            failure,
        })
    }

    /// Why TLS failed: the verdict on the peer's certificate says more than the library's error.
    fn reason(&self, error: &Error) -> String {
        let verdict = self.stream.ssl().verify_result();
        if verdict != openssl::x509::X509VerifyResult::OK {
            return format!(
                "the certificate of the peer is not accepted: {}",
                verdict.error_string()
            );
        }
        let reasons: Vec<_> = error
            .ssl_error()
            .map(|stack| stack.errors().iter())
            .into_iter()
            .flatten()
            .filter_map(|error| error.reason())
            .collect();
        match reasons.is_empty() {
            true => error.to_string(),
            false => reasons.join(", "),
        }
    }
}

/// The failure that a peer's last message stands for.
fn peer_gave_up() -> MethodFailure {
    MethodFailure::Tls(
        "the peer gave up (it does not accept our certificate, or the lack of one)".to_owned(),
    )
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod coding_tests {
    use super::*;

    #[test]
    fn recorded_rounds_are_read_and_written_as_they_were() {
        // Frames between the readiness messages and the message "no key follows".
        let exchanges = [
            (
                include_str!("../../../tests/vectors/17_ssl_nocert_query.json"),
                "2 2 4 4 4 4",
            ),
            (
                include_str!("../../../tests/vectors/18_ssl_clientcert_query.json"),
                "2 2 2 4 4 4 4",
            ),
            (
                include_str!("../../../tests/vectors/19_ssl_proxy_query.json"),
                "2 2 4 4 4 4",
            ),
            // The last two are the token and the verdict about it.
            (
                include_str!("../../../tests/vectors/26_scitokens_query.json"),
                "2 2 4 4 4 4 4 4",
            ),
        ];
        for (text, wanted) in exchanges {
            let vector: serde_json::Value = serde_json::from_str(text).unwrap();
            let clear: Vec<Vec<u8>> = vector["frames"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|frame| frame.get("plain").is_none())
                .map(|frame| {
                    let text = frame["raw"].as_str().unwrap();
                    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
                    (10..text.len()).step_by(2).map(byte).collect()
                })
                .collect();
            assert_eq!(read_readiness(&clear[4], "").unwrap(), OK);
            assert_eq!(clear[4], readiness(OK));
            let rounds = &clear[6..clear.len() - 1];
            let mut statuses = Vec::new();
            for body in rounds {
                let records = Records::parse(body).unwrap();
                assert_eq!(&message(records.status, records.data).unwrap(), body);
                statuses.push(records.status.to_string());
            }
            assert_eq!(statuses.join(" "), wanted);
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let mut body = message(RECEIVING, b"abc").unwrap();
        assert_eq!(Records::parse(&body).unwrap().data, b"abc");
        body.push(0);
        assert!(Records::parse(&body).is_err(), "left-over bytes");
        for length in [-1, 4, 1_048_577, i64::MAX] {
            let mut body = message(RECEIVING, b"abc").unwrap();
            body[8..16].copy_from_slice(&i64::to_be_bytes(length));
            assert!(Records::parse(&body).is_err(), "{length}");
        }
    }
}
