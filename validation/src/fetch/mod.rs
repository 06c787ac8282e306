//! Gets files from HTTPS servers and from the file system, and believes none of it until its digest is right.
//!
//! * [`location`]: what may be fetched from; [`digest`]: what it is compared with; [`error`]: what can go wrong;
//! * a [`Fetcher`] asks through each proxy in turn and then directly, again after a pause where that may help, some
//!   files at the same time; a file is written beside its place, and put there when it is what it has to be.

pub mod backoff;
pub mod digest;
pub mod error;
#[cfg(feature = "http")]
mod http;
pub mod location;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

pub use digest::Digest;
pub use error::{Blame, Cause, FetchError, Route};
pub use location::{Location, LocationError};

use crate::knob::{Kind, Knob, Knobs, knob};

/// Knobs of fetching.
pub static KNOBS: &[Knob] = &[
    knob(
        &["SAILPLANE_FETCH_PROXIES", "GLIDEIN_Proxy_URL"],
        Kind::List,
        None,
        "",
        "HTTP proxies (http://host:port) through which manifests and their files are fetched, in their order; then it \
         is tried directly, unless the list ends with ONLY. DIRECT in the list is without proxy.",
    ),
    knob(
        &["SAILPLANE_FETCH_CA"],
        Kind::Path,
        None,
        "",
        "CA certificates (PEM) that servers of manifests may have, in addition to those of the system: a file, or a folder \
         of files such as /etc/grid-security/certificates.",
    ),
    knob(
        &["SAILPLANE_FETCH_ATTEMPTS"],
        Kind::Integer(1, 20),
        Some("4"),
        "",
        "How often a file is asked for by each way, with growing pauses, where that may help.",
    ),
    knob(
        &["SAILPLANE_FETCH_TIMEOUT"],
        Kind::Integer(1, 86_400),
        Some("300"),
        "s",
        "Longest time of one transfer.",
    ),
    knob(
        &["SAILPLANE_FETCH_CONNECT_TIMEOUT"],
        Kind::Integer(1, 600),
        Some("10"),
        "s",
        "Longest time until a connection stands.",
    ),
    knob(
        &["SAILPLANE_FETCH_IDLE_TIMEOUT"],
        Kind::Integer(1, 600),
        Some("20"),
        "s",
        "Longest time in which nothing arrives. After it a transfer has to be faster than SAILPLANE_FETCH_SLOWEST.",
    ),
    knob(
        &["SAILPLANE_FETCH_SLOWEST"],
        Kind::Integer(0, 1 << 30),
        Some("512"),
        "B/s",
        "Slowest transfer, on average, that is waited for.",
    ),
    knob(
        &["SAILPLANE_FETCH_MAX"],
        Kind::Integer(1, 1 << 20),
        Some("256"),
        "MiB",
        "Largest size of all files of a manifest together.",
    ),
    knob(
        &["SAILPLANE_FETCH_PARALLEL"],
        Kind::Integer(1, 64),
        Some("8"),
        "",
        "Files that are fetched at the same time.",
    ),
];

/// How to fetch.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The ways, in their order.
    pub routes: Vec<Route>,
    /// More CA certificates, PEM.
    pub trusted: Vec<Vec<u8>>,
    /// How often each way is tried.
    pub attempts: u32,
    /// Pause before the second attempt.
    pub pause: Duration,
    /// Longest time of one transfer.
    pub time_limit: Duration,
    /// Longest time until a connection stands.
    pub connect_timeout: Duration,
    /// Longest time in which nothing arrives.
    pub idle_limit: Duration,
    /// Slowest transfer on average, bytes a second.
    pub slowest: u64,
    /// Transfers at the same time.
    pub parallel: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            routes: vec![Route::Direct],
            trusted: Vec::new(),
            attempts: 4,
            pause: Duration::from_millis(500),
            time_limit: Duration::from_secs(300),
            connect_timeout: Duration::from_secs(10),
            idle_limit: Duration::from_secs(20),
            slowest: 512,
            parallel: 8,
        }
    }
}

impl Setup {
    /// What the knobs say.
    ///
    /// # Errors
    /// One sentence: the CA file cannot be read.
    pub fn of(knobs: &Knobs) -> Result<Self, String> {
        let mut trusted = Vec::new();
        if let Some(path) = knobs.path("SAILPLANE_FETCH_CA") {
            trusted = trust(path).map_err(|error| {
                format!(
                    "SAILPLANE_FETCH_CA: cannot read {}: {error}",
                    path.display()
                )
            })?;
        }
        let small = |name: &str| u32::try_from(knobs.count(name)).unwrap_or(u32::MAX);
        Ok(Self {
            routes: routes(knobs.list("SAILPLANE_FETCH_PROXIES")),
            trusted,
            attempts: small("SAILPLANE_FETCH_ATTEMPTS").max(1),
            pause: Self::default().pause,
            time_limit: knobs.seconds("SAILPLANE_FETCH_TIMEOUT"),
            connect_timeout: knobs.seconds("SAILPLANE_FETCH_CONNECT_TIMEOUT"),
            idle_limit: knobs.seconds("SAILPLANE_FETCH_IDLE_TIMEOUT"),
            slowest: knobs.count("SAILPLANE_FETCH_SLOWEST"),
            parallel: usize::try_from(knobs.count("SAILPLANE_FETCH_PARALLEL")).unwrap_or(8),
        })
    }

    /// The first proxy, as scripts want to know it.
    #[must_use]
    pub fn first_proxy(&self) -> Option<&str> {
        self.routes.iter().find_map(|route| match route {
            Route::Proxy(proxy) => Some(proxy.as_str()),
            Route::Direct | Route::Local => None,
        })
    }
}

/// Certificates of a file, or of all files of a folder that look like certificates.
fn trust(path: &Path) -> std::io::Result<Vec<Vec<u8>>> {
    if !path.is_dir() {
        return Ok(vec![fs::read(path)?]);
    }
    let mut files: Vec<PathBuf> = fs::read_dir(path)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| {
            let end = file.extension().and_then(|end| end.to_str()).unwrap_or("");
            matches!(end, "pem" | "crt" | "0")
        })
        .collect();
    files.sort();
    let read = files.iter().map(fs::read).collect::<Result<Vec<_>, _>>()?;
    Ok(read
        .into_iter()
        .filter(|text| {
            text.windows(27)
                .any(|part| part == b"-----BEGIN CERTIFICATE-----")
        })
        .collect())
}

fn routes(words: &[String]) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    let mut only = false;
    for word in words {
        let route = match word.to_ascii_uppercase().as_str() {
            "ONLY" => {
                only = true;
                continue;
            }
            // Factories write None for "no proxy".
            "DIRECT" | "NONE" => Route::Direct,
            _ if word.contains("://") => Route::Proxy(word.clone()),
            _ => Route::Proxy(format!("http://{word}")),
        };
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    if routes.is_empty() || !(only || routes.contains(&Route::Direct)) {
        routes.push(Route::Direct);
    }
    routes
}

/// What a file has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Its digest.
    pub digest: Digest,
    /// Its size, bytes.
    pub size: u64,
}

/// Fetches.
#[derive(Debug, Clone)]
pub struct Fetcher {
    #[cfg(feature = "http")]
    setup: Arc<Setup>,
    #[cfg(feature = "http")]
    ways: Vec<http::Way>,
    places: Arc<Semaphore>,
}

impl Fetcher {
    /// Prepares the ways.
    ///
    /// # Errors
    /// One sentence: a proxy or a CA certificate cannot be used.
    pub fn new(setup: Setup) -> Result<Self, String> {
        #[cfg(feature = "http")]
        let ways = setup
            .routes
            .iter()
            .map(|route| {
                http::Way::new(route.clone(), &setup)
                    .map_err(|error| format!("cannot fetch {route}: {error}"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            places: Arc::new(Semaphore::new(setup.parallel.max(1))),
            #[cfg(feature = "http")]
            ways,
            #[cfg(feature = "http")]
            setup: Arc::new(setup),
        })
    }

    /// Gets a small file into memory; nothing is known of it but its largest size.
    ///
    /// # Errors
    /// [`FetchError`], of the last way that was tried.
    pub async fn bytes(&self, location: &Location, limit: u64) -> Result<Vec<u8>, FetchError> {
        let mut sink = Sink::memory();
        self.fill(location, limit, None, &mut sink).await?;
        Ok(std::mem::take(&mut sink.bytes))
    }

    /// Gets a file to a path, if it is what it has to be. Until then there is nothing under that path.
    ///
    /// # Errors
    /// [`FetchError`], of the last way that was tried.
    pub async fn save(
        &self,
        location: &Location,
        expected: Expected,
        path: &Path,
        mode: u32,
    ) -> Result<(), FetchError> {
        let mut sink = Sink::file(path)
            .map_err(|cause| FetchError::new(location.as_str(), Route::Local, cause))?;
        self.fill(location, expected.size, Some(expected), &mut sink)
            .await?;
        sink.put(path, mode)
            .map_err(|cause| FetchError::new(location.as_str(), Route::Local, cause))
    }

    async fn fill(
        &self,
        location: &Location,
        limit: u64,
        expected: Option<Expected>,
        sink: &mut Sink,
    ) -> Result<(), FetchError> {
        // Closed by nobody.
        let _place = self.places.acquire().await;
        if let Some(file) = location.file() {
            let failed = |cause| FetchError::new(location.as_str(), Route::Local, cause);
            read_file(file, limit, sink).map_err(failed)?;
            return judged(sink, expected).map_err(failed);
        }
        self.over_http(location, limit, expected, sink).await
    }

    #[cfg(not(feature = "http"))]
    #[expect(clippy::unused_async, reason = "the other one waits")]
    async fn over_http(
        &self,
        location: &Location,
        _: u64,
        _: Option<Expected>,
        _: &mut Sink,
    ) -> Result<(), FetchError> {
        Err(FetchError::new(
            location.as_str(),
            Route::Direct,
            Cause::NoHttp,
        ))
    }

    #[cfg(feature = "http")]
    async fn over_http(
        &self,
        location: &Location,
        limit: u64,
        expected: Option<Expected>,
        sink: &mut Sink,
    ) -> Result<(), FetchError> {
        let mut attempt = 0;
        loop {
            let mut again = false;
            let mut last = None;
            // A proxy that did not answer is not asked for each of a hundred files; later it may be there again.
            let skip = attempt == 0 && self.ways.iter().any(|way| !way.is_down());
            for way in &self.ways {
                if skip && way.is_down() {
                    continue;
                }
                let failed = |cause| FetchError::new(location.as_str(), way.route.clone(), cause);
                sink.restart().map_err(failed)?;
                let done = match way.get(location, limit, &self.setup, sink).await {
                    Ok(()) => judged(sink, expected).map_err(failed),
                    Err(error) => Err(error),
                };
                let Err(error) = done else { return Ok(()) };
                tracing::info!("not fetched: {error}");
                way.note(&error);
                again |= error.transient();
                let other = error.worth_another_route();
                last = Some(error);
                if !other {
                    break;
                }
            }
            attempt += 1;
            let Some(error) = last else { return Ok(()) };
            if !again || attempt >= self.setup.attempts {
                return Err(error);
            }
            let mut chance = [0_u8];
            // Without chance all pauses are whole.
            let _ = openssl::rand::rand_bytes(&mut chance);
            let [chance] = chance;
            let longest = Duration::from_secs(30);
            tokio::time::sleep(backoff::pause(attempt, self.setup.pause, longest, chance)).await;
        }
    }
}

fn judged(sink: &mut Sink, expected: Option<Expected>) -> Result<(), Cause> {
    let (got, bytes) = sink.digest();
    let Some(expected) = expected else {
        return Ok(());
    };
    if bytes < expected.size {
        return Err(Cause::Truncated {
            got: bytes,
            want: expected.size,
        });
    }
    if got != expected.digest {
        return Err(Cause::Digest {
            got,
            want: expected.digest,
        });
    }
    Ok(())
}

fn read_file(file: &Path, limit: u64, sink: &mut Sink) -> Result<(), Cause> {
    let mut handle = OpenOptions::new()
        .read(true)
        // A pipe or a device in its place must not hold us up.
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(file)
        .map_err(Cause::Read)?;
    let meta = handle.metadata().map_err(Cause::Read)?;
    if !meta.is_file() {
        return Err(Cause::Read(std::io::Error::other("it is no regular file")));
    }
    if meta.len() > limit {
        return Err(Cause::TooLarge {
            limit,
            announced: Some(meta.len()),
        });
    }
    let mut buffer = vec![0; 64 * 1024];
    let mut total: u64 = 0;
    loop {
        let got = handle.read(&mut buffer).map_err(Cause::Read)?;
        let Some(chunk) = buffer.get(..got).filter(|chunk| !chunk.is_empty()) else {
            return Ok(());
        };
        total = total.saturating_add(u64::try_from(got).unwrap_or(u64::MAX));
        if total > limit {
            return Err(Cause::TooLarge {
                limit,
                announced: None,
            });
        }
        sink.take(chunk)?;
    }
}

/// Where what arrives goes: memory, or a file without its final name.
struct Sink {
    bytes: Vec<u8>,
    file: Option<(File, PathBuf)>,
    running: digest::Running,
    length: u64,
}

impl Sink {
    fn memory() -> Self {
        Self {
            bytes: Vec::new(),
            file: None,
            running: digest::Running::new(),
            length: 0,
        }
    }

    fn file(path: &Path) -> Result<Self, Cause> {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)
            .map_err(|source| Cause::Write {
                path: part.clone(),
                source,
            })?;
        let mut sink = Self::memory();
        sink.file = Some((file, part));
        Ok(sink)
    }

    #[cfg(feature = "http")]
    fn restart(&mut self) -> Result<(), Cause> {
        use std::io::Seek;
        self.bytes.clear();
        self.length = 0;
        self.running = digest::Running::new();
        if let Some((file, path)) = &mut self.file {
            file.set_len(0)
                .and_then(|()| file.rewind())
                .map_err(|source| Cause::Write {
                    path: path.clone(),
                    source,
                })?;
        }
        Ok(())
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), Cause> {
        self.running.add(chunk);
        self.length = self
            .length
            .saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        match &mut self.file {
            Some((file, path)) => file.write_all(chunk).map_err(|source| Cause::Write {
                path: path.clone(),
                source,
            }),
            None => {
                self.bytes.extend_from_slice(chunk);
                Ok(())
            }
        }
    }

    fn digest(&mut self) -> (Digest, u64) {
        let running = std::mem::replace(&mut self.running, digest::Running::new());
        (running.end(), self.length)
    }

    /// Gives the file its mode, then its name.
    fn put(mut self, path: &Path, mode: u32) -> Result<(), Cause> {
        let Some((file, part)) = self.file.take() else {
            return Ok(());
        };
        let put = || {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            // A file that is open for writing cannot be executed.
            drop(file);
            fs::rename(&part, path)
        };
        put().map_err(|source| Cause::Write {
            path: path.to_owned(),
            source,
        })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some((_, part)) = &self.file {
            let _ = fs::remove_file(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &str) -> Vec<Route> {
        let words: Vec<String> = list.split_whitespace().map(str::to_owned).collect();
        routes(&words)
    }

    #[test]
    fn the_way_without_proxy_comes_last_unless_it_is_not_wanted() {
        let proxy = |text: &str| Route::Proxy(text.to_owned());
        assert_eq!(words(""), [Route::Direct]);
        assert_eq!(words("None"), [Route::Direct]);
        assert_eq!(
            words("http://a:3128 b:3128"),
            [
                proxy("http://a:3128"),
                proxy("http://b:3128"),
                Route::Direct
            ]
        );
        assert_eq!(words("DIRECT a:1"), [Route::Direct, proxy("http://a:1")]);
        assert_eq!(words("a:1 ONLY"), [proxy("http://a:1")]);
    }

    #[tokio::test]
    async fn a_file_is_put_in_place_only_if_it_is_right() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::write(&source, "content").unwrap();
        let location = Location::parse(&format!("file://{}", source.display())).unwrap();
        let fetcher = Fetcher::new(Setup::default()).unwrap();
        let target = folder.path().join("target");
        let expected = |text: &str, size| Expected {
            digest: Digest::of(text.as_bytes()),
            size,
        };
        for (wrong, size) in [("c0ntent", 7), ("content", 6), ("content", 8)] {
            let error = fetcher
                .save(&location, expected(wrong, size), &target, 0o755)
                .await
                .unwrap_err();
            assert_eq!(error.blame(), Blame::Sender, "{error}");
            assert!(!target.exists());
        }
        fetcher
            .save(&location, expected("content", 7), &target, 0o755)
            .await
            .unwrap();
        assert_eq!(
            fs::metadata(&target).unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn pipes_devices_and_folders_are_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fetcher = Fetcher::new(Setup::default()).unwrap();
        for path in [
            pipe.as_path(),
            folder.path(),
            Path::new("/dev/zero"),
            Path::new("/nowhere"),
        ] {
            let location = Location::parse(&format!("file://{}", path.display())).unwrap();
            let error = fetcher.bytes(&location, 100).await.unwrap_err();
            assert!(matches!(error.cause, Cause::Read(_)), "{error}");
        }
    }
}
