//! Functions with regular expressions.
//!
//! HTCondor uses PCRE2 on bytes; we use the `regex` crate on bytes. [`super::patterns::translate()`] lets through what
//! both understand alike; for the rest (look-around, back references, possessive quantifiers, ...) the functions give
//! error rather than another answer.

mod translate;

use std::collections::HashMap;

use regex::bytes::{Captures, Regex, RegexBuilder};

use super::arguments::between;
use super::string_lists;
use crate::eval::{Evaluated, Machine, Scope, Val};
use crate::expr::Call;
use translate::{Translated, translate};

/// Largest compiled pattern in bytes.
const SIZE_LIMIT: usize = 1 << 20;

/// The options a function argument can set, by letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Options {
    ignore_case: bool,
    multi_line: bool,
    dot_all: bool,
    extended: bool,
    /// `f`: the result is the whole text with the replacement in place.
    full: bool,
    /// `g`: replace all matches.
    global: bool,
}

impl Options {
    pub(crate) fn ignoring_case() -> Self {
        Self::from_letters("i")
    }

    /// Unknown letters are ignored.
    fn from_letters(letters: &str) -> Self {
        Self {
            ignore_case: letters.contains('i'),
            multi_line: letters.contains('m'),
            dot_all: letters.contains('s'),
            extended: letters.contains('x'),
            full: letters.contains('f'),
            global: letters.contains('g'),
        }
    }
}

/// A compiled pattern with what must be watched when it is used.
#[derive(Debug)]
struct Pattern {
    regex: Regex,
    translated: Translated,
    multi_line: bool,
}

impl Pattern {
    fn compile(pattern: &str, options: Options) -> Option<Self> {
        let translated = translate(pattern)?;
        let regex = RegexBuilder::new(&translated.text)
            .unicode(false)
            .case_insensitive(options.ignore_case)
            .multi_line(options.multi_line)
            .dot_matches_new_line(options.dot_all)
            .ignore_whitespace(options.extended)
            .size_limit(SIZE_LIMIT)
            .dfa_size_limit(SIZE_LIMIT)
            .build()
            .ok()?;
        Some(Self {
            regex,
            translated,
            multi_line: options.multi_line,
        })
    }

    /// Whether the two libraries agree on a text. They differ on anchors beside a line feed at the end.
    fn applies_to(&self, text: &str) -> bool {
        let anchored = self.translated.dollar || (self.multi_line && self.translated.caret);
        !(anchored && text.ends_with('\n'))
    }
}

/// Patterns compiled during one evaluation.
#[derive(Debug, Default)]
pub(crate) struct PatternCache {
    compiled: HashMap<(String, Options), Option<Pattern>>,
}

impl PatternCache {
    fn get(&mut self, pattern: &str, options: Options) -> Option<&Pattern> {
        self.compiled
            .entry((pattern.to_owned(), options))
            .or_insert_with(|| Pattern::compile(pattern, options))
            .as_ref()
    }

    /// Whether the pattern matches somewhere in the text; `None` if that cannot be told.
    pub(crate) fn is_match(&mut self, pattern: &str, options: Options, text: &str) -> Option<bool> {
        let pattern = self.get(pattern, options).filter(|p| p.applies_to(text))?;
        Some(pattern.regex.is_match(text.as_bytes()))
    }
}

/// Error before undefined; `None` if all values are defined.
fn exceptional(vals: &[Val]) -> Option<Val> {
    if vals.iter().any(|val| matches!(val, Val::Error)) {
        Some(Val::Error)
    } else if vals.iter().any(|val| matches!(val, Val::Undefined)) {
        Some(Val::Undefined)
    } else {
        None
    }
}

/// `regexp(pattern, text [, options])`: whether the pattern matches somewhere in the text.
pub(crate) fn regexp(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some(vals) = between(m, call, scope, 2, 3)? else {
        return Ok(Val::Error);
    };
    if let Some(val) = exceptional(&vals) {
        return Ok(val);
    }
    let (pattern, text, options) = match vals.as_slice() {
        [Val::String(pattern), Val::String(text)] => (pattern, text, Options::default()),
        [
            Val::String(pattern),
            Val::String(text),
            Val::String(letters),
        ] => (pattern, text, Options::from_letters(letters)),
        _ => return Ok(Val::Error),
    };
    m.charge(text.len())?;
    Ok(m.patterns
        .is_match(pattern, options, text)
        .map_or(Val::Error, Val::Boolean))
}

/// `regexpMember(pattern, list [, options])`: whether the pattern matches an element. An undefined element makes the
/// result undefined if nothing matches.
pub(crate) fn regexp_member(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some(vals) = between(m, call, scope, 2, 3)? else {
        return Ok(Val::Error);
    };
    if let Some(val) = exceptional(&vals) {
        return Ok(val);
    }
    let (pattern, list, options) = match vals.as_slice() {
        [Val::String(pattern), Val::List(list)] => (pattern, list, Options::default()),
        [Val::String(pattern), Val::List(list), Val::String(letters)] => {
            (pattern, list, Options::from_letters(letters))
        }
        _ => return Ok(Val::Error),
    };
    let mut result = Val::Boolean(false);
    let mut at = 0;
    while let Some(item) = m.element(list, at)? {
        at += 1;
        match item {
            Val::Undefined => result = Val::Undefined,
            Val::String(text) => {
                m.charge(text.len())?;
                match m.patterns.is_match(pattern, options, &text) {
                    Some(true) => return Ok(Val::Boolean(true)),
                    Some(false) => {}
                    // the real function takes a bad pattern for one that does not match
                    None => {}
                }
            }
            _ => return Ok(Val::Error),
        }
    }
    Ok(result)
}

/// `stringList_regexpMember(pattern, list [, delimiters [, options]])`; undefined for a list without items.
pub(crate) fn string_list_member(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let vals = between(m, call, scope, 2, 4)?;
    let (pattern, list, delimiters, letters) = match vals.as_deref() {
        Some([Val::String(p), Val::String(l)]) => (p, l, ", ", ""),
        Some([Val::String(p), Val::String(l), Val::String(d)]) => (p, l, &**d, ""),
        Some(
            [
                Val::String(p),
                Val::String(l),
                Val::String(d),
                Val::String(o),
            ],
        ) => (p, l, &**d, &**o),
        _ => return Ok(Val::Error),
    };
    let options = Options {
        full: false,
        global: false,
        ..Options::from_letters(&letters.to_ascii_lowercase())
    };
    m.charge(list.len())?;
    if m.patterns.get(pattern, options).is_none() {
        return Ok(Val::Error);
    }
    let mut result = Val::Undefined;
    for item in string_lists::items(list, delimiters) {
        match m.patterns.is_match(pattern, options, item) {
            Some(true) => result = Val::Boolean(true),
            Some(false) if matches!(result, Val::Undefined) => result = Val::Boolean(false),
            Some(false) => {}
            None => return Ok(Val::Error),
        }
    }
    Ok(result)
}

/// `regexps(pattern, text, substitute [, options])`: the substitute with `\0` to `\9` filled in from the match; the
/// empty string if there is none. With `f` the whole text, with `g` for all matches.
pub(crate) fn regexps(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    substitution(m, call, scope, "")
}

/// `replace(pattern, text, substitute [, options])`: the text with the first match replaced.
pub(crate) fn replace(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    substitution(m, call, scope, "f")
}

/// `replaceAll(pattern, text, substitute [, options])`.
pub(crate) fn replace_all(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    substitution(m, call, scope, "fg")
}

fn substitution(m: &mut Machine, call: &Call, scope: &Scope, implied: &str) -> Evaluated<Val> {
    let Some(vals) = between(m, call, scope, 3, 4)? else {
        return Ok(Val::Error);
    };
    if let Some(val) = exceptional(&vals) {
        return Ok(val);
    }
    let (pattern, text, substitute, letters) = match vals.as_slice() {
        [Val::String(p), Val::String(t), Val::String(s)] => (p, t, s, ""),
        [
            Val::String(p),
            Val::String(t),
            Val::String(s),
            Val::String(o),
        ] => (p, t, s, &**o),
        _ => return Ok(Val::Error),
    };
    let options = Options::from_letters(&format!("{letters}{implied}"));
    m.charge(text.len().saturating_mul(2))?;
    let Some(pattern) = m
        .patterns
        .get(pattern, options)
        .filter(|p| p.applies_to(text))
    else {
        return Ok(Val::Error);
    };
    match substitute_matches(pattern, text.as_bytes(), substitute, options) {
        Some(bytes) => m.text(String::from_utf8_lossy(&bytes)),
        None => Ok(Val::Error),
    }
}

/// `None` if the substitute names a group that does not exist, or if PCRE2 might continue differently.
fn substitute_matches(
    pattern: &Pattern,
    text: &[u8],
    substitute: &str,
    options: Options,
) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    let mut at = 0;
    while let Some(captures) = pattern.regex.captures_at(text, at) {
        let whole = captures.get(0)?;
        if options.full {
            output.extend_from_slice(text.get(at..whole.start())?);
        }
        fill_in(&mut output, substitute, &captures)?;
        at = whole.end();
        if !options.global {
            break;
        }
        if whole.is_empty() {
            // PCRE2 now tries for a match here that is not empty; where there could be one we do not answer
            if pattern.translated.may_prefer_empty {
                return None;
            }
            // past the end PCRE2 refuses to search, which the real function reports as an error
            output.push(*text.get(at)?);
            at += 1;
        }
    }
    if options.full {
        output.extend_from_slice(text.get(at..)?);
    }
    Some(output)
}

fn fill_in(output: &mut Vec<u8>, substitute: &str, captures: &Captures<'_>) -> Option<()> {
    let last = (0..captures.len())
        .rev()
        .find(|i| captures.get(*i).is_some())
        .unwrap_or(0);
    let mut bytes = substitute.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match bytes.peek() {
            Some(digit @ b'0'..=b'9') if byte == b'\\' => {
                let group = usize::from(digit - b'0');
                if group > last {
                    return None;
                }
                if let Some(found) = captures.get(group) {
                    output.extend_from_slice(found.as_bytes());
                }
                bytes.next();
            }
            _ => output.push(byte),
        }
    }
    Some(())
}
