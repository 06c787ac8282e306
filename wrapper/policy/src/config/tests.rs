use launch_protocol::policy::Required;

use super::*;

const GOOD: &str = "\
# site policy
[glexec]
user_white_list = pilot, .glide  condor
[switch]
certdir = /etc/grid-security/certificates
gridmap = \"/etc/sailplane/gridmap\"
dynamic_uids = 60001-60016
execute_dirs = /scratch:/data/exec/
";

/// Every key that is known, with a good value; the file of requirement G10.
const ALL: &str = "\
[glexec]
linger = no
user_white_list = pilot,.glide
group_white_list = pilots
log_destination = file
log_file = /var/log/sailplane/switch.log
log_level = 5
silent_logging = yes
syslog_facility = LOG_LOCAL3
use_lcas = no
create_target_proxy = no
target_lock_mechanism = fcntl
input_lock_mechanism = disabled
preserve_env_variables = TMPDIR,LSB_JOBID
omission_private_key_white_list = tomcat
prohibit_exec_via_symlink = yes
pedantic_security_checks = yes
certdir = /etc/grid-security/certificates
vomsdir = /etc/grid-security/vomsdir
lcmaps_get_account_policy = glexec_get_account
lcmaps_verify_account_policy = glexec_verify_account:other
epilogue = /usr/libexec/site/epilogue
epilogue_user = janitor
epilogue_group = janitors
epilogue_timeout = 20
[switch]
caller_executables = /usr/bin/sailplane,/opt/*/python3
credential_required = pilot+user
ban_lists = /etc/sailplane/bans:/etc/sailplane/bans.local
allowed_hours = Mon-Fri 20:00-06:00, Sat, Sun
allowed_hours_zone = UTC
forbidden_accounts = admin oracle
account_prefixes = atlas cms slot
target_uid_min = 5000
target_uid_max = 90000
mapping = vomsmap gridmap tokenmap mapper slot dynamic
gridmap = /etc/grid-security/grid-mapfile
gridmap_patterns = yes
vomsmap = /etc/grid-security/voms-mapfile
tokenmap = /etc/sailplane/tokens
groupmapfile = /etc/grid-security/groupmapfile
gridmapdir = /etc/grid-security/gridmapdir
gridmapdir_min_idle = 864000
slot_accounts = .slot
dynamic_uids = 300000-300999
mapper = /usr/libexec/site/mapper
mapper_timeout = 3
execute_dirs = /scratch
libexec = /usr/lib/sailplane
rundir = /run/sailplane
warm_time = 10
kill_grace = 7
orphan_grace = 60
kill_before_expiry = 120
limits = nofile=65536 core=0 fsize=100G nproc=4096 as=unlimited
nice_min = 5
memory_limit = 8G
process_limit = 500
cpu_limit = 1.5
private_tmp = yes
private_pid = yes
chroot = /srv/image
forbidden_owners = 1, 4711
prologue = /usr/libexec/site/prologue
prologue_user = janitor
prologue_group = janitors
prologue_timeout = 5
log_max_size = 1M
log_keep = 3
command_path = /usr/bin:/bin
target_proxy_place = home
logging_only = no
limited_proxy = deny
accept_gt3 = yes
accept_legacy = yes
accept_plain_users = no
allow_sha1 = yes
require_crl = yes
allow_missing_namespace = yes
minimum_rsa_bits = 2048
minimum_proxy_rsa_bits = 1024
minimum_left = 600
maximum_proxy_lifetime = 604800 86400
maximum_leaf_lifetime = 86400
maximum_ac_lifetime = 604800
host = wn1.example.org
token_issuers = https://a.example/=/etc/sailplane/a.jwks https://b.example=/etc/sailplane/b.jwks
token_audience = https://site.example condor https://wlcg.cern.ch/jwt/v1/any
token_scope = compute.create
maximum_token_lifetime = 7200
";

fn parse(text: &str) -> Config {
    Config::parse(text.as_bytes()).unwrap_or_else(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        panic!("{errors:#?}")
    })
}

fn error(text: &str) -> String {
    let errors = Config::parse(text.as_bytes()).expect_err("must be refused");
    errors.first().expect("at least one").to_string()
}

#[test]
fn a_file_of_the_first_release_is_read() {
    let config = parse(GOOD);
    let settings = &config.settings;
    assert_eq!(settings.targets.dynamic_uids, Some((60_001, 60_016)));
    assert_eq!(
        settings.execute_dirs,
        [Path::new("/scratch"), Path::new("/data/exec")]
    );
    assert_eq!(settings.targets.uid_min, 1000);
    assert_eq!((settings.warm_time, settings.kill_before_expiry), (30, 60));
    assert_eq!(settings.caller_names, ["pilot", "condor"]);
    assert_eq!(settings.caller_prefixes, ["glide"]);
    assert_eq!(settings.verifier.words, ["/etc/grid-security/certificates"]);
    assert!(settings.linger);
    assert_eq!(config.steps, [Step::Gridmap, Step::Dynamic]);
    assert!(config.callers.iter().any(|c| c.matches("glide07")));
    assert!(!config.callers.iter().any(|c| c.matches("glide")));
    assert!(!config.callers.iter().any(|c| c.matches("glide07x")));
}

const EXAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../examples/site/switch.conf"
);

#[test]
fn the_shipped_example_is_understood() {
    let text = std::fs::read_to_string(EXAMPLE).expect("the example is in the repository");
    parse(&text);
    // With every key that it only shows, too; and it shows nearly all there are.
    let keys = || keys::GLEXEC.iter().chain(&keys::SWITCH);
    let uncommented: Vec<_> = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if keys().any(|key| rest.starts_with(&format!("{key} ="))) => rest,
            _ => line,
        })
        .collect();
    parse(&uncommented.join("\n"));
    let shown = keys().filter(|key| {
        uncommented
            .iter()
            .any(|line| line.starts_with(&format!("{key} =")))
    });
    assert!(shown.count() > 65);
}

#[test]
fn g10_a_file_with_every_key_is_read() {
    for key in keys::GLEXEC.iter().chain(&keys::SWITCH) {
        assert!(ALL.contains(&format!("\n{key} = ")), "{key}");
    }
    let config = parse(ALL);
    let settings = &config.settings;
    assert!(!settings.linger);
    assert_eq!(settings.required, Required::PilotAndUser);
    assert_eq!(settings.caller_groups, ["pilots"]);
    assert_eq!(settings.audit.syslog_facility, None);
    assert_eq!(settings.audit.max_bytes, 1 << 20);
    assert_eq!(settings.limits.cpu_percent, Some(150));
    assert_eq!(
        settings.limits.rlimits,
        [
            (7, 65_536),
            (4, 0),
            (1, 100 << 30),
            (6, 4096),
            (9, u64::MAX)
        ]
    );
    let epilogue = settings.epilogue.as_ref().expect("an epilogue");
    assert_eq!(
        (epilogue.user.as_deref(), epilogue.timeout),
        (Some("janitor"), 20)
    );
    assert_eq!(settings.policy_files.len(), 7);
    assert_eq!(config.files.first(), Some(&FileKind::Bans));
    assert_eq!(
        config.mapper,
        Some((PathBuf::from("/usr/libexec/site/mapper"), 3))
    );
    assert_eq!(config.steps.first(), Some(&Step::Vomsmap));
    for word in [
        "vomsdir=/etc/grid-security/vomsdir",
        "limited-proxy=deny",
        "require-crl=yes",
        "accept-plain-users=no",
        "maximum-proxy-lifetime=86400",
        "issuer=https://a.example/",
        "jwks=/etc/sailplane/a.jwks",
        "audience=condor",
    ] {
        assert!(
            settings.verifier.words.iter().any(|have| have == word),
            "{word}"
        );
    }
    for word in [
        "create_target_proxy=no",
        "input_lock_mechanism=disabled",
        "log_level=5",
        "syslog_facility=local3",
        "command_path=/usr/bin:/bin",
    ] {
        assert!(settings.front.iter().any(|have| have == word), "{word}");
    }
}

#[test]
fn g10_each_key_with_a_bad_value_is_refused_by_line() {
    let free = ["host", "token_audience", "token_scope"];
    for (index, line) in ALL.lines().enumerate() {
        let Some((key, _)) = line.split_once(" = ") else {
            continue;
        };
        // Words that go to the verifier as they are have no bad value but a blank one.
        let bad = if free.contains(&key) { "\u{e9}" } else { "!" };
        let text: String = ALL
            .lines()
            .enumerate()
            .map(|(number, line)| match number == index {
                true => format!("{key} = {bad}\n"),
                false => format!("{line}\n"),
            })
            .collect();
        let errors = Config::parse(text.as_bytes()).expect_err("must be refused");
        let wanted = format!("{}: {key} must be ", index + 1);
        assert!(
            errors
                .iter()
                .any(|error| error.to_string().starts_with(&wanted)),
            "{wanted}: {errors:?}"
        );
    }
    assert!(
        error(&ALL.replace("use_lcas = no", "use_lcas = yes"))
            .starts_with("10: use_lcas must be no")
    );
}

#[test]
fn g12_the_lcmaps_database_is_refused_with_what_replaces_it() {
    let got = error("[glexec]\nlcmaps_db_file = /etc/lcmaps/lcmaps-glexec.db\n");
    assert!(
        got.starts_with("2: lcmaps_db_file is not used here"),
        "{got}"
    );
    for key in [
        "gridmap",
        "vomsmap",
        "groupmapfile",
        "gridmapdir",
        "mapper",
        "ban_lists",
    ] {
        assert!(got.contains(key), "{got}");
    }
}

#[test]
fn what_is_not_understood_is_refused_with_its_line() {
    let cases = [
        ("[lcmaps]\n", "1: unknown section [lcmaps]"),
        ("certdir = /x\n", "1: a key stands before"),
        ("[switch]\ncertdri = /x\n", "2: unknown key certdri"),
        (
            "[switch]\ncertdir = /x\ncertdir = /y\n",
            "3: certdir was given before, on line 2",
        ),
        ("[switch]\ncertdir\n", "2: this is not a section"),
        (
            "[switch]\nuser_white_list = root!\n",
            "2: user_white_list must be",
        ),
        (
            "[switch]\nuser_white_list = 0\n",
            "2: user_white_list must be",
        ),
        (
            "[switch]\nuser_white_list =\n",
            "2: user_white_list must be",
        ),
        (
            "[switch]\nuser_white_list = .\n",
            "2: user_white_list must be",
        ),
        ("[switch]\ncertdir = etc/x\n", "2: certdir must be"),
        ("[switch]\ncertdir = /etc/../x\n", "2: certdir must be"),
        ("[switch]\nexecute_dirs=/\n", "2: execute_dirs must"),
        (
            "[switch]\nuser_white_list = a\0b\n",
            " the file is not UTF-8",
        ),
        (
            "[switch]\nmapping = gridmap gridmap\n",
            "2: mapping must be",
        ),
        (
            "[switch]\nlimits = nofile=1 nofile=2\n",
            "2: limits must be",
        ),
        (
            "[switch]\npreserve_env_variables = LD_PRELOAD\n",
            "2: preserve_env_variables must be",
        ),
        (
            "[switch]\npreserve_env_variables = A=B\n",
            "2: preserve_env_variables must be",
        ),
        (
            "[switch]\ntoken_issuers = https://a,b=/x\n",
            "2: token_issuers must be",
        ),
        (
            "[switch]\ntarget_uid_min = 0\n",
            "2: target_uid_min must be",
        ),
        (
            "[switch]\ntarget_uid_min = 2000\ntarget_uid_max = 1000\n",
            "3: target_uid_max must be at least",
        ),
    ];
    for (text, wanted) in cases {
        let errors = Config::parse(text.as_bytes()).expect_err("must be refused");
        assert!(
            errors
                .iter()
                .any(|error| error.to_string().starts_with(wanted)),
            "{text:?}: {errors:?}"
        );
    }
}

#[test]
fn everything_that_is_wrong_is_said() {
    let errors = Config::parse(b"[switch]\nbad = 1\ngridmap = x\nwarm_time = 0\n")
        .expect_err("must be refused");
    let lines: Vec<_> = errors.iter().map(ConfigError::line).collect();
    assert_eq!(lines, [2, 3, 4, 0, 0]);
}

#[test]
fn what_does_nothing_alone_is_a_mistake() {
    for (line, wanted) in [
        (
            "mapper_timeout = 5",
            "9: mapper_timeout does nothing without mapper",
        ),
        (
            "tokenmap = /etc/x",
            "9: tokenmap does nothing without token_issuers",
        ),
        ("mapping = gridmap", "9: mapping does not name dynamic"),
        ("mapping = gridmap dynamic slot", "9: mapping names slot"),
        ("log_destination = file", "9: log_file is not set"),
    ] {
        let got = error(&format!("{GOOD}{line}\n"));
        assert!(got.starts_with(wanted), "{line}: {got}");
    }
    let got = error("[switch]\nuser_white_list=a\ncertdir=/c\n");
    assert!(
        got.starts_with(" gridmap or dynamic_uids is not set"),
        "{got}"
    );
}

#[test]
fn g11_a_caller_that_is_a_slot_account_is_a_mistake() {
    for slots in ["condor", ".glide", "glide7", ".glide0"] {
        let got = error(&format!("{GOOD}slot_accounts = {slots}\n"));
        assert!(
            got.starts_with("3: user_white_list and slot_accounts name"),
            "{slots}: {got}"
        );
    }
    parse(&format!("{GOOD}slot_accounts = .slot glider\n"));
}

#[test]
fn m3_uid_ranges_that_could_hit_the_system_are_refused() {
    for bad in [
        "0-100",
        "999-2000",
        "2000-1999",
        "60000-70000",
        "1000-4294967295",
        "-5-3000",
        "1000-+2000",
        "1000",
        "1000-200000",
        "",
    ] {
        let text = format!("[switch]\nuser_white_list=a\ncertdir=/c\ndynamic_uids={bad}\n");
        assert!(error(&text).starts_with("4: dynamic_uids must be"), "{bad}");
    }
}

#[test]
fn numbers_with_units() {
    assert_eq!(values::size("4k"), Some(4096));
    assert_eq!(values::size("16777216T"), None);
    for bad in ["", "K", "-1", "1.5G", "1 G", "1GB"] {
        assert_eq!(values::size(bad), None, "{bad}");
    }
    assert_eq!(values::hundredths("0.5"), Some(50));
    assert_eq!(values::hundredths("2"), Some(200));
    for bad in ["0", "0.0", "1.234", ".5", "1.", "-1"] {
        assert_eq!(values::hundredths(bad), None, "{bad}");
    }
}
