//! Release numbers, compared part by part: `5.14.0-427.13.1.el9_4.x86_64`.

use std::fmt;

/// The numbers of a release, up to the first part that is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Release(Vec<u64>);

/// Reads the numbers that a text begins with.
pub(crate) fn parse(text: &str) -> Option<Release> {
    let numbers: Vec<u64> = text
        .trim()
        .split(['.', '-', '+', '_'])
        .map_while(|part| {
            let digits = part
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(part.len());
            part.get(..digits)?.parse().ok()
        })
        .collect();
    (!numbers.is_empty()).then_some(Release(numbers))
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(u64::to_string).collect();
        f.write_str(&words.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        let of = |text| parse(text).unwrap();
        assert!(of("5.14.0-427.13.1.el9_4.x86_64") > of("5.14.0-70"));
        assert!(of("4.18.0-553.el8") < of("5.6"));
        assert!(of("6.18.44-fc-v669") >= of("6.18.44"));
        assert_eq!(of("10").to_string(), "10");
        assert_eq!(parse("x"), None);
    }
}
