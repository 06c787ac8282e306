//! The network: names, the pool, the web, other services.

pub(super) mod dns;
pub(super) mod http;
pub(super) mod pool;
pub(super) mod ports;
pub(super) mod proxy;
mod proxy_list;
pub(super) mod tcp;

/// For the fuzzer: addresses and lists of proxies.
pub(super) fn fuzz_words(text: &str) {
    let _ = proxy_list::parse(text);
    let _ = http::Url::parse(text);
    let _ = tcp::endpoint(text);
}

/// The system's words for an error, without Rust's number.
pub(super) fn system_words(error: &std::io::Error) -> String {
    tcp::plain(error)
}
