//! Distinguished names: their text, their normalized form, and the hashes CA directories use.

use md5::{Digest as _, Md5};
use openssl::sha::Sha1;

use crate::der::{NotDer, Reader, dotted_oid, push_header, tag};
use crate::problem::NameProblem;

/// A name, kept as received, with its normalized form beside it.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    der: Vec<u8>,
    /// Normalized RDNs one after the other. Byte for byte what OpenSSL hashes, see [`Name::hash`].
    canonical: Vec<u8>,
    /// Where each normalized RDN ends in `canonical`.
    ends: Vec<usize>,
    /// How many attributes the last RDN has, and the type of its first.
    last_rdn: Option<(usize, Vec<u8>)>,
}

impl Name {
    /// Takes a DER `Name` (RFC 5280 4.1.2.4).
    ///
    /// # Errors
    /// [`NameProblem::Malformed`] when the structure is not that of a name.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, NameProblem> {
        Self::read(der).map_err(|NotDer| NameProblem::Malformed)
    }

    fn read(der: &[u8]) -> Result<Self, NotDer> {
        let mut canonical = Vec::with_capacity(der.len());
        let mut ends = Vec::new();
        let mut last_rdn = None;
        for_each_rdn(der, |attributes| {
            let mut members: Vec<Vec<u8>> = attributes.iter().map(Attribute::canonical).collect();
            members.sort();
            push_header(&mut canonical, tag::SET, members.iter().map(Vec::len).sum());
            members
                .iter()
                .for_each(|member| canonical.extend_from_slice(member));
            ends.push(canonical.len());
            last_rdn = attributes
                .first()
                .map(|first| (attributes.len(), first.oid.to_vec()));
            Ok(())
        })?;
        Ok(Self {
            der: der.to_vec(),
            canonical,
            ends,
            last_rdn,
        })
    }

    /// Equality by RFC 5280 7.1: string types, letter case and runs of blanks do not matter.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.canonical == other.canonical
    }

    /// Whether this is `issuer` plus exactly one RDN that holds exactly one CN (RFC 3820 3.4).
    pub(crate) fn extends_by_cn(&self, issuer: &Self) -> bool {
        self.ends.len() == issuer.ends.len() + 1
            && self.canonical.starts_with(&issuer.canonical)
            && self
                .last_rdn
                .as_ref()
                .is_some_and(|(count, oid)| *count == 1 && oid == CN)
    }

    /// Whether this is `issuer` plus `CN=proxy` (`Some(false)`) or `CN=limited proxy` (`Some(true)`),
    /// the mark of the Globus proxies from before RFC 3820.
    pub(crate) fn legacy_proxy_of(&self, issuer: &Self) -> Option<bool> {
        if !self.extends_by_cn(issuer) {
            return None;
        }
        let marks = [("proxy", false), ("limited proxy", true)];
        marks
            .iter()
            .find(|(mark, _)| {
                let own = Attribute {
                    oid: CN,
                    tag: UTF8_STRING,
                    value: mark.as_bytes(),
                };
                self.canonical.ends_with(&own.canonical())
            })
            .map(|(_, is_limited)| *is_limited)
    }

    /// The hash by which OpenSSL 1.0 and later name CA files: SHA-1 of the normalized form, first
    /// four bytes, little endian.
    pub(crate) fn hash(&self) -> Option<u32> {
        let mut hash = Sha1::new();
        hash.update(&self.canonical);
        first_word(&hash.finish())
    }

    /// The hash of OpenSSL 0.9.8 and older: MD5 of the name as encoded. OpenSSL itself does not compute it where
    /// MD5 is switched off (FIPS), but the files are there under it; nothing is trusted for a hash.
    pub(crate) fn old_hash(&self) -> Option<u32> {
        first_word(&Md5::digest(&self.der))
    }

    /// The text described at [`Identity`](crate::Identity).
    ///
    /// # Errors
    /// An empty name, control characters, or values that are not text.
    pub(crate) fn text(&self) -> Result<String, NameProblem> {
        if self.ends.is_empty() {
            return Err(NameProblem::Empty);
        }
        let mut out = String::with_capacity(self.der.len());
        let mut problem = None;
        for_each_rdn(&self.der, |attributes| {
            for (index, attribute) in attributes.iter().enumerate() {
                out.push(if index == 0 { '/' } else { '+' });
                if let Err(found) = attribute.push_text(&mut out) {
                    problem = problem.or(Some(found));
                }
            }
            Ok(())
        })
        .map_err(|NotDer| NameProblem::Malformed)?;
        problem.map_or(Ok(out), Err)
    }

    /// How files that people write may spell this name: as [`Name::text`] does, and without the
    /// backslashes, as OpenSSL prints names on one line, if that text has only one reading. Empty
    /// when the name has no text.
    pub(crate) fn spellings(&self) -> Vec<String> {
        let Ok(text) = self.text() else {
            return Vec::new();
        };
        if !text.contains('\\') {
            return vec![text];
        }
        let mut plain = String::with_capacity(text.len());
        let mut has_one_reading = true;
        let walked = for_each_rdn(&self.der, |attributes| {
            for (index, attribute) in attributes.iter().enumerate() {
                plain.push(if index == 0 { '/' } else { '+' });
                let mut part = String::new();
                attribute.push_text(&mut part).map_err(|_| NotDer)?;
                let part = without_escapes(&part);
                let value = part.split_once('=').map_or("", |(_, value)| value);
                // `/CN=host/a.example` can only be one attribute, `/CN=a/O=b` may be two.
                has_one_reading &= !value
                    .split(['/', '+'])
                    .skip(1)
                    .any(|piece| piece.contains('='));
                plain.push_str(&part);
            }
            Ok(())
        });
        if walked.is_ok() && has_one_reading {
            vec![text, plain]
        } else {
            vec![text]
        }
    }

    /// Whether a line of a file that people write is this name.
    pub(crate) fn is_spelled(&self, line: &str) -> bool {
        let line = modern_types(line);
        self.spellings().contains(&line)
    }

    /// For messages: printable, at most 200 characters, never an error.
    pub(crate) fn display(&self) -> String {
        let mut text = match self.text() {
            Ok(text) => text,
            Err(NameProblem::Empty) => String::from("(empty name)"),
            Err(_) => String::from("(unprintable name)"),
        };
        if text.len() > DISPLAY_LIMIT {
            text.truncate(DISPLAY_LIMIT); // ASCII, so every index is a boundary
            text.push_str("...");
        }
        text
    }
}

/// A name as text with today's spelling of attribute types that had others.
pub(crate) fn modern_types(text: &str) -> String {
    let mut out = text.to_owned();
    for (old, new) in [
        ("/Email=", "/emailAddress="),
        ("/E=", "/emailAddress="),
        ("/USERID=", "/UID="),
    ] {
        if out.contains(old) {
            out = out.replace(old, new);
        }
    }
    out
}

/// Takes the backslash before `/`, `+` and itself away; `\xHH` stays.
fn without_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some(next @ ('/' | '+' | '\\'))) => {
                out.push(*next);
                characters.next();
            }
            _ => out.push(character),
        }
    }
    out
}

const DISPLAY_LIMIT: usize = 200;
const UTF8_STRING: u8 = 12;
const CN: &[u8] = &[0x55, 4, 3];

/// Short names of attribute types as OpenSSL prints them (X.520, RFC 4519, PKCS#9); everything else
/// is shown as dotted numbers.
const SHORT_NAMES: &[(&[u8], &str)] = &[
    (CN, "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 13], "description"),
    (&[0x55, 4, 17], "postalCode"),
    (&[0x55, 4, 41], "name"),
    (&[0x55, 4, 42], "GN"),
    (&[0x55, 4, 43], "initials"),
    (&[0x55, 4, 44], "generationQualifier"),
    (&[0x55, 4, 46], "dnQualifier"),
    (&[0x55, 4, 65], "pseudonym"),
    (&[0x55, 4, 97], "organizationIdentifier"),
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1],
        "emailAddress",
    ),
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 2],
        "unstructuredName",
    ),
    (&[9, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 100, 1, 25], "DC"),
    (&[9, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 100, 1, 1], "UID"),
];

struct Attribute<'a> {
    oid: &'a [u8],
    tag: u8,
    value: &'a [u8],
}

impl Attribute<'_> {
    /// The value as characters; `None` if its type is not a string type or it is badly encoded.
    /// Teletex and the ASCII types are read as Latin-1, as OpenSSL does.
    fn characters(&self) -> Option<String> {
        match self.tag {
            UTF8_STRING => std::str::from_utf8(self.value).ok().map(str::to_owned),
            // Numeric, Printable, Teletex, IA5, Visible
            18 | 19 | 20 | 22 | 26 => Some(self.value.iter().map(|b| char::from(*b)).collect()),
            // Universal
            28 => wide(self.value, |b: [u8; 4]| u32::from_be_bytes(b)),
            // BMP
            30 => wide(self.value, |b: [u8; 2]| u32::from(u16::from_be_bytes(b))),
            _ => None,
        }
    }

    /// The attribute as OpenSSL normalizes it (`x509_name_canon`): text as UTF-8 in lower case
    /// ASCII with single blanks and none at the ends, anything else unchanged.
    fn canonical(&self) -> Vec<u8> {
        let folded = match self.tag {
            18 => None, // OpenSSL leaves NumericString alone
            _ => self.characters(),
        };
        let folded = folded.map(|text| {
            let mut out = String::with_capacity(text.len());
            for word in text.split(is_blank).filter(|word| !word.is_empty()) {
                if !out.is_empty() {
                    out.push(' ');
                }
                out.extend(word.chars().map(|c| c.to_ascii_lowercase()));
            }
            out
        });
        let (value_tag, value) = match &folded {
            Some(text) => (UTF8_STRING, text.as_bytes()),
            None => (self.tag, self.value),
        };
        let mut content = Vec::with_capacity(self.oid.len() + value.len() + 8);
        push_header(&mut content, tag::OID, self.oid.len());
        content.extend_from_slice(self.oid);
        push_header(&mut content, value_tag, value.len());
        content.extend_from_slice(value);
        let mut out = Vec::with_capacity(content.len() + 4);
        push_header(&mut out, tag::SEQUENCE, content.len());
        out.extend_from_slice(&content);
        out
    }

    fn push_text(&self, out: &mut String) -> Result<(), NameProblem> {
        match SHORT_NAMES.iter().find(|(oid, _)| *oid == self.oid) {
            Some((_, short)) => out.push_str(short),
            None => out.push_str(&dotted_oid(self.oid).ok_or(NameProblem::Malformed)?),
        }
        out.push('=');
        for character in self.characters().ok_or(NameProblem::NotText)?.chars() {
            match character {
                '/' | '+' | '\\' => {
                    out.push('\\');
                    out.push(character);
                }
                ' '..='~' => out.push(character),
                _ if character.is_control() => return Err(NameProblem::Control),
                _ => {
                    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                        out.push_str(&format!("\\x{byte:02X}"));
                    }
                }
            }
        }
        Ok(())
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

fn wide<const N: usize>(value: &[u8], unit: impl Fn([u8; N]) -> u32) -> Option<String> {
    let chunks = value.chunks_exact(N);
    if !chunks.remainder().is_empty() {
        return None;
    }
    chunks
        .map(|chunk| chunk.try_into().ok().and_then(|b| char::from_u32(unit(b))))
        .collect()
}

fn for_each_rdn<'a>(
    der: &'a [u8],
    mut visit: impl FnMut(&[Attribute<'a>]) -> Result<(), NotDer>,
) -> Result<(), NotDer> {
    let mut outer = Reader::new(der);
    let mut rdns = outer.enter(tag::SEQUENCE)?;
    outer.finish()?;
    while !rdns.is_empty() {
        let mut members = rdns.enter(tag::SET)?;
        let mut attributes = Vec::with_capacity(1);
        while !members.is_empty() {
            let mut member = members.enter(tag::SEQUENCE)?;
            let oid = member.expect(tag::OID)?;
            let value = member.element()?;
            member.finish()?;
            attributes.push(Attribute {
                oid,
                tag: value.tag,
                value: value.content,
            });
        }
        if attributes.is_empty() {
            return Err(NotDer);
        }
        visit(&attributes)?;
    }
    Ok(())
}

fn first_word(digest: &[u8]) -> Option<u32> {
    digest.first_chunk().map(|word| u32::from_le_bytes(*word))
}

#[cfg(test)]
#[path = "name_tests.rs"]
mod tests;
