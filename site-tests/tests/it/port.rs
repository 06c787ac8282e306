//! Peers of the command port that have no claim: a real HTCondor's tools and schedd prove their names to the pilot.

use std::fs;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use sailplane_site_tests::{Pilot, Pool, helper, wait};

use crate::joining::{Corner, pilot, said};
use crate::methods::{Proofs, run};

/// What the pilot makes of certificates.
const MAP: &str = "SSL ^/O=Sailplane/CN=(alice|node)$ \\1@certificates\n";

/// A pilot that takes certificates and tokens of the pool at its port.
fn open_pilot(
    proofs: &Proofs,
    site: &helper::Site,
    pool: &Pool,
    corner: &Corner,
    lists: &[(&'static str, String)],
) -> Result<Pilot> {
    let file = |name: &str| corner.put(name, fs::read(proofs.path(name))?);
    let token = fs::read(pool.pilot_token())?;
    corner.folder("tokens")?;
    corner.put("tokens/pool", token)?;
    let key = fs::read(pool.dir().join("keys/POOL"))?;
    let mut knobs = vec![
        ("NETWORK_HOSTNAME", "localhost".to_owned()),
        ("TRUST_DOMAIN", pool.trust_domain().to_owned()),
        ("UID_DOMAIN", pool.trust_domain().to_owned()),
        (
            "SEC_TOKEN_POOL_SIGNING_KEY_FILE",
            corner.put("POOL", key)?.display().to_string(),
        ),
        (
            "SEC_DEFAULT_AUTHENTICATION_METHODS",
            "SSL, IDTOKENS".to_owned(),
        ),
        ("SEC_CLIENT_AUTHENTICATION_METHODS", "IDTOKENS".to_owned()),
        (
            "AUTH_SSL_SERVER_CERTFILE",
            file("host.pem")?.display().to_string(),
        ),
        (
            "AUTH_SSL_SERVER_KEYFILE",
            file("host.key")?.display().to_string(),
        ),
        (
            "AUTH_SSL_SERVER_CAFILE",
            file("ca.pem")?.display().to_string(),
        ),
        ("AUTH_SSL_ALLOW_CLIENT_PROXY", "True".to_owned()),
        (
            "CERTIFICATE_MAPFILE",
            corner.put("map", MAP)?.display().to_string(),
        ),
    ];
    knobs.extend_from_slice(lists);
    let mut pilot = pilot(site, pool, corner, &knobs)?;
    pilot.wait_joined(pool, 1)?;
    Ok(pilot)
}

/// Where a pilot's command port is.
fn sinful(pilot: &Pilot, pool: &Pool) -> Result<String> {
    let slots = pilot.slots(pool)?;
    let address = slots
        .first()
        .context("a slot")?
        .text("MyAddress")
        .to_owned();
    Ok(address)
}

/// A tool as the pool's admin, who shows a certificate, or a token if there is none.
fn ask(
    proofs: &Proofs,
    pool: &Pool,
    certificate: Option<(&str, &str)>,
    words: &[&str],
) -> Result<Output> {
    let (tool, arguments) = words.split_first().context("a tool")?;
    let mut command: Command = pool.tool_command("admin", tool, arguments);
    match certificate {
        Some((certificate, key)) => {
            command.env("_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS", "SSL");
            command.env("_CONDOR_AUTH_SSL_CLIENT_CERTFILE", proofs.path(certificate));
            command.env("_CONDOR_AUTH_SSL_CLIENT_KEYFILE", proofs.path(key));
        }
        None => {
            command.env("_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS", "IDTOKENS");
        }
    }
    Ok(command.output()?)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_real_pools_tools_prove_themselves_to_the_pilot() {
    run("tools at the pilot's port", |proofs| {
        let site = helper::bare()?;
        proofs.certify("node", "ca", "/O=Sailplane/CN=node", "")?;
        let pool = proofs.pool_with("port", "SSL,IDTOKENS", [])?;
        let corner = Corner::make()?;
        let domain = pool.trust_domain();
        let lists = [
            ("ALLOW_READ", format!("alice@certificates, *@{domain}")),
            (
                "ALLOW_ADMINISTRATOR",
                format!("admin@{domain}, root@{domain}"),
            ),
        ];
        let mut guest = open_pilot(proofs, site, &pool, &corner, &lists)?;
        proofs.give_to(&pool)?;
        let address = sinful(&guest, &pool)?;
        let ping = |certificate, level: &str| {
            let words = [
                "condor_ping",
                "-addr",
                &address,
                "-type",
                "STARTD",
                "-table",
                level,
            ];
            ask(proofs, &pool, certificate, &words)
        };
        // By certificate and by proxy the same person, who may look and no more.
        for proof in [("alice.pem", "alice.key"), ("bundle.pem", "proxy.key")] {
            let told = text(&ping(Some(proof), "READ")?);
            ensure!(
                told.contains("SSL")
                    && told.contains("ALLOW")
                    && told.contains("alice@certificates"),
                "{told}\n{}",
                guest.log()
            );
            ensure!(!ping(Some(proof), "ADMINISTRATOR")?.status.success());
        }
        // Known, and on no list; of an authority that is not ours; and a token.
        for proof in [("node.pem", "node.key"), ("stranger.pem", "stranger.key")] {
            ensure!(!ping(Some(proof), "READ")?.status.success(), "{proof:?}");
        }
        let told = text(&ping(None, "READ")?);
        ensure!(
            told.contains("TOKEN") && told.contains("ALLOW"),
            "{told}\n{}",
            guest.log()
        );
        ensure!(
            guest
                .log()
                .contains("refused: node@certificates may not run"),
            "{}",
            guest.log()
        );

        let name = guest.name().to_owned();
        let whole = format!("slot1@{name}@localhost");
        let direct = [
            "condor_status",
            "-direct",
            &whole,
            "-af",
            "Name",
            "SailplaneJobCredential",
        ];
        let told = text(&ask(
            proofs,
            &pool,
            Some(("alice.pem", "alice.key")),
            &direct,
        )?);
        ensure!(told.contains(&name), "{told}\n{}", guest.log());

        // Alice may not drain it, and nobody for a while only.
        let drain = [
            "condor_drain",
            "-exit-on-completion",
            "-reason",
            "broken fan",
            &whole,
        ];
        let told = ask(proofs, &pool, Some(("alice.pem", "alice.key")), &drain)?;
        ensure!(!told.status.success(), "{}", text(&told));
        let told = ask(proofs, &pool, None, &["condor_drain", &whole])?;
        ensure!(
            !told.status.success() && text(&told).contains("-exit-on-completion"),
            "{}\n{}",
            text(&told),
            guest.log()
        );
        ensure!(guest.is_running()?);
        let told = ask(proofs, &pool, None, &drain)?;
        ensure!(told.status.success(), "{}\n{}", text(&told), guest.log());
        let ended = guest.wait_end(wait::PATIENCE)?;
        ensure!(ended.success(), "{ended}");
        ensure!(said(&guest, "drains it: broken fan") > 0, "{}", guest.log());
        Ok(())
    });
}
