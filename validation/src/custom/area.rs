//! The work area that checks of the field expect: a folder `glide_` and letters, with the dashboard, the helper
//! libraries and a folder for each scope in it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::dashboard::{Key, Line};
use super::gconfig::RESULT_LIST;
use super::store::{Store, StoreError};

/// Whose files: the four scopes of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `main`: the factory, for all its entries.
    Factory,
    /// `entry`: the factory, for one entry.
    Entry,
    /// `client`: the frontend, for all its groups.
    Frontend,
    /// `client_group`: the frontend, for one group.
    Group,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Factory, Self::Entry, Self::Frontend, Self::Group];

    /// The word that checks get as their second argument.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Factory => "main",
            Self::Entry => "entry",
            Self::Frontend => "client",
            Self::Group => "client_group",
        }
    }

    /// What keys of this scope begin with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Factory => "",
            Self::Entry => "ENTRY_",
            Self::Frontend => "GLIDECLIENT_",
            Self::Group => "GLIDECLIENT_GROUP_",
        }
    }

    const fn work_dir_key(self) -> &'static str {
        match self {
            Self::Factory => "GLIDEIN_WORK_DIR",
            Self::Entry => "GLIDEIN_ENTRY_WORK_DIR",
            Self::Frontend => "GLIDECLIENT_WORK_DIR",
            Self::Group => "GLIDECLIENT_GROUP_WORK_DIR",
        }
    }
}

/// What the dashboard says from the start.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Name of the pilot in the pool, `GLIDEIN_Name`.
    pub pilot: String,
    /// `GLIDEIN_Factory`.
    pub factory: String,
    /// `GLIDEIN_Entry_Name`.
    pub entry: String,
    /// `GLIDECLIENT_Name`.
    pub frontend: String,
    /// `GLIDECLIENT_Group`.
    pub group: String,
    /// Where the batch system started us.
    pub start_directory: PathBuf,
    /// `PROXY_URL`; nothing is `None`.
    pub proxy: Option<String>,
    /// `partitionable` or `fixed`.
    pub slots_layout: String,
    /// More lines: parameters, constants, what the pilot's configuration says. They come last, and win.
    pub more: Vec<(String, String)>,
}

/// Why there is no work area.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AreaError {
    /// A file or folder could not be made.
    #[error("cannot make {} for custom checks; is the disk full or read-only?", path.display())]
    Make {
        /// What.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The dashboard could not be written.
    #[error(transparent)]
    Dashboard(#[from] StoreError),
}

/// A work area. It is removed with the folder it is in, by whoever made that.
#[derive(Debug, Clone)]
pub struct Area {
    top: PathBuf,
    scopes: [PathBuf; 4],
    uuid: String,
}

impl Area {
    /// Makes one below `base`. `program` are the words that call [`super::gconfig`].
    ///
    /// # Errors
    /// [`AreaError`].
    pub fn make(base: &Path, program: &[OsString], identity: &Identity) -> Result<Self, AreaError> {
        let uuid = uuid();
        let letters: String = uuid
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(10)
            .collect();
        let top = base.join(format!("glide_{letters}"));
        let name = |prefix: &str, name: &str| top.join(format!("{prefix}_{}", plain(name)));
        let scopes = [
            top.join("main"),
            name("entry", &identity.entry),
            top.join("client"),
            name("client_group", &identity.group),
        ];
        let area = Self { top, scopes, uuid };
        area.folders()?;
        area.helpers(program)?;
        area.seed(identity)?;
        Ok(area)
    }

    /// The folder that start-up checks run in.
    #[must_use]
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// The folder of a scope's files.
    #[must_use]
    pub fn scope(&self, scope: Scope) -> &Path {
        let [factory, entry, frontend, group] = &self.scopes;
        match scope {
            Scope::Factory => factory,
            Scope::Entry => entry,
            Scope::Frontend => frontend,
            Scope::Group => group,
        }
    }

    /// The dashboard.
    #[must_use]
    pub fn dashboard(&self) -> Store {
        Store::at(self.top.join("glidein_config"))
    }

    /// The file of variables of a scope.
    #[must_use]
    pub fn vars(&self, scope: Scope) -> PathBuf {
        self.scope(scope).join("condor_vars.lst")
    }

    /// The list of all results.
    #[must_use]
    pub fn results(&self) -> PathBuf {
        self.top.join(RESULT_LIST)
    }

    /// Where scripts for the pilot's end are.
    #[must_use]
    pub fn cleanup(&self) -> PathBuf {
        self.top.join(".gwms.d/exec/cleanup")
    }

    /// The pilot's number among all.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The search path of checks: what they dropped comes first.
    #[must_use]
    pub fn search_path(&self, inherited: Option<&std::ffi::OsStr>) -> OsString {
        let mut path = OsString::from(self.top.join(".gwms.d/bin"));
        path.push(":");
        path.push(
            inherited
                .filter(|path| !path.is_empty())
                .unwrap_or_else(|| std::ffi::OsStr::new("/usr/bin:/bin")),
        );
        path
    }

    fn folders(&self) -> Result<(), AreaError> {
        let below = [
            "condor_config.d",
            "tmp",
            "log",
            "execute",
            "local_tmp",
            "cred.d/idtokens",
            ".gwms.d/bin",
            ".gwms.d/lib",
            ".gwms.d/exec/setup",
            ".gwms.d/exec/prejob",
            ".gwms.d/exec/postjob",
            ".gwms.d/exec/cleanup",
            ".gwms.d/exec/setup_singularity",
        ];
        let folders = below.iter().map(|name| self.top.join(name));
        for folder in folders.chain(self.scopes.iter().cloned()) {
            fs::create_dir_all(&folder).map_err(|source| AreaError::Make {
                path: folder,
                source,
            })?;
        }
        // Jobs under other accounts look into the area; the pilot's credentials are not for them.
        let private = self.top.join("cred.d");
        fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).map_err(|source| {
            AreaError::Make {
                path: private,
                source,
            }
        })?;
        for name in [
            "otrb_output.xml",
            "otrx_output.xml",
            RESULT_LIST,
            "wrapper_list.lst",
            "condor_config",
        ] {
            self.write(&self.top.join(name), b"", 0o644)?;
        }
        for scope in Scope::ALL {
            self.write(&self.vars(scope), b"", 0o644)?;
        }
        Ok(())
    }

    fn helpers(&self, program: &[OsString]) -> Result<(), AreaError> {
        let words: Vec<Vec<u8>> = program.iter().map(|word| quoted(word.as_bytes())).collect();
        let program_words = words.join(&b' ');
        let file = words.first().cloned().unwrap_or_default();
        let top = quoted(self.top.as_os_str().as_bytes());
        for (name, text, mode) in HELPERS {
            let mut content = text.as_bytes().to_vec();
            for (mark, value) in [
                (&b"@PROGRAM@"[..], &program_words),
                (b"@FILE@", &file),
                (b"@TOP@", &top),
            ] {
                content = replaced(&content, mark, value);
            }
            self.write(&self.top.join(name), &content, mode)?;
        }
        Ok(())
    }

    fn write(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), AreaError> {
        let put = || {
            fs::write(path, content)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        };
        put().map_err(|source| AreaError::Make {
            path: path.to_owned(),
            source,
        })
    }

    fn seed(&self, identity: &Identity) -> Result<(), AreaError> {
        let top = |name: &str| self.top.join(name).display().to_string();
        let number = std::process::id().to_string();
        let mut lines: Vec<(String, String)> = Vec::new();
        let mut line = |key: &str, value: &str| lines.push((key.to_owned(), value.to_owned()));
        line("ADD_CONFIG_LINE_SOURCE", &top("add_config_line.source"));
        line("GET_ID_SELECTORS_SOURCE", &top("get_id_selectors.source"));
        line("LOGGING_UTILS_SOURCE", &top("logging_utils.source"));
        line("GLIDEIN_PATHS_SOURCE", &top("glidein_paths.source"));
        line("B64UUENCODE_SOURCE", &top("b64uuencode.source"));
        line("ERROR_GEN_PATH", &top("main/error_gen.sh"));
        for scope in Scope::ALL {
            let key = format!("{}CONDOR_VARS_FILE", scope.prefix());
            line(&key, &self.vars(scope).display().to_string());
            line(
                scope.work_dir_key(),
                &self.scope(scope).display().to_string(),
            );
        }
        line("GLIDEIN_WORKSPACE_ORIG", &self.top.display().to_string());
        line(
            "GLIDEIN_START_DIR_ORIG",
            &identity.start_directory.display().to_string(),
        );
        line("TMP_DIR", &top("tmp"));
        line("GLIDEIN_LOCAL_TMP_DIR", &top("local_tmp"));
        line("GLIDEIN_UUID", &self.uuid);
        line("GLIDEIN_Factory", &identity.factory);
        line("GLIDEIN_Name", &identity.pilot);
        line("GLIDEIN_Entry_Name", &identity.entry);
        line("GLIDECLIENT_Name", &identity.frontend);
        line("GLIDECLIENT_Group", &identity.group);
        line("GLIDEIN_CredentialIdentifier", "");
        line("CONDORG_CLUSTER", "");
        line("CONDORG_SUBCLUSTER", "");
        line("CONDORG_SCHEDD", "");
        line("GLIDEIN_STARTUP_PID", &number);
        line("DEBUG_MODE", "1");
        line("PROXY_URL", identity.proxy.as_deref().unwrap_or("None"));
        line("WRAPPER_LIST", &top("wrapper_list.lst"));
        line("SLOTS_LAYOUT", &identity.slots_layout);
        for key in [
            "DESCRIPTION_FILE",
            "DESCRIPTION_ENTRY_FILE",
            "GLIDECLIENT_DESCRIPTION_FILE",
            "GLIDECLIENT_DESCRIPTION_GROUP_FILE",
            "GLIDEIN_Signature",
            "GLIDEIN_Entry_Signature",
            "GLIDECLIENT_Signature",
            "GLIDECLIENT_Group_Signature",
        ] {
            line(key, "");
        }
        line("GLIDEIN_INITIALIZED", "0");
        line("GLIDEIN_ADVERTISE_ONLY", "0");
        line("GLIDEIN_CONDOR_TOKEN", "");
        for (key, value) in &identity.more {
            line(key, value);
        }
        let values: Vec<(Key, Line)> = lines
            .into_iter()
            .filter_map(|(key, value)| Some((Key::new(key).ok()?, value.as_str().into())))
            .collect();
        self.dashboard().change(&values)?;
        Ok(())
    }
}

/// The files that checks source or call. All are our own text.
const HELPERS: [(&str, &str, u32); 7] = [
    (
        "add_config_line.source",
        include_str!("helpers/add_config_line.source"),
        0o644,
    ),
    (
        "get_id_selectors.source",
        include_str!("helpers/get_id_selectors.source"),
        0o644,
    ),
    (
        "logging_utils.source",
        include_str!("helpers/logging_utils.source"),
        0o644,
    ),
    (
        "glidein_paths.source",
        include_str!("helpers/glidein_paths.source"),
        0o644,
    ),
    (
        "b64uuencode.source",
        include_str!("helpers/b64uuencode.source"),
        0o644,
    ),
    (
        "main/error_gen.sh",
        include_str!("helpers/error_gen.sh"),
        0o755,
    ),
    (
        "main/error_augment.sh",
        include_str!("helpers/error_augment.sh"),
        0o755,
    ),
];

/// A word for a shell, whatever is in it.
fn quoted(word: &[u8]) -> Vec<u8> {
    let mut out = vec![b'\''];
    for &byte in word {
        match byte {
            b'\'' => out.extend_from_slice(b"'\\''"),
            byte => out.push(byte),
        }
    }
    out.push(b'\'');
    out
}

fn replaced(text: &[u8], mark: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(mark.len()).position(|window| window == mark) {
        let (before, after) = rest.split_at(at);
        out.extend_from_slice(before);
        out.extend_from_slice(value);
        rest = after.get(mark.len()..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

/// A name as part of a path.
fn plain(name: &str) -> String {
    name.chars()
        .take(100)
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// A random UUID (RFC 9562, version 4).
fn uuid() -> String {
    let mut bytes = [0_u8; 16];
    if openssl::rand::rand_bytes(&mut bytes).is_err() {
        // Not secret, only different.
        let stamp = u128::from(std::process::id()) << 96
            | std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_nanos());
        bytes = stamp.to_be_bytes();
    }
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (4 << 76) | (2 << 62);
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_has_what_checks_look_for() {
        let base = tempfile::tempdir().unwrap();
        let identity = Identity {
            entry: "CE at site".to_owned(),
            group: "main".to_owned(),
            more: vec![("OSG_PROJECT_NAME".to_owned(), "x y".to_owned())],
            ..Identity::default()
        };
        let program = [
            OsString::from("/it's here/sailplane"),
            OsString::from("gconfig"),
        ];
        let area = Area::make(base.path(), &program, &identity).unwrap();
        let name = area.top().file_name().unwrap().to_str().unwrap();
        assert!(
            name.strip_prefix("glide_")
                .unwrap()
                .bytes()
                .all(|b| b.is_ascii_alphanumeric())
        );
        let board = area.dashboard().load().unwrap();
        for key in [
            "ADD_CONFIG_LINE_SOURCE",
            "ERROR_GEN_PATH",
            "GLIDECLIENT_GROUP_CONDOR_VARS_FILE",
        ] {
            assert!(Path::new(&board.text(key).unwrap()).is_file(), "{key}");
        }
        assert!(
            board
                .text("GLIDEIN_ENTRY_WORK_DIR")
                .unwrap()
                .ends_with("/entry_CE_at_site")
        );
        assert_eq!(board.text("OSG_PROJECT_NAME").as_deref(), Some("x y"));
        assert_eq!(board.get(b"GLIDEIN_CONDOR_TOKEN"), Some(&b""[..]));
        let writer = fs::read_to_string(area.scope(Scope::Factory).join("error_gen.sh")).unwrap();
        assert!(
            writer.contains(r"exec '/it'\''s here/sailplane' 'gconfig' result"),
            "{writer}"
        );
        assert_eq!(area.uuid().len(), 36);
    }
}
