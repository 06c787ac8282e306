//! OAuth credentials of jobs: a real shadow sends them, and sends them again when they have been renewed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use sailplane_site_tests::{Play, Stage, StageOptions, Submission, process, wait};

use crate::on_stage;

/// A folder such as `SEC_CREDENTIAL_DIRECTORY_OAUTH`, as a credential monitor leaves it.
pub(crate) fn folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new()
        .prefix("oauth-")
        .tempdir_in("/tmp")?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// Replaces a user's credential of a service.
pub(crate) fn put(
    stage: &Stage,
    folder: &Path,
    user: &str,
    service: &str,
    content: &str,
) -> Result<()> {
    let home = folder.join(user);
    fs::create_dir_all(&home)?;
    let (new, path) = (home.join(".new"), home.join(format!("{service}.use")));
    fs::write(&new, content)?;
    fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    for path in [folder, &home, &new] {
        process::give(path, stage.pool.owner())?;
    }
    fs::set_permissions(&home, Permissions::from_mode(0o700))?;
    Ok(fs::rename(new, path)?)
}

#[test]
fn credentials_of_services_come_with_the_job_and_are_renewed_in_its_sandbox() {
    let oauth = folder().expect("a folder");
    let knob = format!("SEC_CREDENTIAL_DIRECTORY_OAUTH={}", oauth.path().display());
    let options = StageOptions::named("oauth")
        .slots(1)
        .pool_knob(&knob)
        .pilot_knob("SEC_CREDENTIAL_REFRESH", 2);
    on_stage(options, |stage| {
        put(
            stage,
            oauth.path(),
            "alice",
            "scitokens",
            "the first token\n",
        )?;
        put(stage, oauth.path(), "alice", "cms_read", "another")?;
        let script = "cd $_CONDOR_CREDS; stat -c '%a %u' . scitokens.use cms_read.use | sed \"s/ $(id -u)$/ own/\"; \
                      pwd | sed \"s,$_CONDOR_SCRATCH_DIR,,\"; cat cms_read.use; echo; cat scitokens.use; \
                      until grep -q second scitokens.use; do sleep 0.2; done; cat scitokens.use; ls -A";
        let submission = Submission::shell("alice", script)
            .line("MY.OAuthServicesNeeded = \"scitokens cms*read\"");
        let submitted = stage.submit(&submission)?;
        submitted.wait_running()?;
        wait::pause(Duration::from_secs(1));
        put(stage, oauth.path(), "alice", "scitokens", "the second\n")?;
        submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        let output = submitted.output()?;
        ensure!(
            output
                == "700 own\n600 own\n600 own\n/.condor_creds\nanother\nthe first token\nthe second\n\
                    cms_read.use\nscitokens.use\n",
            "{output}"
        );
        ensure!(
            !submitted.folder().join(".condor_creds").exists()
                && !submitted.folder().join("scitokens.use").exists(),
            "credentials were sent back"
        );
        let log = stage.pilot.log();
        ensure!(
            !log.contains("the first token") && !log.contains("the second"),
            "{log}"
        );

        // A job whose credentials nobody has is held.
        let submission =
            Submission::shell("bob", "true").line("MY.OAuthServicesNeeded = \"scitokens\"");
        let submitted = stage.submit(&submission)?;
        let ad = submitted.wait_held(&stage.pool, wait::PATIENCE)?;
        ensure!(
            ad.int("HoldReasonCode") == Some(4),
            "{}",
            ad.text("HoldReason")
        );
        Ok(())
    });
}
