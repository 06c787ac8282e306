//! Entry points of the fuzz targets in `fuzz/`: whatever the bytes are, nothing may panic, what was parsed must print to
//! something that parses to the same, and evaluation must end within its limits.

use crate::{ClassAd, EvalContext, Expr, Limits, Value};

/// Lines in old syntax.
pub fn fuzz_classad_old(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(ad) = ClassAd::parse_old(&text) {
        for (name, expr) in ad.iter() {
            let line = crate::assignment_old(name, expr);
            let again = crate::parse_assignment_old(&line);
            assert!(
                matches!(&again, Ok((n, _)) if n == name),
                "{line:?} {again:?}"
            );
        }
        check_ad(&ad);
    }
}

/// An ad or an expression in new syntax, or an ad in JSON.
pub fn fuzz_classad_new(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(ad) = ClassAd::parse_new(&text) {
        check_ad(&ad);
    }
    if let Ok(ad) = ClassAd::from_json(&text) {
        check_ad(&ad);
    }
    if let Ok(expr) = Expr::parse_new(&text) {
        check_expr(&expr);
        check_value(&evaluate(&expr, &ClassAd::new()));
    }
}

fn check_ad(ad: &ClassAd) {
    let printed = ad.to_new();
    let again = ClassAd::parse_new(&printed).map(|ad| ad.to_new());
    assert_eq!(again.as_ref(), Ok(&printed), "new syntax is not stable");
    let json = ad.to_json();
    let again = ClassAd::from_json(&json).map(|ad| ad.to_json());
    assert_eq!(again.as_ref(), Ok(&json), "JSON is not stable");
    let reread = ClassAd::parse_old(&ad.to_old());
    assert!(
        reread.is_ok(),
        "old syntax does not parse again: {reread:?}"
    );
    for (_, expr) in ad.iter() {
        check_expr(expr);
        check_value(&evaluate(expr, ad));
    }
}

fn check_expr(expr: &Expr) {
    let old = expr.to_old();
    let again = Expr::parse_old(&old).map(|expr| expr.to_old());
    assert_eq!(again.as_ref(), Ok(&old), "old syntax is not stable");
    let new = expr.to_new();
    let again = Expr::parse_new(&new).map(|expr| expr.to_new());
    assert_eq!(again.as_ref(), Ok(&new), "new syntax is not stable");
}

fn evaluate(expr: &Expr, my: &ClassAd) -> Value {
    let limits = Limits {
        steps: 10_000,
        memory: 1 << 20,
        ..Limits::default()
    };
    EvalContext::new()
        .my(my)
        .target(my)
        .now(1_700_000_000)
        .random_seed(1)
        .limits(limits)
        .eval(expr)
}

/// Values turn back into expressions that print.
fn check_value(value: &Value) {
    let _text = Expr::literal(value.clone()).to_old();
}
