//! The formats of `$INT(x,%04d)`, `$REAL(x,%.3f)`, `$STRING(x,%-10s)`: one conversion of C's `printf`.

/// The conversion letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conversion(u8);

impl Conversion {
    pub(crate) fn is_integer(self) -> bool {
        matches!(self.0, b'd' | b'i' | b'u' | b'x' | b'X' | b'o')
    }

    pub(crate) fn is_real(self) -> bool {
        matches!(self.0, b'e' | b'E' | b'f' | b'F' | b'g' | b'G')
    }

    pub(crate) fn is_string(self) -> bool {
        self.0 == b's'
    }
}

/// A parsed format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format {
    before: String,
    after: String,
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    long: bool,
    conversion: Conversion,
}

/// More columns or digits than this are no format but an accident.
const WIDEST: usize = 500;

impl Format {
    /// Reads text with exactly one conversion; `%%` stands for a percent sign.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (before, rest) = literal(text);
        let mut rest = rest.strip_prefix('%')?;
        let mut format = Self {
            before,
            ..Self::plain()
        };
        loop {
            let flag = match rest.bytes().next()? {
                b'-' => &mut format.left,
                b'+' => &mut format.plus,
                b' ' => &mut format.space,
                b'#' => &mut format.alternate,
                b'0' => &mut format.zero,
                _ => break,
            };
            *flag = true;
            rest = rest.get(1..)?;
        }
        format.width = number(&mut rest)?.unwrap_or(0);
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            format.precision = Some(number(&mut rest)?.unwrap_or(0));
        }
        let letter = rest.trim_start_matches(['h', 'l', 'q', 'j', 'z', 't', 'L']);
        format.long = rest
            .get(..rest.len() - letter.len())?
            .contains(['l', 'q', 'j', 'z', 't']);
        format.conversion = Conversion(letter.bytes().next()?);
        let (after, rest) = literal(letter.get(1..)?);
        format.after = after;
        rest.is_empty().then_some(format)
    }

    /// `%.16G`.
    pub(crate) fn default_real() -> Self {
        Self {
            precision: Some(16),
            conversion: Conversion(b'G'),
            ..Self::plain()
        }
    }

    /// `%.15E`.
    pub(crate) fn scientific_real() -> Self {
        Self {
            precision: Some(15),
            conversion: Conversion(b'E'),
            ..Self::plain()
        }
    }

    /// Without anything around, in front or in width.
    fn plain() -> Self {
        Self {
            before: String::new(),
            after: String::new(),
            left: false,
            plus: false,
            space: false,
            alternate: false,
            zero: false,
            width: 0,
            precision: None,
            long: false,
            conversion: Conversion(0),
        }
    }

    pub(crate) fn conversion(&self) -> Conversion {
        self.conversion
    }

    /// Formats an integer; without a length letter only its low 32 bits count, as with a C `int`.
    pub(crate) fn integer(&self, number: i64) -> String {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "what printf does to a long that is formatted as int"
        )]
        let number = if self.long {
            number
        } else {
            i64::from(number as i32)
        };
        #[expect(clippy::cast_possible_truncation, reason = "as above")]
        let unsigned = if self.long {
            number.cast_unsigned()
        } else {
            u64::from((number as i32).cast_unsigned())
        };
        let (sign, prefix, digits) = match self.conversion.0 {
            b'u' => ("", "", unsigned.to_string()),
            b'x' => (
                "",
                if self.alternate && number != 0 {
                    "0x"
                } else {
                    ""
                },
                format!("{unsigned:x}"),
            ),
            b'X' => (
                "",
                if self.alternate && number != 0 {
                    "0X"
                } else {
                    ""
                },
                format!("{unsigned:X}"),
            ),
            b'o' => (
                "",
                if self.alternate { "0" } else { "" },
                format!("{unsigned:o}"),
            ),
            _ => (self.sign(number < 0), "", number.unsigned_abs().to_string()),
        };
        let digits = match self.precision {
            Some(least) => format!("{digits:0>least$}"),
            None => digits,
        };
        self.pad(
            &format!("{sign}{prefix}"),
            &digits,
            self.zero && self.precision.is_none(),
        )
    }

    /// Formats a real.
    pub(crate) fn real(&self, number: f64) -> String {
        let sign = self.sign(number.is_sign_negative());
        let size = number.abs();
        let upper = self.conversion.0.is_ascii_uppercase();
        if !size.is_finite() {
            let word = if size.is_nan() { "nan" } else { "inf" };
            let word = if upper {
                word.to_ascii_uppercase()
            } else {
                word.to_owned()
            };
            return self.pad(sign, &word, false);
        }
        let digits = match self.conversion.0 | 0x20 {
            b'e' => scientific(size, self.precision.unwrap_or(6)),
            b'g' => self.general(size),
            _ => format!("{size:.*}", self.precision.unwrap_or(6)),
        };
        let digits = if upper {
            digits.to_ascii_uppercase()
        } else {
            digits
        };
        self.pad(sign, &digits, self.zero)
    }

    /// Formats a string; the precision cuts it.
    pub(crate) fn string(&self, text: &str) -> String {
        let text: String = text
            .chars()
            .take(self.precision.unwrap_or(usize::MAX))
            .collect();
        self.pad("", &text, false)
    }

    fn general(&self, size: f64) -> String {
        let digits = self.precision.unwrap_or(6).max(1);
        let wide = scientific(size, digits - 1);
        let exponent: i64 = wide
            .split_once('e')
            .and_then(|(_, e)| e.parse().ok())
            .unwrap_or(0);
        let most = i64::try_from(digits).unwrap_or(i64::MAX);
        let (text, tail) = if exponent < -4 || exponent >= most {
            wide.split_once('e')
                .map(|(text, e)| (text.to_owned(), format!("e{e}")))
                .unwrap_or_default()
        } else {
            let decimals = usize::try_from(most - 1 - exponent).unwrap_or(0);
            (format!("{size:.decimals$}"), String::new())
        };
        if self.alternate || !text.contains('.') {
            return text + &tail;
        }
        text.trim_end_matches('0').trim_end_matches('.').to_owned() + &tail
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, _, _) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            (false, false, false) => "",
        }
    }

    fn pad(&self, sign: &str, digits: &str, zeros: bool) -> String {
        let missing = self
            .width
            .saturating_sub(sign.chars().count() + digits.chars().count());
        let body = match (self.left, zeros) {
            (true, _) => format!("{sign}{digits}{}", " ".repeat(missing)),
            (false, true) => format!("{sign}{}{digits}", "0".repeat(missing)),
            (false, false) => format!("{}{sign}{digits}", " ".repeat(missing)),
        };
        format!("{}{body}{}", self.before, self.after)
    }
}

/// `1.5e+03`: an exponent has a sign and at least two digits.
fn scientific(size: f64, decimals: usize) -> String {
    let text = format!("{size:.decimals$e}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

/// Text up to a conversion, with `%%` undone; and the rest.
fn literal(text: &str) -> (String, &str) {
    let mut before = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (head, tail) = rest.split_at(at);
        before.push_str(head);
        rest = tail;
        match rest.strip_prefix("%%") {
            Some(after) => {
                before.push('%');
                rest = after;
            }
            None => return (before, rest),
        }
    }
    before.push_str(rest);
    (before, "")
}

/// Decimal digits at the start of `rest`, if any; `None` if they ask for too much.
fn number(rest: &mut &str) -> Option<Option<usize>> {
    let end = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, after) = rest.split_at(end);
    *rest = after;
    if digits.is_empty() {
        return Some(None);
    }
    digits
        .parse()
        .ok()
        .filter(|&number| number <= WIDEST)
        .map(Some)
}
