//! Values during an evaluation: lists and ads still know the scope they were written in.

use std::rc::Rc;
use std::sync::Arc;

use super::{Frame, Scope};
use crate::expr::{Expr, Literal, Node};
use crate::print::Printer;
use crate::syntax::Syntax;
use crate::value::{AbsoluteTime, int_to_real};

#[derive(Debug, Clone)]
pub(crate) enum Val {
    Undefined,
    Error,
    Boolean(bool),
    Integer(i64),
    Real(f64),
    String(Arc<str>),
    AbsoluteTime(AbsoluteTime),
    RelativeTime(f64),
    List(List),
    Ad(Rc<Frame>),
}

/// A list whose elements are not evaluated yet, or one that a function made.
#[derive(Debug, Clone)]
pub(crate) enum List {
    /// A list node and the scope it stands in.
    Written(Expr, Scope),
    Made(Rc<[Val]>),
}

impl List {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Written(expr, _) => match expr.node() {
                Node::List(items) => items.len(),
                _ => 0,
            },
            Self::Made(items) => items.len(),
        }
    }

    /// The expression of an element of a written list, and its scope.
    pub(crate) fn expr(&self, at: usize) -> Option<(&Expr, &Scope)> {
        match self {
            Self::Written(expr, scope) => match expr.node() {
                Node::List(items) => items.get(at).map(|item| (item, scope)),
                _ => None,
            },
            Self::Made(_) => None,
        }
    }
}

impl From<&Literal> for Val {
    fn from(literal: &Literal) -> Self {
        match literal {
            Literal::Undefined => Self::Undefined,
            Literal::Error => Self::Error,
            Literal::Boolean(b) => Self::Boolean(*b),
            Literal::Integer(i) => Self::Integer(*i),
            Literal::Real(r) => Self::Real(*r),
            Literal::String(s) => Self::String(Arc::clone(s)),
            Literal::AbsoluteTime(t) => Self::AbsoluteTime(*t),
            // a span that is written down is a plain number when evaluated; only functions give spans
            // (`htcondor:src/classad/classad/literals.h`, ReltimeLiteral; so up to at least 25.14)
            Literal::RelativeTime(t) => Self::Real(*t),
        }
    }
}

impl Val {
    /// The truth value of what counts as a condition: booleans and numbers.
    pub(crate) fn truth(&self) -> Option<bool> {
        match self {
            Self::Boolean(b) => Some(*b),
            Self::Integer(i) => Some(*i != 0),
            Self::Real(r) => Some(*r != 0.0),
            _ => None,
        }
    }

    /// Booleans, integers and reals as a real.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Boolean(b) => Some(f64::from(u8::from(*b))),
            Self::Integer(i) => Some(int_to_real(*i)),
            Self::Real(r) => Some(*r),
            _ => None,
        }
    }

    /// The expression that has this value; scopes are lost.
    pub(crate) fn to_expr(&self) -> Expr {
        let literal = match self {
            Self::Undefined => Literal::Undefined,
            Self::Error => Literal::Error,
            Self::Boolean(b) => Literal::Boolean(*b),
            Self::Integer(i) => Literal::Integer(*i),
            Self::Real(r) => Literal::Real(*r),
            Self::String(s) => Literal::String(Arc::clone(s)),
            Self::AbsoluteTime(t) => Literal::AbsoluteTime(*t),
            Self::RelativeTime(t) => Literal::RelativeTime(*t),
            Self::List(List::Written(expr, _)) => return expr.clone(),
            Self::List(List::Made(items)) => {
                return Expr::list(items.iter().map(Self::to_expr).collect());
            }
            Self::Ad(frame) => return Expr::from(frame.ad.clone()),
        };
        Expr::new(Node::Literal(literal))
    }

    /// How much text the value stands for, at least in proportion.
    pub(crate) fn weight(&self) -> usize {
        let of = |expr: &Expr| usize::try_from(expr.size()).unwrap_or(usize::MAX);
        match self {
            Self::String(text) => text.len(),
            Self::List(List::Made(items)) => items
                .iter()
                .map(Self::weight)
                .fold(0, usize::saturating_add),
            Self::List(List::Written(expr, _)) => of(expr),
            Self::Ad(frame) => frame
                .ad
                .iter()
                .map(|(_, expr)| of(expr))
                .fold(0, usize::saturating_add),
            _ => 0,
        }
        .saturating_add(size_of::<Self>())
    }

    /// The value in new syntax, as functions that turn values into strings print it.
    pub(crate) fn unparse(&self) -> String {
        let mut printer = Printer::new(Syntax::New);
        printer.expr(&self.to_expr());
        printer.into_text()
    }
}
