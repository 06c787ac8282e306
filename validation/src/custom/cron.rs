//! What a periodic check prints: lines `Name = expression` for the slot ad, and noise.

use classad::Expr;

use crate::outcome::Attribute;

/// The default prefix of the attributes that a periodic check prints.
pub const DEFAULT_PREFIX: &str = "GLIDEIN_PS_";

/// In the place of a prefix: none.
pub const NO_PREFIX: &str = "NOPREFIX";

/// Most attributes that one run may publish.
const MAX_ATTRIBUTES: usize = 1000;

/// What came out of one run.
#[derive(Debug, Default, PartialEq)]
pub struct Printed {
    /// Attributes, the prefix in their names. Of several with one name (names know no case) the last.
    pub attributes: Vec<Attribute>,
    /// Lines that are no attribute, for the log.
    pub noise: Vec<String>,
}

/// Reads the standard output of a run. A line that begins with a dash ends an ad; what follows is the next one, and the
/// last complete say counts for each name.
#[must_use]
pub fn read(output: &[u8], prefix: &str) -> Printed {
    let mut printed = Printed::default();
    for line in String::from_utf8_lossy(output).lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('-') || line.starts_with('#') {
            continue;
        }
        match assignment(line, prefix) {
            Some(attribute) if printed.attributes.len() < MAX_ATTRIBUTES => {
                printed
                    .attributes
                    .retain(|known| !known.name().eq_ignore_ascii_case(attribute.name()));
                printed.attributes.push(attribute);
            }
            _ => printed.noise.push(line.to_owned()),
        }
    }
    printed
}

fn assignment(line: &str, prefix: &str) -> Option<Attribute> {
    let (name, value) = line.split_once('=')?;
    let expression = Expr::parse_old(value.trim()).ok()?;
    Attribute::new(&format!("{prefix}{}", name.trim()), expression).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(printed: &Printed) -> Vec<String> {
        printed
            .attributes
            .iter()
            .map(|one| format!("{} = {}", one.name(), one.value().to_old()))
            .collect()
    }

    #[test]
    fn assignments_are_attributes_and_the_rest_is_noise() {
        let printed = read(
            b"Checking...\nLoad = 3.5\nName = \"x = y\"\nload = 4\nOk = Cpus > 1 && Load == 2\nbroken = (1\n- \nA B = 1\n",
            "P_",
        );
        assert_eq!(
            shown(&printed),
            [
                "P_Name = \"x = y\"",
                "P_load = 4",
                "P_Ok = Cpus > 1 && Load == 2"
            ]
        );
        assert_eq!(printed.noise, ["Checking...", "broken = (1", "A B = 1"]);
    }

    #[test]
    fn a_comparison_is_no_assignment() {
        assert_eq!(read(b"a == 1\n= 3\n1a = 2\n", "").attributes, []);
    }
}
