//! What the administrator says should be so: who becomes whom, and who is refused.

use std::fmt;
use std::path::{Path, PathBuf};

use super::ground;
use super::options::Options;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expectation {
    /// A short name for the check.
    pub(super) name: String,
    /// Whose credential.
    pub(super) who: Who,
    /// What becomes of it.
    pub(super) what: What,
    /// Where it says so.
    pub(super) place: String,
}

/// Whose credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    /// The one in this file.
    File(PathBuf),
    /// Somebody's of this name, with these attributes.
    Named {
        /// As in a grid-mapfile.
        dn: String,
        /// VOMS attributes.
        fqans: Vec<String>,
    },
}

/// What is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Whatever it is, as long as it is one.
    Any,
    /// This account.
    Account(String),
    /// One of the pool.
    Pool(String),
    /// A number of `dynamic_uids`.
    Dynamic,
    /// None, with this code if one is given.
    Refused(Option<String>),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Named { dn, fqans } if fqans.is_empty() => f.write_str(dn),
            Self::Named { dn, fqans } => write!(f, "{dn} with {}", fqans.join(", ")),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("an account"),
            Self::Account(name) => write!(f, "the account {name}"),
            Self::Pool(prefix) => write!(f, "an account of the pool .{prefix}"),
            Self::Dynamic => f.write_str("a number of dynamic_uids"),
            Self::Refused(None) => f.write_str("a refusal"),
            Self::Refused(Some(code)) => write!(f, "a refusal with the code {code}"),
        }
    }
}

/// All that the options name; checks get names that nothing else has.
///
/// # Errors
/// One sentence with file and line.
pub(super) fn all(options: &Options) -> Result<Vec<Expectation>, String> {
    let mut found = Vec::new();
    for path in &options.credential {
        found.push(Expectation {
            name: name_of(&Who::File(path.clone())),
            who: Who::File(path.clone()),
            what: What::Any,
            place: "--credential".to_owned(),
        });
    }
    for line in &options.expect {
        found.push(read(line, "--expect").map_err(|why| format!("--expect '{line}': {why}"))?);
    }
    for path in &options.map {
        let text = std::fs::read_to_string(path).map_err(|error| {
            format!("cannot read {}: {}", path.display(), ground::words(&error))
        })?;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = format!("{}:{number}", path.display());
            found.push(read(line, &place).map_err(|why| format!("{place}: {why}"))?);
        }
    }
    // Two of one name get numbers.
    for index in 0..found.len() {
        let same = |one: &&Expectation| found.get(index).is_some_and(|this| this.name == one.name);
        let earlier = found.iter().take(index).filter(same).count();
        if earlier > 0
            && let Some(this) = found.get_mut(index)
        {
            this.name = format!("{}-{}", this.name, earlier + 1);
        }
    }
    Ok(found)
}

fn read(line: &str, place: &str) -> Result<Expectation, String> {
    let mut words = words(line)?.into_iter();
    let value = |word: &str, words: &mut std::vec::IntoIter<String>| {
        words
            .next()
            .ok_or_else(|| format!("nothing stands behind {word}"))
    };
    let (mut file, mut dn, mut fqans, mut what) = (None, None, Vec::new(), None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "file" => file = Some(PathBuf::from(value(&word, &mut words)?)),
            "dn" => dn = Some(value(&word, &mut words)?),
            "fqan" => fqans.push(value(&word, &mut words)?),
            "account" => what = Some(What::Account(value(&word, &mut words)?)),
            "pool" => {
                let prefix = value(&word, &mut words)?;
                what = Some(What::Pool(prefix.trim_start_matches('.').to_owned()));
            }
            "dynamic" => what = Some(What::Dynamic),
            "refused" => what = Some(What::Refused(words.next())),
            other => {
                return Err(format!(
                    "{other} is none of file, dn, fqan, account, pool, dynamic, refused"
                ));
            }
        }
    }
    let who = match (file, dn) {
        (Some(_), _) if !fqans.is_empty() => {
            return Err("attributes go with dn; those of a file are in it".to_owned());
        }
        (Some(path), None) => Who::File(path),
        (None, Some(dn)) if dn.starts_with('/') => Who::Named { dn, fqans },
        (None, Some(dn)) => return Err(format!("{dn} is no name like /DC=org/CN=Alice")),
        _ => return Err("either file or dn must say whose credential is meant".to_owned()),
    };
    let what = what.ok_or("account, pool, dynamic or refused must say what is expected")?;
    Ok(Expectation {
        name: name_of(&who),
        who,
        what,
        place: place.to_owned(),
    })
}

/// The part of a name that people know somebody by.
fn name_of(who: &Who) -> String {
    let text = match who {
        Who::File(path) => stem(path),
        Who::Named { dn, fqans } => {
            let person = dn.rsplit('=').next().unwrap_or(dn);
            let group = fqans.first().map(|fqan| format!(" {fqan}"));
            format!("{person}{}", group.unwrap_or_default())
        }
    };
    let name = validation::CheckName::from_words(&text);
    // Others are put before and behind it.
    name.as_str()
        .chars()
        .take(40)
        .collect::<String>()
        .trim_end_matches('-')
        .to_owned()
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

/// Words separated by blanks; one in double quotes may hold blanks, and `\"` and `\\`.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut letters = line.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        let mut word = String::new();
        if letters.next_if_eq(&'"').is_some() {
            loop {
                match letters.next() {
                    Some('"') => break,
                    Some('\\') => match letters.next() {
                        Some(letter @ ('"' | '\\')) => word.push(letter),
                        Some(letter) => word.extend(['\\', letter]),
                        None => return Err("the closing quote is missing".to_owned()),
                    },
                    Some(letter) => word.push(letter),
                    None => return Err("the closing quote is missing".to_owned()),
                }
            }
        } else if letters.peek().is_none() {
            return Ok(found);
        } else {
            while let Some(letter) = letters.next_if(|letter| !letter.is_whitespace()) {
                word.push(letter);
            }
        }
        found.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_who_and_what() {
        let line = |text: &str| read(text, "here").map(|one| (one.name, one.who, one.what));
        let named = |dn: &str, fqans: &[&str]| Who::Named {
            dn: dn.to_owned(),
            fqans: fqans.iter().map(|fqan| (*fqan).to_owned()).collect(),
        };
        assert_eq!(
            line(r#"dn "/DC=org/CN=Alice Adams" account alice"#).unwrap(),
            (
                "alice-adams".to_owned(),
                named("/DC=org/CN=Alice Adams", &[]),
                What::Account("alice".to_owned())
            )
        );
        assert_eq!(
            line(r#"dn /CN=Bob fqan /exp/Role=production pool .exp"#)
                .unwrap()
                .2,
            What::Pool("exp".to_owned())
        );
        assert_eq!(
            line("file /root/x509up_u0 refused ban.dn").unwrap(),
            (
                "x509up-u0".to_owned(),
                Who::File("/root/x509up_u0".into()),
                What::Refused(Some("ban.dn".to_owned()))
            )
        );
        assert_eq!(
            line(r#"dn "/CN=a \"b\"" dynamic"#).unwrap().1,
            named("/CN=a \"b\"", &[])
        );
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (text, said) in [
            ("", "either file or dn"),
            ("dn /CN=A", "account, pool, dynamic or refused"),
            ("dn CN=A dynamic", "no name"),
            ("dn \"/CN=A dynamic", "closing quote"),
            ("file /x fqan /y dynamic", "attributes go with dn"),
            ("user alice", "user is none of"),
            ("dn", "nothing stands behind dn"),
        ] {
            let why = read(text, "here").unwrap_err();
            assert!(why.contains(said), "{text}: {why}");
        }
    }
}
