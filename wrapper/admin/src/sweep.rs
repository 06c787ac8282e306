//! Accounts that nobody uses: the lease of whoever sweeps one, and its jobs of cron and at.

use launch_protocol::monitor::{Reply, Target};
use launch_protocol::policy::Groups;
use sailplane_switch::answer::sweeping;
use sailplane_switch::monitor::{Answer, Monitor};
use sailplane_switch::refuse::{failed, trouble};

use crate::spool;

/// Leases an account to be swept: nobody else may have a lease of it.
pub(crate) fn lease(
    monitor: &mut Monitor,
    payload: u32,
    target: &Target,
    groups: Option<&Groups>,
) -> Answer {
    monitor.expect_new(payload)?;
    let account = monitor.judge(target, groups)?;
    let leases = &monitor.standing.leases;
    let name = match account.dynamic {
        true => account.uid.to_string(),
        false => sweeping(&account.name),
    };
    let taken = leases.take(&name);
    let taken = taken.map_err(failed("lease.failed", "leasing an account"))?;
    let Some(lease) = taken.filter(sailplane_switch::lease::Lease::is_new) else {
        return Err(trouble("lease.busy", format!("the lease {name} is taken")));
    };
    // Whoever runs payloads takes its own lease first and looks for the sweeper's then, and the sweeper does the
    // reverse: one of the two sees the other.
    if !account.dynamic && is_used(monitor, &account.name, &name) {
        leases.release(lease);
        let text = format!("{} is being used", account.name);
        return Err(trouble("lease.swept", text));
    }
    Ok(monitor.hold(payload, account, lease))
}

/// Has anybody a lease of this account, beside this one?
pub(crate) fn is_used(monitor: &Monitor, account: &str, own: &str) -> bool {
    let prefix = format!("{account}-");
    let mut others = monitor.standing.leases.names().into_iter();
    others.any(|name| name != own && name.starts_with(&prefix))
}

/// Takes the account's jobs out of the spool folders.
pub(crate) fn spool(monitor: &mut Monitor, payload: u32) -> Answer {
    let uid = monitor.find(payload)?.account()?.uid;
    let (removed, left) = spool::remove_jobs(uid);
    Ok((Reply::Spool { removed, left }, Vec::new()))
}
