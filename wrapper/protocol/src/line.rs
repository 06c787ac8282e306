//! What a broker may have written into the log.

/// Members that the monitor adds to each line.
const MONITORS: [&str; 2] = ["time", "monitor"];

/// Are these the members of one JSON object, with plain names that are not those of the monitor's own? So a
/// line can neither pretend to come from another monitor, or another time, nor hold a second object. Whether
/// the values are sound is the reader's matter.
pub(crate) fn is_members(line: &str) -> bool {
    let (mut depth, mut inside, mut escaped) = (0_u32, false, false);
    let mut start = 0;
    // The string that may turn out to be a name.
    let mut name = None;
    for (at, byte) in line.bytes().enumerate() {
        match (inside, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => {
                inside = false;
                name = line.get(start..at);
            }
            (true, _) | (false, b' ') => {}
            (false, b'"') => {
                inside = true;
                start = at + 1;
            }
            (false, b':') if depth == 0 => match name.take() {
                Some(name) if is_plain(name) && !MONITORS.contains(&name) => {}
                _ => return false,
            },
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            (false, _) => name = None,
        }
    }
    depth == 0 && !inside
}

/// Without escapes, which would let one name be spelled in many ways.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !name.is_empty() && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m9_a_line_is_one_object_under_the_monitors_name() {
        for good in [
            r#""event":"open""#,
            r#""event":"open","gids":[1,2],"fqans":["/a:b","c\"}{"]"#,
            r#""a": {"time":1}, "b_2": "\\""#,
            "",
        ] {
            assert!(is_members(good), "{good}");
        }
        for bad in [
            r#""event":"open","time":1"#,
            r#""monitor" :1"#,
            r#""\u0074ime":1"#,
            r#""event":"x"} {"event":"y""#,
            r#""event":"x"},{"event":["#,
            r#""a":[1"#,
            r#""a":"b"#,
            r#""a":"b\""#,
            r#"a:1"#,
            r#""a" 1:2"#,
            r#""":1"#,
            ":",
            "]",
        ] {
            assert!(!is_members(bad), "{bad}");
        }
    }
}
