//! `TransferOutputRemaps`: other names for output files (`htcondor:src/condor_utils/filename_tools_cpp.cpp`).

/// Renames in the order given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remaps {
    rules: Vec<(String, String)>,
}

/// The rules lead in a circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the remaps lead in a circle")]
pub struct Circle;

/// `MAX_REMAP_RECURSIONS`, HTCondor's default. Only rules that apply are counted, not the directories of a path.
const MAX_STEPS: usize = 128;

impl Remaps {
    /// Reads `name=target; name=target`. A backslash before `=` in a name or before `;` in a target takes the
    /// character's meaning away; a part without `=` is skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut rules = Vec::new();
        let mut rest = text;
        while let Some((name, after)) = take_until(rest, '=') {
            if let Some((part, _)) = name.split_once(';') {
                // Its `=` belongs to a later part.
                let skip = rest.find(part).unwrap_or(0) + part.len() + 1;
                rest = rest.get(skip..).unwrap_or_default();
                continue;
            }
            let (target, after) = take_until(after, ';').unwrap_or_else(|| (tidy(after), ""));
            rules.push((name, target));
            rest = after;
        }
        Self { rules }
    }

    /// Adds a rule that counts if no earlier one is for the same name.
    pub fn push(&mut self, name: &str, target: &str) {
        self.rules.push((name.to_owned(), target.to_owned()));
    }

    /// Whether there are no rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The new name of `name`; `None` if no rule is for it or a directory it is in. A new name may have a rule of its
    /// own.
    ///
    /// # Errors
    /// [`Circle`]
    pub fn apply(&self, name: &str) -> Result<Option<String>, Circle> {
        self.apply_at(name, 0)
    }

    fn apply_at(&self, name: &str, step: usize) -> Result<Option<String>, Circle> {
        if step > MAX_STEPS {
            return Err(Circle);
        }
        // The name itself first, then the directories it is in, from the nearest up.
        let mut prefix = name;
        loop {
            if let Some((_, target)) = self.rules.iter().find(|(from, _)| from == prefix) {
                let further = self.apply_at(target, step + 1)?;
                let rest = name.get(prefix.len()..).unwrap_or_default();
                let found = further.as_deref().unwrap_or(target);
                return Ok(Some(format!("{found}{rest}")));
            }
            match prefix.rsplit_once('/') {
                Some((parent, _)) => prefix = parent,
                None => return Ok(None),
            }
        }
    }
}

/// Everything before the first `end` that no backslash is before, and what comes after it.
fn take_until(text: &str, end: char) -> Option<(String, &str)> {
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        let after = text.get(at + character.len_utf8()..)?;
        if character == end && !is_escaped {
            return Some((unescape(text.get(..at)?, end), after));
        }
        is_escaped = character == '\\' && !is_escaped && after.starts_with(end);
    }
    None
}

fn unescape(text: &str, end: char) -> String {
    tidy(&text.replace(&format!("\\{end}"), &end.to_string()))
}

/// Without tabs and line ends, and without blanks around.
fn tidy(text: &str) -> String {
    text.replace(['\t', '\n'], "").trim().to_owned()
}
