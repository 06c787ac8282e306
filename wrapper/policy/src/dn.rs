//! Distinguished names as text, compared attribute by attribute (requirement C18).
//!
//! The verifier spells a name in one way: `/` before each RDN, `+` between attributes of one,
//! a backslash before `/`, `+` and the backslash in values, and bytes outside printable ASCII as
//! `\xHH`. Map files were written over thirty years by other programs, many of which escape nothing.
//! Such a line counts if there is only one way to read it.

/// How a written name relates to a verified one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Likeness {
    Same,
    Different,
    /// The line can be read so that it names this one, and so that it does not.
    Unclear,
}

/// Attributes of one RDN: type in its common spelling, value as bytes.
pub(crate) type Rdn = Vec<(String, Vec<u8>)>;

/// A name as it stands in a file or came from the verifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// As written.
    text: String,
    /// Its attributes; `None`: it cannot be read as a name, or not in one way only.
    rdns: Option<Vec<Rdn>>,
    /// All bytes without escapes: what every reading has in common.
    flat: Vec<u8>,
}

impl Name {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            rdns: read(text),
            flat: flatten(text),
        }
    }

    /// As written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Equal keys are equal names; `None`: see [`Name::is_clear`].
    pub(crate) fn key(&self) -> Option<&Vec<Rdn>> {
        self.rdns.as_ref()
    }

    /// Can it be read, and in one way only?
    pub(crate) fn is_clear(&self) -> bool {
        self.rdns.is_some()
    }

    /// Is this, out of a file, the verified name `who`?
    pub(crate) fn likeness(&self, who: &Self) -> Likeness {
        if self.text == who.text {
            return Likeness::Same;
        }
        match (&self.rdns, &who.rdns) {
            (Some(own), Some(other)) if own == other => Likeness::Same,
            (Some(_), Some(_)) => Likeness::Different,
            _ if self.flat == who.flat => Likeness::Unclear,
            _ => Likeness::Different,
        }
    }

    /// Of a verified name: without backslashes, as older programs write it.
    pub(crate) fn older_spelling(&self) -> String {
        match &self.rdns {
            Some(rdns) => unescaped(rdns, &self.text, "emailAddress"),
            None => self.text.clone(),
        }
    }

    /// The spellings of a verified name that patterns are tried against.
    pub(crate) fn spellings(&self) -> Vec<String> {
        let mut all = vec![self.text.clone()];
        if let Some(rdns) = &self.rdns {
            for email in ["emailAddress", "Email", "E"] {
                all.push(unescaped(rdns, &self.text, email));
            }
        }
        all.dedup();
        all
    }
}

/// Types under which the same attribute is found in files.
fn common_type(written: &str) -> String {
    let small = written.to_ascii_lowercase();
    match small.as_str() {
        "e" | "email" | "emailaddress" => "emailaddress".to_owned(),
        "userid" => "uid".to_owned(),
        "s" => "st".to_owned(),
        _ => small,
    }
}

/// Attribute types that certificates of people and hosts have.
fn is_known_type(word: &str) -> bool {
    const KNOWN: [&str; 22] = [
        "c",
        "st",
        "l",
        "o",
        "ou",
        "cn",
        "dc",
        "emailaddress",
        "uid",
        "sn",
        "gn",
        "givenname",
        "surname",
        "serialnumber",
        "title",
        "street",
        "streetaddress",
        "postalcode",
        "initials",
        "dnqualifier",
        "pseudonym",
        "name",
    ];
    let dotted = word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    dotted || KNOWN.contains(&common_type(word).as_str())
}

/// A word that could be the type of an attribute.
fn could_be_type(word: &str) -> bool {
    let letters = word.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    letters || is_known_type(word)
}

/// Splits at unescaped `separator`.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (place, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == separator {
            parts.extend(text.get(start..place));
            start = place + c.len_utf8();
        }
    }
    parts.extend(text.get(start..));
    parts
}

fn read(text: &str) -> Option<Vec<Rdn>> {
    let body = text.strip_prefix('/')?;
    let mut rdns: Vec<Rdn> = Vec::new();
    for part in split(body, '/') {
        let mut first = true;
        for piece in split(part, '+') {
            let separator = if first { b'/' } else { b'+' };
            match piece.split_once('=') {
                Some((word, value)) if is_known_type(word) => {
                    let attribute = (common_type(word), unescape(value));
                    match rdns.last_mut() {
                        Some(last) if !first => last.push(attribute),
                        _ => rdns.push(vec![attribute]),
                    }
                }
                // Either an attribute of a kind unknown here, or part of the value before.
                Some((word, _)) if could_be_type(word) => return None,
                // Part of the value before, written without a backslash.
                _ => {
                    let (_, value) = rdns.last_mut()?.last_mut()?;
                    value.push(separator);
                    value.extend(unescape(piece));
                }
            }
            first = false;
        }
    }
    Some(rdns)
}

/// The bytes of a value.
fn unescape(value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'\\', [b'x', high, low, tail @ ..]) => match hex(*high, *low) {
                // Printable characters are never spelled so.
                Some(byte) if !(0x20..0x7f).contains(&byte) => {
                    out.push(byte);
                    tail
                }
                _ => {
                    out.extend([b'\\', b'x']);
                    rest.get(2..).unwrap_or_default()
                }
            },
            (b'\\', [c @ (b'/' | b'+' | b'\\'), tail @ ..]) => {
                out.push(*c);
                tail
            }
            (c, tail) => {
                out.push(*c);
                tail
            }
        };
    }
    out
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    Some(digit(high)? << 4 | digit(low)?)
}

/// Without escapes, and with one spelling of the types of e-mail addresses.
fn flatten(text: &str) -> Vec<u8> {
    let mut text = text.to_owned();
    for separator in ['/', '+'] {
        for word in ["E", "Email"] {
            text = text.replace(
                &format!("{separator}{word}="),
                &format!("{separator}emailAddress="),
            );
        }
    }
    unescape(&text)
}

/// The spelling of older programs: no backslashes.
fn unescaped(rdns: &[Rdn], text: &str, email: &str) -> String {
    // Types are taken from the text, in their spelling.
    let words = text
        .strip_prefix('/')
        .into_iter()
        .flat_map(|body| split(body, '/'))
        .flat_map(|part| split(part, '+'))
        .filter_map(|piece| piece.split_once('='));
    let mut words = words.map(|(word, _)| word);
    let mut out = String::new();
    for rdn in rdns {
        for (place, (kind, value)) in rdn.iter().enumerate() {
            let word = words.next().unwrap_or(kind);
            let word = if kind == "emailaddress" { email } else { word };
            out.push(if place == 0 { '/' } else { '+' });
            out.push_str(word);
            out.push('=');
            for byte in value {
                match byte {
                    b' '..=b'~' => out.push(char::from(*byte)),
                    _ => out.push_str(&format!("\\x{byte:02X}")),
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn likeness(line: &str, who: &str) -> Likeness {
        Name::new(line).likeness(&Name::new(who))
    }

    #[test]
    fn c18_names_are_compared_attribute_by_attribute() {
        use Likeness::{Different, Same, Unclear};
        for (line, who, wanted) in [
            ("/DC=org/CN=Alice", "/DC=org/CN=Alice", Same),
            ("/DC=org/CN=alice", "/DC=org/CN=Alice", Different),
            ("/dc=org/cn=Alice", "/DC=org/CN=Alice", Same),
            // The older spelling of a slash, a plus, a name in UTF-8.
            ("/CN=host/a.example", "/CN=host\\/a.example", Same),
            ("/CN=host\\/a.example", "/CN=host\\/a.example", Same),
            ("/CN=C++ user", "/CN=C\\+\\+ user", Same),
            ("/CN=Jörg", "/CN=J\\xC3\\xB6rg", Same),
            ("/CN=J\\xc3\\xb6rg", "/CN=J\\xC3\\xB6rg", Same),
            // An e-mail address under any of its types.
            ("/CN=A/Email=a@b", "/CN=A/emailAddress=a@b", Same),
            ("/CN=A/E=a@b", "/CN=A/emailAddress=a@b", Same),
            ("/CN=A/USERID=a", "/CN=A/UID=a", Same),
            // A separator is not a part of a value.
            ("/CN=a/CN=b", "/CN=a\\/CN=b", Different),
            ("/CN=a\\/CN=b", "/CN=a/CN=b", Different),
            ("/CN=a+UID=b", "/CN=a\\+UID=b", Different),
            ("/CN=a+UID=b", "/CN=a+UID=b", Same),
            ("/CN=a/UID=b", "/CN=a+UID=b", Different),
            // Two readings: nobody can know.
            ("/CN=x/y=z", "/CN=x\\/y=z", Unclear),
            ("/CN=x/y=z", "/CN=x/y=z", Same),
            ("/CN=x/y=z", "/CN=x\\/y=w", Different),
            // A backslash that is no escape, and one that is.
            ("/CN=a\\b", "/CN=a\\\\b", Same),
            ("/CN=\\x41", "/CN=A", Different),
            // No names at all.
            ("", "/CN=A", Different),
            ("/atlas/Role=x", "/CN=A", Different),
            ("CN=A", "/CN=A", Different),
        ] {
            assert_eq!(likeness(line, who), wanted, "{line} {who}");
        }
    }

    #[test]
    fn patterns_are_tried_against_every_spelling() {
        let spellings = Name::new("/CN=host\\/a/emailAddress=x@y").spellings();
        for wanted in [
            "/CN=host\\/a/emailAddress=x@y",
            "/CN=host/a/Email=x@y",
            "/CN=host/a/E=x@y",
        ] {
            assert!(
                spellings.iter().any(|have| have == wanted),
                "{wanted}: {spellings:?}"
            );
        }
    }

    /// As the verifier writes names.
    fn canonical(rdns: &[Vec<(&str, String)>]) -> String {
        let mut out = String::new();
        for rdn in rdns {
            for (place, (kind, value)) in rdn.iter().enumerate() {
                out.push(if place == 0 { '/' } else { '+' });
                out.push_str(kind);
                out.push('=');
                for byte in value.bytes() {
                    match byte {
                        b'/' | b'+' | b'\\' => out.extend(['\\', char::from(byte)]),
                        b' '..=b'~' => out.push(char::from(byte)),
                        _ => out.push_str(&format!("\\x{byte:02X}")),
                    }
                }
            }
        }
        out
    }

    fn rdns() -> impl Strategy<Value = Vec<Vec<(&'static str, String)>>> {
        let kind = prop::sample::select(vec!["CN", "DC", "O", "emailAddress", "UID"]);
        let value = prop_oneof!["[ -~]{0,8}", "[/+=\\\\CN]{0,6}", "[a-zé]{1,4}"];
        prop::collection::vec(prop::collection::vec((kind, value), 1..3), 1..4)
    }

    proptest! {
        #[test]
        fn c19_two_names_are_the_same_only_if_they_are_equal(one in rdns(), other in rdns()) {
            let (one_text, other_text) = (canonical(&one), canonical(&other));
            prop_assert_eq!(likeness(&one_text, &one_text), Likeness::Same);
            prop_assert_eq!(likeness(&one_text, &other_text) == Likeness::Same, one == other);
        }
    }
}
