//! Nodes that are broken on purpose, each in one way: `sailplane validate`, as the pilots' account runs it beside the installed
//! helper and a real pool, finds what is wrong, names it, says whose it is and what to do, and ends with the status that
//! belongs to it.
//!
//! A node is broken by a shell: by root in a mount namespace of its own, or by the account (limits). `NODE=name` runs only
//! the nodes whose names begin so (`NODE=*`: all), and prints what was found.

mod cases;
mod node;

use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sailplane_site_tests::{Pool, PoolOptions, helper, process, say};

use self::node::{Case, Ground, Verdict};

/// Nodes that are looked at at the same time.
const BESIDE: usize = 8;

#[test]
fn every_broken_node_is_found_named_and_attributed() {
    let name = "broken";
    if let Some(reason) = process::obstacle() {
        say(&format!("{name} not run: {reason}"));
        return;
    }
    crate::judge(name, all());
}

fn all() -> Result<()> {
    let site = helper::site()?;
    let pool = Pool::raise(&PoolOptions {
        name: "broken".to_owned(),
        ..PoolOptions::default()
    })?;
    let ground = Ground::new(site, &pool)?;
    let wanted = std::env::var("NODE").unwrap_or_default();
    let mut cases: Vec<Case> = cases::all()
        .into_iter()
        .filter(|case| case.name.starts_with(wanted.trim_end_matches('*')))
        .collect();
    cases.reverse();
    let left = Mutex::new(cases);
    let wrong = Mutex::new(Vec::new());
    let next = || left.lock().ok()?.pop();
    std::thread::scope(|scope| {
        for _ in 0..BESIDE {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let began = Instant::now();
                    let came = ground.look(&case);
                    if !wanted.is_empty() {
                        let told = told(&case, came.as_ref());
                        say(&format!("{} ms, {told}", began.elapsed().as_millis()));
                    }
                    let verdict = came.and_then(|came| {
                        case.judge(&came)
                            .with_context(|| format!("{}: {came}", case.name))
                    });
                    if let (Err(error), Ok(mut wrong)) = (verdict, wrong.lock()) {
                        wrong.push(format!("{}: {error:#}", case.name));
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap_or_default();
    wrong.sort_unstable();
    if !wrong.is_empty() {
        bail!("{} nodes:\n\n{}", wrong.len(), wrong.join("\n\n"));
    }
    Ok(())
}

fn told(case: &Case, came: Result<&Verdict, &anyhow::Error>) -> String {
    match came {
        Ok(came) => format!("{}: {came}", case.name),
        Err(error) => format!("{}: {error:#}", case.name),
    }
}
