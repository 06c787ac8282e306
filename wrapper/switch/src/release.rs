//! `sailplane-switch --release-leases`: what an administrator lets a timer do with pool accounts that
//! nobody has used for a while (requirement M7). Nothing else ever ends a lease.

use std::os::fd::BorrowedFd;

use launch_protocol::broker::RefusalClass;
use launch_protocol::policy::{Entry, Query};

use crate::audit::{Audit, Line};
use crate::error::StartupError;
use crate::lease::LeaseDir;
use crate::pool::Pool;
use crate::proc;
use crate::refuse::{helper, unix_now};
use crate::site::Site;

/// Releases every lease that has been idle for long enough; says how many.
pub(crate) fn release_leases(
    site: &mut Site,
    audit: &Audit,
    null: BorrowedFd<'_>,
) -> Result<usize, StartupError> {
    let settings = &site.settings;
    let dir = settings
        .gridmapdir
        .clone()
        .filter(|_| settings.gridmapdir_min_idle > 0);
    let dir = dir.ok_or_else(|| {
        let text = "gridmapdir and gridmapdir_min_idle must be set to release leases";
        let class = RefusalClass::SitePermanent;
        helper(class, "conf.gridmapdir", text.to_owned(), false)
    })?;
    let before = unix_now() - i64::from(settings.gridmapdir_min_idle);
    let held = LeaseDir::open(&settings.rundir)
        .map_err(|error| StartupError::Untrusted("rundir", error))?
        .names();
    let pool = Pool::open(&dir).map_err(|error| StartupError::Untrusted("gridmapdir", error))?;
    let system = |errno| StartupError::System("reading the gridmapdir", errno);
    let idle = pool.idle(before).map_err(system)?;
    let accounts = idle
        .iter()
        .map(|(_, account)| Query::Account(account.clone()));
    let entries = site.look_up(&accounts.collect::<Vec<_>>(), null)?;
    let mut released = 0;
    for ((lease, account), entry) in idle.iter().zip(entries) {
        let runs = match entry {
            Some(Entry::Account { uid, .. }) => proc::is_anything_alive(uid),
            _ => false,
        };
        let prefix = format!("{account}-");
        if runs || held.iter().any(|name| name.starts_with(&prefix)) {
            continue;
        }
        if pool.release(lease, before).map_err(system)? {
            released += 1;
            let line = Line::new("release").text("lease", lease);
            audit.record(line.text("account", account));
        }
    }
    Ok(released)
}
