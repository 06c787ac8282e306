//! The plan and the dialogue with the shadow, tried on what HTCondor 23.9.6 sent.

use std::path::Path;
use std::time::Duration;

use cedar::{Coding, MessageReader};
use classad::ClassAd;
use proptest::prelude::*;

use super::arguments::join_v2;
use super::hold::HoldCode;
use super::plan::{
    Executable, JobPlan, Selection, Site, Stdin, Stdout, Success, When, name_list, plan,
};
use super::syscalls::{Answer, Call, ExitReason, SyscallError};
use crate::identity::IdentityPolicy;
use crate::transfer::SandboxPath;
use crate::transfer::testing::{Recorded, recorded};

static STRICT: IdentityPolicy = IdentityPolicy::proxy();
static LENIENT: IdentityPolicy = IdentityPolicy::lenient();

static SITE: Site<'_> = Site {
    identity: &STRICT,
    filesystem_domain: "node.example",
};

fn ad(lines: &str) -> ClassAd {
    let base = "
        ClusterId = 7
        ProcId = 0
        JobUniverse = 5
        Cmd = \"/home/alice/bin/run.sh\"
        x509userproxy = \"/tmp/x509up_u500\"
        TransferSocket = \"<127.0.0.1:4711?noUDP>\"
        TransferKey = \"1#abc\"
        ShouldTransferFiles = \"YES\"
        Out = \"o\"
        Err = \"e\"
    ";
    let mut ad = ClassAd::parse_old(base).unwrap();
    ad.update(&ClassAd::parse_old(lines).unwrap());
    ad
}

fn planned(lines: &str) -> JobPlan {
    plan(&ad(lines), SITE).unwrap()
}

fn held(lines: &str) -> (HoldCode, String) {
    let hold = plan(&ad(lines), SITE).map(drop).unwrap_err();
    assert!(!hold.reason.contains('\n'));
    (hold.code, hold.reason)
}

fn sandbox(name: &str) -> SandboxPath {
    SandboxPath::parse(name).unwrap()
}

#[test]
fn an_ordinary_job() {
    let plan = planned(
        "Arguments = \"a 'b c'\"\nEnvironment = \"X=1 Y='2 3'\"\nIn = \"/home/alice/data/in.txt\"",
    );
    assert_eq!(plan.id.to_string(), "7.0");
    assert_eq!(plan.executable, Executable::Transferred(sandbox("run.sh")));
    assert_eq!(
        plan.executable.path(Path::new("/x/dir")),
        Path::new("/x/dir/run.sh")
    );
    assert_eq!(plan.arguments, ["a", "b c"]);
    assert_eq!(
        plan.environment,
        [("X".into(), "1".into()), ("Y".into(), "2 3".into())]
    );
    assert_eq!(plan.stdin, Stdin::Sandbox(sandbox("in.txt")));
    assert_eq!(plan.stdout, Stdout::Sandbox(sandbox("_condor_stdout")));
    assert_eq!(plan.stderr, Stdout::Sandbox(sandbox("_condor_stderr")));
    assert_eq!(plan.proxy, Some(sandbox("x509up_u500")));
    assert_eq!(plan.output.when, When::OnExit);
    assert_eq!(plan.output.list, None);
    assert_eq!(plan.process.core_limit, Some(0));
    assert_eq!(plan.stop.signal, libc::SIGTERM);
    assert_eq!(
        plan.stop.vacate(Duration::from_secs(600)),
        Duration::from_secs(600)
    );
    assert!(
        !format!("{plan:?}").contains("1#abc"),
        "the transfer key is not for logs"
    );
}

#[test]
fn old_and_new_forms_of_arguments_and_environment() {
    assert_eq!(planned("Args = \"5 'x\"").arguments, ["5", "'x"]);
    assert_eq!(planned("Args = \"5\"\nArguments = \"6\"").arguments, ["6"]);
    assert_eq!(planned("Env = \"A=1;B=2\"").environment.len(), 2);
    assert_eq!(
        planned("Env = \"A=1|B=2\"\nEnvDelim = \"|\"")
            .environment
            .len(),
        2
    );
    assert_eq!(planned("Env = \"A=1\"\nEnvironment = \"\"").environment, []);
    let (code, reason) = held("Arguments = \"'open\"");
    assert_eq!(code, HoldCode::FailedToCreateProcess);
    assert!(
        reason.contains("Arguments") && reason.contains("never closed"),
        "{reason}"
    );
    assert!(held("Environment = \"NOVALUE\"").1.contains("Environment"));
    assert!(held("Env = \"NOVALUE\"").1.contains("Env)"));
}

#[test]
fn executables_that_stay_where_they_are() {
    let absolute = planned("TransferExecutable = false\nCmd = \"/bin/sh\"");
    assert_eq!(
        absolute.executable.path(Path::new("/x")),
        Path::new("/bin/sh")
    );
    let relative = planned("TransferExecutable = false\nCmd = \"bin/tool\"");
    assert_eq!(
        relative.executable.path(Path::new("/x")),
        Path::new("/x/bin/tool")
    );
    assert_eq!(held("Cmd = \"\"").0, HoldCode::FailedToCreateProcess);
}

#[test]
fn standard_files() {
    assert_eq!(planned("Out = \"/dev/null\"").stdout, Stdout::Null);
    assert_eq!(planned("In = \"/dev/null\"").stdin, Stdin::Null);
    let same = planned("Err = \"o\"");
    assert_eq!(same.stderr, same.stdout);
    let both_null = planned("Out = \"/dev/null\"\nErr = \"/dev/null\"");
    assert_eq!(
        (both_null.stdout, both_null.stderr),
        (Stdout::Null, Stdout::Null)
    );
    assert_eq!(held("StreamOut = true").0, HoldCode::UnableToOpenOutput);
    assert_eq!(
        held("In = \"x\"\nStreamIn = true").0,
        HoldCode::UnableToOpenInput
    );
    assert_eq!(
        held("In = \"/data/x\"\nTransferIn = false").0,
        HoldCode::UnableToOpenInput
    );
    // The null device is never streamed.
    planned("Out = \"/dev/null\"\nErr = \"/dev/null\"\nStreamOut = true\nStreamErr = true");
}

#[test]
fn what_cannot_run_here_says_why() {
    for (lines, word) in [
        ("JobUniverse = 7", "universe 7"),
        ("JobUniverse = undefined", "universe"),
        ("WantDocker = true", "Docker"),
        ("WantContainer = true", "container"),
        ("DeferralTime = 5", "DeferralTime"),
    ] {
        let (code, reason) = held(lines);
        assert_eq!(code, HoldCode::FailedToCreateProcess);
        assert!(reason.contains(word), "{reason}");
    }
    assert_eq!(
        held("OutputDestination = \"gsiftp://x/y\"").0,
        HoldCode::TransferOutputError
    );
    assert_eq!(
        held("TransferOutputRemaps = \"a=https://x/a\"").0,
        HoldCode::TransferOutputError
    );
    planned("TransferOutputRemaps = \"a=b;c=d\"");
    assert_eq!(
        held("TransferSocket = \"nonsense\"").0,
        HoldCode::TransferInputError
    );
}

#[test]
fn a_job_without_a_credential_is_told_what_to_add() {
    let (code, reason) = held("x509userproxy = undefined");
    assert_eq!(code, HoldCode::FailedToAccessUserAccount);
    assert!(reason.contains("use_x509userproxy = true"), "{reason}");
    assert!(
        held("ShouldTransferFiles = \"NO\"")
            .1
            .contains("should_transfer_files")
    );
    assert!(
        held("ShouldTransferFiles = \"IF_NEEDED\"\nFileSystemDomain = \"NODE.example\"")
            .1
            .contains("should_")
    );
    planned("ShouldTransferFiles = \"IF_NEEDED\"\nFileSystemDomain = \"elsewhere\"");
}

#[test]
fn how_a_job_wants_to_be_stopped() {
    assert_eq!(planned("KillSig = \"SIGUSR1\"").stop.signal, libc::SIGUSR1);
    assert_eq!(planned("KillSig = 2").stop.signal, 2);
    assert_eq!(
        planned("KillSig = \"SIGUSR1\"\nRemoveKillSig = \"INT\"")
            .stop
            .signal,
        libc::SIGINT
    );
    assert_eq!(planned("KillSig = \"nonsense\"").stop.signal, libc::SIGTERM);
    assert_eq!(planned("KillSig = 99").stop.signal, libc::SIGTERM);
    let minute = Duration::from_secs(60);
    assert_eq!(
        planned("JobMaxVacateTime = 6").stop.vacate(minute),
        Duration::from_secs(6)
    );
    assert_eq!(
        planned("KillSigTimeout = 4").stop.vacate(minute),
        Duration::from_secs(4)
    );
    assert_eq!(
        planned("JobMaxVacateTime = 600").stop.vacate(minute),
        minute
    );
}

#[test]
fn what_goes_back_and_when() {
    let listed = planned("TransferOutput = \"a, b/c ,,d\"\nPreserveRelativePaths = true").output;
    assert_eq!(listed.list.unwrap(), ["a", "b/c", "d"]);
    assert!(listed.preserve_relative_paths);
    assert_eq!(planned("TransferOutput = \"\"").output.list, Some(vec![]));
    assert_eq!(name_list(" x ,y"), ["x", "y"]);
    assert_eq!(
        planned("WhenToTransferOutput = \"on_exit_or_evict\"")
            .output
            .when,
        When::OnExitOrEvict
    );
    let success = planned("WhenToTransferOutput = \"ON_SUCCESS\"").output;
    assert_eq!(success.when, When::OnSuccess(Success::Code(0)));
    assert_eq!(success.after_exit(0), Selection::Everything);
    assert_eq!(success.after_exit(1 << 8), Selection::StandardStreams);
    assert_eq!(success.after_exit(9), Selection::StandardStreams);
    let code = planned("WhenToTransferOutput = \"ON_SUCCESS\"\nJobSuccessExitCode = 3").output;
    assert_eq!(code.after_exit(3 << 8), Selection::Everything);
    let signal = planned(
        "WhenToTransferOutput = \"ON_SUCCESS\"\nJobSuccessExitBySignal = true\nJobSuccessExitSignal = 15",
    )
    .output;
    assert_eq!(signal.after_exit(15), Selection::Everything);
    assert_eq!(signal.after_exit(0), Selection::StandardStreams);
    assert_eq!(planned("").output.after_exit(9), Selection::Everything);
    assert_eq!(planned("CoreSize = -1").process.core_limit, None);
    assert_eq!(planned("CoreSize = 1024").process.core_limit, Some(1024));
}

fn first_int(body: &[u8]) -> i64 {
    MessageReader::new(Coding::Encrypted, body).int().unwrap()
}

fn ad_behind(body: &[u8], ints: usize) -> ClassAd {
    let mut reader = MessageReader::new(Coding::Encrypted, body);
    for _ in 0..ints {
        reader.int().unwrap();
    }
    reader.ad().unwrap()
}

/// Makes the recorded calls again and reads the recorded answers; gives the numbers of the calls.
fn replay(name: &str) -> Vec<i64> {
    // Before the dialogue: the activation and its answer.
    let messages: Vec<Recorded> = recorded(name).into_iter().skip(2).collect();
    let mut numbers = Vec::new();
    let mut messages = messages.iter().peekable();
    while let Some(request) = messages.next() {
        assert_ne!(request.from, "shadow", "{name}");
        let number = first_int(&request.body);
        let answer = messages.next_if(|message| message.from == "shadow");
        if request.is_elided {
            continue;
        }
        let ad;
        let call = match number {
            -63 => Call::GetJobInfo,
            -77 => {
                ad = ad_behind(&request.body, 1);
                Call::RegisterStarterInfo(&ad)
            }
            -81 => {
                ad = ad_behind(&request.body, 1);
                Call::RegisterJobInfo(&ad)
            }
            -78 => Call::BeginExecution,
            304 => Call::ExecutionExit,
            284 => {
                ad = ad_behind(&request.body, 1);
                Call::Ulog(&ad)
            }
            -65 => {
                let mut reader = MessageReader::new(Coding::Encrypted, &request.body);
                reader.int().unwrap();
                let wait_status = reader.int32().unwrap();
                let reason = match reader.int().unwrap() {
                    100 => ExitReason::Exited,
                    107 => ExitReason::ShouldRequeue,
                    other => panic!("{other}"),
                };
                ad = reader.ad().unwrap();
                Call::JobExit {
                    wait_status,
                    reason,
                    ad: &ad,
                }
            }
            _ => continue,
        };
        let made = call.message(Coding::Encrypted).finish().unwrap();
        let ints = if number == -65 { 3 } else { 1 };
        assert_eq!(
            made[..8 * ints],
            request.body[..8 * ints],
            "{name} {number}"
        );
        if !matches!(call, Call::GetJobInfo | Call::BeginExecution) {
            assert_eq!(
                ad_behind(&made, ints),
                ad_behind(&request.body, ints),
                "{name} {number}"
            );
        }
        assert_eq!(call.is_answered(), number != 284);
        if let Some(answer) = answer.filter(|answer| !answer.is_elided) {
            match (call.answer(Coding::Encrypted, &answer.body).unwrap(), call) {
                (Answer::JobInfo(ad), Call::GetJobInfo) => assert!(ad.contains("TransferKey")),
                (Answer::Done, Call::GetJobInfo)
                | (Answer::JobInfo(_) | Answer::Credentials(_), _) => {
                    panic!("{name} {number}")
                }
                (Answer::Done, _) => {}
            }
        }
        numbers.push(number);
    }
    numbers
}

#[test]
fn recorded_dialogues_are_spoken_word_for_word() {
    assert_eq!(
        replay("exec-mini-activate-syscalls"),
        [-63, -77, -78, -81, -81, -81, -81, -65]
    );
    assert_eq!(replay("exec-mini-hold"), [-63, -77, 284]);
    for name in [
        "exec-activate-syscalls-exit0",
        "exec-syscalls-exit3",
        "exec-syscalls-signal9",
        "exec-evict-syscalls",
    ] {
        let numbers = replay(name);
        assert_eq!(
            (numbers.first(), numbers.last()),
            (Some(&-63), Some(&-65)),
            "{name}"
        );
    }
    assert!(replay("exec-syscalls-exec-failure").contains(&284));
}

#[test]
fn a_recorded_job_ad_becomes_a_plan() {
    let messages = recorded("exec-mini-activate-syscalls");
    let Answer::JobInfo(ad) = Call::GetJobInfo
        .answer(Coding::Encrypted, &messages[3].body)
        .unwrap()
    else {
        panic!("no ad");
    };
    let plan = plan(&ad, SITE).unwrap();
    assert_eq!(plan.executable, Executable::InPlace("/bin/sh".into()));
    assert_eq!(
        plan.arguments,
        [
            "-c",
            "env | grep -i x509; ls -la; sleep 25; ls -la --full-time"
        ]
    );
    assert_eq!(plan.proxy, Some(sandbox("proxy.pem")));
}

#[test]
fn refusals_and_nonsense_are_told_apart() {
    let refused = [(-1_i64).to_be_bytes(), 13_i64.to_be_bytes()].concat();
    assert_eq!(
        Call::BeginExecution.answer(Coding::Encrypted, &refused),
        Err(SyscallError::Refused {
            call: "begin_execution",
            errno: 13
        })
    );
    for body in [&b""[..], b"1234567", &[0; 9], &[0xff; 8]] {
        assert!(matches!(
            Call::BeginExecution.answer(Coding::Encrypted, body),
            Err(SyscallError::Malformed { .. })
        ));
    }
}

proptest! {
    #[test]
    fn arguments_survive_the_ad(arguments in prop::collection::vec("[ -!#-\\[\\]-~]{0,8}", 0..6)) {
        let mut job = ad("");
        job.insert("Arguments", join_v2(&arguments));
        prop_assert_eq!(plan(&job, SITE).unwrap().arguments, arguments);
    }

    #[test]
    fn no_ad_makes_the_plan_panic(
        attribute in prop::sample::select(vec![
            "Cmd", "Args", "Arguments", "Env", "Environment", "EnvDelim", "In", "Out", "Err", "KillSig",
            "x509userproxy", "TransferOutput", "WhenToTransferOutput", "CoreSize", "JobMaxVacateTime",
        ]),
        text in "[^\"\\\\\n]{0,20}",
        number in any::<i64>(),
    ) {
        let mut job = ad("");
        job.insert(attribute, text);
        let _ = plan(&job, SITE);
        job.insert(attribute, number);
        let _ = plan(&job, SITE);
    }
}

#[test]
fn where_accounts_are_not_given_for_credentials_a_job_needs_none() {
    let site = Site {
        identity: &LENIENT,
        ..SITE
    };
    let mut ad = ad("");
    assert!(plan(&ad, site).unwrap().proxy.is_some());
    ad.remove("x509userproxy");
    assert_eq!(plan(&ad, site).unwrap().proxy, None);
    assert_eq!(
        plan(&ad, SITE).map(drop).unwrap_err().code,
        HoldCode::FailedToAccessUserAccount
    );
    ad.insert("ShouldTransferFiles", "NO");
    assert_eq!(
        plan(&ad, site).map(drop).unwrap_err().code,
        HoldCode::IwdError
    );
}
