//! Recorded starters against the machine of a run.

use std::collections::BTreeSet;

use cedar::{ClaimId, Sinful};
use classad::ClassAd;

use super::answer::{Answer, Sessions};
use super::file_call::{FileCall, OpenFlags};
use super::machine::{Due, Lost, Machine, Place, Reaction};
use super::syscall::Call;
use super::vectors::{Recorded, load, written};
use super::{job_ad, update::Rights};
use crate::queue::{InterruptKind, RunOutcome, RunRecord};
use crate::schedd::claim::{Deactivate, ShadowFacts};
use crate::user_log::Event;

const NOW: i64 = 1_795_349_222;

/// A recorded run: the activation's ad, and what follows its acceptance.
struct Run {
    claim: ClaimId,
    ad: ClassAd,
    messages: Vec<Recorded>,
}

fn run(name: &str) -> Run {
    let mut messages = load(name);
    let rest = messages.split_off(2);
    let mut reader = messages[0].reader();
    let claim = ClaimId::parse(&reader.str().unwrap()).unwrap();
    assert_eq!(reader.int().unwrap(), 2);
    Run {
        claim,
        ad: reader.ad().unwrap(),
        messages: rest,
    }
}

impl Run {
    fn machine(&self) -> Machine {
        let place = Place {
            slot: self.ad.string("RemoteHost").unwrap(),
            startd: self.ad.string("StartdIpAddr").unwrap(),
            max_vacate: 600,
            weight: 1.0,
            reconnects: true,
            our_host: "submit".to_owned(),
        };
        Machine::new(&self.ad, place, Sessions::of(&self.claim), NOW)
    }
}

/// What a recording led to.
#[derive(Default)]
struct Played {
    changes: ClassAd,
    events: Vec<Event>,
    outcome: Option<RunOutcome>,
    files: Vec<FileCall>,
}

impl Played {
    fn events(&self) -> Vec<u16> {
        self.events.iter().map(Event::number).collect()
    }
}

/// Plays a recording, and compares every answer with that of the recorded shadow.
fn play(name: &str) -> (Run, Machine, Played) {
    let run = run(name);
    let mut machine = run.machine();
    let mut played = Played::default();
    let mut is_data = false;
    let mut messages = run.messages.iter().peekable();
    while let Some(message) = messages.next() {
        assert!(!message.is_ours, "{name}: an answer without a question");
        if std::mem::take(&mut is_data) {
            // The bytes of putfile.
            messages.next();
            continue;
        }
        let call = Call::read(message.reader()).unwrap();
        let is_answered = call.is_answered();
        let step = machine.call(call, NOW);
        played.changes.update(&step.changes);
        played.events.extend(step.events);
        let answer = match step.reaction {
            Reaction::Answer(answer) => Some(answer),
            Reaction::Finish(outcome) => {
                played.outcome = Some(outcome);
                Some(Answer::OK)
            }
            Reaction::Abort(outcome) => {
                played.outcome = Some(outcome);
                None
            }
            Reaction::Silence => None,
            Reaction::JobAd => {
                compare_job_ad(&run, messages.next().unwrap());
                continue;
            }
            Reaction::Attribute(attribute) => {
                let text = run
                    .ad
                    .get(&attribute)
                    .map_or_else(|| "UNDEFINED".to_owned(), |expr| expr.to_old());
                Some(Answer::Text(text))
            }
            Reaction::File(call) => {
                is_data = matches!(call, FileCall::PutFile { .. });
                played.files.push(call);
                messages.next();
                continue;
            }
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(answer.is_some(), is_answered, "{name}");
        let Some(answer) = answer else {
            if played.outcome.is_some() {
                // What a starter still says after its last word does not matter.
                break;
            }
            continue;
        };
        let theirs = messages.next().unwrap();
        assert!(theirs.is_ours, "{name}: {answer:?}");
        assert_eq!(
            written(|out| answer.write(out)),
            theirs.body,
            "{name}: {answer:?}"
        );
    }
    drop(messages);
    (run, machine, played)
}

fn compare_job_ad(run: &Run, theirs: &Recorded) {
    let mut reader = theirs.reader();
    assert_eq!(reader.int().unwrap(), 0);
    let theirs = reader.ad().unwrap();
    let record = RunRecord {
        claim_id: run.claim.clone(),
        slot: run.ad.string("RemoteHost").unwrap(),
        startd: run.ad.string("StartdIpAddr").unwrap(),
        slot_ad: ClassAd::new(),
    };
    let address = Sinful::parse(&theirs.string("ShadowIpAddr").unwrap()).unwrap();
    let version = theirs.string("ShadowVersion").unwrap();
    let key = theirs.string("TransferKey");
    let facts = ShadowFacts {
        address: &address,
        version: &version,
        uid_domain: "test",
        transfer_key: key.as_deref(),
    };
    let activation = job_ad::for_activation(&run.ad, &ClassAd::new(), &record, facts);
    let ours = job_ad::for_starter(&activation, facts);
    let names = |ad: &ClassAd| -> BTreeSet<String> {
        ad.iter()
            .map(|(name, _)| name.as_str().to_ascii_lowercase())
            .collect()
    };
    let mut expected = names(&theirs);
    // A note of the real shadow to itself.
    expected.remove("delegatedproxyexpiration");
    assert_eq!(names(&ours), expected);
    for name in [
        "ClaimId",
        "TransferKey",
        "TransferSocket",
        "ShadowIpAddr",
        "UidDomain",
        "MyAddress",
        "PublicClaimId",
    ] {
        assert_eq!(ours.get(name), theirs.get(name), "{name}");
    }
}

#[test]
fn a_job_that_exits_is_answered_as_the_real_shadow_answers() {
    for (name, status) in [
        ("exec-activate-syscalls-exit0", 0),
        ("exec-activate-reuse", 0),
        ("exec-syscalls-exit3", 3 << 8),
        ("exec-mini-activate-syscalls", 0),
    ] {
        let (_, machine, played) = play(name);
        let Some(RunOutcome::Exited {
            status: said,
            coredump,
            ad,
        }) = &played.outcome
        else {
            panic!("{name}: {:?}", played.outcome);
        };
        assert_eq!((*said, *coredump), (status, false), "{name}");
        assert_eq!(ad.int("NumJobCompletions"), Some(1), "{name}");
        assert_eq!(played.changes.int("NumJobStarts"), Some(1), "{name}");
        assert_eq!(
            played.changes.int("ExitCode"),
            Some(i64::from(status >> 8)),
            "{name}"
        );
        assert_eq!(played.events().first(), Some(&1), "{name}");
        assert!(machine.deadline().is_none(), "{name}");
    }
}

#[test]
fn the_attributes_taken_over_are_those_of_the_real_shadow() {
    let (_, machine, played) = play("exec-activate-syscalls-exit0");
    let taken = &played.changes;
    for name in [
        "CpusProvisioned",
        "MemoryProvisioned",
        "DiskProvisioned",
        "GPUsProvisioned",
        "CpusUsage",
        "ResidentSetSize",
        "MemoryUsage",
        "BlockReads",
        "StatsLifetimeStarter",
        "ExitBySignal",
        "ToE",
        "JobCurrentStartExecutingDate",
        "ActivationSetupDuration",
        "LastJobLeaseRenewal",
    ] {
        assert!(taken.contains(name), "{name}");
    }
    for name in [
        "JobState",
        "JobPid",
        "NumPids",
        "StarterIpAddr",
        "JobStartDate",
        "StatsLifetime",
        "_condor_JOBINFO_MAXINTERVAL",
    ] {
        assert!(!taken.contains(name), "{name}");
    }
    assert_eq!(
        machine.starter().address.as_deref(),
        Some("<127.0.0.1:21834?addrs=127.0.0.1-21834&alias=127-0-0-1.test>")
    );
    let Some(Event::Execute {
        slot,
        host,
        properties,
    }) = played.events.first()
    else {
        panic!("{:?}", played.events);
    };
    assert_eq!(slot.as_deref(), Some("slot1_1@127-0-0-1.test"));
    assert!(host.starts_with("<127.0.0.1:21890"));
    assert_eq!(properties.int("Memory"), Some(128));
    assert!(properties.contains("CondorScratchDir"));
}

#[test]
fn a_job_killed_by_a_signal_says_so() {
    let (_, _, played) = play("exec-syscalls-signal9");
    let Some(RunOutcome::Exited { status, .. }) = played.outcome else {
        panic!("{:?}", played.outcome);
    };
    assert_eq!(status & 0x7f, 9);
    assert_eq!(played.changes.bool("ExitBySignal"), Some(true));
    assert_eq!(played.changes.int("ExitSignal"), Some(9));
}

#[test]
fn errors_of_the_starter_hold_the_job() {
    for (name, expected, begin) in [
        ("exec-syscalls-exec-failure", (6, 2), "Error from slot"),
        (
            "exec-syscalls-output-missing",
            (12, 2),
            "Transfer output files failure at execution point slot",
        ),
        (
            "exec-syscalls-input-missing",
            (13, 2),
            "Transfer input files failure at access point submit",
        ),
        (
            "exec-mini-hold",
            (6, 77),
            "Error from slot1@mini.test: sailplane says no",
        ),
    ] {
        let (_, machine, played) = play(name);
        let Some(RunOutcome::Hold {
            code,
            subcode,
            reason,
            ..
        }) = &played.outcome
        else {
            panic!("{name}: {:?}", played.outcome);
        };
        assert_eq!((*code, *subcode), expected, "{name}: {reason}");
        assert!(reason.starts_with(begin), "{name}: {reason}");
        assert_eq!(played.events().last(), Some(&21), "{name}");
        assert!(machine.deadline().is_none(), "{name}");
    }
}

#[test]
fn a_suspended_job_is_told_and_counted() {
    let (_, _, played) = play("exec-suspend-continue-syscalls");
    let events = played.events();
    assert!(events.contains(&10) && events.contains(&11), "{events:?}");
    assert_eq!(played.changes.int("TotalSuspensions"), Some(1));
    assert_eq!(played.changes.int("JobStatus"), Some(2));
    assert!(matches!(
        played.outcome,
        Some(RunOutcome::Evicted { code: 1005, .. })
    ));
}

#[test]
fn an_evicted_job_goes_back_with_its_reason() {
    let recorded = run("exec-evict-syscalls");
    let mut machine = recorded.machine();
    assert_eq!(
        machine.interrupt(InterruptKind::Vacate { fast: false }, NOW),
        Some(Deactivate::Gracefully)
    );
    assert_eq!(
        machine.interrupt(InterruptKind::Hold, NOW),
        None,
        "it is being stopped already"
    );
    for message in recorded.messages.iter().filter(|message| !message.is_ours) {
        let step = machine.call(Call::read(message.reader()).unwrap(), NOW);
        if let Reaction::Finish(outcome) = step.reaction {
            let RunOutcome::Evicted { code, ad, .. } = outcome else {
                panic!("{outcome:?}");
            };
            assert_eq!(code, 1004);
            assert!(ad.contains("VacateReason") && ad.contains("LastVacateTime"));
            return;
        }
    }
    panic!("no end");
}

#[test]
fn chirp_is_served_as_the_real_shadow_serves_it() {
    let (_, _, played) = play("exec-chirp-syscalls");
    assert_eq!(played.changes.string("MyAttr").as_deref(), Some("x"));
    assert_eq!(played.changes.int("ChirpFoo"), Some(5));
    assert!(played.events.contains(&Event::Generic {
        text: "hello from job".to_owned()
    }));
    assert_eq!(
        played.files,
        [
            FileCall::GetFile {
                path: "stdin.txt".to_owned()
            },
            FileCall::PutFile {
                path: "chirp_put.txt".to_owned(),
                mode: 0o777,
                length: 11
            },
            FileCall::WhoAmI { room: 5120 },
        ]
    );
}

#[test]
fn streamed_files_are_asked_for_with_portable_flags() {
    let (run, _, played) = play("exec-streaming-stdio-syscalls");
    assert!(Rights::of(&run.ad).streams);
    let FileCall::Open { flags, mode, path } = &played.files[1] else {
        panic!("{:?}", played.files);
    };
    assert_eq!(
        (flags, *mode, path.as_str()),
        (&OpenFlags(0x301), 0o666, "ST.out")
    );
    assert!(flags.writes() && !flags.reads() && flags.creates() && flags.truncates());
    let written: Vec<u8> = played
        .files
        .iter()
        .filter_map(|call| match call {
            FileCall::Write { fd: 5, data, .. } => Some(data.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(written, b"line1\nline2\nstdin line\n");
}

#[test]
fn a_reconnected_starter_goes_on_where_it_was() {
    let messages = load("exec-reconnect-job");
    let info = messages[1].reader().ad().unwrap();
    let recorded = run("exec-activate-syscalls-exit0");
    let mut ad = recorded.ad.clone();
    ad.insert("JobCurrentStartExecutingDate", NOW + 1);
    ad.insert("LastJobLeaseRenewal", NOW + 5);
    let place = recorded.machine().place().clone();
    let mut machine = Machine::resumed(&ad, place, Sessions::of(&recorded.claim), NOW + 100);
    let (Lost::Reconnect { until }, events) = machine.lost("gone", NOW + 100) else {
        panic!("not to be reconnected");
    };
    assert_eq!(until, NOW + 5 + 2400);
    assert_eq!(events[0].number(), 22);
    let (changes, event) = machine.reconnected(&info, NOW + 101);
    assert_eq!(event.number(), 23);
    assert_eq!(changes.int("NumJobReconnects"), Some(1));
    // It ran already: no second execute event.
    let mut executes = 0;
    for message in messages.iter().skip(2).filter(|message| !message.is_ours) {
        let step = machine.call(Call::read(message.reader()).unwrap(), NOW + 102);
        executes += step
            .events
            .iter()
            .filter(|event| event.number() == 1)
            .count();
    }
    assert_eq!(executes, 0);
    assert!(machine.deadline().is_none(), "the run is over");
}

#[test]
fn a_job_that_began_just_before_a_restart_is_not_told_to_begin_again() {
    let recorded = run("exec-activate-syscalls-exit0");
    let place = recorded.machine().place().clone();
    // The queue had not stored yet that it runs.
    let mut machine = Machine::resumed(&recorded.ad, place, Sessions::of(&recorded.claim), NOW);
    let update = ClassAd::parse_old("JobState = \"Running\"").unwrap();
    let step = machine.call(Call::RegisterJobInfo(update), NOW + 5);
    assert!(
        step.events.iter().all(|event| event.number() != 1),
        "{:?}",
        step.events
    );
    assert_eq!(step.changes.int("NumJobStarts"), Some(1));
    assert!(step.changes.contains("JobCurrentStartExecutingDate"));
    // One that had not begun does so now, and says so.
    let place = machine.place().clone();
    let mut machine = Machine::resumed(&recorded.ad, place, Sessions::of(&recorded.claim), NOW);
    let step = machine.call(Call::BeginExecution, NOW + 5);
    assert_eq!(step.events.len(), 1);
}

#[test]
fn a_starter_that_cannot_reconnect_ends_the_run() {
    let recorded = run("exec-mini-activate-syscalls");
    let mut machine = recorded.machine();
    let (lost, events) = machine.lost("gone", NOW);
    assert!(
        matches!(lost, Lost::Over(RunOutcome::Evicted { code: 1002, .. })),
        "{lost:?}"
    );
    assert_eq!(events[0].number(), 7);
}

#[test]
fn limits_of_the_job_stop_and_hold_it() {
    let mut recorded = run("exec-activate-syscalls-exit0");
    recorded.ad.insert("AllowedExecuteDuration", 60);
    recorded.ad.insert("JobMaxVacateTime", 10);
    let mut machine = recorded.machine();
    assert!(
        machine.pass(NOW + 1000).is_none(),
        "it does not execute yet"
    );
    machine.call(Call::BeginExecution, NOW + 1000);
    assert_eq!(machine.deadline(), Some(NOW + 1061));
    assert!(machine.pass(NOW + 1060).is_none());
    assert!(matches!(
        machine.pass(NOW + 1061),
        Some(Due::Deactivate(Deactivate::Gracefully))
    ));
    // The vacate time, then the time to kill; then it is told to be quick, and then nothing is expected any more.
    let at = NOW + 1061 + 10 + 30;
    assert_eq!(machine.deadline(), Some(at));
    assert!(matches!(
        machine.pass(at),
        Some(Due::Deactivate(Deactivate::Forcibly))
    ));
    let Some(Due::GiveUp(RunOutcome::Hold { code, reason, .. })) = machine.pass(at + 60) else {
        panic!("it goes on");
    };
    assert_eq!(code, 47);
    assert_eq!(reason, "The job exceeded allowed execute duration of 01:00");
}

#[test]
fn a_promise_of_updates_that_is_not_kept_cuts_the_connection() {
    let recorded = run("exec-activate-syscalls-exit0");
    let mut machine = recorded.machine();
    let update =
        ClassAd::parse_old("JobState = \"Running\"\n_condor_JOBINFO_MAXINTERVAL = 100").unwrap();
    machine.call(Call::RegisterJobInfo(update), NOW);
    assert_eq!(machine.deadline(), Some(NOW + 300));
    assert!(matches!(machine.pass(NOW + 300), Some(Due::Cut)));
    assert!(machine.deadline().is_none());
}

#[test]
fn figures_do_not_go_down() {
    let recorded = run("exec-activate-syscalls-exit0");
    let mut machine = recorded.machine();
    let mut tell = |text: &str| {
        let step = machine.call(
            Call::RegisterJobInfo(ClassAd::parse_old(text).unwrap()),
            NOW,
        );
        (step.changes, step.events.len())
    };
    let (changes, events) =
        tell("RemoteUserCpu = 12.5\nResidentSetSize = 9000\nImageSize = 100000");
    assert_eq!(changes.real("RemoteUserCpu"), Some(12.5));
    assert_eq!(events, 1);
    let (changes, events) = tell("RemoteUserCpu = 0.0\nResidentSetSize = 10\nImageSize = 1");
    assert!(!changes.contains("RemoteUserCpu") && !changes.contains("ResidentSetSize"));
    assert_eq!(events, 0);
}

#[test]
fn a_job_sets_only_what_it_may() {
    let rights = |text: &str| Rights::of(&ClassAd::parse_old(text).unwrap());
    let plain = rights("Cmd = \"x\"");
    assert!(plain.may_set("ChirpFoo") && !plain.may_set("Foo") && !plain.may_read_attributes());
    let wide = rights("WantIOProxy = true");
    assert!(wide.may_set("Foo"));
    for name in [
        "Owner",
        "JobStatus",
        "ClaimId",
        "transferkey",
        "x509userproxy",
    ] {
        assert!(!wide.may_set(name), "{name}");
    }
    assert!(!rights("WantDelayedUpdates = false").may_set("ChirpFoo"));
}

#[test]
fn a_run_needs_little_memory() {
    // A thousand running jobs are some hundred kilobytes of these; the ads stay in the queue.
    assert!(size_of::<Machine>() < 1024, "{}", size_of::<Machine>());
}
