//! The one list of what the pilot reads.

pub use validation::knob::{Kind, Knob};
use validation::knob::{knob, tables};

const MAX: i64 = i32::MAX as i64;

/// The largest time, in seconds: ten years and a bit.
const LONG: i64 = 315_576_000;

/// Everything the pilot reads but what the checks have ([`all`]). Names and defaults are HTCondor 23.9.6's (`htcondor:src/condor_utils/param_info.in`)
/// where it has the knob; where the default differs, the help says so.
pub static TABLE: &[Knob] = &[
    // -- the pool
    knob(
        &["COLLECTOR_HOST"],
        Kind::List,
        Some("$(CONDOR_HOST)"),
        "",
        "Collectors the slots are advertised to: names or addresses, with port (9618 if left out). All get every ad.",
    ),
    knob(
        &["SEC_CLIENT_AUTHENTICATION", "SEC_DEFAULT_AUTHENTICATION"],
        Kind::Wish,
        Some("REQUIRED"),
        "",
        "Whether the pilot authenticates itself to collector and schedd. HTCondor's default is weaker.",
    ),
    knob(
        &["SEC_CLIENT_ENCRYPTION", "SEC_DEFAULT_ENCRYPTION"],
        Kind::Wish,
        Some("REQUIRED"),
        "",
        "Whether connections to collector and schedd are encrypted. HTCondor's default is weaker.",
    ),
    knob(
        &["SEC_CLIENT_INTEGRITY", "SEC_DEFAULT_INTEGRITY"],
        Kind::Wish,
        Some("REQUIRED"),
        "",
        "Whether connections to collector and schedd are protected against changes. HTCondor's default is weaker.",
    ),
    knob(
        &["SEC_CLIENT_NEGOTIATION", "SEC_DEFAULT_NEGOTIATION"],
        Kind::Wish,
        Some("REQUIRED"),
        "",
        "Whether security is negotiated at all. HTCondor's default is PREFERRED.",
    ),
    knob(
        &[
            "SEC_CLIENT_AUTHENTICATION_METHODS",
            "SEC_DEFAULT_AUTHENTICATION_METHODS",
        ],
        Kind::List,
        Some("IDTOKENS"),
        "",
        "How the pilot may authenticate itself; which of them is used, the server decides. It has IDTOKENS, SSL, \
         SCITOKENS, FS and CLAIMTOBE; other methods of HTCondor in the list are passed over, with a warning.",
    ),
    knob(
        &["SEC_CLIENT_CRYPTO_METHODS", "SEC_DEFAULT_CRYPTO_METHODS"],
        Kind::List,
        Some("AES"),
        "",
        "Ciphers that may be used. The pilot has AES (AES-256-GCM), which must be in the list.",
    ),
    knob(
        &[
            "SEC_CLIENT_SESSION_DURATION",
            "SEC_DEFAULT_SESSION_DURATION",
        ],
        Kind::Integer(60, LONG),
        Some("86400"),
        "s",
        "Longest life of a security session.",
    ),
    knob(
        &["SEC_CLIENT_SESSION_LEASE", "SEC_DEFAULT_SESSION_LEASE"],
        Kind::Integer(0, LONG),
        Some("3600"),
        "s",
        "Longest idle time of a security session; 0 is without limit.",
    ),
    knob(
        &["SEC_TOKEN_DIRECTORY"],
        Kind::Path,
        None,
        "",
        "Directory of the pilot's tokens: any number of files, in each a token a line. For each collector the first that \
         fits its trust domain and its signing keys is used. Read again when it changes. If not set: .condor/tokens.d in \
         the account's home, and none for root.",
    ),
    knob(
        &["SEC_TOKEN_SYSTEM_DIRECTORY"],
        Kind::Path,
        Some("/etc/condor/tokens.d"),
        "",
        "Directory of the machine's tokens, searched after the other one.",
    ),
    knob(
        &["TRUST_DOMAIN"],
        Kind::Text,
        None,
        "",
        "The pool's trust domain, for information; which token is used is decided by the server's own answer.",
    ),
    knob(
        &["AUTH_SSL_CLIENT_CERTFILE"],
        Kind::List,
        None,
        "",
        "The pilot's certificate for SSL, in PEM: a host's, a robot's, or a proxy with its chain. Of several paths the \
         first that is there counts. Read again when it changes. Without one the pilot proves only who the pool is.",
    ),
    knob(
        &["AUTH_SSL_CLIENT_KEYFILE"],
        Kind::List,
        None,
        "",
        "Its private key, without a passphrase; of several paths that in the place of the certificate's. If not set: in \
         the file of the certificate, as with a proxy.",
    ),
    knob(
        &["AUTH_SSL_USE_CLIENT_PROXY_ENV_VAR"],
        Kind::Choice(&["true", "false"]),
        Some("false"),
        "",
        "true: where the variable X509_USER_PROXY is set, the file it names is the certificate and the key.",
    ),
    knob(
        &["AUTH_SSL_CLIENT_CAFILE"],
        Kind::List,
        None,
        "",
        "Authorities that the certificates of collectors are checked against, in PEM. Of several paths the first that is \
         there counts.",
    ),
    knob(
        &["AUTH_SSL_CLIENT_CADIR"],
        Kind::Path,
        None,
        "",
        "Directory of such authorities under their hashed names, such as /etc/grid-security/certificates.",
    ),
    knob(
        &["AUTH_SSL_CLIENT_USE_DEFAULT_CAS"],
        Kind::Choice(&["true", "false"]),
        Some("true"),
        "",
        "Whether the authorities of the operating system count besides.",
    ),
    knob(
        &["SEC_SYSTEM_KNOWN_HOSTS"],
        Kind::Path,
        Some("/etc/condor/known_hosts"),
        "",
        "File with collectors that no authority vouches for, a line each: host, SSL, the base64 of its authority's or its \
         own certificate; ! in front takes the trust away. After it .condor/known_hosts in the account's home is \
         searched. Nothing is written to them: BOOTSTRAP_SSL_SERVER_TRUST is not done.",
    ),
    knob(
        &["SCITOKENS_FILE"],
        Kind::Path,
        None,
        "",
        "File with the pilot's SciToken, for SCITOKENS; its first line that is not a comment. If not set: the variable \
         BEARER_TOKEN, the file that BEARER_TOKEN_FILE names, bt_u<uid> in XDG_RUNTIME_DIR, and in /tmp. Read again when \
         it changes.",
    ),
    knob(
        &["SAILPLANE_TOKEN_REQUEST"],
        Kind::Choice(&["true", "false"]),
        Some("true"),
        "",
        "true: a pilot that has no token for a collector asks that collector for one, as HTCondor's daemons do. The number \
         of the request is in the log; when an administrator of the pool has approved it (condor_token_request_approve), \
         the token is stored in SEC_TOKEN_DIRECTORY and used. The collector must prove itself by SSL.",
    ),
    knob(
        &["SAILPLANE_TOKEN_REQUEST_IDENTITY"],
        Kind::Text,
        Some("condor"),
        "",
        "The identity the pilot asks for; one without a domain is of the collector's trust domain. A pool approves by \
         itself only requests for condor (condor_token_request_auto_approve).",
    ),
    // -- the command port
    knob(
        &["NETWORK_INTERFACE"],
        Kind::Text,
        Some("*"),
        "",
        "Where the command port listens: an address, an interface or a pattern; * is the way to the first collector.",
    ),
    knob(
        &["NETWORK_HOSTNAME"],
        Kind::Text,
        None,
        "",
        "The machine's name in ads. If not set: what the kernel says.",
    ),
    knob(
        &["IN_LOWPORT"],
        Kind::Integer(1, 65_535),
        None,
        "",
        "First port the command port may use; with IN_HIGHPORT.",
    ),
    knob(
        &["IN_HIGHPORT"],
        Kind::Integer(1, 65_535),
        None,
        "",
        "Last port the command port may use; with IN_LOWPORT.",
    ),
    knob(
        &["LOWPORT"],
        Kind::Integer(1, 65_535),
        None,
        "",
        "First port of the range for the command port, if IN_LOWPORT is not set; told to jobs as _CONDOR_LOWPORT.",
    ),
    knob(
        &["HIGHPORT"],
        Kind::Integer(1, 65_535),
        None,
        "",
        "Last port of the range for the command port, if IN_HIGHPORT is not set; told to jobs as _CONDOR_HIGHPORT.",
    ),
    // -- reached through a broker
    knob(
        &["CCB_ADDRESS"],
        Kind::List,
        None,
        "",
        "Brokers of connections (CCB servers, which HTCondor's collectors are) for a pilot that cannot be connected to, behind NAT \
         or a firewall: names or addresses, with port (9618 if left out), mostly $(COLLECTOR_HOST). The pilot registers at each, and \
         connects itself to whoever asks there for it. If not set, the command port must be reachable.",
    ),
    knob(
        &["CCB_HEARTBEAT_INTERVAL"],
        Kind::Integer(0, LONG),
        Some("300"),
        "s",
        "Silence on the connection to a broker after which the pilot says that it is there; after three times that the \
         connection is made anew. 0: never. Choose less than what the NAT keeps silent connections.",
    ),
    knob(
        &["CCB_RECONNECT_TIME"],
        Kind::Integer(1, LONG),
        Some("60"),
        "s",
        "Pause before a lost connection to a broker is made again, half of it at the least; longer, up to ten times, if that \
         is in vain.",
    ),
    knob(
        &["CCB_TIMEOUT"],
        Kind::Integer(1, LONG),
        Some("300"),
        "s",
        "How long a pilot that must have a broker (CCB_REQUIRED_TO_START) waits for one at its start.",
    ),
    knob(
        &["CCB_REQUIRED_TO_START"],
        Kind::Flag,
        Some("False"),
        "",
        "Whether the pilot ends if no broker of CCB_ADDRESS registers it. Otherwise it waits a while for them, then shows itself under \
         its own address, and under the broker's as soon as it has one.",
    ),
    knob(
        &["PRIVATE_NETWORK_NAME"],
        Kind::Text,
        None,
        "",
        "Name of the network the pilot is in: daemons with the same name connect directly and not through a broker.",
    ),
    // -- names
    knob(
        &["STARTD_NAME"],
        Kind::Text,
        None,
        "",
        "Name of the pilot within the pool, before the @ of slot names.",
    ),
    knob(
        &["UID_DOMAIN"],
        Kind::Text,
        None,
        "",
        "Domain of the account names of this machine. If not set: the machine's name.",
    ),
    knob(
        &["FILESYSTEM_DOMAIN"],
        Kind::Text,
        None,
        "",
        "Machines with the same value share their files. If not set: a value that no other machine has (HTCondor: the \
         machine's name), so that files are always transferred.",
    ),
    // -- directories
    knob(
        &["LOG"],
        Kind::Path,
        None,
        "",
        "Directory of the log file. If not set: the log goes to standard error.",
    ),
    knob(
        &["EXECUTE"],
        Kind::Path,
        Some("$(LOCAL_DIR)/execute"),
        "",
        "Directory of the jobs' sandboxes; the helper must allow it. LOCAL_DIR, if not set, is the working directory.",
    ),
    // -- what is offered
    knob(
        &["NUM_CPUS"],
        Kind::Integer(1, 65_536),
        None,
        "cores",
        "Cores offered. If not set: as many as the process may use.",
    ),
    knob(
        &["MEMORY"],
        Kind::Integer(1, 1 << 40),
        None,
        "MiB",
        "Memory offered. If not set: that of the machine, less RESERVED_MEMORY.",
    ),
    knob(
        &["RESERVED_MEMORY"],
        Kind::Integer(0, 1 << 40),
        Some("0"),
        "MiB",
        "Memory kept back, if MEMORY is not set.",
    ),
    knob(
        &["DISK"],
        Kind::Integer(1, 1 << 50),
        None,
        "KiB",
        "Disk space offered, of all slots. If not set: what is free in EXECUTE, less RESERVED_DISK.",
    ),
    knob(
        &["RESERVED_DISK"],
        Kind::Integer(0, 1 << 40),
        Some("0"),
        "MiB",
        "Disk space kept back, if DISK is not set.",
    ),
    knob(
        &["NUM_SLOTS"],
        Kind::Integer(1, 65_536),
        None,
        "",
        "Number of slots, all of one size: cores, memory and disk are split evenly. If not set: one for each core.",
    ),
    knob(
        &["START"],
        Kind::Expression,
        Some("True"),
        "",
        "Whether a slot takes a job; evaluated with the job as TARGET.",
    ),
    knob(
        &["RANK"],
        Kind::Expression,
        Some("0.0"),
        "",
        "Which job a slot likes better; higher is better.",
    ),
    knob(
        &["SLOT_WEIGHT"],
        Kind::Expression,
        Some("Cpus"),
        "",
        "What a slot counts for in its user's share.",
    ),
    knob(
        &["STARTD_ATTRS"],
        Kind::List,
        None,
        "",
        "Names of knobs that are published in the slot ads, as expressions. A name without a value is passed over, with \
         a warning. SLOT<n>_<name> is the value for slot n, SLOT<n>_STARTD_ATTRS names more for it.",
    ),
    knob(
        &["STARTD_EXPRS"],
        Kind::List,
        None,
        "",
        "Old name of STARTD_ATTRS; both are used.",
    ),
    // -- times of a slot
    knob(
        &["UPDATE_INTERVAL"],
        Kind::Integer(1, LONG),
        Some("300"),
        "s",
        "Time between two updates of the slot ads.",
    ),
    knob(
        &["POLLING_INTERVAL"],
        Kind::Integer(1, LONG),
        Some("5"),
        "s",
        "Time between two evaluations of START for an idle claim, of PREEMPT for a running job, and of the machine's \
         figures.",
    ),
    knob(
        &["STARTD_NOCLAIM_SHUTDOWN"],
        Kind::Integer(0, LONG),
        Some("0"),
        "s",
        "The pilot retires when no slot was claimed for so long; 0 is never.",
    ),
    knob(
        &["CLAIM_WORKLIFE"],
        Kind::Integer(-1, LONG),
        Some("1200"),
        "s",
        "Age after which a claim takes no further job; -1 is without limit.",
    ),
    knob(
        &["MAX_CLAIM_ALIVES_MISSED"],
        Kind::Integer(1, 1000),
        Some("6"),
        "",
        "Keep-alives of the schedd that may be missing before a claim ends.",
    ),
    knob(
        &["MAXJOBRETIREMENTTIME"],
        Kind::Expression,
        Some("0"),
        "s",
        "Time a running job may still use when its slot is wanted back.",
    ),
    knob(
        &["MachineMaxVacateTime"],
        Kind::Expression,
        Some("$(MaxVacateTime)"),
        "s",
        "Longest time between the soft and the hard end of a job; MaxVacateTime, if not set, is 10 * 60.",
    ),
    knob(
        &["PREEMPT"],
        Kind::Expression,
        Some("False"),
        "",
        "Whether a running job is to leave its slot; evaluated every POLLING_INTERVAL with the slot as MY and the job as \
         TARGET, and the job's present figures in both: MemoryUsage (MiB), ResidentSetSize, ImageSize, DiskUsage (KiB, its \
         input), CpusUsage, RemoteUserCpu, RemoteSysCpu, NumPids; in MY also TotalJobRunTime. A job that is to leave keeps \
         its retirement time (MAXJOBRETIREMENTTIME), then gets its signal, and is killed after MachineMaxVacateTime. No \
         other job follows on its claim.",
    ),
    knob(
        &["WANT_HOLD"],
        Kind::Expression,
        Some("False"),
        "",
        "Whether a job that leaves for PREEMPT is put on hold; otherwise it goes back to the queue. Evaluated when it is \
         told to end.",
    ),
    knob(
        &["WANT_HOLD_REASON"],
        Kind::Expression,
        Some("undefined"),
        "",
        "The text of that hold, a ClassAd expression: a text is in quotes. If it is no text, the hold names WANT_HOLD.",
    ),
    knob(
        &["WANT_HOLD_SUBCODE"],
        Kind::Expression,
        Some("undefined"),
        "",
        "The HoldReasonSubCode of that hold; its HoldReasonCode is 21. 0 if it is no whole number.",
    ),
    knob(
        &["KILLING_TIMEOUT"],
        Kind::Integer(0, LONG),
        Some("30"),
        "s",
        "Time from the hard end of a job to giving it up.",
    ),
    knob(
        &["SHUTDOWN_GRACEFUL_TIMEOUT"],
        Kind::Integer(0, LONG),
        Some("1800"),
        "s",
        "Bound on the retirement time of running jobs when the pilot is told to end.",
    ),
    // -- jobs
    knob(
        &["STARTER_INITIAL_UPDATE_INTERVAL"],
        Kind::Integer(0, LONG),
        Some("8"),
        "s",
        "Time from the start of a job to its first update.",
    ),
    knob(
        &["STARTER_UPDATE_INTERVAL"],
        Kind::Integer(1, LONG),
        Some("300"),
        "s",
        "Time between two updates of a running job.",
    ),
    knob(
        &["STARTER_UPLOAD_TIMEOUT"],
        Kind::Integer(1, LONG),
        Some("200"),
        "s",
        "Longest silence of a shadow during a transfer or a call.",
    ),
    knob(
        &["STARTER_JOB_ENVIRONMENT"],
        Kind::Environment,
        None,
        "",
        "Variables for every job, written as the environment of a submit file; the job's own ones win.",
    ),
    knob(
        &["SEC_CREDENTIAL_REFRESH"],
        Kind::Integer(0, LONG),
        Some("300"),
        "s",
        "Time between two looks at a running job's OAuth credentials on the submit side; what has changed is renewed in \
         the sandbox. 0: they are fetched once.",
    ),
    knob(
        &["JOB_RENICE_INCREMENT"],
        Kind::Integer(0, 19),
        Some("0"),
        "",
        "Nice value of jobs.",
    ),
    knob(
        &["STARTER_RLIMIT_AS"],
        Kind::Integer(0, 1 << 40),
        Some("0"),
        "MiB",
        "Limit on the address space of each process of a job; 0 is none.",
    ),
    knob(
        &["CGROUP_MEMORY_LIMIT_POLICY"],
        Kind::Choice(&["hard", "none"]),
        Some("hard"),
        "",
        "hard: a job gets no more memory than its slot has, where the helper can limit it (`memory-limit` in \
         SailplaneFeatures); one that wants more is killed and held. none: memory is not limited.",
    ),
    // -- ours
    knob(
        &["SAILPLANE_SWITCH"],
        Kind::Text,
        Some("/usr/lib/sailplane/sailplane-switch"),
        "",
        "What the site has for running jobs under other accounts: the path of the identity-switch helper; glexec:PATH, a \
         gLExec; sudo or sudo:PATH, with the accounts of SLOT<n>_USER; or none. If not set, GLEXEC counts where \
         GLEXEC_JOB is true.",
    ),
    knob(
        &["GLEXEC_JOB"],
        Kind::Text,
        None,
        "",
        "True: GLEXEC is used, if SAILPLANE_SWITCH is not set. HTCondor's own starter reads it, too.",
    ),
    knob(
        &["GLEXEC"],
        Kind::Text,
        None,
        "",
        "The site's gLExec, for GLEXEC_JOB.",
    ),
    knob(
        &["SAILPLANE_IDENTITY_SWITCH", "GLIDEIN_Glexec_Use"],
        Kind::Choice(&["REQUIRED", "OPTIONAL", "NEVER"]),
        Some("REQUIRED"),
        "",
        "Whether jobs run under their users' own accounts, by way of the helper. REQUIRED: the pilot does not start \
         without it. OPTIONAL: where the helper does not work, all jobs run under the pilot's own account. NEVER: they \
         always do. What protects them from each other then is SAILPLANE_ISOLATION.",
    ),
    knob(
        &["SAILPLANE_JOB_CREDENTIAL"],
        Kind::Choice(&["SITE", "PROXY", "PROXY_OR_TOKEN"]),
        Some("SITE"),
        "",
        "What a job has to bring, so that it is known whose it is. SITE: what the site's way of starting payloads needs, \
         which is a proxy where accounts are given for credentials, and nothing where all jobs have one account. PROXY: an \
         X.509 proxy in any case. PROXY_OR_TOKEN: that or a token, where the site's helper verifies tokens; a job that has \
         both is its proxy's. A job that brings nothing of it is not matched (the slot's START says so), and held if it \
         comes all the same.",
    ),
    knob(
        &["SAILPLANE_JOB_TOKEN"],
        Kind::Text,
        Some("scitokens"),
        "",
        "The service whose token says whose a job is, as in the job's OAuthServicesNeeded.",
    ),
    knob(
        &["SAILPLANE_ISOLATION"],
        Kind::Choice(&["REQUIRED", "OPTIONAL", "NEVER"]),
        Some("OPTIONAL"),
        "",
        "Whether jobs under the pilot's own account run in namespaces of their own (user, processes, mounts, IPC), where \
         they see neither the pilot nor each other, and none of its files. REQUIRED: the pilot does not start where \
         the node makes none for ordinary accounts. OPTIONAL: there, jobs are not protected from each other, nor the \
         pilot from them. NEVER: they are not anywhere.",
    ),
    knob(
        &["SAILPLANE_HIDE"],
        Kind::List,
        None,
        "",
        "More files and directories that jobs in namespaces of their own do not see. Hidden anyway: EXECUTE but for the \
         job's own sandbox, LOG, LOCAL_DIR, the directories of tokens, the home of the account, /tmp and /var/tmp, and \
         the pilot's own proxy.",
    ),
    knob(
        &["SAILPLANE_PILOT_PROXY", "X509_USER_PROXY"],
        Kind::Path,
        None,
        "",
        "The pilot's own proxy, shown to helpers that want one (credential_required = pilot+user in switch.conf), and to \
         a site's gLExec.",
    ),
    knob(
        &["SAILPLANE_JOB_AGENT"],
        Kind::Path,
        None,
        "",
        "The program that works in the sandboxes of jobs that run under the pilot's own account. If not set: sailplane-job \
         beside the pilot's program, else in /usr/lib/sailplane.",
    ),
    knob(
        &["SAILPLANE_CA_DIRECTORY", "X509_CERT_DIR"],
        Kind::Path,
        None,
        "",
        "Directory of the CAs that the credentials of jobs under the pilot's own account are verified against. If not set, \
         only their end is read. The helper has a setting of its own.",
    ),
    knob(
        &["SAILPLANE_JOB_PROCESSES"],
        Kind::Integer(0, MAX),
        Some("0"),
        "",
        "Most processes of a job, where the helper can limit them (`pids-limit` in SailplaneFeatures); 0 is without limit.",
    ),
    knob(
        &["SAILPLANE_JOB_IO_PRIORITY"],
        Kind::Choice(&["NONE", "IDLE", "0", "1", "2", "3", "4", "5", "6", "7"]),
        Some("NONE"),
        "",
        "Priority of what jobs read and write: 0 (first) to 7 (last), IDLE (when nobody else does), or NONE to leave it.",
    ),
    knob(
        &["SAILPLANE_CREDENTIAL_GRACE"],
        Kind::Integer(0, MAX),
        Some("300"),
        "s",
        "How long before the end of its credential a job is stopped and held.",
    ),
    knob(
        &["SAILPLANE_CREDENTIAL_NOTICE"],
        Kind::Integer(0, MAX),
        Some("1800"),
        "s",
        "How long before the end of its credential a job's log says that it will be stopped, and when. The slot ad has the \
         end from the start (SailplaneCredentialExpiration).",
    ),
    knob(
        &["SAILPLANE_MAX_LIFETIME"],
        Kind::Integer(0, LONG),
        Some("0"),
        "s",
        "Age at which the pilot is to have ended; it retires in time before. 0 is without limit.",
    ),
];

/// Values that other knobs' defaults refer to.
const BASE: [(&str, &str); 4] = [
    ("LOCAL_DIR", "$(SAILPLANE_WORKING_DIRECTORY)"),
    ("MaxVacateTime", "10 * 60"),
    ("MINUTE", "60"),
    ("HOUR", "(60 * $(MINUTE))"),
];

/// Everything that is read: by the pilot, then by the checks.
pub fn all() -> impl Iterator<Item = &'static Knob> {
    TABLE.iter().chain(tables().into_iter().flatten())
}

/// All defaults.
pub(super) fn defaults() -> impl Iterator<Item = (&'static str, &'static str)> {
    let own = all().filter_map(|knob| Some((*knob.names.last()?, knob.default?)));
    BASE.into_iter().chain(own)
}

/// The knob that has this name.
pub(super) fn find(name: &str) -> Option<&'static Knob> {
    all().find(|knob| {
        knob.names
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    })
}
