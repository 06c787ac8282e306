//! Functions that decide what is evaluated, and where.

use std::collections::BTreeSet;

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
    // what cannot be followed to the end (a circle, a type error) leaves nothing
    let mut names = References::default();
    if !names.collect(m, &expr, &inside, 0)? {
        names.found.clear();
    }
    let Some(pattern) = pattern else {
        let names: Vec<&str> = names.bare().collect();
        return m.text(names.join(","));
    };
    let Val::String(pattern) = m.eval(pattern, scope)? else {
        return Ok(Val::Error);
    };
    let options = Options::ignoring_case();
    for name in names.bare() {
        match m.patterns.is_match(&pattern, options, name) {
            Some(true) => return Ok(Val::Boolean(true)),
            Some(false) => {}
            None => return Ok(Val::Error),
        }
    }
    Ok(Val::Boolean(false))
}

/// References that lead out of an ad, as they are written.
#[derive(Default)]
struct References {
    found: BTreeSet<AttrName>,
}

impl References {
    /// Without `TARGET.`, in the order of the names with it.
    fn bare(&self) -> impl Iterator<Item = &str> {
        self.found.iter().map(|name| {
            let name = name.as_str();
            let prefixed = name
                .get(..7)
                .is_some_and(|prefix| prefix.eq_ignore_ascii_case("TARGET."));
            if prefixed {
                name.get(7..).unwrap_or(name)
            } else {
                name
            }
        })
    }

    /// Follows an expression into the attributes it refers to. False if it cannot be followed to the end.
    fn collect(
        &mut self,
        m: &mut Machine,
        expr: &Expr,
        scope: &Scope,
        depth: usize,
    ) -> Evaluated<bool> {
        m.step()?;
        if depth > crate::MAX_NESTING {
            return Ok(false);
        }
        let children: Vec<&Expr> = match expr.node() {
            Node::Literal(_) => return Ok(true),
            Node::Reference(reference) => return self.reference(m, reference, scope, depth),
            Node::Unary(_, a) | Node::Paren(a) => vec![a],
            Node::Chain(first, rest) => std::iter::once(first)
                .chain(rest.iter().map(|(_, e)| e))
                .collect(),
            Node::Conditional(a, b, c) => std::iter::once(a).chain(b).chain([c]).collect(),
            Node::Subscript(a, b) => vec![a, b],
            Node::Call(call) => call.args.iter().collect(),
            Node::List(items) => items.iter().collect(),
            // HTCondor looks the names in a nested ad up around it only
            Node::Ad(ad) => ad.iter().map(|(_, e)| e).collect(),
        };
        for child in children {
            if !self.collect(m, child, scope, depth + 1)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn reference(
        &mut self,
        m: &mut Machine,
        reference: &Reference,
        scope: &Scope,
        depth: usize,
    ) -> Evaluated<bool> {
        let name = &reference.name;
        let own = match &reference.base {
            None => m.own(name, scope, reference.absolute),
            Some(base) => match m.eval(base, scope)? {
                Val::Ad(frame) => m.own(name, &Scope(Some(frame)), false),
                Val::Undefined => {
                    self.found
                        .insert(AttrName::from(format!("{}.{name}", base.to_new())));
                    return Ok(true);
                }
                _ => return Ok(false),
            },
        };
        let Some(inside) = own else {
            self.found.insert(name.clone());
            return Ok(true);
        };
        match inside.0.as_ref().and_then(|frame| frame.ad.get_name(name)) {
            Some(expr) => self.collect(m, &expr.clone(), &inside, depth + 1),
            None => Ok(true),
        }
    }
}
