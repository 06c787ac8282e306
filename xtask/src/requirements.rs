//! The table of requirements in `docs/requirements.md` against the tests that are named after them.
//!
//! A test proves requirement S11 when its name begins with `s11_`; one that proves two begins with both numbers
//! (`s11_s12_...`). The table's last column is written by `--write`; without it, the check fails when a requirement has no
//! test, or when the table names a test that is not there any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::console;

/// Where such tests are.
const FOLDERS: [&str; 4] = ["wrapper", "credential", "pilot", "site-tests"];

/// Tests by requirement: name and folder.
type Tests = BTreeMap<String, Vec<(String, String)>>;

/// `cargo xtask requirements`.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let write = match arguments {
        [] => false,
        ["--write"] => true,
        _ => bail!("usage: cargo xtask requirements [--write]"),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("");
    let table = root.join("docs/requirements.md");
    let text = fs::read_to_string(&table).with_context(|| format!("read {}", table.display()))?;
    let (mut tests, mut all) = (Tests::new(), BTreeSet::new());
    for folder in FOLDERS {
        collect(&root.join(folder), folder, &mut tests, &mut all)?;
    }
    let known: Vec<&str> = text
        .lines()
        .filter_map(row)
        .map(|(number, ..)| number)
        .collect();
    let unknown: Vec<_> = tests
        .keys()
        .filter(|number| !known.contains(&number.as_str()))
        .collect();
    if !unknown.is_empty() {
        bail!("tests are named after requirements that the table does not have: {unknown:?}");
    }
    if write {
        let lines = text.lines().map(|line| match row(line) {
            Some((number, rule, _)) => {
                format!("| {number} | {rule} | {} |", column(tests.get(number)))
            }
            None => line.to_owned(),
        });
        let new = lines.collect::<Vec<_>>().join("\n") + "\n";
        fs::write(&table, new).with_context(|| format!("write {}", table.display()))?;
    } else {
        let gone: Vec<_> = text
            .lines()
            .filter_map(row)
            .flat_map(|row| gone(row, &tests))
            .collect();
        if !gone.is_empty() {
            bail!(
                "the table names tests that are not there: {}; say --write",
                gone.join(", ")
            );
        }
    }
    holes(&root, &all)?;
    let bare: Vec<_> = known
        .iter()
        .filter(|number| !tests.contains_key(**number))
        .copied()
        .collect();
    if !bare.is_empty() {
        bail!("requirements without a test: {}", bare.join(", "));
    }
    let count: usize = tests.values().map(Vec::len).sum();
    console::line(&format!(
        "{} requirements, {count} tests named after them",
        known.len()
    ));
    Ok(())
}

/// Every test that `docs/past-holes.md` names must be there.
fn holes(root: &Path, known: &BTreeSet<String>) -> Result<()> {
    let path = root.join("docs/past-holes.md");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let last = text
        .lines()
        .filter_map(|line| line.strip_suffix(" |")?.rsplit_once(" | "));
    let named = last.flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2));
    let gone: Vec<_> = named.filter(|name| !known.contains(*name)).collect();
    if !gone.is_empty() {
        bail!(
            "docs/past-holes.md names tests that are not there: {}",
            gone.join(", ")
        );
    }
    Ok(())
}

/// Number, rule and tests of a line of the table.
fn row(line: &str) -> Option<(&str, &str, &str)> {
    let mut cells = line
        .strip_prefix("| ")?
        .strip_suffix(" |")?
        .splitn(2, " | ");
    let number = cells.next().filter(|number| is_number(number))?;
    let (rule, tests) = cells.next()?.rsplit_once(" | ")?;
    Some((number, rule, tests))
}

/// One of the letters and a number.
fn is_number(word: &str) -> bool {
    let mut characters = word.chars();
    characters
        .next()
        .is_some_and(|letter| "GCATMSKgcatmsk".contains(letter))
        && !characters.as_str().is_empty()
        && characters.all(|digit| digit.is_ascii_digit())
}

fn column(tests: Option<&Vec<(String, String)>>) -> String {
    let mut by_folder = BTreeMap::<&str, Vec<String>>::new();
    for (name, folder) in tests.into_iter().flatten() {
        by_folder
            .entry(folder)
            .or_default()
            .push(format!("`{name}`"));
    }
    let parts = by_folder
        .into_iter()
        .map(|(folder, names)| format!("{folder}: {}", names.join(", ")));
    parts.collect::<Vec<_>>().join("; ")
}

/// Tests that a row names and nobody has.
fn gone((number, _, names): (&str, &str, &str), tests: &Tests) -> Vec<String> {
    let there = tests.get(number).map_or(&[][..], Vec::as_slice);
    names
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| !there.iter().any(|(test, _)| test == name))
        .map(|name| format!("{number}: {name}"))
        .collect()
}

/// Reads the Rust files below a folder; the first two parts of the path name the crate.
fn collect(
    folder: &Path,
    crate_name: &str,
    tests: &mut Tests,
    all: &mut BTreeSet<String>,
) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            let below = if crate_name == "wrapper" {
                format!("wrapper/{name}")
            } else {
                crate_name.to_owned()
            };
            collect(&path, &below, tests, all)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            for test in names(&text) {
                all.insert(test.to_owned());
                for number in numbers(test) {
                    tests
                        .entry(number)
                        .or_default()
                        .push((test.to_owned(), crate_name.to_owned()));
                }
            }
        }
    }
    Ok(())
}

/// Names of the functions that carry a test attribute.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    text.lines().filter_map(move |line| {
        let line = line.trim_start();
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        }
        let function = line
            .strip_prefix("async ")
            .unwrap_or(line)
            .strip_prefix("fn ")?;
        std::mem::take(&mut is_test).then(|| function.split('(').next().unwrap_or_default())
    })
}

/// The requirements a test is named after.
fn numbers(test: &str) -> impl Iterator<Item = String> {
    test.split('_')
        .take_while(|word| is_number(word))
        .map(str::to_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_named_after_what_it_proves() {
        let text = "#[test]\nfn s11_s12_clean() {}\n    #[tokio::test]\n    async fn k6_late() {}\nfn s1_helper() {}\n";
        assert_eq!(
            names(text).collect::<Vec<_>>(),
            ["s11_s12_clean", "k6_late"]
        );
        assert_eq!(numbers("s11_s12_clean").collect::<Vec<_>>(), ["S11", "S12"]);
        assert_eq!(numbers("a_test").count() + numbers("speed").count(), 0);
    }

    #[test]
    fn a_row_is_read_back_as_written() {
        let test = |name: &str| (name.to_owned(), "wrapper/switch".to_owned());
        let tests = Tests::from([("S2".to_owned(), vec![test("s2_a"), test("s2_b")])]);
        let line = format!("| S2 | one thread | {} |", column(tests.get("S2")));
        assert_eq!(line, "| S2 | one thread | wrapper/switch: `s2_a`, `s2_b` |");
        let read = row(&line).expect("a row");
        assert_eq!((read.0, read.1), ("S2", "one thread"));
        assert!(gone(read, &tests).is_empty());
        assert_eq!(gone(read, &Tests::new()).len(), 2);
        assert_eq!(row("| rule | text | tests |"), None);
    }
}
