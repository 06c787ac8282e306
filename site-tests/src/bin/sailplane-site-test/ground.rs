//! The node as it is found: the helper, its configuration, and who may call it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollTimeout, poll};
use nix::sys::utsname::uname;
use nix::unistd::{Uid, User, gethostname};
use sailplane_policy::config::{Config, NamePattern};
use validation::{Fact, Node};

use super::options::Options;

/// An account that calls the helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// Its name, or its number.
    pub(super) name: String,
    /// Its number.
    pub(super) uid: u32,
    /// Its group.
    pub(super) gid: u32,
}

/// What is known before anything is tried.
#[derive(Debug)]
pub(super) struct Ground {
    /// The helper's path.
    pub(super) helper: PathBuf,
    /// Where its other programs are.
    pub(super) programs: PathBuf,
    /// Path of the configuration.
    pub(super) config_path: PathBuf,
    /// The configuration, or why it cannot be had.
    pub(super) config: Result<Config, String>,
    /// We are root.
    pub(super) is_root: bool,
    /// Who calls the helper, or why nobody can.
    pub(super) caller: Result<Account, String>,
    /// The folder of `execute_dirs` that is used.
    pub(super) execute: Option<PathBuf>,
    /// For the report.
    pub(super) node: Node,
}

impl Ground {
    /// Looks around.
    pub(super) fn look(options: &Options) -> Self {
        let is_root = Uid::effective().is_root();
        let config = read_config(&options.config);
        let beside = options.helper.parent().map(Path::to_owned);
        let named = config
            .as_ref()
            .ok()
            .and_then(|config| config.settings.libexec.clone());
        let first = config
            .as_ref()
            .ok()
            .and_then(|config| config.settings.execute_dirs.first().cloned());
        let caller = find_caller(options, config.as_ref().ok(), is_root);
        let mut ground = Self {
            helper: options.helper.clone(),
            programs: named.or(beside).unwrap_or_default(),
            config_path: options.config.clone(),
            config,
            is_root,
            caller,
            execute: options.execute.clone().or(first),
            node: node(),
        };
        let fact = |name: &str, value: String| Fact {
            name: name.to_owned(),
            value,
        };
        ground.node.facts = vec![
            fact("Helper", ground.helper.display().to_string()),
            fact("Configuration", ground.config_path.display().to_string()),
            fact(
                "Calls the helper as",
                match &ground.caller {
                    Ok(account) => format!("{} ({})", account.name, account.uid),
                    Err(why) => why.clone(),
                },
            ),
        ];
        ground
    }

    /// Uid of the caller, if there is one.
    pub(super) fn caller_uid(&self) -> Option<u32> {
        self.caller.as_ref().ok().map(|account| account.uid)
    }
}

fn read_config(path: &Path) -> Result<Config, String> {
    let text = fs::read(path)
        .map_err(|error| format!("cannot read {}: {}", path.display(), words(&error)))?;
    Config::parse(&text).map_err(|errors| {
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        format!("{}:{first}", path.display())
    })
}

/// Ourselves; or, for root, the account that was named, or the first that the configuration lists.
fn find_caller(
    options: &Options,
    config: Option<&Config>,
    is_root: bool,
) -> Result<Account, String> {
    if !is_root {
        if options.account.is_some() {
            return Err("only root can call the helper as another account (--as)".to_owned());
        }
        let uid = Uid::effective();
        return account(uid_name(uid.as_raw()).as_deref().unwrap_or_default()).or_else(|_| {
            Ok(Account {
                name: uid.to_string(),
                uid: uid.as_raw(),
                gid: nix::unistd::getegid().as_raw(),
            })
        });
    }
    if let Some(name) = &options.account {
        return account(name);
    }
    let config =
        config.ok_or("the configuration cannot be read; say with --as who calls the helper")?;
    let mut tried = Vec::new();
    for pattern in &config.callers {
        match pattern {
            NamePattern::Name(name) => match account(name) {
                Ok(account) => return Ok(account),
                Err(why) => tried.push(why),
            },
            NamePattern::Pool(prefix) => {
                let member = names_of_accounts()
                    .into_iter()
                    .find(|name| NamePattern::Pool(prefix.clone()).matches(name));
                match member.map(|name| account(&name)) {
                    Some(Ok(account)) => return Ok(account),
                    _ => tried.push(format!("there is no account .{prefix}")),
                }
            }
            NamePattern::Anyone => tried.push("user_white_list = * names nobody".to_owned()),
        }
    }
    Err(format!(
        "no account of user_white_list can be used ({}); say with --as who calls the helper",
        if tried.is_empty() {
            "it is empty".to_owned()
        } else {
            tried.join("; ")
        }
    ))
}

/// An account by its name.
pub(super) fn account(name: &str) -> Result<Account, String> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(Account {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }),
        Ok(None) => Err(format!("there is no account {name}")),
        Err(errno) => Err(format!(
            "the account {name} cannot be looked up: {}",
            errno.desc()
        )),
    }
}

/// The name of a number, if it has one.
pub(super) fn uid_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid))
        .ok()
        .flatten()
        .map(|user| user.name)
}

/// Names in the password file. Directories that are not listed are left out; nothing depends on completeness.
fn names_of_accounts() -> Vec<String> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn node() -> Node {
    let system = uname().ok();
    let word = |word: Option<&std::ffi::OsStr>| {
        word.map(|word| word.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let uid = Uid::effective().as_raw();
    Node {
        host: gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        account: uid_name(uid).unwrap_or_else(|| uid.to_string()),
        uid,
        system: os_name(),
        kernel: word(system.as_ref().map(|system| system.release())),
        arch: word(system.as_ref().map(|system| system.machine())),
        facts: Vec::new(),
    }
}

fn os_name() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("unknown").trim_matches('"').to_owned()
}

/// What keeps root from trusting a path: it, and every folder above it, must be root's and nobody else's to write.
pub(super) fn distrust(path: &Path) -> Option<String> {
    // Through links, as root goes.
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) => return Some(format!("{}: {}", path.display(), words(&error))),
    };
    real.ancestors().find_map(|part| match fs::metadata(part) {
        Ok(facts) if facts.uid() != 0 => {
            let owner = uid_name(facts.uid()).unwrap_or_else(|| facts.uid().to_string());
            Some(format!(
                "{} belongs to {owner}; it must belong to root",
                part.display()
            ))
        }
        Ok(facts) if facts.mode() & 0o022 != 0 => Some(format!(
            "{} has mode {:04o}; group and others must not be able to write it",
            part.display(),
            facts.mode() & 0o7777
        )),
        Ok(_) => None,
        Err(error) => Some(format!("{}: {}", part.display(), words(&error))),
    })
}

/// What the system said, without the number that Rust puts behind it.
pub(super) fn words(error: &std::io::Error) -> String {
    let number = error.raw_os_error();
    number.map_or_else(
        || error.to_string(),
        |number| nix::errno::Errno::from_raw(number).desc().to_owned(),
    )
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub(super) struct Said {
    /// Its exit status; `None`: it was killed at its limit, or by a signal.
    pub(super) status: Option<i32>,
    /// Standard output, then standard error.
    pub(super) text: String,
}

/// Runs a program with nothing to read, for at most so long.
pub(super) fn run(command: &mut Command, limit: Duration) -> std::io::Result<Said> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let streams = (child.stdout.take(), child.stderr.take());
    // Read beside the wait: a full pipe would hold it up.
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let (Some(mut out), Some(mut err)) = streams {
            let _ = out.read_to_end(&mut text);
            let _ = err.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let end = Instant::now() + limit;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status.code(),
            None if Instant::now() >= end => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            None => pause(Duration::from_millis(5)),
        }
    };
    Ok(Said {
        status,
        text: reader.join().unwrap_or_default(),
    })
}

/// Lets a moment pass where there is no descriptor to wait for.
pub(super) fn pause(time: Duration) {
    let _ = poll(
        &mut [],
        PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO),
    );
}
