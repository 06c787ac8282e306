//! The two times in a certificate or a revocation list (RFC 5280, 4.1 and 5.1), and nothing else of it: lists have
//! megabytes, and the times are in their first few hundred bytes. Nothing is verified here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::net::http::days;

/// How much of a file is decoded: names may be long, the times come after at most two of them.
const ENOUGH: usize = 24 * 1024;

/// When something is valid, Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// Begin of validity, or issue of a list.
    pub(crate) from: i64,
    /// End of validity, or the time the next list is due.
    pub(crate) until: Option<i64>,
}

/// Times of a certificate revocation list, PEM or DER.
pub(crate) fn list(file: &[u8]) -> Option<Times> {
    let bytes = decode(file)?;
    let (inner, _) = enter(&bytes)?;
    let (mut rest, _) = enter(inner)?;
    // The version is optional.
    if rest.first() == Some(&INTEGER) {
        rest = skip(rest)?;
    }
    // Algorithm, issuer.
    rest = skip(skip(rest)?)?;
    let (from, rest) = time(rest)?;
    Some(Times {
        from,
        until: time(rest).map(|(until, _)| until),
    })
}

/// Times of a certificate, PEM (the first of the file) or DER.
pub(crate) fn certificate(file: &[u8]) -> Option<Times> {
    let bytes = decode(file)?;
    let (inner, _) = enter(&bytes)?;
    let (mut rest, _) = enter(inner)?;
    if rest.first() == Some(&VERSION) {
        rest = skip(rest)?;
    }
    // Serial number, algorithm, issuer.
    rest = skip(skip(skip(rest)?)?)?;
    let (validity, _) = enter(rest)?;
    let (from, rest) = time(validity)?;
    let (until, _) = time(rest)?;
    Some(Times {
        from,
        until: Some(until),
    })
}

/// For the fuzzer: any bytes give an answer.
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = (list(bytes), certificate(bytes));
}

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`
const VERSION: u8 = 0xa0;

/// The beginning of the DER in a file.
fn decode(file: &[u8]) -> Option<Vec<u8>> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let Some(at) = file.windows(BEGIN.len()).position(|bytes| bytes == BEGIN) else {
        return file.get(..ENOUGH.min(file.len())).map(<[u8]>::to_vec);
    };
    let after = file.get(at..)?;
    let line = after.iter().position(|byte| *byte == b'\n')?;
    let mut text: Vec<u8> = after
        .get(line..)?
        .iter()
        .copied()
        .take_while(|byte| *byte != b'-')
        .filter(|byte| !byte.is_ascii_whitespace())
        .take(ENOUGH)
        .collect();
    // Whole groups of four; padding is at the very end only.
    text.truncate(text.len() / 4 * 4);
    STANDARD.decode(text).ok()
}

/// Splits off the head of a value: its tag, where its content begins, and how long it is said to be.
fn head(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (tag, first) = (*bytes.first()?, *bytes.get(1)?);
    if first < 0x80 {
        return Some((tag, 2, usize::from(first)));
    }
    let count = usize::from(first & 0x7f);
    if count == 0 || count > 4 {
        return None;
    }
    let end = count.checked_add(2)?;
    let length = bytes.get(2..end)?.iter().try_fold(0_usize, |sum, byte| {
        sum.checked_mul(256)?.checked_add(usize::from(*byte))
    })?;
    Some((tag, end, length))
}

/// The content of a sequence, as far as it is there, and what follows it.
fn enter(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (tag, from, length) = head(bytes)?;
    let end = from.checked_add(length)?.min(bytes.len());
    (tag == SEQUENCE).then_some(())?;
    Some((bytes.get(from..end)?, bytes.get(end..)?))
}

/// What follows a value that is all there.
fn skip(bytes: &[u8]) -> Option<&[u8]> {
    let (_, from, length) = head(bytes)?;
    bytes.get(from.checked_add(length)?..)
}

/// A time, and what follows it.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (tag, from, length) = head(bytes)?;
    let end = from.checked_add(length)?;
    let text = std::str::from_utf8(bytes.get(from..end)?).ok()?;
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let two = |at: usize| digits.get(at..at.checked_add(2)?)?.parse::<i64>().ok();
    let (year, at) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = two(0)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, 2)
        }
        (GENERALIZED_TIME, 14) => (two(0)? * 100 + two(2)?, 4),
        _ => return None,
    };
    let (month, day) = (two(at)?, two(at + 2)?);
    let (hour, minute, second) = (two(at + 4)?, two(at + 6)?, two(at + 8)?);
    let is_date = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    is_date.then_some((seconds, bytes.get(end..)?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Made by OpenSSL, and read by it.
    #[test]
    fn what_openssl_makes_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let run = |line: &str| {
            let output = Command::new("sh")
                .arg("-c")
                .arg(line)
                .current_dir(folder.path())
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8(output.stdout).unwrap()
        };
        std::fs::write(
            folder.path().join("ca.conf"),
            "[ca]\ndefault_ca=x\n[x]\ndatabase=index\ndefault_md=sha256\n",
        )
        .unwrap();
        run(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out cert -days 3 -subj '/DC=org/CN=Some CA' 2>&1 \
             && touch index && openssl ca -config ca.conf -gencrl -crldays 7 -keyfile key -cert cert -out crl 2>&1 \
             && openssl crl -in crl -outform DER -out crl.der",
        );
        let unix = |what: &str| -> i64 {
            let said = run(what);
            let date = said.trim().split_once('=').unwrap().1.to_owned();
            run(&format!("date -u -d '{date}' +%s"))
                .trim()
                .parse()
                .unwrap()
        };
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        let times = list(&read("crl")).unwrap();
        assert_eq!(Some(times), list(&read("crl.der")));
        assert_eq!(times.from, unix("openssl crl -in crl -noout -lastupdate"));
        assert_eq!(
            times.until,
            Some(unix("openssl crl -in crl -noout -nextupdate"))
        );
        let times = certificate(&read("cert")).unwrap();
        assert_eq!(times.from, unix("openssl x509 -in cert -noout -startdate"));
        assert_eq!(
            times.until,
            Some(unix("openssl x509 -in cert -noout -enddate"))
        );
        assert_eq!(list(&read("cert")), None);
    }

    #[test]
    fn times_have_two_spellings() {
        let of = |tag: u8, text: &str| {
            let mut bytes = vec![tag, u8::try_from(text.len()).unwrap()];
            bytes.extend(text.bytes());
            time(&bytes).map(|(seconds, _)| seconds)
        };
        assert_eq!(of(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(of(GENERALIZED_TIME, "20261126010000Z"), Some(1_795_654_800));
        assert_eq!(of(GENERALIZED_TIME, "20261326010000Z"), None);
        assert_eq!(of(UTC_TIME, "7001010000Z"), None);
        assert_eq!(of(UTC_TIME, "+00101000000Z"), None);
    }

    #[test]
    fn nonsense_gives_nothing() {
        for bytes in [
            &b""[..],
            b"-----BEGIN X509 CRL-----",
            b"-----BEGIN X-----\n!!!!\n",
            b"\x30\x84\xff\xff\xff\xff\x30",
            b"\x30\x80",
        ] {
            fuzz(bytes);
            assert_eq!(list(bytes), None);
        }
    }
}
