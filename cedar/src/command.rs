//! Command numbers (`htcondor:src/condor_includes/condor_commands.h`, protocol pages 01, 02, 03, 04).

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: i32 = $number;)*

        /// HTCondor's name of a command, for messages; `None` for numbers this crate does not know.
        pub fn name(command: i32) -> Option<&'static str> {
            match command {
                $($number => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

commands! {
    /// Slot ad and private ad to a collector; no answer. Zero is a legal command number.
    UPDATE_STARTD_AD = 0;
    /// Schedd ad to a collector.
    UPDATE_SCHEDD_AD = 1;
    /// Master ad to a collector.
    UPDATE_MASTER_AD = 2;
    /// Checkpoint server ad to a collector; only old pools have one.
    UPDATE_CKPT_SRVR_AD = 4;
    /// Query for slot ads.
    QUERY_STARTD_ADS = 5;
    /// Query for schedd ads.
    QUERY_SCHEDD_ADS = 6;
    /// Query for master ads.
    QUERY_MASTER_ADS = 7;
    /// Query for checkpoint server ads.
    QUERY_CKPT_SRVR_ADS = 9;
    /// Query for private slot ads.
    QUERY_STARTD_PVT_ADS = 10;
    /// Ad of a submitter, a user with jobs at a schedd.
    UPDATE_SUBMITTOR_AD = 11;
    /// Query for submitter ads.
    QUERY_SUBMITTOR_ADS = 12;
    /// Removes slot ads from a collector.
    INVALIDATE_STARTD_ADS = 13;
    /// Removes schedd ads from a collector.
    INVALIDATE_SCHEDD_ADS = 14;
    /// Removes master ads from a collector.
    INVALIDATE_MASTER_ADS = 15;
    /// Removes checkpoint server ads from a collector.
    INVALIDATE_CKPT_SRVR_ADS = 17;
    /// Removes submitter ads from a collector.
    INVALIDATE_SUBMITTOR_ADS = 18;
    /// Ad of another collector.
    UPDATE_COLLECTOR_AD = 19;
    /// Query for the collector's own ad.
    QUERY_COLLECTOR_ADS = 20;
    /// Removes collector ads from a collector.
    INVALIDATE_COLLECTOR_ADS = 21;
    /// License ad to a collector.
    UPDATE_LICENSE_AD = 42;
    /// Query for license ads.
    QUERY_LICENSE_ADS = 43;
    /// Removes license ads from a collector.
    INVALIDATE_LICENSE_ADS = 44;
    /// Storage ad to a collector.
    UPDATE_STORAGE_AD = 45;
    /// Query for storage ads.
    QUERY_STORAGE_ADS = 46;
    /// Removes storage ads from a collector.
    INVALIDATE_STORAGE_ADS = 47;
    /// Query for ads of any kind.
    QUERY_ANY_ADS = 48;
    /// Negotiator ad to a collector.
    UPDATE_NEGOTIATOR_AD = 49;
    /// Query for negotiator ads.
    QUERY_NEGOTIATOR_ADS = 50;
    /// Removes negotiator ads from a collector.
    INVALIDATE_NEGOTIATOR_ADS = 51;
    /// Query for ads of several types at once, each with its own constraint and projection.
    QUERY_MULTIPLE_ADS = 53;
    /// As [`QUERY_MULTIPLE_ADS`], with the private attributes.
    QUERY_MULTIPLE_PVT_ADS = 54;
    /// Ad of a high availability daemon.
    UPDATE_HAD_AD = 55;
    /// Query for ads of high availability daemons.
    QUERY_HAD_ADS = 56;
    /// Removes ads of high availability daemons from a collector.
    INVALIDATE_HAD_ADS = 57;
    /// Update of an ad of a type the collector has no table for.
    UPDATE_AD_GENERIC = 58;
    /// Removes ads of a type the collector has no table for.
    INVALIDATE_ADS_GENERIC = 59;
    /// Slot ad with an acknowledgement.
    UPDATE_STARTD_AD_WITH_ACK = 60;
    /// A daemon behind NAT registers with a CCB server.
    CCB_REGISTER = 67;
    /// A client asks a CCB server for a reversed connection.
    CCB_REQUEST = 68;
    /// First command of a reversed connection.
    CCB_REVERSE_CONNECT = 69;
    /// Grid ad to a collector.
    UPDATE_GRID_AD = 70;
    /// Query for grid ads.
    QUERY_GRID_ADS = 71;
    /// Removes grid ads from a collector.
    INVALIDATE_GRID_ADS = 72;
    /// Changes attributes of slot ads that a collector has.
    MERGE_STARTD_AD = 73;
    /// Query for ads of a type the collector has no table for.
    QUERY_GENERIC_ADS = 74;
    /// Selects an endpoint behind a shared port daemon.
    SHARED_PORT_CONNECT = 75;
    /// Hands a connection from the shared port daemon to an endpoint.
    SHARED_PORT_PASS_SOCK = 76;
    /// Accounting ad to a collector.
    UPDATE_ACCOUNTING_AD = 77;
    /// Query for accounting ads.
    QUERY_ACCOUNTING_ADS = 78;
    /// Removes accounting ads from a collector.
    INVALIDATE_ACCOUNTING_ADS = 79;
    /// Submitter ad that the user it is about sends.
    UPDATE_OWN_SUBMITTOR_AD = 80;
    /// A schedd asks its collector for a token in a user's name.
    IMPERSONATION_TOKEN_REQUEST = 81;
    /// Resumes a suspended claim.
    CONTINUE_CLAIM = 401;
    /// Suspends a claim.
    SUSPEND_CLAIM = 402;
    /// Stops the job of a claim gently.
    DEACTIVATE_CLAIM = 403;
    /// Stops the job of a claim at once; also the normal goodbye of a shadow.
    DEACTIVATE_CLAIM_FORCIBLY = 404;
    /// A newer shadow's goodbye after the job is done (24.7).
    DEACTIVATE_CLAIM_JOB_DONE = 413;
    /// A negotiator starts to match a schedd's jobs.
    NEGOTIATE = 416;
    /// Asks a schedd, or a negotiator, for a negotiation cycle soon.
    RESCHEDULE = 421;
    /// Asks a startd for its history.
    GET_HISTORY = 429;
    /// The negotiator tells a startd of a match.
    MATCH_INFO = 440;
    /// Keep-alive of claims and of CCB registrations.
    ALIVE = 441;
    /// A schedd claims a slot.
    REQUEST_CLAIM = 442;
    /// Ends a claim.
    RELEASE_CLAIM = 443;
    /// Starts a job on a claim.
    ACTIVATE_CLAIM = 444;
    /// Vacates every claim of a startd.
    VACATE_ALL_CLAIMS = 447;
    /// Asks for the state of a startd.
    GIVE_STATE = 448;
    /// Sets a user's priority.
    SET_PRIORITY = 449;
    /// Asks a negotiator for users' priorities.
    GET_PRIORITY = 451;
    /// Restarts a daemon.
    RESTART = 453;
    /// Asks for a configuration value.
    CONFIG_VAL = 457;
    /// Forgets a user's usage.
    RESET_USAGE = 458;
    /// Sets a user's priority factor.
    SET_PRIORITYFACTOR = 459;
    /// Forgets every user's usage.
    RESET_ALL_USAGE = 460;
    /// Asks a negotiator which slots a user has.
    GET_RESLIST = 463;
    /// Vacates one slot.
    VACATE_CLAIM = 465;
    /// Totals of a startd.
    GIVE_TOTALS_CLASSAD = 470;
    /// Vacates every claim without grace.
    VACATE_ALL_FAST = 474;
    /// Vacates one slot without grace.
    VACATE_CLAIM_FAST = 475;
    /// Removes, holds, releases and so on jobs of a schedd.
    ACT_ON_JOBS = 478;
    /// Stores a user's credential at a schedd.
    STORE_CRED = 479;
    /// Sends the input files of jobs to a schedd.
    SPOOL_JOB_FILES = 480;
    /// Removes a user from a negotiator's accounts.
    DELETE_USER = 482;
    /// Fetches the output files of jobs from a schedd.
    TRANSFER_DATA = 486;
    /// A new proxy for a job, sent as a file.
    UPDATE_GSI_CRED = 487;
    /// As [`SPOOL_JOB_FILES`], with the files' modes.
    SPOOL_JOB_FILES_WITH_PERMS = 488;
    /// As [`TRANSFER_DATA`], with the files' modes.
    TRANSFER_DATA_WITH_PERMS = 489;
    /// Delegates a new proxy to a schedd.
    DELEGATE_GSI_CRED_SCHEDD = 499;
    /// Delegates a new proxy to a starter.
    DELEGATE_GSI_CRED_STARTER = 500;
    /// Delegates a proxy to a startd.
    DELEGATE_GSI_CRED_STARTD = 501;
    /// Asks a schedd for leave to transfer files.
    TRANSFER_QUEUE_REQUEST = 507;
    /// Asks a schedd where a job's starter is.
    GET_JOB_CONNECT_INFO = 509;
    /// Drains a startd.
    DRAIN_JOBS = 512;
    /// Ends draining.
    CANCEL_DRAIN_JOBS = 513;
    /// As [`GET_PRIORITY`], summed up over groups.
    GET_PRIORITY_ROLLUP = 514;
    /// Query for jobs that have left a schedd's queue.
    QUERY_SCHEDD_HISTORY = 515;
    /// Query for the jobs of a schedd.
    QUERY_JOB_ADS = 516;
    /// A negotiator asks a schedd for its wishes.
    SEND_RESOURCE_REQUEST_LIST = 518;
    /// As [`QUERY_JOB_ADS`]; the peer must have authenticated.
    QUERY_JOB_ADS_WITH_AUTH = 519;
    /// Asks a schedd to get a token from its collector.
    COLLECTOR_TOKEN_REQUEST = 523;
    /// Query for the users a schedd knows.
    QUERY_USERREC_ADS = 540;
    /// Lets a user submit.
    ENABLE_USERREC = 541;
    /// Keeps a user from submitting.
    DISABLE_USERREC = 542;
    /// Asks a startd whether a claim may be activated again (25.x).
    REACTIVATE_CLAIM_CHECK = 554;
    /// Stops a job after a final file transfer (25.x).
    DEACTIVATE_CLAIM_FINAL_XFER = 561;
    /// A ClassAd command that requires authentication.
    CA_AUTH_CMD = 1000;
    /// Opens a schedd's queue for reading.
    QMGMT_READ_CMD = 1111;
    /// Opens a schedd's queue for changes.
    QMGMT_WRITE_CMD = 1112;
    /// A ClassAd command; its sub-command is in the ad.
    CA_CMD = 1200;
    /// Sends a daemon one of HTCondor's own signals.
    DC_RAISESIGNAL = 60000;
    /// Has a daemon read its configuration again.
    DC_RECONFIG = 60004;
    /// Ends a daemon.
    DC_OFF_GRACEFUL = 60005;
    /// Ends a daemon without grace.
    DC_OFF_FAST = 60006;
    /// Asks a daemon for configuration values.
    DC_CONFIG_VAL = 60007;
    /// Opens a handshake; the real command is in the security ad.
    DC_AUTHENTICATE = 60010;
    /// Does nothing.
    DC_NOP = 60011;
    /// Has a daemon read its configuration again, all of it.
    DC_RECONFIG_FULL = 60012;
    /// Fetches a log file of a daemon.
    DC_FETCH_LOG = 60013;
    /// The peer no longer knows one of our sessions.
    DC_INVALIDATE_KEY = 60014;
    /// Test of READ access.
    DC_NOP_READ = 60020;
    /// Test of WRITE access.
    DC_NOP_WRITE = 60021;
    /// Test of NEGOTIATOR access.
    DC_NOP_NEGOTIATOR = 60022;
    /// Test of ADMINISTRATOR access.
    DC_NOP_ADMINISTRATOR = 60023;
    /// Test of OWNER access.
    DC_NOP_OWNER = 60024;
    /// Test of CONFIG access.
    DC_NOP_CONFIG = 60025;
    /// Test of DAEMON access.
    DC_NOP_DAEMON = 60026;
    /// Test of ADVERTISE_STARTD access.
    DC_NOP_ADVERTISE_STARTD = 60027;
    /// Test of ADVERTISE_SCHEDD access.
    DC_NOP_ADVERTISE_SCHEDD = 60028;
    /// Test of ADVERTISE_MASTER access.
    DC_NOP_ADVERTISE_MASTER = 60029;
    /// Asks whether a command would be allowed.
    DC_SEC_QUERY = 60040;
    /// Asks for a unique instance id of a daemon.
    DC_QUERY_INSTANCE = 60045;
    /// Asks for a token for the identity of the session.
    DC_GET_SESSION_TOKEN = 60046;
    /// Begins a request for a token that somebody must approve.
    DC_START_TOKEN_REQUEST = 60047;
    /// Asks whether a requested token was approved, and takes it.
    DC_FINISH_TOKEN_REQUEST = 60048;
    /// Lists pending token requests.
    DC_LIST_TOKEN_REQUEST = 60049;
    /// Approves a token request.
    DC_APPROVE_TOKEN_REQUEST = 60050;
    /// Approves token requests from a network for a while.
    DC_AUTO_APPROVE_TOKEN_REQUEST = 60051;
    /// Exchanges a SciToken for an id token.
    DC_EXCHANGE_SCITOKEN = 60052;
    /// The shadow sends the input sandbox (named from the server's side).
    FILETRANS_UPLOAD = 61000;
    /// The shadow receives the output sandbox.
    FILETRANS_DOWNLOAD = 61001;
    /// Sailplane's own: a cluster of jobs, in a number space HTCondor leaves free.
    SAILPLANE_SUBMIT = 74001;
    /// Sailplane's own: refuses a token request, which HTCondor can only let expire.
    SAILPLANE_DENY_TOKEN_REQUEST = 74010;
}

/// A command as it should appear in a message: number and, if known, name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named(pub i32);

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match name(self.0) {
            Some(name) => write!(f, "{} {name}", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}
