//! From the knobs to checks that are ready to be run: manifests, files, the work area.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::area::{Area, Identity, Scope};
use super::attributes::Attributes;
use super::dashboard::{Dashboard, Key, Line};
use super::ending::End;
use super::script::{Chain, Script, whose};
use super::{Brought, stamp, store, vars};
use crate::check::{Check, CheckName, Origin, Owner, Period};
use crate::fetch::{self, Blame, FetchError, Fetcher};
use crate::knob::Knobs;
use crate::manifest::{self, Item, Kind, Limits, ManifestError, ManifestErrorKind, Selected};
use crate::outcome::{Failure, Outcome, Whose};
use crate::probe::Probe;
use crate::process::{Command, How};
use crate::setup::Setup;

/// Longest time of unpacking one archive.
const UNPACK: Duration = Duration::from_secs(300);

/// A failure of bringing, with everything that is to be said of it.
struct Trouble {
    name: &'static str,
    owner: Owner,
    failure: Failure,
    detail: Option<String>,
}

impl Trouble {
    fn new(name: &'static str, owner: Owner, failure: Failure) -> Self {
        Self {
            name,
            owner,
            failure,
            detail: None,
        }
    }

    fn finding(self) -> (Check, Outcome) {
        let outcome = Outcome::failed(self.failure);
        let outcome = match self.detail {
            Some(detail) => outcome.detail(detail),
            None => outcome,
        };
        (finding(self.name, self.owner), outcome)
    }
}

fn finding(name: &str, owner: Owner) -> Check {
    let about = match name {
        "custom-area" => "the work area of custom checks",
        _ => "its manifest and the files it lists",
    };
    Check::new(name, about).owner(owner)
}

const fn manifest_name(owner: Owner) -> &'static str {
    match owner {
        Owner::Factory => "manifest-factory",
        Owner::Site => "manifest-site",
        Owner::Frontend => "manifest-frontend",
    }
}

/// Fetches, verifies and prepares what the knobs name; runs none of it.
pub(super) async fn prepare(knobs: &Knobs, setup: &Setup) -> Brought {
    let named = knobs.list("SAILPLANE_MANIFESTS");
    let site = knobs.list("SAILPLANE_CUSTOM_CHECKS");
    if named.is_empty() && site.is_empty() {
        return Brought::default();
    }
    match bring(knobs, setup).await {
        Ok(brought) => brought,
        // All or nothing: half of the checks of a factory say nothing about a node.
        Err(troubles) => Brought {
            findings: troubles.into_iter().map(Trouble::finding).collect(),
            ..Brought::default()
        },
    }
}

async fn bring(knobs: &Knobs, setup: &Setup) -> Result<Brought, Vec<Trouble>> {
    let config = |why: String| {
        let failure = Failure::new(Whose::Factory, why, "Correct the pilot's configuration.");
        vec![Trouble::new(
            "manifest-factory",
            Owner::Factory,
            failure.kind("Config"),
        )]
    };
    let fetching = fetch::Setup::of(knobs).map_err(config)?;
    let proxy = fetching.first_proxy().map(str::to_owned);
    let fetcher = Fetcher::new(fetching).map_err(config)?;
    let manifests = manifests(knobs, &fetcher).await?;
    look_at_all(&manifests).map_err(|trouble| vec![*trouble])?;
    let area = make_area(&manifests, setup, proxy).map_err(|trouble| vec![*trouble])?;
    let counted = fetch_all(&fetcher, &manifests, &area).await?;
    let inline = settle(&manifests, &area)
        .await
        .map_err(|trouble| vec![*trouble])?;
    let chain = Arc::new(Chain::new(area, environment(setup)));
    let probes = probes(knobs, &manifests, &chain, inline);
    Ok(Brought {
        findings: counted
            .into_iter()
            .map(|(owner, files, bytes)| {
                let outcome = Outcome::passed()
                    .number("files", as_f64(files), "", None)
                    .number("bytes", as_f64(bytes), "B", None);
                (finding(manifest_name(owner), owner), outcome)
            })
            .collect(),
        probes,
        ending: Some(Arc::new(End {
            chain,
            documents: knobs.flag("SAILPLANE_RESULT_DOCUMENTS"),
        })),
    })
}

#[expect(clippy::cast_precision_loss, reason = "sizes for people")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

/// All manifests, at the same time.
async fn manifests(knobs: &Knobs, fetcher: &Fetcher) -> Result<Vec<Selected>, Vec<Trouble>> {
    let limits = Limits {
        total: knobs.count("SAILPLANE_FETCH_MAX") << 20,
    };
    let word = |name: &str| {
        knobs
            .text(name)
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let (entry, group) = (word("SAILPLANE_ENTRY"), word("SAILPLANE_GROUP"));
    let mut asked = JoinSet::new();
    let mut troubles = Vec::new();
    for (index, text) in knobs.list("SAILPLANE_MANIFESTS").iter().enumerate() {
        let source = match manifest::Source::parse(text) {
            Ok(source) => source,
            Err(error) => {
                troubles.push(Trouble::new(
                    "manifest-factory",
                    Owner::Factory,
                    Failure::new(
                        Whose::Factory,
                        format!("SAILPLANE_MANIFESTS has {text:?}: {error}"),
                        "Write each manifest as ADDRESS#sha256=DIGEST or ADDRESS#ed25519=KEY.",
                    )
                    .kind("Config"),
                ));
                continue;
            }
        };
        let (fetcher, entry, group) = (fetcher.clone(), entry.clone(), group.clone());
        asked.spawn(async move {
            let got = manifest::get(
                &fetcher,
                &source,
                entry.as_deref(),
                group.as_deref(),
                limits,
            )
            .await;
            (index, got)
        });
    }
    let mut all = Vec::new();
    while let Some(ended) = asked.join_next().await {
        match ended {
            Ok((index, Ok(manifest))) => all.push((index, manifest)),
            Ok((index, Err(error))) => troubles.push(refused(index, &error)),
            Err(error) => troubles.push(Trouble::new(
                "manifest-factory",
                Owner::Factory,
                Failure::new(
                    Whose::Pilot,
                    format!("reading a manifest failed: {error}"),
                    "Please report it.",
                ),
            )),
        }
    }
    if !troubles.is_empty() {
        return Err(troubles);
    }
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, manifest)| manifest).collect())
}

/// Whose a manifest is that says nothing: the first is the factory's, by custom, the others are frontends'.
fn presumed(index: usize) -> Owner {
    if index == 0 {
        Owner::Factory
    } else {
        Owner::Frontend
    }
}

fn refused(index: usize, error: &ManifestError) -> Trouble {
    let owner = error.owner.unwrap_or_else(|| presumed(index));
    let failure = match &*error.kind {
        ManifestErrorKind::Fetch(cause) => not_fetched(&error.to_string(), owner, cause),
        ManifestErrorKind::Digest { .. }
        | ManifestErrorKind::Signature
        | ManifestErrorKind::SignatureForm(_) => Failure::new(
            whose(owner),
            error.to_string(),
            "Pin the manifest that is meant (sailplane manifest pin), or sign it again; if nobody changed it, find out \
             who else did.",
        )
        .kind("Corruption"),
        ManifestErrorKind::Which { knob, .. } => Failure::new(
            Whose::Factory,
            error.to_string(),
            format!("Set {knob} in the pilot's configuration."),
        )
        .kind("Config"),
        _ => Failure::new(
            whose(owner),
            error.to_string(),
            "Correct it; sailplane manifest check says whether it is good.",
        )
        .kind(config_kind(owner)),
    };
    Trouble::new(manifest_name(owner), owner, failure)
}

const fn config_kind(owner: Owner) -> &'static str {
    match owner {
        Owner::Frontend => "VO_Config",
        Owner::Factory | Owner::Site => "Config",
    }
}

fn not_fetched(why: &str, owner: Owner, error: &FetchError) -> Failure {
    let (whose, kind) = match error.blame() {
        Blame::Network => (Whose::Site, "Network"),
        Blame::Node => (Whose::Site, "WN_Resource"),
        Blame::Sender if matches!(error.cause, fetch::Cause::Digest { .. }) => {
            (whose(owner), "Corruption")
        }
        Blame::Sender => (whose(owner), config_kind(owner)),
    };
    let failure = Failure::new(whose, why, error.hint()).kind(kind);
    if error.transient() {
        failure.transient()
    } else {
        failure
    }
}

/// What no manifest can know of itself: names that are in two of them.
fn look_at_all(manifests: &[Selected]) -> Result<(), Box<Trouble>> {
    let (mut files, mut checks, mut scopes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for manifest in manifests {
        let twice = |what: String| {
            let failure = Failure::new(
                whose(manifest.owner),
                format!("{what} is in two manifests"),
                "Give it another name in one of them.",
            );
            Box::new(Trouble::new(
                manifest_name(manifest.owner),
                manifest.owner,
                failure.kind(config_kind(manifest.owner)),
            ))
        };
        for part in &manifest.parts {
            let named = matches!(part.scope, Scope::Entry | Scope::Group);
            if named && !scopes.insert(part.scope) {
                return Err(twice(format!("a scope {}", part.scope.id())));
            }
            for item in &part.files {
                if !files.insert((part.scope, item.name.as_str())) {
                    return Err(twice(format!("the file {}/{}", part.scope.id(), item.name)));
                }
                if let Kind::Check(spec) = &item.kind
                    && !checks.insert(&spec.id)
                {
                    return Err(twice(format!("the check {}", spec.id)));
                }
            }
        }
    }
    Ok(())
}

fn make_area(
    manifests: &[Selected],
    setup: &Setup,
    proxy: Option<String>,
) -> Result<Area, Box<Trouble>> {
    let name_of = |wanted: Scope| {
        manifests
            .iter()
            .flat_map(|manifest| &manifest.parts)
            .find(|part| part.scope == wanted)
            .map(|part| part.name.clone())
            .unwrap_or_default()
    };
    let sender = |owner: Owner| {
        manifests
            .iter()
            .find(|manifest| manifest.owner == owner && !manifest.name.is_empty())
            .map(|manifest| manifest.name.clone())
            .unwrap_or_default()
    };
    let known = |key: &str| setup.configuration.get(key).cloned();
    let mut more: Vec<(String, String)> = setup
        .configuration
        .iter()
        .filter(|(key, _)| {
            ["GLIDEIN_", "GLIDECLIENT_", "CONDORG_", "OSG_"]
                .iter()
                .any(|prefix| key.starts_with(prefix))
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for scope in Scope::ALL {
        let parts = manifests.iter().flat_map(|manifest| &manifest.parts);
        for part in parts.filter(|part| part.scope == scope) {
            more.extend(part.constants.iter().map(|(key, line)| {
                (
                    key.to_string(),
                    String::from_utf8_lossy(line.as_bytes()).into_owned(),
                )
            }));
        }
    }
    let identity = Identity {
        pilot: known("STARTD_NAME").unwrap_or_else(|| "sailplane".to_owned()),
        factory: sender(Owner::Factory),
        entry: name_of(Scope::Entry),
        frontend: sender(Owner::Frontend),
        group: name_of(Scope::Group),
        start_directory: setup.start_directory.clone(),
        proxy,
        slots_layout: "partitionable".to_owned(),
        more,
    };
    let program = setup
        .program
        .clone()
        .or_else(|| std::env::current_exe().ok())
        .unwrap_or_else(|| PathBuf::from("sailplane"));
    let program = [program.into_os_string(), OsString::from("gconfig")];
    Area::make(&setup.scratch, &program, &identity).map_err(|error| {
        let why = match std::error::Error::source(&error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        Box::new(Trouble::new(
            "custom-area",
            Owner::Site,
            Failure::site(why, "Give the pilot a work folder with room in it.").kind("WN_Resource"),
        ))
    })
}

/// The variables of every check.
fn environment(setup: &Setup) -> Vec<(OsString, OsString)> {
    let mut all = Vec::new();
    let name = setup.configuration.get("STARTD_NAME");
    all.push((
        OsString::from("GLIDEIN_Name"),
        OsString::from(name.map_or("sailplane", String::as_str)),
    ));
    let proxy = setup
        .pilot_proxy
        .clone()
        .or_else(|| std::env::var_os("X509_USER_PROXY").map(PathBuf::from));
    if let Some(proxy) = proxy {
        let canonical = std::fs::canonicalize(&proxy).unwrap_or(proxy);
        all.push((
            OsString::from("X509_USER_PROXY"),
            canonical.into_os_string(),
        ));
    }
    if let Some(folder) = &setup.ca_directory {
        all.push((OsString::from("X509_CERT_DIR"), folder.clone().into()));
    }
    all
}

/// Where a file of a manifest comes to lie.
fn place(area: &Area, scope: Scope, item: &Item) -> PathBuf {
    let folder = area.scope(scope);
    match item.kind {
        Kind::Cleanup => area.cleanup().join(&item.name),
        // These are read, and then gone.
        Kind::Vars | Kind::Constants => folder.join(format!(".{}", item.name)),
        Kind::Check(_) | Kind::Data | Kind::Archive => folder.join(&item.name),
    }
}

/// Fetches all files of all manifests. Every one is verified before the first is used.
async fn fetch_all(
    fetcher: &Fetcher,
    manifests: &[Selected],
    area: &Area,
) -> Result<Vec<(Owner, u64, u64)>, Vec<Trouble>> {
    let mut transfers = JoinSet::new();
    let mut counted = Vec::new();
    for manifest in manifests {
        let (mut files, mut bytes) = (0, 0);
        for (scope, item) in manifest.in_order() {
            files += 1;
            bytes += item.expected.size;
            let path = place(area, scope, item);
            let mode = match item.kind {
                Kind::Check(_) | Kind::Cleanup => 0o755,
                Kind::Data | Kind::Vars | Kind::Constants | Kind::Archive => 0o644,
            };
            let (fetcher, location, expected) =
                (fetcher.clone(), item.location.clone(), item.expected);
            let (owner, file) = (manifest.owner, format!("{}/{}", scope.id(), item.name));
            transfers.spawn(async move {
                let done = fetcher.save(&location, expected, &path, mode).await;
                (owner, file, done)
            });
        }
        counted.push((manifest.owner, files, bytes));
    }
    let mut failed: Vec<(Owner, String, FetchError)> = Vec::new();
    while let Some(ended) = transfers.join_next().await {
        if let Ok((owner, file, Err(error))) = ended {
            failed.push((owner, file, error));
        }
    }
    if failed.is_empty() {
        return Ok(counted);
    }
    failed.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let mut troubles: Vec<Trouble> = Vec::new();
    for owner in [Owner::Factory, Owner::Site, Owner::Frontend] {
        let of_owner: Vec<_> = failed
            .iter()
            .filter(|(whose, ..)| *whose == owner)
            .collect();
        // One that stays decides what is said of all.
        let Some((_, file, error)) = of_owner
            .iter()
            .find(|(.., error)| !error.transient())
            .or_else(|| of_owner.first())
        else {
            continue;
        };
        let why = match of_owner.len() {
            1 => format!("the file {file}: {error}"),
            count => format!("{count} files could not be had, such as {file}: {error}"),
        };
        let failure = not_fetched(&why, owner, error);
        let mut trouble = Trouble::new(manifest_name(owner), owner, failure);
        trouble.detail = Some(
            of_owner
                .iter()
                .map(|(_, file, error)| format!("{file}: {error}"))
                .collect::<Vec<_>>()
                .join("\n"),
        );
        troubles.push(trouble);
    }
    Err(troubles)
}

/// What is done with files that are no checks, and with paths that the dashboard wants. Returns what manifests publish.
async fn settle(
    manifests: &[Selected],
    area: &Area,
) -> Result<Vec<(Scope, Vec<vars::Entry>)>, Box<Trouble>> {
    let mut all: Vec<(Owner, Scope, &Item)> = manifests
        .iter()
        .flat_map(|manifest| {
            manifest
                .in_order()
                .into_iter()
                .map(|(scope, item)| (manifest.owner, scope, item))
        })
        .collect();
    all.sort_by_key(|(.., item)| item.stage);
    for (owner, scope, item) in all {
        let dashboard = area.dashboard();
        let path = place(area, scope, item);
        let broken = |error: &dyn std::error::Error| {
            Box::new(Trouble::new(
                "custom-area",
                Owner::Site,
                Failure::site(
                    format!("custom checks cannot be prepared: {error}"),
                    "See whether the disk is full.",
                )
                .kind("WN_Resource"),
            ))
        };
        let holds = match &item.condition {
            None => true,
            // That of a check is looked at when its turn comes.
            Some(_) if matches!(item.kind, Kind::Check(_)) => true,
            Some(condition) => {
                let board = dashboard.load().map_err(|error| broken(&error))?;
                condition.holds(&board, stamp::now())
            }
        };
        if !holds {
            // Nobody finds what does not count.
            std::fs::remove_file(&path).map_err(|error| broken(&error))?;
            continue;
        }
        let mut lies = path.clone();
        match item.kind {
            Kind::Vars => {
                let text = taken(&path).map_err(|error| broken(&error))?;
                let (_, errors) = vars::parse(&String::from_utf8_lossy(&text));
                if let Some(error) = errors.first() {
                    return Err(bad_file(owner, scope, item, &error.to_string()));
                }
                store::rewrite(
                    &area.vars(scope),
                    super::lock::Patience::default(),
                    |mut all| {
                        all.extend_from_slice(&text);
                        if !text.ends_with(b"\n") {
                            all.push(b'\n');
                        }
                        all
                    },
                )
                .map_err(|error| broken(&error))?;
            }
            Kind::Constants => {
                let text = taken(&path).map_err(|error| broken(&error))?;
                let values: Vec<(Key, Line)> = Dashboard::parse(&text)
                    .entries()
                    .map(|(key, value)| (key.clone(), Line::first_of(value).0))
                    .collect();
                dashboard.change(&values).map_err(|error| broken(&error))?;
            }
            Kind::Archive => {
                lies = unpack(&path)
                    .await
                    .map_err(|why| bad_file(owner, scope, item, &why))?;
            }
            Kind::Check(_) | Kind::Data | Kind::Cleanup => {}
        }
        if let Some(key) = &item.path_key {
            let mut name = scope.prefix().as_bytes().to_vec();
            name.extend_from_slice(key.as_bytes());
            let value = lies.display().to_string();
            dashboard
                .add(&name, value.as_bytes())
                .map_err(|error| broken(&error))?;
        }
    }
    Ok(manifests
        .iter()
        .flat_map(|manifest| &manifest.parts)
        .map(|part| (part.scope, part.publish.clone()))
        .collect())
}

fn bad_file(owner: Owner, scope: Scope, item: &Item, why: &str) -> Box<Trouble> {
    let failure = Failure::new(
        whose(owner),
        format!("the file {}/{}: {why}", scope.id(), item.name),
        "Correct the file, and then the manifest (sailplane manifest fill).",
    );
    Box::new(Trouble::new(
        manifest_name(owner),
        owner,
        failure.kind(config_kind(owner)),
    ))
}

fn taken(path: &Path) -> std::io::Result<Vec<u8>> {
    let text = std::fs::read(path)?;
    std::fs::remove_file(path)?;
    Ok(text)
}

/// Unpacks a tar file into a folder named after it. The node's own `tar` does, which leaves out what would lead upwards.
async fn unpack(path: &Path) -> Result<PathBuf, String> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let stem = name
        .split_once(".t")
        .map_or(name.as_str(), |(stem, _)| stem);
    let folder = path.with_file_name(match stem {
        stem if stem == name => format!("{stem}.d"),
        stem => stem.to_owned(),
    });
    std::fs::create_dir(&folder)
        .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let tar = ["/usr/bin/tar", "/bin/tar"]
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
        .ok_or("the node has no tar")?;
    let ended = Command::new(tar)
        .args(["-xm", "--no-same-owner", "-f"])
        .arg(path)
        .directory(&folder)
        .deadline(Instant::now() + UNPACK)
        .run()
        .await
        .map_err(|error| error.to_string())?;
    if ended.how == How::Exited(0) {
        Ok(folder)
    } else {
        let said = String::from_utf8_lossy(&ended.stderr);
        Err(format!(
            "it cannot be unpacked: {}",
            said.lines().next().unwrap_or("tar failed")
        ))
    }
}

/// The checks, in the order of the field: each waits for the one before it.
fn probes(
    knobs: &Knobs,
    manifests: &[Selected],
    chain: &Arc<Chain>,
    inline: Vec<(Scope, Vec<vars::Entry>)>,
) -> Vec<Arc<dyn Probe>> {
    let usual = Some(knobs.seconds("SAILPLANE_CUSTOM_LIMIT")).filter(|limit| !limit.is_zero());
    let mut all: Vec<(Owner, Scope, &Item)> = manifests
        .iter()
        .flat_map(|manifest| {
            manifest
                .in_order()
                .into_iter()
                .map(|(scope, item)| (manifest.owner, scope, item))
        })
        .collect();
    all.sort_by_key(|(.., item)| item.stage);
    let mut probes: Vec<Arc<dyn Probe>> = Vec::new();
    let mut names: Vec<CheckName> = Vec::new();
    let mut previous: Option<CheckName> = None;
    let mut periodic = false;
    for (owner, scope, item) in all {
        let Kind::Check(spec) = &item.kind else {
            continue;
        };
        let mut check = Check::new(spec.id.as_str(), &spec.about)
            .owner(owner)
            .origin(Origin::Custom {
                scope: scope.id().to_owned(),
                file: item.name.clone(),
            })
            .severity(spec.severity);
        check.prerequisites.clone_from(&spec.needs);
        if let Some(period) = spec.period {
            check.period = Period::Every(period);
            periodic = true;
        }
        if !spec.beside {
            check.after.extend(previous.replace(spec.id.clone()));
        }
        names.push(spec.id.clone());
        let script = Script::new(
            check,
            chain.clone(),
            scope,
            place(chain.area(), scope, item),
        )
        .when(item.condition.clone())
        .prefix(&spec.prefix)
        .beside(spec.beside)
        .limit(spec.limit.unwrap_or(usual));
        probes.push(Arc::new(script));
    }
    for path in knobs
        .list("SAILPLANE_CUSTOM_CHECKS")
        .iter()
        .map(PathBuf::from)
    {
        let stem = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let name = CheckName::from_words(&format!("site {stem}"));
        if names.contains(&name) {
            tracing::warn!("SAILPLANE_CUSTOM_CHECKS names {name} twice; the second is left out");
            continue;
        }
        let mut check = Check::new(name.as_str(), &format!("{} of the site", path.display()))
            .origin(Origin::Custom {
                scope: "site".to_owned(),
                file: path.display().to_string(),
            });
        check.after.extend(previous.replace(name.clone()));
        names.push(name);
        let script = Script::new(check, chain.clone(), Scope::Factory, path).limit(usual);
        probes.push(Arc::new(script));
    }
    probes.push(Arc::new(Attributes::new(
        chain.clone(),
        inline,
        periodic,
        names,
    )));
    probes
}
