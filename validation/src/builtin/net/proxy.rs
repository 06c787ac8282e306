//! `http-proxy`: the HTTP proxies that are configured work. `http-fetch`: a document can be fetched, by one of them or else
//! directly.

use std::sync::Arc;
use std::time::Duration;

use super::super::simple::{float, probe};
use super::http::{self, HttpError, Response, Url};
use super::proxy_list::{self, ProxyList};
use super::tcp::{self, Came};
use crate::check::{Check, Severity};
use crate::outcome::{Failure, Outcome, Whose};
use crate::probe::{Context, Probe, Running};
use crate::setup::Endpoint;

/// The checks.
pub(in super::super) fn checks(within: Duration) -> [Arc<dyn Probe>; 2] {
    let limit = within
        .saturating_mul(3)
        .saturating_add(Duration::from_secs(5));
    let check = |name, about| {
        Check::new(name, about)
            .limit(limit)
            .every(Duration::from_secs(1800))
    };
    [
        probe(
            check("http-proxy", "the site's HTTP proxies").severity(Severity::Warn),
            run_proxies,
        ),
        probe(
            check(
                "http-fetch",
                "fetching a document by HTTP, by a proxy or directly",
            ),
            run_fetch,
        ),
    ]
}

/// Where the list of proxies is from, and what it is.
fn list(context: &Context) -> Option<(String, ProxyList)> {
    if let Some(text) = context.knobs().text("SAILPLANE_CHECK_HTTP_PROXY") {
        return Some((
            "SAILPLANE_CHECK_HTTP_PROXY".to_owned(),
            proxy_list::parse(text),
        ));
    }
    // What jobs and CVMFS would use.
    ["http_proxy", "OSG_SQUID_LOCATION", "CVMFS_HTTP_PROXY"]
        .iter()
        .find_map(|name| {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
            Some(((*name).to_owned(), proxy_list::parse(&text)))
        })
}

/// The proxies that are configured, best first.
pub(in super::super) fn known(context: &Context) -> Vec<Endpoint> {
    list(context)
        .map(|(_, list)| list.proxies)
        .unwrap_or_default()
}

fn url(context: &Context) -> Option<Url> {
    Url::parse(context.knobs().text("SAILPLANE_CHECK_HTTP_URL")?)
}

/// A proxy, and what came of using it.
#[derive(Debug, Clone)]
struct Tried {
    proxy: Endpoint,
    came: Result<Option<Response>, HttpError>,
}

fn run_proxies(context: &Context) -> Running<'_> {
    Box::pin(async move {
        let Some((from, list)) = list(context) else {
            return Outcome::skipped("no HTTP proxy is configured")
                .attribute("SailplaneHttpProxy", "DIRECT");
        };
        let within = context.knobs().seconds("SAILPLANE_CHECK_CONNECT_TIME");
        let url = url(context);
        let mut tasks = tokio::task::JoinSet::new();
        for (index, proxy) in list.proxies.iter().cloned().enumerate() {
            let url = url.clone();
            tasks.spawn(async move {
                let came = match &url {
                    Some(url) => http::get(Some(&proxy), url, within).await.map(Some),
                    None => match tcp::connect(&proxy, within).await.0 {
                        Came::Connected(..) => Ok(None),
                        came => Err(HttpError::Connect(http::Failed(came))),
                    },
                };
                (index, Tried { proxy, came })
            });
        }
        let mut tried = tasks.join_all().await;
        tried.sort_by_key(|(index, _)| *index);
        let tried: Vec<Tried> = tried.into_iter().map(|(_, tried)| tried).collect();
        judge_proxies(&from, &list.unreadable, &tried)
    })
}

/// Whether a proxy did its work. What the server says is not its fault; what it says itself is.
fn trouble(tried: &Tried) -> Option<Failure> {
    let what = format!("the HTTP proxy {}", tried.proxy.text);
    let site = |why: String, hint: &str| Some(Failure::site(why, hint).transient().kind("Network"));
    match &tried.came {
        Ok(None) => None,
        Ok(Some(response)) => match response.status {
            403 | 407 => site(
                format!("{what} refuses this node (status {})", response.status),
                "add the node to the proxy's access list",
            ),
            502..=504 => site(
                format!("{what} cannot fetch (status {})", response.status),
                "see whether the proxy reaches the outside",
            ),
            _ => None,
        },
        Err(HttpError::Connect(failed)) => failed.0.failure(&what, &tried.proxy.host, Whose::Site),
        Err(HttpError::NoAnswer(said)) => site(
            format!("{what} was connected to and did not answer: {said}"),
            "look at the proxy's log and load",
        ),
        Err(HttpError::Malformed) => site(
            format!("{what} does not speak HTTP"),
            "see whether the port is the proxy's",
        ),
    }
}

fn judge_proxies(from: &str, unreadable: &[String], tried: &[Tried]) -> Outcome {
    let working = tried.iter().find(|tried| trouble(tried).is_none());
    let failures: Vec<Failure> = tried.iter().filter_map(trouble).collect();
    let outcome = if let Some(word) = unreadable.first() {
        let why = format!("{from} has {word:?}, which names no HTTP proxy");
        Outcome::failed(Failure::site(why, "write http://HOST:PORT").kind("Config"))
    } else if let Some(first) = failures.first() {
        let mut failure = first.clone();
        failure.why = match working {
            Some(tried) => format!("{}; {} works", failure.why, tried.proxy.text),
            None => format!("{}; what is fetched now is fetched directly", failure.why),
        };
        Outcome::failed(failure)
    } else {
        Outcome::passed()
    };
    let count = |number: usize| float(u64::try_from(number).unwrap_or(u64::MAX));
    let using = working.map_or_else(
        || "DIRECT".to_owned(),
        |tried| format!("http://{}", tried.proxy.text),
    );
    outcome
        .number("configured", count(tried.len()), "", None)
        .number("dead", count(failures.len()), "", None)
        .attribute("SailplaneHttpProxy", using.as_str())
}

fn run_fetch(context: &Context) -> Running<'_> {
    Box::pin(async move {
        let Some(text) = context.knobs().text("SAILPLANE_CHECK_HTTP_URL") else {
            return Outcome::skipped("SAILPLANE_CHECK_HTTP_URL is not set");
        };
        let Some(url) = Url::parse(text) else {
            let why =
                format!("SAILPLANE_CHECK_HTTP_URL is {text:?}, which is no URL of http or https");
            return Outcome::failed(
                Failure::new(Whose::Factory, why, "write http://HOST/PATH").kind("Config"),
            );
        };
        let within = context.knobs().seconds("SAILPLANE_CHECK_CONNECT_TIME");
        let proxies = known(context);
        let mut said = Vec::new();
        for proxy in proxies.iter().map(Some).chain([None]) {
            let by = proxy.map_or_else(
                || "directly".to_owned(),
                |proxy| format!("by {}", proxy.text),
            );
            match http::get(proxy, &url, within.min(context.remaining())).await {
                Ok(response) if (200..400).contains(&response.status) => {
                    return fetched(&by, &said);
                }
                Ok(response) => said.push(format!("{by}: status {}", response.status)),
                Err(HttpError::Connect(failed)) => {
                    let words = failed.0.failure("it", &url.host, Whose::Site);
                    said.push(format!(
                        "{by}: {}",
                        words.map_or_else(String::new, |failure| failure.why)
                    ));
                }
                Err(HttpError::NoAnswer(words)) => said.push(format!("{by}: {words}")),
                Err(HttpError::Malformed) => said.push(format!("{by}: what came is not HTTP")),
            }
        }
        let why = format!("{text} cannot be fetched; {}", said.join("; "));
        Outcome::failed(
            Failure::site(why, "mend the site's proxy, or let the node reach the web directly; see whether SAILPLANE_CHECK_HTTP_URL is right \
             (`curl -v` on the node)")
                .transient()
                .kind("Network"),
        )
    })
}

fn fetched(by: &str, said: &[String]) -> Outcome {
    let outcome = Outcome::passed().text("fetched", by);
    if said.is_empty() {
        outcome
    } else {
        outcome.detail(said.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(text: &str, came: Result<Option<Response>, HttpError>) -> Tried {
        Tried {
            proxy: tcp::endpoint(text).unwrap(),
            came,
        }
    }

    fn status(status: u16) -> Result<Option<Response>, HttpError> {
        Ok(Some(Response {
            status,
            ..Response::default()
        }))
    }

    #[test]
    fn a_dead_proxy_is_named_and_what_is_used_instead() {
        let dead = tried(
            "a:3128",
            Err(HttpError::Connect(http::Failed(Came::Refused(
                "192.0.2.1:3128".parse().unwrap(),
            )))),
        );
        let outcome = judge_proxies(
            "http_proxy",
            &[],
            &[dead.clone(), tried("b:3128", status(200))],
        );
        assert!(outcome.failure().unwrap().why.ends_with("b:3128 works"));
        let outcome = judge_proxies("http_proxy", &[], &[dead]);
        assert!(outcome.failure().unwrap().why.ends_with("fetched directly"));
        assert_eq!(outcome.attributes[0].value().to_old(), "\"DIRECT\"");
    }

    #[test]
    fn a_proxy_is_not_blamed_for_the_server() {
        assert!(judge_proxies("x", &[], &[tried("a:1", status(404))]).is_passed());
        let outcome = judge_proxies("x", &[], &[tried("a:1", status(403))]);
        assert!(outcome.failure().unwrap().why.contains("refuses this node"));
        assert!(
            judge_proxies("x", &["https://q".to_owned()], &[])
                .failure()
                .is_some()
        );
    }
}
