//! What follows `queue`: a count, variables, and where the items are.
//!
//! The grammar is found by the same scan as in HTCondor (`htcondor:src/condor_utils/submit_utils.cpp`,
//! `parse_queue_args`): first the word `in`, `from` or `matching`, then what stands before and behind it.

use condorconf::macros::Macros;

/// Where items come from, and what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// No items: only a count.
    Plain,
    /// `in`: words.
    In,
    /// `from`: lines.
    From,
    /// `matching`: patterns of file names.
    Matching {
        /// Plain files count.
        files: bool,
        /// Directories count.
        directories: bool,
    },
}

/// What is still to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing.
    Complete,
    /// Lines that follow in the submit file, up to one that begins with `)`.
    Inline,
    /// A file, a command (`... |`) or `-`.
    External(String),
}

/// The arguments of a `queue` statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueArguments {
    /// Jobs for each item.
    pub(super) count: u32,
    pub(super) mode: Mode,
    pub(super) variables: Vec<String>,
    pub(super) slice: Slice,
    /// Items on the line itself.
    pub(super) items: Vec<String>,
    pub(super) rest: Rest,
}

/// `[start:end:step]`, as in Python; the step is positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Slice {
    start: Option<i64>,
    end: Option<i64>,
    step: Option<i64>,
}

impl Slice {
    /// The indices below `length` that are selected, in order.
    pub(super) fn select(self, length: usize) -> impl Iterator<Item = usize> {
        let whole = i64::try_from(length).unwrap_or(i64::MAX);
        let bound = |at: i64| if at < 0 { at + whole } else { at }.clamp(0, whole);
        let start = usize::try_from(bound(self.start.unwrap_or(0))).unwrap_or(0);
        let end = usize::try_from(bound(self.end.unwrap_or(whole))).unwrap_or(0);
        let step = usize::try_from(self.step.unwrap_or(1)).unwrap_or(1).max(1);
        (start..end.max(start)).step_by(step)
    }

    /// Reads what stands between the brackets.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("[{text}] is no slice: expected [start:end:step]");
        let mut parts = text.split(':').map(|part| match part.trim() {
            "" => Ok(None),
            number => number.parse::<i64>().map(Some).map_err(|_| wrong()),
        });
        let slice = Self {
            start: parts.next().transpose()?.flatten(),
            end: parts.next().transpose()?.flatten(),
            step: parts.next().transpose()?.flatten(),
        };
        if parts.next().is_some() {
            return Err(wrong());
        }
        if slice.step.is_some_and(|step| step < 1) {
            return Err(format!("[{text}]: expected a step of at least 1"));
        }
        Ok(slice)
    }
}

/// Most jobs of one `queue` statement and item.
const MOST: i64 = i32::MAX as i64;

impl QueueArguments {
    /// Reads the expanded arguments.
    pub(super) fn parse(text: &str, macros: &Macros) -> Result<Self, String> {
        let text = text.trim();
        let mut parsed = Self {
            count: 1,
            mode: Mode::Plain,
            variables: Vec::new(),
            slice: Slice::default(),
            items: Vec::new(),
            rest: Rest::Complete,
        };
        let Some((head, mode, tail)) = split_at_keyword(text) else {
            parsed.count = count(text, macros)?;
            return Ok(parsed);
        };
        parsed.mode = mode;
        let tail = parsed.qualifiers(tail.trim_start())?;
        parsed.take_items(tail);
        let names_at = start_of_names(head);
        let (number, names) = head.split_at(names_at);
        parsed.variables = words(names);
        if parsed.variables.is_empty() {
            parsed.variables.push("Item".to_owned());
        }
        parsed.count = count(number, macros)?;
        Ok(parsed)
    }

    /// `files`, `dirs`, `any` and a slice before the items.
    fn qualifiers<'t>(&mut self, mut tail: &'t str) -> Result<&'t str, String> {
        loop {
            if let Some(rest) = tail.strip_prefix('[') {
                // Without a closing bracket it is the beginning of a pattern or a word.
                let Some((slice, after)) = rest.split_once(']').filter(|(slice, _)| {
                    slice
                        .bytes()
                        .all(|byte| byte.is_ascii_digit() || b":- ".contains(&byte))
                }) else {
                    return if matches!(self.mode, Mode::Matching { .. }) {
                        Ok(tail)
                    } else {
                        Err(format!("{tail:?}: expected a slice [start:end:step]"))
                    };
                };
                self.slice = Slice::parse(slice)?;
                tail = after.trim_start();
                continue;
            }
            let end = tail
                .find(|c: char| c.is_whitespace() || c == '(')
                .unwrap_or(tail.len());
            let (word, rest) = tail.split_at(end);
            let (files, directories) = match word.to_ascii_lowercase().as_str() {
                _ if rest.is_empty() => return Ok(tail),
                "files" => (true, false),
                "dirs" => (false, true),
                "any" => (true, true),
                _ => return Ok(tail),
            };
            match &mut self.mode {
                Mode::Matching {
                    files: f,
                    directories: d,
                } => (*f, *d) = (files, directories),
                _ => {
                    return Err(format!(
                        "{word} can only follow matching: expected the items, a list in parentheses or a file"
                    ));
                }
            }
            tail = rest.trim_start();
        }
    }

    /// The items on the line, and where the others are.
    fn take_items(&mut self, tail: &str) {
        let by_line = self.mode == Mode::From;
        if let Some(list) = tail.strip_prefix('(') {
            let (list, complete) = match list.strip_suffix(')') {
                Some(list) => (list, true),
                None => (list, false),
            };
            if !complete {
                self.rest = Rest::Inline;
            }
            let list = list.trim_start();
            if !by_line {
                self.items = words(list);
            } else if complete || !list.is_empty() {
                self.items.push(list.to_owned());
            }
        } else if by_line {
            self.rest = Rest::External(tail.trim().to_owned());
        } else {
            self.items = words(tail);
        }
    }
}

/// Words between blanks and commas.
pub(super) fn words(text: &str) -> Vec<String> {
    text.split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The text before the first of the words `in`, `from`, `matching`, which it is, and what follows. A keyword ends at a
/// blank or an opening parenthesis.
fn split_at_keyword(text: &str) -> Option<(&str, Mode, &str)> {
    let is_end = |c: char| c.is_whitespace() || c == '(';
    let mut from = 0;
    while let Some(length) = text.get(from..)?.find(is_end) {
        let end = from + length;
        let word = text.get(from..end)?;
        let mode = match word.to_ascii_lowercase().as_str() {
            "in" => Some(Mode::In),
            "from" => Some(Mode::From),
            "matching" => Some(Mode::Matching {
                files: true,
                directories: true,
            }),
            _ => None,
        };
        if let Some(mode) = mode {
            return Some((text.get(..from)?.trim_end(), mode, text.get(end..)?));
        }
        from = end + text.get(end..)?.chars().next().map_or(1, char::len_utf8);
    }
    None
}

/// Where the variables begin in what stands before the keyword: as far back as it looks like names and commas. A name
/// may have digits behind letters; a word of digits is the end of the count.
fn start_of_names(head: &str) -> usize {
    let bytes = head.as_bytes();
    let mut at = bytes.len();
    while at > 0 {
        let mut before = at - 1;
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        if byte(before).is_ascii_digit() {
            while before > 0 && byte(before).is_ascii_digit() {
                before -= 1;
            }
            if !byte(before).is_ascii_alphabetic() && byte(before) != b'_' {
                break;
            }
        }
        let found = byte(before);
        if !(found.is_ascii_alphabetic() || found.is_ascii_whitespace() || b",_.".contains(&found))
        {
            break;
        }
        at = before;
    }
    at
}

fn count(text: &str, macros: &Macros) -> Result<u32, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(1);
    }
    let number = macros.integer(text).ok_or_else(|| {
        format!("{text:?} is no number of jobs: expected queue, queue N, queue [N] [VARIABLES] in|from|matching ITEMS")
    })?;
    if !(0..MOST).contains(&number) {
        return Err(format!(
            "queue {text}: expected a number of jobs from 0 to {}",
            MOST - 1
        ));
    }
    u32::try_from(number).map_err(|error| error.to_string())
}
