//! `sailplane-policy check FILE`: everything that is wrong with a configuration and the files it names,
//! with file and line, before a job finds out.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::config::{Config, FileKind, MAX_CONFIG, NamePattern, is_pool_member};
use crate::lines::MAX_FILE;
use crate::refuse::why;
use crate::store::{self, Document};
use crate::target::{Hit, Target};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// For people, a line for each finding.
    pub(crate) text: String,
    /// Findings with which nothing, or not this, will run.
    pub(crate) errors: usize,
    /// Findings that an administrator should look at.
    pub(crate) warnings: usize,
}

impl Report {
    fn error(&mut self, what: &str) {
        self.errors += 1;
        let _ = writeln!(self.text, "error: {what}");
    }

    fn warn(&mut self, what: &str) {
        self.warnings += 1;
        let _ = writeln!(self.text, "warning: {what}");
    }

    /// Root takes a file only if nobody else can change it.
    fn trust(&mut self, path: &Path) {
        // Through links, as root goes; the paths of links themselves are left to root.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        for part in path.ancestors() {
            match fs::metadata(part) {
                Ok(facts) if facts.uid() != 0 => {
                    let what = format!(
                        "{} belongs to uid {}; it must belong to root",
                        part.display(),
                        facts.uid()
                    );
                    return self.error(&what);
                }
                Ok(facts) if facts.mode() & 0o022 != 0 => {
                    let mode = facts.mode() & 0o7777;
                    let what = format!(
                        "{} has mode {mode:04o}; group and others must not be able to write it",
                        part.display()
                    );
                    return self.error(&what);
                }
                Ok(_) => {}
                Err(error) => return self.error(&format!("{}: {}", part.display(), why(&error))),
            }
        }
    }
}

/// Checks a configuration. `trust`: also whether root would trust the files.
pub(crate) fn check(path: &Path, trust: bool) -> Report {
    let mut report = Report::default();
    let shown = path.display();
    let text = File::open(path).and_then(|file| store::read(&file, MAX_CONFIG + 1));
    let config = match text.map(|text| Config::parse(&text)) {
        Ok(Ok(config)) => config,
        Ok(Err(errors)) => {
            for error in errors {
                report.error(&format!("{shown}:{error}"));
            }
            return report;
        }
        Err(error) => {
            report.error(&format!("{shown}: {}", why(&error)));
            return report;
        }
    };
    if trust {
        report.trust(path);
        let settings = &config.settings;
        let verifier = &settings.verifier;
        let programs = [&settings.prologue, &settings.epilogue];
        let programs = programs.into_iter().flatten().map(|hook| &hook.program);
        let others = settings.gridmapdir.iter().chain(&settings.isolation.chroot);
        for file in (verifier.directories.iter().chain(&verifier.files))
            .chain(programs)
            .chain(others)
        {
            report.trust(file);
        }
    }
    for (kind, file) in config.policy_files() {
        if trust {
            report.trust(file);
        }
        check_file(&mut report, &config, kind, file);
    }
    if config.callers.contains(&NamePattern::Anyone) {
        report.warn(&format!("{shown}: user_white_list admits everybody (*)"));
    }
    report
}

fn check_file(report: &mut Report, config: &Config, kind: FileKind, path: &Path) {
    let shown = path.display();
    let text = File::open(path).and_then(|file| match kind {
        FileKind::Mapper => Ok(Vec::new()),
        _ => store::read(&file, MAX_FILE),
    });
    let document = match text.map(|text| Document::parse(kind, &text)) {
        Ok(Ok(document)) => document,
        Ok(Err(error)) => return report.error(&format!("{shown}:{error}")),
        Err(error) => return report.error(&format!("{shown}: {}", why(&error))),
    };
    let (doubts, hits): (_, Vec<Hit<'_>>) = match &document {
        Document::Gridmap(map) => (map.doubts(config.gridmap_patterns), map.targets().collect()),
        Document::Vomsmap(map) => (map.doubts(), map.targets().collect()),
        Document::Tokenmap(map) => (Vec::new(), map.targets().collect()),
        Document::Groupmap(map) => (map.doubts(), Vec::new()),
        Document::Bans(_) | Document::Mapper => (Vec::new(), Vec::new()),
    };
    for (line, doubt) in doubts {
        report.warn(&format!("{shown}:{line}: {doubt}"));
    }
    for hit in hits {
        check_target(report, config, &hit, &format!("{shown}:{}", hit.line));
    }
}

fn check_target(report: &mut Report, config: &Config, hit: &Hit<'_>, place: &str) {
    let targets = &config.settings.targets;
    let (pattern, word, prefix) = match hit.target {
        Target::Account(name) => (NamePattern::Name(name.clone()), name.clone(), name),
        Target::Pool(prefix) => (
            NamePattern::Pool(prefix.clone()),
            format!(".{prefix}"),
            prefix,
        ),
    };
    let is_caller =
        |caller: &&NamePattern| **caller != NamePattern::Anyone && caller.overlaps(&pattern);
    if config.callers.iter().any(|caller| is_caller(&caller)) {
        report.error(&format!(
            "{place}: {word} is, or may be, an account of user_white_list; pilots and payloads need separate accounts"
        ));
    }
    if targets.forbidden.iter().any(|name| pattern.matches(name)) {
        report.warn(&format!("{place}: forbidden_accounts forbids {word}"));
    }
    if !targets.prefixes.is_empty() && !targets.prefixes.iter().any(|one| prefix.starts_with(one)) {
        report.warn(&format!("{place}: account_prefixes does not allow {word}"));
    }
    if let Target::Pool(prefix) = hit.target {
        match &config.settings.gridmapdir {
            None => report.error(&format!(
                "{place}: {word} needs gridmapdir, which is not set"
            )),
            Some(folder) => {
                let names = fs::read_dir(folder).into_iter().flatten().flatten();
                let mut names = names.map(|entry| entry.file_name());
                if !names.any(|name| is_pool_member(&name.to_string_lossy(), prefix)) {
                    report.warn(&format!(
                        "{place}: {} holds no account of {word}",
                        folder.display()
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_wrong_is_said_with_file_and_line() {
        let folder = tempfile::tempdir().expect("folder");
        let at = |name: &str| folder.path().join(name);
        let here = folder.path().display();
        let write = |name: &str, text: &str| fs::write(at(name), text).expect("written");
        write(
            "gridmap",
            "/CN=A alice\n/CN=P pilot\n/CN=x/y=z odd\n/CN=B .pool\n/CN=R admin\n",
        );
        write("vomsmap", "\"/vo*\" vo\n");
        write("bans", "who\n");
        let conf = format!(
            "[switch]\nuser_white_list=pilot *\ncertdir=/c\nvomsdir=/v\ngridmap={here}/gridmap\n\
             vomsmap={here}/vomsmap\nban_lists={here}/bans:{here}/gone\nforbidden_accounts=admin\n"
        );
        write("switch.conf", &conf);
        let report = check(&at("switch.conf"), false);
        for wanted in [
            "error: HERE/bans:1: ",
            "error: HERE/gone: ",
            "error: HERE/gridmap:2: pilot is",
            "warning: HERE/gridmap:3: this name counts only",
            "error: HERE/gridmap:4: .pool needs gridmapdir",
            "warning: HERE/gridmap:5: forbidden_accounts",
            "warning: HERE/vomsmap:1: a wildcard",
            "warning: HERE/switch.conf: user_white_list admits everybody",
        ] {
            let wanted = wanted.replace("HERE", &here.to_string());
            assert!(report.text.contains(&wanted), "{wanted}\n{}", report.text);
        }
        assert_eq!((report.errors, report.warnings), (4, 4), "{}", report.text);
        write("switch.conf", "[switch]\nbad=1\nlinger=maybe\n");
        let report = check(&at("switch.conf"), false);
        assert!(
            report.text.contains("switch.conf:2: unknown key bad"),
            "{}",
            report.text
        );
        assert!(
            report.text.contains("switch.conf:3: linger must be"),
            "{}",
            report.text
        );
        assert!(check(&at("none"), false).errors == 1);
    }
}
