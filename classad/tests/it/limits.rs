//! Hostile input ends with an error, not with the process.

use classad::{ClassAd, EvalContext, Expr, LimitExceeded, Limits, ParseErrorKind, Value};

fn nested(open: &str, middle: &str, close: &str, depth: usize) -> String {
    format!("{}{middle}{}", open.repeat(depth), close.repeat(depth))
}

#[test]
fn deep_nesting_is_a_parse_error_of_its_own_kind() {
    for (open, middle, close) in [
        ("(", "1", ")"),
        ("{", "1", "}"),
        ("[a=", "1", "]"),
        ("!", "1", ""),
        ("f(", "1", ")"),
        ("1?", "1", ":2"),
        ("1?:", "1", ""),
        ("", "a", ".b"),
        ("", "a", "[0]"),
        ("1||1&&1|1^1&1==1<1<<1+1*(", "1", ")"),
        ("(", "1", ")*1+1<<1<1==1&1^1|1&&1||1"),
    ] {
        for depth in [1000, 100_000] {
            let error = Expr::parse_new(&nested(open, middle, close, depth)).unwrap_err();
            assert_eq!(
                error.kind(),
                ParseErrorKind::TooDeep,
                "{open}{middle}{close}"
            );
        }
    }
    let json = format!("{{\"a\": {}}}", nested("[", "", "]", 100_000));
    assert_eq!(
        ClassAd::from_json(&json).unwrap_err().kind(),
        ParseErrorKind::TooDeep
    );
}

/// As deep as the parser allows: printing, comparing, evaluating and dropping must not overflow the stack either.
#[test]
fn the_deepest_trees_are_usable() {
    for (open, middle, close) in [
        ("(", "1", ")"),
        ("{", "1", "}"),
        ("[a=", "1", "]"),
        ("!", "1", ""),
        ("strcat(", "1", ")"),
        ("ifThenElse(true,", "1", ",2)"),
        ("1?", "1", ":2"),
        ("", "a", ".b"),
        ("(", "1", ")*1+1<<1<1==1&1^1|1&&1||1"),
        ("1||0||(0&&1)||(", "1", ")"),
    ] {
        let deepest = (1..400)
            .rev()
            .find_map(|depth| Expr::parse_new(&nested(open, middle, close, depth)).ok());
        let expr = deepest.unwrap();
        assert_eq!(Expr::parse_new(&expr.to_new()).unwrap(), expr);
        assert_eq!(Expr::parse_old(&expr.to_old()).unwrap(), expr);
        let _value = EvalContext::new().eval(&expr);
        let mut ad = ClassAd::new();
        ad.insert("a", expr);
        let _json = ad.to_json();
    }
}

#[test]
fn a_hundred_parentheses_and_ten_thousand_terms_are_no_problem() {
    assert_eq!(
        EvalContext::new().eval(&Expr::parse_old(&nested("(", "7", ")", 100)).unwrap()),
        Value::Integer(7)
    );
    let chain = vec!["true"; 10_000].join(" && ");
    assert_eq!(
        EvalContext::new().eval(&Expr::parse_old(&chain).unwrap()),
        Value::Boolean(true)
    );
    let sum = vec!["1"; 10_000].join(" + ");
    assert_eq!(
        EvalContext::new().eval(&Expr::parse_old(&sum).unwrap()),
        Value::Integer(10_000)
    );
}

#[test]
fn a_circle_of_attributes_is_the_depth_limit_and_an_error_value() {
    let ad =
        ClassAd::parse_old("A = B + 1\nB = { A }[0]\nC = C || C\nD = [ x = parent.D ].x").unwrap();
    for name in ["A", "C", "D"] {
        let context = EvalContext::new().my(&ad);
        assert_eq!(
            context.try_eval(ad.get(name).unwrap()),
            Err(LimitExceeded::Depth),
            "{name}"
        );
        assert_eq!(ad.eval(name), Value::Error);
        assert_eq!(ad.int(name), None);
    }
}

#[test]
fn work_that_doubles_with_every_attribute_is_stopped() {
    let mut steps = ClassAd::new();
    let mut memory = ClassAd::new();
    for i in 0..60 {
        steps
            .insert_expr(format!("A{i}"), &format!("A{0} + A{0}", i + 1))
            .unwrap();
        memory
            .insert_expr(format!("A{i}"), &format!("strcat(A{0},A{0})", i + 1))
            .unwrap();
    }
    steps.insert("A60", 1);
    memory.insert("A60", "x".repeat(1000));
    let stopped = |ad: &ClassAd, limits| {
        let context = EvalContext::new().my(ad).limits(limits);
        context.try_eval(ad.get("A0").unwrap()).unwrap_err()
    };
    assert_eq!(stopped(&steps, Limits::default()), LimitExceeded::Steps);
    let generous = Limits {
        steps: u64::MAX,
        memory: 1 << 20,
        ..Limits::default()
    };
    assert_eq!(stopped(&memory, generous), LimitExceeded::Memory);
}

#[test]
fn a_pattern_that_compiles_to_something_huge_is_an_error() {
    let expr = Expr::parse_new(r#"regexp("((a{100}){100}){100}","a")"#).unwrap();
    assert_eq!(EvalContext::new().eval(&expr), Value::Error);
}

#[test]
fn functions_that_look_into_ads_do_not_escape_the_limits() {
    for text in [
        "A = formatTime([ Year = formatTime(MY) ])",
        "A = formatTime(MY)\nYear = A",
        "A = eval(\"A\")",
    ] {
        let ad = ClassAd::parse_old(text).unwrap();
        let context = EvalContext::new().my(&ad);
        assert_eq!(
            context.try_eval(ad.get("A").unwrap()),
            Err(LimitExceeded::Depth),
            "{text}"
        );
    }
}

#[test]
fn lists_of_shared_strings_count_with_every_copy() {
    let mut ad = ClassAd::new();
    ad.insert("Big", "x".repeat(1 << 20));
    ad.insert_expr(
        "Ads",
        &format!("{{ {} }}", vec!["[ b = Big ]"; 1000].join(",")),
    )
    .unwrap();
    for text in [
        "string(evalInEachContext(b,Ads))",
        "evalInEachContext(b,Ads)",
        "join(evalInEachContext(b,Ads))",
        "Ads.b",
    ] {
        ad.insert_expr("All", text).unwrap();
        let context = EvalContext::new().my(&ad);
        assert_eq!(
            context.try_eval(ad.get("All").unwrap()),
            Err(LimitExceeded::Memory),
            "{text}"
        );
    }
}
