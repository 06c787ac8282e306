//! The table.

use std::fmt::Write;

use super::stats::Sample;

/// Ours beside a peer's, measured in the same run.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// What was measured, and its unit.
    pub(crate) what: &'static str,
    /// Who the peer is.
    pub(crate) peer: &'static str,
    pub(crate) ours: Sample,
    pub(crate) theirs: Sample,
    /// Whether a larger number is the better one.
    pub(crate) more_is_better: bool,
}

impl Comparison {
    /// How many times better ours is.
    fn ratio(&self) -> f64 {
        if self.more_is_better {
            self.ours.median() / self.theirs.median()
        } else {
            self.theirs.median() / self.ours.median()
        }
    }
}

fn cell(sample: &Sample) -> String {
    let digits = |value: f64| {
        if value.abs() >= 100.0 {
            format!("{value:.0}")
        } else {
            format!("{value:.2}")
        }
    };
    format!(
        "{} ({} to {}, n {})",
        digits(sample.median()),
        digits(sample.low()),
        digits(sample.high()),
        sample.n()
    )
}

/// Rows as Markdown: median, and between which values eight of ten lie.
pub(crate) fn table(comparisons: &[Comparison]) -> String {
    let mut text =
        String::from("| what | sailplane | peer | | ratio |\n| --- | --- | --- | --- | --- |\n");
    for comparison in comparisons {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.1} |",
            comparison.what,
            cell(&comparison.ours),
            cell(&comparison.theirs),
            comparison.peer,
            comparison.ratio()
        );
    }
    text
}

/// The page that a run writes.
pub(crate) fn page(table: &str) -> String {
    format!(
        "# Performance\n\n\
         Written by `cargo xtask bench --write` from one run; ours and the peer take turns in it, so that what else the machine does hits both.\n\
         Each cell: median (from the 10th to the 90th percentile, number of measurements). Ratio: how many times better ours is.\n\
         The ratios matter, not the times.\n\n\
         {}\n\n{table}\n\
         ## What is compared\n\n\
         - **Launch of `true` under another account**: from the order to the end of the last process. Ours: the resident broker, asked by the pilot's own\n\
         \x20 client code; once with everything a new job costs (a proxy verified, an account leased, a sandbox and a control group made), once in an account\n\
         \x20 that is open already. The peer: `sudo -n -u ACCOUNT /bin/true` with a rule that allows just that.\n\
         - **Start to the first slot ad** and **to the first payload instruction**: from the `exec` of the pilot, or of `condor_master`, on the same pool with\n\
         \x20 a job waiting. The second includes the pool's negotiation, which is the same for both. Our job has a proxy that is delegated and verified, the\n\
         \x20 peer's has none.\n\
         - **Jobs per second**: one slot, one claim, `/bin/true`; (jobs - 1) divided by the time from the first to the last event 005. Our jobs have proxies. The\n\
         \x20 peer runs the same submit file, and in a row of its own the one that suits it best (`should_transfer_files = NO`).\n\
         - **Memory**: of the whole execute side without the payloads' own, with four idle slots, and what each of four running jobs adds. With every page\n\
         \x20 counted once: what it would be on a worker node of its own. PSS: as it is here, where the peer shares its libraries with the pool's own daemons\n\
         \x20 (collector, negotiator, schedd, a shadow per job), which no worker node runs.\n\n\
         The peer is HTCondor 23.9.6 as Debian trixie ships it: `condor_master`, `condor_startd`, `condor_procd` and one `condor_starter` per job, run by\n\
         an ordinary account, so that it does not switch accounts at all.\n",
        machine()
    )
}

/// What it ran on.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(", ");
    format!(
        "Machine: {cores} cores, {}; load averages at the end of the run: {load}.",
        model.trim_start_matches([' ', '\t', ':'])
    )
}
