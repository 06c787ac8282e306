//! The pool's configuration: HTCondor's language and HTCondor's knob names.

use std::path::PathBuf;
use std::sync::Arc;

use classad::{EvalContext, Expr, Value};
use condorconf::{Config, Errors, Evaluated, Evaluator, Loader, Origin, RealFiles};
use nix::unistd::{User, getpid, getuid};

/// What a knob is when nobody sets it. `LOCAL_DIR` depends on the account and is added to these.
const DEFAULTS: [(&str, &str); 9] = [
    ("SPOOL", "$(LOCAL_DIR)/spool"),
    ("COLLECTOR_HOST", "127.0.0.1:9618"),
    ("COLLECTOR_ADDRESS_FILE", "$(LOCAL_DIR)/address"),
    ("SEC_PASSWORD_DIRECTORY", "$(LOCAL_DIR)/passwords.d"),
    (
        "SEC_TOKEN_POOL_SIGNING_KEY_FILE",
        "$(SEC_PASSWORD_DIRECTORY)/POOL",
    ),
    ("UID_DOMAIN", "$(FULL_HOSTNAME)"),
    ("FILESYSTEM_DOMAIN", "$(FULL_HOSTNAME)"),
    ("TRUST_DOMAIN", "$(UID_DOMAIN)"),
    ("NETWORK_INTERFACE", "127.0.0.1"),
];

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
    /// Every mistake, with file and line.
    pub fn load(&self, subsystem: &str) -> Result<Config, Errors> {
        let files = RealFiles::new();
        let mut loader = Loader::new(&files)
            .subsys(subsystem)
            .evaluator(Arc::new(ClassAdEvaluator));
        loader = loader.default_value("LOCAL_DIR", &local_dir());
        for (knob, value) in DEFAULTS {
            loader = loader.default_value(knob, value);
        }
        for (name, value) in facts() {
            loader = loader.detected(name, &value);
        }
        for path in self.files() {
            loader = loader.read_file(&path.to_string_lossy());
        }
        for (knob, value) in &self.set {
            loader = loader.set(knob, value, Origin::CommandLine);
        }
        loader.finish()
    }

    fn files(&self) -> Vec<PathBuf> {
        if !self.config.is_empty() {
            return self.config.clone();
        }
        // HTCondor's word for "only the environment".
        std::env::var_os("CONDOR_CONFIG")
            .filter(|value| !value.is_empty() && !value.eq_ignore_ascii_case("ONLY_ENV"))
            .map(PathBuf::from)
            .into_iter()
            .collect()
    }
}

/// A pool of root's is the machine's; any other account has one of its own.
fn local_dir() -> String {
    if getuid().is_root() {
        return "/var/lib/sailplane/pool".to_owned();
    }
    let home = std::env::var("HOME").ok().or_else(|| {
        let user = User::from_uid(getuid()).ok().flatten()?;
        Some(user.dir.to_string_lossy().into_owned())
    });
    format!("{}/.sailplane/pool", home.as_deref().unwrap_or("/tmp"))
}

fn facts() -> Vec<(&'static str, String)> {
    let name = nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_else(|_| "localhost".to_owned());
    let short = name.split('.').next().unwrap_or_default().to_owned();
    vec![
        ("FULL_HOSTNAME", name),
        ("HOSTNAME", short),
        ("USERNAME", user_name()),
        ("REAL_UID", getuid().to_string()),
        ("PID", getpid().to_string()),
        ("ARCH", std::env::consts::ARCH.to_uppercase()),
        ("OPSYS", std::env::consts::OS.to_uppercase()),
    ]
}

/// The login name of the account that runs this program; its number if it has none.
pub fn user_name() -> String {
    User::from_uid(getuid())
        .ok()
        .flatten()
        .map_or_else(|| getuid().to_string(), |user| user.name)
}

/// Evaluates `$EVAL()` and numbers written as expressions with the `classad` crate: without ads and without a clock.
#[derive(Debug, Clone, Copy)]
pub struct ClassAdEvaluator;

impl Evaluator for ClassAdEvaluator {
    fn evaluate(&self, text: &str) -> Option<Evaluated> {
        let expr = Expr::parse_old(text).ok()?;
        Some(match EvalContext::new().eval(&expr) {
            Value::String(text) => Evaluated::String(text),
            Value::Integer(number) => Evaluated::Integer(number),
            Value::Real(number) => Evaluated::Real(number),
            Value::Boolean(value) => Evaluated::Boolean(value),
            other => Evaluated::Other(Expr::literal(other).to_new()),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn load(sets: &[(&str, &str)]) -> Config {
        let own = |(knob, value): &(&str, &str)| ((*knob).to_owned(), (*value).to_owned());
        let sources = Sources {
            set: sets.iter().map(own).collect(),
            ..Sources::default()
        };
        sources.load("COLLECTOR").unwrap()
    }

    #[test]
    fn the_folders_of_a_pool_follow_the_local_directory() {
        let config = load(&[("LOCAL_DIR", "/srv/pool")]);
        let value = |name| config.get(name).unwrap().unwrap();
        assert_eq!(value("SPOOL"), "/srv/pool/spool");
        assert_eq!(value("COLLECTOR_ADDRESS_FILE"), "/srv/pool/address");
        assert_eq!(
            value("SEC_TOKEN_POOL_SIGNING_KEY_FILE"),
            "/srv/pool/passwords.d/POOL"
        );
    }

    #[test]
    fn the_command_line_wins() {
        let config = load(&[("UID_DOMAIN", "vo.example")]);
        assert_eq!(config.get("TRUST_DOMAIN").unwrap().unwrap(), "vo.example");
    }

    #[test]
    fn a_knob_is_given_as_an_assignment() {
        assert_eq!(
            assignment(" A = B=C "),
            Ok(("A".to_owned(), "B=C".to_owned()))
        );
        assert!(assignment("A").is_err() && assignment("=B").is_err());
    }
}
