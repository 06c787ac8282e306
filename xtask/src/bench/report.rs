//! The table.

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

impl Comparison {
    /// As a row of the table.
    fn row(&self) -> String {
        format!(
            "| {} | {} | {} | {} | {:.1} |",
            self.what,
            cell(&self.ours),
            cell(&self.theirs),
            self.peer,
            self.ratio()
        )
    }
}

const HEAD: &str = "| what | sailplane | peer | | ratio |\n| --- | --- | --- | --- | --- |\n";

/// Rows as Markdown: median, and between which values eight of ten lie.
pub(crate) fn table(comparisons: &[Comparison]) -> String {
    let rows = comparisons.iter().map(|comparison| comparison.row() + "\n");
    HEAD.to_owned() + &rows.collect::<String>()
}

/// What a row is about: what was measured, and the peer.
fn subject(row: &str) -> Option<(&str, &str)> {
    let mut cells = row.split('|').map(str::trim);
    Some((cells.nth(1)?, cells.nth(2)?))
}

/// The old page's rows, each replaced by the new one of the same subject; then those that are new.
fn merged(old: &str, comparisons: &[Comparison]) -> String {
    let mut new: Vec<String> = comparisons.iter().map(Comparison::row).collect();
    let mut rows = Vec::new();
    let table = old
        .lines()
        .skip_while(|line| *line != HEAD.lines().next().unwrap_or_default());
    for row in table.skip(2).take_while(|line| line.starts_with('|')) {
        match new.iter().position(|other| subject(other) == subject(row)) {
            Some(place) => rows.push(new.remove(place)),
            None => rows.push(row.to_owned()),
        }
    }
    rows.extend(new);
    HEAD.to_owned() + &rows.join("\n") + "\n"
}

/// The section of this heading in the old page.
fn kept(old: &str, heading: &str) -> String {
    let Some(begin) = old.find(heading) else {
        return String::new();
    };
    let section = old.get(begin..).unwrap_or_default();
    let end = section
        .get(1..)
        .and_then(|rest| rest.find("\n## "))
        .map_or(section.len(), |end| end + 2);
    section.get(..end).unwrap_or_default().to_owned()
}

/// The page that a run writes; what the run did not measure stays as it was.
pub(crate) fn page(old: &str, comparisons: &[Comparison], launches: Option<&str>) -> String {
    let launches = launches.map_or_else(|| kept(old, super::launch::HEADING), str::to_owned);
    let launches = launches.trim_end();
    let table = merged(old, comparisons);
    format!(
        "# Performance\n\n\
         Written by `cargo xtask bench --write`; in a run, ours and the peer take turns, so that what else the machine does hits both.\n\
         Each cell: median (from the 10th to the 90th percentile, number of measurements). Ratio: how many times better ours is.\n\
         The ratios matter, not the times. A run of some comparisons only (`cargo xtask bench launch --write`) leaves the others as they are.\n\n\
         {}\n\n{table}\n\
         {launches}\n\n\
         ## What is compared\n\n\
         - **Launch of `true` under another account**: from the order to the end of the last process. Ours: the resident broker, asked by the pilot's own\n\
         \x20 client code; once with everything a new job costs (a proxy verified, an account leased, a sandbox and a control group made), once in an account\n\
         \x20 that is open already. The peer: `sudo -n -u ACCOUNT /bin/true` with a rule that allows just that.\n\
         - **Start to the first slot ad** and **to the first payload instruction**: from the `exec` of the pilot, or of `condor_master`, on the same pool with\n\
         \x20 a job waiting. The second includes the pool's negotiation, which is the same for both. Our job has a proxy that is delegated and verified, the\n\
         \x20 peer's has none.\n\
         - **All built-in checks**: `sailplane validate`, from its `exec` to its end, with the report written; everything but the network and the trial of the\n\
         \x20 identity switch. The peer: 20 short scripts of our own for bash (`xtask/src/bench/checks.rs`), which look at a part of the same, one after the\n\
         \x20 other, as the scripts of pilots do; without what a framework around them costs.\n\
         - **Verification**: from the bytes of a PEM file and a directory of 100 CAs to a verdict, RSA of 2048 bits; a proxy, and one delegated once more.\n\
         \x20 Nothing is kept from one to the next. Ours also judges what the peers do not: the namespaces of the CA, revocation lists, strength, policies, the order of\n\
         \x20 the certificates. The minimal C program (`credential/benches/minimal.c`) reads the file, calls `X509_verify_cert` and compares the key, by its own clock;\n\
         \x20 as processes, each from before its start to its end.\n\
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

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(what: &'static str, value: f64) -> Comparison {
        Comparison {
            what,
            peer: "sudo",
            ours: Sample::new(vec![value]),
            theirs: Sample::new(vec![2.0 * value]),
            more_is_better: false,
        }
    }

    #[test]
    fn a_run_replaces_what_it_has_measured() {
        let first = page("", &[comparison("a", 1.0), comparison("b", 2.0)], None);
        let section = format!("{}\n\nold\n", super::super::launch::HEADING);
        let second = page(&first, &[comparison("b", 3.0)], Some(&section));
        let third = page(&second, &[comparison("c", 4.0)], None);
        for row in ["| a | 1.00", "| b | 3.00", "| c | 4.00"] {
            assert!(third.contains(row), "{row} in {third}");
        }
        assert!(!third.contains("| b | 2.00") && third.matches("| a |").count() == 1);
        assert!(
            third.contains("account\n\nold\n\n## What is compared"),
            "{third}"
        );
    }
}
