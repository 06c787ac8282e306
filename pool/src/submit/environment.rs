//! The environment of a job (`htcondor:src/condor_utils/env.cpp`).

use std::collections::BTreeMap;

use super::quoting;

/// Variables by name; `None` is an entry without `=`, such as `$$(Name)`, that is kept as it is.
#[derive(Debug, Default)]
pub(super) struct Environment(BTreeMap<String, Option<String>>);

/// Delimiters the old syntax knows: `;` and `|`, the latter when it comes first.
const OLD_DELIMITER: char = ';';

impl Environment {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what a command says, in the new syntax if it begins with a double quote.
    pub(super) fn add(&mut self, text: &str) -> Result<(), String> {
        if quoting::is_quoted(text) {
            return self.add_quoted(text);
        }
        let (delimiter, rest) = match text.strip_prefix(['|', OLD_DELIMITER]) {
            Some(rest) if text.starts_with('|') => ('|', rest),
            Some(rest) => (OLD_DELIMITER, rest),
            None => (OLD_DELIMITER, text),
        };
        for entry in rest.split([delimiter, '\n']) {
            let entry = entry.trim_start();
            if !entry.is_empty() {
                self.set(entry)?;
            }
        }
        Ok(())
    }

    /// Adds what stands in double quotes.
    pub(super) fn add_quoted(&mut self, text: &str) -> Result<(), String> {
        for entry in quoting::split(&quoting::unquote(text)?)? {
            self.set(&entry)?;
        }
        Ok(())
    }

    fn set(&mut self, entry: &str) -> Result<(), String> {
        match entry.split_once('=') {
            Some(("", _)) => Err(format!("{entry:?} has no name: expected NAME=VALUE")),
            Some((name, value)) => {
                self.0.insert(name.to_owned(), Some(value.to_owned()));
                Ok(())
            }
            None if entry.contains("$$") => {
                self.0.insert(entry.to_owned(), None);
                Ok(())
            }
            None => Err(format!("{entry:?} has no '=': expected NAME=VALUE")),
        }
    }

    /// Adds what is set around us, where the filter lets it and nothing is set yet.
    pub(super) fn import(&mut self, around: &BTreeMap<String, String>, filter: &Filter) {
        for (name, value) in around {
            if filter.lets(name, value) {
                self.0
                    .entry(name.clone())
                    .or_insert_with(|| Some(value.clone()));
            }
        }
    }

    /// The value of the attribute `Environment`.
    pub(super) fn quoted(&self) -> String {
        let entries: Vec<String> = self.entries().collect();
        quoting::join(entries.iter().map(String::as_str))
    }

    /// The value of the attribute `Env`, with `;` between entries.
    pub(super) fn old(&self) -> Result<String, String> {
        let entries: Vec<String> = self.entries().collect();
        match entries.iter().find(|entry| !is_old_value(entry)) {
            Some(entry) => Err(format!(
                "{entry:?} cannot be written in the old syntax; use environment = \"NAME=VALUE ...\""
            )),
            None => Ok(entries.join(";")),
        }
    }

    fn entries(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        })
    }
}

fn is_old_value(text: &str) -> bool {
    !text.contains([OLD_DELIMITER, '\n'])
}

/// Which variables `getenv` takes.
#[derive(Debug, Default)]
pub(super) struct Filter {
    wanted: Vec<String>,
    unwanted: Vec<String>,
    /// Only what the old syntax can express.
    old: bool,
}

impl Filter {
    /// All variables.
    pub(super) fn all(old: bool) -> Self {
        Self {
            old,
            ..Self::default()
        }
    }

    /// Names with `*`, in any case; with `!` before them those that are not taken.
    pub(super) fn parse(list: &str, old: bool) -> Self {
        let mut filter = Self::all(old);
        for word in list
            .split(|c: char| c == ',' || c == ';' || c.is_whitespace())
            .filter(|word| !word.is_empty())
        {
            match word.strip_prefix('!') {
                Some("") => {}
                Some(name) => filter.unwanted.push(name.to_owned()),
                None => filter.wanted.push(word.to_owned()),
            }
        }
        filter
    }

    fn lets(&self, name: &str, value: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|pattern| wildcard(pattern, name));
        !value.contains('\n')
            && (!self.old || is_old_value(value))
            && !listed(&self.unwanted)
            && (self.wanted.is_empty() || listed(&self.wanted))
    }
}

/// Whether a name matches a pattern with `*` in it, in any case.
pub(super) fn wildcard(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        let Some((_, after)) = name.split_once(part) else {
            return false;
        };
        name = after;
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_anywhere() {
        for (pattern, name, expected) in [
            ("HOME", "home", true),
            ("G*", "GREETING", true),
            ("*ING", "GREETING", true),
            ("G*T*G", "GREETING", true),
            ("G*X*G", "GREETING", false),
            ("*", "", true),
            ("HOM", "HOME", false),
        ] {
            assert_eq!(wildcard(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn entries_without_a_name_or_a_value_are_refused() {
        for wrong in ["A", "=x", "\"A=1 B\""] {
            assert!(Environment::default().add(wrong).is_err(), "{wrong}");
        }
        let mut environment = Environment::default();
        environment.add("A=1;$$(Env);B=x=y").unwrap();
        assert_eq!(environment.quoted(), "$$(Env) A=1 B=x=y");
    }
}
