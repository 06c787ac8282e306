//! Cutting a PEM bundle into certificates and one private key (rules C1 and C2: sizes, CR LF, text
//! between blocks, key anywhere, no encrypted key, no second key, no NUL).

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::der::{Reader, tag};
use crate::problem::BundleProblem;

/// Largest accepted bundle, bytes. A proxy with VOMS attributes has 5 to 20 thousand.
pub const MAX_BUNDLE_BYTES: usize = 256 * 1024;

/// Most certificates in a bundle, trust anchor included.
pub const MAX_CERTIFICATES: usize = 20;

/// How a private key is encoded, told by the label of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyForm {
    /// `RSA PRIVATE KEY`, RFC 8017 A.1.2.
    Pkcs1,
    /// `PRIVATE KEY`, RFC 5208.
    Pkcs8,
    /// `EC PRIVATE KEY`, RFC 5915.
    Sec1,
}

/// A private key as DER; wiped on drop, no `Debug`.
pub(crate) struct KeyBlock {
    pub(crate) form: KeyForm,
    pub(crate) der: Zeroizing<Vec<u8>>,
}

/// The blocks of a credential file.
pub(crate) struct Bundle {
    /// DER certificates in file order, exact duplicates included.
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) key: Option<KeyBlock>,
}

impl Bundle {
    /// Reads a whole file.
    ///
    /// # Errors
    /// See [`BundleProblem`]; a missing key is not an error here.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, BundleProblem> {
        if text.len() > MAX_BUNDLE_BYTES {
            return Err(BundleProblem::TooLarge {
                limit: MAX_BUNDLE_BYTES,
            });
        }
        if text.contains(&0) {
            return Err(BundleProblem::NulByte);
        }
        let mut certificates = Vec::new();
        let mut key = None;
        for block in Blocks::new(text) {
            let block = block?;
            let form = match block.label {
                b"CERTIFICATE" | b"X509 CERTIFICATE" => None,
                b"RSA PRIVATE KEY" => Some(KeyForm::Pkcs1),
                b"PRIVATE KEY" => Some(KeyForm::Pkcs8),
                b"EC PRIVATE KEY" => Some(KeyForm::Sec1),
                b"ENCRYPTED PRIVATE KEY" => return Err(BundleProblem::KeyEncrypted),
                label if label.ends_with(b"PRIVATE KEY") => {
                    return Err(BundleProblem::KeyMalformed);
                }
                // Other programs take this for a certificate, and so for the first one.
                b"TRUSTED CERTIFICATE" => {
                    return Err(BundleProblem::Malformed { line: block.line });
                }
                // A CRL, a request, curve parameters: neither trusted nor used.
                _ => continue,
            };
            if form.is_some() && block.encrypted {
                return Err(BundleProblem::KeyEncrypted);
            }
            let der = block.decode()?;
            match form {
                None if certificates.len() == MAX_CERTIFICATES => {
                    return Err(BundleProblem::TooMany {
                        limit: MAX_CERTIFICATES,
                    });
                }
                None => certificates.push(der.to_vec()),
                Some(_) if key.is_some() => return Err(BundleProblem::TwoKeys),
                Some(form) => key = Some(KeyBlock { form, der }),
            }
        }
        if certificates.is_empty() {
            return Err(BundleProblem::Empty);
        }
        Ok(Self { certificates, key })
    }
}

/// The certificates of a file in the CA directory: at most `limit`, everything else in it ignored.
pub(crate) fn certificates_only(text: &[u8], limit: usize) -> Vec<Vec<u8>> {
    Blocks::new(text)
        .filter_map(Result::ok)
        .filter(|block| matches!(block.label, b"CERTIFICATE" | b"X509 CERTIFICATE"))
        .filter_map(|block| block.decode().ok())
        .take(limit)
        .map(|der| der.to_vec())
        .collect()
}

/// The first CRL of a PEM text; `None` if it holds none.
pub(crate) fn crl(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    Blocks::new(text)
        .filter_map(Result::ok)
        .find(|block| block.label == b"X509 CRL")
        .and_then(|block| block.decode().ok())
        .map(|der| Cow::Owned(der.to_vec()))
}

/// Appends a PEM block with lines of 64 characters (RFC 7468 2).
pub(crate) fn push_block(out: &mut Vec<u8>, label: &str, der: &[u8]) {
    out.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
    // Key material passes through here: the line buffer is wiped.
    let mut buffer = Zeroizing::new([0; 64]);
    for line in der.chunks(48) {
        // 48 bytes are 64 characters, so the buffer is never too small.
        let length = BASE64
            .encode_slice(line, buffer.as_mut_slice())
            .unwrap_or(0);
        out.extend_from_slice(buffer.get(..length).unwrap_or_default());
        out.push(b'\n');
    }
    out.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
}

/// Cuts DER certificates that follow each other without anything between.
pub(crate) fn split_der(mut bytes: &[u8], limit: usize) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        if found.len() == limit {
            return None;
        }
        let element = Reader::new(bytes).element().ok()?;
        if element.tag != tag::SEQUENCE {
            return None;
        }
        found.push(element.whole);
        bytes = bytes.get(element.whole.len()..)?;
    }
    Some(found)
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

struct Block<'a> {
    label: &'a [u8],
    /// Line number of the BEGIN line, from 1.
    line: usize,
    /// A header said that the content is encrypted (RFC 1421 4.6.1.1).
    encrypted: bool,
    /// The base64 text with its line breaks.
    body: &'a [u8],
}

impl Block<'_> {
    /// The one DER element in the block.
    fn decode(&self) -> Result<Zeroizing<Vec<u8>>, BundleProblem> {
        let malformed = BundleProblem::Malformed { line: self.line };
        let mut packed = Zeroizing::new(Vec::with_capacity(self.body.len()));
        packed.extend(
            self.body
                .iter()
                .filter(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n')),
        );
        let mut der = Zeroizing::new(vec![0; packed.len() / 4 * 3 + 3]);
        let written = BASE64
            .decode_slice(packed.as_slice(), &mut der)
            .map_err(|_| malformed)?;
        der.truncate(written);
        let mut reader = Reader::new(&der);
        reader.element().map_err(|_| malformed)?;
        reader.finish().map_err(|_| malformed)?;
        Ok(der)
    }
}

/// Finds the blocks; whatever is between them is skipped (RFC 7468 2: explanatory text).
struct Blocks<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Blocks<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self {
            rest: text,
            line: 0,
        }
    }

    /// The next line without its line end.
    fn next_line(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.line += 1;
        let (line, rest) = match self.rest.iter().position(|b| *b == b'\n') {
            Some(end) => (self.rest.get(..end)?, self.rest.get(end + 1..)?),
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        Some(line.trim_ascii_end())
    }

    fn read_block(&mut self, label: &'a [u8]) -> Result<Block<'a>, BundleProblem> {
        let line = self.line;
        let malformed = BundleProblem::Malformed { line };
        let mut encrypted = false;
        let mut body = self.rest;
        let mut in_headers = true;
        loop {
            let before = self.rest;
            let text = self.next_line().ok_or(malformed)?;
            if let Some(end) = boundary(text, b"-----END ") {
                if end != label {
                    return Err(malformed);
                }
                let length = body.len() - before.len();
                let body = body.get(..length).ok_or(malformed)?;
                return Ok(Block {
                    label,
                    line,
                    encrypted,
                    body,
                });
            }
            if text.starts_with(b"-----") {
                return Err(malformed);
            }
            // RFC 1421 headers, if any, come before an empty line; base64 has no colon.
            if in_headers {
                if text.contains(&b':') {
                    encrypted |= text.starts_with(b"Proc-Type:") || text.starts_with(b"DEK-Info:");
                    body = self.rest;
                } else {
                    in_headers = false;
                }
            }
        }
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Result<Block<'a>, BundleProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = self.next_line()?;
            if let Some(label) = boundary(line, b"-----BEGIN ") {
                return Some(self.read_block(label));
            }
        }
    }
}

/// The label of a boundary line.
fn boundary<'a>(line: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(prefix)?.strip_suffix(b"-----")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::der::push_header;

    fn sequence(content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_header(&mut out, tag::SEQUENCE, content.len());
        out.extend_from_slice(content);
        out
    }

    fn certificate(fill: u8) -> String {
        let mut out = Vec::new();
        push_block(&mut out, "CERTIFICATE", &sequence(&[fill; 100]));
        String::from_utf8(out).unwrap()
    }

    fn key(label: &str) -> String {
        let mut out = Vec::new();
        push_block(&mut out, label, &sequence(&[1; 40]));
        String::from_utf8(out).unwrap()
    }

    fn problem(text: impl AsRef<[u8]>) -> BundleProblem {
        Bundle::parse(text.as_ref()).err().expect("must be refused")
    }

    #[test]
    fn c2_key_may_be_anywhere_and_text_between_is_skipped() {
        let (a, b, k) = (certificate(1), certificate(2), key("RSA PRIVATE KEY"));
        for text in [
            format!("{a}{k}{b}"),
            format!("{k}{a}{b}"),
            format!("subject=/CN=x\n{a}junk: yes\n\n{b}{k}trailing words"),
            format!("{a}{k}{b}").replace('\n', "\r\n"),
            format!("{a}{k}{b}").trim_end().to_owned(),
        ] {
            let bundle = Bundle::parse(text.as_bytes()).unwrap();
            assert_eq!(
                bundle.certificates,
                [sequence(&[1; 100]), sequence(&[2; 100])]
            );
            assert!(bundle.key.is_some());
        }
    }

    #[test]
    fn key_forms_are_told_by_their_label() {
        for (label, form) in [
            ("RSA PRIVATE KEY", KeyForm::Pkcs1),
            ("PRIVATE KEY", KeyForm::Pkcs8),
            ("EC PRIVATE KEY", KeyForm::Sec1),
        ] {
            let bundle = Bundle::parse((certificate(1) + &key(label)).as_bytes()).unwrap();
            assert_eq!(bundle.key.unwrap().form, form);
        }
    }

    #[test]
    fn c1_limits_hold_and_one_more_is_refused() {
        let twenty: String = (0..20).map(certificate).collect();
        assert_eq!(
            Bundle::parse(twenty.as_bytes()).unwrap().certificates.len(),
            20
        );
        assert_eq!(
            problem(twenty + &certificate(21)),
            BundleProblem::TooMany { limit: 20 }
        );

        let mut text = certificate(1).into_bytes();
        text.resize(MAX_BUNDLE_BYTES, b'\n');
        assert!(Bundle::parse(&text).is_ok());
        text.push(b'\n');
        assert_eq!(
            problem(text),
            BundleProblem::TooLarge {
                limit: MAX_BUNDLE_BYTES
            }
        );
    }

    #[test]
    fn c2_damage_is_refused_with_the_line_of_its_block() {
        let a = certificate(1);
        assert_eq!(problem(""), BundleProblem::Empty);
        assert_eq!(problem("hello"), BundleProblem::Empty);
        assert_eq!(problem(key("PRIVATE KEY")), BundleProblem::Empty);
        assert_eq!(problem(format!("{a}\0")), BundleProblem::NulByte);
        let at = |line| BundleProblem::Malformed { line };
        assert_eq!(problem(a.replace("-----END", "----END")), at(1));
        assert_eq!(
            problem(format!("one\ntwo\n{}", a.replace("MGQ", "M*Q"))),
            at(3)
        );
        assert_eq!(
            problem(a.replace("END CERTIFICATE", "END PRIVATE KEY")),
            at(1)
        );
        assert_eq!(problem(format!("-----BEGIN CERTIFICATE-----\n{a}")), at(1));
        let mut trailing = sequence(&[1; 100]);
        trailing.push(5);
        let mut text = Vec::new();
        push_block(&mut text, "CERTIFICATE", &trailing);
        assert_eq!(problem(text), at(1));
        assert!(Bundle::parse((a + &key("EC PARAMETERS")).as_bytes()).is_ok());
    }

    #[test]
    fn c2_encrypted_and_second_keys_are_refused() {
        let a = certificate(1);
        let traditional = key("RSA PRIVATE KEY").replacen(
            "KEY-----\n",
            "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n",
            1,
        );
        assert_eq!(
            problem(format!("{a}{traditional}")),
            BundleProblem::KeyEncrypted
        );
        let pkcs8 = key("ENCRYPTED PRIVATE KEY");
        assert_eq!(problem(format!("{a}{pkcs8}")), BundleProblem::KeyEncrypted);
        let two = key("PRIVATE KEY") + &key("EC PRIVATE KEY");
        assert_eq!(problem(format!("{two}{a}")), BundleProblem::TwoKeys);
        assert_eq!(
            problem(a + &key("DSA PRIVATE KEY")),
            BundleProblem::KeyMalformed
        );
    }
}
