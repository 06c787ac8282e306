//! `/proc/self/status`: what the pilot itself may not.

/// A field of the text as a number.
pub(crate) fn number(status: &str, name: &str) -> Option<u64> {
    status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let text =
            "Name:\tsailplane\nThreads:\t3\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(number(text, "NoNewPrivs"), Some(1));
        assert_eq!(number(text, "Seccomp"), Some(2));
        assert_eq!(number(text, "Name"), None);
    }
}
