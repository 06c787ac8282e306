//! Paths as condor_submit writes them (`htcondor:src/condor_utils/submit_utils.cpp`, `full_path`, `compress_path`).

/// `name` below `directory` unless it is absolute; doubled slashes become one, `..` stays.
pub(super) fn absolute(directory: &str, name: &str) -> String {
    if name.starts_with('/') {
        compress(name)
    } else {
        compress(&format!("{directory}/{name}"))
    }
}

/// Doubled slashes become one.
pub(super) fn compress(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !text.ends_with('/') {
            text.push(c);
        }
    }
    text
}

/// Whether it is a URL: a scheme of letters, digits and `+-.`, then `://`.
pub(super) fn is_url(text: &str) -> bool {
    scheme(text).is_some()
}

/// The scheme of a URL, in lower case.
pub(super) fn scheme(text: &str) -> Option<String> {
    let (scheme, _) = text.trim_start().split_once("://")?;
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)))
    .then(|| scheme.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_and_slashes_compressed() {
        assert_eq!(absolute("/home/a", "x//y"), "/home/a/x/y");
        assert_eq!(absolute("/", "x"), "/x");
        assert_eq!(absolute("/home", "//etc/x"), "/etc/x");
        assert_eq!(absolute("/home", "../x"), "/home/../x");
    }

    #[test]
    fn urls_have_a_scheme() {
        assert_eq!(scheme("HTTPS://x/y").as_deref(), Some("https"));
        assert!(!is_url("://x") && !is_url("a b://x") && !is_url("/x://y") && !is_url("x:/y"));
    }
}
