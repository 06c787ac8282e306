//! The JSON form of ads (`htcondor:src/classad/jsonSink.cpp`, `jsonSource.cpp`).
//!
//! Numbers, strings, booleans, lists and nested ads are plain JSON, undefined is `null`, and everything else is a string
//! `"\/Expr(...)\/"` with the expression in new syntax. The escaped slashes tell it from a string that only looks alike.

mod read;
mod write;
