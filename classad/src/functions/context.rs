//! Functions that decide what is evaluated, and where.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::arguments::exactly;
use super::convert::{Converted, to_text};
use super::patterns::Options;
use crate::AttrName;
use crate::eval::{Evaluated, Frame, List, Machine, Scope, Val};
use crate::expr::{Call, Expr, Node, Reference};

/// `ifThenElse(condition, then, else)`: only one branch is evaluated.
pub(crate) fn if_then_else(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let [condition, then, otherwise] = call.args.as_slice() else {
        return Ok(Val::Error);
    };
    let condition = m.eval(condition, scope)?;
    match condition.truth() {
        Some(true) => m.eval(then, scope),
        Some(false) => m.eval(otherwise, scope),
        None if matches!(condition, Val::Undefined) => Ok(Val::Undefined),
        None => Ok(Val::Error),
    }
}

/// `eval(text)`: the text as an expression, in the ad the call stands in.
pub(crate) fn eval(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some([val]) = exactly(m, call, scope)? else {
        return Ok(Val::Error);
    };
    let Converted::Is(text) = to_text(&val) else {
        return Ok(Val::Error);
    };
    m.charge(text.len().saturating_mul(16))?;
    match Expr::parse_new(&text) {
        Ok(expr) => m.eval(&expr, scope),
        Err(_) => Ok(Val::Error),
    }
}

/// `debug(x)`: x. HTCondor also writes a log line; this crate has no log.
pub(crate) fn debug(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    Ok(match exactly(m, call, scope)? {
        Some([val]) => val,
        None => Val::Error,
    })
}

/// `unparse(attribute)`: the text of the attribute's expression; empty if the ad has no such attribute.
pub(crate) fn unparse(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let [arg] = call.args.as_slice() else {
        return Ok(Val::Error);
    };
    let Node::Reference(reference) = arg.node() else {
        return Ok(Val::Error);
    };
    let plain = reference.base.is_none() && !reference.absolute;
    let found = scope
        .0
        .as_ref()
        .filter(|_| plain)
        .and_then(|frame| frame.ad.get_name(&reference.name));
    m.text(found.map(Expr::to_new).unwrap_or_default())
}

/// `evalInEachContext(expr, ads)`: the values of the expression in every ad.
pub(crate) fn eval_in_each_context(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let ads = match each_context(m, call, scope)? {
        Ok(vals) => vals,
        Err(val) => return Ok(val),
    };
    m.made(ads)
}

/// `countMatches(expr, ads)`: in how many ads the expression is true; 0 if there is no list.
pub(crate) fn count_matches(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    Ok(match each_context(m, call, scope)? {
        Ok(vals) => {
            let count = vals.iter().filter(|val| val.truth() == Some(true)).count();
            Val::Integer(i64::try_from(count).unwrap_or(i64::MAX))
        }
        Err(Val::Undefined) => Val::Integer(0),
        Err(val) => val,
    })
}

/// An expression that is an attribute stands for the attribute's expression, if there is one.
fn each_context(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Result<Vec<Val>, Val>> {
    let [expr, list] = call.args.as_slice() else {
        return Ok(Err(Val::Error));
    };
    let found = match expr.node() {
        Node::Reference(reference) => m.dereference(reference, scope)?.map(|(expr, _)| expr),
        _ => None,
    };
    let expr = found.unwrap_or_else(|| expr.clone());
    let list: List = match m.eval(list, scope)? {
        Val::List(list) => list,
        Val::Undefined => return Ok(Err(Val::Undefined)),
        _ => return Ok(Err(Val::Error)),
    };
    let mut vals = Vec::new();
    while let Some(item) = m.element(&list, vals.len())? {
        m.charge(size_of::<Val>())?;
        vals.push(match item {
            Val::Ad(frame) => {
                let inside = Scope(Some(Frame::seeing_the_other_side(&frame)));
                m.eval(&expr, &inside)?
            }
            Val::Undefined => Val::Undefined,
            _ => Val::Error,
        });
    }
    Ok(Ok(vals))
}

/// `unresolved(attribute [, pattern])`: names the attribute's expression refers to that are not in this ad, separated
/// by commas; with a pattern, whether one of them matches.
pub(crate) fn unresolved(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let (first, pattern) = match call.args.as_slice() {
        [first] => (first, None),
        [first, pattern] => (first, Some(pattern)),
        _ => return Ok(Val::Error),
    };
    let Node::Reference(reference) = first.node() else {
        return Ok(Val::Error);
    };
    let Some((expr, inside)) = m.dereference(reference, scope)? else {
        return Ok(Val::Undefined);
    };
    let mut names = Names::default();
    names.collect(m, &expr, &inside, 0)?;
    let Some(pattern) = pattern else {
        let names: Vec<&str> = names.found.keys().map(AttrName::as_str).collect();
        return m.text(names.join(","));
    };
    let Val::String(pattern) = m.eval(pattern, scope)? else {
        return Ok(Val::Error);
    };
    let options = Options::ignoring_case();
    for name in names.found.keys() {
        match m.patterns.is_match(&pattern, options, name.as_str()) {
            Some(true) => return Ok(Val::Boolean(true)),
            Some(false) => {}
            None => return Ok(Val::Error),
        }
    }
    Ok(Val::Boolean(false))
}

/// Names that refer out of an ad.
#[derive(Default)]
struct Names {
    found: BTreeMap<AttrName, ()>,
    /// Attributes already followed: (address of the ad's frame, name).
    followed: Vec<(*const Frame, AttrName)>,
}

impl Names {
    fn collect(
        &mut self,
        m: &mut Machine,
        expr: &Expr,
        scope: &Scope,
        depth: usize,
    ) -> Evaluated<()> {
        m.step()?;
        if depth > crate::MAX_NESTING {
            return Err(crate::LimitExceeded::Depth);
        }
        match expr.node() {
            Node::Literal(_) => Ok(()),
            Node::Reference(reference) => self.reference(m, reference, scope, depth),
            Node::Unary(_, a) | Node::Paren(a) => self.collect(m, a, scope, depth + 1),
            Node::Chain(first, rest) => {
                self.collect(m, first, scope, depth + 1)?;
                rest.iter()
                    .try_for_each(|(_, e)| self.collect(m, e, scope, depth + 1))
            }
            Node::Conditional(a, b, c) => {
                self.collect(m, a, scope, depth + 1)?;
                b.iter()
                    .chain([c])
                    .try_for_each(|e| self.collect(m, e, scope, depth + 1))
            }
            Node::Subscript(a, b) => {
                self.collect(m, a, scope, depth + 1)?;
                self.collect(m, b, scope, depth + 1)
            }
            Node::Call(call) => call
                .args
                .iter()
                .try_for_each(|e| self.collect(m, e, scope, depth + 1)),
            Node::List(items) => items
                .iter()
                .try_for_each(|e| self.collect(m, e, scope, depth + 1)),
            Node::Ad(ad) => {
                let inside = Scope(Some(Frame::nested(ad.clone(), scope.clone())));
                ad.iter()
                    .try_for_each(|(_, e)| self.collect(m, e, &inside, depth + 1))
            }
        }
    }

    fn reference(
        &mut self,
        m: &mut Machine,
        reference: &Reference,
        scope: &Scope,
        depth: usize,
    ) -> Evaluated<()> {
        let in_target = match reference.base.as_ref().map(Expr::node) {
            Some(Node::Reference(base)) if base.base.is_none() => base.name.matches("TARGET"),
            Some(_) => {
                if let Some(base) = &reference.base {
                    return self.collect(m, base, scope, depth + 1);
                }
                false
            }
            None => false,
        };
        if !in_target {
            let local = match &reference.base {
                None => m.own(&reference.name, scope),
                Some(_) => m.dereference(reference, scope)?.map(|(_, scope)| scope),
            };
            if let Some(inside) = local {
                let Some(frame) = &inside.0 else {
                    return Ok(());
                };
                let key = (Rc::as_ptr(frame), reference.name.clone());
                if self.followed.contains(&key) {
                    return Ok(());
                }
                self.followed.push(key);
                let Some(expr) = frame.ad.get_name(&reference.name).cloned() else {
                    return Ok(());
                };
                return self.collect(m, &expr, &inside, depth + 1);
            }
        }
        self.found.insert(reference.name.clone(), ());
        Ok(())
    }
}
