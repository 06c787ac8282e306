//! What is said of periodic checks as a whole: which fail now, which ever did, and which ran last.

use std::path::Path;

use classad::{Expr, Value};

use super::cron::{DEFAULT_PREFIX, NO_PREFIX};
use super::dashboard::{Dashboard, Key, Line};
use crate::outcome::Attribute;

/// One run of a periodic check.
#[derive(Debug, Clone, Copy)]
pub struct Repetition<'a> {
    /// Its place in the schedule: `GLIDEIN_PS_1`.
    pub schedule: &'a str,
    /// The executable.
    pub file: &'a Path,
    /// The prefix of its attributes, or the word for none.
    pub prefix: &'a str,
    /// Unix seconds.
    pub end: i64,
    /// Why it failed, if it did.
    pub failure: Option<&'a str>,
}

/// The attributes and the lines of the dashboard after a run.
#[must_use]
pub fn tell(board: &Dashboard, run: &Repetition<'_>) -> (Vec<Attribute>, Vec<(Key, Line)>) {
    let failing = changed(
        &list(board, "GLIDEIN_PS_FAILING_LIST"),
        run.schedule,
        run.failure.is_some(),
    );
    let ok = failing.is_empty();
    let file = run.file.display().to_string();
    let mut said: Vec<(&str, Value)> = vec![("OK", Value::Boolean(ok))];
    let mut lines: Vec<(&str, String)> = vec![("GLIDEIN_PS_FAILING_LIST", failing.join(","))];
    if let Some(why) = run.failure {
        let ever = changed(&list(board, "GLIDEIN_PS_FAILED_LIST"), run.schedule, true);
        lines.push(("GLIDEIN_PS_FAILED_LIST", ever.join(",")));
        said.push((
            "FAILED_LAST",
            Value::String(format!("{}:{file}", run.schedule)),
        ));
        said.push(("FAILED_LAST_REASON", Value::String(why.to_owned())));
        said.push(("FAILED_LAST_END", Value::Integer(run.end)));
    }
    said.push(("LAST", Value::String(file)));
    said.push(("LAST_END", Value::Integer(run.end)));
    // The pilot's expressions use the default prefix, the script's author may look under his own.
    let mut prefixes = vec![DEFAULT_PREFIX];
    if run.prefix != NO_PREFIX && run.prefix != DEFAULT_PREFIX {
        prefixes.push(run.prefix);
    }
    let mut attributes = Vec::new();
    for (name, value) in said {
        let expression = Expr::literal(value);
        let text = expression.to_old();
        for prefix in &prefixes {
            attributes.extend(Attribute::new(
                &format!("{prefix}{name}"),
                expression.clone(),
            ));
        }
        lines.push((name, text));
    }
    let lines = lines
        .into_iter()
        .filter_map(|(name, value)| {
            let name = match name.strip_prefix(DEFAULT_PREFIX) {
                Some(_) => name.to_owned(),
                None => format!("{DEFAULT_PREFIX}{name}"),
            };
            Some((Key::new(name).ok()?, value.as_str().into()))
        })
        .collect();
    (attributes, lines)
}

fn list(board: &Dashboard, key: &str) -> Vec<String> {
    board
        .text(key)
        .unwrap_or_default()
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn changed(list: &[String], name: &str, is_in: bool) -> Vec<String> {
    let mut list: Vec<String> = list
        .iter()
        .filter(|known| *known != name)
        .cloned()
        .collect();
    if is_in {
        list.push(name.to_owned());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dashboard_and_the_ad_say_the_same_after_a_recovery() {
        let mut board = Dashboard::new();
        let mut after = |schedule: &str, failure: Option<&str>, prefix: &str| {
            let run = Repetition {
                schedule,
                file: Path::new("/w/client/x.sh"),
                prefix,
                end: 7,
                failure,
            };
            let (attributes, lines) = tell(&board, &run);
            for (key, line) in lines {
                board.set(key, line);
            }
            let said: Vec<String> = attributes
                .iter()
                .map(|one| format!("{} = {}", one.name(), one.value().to_old()))
                .collect();
            (said, board.clone())
        };
        let (said, board_now) = after("GLIDEIN_PS_1", Some("exit \"1\""), "NOPREFIX");
        assert!(
            said.contains(&"GLIDEIN_PS_OK = false".to_owned()),
            "{said:?}"
        );
        assert!(said.contains(&"GLIDEIN_PS_FAILED_LAST_REASON = \"exit \\\"1\\\"\"".to_owned()));
        assert_eq!(
            board_now.get(b"GLIDEIN_PS_FAILING_LIST"),
            Some(&b"GLIDEIN_PS_1"[..])
        );
        let (said, _) = after("GLIDEIN_PS_2", None, "MJF_");
        assert!(said.contains(&"GLIDEIN_PS_OK = false".to_owned()));
        assert!(said.contains(&"MJF_LAST_END = 7".to_owned()));
        let (said, board_now) = after("GLIDEIN_PS_1", None, "GLIDEIN_PS_");
        assert!(said.contains(&"GLIDEIN_PS_OK = true".to_owned()));
        assert_eq!(board_now.get(b"GLIDEIN_PS_OK"), Some(&b"true"[..]));
        assert_eq!(board_now.get(b"GLIDEIN_PS_FAILING_LIST"), Some(&b""[..]));
        assert_eq!(
            board_now.get(b"GLIDEIN_PS_FAILED_LIST"),
            Some(&b"GLIDEIN_PS_1"[..])
        );
    }
}
