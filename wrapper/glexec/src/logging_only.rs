//! The mode in which nothing is switched (requirement G3): the program has no set-uid bit, and the site
//! has said that this is meant. Every check is the same, done by the same code, as the caller; a refusal is
//! a refusal; a command that may run runs as the caller.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use launch_protocol::broker::{Refusal, RefusedBy};
use launch_protocol::policy::{
    Answer, Caller, Case, Decision, Entry, Party, Purpose, Query, Reply, Request, Required,
    Settings as Policy,
};
use launch_protocol::verdict::{NEW_VERIFIER, Verdict, VerifyRequest};
use nix::sys::signal::SigSet;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{getgid, getgroups, getuid};
use sailplane_policy::{Files, Judge};

use crate::channel::Socket;
use crate::environment::{self, Account};
use crate::failure::Failure;
use crate::front::{CONFDIR, Call};
use crate::log::{Level, Log};
use crate::settings::Settings;
use crate::variables::{self, CALLERS_PROXY, CLIENT_CERT, SOURCE_PROXY, TargetProxy, Variables};
use crate::{command, credential};
use sailplane_policy::why;

/// Carries the call out, if the site has configured this mode; else fails with `reason`. Returns only
/// if the command does not run.
pub(crate) fn carry_out(call: &Call, reason: Failure) -> Failure {
    match attempt(call, reason) {
        Err(failure) => failure,
        Ok(never) => match never {},
    }
}

fn attempt(call: &Call, reason: Failure) -> Result<std::convert::Infallible, Failure> {
    let config = Path::new(CONFDIR).join("switch.conf");
    // Without a configuration nothing has been configured.
    let Ok(policy) = Configured::read(config) else {
        return Err(reason);
    };
    let words = &policy.settings;
    let settings = Settings::parse(words.linger, &words.preserve_env, &words.front)?;
    if !settings.logging_only {
        return Err(reason);
    }
    let log = Log::open(&settings);
    let outcome = judge(call, policy, &settings);
    let (granted, program) = outcome.inspect_err(|failure| {
        log.write(Level::Error, &failure.to_string());
    })?;
    let Granted {
        wishes,
        caller,
        identity,
        decision,
    } = granted;
    log.write(
        Level::Notice,
        &format!(
            "{:?} would run as {decision} for {identity}; logging only, it runs as {}",
            call.command,
            caller.name()
        ),
    );
    log.monitor(
        std::process::id(),
        &[
            format!("Started, target uid {}", getuid()),
            format!("Used DN: \"{identity}\""),
        ],
    );
    Err(execute(call, &program, &settings, &wishes, &caller))
}

/// A call that may go on.
struct Granted {
    wishes: Variables,
    caller: Own,
    identity: String,
    decision: String,
}

fn judge(
    call: &Call,
    mut policy: Configured,
    settings: &Settings,
) -> Result<(Granted, PathBuf), Failure> {
    let names = Servant::start("sailplane-names", &[])
        .or_else(|_| Servant::start("sailplane-policy", &["names".to_owned()]))?;
    let caller = Own::look_up(&names, &policy.settings)?;
    let files = policy.load()?;
    let may_omit_key = files.admit(&caller.as_caller)?;
    let wishes = variables::read(&call.environment)?;
    let program = command::find(&call.command, settings)?;
    let cert = credential::open_private(CLIENT_CERT, &wishes.client_cert, settings.input_lock)?;
    if let Some(path) = &wishes.source_proxy {
        credential::open_private(SOURCE_PROXY, path, settings.input_lock)?;
    }
    let verifier = Servant::start("sailplane-verify", &policy.settings.verifier.words)?;
    let holder = verify(&verifier, &cert, Purpose::Run, may_omit_key)?;
    let pilot = match policy.settings.required {
        Required::User => None,
        Required::PilotAndUser => {
            let path = wishes.callers_proxy.as_deref().ok_or_else(|| {
                let text =
                    "this site wants to see the caller's own credential too; set X509_USER_PROXY";
                Failure::caller("pilot.unset", text)
            })?;
            let own = credential::open_private(CALLERS_PROXY, path, settings.input_lock)?;
            Some(verify(&verifier, &own, Purpose::Pilot, false)?)
        }
    };
    let identity = holder.identity.clone();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let case = Case {
        purpose: Purpose::Run,
        holder,
        pilot,
        caller_uid: getuid().as_raw(),
        caller_name: caller.as_caller.name.clone(),
        slot_account: None,
        now_unix: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
    };
    let decision = match files.decide(&case)? {
        sailplane_policy::Verdict::Decided(decision) => decision,
        sailplane_policy::Verdict::Mapper(question) => question()?,
    };
    let decision = match decision {
        Decision::Account { name, .. } => name,
        Decision::Pool { prefix, .. } => format!("a pool account {prefix}"),
        Decision::Dynamic { .. } => "a dynamic account".to_owned(),
    };
    let granted = Granted {
        wishes,
        caller,
        identity,
        decision,
    };
    Ok((granted, program))
}

/// One of the helper's programs, as the caller, with its socket on descriptor 0.
struct Servant {
    socket: Socket,
    process: Child,
    name: &'static str,
}

impl Drop for Servant {
    fn drop(&mut self) {
        // It has nothing to lose.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn pair() -> Result<(OwnedFd, OwnedFd), Failure> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
        .map_err(|errno| Failure::administrator("helper.system", errno.desc()))
}

fn confused(who: &str) -> Failure {
    Failure::administrator("helper.broken", format!("{who} gave no proper answer"))
}

impl Servant {
    fn start(name: &'static str, words: &[String]) -> Result<Self, Failure> {
        let (ours, theirs) = pair()?;
        let program = std::env::current_exe()
            .unwrap_or_default()
            .with_file_name(name);
        let process = Command::new(&program)
            .args(words)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                let text = format!("cannot start {}: {}", program.display(), why(&error));
                Failure::administrator("helper.start", text)
            })?;
        Ok(Self {
            socket: Socket(ours),
            process,
            name,
        })
    }

    fn ask(&self, queries: Vec<Query>) -> Result<Vec<Option<Entry>>, Failure> {
        let broken = || confused(self.name);
        let packet = Request { id: 1, queries }.encode().map_err(|_| broken())?;
        self.socket.send(&packet, &[]).map_err(|_| broken())?;
        let (packet, _) = self.socket.receive().map_err(|_| broken())?;
        let answer = Answer::decode(&packet).map_err(|_| broken())?;
        match answer.reply {
            Reply::Refused(refusal) => Err(refusal.into()),
            Reply::Names(entries) => Ok(entries),
        }
    }
}

/// The site's configuration and who judges by it.
struct Configured {
    judge: Judge,
    settings: Policy,
    config: PathBuf,
}

impl Configured {
    fn read(config: PathBuf) -> Result<Self, Failure> {
        let mut judge = Judge::default();
        let settings = judge.read(&open(&config)?)?;
        Ok(Self {
            judge,
            settings,
            config,
        })
    }

    fn load(&mut self) -> Result<Files, Failure> {
        let files = self.settings.policy_files.iter();
        let files = files.map(|path| open(path).map(OwnedFd::from));
        let files = files.collect::<Result<_, _>>()?;
        let loaded = self.judge.load(&open(&self.config)?, files)?;
        loaded.ok_or_else(|| {
            let text = format!("{} is being changed; try again", self.config.display());
            Failure::administrator("conf.changed", text)
        })
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| {
        let text = format!("{} cannot be read: {}", path.display(), why(&error));
        Failure::administrator("conf.missing", text)
    })
}

/// The caller.
struct Own {
    as_caller: Caller,
    home: PathBuf,
    shell: PathBuf,
}

impl Own {
    fn name(&self) -> String {
        let uid = self.as_caller.uid;
        self.as_caller
            .name
            .clone()
            .unwrap_or_else(|| format!("uid{uid}"))
    }

    fn look_up(names: &Servant, policy: &Policy) -> Result<Self, Failure> {
        let users = policy.caller_names.iter().cloned().map(Query::Account);
        let groups = policy.caller_groups.iter().cloned().map(Query::Group);
        let uid = getuid().as_raw();
        let queries: Vec<_> = std::iter::once(Query::Uid(uid))
            .chain(users)
            .chain(groups)
            .collect();
        let entries = names.ask(queries.clone())?;
        let mut own = Self {
            as_caller: Caller {
                uid,
                groups: std::iter::once(getgid())
                    .chain(getgroups().unwrap_or_default())
                    .map(|gid| gid.as_raw())
                    .collect(),
                ..Caller::default()
            },
            home: PathBuf::from("/"),
            shell: PathBuf::from("/bin/sh"),
        };
        for (query, entry) in queries.into_iter().zip(entries) {
            match (query, entry) {
                (
                    Query::Uid(_),
                    Some(Entry::Account {
                        name, home, shell, ..
                    }),
                ) => {
                    own.as_caller.name = Some(name);
                    (own.home, own.shell) = (home, shell);
                }
                (Query::Account(name), Some(Entry::Account { uid, .. })) => {
                    own.as_caller.listed_users.push((name, uid));
                }
                (Query::Group(name), Some(Entry::Group { gid })) => {
                    own.as_caller.listed_groups.push((name, gid));
                }
                _ => {}
            }
        }
        Ok(own)
    }
}

fn verify(
    verifier: &Servant,
    credential: &OwnedFd,
    purpose: Purpose,
    may_lack_key: bool,
) -> Result<Party, Failure> {
    let died = || Failure::caller("verifier.died", "the credential could not be verified");
    let (ours, theirs) = pair()?;
    verifier
        .socket
        .send(NEW_VERIFIER, &[theirs.as_fd()])
        .map_err(|_| confused(verifier.name))?;
    drop(theirs);
    let request = VerifyRequest {
        id: 1,
        purpose,
        may_lack_key,
    };
    let packet = request.encode().map_err(|_| died())?;
    let ours = Socket(ours);
    ours.send(&packet, &[credential.as_fd()])
        .map_err(|_| died())?;
    let (packet, _) = ours.receive().map_err(|_| died())?;
    match Verdict::decode(&packet).map_err(|_| died())? {
        Verdict::Accepted {
            kind,
            identity,
            fqans,
            issuers,
            not_after,
            limited,
            ..
        } => Ok(Party {
            kind,
            identity,
            fqans,
            issuers,
            limited,
            not_after,
        }),
        Verdict::Rejected {
            code,
            message,
            class,
            ..
        } => Err(Refusal {
            class,
            code,
            message,
            may_succeed_later: false,
            who: RefusedBy::Credential,
        }
        .into()),
    }
}

/// Becomes the command, with the environment that it would have had.
fn execute(
    call: &Call,
    program: &Path,
    settings: &Settings,
    wishes: &Variables,
    caller: &Own,
) -> Failure {
    // No copy is needed for the account that owns the source.
    let source = wishes.source_proxy.as_ref().unwrap_or(&wishes.client_cert);
    let copied = settings.create_target_proxy && wishes.target_proxy != TargetProxy::None;
    let (name, path) = (caller.name(), settings.path_variable());
    let account = Account {
        name: &name,
        home: &caller.home,
        shell: &caller.shell,
        path: &path,
        proxy: copied.then_some(source.as_path()),
    };
    let variables = environment::build(&call.environment, &settings.preserve_env, account);
    umask(Mode::from_bits_truncate(0o022));
    let _ = SigSet::empty().thread_set_mask();
    let mut command = Command::new(program);
    if let [name, rest @ ..] = call.arguments.as_slice() {
        command.arg0(name).args(rest);
    }
    command.env_clear();
    for variable in &variables {
        use std::os::unix::ffi::OsStrExt as _;
        let mut halves = variable.splitn(2, |byte| *byte == b'=');
        if let (Some(name), Some(value)) = (halves.next(), halves.next()) {
            command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
        }
    }
    let error = command.exec();
    let text = format!("cannot execute {}: {}", program.display(), why(&error));
    let code = match error.kind() {
        std::io::ErrorKind::NotFound => "command.missing",
        std::io::ErrorKind::PermissionDenied => "command.permission",
        std::io::ErrorKind::ArgumentListTooLong => "command.too_big",
        _ => "command.format",
    };
    Failure::caller(code, text)
}
