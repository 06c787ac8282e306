//! `gpus`: as many GPUs as were asked for, and they answer.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::limits::batch::{self, Said};
use super::super::net::system_words;
use super::super::simple::{ad_number, chain, float, probe};
use super::path::find;
use crate::check::Check;
use crate::outcome::{Failure, Outcome, Threshold, Whose};
use crate::probe::{Context, Probe, Running};
use crate::process::How;

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    probe(
        Check::new("gpus", "GPUs asked for versus GPUs that answer").limit(Duration::from_secs(30)),
        run,
    )
}

fn run(context: &Context) -> Running<'_> {
    Box::pin(async move {
        let asked = context.knobs().count("SAILPLANE_CHECK_GPUS");
        let mut facts: Facts = context
            .blocking(|| gather(Path::new("/")))
            .await
            .unwrap_or_default();
        if asked > 0
            && !facts.nvidia_files.is_empty()
            && let Some(program) = find("nvidia-smi")
        {
            facts.tool = Some(match context.command(&program).arg("-L").run().await {
                Ok(ended) if ended.how == How::Exited(0) => Ok(lines(&ended.stdout)),
                Ok(ended) => Err(first_line(&ended.stdout, &ended.stderr)),
                Err(error) => Err(chain(&error)),
            });
        }
        judge(&facts, asked)
    })
}

#[derive(Debug, Clone, Default)]
struct Facts {
    /// `/dev/nvidia0` and so on, and what came of opening them.
    nvidia_files: Vec<(String, Result<(), String>)>,
    /// Displays and accelerators of AMD that the driver serves.
    amd: u64,
    /// On the bus, whoever may use them: vendor names.
    on_bus: Vec<&'static str>,
    /// What `nvidia-smi -L` lists, or what it says instead.
    tool: Option<Result<u64, String>>,
    batch: Option<Said>,
    /// The batch system shows none to this job.
    is_hidden: bool,
}

fn gather(root: &Path) -> Facts {
    let mut nvidia_files: Vec<(String, Result<(), String>)> = fs::read_dir(root.join("dev"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix("nvidia")?;
            let is_gpu = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            let opened = is_gpu.then(|| fs::File::open(entry.path()).map(drop))?;
            Some((name, opened.map_err(|error| system_words(&error))))
        })
        .collect();
    nvidia_files.sort_unstable();
    // Node 0 of the topology may be the processor: it has no shader units.
    let amd = fs::read_dir(root.join("sys/class/kfd/kfd/topology/nodes"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            fs::read_to_string(entry.path().join("properties")).is_ok_and(|text| {
                text.lines().any(|line| {
                    line.strip_prefix("simd_count ")
                        .is_some_and(|count| count.trim() != "0")
                })
            })
        })
        .count();
    Facts {
        nvidia_files,
        amd: u64::try_from(amd).unwrap_or(u64::MAX),
        on_bus: on_bus(root),
        tool: None,
        batch: batch::here().gpus,
        is_hidden: std::env::var("CUDA_VISIBLE_DEVICES").is_ok_and(|text| {
            ["", "none", "nodevfiles", "-1"].contains(&text.trim().to_ascii_lowercase().as_str())
        }),
    }
}

/// PCI classes 0300 (display) and 0302 (3D) of those who make GPUs for computing.
fn on_bus(root: &Path) -> Vec<&'static str> {
    let mut found: Vec<&'static str> = fs::read_dir(root.join("sys/bus/pci/devices"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let class = read("class");
            let is_gpu = class.starts_with("0x0300")
                || class.starts_with("0x0302")
                || class.starts_with("0x1200");
            match (is_gpu, read("vendor").trim()) {
                (true, "0x10de") => Some("NVIDIA"),
                (true, "0x1002") => Some("AMD"),
                (true, "0x8086") => Some("Intel"),
                _ => None,
            }
        })
        .collect();
    found.sort_unstable();
    found
}

fn lines(stdout: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(stdout);
    let count = text.lines().filter(|line| line.starts_with("GPU ")).count();
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn first_line(stdout: &[u8], stderr: &[u8]) -> String {
    let text = [
        String::from_utf8_lossy(stderr),
        String::from_utf8_lossy(stdout),
    ]
    .concat();
    text.lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it says nothing")
        .trim()
        .to_owned()
}

fn judge(facts: &Facts, asked: u64) -> Outcome {
    let opened = facts
        .nvidia_files
        .iter()
        .filter(|(_, opened)| opened.is_ok())
        .count();
    let files = u64::try_from(opened).unwrap_or(u64::MAX);
    let nvidia = match &facts.tool {
        Some(Ok(count)) => files.min(*count),
        Some(Err(_)) => 0,
        None => files,
    };
    let present = nvidia.saturating_add(facts.amd);
    let closed = facts.nvidia_files.iter().find_map(|(name, opened)| {
        opened
            .as_ref()
            .err()
            .map(|error| format!("/dev/{name} cannot be opened: {error}"))
    });
    let outcome = if present >= asked {
        Outcome::passed()
    } else {
        let head =
            format!("{present} GPUs answer, and {asked} were asked for (SAILPLANE_CHECK_GPUS)");
        let (why, hint, whose) = if facts.is_hidden
            || facts.batch.as_ref().is_some_and(|said| said.value < asked)
        {
            (
                "the batch system gives this job fewer".to_owned(),
                "ask the batch system for GPUs when pilots are submitted (`--gres=gpu:N`, `request_GPUs = N`)",
                Whose::Factory,
            )
        } else if let Some(Err(said)) = &facts.tool {
            (
                format!("nvidia-smi says: {said}"),
                "look at the driver: it may have to be loaded again after an update, or the card may be broken (`dmesg | grep NVRM`)",
                Whose::Site,
            )
        } else if let Some(closed) = closed {
            (
                closed,
                "give the pilot's account access to the device (`ls -l /dev/nvidia* /dev/dri`: its groups, often video and render), and \
                 its control group, too",
                Whose::Site,
            )
        } else if facts.on_bus.is_empty() {
            (
                "there is none on the bus".to_owned(),
                "send pilots that want GPUs to nodes that have them",
                Whose::Factory,
            )
        } else {
            (
                format!(
                    "on the bus are {}, and no driver serves them",
                    facts.on_bus.join(", ")
                ),
                "install or load the driver (nvidia, amdgpu)",
                Whose::Site,
            )
        };
        Outcome::failed(Failure::new(whose, format!("{head}: {why}"), hint).kind("WN_Resource"))
    };
    outcome
        .number(
            "present",
            float(present),
            "",
            Some(Threshold::AtLeast(float(asked))),
        )
        .attribute("SailplaneGPUs", ad_number(present))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_way_is_named() {
        let none = Facts::default();
        assert!(judge(&none, 0).is_passed());
        assert_eq!(judge(&none, 1).failure().unwrap().whose, Whose::Factory);
        let undriven = Facts {
            on_bus: vec!["NVIDIA"],
            ..none.clone()
        };
        let outcome = judge(&undriven, 1);
        assert!(outcome.failure().unwrap().why.contains("no driver"));
        let closed = Facts {
            nvidia_files: vec![("nvidia0".into(), Err("Operation not permitted".into()))],
            ..undriven.clone()
        };
        assert!(
            judge(&closed, 1)
                .failure()
                .unwrap()
                .why
                .contains("/dev/nvidia0 cannot be opened")
        );
        let hidden = Facts {
            is_hidden: true,
            ..undriven
        };
        assert_eq!(judge(&hidden, 1).failure().unwrap().whose, Whose::Factory);
        let broken = Facts {
            nvidia_files: vec![("nvidia0".into(), Ok(()))],
            tool: Some(Err(
                "Failed to initialize NVML: Driver/library version mismatch".into(),
            )),
            ..none
        };
        assert!(
            judge(&broken, 1)
                .failure()
                .unwrap()
                .why
                .contains("version mismatch")
        );
    }

    #[test]
    fn a_recorded_bus_is_read() {
        let root = tempfile::tempdir().unwrap();
        for (device, vendor, class) in [
            ("0000:00:02.0", "0x8086\n", "0x030000\n"),
            ("0000:3b:00.0", "0x10de\n", "0x030200\n"),
            ("0000:00:1f.0", "0x8086\n", "0x060100\n"),
        ] {
            let path = root.path().join("sys/bus/pci/devices").join(device);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("vendor"), vendor).unwrap();
            fs::write(path.join("class"), class).unwrap();
        }
        let node = root.path().join("sys/class/kfd/kfd/topology/nodes");
        for (number, simd) in [
            ("0", "simd_count 0\n"),
            ("1", "cpu_cores_count 0\nsimd_count 440\n"),
        ] {
            fs::create_dir_all(node.join(number)).unwrap();
            fs::write(node.join(number).join("properties"), simd).unwrap();
        }
        let facts = gather(root.path());
        assert_eq!(facts.on_bus, ["Intel", "NVIDIA"]);
        assert_eq!(facts.amd, 1);
        assert_eq!(
            lines(b"GPU 0: NVIDIA A100 (UUID: GPU-1)\nGPU 1: NVIDIA A100 (UUID: GPU-2)\n"),
            2
        );
    }
}
