//! The factory and the frontend of `examples/` work as they are.

use std::path::{Path, PathBuf};

use validation::manifest::sign;

use super::support::{Pilot, digest_pin};

fn example(name: &str) -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    repository.join("examples").join(name).join("manifest.json")
}

#[tokio::test]
async fn the_examples_work() {
    let (factory, frontend) = (example("factory"), example("frontend"));
    let list: Vec<String> = [&factory, &frontend]
        .iter()
        .map(|path| format!("file://{}#{}", path.display(), digest_pin(path)))
        .collect();
    let ran = Pilot::new()
        .with("SAILPLANE_MANIFESTS", &list.join(" "))
        .with("SAILPLANE_ENTRY", "Example_CE_2")
        .run()
        .await;
    let words = ran.words();
    assert!(!words.contains(" failed"), "{words}");
    let said = ran.attributes("custom-attributes");
    for part in ["GLIDEIN_Site = \"Example-Site\"", "VO_HAS_PYTHON = "] {
        assert!(
            said.iter().any(|line| line.starts_with(part)),
            "{part}: {said:?}"
        );
    }
}

#[test]
fn their_digests_are_up_to_date() {
    for name in ["factory", "frontend"] {
        let path = example(name);
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let changed = sign::fill(&copy.path().join("manifest.json")).unwrap();
        assert!(
            changed.is_empty(),
            "run: sailplane manifest fill examples/{name}/manifest.json ({changed:?})"
        );
    }
}
