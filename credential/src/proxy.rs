//! The proxyCertInfo extension (RFC 3820 3.8) and what its policy language means.

use crate::der::{NotDer, Reader, dotted_oid, push_header, tag};
use crate::problem::ProxyProblem;

/// proxyCertInfo, 1.3.6.1.5.5.7.1.14 (RFC 3820 3.8).
pub(crate) const PROXY_CERT_INFO: &str = "1.3.6.1.5.5.7.1.14";
/// The extension of the draft (GT3) proxies, 1.3.6.1.4.1.3536.1.222 (Globus).
pub(crate) const DRAFT_PROXY_CERT_INFO: &str = "1.3.6.1.4.1.3536.1.222";

/// id-ppl-inheritAll, 1.3.6.1.5.5.7.21.1 (RFC 3820 3.8.2).
const INHERIT_ALL: &str = "1.3.6.1.5.5.7.21.1";
/// The limited proxy policy of Globus, which HTCondor uses in its delegations too.
const LIMITED: &str = "1.3.6.1.4.1.3536.1.1.1.9";

/// What a proxy may do with the user's rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Everything.
    InheritAll,
    /// Everything but starting processes, by the Globus convention.
    Limited,
    /// A language that is not accepted: independent, any, or one nobody knows.
    Other(String),
}

/// A readable proxyCertInfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyInfo {
    pub(crate) path_length: Option<u32>,
    pub(crate) policy: Policy,
    pub(crate) has_policy_text: bool,
}

impl ProxyInfo {
    /// Reads the value of the extension.
    ///
    /// # Errors
    /// [`ProxyProblem::Extension`] on anything but
    /// `SEQUENCE { pathLen INTEGER (0..) OPTIONAL, SEQUENCE { language OID, policy OCTET STRING OPTIONAL } }`.
    pub(crate) fn parse(value: &[u8]) -> Result<Self, ProxyProblem> {
        Self::read(value).map_err(|NotDer| ProxyProblem::Extension)
    }

    /// What the name of a proxy from before the extension says.
    pub(crate) fn legacy(is_limited: bool) -> Self {
        let policy = if is_limited {
            Policy::Limited
        } else {
            Policy::InheritAll
        };
        Self {
            path_length: None,
            policy,
            has_policy_text: false,
        }
    }

    /// Reads the value of the draft (GT3) extension, which has the policy first and the path length
    /// in a tag of its own, `SEQUENCE { policy, [1] EXPLICIT INTEGER OPTIONAL }`, or the later order.
    ///
    /// # Errors
    /// [`ProxyProblem::Extension`] on anything else.
    pub(crate) fn parse_draft(value: &[u8]) -> Result<Self, ProxyProblem> {
        Self::read_draft(value).map_err(|NotDer| ProxyProblem::Extension)
    }

    fn read_draft(value: &[u8]) -> Result<Self, NotDer> {
        let mut outer = Reader::new(value);
        let mut body = outer.enter(tag::SEQUENCE)?;
        outer.finish()?;
        if body.peek_tag() != Some(tag::SEQUENCE) {
            return Self::read(value);
        }
        let policy = body.enter(tag::SEQUENCE)?;
        let path_length = match body.optional(0xa1)? {
            Some(tagged) => {
                let mut tagged = Reader::new(tagged);
                let length = tagged.unsigned()?;
                tagged.finish()?;
                Some(small(length))
            }
            None => None,
        };
        body.finish()?;
        Self::with_policy(path_length, policy)
    }

    /// The value of the extension for a new proxy: no limit of the path's length, one of the two known languages.
    pub(crate) fn encode(is_limited: bool) -> Vec<u8> {
        // The object identifiers INHERIT_ALL and LIMITED as DER.
        const INHERIT_ALL_DER: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 21, 1];
        const LIMITED_DER: &[u8] = &[6, 11, 0x2b, 6, 1, 4, 1, 0x9b, 0x50, 1, 1, 1, 9];
        let language = if is_limited {
            LIMITED_DER
        } else {
            INHERIT_ALL_DER
        };
        let mut policy = Vec::new();
        push_header(&mut policy, tag::SEQUENCE, language.len());
        policy.extend_from_slice(language);
        let mut value = Vec::new();
        push_header(&mut value, tag::SEQUENCE, policy.len());
        value.extend_from_slice(&policy);
        value
    }

    fn read(value: &[u8]) -> Result<Self, NotDer> {
        let mut outer = Reader::new(value);
        let mut body = outer.enter(tag::SEQUENCE)?;
        outer.finish()?;
        let path_length = match body.peek_tag() {
            Some(tag::INTEGER) => Some(small(body.unsigned()?)),
            _ => None,
        };
        let policy = body.enter(tag::SEQUENCE)?;
        body.finish()?;
        Self::with_policy(path_length, policy)
    }

    fn with_policy(path_length: Option<u32>, mut policy: Reader<'_>) -> Result<Self, NotDer> {
        let language = dotted_oid(policy.expect(tag::OID)?).ok_or(NotDer)?;
        let has_policy_text = !policy.is_empty();
        if has_policy_text {
            policy.expect(tag::OCTET_STRING)?;
        }
        policy.finish()?;
        let policy = match language.as_str() {
            INHERIT_ALL => Policy::InheritAll,
            LIMITED => Policy::Limited,
            _ => Policy::Other(language),
        };
        Ok(Self {
            path_length,
            policy,
            has_policy_text,
        })
    }
}

/// A limit above four bytes is no limit in a path of at most twenty certificates.
fn small(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0u32, |sum, byte| {
        sum.checked_mul(256)
            .map_or(u32::MAX, |sum| sum.saturating_add(u32::from(*byte)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &[u8] = &[0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 21, 1];
    const LTD: &[u8] = &[0x30, 12, 6, 10, 0x2b, 6, 1, 4, 1, 0x9b, 0x50, 1, 1, 9];

    fn extension(parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let mut out = vec![0x30, u8::try_from(content.len()).unwrap()];
        out.extend(content);
        out
    }

    #[test]
    fn languages_are_told_apart() {
        let info = |policy| ProxyInfo::parse(&extension(&[policy])).unwrap();
        assert_eq!(info(FULL).policy, Policy::InheritAll);
        assert_eq!(info(FULL).path_length, None);
        let independent = &[0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 21, 2];
        assert_eq!(
            info(independent).policy,
            Policy::Other("1.3.6.1.5.5.7.21.2".into())
        );
        // 1.3.6.1.4.1.3536.1.1.1.9 spelled out
        let limited = &[0x30, 13, 6, 11, 0x2b, 6, 1, 4, 1, 0x9b, 0x50, 1, 1, 1, 9];
        assert_eq!(info(limited).policy, Policy::Limited);
        assert!(
            matches!(info(LTD).policy, Policy::Other(_)),
            "one arc short"
        );
    }

    #[test]
    fn path_length_is_read_and_never_negative() {
        let length =
            |bytes: &[u8]| ProxyInfo::parse(&extension(&[bytes, FULL])).map(|i| i.path_length);
        assert_eq!(length(&[2, 1, 0]), Ok(Some(0)));
        assert_eq!(length(&[2, 1, 5]), Ok(Some(5)));
        assert_eq!(length(&[2, 2, 0, 200]), Ok(Some(200)));
        assert_eq!(length(&[2, 6, 1, 0, 0, 0, 0, 0]), Ok(Some(u32::MAX)));
        assert_eq!(length(&[2, 1, 0xff]), Err(ProxyProblem::Extension));
        assert_eq!(length(&[2, 0]), Err(ProxyProblem::Extension));
        assert_eq!(length(&[2, 2, 0, 5]), Err(ProxyProblem::Extension));
    }

    #[test]
    fn the_draft_extension_is_read_in_both_orders() {
        let length =
            |parts: &[&[u8]]| ProxyInfo::parse_draft(&extension(parts)).map(|i| i.path_length);
        assert_eq!(length(&[FULL]), Ok(None));
        assert_eq!(length(&[FULL, &[0xa1, 3, 2, 1, 1]]), Ok(Some(1)));
        assert_eq!(length(&[&[2, 1, 5], FULL]), Ok(Some(5)));
        for bad in [
            &[FULL, &[0xa1, 3, 2, 1, 0xff]][..],
            &[FULL, &[2, 1, 1]],
            &[FULL, &[0xa1, 4, 2, 1, 1, 0]],
            &[FULL, FULL],
        ] {
            assert_eq!(length(bad), Err(ProxyProblem::Extension));
        }
    }

    #[test]
    fn policy_text_is_seen_and_trailing_bytes_are_refused() {
        let with_text = &[0x30, 13, 6, 8, 0x2b, 6, 1, 5, 5, 7, 21, 1, 4, 1, b'x'];
        assert!(
            ProxyInfo::parse(&extension(&[with_text]))
                .unwrap()
                .has_policy_text
        );
        let mut long = extension(&[FULL]);
        long.push(0);
        assert_eq!(ProxyInfo::parse(&long), Err(ProxyProblem::Extension));
        assert_eq!(
            ProxyInfo::parse(&extension(&[FULL, &[5, 0]])),
            Err(ProxyProblem::Extension)
        );
        assert_eq!(ProxyInfo::parse(&[]), Err(ProxyProblem::Extension));
    }
}
