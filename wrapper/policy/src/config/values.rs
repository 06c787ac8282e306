//! The values that keys take.

use std::path::PathBuf;

use launch_protocol::{is_account_name, is_plain_absolute};

use super::{NOBODY, NamePattern};

pub(super) const WANT_PATH: &str = "an absolute path without . or ..";
pub(super) const WANT_YES: &str = "yes or no";
pub(super) const WANT_UID: &str = "a number from 1 to 4294967293";
pub(super) const WANT_UIDS: &str = "user numbers from 1 to 4294967293";
pub(super) const WANT_SECONDS: &str = "a number of seconds, at most 31536000";
pub(super) const WANT_CALLERS: &str = "account names, .prefix or *";
pub(super) const WANT_NAMES: &str = "names of accounts or groups";
pub(super) const MAX_UID: u32 = u32::MAX - 2;
const MAX_SECONDS: u32 = 31_536_000;
const MAX_LIST: usize = 128;

/// The words of a list.
pub(crate) fn words(value: &str) -> impl Iterator<Item = &str> {
    value
        .split([' ', '\t', ','])
        .filter(|word| !word.is_empty())
}

pub(super) fn list<T>(value: &str, one: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let list = words(value).map(one).collect::<Option<Vec<_>>>()?;
    (1..=MAX_LIST).contains(&list.len()).then_some(list)
}

pub(super) fn path(value: &str) -> Option<PathBuf> {
    let path = PathBuf::from(value.trim_end_matches('/'));
    is_plain_absolute(&path).then_some(path)
}

pub(super) fn paths(value: &str) -> Option<Vec<PathBuf>> {
    let list = value
        .split([' ', '\t', ',', ':'])
        .filter(|word| !word.is_empty())
        .map(path)
        .collect::<Option<Vec<_>>>()?;
    (1..=64).contains(&list.len()).then_some(list)
}

pub(super) fn yes(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "on" | "true" => Some(true),
        "no" | "off" | "false" => Some(false),
        _ => None,
    }
}

/// Digits only: no sign, no blank.
pub(crate) fn number<T: std::str::FromStr>(value: &str) -> Option<T> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().ok()).flatten()
}

pub(super) fn within(value: &str, least: u32, most: u32) -> Option<u32> {
    number(value).filter(|number| (least..=most).contains(number))
}

pub(super) fn seconds(value: &str) -> Option<u32> {
    within(value, 0, MAX_SECONDS)
}

pub(super) fn uid(value: &str) -> Option<u32> {
    within(value, 1, MAX_UID)
}

pub(super) fn uids(value: &str) -> Option<Vec<u32>> {
    list(value, uid)
}

pub(super) fn uid_range(value: &str) -> Option<(u32, u32)> {
    let (first, last) = value.split_once('-')?;
    let (first, last) = (uid(first.trim())?, uid(last.trim())?);
    let sound = first >= 1000
        && first <= last
        && last - first < 65_536
        && !(first..=last).contains(&NOBODY);
    sound.then_some((first, last))
}

pub(super) fn names(value: &str) -> Option<Vec<String>> {
    list(value, |word| is_account_name(word).then(|| word.to_owned()))
}

pub(super) fn callers(value: &str) -> Option<Vec<NamePattern>> {
    list(value, |word| match word.strip_prefix('.') {
        _ if word == "*" => Some(NamePattern::Anyone),
        Some(prefix) if is_account_name(prefix) => Some(NamePattern::Pool(prefix.to_owned())),
        None if is_account_name(word) => Some(NamePattern::Name(word.to_owned())),
        _ => None,
    })
}

/// Bytes, with K, M, G or T for powers of 1024.
pub(super) fn size(value: &str) -> Option<u64> {
    let shift = match value.bytes().last()?.to_ascii_uppercase() {
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        b'T' => 40,
        _ => return number(value),
    };
    let bytes: u64 = number(value.get(..value.len() - 1)?)?;
    bytes.checked_mul(1 << shift)
}

/// `NAME=MOST`, the names as in `ulimit` and `prlimit`.
pub(super) fn limit(word: &str) -> Option<(u32, u64)> {
    // The numbers are the same on all architectures that batch nodes have.
    const NAMES: [(&str, u32); 14] = [
        ("cpu", 0),
        ("fsize", 1),
        ("data", 2),
        ("stack", 3),
        ("core", 4),
        ("rss", 5),
        ("nproc", 6),
        ("nofile", 7),
        ("memlock", 8),
        ("as", 9),
        ("locks", 10),
        ("sigpending", 11),
        ("msgqueue", 12),
        ("rttime", 15),
    ];
    let (name, most) = word.split_once('=')?;
    let (_, resource) = NAMES.into_iter().find(|(known, _)| *known == name)?;
    let most = match most {
        "unlimited" => u64::MAX,
        _ => size(most)?,
    };
    Some((resource, most))
}

/// Processors with at most two decimals, in hundredths.
pub(super) fn hundredths(value: &str) -> Option<u32> {
    let (whole, part) = value.split_once('.').unwrap_or((value, "00"));
    let part = match part.len() {
        1 => number::<u32>(part)? * 10,
        2 => number(part)?,
        _ => return None,
    };
    let whole = within(whole, 0, 100_000)?;
    Some(whole * 100 + part).filter(|percent| *percent > 0)
}

/// A variable that a command may keep (requirement G5): not one that loaders or shells obey.
pub(super) fn variable(word: &str) -> Option<String> {
    let mut bytes = word.bytes();
    let plain = bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let obeyed = ["LD_", "MALLOC_"]
        .iter()
        .any(|prefix| word.starts_with(prefix))
        || ["GCONV_PATH", "GLIBC_TUNABLES", "BASH_ENV", "ENV", "IFS"].contains(&word);
    (plain && !obeyed && word.len() <= 128).then(|| word.to_owned())
}

/// The number of a facility of the system log, and its name in small letters.
pub(super) fn facility(value: &str) -> Option<(u8, String)> {
    const NAMES: [(&str, u8); 20] = [
        ("kern", 0),
        ("user", 1),
        ("mail", 2),
        ("daemon", 3),
        ("auth", 4),
        ("syslog", 5),
        ("lpr", 6),
        ("news", 7),
        ("uucp", 8),
        ("cron", 9),
        ("authpriv", 10),
        ("ftp", 11),
        ("local0", 16),
        ("local1", 17),
        ("local2", 18),
        ("local3", 19),
        ("local4", 20),
        ("local5", 21),
        ("local6", 22),
        ("local7", 23),
    ];
    let small = value.to_ascii_lowercase();
    let name = small.strip_prefix("log_").unwrap_or(&small);
    NAMES
        .into_iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| (number, name.to_owned()))
}

/// A word that goes to the verifier as it is: printable, no blanks, at most 255 bytes.
pub(super) fn word(value: &str) -> Option<String> {
    let sound = !value.is_empty()
        && value.len() <= 255
        && value.bytes().all(|byte| byte.is_ascii_graphic());
    sound.then(|| value.to_owned())
}

/// `URL=JWKSFILE`. A comma in the URL would make identities ambiguous.
pub(super) fn token_issuer(value: &str) -> Option<(String, PathBuf)> {
    let (issuer, file) = value.rsplit_once('=')?;
    let issuer = word(issuer)?;
    issuer.starts_with("https://").then_some(())?;
    Some((issuer, path(file)?))
}

pub(super) fn one_of(choices: &'static [&'static str]) -> impl Fn(&str) -> Option<&'static str> {
    |value| choices.iter().find(|choice| **choice == value).copied()
}
