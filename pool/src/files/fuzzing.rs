//! Entry points for fuzzing.

use super::protocol::{Reply, Request};

/// Packets of both directions: whatever is accepted says the same when it is sent again.
pub fn fuzz_user_files(data: &[u8]) {
    if let Ok((id, request)) = Request::decode(data) {
        assert_eq!(Request::decode(&request.encode(id)), Ok((id, request)));
    }
    if let Ok((id, reply)) = Reply::decode(data) {
        assert_eq!(Reply::decode(&reply.encode(id)), Ok((id, reply)));
    }
}
