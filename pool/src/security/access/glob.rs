//! The patterns of access lists.

/// Whether an item may reach beyond its end, see [`matches()`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    /// As written, and as HTCondor does since its repair of the two mistakes below.
    Sound,
    /// As a 23.9.6 daemon really decides: the text behind an asterisk may be followed by anything (`*@site.org` fits
    /// `eve@site.org.evil.net`), and a single IPv4 address fits every IPv4 address. For comparison with it only.
    #[cfg(test)]
    Of23_9_6,
}

/// Compares text with a pattern, ignoring case. An asterisk stands for any text at one place: the beginning, the end,
/// both, or in the middle. Further ones are ordinary characters
/// (`htcondor:src/condor_utils/stl_string_utils.cpp`, `matches_withwildcard_impl`).
pub(crate) fn matches(pattern: &str, text: &str, rules: Rules) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let text = text.to_ascii_lowercase();
    let Some((start, end)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(rest) = text.strip_prefix(start) else {
        return false;
    };
    if let Some(inner) = end.strip_suffix('*') {
        return rest.contains(inner);
    }
    match rules {
        Rules::Sound => rest.ends_with(end),
        #[cfg(test)]
        Rules::Of23_9_6 => rest.contains(end),
    }
}

/// True if the pattern has an asterisk that is an ordinary character, which is hardly meant.
pub(crate) fn has_idle_asterisk(pattern: &str) -> bool {
    let Some((_, end)) = pattern.split_once('*') else {
        return false;
    };
    end.strip_suffix('*').unwrap_or(end).contains('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asterisk_stands_for_any_text() {
        let cases = [
            ("alice@x.org", "ALICE@x.ORG", true),
            ("alice@x.org", "alice@x.org.net", false),
            ("*", "", true),
            ("*@x.org", "a@x.org", true),
            ("*@x.org", "a@x.org.evil.net", false),
            ("a*@x.org", "alice@x.org", true),
            ("a*@x.org", "malice@x.org", false),
            ("alice@*", "alice@", true),
            ("*lic*", "malice@x", true),
            ("a*lic*", "malice@x", false),
            ("aa*aa", "aaa", false),
            ("*@*.org", "a@x.org", false),
        ];
        for (pattern, text, wanted) in cases {
            assert_eq!(
                matches(pattern, text, Rules::Sound),
                wanted,
                "{pattern} {text}"
            );
        }
        assert!(has_idle_asterisk("*@*.org") && has_idle_asterisk("a**b"));
        assert!(!has_idle_asterisk("*x*") && !has_idle_asterisk("a*") && !has_idle_asterisk("*"));
    }
}
