//! One attempt over HTTPS, by one route.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::LOCATION;
use reqwest::{Certificate, Client, Proxy, Response, Url};
use tokio::time::{Instant, timeout_at};

use super::error::{Cause, FetchError, Route};
use super::location::Location;
use super::{Setup, Sink};

/// Redirections that are followed.
const REDIRECTS: u32 = 5;

/// A way to servers.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) route: Route,
    client: Client,
    down: Arc<AtomicBool>,
}

impl Way {
    /// A way over a proxy, or directly.
    pub(super) fn new(route: Route, setup: &Setup) -> Result<Self, String> {
        let said = |error: reqwest::Error| chain(&error);
        let mut builder = Client::builder()
            .tls_backend_native()
            .https_only(true)
            // Looked at by us: each step has to be https.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(setup.connect_timeout)
            .user_agent(concat!("sailplane/", env!("CARGO_PKG_VERSION")));
        if let Route::Proxy(proxy) = &route {
            builder = builder.proxy(Proxy::all(proxy).map_err(said)?);
        }
        for pem in &setup.trusted {
            let certificates = Certificate::from_pem_bundle(pem).map_err(said)?;
            for certificate in certificates {
                builder = builder.add_root_certificate(certificate);
            }
        }
        Ok(Self {
            route,
            client: builder.build().map_err(said)?,
            down: Arc::default(),
        })
    }

    /// Whether it is a proxy that could not be reached.
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Remembers what this says of the proxy.
    pub(super) fn note(&self, error: &FetchError) {
        if matches!(
            (&self.route, &error.cause),
            (Route::Proxy(_), Cause::Connect(_))
        ) {
            self.down.store(true, Ordering::Relaxed);
        }
    }

    /// Gets a file into a sink, at most `limit` bytes.
    pub(super) async fn get(
        &self,
        location: &Location,
        limit: u64,
        setup: &Setup,
        sink: &mut Sink,
    ) -> Result<(), FetchError> {
        let begin = Instant::now();
        let failed = |cause| FetchError::new(location.as_str(), self.route.clone(), cause);
        let deadline = begin + setup.time_limit;
        let slow = |bytes| {
            failed(Cause::Slow {
                bytes,
                after: begin.elapsed(),
            })
        };
        let mut response = timeout_at(deadline.min(begin + setup.idle_limit), self.ask(location))
            .await
            .map_err(|_| slow(0))?
            .map_err(failed)?;
        let announced = response.content_length();
        if announced.is_some_and(|bytes| bytes > limit) {
            return Err(failed(Cause::TooLarge { limit, announced }));
        }
        let mut got: u64 = 0;
        loop {
            let patience = deadline.min(Instant::now() + setup.idle_limit);
            let chunk = timeout_at(patience, response.chunk())
                .await
                .map_err(|_| slow(got))?;
            let chunk = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => {
                    return Err(failed(match announced {
                        Some(want) if got < want => Cause::Truncated { got, want },
                        _ => Cause::Transfer(chain(&error)),
                    }));
                }
            };
            got = got.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            if got > limit {
                return Err(failed(Cause::TooLarge {
                    limit,
                    announced: None,
                }));
            }
            if trickles(got, begin.elapsed(), setup) {
                return Err(slow(got));
            }
            sink.take(&chunk).map_err(failed)?;
        }
        match announced {
            Some(want) if got < want => Err(failed(Cause::Truncated { got, want })),
            _ => Ok(()),
        }
    }

    async fn ask(&self, location: &Location) -> Result<Response, Cause> {
        let mut url =
            Url::parse(location.as_str()).map_err(|error| Cause::Connect(error.to_string()))?;
        for _ in 0..=REDIRECTS {
            let response = self
                .client
                .get(url.clone())
                .send()
                .await
                .map_err(|error| connect_cause(&error))?;
            let status = response.status();
            if status.is_redirection() {
                let next = response
                    .headers()
                    .get(LOCATION)
                    .and_then(|value| value.to_str().ok())
                    .ok_or(Cause::Status(status.as_u16()))?;
                let target = url
                    .join(next)
                    .map_err(|_| Cause::Redirect(next.chars().take(200).collect()))?;
                if target.scheme() != "https" {
                    return Err(Cause::Redirect(target.as_str().chars().take(200).collect()));
                }
                url = target;
                continue;
            }
            if !status.is_success() {
                return Err(Cause::Status(status.as_u16()));
            }
            return Ok(response);
        }
        Err(Cause::Redirects(REDIRECTS))
    }
}

/// After a while there has to be a certain pace: who sends a byte a second keeps a pilot for days.
fn trickles(got: u64, elapsed: Duration, setup: &Setup) -> bool {
    let seconds = elapsed.as_secs();
    elapsed > setup.idle_limit && got < seconds.saturating_mul(setup.slowest)
}

fn connect_cause(error: &reqwest::Error) -> Cause {
    let text = chain(error);
    if text.contains("certificate") {
        Cause::Tls(text)
    } else if error.is_connect() || error.is_timeout() {
        Cause::Connect(text)
    } else {
        Cause::Transfer(text)
    }
}

/// An error with its causes, without the address: it is said elsewhere.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
        cause = error.source();
    }
    if text.is_empty() {
        text = error.to_string();
    }
    text
}
