//! `sailplane-switch --release-leases`: what an administrator lets a timer do with pool accounts that
//! nobody has used for a while (requirement M7). Nothing else ever ends a lease.

use std::time::Duration;

use launch_protocol::broker::{Refusal, RefusalClass};
use launch_protocol::monitor::{Ask, Errand, Linked, Reply, Target};
use launch_protocol::policy::{Entry, Query};

use crate::line::Line;
use crate::monitor::{DONE, Monitor};
use crate::pool::Pool;
use crate::proc;
use crate::refuse::{helper, unix_now};
use crate::site::Site;

/// How long a look for processes of an account may take.
const LOOK: Duration = Duration::from_secs(10);

/// Releases every lease that has been idle for long enough; says how many.
pub(crate) fn release_leases(
    monitor: &Monitor,
    site: &mut Site,
    serial: &mut u32,
) -> Result<usize, Refusal> {
    let settings = &site.settings;
    if settings.gridmapdir.is_none() || settings.gridmapdir_min_idle == 0 {
        let text = "gridmapdir and gridmapdir_min_idle must be set to release leases";
        let class = RefusalClass::SitePermanent;
        return Err(helper(class, "conf.gridmapdir", text.to_owned(), false));
    }
    let before = unix_now() - i64::from(settings.gridmapdir_min_idle);
    let idle = list(monitor)?.idle(before);
    let accounts = idle.iter().map(|(account, _)| account.clone());
    let queries: Vec<_> = accounts.map(Query::Account).collect();
    let entries = site.names.look_up(&queries, monitor)?;
    let mut released = 0;
    for ((account, lease), entry) in idle.into_iter().zip(entries) {
        *serial += 1;
        if entry.is_some_and(|entry| is_in_use(monitor, *serial, &account, &entry)) {
            continue;
        }
        let line = Line::new("release").text("lease", &lease);
        let line = line.text("account", &account);
        let ask = Ask::PoolRelease {
            account,
            lease,
            idle_since: before,
        };
        if monitor.linked(&ask)? == Linked::Done {
            released += 1;
            monitor.record(line);
        }
    }
    Ok(released)
}

/// Does any payload, or anything else, use the account?
fn is_in_use(monitor: &Monitor, payload: u32, account: &str, entry: &Entry) -> bool {
    let lease = monitor.account(&Ask::Lease {
        payload,
        target: Target::Named(account.to_owned()),
        groups: None,
        sweep: true,
    });
    match lease {
        Ok(_) => {
            let look = monitor.run_errand(payload, Errand::Alone { home: false }, LOOK);
            let _ = monitor.order(&Ask::Bury { payload });
            look != Ok(Some(DONE))
        }
        Err(refusal) if refusal.code.starts_with("lease.") => true,
        // Not fit for payloads any more, so nobody can be asked to look in its name.
        Err(_) => match entry {
            Entry::Account { uid, .. } => proc::is_anything_alive(*uid),
            Entry::Group { .. } => false,
        },
    }
}

/// What is in the gridmapdir.
pub(crate) fn list(monitor: &Monitor) -> Result<Pool, Refusal> {
    match monitor.ask_with(&Ask::PoolList, &[])? {
        (Reply::Pool, beside) => Pool::read(beside),
        _ => Err(monitor.confused()),
    }
}
