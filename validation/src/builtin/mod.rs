//! The checks that come with the pilot. Each has a pure part, which judges facts, and a thin one that gathers them.
//!
//! What belongs together is in one folder: the work folder (`work`), what the pilot may have (`limits`), operating system
//! and kernel (`system`), the network (`net`), trust and credentials (`trust`), software and devices (`software`),
//! the site's own word (`site`). What the node says about itself is read in `node`.

mod knobs;
mod limits;
mod net;
pub(crate) mod node;
mod simple;
mod site;
mod software;
#[allow(
    unsafe_code,
    reason = "a step between fork and exec, and questions to the kernel that nix does not ask"
)]
mod sys;
mod system;
mod trust;
mod work;

use std::sync::Arc;

pub use self::knobs::KNOBS;
use crate::check::Severity;
use crate::knob::Knobs;
use crate::probe::Probe;

/// A check whose severity is the wish of a knob.
type Wished = fn(Severity) -> Arc<dyn Probe>;

/// All of them that `knobs` do not turn off.
#[must_use]
pub fn all(knobs: &Knobs) -> Vec<Arc<dyn Probe>> {
    let within = knobs.seconds("SAILPLANE_CHECK_CONNECT_TIME");
    let mut all = vec![
        work::space::check(),
        work::write::check(),
        work::exec::check(),
        work::left_overs::check(),
        limits::memory::check(),
        limits::memory::offered(),
        limits::cpus::check(),
        limits::open_files::check(),
        limits::processes::check(),
        system::os::check(),
        system::kernel::check(),
        system::security::check(),
        system::clock::check(),
        system::deny::check(),
        net::dns::check(within),
        net::ports::check(within),
        trust::pilot_credential::check(),
        trust::voms::check(),
        software::gpus::check(),
        site::features::check(),
        site::shutdown::check(),
        site::batch_system::check(),
    ];
    all.extend(net::pool::checks(within));
    all.extend(net::proxy::checks(within));
    all.extend(trust::authorities::checks());
    all.extend(software::cvmfs::checks());
    let wished: [(&str, Wished); 3] = [
        (
            "SAILPLANE_CHECK_USER_NAMESPACES",
            system::user_namespaces::check,
        ),
        ("SAILPLANE_CHECK_CGROUPS", system::cgroups::check),
        ("SAILPLANE_CHECK_APPTAINER", software::apptainer::check),
    ];
    for (knob, check) in wished {
        match knobs.text(knob) {
            Some("NEVER") => {}
            Some("REQUIRED") => all.push(check(Severity::Fail)),
            _ => all.push(check(Severity::AttributeOnly)),
        }
    }
    all
}

/// Entry points of the fuzzer.
#[doc(hidden)]
pub mod fuzzing {
    /// An answer of HTTP.
    pub fn http_answer(bytes: &[u8]) {
        let _ = super::net::http::parse(bytes);
    }

    /// A certificate or a revocation list.
    pub fn der_times(bytes: &[u8]) {
        super::trust::fuzz(bytes);
    }
}
