//! Attributes of a VO: `/vo/group/Role=pilot` (rule A6).

use std::fmt;

/// Longest attribute, bytes.
pub(crate) const MAX_FQAN_BYTES: usize = 255;

/// A verified attribute of a VO: a group, perhaps with a role and a capability, without parts that
/// say NULL. Only the verification makes these.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fqan(String);

impl Fqan {
    /// Reads `/vo[/group]*[/Role=r][/Capability=c]` of this VO. NULL parts equal absence.
    pub(crate) fn parse(text: &[u8], vo: &str) -> Option<Self> {
        let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./= ".contains(byte);
        if text.len() > MAX_FQAN_BYTES || !text.iter().all(is_allowed) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.strip_prefix('/')?.split('/');
        if parts.next() != Some(vo) {
            return None;
        }
        let mut out = format!("/{vo}");
        // Groups, then a role, then a capability; each step may be left out, none may come back.
        let mut step = 0;
        for part in parts {
            let (own_step, value) = match part.split_once('=') {
                None => (0, part),
                Some(("Role", value)) => (1, value),
                Some(("Capability", value)) => (2, value),
                Some(_) => return None,
            };
            let in_order = own_step > step || (own_step == 0 && step == 0);
            let is_way_out = matches!(part, "." | "..");
            if !in_order || value.is_empty() || value.contains('=') || is_way_out {
                return None;
            }
            step = own_step;
            if own_step == 0 || value != "NULL" {
                out.push('/');
                out.push_str(part);
            }
        }
        Some(Self(out))
    }

    /// The attribute as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fqan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        Fqan::parse(text.as_bytes(), "vo.lab").map(|fqan| fqan.0)
    }

    #[test]
    fn a6_null_parts_equal_absence() {
        for (text, expected) in [
            ("/vo.lab", "/vo.lab"),
            ("/vo.lab/Role=NULL/Capability=NULL", "/vo.lab"),
            ("/vo.lab/Role=NULL", "/vo.lab"),
            (
                "/vo.lab/prod/Role=pilot/Capability=NULL",
                "/vo.lab/prod/Role=pilot",
            ),
            (
                "/vo.lab/a/b-c/d_e/Role=x y/Capability=z",
                "/vo.lab/a/b-c/d_e/Role=x y/Capability=z",
            ),
            ("/vo.lab/Capability=z", "/vo.lab/Capability=z"),
            ("/vo.lab/NULL", "/vo.lab/NULL"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a6_other_vos_and_odd_characters_are_refused() {
        for text in [
            "",
            "/",
            "vo.lab",
            "/vo.labs",
            "/vo.la",
            "/other",
            "//vo.lab",
            "/VO.LAB",
            "/vo.lab/",
            "/vo.lab//a",
            "/vo.lab/Role=",
            "/vo.lab/Role=a/Role=b",
            "/vo.lab/Capability=a/Role=b",
            "/vo.lab/Role=a/group",
            "/vo.lab/role=a",
            "/vo.lab/group=a",
            "/vo.lab/Role=a=b",
            "/vo.lab/a\"b",
            "/vo.lab/a\nb",
            "/vo.lab/a\0",
            "/vo.lab/a*",
            "/vo.lab/a:b",
            "/vo.lab/./a",
            "/vo.lab/../other",
            "/vo.lab/\u{e9}",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert!(read(&format!("/vo.lab/{}", "a".repeat(247))).is_some());
        assert!(read(&format!("/vo.lab/{}", "a".repeat(248))).is_none());
    }
}
