//! One call from beginning to end: ask the broker for an account, let its agent become the command,
//! pass signals on, say how it ended.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use launch_protocol::agent;
use launch_protocol::broker::{
    Answer, Command, CredentialRequired, Hello, OpenLimits, Opened, Purpose, SignalScope, Usage,
};
use launch_protocol::exec::ExecRequest;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, raise};
use nix::sys::stat::Mode;
use nix::unistd::getpid;

use crate::channel::{Agent, Broker, unexpected};
use crate::environment::{self, Account};
use crate::failure::{Failure, escape, exit_status};
use crate::log::{self, Level, Log};
use crate::report::Report;
use crate::settings::{ProxyPlace, Settings};
use crate::signals::{Event, Signals};
use crate::variables::{self, CALLERS_PROXY, CLIENT_CERT, SOURCE_PROXY, TargetProxy, Variables};
use crate::{command, credential, sys};
use sailplane_policy::why;

/// What the caller wants to be run, where and with what.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) command: OsString,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
}

/// Carries it out; the exit status of the command.
pub(crate) fn carry_out(
    call: &Call,
    mut broker: Broker,
    report: &mut Report,
) -> Result<u8, Failure> {
    let signals = Signals::open()?;
    let wishes = variables::read(&call.environment);
    let private = |it: &Variables| it.target_proxy == TargetProxy::Private;
    let hello = broker.greet(wishes.as_ref().is_ok_and(private), &signals)?;
    let settings = Settings::of(&hello)?;
    let log = Log::open(&settings);
    let running =
        wishes.and_then(|wishes| start(call, &wishes, &mut broker, &hello, &settings, &signals));
    let Running { opened, command } = running.inspect_err(|failure| {
        log.write(Level::Error, &failure.to_string());
    })?;
    report.started(&opened, command);
    log.write(
        Level::Notice,
        &format!(
            "{:?} runs as {} (uid {}, gid {}) for {}, process {command}",
            call.command, opened.account, opened.uid, opened.gid, opened.identity
        ),
    );
    log.monitor(command, &log::started(&opened));
    // Nothing of the caller's is held any longer, so that whoever waits for the end of a pipe does not
    // wait for us (requirement G14).
    let_go_of_streams()?;
    let wait_status = watch(&mut broker, &signals, opened.payload)?;
    let usage = broker.ask(
        Command::Usage {
            payload: opened.payload,
        },
        None,
        &signals,
    );
    if let Ok((Answer::Usage(usage), _)) = usage {
        finish(&log, command, &usage);
    }
    let close = Command::Close {
        payload: opened.payload,
    };
    if let Err(failure) = broker.ask(close, None, &signals) {
        // The command has had its run; what it left behind is the administrator's.
        log.write(Level::Error, &failure.to_string());
    }
    let ended = format!(
        "{:?} has ended with wait status {wait_status}",
        call.command
    );
    log.write(Level::Notice, &ended);
    Ok(if settings.linger {
        exit_status(wait_status)
    } else {
        end_as(wait_status)
    })
}

fn finish(log: &Log, command: u32, usage: &Usage) {
    log.monitor(command, &[log::terminated(usage)]);
}

/// A command that has been started.
struct Running {
    opened: Opened,
    command: u32,
}

fn start(
    call: &Call,
    wishes: &Variables,
    broker: &mut Broker,
    hello: &Hello,
    settings: &Settings,
    signals: &Signals,
) -> Result<Running, Failure> {
    let program = command::find(&call.command, settings)?;
    let cert = credential::open_private(CLIENT_CERT, &wishes.client_cert, settings.input_lock)?;
    let source = match (&wishes.source_proxy, wants_copy(wishes, settings)) {
        (Some(path), true) => Some(credential::open_private(
            SOURCE_PROXY,
            path,
            settings.input_lock,
        )?),
        _ => None,
    };
    if hello.credential_required == CredentialRequired::PilotAndUser {
        present(wishes, broker, settings, signals)?;
    }
    if wishes.mode == variables::Mode::VerifyAccount {
        let again =
            credential::open_private(CLIENT_CERT, &wishes.client_cert, settings.input_lock)?;
        open_payload(broker, wishes, None, Purpose::VerifyOnly, &again, signals)?;
    }
    let place = run_place(wishes, hello, settings)?;
    let (opened, agent) = open_payload(broker, wishes, place, Purpose::Run, &cert, signals)?;
    let (process, socket) = match (opened.agent, agent) {
        (Some(process), Some(socket)) => (process, socket),
        _ => spawn_agent(broker, opened.payload, signals)?,
    };
    let agent = Agent::greet(socket, signals)?;
    let proxy = put_proxy(
        &agent,
        wishes,
        &opened,
        settings,
        source.unwrap_or(cert),
        signals,
    )?;
    let request = request(call, program, &opened, settings, proxy.as_deref());
    execute(&agent, &request)?;
    Ok(Running {
        opened,
        command: process,
    })
}

/// Asks for the agent that could not be had with the payload, or why not.
fn spawn_agent(
    broker: &mut Broker,
    payload: u32,
    signals: &Signals,
) -> Result<(u32, OwnedFd), Failure> {
    match broker.ask(Command::SpawnAgent { payload }, None, signals)? {
        (Answer::Spawned { pid, .. }, Some(socket)) => Ok((pid, socket)),
        other => Err(unexpected(other)),
    }
}

fn wants_copy(wishes: &Variables, settings: &Settings) -> bool {
    settings.create_target_proxy && wishes.target_proxy != TargetProxy::None
}

/// A directory of the account's own for this call, where one is needed.
fn run_place(
    wishes: &Variables,
    hello: &Hello,
    settings: &Settings,
) -> Result<Option<PathBuf>, Failure> {
    let needed = wants_copy(wishes, settings)
        && wishes.target_proxy == TargetProxy::Private
        && settings.proxy_place == ProxyPlace::Run;
    if !needed {
        return Ok(None);
    }
    let place = hello.execute_dirs.first().cloned();
    place.map(Some).ok_or_else(|| {
        let text = "execute_dirs is empty, so there is no place for the copy of the credential";
        Failure::administrator("target.place", text)
    })
}

/// Shows the caller's own credential, where the site wants to see that too.
fn present(
    wishes: &Variables,
    broker: &mut Broker,
    settings: &Settings,
    signals: &Signals,
) -> Result<(), Failure> {
    let Some(path) = wishes.callers_proxy.as_deref() else {
        let text = "this site wants to see the caller's own credential too; set X509_USER_PROXY";
        return Err(Failure::caller("pilot.unset", text));
    };
    if !path.is_absolute() {
        let text = format!("{CALLERS_PROXY} is {path:?}, which is not an absolute path");
        return Err(Failure::caller("pilot.path", text));
    }
    let own = credential::open_private(CALLERS_PROXY, path, settings.input_lock)?;
    match broker.ask(Command::Present, Some(own.as_fd()), signals)? {
        (Answer::Presented { .. }, _) => Ok(()),
        other => Err(unexpected(other)),
    }
}

fn open_payload(
    broker: &mut Broker,
    wishes: &Variables,
    execute_dir: Option<PathBuf>,
    purpose: Purpose,
    cert: &OwnedFd,
    signals: &Signals,
) -> Result<(Opened, Option<OwnedFd>), Failure> {
    let command = Command::Open {
        job_label: wishes.id.clone(),
        execute_dir,
        slot_account: None,
        agent: purpose == Purpose::Run,
        purpose,
        limits: OpenLimits::default(),
    };
    match broker.ask(command, Some(cert.as_fd()), signals)? {
        (Answer::Opened(opened), agent) => Ok((opened, agent)),
        other => Err(unexpected(other)),
    }
}

/// Has the agent write the copy of the credential; where it is.
fn put_proxy(
    agent: &Agent,
    wishes: &Variables,
    opened: &Opened,
    settings: &Settings,
    source: OwnedFd,
    signals: &Signals,
) -> Result<Option<PathBuf>, Failure> {
    if !wants_copy(wishes, settings) {
        return Ok(None);
    }
    let name = format!("x509up_u{}", opened.uid);
    let (path, theirs) = match (&wishes.target_proxy, &opened.sandbox) {
        (TargetProxy::At(path), _) => (path.clone(), true),
        (_, Some(dir)) => (dir.join(name), false),
        (_, None) if opened.home.is_absolute() => {
            (opened.home.join(format!(".{name}.glexec.XXXXXX")), false)
        }
        (_, None) => {
            let text = format!(
                "the account {} has no home directory for the copy of the credential; \
                 set target_proxy_place = run in the configuration",
                opened.account
            );
            return Err(Failure::administrator("target.home", text));
        }
    };
    let request = agent::Request::PutProxy {
        path,
        make_dir: false,
    };
    match agent.ask(&request, &[source.as_fd()], Some(signals))? {
        (agent::Reply::ProxyPut { path }, _) => Ok(Some(path)),
        (agent::Reply::Failed { message, .. }, _) => {
            let text = format!("the credential cannot be copied for the command: {message}");
            Err(if theirs {
                Failure::caller("target.unusable", text)
            } else {
                Failure::administrator("target.unusable", text)
            })
        }
        other => Err(unexpected(other)),
    }
}

fn request(
    call: &Call,
    program: PathBuf,
    opened: &Opened,
    settings: &Settings,
    proxy: Option<&Path>,
) -> ExecRequest {
    let or = |path: &PathBuf, other: &str| {
        if path.as_os_str().is_empty() {
            PathBuf::from(other)
        } else {
            path.clone()
        }
    };
    let nowhere = opened.sandbox.clone().unwrap_or_else(|| PathBuf::from("/"));
    let home = or(&opened.home, &nowhere.to_string_lossy());
    let shell = or(&opened.shell, "/bin/sh");
    let path = settings.path_variable();
    let account = Account {
        name: &opened.account,
        home: &home,
        shell: &shell,
        path: &path,
        proxy,
    };
    ExecRequest {
        path: program,
        argv: call
            .arguments
            .iter()
            .map(|word| word.as_bytes().to_vec())
            .collect(),
        env: environment::build(&call.environment, &settings.preserve_env, account),
        // gLExec's own, whatever the caller's is (requirement G13).
        umask: 0o022,
        ..ExecRequest::default()
    }
}

fn execute(agent: &Agent, request: &ExecRequest) -> Result<(), Failure> {
    let order = in_memory(request)?;
    let streams = [0, 1, 2].map(sys::borrow);
    let [input, output, error] = streams;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let reply = match open(".", flags, Mode::empty()) {
        Ok(here) => {
            let beside = [order.as_fd(), input, output, error, here.as_fd()];
            agent.ask(&agent::Request::ExecHere, &beside, None)?
        }
        Err(_) => {
            let beside = [order.as_fd(), input, output, error];
            agent.ask(&agent::Request::Exec, &beside, None)?
        }
    };
    match reply {
        (agent::Reply::ExecStarting, Some(pipe)) => Agent::watch_start(&pipe),
        (agent::Reply::Failed { message, .. }, _) => {
            Err(Failure::administrator("command.start", message))
        }
        other => Err(unexpected(other)),
    }
}

fn in_memory(request: &ExecRequest) -> Result<OwnedFd, Failure> {
    let bytes = request.encode().map_err(|error| {
        let text = format!("arguments and environment cannot be passed on: {error}");
        Failure::caller("command.too_big", text)
    })?;
    let failed = |what: &str| {
        let text = format!("the order to start the command cannot be written: {what}");
        Failure::administrator("helper.system", text)
    };
    let file = memfd_create(c"order", MFdFlags::MFD_CLOEXEC).map_err(|e| failed(e.desc()))?;
    let mut file = std::fs::File::from(file);
    file.write_all(&bytes)
        .map_err(|error| failed(&why(&error)))?;
    Ok(file.into())
}

fn let_go_of_streams() -> Result<(), Failure> {
    let failed = |errno: Errno| {
        let text = format!("/dev/null cannot be opened: {}", errno.desc());
        Failure::administrator("helper.system", text)
    };
    let null =
        open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
    debug_assert!(null.as_raw_fd() > 2);
    for place in 0..3 {
        sys::place(null.as_fd(), place).map_err(failed)?;
    }
    Ok(())
}

/// Without lingering the caller sees the command's own end, as if this process had become it: statuses
/// that gLExec has for itself are not translated, and a signal is a signal (no return).
fn end_as(wait_status: i32) -> u8 {
    let signal = wait_status & 0x7f;
    if signal != 0 {
        sys::die_of(signal);
        return exit_status(wait_status);
    }
    u8::try_from(wait_status >> 8 & 0xff).unwrap_or(u8::MAX)
}

/// Passes signals on until the command has ended; `waitpid`'s status of it.
fn watch(broker: &mut Broker, signals: &Signals, payload: u32) -> Result<i32, Failure> {
    let exited = |answer: &Answer| match answer {
        Answer::Exited {
            payload: which,
            wait_status,
        } if *which == payload => Some(*wait_status),
        _ => None,
    };
    if let Some(status) = broker.events.iter().find_map(exited) {
        return Ok(status);
    }
    loop {
        match signals.next(broker.as_fd())? {
            Event::Readable => {
                let (_, answer, _) = broker.receive()?;
                if let Some(status) = exited(&answer) {
                    return Ok(status);
                }
            }
            Event::Forward(signal) => pass_on(broker, signals, payload, signal as i32, false)?,
            Event::Stop => {
                pass_on(broker, signals, payload, libc::SIGSTOP, true)?;
                // The terminal wants us stopped as well; SIGCONT comes as a signal to be passed on.
                let _ = raise(Signal::SIGSTOP);
                pass_on(broker, signals, payload, libc::SIGCONT, true)?;
            }
        }
        if let Some(status) = broker.events.iter().find_map(exited) {
            return Ok(status);
        }
    }
}

fn pass_on(
    broker: &mut Broker,
    signals: &Signals,
    payload: u32,
    signal: i32,
    all: bool,
) -> Result<(), Failure> {
    let scope = if all {
        SignalScope::All
    } else {
        SignalScope::Leader
    };
    let command = Command::Signal {
        payload,
        signal,
        scope,
    };
    broker.ask(command, None, signals).map(drop)
}

/// For the report's line about a start.
pub(crate) fn start_line(opened: &Opened, command: u32) -> String {
    format!(
        "{{\"event\":\"started\",\"pid\":{command},\"uid\":{},\"gid\":{},\"account\":\"{}\",\"identity\":\"{}\",\"front\":{}}}\n",
        opened.uid,
        opened.gid,
        escape(&opened.account),
        escape(&opened.identity),
        getpid()
    )
}

/// What `-V` prints.
pub(crate) fn built_in() -> String {
    let settings = Settings::default();
    format!(
        "program             {}\nconfiguration       {}/switch.conf\ncommand path        {}\nlaunch protocol     {}\n",
        std::env::current_exe().unwrap_or_default().display(),
        CONFDIR,
        settings.path_variable().to_string_lossy(),
        launch_protocol::VERSION
    )
}

/// Directory of the configuration, fixed when the program is built.
pub(crate) const CONFDIR: &str = match option_env!("SAILPLANE_CONFDIR") {
    Some(dir) => dir,
    None => "/etc/sailplane",
};
