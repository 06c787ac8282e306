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
    /// Query for slot ads.
    QUERY_STARTD_ADS = 5;
    /// Query for schedd ads.
    QUERY_SCHEDD_ADS = 6;
    /// Query for master ads.
    QUERY_MASTER_ADS = 7;
    /// Query for private slot ads.
    QUERY_STARTD_PVT_ADS = 10;
    /// Removes slot ads from a collector.
    INVALIDATE_STARTD_ADS = 13;
    /// Removes master ads from a collector.
    INVALIDATE_MASTER_ADS = 15;
    /// Query for the collector's own ad.
    QUERY_COLLECTOR_ADS = 20;
    /// Query for ads of any kind.
    QUERY_ANY_ADS = 48;
    /// Update of an ad of a type the collector has no table for.
    UPDATE_AD_GENERIC = 58;
    /// Slot ad with an acknowledgement.
    UPDATE_STARTD_AD_WITH_ACK = 60;
    /// A daemon behind NAT registers with a CCB server.
    CCB_REGISTER = 67;
    /// A client asks a CCB server for a reversed connection.
    CCB_REQUEST = 68;
    /// First command of a reversed connection.
    CCB_REVERSE_CONNECT = 69;
    /// Selects an endpoint behind a shared port daemon.
    SHARED_PORT_CONNECT = 75;
    /// Hands a connection from the shared port daemon to an endpoint.
    SHARED_PORT_PASS_SOCK = 76;
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
    /// Asks for a configuration value.
    CONFIG_VAL = 457;
    /// Vacates one slot.
    VACATE_CLAIM = 465;
    /// Totals of a startd.
    GIVE_TOTALS_CLASSAD = 470;
    /// Vacates every claim without grace.
    VACATE_ALL_FAST = 474;
    /// Vacates one slot without grace.
    VACATE_CLAIM_FAST = 475;
    /// Delegates a proxy to a startd.
    DELEGATE_GSI_CRED_STARTD = 501;
    /// Drains a startd.
    DRAIN_JOBS = 512;
    /// Ends draining.
    CANCEL_DRAIN_JOBS = 513;
    /// Asks a startd whether a claim may be activated again (25.x).
    REACTIVATE_CLAIM_CHECK = 554;
    /// Stops a job after a final file transfer (25.x).
    DEACTIVATE_CLAIM_FINAL_XFER = 561;
    /// A ClassAd command; its sub-command is in the ad.
    CA_CMD = 1200;
    /// A ClassAd command that requires authentication.
    CA_AUTH_CMD = 1201;
    /// Opens a handshake; the real command is in the security ad.
    DC_AUTHENTICATE = 60010;
    /// Does nothing.
    DC_NOP = 60011;
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
    /// The shadow sends the input sandbox (named from the server's side).
    FILETRANS_UPLOAD = 61000;
    /// The shadow receives the output sandbox.
    FILETRANS_DOWNLOAD = 61001;
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
