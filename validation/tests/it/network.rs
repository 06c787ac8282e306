//! Networks.

use std::io::{Read, Write};
use std::net::TcpListener;

use validation::Whose;

use crate::node::{Node, is_root};

/// A port on which nothing listens.
fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Answers HTTP with this, as often as it is asked, for as long as the test runs.
pub fn web(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 2048];
            let count = stream.read(&mut request).unwrap_or(0);
            let line = String::from_utf8_lossy(&request[..count])
                .lines()
                .next()
                .unwrap_or("")
                .to_owned();
            // Whoever hangs up early may.
            let _ = stream.write_all(answer(&line).as_bytes());
        }
    });
    address
}

#[test]
fn nobody_at_the_collector_and_a_dead_ccb() {
    let failure = Node::new("collector-reachable")
        .collector(&closed())
        .failure();
    assert!(
        failure.whose == Whose::Pool && failure.transient,
        "{failure:?}"
    );
    let failure = Node::new("ccb-reachable").ccb(&closed()).failure();
    assert!(
        failure.why.contains("the CCB server 127.0.0.1"),
        "{failure:?}"
    );
    let there = web(|_| String::new());
    assert!(
        Node::new("collector-reachable")
            .collector(&closed())
            .collector(&there)
            .outcome()
            .is_passed()
    );
}

#[test]
fn a_node_without_a_network() {
    if !is_root() {
        return;
    }
    let failure = Node::new("collector-reachable")
        .network()
        .collector("192.0.2.1:9618")
        .failure();
    assert_eq!(failure.whose, Whose::Site);
    assert!(
        failure
            .why
            .contains("no way to 192.0.2.1:9618 (Network is unreachable)"),
        "{failure:?}"
    );
    let dns = "echo 'nameserver 192.0.2.53' > $W/resolv.conf; mount --bind $W/resolv.conf $(readlink -f /etc/resolv.conf)";
    let failure = Node::new("dns")
        .network()
        .mounts()
        .broken(dns)
        .collector("collector.example:9618")
        .failure();
    assert_eq!(failure.whose, Whose::Site);
    assert!(
        failure.why.contains("collector.example")
            && failure.why.contains("name servers: 192.0.2.53"),
        "{failure:?}"
    );
}

#[test]
fn a_firewall_that_swallows() {
    if !is_root() {
        return;
    }
    // What is sent there comes back to a machine that is not its goal, which drops it.
    let swallow = "ip link set lo up; ip route add 192.0.2.0/24 dev lo; echo 0 > /proc/sys/net/ipv4/conf/lo/accept_local 2>/dev/null || true";
    let node = Node::new("outbound-ports")
        .network()
        .broken(swallow)
        .knob("SAILPLANE_CHECK_CONNECT_TIME", 1);
    let failure = node
        .knob("SAILPLANE_CHECK_PORTS", "192.0.2.1:1094")
        .failure();
    assert_eq!(failure.whose, Whose::Site);
    assert!(
        failure.why.contains("no answer from 192.0.2.1:1094") || failure.why.contains("no way to"),
        "{failure:?}"
    );
}

#[test]
fn blocked_ports() {
    let (one, two) = (closed(), closed());
    let failure = Node::new("outbound-ports")
        .knob("SAILPLANE_CHECK_PORTS", format!("{one} {two}"))
        .failure();
    assert!(failure.why.starts_with("2 of 2 services"), "{failure:?}");
    let failure = Node::new("outbound-ports")
        .knob("SAILPLANE_CHECK_PORTS", "no-port")
        .failure();
    assert_eq!(failure.whose, Whose::Frontend);
}

#[test]
fn a_dead_proxy_and_the_way_around_it() {
    let server = web(|line| {
        assert!(line.starts_with("GET /"), "{line}");
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
    });
    let dead = closed();
    let node = |check| {
        Node::new(check)
            .knob("SAILPLANE_CHECK_HTTP_PROXY", format!("http://{dead}"))
            .knob("SAILPLANE_CHECK_HTTP_URL", format!("http://{server}/x"))
    };
    let failure = node("http-proxy").failure();
    assert!(
        failure.why.contains(&dead) && failure.why.ends_with("fetched directly"),
        "{failure:?}"
    );
    let outcome = node("http-fetch").outcome();
    assert!(outcome.is_passed() && outcome.detail.unwrap().contains(&dead));
    let nowhere =
        node("http-fetch").knob("SAILPLANE_CHECK_HTTP_URL", format!("http://{}/x", closed()));
    assert!(nowhere.failure().why.contains("cannot be fetched"));
    let proxy = web(|line| {
        assert!(line.starts_with("GET http://web.example:80/x"), "{line}");
        "HTTP/1.1 200 OK\r\n\r\n".to_owned()
    });
    let works = Node::new("http-proxy")
        .env("http_proxy", format!("http://{proxy}"))
        .knob("SAILPLANE_CHECK_HTTP_URL", "http://web.example/x");
    assert!(works.outcome().is_passed());
}

#[test]
fn a_wrong_clock() {
    let server =
        web(|_| "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n".to_owned());
    let failure = Node::new("clock")
        .knob("SAILPLANE_CHECK_HTTP_URL", format!("http://{server}/"))
        .failure();
    assert!(
        failure
            .why
            .contains(" days) ahead of that of the web server 127.0.0.1"),
        "{failure:?}"
    );
    assert!(failure.hint.contains("chronyd"));
}

#[test]
fn a_denied_node() {
    let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let failure = Node::new("deny-list")
        .knob("SAILPLANE_CHECK_DENY_HOSTS", format!("x {name}*"))
        .failure();
    assert!(
        failure.whose == Whose::Frontend && failure.why.contains(&name.to_lowercase()),
        "{failure:?}"
    );
}
