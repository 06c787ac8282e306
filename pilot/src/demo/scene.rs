//! What stands on the stage before the play begins: accounts, trust anchors, proxies, the helper, the configurations.

use std::path::{Path, PathBuf};
use std::time::Duration;

use credential::issue::{Authority, IssueError, KeyType, ProxyKind, ProxyOptions};
use jiff::Timestamp;
use thiserror::Error;

use super::people::{LENT, Person, Proxy, cast};
use super::programs::Programs;
use super::stage::{Account, Stage, StageError};
use super::stories::{STORIES, Story};

/// How long before the end of its proxy a job is stopped here; the default is five minutes, which nobody would watch.
pub(super) const GRACE: Duration = Duration::from_secs(12);
/// Life of the proxy that ends soon, in seconds.
const SOON: i64 = 34;
/// Life of certificates, in seconds.
const DAY: i64 = 24 * 3600;
/// The authority's name; the stranger's is the same.
const CA: &str = "/DC=example/DC=demo/CN=Demo CA";
/// The pool's domain.
pub(super) const DOMAIN: &str = "demo.example";
/// Slots of the pilot.
const SLOTS: usize = 6;

/// The scene.
#[derive(Debug)]
pub(super) struct Scene {
    /// The pilot's account, if jobs have accounts of their own.
    pub(super) pilot: Option<Account>,
    /// The users.
    pub(super) people: Vec<Person>,
    /// The pool's configuration.
    pub(super) pool_conf: PathBuf,
    /// The pilot's configuration.
    pub(super) pilot_conf: PathBuf,
    /// Where the pilot finds its token.
    pub(super) tokens: PathBuf,
    /// Where sandboxes are made.
    pub(super) execute: PathBuf,
    /// What the helper wrote about its decisions.
    pub(super) audit: PathBuf,
}

/// The scene could not be set.
#[derive(Debug, Error)]
pub(super) enum SceneError {
    /// A file.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A certificate.
    #[error("cannot make the demo's certificates")]
    Issue(#[from] IssueError),
}

/// Sets the scene.
pub(super) fn set(stage: &Stage, programs: &Programs) -> Result<Scene, SceneError> {
    let (pilot, people) = cast(&stage.path("home"));
    let mut accounts: Vec<Account> = people.iter().map(|person| person.account.clone()).collect();
    accounts.push(pilot.clone());
    stage.add_accounts(&accounts)?;
    let scene = Scene {
        pool_conf: stage.path("pool.conf"),
        pilot_conf: stage.path("pilot.conf"),
        tokens: pilot.home.join("tokens"),
        execute: stage.path("execute"),
        audit: stage.path("helper/audit.log"),
        pilot: stage.separates().then_some(pilot.clone()),
        people,
    };
    stage.folder(&scene.tokens, 0o700, Some(&pilot))?;
    stage.folder(&scene.execute, 0o755, Some(&pilot))?;
    stage.folder(&stage.path("pool"), 0o755, None)?;
    let certificates = scene.certificates(stage)?;
    scene.helper(stage, programs, &certificates)?;
    scene.configurations(stage, programs, &certificates)?;
    for story in STORIES {
        scene.job(stage, story)?;
    }
    Ok(scene)
}

impl Scene {
    /// The user of that name. The stories name only users of the cast.
    pub(super) fn person(&self, name: &str) -> Option<&Person> {
        self.people
            .iter()
            .find(|person| person.account.name == name)
    }

    /// Where a job's files are.
    pub(super) fn folder(&self, story: &Story) -> PathBuf {
        let home = self
            .person(story.user)
            .map(|person| person.account.home.clone());
        home.unwrap_or_default().join(story.name)
    }

    /// The authority, and the users' proxies: good ones, some that end soon, and forged ones.
    fn certificates(&self, stage: &Stage) -> Result<PathBuf, SceneError> {
        // In front of the machine's own when there is an /etc of ours.
        let folder = stage.path("certificates");
        stage.folder(&folder, 0o755, None)?;
        let now = Timestamp::now().as_second();
        let authority = Authority::new(CA, KeyType::P256, now, DAY)?;
        authority.write_to(&folder)?;
        let stranger = Authority::new(CA, KeyType::P256, now, DAY)?;
        for person in &self.people {
            let name = distinguished_name(person);
            let user = authority.user(&name, now, DAY)?.issuer()?;
            let forged = stranger.user(&name, now, DAY)?.issuer()?;
            let proxies = [
                (Proxy::Good, &user, DAY / 2),
                (Proxy::EndsSoon, &user, SOON),
                (Proxy::Forged, &forged, DAY / 2),
            ];
            for (proxy, issuer, lifetime) in proxies {
                let options = ProxyOptions {
                    lifetime: Some(lifetime),
                    kind: ProxyKind::Inherit,
                    ..ProxyOptions::at(now)
                };
                let pem = issuer.proxy(KeyType::P256, &options)?;
                let path = person.account.home.join(proxy.file());
                stage.file(&path, pem.as_bytes(), 0o600, Some(&person.account))?;
            }
        }
        Ok(folder)
    }

    /// The helper, installed as an administrator would, but on the stage.
    fn helper(
        &self,
        stage: &Stage,
        programs: &Programs,
        certificates: &Path,
    ) -> Result<(), SceneError> {
        let folder = stage.path("helper");
        stage.folder(&folder, 0o755, None)?;
        stage.program(&programs.job, &folder.join("sailplane-job"), 0o755)?;
        if !stage.separates() {
            return Ok(());
        }
        stage.program(&programs.broker, &folder.join("sailplane-broker"), 0o755)?;
        stage.program(&programs.admin, &folder.join("sailplane-admin"), 0o755)?;
        stage.program(&programs.verify, &folder.join("sailplane-verify"), 0o755)?;
        stage.program(&programs.policy, &folder.join("sailplane-policy"), 0o755)?;
        stage.program(&programs.names, &folder.join("sailplane-names"), 0o755)?;
        let names_nss = folder.join("sailplane-names-nss");
        stage.program(&programs.names_nss, &names_nss, 0o755)?;
        stage.program(&programs.switch, &folder.join("sailplane-switch"), 0o4755)?;
        stage.folder(&stage.path("leases"), 0o755, None)?;
        let map: String = self
            .people
            .iter()
            .filter(|person| person.mapped)
            .map(|person| {
                format!(
                    "\"{}\" {}\n",
                    distinguished_name(person),
                    person.account.name
                )
            })
            .collect();
        let gridmap = folder.join("grid-mapfile");
        stage.file(&gridmap, map.as_bytes(), 0o644, None)?;
        let conf = format!(
            "[glexec]\nuser_white_list = pilot\n[switch]\ncertdir = {certificates}\ngridmap = {gridmap}\n\
             dynamic_uids = {first}-{last}\nexecute_dirs = {execute}\nrundir = {leases}\nlog_file = {audit}\n",
            certificates = certificates.display(),
            gridmap = gridmap.display(),
            first = LENT.0,
            last = LENT.1,
            execute = self.execute.display(),
            leases = stage.path("leases").display(),
            audit = self.audit.display(),
        );
        let etc = stage.path("etc/sailplane");
        // The machine's own helper may be configured there; it stays behind our folder.
        stage.replace_folder(&etc)?;
        stage.file(&etc.join("switch.conf"), conf.as_bytes(), 0o644, None)?;
        Ok(())
    }

    fn configurations(
        &self,
        stage: &Stage,
        _programs: &Programs,
        certificates: &Path,
    ) -> Result<(), SceneError> {
        let pool = format!(
            "LOCAL_DIR = {}\n\
             COLLECTOR_HOST = 127.0.0.1:0\n\
             UID_DOMAIN = {DOMAIN}\n\
             NEGOTIATOR_INTERVAL = 2\n\
             DEFAULT_USERLOG_FORMAT_OPTIONS = ISO_DATE, SUB_SECOND, UTC\n\
             CRED_MIN_TIME_LEFT = 5\n",
            stage.path("pool").display()
        );
        stage.file(&self.pool_conf, pool.as_bytes(), 0o644, None)?;
        let switching = if stage.separates() {
            "REQUIRED"
        } else {
            "NEVER"
        };
        let helper = stage.path("helper");
        let pilot = format!(
            "SEC_TOKEN_DIRECTORY = {tokens}\n\
             SEC_DEFAULT_AUTHENTICATION = REQUIRED\n\
             SEC_DEFAULT_AUTHENTICATION_METHODS = IDTOKENS\n\
             SEC_DEFAULT_ENCRYPTION = REQUIRED\n\
             SEC_DEFAULT_INTEGRITY = REQUIRED\n\
             EXECUTE = {execute}\n\
             NUM_CPUS = {SLOTS}\nNUM_SLOTS = {SLOTS}\nMEMORY = {memory}\n\
             STARTD_NAME = demo\n\
             NETWORK_INTERFACE = 127.0.0.1\n\
             STARTER_INITIAL_UPDATE_INTERVAL = 1\nSTARTER_UPDATE_INTERVAL = 2\n\
             SAILPLANE_IDENTITY_SWITCH = {switching}\n\
             SAILPLANE_SWITCH = {switch}\n\
             SAILPLANE_JOB_AGENT = {agent}\n\
             X509_CERT_DIR = {certificates}\n\
             SAILPLANE_CREDENTIAL_GRACE = {grace}\n\
             SAILPLANE_FAILURE_NAP = 0\n",
            tokens = self.tokens.display(),
            execute = self.execute.display(),
            memory = 128 * SLOTS,
            switch = helper.join("sailplane-switch").display(),
            agent = helper.join("sailplane-job").display(),
            certificates = certificates.display(),
            grace = GRACE.as_secs(),
        );
        stage.file(&self.pilot_conf, pilot.as_bytes(), 0o644, None)?;
        Ok(())
    }

    /// A job's folder: the submit file, the program, its files.
    fn job(&self, stage: &Stage, story: &Story) -> Result<(), SceneError> {
        let Some(person) = self.person(story.user) else {
            return Ok(());
        };
        let owner = Some(&person.account);
        let folder = self.folder(story);
        let proxy = person.account.home.join(story.proxy.file());
        stage.folder(&folder, 0o755, owner)?;
        let submit = story.submit_file(&proxy.display().to_string());
        stage.file(&folder.join("job.sub"), submit.as_bytes(), 0o644, owner)?;
        let script = folder.join(format!("{}.sh", story.name));
        stage.file(&script, story.script().as_bytes(), 0o755, owner)?;
        for (name, content) in story.files {
            let path = folder.join(name);
            if let Some(above) = path.parent().filter(|above| *above != folder) {
                stage.folder(above, 0o755, owner)?;
            }
            stage.file(&path, content.as_bytes(), 0o644, owner)?;
        }
        Ok(())
    }
}

/// The name in a user's certificate.
fn distinguished_name(person: &Person) -> String {
    let name = &person.account.name;
    let (first, rest) = name.split_at(1);
    format!("/DC=example/DC=demo/CN={}{rest}", first.to_uppercase())
}
