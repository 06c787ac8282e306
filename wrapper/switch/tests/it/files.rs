//! Files: whom root believes, component by component (S6), what messages give away (S8), and trees that change while they
//! are removed (S9).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program};

use launch_protocol::VERSION;
use launch_protocol::broker::{Answer, Command, RefusalClass};

use crate::cell::{CONF, Cell, EXECUTE, LIBEXEC, TAKEN, in_cell, names_in, own, put};
use crate::client::{Pilot, Start};

/// Does the broker start and open a payload? If not, the refusal's class and code.
fn attempt(cell: &Cell) -> Result<(), (RefusalClass, String)> {
    let mut pilot = Start::usual(cell).start();
    if let Answer::Refused(refusal) = pilot.ask(Command::Hello { version: VERSION }, &[]).0 {
        return Err((refusal.class, refusal.code));
    }
    let opened = pilot
        .try_open("accept 3600 full /CN=Alice")
        .map_err(|refusal| (refusal.class, refusal.code))?;
    pilot.close(opened.payload);
    Ok(())
}

/// Every folder from the root directory to the file, and the file.
fn components(path: &str) -> Vec<PathBuf> {
    let mut all: Vec<_> = Path::new(path).ancestors().map(Path::to_owned).collect();
    all.reverse();
    all
}

#[test]
fn s6_every_component_of_every_trusted_path_counts() {
    in_cell(|cell| {
        attempt(cell).expect("as it is, it works");
        let mut seen = std::collections::BTreeSet::new();
        let trusted = [
            CONF,
            "/etc/sailplane/gridmap",
            "/etc/grid-security/certificates",
        ];
        let programs = names_in(LIBEXEC)
            .into_iter()
            .map(|name| format!("{LIBEXEC}/{name}"));
        for path in trusted
            .iter()
            .map(|path| (*path).to_owned())
            .chain(programs)
        {
            // The set-uid program's own mode is the installer's business, and the loader's. Others are not started
            // for a pilot.
            let others = [
                "sailplane-switch",
                "sailplane-glexec",
                "sailplane-policy",
                "sailplane-admin",
                TAKEN,
            ];
            if others.iter().any(|name| path.ends_with(name)) {
                continue;
            }
            for component in components(&path) {
                if !seen.insert(component.clone()) {
                    continue;
                }
                let before = fs::metadata(&component).expect("there");
                let (mode, place) = (
                    std::os::unix::fs::MetadataExt::mode(&before) & 0o7777,
                    component.display(),
                );
                for (owner, mode) in [
                    (0, mode | 0o020),
                    (0, mode | 0o002),
                    (cell.pilot, mode),
                    (cell.first, mode),
                ] {
                    own(&component, owner, mode);
                    let outcome = attempt(cell);
                    let Err((class, code)) = outcome else {
                        panic!("{place} with owner {owner} and mode {mode:o} is believed")
                    };
                    assert_eq!(class, RefusalClass::SitePermanent, "{place}: {code}");
                    assert!(
                        code.starts_with("conf.") || code.ends_with(".missing"),
                        "{place}: {code}"
                    );
                }
                own(&component, 0, mode);
            }
        }
        assert!(seen.len() > 8, "{seen:?}");
        attempt(cell).expect("as it was, it works");
    });
}

#[test]
fn s6_a_front_that_others_can_write_is_not_started() {
    in_cell(|cell| {
        let front = Path::new(LIBEXEC).join("sailplane-glexec");
        for (owner, mode) in [(0, 0o775), (0, 0o757), (cell.pilot, 0o755)] {
            own(&front, owner, mode);
            let mut caller = Start {
                program: format!("{LIBEXEC}/sailplane-switch -- /bin/true"),
                ..Start::usual(cell)
            }
            .start();
            assert_eq!(caller.end(), Some(202), "owner {owner}, mode {mode:o}");
            let said = caller.last_words();
            assert!(said.contains("sailplane-glexec"), "{said}");
            assert!(said.contains("[conf."), "{said}");
        }
    });
}

#[test]
fn m1_without_any_file_of_the_policy_nothing_runs() {
    in_cell(|cell| {
        for path in [CONF, "/etc/sailplane/gridmap"] {
            let text = fs::read_to_string(path).expect("there");
            fs::remove_file(path).expect("removed");
            let (class, code) = attempt(cell).expect_err("refused");
            assert_eq!(
                (class, code.as_str()),
                (RefusalClass::SitePermanent, "conf.missing"),
                "{path}"
            );
            put(path, &text, 0o644);
        }
        attempt(cell).expect("as it was, it works");
    });
}

#[test]
fn s8_a_refusal_does_not_tell_what_the_caller_cannot_see() {
    in_cell(|cell| {
        put("/scratch/closed/there/file", "", 0o644);
        own("/scratch/closed", 0, 0o700);
        own("/scratch/closed/there", cell.alice, 0o777);
        let mut pilot = Pilot::start(cell);
        let mut words = Vec::new();
        for name in [
            "there",
            "missing",
            "there/file",
            "there/none",
            "missing/none",
        ] {
            let dir = format!("/scratch/closed/{name}");
            let refusal = pilot
                .try_open_in("accept 3600 full /CN=Bob", &dir)
                .expect_err(name);
            words.push((refusal.code, refusal.message.replace(&dir, "DIR")));
        }
        words.dedup();
        assert_eq!(words.len(), 1, "{words:#?}");
    });
}

/// Exchanges names below a folder as fast as it can, as this account, until it is dropped.
struct Racer(Child);

impl Racer {
    fn start(uid: u32, script: &str) -> Self {
        let racer = Program::new("setpriv")
            .args([format!("--reuid={uid}"), format!("--regid={uid}")])
            // It ends with the test, however that ends.
            .args([
                "--clear-groups",
                "--pdeathsig",
                "KILL",
                "python3",
                "-Sc",
                script,
            ])
            .spawn();
        Self(racer.expect("starts"))
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn s9_a_tree_that_changes_while_it_is_removed_leads_nowhere() {
    in_cell(|cell| {
        for name in ["precious/deep", "other"] {
            fs::create_dir_all(format!("/scratch/{name}")).expect("made");
        }
        for name in ["precious/file", "precious/deep/file", "other/file"] {
            put(format!("/scratch/{name}"), "keep", 0o666);
        }
        // Worth attacking: the account could remove it all if it only got there as somebody else.
        own("/scratch/precious", cell.pilot, 0o755);
        own("/scratch/precious/deep", cell.pilot, 0o755);
        for _ in 0..5 {
            let mut pilot = Pilot::start(cell);
            let opened = pilot.try_open("accept 3600 full /CN=Alice").expect("opens");
            let sandbox = opened
                .sandbox
                .clone()
                .expect("a sandbox")
                .display()
                .to_string();
            pilot.run(opened.payload, "for i in 1 2 3 4 5 6 7 8; do mkdir -p $i/a/b/c; : >$i/a/b/c/f; done; ln -s /scratch/precious link");
            // A process of the same account outside of the group, as a neighbour's would be.
            let script = format!(
                "import os\nos.chdir('{sandbox}')\nwhile True:\n for i in '12345678':\n  for x, y in ((i, 'link'), (i+'/a', 'link')):\n   try: \
                 os.rename(x, 't'); os.rename(y, x); os.rename(x, y); os.rename('t', x)\n   except OSError: pass"
            );
            let racer = Racer::start(cell.alice, &script);
            let _ = pilot.ask(
                Command::Close {
                    payload: opened.payload,
                },
                &[],
            );
            drop(racer);
            pilot.hang_up();
            for name in ["precious/file", "precious/deep/file", "other/file"] {
                assert_eq!(
                    fs::read_to_string(format!("/scratch/{name}")).expect("there"),
                    "keep"
                );
            }
        }
        // Whatever a neighbour kept busy is done by the next start.
        let mut last = Pilot::start(cell);
        last.hang_up();
        assert_eq!(names_in(EXECUTE), Vec::<String>::new());
    });
}

#[test]
fn s9_a_place_that_the_caller_exchanges_gets_nothing_of_roots() {
    in_cell(|cell| {
        fs::create_dir_all("/scratch/pilot/a").expect("made");
        own("/scratch/pilot/a", cell.pilot, 0o755);
        fs::create_dir_all("/root/secret").expect("made");
        let script = "import os\nos.chdir('/scratch/pilot')\nos.symlink('/root/secret', 'l')\nwhile True:\n try:\n  os.rename('a', 't'); \
            os.rename('l', 'a'); os.rename('a', 'l'); os.rename('t', 'a')\n except OSError: pass\n for n in os.listdir('a'):\n  try: \
            os.rename('a/' + n, 'a/x'); os.symlink('/root/secret', 'a/' + n)\n  except OSError: pass";
        let racer = Racer::start(cell.pilot, script);
        let mut pilot = Pilot::start(cell);
        let mut made = 0;
        for _ in 0..300 {
            // Sandboxes of a caller that plays with its own folder may be lost, to itself only.
            if let Ok(opened) = pilot.try_open_in("accept 3600 full /CN=Alice", "/scratch/pilot/a")
            {
                made += 1;
                let _ = pilot.ask(
                    Command::Close {
                        payload: opened.payload,
                    },
                    &[],
                );
            }
        }
        drop(racer);
        assert!(names_in("/root/secret").is_empty(), "{made} made");
        let facts = fs::metadata("/root/secret").expect("there");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&facts), 0);
        pilot.hang_up();
    });
}
