//! A pilot on a node where no jobs can run: it says so where an operator looks, stays for a while, so that the batch
//! system does not send one pilot after the other to this node, and leaves.

use std::io::IsTerminal;
use std::time::Duration;

use classad::ClassAd;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use validation::engine::standing::text_of;

use super::checks::Checked;
use super::{StartError, assemble, watch};
use crate::advertise::board::Board;
use crate::advertise::facts::NodeFacts;
use crate::advertise::link::LinkReport;
use crate::advertise::offer::{Identity, base_ad};
use crate::blame::{Exit, chain};
use crate::knobs::Knobs;
use crate::slot::clock::unix_now;
use crate::slot::{StartdCommands, stand_by};

/// Longest wait for the links to take the ad back.
const FAREWELL: Duration = Duration::from_secs(10);

/// What there is of a pilot that cannot start.
pub(super) struct Failing<'a> {
    pub(super) knobs: &'a Knobs,
    pub(super) node: &'a NodeFacts,
    pub(super) identity: &'a Identity,
    pub(super) checked: Option<Checked>,
    pub(super) commands: StartdCommands,
    pub(super) board: Board,
    pub(super) links: JoinSet<LinkReport>,
    pub(super) stop: CancellationToken,
}

impl Failing<'_> {
    /// Says why, naps, leaves. Gives the error back.
    pub(super) async fn stay(self, error: StartError, mut signals: watch::Signals) -> StartError {
        let nap = nap(self.knobs, &error);
        tracing::error!(
            status = error.exit().code(),
            hint = error.hint(),
            ?nap,
            "no jobs can run here: {}",
            chain(&error)
        );
        if !nap.is_zero() {
            let ad = self.ad(&error, nap);
            let word = self.knobs.checks.text("SAILPLANE_FAILURE_AD");
            if word != Some("NEVER") {
                self.board.open(1);
            }
            let name = self.identity.slot_name(1);
            tokio::select! {
                () = sleep(nap) => {}
                signal = signals.any() => tracing::info!("{signal} ends the nap"),
                () = stand_by(self.commands, name, ad) => {}
            }
        }
        self.stop.cancel();
        let farewell = tokio::time::timeout(FAREWELL, self.links.join_all()).await;
        if farewell.is_err() {
            tracing::debug!("the links did not end in time");
        }
        if let Some(checked) = self.checked {
            checked.end().await;
        }
        error
    }

    /// A machine that takes no jobs, and says why. The names that begin with `GLIDEIN_` are those of glideinWMS, whose
    /// operators look for them.
    fn ad(&self, error: &StartError, nap: Duration) -> ClassAd {
        let mut offer = assemble::bare_offer(self.knobs, self.node, self.identity);
        let now = unix_now();
        let full = self.knobs.checks.text("SAILPLANE_FAILURE_AD") != Some("ALIVEONLY");
        if let Some(checked) = self.checked.as_ref().filter(|_| full) {
            offer.checks = checked.engine.attributes(now);
        }
        let mut ad = base_ad(self.node, self.identity, &offer, 1);
        let end = now.saturating_add(i64::try_from(nap.as_secs()).unwrap_or(i64::MAX));
        for (name, text) in [("State", "Drained"), ("Activity", "Retiring")] {
            ad.insert(name, text);
        }
        for name in ["Start", "IsOwner", "AcceptingJobs"] {
            ad.insert(name, name == "IsOwner");
        }
        for name in ["EnteredCurrentState", "EnteredCurrentActivity"] {
            ad.insert(name, now);
        }
        for name in ["GLIDEIN_ToDie", "GLIDEIN_Expire"] {
            ad.insert(name, end);
        }
        ad.insert("GLIDEIN_Failed", true);
        ad.insert("GLIDEIN_EXIT_CODE", i64::from(error.exit().code()));
        ad.insert("SailplaneExitMeaning", error.exit().meaning());
        if full {
            let why = text_of(&chain(error));
            ad.insert("GLIDEIN_FAILURE_REASON", why.as_str());
            ad.insert("SailplaneNotAcceptingReason", why.as_str());
            if let StartError::Unfit { check, .. } = error {
                ad.insert("GLIDEIN_LAST_SCRIPT", check.as_str());
            } else {
                ad.insert("SailplaneFailureReason", why.as_str());
                if let Some(hint) = error.hint() {
                    ad.insert("SailplaneFailureHint", text_of(&hint));
                }
            }
        }
        ad
    }
}

/// How long: not at all for what the node has nothing to do with, which would be the same anywhere.
fn nap(knobs: &Knobs, error: &StartError) -> Duration {
    match error.exit() {
        Exit::Configuration | Exit::Usage | Exit::Retired => Duration::ZERO,
        // A person is no queue.
        _ if std::io::stderr().is_terminal() => Duration::ZERO,
        _ => knobs.checks.seconds("SAILPLANE_FAILURE_NAP"),
    }
}
