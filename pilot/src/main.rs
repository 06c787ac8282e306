//! The `sailplane` program.
fn main() {}
