//! Signing keys and the pool password: secret files, and the tokens that are made with them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cedar::security::token::{POOL_KEY, SigningKeys};
use cedar::security::{Level, PoolPassword};
use serde_json::json;
use zeroize::Zeroizing;

use super::error::{KeyError, MintError};
use super::knobs::Knobs;
use super::place::Place;

/// Bytes that key files are scrambled with (`htcondor:src/condor_utils/store_cred.cpp`).
const SCRAMBLE: [u8; 4] = [0xDE, 0xAD, 0xBE, 0xEF];

/// Largest key file read.
const MAX_FILE: u64 = 64 * 1024;

/// Longest identity in a token: what fits the messages of the method (protocol page 01, section 5.2).
const MAX_IDENTITY: usize = 1023;

/// Where the keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyFiles {
    /// `SEC_PASSWORD_DIRECTORY`: named keys, one a file.
    pub(super) directory: PathBuf,
    /// `SEC_TOKEN_POOL_SIGNING_KEY_FILE`: the key `POOL`.
    pub(super) pool: PathBuf,
    /// `SEC_PASSWORD_FILE`: the pool password.
    pub(super) password: PathBuf,
    /// `SEC_TOKEN_ISSUER_KEY`: the key that signs what the pool issues.
    pub(super) issuer: String,
    /// `SEC_TOKEN_FETCH_ALLOWED_SIGNING_KEYS`: the keys that users may have their session tokens signed with.
    pub(super) for_users: Vec<String>,
    uid: u32,
}

impl KeyFiles {
    pub(super) fn load(knobs: &mut Knobs<'_>, place: &Place) -> Self {
        let directory = knobs.path("SEC_PASSWORD_DIRECTORY").unwrap_or_else(|| {
            match place.home.as_ref().filter(|_| place.uid != 0) {
                Some(home) => home.join(".condor/passwords.d"),
                None => PathBuf::from("/etc/condor/passwords.d"),
            }
        });
        let password = knobs
            .path("SEC_PASSWORD_FILE")
            .unwrap_or_else(|| directory.join(POOL_KEY));
        let pool = knobs
            .path("SEC_TOKEN_POOL_SIGNING_KEY_FILE")
            .unwrap_or_else(|| password.clone());
        let allowed = knobs.text("SEC_TOKEN_FETCH_ALLOWED_SIGNING_KEYS", POOL_KEY);
        Self {
            directory,
            pool,
            password,
            issuer: knobs.text("SEC_TOKEN_ISSUER_KEY", POOL_KEY),
            for_users: allowed
                .split(|c: char| c == ',' || c.is_ascii_whitespace())
                .filter(|key| !key.is_empty())
                .map(str::to_owned)
                .collect(),
            uid: place.uid,
        }
    }

    /// Makes the key `POOL` if there is none.
    pub(super) fn ensure_pool_key(&self) -> Result<(), KeyError> {
        match fs::symlink_metadata(&self.pool) {
            Ok(_) => return read_secret(&self.pool, self.uid).map(drop),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(KeyError::io(&self.pool, error)),
        }
        let directory = self.pool.parent().unwrap_or_else(|| Path::new("/"));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| KeyError::io(directory, error))?;
        let mut random = Zeroizing::new([0u8; 32]);
        openssl::rand::rand_bytes(random.as_mut_slice())
            .map_err(|error| KeyError::io(&self.pool, io::Error::other(error)))?;
        // Digits and letters: unscrambled, such a key has no zero byte, which old releases take for its end.
        let text: Zeroizing<String> =
            Zeroizing::new(random.iter().map(|byte| format!("{byte:02x}")).collect());
        let scrambled: Zeroizing<Vec<u8>> = Zeroizing::new(
            text.bytes()
                .zip(SCRAMBLE.iter().cycle())
                .map(|(byte, mask)| byte ^ mask)
                .collect(),
        );
        write_new(&self.pool, &scrambled).map_err(|error| KeyError::io(&self.pool, error))
    }

    /// Every key that can be read. Only the key `POOL` must be as it should; what else is wrong in the directory is
    /// told in a sentence each.
    pub(super) fn read(&self) -> Result<(SigningKeys, Vec<String>), KeyError> {
        let mut keys = SigningKeys::new();
        let mut trouble = Vec::new();
        match read_secret(&self.pool, self.uid) {
            Ok(content) => add(&mut keys, POOL_KEY, &self.pool, &content)?,
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error),
        }
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((keys, trouble)),
            Err(error) => return Err(KeyError::io(&self.directory, error)),
        };
        let mut named: Vec<(String, PathBuf)> = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let is_file = fs::metadata(&path).is_ok_and(|metadata| metadata.is_file());
            let special = path == self.pool || path == self.password || name == POOL_KEY;
            if is_file && !special && !name.starts_with('.') {
                named.push((name, path));
            }
        }
        named.sort();
        for (name, path) in named {
            let done = read_secret(&path, self.uid)
                .and_then(|content| add(&mut keys, &name, &path, &content));
            if let Err(error) = done {
                trouble.push(format!("the signing key {name} is not used: {error}"));
            }
        }
        Ok((keys, trouble))
    }

    /// The pool password; `None` if there is no such file.
    pub(super) fn read_password(&self) -> Result<Option<PoolPassword>, KeyError> {
        let content = match read_secret(&self.password, self.uid) {
            Ok(content) => content,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        PoolPassword::from_file_content(&content)
            .map(Some)
            .map_err(|_| KeyError::Empty {
                path: self.password.clone(),
            })
    }
}

fn add(keys: &mut SigningKeys, name: &str, path: &Path, content: &[u8]) -> Result<(), KeyError> {
    keys.add_file(name, content).map_err(|_| KeyError::Empty {
        path: path.to_owned(),
    })
}

/// Reads a file that belongs to us or to root and that nobody else may read.
pub(super) fn read_secret(path: &Path, uid: u32) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let fail = |error| KeyError::io(path, error);
    // Without waiting: somebody may have put a named pipe there.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return Err(fail(io::Error::other("it is not a regular file")));
    }
    if metadata.uid() != uid && metadata.uid() != 0 {
        return Err(KeyError::Owner {
            path: path.to_owned(),
            owner: metadata.uid(),
            wanted: uid,
        });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(KeyError::Mode {
            path: path.to_owned(),
            mode: metadata.mode() & 0o7777,
        });
    }
    let mut content = Zeroizing::new(Vec::new());
    file.take(MAX_FILE)
        .read_to_end(&mut content)
        .map_err(fail)?;
    Ok(content)
}

/// Writes a file that does not exist yet, readable by us only; it appears complete or not at all.
pub(super) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = directory.join(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_file(&draft);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        match fs::hard_link(&draft, path) {
            // Somebody else was faster, and theirs counts.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    })();
    let _ = fs::remove_file(&draft);
    written?;
    File::open(directory)?.sync_all()
}

/// Makes a token.
pub(super) fn mint(
    keys: &SigningKeys,
    key_id: &str,
    issuer: &str,
    identity: &str,
    scopes: &[Level],
    lifetime: Option<Duration>,
    now: i64,
) -> Result<String, MintError> {
    check_identity(identity)?;
    let mut id = [0u8; 16];
    openssl::rand::rand_bytes(&mut id).map_err(|_| MintError::Random)?;
    let mut claims = json!({
        "iss": issuer,
        "sub": identity,
        "iat": now,
        "jti": id.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
    });
    if let Some(claims) = claims.as_object_mut() {
        if !scopes.is_empty() {
            let words: Vec<_> = scopes
                .iter()
                .map(|scope| format!("condor:/{scope}"))
                .collect();
            claims.insert("scope".to_owned(), words.join(" ").into());
        }
        if let Some(lifetime) = lifetime {
            let end = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
            claims.insert("exp".to_owned(), now.saturating_add(end).into());
        }
    }
    match keys.issue(key_id, &claims.to_string()) {
        Some(Ok(token)) => Ok(token),
        Some(Err(_)) => Err(MintError::Random),
        None => Err(MintError::NoKey {
            key: key_id.to_owned(),
            known: keys
                .key_ids()
                .map(str::to_owned)
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// Refuses identities that a token must not carry: those that have a meaning of their own.
pub(super) fn check_identity(identity: &str) -> Result<(), MintError> {
    const RESERVED: [&str; 7] = [
        "matchsession",
        "unmapped",
        "family",
        "child",
        "parent",
        "password",
        "daemon",
    ];
    let fail = |why| {
        Err(MintError::Identity {
            identity: identity.to_owned(),
            why,
        })
    };
    let Some((user, domain)) = identity.split_once('@') else {
        return fail("it must be USER@DOMAIN");
    };
    if user.is_empty() || domain.is_empty() || identity.len() > MAX_IDENTITY {
        return fail("it must be USER@DOMAIN");
    }
    if identity.contains(|c: char| c.is_control() || c.is_whitespace() || c == ',') {
        return fail("it may not contain blanks or commas");
    }
    if RESERVED
        .iter()
        .any(|name| domain.eq_ignore_ascii_case(name))
    {
        return fail("this domain has a meaning of its own");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use cedar::security::token::Token;

    use super::*;

    fn files(directory: &Path) -> KeyFiles {
        KeyFiles {
            directory: directory.to_owned(),
            pool: directory.join("POOL"),
            password: directory.join("POOL"),
            issuer: "POOL".to_owned(),
            for_users: vec!["POOL".to_owned()],
            uid: nix::unistd::geteuid().as_raw(),
        }
    }

    #[test]
    fn the_first_start_makes_a_key_for_nobody_else_and_the_next_keeps_it() {
        let place = tempfile::tempdir().unwrap();
        let files = files(&place.path().join("new/passwords.d"));
        files.ensure_pool_key().unwrap();
        let first = fs::read(&files.pool).unwrap();
        assert_eq!(fs::metadata(&files.pool).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            fs::metadata(&files.directory).unwrap().mode() & 0o777,
            0o700
        );
        files.ensure_pool_key().unwrap();
        assert_eq!(fs::read(&files.pool).unwrap(), first);
        let clear: Vec<u8> = first
            .iter()
            .zip(SCRAMBLE.iter().cycle())
            .map(|(a, b)| a ^ b)
            .collect();
        assert!(clear.len() == 64 && clear.iter().all(u8::is_ascii_hexdigit));
        assert_eq!(
            fs::read_dir(&files.directory).unwrap().count(),
            1,
            "no draft is left"
        );
    }

    #[test]
    fn keys_that_others_can_read_are_refused_with_what_to_do() {
        let place = tempfile::tempdir().unwrap();
        let files = files(place.path());
        files.ensure_pool_key().unwrap();
        fs::write(place.path().join("AP"), "key").unwrap();
        fs::set_permissions(place.path().join("AP"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::create_dir(place.path().join("sub")).unwrap();
        let (keys, trouble) = files.read().unwrap();
        assert_eq!(keys.key_ids().collect::<Vec<_>>(), ["POOL"]);
        assert_eq!(trouble.len(), 1);
        assert!(trouble[0].contains("chmod 600"), "{trouble:?}");
        fs::set_permissions(place.path().join("AP"), fs::Permissions::from_mode(0o600)).unwrap();
        let (keys, trouble) = files.read().unwrap();
        assert_eq!(keys.key_ids().collect::<Vec<_>>(), ["AP", "POOL"]);
        assert!(trouble.is_empty());
        fs::set_permissions(&files.pool, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            files.read(),
            Err(KeyError::Mode { mode: 0o640, .. })
        ));
        assert!(matches!(
            files.ensure_pool_key(),
            Err(KeyError::Mode { .. })
        ));
        let others = KeyFiles {
            uid: 12345,
            ..files
        };
        if nix::unistd::geteuid().is_root() {
            // Root's own files are good for everybody who can open them.
            assert!(matches!(others.read(), Err(KeyError::Mode { .. })));
        } else {
            assert!(matches!(others.read(), Err(KeyError::Owner { .. })));
        }
    }

    #[test]
    fn a_token_says_what_it_was_made_for() {
        let place = tempfile::tempdir().unwrap();
        let files = files(place.path());
        files.ensure_pool_key().unwrap();
        let (keys, _) = files.read().unwrap();
        let scopes = [Level::AdvertiseStartd, Level::Read];
        let life = Some(Duration::from_secs(60));
        let token = mint(&keys, "POOL", "x.org", "pilot@x.org", &scopes, life, 1000).unwrap();
        let token = Token::parse(&token).unwrap();
        let claims = token.claims();
        assert_eq!(
            (claims.issuer.as_str(), claims.subject.as_str()),
            ("x.org", "pilot@x.org")
        );
        assert_eq!((claims.issued_at, claims.expires), (Some(1000), Some(1060)));
        assert_eq!(
            claims.scopes.as_deref(),
            Some("condor:/ADVERTISE_STARTD condor:/READ")
        );
        assert_eq!(claims.id.as_ref().map(String::len), Some(32));
        let plain = mint(&keys, "POOL", "x.org", "a@x.org", &[], None, 1000).unwrap();
        let plain = Token::parse(&plain).unwrap();
        assert_eq!(
            (plain.claims().expires, plain.claims().scopes.as_ref()),
            (None, None)
        );
        let unknown = mint(&keys, "AP", "x.org", "a@x.org", &[], None, 0).unwrap_err();
        assert!(unknown.to_string().contains("POOL"), "{unknown}");
        for wrong in [
            "alice",
            "@x.org",
            "a@",
            "a b@x.org",
            "execute-side@matchsession",
            "a@x,y",
        ] {
            assert!(
                mint(&keys, "POOL", "x.org", wrong, &[], None, 0).is_err(),
                "{wrong}"
            );
        }
    }
}
