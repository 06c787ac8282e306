//! `sailplane pool ...`: one file for each command.

pub mod act;
pub mod ads;
pub mod connect;
pub mod dashes;
pub mod history;
pub mod q;
pub mod serve;
pub mod status;
pub mod submit;
mod sys;
pub mod table;
pub mod token;
