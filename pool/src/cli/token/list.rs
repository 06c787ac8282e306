//! `sailplane pool token list`.

use std::path::PathBuf;
use std::process::ExitCode;

use cedar::security::token::{FoundToken, read_directory};
use serde_json::json;

use super::{end_text, now, say};
use crate::cli::connect::ToolError;
use crate::cli::table::{Column, Table, terminal_width};
use crate::config::Sources;
use crate::security::{Place, Security};

/// Show the tokens of this account
///
/// The tokens themselves are never shown, only what they say.
#[derive(Debug, Clone, clap::Args)]
pub struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Look here instead of in the token directories
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    sources: Sources,
}

impl List {
    pub(super) fn run(&self) -> Result<ExitCode, ToolError> {
        let config = self.sources.load("TOOL")?;
        let client = Security::client(&config, &Place::here(), "TOOL")?;
        let directories = match &self.directory {
            Some(directory) => vec![directory.clone()],
            None => client.credentials.token_directories,
        };
        let mut found = Vec::new();
        for directory in &directories {
            let set = read_directory(directory);
            for place in set.places.iter().filter(|place| place.trouble.is_some()) {
                crate::cli::connect::complain(&place.to_string());
            }
            found.extend(set.tokens);
        }
        if self.json {
            let all: Vec<_> = found.iter().map(as_json).collect();
            say(&format!("{:#}", serde_json::Value::from(all)))?;
            return Ok(ExitCode::SUCCESS);
        }
        if found.is_empty() {
            let places: Vec<_> = directories
                .iter()
                .map(|directory| directory.display().to_string())
                .collect();
            say(&format!("There are no tokens in {}.", places.join(", ")))?;
            return Ok(ExitCode::SUCCESS);
        }
        say(&table(&found).render(terminal_width()))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn place(found: &FoundToken) -> String {
    found.file.as_ref().map_or_else(String::new, |file| {
        let file = file.display();
        if found.line > 1 {
            format!("{file}:{}", found.line)
        } else {
            file.to_string()
        }
    })
}

fn table(found: &[FoundToken]) -> Table {
    let mut table = Table::new(vec![
        Column::left("Identity"),
        Column::left("Scopes").shrinks_to(12),
        Column::left("Ends"),
        Column::left("Issuer").shrinks_to(12),
        Column::left("Key"),
        Column::left("File").shrinks_to(16),
    ]);
    for found in found {
        let row = match &found.token {
            Ok(token) => {
                let claims = token.claims();
                let ended = claims.expires.is_some_and(|end| end <= now());
                let end = end_text(claims.expires);
                vec![
                    claims.subject.clone(),
                    claims
                        .scopes
                        .as_deref()
                        .map_or_else(|| "all".to_owned(), |scopes| scopes.replace("condor:/", "")),
                    if ended { format!("{end} (ended)") } else { end },
                    claims.issuer.clone(),
                    claims.key_id.clone(),
                    place(found),
                ]
            }
            Err(error) => vec![
                "?".to_owned(),
                error.to_string(),
                String::new(),
                String::new(),
                String::new(),
                place(found),
            ],
        };
        table.row(row);
    }
    table
}

fn as_json(found: &FoundToken) -> serde_json::Value {
    let file = found.file.as_ref().map(|file| file.display().to_string());
    match &found.token {
        Ok(token) => {
            let claims = token.claims();
            json!({
                "file": file, "line": found.line, "key": claims.key_id, "iss": claims.issuer,
                "sub": claims.subject, "jti": claims.id, "iat": claims.issued_at,
                "nbf": claims.not_before, "exp": claims.expires, "scope": claims.scopes,
            })
        }
        Err(error) => json!({ "file": file, "line": found.line, "error": error.to_string() }),
    }
}
