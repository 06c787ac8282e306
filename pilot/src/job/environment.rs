//! The environment of a payload, and the two ad files in its sandbox (protocol page 03, sections 6.2 and 6.3).
//!
//! Order: the site's variables (`STARTER_JOB_ENVIRONMENT`), then the job's, then the starter's own, each replacing
//! earlier ones of the same name; only the thread counts yield to what site or job said. Nothing of the pilot's own
//! environment is passed on.

use std::path::Path;

use classad::ClassAd;

use super::SlotFacts;
use super::arguments::{self, SyntaxError};
use super::service_credentials;

/// File in the sandbox that holds the job ad.
pub const JOB_AD_FILE: &str = ".job.ad";
/// File in the sandbox that holds the slot ad.
pub const MACHINE_AD_FILE: &str = ".machine.ad";

/// Stands for the sandbox's path inside a value.
const SCRATCH_MARK: &str = "#CoNdOrScRaTcHdIr#";

/// Variables that common libraries read to find out how many threads to start.
const THREAD_COUNTS: [&str; 12] = [
    "CUBACORES",
    "GOMAXPROCS",
    "JULIA_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OMP_THREAD_LIMIT",
    "OPENBLAS_NUM_THREADS",
    "PYTHON_CPU_COUNT",
    "ROOT_MAX_THREADS",
    "TF_LOOP_PARALLEL_ITERATIONS",
    "TF_NUM_THREADS",
];

/// What an environment is made from.
#[derive(Debug, Clone, Copy)]
pub struct Ingredients<'a> {
    /// From the site's configuration.
    pub site: &'a [(String, String)],
    /// From the job ad.
    pub job: &'a [(String, String)],
    /// The slot.
    pub slot: &'a SlotFacts,
    /// The sandbox, an absolute path.
    pub sandbox: &'a Path,
    /// Name of the proxy in the sandbox.
    pub proxy: Option<&'a Path>,
    /// There are credentials of services in the sandbox.
    pub services: bool,
    /// Port range, if one is configured.
    pub ports: Option<(u16, u16)>,
}

/// Reads `STARTER_JOB_ENVIRONMENT`, which is written like the `environment` of a submit file.
///
/// # Errors
/// Bad quoting, or an entry that is not `NAME=VALUE`.
pub fn parse_site(text: &str) -> Result<Vec<(String, String)>, SyntaxError> {
    arguments::environment_quoted(text)
}

/// The payload's environment, each name once.
#[must_use]
pub fn build(from: Ingredients<'_>) -> Vec<(String, String)> {
    let mut all = Variables::default();
    for (name, value) in from.site.iter().chain(from.job) {
        all.set(name, value.clone());
    }
    let scratch = from.sandbox.display().to_string();
    for name in [
        "_CONDOR_SCRATCH_DIR",
        "_CONDOR_JOB_IWD",
        "TMPDIR",
        "TEMP",
        "TMP",
        "APPTAINER_CACHEDIR",
        "SINGULARITY_CACHEDIR",
    ] {
        all.set(name, scratch.clone());
    }
    all.set("_CONDOR_SLOT", from.slot.short_name.clone());
    all.set("BATCH_SYSTEM", "HTCondor".to_owned());
    all.set("_CONDOR_JOB_AD", format!("{scratch}/{JOB_AD_FILE}"));
    all.set("_CONDOR_MACHINE_AD", format!("{scratch}/{MACHINE_AD_FILE}"));
    all.set("_CONDOR_JOB_PIDS", String::new());
    if let Some(proxy) = from.proxy {
        all.set(
            "X509_USER_PROXY",
            from.sandbox.join(proxy).display().to_string(),
        );
    }
    if from.services {
        let folder = from.sandbox.join(service_credentials::DIRECTORY);
        all.set("_CONDOR_CREDS", folder.display().to_string());
    }
    // No slot has GPUs: the values that the libraries understand as "none".
    for (name, value) in [
        ("_CONDOR_AssignedGPUs", "10000"),
        ("CUDA_VISIBLE_DEVICES", "10000"),
        ("GPU_DEVICE_ORDINAL", "10000"),
        ("NVIDIA_VISIBLE_DEVICES", "none"),
    ] {
        all.set(name, value.to_owned());
    }
    if let Some((low, high)) = from.ports {
        all.set("_CONDOR_LOWPORT", low.to_string());
        all.set("_CONDOR_HIGHPORT", high.to_string());
    }
    for name in THREAD_COUNTS {
        all.set_if_absent(name, || from.slot.cpus.to_string());
    }
    for (_, value) in &mut all.list {
        if value.contains(SCRATCH_MARK) {
            *value = value.replace(SCRATCH_MARK, &scratch);
        }
    }
    all.list
}

#[derive(Debug, Default)]
struct Variables {
    list: Vec<(String, String)>,
    index: std::collections::HashMap<String, usize>,
}

impl Variables {
    fn set(&mut self, name: &str, value: String) {
        match self.index.get(name).and_then(|&at| self.list.get_mut(at)) {
            Some(slot) => slot.1 = value,
            None => {
                self.index.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
            }
        }
    }

    fn set_if_absent(&mut self, name: &str, value: impl FnOnce() -> String) {
        if !self.index.contains_key(name) {
            self.set(name, value());
        }
    }
}

/// The text of `.job.ad`: without the private attributes, and with the names the job sees.
#[must_use]
pub fn job_ad_text(
    ad: &ClassAd,
    sandbox: &Path,
    stdout: Option<&Path>,
    stderr: Option<&Path>,
) -> String {
    let mut shown = public_part(ad);
    let mut rename = |attribute: &str, original: &str, value: Option<String>| {
        if let Some(expr) = ad.get(attribute) {
            shown.insert(original, expr.clone());
        }
        if let Some(value) = value {
            shown.insert(attribute, value);
        }
    };
    rename("Iwd", "OrigIwd", Some(sandbox.display().to_string()));
    rename("Cmd", "OrigCmd", None);
    rename(
        "Out",
        "OriginalOut",
        stdout.map(|path| path.display().to_string()),
    );
    rename(
        "Err",
        "OriginalErr",
        stderr.map(|path| path.display().to_string()),
    );
    shown.to_old()
}

/// The text of `.machine.ad`.
#[must_use]
pub fn machine_ad_text(ad: &ClassAd) -> String {
    public_part(ad).to_old()
}

/// The ad without capabilities and keys (protocol page 01, section 2.4).
fn public_part(ad: &ClassAd) -> ClassAd {
    const PRIVATE: [&str; 6] = [
        "Capability",
        "ChildClaimIds",
        "ClaimId",
        "ClaimIdList",
        "ClaimIds",
        "TransferKey",
    ];
    const PRIVATE_PREFIX: &str = "_condor_priv";
    let mut shown = ClassAd::new();
    for (name, expr) in ad.iter() {
        let text = name.as_str();
        let has_prefix = text
            .get(..PRIVATE_PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(PRIVATE_PREFIX));
        if !has_prefix
            && !PRIVATE
                .iter()
                .any(|private| private.eq_ignore_ascii_case(text))
        {
            shown.insert(name.clone(), expr.clone());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> SlotFacts {
        SlotFacts {
            name: "slot1@node".to_owned(),
            short_name: "slot1".to_owned(),
            machine: "node".to_owned(),
            cpus: 4,
            memory_mib: 2048,
            disk_kib: 1_000_000,
            machine_ad: ClassAd::new(),
            account: None,
        }
    }

    fn owned(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn built(site: &[(&str, &str)], job: &[(&str, &str)]) -> Vec<(String, String)> {
        build(Ingredients {
            site: &owned(site),
            job: &owned(job),
            slot: &slot(),
            sandbox: Path::new("/x/dir_1"),
            proxy: Some(Path::new("proxy.pem")),
            services: true,
            ports: None,
        })
    }

    fn value<'v>(variables: &'v [(String, String)], name: &str) -> Option<&'v str> {
        let mut found = variables.iter().filter(|(other, _)| other == name);
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is there twice");
        first
    }

    #[test]
    fn the_contract_with_the_job() {
        let variables = built(&[], &[]);
        for name in [
            "_CONDOR_SCRATCH_DIR",
            "TMPDIR",
            "TEMP",
            "TMP",
            "_CONDOR_JOB_IWD",
        ] {
            assert_eq!(value(&variables, name), Some("/x/dir_1"), "{name}");
        }
        assert_eq!(value(&variables, "_CONDOR_SLOT"), Some("slot1"));
        assert_eq!(value(&variables, "BATCH_SYSTEM"), Some("HTCondor"));
        assert_eq!(
            value(&variables, "X509_USER_PROXY"),
            Some("/x/dir_1/proxy.pem")
        );
        assert_eq!(
            value(&variables, "_CONDOR_JOB_AD"),
            Some("/x/dir_1/.job.ad")
        );
        assert_eq!(value(&variables, "OMP_NUM_THREADS"), Some("4"));
        assert_eq!(
            value(&variables, "_CONDOR_CREDS"),
            Some("/x/dir_1/.condor_creds")
        );
        assert_eq!(value(&variables, "PATH"), None);
        assert_eq!(value(&variables, "HOME"), None);
    }

    #[test]
    fn who_wins() {
        let variables = built(
            &[("A", "site"), ("B", "site"), ("OMP_NUM_THREADS", "2")],
            &[
                ("A", "job"),
                ("TMPDIR", "/elsewhere"),
                ("GOMAXPROCS", "1"),
                ("A", "job again"),
            ],
        );
        assert_eq!(value(&variables, "A"), Some("job again"));
        assert_eq!(value(&variables, "B"), Some("site"));
        assert_eq!(value(&variables, "TMPDIR"), Some("/x/dir_1"));
        assert_eq!(value(&variables, "GOMAXPROCS"), Some("1"));
        assert_eq!(value(&variables, "OMP_NUM_THREADS"), Some("2"));
    }

    #[test]
    fn the_mark_becomes_the_sandbox() {
        let variables = built(&[], &[("P", "#CoNdOrScRaTcHdIr#/bin:#CoNdOrScRaTcHdIr#")]);
        assert_eq!(value(&variables, "P"), Some("/x/dir_1/bin:/x/dir_1"));
    }

    #[test]
    fn the_ad_files_hold_no_secret() {
        let mut ad = ClassAd::new();
        ad.insert("ClaimId", "secret-1");
        ad.insert("transferkey", "secret-2");
        ad.insert("_condor_PRIVRemote", "secret-3");
        ad.insert("Iwd", "/home/alice");
        ad.insert("Cmd", "/home/alice/run");
        ad.insert("Out", "my.out");
        let text = job_ad_text(
            &ad,
            Path::new("/x/dir_1"),
            Some(Path::new("_condor_stdout")),
            None,
        );
        assert!(!text.contains("secret"), "{text}");
        let read = ClassAd::parse_old(&text).unwrap();
        assert_eq!(read.string("Iwd").as_deref(), Some("/x/dir_1"));
        assert_eq!(read.string("OrigIwd").as_deref(), Some("/home/alice"));
        assert_eq!(read.string("Out").as_deref(), Some("_condor_stdout"));
        assert_eq!(read.string("OriginalOut").as_deref(), Some("my.out"));
        assert_eq!(read.string("OrigCmd").as_deref(), Some("/home/alice/run"));
    }
}
