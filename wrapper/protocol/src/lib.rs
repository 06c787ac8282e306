//! The messages between the pilot, the broker (`sailplane-switch`), the verifier
//! (`sailplane-verify`), the policy service (`sailplane-policy`) and the agent (`sailplane-job`).
//!
//! This crate is bytes to values and back, nothing else: no socket, no file, no clock and no
//! dependency, because the setuid-root helper links it. What travels beside the bytes
//! (descriptors) is described in the documentation of each message.
//!
//! # Transport rules
//!
//! * Every channel is one end of an `AF_UNIX` `SOCK_SEQPACKET` socket pair. One packet is one
//!   message, at most [`MAX_PACKET`] bytes. Read with a buffer of [`MAX_PACKET`] bytes and treat
//!   `MSG_TRUNC` or `MSG_CTRUNC` as a malformed packet.
//! * Descriptors travel by `SCM_RIGHTS` beside the message that names them; a message that needs
//!   none must carry none. [`broker::Command::descriptors`], [`broker::Answer::descriptors`],
//!   [`agent::Request::descriptors`] and [`agent::Reply::descriptors`] say how many.
//!   A receiver must take them with `MSG_CMSG_CLOEXEC`, and close surplus ones.
//! * What may be large never travels in a packet: the credential and the [`exec::ExecRequest`]
//!   come in a memfd (or, the credential, in a pipe that is read to its end), file contents
//!   through descriptors.
//! * An empty packet is end-of-file. A malformed packet ends the channel: the broker then kills
//!   every payload of that pilot, the agent exits.
//!
//! # Order
//!
//! 1. The pilot starts the broker with [`CONTROL_FD`] as one end of a socket pair and sends
//!    [`broker::Command::Hello`] first. A broker that refuses to start sends
//!    [`broker::Answer::Refused`] with request id 0, if the socket exists, before it exits with
//!    201 to 203; the same sentence is on its standard error.
//! 2. Requests carry an id chosen by the pilot, never 0; each gets exactly one reply with that id.
//!    Several may be in flight, replies may overtake each other. Events have id 0.
//! 3. [`broker::Command::SpawnAgent`] returns the agent's socket. On it the agent speaks first
//!    ([`agent::Reply::Ready`] or [`agent::Reply::Trouble`]), then answers requests strictly in
//!    order. Closing it makes the agent exit.
//! 4. `sailplane-verify` gets [`verdict::NEW_VERIFIER`] with a socket for each credential. On that
//!    comes one [`verdict::VerifyRequest`] with the credential's descriptor, and goes back one
//!    [`verdict::Verdict`].
//!
//! # Encoding
//!
//! One tag byte, then the fields in order: integers little endian, booleans one byte 0 or 1, byte
//! strings and lists behind a `u32` length. Every length has a limit that is checked before
//! anything is allocated. There is exactly one encoding of each value: what decodes encodes back
//! to the same bytes.
//!
//! ```
//! use launch_protocol::broker::{Command, Request};
//!
//! let request = Request { id: 7, command: Command::Kill { payload: 3 } };
//! let packet = request.encode()?;
//! assert_eq!(Request::decode(&packet), Ok(request));
//! # Ok::<(), launch_protocol::EncodeError>(())
//! ```
#![forbid(unsafe_code)]

pub mod agent;
pub mod broker;
mod codec;
mod errand;
pub mod exec;
pub mod front;
#[doc(hidden)]
pub mod fuzzing;
pub mod lease;
mod line;
pub mod monitor;
pub mod order;
pub mod policy;
pub mod refuse;
pub mod verdict;

pub use codec::{DecodeError, EncodeError, is_account_name, is_plain_absolute, is_pool_name};

/// Version of these messages; [`broker::Command::Hello`] carries it and both sides refuse another.
pub const VERSION: u32 = 4;

/// Largest packet on any channel, in bytes.
pub const MAX_PACKET: usize = 32 * 1024;

/// Number of the descriptor on which broker and agent find their socket.
pub const CONTROL_FD: i32 = 3;

/// Largest credential a verifier reads, in bytes (requirement C1).
pub const MAX_CREDENTIAL: usize = 256 * 1024;

/// Longest path in a message, in bytes (Linux `PATH_MAX` without its NUL).
pub const MAX_PATH: usize = 4095;

/// Longest message meant for people, in bytes.
pub const MAX_MESSAGE: usize = 1024;

/// Longest stable code such as `proxy.expired`, in bytes.
pub const MAX_CODE: usize = 64;

/// Longest identity text, in bytes.
pub const MAX_IDENTITY: usize = 1024;

/// Longest name of a pool lease, in bytes: a file name.
pub const MAX_LEASE: usize = 255;

/// Longest job label, in bytes (requirement on `GLEXEC_ID`, which it replaces).
pub const MAX_LABEL: usize = 256;
