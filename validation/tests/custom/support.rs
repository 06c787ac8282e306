//! A sender's folder with a manifest, and a pilot that gets it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openssl::ssl::{SslAcceptor, SslMethod, SslStream};
use serde_json::{Value, json};
use tempfile::TempDir;
use validation::custom;
use validation::engine::Engine;
use validation::fetch::Digest;
use validation::{Knobs, Outcome, Setup};

/// What a factory or frontend has on its web server.
pub(crate) struct Sender {
    pub(crate) folder: TempDir,
    scopes: Vec<Value>,
    owner: &'static str,
}

impl Sender {
    pub(crate) fn factory() -> Self {
        Self::new("factory", json!({"scope": "factory", "files": []}))
    }

    pub(crate) fn frontend() -> Self {
        Self::new("frontend", json!({"scope": "frontend", "files": []}))
    }

    fn new(owner: &'static str, scope: Value) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            scopes: vec![scope],
            owner,
        }
    }

    /// One more scope; what follows is put into it.
    pub(crate) fn scope(mut self, scope: &str, name: &str) -> Self {
        self.scopes
            .push(json!({"scope": scope, "name": name, "files": []}));
        self
    }

    /// Something said of the scope, such as `constants`.
    pub(crate) fn says(mut self, name: &str, value: Value) -> Self {
        self.scopes.last_mut().unwrap()[name] = value;
        self
    }

    /// A file with something said of it.
    pub(crate) fn file(mut self, name: &str, content: &str, more: Value) -> Self {
        fs::write(self.folder.path().join(name), content).unwrap();
        let mut file = json!({
            "name": name, "kind": "check",
            "sha256": Digest::of(content.as_bytes()).to_string(), "size": content.len(),
        });
        file.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.scopes.last_mut().unwrap()["files"]
            .as_array_mut()
            .unwrap()
            .push(file);
        self
    }

    /// A check in bash.
    pub(crate) fn check(self, name: &str, body: &str) -> Self {
        self.file(name, &format!("#!/bin/bash\n{body}\n"), json!({}))
    }

    /// Writes the manifest. Returns its path.
    pub(crate) fn publish(&self) -> PathBuf {
        let manifest = json!({"manifest": 1, "owner": self.owner, "name": "Sender of tests", "scopes": self.scopes});
        let path = self.folder.path().join("manifest.json");
        fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
        path
    }

    /// Where it is, pinned by its digest.
    pub(crate) fn local(&self) -> String {
        let path = self.publish();
        format!("file://{}#{}", path.display(), digest_pin(&path))
    }
}

pub(crate) fn digest_pin(path: &Path) -> String {
    format!("sha256={}", Digest::of(&fs::read(path).unwrap()))
}

/// A pilot without a pool.
pub(crate) struct Pilot {
    pub(crate) folder: Arc<TempDir>,
    pub(crate) knobs: Knobs,
    configuration: BTreeMap<String, String>,
    program: PathBuf,
}

impl Pilot {
    pub(crate) fn new() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            folder,
            knobs: Knobs::defaults(),
            configuration: BTreeMap::from([("START".to_owned(), "TRUE".to_owned())]),
            program: PathBuf::from(env!("CARGO_BIN_EXE_validation-gconfig")),
        }
    }

    pub(crate) fn with(mut self, knob: &str, value: &str) -> Self {
        self.knobs = self.knobs.with(knob, value).unwrap();
        self
    }

    pub(crate) fn gets(self, senders: &[&Sender]) -> Self {
        let list: Vec<String> = senders.iter().map(|sender| sender.local()).collect();
        self.with("SAILPLANE_MANIFESTS", &list.join(" "))
    }

    /// Runs everything once.
    pub(crate) async fn run(&self) -> Ran {
        let setup = Arc::new(Setup {
            scratch: self.folder.path().to_owned(),
            start_directory: self.folder.path().to_owned(),
            program: Some(self.program.clone()),
            configuration: self.configuration.clone(),
            ..Setup::default()
        });
        let knobs = Arc::new(self.knobs.clone());
        let mut engine =
            Engine::new(Vec::new(), Arc::clone(&setup), Arc::clone(&knobs), None).unwrap();
        engine
            .first(Box::pin(custom::prepare(knobs, setup)), |_| ())
            .await;
        Ran {
            engine,
            folder: Arc::clone(&self.folder),
        }
    }
}

/// What came of it.
pub(crate) struct Ran {
    pub(crate) engine: Engine,
    /// Lives as long as somebody looks into it.
    folder: Arc<TempDir>,
}

impl Ran {
    pub(crate) fn outcome(&self, name: &str) -> Outcome {
        let all: Vec<String> = self
            .engine
            .outcomes()
            .map(|(check, _)| check.name.to_string())
            .collect();
        self.engine
            .outcomes()
            .find(|(check, _)| check.name.as_str() == name)
            .unwrap_or_else(|| panic!("no {name} in {all:?}"))
            .1
            .clone()
    }

    /// `name passed`, `name skipped: why`, `name failed: why (whose, kind)`, in one text.
    pub(crate) fn words(&self) -> String {
        let mut text = String::new();
        for (check, outcome) in self.engine.outcomes() {
            let said = match &outcome.status {
                validation::Status::Passed => "passed".to_owned(),
                validation::Status::Skipped { why } => format!("skipped: {why}"),
                validation::Status::Failed(failure) => format!(
                    "failed: {} ({}, {}{})",
                    failure.why,
                    failure.whose,
                    failure.kind,
                    if failure.transient { ", may pass" } else { "" }
                ),
            };
            text.push_str(&format!("{} {said}\n", check.name));
        }
        text
    }

    pub(crate) fn passed(self) -> Self {
        let words = self.words();
        let bad = words.lines().any(|line| !line.ends_with(" passed"));
        assert!(!bad, "{words}");
        self
    }

    /// The work area.
    pub(crate) fn area(&self) -> PathBuf {
        let mut areas: Vec<PathBuf> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with("glide_")
            })
            .collect();
        assert_eq!(areas.len(), 1, "{areas:?}");
        areas.remove(0)
    }

    /// A value of the dashboard.
    pub(crate) fn value(&self, key: &str) -> Option<String> {
        let store = custom::store::Store::at(self.area().join("glidein_config"));
        store.load().unwrap().text(key)
    }

    /// Attributes of an outcome, as lines.
    pub(crate) fn attributes(&self, name: &str) -> Vec<String> {
        self.outcome(name)
            .attributes
            .iter()
            .map(|one| format!("{} = {}", one.name(), one.value().to_old()))
            .collect()
    }
}

/// A server's certificate, and the file that says whom to trust.
pub(crate) struct Certificate {
    acceptor: SslAcceptor,
    pub(crate) pem: PathBuf,
    _folder: TempDir,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        use openssl::asn1::Asn1Time;
        use openssl::bn::BigNum;
        use openssl::ec::{EcGroup, EcKey};
        use openssl::hash::MessageDigest;
        use openssl::nid::Nid;
        use openssl::pkey::PKey;
        use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
        use openssl::x509::{X509, X509NameBuilder};
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", "localhost").unwrap();
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        let serial = BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap();
        builder.set_serial_number(&serial).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder
            .set_not_before(&Asn1Time::days_from_now(0).unwrap())
            .unwrap();
        builder
            .set_not_after(&Asn1Time::days_from_now(2).unwrap())
            .unwrap();
        builder
            .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
            .unwrap();
        let alternative = SubjectAlternativeName::new()
            .dns("localhost")
            .ip("127.0.0.1")
            .build(&builder.x509v3_context(None, None))
            .unwrap();
        builder.append_extension(alternative).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let certificate = builder.build();
        let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
        acceptor.set_private_key(&key).unwrap();
        acceptor.set_certificate(&certificate).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let pem = folder.path().join("ca.pem");
        fs::write(&pem, certificate.to_pem().unwrap()).unwrap();
        Self {
            acceptor: acceptor.build(),
            pem,
            _folder: folder,
        }
    }

    pub(crate) fn accept(
        &self,
        stream: std::net::TcpStream,
    ) -> Option<SslStream<std::net::TcpStream>> {
        self.acceptor.accept(stream).ok()
    }
}
