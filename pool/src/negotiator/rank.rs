//! Which of the slots that match is best.

use std::cmp::Ordering;

use classad::{ClassAd, EvalContext, Expr, Value};

/// How slots are ordered: `NEGOTIATOR_PRE_JOB_RANK`, then the job's `Rank`, then `NEGOTIATOR_POST_JOB_RANK`. `MY` is the
/// slot in the first and the last. Greater is better; what is no number counts as 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranks {
    /// `None`: HTCondor's default, which prefers the slot's own rank, then slots with fewer cores, then less memory
    /// (`htcondor:src/condor_utils/param_info.in`).
    pub pre: Option<Expr>,
    /// `None`: HTCondor's default, which prefers faster slots and lower slot numbers.
    pub post: Option<Expr>,
}

/// A slot's place in the order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Preference {
    pre: f64,
    job: f64,
    post: f64,
}

/// What the default orders refer to in a slot's ad.
pub(super) const DEFAULT_NAMES: [&str; 4] = ["Rank", "Cpus", "Memory", "KFlops"];

impl Ranks {
    /// Attributes of slots that the order depends on.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = DEFAULT_NAMES.map(str::to_owned).to_vec();
        for expr in [&self.pre, &self.post].into_iter().flatten() {
            let found = expr.references();
            let of_slot = found.unscoped.into_iter().chain(found.my);
            names.extend(of_slot.map(|name| name.to_string()));
        }
        names
    }

    /// Attributes of jobs that the order depends on.
    pub(super) fn job_names(&self) -> Vec<String> {
        let exprs = [&self.pre, &self.post].into_iter().flatten();
        exprs
            .flat_map(|expr| {
                let found = expr.references();
                found.target.into_iter().chain(found.unscoped)
            })
            .map(|name| name.to_string())
            .collect()
    }

    /// The place of a slot in a job's order.
    pub(super) fn preference(&self, job: &ClassAd, slot: &ClassAd, now: i64) -> Preference {
        let of_slot = EvalContext::new().my(slot).target(job).now(now);
        let of_job = EvalContext::new().my(job).target(slot).now(now);
        let pre = match &self.pre {
            Some(expr) => number(&of_slot.eval(expr)),
            None => {
                let attribute = |name| number(&of_slot.eval_attr(name));
                1e7 * attribute("Rank") - 1e5 * attribute("Cpus") - attribute("Memory")
            }
        };
        let post = match &self.post {
            Some(expr) => number(&of_slot.eval(expr)),
            None => of_slot.eval_attr("KFlops").as_real().unwrap_or(1000.0),
        };
        Preference {
            pre,
            job: number(&of_job.eval_attr("Rank")),
            post,
        }
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Boolean(value) => f64::from(u8::from(*value)),
        other => other.as_real().filter(|real| !real.is_nan()).unwrap_or(0.0),
    }
}

impl Ord for Preference {
    fn cmp(&self, other: &Self) -> Ordering {
        self.pre
            .total_cmp(&other.pre)
            .then(self.job.total_cmp(&other.job))
            .then(self.post.total_cmp(&other.post))
    }
}

impl PartialOrd for Preference {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Preference {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Preference {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_order_is_htcondors() {
        let ad = |text: &str| ClassAd::parse_old(text).unwrap();
        let job = ad("Rank = TARGET.Fast");
        let of = |text: &str| Ranks::default().preference(&job, &ad(text), 0);
        assert!(of("Rank = 1\nCpus = 8") > of("Cpus = 1"));
        assert!(of("Cpus = 1\nMemory = 9") > of("Cpus = 2\nMemory = 1\nFast = 5"));
        assert!(of("Cpus = 1\nFast = 2") > of("Cpus = 1\nKFlops = 9999"));
        assert!(of("KFlops = 1001") > of("Cpus = 0"));
        let ranks = Ranks {
            pre: Some(Expr::parse_old("MY.Cpus * TARGET.Factor").unwrap()),
            post: None,
        };
        assert_eq!(ranks.job_names(), ["Factor"]);
        let job = ad("Factor = 2");
        assert!(
            ranks.preference(&job, &ad("Cpus = 2"), 0) > ranks.preference(&job, &ad("Cpus = 1"), 0)
        );
    }
}
