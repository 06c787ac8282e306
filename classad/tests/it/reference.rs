//! Comparison with recorded answers of HTCondor's own library, see `tests/reference/generate.py`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use classad::{ClassAd, EvalContext, Expr, LimitExceeded, Value};

/// Where we answer differently on purpose: the expression (or line) and why.
const DELIBERATE: [(&str, &str); 12] = [
    ("absTime(5000000000)", "HTCondor cuts seconds to 32 bits"),
    ("userHome(\"nobody\")", "no account is looked up"),
    ("userHome(\"nobody\",\"/tmp\")", "no account is looked up"),
    (
        "A = \"one\" \"two\"",
        "HTCondor ignores text after the expression",
    ),
    ("A", "HTCondor stores an attribute without expression"),
    ("= 1", "HTCondor accepts an empty name"),
    ("A B = 1", "HTCondor accepts a name with a blank"),
    (
        "- 5",
        "printed with a blank, else it would be read back as a literal",
    ),
    (
        "'odd name'.'other name'",
        "HTCondor leaves out quotes that reading back needs",
    ),
    (
        "relTime(\"1+02:03:04\")",
        "in JSON HTCondor writes the number of seconds",
    ),
    (
        "relTime(\"0.5\")",
        "in JSON HTCondor writes the number of seconds",
    ),
    (
        "relTime(\"-1:00\")",
        "in JSON HTCondor writes the number of seconds",
    ),
];

fn is_deliberate(text: &str) -> bool {
    DELIBERATE.iter().any(|(expr, _)| *expr == text)
}

/// A clock for the questions that need one.
const NOW: i64 = 1_700_000_000;

fn rows(name: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/reference")
        .join(name);
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|line| !line.starts_with("# HTCondor"))
        .map(|line| line.split('\t').map(unescape).collect())
        .collect()
}

fn unescape(field: &str) -> String {
    let mut text = String::new();
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        text.push(match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                other => other.unwrap(),
            },
            (c, false) => c,
        });
    }
    text
}

/// Asks the same questions as `canonical()` in the generator.
struct Asker {
    context: EvalContext,
}

impl Asker {
    fn ask(&self, text: &str) -> Result<Value, LimitExceeded> {
        self.context.try_eval(&Expr::parse_new(text).unwrap())
    }

    fn canonical(&self, text: &str) -> Result<String, LimitExceeded> {
        Ok(match self.ask(text)? {
            Value::Undefined => "undefined".into(),
            Value::Error => "error".into(),
            Value::String(s) => format!("string:{}", json_string(&s)),
            Value::RelativeTime(t) => format!("reltime:{t:?}"),
            Value::List(items) => {
                let parts: Result<Vec<String>, _> = (0..items.len())
                    .map(|i| self.canonical(&format!("({text}\n)[{i}]")))
                    .collect();
                format!("list:[{}]", parts?.join(","))
            }
            Value::ClassAd(ad) => {
                let mut names: Vec<String> = ad.iter().map(|(name, _)| name.to_string()).collect();
                names.sort_by_key(|name| name.to_lowercase());
                let mut parts = Vec::new();
                for name in names {
                    let value = self.canonical(&format!("({text}\n)[\"{name}\"]"))?;
                    parts.push(format!("{}={value}", name.to_lowercase()));
                }
                format!("ad:{{{}}}", parts.join(","))
            }
            scalar => {
                let kind = match scalar {
                    Value::Boolean(_) => "boolean",
                    Value::Integer(_) => "integer",
                    Value::Real(_) => "real",
                    _ => "abstime",
                };
                match self.ask(&format!("string({text}\n)"))? {
                    Value::String(s) => format!("{kind}:{s}"),
                    other => format!("{kind}:{other:?}"),
                }
            }
        })
    }

    fn answer(&self, text: &str) -> String {
        match Expr::parse_new(text) {
            Err(_) => "unparsable".into(),
            Ok(_) => self.canonical(text).unwrap_or_else(|_| "failure".into()),
        }
    }
}

/// As Python's json.dumps writes it.
fn json_string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").unwrap();
                }
            }
        }
    }
    out.push('"');
    out
}

fn report(name: &str, total: usize, differences: &[String]) {
    println!("{name}: {total} compared, {} differ", differences.len());
    assert!(
        differences.is_empty(),
        "{name}: {} of {total} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

#[test]
fn expressions_evaluate_as_in_htcondor() {
    let mut askers = HashMap::new();
    let mut differences = Vec::new();
    let mut total = 0;
    for row in rows("evaluate.tsv") {
        match row.as_slice() {
            [kind, name, text] if kind == "context" => {
                let ad = ClassAd::parse_new(text).unwrap();
                let context = EvalContext::new().my(&ad).now(NOW).random_seed(1);
                askers.insert(name.clone(), Asker { context });
            }
            [_, context, text, expected] => {
                total += 1;
                let got = askers[context].answer(text);
                // HTCondor's library has two ways to fail, our values only one
                let failed = expected == "failure" && got == "error";
                if got != *expected && !failed && !is_deliberate(text) {
                    differences.push(format!(
                        "{context}: {text}\n    HTCondor {expected}\n    we       {got}"
                    ));
                }
            }
            other => panic!("{other:?}"),
        }
    }
    report("evaluate.tsv", total, &differences);
}

#[test]
fn names_are_looked_up_in_both_ads_as_in_htcondor() {
    let mut ads = Vec::new();
    let mut differences = Vec::new();
    let mut total = 0;
    for row in rows("match.tsv") {
        if let [_, ad] = row.as_slice() {
            ads.push(ClassAd::parse_new(ad).unwrap());
            continue;
        }
        total += 1;
        let [_, text, expected] = row.as_slice() else {
            panic!("{row:?}")
        };
        let context = EvalContext::new().my(&ads[0]).target(&ads[1]).now(NOW);
        let got = match context.try_eval(&Expr::parse_new(text).unwrap()) {
            Ok(Value::Boolean(b)) => format!("boolean:{b}"),
            Ok(Value::Integer(i)) => format!("integer:{i}"),
            Ok(Value::String(s)) => format!("string:{s}"),
            Ok(Value::Undefined) => "undefined".into(),
            Ok(Value::Error) => "error".into(),
            Ok(other) => format!("{other:?}"),
            Err(_) => "failure".into(),
        };
        if got != *expected {
            differences.push(format!(
                "{text}\n    HTCondor {expected}\n    we       {got}"
            ));
        }
    }
    report("match.tsv", total, &differences);
}

#[test]
fn old_lines_are_read_as_in_htcondor() {
    let mut differences = Vec::new();
    let rows = rows("old.tsv");
    for row in &rows {
        let [text, expected] = row.as_slice() else {
            panic!("{row:?}")
        };
        let got = match ClassAd::parse_old(text) {
            Err(_) => "unparsable".into(),
            Ok(ad) if ad.contains("A") => {
                let context = EvalContext::new().my(&ad).now(NOW);
                Asker { context }.answer("A")
            }
            Ok(_) => "absent".into(),
        };
        if got != *expected && !is_deliberate(text) {
            differences.push(format!(
                "{text:?}\n    HTCondor {expected}\n    we       {got}"
            ));
        }
    }
    report("old.tsv", rows.len(), &differences);
}

#[test]
fn expressions_print_as_in_htcondor() {
    let mut differences = Vec::new();
    let rows = rows("print.tsv");
    for row in &rows {
        let [text, new, old, json] = row.as_slice() else {
            panic!("{row:?}")
        };
        let mut ad = ClassAd::new();
        ad.insert("A", Expr::parse_new(text).unwrap());
        for (expected, got) in [(new, ad.to_new()), (old, ad.to_old()), (json, ad.to_json())] {
            if *expected != got && !is_deliberate(text) {
                differences.push(format!(
                    "{text}\n    HTCondor {expected:?}\n    we       {got:?}"
                ));
            }
        }
    }
    report("print.tsv", rows.len() * 3, &differences);
}
