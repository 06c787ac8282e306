//! Enough of HTTP/1.1 to see whether a proxy and a server work, and to read a small document: one request, one answer,
//! without encryption. Fetching files is another module's ([`crate::fetch`]).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::tcp::{self, Came};
use crate::setup::Endpoint;

/// Most bytes of an answer that are read.
const MAX: usize = 64 * 1024;

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// With encryption.
    pub(crate) is_https: bool,
    /// Name or address, without brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// Path and query, beginning with `/`.
    pub(crate) path: String,
}

impl Url {
    /// Reads an absolute URL of `http` or `https` without user and fragment.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (is_https, rest) = match text.split_once("://")? {
            ("http", rest) => (false, rest),
            ("https", rest) => (true, rest),
            _ => return None,
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let is_clean = text.bytes().all(|b| b.is_ascii_graphic()) && !authority.contains('@');
        let default = if is_https { 443 } else { 80 };
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
        let text = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:{default}")
        };
        let endpoint = tcp::endpoint(&text)?;
        is_clean.then(|| Self {
            is_https,
            host: endpoint.host,
            port: endpoint.port,
            path: path.to_owned(),
        })
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Response {
    /// 200 and so on.
    pub(crate) status: u16,
    /// The server's clock, Unix seconds, if it said so.
    pub(crate) date: Option<i64>,
    /// What it sent, cut.
    pub(crate) body: Vec<u8>,
}

/// No answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HttpError {
    /// No connection to the proxy, or without one to the server.
    Connect(Failed),
    /// Connected, and then nothing, or half an answer.
    NoAnswer(String),
    /// What came is not HTTP.
    Malformed,
}

/// How a connection failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed(pub(super) Came);

/// Asks for a document, by a proxy if there is one. With `https` only a tunnel is asked for, or a connection made: the
/// status is 200 if there is one.
///
/// # Errors
/// [`HttpError`].
pub(crate) async fn get(
    proxy: Option<&Endpoint>,
    url: &Url,
    within: Duration,
) -> Result<Response, HttpError> {
    let server = Endpoint {
        text: url.authority(),
        host: url.host.clone(),
        port: url.port,
    };
    let work = async {
        let (came, stream) = tcp::connect(proxy.unwrap_or(&server), within).await;
        let Some(mut stream) = stream else {
            return Err(HttpError::Connect(Failed(came)));
        };
        let host = url.authority();
        let request = match (url.is_https, proxy) {
            (true, None) => {
                return Ok(Response {
                    status: 200,
                    ..Response::default()
                });
            }
            (true, Some(_)) => format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            (false, Some(_)) => format!(
                "GET http://{host}{} HTTP/1.1\r\n{}",
                url.path,
                headers(&host)
            ),
            (false, None) => format!("GET {} HTTP/1.1\r\n{}", url.path, headers(&host)),
        };
        let broken = |error: std::io::Error| HttpError::NoAnswer(tcp::plain(&error));
        stream.write_all(request.as_bytes()).await.map_err(broken)?;
        let mut bytes = Vec::new();
        let mut buffer = [0_u8; 4096];
        loop {
            match stream.read(&mut buffer).await.map_err(broken)? {
                0 => break,
                count => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            }
            // A tunnel stays open.
            if bytes.len() >= MAX || url.is_https && head_end(&bytes).is_some() {
                break;
            }
        }
        if bytes.is_empty() {
            return Err(HttpError::NoAnswer("the connection was closed".to_owned()));
        }
        parse(&bytes).ok_or(HttpError::Malformed)
    };
    timeout(within, work).await.unwrap_or_else(|_| {
        Err(HttpError::NoAnswer(format!(
            "nothing within {} s",
            within.as_secs()
        )))
    })
}

fn headers(host: &str) -> String {
    format!("Host: {host}\r\nUser-Agent: sailplane\r\nConnection: close\r\n\r\n")
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n")
}

/// Reads an answer as far as it came.
#[must_use]
pub(crate) fn parse(bytes: &[u8]) -> Option<Response> {
    let end = head_end(bytes)?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let is_http = words.next()?.starts_with("HTTP/1.");
    let status: u16 = words
        .next()?
        .parse()
        .ok()
        .filter(|status| (100..=999).contains(status))?;
    let (mut date, mut is_chunked) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match name.trim().to_ascii_lowercase().as_str() {
            "date" => date = http_date(value.trim()),
            "transfer-encoding" => is_chunked = value.trim().eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let body = bytes.get(end.saturating_add(4)..)?;
    is_http.then(|| Response {
        status,
        date,
        body: if is_chunked {
            dechunk(body)
        } else {
            body.to_vec()
        },
    })
}

/// The chunks that came whole.
fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = rest
            .get(..at)
            .and_then(|line| std::str::from_utf8(line).ok())
            .and_then(|line| usize::from_str_radix(line.split(';').next()?.trim(), 16).ok());
        let from = at.saturating_add(2);
        let Some(chunk) = size
            .filter(|size| *size > 0)
            .and_then(|size| rest.get(from..from.checked_add(size)?))
        else {
            break;
        };
        body.extend_from_slice(chunk);
        rest = rest
            .get(from.saturating_add(chunk.len()).saturating_add(2)..)
            .unwrap_or_default();
    }
    body
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7; the two older spellings are not read) as Unix seconds.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: i64 = words
        .next()?
        .parse()
        .ok()
        .filter(|day| (1..=31).contains(day))?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|known| *known == month)?;
    let year: i64 = words
        .next()?
        .parse()
        .ok()
        .filter(|year| (1970..=9999).contains(year))?;
    let mut clock = words
        .next()?
        .split(':')
        .map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let is_clock =
        (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
    (is_clock && words.next() == Some("GMT")).then(|| {
        days(year, i64::try_from(month).unwrap_or(0) + 1, day) * 86_400
            + hour * 3600
            + minute * 60
            + second
    })
}

/// Days from 1970 to a date of the Gregorian calendar. Years begin with March here, so that the leap day is the last.
pub(crate) const fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = Url::parse("http://www.example.org:8080/a/b?c=d").unwrap();
        assert_eq!(
            (url.port, url.path.as_str(), url.is_https),
            (8080, "/a/b?c=d", false)
        );
        assert_eq!(Url::parse("https://example.org").unwrap().port, 443);
        assert_eq!(
            Url::parse("http://[2001:db8::1]/x").unwrap().authority(),
            "[2001:db8::1]:80"
        );
        for bad in [
            "ftp://x/",
            "http://",
            "http://a b/",
            "http://u@h/",
            "x",
            "http://h:99999/",
            "http://h/\r\nx",
        ] {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_recorded_answer_is_read() {
        let bytes = b"HTTP/1.1 200 OK\r\nServer: squid/5.7\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nTransfer-Encoding: \
                      chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n";
        let response = parse(bytes).unwrap();
        assert_eq!((response.status, response.date), (200, Some(784_111_777)));
        assert_eq!(response.body, b"hello!");
        for bad in [
            &b"HTTP/1.1 200 OK\r\n"[..],
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 20000 x\r\n\r\n",
            b"\r\n\r\n",
        ] {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn dates() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(
            http_date("Thu, 26 Nov 2026 01:00:00 GMT"),
            Some(1_795_654_800)
        );
        for bad in [
            "",
            "Thu, 32 Nov 2026 01:00:00 GMT",
            "Thu, 26 Nov 2026 25:00:00 GMT",
            "Thu, 26 Nov 2026 01:00:00 CET",
        ] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_and_one_that_answers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/x", listener.local_addr().unwrap())).unwrap();
        let server = tokio::spawn(async move {
            drop(listener.accept().await.unwrap());
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).await.unwrap();
            assert!(request[..count].starts_with(b"GET /x HTTP/1.1\r\n"));
            stream.write_all(b"HTTP/1.0 404 No\r\n\r\n").await.unwrap();
        });
        let within = Duration::from_secs(5);
        assert!(matches!(
            get(None, &url, within).await,
            Err(HttpError::NoAnswer(_))
        ));
        assert_eq!(get(None, &url, within).await.unwrap().status, 404);
        server.await.unwrap();
    }
}
