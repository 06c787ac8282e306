//! From expressions to text. Follows `htcondor:src/classad/sink.cpp` in layout.

pub(crate) mod number;

use std::fmt::Write as _;

use crate::expr::{BinaryOp, Call, Expr, Literal, Node, Reference, UnaryOp};
use crate::syntax::{Syntax, is_line_name, is_plain_name};
use crate::times;
use crate::value::AbsoluteTime;
use crate::{AttrName, ClassAd};

impl Expr {
    /// The expression in old syntax, on one line unless a string contains a line break.
    #[must_use]
    pub fn to_old(&self) -> String {
        text_of(self, Syntax::Old)
    }

    /// The expression in new syntax, on one line.
    #[must_use]
    pub fn to_new(&self) -> String {
        text_of(self, Syntax::New)
    }
}

impl ClassAd {
    /// The ad as lines `Name = expression`, each ended by a line feed.
    ///
    /// This form cannot carry a line feed inside a string; it is written as the two characters `\n`.
    #[must_use]
    pub fn to_old(&self) -> String {
        let mut text = String::new();
        for (name, expr) in self.iter() {
            let line = assignment_old(name, expr);
            if line.contains('\n') {
                text.push_str(&line.replace('\n', "\\n"));
            } else {
                text.push_str(&line);
            }
            text.push('\n');
        }
        text
    }

    /// The ad as `[ name = expression; ... ]`.
    #[must_use]
    pub fn to_new(&self) -> String {
        let mut printer = Printer::new(Syntax::New);
        printer.ad(self);
        printer.text
    }
}

/// `Name = expression` in old syntax for one attribute: a line of the wire form. A line feed inside a string stays.
#[must_use]
pub fn assignment_old(name: &AttrName, expr: &Expr) -> String {
    let mut printer = Printer::new(Syntax::New);
    if is_line_name(name.as_str()) {
        printer.text.push_str(name.as_str());
    } else {
        printer.quoted(name.as_str(), '\'');
    }
    let mut text = printer.text;
    text.push_str(" = ");
    text.push_str(&expr.to_old());
    text
}

fn text_of(expr: &Expr, syntax: Syntax) -> String {
    let mut printer = Printer::new(syntax);
    // a string that ends with a backslash is only readable where nothing follows it
    if let (Syntax::Old, Node::Literal(Literal::String(s))) = (syntax, expr.node()) {
        printer.quoted_old(s, '"');
    } else {
        printer.expr(expr);
    }
    printer.text
}

/// Collects the text of one expression.
#[derive(Debug)]
pub(crate) struct Printer {
    text: String,
    syntax: Syntax,
}

impl Printer {
    pub(crate) const fn new(syntax: Syntax) -> Self {
        Self {
            text: String::new(),
            syntax,
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    pub(crate) fn expr(&mut self, expr: &Expr) {
        match expr.node() {
            Node::Literal(literal) => self.literal(literal),
            Node::Reference(reference) => self.reference(reference),
            Node::Unary(op, operand) => self.unary(*op, operand),
            Node::Chain(first, rest) => {
                self.expr(first);
                for (op, operand) in rest {
                    self.text.push_str(self.infix(*op));
                    self.expr(operand);
                }
            }
            Node::Conditional(condition, middle, otherwise) => {
                self.expr(condition);
                if let Some(middle) = middle {
                    self.text.push_str(" ? ");
                    self.expr(middle);
                    self.text.push_str(" : ");
                } else {
                    self.text.push_str(" ?: ");
                }
                self.expr(otherwise);
            }
            Node::Subscript(base, index) => {
                self.expr(base);
                self.text.push('[');
                self.expr(index);
                self.text.push(']');
            }
            Node::Paren(inner) => {
                self.text.push('(');
                self.expr(inner);
                self.text.push(')');
            }
            Node::Call(call) => self.call(call),
            Node::List(items) => self.list(items),
            Node::Ad(ad) => self.ad(ad),
        }
    }

    pub(crate) fn literal(&mut self, literal: &Literal) {
        match literal {
            Literal::Undefined => self.text.push_str("undefined"),
            Literal::Error => self.text.push_str("error"),
            Literal::Boolean(b) => self.text.push_str(if *b { "true" } else { "false" }),
            Literal::Integer(i) => {
                let _infallible = write!(self.text, "{i}");
            }
            Literal::Real(r) => self.real(*r),
            Literal::String(s) => self.string(s),
            Literal::AbsoluteTime(time) => self.absolute_time(*time),
            Literal::RelativeTime(time) => {
                let text = times::format_relative(*time);
                if times::parse_relative(&text) == Some(*time) {
                    let _infallible = write!(self.text, "relTime(\"{text}\")");
                } else {
                    self.real(*time); // which evaluates to the same
                }
            }
        }
    }

    /// Times that the readable form cannot hold (far years, offsets with seconds) are printed as a call.
    fn absolute_time(&mut self, time: AbsoluteTime) {
        let text = times::format_absolute(time);
        let _infallible = if times::parse_absolute(&text) == Some(time) {
            write!(self.text, "absTime(\"{text}\")")
        } else {
            write!(self.text, "absTime({},{})", time.seconds, time.offset)
        };
    }

    fn real(&mut self, real: f64) {
        if real.is_nan() {
            self.text.push_str("real(\"NaN\")");
        } else if real.is_infinite() {
            self.text.push_str(if real > 0.0 {
                "real(\"INF\")"
            } else {
                "real(\"-INF\")"
            });
        } else if real == 0.0 {
            self.text.push_str(if real.is_sign_negative() {
                "-0.0"
            } else {
                "0.0"
            });
        } else {
            match self.syntax {
                Syntax::Old => self.text.push_str(&number::real_old(real)),
                Syntax::New => self.text.push_str(&number::scientific(real)),
            }
        }
    }

    fn string(&mut self, string: &str) {
        match self.syntax {
            Syntax::New => self.quoted(string, '"'),
            // see text_of(): here more text follows, so the closing quote must not come after a backslash
            Syntax::Old if string.ends_with('\\') => {
                self.text.push_str("substr(");
                self.quoted_old(&format!("{string} "), '"');
                self.text.push_str(",0,-1)");
            }
            Syntax::Old => self.quoted_old(string, '"'),
        }
    }

    fn quoted_old(&mut self, string: &str, delimiter: char) {
        self.text.push(delimiter);
        for c in string.chars() {
            if c == delimiter {
                self.text.push('\\');
            }
            if c != '\0' {
                self.text.push(c);
            }
        }
        self.text.push(delimiter);
    }

    fn quoted(&mut self, string: &str, delimiter: char) {
        self.text.push(delimiter);
        for c in string.chars() {
            match c {
                '\0' => {}
                '\u{7}' => self.text.push_str("\\a"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{b}' => self.text.push_str("\\v"),
                '\\' => self.text.push_str("\\\\"),
                c if c == delimiter => {
                    self.text.push('\\');
                    self.text.push(c);
                }
                ' '..='~' => self.text.push(c),
                c => {
                    let mut buffer = [0; 4];
                    for byte in c.encode_utf8(&mut buffer).bytes() {
                        let _infallible = write!(self.text, "\\{byte:03o}");
                    }
                }
            }
        }
        self.text.push(delimiter);
    }

    fn name(&mut self, name: &AttrName) {
        if is_plain_name(name.as_str()) {
            self.text.push_str(name.as_str());
        } else if self.syntax == Syntax::Old {
            self.quoted_old(name.as_str(), '\'');
        } else {
            self.quoted(name.as_str(), '\'');
        }
    }

    fn reference(&mut self, reference: &Reference) {
        if let Some(base) = &reference.base {
            self.expr(base);
            if matches!(
                base.node(),
                Node::Literal(Literal::Integer(_) | Literal::Real(_))
            ) {
                self.text.push(' '); // else the dot would belong to the number
            }
            self.text.push('.');
        } else if reference.absolute {
            self.text.push('.');
        }
        self.name(&reference.name);
    }

    fn unary(&mut self, op: UnaryOp, operand: &Expr) {
        self.text.push_str(match op {
            UnaryOp::Plus => " +",
            UnaryOp::Minus => " -",
            UnaryOp::Not => " !",
            UnaryOp::BitNot => " ~",
        });
        let start = self.text.len();
        self.expr(operand);
        let first = self.text.as_bytes().get(start).copied().unwrap_or(0);
        let second = self.text.as_bytes().get(start + 1).copied().unwrap_or(0);
        if op == UnaryOp::Minus
            && (first.is_ascii_digit() || (first == b'.' && second.is_ascii_digit()))
        {
            self.text.insert(start, ' '); // else it would be read as a negative number
        }
    }

    const fn infix(&self, op: BinaryOp) -> &'static str {
        match op {
            BinaryOp::Or => " || ",
            BinaryOp::And => " && ",
            BinaryOp::BitOr => " | ",
            BinaryOp::BitXor => " ^ ",
            BinaryOp::BitAnd => " & ",
            BinaryOp::Equal => " == ",
            BinaryOp::NotEqual => " != ",
            BinaryOp::Is => match self.syntax {
                Syntax::Old => " =?= ",
                Syntax::New => " is ",
            },
            BinaryOp::Isnt => match self.syntax {
                Syntax::Old => " =!= ",
                Syntax::New => " isnt ",
            },
            BinaryOp::Less => " < ",
            BinaryOp::LessEqual => " <= ",
            BinaryOp::Greater => " > ",
            BinaryOp::GreaterEqual => " >= ",
            BinaryOp::ShiftLeft => " << ",
            BinaryOp::ShiftRight => " >> ",
            BinaryOp::ShiftRightUnsigned => " >>> ",
            BinaryOp::Add => " + ",
            BinaryOp::Subtract => " - ",
            BinaryOp::Multiply => " * ",
            BinaryOp::Divide => " / ",
            BinaryOp::Modulus => " % ",
        }
    }

    fn call(&mut self, call: &Call) {
        self.name(&call.name);
        self.text.push('(');
        self.separated(&call.args);
        self.text.push(')');
    }

    pub(crate) fn list(&mut self, items: &[Expr]) {
        self.text.push_str("{ ");
        self.separated(items);
        self.text.push_str(" }");
    }

    fn separated(&mut self, items: &[Expr]) {
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.text.push(',');
            }
            self.expr(item);
        }
    }

    pub(crate) fn ad(&mut self, ad: &ClassAd) {
        self.text.push_str("[ ");
        for (i, (name, expr)) in ad.iter().enumerate() {
            if i > 0 {
                self.text.push_str("; ");
            }
            self.name(name);
            self.text.push_str(" = ");
            self.expr(expr);
        }
        self.text.push_str(" ]");
    }
}

impl std::fmt::Display for Expr {
    /// Old syntax, as HTCondor's tools print expressions.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_old())
    }
}
