//! The batch system that runs the pilot, and what it says in the environment that it granted. Pure but for [`here`].

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a batch system granted; what it does not say is not there. Each with the variable that says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Its name, as people write it.
    pub(crate) system: Option<&'static str>,
    /// The job's number in it.
    pub(crate) job: Option<String>,
    /// Cores on this node.
    pub(crate) cpus: Option<Said>,
    /// Memory on this node, MiB.
    pub(crate) memory_mib: Option<Said>,
    /// End of the job, Unix seconds.
    pub(crate) end: Option<Said>,
    /// Length of the job, seconds, where its end is not said.
    pub(crate) wall_seconds: Option<Said>,
    /// GPUs.
    pub(crate) gpus: Option<Said>,
}

/// A number and who says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// It.
    pub(crate) value: u64,
    /// The variable, or the file and attribute.
    pub(crate) by: String,
}

/// Variables of a process.
pub(crate) type Environment = BTreeMap<String, String>;

/// Of this process, with the ads of an HTCondor batch system read.
pub(crate) fn here() -> Grant {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let mut grant = read(&environment);
    if let Some(path) = environment.get("_CONDOR_MACHINE_AD").map(PathBuf::from)
        && let Ok(text) = std::fs::read_to_string(&path)
    {
        machine_ad(&mut grant, &text);
    }
    grant
}

/// What the environment says.
pub(crate) fn read(environment: &Environment) -> Grant {
    let get = |name: &str| {
        environment
            .get(name)
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
    };
    let said = |name: &str, parse: fn(&str) -> Option<u64>| {
        let value = parse(get(name)?)?;
        Some(Said {
            value,
            by: name.to_owned(),
        })
    };
    let job = |name: &str| get(name).map(str::to_owned);
    if let Some(id) = job("SLURM_JOB_ID").or_else(|| job("SLURM_JOBID")) {
        let cpus =
            said("SLURM_CPUS_ON_NODE", number).or_else(|| said("SLURM_JOB_CPUS_PER_NODE", leading));
        return Grant {
            system: Some("Slurm"),
            job: Some(id),
            memory_mib: said("SLURM_MEM_PER_NODE", megabytes).or_else(|| {
                let each = said("SLURM_MEM_PER_CPU", megabytes)?;
                let count = cpus.as_ref()?.value;
                Some(Said {
                    value: each.value.checked_mul(count)?,
                    by: format!("{} for {count} cores", each.by),
                })
            }),
            cpus,
            end: said("SLURM_JOB_END_TIME", number),
            gpus: said("SLURM_GPUS_ON_NODE", number)
                .or_else(|| said("SLURM_JOB_GPUS", items))
                .or_else(|| said("SLURM_STEP_GPUS", items)),
            wall_seconds: None,
        };
    }
    // LSF, too, sets some of the others' variables for old scripts, so that the order matters.
    if let Some(id) = job("LSB_JOBID") {
        return Grant {
            system: Some("LSF"),
            job: Some(id),
            cpus: said("LSB_DJOB_NUMPROC", number)
                .or_else(|| said("LSB_MAX_NUM_PROCESSORS", number)),
            memory_mib: None,
            ..Grant::default()
        };
    }
    if let Some(id) = job("PBS_JOBID") {
        return Grant {
            system: Some("PBS"),
            job: Some(id),
            cpus: said("NCPUS", number)
                .or_else(|| said("PBS_NP", number))
                .or_else(|| said("PBS_NUM_PPN", number)),
            wall_seconds: said("PBS_WALLTIME", number),
            ..Grant::default()
        };
    }
    if (get("SGE_ROOT").is_some() || get("SGE_TASK_ID").is_some())
        && let Some(id) = job("JOB_ID")
    {
        return Grant {
            system: Some("Grid Engine"),
            job: Some(id),
            cpus: said("NSLOTS", number),
            ..Grant::default()
        };
    }
    if get("_CONDOR_JOB_AD").is_some() || get("_CONDOR_SCRATCH_DIR").is_some() {
        return Grant {
            system: Some("HTCondor"),
            job: job("_CONDOR_SLOT"),
            ..Grant::default()
        };
    }
    if let Some(id) = job("OAR_JOB_ID") {
        return Grant {
            system: Some("OAR"),
            job: Some(id),
            wall_seconds: said("OAR_JOB_WALLTIME_SECONDS", number),
            ..Grant::default()
        };
    }
    if let Some(id) = get("KUBERNETES_SERVICE_HOST").and_then(|_| job("HOSTNAME")) {
        return Grant {
            system: Some("Kubernetes"),
            job: Some(id),
            ..Grant::default()
        };
    }
    Grant::default()
}

/// Adds what an HTCondor startd says of the slot that runs the pilot.
fn machine_ad(grant: &mut Grant, text: &str) {
    let get = |wanted: &str| {
        let value = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))
            .and_then(|(_, value)| number(value.trim()))?;
        Some(Said {
            value,
            by: format!("{wanted} in _CONDOR_MACHINE_AD"),
        })
    };
    grant.cpus = grant.cpus.take().or_else(|| get("Cpus"));
    grant.memory_mib = grant.memory_mib.take().or_else(|| get("Memory"));
    grant.gpus = grant.gpus.take().or_else(|| get("GPUs"));
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// `16(x2),8`: the first node's.
fn leading(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.get(..digits)?.parse().ok()
}

/// Slurm's memory: MiB, or with a letter.
fn megabytes(text: &str) -> Option<u64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'G' => (text.strip_suffix('G')?, 1024),
        b'T' => (text.strip_suffix('T')?, 1024 * 1024),
        b'M' => (text.strip_suffix('M')?, 1),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// `0,2,3`: how many.
fn items(text: &str) -> Option<u64> {
    super::super::node::cpulist::count(text).and_then(|count| u64::try_from(count).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Grant {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        read(&pairs.collect())
    }

    fn value(said: Option<&Said>) -> Option<u64> {
        said.map(|said| said.value)
    }

    #[test]
    fn slurm_says_most() {
        let grant = of(&[
            ("SLURM_JOB_ID", "4711"),
            ("SLURM_JOB_CPUS_PER_NODE", "16(x2),8"),
            ("SLURM_MEM_PER_CPU", "2G"),
            ("SLURM_JOB_END_TIME", "1790000000"),
            ("SLURM_JOB_GPUS", "0,3"),
        ]);
        assert_eq!(
            (grant.system, grant.job.as_deref()),
            (Some("Slurm"), Some("4711"))
        );
        assert_eq!(value(grant.cpus.as_ref()), Some(16));
        assert_eq!(value(grant.memory_mib.as_ref()), Some(32_768));
        assert_eq!(value(grant.end.as_ref()), Some(1_790_000_000));
        assert_eq!(value(grant.gpus.as_ref()), Some(2));
    }

    #[test]
    fn the_others_say_less() {
        let lsf = of(&[
            ("LSB_JOBID", "1"),
            ("LSB_DJOB_NUMPROC", "4"),
            ("PBS_JOBID", "x"),
        ]);
        assert_eq!(
            (lsf.system, value(lsf.cpus.as_ref())),
            (Some("LSF"), Some(4))
        );
        let pbs = of(&[
            ("PBS_JOBID", "9.server"),
            ("NCPUS", "8"),
            ("PBS_WALLTIME", "86400"),
        ]);
        assert_eq!(
            (pbs.system, value(pbs.wall_seconds.as_ref())),
            (Some("PBS"), Some(86_400))
        );
        let sge = of(&[("SGE_ROOT", "/sge"), ("JOB_ID", "7"), ("NSLOTS", "2")]);
        assert_eq!(
            (sge.system, value(sge.cpus.as_ref())),
            (Some("Grid Engine"), Some(2))
        );
        assert_eq!(of(&[("JOB_ID", "7")]), Grant::default());
        assert_eq!(of(&[("SLURM_JOB_ID", "  ")]).system, None);
    }

    #[test]
    fn a_slot_of_htcondor_says_it_in_its_ad() {
        let mut grant = of(&[("_CONDOR_JOB_AD", "/x")]);
        machine_ad(
            &mut grant,
            "Name = \"slot1_2@n1\"\nCpus = 4\nMemory = 8192\nGPUs = 0\n",
        );
        assert_eq!(grant.system, Some("HTCondor"));
        assert_eq!(value(grant.cpus.as_ref()), Some(4));
        assert_eq!(value(grant.memory_mib.as_ref()), Some(8192));
    }
}
