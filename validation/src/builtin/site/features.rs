//! `machine-job-features`: what the site tells by the Machine/Job Features protocol (HSF-TN-2016-02): a directory or a URL
//! with one small file a value, for the machine and for the job.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::net::http::{self, Url};
use super::super::net::system_words;
use super::super::simple::probe;
use crate::check::{Check, Severity};
use crate::outcome::{Failure, Outcome};
use crate::probe::{Context, Probe, Running};

/// Of the machine.
const MACHINE: [&str; 4] = ["total_cpu", "hs06", "shutdowntime", "grace_secs"];
/// Of the job.
const JOB: [&str; 12] = [
    "allocated_cpu",
    "hs06_job",
    "shutdowntime_job",
    "grace_secs_job",
    "jobstart_secs",
    "job_id",
    "wall_limit_secs",
    "cpu_limit_secs",
    "max_rss_bytes",
    "max_swap_bytes",
    "scratch_limit_bytes",
    "hs23_job",
];
/// Longest value, bytes.
const MAX: u64 = 1024;

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    let check = Check::new(
        "machine-job-features",
        "what the site says of machine and job",
    )
    .severity(Severity::Warn)
    .every(Duration::from_secs(1800));
    probe(check, run)
}

fn run(context: &Context) -> Running<'_> {
    Box::pin(async move {
        let features = read(context).await;
        judge(&features)
    })
}

/// What the site says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// Values by their names.
    pub(crate) values: BTreeMap<&'static str, String>,
    /// Where they should have been, and why they are not.
    troubles: Vec<String>,
    /// One of the two variables is set.
    is_offered: bool,
}

/// Reads everything that the two variables lead to.
pub(crate) async fn read(context: &Context) -> Features {
    let mut features = Features::default();
    for (variable, names) in [("MACHINEFEATURES", &MACHINE[..]), ("JOBFEATURES", &JOB[..])] {
        let Some(place) = std::env::var(variable)
            .ok()
            .filter(|place| !place.is_empty())
        else {
            continue;
        };
        features.is_offered = true;
        match source(&place) {
            Source::Directory(path) => {
                let (names, path) = (names.to_vec(), path.to_owned());
                let got = context
                    .blocking(move || directory(Path::new(&path), &names))
                    .await;
                match got {
                    Some(Ok(values)) => features.values.extend(values),
                    Some(Err(error)) => features
                        .troubles
                        .push(format!("{variable}={place} cannot be read: {error}")),
                    None => {}
                }
            }
            Source::Web(url) => match web(context, &url, names).await {
                Ok(values) => features.values.extend(values),
                Err(error) => features
                    .troubles
                    .push(format!("{variable}={place} cannot be fetched: {error}")),
            },
            Source::Neither => features.troubles.push(format!(
                "{variable}={place} is neither a directory nor a URL of http"
            )),
        }
    }
    features
}

enum Source<'a> {
    Directory(&'a str),
    Web(Url),
    Neither,
}

fn source(place: &str) -> Source<'_> {
    if let Some(path) = place.strip_prefix("file://") {
        return Source::Directory(path);
    }
    if place.starts_with('/') {
        return Source::Directory(place);
    }
    match Url::parse(place).filter(|url| !url.is_https) {
        Some(url) => Source::Web(url),
        None => Source::Neither,
    }
}

fn directory(
    path: &Path,
    names: &[&'static str],
) -> Result<BTreeMap<&'static str, String>, String> {
    fs::read_dir(path).map_err(|error| system_words(&error))?;
    let mut values = BTreeMap::new();
    for name in names {
        let mut bytes = Vec::new();
        if let Ok(file) = fs::File::open(path.join(name))
            && file.take(MAX).read_to_end(&mut bytes).is_ok()
            && let Some(value) = value(&bytes)
        {
            values.insert(*name, value);
        }
    }
    Ok(values)
}

async fn web(
    context: &Context,
    url: &Url,
    names: &[&'static str],
) -> Result<BTreeMap<&'static str, String>, String> {
    let mut tasks = tokio::task::JoinSet::new();
    let within = context.remaining() / 2;
    for name in names {
        let (name, mut url) = (*name, url.clone());
        url.path = format!("{}/{name}", url.path.trim_end_matches('/'));
        tasks.spawn(async move { (name, http::get(None, &url, within).await) });
    }
    let mut values = BTreeMap::new();
    let mut error = None;
    for (name, got) in tasks.join_all().await {
        match got {
            Ok(response) if response.status == 200 => {
                if let Some(value) = value(&response.body) {
                    values.insert(name, value);
                }
            }
            // What a site does not tell it does not have.
            Ok(_) => {}
            Err(trouble) => error = Some(format!("{trouble:?}")),
        }
    }
    match error {
        Some(error) if values.is_empty() => Err(error),
        _ => Ok(values),
    }
}

/// One line of printable text.
fn value(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let is_plain = !text.is_empty() && text.len() <= 256 && !text.contains(char::is_control);
    is_plain.then(|| text.to_owned())
}

fn judge(features: &Features) -> Outcome {
    if !features.is_offered {
        return Outcome::skipped(
            "the site does not use Machine/Job Features: MACHINEFEATURES and JOBFEATURES are not set",
        );
    }
    let mut outcome = match features.troubles.first() {
        None => Outcome::passed(),
        Some(trouble) => Outcome::failed(
            Failure::site(
                trouble.clone(),
                "correct the variables of the batch system's jobs, or the files that they lead to",
            )
            .kind("Config"),
        ),
    };
    for (name, value) in &features.values {
        let attribute = format!("MJF_{name}");
        outcome = match value.parse::<f64>() {
            Ok(number) if number.is_finite() => outcome
                .number(name, number, "", None)
                .attribute(&attribute, number),
            _ => outcome
                .text(name, value.clone())
                .attribute(&attribute, value.as_str()),
        };
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("hs06"), "412.5\n").unwrap();
        fs::write(folder.path().join("total_cpu"), "64").unwrap();
        fs::write(folder.path().join("shutdowntime"), "\n").unwrap();
        fs::write(folder.path().join("grace_secs"), "a\nb").unwrap();
        let values = directory(folder.path(), &MACHINE).unwrap();
        assert_eq!(
            values.into_iter().collect::<Vec<_>>(),
            [("hs06", "412.5".to_owned()), ("total_cpu", "64".to_owned())]
        );
        assert!(directory(&folder.path().join("no"), &MACHINE).is_err());
    }

    #[test]
    fn places() {
        assert!(matches!(
            source("/etc/machinefeatures"),
            Source::Directory("/etc/machinefeatures")
        ));
        assert!(matches!(source("file:///x"), Source::Directory("/x")));
        assert!(matches!(source("http://mjf.example/m"), Source::Web(_)));
        assert!(matches!(source("relative"), Source::Neither));
    }

    #[test]
    fn what_is_said_is_published_and_what_is_not_there_is_the_sites() {
        let mut features = Features {
            is_offered: true,
            ..Features::default()
        };
        features.values.insert("total_cpu", "64".into());
        features.values.insert("job_id", "12.server".into());
        let outcome = judge(&features);
        assert!(outcome.is_passed());
        assert_eq!(outcome.attributes.len(), 2);
        features
            .troubles
            .push("JOBFEATURES=/x cannot be read: y".into());
        assert!(judge(&features).failure().is_some());
        assert!(judge(&Features::default()).failure().is_none());
    }
}
