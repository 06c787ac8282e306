//! What depends on what: names become numbers, once, and what cannot be done is said before anything is run.

use std::collections::BTreeMap;

use crate::check::{Check, CheckName};

/// Checks that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two have one name.
    #[error("two checks have the name {name}; change one of them, or remove it")]
    Twice {
        /// The name.
        name: CheckName,
    },
    /// One waits for another that is not there.
    #[error("the check {check} waits for {name}, and there is no check of that name")]
    Unknown {
        /// Who waits.
        check: CheckName,
        /// For whom.
        name: CheckName,
    },
    /// They wait for each other.
    #[error("checks wait for each other in a circle: {}", join(names))]
    Circle {
        /// Each waits for the next, the last for the first.
        names: Vec<CheckName>,
    },
}

fn join(names: &[CheckName]) -> String {
    let mut all: Vec<&str> = names.iter().map(CheckName::as_str).collect();
    all.extend(names.first().map(CheckName::as_str));
    all.join(" -> ")
}

/// Whom one check waits for, by numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// They must have passed.
    pub(super) passed: Vec<usize>,
    /// They must have ended.
    pub(super) ended: Vec<usize>,
}

/// Resolves the names.
///
/// # Errors
/// [`GraphError`]: the first thing that cannot be done.
pub(super) fn resolve(checks: &[&Check]) -> Result<Vec<Needs>, GraphError> {
    let mut numbers = BTreeMap::new();
    for (number, check) in checks.iter().enumerate() {
        if numbers.insert(&check.name, number).is_some() {
            return Err(GraphError::Twice {
                name: check.name.clone(),
            });
        }
    }
    let find = |check: &Check, names: &[CheckName]| {
        names
            .iter()
            .map(|name| {
                numbers
                    .get(name)
                    .copied()
                    .ok_or_else(|| GraphError::Unknown {
                        check: check.name.clone(),
                        name: name.clone(),
                    })
            })
            .collect::<Result<Vec<_>, _>>()
    };
    let mut all = Vec::with_capacity(checks.len());
    for check in checks {
        all.push(Needs {
            passed: find(check, &check.prerequisites)?,
            ended: find(check, &check.after)?,
        });
    }
    match circle(&all) {
        None => Ok(all),
        Some(numbers) => Err(GraphError::Circle {
            names: numbers
                .into_iter()
                .filter_map(|number| Some(checks.get(number)?.name.clone()))
                .collect(),
        }),
    }
}

/// A circle, if there is one: what is left when all that waits for nobody has been taken away again and again, and
/// then followed from anywhere until it repeats.
fn circle(all: &[Needs]) -> Option<Vec<usize>> {
    let mut left: Vec<usize> = (0..all.len()).collect();
    let waits = |number: usize, left: &[usize]| {
        let needs = all.get(number)?;
        needs
            .passed
            .iter()
            .chain(&needs.ended)
            .copied()
            .find(|other| left.contains(other))
    };
    loop {
        let before = left.len();
        let now = left.clone();
        left.retain(|&number| waits(number, &now).is_some());
        if left.len() == before {
            break;
        }
    }
    let mut path = vec![*left.first()?];
    loop {
        let next = waits(*path.last()?, &left)?;
        if let Some(begin) = path.iter().position(|&known| known == next) {
            return Some(path.split_off(begin));
        }
        path.push(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(checks: &[Check]) -> String {
        let all: Vec<&Check> = checks.iter().collect();
        resolve(&all).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_done_is_said_with_names() {
        let check = |name: &str| Check::new(name, "");
        assert_eq!(
            fails(&[check("a"), check("a")]),
            "two checks have the name a; change one of them, or remove it"
        );
        assert_eq!(
            fails(&[check("a").needs("b")]),
            "the check a waits for b, and there is no check of that name"
        );
        assert_eq!(
            fails(&[
                check("x"),
                check("a").needs("b"),
                check("b").after("c"),
                check("c").needs("a")
            ]),
            "checks wait for each other in a circle: a -> b -> c -> a"
        );
        assert_eq!(
            fails(&[check("a").needs("a")]),
            "checks wait for each other in a circle: a -> a"
        );
        assert_eq!(
            fails(&[
                check("y").needs("a"),
                check("a").needs("b"),
                check("b").needs("a")
            ]),
            "checks wait for each other in a circle: a -> b -> a"
        );
    }

    #[test]
    fn names_become_numbers() {
        let checks = [
            Check::new("c", "").needs("a").after("b"),
            Check::new("a", ""),
            Check::new("b", ""),
        ];
        let all: Vec<&Check> = checks.iter().collect();
        let needs = resolve(&all).unwrap();
        assert_eq!(
            (needs[0].passed.as_slice(), needs[0].ended.as_slice()),
            ([1].as_slice(), [2].as_slice())
        );
    }
}
