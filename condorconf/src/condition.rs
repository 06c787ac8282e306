//! `if`, `elif`, `else`, `endif`.

use crate::error::ErrorKind;
use crate::expand::{Expander, shorten, strip_prefix_ignore_case};
use crate::limits::IF_DEPTH;
use crate::line::is_space;
use crate::loader::READ_VERSION;
use crate::scan::is_name_byte;
use crate::template;

/// The word a conditional line begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Branch<'a> {
    If(&'a str),
    Elif(&'a str),
    Else,
    Endif,
}

/// Recognises a conditional line.
pub(crate) fn branch(line: &str) -> Option<Branch<'_>> {
    let end = line.find(is_space).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(is_space);
    match word.to_ascii_lowercase().as_str() {
        "if" => Some(Branch::If(rest)),
        "elif" => Some(Branch::Elif(rest)),
        "else" => Some(Branch::Else),
        "endif" => Some(Branch::Endif),
        _ => None,
    }
}

/// The conditionals that are open.
#[derive(Debug, Default)]
pub(crate) struct IfStack(Vec<Frame>);

#[derive(Debug)]
struct Frame {
    line: u32,
    active: bool,
    /// A branch of this `if` was taken (or must not be, after a mistake).
    taken: bool,
    seen_else: bool,
}

impl IfStack {
    /// Whether lines count here.
    pub(crate) fn enabled(&self) -> bool {
        self.0.iter().all(|frame| frame.active)
    }

    /// The line of the innermost open `if`.
    pub(crate) fn open(&self) -> Option<u32> {
        self.0.last().map(|frame| frame.line)
    }

    /// Follows one conditional line; `test` evaluates a condition where that matters. After a mistake in a condition
    /// none of the branches counts.
    pub(crate) fn follow(
        &mut self,
        branch: Branch<'_>,
        line: u32,
        test: impl FnOnce(&str) -> Result<bool, ErrorKind>,
    ) -> Result<(), ErrorKind> {
        match branch {
            Branch::If(condition) => {
                if self.0.len() >= IF_DEPTH {
                    return Err(ErrorKind::IfTooDeep { limit: IF_DEPTH });
                }
                let outcome = if self.enabled() {
                    test(condition)
                } else {
                    Ok(false)
                };
                let active = matches!(outcome, Ok(true));
                self.0.push(Frame {
                    line,
                    active,
                    taken: outcome.is_err() || active,
                    seen_else: false,
                });
                outcome.map(drop)
            }
            Branch::Elif(condition) => {
                let outer = self
                    .0
                    .split_last()
                    .is_some_and(|(_, outer)| outer.iter().all(|frame| frame.active));
                let frame = self.innermost("elif")?;
                if frame.taken || !outer {
                    frame.active = false;
                    return Ok(());
                }
                let outcome = test(condition);
                frame.active = matches!(outcome, Ok(true));
                frame.taken = outcome.is_err() || frame.active;
                outcome.map(drop)
            }
            Branch::Else => {
                let frame = self.innermost("else")?;
                frame.seen_else = true;
                frame.active = !frame.taken;
                Ok(())
            }
            Branch::Endif => match self.0.pop() {
                Some(_) => Ok(()),
                None => Err(ErrorKind::UnexpectedBranch { word: "endif" }),
            },
        }
    }

    fn innermost(&mut self, word: &'static str) -> Result<&mut Frame, ErrorKind> {
        match self.0.last_mut() {
            Some(frame) if !frame.seen_else => Ok(frame),
            _ => Err(ErrorKind::UnexpectedBranch { word }),
        }
    }
}

/// Evaluates the text after `if`: `htcondor:src/condor_utils/config.cpp`, `Test_config_if_expression`.
pub(crate) fn test(condition: &str, expander: &Expander<'_>) -> Result<bool, ErrorKind> {
    let has_macro = condition.contains('$');
    let expanded = if has_macro {
        expander.expand(condition)?
    } else {
        condition.to_owned()
    };
    let text = expanded.trim_matches(is_space);
    let (inverted, text) = match text.strip_prefix('!') {
        Some(rest) => (true, rest.trim_start_matches(is_space)),
        None => (false, text),
    };
    // A knob that is not set counts as false.
    let value = if has_macro && text.is_empty() {
        false
    } else {
        evaluate(text, expander)?
    };
    Ok(value != inverted)
}

fn evaluate(text: &str, expander: &Expander<'_>) -> Result<bool, ErrorKind> {
    let bad = |why| ErrorKind::BadCondition {
        text: shorten(text),
        why,
    };
    match shape(text, true) {
        Shape::Number => Ok(leading_number(text) != 0.0),
        Shape::Bool => Ok(text.eq_ignore_ascii_case("true")),
        Shape::Version => version(text.get("version".len()..).unwrap_or("")).map_err(bad),
        Shape::Defined => defined(text.get("defined".len()..).unwrap_or(""), expander).map_err(bad),
        Shape::Name => {
            yes_or_no(text).ok_or_else(|| bad("it is not a boolean, a number, defined or version"))
        }
        Shape::Complex => Err(bad(
            "expressions are not supported, only booleans, numbers, defined and version",
        )),
        Shape::Empty => Err(bad("it is empty")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Empty,
    Number,
    Bool,
    Name,
    Version,
    Defined,
    Complex,
}

/// What kind of condition a trimmed text is, by the characters in it.
fn shape(text: &str, keywords: bool) -> Shape {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let all = |accept: fn(u8) -> bool| text.bytes().all(accept);
    if text.is_empty() {
        Shape::Empty
    } else if is_number(unsigned) {
        Shape::Number
    } else if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
        Shape::Bool
    } else if keywords && has_word(text, "version") {
        Shape::Version
    } else if keywords && has_word(text, "defined") {
        Shape::Defined
    } else if all(is_name_byte) && !text.starts_with(|c: char| c.is_ascii_digit()) {
        Shape::Name
    } else {
        Shape::Complex
    }
}

fn is_number(text: &str) -> bool {
    let mut exponent = false;
    let mut bytes = text.bytes().peekable();
    let starts = bytes
        .peek()
        .is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.');
    starts
        && bytes.all(|byte| match byte {
            b'0'..=b'9' | b'.' => true,
            b'e' | b'E' if !exponent => {
                exponent = true;
                true
            }
            b'+' | b'-' => exponent,
            _ => false,
        })
}

/// The number a text begins with, as `atof` reads it.
fn leading_number(text: &str) -> f64 {
    (1..=text.len())
        .rev()
        .find_map(|end| text.get(..end)?.parse().ok())
        .unwrap_or(0.0)
}

fn has_word(text: &str, word: &str) -> bool {
    strip_prefix_ignore_case(text, word)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

fn yes_or_no(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "t" => Some(true),
        "no" | "f" => Some(false),
        _ => None,
    }
}

/// `version >= 23.9`: our version is that of the HTCondor whose language we read; a part left out matches any.
fn version(text: &str) -> Result<bool, &'static str> {
    let text = text.trim_start_matches(is_space);
    let (negated, text) = text
        .strip_prefix('!')
        .map_or((false, text), |rest| (true, rest));
    let (wanted, text) = match text.bytes().next() {
        Some(b'<') => (std::cmp::Ordering::Less, text.get(1..)),
        Some(b'=') => (std::cmp::Ordering::Equal, text.get(1..)),
        Some(b'>') => (std::cmp::Ordering::Greater, text.get(1..)),
        _ => return Err("version needs one of <, <=, ==, !=, >=, > and a version"),
    };
    let text = text.unwrap_or("");
    let (or_equal, text) = text
        .strip_prefix('=')
        .map_or((false, text), |rest| (true, rest));
    let text = text.trim_start_matches(is_space);
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let parts: Vec<u32> = text
        .split('.')
        .map_while(|part| part.trim_matches(is_space).parse().ok())
        .take(3)
        .collect();
    let other = match *parts.as_slice() {
        [major, minor] if major >= 6 => (major, minor, READ_VERSION.2),
        [major, minor, sub] if major >= 6 => (major, minor, sub),
        _ => return Err("the version is not like 23.9 or 23.9.6"),
    };
    let order = READ_VERSION.cmp(&other);
    Ok((order == wanted || or_equal && order.is_eq()) != negated)
}

/// `defined NAME`: a knob that is set and not empty; a number or boolean; or a template (`use SECURITY:Strong`).
fn defined(text: &str, expander: &Expander<'_>) -> Result<bool, &'static str> {
    let text = text.trim_matches(is_space);
    match shape(text, false) {
        Shape::Empty => Ok(false),
        Shape::Number | Shape::Bool => Ok(true),
        Shape::Name => Ok(match expander.lookup(text) {
            Some(raw) => !raw.is_empty(),
            None => yes_or_no(text).is_some(),
        }),
        Shape::Version | Shape::Defined | Shape::Complex => {
            let Some(wanted) = strip_prefix_ignore_case(text, "use ") else {
                return Err("what follows defined must be one name, boolean or number");
            };
            let wanted = wanted.trim_start_matches(is_space);
            if wanted.contains(is_space) {
                return Err(
                    "a template after 'defined use' is written without blanks: CATEGORY:NAME",
                );
            }
            let (category, name) = wanted.split_once(':').unwrap_or((wanted, ""));
            Ok(template::is_known(category, name))
        }
    }
}
