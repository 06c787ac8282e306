//! Parts of file names: `$F[pndxqabfwu]()`, `$BASENAME()`, `$DIRNAME()`.

/// The parts of `path` that `letters` ask for, as HTCondor's `$F...()` gives them
/// (`htcondor:src/condor_utils/config.cpp`, `evaluate_macro_func`): `p` whole directory, `d` parent directory (once
/// more for each `d`), `n` name without extension, `x` extension, `q` in double quotes, `a` in single quotes (with
/// `q`), `b` without the trailing `/` or the leading `.`, `u` and `w` with only `/` or only `\` as separator, `f`
/// the absolute path, if there is a working `directory`; a configuration has none.
pub(crate) fn part(path: &str, letters: &str, directory: Option<&str>) -> String {
    let wanted = Wanted::of(letters);
    let quote = wanted
        .quoted
        .then_some(if wanted.single { b'\'' } else { b'"' });
    let mut text = unquote(path.as_bytes(), quote);
    if let Some(directory) = directory
        && wanted.full
        && text.first() != Some(&b'/')
    {
        let mut full = directory.trim_end_matches('/').as_bytes().to_vec();
        full.push(b'/');
        full.append(&mut text);
        text = full;
    }
    if let Some(separator) = wanted.separator {
        let other = if separator == b'/' { b'\\' } else { b'/' };
        text.iter_mut()
            .filter(|byte| **byte == other)
            .for_each(|byte| *byte = separator);
    }
    if let Some(quote) = quote {
        text.insert(0, quote);
        text.push(quote);
    }
    let (mut start, mut end) = wanted.range(&text);
    if let Some(quote) = quote {
        // Cutting may have cut the quotes off. They are put back over the characters beside the part, which are
        // separators, dots or the old quotes; an extension that is not there thus leaves a single quote.
        if text.get(start) != Some(&quote) {
            start = start.saturating_sub(1);
            put(&mut text, start, quote);
        }
        if end > 1 && text.get(end - 1) == Some(&quote) {
            end -= 1;
        }
        put(&mut text, end, quote);
        end += 1;
    }
    String::from_utf8_lossy(text.get(start..end).unwrap_or_default()).into_owned()
}

/// Overwrites one byte, or appends it.
fn put(text: &mut Vec<u8>, at: usize, byte: u8) {
    match text.get_mut(at) {
        Some(place) => *place = byte,
        None => text.push(byte),
    }
}

/// What the letters ask for.
#[derive(Debug, Default)]
struct Wanted {
    extension: bool,
    name: bool,
    path: bool,
    dirs: usize,
    quoted: bool,
    single: bool,
    bare: bool,
    full: bool,
    separator: Option<u8>,
}

impl Wanted {
    fn of(letters: &str) -> Self {
        let mut wanted = Self::default();
        for letter in letters.bytes() {
            match letter | 0x20 {
                b'x' => wanted.extension = true,
                b'n' => wanted.name = true,
                b'p' => wanted.path = true,
                b'd' => wanted.dirs += 1,
                b'q' => wanted.quoted = true,
                b'a' => wanted.single = true,
                b'b' => wanted.bare = true,
                b'f' => wanted.full = true,
                b'u' => wanted.separator = Some(b'/'),
                b'w' => wanted.separator = Some(b'\\'),
                _ => {}
            }
        }
        wanted
    }

    /// Start and end of the wanted part.
    fn range(&self, text: &[u8]) -> (usize, usize) {
        let end = text.len();
        let name_at = text
            .iter()
            .rposition(|&byte| byte == b'/')
            .map_or(0, |at| at + 1);
        let dot_at = extension_at(text, name_at);
        let dir_end = if self.bare {
            name_at.saturating_sub(1)
        } else {
            name_at
        };
        let has_dir = name_at > 0;
        let only_name = !has_dir && (self.name || self.extension);
        let (path, dirs) = if only_name {
            (false, 0)
        } else {
            (self.path, self.dirs)
        };
        if dirs > 0 {
            if !has_dir {
                // Nothing, but behind an opening quote.
                return (1, 1);
            }
            let start = keep_dirs(text, dirs);
            return (
                start,
                match (self.name, self.extension) {
                    (true, false) => dot_at,
                    (false, false) => dir_end.max(start),
                    (_, true) => end,
                },
            );
        }
        match (path, self.name, self.extension) {
            (false, false, true) => (
                if self.bare && dot_at < end {
                    dot_at + 1
                } else {
                    dot_at
                },
                end,
            ),
            (false, true, true) => (name_at, end),
            (false, true, false) => (name_at, dot_at),
            (true, false, false) => (0, dir_end),
            (true, true, false) => (0, dot_at),
            (false, false, false) | (true, _, true) => (0, end),
        }
    }
}

/// Where the extension of the file name begins; a dot in front is none.
fn extension_at(text: &[u8], name_at: usize) -> usize {
    let name = text.get(name_at..).unwrap_or_default();
    name.iter()
        .rposition(|&byte| byte == b'.')
        .filter(|&at| at > 0)
        .map_or(text.len(), |at| name_at + at)
}

/// Where the last `dirs` directories before the file name begin.
fn keep_dirs(text: &[u8], dirs: usize) -> usize {
    let is_separator = |(_, byte): &(usize, &u8)| matches!(byte, b'/' | b'\\');
    let separators = text
        .iter()
        .enumerate()
        .filter(is_separator)
        .map(|(at, _)| at + 1);
    separators.rev().nth(dirs).unwrap_or(0)
}

/// The text without the quotes around it, of either kind, and without one more pair of `"` or of the wanted kind.
fn unquote(text: &[u8], quote: Option<u8>) -> Vec<u8> {
    let inner = match text {
        [first @ (b'"' | b'\''), inner @ .., last] if first == last => inner,
        _ => text,
    };
    let inner = match inner {
        [first, rest @ ..] if *first == b'"' || Some(*first) == quote => {
            rest.strip_suffix(&[*first]).unwrap_or(rest)
        }
        _ => inner,
    };
    inner.to_vec()
}
