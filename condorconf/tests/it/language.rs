//! What a program that reads a configuration relies on, beyond the comparison with HTCondor.

use condorconf::{
    Config, ErrorKind, Errors, Evaluated, Evaluator, FileError, Limits, Loader, MemoryFiles,
    Origin, RealFiles, Warning,
};
use std::sync::Arc;
use std::time::Duration;

fn load(text: &str) -> Result<Config, Errors> {
    Loader::new(&MemoryFiles::new())
        .read_text("test", text)
        .finish()
}

fn shown(text: &str) -> Vec<String> {
    let Err(errors) = load(text) else {
        panic!("no mistake in {text:?}")
    };
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn all_mistakes_are_reported_each_with_its_line() {
    let errors = shown(
        "A = 1\nno statement\nB-C = 2\nif what ever\n hidden nonsense\nelse\n hidden too\nendif\nendif\n\
         include : /nowhere\nuse SECURITY : Nothing\nD @=end\ntext\n",
    );
    let expected = [
        "test:2: not a statement: expected NAME = value, use, include, if, error or warning, got \"no statement\"",
        "test:3: \"B-C\" is not a valid name (letters, digits, '_', '.' and '/' only)",
        "test:4: \"what ever\" is not a valid condition: expressions are not supported, only booleans, numbers, defined \
         and version",
        "test:9: endif without a matching if, or after else",
        "test:10: cannot read /nowhere: entity not found",
        "test:11: use SECURITY:Nothing: this template is not supported here (supported: HOST_BASED, USER_BASED, \
         WITH_AUTHENTICATION, STRONG, recommended_v9_0, get_htcondor_idtokens, FIPS)",
        "test:13: the here-document of D has no closing line @end",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn endless_references_are_an_error_where_the_knob_is_set() {
    let config = load("A = $(B)\nB = x$(A)\nC = $INT(C)\n").unwrap();
    for (knob, line) in [("A", 1), ("B", 2), ("C", 3)] {
        let error = config.get(knob).unwrap_err();
        assert_eq!(error.knob(), Some(knob));
        assert_eq!(
            error
                .origin()
                .and_then(Origin::place)
                .map(|place| place.line),
            Some(line),
            "{error}"
        );
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Endless { .. } | ErrorKind::TooLarge { .. }
            ),
            "{error}"
        );
    }
}

#[test]
fn doubling_values_and_endless_includes_end_at_the_limits() {
    let mut text = "A = 0123456789\n".to_owned();
    for _ in 0..40 {
        text.push_str("A = $(A)$(A)\n");
    }
    assert!(
        shown(&text)[0].contains("exceeds the limit"),
        "{:?}",
        shown(&text)[0]
    );

    let files = MemoryFiles::new().file("/a", "include : /a\ninclude : /a\ninclude : /a\n");
    let errors = Loader::new(&files).read_file("/a").finish().unwrap_err();
    assert!(errors.iter().count() <= Limits::default().errors);

    let limits = Limits {
        file_bytes: 10,
        ..Limits::default()
    };
    let files = MemoryFiles::new().file("/a", "A = 0123456789");
    let errors = Loader::new(&files)
        .limits(limits)
        .read_file("/a")
        .finish()
        .unwrap_err();
    let kind = errors.iter().next().unwrap().kind().clone();
    assert_eq!(
        kind,
        ErrorKind::Unreadable {
            path: "/a".to_owned(),
            cause: FileError::TooLarge { limit: 10 }
        }
    );
}

#[test]
fn bytes_that_are_not_text_are_refused_with_their_line() {
    let files = MemoryFiles::new()
        .file("/a", b"A = 1\nB = \xff\n".to_vec())
        .file("/b", b"A = \0".to_vec());
    let errors = Loader::new(&files)
        .read_file("/a")
        .read_file("/b")
        .finish()
        .unwrap_err();
    let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let why = "not a text file (NUL byte or not UTF-8)";
    assert_eq!(shown, [format!("/a:2: {why}"), format!("/b:1: {why}")]);
}

#[test]
fn typed_values_name_knob_and_place_when_they_are_wrong() {
    let config =
        load("N = twelve\nBIG = 70000\nLIST = a, b  c,,d\nT = TRUE\nF = 0\nS = 90\nW = perhaps\n")
            .unwrap();
    assert_eq!(
        config.int("N", 1, 0..=10).unwrap_err().to_string(),
        "test:1: N: expected an integer, got \"twelve\""
    );
    assert_eq!(
        config.int("BIG", 1, 1..=65_535).unwrap_err().to_string(),
        "test:2: BIG: expected an integer from 1 to 65535, got 70000, which is too large"
    );
    assert_eq!(config.list("LIST").unwrap(), ["a", "b", "c", "d"]);
    assert_eq!(
        (
            config.bool("T", false),
            config.bool("F", true),
            config.bool("NOPE", true)
        ),
        (Ok(true), Ok(false), Ok(true))
    );
    assert!(config.bool("W", true).is_err());
    assert_eq!(
        config.duration_seconds("S", 1, 0..=100),
        Ok(Duration::from_secs(90))
    );
    assert_eq!(
        config.duration_seconds("NOPE", 7, 0..=100),
        Ok(Duration::from_secs(7))
    );
    assert_eq!(
        config.required("NOPE").unwrap_err().to_string(),
        "NOPE: is not set"
    );
    assert_eq!(config.string("NOPE", "other").unwrap(), "other");
}

#[test]
fn what_is_stronger_wins() {
    let files = MemoryFiles::new()
        .file(
            "/a",
            "A = file\nB = file\nC = file\nHOSTNAME = lie\nD = $(D) file\n",
        )
        .variable("_CONDOR_B", "environment")
        .variable("_CONDOR_C", "environment");
    let config = Loader::new(&files)
        .default_value("A", "default")
        .default_value("E", "default")
        .default_value("D", "default")
        .detected("HOSTNAME", "node7")
        .read_file("/a")
        .set("C", "command line", Origin::CommandLine)
        .finish()
        .unwrap();
    let shown = |knob: &str| {
        format!(
            "{} ({})",
            config.get(knob).unwrap().unwrap(),
            config.origin(knob).unwrap()
        )
    };
    assert_eq!(shown("A"), "file (/a:1)");
    assert_eq!(shown("B"), "environment (environment)");
    assert_eq!(shown("C"), "command line (command line)");
    assert_eq!(shown("D"), "default file (/a:5)");
    assert_eq!(shown("E"), "default (default)");
    assert_eq!(shown("HOSTNAME"), "node7 (detected)");
    let names: Vec<&str> = config.iter().map(|knob| knob.name).collect();
    assert_eq!(names, ["A", "B", "C", "CONFIG_ROOT", "D", "E", "HOSTNAME"]);
}

#[test]
fn local_files_that_are_set_too_late_are_warned_of() {
    let files = MemoryFiles::new().variable("_CONDOR_LOCAL_CONFIG_FILE", "/x");
    let config = Loader::new(&files).finish().unwrap();
    assert!(
        matches!(config.warnings(), [Warning::TooLate { name, .. }] if name == "LOCAL_CONFIG_FILE")
    );
}

#[test]
fn commands_run_only_where_they_may() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("root.conf");
    std::fs::write(
        &path,
        "include command : /bin/echo A = b c\ninclude : /bin/echo 'B = 1' |\n",
    )
    .unwrap();
    let path = path.to_str().unwrap();
    let files = RealFiles::new();
    let errors = Loader::new(&files)
        .without_environment()
        .read_file(path)
        .finish()
        .unwrap_err();
    let causes: Vec<_> = errors.iter().map(|error| error.kind().clone()).collect();
    assert!(
        matches!(
            &causes[0],
            ErrorKind::Unreadable {
                cause: FileError::CommandsForbidden,
                ..
            }
        ),
        "{causes:?}"
    );
    let files = RealFiles::with_commands();
    let errors = Loader::new(&files)
        .without_environment()
        .read_file(path)
        .finish()
        .unwrap_err();
    // Without double quotes around it, a command line keeps its single quotes: 'B is no name.
    assert_eq!(errors.iter().count(), 1, "{errors}");
    std::fs::write(
        path,
        "include command : \"/bin/echo 'A = b  c'\"\ninclude command : /bin/false\n",
    )
    .unwrap();
    let errors = Loader::new(&files)
        .without_environment()
        .read_file(path)
        .finish()
        .unwrap_err();
    assert!(
        errors
            .to_string()
            .ends_with("/bin/false |: the command failed (exit status Some(1))"),
        "{errors}"
    );
    std::fs::write(path, "include command : \"/bin/echo 'A = b  c'\"\n").unwrap();
    let config = Loader::new(&files)
        .without_environment()
        .read_file(path)
        .finish()
        .unwrap();
    assert_eq!(config.get("A").unwrap().as_deref(), Some("b  c"));
}

#[test]
fn a_real_directory_is_read_in_the_order_of_names() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().to_str().unwrap();
    for (name, text) in [
        ("20", "A = $(A) 20\n"),
        ("10", "A = $(A) 10\n"),
        ("10.rpmnew", "A = no\n"),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    std::fs::create_dir(dir.path().join("15")).unwrap();
    let files = RealFiles::new();
    let text = format!("A = 0\nLOCAL_CONFIG_DIR = {base}/ /nowhere\n");
    let config = Loader::new(&files)
        .without_environment()
        .read_text("test", &text)
        .finish()
        .unwrap();
    assert_eq!(config.get("A").unwrap().as_deref(), Some("0 10 20"));
    assert_eq!(
        config.sources(),
        [
            "test".to_owned(),
            format!("{base}/10"),
            format!("{base}/20")
        ]
    );
    assert!(matches!(config.warnings(), [Warning::NoDirectory { path, .. }] if path == "/nowhere"));
    let bad = format!("LOCAL_CONFIG_DIR_EXCLUDE_REGEXP = (\nLOCAL_CONFIG_DIR = {base}\n");
    let errors = Loader::new(&files)
        .without_environment()
        .read_text("test", &bad)
        .finish()
        .unwrap_err();
    assert_eq!(
        errors.to_string(),
        "test:1: LOCAL_CONFIG_DIR_EXCLUDE_REGEXP: \"(\" is not a valid regular expression"
    );
}

#[test]
fn templates_can_be_used_by_condition() {
    let config = load("AUTO_USE_SECURITY_Strong = true\nAUTO_USE_SECURITY_FIPS = $(NO)\n").unwrap();
    assert_eq!(
        config.get("SEC_DEFAULT_ENCRYPTION").unwrap().as_deref(),
        Some("required")
    );
    assert_eq!(
        config.origin("SEC_DEFAULT_ENCRYPTION").unwrap().to_string(),
        "test:1 (use SECURITY:STRONG)"
    );
    assert_eq!(config.get("FIPS").unwrap(), None);
}

#[test]
fn random_choices_repeat_with_the_seed_and_stay_in_range() {
    let text = "A = $RANDOM_INTEGER(1,1000000)\nB = $RANDOM_INTEGER(-9223372036854775808,9223372036854775807)\n\
                C = $RANDOM_INTEGER(10,20,5)\nD = $RANDOM_CHOICE(x,y)\n";
    let files = MemoryFiles::new();
    let load = |seed| {
        Loader::new(&files)
            .random_seed(seed)
            .read_text("test", text)
            .finish()
            .unwrap()
    };
    let (one, same, other) = (load(1), load(1), load(2));
    assert_eq!(one.get("A"), same.get("A"));
    assert_ne!(one.get("A"), other.get("A"));
    for _ in 0..50 {
        assert!(["10", "15", "20"].contains(&one.get("C").unwrap().unwrap().as_str()));
        assert!(["x", "y"].contains(&one.get("D").unwrap().unwrap().as_str()));
        assert!(one.get("B").unwrap().unwrap().parse::<i64>().is_ok());
    }
}

/// An evaluator that knows one expression.
struct One;

impl Evaluator for One {
    fn evaluate(&self, text: &str) -> Option<Evaluated> {
        (text == "2.5 * 2").then_some(Evaluated::Real(5.0))
    }
}

#[test]
fn expressions_need_an_evaluator() {
    let text = "A = $EVAL(2.5 * 2)\nB = 2.5 * 2\n";
    let config = load(text).unwrap();
    assert_eq!(
        config.get("A").unwrap_err().to_string(),
        "test:1: A: $EVAL: this program gave no ClassAd evaluator"
    );
    assert!(config.int("B", 0, 0..=9).is_err());
    let files = MemoryFiles::new();
    let config = Loader::new(&files)
        .evaluator(Arc::new(One))
        .read_text("test", text)
        .finish()
        .unwrap();
    assert_eq!(
        config.get("A").unwrap().as_deref(),
        Some("5.000000000000000E+00")
    );
    assert_eq!(config.int("B", 0, 0..=9), Ok(5));
}

#[test]
fn the_environment_is_not_shown_in_debug_output() {
    let files = MemoryFiles::new().variable("SECRET_TOKEN", "hunter2");
    let config = Loader::new(&files)
        .read_text("test", "A = $ENV(SECRET_TOKEN)\n")
        .finish()
        .unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}
