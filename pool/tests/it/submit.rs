//! Our reader of submit files beside the real `condor_submit`: `pool/tests/submit` holds submit files and, beside each,
//! what the real one made of it (`pool/tests/submit/record` writes those).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use classad::{ClassAd, Expr};
use pool::submit::{Banner, FileStat, Submission, SubmitContext, SubmitFiles, parse};

/// Attributes that differ by nature, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("QDate", "the time of submission"),
    ("EnteredCurrentStatus", "the time of submission"),
    (
        "x509UserProxyExpiration",
        "the real schedd adds it, not condor_submit",
    ),
    (
        "x509userproxysubject",
        "the real schedd adds it, not condor_submit",
    ),
    (
        "x509UserProxyEmail",
        "the real schedd adds it, not condor_submit",
    ),
];

/// The folder of the corpus, as the recording saw it.
const SEEN_AS: &str = "/submit";

struct Folder {
    real: PathBuf,
}

impl Folder {
    fn path(&self, path: &str) -> PathBuf {
        match path.strip_prefix(SEEN_AS) {
            Some(rest) => self.real.join(rest.trim_start_matches('/')),
            None => PathBuf::from(path),
        }
    }
}

impl SubmitFiles for Folder {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(path))
    }
    fn head(&self, path: &str, bytes: usize) -> io::Result<Vec<u8>> {
        let mut content = self.read(path)?;
        content.truncate(bytes);
        Ok(content)
    }
    fn run(&self, argv: &[String]) -> io::Result<Vec<u8>> {
        std::process::Command::new(&argv[0])
            .args(&argv[1..])
            .current_dir(&self.real)
            .output()
            .map(|output| output.stdout)
    }
    fn list(&self, path: &str) -> io::Result<Vec<(String, bool)>> {
        fs::read_dir(self.path(path))?
            .map(|entry| {
                let entry = entry?;
                let name = entry
                    .file_name()
                    .into_string()
                    .map_err(|_| io::ErrorKind::InvalidData)?;
                Ok((name, entry.file_type()?.is_dir()))
            })
            .collect()
    }
    fn stat(&self, path: &str) -> io::Result<FileStat> {
        // The programs of the tree in which the recording ran; this machine's have other sizes.
        if ["/bin/sleep", "/bin/true"].contains(&path) {
            return Ok(FileStat {
                size: 43 << 10,
                is_dir: false,
                executable: true,
                readable: true,
            });
        }
        let path = self.path(path);
        let data = fs::metadata(&path)?;
        Ok(FileStat {
            size: if data.is_dir() {
                size(&path)?
            } else {
                data.len()
            },
            is_dir: data.is_dir(),
            executable: true,
            readable: true,
        })
    }
}

fn size(directory: &Path) -> io::Result<u64> {
    fs::read_dir(directory)?.try_fold(0, |sum, entry| {
        let data = entry?.metadata()?;
        Ok(sum + if data.is_dir() { 0 } else { data.len() })
    })
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/submit")
}

/// The world the recording script made.
fn context() -> SubmitContext {
    let mut knobs = SubmitContext::default_knobs();
    knobs.insert("FILESYSTEM_DOMAIN".into(), "files.pool.example".into());
    knobs.insert("CRED_MIN_TIME_LEFT".into(), "0".into());
    let environment = [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/home/alice"),
        ("LANG", "C.UTF-8"),
        ("GREETING", "hello world"),
        ("GREETING2", "two"),
        ("GONE", "3"),
        ("CONDOR_CONFIG", "/pool/condor_config"),
    ];
    SubmitContext {
        cluster: 1,
        cwd: SEEN_AS.into(),
        owner: "sailplane-pool".into(),
        uid: 999,
        uid_domain: "pool.example".into(),
        environment: environment
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        now: 1_795_632_000,
        utc_offset: 0,
        seed: 1,
        banner: Banner {
            version: "$CondorVersion: 23.9.6 2026-07-12 PackageID: 23.9.6+dfsg-2.1+b10 $".into(),
            platform: "$CondorPlatform: X86_64-Debian_13 $".into(),
        },
        knobs,
        assignments: Vec::new(),
        appended: Vec::new(),
        queue: None,
        check_files: true,
    }
}

fn read(name: &str) -> Result<Submission, String> {
    let text = fs::read_to_string(folder().join(name)).unwrap();
    parse(&text, name, &context(), &Folder { real: folder() }).map_err(|errors| errors.to_string())
}

/// The recorded ads: the cluster's, then each job's own attributes.
fn recorded(text: &str) -> Vec<ClassAd> {
    let mut ads = Vec::new();
    let mut ad = ClassAd::new();
    for line in text.lines() {
        let line = line.trim();
        if line == "." || line.is_empty() || line.starts_with('#') || line.contains("job(s)") {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            panic!("not an attribute: {line}");
        };
        if name == "ProcId" {
            ads.push(std::mem::take(&mut ad));
        }
        let expr = Expr::parse_old(value).unwrap_or_else(|error| panic!("{line}: {error}"));
        ad.insert(name, expr);
    }
    ads.push(ad);
    ads
}

fn merged(cluster: &ClassAd, own: &ClassAd) -> BTreeMap<String, String> {
    let mut whole = cluster.clone();
    whole.update(own);
    whole
        .iter()
        .map(|(name, expr)| (name.as_str().to_ascii_lowercase(), expr.to_old()))
        .filter(|(name, _)| {
            !DIFFERENT
                .iter()
                .any(|(different, _)| different.eq_ignore_ascii_case(name))
        })
        .collect()
}

/// What differs between our submission and the recorded one, a line each.
fn differences(ours: &Submission, theirs: &[ClassAd]) -> Vec<String> {
    let (their_cluster, their_procs) = theirs.split_first().unwrap();
    let mut found = Vec::new();
    if ours.procs.len() != their_procs.len() {
        found.push(format!(
            "{} jobs, not {}",
            ours.procs.len(),
            their_procs.len()
        ));
    }
    for (number, (our, their)) in ours.procs.iter().zip(their_procs).enumerate() {
        let our = merged(&ours.cluster, our);
        let their = merged(their_cluster, their);
        for name in our
            .keys()
            .chain(their.keys().filter(|name| !our.contains_key(*name)))
        {
            if our.get(name) != their.get(name) {
                found.push(format!(
                    "job {number}: {name}\n      ours   {}\n      theirs {}",
                    our.get(name).map_or("-", String::as_str),
                    their.get(name).map_or("-", String::as_str)
                ));
            }
        }
    }
    found
}

#[test]
fn our_ads_are_those_of_condor_submit() {
    let mut wrong = Vec::new();
    let mut compared = 0;
    let mut names: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".sub"))
        .collect();
    names.sort();
    for name in names {
        let said = folder().join(&name).with_extension("ads");
        let said = fs::read_to_string(&said).unwrap_or_else(|_| panic!("{name} is not recorded"));
        let refused = said.starts_with("# refused");
        match read(&name) {
            Err(errors) if refused => assert!(!errors.is_empty()),
            Err(errors) => wrong.push(format!("{name}: we refuse it: {errors}")),
            Ok(_) if refused => wrong.push(format!("{name}: condor_submit refuses it, we do not")),
            Ok(ours) => {
                let found = differences(&ours, &recorded(&said));
                if !found.is_empty() {
                    wrong.push(format!("{name}:\n    {}", found.join("\n    ")));
                }
            }
        }
        compared += 1;
    }
    assert!(compared >= 60, "only {compared} submit files");
    assert!(
        wrong.is_empty(),
        "{} of {compared} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Every file in `errors` is refused with the lines beside it. A line is the beginning of a message: what the operating
/// system or another parser adds in parentheses is its own.
#[test]
fn mistakes_are_told_with_file_line_and_what_was_expected() {
    let errors = folder().join("errors");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(&errors).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "sub") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let expected = fs::read_to_string(path.with_extension("message")).unwrap();
        let told = match parse(&text, name, &context(), &Folder { real: folder() }) {
            Ok(_) => String::new(),
            Err(errors) => errors.to_string(),
        };
        let same = told.lines().count() == expected.lines().count()
            && told
                .lines()
                .zip(expected.lines())
                .all(|(told, expected)| told.starts_with(expected));
        if !same {
            wrong.push(format!("{name}:\n  expected\n{expected}  told\n{told}\n"));
        }
        seen += 1;
    }
    assert!(seen >= 40, "only {seen} files");
    assert!(
        wrong.is_empty(),
        "{} of {seen}:\n{}",
        wrong.len(),
        wrong.concat()
    );
}
