//! Over real TLS, through a real proxy, from servers that behave in every way.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use validation::manifest::sign;

use super::support::{Certificate, Pilot, Sender, digest_pin};

/// How the server answers for a path.
#[derive(Clone)]
enum Answer {
    /// As the file is.
    Status(u16),
    /// To elsewhere.
    Redirect(String),
    /// Fewer bytes than announced.
    Truncated,
    /// Far more than announced.
    Endless,
    /// A larger length than allowed.
    Announced(u64),
    /// A byte now and then.
    Drip,
    /// 503 so many times.
    Busy(Arc<AtomicU32>),
    /// Other content.
    Other(Vec<u8>),
}

struct Server {
    port: u16,
    certificate: Arc<Certificate>,
}

impl Server {
    fn new(folder: PathBuf, answers: HashMap<String, Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let certificate = Arc::new(Certificate::new());
        let mine = Arc::clone(&certificate);
        // Ends with the test's process; each connection has its own thread.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (certificate, folder, answers) =
                    (Arc::clone(&mine), folder.clone(), answers.clone());
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
                    if let Some(mut stream) = certificate.accept(stream) {
                        let _ = serve(&mut stream, &folder, &answers);
                    }
                });
            }
        });
        Self { port, certificate }
    }

    fn address(&self, name: &str) -> String {
        format!("https://localhost:{}/{name}", self.port)
    }
}

fn serve(
    stream: &mut (impl Read + Write),
    folder: &std::path::Path,
    answers: &HashMap<String, Answer>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 || request.len() > 8192 {
            return Ok(());
        }
        request.extend(byte);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request
        .split(' ')
        .nth(1)
        .unwrap_or("/")
        .trim_start_matches('/')
        .to_owned();
    let head =
        |status: &str, more: &str| format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n");
    let content = fs::read(folder.join(&path)).ok();
    let good = |bytes: &[u8]| head("200 OK", &format!("Content-Length: {}\r\n", bytes.len()));
    match answers.get(&path) {
        Some(Answer::Status(code)) => {
            stream.write_all(head(&format!("{code} X"), "Content-Length: 0\r\n").as_bytes())
        }
        Some(Answer::Redirect(to)) => stream.write_all(
            head(
                "302 Found",
                &format!("Location: {to}\r\nContent-Length: 0\r\n"),
            )
            .as_bytes(),
        ),
        Some(Answer::Truncated) => {
            let bytes = content.unwrap_or_default();
            stream.write_all(good(&bytes).as_bytes())?;
            stream.write_all(&bytes[..bytes.len() / 2])
        }
        Some(Answer::Endless) => {
            stream.write_all(head("200 OK", "").as_bytes())?;
            loop {
                stream.write_all(&[b'x'; 4096])?;
            }
        }
        Some(Answer::Announced(length)) => {
            stream.write_all(head("200 OK", &format!("Content-Length: {length}\r\n")).as_bytes())
        }
        Some(Answer::Drip) => {
            stream.write_all(head("200 OK", "Content-Length: 19\r\n").as_bytes())?;
            loop {
                stream.write_all(b"x")?;
                stream.flush()?;
                std::thread::park_timeout(Duration::from_millis(300));
            }
        }
        Some(Answer::Busy(left))
            if left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok() =>
        {
            stream.write_all(head("503 Busy", "Content-Length: 0\r\n").as_bytes())
        }
        Some(Answer::Other(bytes)) => {
            stream.write_all(good(bytes).as_bytes())?;
            stream.write_all(bytes)
        }
        _ => match content {
            Some(bytes) => {
                stream.write_all(good(&bytes).as_bytes())?;
                stream.write_all(&bytes)
            }
            None => stream.write_all(head("404 Not Found", "Content-Length: 0\r\n").as_bytes()),
        },
    }
}

/// An HTTP proxy that knows CONNECT.
fn proxy() -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&count);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            seen.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || tunnel(client));
        }
    });
    (address, count)
}

fn tunnel(client: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut target = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(rest) = line.strip_prefix("CONNECT ") {
            target = rest.split(' ').next().unwrap_or_default().to_owned();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let server = TcpStream::connect(target)?;
    (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    let back = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut server = server;
    let _ = std::io::copy(&mut reader, &mut server);
    let _ = server.shutdown(Shutdown::Write);
    let _ = back.join();
    Ok(())
}

/// A pilot that knows the server and has little patience.
fn pilot(server: &Server, manifests: &str) -> Pilot {
    Pilot::new()
        .with(
            "SAILPLANE_FETCH_CA",
            server.certificate.pem.to_str().unwrap(),
        )
        .with("SAILPLANE_FETCH_ATTEMPTS", "2")
        .with("SAILPLANE_FETCH_TIMEOUT", "3")
        .with("SAILPLANE_FETCH_IDLE_TIMEOUT", "1")
        .with("SAILPLANE_MANIFESTS", manifests)
}

fn factory() -> Sender {
    Sender::factory()
        .check("one.sh", "touch one-ran")
        .check("two.sh", "exit 0")
}

#[tokio::test]
async fn a_signed_manifest_comes_over_https_through_a_proxy() {
    let (factory, frontend) = (factory(), Sender::frontend().check("three.sh", "exit 0"));
    let key = factory.folder.path().join("key.pem");
    let pin = sign::make_key(&key).unwrap();
    let manifest = factory.publish();
    sign::sign(&manifest, &key).unwrap();
    let server = Server::new(factory.folder.path().to_owned(), HashMap::new());
    let (proxy, count) = proxy();
    // The old key and the new one, while they change.
    let old = sign::make_key(&factory.folder.path().join("old.pem")).unwrap();
    let list = format!(
        "{}#{old}&{pin} {}",
        server.address("manifest.json"),
        frontend.local()
    );
    let pilot = pilot(&server, &list).with("SAILPLANE_FETCH_PROXIES", &proxy);
    pilot.run().await.passed();
    assert!(count.load(Ordering::SeqCst) >= 1, "the proxy was asked");
}

#[tokio::test]
async fn a_dead_proxy_is_gone_around() {
    let factory = factory();
    let manifest = factory.publish();
    let server = Server::new(factory.folder.path().to_owned(), HashMap::new());
    let list = format!(
        "{}#{}",
        server.address("manifest.json"),
        digest_pin(&manifest)
    );
    let dead = "http://127.0.0.1:9";
    pilot(&server, &list)
        .with("SAILPLANE_FETCH_PROXIES", dead)
        .run()
        .await
        .passed();
    let words = pilot(&server, &list)
        .with("SAILPLANE_FETCH_PROXIES", &format!("{dead} ONLY"))
        .run()
        .await
        .words();
    assert!(
        words.contains("through the proxy http://127.0.0.1:9: no connection"),
        "{words}"
    );
    assert!(words.contains("(site, Network, may pass)"), "{words}");
}

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let factory = factory();
    let manifest = factory.publish();
    let busy = Answer::Busy(Arc::new(AtomicU32::new(1)));
    let server = Server::new(
        factory.folder.path().to_owned(),
        HashMap::from([("one.sh".to_owned(), busy)]),
    );
    let list = format!(
        "{}#{}",
        server.address("manifest.json"),
        digest_pin(&manifest)
    );
    pilot(&server, &list).run().await.passed();
}

#[tokio::test]
async fn poison_is_named_and_nothing_is_run() {
    let cases: Vec<(Answer, &str, &str)> = vec![
        (
            Answer::Other(b"#!/bin/bash\ntouch two-ran\n".to_vec()),
            "",
            "(factory, ",
        ),
        (
            Answer::Other(b"exit 9".to_vec()),
            "it ended after 6 of 19 bytes",
            "(factory, ",
        ),
        (
            Answer::Other(b"#!/bin/bash\nexit 9\n".to_vec()),
            "its digest is",
            "(factory, Corruption)",
        ),
        (
            Answer::Status(404),
            "the server answered 404",
            "(factory, Config)",
        ),
        (
            Answer::Status(503),
            "the server answered 503",
            "(factory, Config, may pass)",
        ),
        (
            Answer::Redirect("http://localhost/two.sh".to_owned()),
            "redirects to http://localhost/two.sh",
            "(factory, Config)",
        ),
        (
            Answer::Redirect("two.sh".to_owned()),
            "redirects more than 5 times",
            "(factory, Config)",
        ),
        (
            Answer::Truncated,
            "it ended after 9 of 19 bytes",
            "may pass)",
        ),
        (Answer::Endless, "more than 19 bytes", "(factory, Config)"),
        (
            Answer::Announced(1 << 40),
            "announced: 1099511627776",
            "(factory, Config)",
        ),
        (Answer::Drip, "too slow", "(site, Network, may pass)"),
    ];
    let factory = factory();
    let manifest = factory.publish();
    let pin = digest_pin(&manifest);
    let mut tasks = tokio::task::JoinSet::new();
    for (answer, said, whose) in cases {
        let server = Server::new(
            factory.folder.path().to_owned(),
            HashMap::from([("two.sh".to_owned(), answer)]),
        );
        let list = format!("{}#{pin}", server.address("manifest.json"));
        tasks.spawn(async move {
            let ran = pilot(&server, &list).run().await;
            let words = ran.words();
            assert!(
                words.starts_with("manifest-factory failed: the file main/two.sh: "),
                "{words}"
            );
            assert!(
                words.contains(said) && words.contains(whose),
                "{words}\n{said}, {whose}"
            );
            assert!(words.contains(&server.address("two.sh")), "{words}");
            let area = ran.area();
            assert!(!area.join("one-ran").exists() && !area.join("main/two.sh").exists());
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_manifest_that_is_not_genuine_is_not_read() {
    let factory = factory();
    let folder = factory.folder.path().to_owned();
    let key = folder.join("key.pem");
    let pin = sign::make_key(&key).unwrap();
    let manifest = factory.publish();
    let server = Server::new(folder.clone(), HashMap::new());
    let signed = format!("{}#{pin}", server.address("manifest.json"));
    let words = |list: String| {
        let pilot = pilot(&server, &list);
        async move { pilot.run().await.words() }
    };
    let unsigned = words(signed.clone()).await;
    assert!(
        unsigned.contains("manifest.json.sig") && unsigned.contains("404"),
        "{unsigned}"
    );
    fs::write(folder.join("manifest.json.sig"), "nonsense").unwrap();
    let said = words(signed.clone()).await;
    assert!(said.contains("has no signature in it"), "{said}");
    let other = folder.join("other.pem");
    sign::make_key(&other).unwrap();
    sign::sign(&manifest, &other).unwrap();
    let said = words(signed.clone()).await;
    assert!(
        said.contains("none of its signatures is by a key that was pinned (factory, Corruption)"),
        "{said}"
    );
    sign::sign(&manifest, &key).unwrap();
    fs::write(
        &manifest,
        fs::read_to_string(&manifest)
            .unwrap()
            .replace("one.sh", "two.sh"),
    )
    .unwrap();
    let said = words(signed).await;
    assert!(said.contains("none of its signatures"), "{said}");
    let said = words(format!(
        "{}#sha256={}",
        server.address("manifest.json"),
        "0".repeat(64)
    ))
    .await;
    assert!(said.contains("was pinned (factory, Corruption)"), "{said}");
    let said = words(server.address("manifest.json")).await;
    assert!(said.contains("is not pinned"), "{said}");
    fs::write(
        &manifest,
        "{\"manifest\": 1, \"owner\": \"frontend\", \"scopes\": [{\"scope\": \"factory\"}]}",
    )
    .unwrap();
    let said = words(format!(
        "{}#{}",
        server.address("manifest.json"),
        digest_pin(&manifest)
    ))
    .await;
    assert!(
        said.contains("manifest-frontend failed") && said.contains("(frontend, VO_Config)"),
        "{said}"
    );
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_no_request() {
    let factory = factory();
    let manifest = factory.publish();
    let server = Server::new(factory.folder.path().to_owned(), HashMap::new());
    let stranger = Certificate::new();
    let list = format!(
        "{}#{}",
        server.address("manifest.json"),
        digest_pin(&manifest)
    );
    let words = pilot(&server, &list)
        .with("SAILPLANE_FETCH_CA", stranger.pem.to_str().unwrap())
        .run()
        .await
        .words();
    assert!(words.contains("certificate is not trusted"), "{words}");
}

#[tokio::test]
async fn names_in_two_manifests_are_refused() {
    let (one, two) = (
        Sender::factory().file("a.sh", "#!/bin/sh\n", json!({"id": "same"})),
        Sender::frontend().file("b.sh", "#!/bin/sh\n", json!({"id": "same"})),
    );
    let words = Pilot::new().gets(&[&one, &two]).run().await.words();
    assert!(
        words.contains("the check same is in two manifests (frontend, VO_Config)"),
        "{words}"
    );
}
