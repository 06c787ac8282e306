//! Statements of a submit file: from text to macros and `queue` lines.
//!
//! The grammar is that of configurations with a few statements more (`htcondor:src/condor_utils/config.cpp`,
//! `Parse_macros`): `+Name = value` and `-Name =` for attributes of the job, and lines handed to whoever knows `queue`.

use std::sync::Arc;

use condorconf::macros::{self, Conditionals, Lines, Macros};
use condorconf::{Origin, Place as ConfPlace};

use super::context::{SubmitContext, SubmitFiles};
use super::error::{Place, SubmitError, Warning};
use super::path::absolute;

/// Depth of includes: `htcondor:src/condor_includes/condor_config.h`, `CONFIG_MAX_NESTING_DEPTH`.
const NESTING: usize = 20;
/// Files and commands that one submission may read.
const MOST_FILES: usize = 1000;
/// Mistakes after which nobody reads on.
pub(super) const MOST_ERRORS: usize = 100;

/// Everything known while a submit file is read.
pub(super) struct Reader<'a> {
    pub(super) macros: Macros,
    pub(super) context: &'a SubmitContext,
    pub(super) files: &'a dyn SubmitFiles,
    pub(super) errors: Vec<SubmitError>,
    pub(super) warnings: Vec<Warning>,
    opened: usize,
}

/// A text that is being read.
pub(super) struct Source<'t> {
    name: Arc<str>,
    pub(super) lines: Lines<'t>,
    ifs: Conditionals,
    here: Option<HereDocument>,
    /// Line of the statement that was read last.
    pub(super) line: u32,
}

struct HereDocument {
    name: String,
    tag: String,
    lines: Vec<String>,
}

impl<'t> Source<'t> {
    pub(super) fn new(name: &str, text: &'t str) -> Self {
        Self {
            name: name.into(),
            lines: Lines::new(text),
            ifs: Conditionals::new(),
            here: None,
            line: 0,
        }
    }

    pub(super) fn place(&self) -> Place {
        Place {
            file: self.name.to_string(),
            line: self.line,
        }
    }
}

/// A line taken apart.
struct Statement<'t> {
    name: &'t str,
    words: &'t str,
    operator: char,
    value: &'t str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        macros: Macros,
        context: &'a SubmitContext,
        files: &'a dyn SubmitFiles,
    ) -> Self {
        Self {
            macros,
            context,
            files,
            errors: Vec::new(),
            warnings: Vec::new(),
            opened: 0,
        }
    }

    /// Reads up to the next `queue` statement and gives what follows the word; `None` at the end of the text.
    pub(super) fn next_queue(&mut self, source: &mut Source<'_>) -> Option<String> {
        while let Some(line) = source.lines.statement() {
            source.line = line.number;
            match self.line(&line.text, source, 0) {
                Ok(None) => {}
                Ok(Some(queue)) => return Some(queue),
                Err(message) => {
                    let place = source.place();
                    self.fail(Some(place), message);
                    if self.errors.len() >= MOST_ERRORS {
                        return None;
                    }
                }
            }
        }
        self.end(source);
        None
    }

    /// Reports what the end of a text leaves open.
    fn end(&mut self, source: &mut Source<'_>) {
        let place = source.place();
        if let Some(here) = source.here.take() {
            let message = format!(
                "the text of {} has no end: expected a line @{}",
                here.name, here.tag
            );
            self.fail(Some(place.clone()), message);
        }
        if let Some(line) = source.ifs.open() {
            let message =
                format!("the file ends within the if that begins in line {line}: expected endif");
            self.fail(Some(place), message);
        }
    }

    /// Reads lines that come from elsewhere than the file, such as `-append`.
    pub(super) fn extra(&mut self, name: &str, text: &str) {
        let mut source = Source::new(name, text);
        while let Some(line) = source.lines.statement() {
            let message = match self.line(&line.text, &mut source, 0) {
                Ok(None) => continue,
                Ok(Some(_)) => "queue may not stand here; use -queue".to_owned(),
                Err(message) => message,
            };
            let place = source.place();
            self.fail(Some(place), message);
        }
        self.end(&mut source);
    }

    pub(super) fn fail(&mut self, place: Option<Place>, message: impl Into<String>) {
        let error = SubmitError {
            place,
            message: message.into(),
        };
        if self.errors.len() < MOST_ERRORS && !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    pub(super) fn warn(&mut self, place: Option<Place>, message: impl Into<String>) {
        let warning = Warning {
            place,
            message: message.into(),
        };
        if self.warnings.len() < MOST_ERRORS && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Follows one statement; `Some` are the arguments of a `queue`.
    fn line(
        &mut self,
        text: &str,
        source: &mut Source<'_>,
        depth: usize,
    ) -> Result<Option<String>, String> {
        if text.starts_with('#') || text.is_empty() {
            return Ok(None);
        }
        if let Some(here) = &mut source.here {
            if text.strip_prefix('@') != Some(here.tag.as_str()) {
                here.lines.push(text.to_owned());
                return Ok(None);
            }
            let (name, value) = (here.name.clone(), here.lines.join("\n"));
            source.here = None;
            return self.assign(&name, &value, source).map(|()| None);
        }
        // Old readers skip lines that begin with a colon, so conditional parts may carry one.
        let text = match text.strip_prefix(':') {
            Some(rest) if source.ifs.open().is_some() || rest.starts_with("if") => rest,
            _ => text,
        };
        if source
            .ifs
            .follow(text, source.line, &self.macros)
            .map_err(|error| error.to_string())?
            || !source.ifs.enabled()
        {
            return Ok(None);
        }
        let Some(statement) = take_apart(text) else {
            return queue_arguments(text).map(Some).ok_or_else(|| strange(text));
        };
        self.statement(&statement, text, source, depth)
    }

    fn statement(
        &mut self,
        statement: &Statement<'_>,
        text: &str,
        source: &mut Source<'_>,
        depth: usize,
    ) -> Result<Option<String>, String> {
        let Statement {
            name,
            words,
            operator,
            value,
        } = *statement;
        let keyword = name.strip_prefix('@').unwrap_or(name).to_ascii_lowercase();
        if operator == ':' {
            match keyword.as_str() {
                "include" => return self.include(words, value, depth).map(|()| None),
                "use" => return self.template(words, value, source).map(|()| None),
                "error" => return Err(format!("the file says: {}", self.expand(value)?)),
                "warning" => {
                    let message = self.expand(value)?;
                    let place = source.place();
                    self.warn(Some(place), message);
                    return Ok(None);
                }
                _ => {}
            }
        }
        if !words.is_empty() || operator == ':' || keyword == "queue" {
            return queue_arguments(text).map(Some).ok_or_else(|| strange(text));
        }
        if let Some(attribute) = name.strip_prefix(['+', '-']).filter(|_| operator == '=') {
            let value = if name.starts_with('+') { value } else { "" };
            if !is_attribute(attribute) {
                return Err(format!(
                    "{attribute:?} is no attribute name: expected letters, digits and _"
                ));
            }
            self.set(&format!("MY.{attribute}"), value, source);
            return Ok(None);
        }
        let name = self.expand(name)?;
        if !macros::is_name(&name) {
            return Err(format!(
                "{name:?} is no valid name: expected letters, digits, '_', '.' and '/' before ="
            ));
        }
        match operator {
            '@' => {
                source.here = Some(HereDocument {
                    name,
                    tag: value.to_owned(),
                    lines: Vec::new(),
                });
                Ok(None)
            }
            _ => self.assign(&name, value, source).map(|()| None),
        }
    }

    fn assign(&mut self, name: &str, value: &str, source: &Source<'_>) -> Result<(), String> {
        self.macros
            .assign(name, value, &conf_place(source))
            .map_err(|error| error.to_string())
    }

    fn set(&mut self, name: &str, value: &str, source: &Source<'_>) {
        self.macros
            .set(name, value, Origin::File(conf_place(source)));
    }

    /// Expands the references in a text.
    pub(super) fn expand(&self, text: &str) -> Result<String, String> {
        self.macros.expand(text).map_err(|error| error.to_string())
    }

    /// `use STRICT : TRUE` and its like: what each sets is HTCondor's (`htcondor:src/condor_utils/submit_utils.cpp`).
    fn template(&mut self, category: &str, names: &str, source: &Source<'_>) -> Result<(), String> {
        if !category.eq_ignore_ascii_case("STRICT") {
            return Err(format!(
                "use {category}: there are no such templates here: expected use STRICT : FALSE, TRUE or HARSH"
            ));
        }
        let (warn, fail) = match names.trim().to_ascii_uppercase().as_str() {
            "FALSE" => ("false", "false"),
            "TRUE" => ("true", "false"),
            "HARSH" => ("true", "true"),
            _ => {
                return Err(format!(
                    "use STRICT : {names}: expected FALSE, TRUE or HARSH"
                ));
            }
        };
        for (name, value) in [
            ("SubmitWarnEmptyMatches", warn),
            ("SubmitFailEmptyMatches", warn),
            ("SubmitWarnDuplicateMatches", warn),
            ("SubmitFailEmptyFields", fail),
            ("SubmitWarnEmptyFields", warn),
        ] {
            self.set(name, value, source);
            self.macros.mark(name);
        }
        Ok(())
    }

    fn include(&mut self, words: &str, target: &str, depth: usize) -> Result<(), String> {
        let mut rest = words.split_whitespace().peekable();
        let optional = rest
            .next_if(|&word| word == "ifexist" || word == "ifexists")
            .is_some();
        let command = rest
            .next_if(|&word| word == "command" || word == "output")
            .is_some();
        match rest.next() {
            None => {}
            Some("into") => {
                return Err(
                    "include command ... into is not supported: reading a file writes none"
                        .to_owned(),
                );
            }
            Some(word) => {
                return Err(format!(
                    "unexpected {word:?} after include: expected ifexist, command or ':'"
                ));
            }
        }
        if depth + 1 >= NESTING {
            return Err(format!("includes are nested deeper than {NESTING}"));
        }
        let target = self.expand(target)?;
        let target = target.trim();
        let (name, text) = match self.load(target, command) {
            Ok(loaded) => loaded,
            Err(_) if optional => return Ok(()),
            Err(message) => return Err(message),
        };
        let mut inner = Source::new(&name, &text);
        while let Some(line) = inner.lines.statement() {
            inner.line = line.number;
            let message = match self.line(&line.text, &mut inner, depth + 1) {
                Ok(None) => continue,
                Ok(Some(_)) => "queue is not allowed in an included file".to_owned(),
                Err(message) => message,
            };
            let place = inner.place();
            self.fail(Some(place), message);
            if self.errors.len() >= MOST_ERRORS {
                break;
            }
        }
        self.end(&mut inner);
        Ok(())
    }

    /// Reads a file, or what a command prints if `command` or the name ends in `|`; gives its name and text.
    pub(super) fn load(&mut self, target: &str, command: bool) -> Result<(String, String), String> {
        self.opened += 1;
        if self.opened > MOST_FILES {
            return Err(format!(
                "more than {MOST_FILES} files and commands are read"
            ));
        }
        let (name, content) = if command || target.ends_with('|') {
            let line = target.strip_suffix('|').unwrap_or(target).trim();
            let argv = macros::split_command(line)
                .ok_or_else(|| format!("{line:?} is no command line"))?;
            let output = self
                .files
                .run(&argv)
                .map_err(|error| format!("cannot run {line:?}: {error}"))?;
            (format!("{line} |"), output)
        } else if target == "-" {
            let content = self
                .files
                .read("-")
                .map_err(|error| format!("cannot read standard input: {error}"))?;
            ("standard input".to_owned(), content)
        } else {
            let content = self
                .files
                .read(&absolute(&self.context.cwd, target))
                .map_err(|error| format!("cannot read {target}: {error}"))?;
            (target.to_owned(), content)
        };
        match String::from_utf8(content) {
            Ok(text) if !text.contains('\0') => Ok((name, text)),
            _ => Err(format!("{name} is no text in UTF-8")),
        }
    }
}

fn conf_place(source: &Source<'_>) -> ConfPlace {
    ConfPlace {
        file: Arc::clone(&source.name),
        line: source.line,
        template: None,
    }
}

/// What is wrong with a line that is no statement.
fn strange(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    format!("expected NAME = value, queue, include, if or use, got {start:?}")
}

/// What follows the word `queue`, if the line is such a statement.
pub(super) fn queue_arguments(line: &str) -> Option<String> {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    ["queue", "iterate"]
        .iter()
        .any(|keyword| word.eq_ignore_ascii_case(keyword))
        .then(|| rest.trim().to_owned())
}

/// Takes a line apart; `None` if it has no operator.
fn take_apart(line: &str) -> Option<Statement<'_>> {
    let is_operator = |c: char| c == '=' || c == ':';
    let end = line.find(|c: char| c.is_whitespace() || is_operator(c))?;
    let (name, rest) = line.split_at(end);
    let at = rest.find(|c| is_operator(c) || c == '@')?;
    let (words, rest) = rest.split_at(at);
    let (operator, value) = if let Some(value) = rest.strip_prefix("@=") {
        ('@', value)
    } else if let Some(value) = rest.strip_prefix('=') {
        ('=', value)
    } else {
        (':', rest.strip_prefix(':')?)
    };
    Some(Statement {
        name,
        words: words.trim(),
        operator,
        value: value.trim_start(),
    })
}

/// Whether the text may be the name of an attribute of an ad.
pub(super) fn is_attribute(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
}
