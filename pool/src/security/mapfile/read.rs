//! Reading a map file and what it includes.

use condorconf::{FileError, Files};
use regex::RegexBuilder;

use super::MapFile;
use super::error::{MapError, MapErrors, MapProblem};
use super::line::{Field, Style, field};

/// Most bytes of one file, and most lines of all files.
const MAX_BYTES: usize = 64 * 1024 * 1024;
const MAX_LINES: usize = 1_000_000;

/// Most files of an included directory.
const MAX_ENTRIES: usize = 10_000;

/// Most memory of one compiled pattern.
const MAX_PATTERN: usize = 1024 * 1024;

/// What a reading came to.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The map, of the lines that are good.
    pub(crate) map: MapFile,
    /// What is odd, with file and line.
    pub(crate) warnings: Vec<String>,
}

struct Reader<'f> {
    files: &'f dyn Files,
    hash_keys: bool,
    map: MapFile,
    errors: Vec<MapError>,
    warnings: Vec<String>,
    lines: usize,
}

impl MapFile {
    /// Reads a file. `hash_keys`: principals are literal names unless they stand between slashes
    /// (`CERTIFICATE_MAPFILE_ASSUME_HASH_KEYS`), else all are patterns. `uid_domain` is added to canonical names
    /// without a domain.
    ///
    /// # Errors
    /// Every mistake, with file and line.
    pub(crate) fn read(
        files: &dyn Files,
        path: &str,
        hash_keys: bool,
        uid_domain: &str,
    ) -> Result<Reading, MapErrors> {
        let mut reader = Reader {
            files,
            hash_keys,
            map: Self {
                uid_domain: uid_domain.to_owned(),
                ..Self::default()
            },
            errors: Vec::new(),
            warnings: Vec::new(),
            lines: 0,
        };
        reader.file(path, true);
        if reader.errors.is_empty() {
            Ok(Reading {
                map: reader.map,
                warnings: reader.warnings,
            })
        } else {
            Err(MapErrors(reader.errors))
        }
    }
}

impl Reader<'_> {
    fn file(&mut self, path: &str, may_include: bool) {
        let fail = |problem| MapError {
            file: path.to_owned(),
            line: None,
            problem,
        };
        let content = match self.files.read(path, MAX_BYTES) {
            Ok(content) => content,
            Err(error) => return self.errors.push(fail(MapProblem::Unreadable(error))),
        };
        let Ok(text) = String::from_utf8(content) else {
            return self.errors.push(fail(MapProblem::NotText));
        };
        for (index, line) in text.lines().enumerate() {
            self.lines += 1;
            if self.lines > MAX_LINES {
                return self.errors.push(fail(MapProblem::TooLong(MAX_LINES)));
            }
            if let Err(problem) = self.line(path, index + 1, line, may_include) {
                self.errors.push(MapError {
                    file: path.to_owned(),
                    line: Some(index + 1),
                    problem,
                });
            }
        }
    }

    fn line(
        &mut self,
        path: &str,
        number: usize,
        line: &str,
        may_include: bool,
    ) -> Result<(), MapProblem> {
        let mut rest = line;
        if line.trim_start().starts_with('#') {
            return Ok(());
        }
        let Some(method) = field(&mut rest, false)? else {
            return Ok(());
        };
        if method.text.starts_with('@') {
            return self.include(path, &method.text, rest, may_include);
        }
        let principal = field(&mut rest, self.hash_keys)?.filter(|field| !field.text.is_empty());
        let principal = principal.ok_or(MapProblem::Missing("PRINCIPAL"))?;
        let canonical = field(&mut rest, false)?.filter(|field| !field.text.is_empty());
        let canonical = canonical.ok_or(MapProblem::Missing("CANONICAL"))?;
        let extra = rest.trim();
        if !extra.is_empty() && !extra.starts_with('#') {
            return Err(MapProblem::Extra(extra.to_owned()));
        }
        self.advise(path, number, &method.text);
        self.add(&method.text, &principal, &canonical.text)
    }

    fn add(&mut self, method: &str, principal: &Field, canonical: &str) -> Result<(), MapProblem> {
        let (ignore_case, ungreedy) = match principal.style {
            Style::Slashes {
                ignore_case,
                ungreedy,
            } => (ignore_case, ungreedy),
            _ if self.hash_keys => {
                self.map.add_literal(method, &principal.text, canonical);
                return Ok(());
            }
            _ => (false, false),
        };
        let regex = RegexBuilder::new(&principal.text)
            .case_insensitive(ignore_case)
            .swap_greed(ungreedy)
            .size_limit(MAX_PATTERN)
            .build()
            .map_err(|error| MapProblem::Pattern {
                pattern: principal.text.clone(),
                reason: last_line(&error.to_string()),
            })?;
        self.map.add_pattern(method, regex, canonical);
        Ok(())
    }

    fn include(
        &mut self,
        path: &str,
        directive: &str,
        mut rest: &str,
        may_include: bool,
    ) -> Result<(), MapProblem> {
        if directive != "@include" {
            return Err(MapProblem::Directive(directive.to_owned()));
        }
        if !may_include {
            return Err(MapProblem::Nested);
        }
        let name = field(&mut rest, false)?.filter(|name| !name.text.is_empty());
        let name = name.ok_or(MapProblem::NoName)?.text;
        let full = match path.rsplit_once('/') {
            Some((directory, _)) if !name.starts_with('/') => format!("{directory}/{name}"),
            _ => name,
        };
        match self.files.list(&full, MAX_ENTRIES) {
            Ok(entries) => {
                let mut names: Vec<_> = entries
                    .into_iter()
                    .filter(|entry| !entry.is_dir && is_wanted(&entry.name))
                    .map(|entry| entry.name)
                    .collect();
                names.sort();
                for name in names {
                    self.file(&format!("{}/{name}", full.trim_end_matches('/')), false);
                }
                Ok(())
            }
            Err(FileError::TooLarge { limit }) => {
                Err(MapProblem::Unreadable(FileError::TooLarge { limit }))
            }
            // It is a file, or nothing at all, which reading it tells.
            Err(_) => {
                self.file(&full, false);
                Ok(())
            }
        }
    }

    /// Tells of lines that have no effect.
    fn advise(&mut self, path: &str, line: usize, method: &str) {
        const USED: [&str; 4] = ["SSL", "FS", "CLAIMTOBE", "ANONYMOUS"];
        const DIRECT: [&str; 6] = ["TOKEN", "TOKENS", "IDTOKEN", "IDTOKENS", "PASSWORD", "POOL"];
        const OTHERS: [&str; 8] = [
            "FS_REMOTE",
            "SCITOKENS",
            "SCITOKEN",
            "KERBEROS",
            "MUNGE",
            "GSI",
            "NTSSPI",
            "NTSSPI_REMOTE",
        ];
        let is_in = |list: &[&str]| list.iter().any(|known| known.eq_ignore_ascii_case(method));
        if is_in(&USED) {
            return;
        }
        let why = if is_in(&DIRECT) {
            "proves an identity directly and is not mapped"
        } else if is_in(&OTHERS) {
            "is not a method of this pool"
        } else {
            "is not an authentication method"
        };
        self.warnings.push(format!(
            "{path}:{line}: {method} {why}; the line has no effect"
        ));
    }
}

/// The names that HTCondor leaves out of directories of configuration.
fn is_wanted(name: &str) -> bool {
    !name.starts_with(['.', '#'])
        && !name.ends_with('~')
        && !name.ends_with(".rpmsave")
        && !name.ends_with(".rpmnew")
}

/// The reason in an error of the regex crate, without the drawing above it.
fn last_line(text: &str) -> String {
    let last = text.lines().last().unwrap_or(text);
    last.trim_start_matches("error: ").to_owned()
}
