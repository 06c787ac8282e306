//! The format of `GLEXEC_ENV` (requirement G7): for each variable the base64 of `NAME=VALUE` and one
//! space; all of it zlib-compressed; the result in base64.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

/// Never carried: they belong to the account on either side.
pub const NEVER: [&str; 5] = ["HOME", "LOGNAME", "USER", "X509_USER_PROXY", "_"];

/// Largest environment that is unwrapped, in bytes before decoding; the kernel takes no more in one call.
const MAX_TEXT: u64 = 16 * 1024 * 1024;

/// Why a text is not a wrapped environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrapError {
    /// The outer base64.
    Outside,
    /// The compressed data.
    Compression,
    /// Larger than any environment.
    TooLarge,
    /// A variable's base64.
    Inside,
    /// A variable without `=` or without a name.
    NotAVariable,
}

impl fmt::Display for WrapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outside => "GLEXEC_ENV is not base64",
            Self::Compression => "GLEXEC_ENV does not hold zlib-compressed data",
            Self::TooLarge => "GLEXEC_ENV holds more than any environment can",
            Self::Inside => "a variable in GLEXEC_ENV is not base64",
            Self::NotAVariable => "GLEXEC_ENV holds something that is not NAME=VALUE",
        })
    }
}

impl std::error::Error for WrapError {}

/// Is a variable left out? Whole names are compared.
fn is_excluded(name: &OsStr, exclude: &[OsString]) -> bool {
    NEVER.iter().any(|known| name == *known) || exclude.iter().any(|known| name == known)
}

/// One value for `GLEXEC_ENV` out of an environment.
///
/// # Errors
/// Only if memory does not suffice.
pub fn wrap<'a>(
    environment: impl IntoIterator<Item = (&'a OsStr, &'a OsStr)>,
    exclude: &[OsString],
) -> std::io::Result<String> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    for (name, value) in environment {
        // An older value of itself would only make it larger each time.
        if is_excluded(name, exclude) || name == "GLEXEC_ENV" {
            continue;
        }
        let pair = [name.as_bytes(), b"=", value.as_bytes()].concat();
        packed.write_all(STANDARD.encode(pair).as_bytes())?;
        packed.write_all(b" ")?;
    }
    Ok(STANDARD.encode(packed.finish()?))
}

/// The environment in a value of `GLEXEC_ENV`. Line breaks in the base64 do no harm.
///
/// # Errors
/// If it is not one.
pub fn unwrap(text: &[u8], exclude: &[OsString]) -> Result<Vec<(OsString, OsString)>, WrapError> {
    let compact = |text: &[u8]| -> Vec<u8> {
        text.iter()
            .copied()
            .filter(|b| !b.is_ascii_whitespace())
            .collect()
    };
    let packed = STANDARD
        .decode(compact(text))
        .map_err(|_| WrapError::Outside)?;
    let mut plain = Vec::new();
    ZlibDecoder::new(packed.as_slice())
        .take(MAX_TEXT + 1)
        .read_to_end(&mut plain)
        .map_err(|_| WrapError::Compression)?;
    if u64::try_from(plain.len()).unwrap_or(u64::MAX) > MAX_TEXT {
        return Err(WrapError::TooLarge);
    }
    let mut environment = Vec::new();
    for item in plain.split(|b| *b == b' ').filter(|item| !item.is_empty()) {
        let pair = STANDARD
            .decode(compact(item))
            .map_err(|_| WrapError::Inside)?;
        let place = pair
            .iter()
            .position(|b| *b == b'=')
            .filter(|place| *place > 0 && !pair.contains(&0))
            .ok_or(WrapError::NotAVariable)?;
        let (name, value) = pair.split_at(place);
        let name = OsString::from_vec(name.to_vec());
        if !is_excluded(&name, exclude) {
            let value = value.get(1..).unwrap_or_default();
            environment.push((name, OsString::from_vec(value.to_vec())));
        }
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        list.iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    fn round_trip(list: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
        let borrowed = list
            .iter()
            .map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        let text = wrap(borrowed, &[]).expect("fits");
        assert!(text.bytes().all(|b| b.is_ascii_graphic()));
        unwrap(text.as_bytes(), &[]).expect("understood")
    }

    #[test]
    fn g7_any_value_survives() {
        let list = pairs(&[
            ("H", "short name"),
            ("US", "part of USER"),
            ("LINES", "a\nb\n"),
            ("EQUALS", "=a=b=="),
            ("SPACES", "  a b  "),
            ("UTF8", "Grüße 😀"),
            ("EMPTY", ""),
            ("BASH_FUNC_x%%", "() { :; }"),
        ]);
        assert_eq!(round_trip(&list), list);
    }

    #[test]
    fn g7_the_accounts_own_variables_are_never_carried() {
        let mut list = pairs(&NEVER.map(|name| (name, "x")));
        list.extend(pairs(&[
            ("A", "1"),
            ("B", "2"),
            ("AB", "3"),
            ("GLEXEC_ENV", "old"),
        ]));
        assert_eq!(
            round_trip(&list),
            pairs(&[("A", "1"), ("B", "2"), ("AB", "3")])
        );
        // On either side, and by whole names.
        let borrowed = || list.iter().map(|(n, v)| (n.as_os_str(), v.as_os_str()));
        let less = wrap(borrowed(), &["A".into()]).expect("fits");
        assert_eq!(
            unwrap(less.as_bytes(), &["B".into()]),
            Ok(pairs(&[("AB", "3")]))
        );
    }

    #[test]
    fn g7_what_is_not_a_wrapped_environment_is_refused() {
        let packed = |inside: &[u8]| {
            let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
            packed.write_all(inside).expect("fits");
            STANDARD.encode(packed.finish().expect("fits"))
        };
        assert_eq!(unwrap(b"!!", &[]), Err(WrapError::Outside));
        assert_eq!(unwrap(b"AAAA", &[]), Err(WrapError::Compression));
        assert_eq!(
            unwrap(packed(b"!!").as_bytes(), &[]),
            Err(WrapError::Inside)
        );
        for bad in ["QQ==", "PUE=", "QT0A"] {
            let text = packed(bad.as_bytes());
            assert_eq!(
                unwrap(text.as_bytes(), &[]),
                Err(WrapError::NotAVariable),
                "{bad}"
            );
        }
        let bomb = packed(&vec![b'A'; 20 * 1024 * 1024]);
        assert_eq!(unwrap(bomb.as_bytes(), &[]), Err(WrapError::TooLarge));
        assert_eq!(unwrap(packed(b"").as_bytes(), &[]), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn g7_anything_that_can_be_in_an_environment_survives(
            list in proptest::collection::vec(
                ("[A-Z][A-Z0-9]{0,8}X", proptest::collection::vec(1..=255_u8, 0..60)),
                0..20,
            )
        ) {
            let list: Vec<_> = list
                .into_iter()
                .map(|(name, value)| (OsString::from(name), OsString::from_vec(value)))
                .collect();
            prop_assert_eq!(round_trip(&list), list);
        }

        #[test]
        fn g7_foreign_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = unwrap(&bytes, &[]);
            let _ = unwrap(STANDARD.encode(&bytes).as_bytes(), &[]);
        }
    }
}
