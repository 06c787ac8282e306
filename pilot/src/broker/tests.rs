//! The client against a helper that is a task of the test.

use std::os::fd::AsFd;
use std::path::Path;

use launch_protocol::broker::{RefusedBy, Usage};

use super::*;

/// The helper's end: answers by hand.
struct Helper {
    channel: Channel,
}

impl Helper {
    async fn request(&self) -> (Request, Vec<OwnedFd>) {
        let packet = self.channel.receive().await.unwrap().unwrap();
        (Request::decode(&packet.bytes).unwrap(), packet.descriptors)
    }

    async fn reply(&self, id: u32, answer: Answer, descriptors: &[BorrowedFd<'_>]) {
        self.channel
            .send(&Reply { id, answer }.encode().unwrap(), descriptors)
            .await
            .unwrap();
    }
}

fn opened(payload: u32) -> Answer {
    Answer::Opened(Opened {
        payload,
        uid: 60_001,
        gid: 60_001,
        account: "uid60001".to_owned(),
        identity: "/DC=test/CN=Alice".to_owned(),
        not_after: 2_000_000_000,
        limited: true,
        sandbox: Some(PathBuf::from("/x/dir_1")),
        ..Opened::default()
    })
}

fn wanted(label: &str) -> Wanted<'_> {
    Wanted {
        label,
        execute_dir: Path::new("/x"),
        slot_account: None,
        limits: OpenLimits::default(),
    }
}

fn refused(class: RefusalClass) -> Answer {
    Answer::Refused(Refusal {
        class,
        code: "map.none".to_owned(),
        message: "Nobody knows this identity.".to_owned(),
        may_succeed_later: false,
        who: RefusedBy::Mapping,
    })
}

async fn start() -> (Broker, Helper) {
    let (ours, theirs) = channel::pair().unwrap();
    let helper = Helper {
        channel: Channel::new(theirs).unwrap(),
    };
    let (broker, helper) = tokio::join!(Broker::over(Channel::new(ours).unwrap()), async {
        let (request, _) = helper.request().await;
        assert_eq!(request.command, Command::Hello { version: VERSION });
        let hello = Hello {
            version: VERSION,
            switch_version: "0".to_owned(),
            tracking: "cgroup2".to_owned(),
            memory_source: "cgroup2".to_owned(),
            mapping: "none".to_owned(),
            ..Hello::default()
        };
        helper.reply(request.id, Answer::Hello(hello), &[]).await;
        helper
    });
    (broker.unwrap().0, helper)
}

async fn open(broker: &Broker, helper: &Helper, payload: u32) -> (Payload, PayloadEvents) {
    let credential = memfd::sealed("credential", b"proxy").unwrap();
    let (result, ()) = tokio::join!(broker.open(wanted("job 1.0"), &credential), async {
        let (request, descriptors) = helper.request().await;
        let Command::Open { job_label, .. } = request.command else {
            panic!("not an open")
        };
        assert_eq!(job_label, "job 1.0");
        let mut content = String::new();
        std::io::Read::read_to_string(
            &mut std::fs::File::from(descriptors.into_iter().next().unwrap()),
            &mut content,
        )
        .unwrap();
        assert_eq!(content, "proxy");
        helper.reply(request.id, opened(payload), &[]).await;
    });
    result.unwrap()
}

#[tokio::test]
async fn a_payload_from_open_to_close() {
    let (broker, helper) = start().await;
    let (payload, mut events) = open(&broker, &helper, 3).await;
    assert_eq!(payload.sandbox(), Path::new("/x/dir_1"));
    let exited = Answer::Exited {
        payload: 3,
        wait_status: 9,
    };
    helper.reply(0, exited, &[]).await;
    helper.reply(0, Answer::Empty { payload: 3 }, &[]).await;
    assert_eq!(
        events.next().await,
        Some(PayloadEvent::Exited { wait_status: 9 })
    );
    assert_eq!(events.next().await, Some(PayloadEvent::Empty));
    let (result, ()) = tokio::join!(payload.usage(), async {
        let (request, _) = helper.request().await;
        helper
            .reply(
                request.id,
                Answer::Usage(Usage {
                    user_usec: 5,
                    ..Usage::default()
                }),
                &[],
            )
            .await;
    });
    assert_eq!(result.unwrap().user_usec, 5);
    let (result, ()) = tokio::join!(payload.close(), async {
        let (request, _) = helper.request().await;
        assert_eq!(request.command, Command::Close { payload: 3 });
        helper.reply(request.id, Answer::Closed, &[]).await;
    });
    result.unwrap();
}

#[tokio::test]
async fn replies_may_overtake_each_other() {
    let (broker, helper) = start().await;
    let (payload, _events) = open(&broker, &helper, 3).await;
    let (one, two, ()) = tokio::join!(payload.usage(), payload.kill(), async {
        let (first, _) = helper.request().await;
        let (second, _) = helper.request().await;
        helper.reply(second.id, Answer::Done, &[]).await;
        helper
            .reply(first.id, Answer::Usage(Usage::default()), &[])
            .await;
    });
    one.unwrap();
    two.unwrap();
}

#[tokio::test]
async fn a_refusal_keeps_its_class_and_words() {
    let (broker, helper) = start().await;
    let credential = memfd::sealed("credential", b"proxy").unwrap();
    let (result, ()) = tokio::join!(broker.open(wanted("j"), &credential), async {
        let (request, _) = helper.request().await;
        helper
            .reply(request.id, refused(RefusalClass::Job), &[])
            .await;
    });
    let error = result.map(drop).unwrap_err();
    assert_eq!(error.class(), RefusalClass::Job);
    assert!(
        error.to_string().contains("Nobody knows this identity."),
        "{error}"
    );
}

#[tokio::test]
async fn a_helper_that_refuses_to_start_says_why() {
    let (ours, theirs) = channel::pair().unwrap();
    let helper = Helper {
        channel: Channel::new(theirs).unwrap(),
    };
    let (result, ()) = tokio::join!(Broker::over(Channel::new(ours).unwrap()), async {
        helper.reply(0, refused(RefusalClass::Caller), &[]).await;
        // As the real one does: what is unread when the socket closes would take the last word along.
        helper.request().await;
        drop(helper);
    });
    match result.map(drop).unwrap_err() {
        BrokerError::Refused(refusal) => assert_eq!(refusal.class, RefusalClass::Caller),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_dead_helper_wakes_everybody() {
    let (broker, helper) = start().await;
    let (payload, mut events) = open(&broker, &helper, 3).await;
    let (usage, event, (), ()) =
        tokio::join!(payload.usage(), events.next(), broker.closed(), async {
            helper.request().await;
            drop(helper);
        });
    assert!(matches!(usage, Err(BrokerError::Gone)));
    assert_eq!(event, None);
    assert!(matches!(payload.kill().await, Err(BrokerError::Gone)));
}

#[tokio::test]
async fn a_payload_that_comes_too_late_is_closed() {
    let (broker, helper) = start().await;
    let credential = memfd::sealed("credential", b"proxy").unwrap();
    let abandoned = tokio::spawn({
        let broker = broker.clone();
        async move { broker.open(wanted("j"), &credential).await.map(drop) }
    });
    let (request, _) = helper.request().await;
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    helper.reply(request.id, opened(8), &[]).await;
    let (request, _) = helper.request().await;
    assert_eq!(request.command, Command::Close { payload: 8 });
}

#[tokio::test]
async fn a_dropped_payload_is_closed() {
    let (broker, helper) = start().await;
    let (payload, _events) = open(&broker, &helper, 3).await;
    drop(payload);
    let (request, _) = helper.request().await;
    assert_eq!(request.command, Command::Close { payload: 3 });
}

#[tokio::test]
async fn the_last_handle_ends_the_helper() {
    let (broker, helper) = start().await;
    let other = broker.clone();
    drop(broker);
    drop(other);
    assert!(helper.channel.receive().await.unwrap().is_none());
}

#[tokio::test]
async fn the_agents_socket_arrives_and_greets() {
    let (broker, helper) = start().await;
    let (payload, _events) = open(&broker, &helper, 3).await;
    let (ours, theirs) = channel::pair().unwrap();
    let agent_end = Channel::new(theirs).unwrap();
    let (spawned, ()) = tokio::join!(payload.spawn_agent(), async {
        let (request, _) = helper.request().await;
        helper
            .reply(
                request.id,
                Answer::Spawned {
                    payload: 3,
                    pid: 77,
                },
                &[ours.as_fd()],
            )
            .await;
        let ready = launch_protocol::agent::Reply::Ready.encode().unwrap();
        agent_end.send(&ready, &[]).await.unwrap();
    });
    let (mut agent, pid) = spawned.unwrap();
    assert_eq!(pid, 77);
    let (failed, ()) = tokio::join!(agent.make_dir(Path::new("d"), 0o755), async {
        agent_end.receive().await.unwrap().unwrap();
        let failed = launch_protocol::agent::Reply::Failed {
            errno: 28,
            message: "disk full".to_owned(),
        };
        agent_end
            .send(&failed.encode().unwrap(), &[])
            .await
            .unwrap();
    });
    assert_eq!(failed.unwrap_err().errno(), Some(28));
}

#[tokio::test]
async fn nonsense_ends_the_connection() {
    let (broker, helper) = start().await;
    helper.channel.send(b"\xff\xff\xff", &[]).await.unwrap();
    broker.closed().await;
}

#[test]
fn labels_are_made_printable() {
    assert_eq!(printable("a\u{e9}b\nc"), "a?b?c");
    assert_eq!(
        printable(&"x".repeat(1000)).len(),
        launch_protocol::MAX_LABEL
    );
}

#[tokio::test]
async fn a_missing_program_is_the_sites_fault_for_good() {
    let error = Broker::start(Path::new("/nonexistent/switch"))
        .await
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, BrokerError::Spawn { .. }));
    assert_eq!(error.class(), RefusalClass::SitePermanent);
}

#[tokio::test]
async fn nobody_waits_for_preparations() {
    let (broker, helper) = start().await;
    broker.prepare();
    let (request, _) = helper.request().await;
    assert_eq!(request.command, Command::Prepare { sandbox: true });
    // Not answered yet, and other requests go on.
    let (_payload, _events) = open(&broker, &helper, 3).await;
    helper.reply(request.id, Answer::Done, &[]).await;
}

#[tokio::test]
async fn an_answer_nobody_waits_for_is_passed_over() {
    use launch_protocol::agent::{Entry, EntryKind, Reply as AgentReply, Request as AgentRequest};
    let (ours, theirs) = channel::pair().unwrap();
    let agent_end = Channel::new(theirs).unwrap();
    let say = async |reply: AgentReply| {
        agent_end.send(&reply.encode().unwrap(), &[]).await.unwrap();
    };
    let next = async || {
        let packet = agent_end.receive().await.unwrap().unwrap();
        AgentRequest::decode(&packet.bytes).unwrap()
    };
    let entries = |name: &str, more| AgentReply::Entries {
        entries: vec![Entry {
            name: name.into(),
            kind: EntryKind::File,
            size: 0,
            inode: 1,
            mtime_ns: 0,
            ctime_ns: 0,
            mode: 0o644,
        }],
        more,
    };
    say(AgentReply::Ready).await;
    let mut agent = Agent::greet(ours).await.unwrap();
    // Dropped before the answer, and in the midst of one.
    tokio::select! {
        biased;
        _ = agent.make_dir(Path::new("d"), 0o755) => panic!("nobody has answered"),
        _ = next() => {}
    }
    say(AgentReply::Done).await;
    let half = async {
        next().await;
        say(entries("old", true)).await;
        tokio::task::yield_now().await;
    };
    tokio::select! {
        biased;
        _ = agent.list(Path::new("")) => panic!("the list is not complete"),
        () = half => {}
    }
    say(entries("older", false)).await;
    let (listed, ()) = tokio::join!(agent.list(Path::new("")), async {
        next().await;
        say(entries("new", false)).await;
    });
    let names: Vec<_> = listed
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, [PathBuf::from("new")]);
}
