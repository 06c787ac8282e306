//! The knobs of the built-in checks.

use crate::knob::{Kind, Knob, knob};

const MAX: i64 = i32::MAX as i64;
/// Ten years and a bit, seconds.
const LONG: i64 = 315_576_000;
const WISH: Kind = Kind::Choice(&["REQUIRED", "OPTIONAL", "NEVER"]);

/// What can be set, and what counts if nothing is.
pub static KNOBS: &[Knob] = &[
    knob(
        &["SAILPLANE_CHECK_DISK"],
        Kind::Integer(0, MAX),
        Some("1024"),
        "MiB",
        "Check work-space: space that EXECUTE has to have for each slot, within the account's quota.",
    ),
    knob(
        &["SAILPLANE_CHECK_INODES"],
        Kind::Integer(0, MAX),
        Some("1000"),
        "",
        "Check work-space: files that EXECUTE has to have room for, for each slot.",
    ),
    knob(
        &["SAILPLANE_CHECK_LEFT_OVERS"],
        Kind::Integer(0, LONG),
        Some("86400"),
        "s",
        "Check left-overs: age at which what looks like a pilot's in EXECUTE, and nobody works in, was left behind.",
    ),
    knob(
        &["SAILPLANE_CHECK_MEMORY"],
        Kind::Integer(0, MAX),
        Some("256"),
        "MiB",
        "Check memory: memory that has to be there for each slot, on the node and within the limits of the batch system.",
    ),
    knob(
        &["SAILPLANE_CHECK_CPU_SHARE"],
        Kind::Integer(1, 1000),
        Some("100"),
        "%",
        "Check cpus: share of the cores offered to jobs that has to be there; lower where several jobs are to share a core.",
    ),
    knob(
        &["SAILPLANE_CHECK_OPEN_FILES"],
        Kind::Integer(0, MAX),
        Some("1024"),
        "",
        "Check open-files: files that a process has to be able to open.",
    ),
    knob(
        &["SAILPLANE_CHECK_PROCESSES"],
        Kind::Integer(0, MAX),
        Some("64"),
        "",
        "Check processes: processes that there has to be room for, for each slot.",
    ),
    knob(
        &["SAILPLANE_CHECK_CLOCK"],
        Kind::Integer(1, MAX),
        Some("60"),
        "s",
        "Check clock: largest difference between the node's clock and the pool's, or a web server's (SAILPLANE_CHECK_HTTP_URL).",
    ),
    knob(
        &["SAILPLANE_CHECK_SYSTEMS"],
        Kind::List,
        None,
        "",
        "Check operating-system: distributions that are accepted, by ID and ID_LIKE of /etc/os-release, each with a least \
         version if one is wanted: `rhel>=8 debian>=12`. If not set: any.",
    ),
    knob(
        &["SAILPLANE_CHECK_KERNEL"],
        Kind::Text,
        None,
        "",
        "Check kernel: least release, compared number by number: `4.18.0-553`. If not set: any that has the system calls \
         that are needed.",
    ),
    knob(
        &["SAILPLANE_CHECK_KERNEL_SECURITY"],
        Kind::List,
        None,
        "",
        "Check kernel-security: what has to be on: selinux (enforcing), apparmor, yama (ptrace_scope), lockdown, mitigations (of \
         all holes of the processors that the kernel knows). All of it is published in any case.",
    ),
    knob(
        &["SAILPLANE_CHECK_USER_NAMESPACES"],
        WISH,
        Some("OPTIONAL"),
        "",
        "Check user-namespaces: whether ordinary accounts have to be able to make them. OPTIONAL: it is only published. NEVER: \
         it is not tried.",
    ),
    knob(
        &["SAILPLANE_CHECK_CGROUPS"],
        WISH,
        Some("OPTIONAL"),
        "",
        "Check cgroup-delegation: whether the pilot has to be able to make control groups of its own. OPTIONAL: it is only \
         published. NEVER: it is not tried.",
    ),
    knob(
        &["SAILPLANE_CHECK_DENY_HOSTS"],
        Kind::List,
        None,
        "",
        "Check deny-list: names of nodes where no jobs are wanted; * stands for anything.",
    ),
    knob(
        &["SAILPLANE_CHECK_DENY_NETWORKS"],
        Kind::List,
        None,
        "",
        "Check deny-list: addresses and networks where no jobs are wanted: `192.0.2.0/24 2001:db8::/32`.",
    ),
    knob(
        &["SAILPLANE_CHECK_CONNECT_TIME"],
        Kind::Integer(1, 600),
        Some("10"),
        "s",
        "How long a connection or a name may take, in the checks of the network.",
    ),
    knob(
        &["SAILPLANE_CHECK_CCB"],
        Kind::List,
        None,
        "",
        "Checks ccb-reachable and ccb-ping: brokers for connections from outside besides those of CCB_ADDRESS, HOST or \
         HOST:PORT (9618 if left out).",
    ),
    knob(
        &["SAILPLANE_CHECK_NAMES"],
        Kind::List,
        None,
        "",
        "Check dns: names that have to be known, besides those of collectors and CCB servers.",
    ),
    knob(
        &["SAILPLANE_CHECK_PORTS"],
        Kind::List,
        None,
        "",
        "Check outbound-ports: services that have to be reached by TCP, as HOST:PORT.",
    ),
    knob(
        &["SAILPLANE_CHECK_HTTP_PROXY"],
        Kind::Text,
        None,
        "",
        "Checks http-proxy and http-fetch: HTTP proxies of the site, best first, with blanks, commas, `;` or `|` between. If not \
         set: http_proxy, OSG_SQUID_LOCATION or CVMFS_HTTP_PROXY of the environment.",
    ),
    knob(
        &["SAILPLANE_CHECK_HTTP_URL"],
        Kind::Text,
        None,
        "",
        "Check http-fetch: a document that has to be fetched, by one of the proxies or directly. The check http-proxy fetches it \
         by each; if it is not set, that connects only.",
    ),
    knob(
        &["SAILPLANE_CHECK_CAS"],
        Kind::Integer(0, MAX),
        Some("1"),
        "",
        "Check ca-directory: least number of valid CAs.",
    ),
    knob(
        &["SAILPLANE_CHECK_CRL_EXPIRED"],
        Kind::Integer(0, 100),
        Some("50"),
        "%",
        "Check ca-directory: largest share of revocation lists that may be over; the check crl-age warns of the first.",
    ),
    knob(
        &["SAILPLANE_CHECK_CRL_GRACE"],
        Kind::Integer(0, LONG),
        Some("0"),
        "s",
        "Checks ca-directory and crl-age: how long a revocation list may be over. Credentials of its CA are refused meanwhile.",
    ),
    knob(
        &["SAILPLANE_CHECK_VOS"],
        Kind::List,
        None,
        "",
        "Check voms-trust: VOs of which a VOMS server has to be believed.",
    ),
    knob(
        &["SAILPLANE_CHECK_PROXY_LIFE"],
        Kind::Integer(0, LONG),
        Some("3600"),
        "s",
        "Check pilot-credential: time that the pilot's proxy has to be valid for.",
    ),
    knob(
        &["SAILPLANE_CHECK_TOKEN_LIFE"],
        Kind::Integer(0, LONG),
        Some("300"),
        "s",
        "Check pilot-credential: time that one of the pilot's tokens has to be valid for.",
    ),
    knob(
        &["SAILPLANE_CHECK_CVMFS"],
        Kind::List,
        None,
        "",
        "Checks cvmfs and cvmfs-errors: repositories that have to be mounted, each with its least revision if one is wanted: \
         `atlas.cern.ch:12345 grid.cern.ch`.",
    ),
    knob(
        &["SAILPLANE_CHECK_CVMFS_TIME"],
        Kind::Integer(1, 600),
        Some("30"),
        "s",
        "Check cvmfs: how long a repository may take to answer; mounting is part of it.",
    ),
    knob(
        &["SAILPLANE_CHECK_CVMFS_ERRORS"],
        Kind::Integer(0, MAX),
        Some("0"),
        "",
        "Check cvmfs-errors: I/O errors of a repository's client that are tolerated.",
    ),
    knob(
        &["SAILPLANE_CHECK_APPTAINER"],
        WISH,
        Some("OPTIONAL"),
        "",
        "Check apptainer: whether containers have to run. OPTIONAL: it is only published. NEVER: it is not tried.",
    ),
    knob(
        &["SAILPLANE_CHECK_APPTAINER_PROGRAM"],
        Kind::Path,
        None,
        "",
        "Check apptainer: the program. If not set: apptainer or singularity in PATH, else that of oasis.opensciencegrid.org.",
    ),
    knob(
        &["SAILPLANE_CHECK_APPTAINER_IMAGE"],
        Kind::Text,
        None,
        "",
        "Check apptainer: the image of the trial run. If not set: an empty one with the node's own programs.",
    ),
    knob(
        &["SAILPLANE_CHECK_GPUS"],
        Kind::Integer(0, 1024),
        Some("0"),
        "",
        "Check gpus: GPUs that have to be there and answer.",
    ),
    knob(
        &["SAILPLANE_CHECK_WALL_TIME"],
        Kind::Integer(0, LONG),
        Some("1800"),
        "s",
        "Check batch-system: time that the batch system has to leave the pilot.",
    ),
    knob(
        &["SAILPLANE_CHECK_SHUTDOWN"],
        Kind::Integer(0, LONG),
        Some("3600"),
        "s",
        "Check shutdown: how long before an end that the site has announced (Machine/Job Features, systemd) the pilot takes no \
         more jobs.",
    ),
    knob(
        &["SAILPLANE_CHECK_STOP_FILE"],
        Kind::Path,
        None,
        "",
        "Check shutdown: a file; when it is there, the pilot takes no more jobs.",
    ),
];
