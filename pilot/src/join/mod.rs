//! Joining the pool: what the pilot proves itself with, new credentials that replace old ones on disk, and the request
//! for a token by a pilot that has none.

mod proofs;
mod renewals;
mod requests;
mod store;

pub use proofs::Proofs;
pub use renewals::{CredentialFiles, Renewals};
pub use requests::{Obtained, RequestFailure, TokenRequests, wants_token};
pub use store::StoreError;
