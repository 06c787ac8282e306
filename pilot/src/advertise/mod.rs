//! The slot ads and the links to the collectors.

pub mod board;
pub mod cpu;
pub mod facts;
pub mod link;
pub mod live;
pub mod offer;
pub mod os;
pub mod published;
