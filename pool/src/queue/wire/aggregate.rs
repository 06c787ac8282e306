//! Jobs counted in groups: by autocluster, or by the values of some attributes.

use std::collections::BTreeMap;

use cedar::net::Incoming;
use classad::{ClassAd, Value};

use super::{Batch, Unserved, limit, projection, query};
use crate::JobId;
use crate::queue::{Queue, now};

struct Group {
    ad: ClassAd,
    jobs: Vec<JobId>,
    count: usize,
}

pub(super) async fn answer(
    queue: &Queue,
    incoming: &mut Incoming,
    asked: &ClassAd,
) -> Result<(), Unserved> {
    let by_autocluster = asked.bool("QueryDefaultAutocluster") == Some(true);
    let names = projection(asked);
    if !by_autocluster && names.is_empty() {
        return query::refuse(
            incoming,
            "a question by groups needs the attributes to group by",
        )
        .await;
    }
    let shown = limit(asked, "MaxReturnedJobIds");
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for job in query::find(queue.clone(), asked, None).await? {
        let (key, ad) = if by_autocluster {
            let key = format!("{:010}", job.autocluster);
            (key, None)
        } else {
            let ad = values(&job.part(names.iter().map(String::as_str)), &names);
            (ad.to_old(), Some(ad))
        };
        let group = groups.entry(key).or_insert_with(|| Group {
            ad: ad.unwrap_or_else(|| {
                let whole = job.whole();
                let names = queue.model().autoclusters.attributes(&whole);
                let mut ad = values(&whole, &names);
                ad.insert("AutoClusterId", i64::from(job.autocluster));
                ad
            }),
            jobs: Vec::new(),
            count: 0,
        });
        group.count += 1;
        group.jobs.push(job.id);
    }
    let mut batch = Batch::new(incoming);
    for (number, group) in groups
        .into_values()
        .take(limit(asked, "LimitResults"))
        .enumerate()
    {
        let mut ad = group.ad;
        if !by_autocluster {
            ad.insert("Id", i64::try_from(number).unwrap_or(0) + 1);
        }
        ad.insert("JobCount", i64::try_from(group.count).unwrap_or(i64::MAX));
        if asked.contains("MaxReturnedJobIds") {
            ad.insert("JobIds", ids(&group.jobs, shown));
        }
        batch.ad(&ad).await?;
    }
    let mut last = ClassAd::new();
    last.insert("Owner", 0);
    last.insert("ErrorCode", 0);
    last.insert("ServerTime", now());
    batch.end(&last).await
}

/// The named attributes, without those that are not there.
fn values(ad: &ClassAd, names: &[String]) -> ClassAd {
    names
        .iter()
        .filter_map(|name| Some((name.as_str(), ad.get(name)?)))
        .filter(|(_, expr)| !matches!(expr.as_literal(), Some(Value::Undefined)))
        .map(|(name, expr)| (name, expr.clone()))
        .collect()
}

/// The first jobs and the last one: `1.0 1.1 ... 7.3`.
fn ids(jobs: &[JobId], most: usize) -> String {
    let Some((last, others)) = jobs.split_last() else {
        return String::new();
    };
    let shown = most.saturating_sub(1).max(1);
    let mut words: Vec<String> = others.iter().take(shown).map(JobId::to_string).collect();
    if others.len() > shown {
        words.push("...".to_owned());
    }
    words.push(last.to_string());
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_job_are_shown() {
        let jobs: Vec<JobId> = (0..5).map(|proc| JobId::new(3, proc)).collect();
        assert_eq!(ids(&jobs, 2), "3.0 ... 3.4");
        assert_eq!(ids(&jobs[..2], 2), "3.0 3.1");
        assert_eq!(ids(&jobs[..1], 2), "3.0");
        assert_eq!(ids(&jobs, usize::MAX), "3.0 3.1 3.2 3.3 3.4");
    }
}
