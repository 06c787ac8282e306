//! Whole journeys: a played shadow on real connections, a played helper, real payloads under the test's own account.

mod reconnects;
mod shadow;
mod stories;
