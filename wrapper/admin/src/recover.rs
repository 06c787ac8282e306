//! What a monitor that is gone has left of a payload (requirement K10).

use std::path::{Component, Path};

use launch_protocol::lease::Record;
use launch_protocol::monitor::{Account, Adopted, Reply};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use sailplane_switch::account::TargetAccount;
use sailplane_switch::cgroup::Group;
use sailplane_switch::monitor::{Answer, Monitor};
use sailplane_switch::sandbox::{ENDINGS, Place, Sandbox, Top};

/// The next lease whose lock is free: it has no monitor.
pub(crate) fn adopt(monitor: &mut Monitor, payload: u32) -> Answer {
    monitor.expect_new(payload)?;
    let leases = &monitor.standing.leases;
    let names = monitor.stale.get_or_insert_with(|| leases.names());
    while let Some(name) = names.pop() {
        let Ok(Some(lease)) = leases.take(&name) else {
            continue;
        };
        let Some(record) = Record::parse(&lease.text()) else {
            // Its monitor died before it had made anything.
            leases.release(lease);
            continue;
        };
        let sandbox = match (left(&record, record.uid), left(&record, 0)) {
            (Some(sandbox), _) => Some(sandbox),
            // Root's own, if the monitor died before it was given away: then it is empty.
            (None, Some(sandbox)) => {
                let _ = sandbox.remove_tops();
                None
            }
            // None was wanted, or made, or somebody has put something of his own there.
            (None, None) => None,
        };
        let adopted = Adopted {
            lease: name,
            label: record.label.clone(),
            uid: record.uid,
            dynamic: record.dynamic,
            groups: record.groups.clone(),
            sandbox: sandbox.is_some(),
        };
        let account = Account {
            name: format!("uid{}", record.uid),
            uid: record.uid,
            gid: record.gid,
            dynamic: record.dynamic,
            ..Account::default()
        };
        monitor.hold(payload, TargetAccount::recorded(account), lease);
        let held = monitor.find(payload)?;
        held.group = Some(Group::left(record.groups.clone()));
        held.sandbox = sandbox;
        held.record = record;
        return Ok((Reply::Adopted(Some(adopted)), Vec::new()));
    }
    monitor.stale = None;
    Ok((Reply::Adopted(None), Vec::new()))
}

/// The sandbox of a record, if it is there and belongs to `owner`.
fn left(record: &Record, owner: u32) -> Option<Sandbox> {
    let place = reopen(record.sandbox.parent()?).ok()?;
    let name = record.sandbox.file_name()?.to_str()?;
    let open = |ending| Top::open(&place, format!("{name}{ending}"), owner).ok();
    let tops: Vec<_> = ENDINGS.into_iter().filter_map(open).collect();
    (!tops.is_empty()).then_some(Sandbox { place, tops })
}

/// The directory of a sandbox, without following links; whose it was is not known any more.
fn reopen(path: &Path) -> Result<Place, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut dir = open("/", flags, Mode::empty())?;
    for part in path.components() {
        if let Component::Normal(name) = part {
            dir = openat(&dir, name, flags, Mode::empty())?;
        }
    }
    let path = path.to_owned();
    Ok(Place { dir, path })
}
