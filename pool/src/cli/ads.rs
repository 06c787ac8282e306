//! Printing ads as programs and people want them: `--long`, `--json`, `--autoformat`.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use classad::{AttrName, ClassAd, EvalContext, Expr, Value, assignment_old};

/// How ads are printed instead of a table.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AdOutput {
    /// Print whole ads
    #[arg(long, group = "form")]
    pub long: bool,
    /// Print a JSON list of ads
    #[arg(long, group = "form")]
    pub json: bool,
    /// Print the values of these attributes or expressions, one line for each ad
    #[arg(long, value_name = "ATTRIBUTE", num_args = 1.., group = "form", value_parser = expression)]
    pub autoformat: Vec<(String, Expr)>,
    /// How --autoformat prints: h heading, j job number first, l with labels, n one line for each value, t with tabs,
    /// `,` with commas, g an empty line before each ad, V strings in quotes, r expressions as they are
    #[arg(long, value_name = "LETTERS", default_value = "", value_parser = letters, hide_default_value = true)]
    pub autoformat_options: String,
    /// With --long and --json: only these attributes, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub attributes: Vec<String>,
}

fn expression(text: &str) -> Result<(String, Expr), String> {
    match Expr::parse_old(text) {
        Ok(expr) => Ok((text.to_owned(), expr)),
        Err(error) => Err(format!("neither an attribute nor an expression: {error}")),
    }
}

fn letters(text: &str) -> Result<String, String> {
    match text.chars().find(|letter| !"hjlnt,gVro".contains(*letter)) {
        Some(letter) => Err(format!("{letter:?} is none of h j l n t , g V r o")),
        None => Ok(text.to_owned()),
    }
}

impl AdOutput {
    /// Whether a table is wanted.
    pub fn is_table(&self) -> bool {
        !self.long && !self.json && self.autoformat.is_empty()
    }

    /// The attributes that must be asked for; empty: whole ads.
    pub fn projection(&self) -> Vec<String> {
        if self.autoformat.is_empty() {
            return self.attributes.clone();
        }
        let mut names: Vec<AttrName> = Vec::new();
        if self.has('j') {
            names.extend(["ClusterId", "ProcId"].map(AttrName::from));
        }
        for (_, expr) in &self.autoformat {
            let found = expr.references();
            for name in found
                .unscoped
                .into_iter()
                .chain(found.my)
                .chain(found.target)
            {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names.iter().map(ToString::to_string).collect()
    }

    /// Prints.
    ///
    /// # Errors
    /// When the output does not take it.
    pub fn print(&self, ads: &[Arc<ClassAd>], out: &mut dyn io::Write) -> io::Result<()> {
        if self.json {
            return self.print_json(ads, out);
        }
        if self.long {
            return ads.iter().try_for_each(|ad| {
                let text = long(&self.cut(ad));
                out.write_all(text.as_bytes())
            });
        }
        self.print_values(ads, out)
    }

    fn has(&self, letter: char) -> bool {
        self.autoformat_options.contains(letter)
    }

    fn cut(&self, ad: &ClassAd) -> ClassAd {
        if self.attributes.is_empty() {
            return ad.clone();
        }
        ad.iter()
            .filter(|(name, _)| {
                self.attributes
                    .iter()
                    .any(|wanted| **name == *wanted.as_str())
            })
            .map(|(name, expr)| (name.clone(), expr.clone()))
            .collect()
    }

    fn print_json(&self, ads: &[Arc<ClassAd>], out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(b"[\n")?;
        for (number, ad) in ads.iter().enumerate() {
            let comma = if number > 0 { ",\n" } else { "" };
            write!(out, "{comma}{}", self.cut(ad).to_json().trim_end())?;
        }
        out.write_all(if ads.is_empty() { b"]\n" } else { b"\n]\n" })
    }

    fn print_values(&self, ads: &[Arc<ClassAd>], out: &mut dyn io::Write) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let rows: Vec<Vec<String>> = ads.iter().map(|ad| self.values(ad, now)).collect();
        let headings: Vec<String> = self
            .has('j')
            .then(|| "ID".to_owned())
            .into_iter()
            .chain(self.autoformat.iter().map(|(text, _)| text.clone()))
            .collect();
        let heads = if self.has('h') {
            vec![headings]
        } else {
            Vec::new()
        };
        // Under headings the values stand in columns.
        let widths: Vec<usize> = (0..heads.first().map_or(0, Vec::len))
            .map(|column| {
                let cells = heads.iter().chain(&rows).filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        for row in heads.iter().chain(&rows) {
            out.write_all(self.line(row, &widths).as_bytes())?;
        }
        Ok(())
    }

    /// The separators are those of `parse_autoformat_args` (`htcondor:src/condor_utils/ad_printmask.cpp`).
    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let before = match (self.has('g'), self.has('t')) {
            (true, _) => "",
            (_, true) => "\t",
            _ => " ",
        };
        let after = match (self.has('n'), self.has(',')) {
            (true, _) => "\n",
            (_, true) => ",",
            _ => "",
        };
        let mut text = String::from(if self.has('g') { "\n" } else { "" });
        for (number, cell) in cells.iter().enumerate() {
            let last = number + 1 == cells.len();
            if number > 0 {
                text.push_str(before);
            }
            match widths.get(number) {
                Some(&width) if !last => {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "{cell:<width$}");
                }
                _ => text.push_str(cell),
            }
            if !last {
                text.push_str(after);
            }
        }
        text.push('\n');
        text
    }

    fn values(&self, ad: &ClassAd, now: i64) -> Vec<String> {
        let label = |name: &str, value: String| match self.has('l') {
            true => format!("{name} = {value}"),
            false => value,
        };
        let mut values = Vec::new();
        if self.has('j') {
            let number = |name: &str| {
                ad.int(name)
                    .map_or_else(|| "?".to_owned(), |n| n.to_string())
            };
            let id = format!("{}.{}", number("ClusterId"), number("ProcId"));
            values.push(label("ID", id));
        }
        let context = EvalContext::new().my(ad).now(now);
        for (text, expr) in &self.autoformat {
            let raw = || ad.get(text).map_or_else(|| expr.to_old(), Expr::to_old);
            let value = if self.has('r') || self.has('o') {
                if ad.contains(text) {
                    raw()
                } else {
                    "undefined".to_owned()
                }
            } else {
                shown(context.eval(expr), self.has('V'))
            };
            values.push(label(text, value));
        }
        values
    }
}

/// A value as text: strings without quotes unless wanted.
fn shown(value: Value, quoted: bool) -> String {
    match value {
        Value::String(text) if !quoted => text,
        other => Expr::literal(other).to_old(),
    }
}

/// The lines of an ad, by name, and an empty line.
fn long(ad: &ClassAd) -> String {
    let mut attributes: Vec<_> = ad.iter().collect();
    attributes.sort_by_key(|(name, _)| *name);
    let mut text = String::new();
    for (name, expr) in attributes {
        text.push_str(&assignment_old(name, expr));
        text.push('\n');
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        output: AdOutput,
    }

    fn output(arguments: &[&str]) -> AdOutput {
        let all = std::iter::once(&"program").chain(arguments);
        Program::try_parse_from(all).unwrap().output
    }

    fn printed(arguments: &[&str]) -> String {
        let ads = [
            "Name = \"slot1\"\nCpus = 4\nBusy = Cpus > 2\nClusterId = 3\nProcId = 0",
            "Name = \"s2\"\nCpus = 1\nBusy = Cpus > 2\nClusterId = 3\nProcId = 1",
        ];
        let ads = ads.map(|text| Arc::new(ClassAd::parse_old(text).unwrap()));
        let mut out = Vec::new();
        output(arguments).print(&ads, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_come_as_htcondors_tools_print_them() {
        assert_eq!(
            printed(&["--autoformat", "Name", "Cpus+1", "Nothing"]),
            "slot1 5 undefined\ns2 2 undefined\n"
        );
        let with = |letters: &str, names: &[&str]| {
            let option = format!("--autoformat-options={letters}");
            let all: Vec<&str> = [option.as_str(), "--autoformat"]
                .into_iter()
                .chain(names.iter().copied())
                .collect();
            printed(&all)
        };
        assert_eq!(
            with("hV", &["Name", "Busy"]),
            "Name    Busy\n\"slot1\" true\n\"s2\"    false\n"
        );
        assert_eq!(with("j,", &["Cpus"]), "3.0, 4\n3.1, 1\n");
        assert_eq!(
            with("lng", &["Cpus", "Name"]),
            "\nCpus = 4\nName = slot1\n\nCpus = 1\nName = s2\n"
        );
        assert_eq!(with("rt", &["Busy", "Cpus"]), "Cpus > 2\t4\nCpus > 2\t1\n");
    }

    #[test]
    fn only_what_is_shown_is_asked_for() {
        let output = output(&["--autoformat", "Cpus + MY.Memory", "cpus"]);
        assert_eq!(output.projection(), ["Cpus", "Memory"]);
        assert!(!output.is_table());
    }

    #[test]
    fn long_and_json_can_be_cut() {
        assert_eq!(
            printed(&["--long", "--attributes", "cpus,NAME"]),
            "Cpus = 4\nName = \"slot1\"\n\nCpus = 1\nName = \"s2\"\n\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&printed(&["--json", "--attributes", "Cpus"])).unwrap();
        assert_eq!(json, serde_json::json!([{ "Cpus": 4 }, { "Cpus": 1 }]));
        let mut out = Vec::new();
        output(&["--json"]).print(&[], &mut out).unwrap();
        assert_eq!(out, b"[\n]\n");
    }

    #[test]
    fn mistakes_are_told() {
        for wrong in [
            ["--autoformat", "A +"],
            ["--autoformat-options", "hx"],
            ["--long", "--json"],
        ] {
            let all = ["program"].into_iter().chain(wrong);
            assert!(Program::try_parse_from(all).is_err(), "{wrong:?}");
        }
    }
}
