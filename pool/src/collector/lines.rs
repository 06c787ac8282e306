//! Reading ads so that equal lines share their memory.
//!
//! The slots of a pool differ in few attributes. A line that was read before is not parsed again: its name and
//! expression are taken from the one before, which saves most of the time and memory of an update.

use std::borrow::Cow;
use std::collections::HashMap;

use cedar::wire::WireError;
use cedar::{MessageReader, is_private};
use classad::{AttrName, ClassAd, Expr};

/// Lines kept in each of the two generations.
const KEPT: usize = 1 << 15;

/// Longer lines are not kept.
const LONGEST: usize = 1024;

/// Most lines of an ad (protocol 01 section 2.1).
const MAX_LINES: i64 = 1_000_000;

/// The line that announces a private attribute (protocol 01 section 2.4).
const SECRET: &[u8] = b"ZKM";

type Known = HashMap<Box<[u8]>, (AttrName, Expr)>;

/// Lines read before, in two generations: when the young one is full, it becomes the old one.
#[derive(Debug, Default)]
pub(super) struct Lines {
    young: Known,
    old: Known,
    /// Names of attributes whose values change all the time.
    names: HashMap<Box<str>, AttrName>,
}

impl Lines {
    /// Reads an ad, as [`MessageReader::ad`] does.
    pub(super) fn ad(&mut self, input: &mut MessageReader<'_>) -> Result<ClassAd, WireError> {
        let count = input.int()?;
        let left = i64::try_from(input.left()).unwrap_or(i64::MAX);
        if !(0..=MAX_LINES).contains(&count) || count > left {
            return Err(WireError::BadLineCount(count));
        }
        let mut ad = ClassAd::new();
        for line in 0..count {
            let mut text = input.str_bytes()?;
            let secret = text == SECRET;
            if secret {
                text = input.str_bytes()?;
            }
            let (name, expr) = self
                .line(text, secret)
                .map_err(|source| WireError::BadLine { line, source })?;
            ad.insert(name, expr);
        }
        input.str_bytes()?;
        input.str_bytes()?;
        Ok(ad)
    }

    fn line(&mut self, text: &[u8], secret: bool) -> Result<(AttrName, Expr), classad::ParseError> {
        if secret || text.len() > LONGEST || is_number(text) {
            let (name, expr) = parse(text)?;
            return Ok((self.name(name), expr));
        }
        if let Some((name, expr)) = self.young.get(text) {
            return Ok((name.clone(), expr.clone()));
        }
        let found = match self.old.remove(text) {
            Some(found) => found,
            None => {
                let (name, expr) = parse(text)?;
                (self.name(name), expr)
            }
        };
        if !is_private(found.0.as_str()) {
            if self.young.len() >= KEPT {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(text.into(), found.clone());
        }
        Ok(found)
    }

    fn name(&mut self, name: AttrName) -> AttrName {
        if let Some(known) = self.names.get(name.as_str()) {
            return known.clone();
        }
        if self.names.len() < KEPT {
            self.names.insert(name.as_str().into(), name.clone());
        }
        name
    }
}

fn parse(text: &[u8]) -> Result<(AttrName, Expr), classad::ParseError> {
    let text: Cow<'_, str> = String::from_utf8_lossy(text);
    classad::parse_assignment_old(&text)
}

/// Whether the value begins as a number does: such values are small and seldom come twice.
fn is_number(line: &[u8]) -> bool {
    let value = line.split(|byte| *byte == b'=').nth(1).unwrap_or_default();
    let first = value.iter().find(|byte| !byte.is_ascii_whitespace());
    first.is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use cedar::{Coding, MessageWriter};

    use super::*;

    #[test]
    fn an_ad_reads_the_same_with_and_without_the_memory_of_lines() {
        let ad = ClassAd::parse_old(
            "Name = \"slot1@x\"\nCpus = 4\nStart = TARGET.RequestCpus <= Cpus\nLoad = -0.5\nClaimId = \"<1.2.3.4:5>#1#1#k\"",
        )
        .unwrap();
        let mut message = MessageWriter::new(Coding::Encrypted);
        message.ad(&ad).ad(&ad).int(7);
        let body = message.finish().unwrap();
        let mut lines = Lines::default();
        let mut reader = MessageReader::new(Coding::Encrypted, &body);
        assert_eq!(lines.ad(&mut reader).unwrap(), ad);
        assert_eq!(lines.ad(&mut reader).unwrap(), ad);
        assert_eq!(reader.int().unwrap(), 7);
        // secrets are not remembered
        let remembered = |text: &str| {
            lines
                .young
                .keys()
                .any(|line| line.starts_with(text.as_bytes()))
        };
        assert!(remembered("Name") && !remembered("ClaimId"));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut lines = Lines::default();
        for number in 0..3 * KEPT {
            lines
                .line(format!("A = \"{number}\"").as_bytes(), false)
                .unwrap();
        }
        assert!(lines.young.len() + lines.old.len() <= 2 * KEPT);
    }
}
