//! Pilots that join a real pool by SSL and by SCITOKENS, and go on with credentials that are renewed under them.

use std::fs::{self, Permissions};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::sys::signal::Signal;
use sailplane_site_tests::helper::{self, Site};
use sailplane_site_tests::{
    PILOT_ACCOUNT, Pilot, PilotOptions, Pool, Submission, Submitted, process, wait,
};
use tempfile::TempDir;

use crate::methods::{Proofs, run};

/// What the pool makes of certificates and of SciTokens.
const MAP: &str = "SSL ^/O=Sailplane/CN=(alice|node)$ pilot\n\
                   SCITOKENS ^https://issuer.sailplane.test,robot$ pilot\n";

/// A folder of the pilot's account, for its credentials.
pub(crate) struct Corner {
    folder: TempDir,
}

impl Corner {
    pub(crate) fn make() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("pilot-")
            .tempdir_in(helper::state())?;
        process::give(folder.path(), process::ensure_account(PILOT_ACCOUNT)?)?;
        Ok(Self { folder })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a file into its place at once, for the pilot's account alone.
    pub(crate) fn put(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let (new, path) = (self.path(".new"), self.path(name));
        fs::write(&new, content)?;
        fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        process::give(&new, process::ensure_account(PILOT_ACCOUNT)?)?;
        fs::rename(new, &path)?;
        Ok(path)
    }

    /// A folder in it.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir(&path)?;
        process::give(&path, process::ensure_account(PILOT_ACCOUNT)?)?;
        Ok(path)
    }
}

/// A pilot without our helper that has only what `knobs` give it to prove itself with.
pub(crate) fn pilot(
    site: &Site,
    pool: &Pool,
    corner: &Corner,
    knobs: &[(&str, String)],
) -> Result<Pilot> {
    let (_, port) = pool.collector_host().rsplit_once(':').context("a port")?;
    let mut options = PilotOptions {
        slots: 1,
        ..PilotOptions::default()
    }
    // The name that the certificate is for.
    .knob("COLLECTOR_HOST", format!("localhost:{port}"))
    .knob("SEC_TOKEN_DIRECTORY", corner.path("tokens").display())
    .knob("SEC_TOKEN_SYSTEM_DIRECTORY", "/nonexistent")
    .knob("SAILPLANE_IDENTITY_SWITCH", "NEVER")
    .knob("SAILPLANE_JOB_AGENT", helper::bare_agent().display());
    for (knob, value) in knobs {
        options.knobs.retain(|(known, _)| known != knob);
        options = options.knob(knob, value);
    }
    Pilot::start(site, pool, &options)
}

/// Waits until the pilot's log has `text` more than `before` times, and returns how often then.
pub(crate) fn wait_said(pilot: &mut Pilot, text: &str, before: usize) -> Result<usize> {
    let found = wait::until(
        &format!("the pilot to say {text:?} (after {before})"),
        Duration::from_secs(90),
        || {
            ensure!(pilot.is_running()?, "the pilot has ended");
            Ok(Some(said(pilot, text)).filter(|count| *count > before))
        },
    );
    found.with_context(|| format!("pilot's log:\n{}", pilot.log()))
}

pub(crate) fn said(pilot: &Pilot, text: &str) -> usize {
    pilot.log().matches(text).count()
}

pub(crate) const CONNECTED: &str = "connected to the collector";

/// A job that runs for so long.
pub(crate) fn patient_job(pool: &Pool, site: &Site, seconds: u32) -> Result<Submitted> {
    let script = format!("sleep {seconds}; echo lived");
    let submitted = Submission::shell("alice", &script).submit(pool, &site.ca)?;
    submitted.wait_running()?;
    Ok(submitted)
}

/// Waits until the slot ad says that the pilot lives for so many seconds.
pub(crate) fn wait_life(pilot: &Pilot, pool: &Pool, seconds: RangeInclusive<i64>) -> Result<()> {
    wait::until(
        &format!("TimeToLive within {seconds:?}"),
        wait::PATIENCE,
        || {
            let slots = pilot.slots(pool)?;
            let life = slots.first().and_then(|ad| ad.int("TimeToLive"));
            Ok(life.filter(|life| seconds.contains(life)).map(drop))
        },
    )
}

/// The claim of the pilot's slot; a claim that is lost and made anew has another.
pub(crate) fn claim(pilot: &Pilot, pool: &Pool) -> Result<String> {
    wait::until("a claimed slot", wait::PATIENCE, || {
        let slots = pilot.slots(pool).unwrap_or_default();
        let claim = slots.first().map(|ad| ad.text("PublicClaimId").to_owned());
        Ok(claim.filter(|claim| !claim.is_empty()))
    })
}

pub(crate) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[test]
fn a_pilot_joins_by_ssl_and_goes_on_with_a_renewed_proxy() {
    run("joining by SSL", |proofs| {
        let site = helper::bare()?;
        fs::write(proofs.path("map"), MAP)?;
        proofs.certify("node", "ca", "/O=Sailplane/CN=node", "")?;
        let pool = proofs.pool_with("sslpilot", "SSL,IDTOKENS", [])?;
        proofs.renew("renewed-bundle.pem")?;
        proofs.give_to(&pool)?;
        let corner = Corner::make()?;
        corner.put("proxy.pem", fs::read(proofs.path("bundle.pem"))?)?;
        let authority = corner.put("ca.pem", fs::read(proofs.path("ca.pem"))?)?;
        let ssl = |certificate: &Path| {
            vec![
                ("SEC_CLIENT_AUTHENTICATION_METHODS", "SSL".to_owned()),
                (
                    "AUTH_SSL_CLIENT_CERTFILE",
                    certificate.display().to_string(),
                ),
                ("AUTH_SSL_CLIENT_CAFILE", authority.display().to_string()),
            ]
        };
        let mut guest = pilot(site, &pool, &corner, &ssl(&corner.path("proxy.pem")))?;
        guest.wait_joined(&pool, 1)?;
        ensure!(guest.log().contains("method=\"SSL\""), "{}", guest.log());
        let submitted = patient_job(&pool, site, 30)?;
        let before = claim(&guest, &pool)?;

        // What does not work changes nothing.
        corner.put("proxy.pem", "half a pro")?;
        wait_said(&mut guest, "the link stays as it is", 0)?;
        ensure!(said(&guest, CONNECTED) == 1, "{}", guest.log());
        // What does is used at once.
        corner.put("proxy.pem", fs::read(proofs.path("renewed-bundle.pem"))?)?;
        let connections = wait_said(&mut guest, CONNECTED, 1)?;
        // A collector that is killed comes back, and the pilot with the renewed proxy.
        pool.signal("condor_collector", Signal::SIGKILL)?;
        wait_said(&mut guest, CONNECTED, connections)?;
        ensure!(claim(&guest, &pool)? == before, "the claim was lost");
        submitted.wait_completed(&pool, wait::PATIENCE)?;
        ensure!(submitted.output()? == "lived\n", "{}", submitted.output()?);
        ensure!(
            guest.log().matches("job accepted").count() == 1,
            "{}",
            guest.log()
        );
        drop(guest);

        // A host's certificate, its key beside it, and authorities in a directory.
        let directory = corner.folder("certificates")?;
        fs::copy(&authority, directory.join("ca.pem"))?;
        fs::set_permissions(directory.join("ca.pem"), Permissions::from_mode(0o644))?;
        process::output(Command::new("openssl").arg("rehash").arg(&directory))?;
        let certificate = corner.put("node.pem", fs::read(proofs.path("node.pem"))?)?;
        let key = corner.put("node.key", fs::read(proofs.path("node.key"))?)?;
        let mut knobs = ssl(&certificate);
        knobs.pop();
        knobs.push(("AUTH_SSL_CLIENT_KEYFILE", key.display().to_string()));
        knobs.push(("AUTH_SSL_CLIENT_CADIR", directory.display().to_string()));
        let mut host = pilot(site, &pool, &corner, &knobs)?;
        host.wait_joined(&pool, 1)?;
        drop(host);

        // A collector that cannot prove itself gets nothing.
        knobs.pop();
        let mut wary = pilot(site, &pool, &corner, &knobs)?;
        wait_said(&mut wary, "the certificate of the peer is not accepted", 0)?;
        ensure!(said(&wary, CONNECTED) == 0, "{}", wary.log());
        Ok(())
    });
}

/// A revocation list of the authority, with the pool's certificate on it or nothing.
fn revocation_list(proofs: &Proofs, revokes_pool: bool) -> Result<Vec<u8>> {
    let settings = "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\ndefault_md = sha256\n\
                    default_crl_days = 3\ncertificate = ca.pem\nprivate_key = ca.key\n";
    fs::write(proofs.path("ca.cnf"), settings)?;
    fs::write(proofs.path("index.txt"), "")?;
    if revokes_pool {
        proofs.openssl(&["ca", "-config", "ca.cnf", "-revoke", "host.pem"])?;
    }
    proofs.openssl(&["ca", "-config", "ca.cnf", "-gencrl", "-out", "list.pem"])?;
    Ok(fs::read(proofs.path("list.pem"))?)
}

#[test]
fn a_collector_is_known_by_its_authority_and_its_lists_or_by_known_hosts() {
    run("knowing a collector", |proofs| {
        let site = helper::bare()?;
        fs::write(proofs.path("map"), MAP)?;
        let pool = proofs.pool_with("knownpool", "SSL,IDTOKENS", [])?;
        proofs.give_to(&pool)?;
        let corner = Corner::make()?;
        let proxy = corner.put("proxy.pem", fs::read(proofs.path("bundle.pem"))?)?;
        let authority = corner.put("ca.pem", fs::read(proofs.path("ca.pem"))?)?;
        let directory = corner.folder("certificates")?;
        let hash = process::output(
            Command::new("openssl")
                .args(["x509", "-noout", "-hash", "-in"])
                .arg(&authority),
        )?;
        let hash = hash.trim();
        fs::copy(&authority, directory.join(format!("{hash}.0")))?;
        let list = directory.join(format!("{hash}.r0"));
        fs::write(&list, revocation_list(proofs, false)?)?;
        for path in [directory.join(format!("{hash}.0")), list.clone()] {
            fs::set_permissions(path, Permissions::from_mode(0o644))?;
        }
        let knobs = |more: &[(&'static str, String)]| {
            let mut knobs = vec![
                ("SEC_CLIENT_AUTHENTICATION_METHODS", "SSL".to_owned()),
                ("AUTH_SSL_CLIENT_CERTFILE", proxy.display().to_string()),
                ("AUTH_SSL_CLIENT_USE_DEFAULT_CAS", "False".to_owned()),
            ];
            knobs.extend_from_slice(more);
            knobs
        };
        let by_directory = knobs(&[("AUTH_SSL_CLIENT_CADIR", directory.display().to_string())]);
        let mut guest = pilot(site, &pool, &corner, &by_directory)?;
        guest.wait_joined(&pool, 1)?;
        drop(guest);
        fs::write(&list, revocation_list(proofs, true)?)?;
        let mut wary = pilot(site, &pool, &corner, &by_directory)?;
        wait_said(&mut wary, "certificate revoked", 0)?;
        ensure!(said(&wary, CONNECTED) == 0, "{}", wary.log());
        drop(wary);

        // Without an authority, by what the administrator has written down of this host.
        let text = fs::read_to_string(&authority)?;
        let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let known = |line: String| -> Result<_> {
            let path = corner.put("known_hosts", line)?;
            Ok(knobs(&[(
                "SEC_SYSTEM_KNOWN_HOSTS",
                path.display().to_string(),
            )]))
        };
        let mut guest = pilot(
            site,
            &pool,
            &corner,
            &known(format!("localhost SSL {base64}\n"))?,
        )?;
        guest.wait_joined(&pool, 1)?;
        drop(guest);
        let mut any = known(format!("!localhost SSL {base64}\nlocalhost SSL {base64}\n"))?;
        any.push(("BOOTSTRAP_SSL_SERVER_TRUST", "True".to_owned()));
        let mut wary = pilot(site, &pool, &corner, &any)?;
        wait_said(&mut wary, "the certificate of the peer is not accepted", 0)?;
        ensure!(said(&wary, CONNECTED) == 0, "{}", wary.log());
        ensure!(
            said(&wary, "or its line of known_hosts into") > 0,
            "{}",
            wary.log()
        );
        Ok(())
    });
}

/// A key of an issuer of SciTokens, and the tokens it signs.
struct Issuer<'p> {
    proofs: &'p Proofs,
}

impl Issuer<'_> {
    const NAME: &'static str = "https://issuer.sailplane.test";

    fn make(proofs: &Proofs) -> Result<Issuer<'_>> {
        proofs.openssl(&["genrsa", "-out", "issuer.key", "2048"])?;
        Ok(Issuer { proofs })
    }

    /// Gives the pool the issuer's public key, where its library of SciTokens would keep one it has fetched.
    fn publish(&self, folder: &Path) -> Result<()> {
        let mut modulus = Command::new("openssl");
        modulus.args(["rsa", "-noout", "-modulus", "-in"]);
        let text = process::output(modulus.arg(self.proofs.path("issuer.key")))?;
        let hex = text.trim().trim_start_matches("Modulus=");
        let bytes: Vec<u8> = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
            .collect::<Result<_>>()?;
        let key = format!(
            r#"{{"kty":"RSA","alg":"RS256","use":"sig","kid":"k1","n":"{}","e":"AQAB"}}"#,
            URL_SAFE_NO_PAD.encode(bytes)
        );
        let later = unix_now() + 86_400;
        let keys =
            format!(r#"{{"jwks":{{"keys":[{key}]}},"expires":{later},"next_update":{later}}}"#);
        let folder = folder.join("scitokens");
        fs::create_dir_all(&folder)?;
        let base = rusqlite::Connection::open(folder.join("scitokens_cpp.sqllite"))?;
        base.execute_batch(
            "CREATE TABLE keycache (issuer text UNIQUE PRIMARY KEY NOT NULL, keys text NOT NULL)",
        )?;
        base.execute("INSERT INTO keycache VALUES (?1, ?2)", [Self::NAME, &keys])?;
        Ok(())
    }

    fn token(&self, subject: &str, seconds: u64) -> Result<String> {
        let now = unix_now();
        let payload = format!(
            r#"{{"iss":"{}","sub":"{subject}","aud":"ANY","iat":{now},"nbf":{now},"exp":{},"jti":"{subject}-{now}","ver":"scitoken:2.0","scope":"condor:/ADVERTISE_STARTD condor:/READ"}}"#,
            Self::NAME,
            now + seconds
        );
        let header = r#"{"alg":"RS256","kid":"k1","typ":"JWT"}"#;
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        );
        fs::write(self.proofs.path("signed"), &signed)?;
        let signing = [
            "dgst",
            "-sha256",
            "-sign",
            "issuer.key",
            "-out",
            "signature",
            "signed",
        ];
        self.proofs.openssl(&signing)?;
        let signature = fs::read(self.proofs.path("signature"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[test]
fn a_pilot_joins_by_scitokens_and_goes_on_with_a_renewed_one() {
    run("joining by SCITOKENS", |proofs| {
        let site = helper::bare()?;
        fs::write(proofs.path("map"), MAP)?;
        let issuer = Issuer::make(proofs)?;
        let cache = proofs.path("cache");
        let knob = format!("SEC_SCITOKENS_CACHE={}", cache.display());
        let pool = proofs.pool_with("scitokens", "SCITOKENS,IDTOKENS", [knob])?;
        issuer.publish(&cache)?;
        let short = issuer.token("robot", 600)?;
        let long = issuer.token("robot", 6000)?;
        let stranger = issuer.token("stranger", 600)?;
        let over = issuer.token("robot", 0)?;
        let owner = format!("{}:{}", pool.owner().0, pool.owner().1);
        process::output(Command::new("chown").arg("-R").arg(owner).arg(&cache))?;
        fs::remove_file(proofs.path("signed"))?;
        let keep = proofs.path("ca.pem");
        proofs.give_to_but(&pool, &["cache"])?;

        let corner = Corner::make()?;
        let authority = corner.put("ca.pem", fs::read(keep)?)?;
        let file = corner.put("bearer", format!("# of the robot\n{short}\n"))?;
        let knobs = [
            ("SEC_CLIENT_AUTHENTICATION_METHODS", "SCITOKENS".to_owned()),
            ("SCITOKENS_FILE", file.display().to_string()),
            ("AUTH_SSL_CLIENT_CAFILE", authority.display().to_string()),
        ];
        let mut guest = pilot(site, &pool, &corner, &knobs)?;
        guest.wait_joined(&pool, 1)?;
        ensure!(
            guest.log().contains("method=\"SCITOKENS\""),
            "{}",
            guest.log()
        );
        wait_life(&guest, &pool, 1..=600)?;
        let submitted = patient_job(&pool, site, 25)?;
        let before = claim(&guest, &pool)?;
        corner.put("bearer", &stranger)?;
        wait_said(&mut guest, "the server does not accept our SciToken", 0)?;
        corner.put("bearer", &over)?;
        wait_said(&mut guest, "expired at unix time", 0)?;
        corner.put("bearer", &long)?;
        wait_said(&mut guest, CONNECTED, 1)?;
        wait_life(&guest, &pool, 601..=6000)?;
        ensure!(claim(&guest, &pool)? == before, "the claim was lost");
        submitted.wait_completed(&pool, wait::PATIENCE)?;
        Ok(())
    });
}
