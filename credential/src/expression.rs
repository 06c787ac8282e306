//! The regular expressions of namespaces files: bytes, `.`, sets, groups with alternatives, `*`, `+`, `?`, and a backslash
//! before a byte that is meant. Matched in time proportional to expression and text, whatever they are.

/// Largest expression, in steps.
const MAX_STEPS: usize = 2048;
/// Deepest group.
const MAX_DEPTH: usize = 16;

/// An expression that fits a whole text or does not.
#[derive(Debug)]
pub(crate) struct Expression(Vec<Step>);

#[derive(Clone, Debug)]
enum Step {
    /// One byte of a set.
    Byte(Box<Set>),
    /// Goes on at both places.
    Split(usize, usize),
}

/// Which bytes.
#[derive(Clone, Copy, Debug)]
struct Set([u64; 4]);

impl Set {
    const ALL: Self = Self([u64::MAX; 4]);

    fn of(byte: u8) -> Self {
        let mut set = Self([0; 4]);
        set.add(byte);
        set
    }

    fn add(&mut self, byte: u8) {
        if let Some(word) = self.0.get_mut(usize::from(byte >> 6)) {
            *word |= 1 << (byte & 63);
        }
    }

    fn has(&self, byte: u8) -> bool {
        let word = self.0.get(usize::from(byte >> 6)).copied();
        word.is_some_and(|word| word >> (byte & 63) & 1 == 1)
    }
}

impl Expression {
    /// Reads one. `None` for what is not among the above: to guess would be to trust.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('^').unwrap_or(text);
        let text = match text.strip_suffix('$') {
            Some(before) if !before.ends_with('\\') => before,
            _ => text,
        };
        let mut parser = Parser {
            rest: text.as_bytes(),
        };
        let steps = parser.alternatives(0)?;
        parser.rest.is_empty().then_some(Self(steps))
    }

    /// Whether the whole text fits.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let mut now = self.reach([0]);
        for byte in text.bytes() {
            let fits =
                |at: &usize| matches!(self.0.get(*at), Some(Step::Byte(set)) if set.has(byte));
            let next: Vec<usize> = now.iter().filter(|at| fits(at)).map(|at| at + 1).collect();
            if next.is_empty() {
                return false;
            }
            now = self.reach(next);
        }
        now.contains(&self.0.len())
    }

    /// Where one can be without another byte.
    fn reach(&self, from: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut seen = vec![false; self.0.len() + 1];
        let mut open: Vec<usize> = from.into_iter().collect();
        let mut found = Vec::new();
        while let Some(at) = open.pop() {
            match seen.get_mut(at) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            match self.0.get(at) {
                Some(Step::Split(a, b)) => open.extend([*a, *b]),
                _ => found.push(at),
            }
        }
        found
    }
}

/// Every part is written as if it began at step 0 and ends behind its last step.
struct Parser<'a> {
    rest: &'a [u8],
}

impl Parser<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.rest.first() == Some(&byte);
        if is_next {
            self.next();
        }
        is_next
    }

    fn alternatives(&mut self, depth: usize) -> Option<Vec<Step>> {
        let mut all = self.sequence(depth)?;
        while self.take(b'|') {
            let other = self.sequence(depth)?;
            // Split, first, jump over the second, second.
            let second = all.len() + 2;
            let end = second + other.len();
            let mut both = vec![Step::Split(1, second)];
            append(&mut both, &all);
            both.push(Step::Split(end, end));
            append(&mut both, &other);
            all = limited(both)?;
        }
        Some(all)
    }

    fn sequence(&mut self, depth: usize) -> Option<Vec<Step>> {
        let mut all = Vec::new();
        while let Some(first) = self.rest.first()
            && !matches!(first, b'|' | b')')
        {
            let mut part = self.atom(depth)?;
            while let Some(mark @ (b'*' | b'+' | b'?')) = self.rest.first().copied() {
                self.next();
                part = limited(repeated(&part, mark))?;
            }
            append(&mut all, &part);
            all = limited(all)?;
        }
        Some(all)
    }

    fn atom(&mut self, depth: usize) -> Option<Vec<Step>> {
        let set = match self.next()? {
            b'(' => {
                if depth == MAX_DEPTH {
                    return None;
                }
                if self.rest.first() == Some(&b'?') {
                    self.next();
                    self.take(b':').then_some(())?;
                }
                let inner = self.alternatives(depth + 1)?;
                return self.take(b')').then_some(inner);
            }
            b'[' => self.set()?,
            b'.' => Set::ALL,
            b'\\' => Set::of(self.escaped()?),
            b'*' | b'+' | b'?' | b']' | b'{' | b'}' | b'^' | b'$' | b')' | b'|' => return None,
            byte => Set::of(byte),
        };
        Some(vec![Step::Byte(Box::new(set))])
    }

    /// A byte behind a backslash; with letters and digits it would be something else.
    fn escaped(&mut self) -> Option<u8> {
        self.next().filter(|byte| !byte.is_ascii_alphanumeric())
    }

    /// Behind `[`: bytes and ranges, or all but these.
    fn set(&mut self) -> Option<Set> {
        let is_negated = self.take(b'^');
        let mut set = Set([0; 4]);
        let mut is_empty = true;
        loop {
            let first = match self.next()? {
                b']' if !is_empty => break,
                b'[' | b']' => return None,
                b'\\' => self.escaped()?,
                byte => byte,
            };
            let is_range = self.rest.first() == Some(&b'-') && self.rest.get(1) != Some(&b']');
            let last = if is_range {
                self.next();
                match self.next()? {
                    b'\\' => self.escaped()?,
                    byte => byte,
                }
            } else {
                first
            };
            if first > last {
                return None;
            }
            (first..=last).for_each(|byte| set.add(byte));
            is_empty = false;
        }
        if is_negated {
            set.0.iter_mut().for_each(|word| *word = !*word);
        }
        Some(set)
    }
}

fn limited(steps: Vec<Step>) -> Option<Vec<Step>> {
    (steps.len() <= MAX_STEPS).then_some(steps)
}

/// Appends a part, moved to where it is now.
fn append(all: &mut Vec<Step>, part: &[Step]) {
    let by = all.len();
    all.extend(part.iter().map(|step| match step {
        Step::Split(a, b) => Step::Split(a + by, b + by),
        byte @ Step::Byte(_) => byte.clone(),
    }));
}

fn repeated(part: &[Step], mark: u8) -> Vec<Step> {
    let mut all = Vec::new();
    match mark {
        b'+' => {
            append(&mut all, part);
            all.push(Step::Split(0, part.len() + 1));
        }
        b'*' => {
            all.push(Step::Split(1, part.len() + 2));
            append(&mut all, part);
            all.push(Step::Split(0, 0));
        }
        _ => {
            all.push(Step::Split(1, part.len() + 1));
            append(&mut all, part);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c14_expressions_fit_whole_names() {
        for (expression, fits, others) in [
            (
                "/O=Lab/.*",
                vec!["/O=Lab/", "/O=Lab/CN=x"],
                vec!["/O=Lab", "x/O=Lab/"],
            ),
            ("^/O=Lab$", vec!["/O=Lab"], vec!["/O=Lab/", "/O=La"]),
            (
                "/C=[DF]R/.+",
                vec!["/C=DR/x", "/C=FR/y"],
                vec!["/C=FR/", "/C=XR/x"],
            ),
            ("/CN=[^/]*", vec!["/CN=", "/CN=a b"], vec!["/CN=a/CN=b"]),
            (
                "/CN=[a-cX-]+",
                vec!["/CN=abc", "/CN=X-"],
                vec!["/CN=d", "/CN="],
            ),
            (
                "(/C=XX|/C=DE)/.*",
                vec!["/C=XX/a", "/C=DE/"],
                vec!["/C=FR/a", "/C=XX"],
            ),
            (
                "/(C=(XX|YY)|DC=org)(/O=Lab)?",
                vec!["/C=YY", "/DC=org/O=Lab"],
                vec!["/C=ZZ", "/O=Lab"],
            ),
            ("(?:ab)+c", vec!["abc", "ababc"], vec!["c", "abab"]),
            ("a\\.b\\$", vec!["a.b$"], vec!["axb$"]),
            ("(a*)*b", vec!["b", "aab"], vec!["a"]),
            ("a|", vec!["a", ""], vec!["b"]),
        ] {
            let read = Expression::parse(expression).unwrap();
            for text in fits {
                assert!(read.matches(text), "{expression} {text}");
            }
            for text in others {
                assert!(!read.matches(text), "{expression} {text}");
            }
        }
    }

    #[test]
    fn c14_what_is_not_understood_is_no_expression() {
        let deep = "(".repeat(40) + &")".repeat(40);
        let long = "a".repeat(5000);
        for bad in [
            "*",
            "a{2}",
            "(a",
            "a)",
            "[a",
            "[]",
            "[b-a]",
            "[[:alpha:]]",
            "\\d",
            "a^b",
            "a$b",
            "\\",
            "(?=a)",
            "(?i)a",
            "+",
            "|*",
            &deep,
            &long,
        ] {
            assert!(Expression::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn hostile_expressions_take_no_longer_than_others() {
        let text = "a".repeat(2000);
        for hostile in ["(a|a)*b", "(a*)*(a*)*c", "((a+)+)+b"] {
            assert!(!Expression::parse(hostile).unwrap().matches(&text));
        }
    }
}
