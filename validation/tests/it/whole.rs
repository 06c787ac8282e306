//! The whole set on this node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use validation::{Context, Knobs, Setup, Status, Whose, builtin};

/// Without a network nothing may take long, nothing may hang, and no failure may be ours.
#[test]
fn the_whole_set_is_quick() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Arc::new(Setup {
        execute: folder.path().to_owned(),
        scratch: folder.path().join("scratch"),
        cpus: 1,
        memory_mib: 64,
        slots: 1,
        ..Setup::default()
    });
    let knobs = Arc::new(Knobs::defaults());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let began = Instant::now();
    let outcomes = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for probe in builtin::all(&knobs) {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
            let context = Context::new(Arc::clone(&setup), Arc::clone(&knobs), deadline);
            tasks.spawn(async move {
                let began = Instant::now();
                let outcome = probe.run(&context).await;
                (probe.check().name.to_string(), outcome, began.elapsed())
            });
        }
        tasks.join_all().await
    });
    let took = began.elapsed();
    for (name, outcome, took) in &outcomes {
        println!("{name} {} ms {:?}", took.as_millis(), outcome.status);
        if let Status::Failed(failure) = &outcome.status {
            assert_ne!(failure.whose, Whose::Pilot, "{name}: {failure:?}");
        }
    }
    println!("{} checks in {} ms", outcomes.len(), took.as_millis());
    // A tenth of this, where nothing else runs.
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn names_and_knobs_are_a_contract() {
    let mut names: Vec<String> = builtin::all(&Knobs::defaults())
        .iter()
        .map(|probe| probe.check().name.to_string())
        .collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    let without = Knobs::defaults()
        .with("SAILPLANE_CHECK_APPTAINER", "NEVER")
        .unwrap();
    assert!(
        builtin::all(&without)
            .iter()
            .all(|probe| probe.check().name.as_str() != "apptainer")
    );
}
