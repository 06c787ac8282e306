//! Expressions: the syntax tree behind a cheap handle.

use std::fmt;
use std::sync::Arc;

use crate::functions::Function;
use crate::value::AbsoluteTime;
use crate::{AttrName, ClassAd, Value};

/// A parsed expression. Immutable; cloning copies a pointer.
///
/// `PartialEq` compares structure (`1 + 1` and `2` differ, so do `a` and `(a)`); attribute names compare without case.
#[derive(Clone)]
pub struct Expr {
    inner: Arc<Inner>,
}

struct Inner {
    /// Levels of nodes, this one included; saturates.
    height: u16,
    /// Nodes plus bytes of strings, a measure of how long the text is; saturates.
    size: u32,
    node: Node,
}

/// One node of the tree.
#[derive(Debug, PartialEq)]
pub(crate) enum Node {
    Literal(Literal),
    Reference(Reference),
    Unary(UnaryOp, Expr),
    /// Operands joined by left-associative operators of one precedence, e.g. `a - b + c`. Kept flat, so that long
    /// `&&` and `||` chains cost no recursion.
    Chain(Expr, Vec<(BinaryOp, Expr)>),
    /// `c ? t : f`, or `c ?: f` without the middle.
    Conditional(Expr, Option<Expr>, Expr),
    Subscript(Expr, Expr),
    Paren(Expr),
    Call(Call),
    List(Vec<Expr>),
    Ad(ClassAd),
}

/// A scalar in an expression.
#[derive(Debug, Clone)]
pub(crate) enum Literal {
    Undefined,
    Error,
    Boolean(bool),
    Integer(i64),
    Real(f64),
    String(Arc<str>),
    AbsoluteTime(AbsoluteTime),
    RelativeTime(f64),
}

/// `name`, `.name` or `base.name`.
#[derive(Debug, PartialEq)]
pub(crate) struct Reference {
    pub(crate) base: Option<Expr>,
    pub(crate) name: AttrName,
    pub(crate) absolute: bool,
}

/// `name(args)`; a name that is no function evaluates to error.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: AttrName,
    pub(crate) function: Option<&'static Function>,
    pub(crate) args: Vec<Expr>,
}

/// Prefix operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnaryOp {
    Plus,
    Minus,
    Not,
    BitNot,
}

/// Infix operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    Or,
    And,
    BitOr,
    BitXor,
    BitAnd,
    Equal,
    NotEqual,
    Is,
    Isnt,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    ShiftLeft,
    ShiftRight,
    ShiftRightUnsigned,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulus,
}

impl BinaryOp {
    /// Binding strength, 1 (loosest, `||`) to 10 (tightest, `*`).
    pub(crate) const fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::BitOr => 3,
            Self::BitXor => 4,
            Self::BitAnd => 5,
            Self::Equal | Self::NotEqual | Self::Is | Self::Isnt => 6,
            Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual => 7,
            Self::ShiftLeft | Self::ShiftRight | Self::ShiftRightUnsigned => 8,
            Self::Add | Self::Subtract => 9,
            Self::Multiply | Self::Divide | Self::Modulus => 10,
        }
    }
}

impl Expr {
    pub(crate) fn new(node: Node) -> Self {
        let (height, size) = node.measure();
        Self {
            inner: Arc::new(Inner { height, size, node }),
        }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.inner.node
    }

    pub(crate) fn height(&self) -> u16 {
        self.inner.height
    }

    pub(crate) fn size(&self) -> u32 {
        self.inner.size
    }

    /// The expression that evaluates to `value`.
    #[must_use]
    pub fn literal(value: Value) -> Self {
        let literal = match value {
            Value::Undefined => Literal::Undefined,
            Value::Error => Literal::Error,
            Value::Boolean(b) => Literal::Boolean(b),
            Value::Integer(i) => Literal::Integer(i),
            Value::Real(r) => Literal::Real(r),
            Value::String(s) => Literal::String(s.into()),
            Value::AbsoluteTime(t) => Literal::AbsoluteTime(t),
            Value::RelativeTime(t) => Literal::RelativeTime(t),
            Value::List(items) => {
                return Self::new(Node::List(items.into_iter().map(Self::literal).collect()));
            }
            Value::ClassAd(ad) => return Self::new(Node::Ad(*ad)),
        };
        Self::new(Node::Literal(literal))
    }

    /// A list of expressions.
    #[must_use]
    pub fn list(items: Vec<Self>) -> Self {
        Self::new(Node::List(items))
    }

    /// A plain reference to an attribute.
    #[must_use]
    pub fn attribute(name: impl Into<AttrName>) -> Self {
        Self::new(Node::Reference(Reference {
            base: None,
            name: name.into(),
            absolute: false,
        }))
    }

    /// The expression as an operand of `||`: in parentheses if it binds looser.
    #[must_use]
    pub fn operand_of_or(&self) -> Self {
        match self.node() {
            Node::Conditional(..) => Self::new(Node::Paren(self.clone())),
            _ => self.clone(),
        }
    }

    /// The expression as an operand of `&&`: in parentheses if it binds looser.
    #[must_use]
    pub fn operand_of_and(&self) -> Self {
        match self.node() {
            Node::Chain(_, rest) if rest.iter().any(|(op, _)| *op == BinaryOp::Or) => {
                Self::new(Node::Paren(self.clone()))
            }
            _ => self.operand_of_or(),
        }
    }

    /// The value, if the expression is a literal: a scalar, a list of literals or an ad.
    #[must_use]
    pub fn as_literal(&self) -> Option<Value> {
        match self.node() {
            Node::Literal(literal) => Some(literal.to_value()),
            Node::List(items) => Some(Value::List(
                items.iter().map(Self::as_literal).collect::<Option<_>>()?,
            )),
            Node::Ad(ad) => Some(Value::ClassAd(Box::new(ad.clone()))),
            _ => None,
        }
    }
}

impl Node {
    /// Height and size of a tree with this node at its top.
    fn measure(&self) -> (u16, u32) {
        let mut height = 0;
        let mut size = 1_u32;
        let mut add = |expr: &Expr| {
            height = expr.height().max(height);
            size = size.saturating_add(expr.size());
        };
        match self {
            Self::Literal(Literal::String(text)) => {
                return (
                    1,
                    u32::try_from(text.len())
                        .unwrap_or(u32::MAX)
                        .saturating_add(1),
                );
            }
            Self::Literal(_) => {}
            Self::Reference(reference) => reference.base.iter().for_each(add),
            Self::Unary(_, a) | Self::Paren(a) => add(a),
            Self::Chain(first, rest) => {
                add(first);
                rest.iter().for_each(|(_, e)| add(e));
            }
            Self::Conditional(a, b, c) => [a, c].into_iter().chain(b).for_each(add),
            Self::Subscript(a, b) => [a, b].into_iter().for_each(add),
            Self::Call(call) => call.args.iter().for_each(add),
            Self::List(items) => items.iter().for_each(add),
            Self::Ad(ad) => ad.iter().for_each(|(_, e)| add(e)),
        }
        (height.saturating_add(1), size)
    }
}

impl Literal {
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Self::Undefined => Value::Undefined,
            Self::Error => Value::Error,
            Self::Boolean(b) => Value::Boolean(*b),
            Self::Integer(i) => Value::Integer(*i),
            Self::Real(r) => Value::Real(*r),
            Self::String(s) => Value::String((**s).to_owned()),
            Self::AbsoluteTime(t) => Value::AbsoluteTime(*t),
            Self::RelativeTime(t) => Value::RelativeTime(*t),
        }
    }
}

impl PartialEq for Literal {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Undefined, Self::Undefined) | (Self::Error, Self::Error) => true,
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Real(a), Self::Real(b)) | (Self::RelativeTime(a), Self::RelativeTime(b)) => {
                a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
            }
            (Self::String(a), Self::String(b)) => a == b,
            (Self::AbsoluteTime(a), Self::AbsoluteTime(b)) => a == b,
            _ => false,
        }
    }
}

impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.args == other.args
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner) || self.node() == other.node()
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expr({})", self.to_new())
    }
}

impl From<Value> for Expr {
    fn from(value: Value) -> Self {
        Self::literal(value)
    }
}

impl From<i64> for Expr {
    fn from(value: i64) -> Self {
        Self::literal(Value::Integer(value))
    }
}

impl From<i32> for Expr {
    fn from(value: i32) -> Self {
        Self::from(i64::from(value))
    }
}

impl From<u32> for Expr {
    fn from(value: u32) -> Self {
        Self::from(i64::from(value))
    }
}

impl From<f64> for Expr {
    fn from(value: f64) -> Self {
        Self::literal(Value::Real(value))
    }
}

impl From<bool> for Expr {
    fn from(value: bool) -> Self {
        Self::literal(Value::Boolean(value))
    }
}

impl From<&str> for Expr {
    fn from(value: &str) -> Self {
        Self::new(Node::Literal(Literal::String(value.into())))
    }
}

impl From<String> for Expr {
    fn from(value: String) -> Self {
        Self::new(Node::Literal(Literal::String(value.into())))
    }
}

impl From<&String> for Expr {
    fn from(value: &String) -> Self {
        Self::from(value.as_str())
    }
}

impl From<ClassAd> for Expr {
    fn from(value: ClassAd) -> Self {
        Self::new(Node::Ad(value))
    }
}

impl From<&Self> for Expr {
    fn from(value: &Self) -> Self {
        value.clone()
    }
}
