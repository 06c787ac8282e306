//! HTCondor's wire protocol CEDAR and its security layer, both ends.
//!
//! The core does no I/O: frames, messages, ads, addresses, claim ids and the handshakes of client
//! and server take bytes and give bytes; the time is an argument, random bytes come from an
//! [`entropy::Entropy`]. With feature `tokio`, the module `net` adds connections over TCP.
//!
//! Not here: UDP, ciphers other than AES-256-GCM, key transport, Kerberos, MUNGE, TLS certificates.
//!
//! ```
//! use cedar::wire::{Coding, MessageReader, MessageWriter};
//!
//! let mut message = MessageWriter::new(Coding::Plain);
//! message.int(441).str("hello");
//! let body = message.finish()?;
//! let mut reader = MessageReader::new(Coding::Plain, &body);
//! assert_eq!(reader.int()?, 441);
//! assert_eq!(reader.str()?, "hello");
//! reader.expect_end()?;
//! # Ok::<(), cedar::wire::WireError>(())
//! ```

#![forbid(unsafe_code)]

mod ad_wire;
pub mod ccb;
pub mod claim;
pub mod command;
pub mod crypto;
pub mod entropy;
pub mod error;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "tokio")]
pub mod net;
pub mod secret;
pub mod security;
pub mod sinful;
pub mod version;
pub mod wire;

pub use ad_wire::is_private;
pub use claim::ClaimId;
pub use error::{Blame, HandshakeError};
pub use sinful::Sinful;
pub use version::Version;
pub use wire::{Coding, MessageReader, MessageWriter, WireError};
