//! Jobs whose owner is told by a token: a real shadow brings it, the installed helper verifies it and maps it.

use anyhow::{Context, Result, ensure};
use sailplane_site_tests::tokens::{ACCOUNT, Claims};
use sailplane_site_tests::{Play, Stage, StageOptions, Submission, Submitted, process, wait};

use crate::on_stage;
use crate::service_credentials::{folder, put};

/// A job with this token and no proxy.
fn send(
    stage: &Stage,
    oauth: &std::path::Path,
    claims: Claims<'_>,
    script: &str,
) -> Result<Submitted> {
    let issuer = stage
        .site
        .tokens
        .as_ref()
        .context("the site takes no tokens")?;
    put(stage, oauth, "alice", "scitokens", &issuer.token(claims)?)?;
    let submission = Submission::shell("alice", script)
        .proxy(None)
        .line("MY.OAuthServicesNeeded = \"scitokens\"");
    stage.submit(&submission)
}

#[test]
fn a_job_runs_as_the_account_of_its_token_and_not_with_another_token() {
    let oauth = folder().expect("a folder");
    let knob = format!("SEC_CREDENTIAL_DIRECTORY_OAUTH={}", oauth.path().display());
    let options = StageOptions::named("tokenid")
        .slots(1)
        .pool_knob(&knob)
        .pilot_knob("SAILPLANE_JOB_CREDENTIAL", "PROXY_OR_TOKEN");
    on_stage(options, |stage| {
        let script = "id -u; stat -c '%u %a' . \"$_CONDOR_CREDS/scitokens.use\"";
        let submitted = send(stage, oauth.path(), Claims::default(), script)?;
        let done = submitted.wait_completed(&stage.pool, wait::PATIENCE);
        done.with_context(|| stage.pilot.log())?;
        let (uid, _) = process::ensure_user(ACCOUNT)?;
        ensure!(
            submitted.output()? == format!("{uid}\n{uid} 700\n{uid} 600\n"),
            "{} is not of {ACCOUNT}",
            submitted.output()?
        );

        // Somebody the site knows by no name is nobody in particular.
        let stranger = Claims {
            subject: "somebody",
            ..Claims::default()
        };
        let submitted = send(stage, oauth.path(), stranger, "id -u")?;
        submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        let uid: u32 = submitted.output()?.trim().parse()?;
        ensure!(stage.site.uids.contains(&uid), "{uid}");

        let refused = [
            (
                "token.audience",
                Claims {
                    audience: "https://ce.elsewhere.test",
                    ..Claims::default()
                },
            ),
            (
                "token.issuer",
                Claims {
                    issuer: "https://tokens.elsewhere.test",
                    ..Claims::default()
                },
            ),
            (
                "token.expired",
                Claims {
                    seconds: -1,
                    ..Claims::default()
                },
            ),
        ];
        for (code, claims) in refused {
            let submitted = send(stage, oauth.path(), claims, "echo ran")?;
            let ad = submitted.wait_held(&stage.pool, wait::PATIENCE)?;
            let reason = ad.text("HoldReason");
            ensure!(reason.contains(code), "{code}: {reason}");
            ensure!(
                !submitted.output().unwrap_or_default().contains("ran"),
                "{code}"
            );
        }
        // Nothing of a token is in the log.
        ensure!(!stage.pilot.log().contains("eyJ"), "{}", stage.pilot.log());
        Ok(())
    });
}
