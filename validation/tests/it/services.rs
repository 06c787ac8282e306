//! What the site announces.

use validation::Whose;

use crate::network::web;
use crate::node::Node;

#[test]
fn an_end_by_file() {
    let node = Node::new("shutdown")
        .broken("mkdir $W/mf; echo 4102444800 > $W/mf/shutdowntime; export MACHINEFEATURES=$W/mf");
    assert!(node.outcome().is_passed());
    let node = Node::new("shutdown")
        .broken("mkdir $W/jf; echo 1 > $W/jf/shutdowntime_job; export JOBFEATURES=$W/jf");
    let failure = node.failure();
    assert!(
        failure.whose == Whose::Site && failure.why.contains("shutdowntime_job in JOBFEATURES"),
        "{failure:?}"
    );
    let node = Node::new("shutdown").broken("touch $W/stop");
    let stop = node.folder.path().join("stop").display().to_string();
    assert!(
        node.knob("SAILPLANE_CHECK_STOP_FILE", &stop)
            .failure()
            .why
            .contains(&stop)
    );
}

#[test]
fn an_end_by_url() {
    let server = web(|line| {
        if line.starts_with("GET /mf/shutdowntime ") {
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1\n".to_owned()
        } else {
            "HTTP/1.1 404 Not Found\r\n\r\n".to_owned()
        }
    });
    let node = |check| Node::new(check).env("MACHINEFEATURES", format!("http://{server}/mf/"));
    assert!(
        node("shutdown")
            .failure()
            .why
            .contains("shutdowntime in MACHINEFEATURES")
    );
    let outcome = node("machine-job-features").outcome();
    assert!(
        outcome.is_passed() && outcome.attributes[0].name() == "MJF_shutdowntime",
        "{outcome:?}"
    );
}

#[test]
fn features_that_are_not_there() {
    let failure = Node::new("machine-job-features")
        .env("MACHINEFEATURES", "/no/such/place")
        .failure();
    assert!(
        failure
            .why
            .contains("MACHINEFEATURES=/no/such/place cannot be read"),
        "{failure:?}"
    );
}
