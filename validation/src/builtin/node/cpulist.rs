//! Lists of processors as the kernel and batch systems write them: `0-3,8`.

/// Most numbers that a list is unfolded to.
const MAX: usize = 65_536;

/// How many numbers a list has; nothing if it is not one.
pub(crate) fn count(text: &str) -> Option<usize> {
    let text = text.trim();
    if text.is_empty() {
        return Some(0);
    }
    text.split(',').try_fold(0_usize, |sum, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().ok()?;
        let last: usize = last.trim().parse().ok()?;
        let more = last.checked_sub(first)?.checked_add(1)?;
        sum.checked_add(more).filter(|sum| *sum <= MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(count("0-3,8,10-11\n"), Some(7));
        assert_eq!(count(""), Some(0));
        assert_eq!(count("5"), Some(1));
        for bad in ["3-1", "a", "1,,2", "0-99999999999999999999", "0-70000"] {
            assert_eq!(count(bad), None, "{bad}");
        }
    }
}
