//! The helper under `strace`: what it really asks of the kernel.

use std::collections::BTreeMap;
use std::fs;

use crate::cell::Cell;
use crate::client::{PATIENCE, Start, eventually};

/// Where traces go inside the cell; root's alone.
const FOLDER: &str = "/run/trace";

/// Starts the broker under `strace` with these further options. The tracer stays root, the broker is started as
/// the pilot's account, and the set-uid bit counts as ever.
pub(crate) fn traced(cell: &Cell, options: &str) -> Start {
    let _ = fs::remove_dir_all(FOLDER);
    fs::create_dir_all(FOLDER).expect("folder");
    // -D: the broker, not the tracer, is our child.
    let wrap = format!("exec strace -D -ff -o {FOLDER}/t -u pilot {options} {{}}");
    Start {
        uid: 0,
        wrap,
        ..Start::usual(cell)
    }
}

/// One process's calls in order.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) calls: Vec<Call>,
}

/// One system call as `strace` shows it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: String,
    pub(crate) result: String,
}

/// All traces, by process number; waits until the broker's is complete, and that of everybody it had.
pub(crate) fn read_all(broker: u32) -> BTreeMap<u32, Process> {
    let ended = |pid: u32| {
        let text = fs::read(format!("{FOLDER}/t.{pid}")).unwrap_or_default();
        let last = text
            .rsplit(|byte| *byte == b'\n')
            .find(|line| !line.is_empty());
        last.is_some_and(|line| line.starts_with(b"exit_group(") || line.starts_with(b"+++"))
    };
    eventually("the end of the traces", PATIENCE, || {
        ended(broker) && read().keys().all(|pid| ended(*pid))
    });
    read()
}

fn read() -> BTreeMap<u32, Process> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(FOLDER).expect("traces").flatten() {
        let name = entry.file_name();
        let pid: u32 = name
            .to_str()
            .and_then(|name| name.strip_prefix("t.")?.parse().ok())
            .expect("a number");
        let text = fs::read(entry.path()).expect("readable");
        let calls = String::from_utf8_lossy(&text)
            .lines()
            .filter_map(parse)
            .collect();
        all.insert(pid, Process { pid, calls });
    }
    all
}

/// `name(arguments) = result`; nothing for lines about signals and ends.
pub(crate) fn parse(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    if name.is_empty()
        || !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        return None;
    }
    let (arguments, result) = rest.rsplit_once(" = ").unwrap_or((rest, "?"));
    Some(Call {
        name: name.to_owned(),
        arguments: arguments
            .trim_end()
            .strip_suffix(')')
            .unwrap_or(arguments)
            .to_owned(),
        result: result.to_owned(),
    })
}
