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
        // Others fail without them, too.
        system::devices::check(),
        limits::processes::check(),
        work::space::check(),
        work::write::check(),
        work::exec::check(),
        work::temporary::check(),
        work::left_overs::check(),
        limits::memory::check(),
        limits::memory::offered(),
        limits::cpus::check(),
        limits::open_files::check(),
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

    /// What kernel, batch system and site say of a node: `/proc/self/mountinfo`, `/proc/self/cgroup`, `/etc/os-release`,
    /// lists of processors, variables, proxies; parts are parted by a zero byte, the first byte says which they are.
    pub fn node_files(bytes: &[u8]) {
        use super::node::{cgroup, cpulist, memory, mounts, os_release, release};

        let Some((kind, rest)) = bytes.split_first() else {
            return;
        };
        let text = String::from_utf8_lossy(rest);
        let (one, other) = text.split_once('\0').unwrap_or((&text, ""));
        match kind % 4 {
            0 => {
                let mounts = mounts::parse(one);
                for path in ["/", "/var/lib/sailplane", other] {
                    if let Some(mount) = mounts::of(&mounts, std::path::Path::new(path)) {
                        let _ = mount.words();
                    }
                }
                for controller in ["memory", "cpu", "pids"] {
                    let place = cgroup::place(other, &mounts, controller);
                    assert!(place.is_none_or(|place| place.upwards().count() < 10_000));
                }
            }
            1 => {
                let _ = os_release::parse(one);
                let _ = release::parse(one);
                let _ = cpulist::count(one);
                let _ = cgroup::limit(one);
                let _ = cgroup::cpu_max(one);
                let _ = cgroup::cfs(one, other);
                let _ = memory::mib(one, other);
            }
            2 => {
                let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
                let environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
                let _ = super::limits::batch::read(&environment.collect());
            }
            _ => super::net::fuzz_words(one),
        }
    }

    #[cfg(test)]
    mod tests {
        /// The corpus of the fuzz targets, run as a test.
        #[test]
        fn the_corpus_holds() {
            let targets: [crate::corpus::Target; 3] = [
                ("check_http_answer", super::http_answer),
                ("check_der_times", super::der_times),
                ("check_node_files", super::node_files),
            ];
            crate::corpus::holds(&targets);
        }
    }
}
