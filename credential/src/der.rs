//! A strict reader for the few DER values that are read by hand: names, the proxy extension,
//! private keys, and certificates sent one after the other. Definite lengths in their shortest
//! form only (X.690 10.1); it copies nothing and cannot loop.

/// Tags used in this crate (X.690 8.1.2, X.680).
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
}

/// The bytes are not DER of the expected shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotDer;

/// One tag, length and value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// Tag, length and content together.
    pub(crate) whole: &'a [u8],
}

/// Reads elements from the front of a byte slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next element, if any.
    pub(crate) fn peek_tag(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(crate) fn element(&mut self) -> Result<Element<'a>, NotDer> {
        let all = self.rest;
        let (&tag, after_tag) = all.split_first().ok_or(NotDer)?;
        if tag & 0x1f == 0x1f {
            return Err(NotDer); // multi-byte tags appear nowhere in what we read
        }
        let (&first, after_first) = after_tag.split_first().ok_or(NotDer)?;
        let (length, body) = if first < 0x80 {
            (usize::from(first), after_first)
        } else {
            let count = usize::from(first & 0x7f);
            if !(1..=4).contains(&count) {
                return Err(NotDer);
            }
            let (digits, body) = after_first.split_at_checked(count).ok_or(NotDer)?;
            let length = digits
                .iter()
                .fold(0usize, |sum, &d| (sum << 8) | usize::from(d));
            let shortest = length >= 0x80 && digits.first() != Some(&0);
            if !shortest {
                return Err(NotDer);
            }
            (length, body)
        };
        let (content, rest) = body.split_at_checked(length).ok_or(NotDer)?;
        let (whole, _) = all.split_at_checked(all.len() - rest.len()).ok_or(NotDer)?;
        self.rest = rest;
        Ok(Element {
            tag,
            content,
            whole,
        })
    }

    /// The content of the next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<&'a [u8], NotDer> {
        let element = self.element()?;
        if element.tag == tag {
            Ok(element.content)
        } else {
            Err(NotDer)
        }
    }

    /// A reader for the content of the next element, which must have this tag.
    pub(crate) fn enter(&mut self, tag: u8) -> Result<Self, NotDer> {
        self.expect(tag).map(Self::new)
    }

    /// An INTEGER that is not negative, as big-endian bytes without the sign byte.
    pub(crate) fn unsigned(&mut self) -> Result<&'a [u8], NotDer> {
        let content = self.expect(tag::INTEGER)?;
        match content {
            [] => Err(NotDer),
            [0] => Ok(content),
            [0, rest @ ..] if rest.first().is_some_and(|b| b & 0x80 != 0) => Ok(rest),
            [0, ..] => Err(NotDer),
            [first, ..] if first & 0x80 != 0 => Err(NotDer),
            _ => Ok(content),
        }
    }

    /// The content of the next element if it has this tag; otherwise nothing is taken.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, NotDer> {
        if self.peek_tag() == Some(tag) {
            self.expect(tag).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Every element that is left.
    pub(crate) fn elements(mut self) -> Result<Vec<Element<'a>>, NotDer> {
        let mut found = Vec::new();
        while !self.is_empty() {
            found.push(self.element()?);
        }
        Ok(found)
    }

    /// The end must have been reached.
    pub(crate) fn finish(self) -> Result<(), NotDer> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(NotDer)
        }
    }
}

/// Whether an INTEGER has no byte more than it needs, and one at least (X.690 8.3).
pub(crate) fn is_shortest(content: &[u8]) -> bool {
    match content {
        [] => false,
        [0, next, ..] => next & 0x80 != 0,
        [0xff, next, ..] => next & 0x80 == 0,
        _ => true,
    }
}

/// The content of an OBJECT IDENTIFIER as dotted numbers, or `None` if it is not one.
pub(crate) fn dotted_oid(content: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut arc: u64 = 0;
    let mut fresh = true;
    for &byte in content {
        if fresh && byte == 0x80 {
            return None; // padded
        }
        arc = arc.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
        fresh = byte & 0x80 == 0;
        if !fresh {
            continue;
        }
        if text.is_empty() {
            let first = (arc / 40).min(2);
            text = format!("{first}.{}", arc - first * 40);
        } else {
            text.push('.');
            text.push_str(&arc.to_string());
        }
        arc = 0;
    }
    (fresh && !text.is_empty()).then_some(text)
}

/// Appends a DER header for a value of `length` bytes.
pub(crate) fn push_header(out: &mut Vec<u8>, tag: u8, length: usize) {
    out.push(tag);
    if let Ok(short @ 0..=0x7f) = u8::try_from(length) {
        out.push(short);
        return;
    }
    let bytes = length.to_be_bytes();
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    let digits = bytes.get(zeros..).unwrap_or_default();
    // A usize has at most eight bytes, so the count fits.
    out.push(0x80 | u8::try_from(digits.len()).unwrap_or(0x7f));
    out.extend_from_slice(digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shortest_length_is_read() {
        assert!(Reader::new(&[4, 1, 7]).element().is_ok());
        for bad in [
            &[4u8, 0x81, 1, 7][..],
            &[4, 0x80, 7, 0, 0],
            &[4, 2, 7],
            &[4],
            &[],
            &[0x1f, 1, 1],
            &[4, 0x85, 0, 0, 0, 0, 1, 7],
        ] {
            assert_eq!(Reader::new(bad).element().err(), Some(NotDer), "{bad:?}");
        }
    }

    #[test]
    fn headers_are_read_back() {
        for length in [0usize, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let mut bytes = Vec::new();
            push_header(&mut bytes, tag::OCTET_STRING, length);
            bytes.resize(bytes.len() + length, 1);
            assert_eq!(Reader::new(&bytes).element().unwrap().content.len(), length);
        }
    }

    #[test]
    fn oids_are_dotted() {
        assert_eq!(dotted_oid(&[0x55, 4, 3]).unwrap(), "2.5.4.3");
        assert_eq!(
            dotted_oid(&[0x2b, 6, 1, 4, 1, 0x9b, 0x50]).unwrap(),
            "1.3.6.1.4.1.3536"
        );
        assert_eq!(dotted_oid(&[0x88, 0x37]).unwrap(), "2.999");
        assert_eq!(dotted_oid(&[]), None);
        assert_eq!(dotted_oid(&[0x55, 0x80, 1]), None);
        assert_eq!(dotted_oid(&[0x55, 0x84]), None);
    }
}
