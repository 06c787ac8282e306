//! One line of a map file.

use super::error::MapProblem;

/// A field and how it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) text: String,
    pub(super) style: Style,
}

/// How a field was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Bare,
    Quoted,
    /// `/.../`, with the options behind it.
    Slashes {
        ignore_case: bool,
        ungreedy: bool,
    },
}

/// Takes the next field from the line; `None` at its end. A field in double quotes may contain blanks; with `slashes`
/// so may one between slashes. Inside, a backslash is needed in front of the end character and of a backslash, and is
/// kept in front of others.
pub(super) fn field(rest: &mut &str, slashes: bool) -> Result<Option<Field>, MapProblem> {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let line = rest.trim_start_matches(blank);
    *rest = "";
    let Some(first) = line.chars().next() else {
        return Ok(None);
    };
    if first != '"' && !(slashes && first == '/') {
        let end = line.find(blank).unwrap_or(line.len());
        let (text, after) = line.split_at(end);
        *rest = after;
        return Ok(Some(Field {
            text: text.to_owned(),
            style: Style::Bare,
        }));
    }
    let mut text = String::new();
    let mut chars = line.chars();
    chars.next();
    loop {
        match chars.next() {
            None => return Err(MapProblem::Open(first)),
            Some(end) if end == first => break,
            Some('\\') => match chars.next() {
                None => return Err(MapProblem::Open(first)),
                Some(escaped) => {
                    if escaped != first && escaped != '\\' {
                        text.push('\\');
                    }
                    text.push(escaped);
                }
            },
            Some(other) => text.push(other),
        }
    }
    let mut after = chars.as_str();
    let style = if first == '"' {
        Style::Quoted
    } else {
        let (mut ignore_case, mut ungreedy) = (false, false);
        while let Some(option) = after.chars().next().filter(|c| matches!(c, 'i' | 'U')) {
            ignore_case |= option == 'i';
            ungreedy |= option == 'U';
            after = after.get(1..).unwrap_or("");
        }
        Style::Slashes {
            ignore_case,
            ungreedy,
        }
    };
    *rest = after;
    Ok(Some(Field { text, style }))
}
