//! Which jobs a question or an action is about.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use classad::{ClassAd, EvalContext, Expr, Value};
use regex::Regex;

use super::model::{Job, Model};
use crate::JobId;

/// Which jobs are meant.
#[derive(Debug, Clone)]
pub enum Selection {
    /// Those for which an expression is true.
    Constraint(Expr),
    /// Clusters, and single jobs of clusters.
    Ids(Vec<(i32, Option<i32>)>),
}

impl Selection {
    /// Reads `12.3,13,14.0`: jobs and whole clusters, separated by commas or blanks.
    ///
    /// # Errors
    /// The part that is neither.
    pub fn from_ids(text: &str) -> Result<Self, String> {
        let parts = text.split([',', ' ', '\t', '\n']);
        let ids = parts
            .filter(|part| !part.is_empty())
            .map(id)
            .collect::<Result<_, _>>()?;
        Ok(Self::Ids(ids))
    }
}

fn id(text: &str) -> Result<(i32, Option<i32>), String> {
    if let Ok(job) = JobId::from_str(text) {
        return Ok((job.cluster, Some(job.proc)));
    }
    let cluster = text.parse().ok().filter(|cluster: &i32| *cluster > 0);
    cluster
        .map(|cluster| (cluster, None))
        .ok_or_else(|| text.to_owned())
}

/// A condition on jobs, prepared so that most of it is done once and not for each job.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    expr: Expr,
    /// Always true.
    trivial: bool,
    /// The attributes the expression needs; `None`: possibly all.
    needs: Option<Vec<String>>,
    /// Only jobs of this cluster can fulfil it.
    cluster: Option<i32>,
    now: i64,
}

impl Condition {
    /// Prepares an expression.
    pub(super) fn new(expr: &Expr, now: i64) -> Self {
        let text = expr.to_old();
        let trivial = matches!(expr.as_literal(), Some(Value::Boolean(true)))
            || text
                .trim_matches(['(', ')', ' '])
                .eq_ignore_ascii_case("true");
        Self {
            expr: expr.clone(),
            trivial,
            needs: needs(expr, &text),
            cluster: cluster_of(&text),
            now,
        }
    }

    /// The only cluster whose jobs can fulfil it, if there is such a one.
    pub(super) fn cluster(&self) -> Option<i32> {
        self.cluster
    }

    /// True if the job is meant.
    pub(super) fn holds(&self, job: &Snapshot) -> bool {
        if self.trivial {
            return true;
        }
        let ad = match &self.needs {
            Some(names) => job.part(names.iter().map(String::as_str)),
            None => job.whole(),
        };
        let context = EvalContext::new().my(&ad).now(self.now);
        context.eval(&self.expr).as_bool() == Some(true)
    }

    /// Copies the jobs that may be meant.
    pub(super) fn candidates(&self, model: &Model) -> Vec<Snapshot> {
        let take = |(id, job): (&JobId, &Job)| Snapshot::new(*id, job);
        match self.cluster {
            Some(cluster) => {
                let range = JobId::new(cluster, 0)..=JobId::new(cluster, i32::MAX);
                model.jobs.range(range).map(take).collect()
            }
            None => model.jobs.iter().map(take).collect(),
        }
    }
}

/// A job as it was at one moment; cheap to take.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) id: JobId,
    pub(super) status: super::Status,
    pub(super) owner: Arc<str>,
    pub(super) own: ClassAd,
    pub(super) cluster: Arc<ClassAd>,
    pub(super) autocluster: u32,
}

impl Snapshot {
    pub(super) fn new(id: JobId, job: &Job) -> Self {
        Self {
            id,
            status: job.status,
            owner: Arc::clone(&job.owner),
            own: job.own.clone(),
            cluster: Arc::clone(&job.cluster),
            autocluster: job.autocluster,
        }
    }

    /// The whole ad.
    pub(super) fn whole(&self) -> ClassAd {
        let mut ad = (*self.cluster).clone();
        ad.update(&self.own);
        ad.insert("AutoClusterId", i64::from(self.autocluster));
        ad
    }

    /// The expression of one attribute.
    pub(super) fn get(&self, name: &str) -> Option<Expr> {
        if name.eq_ignore_ascii_case("AutoClusterId") {
            return Some(i64::from(self.autocluster).into());
        }
        self.own
            .get(name)
            .or_else(|| self.cluster.get(name))
            .cloned()
    }

    /// The named attributes and all that they refer to.
    pub(super) fn part<'a>(&self, names: impl Iterator<Item = &'a str>) -> ClassAd {
        let mut ad = ClassAd::new();
        let mut more: Vec<String> = Vec::new();
        let mut take = |name: &str, more: &mut Vec<String>| {
            if ad.contains(name) {
                return;
            }
            let Some(expr) = self.get(name) else { return };
            if expr.as_literal().is_none() {
                let found = expr.references();
                let names = found.unscoped.iter().chain(&found.my);
                more.extend(names.map(|name| name.as_str().to_owned()));
            }
            ad.insert(name, expr);
        };
        for name in names {
            take(name, &mut more);
        }
        while let Some(name) = more.pop() {
            take(&name, &mut more);
        }
        ad
    }
}

/// The attributes an expression needs, if that can be told from its text.
fn needs(expr: &Expr, text: &str) -> Option<Vec<String>> {
    const WHOLE: [&str; 5] = ["MY", "SELF", "TARGET", "OTHER", "TOPLEVEL"];
    // Functions that evaluate text, or look at the ad as a whole.
    let lower = text.to_ascii_lowercase();
    if ["eval", "unresolved", "hasrefs"]
        .iter()
        .any(|name| lower.contains(name))
    {
        return None;
    }
    let found = expr.references();
    let names: HashSet<String> = found
        .unscoped
        .iter()
        .chain(&found.my)
        .map(|name| name.as_str().to_owned())
        .collect();
    let whole = names
        .iter()
        .any(|name| WHOLE.iter().any(|whole| name.eq_ignore_ascii_case(whole)));
    (!whole).then(|| names.into_iter().collect())
}

/// The cluster, if the expression is what tools write for one cluster or one job.
fn cluster_of(text: &str) -> Option<i32> {
    static SHAPE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            r"(?i)^\(*ClusterId\s*={2}\s*(\d{1,9})\)*(\s*&&\s*\(*ProcId\s*={2}\s*\d{1,9}\)*)?$",
        )
        .ok()
    });
    let found = SHAPE.as_ref()?.captures(text)?;
    found.get(1)?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_jobs_and_clusters() {
        let Ok(Selection::Ids(ids)) = Selection::from_ids("12.3,13 14.0") else {
            panic!("not read");
        };
        assert_eq!(ids, [(12, Some(3)), (13, None), (14, Some(0))]);
        assert_eq!(Selection::from_ids("12,x.1").unwrap_err(), "x.1");
    }

    #[test]
    fn the_cluster_of_a_tool_s_constraint_is_seen() {
        let of = |text: &str| cluster_of(&Expr::parse_old(text).unwrap().to_old());
        assert_eq!(of("(ClusterId == 12)"), Some(12));
        assert_eq!(of("(ClusterId==12 && ProcId==3)"), Some(12));
        assert_eq!(of("ClusterId == 12 || ClusterId == 13"), None);
        assert_eq!(of("ClusterId == 12 && Owner == \"x\""), None);
    }

    #[test]
    fn a_condition_sees_what_it_refers_to_and_no_more() {
        let job = Snapshot {
            id: JobId::new(1, 0),
            status: super::super::Status::Idle,
            owner: "a".into(),
            own: ClassAd::parse_old("Limit = Base * 2").unwrap(),
            cluster: Arc::new(ClassAd::parse_old("Base = 4\nLimit = 1\nOther = 3").unwrap()),
            autocluster: 7,
        };
        let holds = |text: &str| Condition::new(&Expr::parse_old(text).unwrap(), 0).holds(&job);
        assert!(holds("Limit == 8 && MY.AutoClusterId == 7"));
        assert!(holds("eval(\"Other\") == 3"));
        assert!(holds("MY.Other == 3") && !holds("Nothing == 3"));
        assert_eq!(job.part(["Limit"].into_iter()).len(), 2);
    }
}
