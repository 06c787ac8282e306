//! What callers of the evaluator rely on beyond the recorded answers.

use classad::{ClassAd, EvalContext, Expr, Value, half_match, symmetric_match};

fn eval(text: &str) -> Value {
    EvalContext::new()
        .now(1_700_000_000)
        .eval(&Expr::parse_new(text).unwrap())
}

#[test]
fn time_comes_from_the_caller_only() {
    let expr = Expr::parse_old("time() - 1699999990").unwrap();
    assert_eq!(
        EvalContext::new().now(1_700_000_000).eval(&expr),
        Value::Integer(10)
    );
    assert_eq!(EvalContext::new().eval(&expr), Value::Error);
    assert_eq!(
        eval("CurrentTime"),
        Value::Undefined,
        "without an ad there is nothing to ask"
    );
    let ad = ClassAd::parse_old("A = CurrentTime").unwrap();
    assert_eq!(
        EvalContext::new().my(&ad).now(5).eval_attr("A"),
        Value::Integer(5)
    );
    assert_eq!(ad.eval("A"), Value::Error);
}

#[test]
fn local_time_is_the_offset_the_caller_gives() {
    let at = |offset| {
        let expr = Expr::parse_new(r#"formatTime(time(),"%H:%M")"#).unwrap();
        EvalContext::new()
            .now(1_700_000_000)
            .utc_offset(offset)
            .eval(&expr)
    };
    assert_eq!(at(0), Value::String("22:13".into()));
    assert_eq!(at(3600), Value::String("23:13".into()));
}

#[test]
fn random_is_repeatable_with_a_seed_and_not_without() {
    let expr = Expr::parse_new("random(1000000000)").unwrap();
    let seeded = || EvalContext::new().random_seed(7).eval(&expr);
    assert_eq!(seeded(), seeded());
    let drawn: Vec<Value> = (0..4).map(|_| EvalContext::new().eval(&expr)).collect();
    assert!(drawn.iter().any(|value| *value != drawn[0]), "{drawn:?}");
}

#[test]
fn look_ups_convert_numbers_as_htcondor_does() {
    let ad = ClassAd::parse_old("I = 3\nR = 2.9\nB = true\nS = \"x\"\nU = undefined\nE = I + R")
        .unwrap();
    assert_eq!(
        (ad.int("i"), ad.int("R"), ad.int("B"), ad.int("S")),
        (Some(3), Some(2), Some(1), None)
    );
    assert_eq!(
        (ad.real("I"), ad.real("E"), ad.real("U")),
        (Some(3.0), Some(5.9), None)
    );
    assert_eq!(
        (ad.bool("I"), ad.bool("B"), ad.bool("S")),
        (Some(true), Some(true), None)
    );
    assert_eq!((ad.string("S"), ad.string("I")), (Some("x".into()), None));
    assert_eq!(ad.eval("nothere"), Value::Undefined);
}

#[test]
fn ads_match_when_both_requirements_hold() {
    let slot = ClassAd::parse_old(
        "Cpus = 4\nArch = \"X86_64\"\nRequirements = TARGET.RequestCpus <= Cpus",
    )
    .unwrap();
    let mut job =
        ClassAd::parse_old("RequestCpus = 2\nRequirements = TARGET.Arch == \"x86_64\" && Cpus > 1")
            .unwrap();
    assert!(symmetric_match(&slot, &job, 0) && symmetric_match(&job, &slot, 0));
    job.insert("RequestCpus", 8);
    assert!(!half_match(&slot, &job, 0));
    assert!(half_match(&job, &slot, 0));
    assert!(!symmetric_match(&slot, &job, 0));
    job.insert_expr("Requirements", "NoSuchAttribute > 1")
        .unwrap();
    assert!(!half_match(&job, &slot, 0), "undefined is no match");
    job.remove("Requirements");
    assert!(
        !half_match(&job, &slot, 0),
        "an ad without Requirements accepts nothing"
    );
}

#[test]
fn a_time_dependent_requirement_uses_the_time_of_the_match() {
    let my = ClassAd::parse_old("Requirements = time() > 100").unwrap();
    let other = ClassAd::new();
    assert!(half_match(&my, &other, 101));
    assert!(!half_match(&my, &other, 100));
}

#[test]
fn patterns_that_only_pcre_understands_are_errors() {
    for pattern in [
        r"(?=a)", r"(a)\\1", r"a++", r"\\Qa\\E", r"(?<!b)a", r"(?>a)", r"\\K",
    ] {
        assert_eq!(
            eval(&format!("regexp(\"{pattern}\",\"aa\")")),
            Value::Error,
            "{pattern}"
        );
        assert_eq!(
            eval(&format!("replace(\"{pattern}\",\"aa\",\"x\")")),
            Value::Error,
            "{pattern}"
        );
    }
    // before a last line feed PCRE2 lets `$` match and we would not
    assert_eq!(eval(r#"regexp("a$","a\n")"#), Value::Error);
    assert_eq!(eval(r#"regexp("a","a\n")"#), Value::Boolean(true));
}

#[test]
fn lists_and_ads_come_back_as_values() {
    let Value::List(items) = eval("{ 1 + 1,\"a\",{ true } }") else {
        panic!()
    };
    assert_eq!(
        items,
        [
            Value::Integer(2),
            Value::String("a".into()),
            Value::List(vec![Value::Boolean(true)])
        ]
    );
    let value = eval("[ a = 1; b = a + 1 ]");
    assert_eq!(value.as_ad().unwrap().int("b"), Some(2));
    assert_eq!(
        Expr::literal(Value::List(items)).to_old(),
        "{ 2,\"a\",{ true } }"
    );
}
