//! The grammar: precedence climbing over the tokens.

use std::borrow::Cow;

use super::Syntax;
use super::lexer::{Lexer, Token, TokenKind};
use crate::error::{ParseError, ParseErrorKind};
use crate::expr::{BinaryOp, Call, Expr, Literal, Node, Reference, UnaryOp};
use crate::{AttrName, ClassAd, MAX_NESTING, functions, times};

/// How high a tree may be. One level of nesting costs more than one level of height where operators of several
/// precedences meet.
const MAX_HEIGHT: u16 = 300;

/// Parses a whole text as one expression.
pub(crate) fn parse_full(text: &str, syntax: Syntax) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(text, syntax)?;
    let expr = parser.expression()?;
    parser.expect_end()?;
    Ok(expr)
}

/// A parser with one token of look-ahead.
#[derive(Debug)]
pub(crate) struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token<'a>,
    depth: usize,
}

type Parsed<T> = Result<T, ParseError>;

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a str, syntax: Syntax) -> Parsed<Self> {
        let mut lexer = Lexer::new(text, syntax);
        let token = lexer.next()?;
        Ok(Self {
            lexer,
            token,
            depth: 0,
        })
    }

    /// Takes the current token and reads the one after it.
    fn advance(&mut self) -> Parsed<TokenKind<'a>> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next).kind)
    }

    fn at_mark(&self, mark: &str) -> bool {
        matches!(self.token.kind, TokenKind::Mark(m) if m == mark)
    }

    fn take_mark(&mut self, mark: &str) -> Parsed<bool> {
        let there = self.at_mark(mark);
        if there {
            self.advance()?;
        }
        Ok(there)
    }

    fn expect_mark(&mut self, mark: &'static str) -> Parsed<()> {
        if self.take_mark(mark)? {
            Ok(())
        } else {
            self.fail(ParseErrorKind::Expected(mark))
        }
    }

    pub(crate) fn expect_end(&self) -> Parsed<()> {
        match self.token.kind {
            TokenKind::End => Ok(()),
            _ => self.fail(ParseErrorKind::TrailingText),
        }
    }

    fn fail<T>(&self, kind: ParseErrorKind) -> Parsed<T> {
        Err(ParseError::new(kind, self.token.start))
    }

    /// A node, unless the tree would become too high for recursion over it.
    fn build(&self, node: Node) -> Parsed<Expr> {
        let expr = Expr::new(node);
        if expr.height() > MAX_HEIGHT {
            return self.fail(ParseErrorKind::TooDeep);
        }
        Ok(expr)
    }

    fn enter(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return self.fail(ParseErrorKind::TooDeep);
        }
        Ok(())
    }

    /// `chain`, `chain ? expression : expression` or `chain ?: expression`.
    pub(crate) fn expression(&mut self) -> Parsed<Expr> {
        self.enter()?;
        let condition = self.chain(1)?;
        let expr = if self.take_mark("?")? {
            let middle = if self.at_mark(":") {
                None
            } else {
                Some(self.expression()?)
            };
            self.expect_mark(":")?;
            let otherwise = self.expression()?;
            self.build(Node::Conditional(condition, middle, otherwise))?
        } else {
            condition
        };
        self.depth -= 1;
        Ok(expr)
    }

    /// Operands joined by operators that bind at least as tightly as `floor`.
    fn chain(&mut self, floor: u8) -> Parsed<Expr> {
        let mut left = self.unary()?;
        while let Some(op) = self.operator() {
            let level = op.precedence();
            if level < floor {
                break;
            }
            let mut rest = Vec::new();
            while let Some(op) = self.operator().filter(|op| op.precedence() == level) {
                self.advance()?;
                rest.push((op, self.tighter(level + 1)?));
            }
            left = self.build(Node::Chain(left, rest))?;
        }
        Ok(left)
    }

    /// The right operand of an operator: one unary expression, or a chain of tighter operators.
    fn tighter(&mut self, floor: u8) -> Parsed<Expr> {
        self.enter()?;
        let operand = self.chain(floor)?;
        self.depth -= 1;
        Ok(operand)
    }

    fn operator(&self) -> Option<BinaryOp> {
        let TokenKind::Mark(mark) = self.token.kind else {
            return None;
        };
        Some(match mark {
            "||" => BinaryOp::Or,
            "&&" => BinaryOp::And,
            "|" => BinaryOp::BitOr,
            "^" => BinaryOp::BitXor,
            "&" => BinaryOp::BitAnd,
            "==" => BinaryOp::Equal,
            "!=" => BinaryOp::NotEqual,
            "=?=" => BinaryOp::Is,
            "=!=" => BinaryOp::Isnt,
            "<" => BinaryOp::Less,
            "<=" => BinaryOp::LessEqual,
            ">" => BinaryOp::Greater,
            ">=" => BinaryOp::GreaterEqual,
            "<<" => BinaryOp::ShiftLeft,
            ">>" => BinaryOp::ShiftRight,
            ">>>" => BinaryOp::ShiftRightUnsigned,
            "+" => BinaryOp::Add,
            "-" => BinaryOp::Subtract,
            "*" => BinaryOp::Multiply,
            "/" => BinaryOp::Divide,
            "%" => BinaryOp::Modulus,
            _ => return None,
        })
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let op = match self.token.kind {
            TokenKind::Mark("-") => UnaryOp::Minus,
            TokenKind::Mark("+") => UnaryOp::Plus,
            TokenKind::Mark("!") => UnaryOp::Not,
            TokenKind::Mark("~") => UnaryOp::BitNot,
            _ => return self.postfix(),
        };
        self.enter()?;
        self.advance()?;
        let operand = self.unary()?;
        self.depth -= 1;
        self.build(Node::Unary(op, operand))
    }

    fn postfix(&mut self) -> Parsed<Expr> {
        let mut expr = self.primary()?;
        loop {
            if self.take_mark(".")? {
                let name = self.name()?;
                expr = self.build(reference(Some(expr), &name, false))?;
            } else if self.take_mark("[")? {
                let index = self.expression()?;
                self.expect_mark("]")?;
                expr = self.build(Node::Subscript(expr, index))?;
            } else {
                return Ok(expr);
            }
        }
    }

    fn name(&mut self) -> Parsed<Cow<'a, str>> {
        match self.token.kind {
            TokenKind::Name(_) => match self.advance()? {
                TokenKind::Name(name) => Ok(name),
                _ => self.fail(ParseErrorKind::BadName),
            },
            _ => self.fail(ParseErrorKind::BadName),
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        match self.token.kind {
            TokenKind::Mark(mark) => self.bracketed(mark),
            TokenKind::End => self.fail(ParseErrorKind::UnexpectedEnd),
            _ => {
                let start = self.token.start;
                let literal = match self.advance()? {
                    TokenKind::Name(name) => return self.reference_or_call(name, start),
                    TokenKind::Integer(i) => Literal::Integer(i),
                    TokenKind::Real(r) => Literal::Real(r),
                    TokenKind::String(s) => Literal::String(s.into()),
                    TokenKind::True => Literal::Boolean(true),
                    TokenKind::False => Literal::Boolean(false),
                    TokenKind::Undefined => Literal::Undefined,
                    TokenKind::ErrorWord => Literal::Error,
                    TokenKind::Mark(_) | TokenKind::End => {
                        return self.fail(ParseErrorKind::ExpectedExpression);
                    }
                };
                Ok(Expr::new(Node::Literal(literal)))
            }
        }
    }

    fn bracketed(&mut self, mark: &'static str) -> Parsed<Expr> {
        match mark {
            "(" => {
                self.advance()?;
                let inner = self.expression()?;
                self.expect_mark(")")?;
                self.build(Node::Paren(inner))
            }
            "{" => {
                self.advance()?;
                let items = self.items("}", false)?;
                self.build(Node::List(items))
            }
            "[" => {
                let ad = self.ad()?;
                self.build(Node::Ad(ad))
            }
            "." => {
                self.advance()?;
                let name = self.name()?;
                self.build(reference(None, &name, true))
            }
            _ => self.fail(ParseErrorKind::ExpectedExpression),
        }
    }

    fn reference_or_call(&mut self, name: Cow<'a, str>, start: usize) -> Parsed<Expr> {
        if !self.take_mark("(")? {
            return self.build(reference(None, &name, false));
        }
        let args = self.items(")", true)?;
        if let Some(literal) = constant_call(&name, &args) {
            let literal = literal.ok_or_else(|| ParseError::new(ParseErrorKind::BadTime, start))?;
            return Ok(Expr::new(Node::Literal(literal)));
        }
        self.build(Node::Call(Call {
            function: functions::find(&name),
            name: AttrName::from(&*name),
            args,
        }))
    }

    /// Comma-separated expressions up to the closing mark. Arguments may also be separated by `;`, as in old ads.
    fn items(&mut self, close: &'static str, arguments: bool) -> Parsed<Vec<Expr>> {
        let mut items = Vec::new();
        if self.take_mark(close)? {
            return Ok(items);
        }
        loop {
            items.push(self.expression()?);
            if self.take_mark(close)? {
                return Ok(items);
            }
            if !(self.take_mark(",")? || (arguments && self.take_mark(";")?)) {
                return self.fail(ParseErrorKind::Expected(close));
            }
        }
    }

    /// `[ name = expression; ... ]`; empty statements are allowed.
    pub(crate) fn ad(&mut self) -> Parsed<ClassAd> {
        self.expect_mark("[")?;
        let mut ad = ClassAd::new();
        loop {
            while self.take_mark(";")? {}
            if self.take_mark("]")? {
                return Ok(ad);
            }
            let name = self.name()?;
            self.expect_mark("=")?;
            let expr = self.expression()?;
            ad.insert(AttrName::from(&*name), expr);
            if !self.at_mark(";") && !self.at_mark("]") {
                return self.fail(ParseErrorKind::Expected("]"));
            }
        }
    }
}

fn reference(base: Option<Expr>, name: &str, absolute: bool) -> Node {
    Node::Reference(Reference {
        base,
        name: AttrName::from(name),
        absolute,
    })
}

/// Calls that are the spelling of a literal: `absTime("...")`, `relTime("...")` and the reals that have no digits.
/// `Some(None)` if the text is no time.
fn constant_call(name: &str, args: &[Expr]) -> Option<Option<Literal>> {
    let [arg] = args else { return None };
    let Node::Literal(Literal::String(text)) = arg.node() else {
        return None;
    };
    if name.eq_ignore_ascii_case("absTime") {
        Some(times::parse_absolute(text).map(Literal::AbsoluteTime))
    } else if name.eq_ignore_ascii_case("relTime") {
        Some(times::parse_relative(text).map(Literal::RelativeTime))
    } else if name == "real" {
        let real = match &**text {
            "INF" => f64::INFINITY,
            "-INF" => f64::NEG_INFINITY,
            "NaN" => f64::NAN,
            _ => return None,
        };
        Some(Some(Literal::Real(real)))
    } else {
        None
    }
}
