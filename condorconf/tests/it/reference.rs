//! The cases in `tests/reference`, compared with what the real `condor_config_val` 23.9.6 said of them.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a failure is the test's"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use condorconf::{Config, Errors, Evaluated, Evaluator, Loader, MemoryFiles, Origin};

/// Where the cases were when the real program read them.
const INSIDE: &str = "/tmp/reference";

/// The few expressions of the cases; the language itself is another crate's business.
struct Expressions;

impl Evaluator for Expressions {
    fn evaluate(&self, text: &str) -> Option<Evaluated> {
        Some(match text {
            "1+2" => Evaluated::Integer(3),
            "3+4" => Evaluated::Integer(7),
            "1.5" => Evaluated::Real(1.5),
            "true" => Evaluated::Boolean(true),
            "undefined" | "plain" | "abc" => Evaluated::Other("undefined".to_owned()),
            "strcat(\"a\",\"b\")" => Evaluated::String("ab".to_owned()),
            _ => Evaluated::String(text.strip_prefix('"')?.strip_suffix('"')?.to_owned()),
        })
    }
}

struct Case {
    dir: PathBuf,
    name: String,
}

impl Case {
    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.dir.join(file)).unwrap_or_default()
    }

    fn load(&self) -> Result<Config, Errors> {
        let mut files = add(
            MemoryFiles::new(),
            &self.dir,
            &format!("{INSIDE}/{}", self.name),
        )
        .command(
            &["/bin/echo", "C", "=", "from", "a", "command"],
            "C = from a command\n",
        )
        .command(
            &["/bin/echo", "D", "=", "from", "root", "one", "two"],
            "D = from root one two\n",
        );
        let options = self.text("options");
        for line in options.lines() {
            if let Some((name, value)) = line
                .strip_prefix("env ")
                .and_then(|rest| rest.split_once('='))
            {
                files = files.variable(name, value);
            }
        }
        let mut loader = Loader::new(&files)
            .evaluator(Arc::new(Expressions))
            .detected("FULL_HOSTNAME", "node.example.org")
            .detected("IP_ADDRESS", "192.0.2.1")
            .detected("CondorIsAdmin", "true")
            .read_file(&format!("{INSIDE}/{}/root.conf", self.name));
        for line in options.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            loader = match (word, rest.split_once('=')) {
                ("subsys", _) => loader.subsys(rest),
                ("local", _) => loader.local_name(rest),
                ("default", Some((name, value))) => loader.default_value(name, value),
                ("env", _) => loader,
                other => panic!("option {other:?}"),
            };
        }
        loader.finish()
    }
}

fn add(mut files: MemoryFiles, dir: &Path, inside: &str) -> MemoryFiles {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let inside = format!("{inside}/{}", entry.file_name().to_str().unwrap());
        files = if entry.path().is_dir() {
            add(files, &entry.path(), &inside)
        } else {
            files.file(&inside, fs::read(entry.path()).unwrap())
        };
    }
    files
}

fn cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    let mut cases: Vec<Case> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|dir| Case {
            name: dir.file_name().unwrap().to_str().unwrap().to_owned(),
            dir,
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!cases.is_empty());
    cases
}

/// What we say of one knob, in the form of the recordings.
fn describe(config: &Config, knob: &str) -> String {
    let mut text = format!("@knob {knob}\n");
    match config.get(knob) {
        Err(_) => text.push_str("@wrong\n"),
        Ok(None) => text.push_str("@undefined\n"),
        Ok(Some(value)) => {
            let at = match config.origin(knob).unwrap() {
                Origin::File(place) => {
                    let template = place
                        .template
                        .as_ref()
                        .map_or_else(String::new, |template| format!(", use {template}"));
                    format!("{}, line {}{template}", place.file, place.line)
                }
                Origin::Environment => "<Environment>".to_owned(),
                Origin::Detected => "<Detected>".to_owned(),
                other => other.to_string(),
            };
            text.push_str(&format!(
                "@value\n{value}\n@raw\n{}\n@at\n{at}\n",
                config.raw(knob).unwrap()
            ));
        }
    }
    text
}

/// The real program also says which line of the template it was (`use SECURITY:STRONG+2`).
fn without_offset(section: &str) -> String {
    let strip = |line: &str| match line.rsplit_once('+') {
        Some((place, offset)) if place.contains(", use ") && offset.parse::<u32>().is_ok() => {
            place.to_owned()
        }
        _ => line.to_owned(),
    };
    section.lines().map(|line| strip(line) + "\n").collect()
}

#[test]
fn values_and_origins_are_those_of_condor_config_val() {
    let mut differences = String::new();
    for case in cases() {
        let expected = case.text("expected");
        if expected.starts_with("@fails") {
            continue;
        }
        let config = match case.load() {
            Ok(config) => config,
            Err(errors) => {
                differences.push_str(&format!("{}: {errors}\n", case.name));
                continue;
            }
        };
        for section in expected.split("@knob ").skip(1) {
            let knob = section.lines().next().unwrap();
            let ours = describe(&config, knob);
            if ours.strip_prefix("@knob ").unwrap() != without_offset(section) {
                differences.push_str(&format!(
                    "--- {} ---\nreal: {section}ours: {ours}\n",
                    case.name
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn what_condor_config_val_refuses_is_refused_at_the_same_line() {
    for case in cases() {
        let expected = case.text("expected");
        let Some(message) = expected.strip_prefix("@fails\n") else {
            continue;
        };
        let Err(errors) = case.load() else {
            panic!("{} is accepted; HTCondor: {message}", case.name);
        };
        let line = message.lines().find_map(|line| {
            line.strip_prefix("Configuration Error Line ")?
                .split(' ')
                .next()
        });
        if let Some(line) = line.and_then(|line| line.parse::<u32>().ok()) {
            let at = |error: &condorconf::Error| {
                error
                    .origin()
                    .and_then(Origin::place)
                    .map(|place| place.line)
            };
            assert!(
                errors.iter().any(|error| at(error) == Some(line)),
                "{}: {errors}\n{message}",
                case.name
            );
        }
    }
}
