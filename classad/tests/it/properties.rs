//! Properties over generated expressions and texts.

use classad::{ClassAd, EvalContext, Expr, Limits, Value};
use proptest::prelude::*;

/// Operators and literals that look like names, in any case.
fn is_a_name(word: &str) -> bool {
    !["is", "isnt", "true", "false", "error"]
        .iter()
        .any(|taken| taken.eq_ignore_ascii_case(word))
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z_][A-Za-z0-9_]{0,5}".prop_filter("a name", |word| is_a_name(word)),
        Just("MY".to_owned()),
        Just("TARGET".to_owned()),
        Just("'odd name'".to_owned()),
        Just("'true'".to_owned()),
    ]
}

fn functions() -> impl Strategy<Value = String> {
    let known = [
        "strcat",
        "substr",
        "size",
        "sum",
        "max",
        "int",
        "real",
        "string",
        "bool",
        "split",
        "join",
        "regexp",
        "replaceAll",
        "member",
        "formatTime",
        "splitTime",
        "quantize",
        "pow",
        "ifThenElse",
        "eval",
        "unresolved",
        "countMatches",
        "stringListMember",
        "mergeEnvironment",
        "argsToList",
        "versioncmp",
        "interval",
        "time",
    ];
    prop_oneof![
        proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
        "[a-z]{1,4}".prop_filter("a name", |word| is_a_name(word))
    ]
}

fn literals() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|i| i.to_string()),
        // reals that 16 digits hold
        (any::<i32>(), -20..20_i32).prop_map(|(m, e)| format!("{}.5e{e}", i64::from(m))),
        any::<String>().prop_map(|s| Expr::from(s.replace('\0', "")).to_new()),
        r#"[ -~]{0,8}"#.prop_map(|s| Expr::from(s).to_new()),
        proptest::sample::select(vec![
            "true",
            "false",
            "undefined",
            "error",
            "0",
            "-1",
            "real(\"INF\")",
            "real(\"NaN\")",
            "absTime(\"2020-02-03T04:05:06+01:00\")",
            "relTime(\"1+02:03:04\")",
            "\"\"",
            "\"\\\\\"",
            "\"\\\"\"",
        ])
        .prop_map(str::to_owned),
    ]
}

/// Texts of expressions in new syntax.
fn texts() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![literals(), names(), names().prop_map(|n| format!(".{n}"))];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let ops = proptest::sample::select(vec![
            "||", "&&", "|", "^", "&", "==", "!=", "=?=", "=!=", "is", "isnt", "<", "<=", ">",
            ">=", "<<", ">>", ">>>", "+", "-", "*", "/", "%",
        ]);
        prop_oneof![
            (inner.clone(), ops, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (
                proptest::sample::select(vec!["-", "+", "!", "~"]),
                inner.clone()
            )
                .prop_map(|(op, a)| format!("{op} {a}")),
            inner.clone().prop_map(|a| format!("({a})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("({a}) ? {b} : {c}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} ?: {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (inner.clone(), names()).prop_map(|(a, n)| format!("({a}).{n}")),
            (functions(), proptest::collection::vec(inner.clone(), 0..4))
                .prop_map(|(f, args)| format!("{f}({})", args.join(","))),
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("{{ {} }}", items.join(","))),
            proptest::collection::vec((names(), inner), 0..4).prop_map(|attributes| {
                let parts: Vec<String> = attributes
                    .into_iter()
                    .map(|(n, e)| format!("{n} = {e}"))
                    .collect();
                format!("[ {} ]", parts.join("; "))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_reads_back_the_same(text in texts()) {
        let expr = Expr::parse_new(&text).unwrap();
        prop_assert_eq!(&Expr::parse_new(&expr.to_new()).unwrap(), &expr);
        let mut ad = ClassAd::new();
        ad.insert("A", expr.clone());
        ad.insert("B", 1);
        prop_assert_eq!(&ClassAd::parse_new(&ad.to_new()).unwrap(), &ad);
        prop_assert_eq!(&ClassAd::from_json(&ad.to_json()).unwrap(), &ad);
        // old syntax cannot express a string that ends with a backslash inside an expression
        let again = Expr::parse_old(&expr.to_old()).unwrap();
        if !expr.to_old().contains("substr(\"") {
            prop_assert_eq!(&again, &expr);
        }
        prop_assert_eq!(again.to_old(), expr.to_old());
    }

    #[test]
    fn both_syntaxes_mean_the_same(text in texts()) {
        let expr = Expr::parse_new(&text).unwrap();
        let old = Expr::parse_old(&expr.to_old()).unwrap();
        let context = EvalContext::new().now(1_700_000_000).random_seed(1).limits(small());
        // a function can look at the text of an expression
        if !text.contains("substr") && !expr.to_old().contains("substr(\"") && !text.contains("e-") && !text.contains("e1") {
            prop_assert_eq!(context.eval(&old), context.eval(&expr));
        }
    }

    #[test]
    fn evaluation_ends_without_panic(texts in proptest::collection::vec(texts(), 1..6), pick in any::<proptest::sample::Index>()) {
        let mut ad = ClassAd::new();
        for (i, text) in texts.iter().enumerate() {
            ad.insert(format!("a{i}"), Expr::parse_new(text).unwrap());
        }
        let context = EvalContext::new().my(&ad).target(&ad).now(1_700_000_000).limits(small());
        let expr = Expr::parse_new(&texts[pick.index(texts.len())]).unwrap();
        let value = context.eval(&expr);
        let _printed = Expr::literal(value).to_old();
    }

    #[test]
    fn any_text_parses_or_fails_without_panic(text in any::<String>(), ascii in "[ -~\n]{0,60}") {
        for text in [text, ascii] {
            let _ = (ClassAd::parse_old(&text), ClassAd::parse_new(&text), ClassAd::from_json(&text));
            let _ = (Expr::parse_old(&text), Expr::parse_new(&text));
            let _ = classad::parse_assignment_old(&text);
        }
    }

    #[test]
    fn any_string_survives_all_forms(text in any::<String>(), more in "[\\\\\"'\n a/]{0,8}") {
        for text in [text, more] {
            let text = text.replace('\0', "");
            let mut ad = ClassAd::new();
            ad.insert("S", text.as_str());
            let value = Some(text.clone());
            prop_assert_eq!(&ClassAd::parse_new(&ad.to_new()).unwrap().string("S"), &value);
            prop_assert_eq!(&ClassAd::from_json(&ad.to_json()).unwrap().string("S"), &value);
            let line = classad::assignment_old(&"S".into(), ad.get("S").unwrap());
            let (_, expr) = classad::parse_assignment_old(&line).unwrap();
            prop_assert_eq!(expr.as_literal(), value.map(Value::String));
        }
    }
}

fn small() -> Limits {
    Limits {
        steps: 20_000,
        memory: 1 << 20,
        ..Limits::default()
    }
}
