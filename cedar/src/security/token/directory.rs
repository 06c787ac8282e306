//! Token directories: files in name order, one token a line, `#` for comments.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::search::{FoundToken, SearchedPlace, TokenSet};
use super::{MAX_LEN, Token};

/// Most files read from one directory.
const MAX_FILES: usize = 1000;

/// Longest token file read, in bytes.
const MAX_FILE: u64 = 16 * MAX_LEN as u64;

/// Reads every token of a directory, or of a single file. Never fails: what could not be read is
/// part of the result, so that it can be reported if no token fits.
///
/// Names that HTCondor leaves out of configuration directories are left out here too: hidden files
/// and remains of editors and package managers (`htcondor:src/condor_utils/directory_util.cpp`).
pub fn read_directory(path: &Path) -> TokenSet {
    let mut set = TokenSet::default();
    match list(path) {
        Ok(files) => {
            set.places.push(place(path, None));
            for file in files {
                read_file(&file, &mut set);
            }
        }
        Err(error) => set.places.push(place(path, Some(&error))),
    }
    set
}

fn place(path: &Path, error: Option<&io::Error>) -> SearchedPlace {
    SearchedPlace {
        path: path.to_owned(),
        trouble: error.map(io::Error::kind),
    }
}

fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if fs::metadata(path)?.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_wanted(&name.to_string_lossy()) && files.len() < MAX_FILES {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn is_wanted(name: &str) -> bool {
    !name.starts_with(['.', '#'])
        && !name.ends_with('~')
        && !name.ends_with(".rpmsave")
        && !name.ends_with(".rpmnew")
}

fn read_file(path: &Path, set: &mut TokenSet) {
    let text = match read_text(path) {
        Ok(Some(text)) => text,
        Ok(None) => return,
        Err(error) => {
            set.places.push(place(path, Some(&error)));
            return;
        }
    };
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        set.tokens.push(FoundToken {
            file: Some(path.to_owned()),
            line: index + 1,
            token: Token::parse(line).map(|token| token.with_origin(path.to_owned())),
        });
    }
}

/// The text of a regular file; `None` for anything else, such as a subdirectory.
fn read_text(path: &Path) -> io::Result<Option<Zeroizing<String>>> {
    if !fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let mut text = Zeroizing::new(String::new());
    fs::File::open(path)?
        .take(MAX_FILE)
        .read_to_string(&mut text)?;
    Ok(Some(text))
}
