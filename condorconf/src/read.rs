//! Reading statements into the table: `htcondor:src/condor_utils/config.cpp`, `Parse_macros`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::condition::{self, IfStack};
use crate::config::Warning;
use crate::error::{Error, ErrorKind};
use crate::expand::{Budget, Evaluator, Expander, shorten};
use crate::files::{FileError, Files};
use crate::limits::{Limits, NESTING};
use crate::line::{CommentStyle, Lines, is_space};
use crate::origin::{Origin, Place};
use crate::scan::is_name;
use crate::table::{Scope, Table};
use crate::template;

/// Everything known while a configuration is read.
pub(crate) struct Reader<'a> {
    pub(crate) files: &'a dyn Files,
    pub(crate) evaluator: Option<Arc<dyn Evaluator>>,
    pub(crate) limits: Limits,
    pub(crate) scope: Scope,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) random: AtomicU64,
    pub(crate) table: Table,
    pub(crate) errors: Vec<Error>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) sources: Vec<String>,
    pub(crate) bytes: usize,
    pub(crate) opened: usize,
    pub(crate) work: usize,
}

/// State of one file.
struct FileState {
    comments: CommentStyle,
    strict: bool,
    ifs: IfStack,
    here: Option<HereDocument>,
}

struct HereDocument {
    name: String,
    tag: String,
    lines: Vec<String>,
}

/// The operator between name and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equals,
    Colon,
    Here,
}

/// A line taken apart: the first word, other words before the operator, the value.
struct Statement<'t> {
    name: &'t str,
    words: &'t str,
    operator: Operator,
    value: &'t str,
}

impl Reader<'_> {
    /// Reads statements; `template` tells them to come from a template used at `place`.
    pub(crate) fn parse(
        &mut self,
        file: &Arc<str>,
        text: &str,
        depth: usize,
        used: Option<&Place>,
    ) {
        let mut lines = Lines::new(text);
        let mut state = FileState {
            comments: CommentStyle::New,
            strict: false,
            ifs: IfStack::default(),
            here: None,
        };
        let mut place = Place {
            file: Arc::clone(file),
            line: 0,
            template: None,
        };
        while let Some(line) = lines.next(state.comments) {
            if self.is_full() {
                return;
            }
            place.line = line.number;
            let at = used.unwrap_or(&place);
            if let Err(kind) = self.line(&line.text, at, depth, &mut state) {
                self.fail(at, kind);
            }
        }
        let at = used.unwrap_or(&place);
        if let Some(here) = state.here {
            self.fail(
                at,
                ErrorKind::OpenHereDocument {
                    name: here.name,
                    tag: here.tag,
                },
            );
        }
        if let Some(line) = state.ifs.open() {
            self.fail(at, ErrorKind::OpenIf { line });
        }
    }

    fn line(
        &mut self,
        line: &str,
        place: &Place,
        depth: usize,
        state: &mut FileState,
    ) -> Result<(), ErrorKind> {
        if line.starts_with('#') || line.chars().all(is_space) {
            match line.to_ascii_lowercase().as_str() {
                "#opt:oldcomment" => state.comments = CommentStyle::Old,
                "#opt:newcomment" => state.comments = CommentStyle::New,
                "#opt:strict" => state.strict = true,
                _ => {}
            }
            return Ok(());
        }
        if let Some(here) = &mut state.here {
            if line.strip_prefix('@') != Some(here.tag.as_str()) {
                here.lines.push(line.to_owned());
                return Ok(());
            }
            let (name, value) = (here.name.clone(), here.lines.join("\n"));
            state.here = None;
            return self.assign(&name, &value, Origin::File(place.clone()));
        }
        // Old readers skipped lines that begin with a colon, so conditional parts may carry one.
        let line = match line.strip_prefix(':') {
            Some(rest)
                if state.ifs.open().is_some()
                    || rest
                        .strip_prefix("if")
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(is_space)) =>
            {
                rest
            }
            _ => line,
        };
        if let Some(branch) = condition::branch(line) {
            let mut work = 0;
            let outcome = state.ifs.follow(branch, place.line, |text| {
                let expander = self.expander();
                let outcome = condition::test(text, &expander);
                work = expander.budget.work();
                outcome
            });
            self.spend(work)?;
            return outcome;
        }
        if !state.ifs.enabled() {
            return Ok(());
        }
        match take_apart(line)? {
            Some(statement) => self.statement(&statement, place, depth, state),
            None => Ok(()),
        }
    }

    fn statement(
        &mut self,
        statement: &Statement<'_>,
        place: &Place,
        depth: usize,
        state: &mut FileState,
    ) -> Result<(), ErrorKind> {
        let Statement {
            name,
            words,
            operator,
            value,
        } = *statement;
        if operator == Operator::Colon {
            match name
                .strip_prefix('@')
                .unwrap_or(name)
                .to_ascii_lowercase()
                .as_str()
            {
                "use" => return self.use_templates(words, value, place, depth),
                "include" => return self.include(words, value, depth),
                "error" => {
                    return Err(ErrorKind::Stated {
                        message: self.expand(value)?,
                    });
                }
                "warning" => {
                    let message = self.expand(value)?;
                    self.warnings.push(Warning::Stated {
                        place: place.clone(),
                        message,
                    });
                    return Ok(());
                }
                // HTCondor's own old configuration wrote this one with a colon.
                "runbenchmarks" => {}
                _ if state.strict => return Err(ErrorKind::ColonAssignment),
                _ => self.warnings.push(Warning::ColonAssignment {
                    place: place.clone(),
                    name: name.to_owned(),
                }),
            }
        }
        let name = if name.contains('$') {
            self.expand(name)?
        } else {
            name.to_owned()
        };
        if !is_name(&name) {
            return Err(ErrorKind::BadName {
                name: shorten(&name),
            });
        }
        if !words.is_empty() {
            let warning = Warning::ExtraWords {
                place: place.clone(),
                name: name.clone(),
                words: shorten(words),
            };
            self.warnings.push(warning);
        }
        if operator == Operator::Here {
            state.here = Some(HereDocument {
                name,
                tag: value.to_owned(),
                lines: Vec::new(),
            });
            return Ok(());
        }
        self.assign(&name, value, Origin::File(place.clone()))
    }

    /// Sets a knob; references to itself are replaced by its earlier value.
    pub(crate) fn assign(
        &mut self,
        name: &str,
        value: &str,
        origin: Origin,
    ) -> Result<(), ErrorKind> {
        let expander = self.expander();
        let outcome = expander.expand_self(value, name);
        let work = expander.budget.work();
        self.spend(work)?;
        let raw = outcome?;
        if raw.len() > self.limits.value_bytes {
            return Err(ErrorKind::TooLarge {
                what: "the value",
                limit: self.limits.value_bytes,
            });
        }
        if self.table.len() >= self.limits.knobs && self.table.exact(name).is_none() {
            return Err(ErrorKind::TooLarge {
                what: "the number of knobs",
                limit: self.limits.knobs,
            });
        }
        self.spend(raw.len())?;
        self.table.insert(name, raw, origin);
        Ok(())
    }

    fn use_templates(
        &mut self,
        category: &str,
        list: &str,
        place: &Place,
        depth: usize,
    ) -> Result<(), ErrorKind> {
        if depth + 1 >= NESTING {
            return Err(ErrorKind::TooDeep { limit: NESTING });
        }
        let category = self.expand(category)?;
        for used in template::uses(list) {
            let found = template::find(&category, used.name)?;
            let text = template::with_arguments(found.text, used.args);
            let mut place = place.clone();
            place.template = Some(format!("{}:{}", found.category, found.name).into());
            let file = Arc::clone(&place.file);
            self.parse(&file, &text, depth + 1, Some(&place));
        }
        Ok(())
    }

    fn include(&mut self, words: &str, target: &str, depth: usize) -> Result<(), ErrorKind> {
        let mut rest = words
            .split(is_space)
            .filter(|word| !word.is_empty())
            .peekable();
        let optional = rest
            .next_if(|&word| word == "ifexist" || word == "ifexists")
            .is_some();
        let command = rest
            .next_if(|&word| word == "command" || word == "output")
            .is_some();
        match rest.next() {
            None => {}
            Some("into") if command => return Err(ErrorKind::IncludeInto),
            Some(_) => {
                return Err(ErrorKind::BadInclude {
                    words: shorten(words),
                });
            }
        }
        let target = self.expand(target)?;
        if depth + 1 >= NESTING {
            return Err(ErrorKind::TooDeep { limit: NESTING });
        }
        match self.source(target.trim_matches(is_space), command, depth + 1) {
            Err(ErrorKind::Unreadable {
                cause: FileError::Io(_),
                ..
            }) if optional => Ok(()),
            outcome => outcome,
        }
    }

    /// Opens and reads a file, or a command if `command` or the name ends in `|`.
    pub(crate) fn source(
        &mut self,
        target: &str,
        command: bool,
        depth: usize,
    ) -> Result<(), ErrorKind> {
        self.opened += 1;
        if self.opened > self.limits.files {
            return Err(ErrorKind::TooLarge {
                what: "the number of files",
                limit: self.limits.files,
            });
        }
        let is_command = command || target.contains('|');
        let name: Arc<str> = if command && !target.contains('|') {
            format!("{target} |").into()
        } else {
            target.into()
        };
        let unreadable = |cause| ErrorKind::Unreadable {
            path: name.to_string(),
            cause,
        };
        let content = if is_command {
            let line = name
                .strip_suffix('|')
                .ok_or_else(|| unreadable(FileError::BadCommandLine))?;
            let argv = split_command(line).ok_or_else(|| unreadable(FileError::BadCommandLine))?;
            self.files
                .run(&argv, self.limits.file_bytes)
                .map_err(unreadable)?
        } else {
            self.files
                .read(target, self.limits.file_bytes)
                .map_err(unreadable)?
        };
        self.text(&name, &content, depth)
    }

    /// Reads what a file or command gave.
    pub(crate) fn text(
        &mut self,
        name: &Arc<str>,
        content: &[u8],
        depth: usize,
    ) -> Result<(), ErrorKind> {
        self.bytes = self.bytes.saturating_add(content.len());
        if self.bytes > self.limits.total_bytes {
            return Err(ErrorKind::TooLarge {
                what: "the configuration",
                limit: self.limits.total_bytes,
            });
        }
        self.sources.push(name.to_string());
        let text = match std::str::from_utf8(content) {
            Ok(text) if !text.contains('\0') => text,
            Ok(text) => {
                return self.not_text(name, text.split('\0').next().unwrap_or("").as_bytes());
            }
            Err(error) => {
                return self.not_text(name, content.get(..error.valid_up_to()).unwrap_or_default());
            }
        };
        self.parse(name, text, depth, None);
        Ok(())
    }

    /// Reports bytes that are not text, after `good`.
    #[expect(clippy::unnecessary_wraps, reason = "reads better at the call")]
    fn not_text(&mut self, name: &Arc<str>, good: &[u8]) -> Result<(), ErrorKind> {
        let lines = good.iter().filter(|&&byte| byte == b'\n').count();
        let line = u32::try_from(lines).unwrap_or(u32::MAX).saturating_add(1);
        self.fail(
            &Place {
                file: Arc::clone(name),
                line,
                template: None,
            },
            ErrorKind::NotText,
        );
        Ok(())
    }

    /// The expanded value that counts for `name` now; `None` if not set or empty.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<String>, Error> {
        let Some(entry) = self.table.lookup(name, &self.scope) else {
            return Ok(None);
        };
        let (raw, origin) = (entry.raw.clone(), entry.origin.clone());
        match self.expand(&raw) {
            Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
            Err(kind) => Err(Error::new(kind).with_knob(name).with_origin(Some(origin))),
        }
    }

    pub(crate) fn expand(&mut self, text: &str) -> Result<String, ErrorKind> {
        let expander = self.expander();
        let outcome = expander.expand(text);
        let work = expander.budget.work();
        self.spend(work)?;
        outcome
    }

    pub(crate) fn expander(&self) -> Expander<'_> {
        Expander {
            table: &self.table,
            scope: &self.scope,
            environment: &self.environment,
            evaluator: self.evaluator.as_deref(),
            random: &self.random,
            limits: &self.limits,
            budget: Budget::default(),
            directory: None,
            used: None,
        }
    }

    pub(crate) fn fail(&mut self, place: &Place, kind: ErrorKind) {
        self.errors
            .push(Error::new(kind).with_origin(Some(Origin::File(place.clone()))));
    }

    /// Whether so much is wrong (or so much work was done) that reading stops.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() >= self.limits.errors || self.work > self.limits.total_work
    }

    fn spend(&mut self, work: usize) -> Result<(), ErrorKind> {
        self.work = self.work.saturating_add(work);
        if self.work > self.limits.total_work {
            return Err(ErrorKind::TooLarge {
                what: "the work of reading",
                limit: self.limits.total_work,
            });
        }
        Ok(())
    }
}

/// Takes a line apart; `None` for a line like `[section]`, which HTCondor skips.
fn take_apart(line: &str) -> Result<Option<Statement<'_>>, ErrorKind> {
    let not_a_statement = || ErrorKind::NotAStatement {
        text: shorten(line),
    };
    let is_operator = |c: char| c == '=' || c == ':';
    let Some(end) = line.find(|c| is_space(c) || is_operator(c)) else {
        return if line.starts_with('[') {
            Ok(None)
        } else {
            Err(not_a_statement())
        };
    };
    let (name, rest) = line.split_at(end);
    let at = rest
        .find(|c| is_operator(c) || c == '@')
        .ok_or_else(not_a_statement)?;
    let (words, rest) = rest.split_at(at);
    let (operator, value) = if let Some(value) = rest.strip_prefix("@=") {
        (Operator::Here, value)
    } else if let Some(value) = rest.strip_prefix('=') {
        (Operator::Equals, value)
    } else if let Some(value) = rest.strip_prefix(':') {
        (Operator::Colon, value)
    } else {
        return Err(not_a_statement());
    };
    Ok(Some(Statement {
        name,
        words: words.trim_matches(is_space),
        operator,
        value: value.trim_start_matches(is_space),
    }))
}

/// A command line as HTCondor's arguments: words, or in double quotes words with single quotes around blanks.
pub(crate) fn split_command(line: &str) -> Option<Vec<String>> {
    let line = line.trim_matches(is_space);
    let Some(quoted) = line.strip_prefix('"') else {
        let words: Vec<String> = line
            .split(is_space)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect();
        return (!words.is_empty()).then_some(words);
    };
    let text = quoted.strip_suffix('"')?.replace("\"\"", "\"");
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    let mut inside = false;
    while let Some(c) = chars.next() {
        match c {
            '\'' if inside && chars.next_if_eq(&'\'').is_some() => {
                word.get_or_insert_default().push('\'')
            }
            '\'' => {
                inside = !inside;
                word.get_or_insert_default();
            }
            c if is_space(c) && !inside => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (!inside && !words.is_empty()).then_some(words)
}
