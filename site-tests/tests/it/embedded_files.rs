//! Files to and from the jobs of an embedded pool, with our own pilot and with HTCondor's startd as execute side.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::{Gid, Uid};
use sailplane_site_tests::{
    Ad, EmbeddedOptions, EmbeddedPool, EmbeddedStartd, Pilot, PilotOptions, ProxyKind, helper,
    process, say, wait,
};

use crate::faults::SmallDisk;

/// Size of the large file.
const LARGE: usize = 100 << 20;

/// Long enough for a hundred megabytes on a busy machine.
const LONG: Duration = Duration::from_secs(180);

/// The execute side of a test.
#[derive(Debug)]
enum Execute {
    Ours(#[expect(dead_code, reason = "it runs until it is dropped")] Box<Pilot>),
    Condors(#[expect(dead_code, reason = "it runs until it is dropped")] EmbeddedStartd),
}

/// A pool, an execute side, and a folder to submit from.
struct Scene {
    // Dropped before the pool.
    execute: Execute,
    pool: EmbeddedPool,
    /// Who submits.
    user: (Uid, Gid),
}

/// Plays a scene on our own pilot or on HTCondor's startd. Root runs a pool whose name begins with `root-`.
fn on_stage(
    name: &str,
    is_ours: bool,
    knobs: &[&str],
    play: impl FnOnce(&mut Scene) -> Result<()>,
) {
    if let Some(reason) = process::obstacle() {
        say(&format!("{name} not run: {reason}"));
        return;
    }
    let options = EmbeddedOptions {
        name: name.to_owned(),
        as_root: name.starts_with("root-"),
        knobs: knobs.iter().map(|knob| (*knob).to_owned()).collect(),
    };
    let played = EmbeddedPool::raise(&options).and_then(|pool| {
        let execute = if is_ours {
            let options = PilotOptions {
                slots: 3,
                ..PilotOptions::default()
            };
            let site = helper::site()?;
            let options = options
                .knob("SAILPLANE_IDENTITY_SWITCH", "NEVER")
                .knob("SAILPLANE_CA_DIRECTORY", site.ca.certificates().display());
            let mut pilot = Pilot::start(site, &pool, &options)?;
            pilot.wait_joined(&pool, 3)?;
            Execute::Ours(Box::new(pilot))
        } else {
            let startd = pool.condor_startd(&[])?;
            startd.wait_joined(&pool, 1)?;
            Execute::Condors(startd)
        };
        let user = pool.owner();
        let mut scene = Scene {
            execute,
            pool,
            user,
        };
        play(&mut scene).with_context(|| format!("the pool's log:\n{}", scene.pool.log()))
    });
    crate::judge(name, played);
}

/// A submission in a folder of its own.
struct Job<'a> {
    pool: &'a EmbeddedPool,
    user: (Uid, Gid),
    folder: PathBuf,
    lines: Vec<String>,
}

/// A submitted job.
struct Sent<'a> {
    pool: &'a EmbeddedPool,
    folder: PathBuf,
    cluster: String,
}

impl Scene {
    /// A job that runs a shell script.
    fn shell(&self, script: &str) -> Result<Job<'_>> {
        let job = Job {
            pool: &self.pool,
            user: self.user,
            folder: self.pool.folder("alice")?,
            lines: Vec::new(),
        };
        Ok(job
            .file("job.sh", format!("#!/bin/sh\n{script}\n").as_bytes())?
            .line("executable = job.sh"))
    }
}

impl<'a> Job<'a> {
    fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Result<Self> {
        let path = self.folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, content)?;
        process::output(
            Command::new("chown")
                .arg("-R")
                .arg(self.owner())
                .arg(&self.folder),
        )?;
        Ok(self)
    }

    fn owner(&self) -> String {
        let (uid, gid) = self.user;
        format!("{uid}:{gid}")
    }

    fn submit(self) -> Result<Sent<'a>> {
        let mut lines = vec![
            "output = out".to_owned(),
            "error = err".to_owned(),
            "log = log".to_owned(),
            "should_transfer_files = YES".to_owned(),
            "request_memory = 16".to_owned(),
            "request_disk = 1".to_owned(),
        ];
        lines.extend(self.lines);
        lines.push("queue".to_owned());
        fs::write(self.folder.join("job.sub"), lines.join("\n") + "\n")?;
        let mut submit = self.pool.command(["submit", "-terse", "job.sub"]);
        let (uid, gid) = self.user;
        submit
            .current_dir(&self.folder)
            .uid(uid.as_raw())
            .gid(gid.as_raw());
        let said = process::output(&mut submit)?;
        let cluster = said.split('.').next().unwrap_or_default().trim().to_owned();
        Ok(Sent {
            pool: self.pool,
            folder: self.folder,
            cluster,
        })
    }
}

impl Sent<'_> {
    /// The ad of the job when it has left the queue.
    fn wait_ended(&self, patience: Duration) -> Result<Ad> {
        let ended = wait::until("the job to end", patience, || {
            let ads = Ad::list(&self.pool.run(["history", &self.cluster, "-json"])?)?;
            if ads.is_empty() {
                let held = self.queued()?.filter(|ad| ad.int("JobStatus") == Some(5));
                ensure!(
                    held.is_none(),
                    "held: {}",
                    held.map(|ad| ad.text("HoldReason").to_owned())
                        .unwrap_or_default()
                );
            }
            Ok(ads.into_iter().next())
        });
        ended.with_context(|| {
            self.pool
                .run(["q", &self.cluster, "-long"])
                .unwrap_or_default()
        })
    }

    fn queued(&self) -> Result<Option<Ad>> {
        Ok(Ad::list(&self.pool.run(["q", &self.cluster, "-json"])?)?
            .into_iter()
            .next())
    }

    fn wait_status(&self, what: &str, status: i64) -> Result<Ad> {
        wait::until(what, LONG, || {
            Ok(self
                .queued()?
                .filter(|ad| ad.int("JobStatus") == Some(status)))
        })
    }

    /// Code, subcode and reason of the hold.
    fn wait_held(&self) -> Result<(Option<i64>, Option<i64>, String)> {
        let ad = self.wait_status("the job to be held", 5)?;
        let reason = ad.text("HoldReason").to_owned();
        Ok((
            ad.int("HoldReasonCode"),
            ad.int("HoldReasonSubCode"),
            reason,
        ))
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    fn exists(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }
}

/// What both execute sides must do alike.
fn files_in_and_out(scene: &Scene) -> Result<()> {
    large(scene)?;
    folders_and_names(scene)?;
    unasked(scene)?;
    missing(scene)?;
    no_room(scene)
}

/// Not compressible, different in every block, and cheap to make.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..LARGE / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect()
}

fn large(scene: &Scene) -> Result<()> {
    let bytes = noise();
    let sent = scene
        .shell("cp big.in big.out; stat -c %s big.in")?
        .file("big.in", &bytes)?
        .line("transfer_input_files = big.in")
        .line("transfer_output_files = big.out")
        .line("request_disk = 300 MB")
        .submit()?;
    let ad = sent.wait_ended(LONG)?;
    ensure!(sent.read("out")?.trim() == LARGE.to_string());
    ensure!(
        fs::read(sent.folder.join("big.out"))? == bytes,
        "the bytes came back changed"
    );
    let moved = |name: &str| ad.real(name).unwrap_or_default();
    ensure!(
        moved("BytesSent") >= LARGE as f64,
        "BytesSent is {}",
        moved("BytesSent")
    );
    ensure!(
        moved("BytesRecvd") >= LARGE as f64,
        "BytesRecvd is {}",
        moved("BytesRecvd")
    );
    Ok(())
}

fn folders_and_names(scene: &Scene) -> Result<()> {
    let script = "set -e\nmkdir -p results/deep\ncat > results/stdin.txt\ncp tree/a.txt results/deep/a.txt\n\
                  cat flat.txt tree/sub/b.txt loose.txt > summary.txt\nprintf x > results/empty; : > results/empty\n\
                  echo program > results/run; chmod 755 results/run\necho said\necho to-stderr >&2\necho left > not-asked-for";
    let sent = scene
        .shell(script)?
        .file("tree/a.txt", b"A\n")?
        .file("tree/sub/b.txt", b"B\n")?
        .file("flat.txt", b"F\n")?
        .file("content/loose.txt", b"L\n")?
        .file("words.txt", b"one\ntwo\n")?
        .file("there/keep", b"")?
        .line("input = words.txt")
        .line("transfer_input_files = tree, flat.txt, content/")
        .line("transfer_output_files = results, summary.txt")
        .line("transfer_output_remaps = \"summary.txt = there/renamed.txt\"")
        .submit()?;
    sent.wait_ended(LONG)?;
    ensure!(
        sent.read("out")? == "said\n" && sent.read("err")? == "to-stderr\n",
        "standard output and error"
    );
    ensure!(
        sent.read("results/stdin.txt")? == "one\ntwo\n",
        "standard input"
    );
    ensure!(
        sent.read("results/deep/a.txt")? == "A\n",
        "a file of an input folder"
    );
    ensure!(sent.read("results/empty")?.is_empty(), "an empty file");
    ensure!(
        sent.read("there/renamed.txt")? == "F\nB\nL\n",
        "the renamed file"
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(sent.folder.join("results/run"))?.permissions(),
    );
    ensure!(mode & 0o777 == 0o755, "{mode:o}");
    for name in [
        "summary.txt",
        "not-asked-for",
        "_condor_stdout",
        "_condor_stderr",
    ] {
        ensure!(!sent.exists(name), "{name} came too");
    }
    Ok(())
}

/// Without a list: what is new or changed, and nothing through a link that happens to be there.
fn unasked(scene: &Scene) -> Result<()> {
    let job = scene
        .shell("echo new > new.txt; echo more >> changed.txt; mkdir folder; echo x > folder/x")?
        .file("changed.txt", b"old\n")?
        .line("transfer_input_files = changed.txt");
    let sent = job.submit()?;
    sent.wait_ended(LONG)?;
    ensure!(sent.read("new.txt")? == "new\n" && sent.read("changed.txt")? == "old\nmore\n");
    ensure!(!sent.exists("folder") && !sent.exists(".job.ad"));

    let elsewhere = scene.pool.folder("alice")?;
    let job = scene.shell("echo evil > trap.txt")?;
    symlink(elsewhere.join("stolen"), job.folder.join("trap.txt"))?;
    let sent = job.submit()?;
    let (code, _, reason) = sent.wait_held()?;
    ensure!(
        code == Some(12) && reason.contains("trap.txt"),
        "{code:?} {reason}"
    );
    ensure!(
        !elsewhere.join("stolen").exists(),
        "a file went through a link"
    );
    Ok(())
}

fn missing(scene: &Scene) -> Result<()> {
    let input = scene
        .shell("true")?
        .file("here.txt", b"x")?
        .line("transfer_input_files = here.txt")
        .line("hold = true");
    let input = input.submit()?;
    fs::remove_file(input.folder.join("here.txt"))?;
    scene.pool.run(["release", &input.cluster])?;
    let output = scene
        .shell("echo fine")?
        .line("transfer_output_files = never.txt")
        .submit()?;
    let held = wait::until("the hold for the input", LONG, || {
        Ok(input
            .queued()?
            .filter(|ad| ad.text("HoldReason").contains("here.txt")))
    })?;
    let reason = held.text("HoldReason");
    ensure!(
        held.int("HoldReasonCode") == Some(13) && held.int("HoldReasonSubCode") == Some(2),
        "{:?} {:?} {reason}",
        held.int("HoldReasonCode"),
        held.int("HoldReasonSubCode")
    );
    ensure!(
        reason.starts_with("Transfer input files failure at access point ")
            && reason.contains("No such file"),
        "{reason}"
    );
    let (code, subcode, reason) = output.wait_held()?;
    ensure!(
        code == Some(12) && subcode == Some(2),
        "{code:?} {subcode:?} {reason}"
    );
    ensure!(
        reason.starts_with("Transfer output files failure at execution point ")
            && reason.contains("never.txt"),
        "{reason}"
    );
    let log = output.read("log")?;
    ensure!(log.contains("\n012 (") || log.starts_with("012 ("), "{log}");
    // The slot takes the next job.
    scene.shell("true")?.submit()?.wait_ended(LONG)?;
    Ok(())
}

/// The disk that the output should go to is full.
fn no_room(scene: &Scene) -> Result<()> {
    let job = scene
        .shell("mkdir full; head -c 20000000 /dev/zero > full/big")?
        .file("full/x", b"")?
        .line("transfer_output_files = full");
    let disk = job.folder.join("full");
    let small = SmallDisk::mount(&disk)?;
    let sent = job.submit()?;
    let (code, subcode, reason) = sent.wait_held()?;
    ensure!(
        code == Some(12) && subcode == Some(28),
        "{code:?} {subcode:?} {reason}"
    );
    ensure!(
        reason.starts_with("Transfer output files failure at access point ")
            && reason.contains("full/big"),
        "{reason}"
    );
    drop(small);
    scene.pool.run(["release", &sent.cluster])?;
    sent.wait_ended(LONG)?;
    ensure!(fs::metadata(disk.join("big"))?.len() == 20_000_000);
    Ok(())
}

/// An evicted job leaves what it has for its next run.
fn eviction(scene: &Scene) -> Result<()> {
    let script = "trap 'echo checkpoint > state.txt; exit 15' TERM\n\
                  [ -f state.txt ] && { cat state.txt; exit 0; }\n\
                  echo begun\ni=0\nwhile [ $i -lt 3000 ]; do sleep 0.1; i=$((i + 1)); done";
    let sent = scene
        .shell(script)?
        .line("when_to_transfer_output = ON_EXIT_OR_EVICT")
        .line("transfer_output_files = state.txt")
        .submit()?;
    sent.wait_status("the job to run", 2)?;
    // Its trap is set soon after the event of its beginning.
    wait::until("the job's beginning", LONG, || {
        Ok(sent.read("log")?.contains("001 (").then_some(()))
    })?;
    wait::pause(Duration::from_secs(2));
    let who = if matches!(scene.execute, Execute::Ours(_)) {
        "ours"
    } else {
        "HTCondor's"
    };
    scene
        .pool
        .tool(
            "admin",
            "condor_vacate_job",
            [
                "-name",
                &format!("schedd@{}", scene.pool.domain()),
                &sent.cluster,
            ],
        )
        .with_context(|| format!("vacate on {who}"))?;
    let ad = sent.wait_ended(LONG)?;
    ensure!(ad.int("ExitCode") == Some(0), "{ad:?}");
    ensure!(
        sent.read("out")? == "checkpoint\n",
        "{:?}",
        sent.read("out")?
    );
    ensure!(sent.read("log")?.contains("004 ("), "{}", sent.read("log")?);
    let spool = scene.pool.dir().join("spool").join(&sent.cluster);
    wait::until("the spool folder to go", wait::PATIENCE, || {
        Ok((!spool.exists()).then_some(()))
    })?;
    Ok(())
}

/// What a job sees of its proxy, as text of `openssl x509`, and its mode.
fn proxy_job(scene: &Scene) -> Result<(String, String, Ad)> {
    let job = scene.shell(
        "stat -c %a \"$X509_USER_PROXY\"\nopenssl x509 -noout -text -in \"$X509_USER_PROXY\"\ngrep -c BEGIN \"$X509_USER_PROXY\"",
    )?;
    let proxy = job.folder.join("proxy.pem");
    helper::site()?
        .ca
        .proxy("alice", ProxyKind::Minutes(48 * 60), &proxy)?;
    process::output(Command::new("chown").arg(job.owner()).arg(&proxy))?;
    let source = process::output(
        Command::new("openssl")
            .args(["x509", "-noout", "-serial", "-in"])
            .arg(&proxy),
    )?;
    let sent = job.line("x509userproxy = proxy.pem").submit()?;
    let ad = sent.wait_ended(LONG)?;
    Ok((sent.read("out")?, source, ad))
}

/// Whether a text of `openssl x509` is that of a limited proxy.
fn is_limited(text: &str) -> bool {
    text.contains("1.3.6.1.4.1.3536.1.1.1.9")
}

/// The serial number in a text of `openssl x509`, as hexadecimal digits.
fn serial_of(text: &str) -> String {
    let mut lines = text
        .lines()
        .skip_while(|line| !line.contains("Serial Number:"));
    let first = lines.next().unwrap_or_default();
    // `Serial Number: 12345 (0x3039)`, or on a line of its own in pairs of digits.
    match first.split_once("(0x") {
        Some((_, number)) => {
            let digits = number.trim_end_matches(')');
            if digits.len() % 2 == 1 {
                format!("0{digits}")
            } else {
                digits.to_owned()
            }
        }
        None => lines.next().unwrap_or_default().trim().replace(':', ""),
    }
}

fn copied(scene: &Scene) -> Result<()> {
    let (seen, source, _) = proxy_job(scene)?;
    ensure!(seen.starts_with("600\n"), "{seen}");
    ensure!(!is_limited(&seen), "a copy is what it was: {seen}");
    // `serial=0123AB` of the source, and the same number in the text of what arrived.
    let serial = source
        .trim()
        .rsplit('=')
        .next()
        .unwrap_or_default()
        .to_lowercase();
    ensure!(
        !serial.is_empty() && serial == serial_of(&seen),
        "{source} {seen}"
    );
    // Proxy, key and the user's certificate.
    ensure!(seen.trim_end().ends_with("\n3"), "{seen}");
    Ok(())
}

fn delegated(scene: &Scene) -> Result<()> {
    let (seen, ..) = proxy_job(scene)?;
    ensure!(seen.starts_with("600\n"), "{seen}");
    ensure!(is_limited(&seen), "{seen}");
    // One certificate more than the user's own proxy.
    ensure!(seen.trim_end().ends_with("\n4"), "{seen}");
    Ok(())
}

fn delegated_in_full(scene: &Scene) -> Result<()> {
    let (seen, ..) = proxy_job(scene)?;
    ensure!(!is_limited(&seen) && seen.contains("Inherit all"), "{seen}");
    ensure!(seen.trim_end().ends_with("\n4"), "{seen}");
    Ok(())
}

/// A file of the owner alone, in a folder of the owner alone: the pool must be the owner to read it.
fn private(folder: &Path) -> Result<()> {
    process::output(Command::new("chmod").arg("700").arg(folder))?;
    process::output(
        Command::new("chmod")
            .args(["600"])
            .arg(folder.join("secret")),
    )
    .map(drop)
}

/// Two users of a pool that root runs: each has their files, and nobody else's.
fn two_users(scene: &mut Scene) -> Result<()> {
    let one = process::ensure_account("sailplane-user1")?;
    let other = process::ensure_account("sailplane-user2")?;
    scene.user = one;
    of_the_owner_alone(scene)?;
    eviction(scene)?;
    let victim = scene.shell("true")?.file("secret", b"s\n")?;
    private(&victim.folder)?;
    let secret = victim.folder.join("secret");
    scene.user = other;
    // What was a file of their own at submission is a link to the other's when it is sent.
    let thief = scene
        .shell("cat own")?
        .file("own", b"o\n")?
        .line("transfer_input_files = own")
        .line("hold = true")
        .submit()?;
    fs::remove_file(thief.folder.join("own"))?;
    symlink(&secret, thief.folder.join("own"))?;
    scene.pool.run(["release", &thief.cluster])?;
    let held = wait::until("the hold for the link", LONG, || {
        let ad = thief.queued()?;
        Ok(ad.filter(|ad| ad.text("HoldReason").contains("Permission denied")))
    })?;
    ensure!(
        held.int("HoldReasonCode") == Some(13) && held.int("HoldReasonSubCode") == Some(13),
        "{held:?}"
    );
    let vandal = scene
        .shell("echo evil > made")?
        .line("transfer_output_files = made")
        .line(&format!(
            "transfer_output_remaps = \"made = {}\"",
            secret.display()
        ))
        .submit()?;
    let (code, subcode, reason) = vandal.wait_held()?;
    ensure!(
        code == Some(12) && subcode == Some(13),
        "{code:?} {subcode:?} {reason}"
    );
    ensure!(fs::read_to_string(&secret)? == "s\n");
    Ok(())
}

fn of_the_owner_alone(scene: &Scene) -> Result<()> {
    let job = scene
        .shell("cat secret > answer")?
        .file("secret", b"s\n")?
        .line("transfer_input_files = secret");
    private(&job.folder)?;
    let sent = job.submit()?;
    sent.wait_ended(LONG)?;
    ensure!(sent.read("answer")? == "s\n");
    Ok(())
}

#[test]
fn users_of_a_pool_of_root_have_their_own_files_only() {
    on_stage("root-files", true, &[], two_users);
}

#[test]
fn files_with_our_pilot() {
    on_stage("files-ours", true, &[], |scene| {
        files_in_and_out(scene)?;
        of_the_owner_alone(scene)?;
        eviction(scene)?;
        delegated(scene)
    });
}

#[test]
fn files_with_htcondors_startd() {
    // HTCondor 23.9.6 cannot receive a delegated proxy with the OpenSSL of its own distribution.
    on_stage(
        "files-condor",
        false,
        &["DELEGATE_JOB_GSI_CREDENTIALS = false"],
        |scene| {
            files_in_and_out(scene)?;
            eviction(scene)?;
            copied(scene)
        },
    );
}

#[test]
fn a_proxy_is_copied_or_delegated_in_full_where_that_is_wanted() {
    on_stage(
        "files-copy",
        true,
        &["DELEGATE_JOB_GSI_CREDENTIALS = false"],
        |scene| copied(scene),
    );
    on_stage(
        "files-full",
        true,
        &["DELEGATE_FULL_JOB_GSI_CREDENTIALS = true"],
        |scene| delegated_in_full(scene),
    );
}
