//! Programs of the site that run before and after each payload, as an account that is not root.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use launch_protocol::broker::{Refusal, RefusalClass};
use launch_protocol::monitor::{Numbers, Which};
use launch_protocol::policy::Hook;
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::cgroup::Group;
use crate::refuse::helper;
use crate::spawn::{Errand, Identity};
use crate::trusted::{self, Kind};

/// Starts one. `facts` become its environment, `SAILPLANE_NAME=value` each.
pub(crate) fn start(
    (which, hook): (Which, &Hook),
    who: &Numbers,
    facts: &[(String, String)],
    descriptors: &[BorrowedFd<'_>],
    group: Option<&Group>,
) -> Result<Pid, Refusal> {
    let what = match which {
        Which::Prologue => "prologue",
        Which::Epilogue => "epilogue",
    };
    let refuse = |why: String| {
        let program = hook.program.display();
        let text = format!("the site's {what} {program} has failed: {why}");
        let class = RefusalClass::SitePermanent;
        helper(class, &format!("hook.{what}"), text, false)
    };
    trusted::check(&hook.program, Kind::File).map_err(|error| refuse(error.to_string()))?;
    let variables = facts.iter().map(|(name, value)| format!("SAILPLANE_{name}={value}"));
    let fixed = ["PATH=/usr/bin:/bin:/usr/sbin:/sbin".to_owned(), format!("SAILPLANE_HOOK={what}")];
    let environment = fixed.into_iter().chain(variables).map(CString::new);
    let environment: Vec<_> = environment.flatten().collect();
    let started = Errand {
        who: Identity { uid: who.uid, gid: who.gid, groups: &who.groups },
        program: &hook.program,
        words: &[hook.program.as_os_str()],
        environment: &environment,
        descriptors,
        group,
        sees_parent: true,
        urgent: false,
    }
    .start();
    started.map_err(|errno: Errno| refuse(errno.desc().to_owned()))
}
