//! Functions on job arguments and environments, and look-ups of accounts.
//! The syntaxes are HTCondor's V1 and V2 (`htcondor:src/condor_utils/condor_arglist.cpp`, `env.cpp`).

use std::collections::BTreeMap;

use super::arguments::between;
use crate::eval::{Evaluated, Machine, Scope, Val};
use crate::expr::Call;

const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// `argsToList(text [, version])`.
pub(crate) fn args_to_list(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let vals = between(m, call, scope, 1, 2)?;
    let args = match vals.as_deref() {
        Some([Val::String(text)] | [Val::String(text), Val::Integer(2)]) => split_v2(text),
        Some([Val::String(text), Val::Integer(1)]) => Some(
            text.split(BLANKS)
                .filter(|arg| !arg.is_empty())
                .map(str::to_owned)
                .collect(),
        ),
        _ => None,
    };
    let Some(args) = args else {
        return Ok(Val::Error);
    };
    let args = args
        .iter()
        .map(|arg| m.text(arg))
        .collect::<Evaluated<Vec<Val>>>()?;
    m.made(args)
}

/// `listToArgs(list [, version])`.
pub(crate) fn list_to_args(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let vals = between(m, call, scope, 1, 2)?;
    let (list, v1) = match vals.as_deref() {
        Some([Val::List(list)] | [Val::List(list), Val::Integer(2)]) => (list, false),
        Some([Val::List(list), Val::Integer(1)]) => (list, true),
        _ => return Ok(Val::Error),
    };
    let mut text = String::new();
    let mut at = 0;
    while let Some(item) = m.element(list, at)? {
        let Val::String(arg) = item else {
            return Ok(Val::Error);
        };
        at += 1;
        m.charge(arg.len().saturating_mul(3))?;
        if v1 {
            // V1 has no quotes
            if arg.contains(BLANKS) {
                return Ok(Val::Error);
            }
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&arg);
        } else {
            append_v2(&mut text, &arg);
        }
    }
    m.text(text)
}

/// `envV1ToV2(text)`.
pub(crate) fn env_v1_to_v2(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let vals = between(m, call, scope, 1, 1)?;
    let text = match vals.as_deref() {
        Some([Val::String(text)]) => text,
        Some([Val::Undefined]) => return Ok(Val::Undefined),
        _ => return Ok(Val::Error),
    };
    // a first character that can be a delimiter is the delimiter
    let (delimiter, body) = match text
        .chars()
        .next()
        .filter(|c| "!#$%&*+,-/:;<>?@^`|~\u{1f}".contains(*c))
    {
        Some(mark) => (mark, text.get(1..).unwrap_or("")),
        None => (';', &**text),
    };
    let mut variables = BTreeMap::new();
    for entry in body.split([delimiter, '\n']) {
        let entry = entry.trim_start_matches(BLANKS);
        if !entry.is_empty() && set_variable(&mut variables, entry).is_none() {
            return Ok(Val::Error);
        }
    }
    m.text(environment_text(&variables))
}

/// `mergeEnvironment(...)`: later settings win; undefined arguments are skipped.
pub(crate) fn merge_environment(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let mut variables = BTreeMap::new();
    for arg in &call.args {
        let text = match m.eval(arg, scope)? {
            Val::Undefined => continue,
            Val::String(text) => text,
            _ => return Ok(Val::Error),
        };
        m.charge(text.len().saturating_mul(2))?;
        let merged = split_v2(&text).and_then(|entries| {
            entries
                .iter()
                .try_for_each(|entry| set_variable(&mut variables, entry))
        });
        if merged.is_none() {
            return Ok(Val::Error);
        }
    }
    m.text(environment_text(&variables))
}

/// Records `NAME=value`; a `$$` macro without `=` is kept as it is. `None` for anything else.
fn set_variable(variables: &mut BTreeMap<String, Option<String>>, entry: &str) -> Option<()> {
    match entry.split_once('=') {
        Some(("", _)) => return None,
        Some((name, value)) => variables.insert(name.to_owned(), Some(value.to_owned())),
        None if entry.contains("$$") => variables.insert(entry.to_owned(), None),
        None => return None,
    };
    Some(())
}

fn environment_text(variables: &BTreeMap<String, Option<String>>) -> String {
    let mut text = String::new();
    for (name, value) in variables {
        match value {
            Some(value) => append_v2(&mut text, &format!("{name}={value}")),
            None => append_v2(&mut text, name),
        }
    }
    text
}

/// Splits at blanks; `'...'` quotes, `''` inside is a quote. `None` for a quote without end.
fn split_v2(text: &str) -> Option<Vec<String>> {
    let mut args = Vec::new();
    let mut current: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if BLANKS.contains(&c) {
            args.extend(current.take());
            continue;
        }
        let arg = current.get_or_insert_default();
        if c != '\'' {
            arg.push(c);
            continue;
        }
        loop {
            match chars.next()? {
                '\'' if chars.peek() == Some(&'\'') => {
                    chars.next();
                    arg.push('\'');
                }
                '\'' => break,
                inside => arg.push(inside),
            }
        }
    }
    args.extend(current);
    Some(args)
}

/// Appends one argument in V2 syntax; neighbouring quoted characters share their quotes.
fn append_v2(text: &mut String, arg: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    if arg.is_empty() {
        text.push_str("''");
    }
    for c in arg.chars() {
        if c == '\'' || BLANKS.contains(&c) {
            if text.ends_with('\'') {
                text.pop();
            } else {
                text.push('\'');
            }
            if c == '\'' {
                text.push('\'');
            }
            text.push(c);
            text.push('\'');
        } else {
            text.push(c);
        }
    }
}

/// `userHome(name [, default])`: the default, else undefined, as HTCondor answers with `CLASSAD_ENABLE_USER_HOME` off.
/// This crate does not look accounts up.
pub(crate) fn user_home(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let Some(vals) = between(m, call, scope, 1, 2)? else {
        return Ok(Val::Error);
    };
    Ok(match vals.as_slice() {
        [_, Val::String(default)] if !default.is_empty() => Val::String(default.clone()),
        [Val::Undefined | Val::String(_), ..] => Val::Undefined,
        _ => Val::Error,
    })
}

/// `userMap(map, user [, preferred [, default]])`: there are no maps here, so the default or undefined.
pub(crate) fn user_map(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
    let vals = between(m, call, scope, 2, 4)?;
    Ok(match vals.as_deref() {
        None | Some([Val::Error, ..] | [_, Val::Error, ..]) => Val::Error,
        Some([_, _, _, default]) => default.clone(),
        Some(_) => Val::Undefined,
    })
}
