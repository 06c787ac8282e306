//! Numbers as C's printf writes them.

/// `%.<digits>G` or `%.<digits>g`: at most so many significant digits, trailing zeros cut.
pub(crate) fn general(number: f64, digits: usize, upper: bool) -> String {
    if number == 0.0 {
        return if number.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let text = format!("{number:.*e}", digits.saturating_sub(1));
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text; // "inf", "NaN"
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let precision = i32::try_from(digits).unwrap_or(16);
    if exponent < -4 || exponent >= precision {
        let mantissa = trim_zeros(mantissa);
        let letter = if upper { 'E' } else { 'e' };
        format!("{mantissa}{letter}{}", exponent_text(exponent))
    } else {
        let decimals = usize::try_from(precision - 1 - exponent).unwrap_or(0);
        trim_zeros(&format!("{number:.decimals$}")).to_owned()
    }
}

/// `%1.15E`.
pub(crate) fn scientific(number: f64) -> String {
    let text = format!("{number:.15e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => format!(
            "{mantissa}E{}",
            exponent_text(exponent.parse().unwrap_or(0))
        ),
        None => text,
    }
}

/// A real in old syntax or JSON: never mistaken for an integer.
pub(crate) fn real_old(number: f64) -> String {
    let mut text = general(number, 16, true);
    if !text.contains(['.', 'E', 'e']) {
        text.push_str(".0");
    }
    text
}

fn exponent_text(exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{:02}", exponent.abs())
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reals_look_as_printf_writes_them() {
        assert_eq!(real_old(1.0), "1.0");
        assert_eq!(real_old(0.1), "0.1");
        assert_eq!(real_old(1e100), "1E+100");
        assert_eq!(real_old(1.5e-5), "1.5E-05");
        assert_eq!(real_old(1234567.25), "1234567.25");
        assert_eq!(real_old(1e16), "1E+16");
        assert_eq!(real_old(1e15), "1000000000000000.0");
        assert_eq!(scientific(0.1), "1.000000000000000E-01");
        assert_eq!(general(5.5, 6, false), "5.5");
    }
}
