//! Tests of the public interface.

mod corpus;
mod evaluate;
mod limits;
mod properties;
mod reference;
mod syntax;
