//! Printing ads as programs and people want them: `--long`, `--json`, `--autoformat`.

use std::io;
use std::sync::Arc;

use classad::ClassAd;

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
    #[arg(long, value_name = "ATTRIBUTE", num_args = 1.., group = "form")]
    pub autoformat: Vec<String>,
    /// How --autoformat prints: letters of HTCondor's -af:LETTERS (h heading, j job number, l label, n line feed,
    /// t tab, `,` comma, V quoted values, r expressions not evaluated, o old syntax, g new ad apart)
    #[arg(long, value_name = "LETTERS", default_value = "")]
    pub autoformat_options: String,
}

impl AdOutput {
    /// Whether a table is wanted.
    pub fn is_table(&self) -> bool {
        !self.long && !self.json && self.autoformat.is_empty()
    }

    /// The attributes that must be asked for; empty: whole ads.
    pub fn projection(&self) -> Vec<String> {
        todo!()
    }

    /// Prints.
    ///
    /// # Errors
    /// When the output does not take it.
    pub fn print(&self, _ads: &[Arc<ClassAd>], _out: &mut dyn io::Write) -> io::Result<()> {
        todo!()
    }
}
