//! What a schedd and its shadows rely on.

use std::time::Duration;

use cedar::claim::ClaimId;
use cedar::command;
use classad::Expr;
use sailplane::blame::Exit;
use sailplane::job::{JobEnd, Renewal, StopHow, StopOrder, Wish};
use sailplane::slot::Order;
use sailplane::slot::event::Policy;
use sailplane::slot::eviction::Eviction;
use validation::engine::black_hole::Limits;

use crate::pair::{NO_HOLE, Pilot, Setup, SubmitSide};

const REQUEST: &str = "MyType = \"Job\"\nUser = \"alice@pool\"\nScheddName = \"s@pool\"\nRequirements = TARGET.Cpus >= 1\n\
    AccountingGroup = \"physics\"\nStartdSendsAlives = true\n_condor_StartdHandlesAlives = true\n\
    _condor_SEND_CLAIMED_AD = true";
const JOB: &str =
    "MyType = \"Job\"\nUser = \"alice@pool\"\nClusterId = 7\nProcId = 1\nRequirements = true";

#[tokio::test]
async fn jobs_run_one_after_the_other_on_one_claim() {
    let mut pilot = Pilot::start(Setup::default()).await;
    let schedd = SubmitSide::matched(&pilot).await;
    let (answer, ad) = schedd.request(REQUEST).await;
    assert_eq!(answer, 1);
    assert_eq!(ad.unwrap().string("State").as_deref(), Some("Claimed"));
    for _ in 0..20 {
        let (answer, _syscalls) = schedd.activate(JOB).await;
        assert_eq!(answer, 1);
        let played = pilot.job().await;
        assert_eq!(played.activation.claim, schedd.claim);
        assert_eq!(pilot.state().await, "Claimed/Busy");
        played.end(JobEnd::Finished);
        assert_eq!(
            schedd.deactivate(command::DEACTIVATE_CLAIM_FORCIBLY).await,
            Some(true)
        );
    }
    let ad = pilot.ad().await;
    assert_eq!(ad.string("RemoteOwner").as_deref(), Some("alice@pool"));
    assert_eq!(
        ad.string("AccountingGroup").as_deref(),
        Some("physics@pool")
    );
    schedd.release().await;
    pilot.reaches("Unclaimed/Idle").await;
    assert_ne!(pilot.offered().await, schedd.claim);
}

#[tokio::test]
async fn the_running_job_is_shown() {
    let mut pilot = Pilot::start(Setup::default()).await;
    let schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    let (_, _syscalls) = schedd.activate(JOB).await;
    let _played = pilot.job().await;
    let ad = pilot.ad().await;
    assert_eq!(ad.string("JobId").as_deref(), Some("7.1"));
    assert_eq!(ad.string("RemoteUser").as_deref(), Some("alice@pool"));
    assert!(!ad.contains("ClaimId"));
}

#[tokio::test]
async fn a_used_claim_id_is_refused() {
    let pilot = Pilot::start(Setup::default()).await;
    let schedd = SubmitSide::matched(&pilot).await;
    assert_eq!(schedd.request(REQUEST).await.0, 1);
    assert_eq!(schedd.request(REQUEST).await.0, 0);
    schedd.release().await;
    pilot.reaches("Unclaimed/Idle").await;
    assert_eq!(schedd.request(REQUEST).await.0, 0);
    assert_eq!(schedd.activate(JOB).await.0, 0);
}

#[tokio::test]
async fn start_is_checked_at_the_claim_and_again_at_the_activation() {
    let setup = Setup {
        start: "TARGET.User == \"alice@pool\"",
        ..Setup::default()
    };
    let mut pilot = Pilot::start(setup).await;
    let schedd = SubmitSide::matched(&pilot).await;
    assert_eq!(
        schedd.request(&REQUEST.replace("alice", "mallory")).await.0,
        0
    );
    assert_eq!(
        schedd
            .request(&REQUEST.replace("Cpus >= 1", "Cpus >= 99"))
            .await
            .0,
        0
    );
    assert_eq!(schedd.request(REQUEST).await.0, 1);
    assert_eq!(schedd.activate(&JOB.replace("alice", "mallory")).await.0, 0);
    assert_eq!(schedd.activate(JOB).await.0, 1);
    pilot.job().await;
}

#[tokio::test]
async fn a_start_that_is_false_without_a_job_is_published_as_written() {
    let setup = Setup {
        start: "TARGET.Wanted =?= true",
        ..Setup::default()
    };
    let pilot = Pilot::start(setup).await;
    let schedd = SubmitSide::matched(&pilot).await;
    // Past the first evaluation by the clock.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(pilot.state().await, "Unclaimed/Idle");
    let start = pilot.ad().await.get("Start").unwrap().to_old();
    assert_eq!(start, "TARGET.Wanted =?= true");
    assert_eq!(schedd.request(REQUEST).await.0, 0);
    let wanted = format!("{REQUEST}\nWanted = true");
    assert_eq!(schedd.request(&wanted).await.0, 1);
}

#[tokio::test]
async fn another_claims_id_in_the_message_opens_nothing() {
    let pilot = Pilot::start(Setup::default()).await;
    let mut schedd = SubmitSide::matched(&pilot).await;
    let text = schedd.claim.as_str();
    let last = if text.ends_with('0') { '1' } else { '0' };
    let forged = ClaimId::parse(&format!("{}{last}", &text[..text.len() - 1])).unwrap();
    let mut stream = schedd.open(command::REQUEST_CLAIM).await.unwrap();
    schedd.claim = forged;
    let mut message = stream.message();
    message
        .str(schedd.claim.as_str())
        .ad(&classad::ClassAd::parse_old(REQUEST).unwrap());
    message.str("<127.0.0.1:1>").int(300);
    stream.send(message).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().reader().int().unwrap(), 0);
    assert_eq!(pilot.state().await, "Unclaimed/Idle");
}

#[tokio::test]
async fn a_garbled_command_harms_nobody() {
    let mut pilot = Pilot::start(Setup::default()).await;
    let schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    for command in [
        command::ACTIVATE_CLAIM,
        command::RELEASE_CLAIM,
        command::CA_CMD,
        command::REQUEST_CLAIM,
    ] {
        let mut stream = schedd.open(command).await.unwrap();
        let mut message = stream.message();
        message.int(-1).bytes(b"\xff\xff nonsense");
        stream.send(message).await.unwrap();
        assert!(stream.recv().await.is_err());
    }
    assert_eq!(schedd.activate(JOB).await.0, 1);
    pilot.job().await;
}

#[tokio::test]
async fn a_deactivation_is_answered_before_the_job_is_stopped() {
    let mut pilot = Pilot::start(Setup::default()).await;
    let schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    let (_, _syscalls) = schedd.activate(JOB).await;
    let mut played = pilot.job().await;
    assert_eq!(
        schedd.deactivate(command::DEACTIVATE_CLAIM).await,
        Some(true)
    );
    let order = played.orders.recv().await.unwrap();
    assert!(
        matches!(
            order,
            StopOrder::Soft {
                how: StopHow::Deactivate,
                ..
            }
        ),
        "{order:?}"
    );
    assert_eq!(
        schedd.deactivate(command::DEACTIVATE_CLAIM_FORCIBLY).await,
        Some(true)
    );
    let order = played.orders.recv().await.unwrap();
    assert!(
        matches!(
            order,
            StopOrder::Hard {
                how: StopHow::DeactivateForcibly,
                ..
            }
        ),
        "{order:?}"
    );
    played.end(JobEnd::Evicted);
    pilot.reaches("Claimed/Idle").await;
}

#[tokio::test]
async fn the_next_activation_may_be_early() {
    let mut pilot = Pilot::start(Setup::default()).await;
    let schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    let (_, _first) = schedd.activate(JOB).await;
    let played = pilot.job().await;
    let (answer, ()) = tokio::join!(schedd.activate(JOB), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        played.end(JobEnd::Finished);
    });
    assert_eq!(answer.0, 1);
    pilot.job().await;
}

#[tokio::test]
async fn an_activation_that_waits_too_long_is_told_to_come_again() {
    let policy = Policy {
        activation_wait: Duration::from_millis(50),
        ..Policy::default()
    };
    let mut pilot = Pilot::start(Setup {
        policy,
        ..Setup::default()
    })
    .await;
    let schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    let (_, _first) = schedd.activate(JOB).await;
    let _played = pilot.job().await;
    assert_eq!(schedd.activate(JOB).await.0, 2);
}

#[tokio::test]
async fn a_lost_shadow_makes_the_slot_ask_and_drop_an_unknown_claim() {
    let mut pilot = Pilot::start(Setup::default()).await;
    let mut schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    let (_, _syscalls) = schedd.activate(JOB).await;
    pilot.job().await.end(JobEnd::ShadowLost);
    let (command, mut stream) = schedd.hears().await;
    assert_eq!(command, command::ALIVE);
    assert_eq!(
        stream.recv().await.unwrap().reader().str().unwrap(),
        schedd.claim.as_str()
    );
    let mut answer = stream.message();
    answer.int(-1);
    stream.send(answer).await.unwrap();
    pilot.reaches("Unclaimed/Idle").await;
}

#[tokio::test]
async fn a_job_that_the_policy_does_not_want_is_stopped_held_and_its_claim_ends() {
    let expr = |text| Expr::parse_old(text).unwrap();
    let eviction = Eviction {
        preempt: expr("MemoryUsage > 100"),
        hold: expr("TARGET.MemoryUsage > 1000"),
        reason: expr("strcat(\"it uses \", MemoryUsage, \" MiB\")"),
        subcode: expr("102"),
    };
    for (mib, hold) in [(1500, Some("it uses 1500 MiB")), (500, None)] {
        let mut pilot = Pilot::start(Setup {
            eviction: eviction.clone(),
            ..Setup::default()
        })
        .await;
        let schedd = SubmitSide::matched(&pilot).await;
        schedd.request(REQUEST).await;
        let (_, _syscalls) = schedd.activate(JOB).await;
        let mut played = pilot.job().await;
        let uses = |mib: u64| {
            played.progress.send_modify(|progress| {
                progress.started = Some(1);
                progress.image_size_kib = mib << 10;
            });
        };
        uses(100);
        let polls = tokio::time::timeout(Duration::from_millis(700), played.orders.recv()).await;
        assert!(polls.is_err(), "stopped while it may stay: {polls:?}");
        uses(mib);
        let order = played.orders.recv().await.unwrap();
        let StopOrder::Soft {
            how: StopHow::Preempt(how),
            ..
        } = order
        else {
            panic!("{order:?}");
        };
        let how = how.map(|hold| (hold.code as i32, hold.subcode, hold.reason));
        assert_eq!(how, hold.map(|text| (21, 102, text.to_owned())));
        pilot.reaches("Preempting/Vacating").await;
        played.end(JobEnd::Held);
        assert_eq!(
            schedd.deactivate(command::DEACTIVATE_CLAIM_FORCIBLY).await,
            Some(false),
            "the claim can be used again"
        );
        // The slot is offered again: the policy is about jobs, not about the node.
        pilot.reaches("Unclaimed/Idle").await;
    }
}

#[tokio::test]
async fn a_retiring_pilot_gives_claims_back_and_ends() {
    let mut pilot = Pilot::start(Setup::default()).await;
    let mut schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    let (_, _syscalls) = schedd.activate(JOB).await;
    let mut played = pilot.job().await;
    pilot
        .startd
        .order(Order::Retire {
            exit: Exit::Retired,
            why: "test".to_owned(),
        })
        .await;
    let order = played.orders.recv().await.unwrap();
    assert!(
        matches!(
            order,
            StopOrder::Soft {
                how: StopHow::Retire,
                ..
            }
        ),
        "{order:?}"
    );
    let ad = pilot.ad().await;
    assert_eq!(
        (ad.bool("Start"), ad.string("State").as_deref()),
        (Some(false), Some("Preempting"))
    );
    played.end(JobEnd::Evicted);
    assert_eq!(
        schedd.deactivate(command::DEACTIVATE_CLAIM_FORCIBLY).await,
        Some(false)
    );
    let ending = pilot.ending.await.unwrap();
    assert_eq!(ending.exit, Exit::Retired);

    let pilot = Pilot::start(Setup::default()).await;
    schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    pilot
        .startd
        .order(Order::Retire {
            exit: Exit::Retired,
            why: "test".to_owned(),
        })
        .await;
    assert_eq!(schedd.hears().await.0, command::RELEASE_CLAIM);
    pilot.ending.await.unwrap();
}

#[tokio::test]
async fn a_site_that_cannot_run_jobs_retires_with_its_own_status() {
    let mut pilot = Pilot::start(Setup::default()).await;
    let schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    let (_, _syscalls) = schedd.activate(JOB).await;
    pilot.job().await.end(JobEnd::Site {
        permanent: true,
        reason: "the helper is not setuid".to_owned(),
    });
    pilot.reaches("Preempting/Vacating").await;
    let ad = pilot.ad().await;
    assert_eq!(ad.bool("Start"), Some(false));
    assert_eq!(
        ad.string("SailplaneNotAcceptingReason").as_deref(),
        Some("the helper is not setuid")
    );
    assert_eq!(
        schedd.deactivate(command::DEACTIVATE_CLAIM_FORCIBLY).await,
        Some(false)
    );
    let ending = pilot.ending.await.unwrap();
    assert_eq!(
        (ending.exit, ending.why.as_str()),
        (Exit::SitePermanent, "the helper is not setuid")
    );
}

#[tokio::test]
async fn a_passing_trouble_of_the_site_closes_the_slot_for_a_while() {
    let mut pilot = Pilot::start(Setup::default()).await;
    let schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    let (_, _syscalls) = schedd.activate(JOB).await;
    pilot.job().await.end(JobEnd::Site {
        permanent: false,
        reason: "no free account".to_owned(),
    });
    pilot.reaches("Preempting/Vacating").await;
    assert_eq!(
        schedd.deactivate(command::DEACTIVATE_CLAIM_FORCIBLY).await,
        Some(false)
    );
    pilot.reaches("Owner/Idle").await;
    assert_eq!(
        pilot
            .ad()
            .await
            .string("SailplaneNotAcceptingReason")
            .as_deref(),
        Some("no free account")
    );
}

/// With a limit of one failure: what the end of a job does to matching.
async fn after(end: JobEnd) -> (Option<bool>, String, Option<i64>) {
    let setup = Setup {
        black_hole: Limits {
            failures: 1,
            ..NO_HOLE
        },
        ..Setup::default()
    };
    let mut pilot = Pilot::start(setup).await;
    let schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    let (_, _syscalls) = schedd.activate(JOB).await;
    pilot.job().await.end(end);
    schedd.deactivate(command::DEACTIVATE_CLAIM_FORCIBLY).await;
    let ad = pilot.ad().await;
    (
        ad.bool("Start"),
        ad.string("SailplaneNotAcceptingReason").unwrap_or_default(),
        ad.int("SailplaneEnvironmentFailures"),
    )
}

#[tokio::test]
async fn only_what_the_node_is_to_blame_for_makes_a_black_hole() {
    for end in [
        JobEnd::Site {
            permanent: false,
            reason: "no free account".to_owned(),
        },
        JobEnd::HeldByNode {
            reason: "no free account".to_owned(),
        },
    ] {
        let (start, why, failures) = after(end).await;
        assert_eq!((start, failures), (Some(false), Some(1)));
        assert_eq!(
            why,
            "1 of the last 1 jobs failed within 600 s because of this node, the last one so: no free account"
        );
    }
    for end in [JobEnd::Finished, JobEnd::Held, JobEnd::Evicted] {
        let (start, why, failures) = after(end).await;
        assert_ne!(start, Some(false));
        assert_eq!((why.as_str(), failures), ("", Some(0)));
    }
    // The slot waits, but the node is not to blame.
    let (_, why, failures) = after(JobEnd::Submit {
        reason: "no file".to_owned(),
    })
    .await;
    assert_eq!((why.as_str(), failures), ("no file", Some(0)));
}

#[tokio::test]
async fn checks_keep_jobs_away_and_let_them_come_again() {
    let pilot = Pilot::start(Setup::default()).await;
    let order = |why: Option<&str>| Order::Checks {
        why: why.map(str::to_owned),
        attributes: vec![
            ("SailplaneValidation".to_owned(), "unfit".into()),
            // Nothing that a check publishes changes who the slot is.
            ("Name".to_owned(), "somebody else".into()),
        ],
        announce: true,
    };
    let name = pilot.ad().await.string("Name");
    pilot.startd.order(order(Some("no disk"))).await;
    let ad = pilot.ad().await;
    assert_eq!(ad.bool("Start"), Some(false));
    assert_eq!(ad.string("SailplaneValidation").as_deref(), Some("unfit"));
    assert_eq!(
        ad.string("SailplaneNotAcceptingReason").as_deref(),
        Some("no disk")
    );
    assert_eq!(ad.string("Name"), name);
    pilot.startd.order(order(None)).await;
    let ad = pilot.ad().await;
    assert_ne!(ad.bool("Start"), Some(false));
    assert!(ad.string("SailplaneNotAcceptingReason").is_none());
    let schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
}

#[tokio::test]
async fn an_unused_pilot_goes_home() {
    let setup = Setup {
        noclaim: Some(Duration::from_millis(300)),
        ..Setup::default()
    };
    let pilot = Pilot::start(setup).await;
    let ending = tokio::time::timeout(Duration::from_secs(5), pilot.ending)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ending.exit, Exit::Retired);
    assert!(
        ending.why.contains("STARTD_NOCLAIM_SHUTDOWN"),
        "{}",
        ending.why
    );
}

#[tokio::test]
async fn a_shadow_looking_for_a_lost_job_is_told_that_it_is_gone() {
    let pilot = Pilot::start(Setup::default()).await;
    let schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    let mut stream = schedd.open(command::CA_CMD).await.unwrap();
    let mut message = stream.message();
    message.ad(&classad::ClassAd::parse_old(
        "MyType = \"Command\"\nCommand = \"CA_LOCATE_STARTER\"",
    )
    .unwrap());
    stream.send(message).await.unwrap();
    let answer = stream.recv().await.unwrap().reader().ad().unwrap();
    assert_ne!(answer.string("Result").as_deref(), Some("Success"));
    assert!(answer.string("ErrorString").is_some());
}

const GLOBAL_ID: &str = "s#1.0#1";

/// CA_LOCATE_STARTER for a job; the answer.
async fn locate(schedd: &SubmitSide, job: &str, from: &str) -> classad::ClassAd {
    let mut ad = classad::ClassAd::new();
    ad.insert("MyType", "Command");
    ad.insert("Command", "CA_LOCATE_STARTER");
    ad.insert("ClaimId", schedd.claim.as_str());
    ad.insert("GlobalJobId", job);
    ad.insert("ScheddIpAddr", from);
    let (answer, _) = schedd.classad_command(&ad).await;
    answer
}

#[tokio::test]
async fn a_shadow_finds_its_job_and_its_connection_becomes_the_jobs() {
    let mut pilot = Pilot::start(Setup::default()).await;
    let mut schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    schedd.activate(JOB).await;
    let mut played = pilot.job().await;
    let here = schedd.address.to_string();
    let failed = |ad: classad::ClassAd| ad.string("Result").as_deref() == Some("Failure");
    // Nothing to come back to before the job runs.
    assert!(failed(locate(&schedd, GLOBAL_ID, &here).await));
    played.progress.send_modify(|progress| {
        let mut starter = classad::ClassAd::new();
        starter.insert("StarterIpAddr", pilot.address.to_string());
        starter.insert("HasReconnect", true);
        progress.starter = Some(std::sync::Arc::new(starter));
        GLOBAL_ID.clone_into(&mut progress.global_job_id);
    });
    assert!(failed(locate(&schedd, "s#2.0#1", &here).await));
    let found = locate(&schedd, GLOBAL_ID, &here).await;
    assert_eq!(found.string("Result").as_deref(), Some("Success"));
    assert_eq!(found.bool("HasReconnect"), Some(true));
    assert_eq!(
        found.string("StarterIpAddr"),
        Some(pilot.address.to_string())
    );

    let mut ad = classad::ClassAd::new();
    ad.insert("Command", "CA_RECONNECT_JOB");
    ad.insert("TransferKey", "1#new");
    let (answer, mut shadow) = schedd.classad_command(&ad).await;
    assert_eq!(answer.string("Result").as_deref(), Some("Success"));
    let mut back = played.activation.line.next().await;
    assert_eq!(back.ad.string("TransferKey").as_deref(), Some("1#new"));
    // From now on the job asks on it.
    let mut question = back.stream.message();
    question.int(-81);
    back.stream.send(question).await.unwrap();
    assert_eq!(shadow.recv().await.unwrap().reader().int().unwrap(), -81);

    // The schedd that moved is the one that is asked while the shadow is away.
    played
        .activation
        .line
        .tell(sailplane::job::LineState::Disconnected);
    let (heard, _) = schedd.hears().await;
    assert_eq!(heard, command::ALIVE);
    played.end(JobEnd::LeaseOver);
    let (heard, _) = schedd.hears().await;
    assert_eq!(heard, command::RELEASE_CLAIM);
    pilot.reaches("Unclaimed/Idle").await;
}

#[tokio::test]
async fn a_claim_sees_its_own_slot_only_and_not_its_secret() {
    let pilot = Pilot::start(Setup::default()).await;
    let schedd = SubmitSide::matched(&pilot).await;
    let mut stream = schedd.open(command::QUERY_STARTD_ADS).await.unwrap();
    let mut message = stream.message();
    message.ad(
        &classad::ClassAd::parse_old("Requirements = true\nProjection = \"Name Machine\"").unwrap(),
    );
    stream.send(message).await.unwrap();
    let answer = stream.recv().await.unwrap();
    let mut reader = answer.reader();
    assert_eq!(reader.int().unwrap(), 1);
    assert_eq!(
        reader.ad().unwrap().string("Name").as_deref(),
        Some("slot1@test")
    );
    assert_eq!(reader.int().unwrap(), 0);
}

#[tokio::test]
async fn k8_a_shadow_suspends_its_job_and_lets_it_go_on() {
    let mut pilot = Pilot::start(Setup::default()).await;
    let schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    let (_, _syscalls) = schedd.activate(JOB).await;
    let mut played = pilot.job().await;
    schedd.tell(command::SUSPEND_CLAIM).await;
    assert!(matches!(
        played.activation.wishes.next().await,
        Wish::Suspend
    ));
    pilot.reaches("Claimed/Suspended").await;
    schedd.tell(command::CONTINUE_CLAIM).await;
    assert!(matches!(
        played.activation.wishes.next().await,
        Wish::Continue
    ));
    pilot.reaches("Claimed/Busy").await;
}

#[tokio::test]
async fn a_copied_proxy_reaches_the_job_and_its_fate_the_shadow() {
    const UPDATE_GSI_CRED: i32 = 487;
    let mut pilot = Pilot::start(Setup::default()).await;
    let schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    let (_, _syscalls) = schedd.activate(JOB).await;
    let mut played = pilot.job().await;
    played.activation.wishes.open();
    for (fate, code) in [
        (Renewal::Taken, 1),
        (Renewal::Refused, 0),
        (Renewal::Declined, 2),
    ] {
        let mut stream = schedd.open(UPDATE_GSI_CRED).await.unwrap();
        let mut message = stream.message();
        message.int(9).int(262_144);
        stream.send(message).await.unwrap();
        let mut message = stream.message();
        message.bytes(b"a renewal");
        stream.send(message).await.unwrap();
        let Wish::Renew { credential, answer } = played.activation.wishes.next().await else {
            panic!("no renewal");
        };
        assert_eq!(credential.as_slice(), b"a renewal");
        answer.send(fate).unwrap();
        assert_eq!(stream.recv().await.unwrap().reader().int().unwrap(), code);
    }
    // Without a job there is nothing to renew.
    played.end(JobEnd::Finished);
    pilot.reaches("Claimed/Idle").await;
    let mut stream = schedd.open(UPDATE_GSI_CRED).await.unwrap();
    let mut message = stream.message();
    message.int(9).int(262_144);
    stream.send(message).await.unwrap();
    let mut message = stream.message();
    message.bytes(b"a renewal");
    stream.send(message).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().reader().int().unwrap(), 0);
}

#[tokio::test]
async fn a_delegation_begins_with_our_request() {
    let mut pilot = Pilot::start(Setup::default()).await;
    let schedd = SubmitSide::matched(&pilot).await;
    schedd.request(REQUEST).await;
    let (_, _syscalls) = schedd.activate(JOB).await;
    let _played = pilot.job().await;
    let mut stream = schedd
        .open(command::DELEGATE_GSI_CRED_STARTER)
        .await
        .unwrap();
    let request = stream.recv().await.unwrap();
    let mut reader = request.reader();
    let size = usize::try_from(reader.int().unwrap()).unwrap();
    let request = reader.bytes(size).unwrap();
    assert_eq!(request.first(), Some(&0x30), "a DER sequence");
    // What comes back is no proxy: refused, and the job hears nothing of it.
    let mut message = stream.message();
    message.int(4).bytes(b"nope");
    stream.send(message).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().reader().int().unwrap(), 0);
}
