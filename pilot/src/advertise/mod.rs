//! The slot ads and the links to the collectors.
