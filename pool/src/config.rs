//! The pool's configuration: HTCondor's language and HTCondor's knob names.

use std::path::PathBuf;

use condorconf::{Config, Errors, Loader, Origin, RealFiles};

/// Where the configuration comes from: the files in their order, then `_CONDOR_*` of the environment, then `--set`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Sources {
    /// Configuration file; may be given more than once [default: $CONDOR_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// A single knob; wins over files and environment
    #[arg(long, value_name = "KNOB=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
}

impl Sources {
    /// Reads everything. `$(...)` of the values is expanded when they are asked for.
    ///
    /// # Errors
    /// Every mistake in a file, with file and line.
    pub fn load(&self, subsystem: &str) -> Result<Config, Errors> {
        let files = RealFiles::new();
        let mut paths = self.config.clone();
        if paths.is_empty() {
            paths.extend(std::env::var_os("CONDOR_CONFIG").map(PathBuf::from));
        }
        let mut loader = Loader::new(&files).subsys(subsystem);
        for path in &paths {
            loader = loader.read_file(&path.to_string_lossy());
        }
        for (knob, value) in &self.set {
            loader = loader.set(knob, value, Origin::CommandLine);
        }
        loader.finish()
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((knob, value)) if !knob.trim().is_empty() => {
            Ok((knob.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write it as KNOB=VALUE".to_owned()),
    }
}
