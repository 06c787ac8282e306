//! Verification of a proxy beside the shortest C program that does it with OpenSSL (`credential/benches/minimal.c`), in
//! process and as a process each, and beside `openssl verify`: the same files for all.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use credential::issue::{Authority, KeyType, ProxyIssuer, ProxyKind, ProxyOptions};
use credential::{TrustStore, VerifyOptions, verify_proxy};
use sailplane_site_tests::helper::Site;
use sailplane_site_tests::process;

use super::report::Comparison;
use super::stats::Sample;
use crate::console;

/// As many CAs as the IGTF distributes.
const AUTHORITIES: usize = 100;
/// Verifications of one measurement in process.
const BATCH: u32 = 50;
/// Seconds that certificates are valid.
const LIFETIME: i64 = 36_000;

/// Measurements of each kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Of [`BATCH`] verifications in process.
    pub(crate) batches: usize,
    /// Of one process.
    pub(crate) processes: usize,
}

/// What is verified.
struct Case {
    file: PathBuf,
    bundle: Vec<u8>,
}

struct Place {
    folder: tempfile::TempDir,
    certificates: PathBuf,
    minimal: PathBuf,
    now: i64,
}

pub(crate) fn compare(site: &Site, scale: Scale) -> Result<Vec<Comparison>> {
    let place = Place::prepare()?;
    let (proxy, delegated) = place.cases()?;
    console::line(&format!(
        "verification in process, {} times {BATCH}, taking turns",
        scale.batches
    ));
    let in_process = |what, case: &Case| -> Result<Comparison> {
        let (ours, theirs) = place.in_process(case, scale.batches)?;
        Ok(Comparison {
            what,
            peer: "minimal C program with OpenSSL",
            ours,
            theirs,
            more_is_better: false,
        })
    };
    let mut comparisons = vec![
        in_process("verification of a proxy, in process, µs", &proxy)?,
        in_process(
            "verification of a delegated proxy, in process, µs",
            &delegated,
        )?,
    ];
    console::line(&format!(
        "verification as a process, {} times, taking turns",
        scale.processes
    ));
    let verifier = site.switch.with_file_name("sailplane-verify");
    let [ours, minimal, openssl] = place.as_processes(&verifier, &proxy, scale.processes)?;
    for (peer, theirs) in [
        ("minimal C program with OpenSSL, a process each", minimal),
        ("`openssl verify`, a process each", openssl),
    ] {
        comparisons.push(Comparison {
            what: "verification of a proxy, a process each (`sailplane-verify`), ms",
            peer,
            ours: ours.clone(),
            theirs,
            more_is_better: false,
        });
    }
    Ok(comparisons)
}

impl Place {
    fn prepare() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let certificates = folder.path().join("certificates");
        fs::create_dir(&certificates)?;
        let minimal = folder.path().join("minimal");
        let source = process::source_tree().join("credential/benches/minimal.c");
        let mut compile = Command::new("cc");
        compile.args(["-O2", "-Wall", "-o"]).arg(&minimal);
        process::output(compile.arg(source).arg("-lcrypto")).context("compile minimal.c")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(Self {
            folder,
            certificates,
            minimal,
            now: i64::try_from(now)?,
        })
    }

    /// A user's proxy, and one that was delegated once more.
    fn cases(&self) -> Result<(Case, Case)> {
        let begin = self.now - 300;
        let authority = |n: usize, key| -> Result<Authority> {
            let name = format!("/C=XX/O=Authority {n}/CN=CA");
            let authority = Authority::new(&name, key, begin, LIFETIME)?;
            authority.write_to(&self.certificates)?;
            Ok(authority)
        };
        let key = KeyType::Rsa2048;
        let first = authority(0, key)?;
        // Nobody computes with the others.
        for n in 1..AUTHORITIES {
            authority(n, KeyType::P256)?;
        }
        let user = first.user("/C=XX/O=Authority 0/CN=Jane Doe", begin, LIFETIME)?;
        let options = |kind| ProxyOptions {
            kind,
            ..ProxyOptions::at(self.now)
        };
        let proxy = user.issuer()?.proxy(key, &options(ProxyKind::Inherit))?;
        let issuer = ProxyIssuer::from_pem(proxy.as_bytes())?;
        let delegated = issuer.proxy(key, &options(ProxyKind::Limited))?;
        let case = |name: &str, bundle: &[u8]| -> Result<Case> {
            let file = self.folder.path().join(name);
            fs::write(&file, bundle)?;
            Ok(Case {
                file,
                bundle: bundle.to_vec(),
            })
        };
        Ok((
            case("proxy", proxy.as_bytes())?,
            case("delegated", delegated.as_bytes())?,
        ))
    }

    /// Microseconds of one verification, ours and of the C program by its own clock. Nothing is kept from one to the
    /// next, on either side.
    fn in_process(&self, case: &Case, batches: usize) -> Result<(Sample, Sample)> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..batches {
            let began = Instant::now();
            for _ in 0..BATCH {
                let trust = TrustStore::load(&self.certificates);
                verify_proxy(
                    black_box(&case.bundle),
                    &trust,
                    &VerifyOptions::at(self.now),
                )?;
            }
            ours.push(began.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH));
            let text = process::output(&mut self.minimal(&case.file, BATCH))?;
            let nanoseconds: f64 = text.trim().parse().context("read the C program's time")?;
            theirs.push(nanoseconds / 1e3 / f64::from(BATCH));
        }
        Ok((Sample::new(ours), Sample::new(theirs)))
    }

    fn minimal(&self, file: &Path, count: u32) -> Command {
        let mut command = Command::new(&self.minimal);
        command.arg(file).arg(&self.certificates);
        command.args([self.now.to_string(), count.to_string()]);
        command
    }

    /// Milliseconds from before each program is started to its end: ours, the C program, `openssl verify`.
    fn as_processes(&self, verifier: &Path, case: &Case, count: usize) -> Result<[Sample; 3]> {
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..count {
            let mut ours = Command::new(verifier);
            ours.arg(&self.certificates)
                .stdin(fs::File::open(&case.file)?);
            let mut openssl = Command::new("openssl");
            openssl.args(["verify", "-allow_proxy_certs", "-CApath"]);
            openssl.arg(&self.certificates);
            openssl.arg("-untrusted").arg(&case.file).arg(&case.file);
            let commands = [ours, self.minimal(&case.file, 1), openssl];
            for (mut command, times) in commands.into_iter().zip(&mut times) {
                command.stdout(Stdio::null());
                let began = Instant::now();
                let status = command.status();
                times.push(began.elapsed().as_secs_f64() * 1e3);
                let status = status.with_context(|| format!("run {command:?}"))?;
                ensure!(status.success(), "{command:?} ends with {status}");
            }
        }
        Ok(times.map(Sample::new))
    }
}
