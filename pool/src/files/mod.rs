//! Users' files, opened under the users' own accounts.
//!
//! The pool runs as root on a shared machine and must never use root's rights for a path that a user named. Each owner
//! therefore gets a process of their own (`child`): this program once more, which gives up everything but the owner's
//! uid, gid and groups, and then opens files for the pool and passes the descriptors. It ends when nobody has asked it
//! for a while, when the pool ends, and is started again on demand. Without root the same child runs under the pool's
//! own account, and other owners are refused.
//!
//! What a user may do with paths in their own space (symbolic links, mounts, permissions) is between them and the
//! kernel. The one exception is [`OpenWrite::beneath`], for names that come from an execute machine.

mod account;
mod api;
mod channel;
mod child;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod operations;
mod process;
mod protocol;
mod sys;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tree;

pub use api::{FilesConfig, OwnerFiles, UserFiles};
pub use child::{ARGUMENT, child_main};
pub use error::{FileError, NoAccess};
pub use protocol::{Entry, Kind, Metadata, OpenWrite};
