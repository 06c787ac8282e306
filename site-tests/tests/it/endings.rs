//! How payloads end, and payloads that can't begin.

use anyhow::{Result, ensure};
use sailplane_site_tests::{JobState, Play, StageOptions, Submission, wait};

use crate::{on_either_stage, on_stage};

#[test]
fn exit_codes_and_signals_arrive() {
    on_either_stage(StageOptions::named("endings"), |stage| {
        for code in [0, 1, 3, 255] {
            let submitted = stage.submit(&Submission::shell("alice", &format!("exit {code}")))?;
            let ads = submitted.wait_completed(stage.pool(), wait::PATIENCE)?;
            let ad = ads.first().expect("one job, one ad");
            ensure!(
                ad.int("ExitCode") == Some(code),
                "ExitCode of `exit {code}` is {:?}",
                ad.int("ExitCode")
            );
            ensure!(
                ad.bool("ExitBySignal") == Some(false),
                "ExitBySignal of `exit {code}`"
            );
        }
        for signal in [9, 11, 15] {
            let submitted =
                stage.submit(&Submission::shell("bob", &format!("kill -{signal} $$")))?;
            let ads = submitted.wait_completed(stage.pool(), wait::PATIENCE)?;
            let ad = ads.first().expect("one job, one ad");
            ensure!(
                ad.bool("ExitBySignal") == Some(true),
                "ExitBySignal of signal {signal}"
            );
            ensure!(
                ad.int("ExitSignal") == Some(signal),
                "ExitSignal is {:?}",
                ad.int("ExitSignal")
            );
        }
        Ok(())
    });
}

/// The hold reason of a job that can't start names the file and says why.
fn held_with(
    stage: &sailplane_site_tests::Stage,
    submission: &Submission,
    words: &[&str],
) -> Result<()> {
    let submitted = stage.submit(submission)?;
    let ad = submitted.wait_held(stage.pool(), wait::PATIENCE)?;
    let reason = ad.text("HoldReason");
    for word in words {
        ensure!(
            reason.contains(word),
            "the hold reason does not say {word:?}: {reason}"
        );
    }
    ensure!(
        ad.int("HoldReasonCode") == Some(6),
        "code {:?}: {reason}",
        ad.int("HoldReasonCode")
    );
    ensure!(
        ad.int("HoldReasonSubCode").is_some_and(|errno| errno > 0),
        "no errno: {reason}"
    );
    Ok(())
}

#[test]
fn a_payload_that_cannot_start_is_held_and_says_why() {
    on_stage(StageOptions::named("cannot"), |stage| {
        let missing = Submission::program("alice", "/no/such/program", &[]);
        held_with(stage, &missing, &["/no/such/program", "No such file"])?;
        let interpreter = Submission::script("alice", "odd.sh", "#!/no/such/interpreter\n");
        held_with(stage, &interpreter, &["odd.sh", "/no/such/interpreter"])?;
        let format = Submission::script("bob", "noise", "\u{1}\u{2}\u{3} no program at all\n");
        held_with(stage, &format, &["noise", "neither a program"])?;
        let forbidden = Submission::program("bob", "/etc/passwd", &[]);
        held_with(stage, &forbidden, &["/etc/passwd", "not executable"])?;
        // None of them cost the pilot a slot.
        let submitted = stage.submit(&Submission::shell("carol", "echo still here").queue(2))?;
        submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        Ok(())
    });
}

#[test]
fn what_the_payload_leaves_behind_ends_with_it() {
    on_either_stage(StageOptions::named("daemons").slots(1), |stage| {
        let word = crate::sound::marker(600);
        // A child in a session of its own, deaf to polite signals.
        let script = format!(
            "setsid sh -c 'trap \"\" TERM HUP; exec sleep {word}' </dev/null >/dev/null 2>&1 & sleep 0.2"
        );
        let submitted = stage.submit(&Submission::shell("alice", &script))?;
        crate::sound::wait_marked(&word, 1)?;
        submitted.wait_completed(stage.pool(), wait::PATIENCE)?;
        crate::sound::wait_none_marked(&word, std::time::Duration::from_secs(1))?;
        stage
            .pool()
            .wait_for(submitted.job()?, JobState::Completed, wait::PATIENCE)?;
        Ok(())
    });
}
