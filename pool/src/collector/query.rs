//! Queries: which ads, which of their attributes, how many.

use std::sync::Arc;

use classad::{ClassAd, EvalContext, Expr, Value};

use super::kind::{Action, Kind};
use super::record::Record;

/// One table to be looked through.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    pub(super) kind: Kind,
    /// Only ads with this `MyType`.
    my_type: Option<String>,
    constraint: Option<Expr>,
    projection: Projection,
    limit: usize,
    /// Whether private ads are wanted.
    private: bool,
}

/// Which attributes an answer has.
#[derive(Debug, Clone)]
enum Projection {
    All,
    Names(Vec<String>),
    /// Text with names that depends on the ad.
    Computed(Expr),
}

/// Why a query is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadQuery {
    #[error("the query has no TargetType")]
    NoTarget,
    #[error("private ads are not among the answers to this command")]
    Private,
}

/// What a query ad asks for.
#[derive(Debug, Clone)]
pub(super) struct Query {
    ad: ClassAd,
    pub(super) passes: Vec<Pass>,
    /// Most ads in the whole answer.
    pub(super) limit: usize,
}

impl Query {
    /// Reads a query ad.
    pub(super) fn read(action: &Action, ad: ClassAd) -> Result<Self, BadQuery> {
        let target = ad.string("TargetType").filter(|text| !text.is_empty());
        let limit = limit(&ad, "LimitResults");
        let one = |kind: Kind| Pass {
            kind,
            my_type: None,
            constraint: ad.get("Requirements").cloned(),
            projection: Projection::of(&ad, "Projection"),
            limit,
            private: false,
        };
        let passes = match action {
            Action::Query(Some(Kind::Any)) => {
                let mut pass = one(Kind::Any);
                pass.my_type = target.filter(|name| !name.eq_ignore_ascii_case("Any"));
                vec![pass]
            }
            // One command for the slots and for the startds themselves.
            Action::Query(Some(Kind::Machine)) => match target.as_deref().map(Kind::from_type) {
                Some(Kind::StartDaemon) => vec![one(Kind::StartDaemon)],
                _ => vec![one(Kind::Machine)],
            },
            Action::Query(Some(kind)) => vec![one(kind.clone())],
            Action::QueryPrivate => {
                let mut pass = one(Kind::Machine);
                pass.private = true;
                vec![pass]
            }
            Action::QueryMultiple(private) => {
                let target = target.ok_or(BadQuery::NoTarget)?;
                multiple(&ad, &target, *private, one)?
            }
            _ => vec![one(Kind::from_type(&target.ok_or(BadQuery::NoTarget)?))],
        };
        Ok(Self { ad, passes, limit })
    }
}

/// The passes of a query over several tables, each of which may have a constraint, projection and limit of its own.
fn multiple(
    ad: &ClassAd,
    target: &str,
    private: bool,
    one: impl Fn(Kind) -> Pass,
) -> Result<Vec<Pass>, BadQuery> {
    let mut passes = Vec::new();
    for tag in words(target) {
        let mut pass = if tag.eq_ignore_ascii_case("MachinePrivate") {
            let mut pass = one(Kind::Machine);
            pass.private = true;
            pass
        } else {
            one(Kind::from_type(tag))
        };
        if pass.private && !private {
            return Err(BadQuery::Private);
        }
        if let Some(own) = ad.get(&format!("{tag}Requirements")) {
            pass.constraint = Some(own.clone());
        }
        let name = format!("{tag}Projection");
        if ad.contains(&name) {
            pass.projection = Projection::of(ad, &name);
        }
        let name = format!("{tag}LimitResults");
        if ad.contains(&name) {
            pass.limit = limit(ad, &name);
        }
        passes.push(pass);
    }
    if passes.is_empty() {
        return Err(BadQuery::NoTarget);
    }
    Ok(passes)
}

impl Pass {
    /// What is sent for a record; `None`: it is not asked for.
    pub(super) fn answer(&self, query: &Query, record: &Record, now: i64) -> Option<Arc<ClassAd>> {
        if let Some(my_type) = &self.my_type {
            let own = record.public.string("MyType").unwrap_or_default();
            if !own.eq_ignore_ascii_case(my_type) {
                return None;
            }
        }
        if let Some(constraint) = &self.constraint
            && !holds(constraint, &record.public, now)
        {
            return None;
        }
        let ad = if self.private {
            record.private.as_ref()?
        } else {
            &record.public
        };
        let names = match &self.projection {
            Projection::All => return Some(Arc::clone(ad)),
            Projection::Names(names) => names.clone(),
            Projection::Computed(expr) => {
                let context = EvalContext::new().my(&query.ad).target(&record.public);
                match context.now(now).eval(expr) {
                    Value::String(text) => words(&text).map(str::to_owned).collect(),
                    _ => Vec::new(),
                }
            }
        };
        Some(if names.is_empty() {
            Arc::clone(ad)
        } else {
            Arc::new(project(ad, &names))
        })
    }

    /// Whether private ads are wanted.
    pub(super) fn is_private(&self) -> bool {
        self.private
    }

    /// Most answers of this pass.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }
}

impl Projection {
    fn of(ad: &ClassAd, name: &str) -> Self {
        match ad.get(name) {
            None => Self::All,
            Some(expr) => match expr.as_literal() {
                Some(Value::String(text)) if words(&text).next().is_some() => {
                    Self::Names(words(&text).map(str::to_owned).collect())
                }
                Some(_) => Self::All,
                None => Self::Computed(expr.clone()),
            },
        }
    }
}

/// The attributes named, and those that they refer to, without which a receiver could not evaluate them.
pub(super) fn project(ad: &ClassAd, names: &[String]) -> ClassAd {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut part = ClassAd::new();
    for name in ad.reference_closure(&names).my {
        if let Some(expr) = ad.get(name.as_str()) {
            part.insert(name, expr.clone());
        }
    }
    part
}

/// Whether a constraint is true of an ad. Names with `TARGET.` mean the ad too, as older tools write them.
pub(super) fn holds(constraint: &Expr, ad: &ClassAd, now: i64) -> bool {
    if let Some(Value::Boolean(value)) = constraint.as_literal() {
        return value;
    }
    let context = EvalContext::new().my(ad).target(ad).now(now);
    context.eval(constraint).as_bool() == Some(true)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', '\n', '\t', '\r'])
        .filter(|word| !word.is_empty())
}

fn limit(ad: &ClassAd, name: &str) -> usize {
    ad.int(name)
        .and_then(|limit| usize::try_from(limit).ok())
        .filter(|limit| *limit > 0)
        .unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projection_brings_what_it_refers_to() {
        let ad = ClassAd::parse_old(
            "A = B + MY.C\nB = D * 2\nC = 1\nD = 2\nE = 3\nName = \"x\"\nClaimId = \"secret\"",
        )
        .unwrap();
        let part = project(&ad, &["a".to_owned(), "Nothing".to_owned()]);
        assert_eq!(part.int("A"), Some(5));
        assert!(!part.contains("E") && !part.contains("Name"));
    }

    #[test]
    fn several_tables_in_one_query_and_no_private_ones_by_the_back_door() {
        let ad = ClassAd::parse_old(
            "TargetType = \"Machine,Scheduler\"\nRequirements = true\nSchedulerRequirements = false\nMachineLimitResults = 3\nSchedulerProjection = \"Name\"",
        )
        .unwrap();
        let query = Query::read(&Action::QueryMultiple(false), ad).unwrap();
        let limits: Vec<_> = query.passes.iter().map(Pass::limit).collect();
        assert_eq!(limits, [3, usize::MAX]);
        let ad = ClassAd::parse_old("TargetType = \"MachinePrivate\"").unwrap();
        assert_eq!(
            Query::read(&Action::QueryMultiple(false), ad.clone()).unwrap_err(),
            BadQuery::Private
        );
        assert!(
            Query::read(&Action::QueryMultiple(true), ad)
                .unwrap()
                .passes[0]
                .is_private()
        );
    }

    #[test]
    fn constraints_may_say_target_and_must_be_true() {
        let ad = ClassAd::parse_old("Name = \"x\"\nCpus = 2").unwrap();
        let holds = |text: &str| holds(&Expr::parse_old(text).unwrap(), &ad, 1000);
        assert!(holds("TARGET.Name == \"x\""));
        assert!(holds("Cpus"));
        assert!(holds("time() == 1000"));
        assert!(!holds("Memory > 1") && !holds("false") && !holds("\"yes\""));
    }
}
