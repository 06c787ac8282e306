//! What an operator relies on.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use cedar::security::AuthMethod;
use cedar::security::policy::Wish;
use condorconf::MemoryFiles;

use super::reader::Reader;
use super::*;

fn detected() -> Detected {
    let facts = Detected {
        cpus: 8,
        user_name: "pilot".to_owned(),
        home: Some("/home/pilot".into()),
        ..Detected::default()
    };
    facts
        .with("FULL_HOSTNAME", "node7.example.org")
        .with("SAILPLANE_WORKING_DIRECTORY", "/scratch/pilot")
        .with("DETECTED_CPUS", "8")
}

fn load_with(text: &str, sets: &[(&str, &str)]) -> Result<Knobs, KnobErrors> {
    let files = MemoryFiles::new().file("/pilot.conf", text);
    let sets: Vec<(String, String)> = sets
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect();
    let config = read(&files, &["/pilot.conf".into()], &sets, &detected())?;
    Knobs::from_config(&config, &detected())
}

fn load(text: &str) -> Knobs {
    load_with(&format!("COLLECTOR_HOST = cm.example.org\n{text}"), &[])
        .unwrap_or_else(|errors| panic!("{errors}"))
}

/// All mistakes of a text, as they are shown.
fn mistakes(text: &str) -> Vec<String> {
    let errors = load_with(&format!("COLLECTOR_HOST = cm.example.org\n{text}"), &[])
        .expect_err("no mistake");
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_collector_is_all_that_must_be_set() {
    let knobs = load("");
    assert_eq!(knobs.collectors.len(), 1);
    assert_eq!(
        (knobs.collectors[0].host(), knobs.collectors[0].port()),
        ("cm.example.org", 9618)
    );
    assert_eq!(knobs.execute, Path::new("/scratch/pilot/execute"));
    assert_eq!(
        knobs.sailplane_switch,
        Offered::Switch("/usr/lib/sailplane/sailplane-switch".into())
    );
    assert_eq!(
        knobs.credentials.token_directories,
        [
            Path::new("/home/pilot/.condor/tokens.d"),
            Path::new("/etc/condor/tokens.d")
        ]
    );
    assert_eq!(knobs.client_policy, SecurityPolicy::default());
    assert_eq!(
        (
            knobs.num_cpus,
            knobs.memory_mib,
            knobs.num_slots,
            knobs.disk_kib
        ),
        (None, None, None, None)
    );
    assert_eq!(
        (knobs.log, knobs.uid_domain, knobs.filesystem_domain),
        (None, None, None)
    );
    assert_eq!(
        (knobs.update_interval, knobs.polling_interval),
        (Duration::from_secs(300), Duration::from_secs(5))
    );
    assert_eq!(
        (knobs.claim_worklife, knobs.max_lifetime),
        (Some(Duration::from_secs(1200)), None)
    );
    assert_eq!(knobs.startd_noclaim_shutdown, None);
    assert_eq!(knobs.max_vacate_time, Duration::from_secs(600));
    assert_eq!(knobs.credential_grace, Duration::from_secs(300));
    assert_eq!(
        (knobs.start.to_old(), knobs.rank.to_old()),
        ("true".to_owned(), "0.0".to_owned())
    );
    assert!(knobs.warnings.is_empty(), "{:?}", knobs.warnings);
}

#[test]
fn without_a_collector_the_message_says_what_to_do() {
    let errors = load_with("", &[]).unwrap_err().to_string();
    assert_eq!(
        errors,
        "COLLECTOR_HOST: is not set; name the pool's collector, or set CONDOR_HOST"
    );
    let knobs = load_with("CONDOR_HOST = cm.example.org", &[]).unwrap();
    assert_eq!(knobs.collector_host, "cm.example.org");
}

#[test]
fn all_mistakes_are_reported_with_knob_file_and_line() {
    let shown = mistakes(
        "UPDATE_INTERVAL = soon\n\
         START = (Owner ==\n\
         SAILPLANE_SWICH = /x\n\
         SEC_DEFAULT_ENCRYPTION = MAYBE\n\
         MEMORY = -1\n\
         LOG = log\n\
         LOWPORT = 9000\n\
         SEC_CLIENT_AUTHENTICATION_METHODS = KERBEROS\n\
         NUM_SLOTS = 9\n",
    );
    let expected = [
        "/pilot.conf:5: SEC_DEFAULT_ENCRYPTION: expected REQUIRED, PREFERRED, OPTIONAL or NEVER, got \"MAYBE\"",
        "/pilot.conf:9: SEC_CLIENT_AUTHENTICATION_METHODS: none of \"KERBEROS\" can be used: the pilot has IDTOKENS, SSL, \
         SCITOKENS, FS and CLAIMTOBE",
        "/pilot.conf:8: LOWPORT: the ports 9000 and (not set) are no range (both must be set, from 1 to 65535, the \
         lower one first)",
        "/pilot.conf:7: LOG: expected an absolute path, got \"log\"",
        "/pilot.conf:6: MEMORY: expected an integer from 1 to 1099511627776, got -1, which is too small",
        "/pilot.conf:2: UPDATE_INTERVAL: expected an integer, got \"soon\"",
        "/pilot.conf:4: SAILPLANE_SWICH: there is no such knob; did you mean SAILPLANE_SWITCH?",
        "/pilot.conf:10: NUM_SLOTS: 9 slots cannot be made of 8 cores",
    ];
    for message in expected {
        assert!(
            shown.iter().any(|line| line == message),
            "{message}\nis not among\n{}",
            shown.join("\n")
        );
    }
    assert!(
        shown
            .iter()
            .any(|line| line.starts_with("/pilot.conf:3: START: \"(Owner ==\" is not a ClassAd")),
        "{shown:?}"
    );
    assert_eq!(shown.len(), expected.len() + 1, "{}", shown.join("\n"));
}

#[test]
fn expressions_come_out_as_htcondor_writes_them() {
    // What condor_config_val 23.9.6 says of the same text.
    let knobs = load(
        "NETWORK_HOSTNAME = $EVAL(1+2) $EVAL(JOINED) $EVAL(undefined) $EVAL(1.5) $EVAL(true) $EVAL(LIST)\n\
         JOINED = strcat(\"a\",\"b\")\nLIST = {1,2}\nNUM_CPUS = 3.9\n",
    );
    let expected = "3 ab undefined 1.500000000000000E+00 true { 1,2 }";
    assert_eq!(knobs.network_hostname.as_deref(), Some(expected));
    assert_eq!(knobs.num_cpus, Some(3));
}

#[test]
fn a_fact_cannot_be_set() {
    let shown = mistakes("SAILPLANE_WORKING_DIRECTORY = /\nSTARTD.SAILPLANE_SWITCHES = /\n");
    assert_eq!(
        shown,
        [
            "/pilot.conf:2: SAILPLANE_WORKING_DIRECTORY: there is no such knob",
            "/pilot.conf:3: STARTD.SAILPLANE_SWITCHES: there is no such knob; did you mean SAILPLANE_SWITCH?",
        ]
    );
}

#[test]
fn syntax_errors_come_with_their_place_too() {
    let errors = load_with(
        "A = 1\nnonsense\nif maybe\nendif\n",
        &[("UPDATE_INTERVAL", "$(A")],
    )
    .unwrap_err();
    let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert!(
        shown[0].starts_with("/pilot.conf:2: not a statement"),
        "{shown:?}"
    );
    assert!(
        shown[1].starts_with("/pilot.conf:3: \"maybe\" is not a valid condition"),
        "{shown:?}"
    );
    let errors = load_with("COLLECTOR_HOST = cm", &[("UPDATE_INTERVAL", "x y")]).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "command line: UPDATE_INTERVAL: expected an integer, got \"x y\""
    );
}

#[test]
fn client_settings_count_before_default_ones() {
    let knobs = load(
        "SEC_DEFAULT_AUTHENTICATION = OPTIONAL\nSEC_CLIENT_AUTHENTICATION = REQUIRED\nSEC_DEFAULT_INTEGRITY = preferred\n\
         SEC_DEFAULT_ENCRYPTION = OPTIONAL\nSTARTD.SEC_DEFAULT_ENCRYPTION = PREFERRED\nSEC_READ_ENCRYPTION = nonsense\n\
         SEC_DEFAULT_AUTHENTICATION_METHODS = SSL, FS, MUNGE, IDTOKENS, token\nSEC_DEFAULT_SESSION_DURATION = 50000\n",
    );
    let policy = &knobs.client_policy;
    assert_eq!(policy.authentication, Wish::Required);
    assert_eq!(
        (policy.integrity, policy.encryption),
        (Wish::Preferred, Wish::Preferred)
    );
    assert_eq!(policy.methods, [AuthMethod::Fs, AuthMethod::Token]);
    assert_eq!(policy.session_duration, 50_000);
    assert_eq!(knobs.credentials.fs, cedar::net::FsAuthentication::On);
    assert_eq!(
        knobs.warnings,
        [
            "SEC_DEFAULT_AUTHENTICATION_METHODS: the pilot does not have MUNGE; it is passed over",
            "SEC_DEFAULT_AUTHENTICATION_METHODS: SSL is passed over, because AUTH_SSL_CLIENT_CERTFILE names no \
             certificate"
        ]
    );
}

#[test]
fn certificates_are_found_as_htcondor_finds_them() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("proxy.pem");
    std::fs::write(&there, "").unwrap();
    let there = there.display();
    let knobs = load(&format!(
        "SEC_CLIENT_AUTHENTICATION_METHODS = SSL, SCITOKENS\nAUTH_SSL_CLIENT_CERTFILE = /no/host.pem, {there}\n\
         AUTH_SSL_CLIENT_KEYFILE = /no/host.key,/some/key\nAUTH_SSL_CLIENT_CADIR = /etc/grid-security/certificates\n\
         AUTH_SSL_CLIENT_USE_DEFAULT_CAS = False\nSCITOKENS_FILE = /run/token\n"
    ));
    let ssl = knobs.credentials.ssl.as_ref().unwrap();
    assert_eq!(
        ssl.certificate.as_deref(),
        Some(Path::new(&there.to_string()))
    );
    assert_eq!(ssl.key.as_deref(), Some(Path::new("/some/key")));
    assert!(!ssl.authorities.system);
    assert_eq!(
        ssl.authorities.directory.as_deref(),
        Some(Path::new("/etc/grid-security/certificates"))
    );
    let scitoken = knobs.credentials.scitoken.as_ref().unwrap();
    assert_eq!(
        scitoken.files().collect::<Vec<_>>(),
        [Path::new("/run/token")]
    );
    assert_eq!(
        knobs.token_request, None,
        "tokens are not among the methods"
    );
    assert_eq!(load("").token_request.as_deref(), Some("condor"));
    assert_eq!(load("SAILPLANE_TOKEN_REQUEST = FALSE").token_request, None);

    let shown = mistakes(
        "SEC_CLIENT_AUTHENTICATION_METHODS = SSL\nAUTH_SSL_CLIENT_KEYFILE = /x, /y\nSAILPLANE_TOKEN_REQUEST_IDENTITY = a b\n",
    );
    for part in [
        "SSL needs a certificate",
        "names a private key",
        "is not an identity",
    ] {
        assert!(
            shown.iter().any(|line| line.contains(part)),
            "{part}: {shown:?}"
        );
    }
    let shown = mistakes("AUTH_SSL_CLIENT_CERTFILE = /x, /y\nAUTH_SSL_CLIENT_KEYFILE = /x\n");
    assert!(
        shown[0].contains("each certificate needs its own key"),
        "{shown:?}"
    );
}

#[test]
fn a_proxy_may_be_named_by_its_variable() {
    let mut here = detected();
    here.credential_variables = vec![("X509_USER_PROXY", "/tmp/x509up_u7".to_owned())];
    let with = |text: &str| {
        let text = format!("COLLECTOR_HOST = cm.example.org\n{text}");
        let files = MemoryFiles::new().file("/pilot.conf", text);
        let config = read(&files, &["/pilot.conf".into()], &[], &here).unwrap();
        Knobs::from_config(&config, &here)
            .unwrap()
            .credentials
            .ssl
            .unwrap()
    };
    assert_eq!(with("").certificate, None);
    let ssl =
        with("AUTH_SSL_USE_CLIENT_PROXY_ENV_VAR = true\nAUTH_SSL_CLIENT_CERTFILE = /host.pem");
    assert_eq!(
        ssl.certificate.as_deref(),
        Some(Path::new("/tmp/x509up_u7"))
    );
    assert_eq!(ssl.key, None);
}

#[test]
fn a_policy_that_contradicts_itself_is_refused() {
    let shown = mistakes("SEC_CLIENT_AUTHENTICATION = NEVER\nSEC_DEFAULT_ENCRYPTION = REQUIRED\n");
    assert!(
        shown[0]
            .starts_with("/pilot.conf:3: SEC_DEFAULT_ENCRYPTION: the security policy contradicts"),
        "{shown:?}"
    );
    let shown = mistakes("SEC_DEFAULT_CRYPTO_METHODS = BLOWFISH\n");
    assert!(
        shown[0].ends_with("does not include AES, the only cipher the pilot has"),
        "{shown:?}"
    );
}

#[test]
fn strong_security_may_come_from_a_template() {
    let knobs = load("SEC_DEFAULT_AUTHENTICATION = OPTIONAL\nuse SECURITY : Strong\n");
    assert_eq!(knobs.client_policy.authentication, Wish::Required);
    let shown = mistakes("use FEATURE : GPUs\n");
    assert!(
        shown[0].starts_with("/pilot.conf:2: use FEATURE:GPUs"),
        "{shown:?}"
    );
}

#[test]
fn published_attributes_are_expressions_and_slots_may_differ() {
    let knobs = load(
        "GLIDEIN_Site = \"EXAMPLE\"\nNODE_CLASS = 3\nSLOT2_NODE_CLASS = 4\nEXTRA = Cpus * 2\n\
         STARTD_ATTRS = $(STARTD_ATTRS) GLIDEIN_Site, NODE_CLASS NOT_SET\nSTARTD_EXPRS = glidein_site\n\
         SLOT3_STARTD_ATTRS = EXTRA\n",
    );
    let shown = |attributes: &[Attribute]| -> Vec<String> {
        attributes
            .iter()
            .map(|(name, expr)| format!("{name}={}", expr.to_old()))
            .collect()
    };
    assert_eq!(
        shown(knobs.attributes_of_slot(1)),
        ["GLIDEIN_Site=\"EXAMPLE\"", "NODE_CLASS=3"]
    );
    assert_eq!(
        shown(knobs.attributes_of_slot(2)),
        ["GLIDEIN_Site=\"EXAMPLE\"", "NODE_CLASS=4"]
    );
    assert_eq!(
        shown(knobs.attributes_of_slot(3)),
        ["GLIDEIN_Site=\"EXAMPLE\"", "NODE_CLASS=3", "EXTRA=Cpus * 2"]
    );
    assert_eq!(knobs.slot_attrs.len(), 2);
    assert_eq!(
        knobs.warnings,
        ["STARTD_ATTRS: NOT_SET has no value, so it is not published"]
    );

    let shown = mistakes("STARTD_ATTRS = SITE, 9x, bad-name\nSITE = \"open\n");
    assert_eq!(shown.len(), 3, "{shown:?}");
    assert!(
        shown
            .iter()
            .any(|line| line.starts_with("/pilot.conf:3: SITE: ")),
        "{shown:?}"
    );
    assert!(shown.iter().any(
        |line| line == "/pilot.conf:2: STARTD_ATTRS: \"9x\" cannot be the name of an attribute"
    ));
}

#[test]
fn knobs_without_effect_are_warned_of() {
    let knobs = load("SUSPEND = Activity == 1\nLOW PORT = 5\nUID_DOMAIN : example.org\n");
    assert_eq!(
        knobs.warnings,
        [
            "/pilot.conf:3: LOW: the words \"PORT\" before the operator have no effect",
            "/pilot.conf:4: UID_DOMAIN: ':' in place of '=' is obsolete",
            "/pilot.conf:2: SUSPEND: has no effect on this pilot",
        ]
    );
    assert_eq!(knobs.uid_domain.as_deref(), Some("example.org"));
}

#[test]
fn asking_for_what_the_pilot_does_anyway_is_not_odd() {
    let knobs = load("use POLICY : Always_Run_Jobs\n");
    assert!(knobs.warnings.is_empty(), "{:?}", knobs.warnings);
    assert_eq!(knobs.max_job_retirement_time.to_old(), "2147483647");
}

#[test]
fn the_sites_helper_may_be_written_as_for_condors_own_starter() {
    let glexec = Offered::Glexec("/opt/glite/sbin/glexec".into());
    let text = "GLEXEC_JOB = True\nGLEXEC = /opt/glite/sbin/glexec\n";
    assert_eq!(load(text).sailplane_switch, glexec);
    let off = text.replace("True", "False");
    assert!(matches!(load(&off).sailplane_switch, Offered::Switch(_)));
    let ours = format!("{text}SAILPLANE_SWITCH = sudo\n");
    assert_eq!(
        load(&ours).sailplane_switch,
        Offered::Sudo("/usr/bin/sudo".into())
    );
    for (word, wanted) in [
        ("NEVER", SwitchWish::Never),
        ("\"OPTIONAL\"", SwitchWish::Optional),
        ("REQUIRED", SwitchWish::Required),
    ] {
        let knobs = load(&format!("GLIDEIN_Glexec_Use = {word}\n"));
        assert_eq!(knobs.identity_switch, wanted);
    }
    assert_eq!(
        mistakes("SAILPLANE_SWITCH = glexec\n"),
        [
            "/pilot.conf:2: SAILPLANE_SWITCH: expected the path of the helper, glexec:PATH, sudo, sudo:PATH or none, got \"glexec\""
        ]
    );
}

#[test]
fn slots_have_accounts() {
    let knobs =
        load("SLOT1_USER = pool001\nslot12_user = pool002\nSLOT2_USER =\nSLOT1_USERS = x\n");
    let users: Vec<_> = knobs.slot_users.into_iter().collect();
    assert_eq!(
        users,
        [(1, "pool001".to_owned()), (12, "pool002".to_owned())]
    );
    for bad in ["-u", "#0", "a b", "root;x"] {
        assert_eq!(mistakes(&format!("SLOT1_USER = {bad}\n")).len(), 1, "{bad}");
    }
}

#[test]
fn brokers_of_connections_are_addresses_as_collectors_are() {
    let knobs = load(
        "CCB_ADDRESS = $(COLLECTOR_HOST), <192.0.2.1:9620?sock=c>#7 b:9619 cm.example.org:9618\n\
         CCB_HEARTBEAT_INTERVAL = 0\nPRIVATE_NETWORK_NAME = site.lan\n",
    );
    let brokers: Vec<String> = knobs.ccb.brokers.iter().map(ToString::to_string).collect();
    assert_eq!(
        brokers,
        [
            "<cm.example.org:9618>",
            "<192.0.2.1:9620?sock=c>",
            "<b:9619>"
        ],
        "each once"
    );
    assert_eq!(knobs.ccb.heartbeat, None);
    assert_eq!(knobs.ccb.private_network.as_deref(), Some("site.lan"));
    assert!(knobs.warnings.is_empty(), "{:?}", knobs.warnings);
    let none = load("").ccb;
    assert!(none.brokers.is_empty() && !none.required);
    assert_eq!(none.heartbeat, Some(Duration::from_secs(300)));
    let wrong = mistakes("CCB_ADDRESS = nowhere:0, [::1\nPRIVATE_NETWORK_NAME = a b\n");
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert!(wrong.iter().all(|line| line.contains("/pilot.conf:")));
}

#[test]
fn the_committed_page_of_the_manual_is_the_tables() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/knobs.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(page, manual()).unwrap();
    }
    let committed = std::fs::read_to_string(page).unwrap_or_default();
    assert!(
        committed == manual(),
        "docs/knobs.md is not what the table says; run this test with UPDATE_DOCS=1"
    );
}

#[test]
fn collectors_may_be_many_and_have_shared_ports() {
    let knobs = load_with(
        "COLLECTOR_HOST = a.example.org, b.example.org:9620?sock=collector <192.0.2.7:1234>",
        &[],
    )
    .unwrap();
    let shown: Vec<(String, u16)> = knobs
        .collectors
        .iter()
        .map(|c| (c.host().to_owned(), c.port()))
        .collect();
    assert_eq!(
        shown,
        [
            ("a.example.org".to_owned(), 9618),
            ("b.example.org".to_owned(), 9620),
            ("192.0.2.7".to_owned(), 1234)
        ]
    );
    assert_eq!(knobs.collectors[1].sock(), Some("collector"));
    let errors = load_with("use ROLE : Personal", &[]).unwrap_err();
    assert!(errors.to_string().contains("port 0"), "{errors}");
}

#[test]
fn port_ranges_for_the_command_port_and_for_jobs() {
    let knobs = load("LOWPORT = 9000\nHIGHPORT = 9100\nIN_LOWPORT = 9050\nIN_HIGHPORT = 9060\n");
    assert_eq!(
        (knobs.port_range, knobs.job_port_range),
        (Some((9050, 9060)), Some((9000, 9100)))
    );
    assert_eq!(mistakes("LOWPORT = 9\nHIGHPORT = 8\n").len(), 1);
    assert_eq!(mistakes("LOWPORT = 0\nHIGHPORT = 8\n").len(), 1);
}

#[test]
fn the_command_port_is_opened_by_a_list_or_a_certificate_and_by_nothing_else() {
    for closed in [
        "",
        "ALLOW_READ =\n",
        "DENY_READ = *\n",
        "ALLOW_WRITE = *\n",
        "ALLOW_ADVERTISE_STARTD = *\n",
        "SEC_READ_AUTHENTICATION = REQUIRED\n",
    ] {
        let knobs = load(closed);
        assert!(knobs.port_security.is_none(), "{closed}");
        assert_eq!(knobs.warnings, Vec::<String>::new(), "{closed}");
    }
    for opener in [
        "ALLOW_READ",
        "ALLOW_READ_STARTD",
        "ALLOW_DAEMON",
        "ALLOW_DAEMON_STARTD",
        "ALLOW_ADMINISTRATOR",
        "ALLOW_ADMINISTRATOR_STARTD",
    ] {
        let knobs = load(&format!("{opener} = alice@site.example.org\n"));
        assert!(
            knobs.port_security.is_some(),
            "{opener}: {:?}",
            knobs.warnings
        );
    }
}

#[test]
fn a_mistake_about_the_command_port_keeps_it_closed_and_is_named() {
    for (text, named) in [
        ("ALLOW_READ = 192.0.2.0/99\n", "ALLOW_READ"),
        (
            "ALLOW_READ = *\nCERTIFICATE_MAPFILE = /no/such/map\n",
            "/no/such/map",
        ),
        (
            "AUTH_SSL_SERVER_CERTFILE = /no/such/cert.pem\n",
            "AUTH_SSL_SERVER_",
        ),
        (
            "ALLOW_READ = *\nSEC_READ_AUTHENTICATION = SOMETIMES\n",
            "SEC_READ_AUTHENTICATION",
        ),
    ] {
        let knobs = load(text);
        assert!(knobs.port_security.is_none(), "{text}");
        let told = knobs.warnings.join("\n");
        assert!(
            told.contains(named) && told.contains("open to holders of claims only"),
            "{text}: {told}"
        );
    }
}

#[test]
fn numbers_may_be_expressions_and_refer_to_facts() {
    let knobs = load(
        "NUM_CPUS = $(DETECTED_CPUS) / 2\nMEMORY = 1024 * 4\nMachineMaxVacateTime = 2 * 60\nCLAIM_WORKLIFE = -1\n\
         MAXJOBRETIREMENTTIME = ifThenElse(TARGET.Long, 3600, 60)\nSTARTER_RLIMIT_AS = 0\n\
         STARTER_JOB_ENVIRONMENT = \"A=1 B='x y'\"\n",
    );
    assert_eq!((knobs.num_cpus, knobs.memory_mib), (Some(4), Some(4096)));
    assert_eq!(knobs.max_vacate_time, Duration::from_secs(120));
    assert_eq!((knobs.claim_worklife, knobs.rlimit_as_mib), (None, None));
    let variables = [
        ("A".to_owned(), "1".to_owned()),
        ("B".to_owned(), "x y".to_owned()),
    ];
    assert_eq!(knobs.site_environment, variables);
}

#[test]
fn the_dump_is_a_configuration_that_means_the_same() {
    let knobs = load(
        "START = TARGET.A =?= 1\nSITE = \"X\"\nSTARTD_ATTRS = SITE\nMULTI @=end\n a\n b\n@end\nNUM_SLOTS = 2\n",
    );
    let dump = knobs.dump();
    assert!(
        dump.contains("# /pilot.conf:2\nSTART = TARGET.A =?= 1\n"),
        "{dump}"
    );
    assert!(
        dump.contains("# default (s)\nUPDATE_INTERVAL = 300\n"),
        "{dump}"
    );
    assert!(dump.contains("# LOG is not set\n"), "{dump}");
    assert!(dump.contains("# /pilot.conf:3\nSITE = \"X\"\n"), "{dump}");
    let again = load_with(&dump, &[]).unwrap_or_else(|errors| panic!("{errors}\n{dump}"));
    assert_eq!(again.start, knobs.start);
    assert_eq!(
        (again.num_slots, again.startd_attrs),
        (Some(2), knobs.startd_attrs)
    );
}

#[test]
fn the_command_line_wins_over_everything() {
    let files = MemoryFiles::new()
        .file(
            "/root.conf",
            "COLLECTOR_HOST = file\nNUM_SLOTS = 1\nSTARTD.NUM_CPUS = 4",
        )
        .variable("CONDOR_CONFIG", "/root.conf")
        .variable("_CONDOR_COLLECTOR_HOST", "environment")
        .variable("_CONDOR_NUM_SLOTS", "2");
    let sets = [("NUM_SLOTS".to_owned(), "3".to_owned())];
    let config = read(&files, &[], &sets, &detected()).unwrap();
    let knobs = Knobs::from_config(&config, &detected()).unwrap();
    assert_eq!(knobs.collector_host, "environment");
    assert_eq!((knobs.num_slots, knobs.num_cpus), (Some(3), Some(4)));
}

#[test]
fn every_knob_of_the_table_is_read_and_has_a_good_default() {
    let files = MemoryFiles::new();
    let sets = [("COLLECTOR_HOST".to_owned(), "cm".to_owned())];
    let config = read(&files, &[], &sets, &detected()).unwrap();
    let mut reader = Reader::new(&config);
    let _ = check::read(&mut reader, &detected());
    assert!(reader.errors.is_empty(), "{:?}", reader.errors);
    let seen: BTreeSet<&str> = reader.seen.iter().copied().collect();
    let table: BTreeSet<&str> = all()
        .filter_map(|knob| knob.names.first().copied())
        .collect();
    assert_eq!(seen, table);
    let names: Vec<&str> = all().flat_map(|knob| knob.names).copied().collect();
    assert_eq!(
        names.iter().collect::<BTreeSet<_>>().len(),
        names.len(),
        "a name twice"
    );
    let manual = manual();
    assert!(
        names
            .iter()
            .all(|name| manual.contains(&format!("`{name}`")))
    );
}
