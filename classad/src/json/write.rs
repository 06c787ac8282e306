//! From ads to JSON.

use std::fmt::Write as _;

use crate::expr::{Literal, Node};
use crate::print::number;
use crate::{ClassAd, Expr};

impl ClassAd {
    /// The ad as JSON, two blanks of indentation per level, no line feed at the end.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut writer = Writer::default();
        writer.ad(self);
        writer.text
    }
}

#[derive(Default)]
struct Writer {
    text: String,
    level: usize,
}

impl Writer {
    fn ad(&mut self, ad: &ClassAd) {
        self.text.push('{');
        self.level += 1;
        for (i, (name, expr)) in ad.iter().enumerate() {
            self.item(i);
            self.string(name.as_str());
            self.text.push_str(": ");
            self.expr(expr);
        }
        self.level -= 1;
        self.line();
        self.text.push('}');
    }

    fn list(&mut self, items: &[Expr]) {
        self.text.push('[');
        self.level += 1;
        for (i, item) in items.iter().enumerate() {
            self.item(i);
            self.expr(item);
        }
        self.level -= 1;
        self.line();
        self.text.push(']');
    }

    fn item(&mut self, number: usize) {
        if number > 0 {
            self.text.push(',');
        }
        self.line();
    }

    fn line(&mut self) {
        self.text.push('\n');
        for _ in 0..self.level {
            self.text.push_str("  ");
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr.node() {
            Node::Ad(ad) => self.ad(ad),
            Node::List(items) => self.list(items),
            Node::Literal(Literal::Undefined) => self.text.push_str("null"),
            Node::Literal(Literal::Boolean(b)) => {
                self.text.push_str(if *b { "true" } else { "false" })
            }
            Node::Literal(Literal::Integer(i)) => {
                let _infallible = write!(self.text, "{i}");
            }
            Node::Literal(Literal::Real(r)) if *r == 0.0 => {
                self.text
                    .push_str(if r.is_sign_negative() { "-0.0" } else { "0.0" });
            }
            Node::Literal(Literal::Real(r)) if r.is_finite() => {
                self.text.push_str(&number::real_old(*r))
            }
            Node::Literal(Literal::String(s)) => self.string(s),
            _ => {
                self.text.push_str("\"\\/Expr(");
                self.escaped(&expr.to_new());
                self.text.push_str(")\\/\"");
            }
        }
    }

    fn string(&mut self, string: &str) {
        self.text.push('"');
        self.escaped(string);
        self.text.push('"');
    }

    fn escaped(&mut self, string: &str) {
        for c in string.chars() {
            match c {
                '\0' => {}
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                c if u32::from(c) < 32 => {
                    let _infallible = write!(self.text, "\\u{:04X}", u32::from(c));
                }
                c => self.text.push(c),
            }
        }
    }
}
