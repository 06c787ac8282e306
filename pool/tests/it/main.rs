//! Tests of the embedded pool's parts from outside.

mod submit;
