//! Reading and writing ads.

use classad::{
    ClassAd, EvalContext, Expr, ParseErrorKind, Value, assignment_old, parse_assignment_old,
};

#[test]
fn backslashes_on_the_wire_are_literal() {
    let (name, expr) = parse_assignment_old(r#"OSIssue = "\S""#).unwrap();
    assert_eq!(name, "osissue");
    assert_eq!(expr.as_literal(), Some(Value::String(r"\S".into())));
    assert_eq!(assignment_old(&name, &expr), r#"OSIssue = "\S""#);
    let (_, expr) = parse_assignment_old(r#"A="ends with \""#).unwrap();
    assert_eq!(
        expr.as_literal(),
        Some(Value::String(r"ends with \".into()))
    );
}

#[test]
fn a_string_that_ends_with_a_backslash_stays_readable_inside_an_expression() {
    let mut ad = ClassAd::new();
    ad.insert(
        "L",
        Value::List(vec![Value::String("a\\".into()), Value::String("b".into())]),
    );
    let again = ClassAd::parse_old(&ad.to_old()).unwrap();
    assert_eq!(again.eval("L"), ad.eval("L"));
}

#[test]
fn strings_with_line_feeds_travel_on_the_wire_but_not_into_another_line() {
    let mut ad = ClassAd::new();
    ad.insert("Reason", "he said \"no\"\nEvil = true");
    let line = assignment_old(&"Reason".into(), ad.get("Reason").unwrap());
    assert_eq!(
        parse_assignment_old(&line).unwrap().1,
        *ad.get("Reason").unwrap()
    );
    let again = ClassAd::parse_old(&ad.to_old()).unwrap();
    assert!(!again.contains("Evil"));
    assert_eq!(again.len(), 1);
}

#[test]
fn odd_attribute_names_do_not_break_out_of_their_line() {
    let ad =
        ClassAd::parse_new("[ 'a\\nEvil = true; b' = 1; 'x=y' = 2; '' = 3; '#c' = 4 ]").unwrap();
    let again = ClassAd::parse_old(&ad.to_old()).unwrap();
    assert_eq!(again, ad);
    assert!(!again.contains("Evil"));
}

#[test]
fn errors_say_where() {
    let error = ClassAd::parse_old("A = 1\nB = (2\n").unwrap_err();
    assert_eq!(
        (error.kind(), error.offset()),
        (ParseErrorKind::Expected(")"), 12)
    );
    assert_eq!(error.to_string(), "`)` is expected at byte 12");
    let error = Expr::parse_new("1 + \"abc").unwrap_err();
    assert_eq!(
        (error.kind(), error.offset()),
        (ParseErrorKind::UnterminatedString, 4)
    );
    assert_eq!(
        parse_assignment_old("no equals sign").unwrap_err().kind(),
        ParseErrorKind::Expected("=")
    );
    assert_eq!(
        parse_assignment_old("a b = 1").unwrap_err().kind(),
        ParseErrorKind::BadName
    );
}

#[test]
fn an_ad_is_the_same_in_all_three_forms() {
    let text = "[ Name = \"slot1@h\"; Cpus = 4; Load = 0.5; On = true; U = undefined; Req = TARGET.x > MY.Cpus; \
                L = { 1,\"a\",b }; N = [ q = \"t\\ab\\\\c\"; r = { } ]; T = absTime(\"2020-01-01T00:00:00Z\") ]";
    let ad = ClassAd::parse_new(text).unwrap();
    assert_eq!(ClassAd::parse_new(&ad.to_new()).unwrap(), ad);
    assert_eq!(ClassAd::parse_old(&ad.to_old()).unwrap(), ad);
    assert_eq!(ClassAd::from_json(&ad.to_json()).unwrap(), ad);
    let names: Vec<&str> = ad.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["Name", "Cpus", "Load", "On", "U", "Req", "L", "N", "T"]
    );
}

#[test]
fn json_strings_that_look_like_expressions_stay_strings() {
    let mut ad = ClassAd::new();
    ad.insert("S", "/Expr(a)/");
    ad.insert_expr("E", "a + \"q\"").unwrap();
    assert_eq!(
        ad.to_json(),
        "{\n  \"S\": \"/Expr(a)/\",\n  \"E\": \"\\/Expr(a + \\\"q\\\")\\/\"\n}"
    );
    assert_eq!(ClassAd::from_json(&ad.to_json()).unwrap(), ad);
    let pair = ClassAd::from_json(r#"{"a": "\ud83d\ude00\u00e9", "A": 1e2}"#).unwrap();
    assert_eq!(pair.eval("a"), Value::Real(100.0));
    for bad in [
        "",
        "{",
        "{\"a\" 1}",
        "{\"a\": 01}",
        "{\"a\": \"\\u0000\"}",
        "{\"a\": 1} x",
        "[1]",
        "{\"a\": \"\\/Expr(1+)\\/\"}",
    ] {
        assert!(ClassAd::from_json(bad).is_err(), "{bad}");
    }
}

#[test]
fn nul_is_not_read_and_not_written() {
    for text in ["\"a\0b\"", "'a\0b'", "\0", "\"\\0\""] {
        assert!(Expr::parse_new(text).is_err(), "{text:?}");
    }
    assert!(Expr::parse_old("\"a\0b\"").is_err());
    assert!(ClassAd::from_json("{\"a\": \"x\0\"}").is_err());
    let mut ad = ClassAd::new();
    ad.insert("A", "a\0b");
    assert_eq!(ad.to_old(), "A = \"ab\"\n");
    assert_eq!(ad.to_new(), "[ A = \"ab\" ]");
    assert_eq!(ad.to_json(), "{\n  \"A\": \"ab\"\n}");
}

#[test]
fn update_and_replacement_keep_the_order() {
    let mut ad = ClassAd::parse_old("A = 1\nB = 2").unwrap();
    ad.update(&ClassAd::parse_old("b = 3\nC = 4").unwrap());
    assert_eq!(ad.to_old(), "A = 1\nB = 3\nC = 4\n");
}

#[test]
fn times_beyond_the_readable_form_are_still_printed_readably() {
    for text in [
        "absTime(1e15)",
        "absTime(-1)",
        "absTime(0,3601)",
        "absTime(-70000000000)",
        "absTime(0,400000)",
    ] {
        let value = EvalContext::new().eval(&Expr::parse_new(text).unwrap());
        assert!(matches!(value, Value::AbsoluteTime(_)), "{text}");
        let printed = Expr::literal(value.clone()).to_old();
        assert_eq!(
            EvalContext::new().eval(&Expr::parse_old(&printed).unwrap()),
            value,
            "{printed}"
        );
    }
    for seconds in [1e-7, 12.345_678_9, f64::INFINITY, -0.25, 1e300] {
        let printed = Expr::literal(Value::RelativeTime(seconds)).to_old();
        assert_eq!(
            EvalContext::new().eval(&Expr::parse_old(&printed).unwrap()),
            Value::Real(seconds),
            "{printed}"
        );
    }
}
