//! A node to break, and the one check that is run on it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use validation::{Context, Endpoint, Failure, Knobs, Outcome, Setup};

/// What the child is told, JSON.
const PLAN: &str = "VALIDATION_TEST_PLAN";
/// Before the outcome on the child's standard output.
const MARK: &str = "OUTCOME ";
/// A user number that nobody has.
pub const STRANGER: u32 = 64_321;

/// A node.
pub struct Node {
    check: &'static str,
    knobs: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    prelude: String,
    unshare: Vec<&'static str>,
    is_stranger: bool,
    setup: Plan,
    /// `$W` of the prelude: a folder of its own.
    pub folder: tempfile::TempDir,
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Plan {
    check: String,
    knobs: Vec<(String, String)>,
    execute: PathBuf,
    collectors: Vec<String>,
    ccb: Vec<String>,
    pilot_proxy: Option<PathBuf>,
    tokens: Vec<PathBuf>,
    ca_directory: Option<PathBuf>,
    voms_directory: Option<PathBuf>,
    cpus: u32,
    memory_mib: u64,
}

impl Node {
    /// A healthy node on which `check` will be run.
    pub fn new(check: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), 0o755);
        let execute = folder.path().join("execute");
        std::fs::create_dir(&execute).unwrap();
        open(&execute, 0o1777);
        Self {
            check,
            knobs: Vec::new(),
            environment: Vec::new(),
            prelude: String::new(),
            unshare: Vec::new(),
            is_stranger: false,
            setup: Plan {
                execute,
                cpus: 1,
                memory_mib: 64,
                ..Plan::default()
            },
            folder,
        }
    }

    /// Where sandboxes would be: `$W/execute`.
    pub fn execute(&self) -> &Path {
        &self.setup.execute
    }

    /// With a knob set.
    pub fn knob(mut self, name: &str, value: impl ToString) -> Self {
        self.knobs.push((name.to_owned(), value.to_string()));
        self
    }

    /// With a variable of the batch system.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Broken by a shell, which has the folder as `$W`.
    pub fn broken(mut self, prelude: &str) -> Self {
        self.prelude.push_str(prelude);
        self.prelude.push('\n');
        self
    }

    /// In a mount namespace; needs root.
    pub fn mounts(mut self) -> Self {
        self.unshare.push("--mount");
        self
    }

    /// In a network of its own, with nothing in it; needs root.
    pub fn network(mut self) -> Self {
        self.unshare.push("--net");
        self
    }

    /// By an account that has nothing to do with anything; needs root.
    pub fn stranger(mut self) -> Self {
        self.is_stranger = true;
        self
    }

    pub fn collector(mut self, text: &str) -> Self {
        self.setup.collectors.push(text.to_owned());
        self
    }

    pub fn ccb(mut self, text: &str) -> Self {
        self.setup.ccb.push(text.to_owned());
        self
    }

    pub fn proxy(mut self, path: &Path) -> Self {
        self.setup.pilot_proxy = Some(path.to_owned());
        self
    }

    pub fn tokens(mut self, path: &Path) -> Self {
        self.setup.tokens.push(path.to_owned());
        self
    }

    pub fn authorities(mut self, path: &Path) -> Self {
        self.setup.ca_directory = Some(path.to_owned());
        self
    }

    pub fn offers(mut self, cpus: u32, memory_mib: u64) -> Self {
        self.setup.cpus = cpus;
        self.setup.memory_mib = memory_mib;
        self
    }

    /// Runs the check there.
    pub fn outcome(mut self) -> Outcome {
        self.setup.check = self.check.to_owned();
        self.setup.knobs.clone_from(&self.knobs);
        let own = std::env::current_exe().unwrap();
        // Everybody can execute a copy in a folder that is open.
        let exe = if self.is_stranger {
            let copy = self.folder.path().join("it");
            std::fs::copy(&own, &copy).unwrap();
            open(&copy, 0o755);
            copy
        } else {
            own
        };
        let mut command = if self.unshare.is_empty() {
            Command::new("sh")
        } else {
            let mut command = Command::new("unshare");
            command.args(&self.unshare).arg("sh");
            command
        };
        let become_us = if self.is_stranger {
            format!(
                "exec setpriv --reuid {STRANGER} --regid {STRANGER} --clear-groups sh -c \"$LIMITS\"' exec \"$EXE\" --exact node::child --nocapture'"
            )
        } else {
            "eval \"$LIMITS\"; exec \"$EXE\" --exact node::child --nocapture".to_owned()
        };
        command
            .arg("-ec")
            .arg(format!("{}\n{become_us}", self.prelude))
            .env_remove("http_proxy")
            .env("W", self.folder.path())
            .env("EXE", exe)
            .env_remove("LIMITS")
            .env(PLAN, serde_json::to_string(&self.setup).unwrap())
            .envs(self.environment.iter().cloned());
        if !self.environment.iter().any(|(name, _)| name == "LIMITS") {
            command.env("LIMITS", "");
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let Some(line) = said
            .lines()
            .find_map(|line| line.split_once(MARK).map(|(_, line)| line))
        else {
            panic!(
                "{}: {said}\n{}",
                self.check,
                String::from_utf8_lossy(&output.stderr)
            );
        };
        serde_json::from_str(line).unwrap()
    }

    /// Why the check fails there.
    pub fn failure(self) -> Failure {
        let check = self.check;
        let outcome = self.outcome();
        let failure = outcome
            .failure()
            .unwrap_or_else(|| panic!("{check} does not fail: {outcome:?}"))
            .clone();
        assert!(
            !failure.hint.is_empty() && !failure.why.contains('\n'),
            "{failure:?}"
        );
        failure
    }
}

/// Opens a path.
pub fn open(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Root tests say so when they are left out.
pub fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        println!("left out: needs root");
    }
    is_root
}

/// Runs one check as it is told, if it is told; for the shell above.
#[test]
fn child() {
    let Ok(plan) = std::env::var(PLAN) else {
        return;
    };
    let plan: Plan = serde_json::from_str(&plan).unwrap();
    let mut knobs = Knobs::defaults();
    for (name, value) in &plan.knobs {
        knobs = knobs.with(name, value).unwrap();
    }
    let endpoint = |text: &String| {
        let (host, port) = text.rsplit_once(':').unwrap();
        Endpoint {
            text: text.clone(),
            host: host.to_owned(),
            port: port.parse().unwrap(),
        }
    };
    let scratch = plan.execute.join("scratch");
    let setup = Setup {
        start_directory: "/".into(),
        scratch,
        collectors: plan.collectors.iter().map(endpoint).collect(),
        ccb: plan.ccb.iter().map(endpoint).collect(),
        pilot_proxy: plan.pilot_proxy,
        token_directories: plan.tokens,
        ca_directory: plan.ca_directory,
        voms_directory: plan.voms_directory,
        cpus: plan.cpus,
        memory_mib: plan.memory_mib,
        slots: 1,
        execute: plan.execute,
        ..Setup::default()
    };
    let all = validation::builtin::all(&knobs);
    let probe = all
        .iter()
        .find(|probe| probe.check().name.as_str() == plan.check)
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let outcome = runtime.block_on(async {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let context = Context::new(Arc::new(setup), Arc::new(knobs), deadline);
        probe.run(&context).await
    });
    println!("{MARK}{}", serde_json::to_string(&outcome).unwrap());
}
