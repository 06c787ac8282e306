//! What a reference is replaced by: `htcondor:src/condor_utils/config.cpp`, `evaluate_macro_func`.

use crate::error::ErrorKind;
use crate::expand::{Evaluated, Expander, shorten};
use crate::line::is_space;
use crate::number;
use crate::path;
use crate::printf::{Conversion, Format};
use crate::scan::{Kind, Reference};
use crate::typed::split_list;

/// The text that takes the place of `found` in `value`.
pub(crate) fn evaluate(
    expander: &Expander<'_>,
    found: &Reference,
    value: &str,
    depth: usize,
) -> Result<String, ErrorKind> {
    let call = Call {
        expander,
        args: found.body(value),
        depth,
    };
    match found.kind {
        Kind::Plain => Ok(match expander.lookup(found.name(value)) {
            Some(text) if !text.is_empty() => text.to_owned(),
            _ => found.default(value).unwrap_or("").to_owned(),
        }),
        Kind::Env => Ok(match expander.environment.get(found.name(value)) {
            Some(text) => text.clone(),
            None => found.default(value).unwrap_or("UNDEFINED").to_owned(),
        }),
        Kind::RandomChoice => call.random_choice(),
        Kind::RandomInteger => call.random_integer(),
        Kind::Choice => call.choice(),
        Kind::Substr => call.substr(),
        Kind::Int => call.int(),
        Kind::Real => call.real(),
        Kind::String => call.string(),
        Kind::Eval => call.eval(),
        Kind::Basename => call.file_part("nx"),
        Kind::Dirname => call.file_part("p"),
        Kind::FilePart => call.file_part(found.function(value).strip_prefix('F').unwrap_or("")),
    }
}

/// One call of a function.
struct Call<'a> {
    expander: &'a Expander<'a>,
    args: &'a str,
    depth: usize,
}

impl Call<'_> {
    /// What an argument stands for: the value of the knob it names, else itself; expanded.
    fn looked_up(&self, argument: &str) -> Result<String, ErrorKind> {
        let raw = self.expander.lookup(argument).unwrap_or(argument);
        self.expander.expand_at(raw, self.depth + 1)
    }

    fn random_choice(&self) -> Result<String, ErrorKind> {
        let mut items = comma_items(self.args);
        if let [name] = items.as_slice()
            && let Some(raw) = self.expander.lookup(name)
        {
            items = split_list(&self.expander.expand_at(raw, self.depth + 1)?);
        }
        let index = usize::try_from(self.below(u64::try_from(items.len()).unwrap_or(u64::MAX)))
            .unwrap_or(0);
        items
            .into_iter()
            .nth(index)
            .ok_or_else(|| bad("$RANDOM_CHOICE", "the list is empty"))
    }

    fn random_integer(&self) -> Result<String, ErrorKind> {
        const NAME: &str = "$RANDOM_INTEGER";
        let items = comma_items(self.args);
        let number = |index: usize, what: &str| {
            let text = items.get(index).map_or("", String::as_str);
            number::leading_integer(text)
                .ok_or_else(|| bad(NAME, format!("{text:?} is not a valid {what}")))
        };
        let min = number(0, "minimum")?;
        let max = number(1, "maximum")?;
        let step = if items.len() > 2 {
            number(2, "step")?
        } else {
            1
        };
        if step < 1 {
            return Err(bad(NAME, "the step is less than 1"));
        }
        if min > max {
            return Err(bad(NAME, "the minimum is greater than the maximum"));
        }
        let steps = max.wrapping_sub(min).cast_unsigned() / step.cast_unsigned();
        let offset = self
            .below(steps.saturating_add(1))
            .wrapping_mul(step.cast_unsigned());
        Ok(min.wrapping_add_unsigned(offset).to_string())
    }

    fn choice(&self) -> Result<String, ErrorKind> {
        const NAME: &str = "$CHOICE";
        let Some((index, items)) = self.args.split_once(',') else {
            return Err(bad(NAME, "no list"));
        };
        let index = self.looked_up(trim(index))?;
        let index = number::integer(&index, self.expander.evaluator)
            .and_then(|index| usize::try_from(index).ok())
            .ok_or_else(|| bad(NAME, format!("{:?} is not a valid index", shorten(&index))))?;
        let items: Vec<String> = if items.contains(',') {
            items.split(',').map(|item| trim(item).to_owned()).collect()
        } else {
            let list = trim(items);
            let raw = self
                .expander
                .lookup(list)
                .ok_or_else(|| bad(NAME, format!("there is no list {list:?}")))?;
            comma_items(&self.expander.expand_at(raw, self.depth + 1)?)
        };
        let beyond = || bad(NAME, format!("index {index} is beyond the end of the list"));
        items.into_iter().nth(index).ok_or_else(beyond)
    }

    fn substr(&self) -> Result<String, ErrorKind> {
        const NAME: &str = "$SUBSTR";
        let (name, rest) = self
            .args
            .split_once(',')
            .ok_or_else(|| bad(NAME, "no start"))?;
        let (start, length) = match rest.split_once(',') {
            Some((start, length)) => (start, Some(length)),
            None => (rest, None),
        };
        let number = |argument: &str, what: &str| {
            let text = self.looked_up(argument)?;
            number::integer(&text, self.expander.evaluator)
                .and_then(|number| i32::try_from(number).ok())
                .map(i64::from)
                .ok_or_else(|| bad(NAME, format!("{:?} is not a valid {what}", shorten(&text))))
        };
        let start = number(start, "start")?;
        let length = length.map_or(Ok(i64::MAX), |length| number(length, "length"))?;
        let Some(raw) = self.expander.lookup(name) else {
            return Ok(String::new());
        };
        let text = self.expander.expand_at(raw, self.depth + 1)?;
        // Counted from the end when negative, and kept within the text.
        let clamp = |number: i64, size: usize| {
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            let number = if number < 0 {
                number.saturating_add(size)
            } else {
                number
            };
            usize::try_from(number.clamp(0, size)).unwrap_or(0)
        };
        let start = clamp(start, text.len());
        let length = clamp(length, text.len() - start);
        let part = text
            .as_bytes()
            .get(start..start + length)
            .unwrap_or_default();
        // Offsets count bytes; a character cut in half becomes a replacement character.
        Ok(String::from_utf8_lossy(part).into_owned())
    }

    fn int(&self) -> Result<String, ErrorKind> {
        const NAME: &str = "$INT";
        let (name, format) = self.format(NAME, Conversion::is_integer)?;
        let text = self.looked_up(name)?;
        let number = number::integer(&text, self.expander.evaluator)
            .ok_or_else(|| bad(NAME, format!("{:?} is not an integer", shorten(&text))))?;
        Ok(format.map_or_else(|| number.to_string(), |format| format.integer(number)))
    }

    fn real(&self) -> Result<String, ErrorKind> {
        const NAME: &str = "$REAL";
        let (name, format) = self.format(NAME, Conversion::is_real)?;
        let text = self.looked_up(name)?;
        let number = number::real(&text, self.expander.evaluator)
            .ok_or_else(|| bad(NAME, format!("{:?} is not a number", shorten(&text))))?;
        Ok(match format {
            None => Format::default_real().real(number),
            Some(format) => {
                let mut text = format.real(number);
                if !text.contains('.') {
                    text.push_str(".0");
                }
                text
            }
        })
    }

    fn string(&self) -> Result<String, ErrorKind> {
        let (name, format) = self.format("$STRING", Conversion::is_string)?;
        let mut text = self.looked_up(name)?;
        if let Some(Evaluated::String(value)) =
            self.expander.evaluator.and_then(|e| e.evaluate(&text))
        {
            text = value;
        }
        Ok(format.map_or_else(|| text.clone(), |format| format.string(&text)))
    }

    fn eval(&self) -> Result<String, ErrorKind> {
        let raw = self.expander.lookup(self.args).unwrap_or(self.args);
        let text = self.expander.expand_at(raw, self.depth + 1)?;
        let Some(evaluator) = self.expander.evaluator else {
            return Err(bad("$EVAL", "this program gave no ClassAd evaluator"));
        };
        Ok(match evaluator.evaluate(&text) {
            // What does not parse is kept only if there was something to expand in it.
            None if raw.contains('$') => text,
            None => String::new(),
            Some(Evaluated::String(text) | Evaluated::Other(text)) => text,
            Some(Evaluated::Integer(number)) => number.to_string(),
            Some(Evaluated::Real(number)) => number::classad_real(number),
            Some(Evaluated::Boolean(value)) => value.to_string(),
        })
    }

    fn file_part(&self, letters: &str) -> Result<String, ErrorKind> {
        Ok(path::part(
            &self.looked_up(self.args)?,
            letters,
            self.expander.directory,
        ))
    }

    /// The first argument, and the second as a format if there is one.
    fn format(
        &self,
        name: &'static str,
        accepts: fn(Conversion) -> bool,
    ) -> Result<(&str, Option<Format>), ErrorKind> {
        let Some((first, text)) = self.args.split_once(',') else {
            return Ok((self.args, None));
        };
        match Format::parse(text) {
            Some(format) if accepts(format.conversion()) => Ok((first, Some(format))),
            _ => Err(bad(name, format!("{text:?} is not a valid format"))),
        }
    }

    /// A random number below `count`.
    fn below(&self, count: u64) -> u64 {
        self.expander.random().checked_rem(count).unwrap_or(0)
    }
}

fn bad(function: &'static str, why: impl Into<String>) -> ErrorKind {
    ErrorKind::BadFunction {
        function,
        why: why.into(),
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// The items between commas, trimmed, without the empty ones.
fn comma_items(list: &str) -> Vec<String> {
    list.split(',')
        .map(trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}
