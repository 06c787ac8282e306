//! HTCondor's long options with one dash, for those who have them in their fingers.

use std::ffi::OsString;

/// Commands whose counterparts in HTCondor have such options.
const COMMANDS: [&str; 8] = [
    "status", "q", "history", "rm", "hold", "release", "submit", "token",
];

/// Options that people shorten, and the least that is understood, as in HTCondor's tools.
const SHORTENED: [(&str, usize); 16] = [
    ("constraint", 3),
    ("autoformat", 5),
    ("attributes", 2),
    ("long", 1),
    ("json", 2),
    ("schedd", 2),
    ("submitters", 4),
    ("master", 2),
    ("negotiator", 3),
    ("collector", 3),
    ("claimed", 2),
    ("available", 2),
    ("compact", 4),
    ("totals", 3),
    ("state", 4),
    ("limit", 3),
];

/// Turns `-constraint X`, `-af:h A B` and their like into what the parser of the command line knows. `arguments` are
/// those after `sailplane pool`, the command's name included; with another first word nothing changes.
pub fn with_two_dashes(arguments: Vec<OsString>) -> Vec<OsString> {
    let command = arguments.first().and_then(|word| word.to_str());
    if !command.is_some_and(|command| COMMANDS.contains(&command)) {
        return arguments;
    }
    let mut changed = Vec::with_capacity(arguments.len() + 1);
    let mut plain = false;
    for argument in arguments {
        plain |= argument == "--";
        match argument.to_str() {
            Some(text) if !plain => changed.extend(one(text)),
            _ => changed.push(argument),
        }
    }
    changed
}

fn one(text: &str) -> Vec<OsString> {
    let same = || vec![OsString::from(text)];
    let Some(word) = text.strip_prefix('-') else {
        return same();
    };
    // Two dashes already, a number, or a lone dash for standard input.
    if !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return same();
    }
    let (name, rest) = match word.find([':', '=']) {
        Some(at) => word.split_at(at),
        None => (word, ""),
    };
    if let Some(name) = long_name(name) {
        return match rest.strip_prefix(':') {
            Some(letters) if name == "autoformat" => vec![
                format!("--autoformat-options={letters}").into(),
                "--autoformat".into(),
            ],
            _ => vec![format!("--{name}{rest}").into()],
        };
    }
    // One letter is an option of its own kind.
    if name.len() == 1 {
        return same();
    }
    vec![format!("--{word}").into()]
}

/// The whole name of a shortened option.
fn long_name(name: &str) -> Option<&'static str> {
    if name == "af" {
        return Some("autoformat");
    }
    let mut known = SHORTENED.iter();
    known
        .find(|(whole, least)| name.len() >= *least && whole.starts_with(name))
        .map(|(whole, _)| *whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(line: &str) -> String {
        let words = line.split(' ').map(OsString::from).collect();
        let changed: Vec<_> = with_two_dashes(words)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        changed.join(" ")
    }

    #[test]
    fn one_dash_does_as_in_htcondor() {
        assert_eq!(
            after("status -const X -af A B"),
            "status --constraint X --autoformat A B"
        );
        assert_eq!(
            after("q -af:hj Cmd -l -json"),
            "q --autoformat-options=hj --autoformat Cmd --long --json"
        );
        assert_eq!(after("status -sch -submit"), "status --schedd --submitters");
        assert_eq!(
            after("submit -terse -append a=b"),
            "submit --terse --append a=b"
        );
        assert_eq!(after("history -limit 5 -"), "history --limit 5 -");
    }

    #[test]
    fn the_rest_is_left_alone() {
        for line in [
            "status --constraint -1",
            "q -h -5 12.0 --json",
            "rm -- -constraint",
            "serve -constraint x",
            "status --autoformat-options=h",
        ] {
            assert_eq!(after(line), line);
        }
        assert_eq!(with_two_dashes(Vec::new()), Vec::<OsString>::new());
    }
}
