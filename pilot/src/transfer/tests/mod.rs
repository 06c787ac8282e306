//! The dialogues against recorded conversations, and the drivers against each other and against hostile peers.

mod hostile;
mod outputs;
mod round_trips;
mod vectors;
