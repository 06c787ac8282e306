//! Evaluation.

mod operators;
mod scope;
mod val;

use std::rc::Rc;

use crate::expr::{BinaryOp, Expr, Node};
use crate::{ClassAd, LimitExceeded, Value};

pub(crate) use operators::{binary, ignoring_case, unary};
pub(crate) use scope::{Frame, Scope, Side};
pub(crate) use val::{List, Val};

/// Result of a step that a limit can stop.
pub(crate) type Evaluated<T> = Result<T, LimitExceeded>;

/// How much work one evaluation may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Expressions visited.
    pub steps: u64,
    /// Levels of expressions inside each other, attributes that refer to attributes included. Each level takes stack.
    pub depth: u32,
    /// Bytes of strings and list elements made on the way.
    pub memory: u64,
}

impl Default for Limits {
    /// One million steps, depth 400, 64 MiB. HTCondor's own limit is a depth of 400 attribute references
    /// (`htcondor:src/classad/classad/exprTree.h`).
    fn default() -> Self {
        Self {
            steps: 1_000_000,
            depth: 400,
            memory: 64 << 20,
        }
    }
}

/// What an expression is evaluated in: the ads it refers to, the time, and the limits.
///
/// Names without scope are looked up in `MY`, then in `TARGET` (`htcondor:src/classad/attrrefs.cpp`, FindExpr).
#[derive(Debug, Clone, Default)]
pub struct EvalContext {
    my: Option<ClassAd>,
    target: Option<ClassAd>,
    now: Option<i64>,
    utc_offset: i32,
    seed: Option<u64>,
    limits: Limits,
}

impl EvalContext {
    /// A context without ads and without a clock.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The ad that `MY` and names without scope refer to. Shares the ad's storage.
    #[must_use]
    pub fn my(mut self, ad: &ClassAd) -> Self {
        self.my = Some(ad.clone());
        self
    }

    /// The ad that `TARGET` refers to. Shares the ad's storage.
    #[must_use]
    pub fn target(mut self, ad: &ClassAd) -> Self {
        self.target = Some(ad.clone());
        self
    }

    /// The time for `time()` and its like, in seconds since the epoch. Without it they are errors.
    #[must_use]
    pub const fn now(mut self, unix_seconds: i64) -> Self {
        self.now = Some(unix_seconds);
        self
    }

    /// Local time for functions that take times apart, in seconds east of UTC. Default 0.
    #[must_use]
    pub const fn utc_offset(mut self, seconds: i32) -> Self {
        self.utc_offset = seconds;
        self
    }

    /// Makes `random()` repeatable. Without it every evaluation draws other numbers.
    #[must_use]
    pub const fn random_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Other limits than the default ones.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Evaluates an expression; an exceeded limit gives [`Value::Error`].
    #[must_use]
    pub fn eval(&self, expr: &Expr) -> Value {
        self.try_eval(expr).unwrap_or(Value::Error)
    }

    /// Evaluates an expression.
    ///
    /// # Errors
    /// A limit was exceeded. Attributes that refer to each other in a circle end as [`LimitExceeded::Depth`].
    pub fn try_eval(&self, expr: &Expr) -> Result<Value, LimitExceeded> {
        let mut machine = Machine::new(self);
        let scope = machine.my_scope();
        let val = machine.eval(expr, &scope)?;
        machine.export(&val)
    }

    /// Evaluates an attribute of `MY`: undefined if there is none, or no `MY`. Not looked up in `TARGET`.
    #[must_use]
    pub fn eval_attr(&self, name: &str) -> Value {
        match self.my.as_ref().and_then(|my| my.get(name)) {
            Some(expr) => self.eval(expr),
            None => Value::Undefined,
        }
    }
}

/// One evaluation under way.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) my: Option<Rc<Frame>>,
    pub(crate) target: Option<Rc<Frame>>,
    pub(crate) now: Option<i64>,
    pub(crate) utc_offset: i32,
    pub(crate) random: crate::functions::Random,
    pub(crate) patterns: crate::functions::PatternCache,
    steps: u64,
    depth: u32,
    memory: u64,
}

impl Machine {
    fn new(context: &EvalContext) -> Self {
        let my = context
            .my
            .clone()
            .or_else(|| context.target.is_some().then(ClassAd::new));
        Self {
            my: my.map(|ad| Frame::root(ad, Side::My)),
            target: context
                .target
                .clone()
                .map(|ad| Frame::root(ad, Side::Target)),
            now: context.now,
            utc_offset: context.utc_offset,
            random: crate::functions::Random::new(context.seed),
            patterns: crate::functions::PatternCache::default(),
            steps: context.limits.steps,
            depth: context.limits.depth,
            memory: context.limits.memory,
        }
    }

    fn my_scope(&self) -> Scope {
        Scope(self.my.clone())
    }

    /// Accounts for one expression visited.
    pub(crate) fn step(&mut self) -> Evaluated<()> {
        self.steps = self.steps.checked_sub(1).ok_or(LimitExceeded::Steps)?;
        Ok(())
    }

    /// Evaluates an expression that stands in `scope`.
    pub(crate) fn eval(&mut self, expr: &Expr, scope: &Scope) -> Evaluated<Val> {
        self.step()?;
        if let Node::Literal(literal) = expr.node() {
            return Ok(Val::from(literal));
        }
        self.depth = self.depth.checked_sub(1).ok_or(LimitExceeded::Depth)?;
        let val = self.eval_node(expr, scope)?;
        self.depth += 1;
        Ok(val)
    }

    fn eval_node(&mut self, expr: &Expr, scope: &Scope) -> Evaluated<Val> {
        match expr.node() {
            Node::Literal(literal) => Ok(Val::from(literal)),
            Node::Reference(reference) => self.reference(reference, scope),
            Node::Paren(inner) => self.eval(inner, scope),
            Node::Chain(first, rest) => self.chain(first, rest, scope),
            Node::Unary(op, operand) => Ok(unary(*op, self.eval(operand, scope)?)),
            Node::Conditional(condition, middle, otherwise) => {
                self.conditional(condition, middle.as_ref(), otherwise, scope)
            }
            Node::Subscript(base, index) => self.subscript(base, index, scope),
            Node::Call(call) => match call.function {
                Some(function) => (function.body)(self, call, scope),
                None => Ok(Val::Error),
            },
            Node::List(_) => Ok(Val::List(List::Written(expr.clone(), scope.clone()))),
            Node::Ad(ad) => Ok(Val::Ad(Frame::nested(ad.clone(), scope.clone()))),
        }
    }

    fn chain(&mut self, first: &Expr, rest: &[(BinaryOp, Expr)], scope: &Scope) -> Evaluated<Val> {
        let mut left = self.eval(first, scope)?;
        for (op, operand) in rest {
            // what decides the result leaves the other operands unevaluated
            let decided = match op {
                BinaryOp::And => left.truth() == Some(false) || matches!(left, Val::Error),
                BinaryOp::Or => left.truth() == Some(true) || matches!(left, Val::Error),
                _ => false,
            };
            if decided {
                return Ok(left.truth().map_or(Val::Error, Val::Boolean));
            }
            let right = self.eval(operand, scope)?;
            left = binary(*op, left, right);
        }
        Ok(left)
    }

    fn conditional(
        &mut self,
        condition: &Expr,
        middle: Option<&Expr>,
        otherwise: &Expr,
        scope: &Scope,
    ) -> Evaluated<Val> {
        let condition = self.eval(condition, scope)?;
        let Some(middle) = middle else {
            return match condition {
                Val::Undefined => self.eval(otherwise, scope),
                defined => Ok(defined),
            };
        };
        match (condition.truth(), condition) {
            (Some(true), _) => self.eval(middle, scope),
            (Some(false), _) => self.eval(otherwise, scope),
            (None, Val::Undefined) => Ok(Val::Undefined),
            (None, _) => Ok(Val::Error),
        }
    }

    fn subscript(&mut self, base: &Expr, index: &Expr, scope: &Scope) -> Evaluated<Val> {
        let base = self.eval(base, scope)?;
        let index = self.eval(index, scope)?;
        match (base, index) {
            (Val::Error, _) | (_, Val::Error) => Ok(Val::Error),
            (Val::Undefined, _) | (_, Val::Undefined) => Ok(Val::Undefined),
            (Val::Ad(frame), Val::String(name)) => match frame.ad.get(&name) {
                Some(expr) => {
                    let inside = Scope(Some(Rc::clone(&frame)));
                    self.eval(expr, &inside)
                }
                None => Ok(Val::Undefined),
            },
            (Val::List(list), Val::Integer(at)) => match usize::try_from(at) {
                Ok(at) => Ok(self.element(&list, at)?.unwrap_or(Val::Error)),
                Err(_) => Ok(Val::Error),
            },
            _ => Ok(Val::Error),
        }
    }

    /// Element of a list, evaluated; `None` beyond the end.
    pub(crate) fn element(&mut self, list: &List, at: usize) -> Evaluated<Option<Val>> {
        match list {
            List::Made(items) => Ok(items.get(at).cloned()),
            List::Written(..) => match list.expr(at) {
                Some((expr, scope)) => self.eval(expr, scope).map(Some),
                None => Ok(None),
            },
        }
    }

    /// Accounts for `bytes` of text or list made; call it before making them where the size is known.
    pub(crate) fn charge(&mut self, bytes: usize) -> Evaluated<()> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.memory = self
            .memory
            .checked_sub(bytes)
            .ok_or(LimitExceeded::Memory)?;
        Ok(())
    }

    /// A string result.
    pub(crate) fn text(&mut self, text: impl AsRef<str>) -> Evaluated<Val> {
        let text = text.as_ref();
        self.charge(text.len())?;
        Ok(Val::String(text.into()))
    }

    /// A list result.
    pub(crate) fn made(&mut self, items: Vec<Val>) -> Evaluated<Val> {
        // elements share their strings, but whoever prints the list copies them
        for item in &items {
            self.charge(item.weight())?;
        }
        Ok(Val::List(List::Made(items.into())))
    }

    /// The value without ties to this evaluation: list elements are evaluated.
    fn export(&mut self, val: &Val) -> Evaluated<Value> {
        Ok(match val {
            Val::Undefined => Value::Undefined,
            Val::Error => Value::Error,
            Val::Boolean(b) => Value::Boolean(*b),
            Val::Integer(i) => Value::Integer(*i),
            Val::Real(r) => Value::Real(*r),
            Val::String(s) => {
                self.charge(s.len())?;
                Value::String((**s).to_owned())
            }
            Val::AbsoluteTime(t) => Value::AbsoluteTime(*t),
            Val::RelativeTime(t) => Value::RelativeTime(*t),
            Val::Ad(frame) => Value::ClassAd(Box::new(frame.ad.clone())),
            Val::List(list) => {
                self.depth = self.depth.checked_sub(1).ok_or(LimitExceeded::Depth)?;
                let mut items = Vec::new();
                while let Some(item) = self.element(list, items.len())? {
                    self.charge(size_of::<Value>())?;
                    items.push(self.export(&item)?);
                }
                self.depth += 1;
                Value::List(items)
            }
        })
    }
}
