//! The checks while the pilot lives: what they find goes into the slot ads, and whether jobs may come follows from it.

use std::path::PathBuf;

use validation::Verdict;
use validation::engine::Standing;

use super::checks::{self, Checked};
use super::result_file;
use crate::blame::Exit;
use crate::knobs::{Attribute, Knobs};
use crate::slot::clock::unix_now;
use crate::slot::{Order, StartdHandle};

/// How much the pilot lets itself be told by its checks (`SAILPLANE_VALIDATION`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heed {
    /// What fails keeps jobs away.
    Full,
    /// Everything is published, and nothing keeps jobs away.
    Report,
    /// Nothing is checked.
    None,
}

impl Heed {
    /// From the configuration.
    pub(super) fn of(knobs: &Knobs) -> Self {
        match knobs.checks.text("SAILPLANE_VALIDATION") {
            Some("NONE") => Self::None,
            Some("REPORT") => Self::Report,
            _ => Self::Full,
        }
    }
}

/// Why no jobs are taken, of a standing.
pub(super) fn obstacle(standing: &Standing, heed: Heed) -> Option<String> {
    match standing {
        Standing::Closed(why) | Standing::Drain(why, _) if heed == Heed::Full => Some(why.clone()),
        _ => None,
    }
}

/// Runs the checks again and again, each when its time has come, until it is dropped.
pub(super) async fn watch(
    mut checked: Checked,
    heed: Heed,
    result: Option<PathBuf>,
    startd: StartdHandle,
    stop: tokio_util::sync::CancellationToken,
) {
    let mut verdict = checked.engine.verdict();
    let mut before = Vec::new();
    while checked.engine.comes_again() {
        let round = checked.engine.next(|done| checks::log(&done));
        tokio::select! {
            () = round => {}
            () = stop.cancelled() => break,
        }
        let standing = checked.engine.standing();
        let attributes = checked.engine.attributes(unix_now());
        let signs = signs(&attributes);
        startd
            .order(Order::Checks {
                why: obstacle(&standing, heed),
                attributes,
                announce: signs != before,
            })
            .await;
        before = signs;
        let now = checked.engine.verdict();
        if now != verdict {
            said(verdict, now, &standing);
            verdict = now;
            if let Some(path) = &result {
                result_file::write(path, &checked.engine.report());
            }
        }
        if let Standing::Drain(why, class) = standing
            && heed == Heed::Full
        {
            let exit = Exit::of_class(class);
            startd.order(Order::Retire { exit, why }).await;
        }
    }
    stop.cancelled().await;
    checked.end().await;
}

/// What is worth an ad of its own: not the figures, which change with every look, nor the time.
fn signs(attributes: &[Attribute]) -> Vec<Attribute> {
    let is_figure = |name: &str| {
        name == "SailplaneValidationTime"
            || name
                .strip_prefix("SailplaneCheck")
                .is_some_and(|rest| rest.contains('_'))
    };
    attributes
        .iter()
        .filter(|(name, _)| !is_figure(name))
        .cloned()
        .collect()
}

fn said(before: Verdict, now: Verdict, standing: &Standing) {
    let (before, now) = (before.word(), now.word());
    match standing {
        Standing::Open => tracing::info!(before, now, "the checks let jobs come"),
        Standing::Closed(why) | Standing::Drain(why, _) => {
            tracing::error!(before, now, "the checks keep jobs away: {why}");
        }
    }
}
