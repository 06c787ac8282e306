//! HTCondor's configuration language, as its release 23.9.6 reads it.
//!
//! Text goes in, a table of knobs comes out; every value remembers where it came from, and every mistake found on the
//! way is reported, not only the first. The core is pure: files, commands and the environment are reached through the
//! trait [`Files`], ClassAd evaluation (for `$EVAL()`, `$INT()` and friends) through [`Evaluator`], random numbers are
//! derived from a seed, and the facts about the machine are told by the caller ([`Loader::detected`]).
//!
//! ```
//! use condorconf::{Loader, MemoryFiles};
//!
//! let files = MemoryFiles::new();
//! let config = Loader::new(&files)
//!     .subsys("STARTD")
//!     .read_text("pilot.conf", "POOL = cm.example.org\nCOLLECTOR_HOST = $(POOL):9618\n")
//!     .finish()?;
//! assert_eq!(config.get("collector_host")?.as_deref(), Some("cm.example.org:9618"));
//! assert_eq!(config.origin("COLLECTOR_HOST").unwrap().to_string(), "pilot.conf:2");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it does not do
//! * No table of HTCondor's own parameters: the caller gives the defaults it cares for ([`Loader::default_value`]).
//! * Not the submit language (its macros are: [`macros`]), and no remote or persistent configuration (`condor_config_val -set`).
//! * `include ... into` (a cache file written by the reader) is refused: reading a configuration writes nothing.
//! * The prefix `SUBSYS.LOCALNAME.` is not looked up: 23.9.6 no longer does either.
//!
//! # Where it differs on purpose
//! * What makes HTCondor loop for ever, overflow its stack or abort (`A = $(B)` with `B = $(A)`, a bad `$INT()`), is
//!   an error with file and line; sizes and depths are limited ([`Limits`]).
//! * A value that equals HTCondor's built-in default keeps the file as its origin; HTCondor calls it a default.
//! * A last line without a newline is trimmed and counted like every other line.
//! * A file with a NUL byte or that is not UTF-8 is refused.
//! * Reading goes on after a mistake, so that all mistakes are reported together; HTCondor stops at the first.

#![forbid(unsafe_code)]

mod condition;
mod config;
mod error;
mod expand;
mod files;
mod function;
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod line;
mod loader;
pub mod macros;
mod number;
mod origin;
mod path;
mod printf;
mod read;
mod real_files;
mod scan;
mod table;
mod template;
mod typed;

pub use self::config::{Config, Knob, Warning};
pub use self::error::{Error, ErrorKind, Errors};
pub use self::expand::{Evaluated, Evaluator};
pub use self::files::{DirEntry, FileError, Files, MemoryFiles};
pub use self::limits::Limits;
pub use self::loader::{Loader, READ_VERSION};
pub use self::origin::{Origin, Place};
pub use self::real_files::RealFiles;
