//! The items of a `queue` statement, and how they become values of variables.

use condorconf::macros::Lines;

use super::error::Place;
use super::glob;
use super::queue_args::{Mode, QueueArguments, Rest, words};
use super::reader::{Reader, Source};

/// Items of one statement; the most a submission may have.
const MOST_ITEMS: usize = 1_000_000;

impl Reader<'_> {
    /// Gathers the items: from the line, from the lines that follow, from elsewhere; patterns become names. Consumes the
    /// inline lines also when something is wrong.
    pub(super) fn items(
        &mut self,
        arguments: &QueueArguments,
        source: &mut Source<'_>,
        place: &Place,
    ) -> Result<Vec<String>, String> {
        let by_line = arguments.mode == Mode::From;
        let mut items = arguments.items.clone();
        let mut add = |text: &str| {
            if by_line {
                items.push(text.to_owned());
            } else {
                items.extend(words(text));
            }
            items.len() <= MOST_ITEMS
        };
        let too_many = || format!("queue has more than {MOST_ITEMS} items");
        match &arguments.rest {
            Rest::Complete => {}
            Rest::Inline => loop {
                let Some(line) = source.lines.data() else {
                    return Err(
                        "the list of items has no end: expected a line that begins with )"
                            .to_owned(),
                    );
                };
                source.line = line.number;
                if line.text.starts_with('#') {
                    continue;
                }
                if line.text.starts_with(')') {
                    break;
                }
                if !add(&line.text) {
                    return Err(too_many());
                }
            },
            Rest::External(target) if target.is_empty() => {
                return Err(
                    "nothing after from: expected a file, a command with | behind it, - or a list in parentheses"
                        .to_owned(),
                );
            }
            Rest::External(target) => {
                let (_, text) = self.load(target, false)?;
                let mut lines = Lines::new(&text);
                while let Some(line) = lines.data() {
                    if !add(&line.text) {
                        return Err(too_many());
                    }
                }
            }
        }
        match arguments.mode {
            Mode::Matching { files, directories } => self.names(&items, files, directories, place),
            _ => Ok(items),
        }
    }

    /// What the patterns match, pattern after pattern, each name once.
    fn names(
        &mut self,
        patterns: &[String],
        mut files: bool,
        mut directories: bool,
        place: &Place,
    ) -> Result<Vec<String>, String> {
        let warn_empty = self.flag("SubmitWarnEmptyMatches", "submit_warn_empty_matches", true)?;
        let fail_empty = self.flag("SubmitFailEmptyMatches", "submit_fail_empty_matches", false)?;
        let warn_twice = self.flag(
            "SubmitWarnDuplicateMatches",
            "submit_warn_duplicate_matches",
            true,
        )?;
        let allow_twice = self.flag(
            "SubmitAllowDuplicateMatches",
            "submit_allow_duplicate_matches",
            false,
        )?;
        if files && directories {
            match self
                .value("SubmitMatchDirectories", "submit_match_directories")?
                .as_deref()
            {
                None | Some("yes" | "true") => {}
                Some("never" | "no" | "false") => directories = false,
                Some("only") => files = false,
                Some(other) => {
                    return Err(format!(
                        "submit_match_directories = {other}: expected yes, never or only"
                    ));
                }
            }
        }
        let mut names: Vec<String> = Vec::new();
        let mut seen = std::collections::HashMap::new();
        for pattern in patterns {
            let found: Vec<String> = glob::expand(pattern, &self.context.cwd, self.files)
                .into_iter()
                .filter(|name| {
                    if name.ends_with('/') {
                        directories
                    } else {
                        files
                    }
                })
                .collect();
            if found.is_empty() {
                let message = format!("no file matches {pattern:?}");
                if fail_empty {
                    return Err(message);
                }
                if warn_empty {
                    self.warn(Some(place.clone()), message);
                }
            }
            for name in found {
                if let Some(first) = seen.get(&name)
                    && !allow_twice
                {
                    if warn_twice {
                        self.warn(
                            Some(place.clone()),
                            format!(
                                "{name:?}, which matches {pattern:?}, is item {first} already and is left out"
                            ),
                        );
                    }
                    continue;
                }
                seen.insert(name.clone(), names.len());
                names.push(name);
                if names.len() > MOST_ITEMS {
                    return Err(format!("the patterns match more than {MOST_ITEMS} files"));
                }
            }
        }
        Ok(names)
    }

    /// The expanded value of a macro that has two names.
    pub(super) fn value(&self, name: &str, other: &str) -> Result<Option<String>, String> {
        let name = if self.macros.raw(name).is_some() {
            name
        } else {
            other
        };
        self.macros.get(name).map_err(|error| error.to_string())
    }

    /// A yes or no that has two names.
    pub(super) fn flag(&self, name: &str, other: &str, default: bool) -> Result<bool, String> {
        let Some(text) = self.value(name, other)? else {
            return Ok(default);
        };
        self.macros
            .boolean(&text)
            .ok_or_else(|| format!("{name} = {text}: expected true or false"))
    }
}

/// The values of `count` variables in one item: the last one takes what is left. There are fewer if the item ends early.
pub(super) fn split(item: &str, count: usize) -> Vec<&str> {
    const BLANKS: &[char] = &[' ', '\t'];
    // The separator of units, which programs write, wins over commas and blanks.
    let units = item.contains('\u{1f}');
    let mut rest = item.trim_matches(BLANKS);
    let mut values = Vec::new();
    while values.len() + 1 < count {
        let cut = rest.find(|c: char| {
            if units {
                c == '\u{1f}'
            } else {
                c == ',' || BLANKS.contains(&c)
            }
        });
        let Some(cut) = cut else {
            break;
        };
        let (value, after) = rest.split_at(cut);
        values.push(value.trim_end_matches(BLANKS));
        rest = after.get(1..).unwrap_or("").trim_start_matches(BLANKS);
    }
    values.push(rest);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_variable_takes_what_is_left() {
        assert_eq!(split("a, b c d", 3), ["a", "b", "c d"]);
        assert_eq!(split("a b c d", 1), ["a b c d"]);
        assert_eq!(split("a", 3), ["a"]);
        assert_eq!(split("", 2), [""]);
        assert_eq!(split("a b\u{1f} c,d\u{1f}e", 3), ["a b", "c,d", "e"]);
    }
}
