//! Pilots and their tokens on real pools: asked for at the first start, chosen among several, renewed during a claim.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sailplane_site_tests::{
    JobState, Pilot, Pool, PoolOptions, Submission, helper, process, say, wait,
};

use crate::joining::{CONNECTED, Corner, claim, patient_job, pilot, said, wait_life, wait_said};
use crate::methods::run;

const ASKED: &str = "this pilot has asked the pool for a token";

/// The number of the last request, as the pilot's log has it.
fn request_id(pilot: &Pilot) -> Result<String> {
    let log = pilot.log();
    let (_, rest) = log
        .rsplit_once("-reqid ")
        .context("no request in the log")?;
    Ok(rest.chars().take_while(char::is_ascii_digit).collect())
}

#[test]
fn a_pilot_without_a_token_asks_for_one_and_joins_when_it_is_approved() {
    run("token request", |proofs| {
        let site = helper::bare()?;
        let pool = proofs.pool_with("request", "IDTOKENS,SSL", [])?;
        proofs.give_to(&pool)?;
        let corner = Corner::make()?;
        let authority = corner.put("ca.pem", fs::read(proofs.path("ca.pem"))?)?;
        let knobs = [("AUTH_SSL_CLIENT_CAFILE", authority.display().to_string())];
        let mut guest = pilot(site, &pool, &corner, &knobs)?;
        wait_said(&mut guest, ASKED, 0)?;
        // A collector that is started again knows no requests: the pilot asks anew.
        pool.signal("condor_collector", Signal::SIGKILL)?;
        wait_said(&mut guest, ASKED, 1)?;
        let id = request_id(&guest)?;
        let pending = pool.tool("admin", "condor_token_request_list", ["-type", "COLLECTOR"])?;
        let identity = format!("condor@{}", pool.trust_domain());
        ensure!(
            pending.contains(&id)
                && pending.contains(&identity)
                && pending.contains("ADVERTISE_STARTD"),
            "{pending}"
        );
        ensure!(guest.slots(&pool)?.is_empty(), "joined without a token");
        let mut approve = pool.tool_command(
            "admin",
            "sh",
            [
                "-c",
                &format!("echo yes | condor_token_request_approve -type COLLECTOR -reqid {id}"),
            ],
        );
        process::output(&mut approve)?;
        guest.wait_joined(&pool, 1)?;
        let tokens: Vec<_> =
            fs::read_dir(corner.path("tokens"))?.collect::<std::io::Result<_>>()?;
        ensure!(tokens.len() == 1, "{tokens:?}");
        let path = corner
            .path("tokens")
            .join(format!("requested-{}", pool.trust_domain()));
        ensure!(
            fs::metadata(&path)?.mode() & 0o7777 == 0o600,
            "mode of {}",
            path.display()
        );
        ensure!(
            fs::metadata(corner.path("tokens"))?.mode() & 0o7777 == 0o700,
            "mode of the folder"
        );
        let submitted = Submission::shell("alice", "echo served").submit(&pool, &site.ca)?;
        submitted.wait_completed(&pool, wait::PATIENCE)?;
        ensure!(submitted.output()? == "served\n", "{}", submitted.output()?);
        // The token itself is in no log.
        let token = fs::read_to_string(&path)?;
        let signature = token
            .trim()
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .to_owned();
        ensure!(
            signature.len() > 20 && !guest.log().contains(&signature),
            "the token is in the log"
        );
        drop(guest);
        // The next start has a token and asks for none.
        let mut second = pilot(site, &pool, &corner, &knobs)?;
        second.wait_joined(&pool, 1)?;
        ensure!(said(&second, ASKED) == 0, "{}", second.log());
        Ok(())
    });
}

#[test]
fn a_pool_that_cannot_prove_itself_is_asked_for_nothing() {
    run("token request, foreign collector", |proofs| {
        let site = helper::bare()?;
        let pool = proofs.pool_with("foreign", "IDTOKENS,SSL", [])?;
        proofs.give_to(&pool)?;
        let corner = Corner::make()?;
        let mut guest = pilot(site, &pool, &corner, &[])?;
        wait_said(&mut guest, "no token could be asked for", 0)?;
        ensure!(
            guest
                .log()
                .contains("the certificate of the peer is not accepted"),
            "{}",
            guest.log()
        );
        ensure!(said(&guest, ASKED) == 0, "{}", guest.log());
        let pending = pool.tool("admin", "condor_token_request_list", ["-type", "COLLECTOR"])?;
        ensure!(!pending.contains("condor@"), "{pending}");
        Ok(())
    });
}

#[test]
fn each_collector_gets_the_token_that_fits_it() {
    if let Some(reason) = process::obstacle() {
        say(&format!("several collectors not run: {reason}"));
        return;
    }
    crate::judge("several collectors", several_collectors());
}

fn several_collectors() -> Result<()> {
    let site = helper::bare()?;
    let raise = |name: &str| {
        Pool::raise(&PoolOptions {
            name: name.to_owned(),
            ..PoolOptions::default()
        })
    };
    let (one, two) = (raise("trust")?, raise("trust")?);
    let corner = Corner::make()?;
    corner.folder("tokens")?;
    let token = |pool: &Pool| fs::read_to_string(pool.pilot_token());
    // What does not fit stands before what does: over, of nobody, of a key that the pool has not.
    let over = one.short_token(1)?;
    let mut keyless = token(&one)?;
    keyless.insert_str(0, "# not a token below\nnonsense\n");
    corner.put("tokens/a-over", over)?;
    corner.put("tokens/b-mixed", format!("{keyless}\n{}", token(&two)?))?;
    wait::pause(Duration::from_secs(2));
    let both = format!("{}, {}", one.collector_host(), two.collector_host());
    let mut guest = pilot(site, &one, &corner, &[("COLLECTOR_HOST", both.clone())])?;
    guest.wait_joined(&one, 1)?;
    guest.wait_joined(&two, 1)?;
    for pool in [&one, &two] {
        let submitted = Submission::shell("alice", "echo here").submit(pool, &site.ca)?;
        submitted.wait_completed(pool, wait::PATIENCE)?;
    }
    drop(guest);

    // One collector's token alone: the other link says which tokens it looked at, and why none fits.
    fs::remove_file(corner.path("tokens/b-mixed"))?;
    corner.put("tokens/c-two", token(&two)?)?;
    let mut guest = pilot(
        site,
        &one,
        &corner,
        &[
            ("COLLECTOR_HOST", both),
            ("SAILPLANE_TOKEN_REQUEST", "false".to_owned()),
        ],
    )?;
    guest.wait_joined(&two, 1)?;
    wait_said(&mut guest, "no link to the collector", 0)?;
    let log = guest.log();
    let line = log
        .lines()
        .find(|line| line.contains("no link to the collector") && line.contains("c-two"))
        .with_context(|| format!("no reason in\n{log}"))?;
    for part in [
        "a-over line 1",
        "expired at unix time",
        &format!("issued by {}", two.trust_domain()),
        &format!("trust domain {}", one.trust_domain()),
    ] {
        ensure!(line.contains(part), "{part:?} is not in {line}");
    }
    // The missing one arrives: nobody has to start the pilot again.
    corner.put("tokens/d-one", token(&one)?)?;
    guest.wait_joined(&one, 1)?;
    Ok(())
}

#[test]
fn a_token_that_is_replaced_during_a_claim_prolongs_it_and_loses_nothing() {
    if let Some(reason) = process::obstacle() {
        say(&format!("replaced token not run: {reason}"));
        return;
    }
    crate::judge("replaced token", replaced_token());
}

fn replaced_token() -> Result<()> {
    let site = helper::bare()?;
    let pool = Pool::raise(&PoolOptions {
        name: "replaced".to_owned(),
        ..PoolOptions::default()
    })?;
    let corner = Corner::make()?;
    corner.folder("tokens")?;
    corner.put("tokens/pool", pool.short_token(150)?)?;
    let knobs = [("MachineMaxVacateTime", "5".to_owned())];
    let mut guest = pilot(site, &pool, &corner, &knobs)?;
    guest.wait_joined(&pool, 1)?;
    wait_life(&guest, &pool, 1..=150)?;
    let submitted = patient_job(&pool, site, 25)?;
    let before = claim(&guest, &pool)?;
    // Over before it could be used: the link stays, and so does the end.
    corner.put("tokens/pool", "rubbish")?;
    wait_said(&mut guest, "the link stays as it is", 0)?;
    ensure!(said(&guest, CONNECTED) == 1, "{}", guest.log());
    wait_life(&guest, &pool, 1..=150)?;
    corner.put("tokens/pool", pool.short_token(5000)?)?;
    wait_said(&mut guest, CONNECTED, 1)?;
    wait_life(&guest, &pool, 151..=5000)?;
    ensure!(claim(&guest, &pool)? == before, "the claim was lost");
    // A collector that comes back takes the new one.
    pool.signal("condor_collector", Signal::SIGKILL)?;
    submitted.wait_completed(&pool, wait::PATIENCE)?;
    guest.wait_joined(&pool, 1)?;
    let next = Submission::shell("alice", "echo next").submit(&pool, &site.ca)?;
    pool.wait_for(next.job()?, JobState::Completed, wait::PATIENCE)?;
    ensure!(said(&guest, "job ended") == 2, "{}", guest.log());
    Ok(())
}
