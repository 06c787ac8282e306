//! Finding `$(NAME)`, `$(NAME:default)` and `$FUNCTION(...)` in a value.
//!
//! The rules, and their oddities, are those of `htcondor:src/condor_utils/config.cpp` (`next_config_macro`): the body
//! of a plain reference consists of name characters up to a colon and a few more after it; that of a function reaches
//! to the first `)`. `$$(...)` is not ours (it belongs to the negotiator's match and is left alone), but what stands
//! inside it is looked at.

use std::ops::Range;

/// What a reference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `$(NAME)` or `$(NAME:default)`.
    Plain,
    Env,
    RandomChoice,
    RandomInteger,
    Choice,
    Substr,
    Int,
    Real,
    String,
    Eval,
    Basename,
    Dirname,
    /// `$F` with any of the letters `pndxqabfwu`.
    FilePart,
}

/// One reference in a value; all ranges are byte offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) kind: Kind,
    /// From the `$` to the closing parenthesis.
    pub(crate) whole: Range<usize>,
    /// Between the parentheses.
    pub(crate) body: Range<usize>,
    /// After the first colon of the body, where the kind has defaults.
    pub(crate) default: Option<Range<usize>>,
}

impl Reference {
    /// The name, without the default.
    pub(crate) fn name<'a>(&self, value: &'a str) -> &'a str {
        let end = self
            .default
            .as_ref()
            .map_or(self.body.end, |default| default.start.saturating_sub(1));
        value.get(self.body.start..end).unwrap_or("")
    }

    pub(crate) fn body<'a>(&self, value: &'a str) -> &'a str {
        value.get(self.body.clone()).unwrap_or("")
    }

    pub(crate) fn default<'a>(&self, value: &'a str) -> Option<&'a str> {
        self.default.clone().and_then(|range| value.get(range))
    }

    /// What stands between `$` and `(`.
    pub(crate) fn function<'a>(&self, value: &'a str) -> &'a str {
        value
            .get(self.whole.start + 1..self.body.start.saturating_sub(1))
            .unwrap_or("")
    }
}

/// The first reference at or after `from` that `wanted` accepts.
pub(crate) fn next_reference(
    value: &str,
    from: usize,
    wanted: &dyn Fn(&Reference, &str) -> bool,
) -> Option<Reference> {
    let bytes = value.as_bytes();
    let mut at = from;
    loop {
        let start = at + bytes.get(at..)?.iter().position(|&byte| byte == b'$')?;
        let mut end = start + 1;
        if bytes.get(end) == Some(&b'$') {
            end += 1;
        }
        while bytes
            .get(end)
            .is_some_and(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            end += 1;
        }
        at = end;
        if bytes.get(end) != Some(&b'(') {
            continue;
        }
        let Some(kind) = value.get(start..end).and_then(kind_of) else {
            continue;
        };
        let open = end + 1;
        let close = match kind {
            Kind::Plain | Kind::Env => scan_name_body(bytes, open),
            _ => bytes
                .get(open..)
                .and_then(|rest| rest.iter().position(|&byte| byte == b')'))
                .map(|n| (open + n, None)),
        };
        let Some((close, default)) = close else {
            at = open;
            continue;
        };
        let reference = Reference {
            kind,
            whole: start..close + 1,
            body: open..close,
            default: default.map(|first| first..close),
        };
        if wanted(&reference, value) {
            return Some(reference);
        }
        at = close;
    }
}

/// Scans the body of `$(` or `$ENV(`; gives the offset of the closing parenthesis and of the default's start.
fn scan_name_body(bytes: &[u8], open: usize) -> Option<(usize, Option<usize>)> {
    let mut at = open;
    let mut default = None;
    loop {
        let byte = *bytes.get(at)?;
        if byte == b')' {
            return Some((at, default));
        }
        at += 1;
        if byte == b':' && default.is_none() {
            default = Some(at);
            continue;
        }
        if default.is_some() {
            if byte == b'(' {
                // Nested: everything to the next closing parenthesis belongs to the default.
                if let Some(n) = bytes
                    .get(at..)
                    .and_then(|rest| rest.iter().position(|&byte| byte == b')'))
                {
                    at += n + 1;
                    continue;
                }
            } else if b"$ ,\\:".contains(&byte) {
                continue;
            }
        }
        if !is_name_byte(byte) {
            return None;
        }
    }
}

fn kind_of(prefix: &str) -> Option<Kind> {
    let word = prefix.strip_prefix('$')?;
    if word.is_empty() {
        return Some(Kind::Plain);
    }
    if let Some(parts) = word.strip_prefix('F')
        && parts
            .bytes()
            .all(|byte| b"pnxdqabfwu".contains(&(byte | 0x20)))
    {
        return Some(Kind::FilePart);
    }
    Some(match word {
        "ENV" => Kind::Env,
        "RANDOM_CHOICE" => Kind::RandomChoice,
        "RANDOM_INTEGER" => Kind::RandomInteger,
        "CHOICE" => Kind::Choice,
        "SUBSTR" => Kind::Substr,
        "INT" => Kind::Int,
        "REAL" => Kind::Real,
        "STRING" => Kind::String,
        "EVAL" => Kind::Eval,
        "BASENAME" => Kind::Basename,
        "DIRNAME" => Kind::Dirname,
        _ => return None,
    })
}

/// Whether the byte may stand in a knob's name.
pub(crate) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/')
}

/// Whether the text may be a knob's name.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_name_byte)
}
