//! `/proc/meminfo`.

/// A figure, MiB.
pub(crate) fn mib(meminfo: &str, name: &str) -> Option<u64> {
    meminfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.split_whitespace().next()?.parse::<u64>().ok())
        .map(|kib| kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_name() {
        let text = "MemTotal:       24684084 kB\nMemFree:          123456 kB\nMemAvailable:   20000000 kB\n\
                    HugePages_Total:       0\n";
        assert_eq!(mib(text, "MemTotal"), Some(24_105));
        assert_eq!(mib(text, "MemAvailable"), Some(19_531));
        assert_eq!(mib(text, "Mem"), None);
    }
}
