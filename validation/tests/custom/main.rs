//! Custom checks as factories and frontends send them: real scripts in real shells, real TLS, a real proxy.

mod contract;
mod delivery;
mod examples;
mod functions;
mod support;
