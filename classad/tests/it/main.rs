//! Tests of the public interface.

mod reference;
