//! ClassAd evaluation for the configuration language.

use classad::{EvalContext, Expr, Value};
use condorconf::{Evaluated, Evaluator};

/// Evaluates `$EVAL()` and numbers written as expressions with the `classad` crate: without ads and without a clock.
#[derive(Debug, Clone, Copy)]
pub struct ClassAdEvaluator;

impl Evaluator for ClassAdEvaluator {
    fn evaluate(&self, text: &str) -> Option<Evaluated> {
        let expr = Expr::parse_old(text).ok()?;
        Some(match EvalContext::new().eval(&expr) {
            Value::String(text) => Evaluated::String(text),
            Value::Integer(number) => Evaluated::Integer(number),
            Value::Real(number) => Evaluated::Real(number),
            Value::Boolean(value) => Evaluated::Boolean(value),
            other => Evaluated::Other(Expr::literal(other).to_new()),
        })
    }
}
