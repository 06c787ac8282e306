//! From values to the configuration; finds everything that is wrong, not only the first mistake.

use std::path::PathBuf;

use launch_protocol::policy::{
    AuditSettings, Hook, Isolation, LimitRules, Required, Settings, Targets, VerifierSettings,
};

use super::values::{
    self, MAX_UID, WANT_CALLERS, WANT_NAMES, WANT_PATH, WANT_SECONDS, WANT_UID, WANT_UIDS, WANT_YES,
};
use super::{Config, ConfigError, FileKind, NamePattern, Problem, Step, Values};
use crate::hours::{Hours, Zone};

/// Seconds: longer than the pool needs between two jobs of a slot, and short beside the hours a slot
/// without jobs waits.
const WARM_TIME: u32 = 30;
const KILL_GRACE: u32 = 5;
const KILL_BEFORE_EXPIRY: u32 = 60;
const MAPPER_TIMEOUT: u32 = 10;
const HOOK_TIMEOUT: u32 = 300;
const LOG_MAX_SIZE: u64 = 16 << 20;
const LOG_KEEP: u32 = 8;
const RUNDIR: &str = "/run/sailplane";
const COMMAND_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

pub(super) fn parse(text: &[u8]) -> Result<Config, Vec<ConfigError>> {
    let mut v = Values::read(text);
    if v.errors.iter().any(|error| error.line == 0) {
        return Err(v.errors);
    }
    let callers = v.get("user_white_list", WANT_CALLERS, values::callers);
    let caller_groups = names(&mut v, "group_white_list");
    let lists = ["user_white_list", "group_white_list"];
    if lists.iter().all(|key| v.find(key).is_none()) {
        v.complain(0, Problem::Missing("user_white_list"));
    }
    let callers = callers.unwrap_or_default();
    let verifier = verifier(&mut v);
    let (files, policy_files) = policy_files(&mut v);
    let slot_accounts = v
        .get("slot_accounts", "account names or .prefix", |value| {
            values::callers(value).filter(|list| !list.contains(&NamePattern::Anyone))
        })
        .unwrap_or_default();
    let mapper_timeout = v
        .get("mapper_timeout", "seconds, from 1 to 60", |value| {
            values::within(value, 1, 60)
        })
        .unwrap_or(MAPPER_TIMEOUT);
    let of_kind = |names: fn(&NamePattern) -> Option<&String>| {
        callers
            .iter()
            .filter_map(names)
            .cloned()
            .collect::<Vec<_>>()
    };
    let settings = Settings {
        caller_names: of_kind(|pattern| match pattern {
            NamePattern::Name(name) => Some(name),
            _ => None,
        }),
        caller_prefixes: of_kind(|pattern| match pattern {
            NamePattern::Pool(prefix) => Some(prefix),
            _ => None,
        }),
        caller_groups,
        targets: targets(&mut v),
        execute_dirs: v
            .get(
                "execute_dirs",
                "absolute paths without . or .. (not / itself)",
                |value| {
                    values::paths(value)
                        .filter(|dirs| dirs.iter().all(|dir| dir.parent().is_some()))
                },
            )
            .unwrap_or_default(),
        libexec: path(&mut v, "libexec"),
        rundir: path(&mut v, "rundir").unwrap_or_else(|| PathBuf::from(RUNDIR)),
        gridmapdir: path(&mut v, "gridmapdir"),
        gridmapdir_min_idle: seconds(&mut v, "gridmapdir_min_idle", 0),
        policy_files,
        verifier,
        required: v
            .get(
                "credential_required",
                "user or pilot+user",
                |value| match value {
                    "user" => Some(Required::User),
                    "pilot+user" => Some(Required::PilotAndUser),
                    _ => None,
                },
            )
            .unwrap_or(Required::User),
        audit: audit(&mut v),
        warm_time: v
            .get("warm_time", "seconds, from 1 to 86400", |value| {
                values::within(value, 1, 86_400)
            })
            .unwrap_or(WARM_TIME),
        kill_grace: seconds(&mut v, "kill_grace", KILL_GRACE),
        orphan_grace: seconds(&mut v, "orphan_grace", 0),
        kill_before_expiry: seconds(&mut v, "kill_before_expiry", KILL_BEFORE_EXPIRY),
        limits: limits(&mut v),
        isolation: Isolation {
            private_tmp: yes(&mut v, "private_tmp", false),
            private_pid: yes(&mut v, "private_pid", false),
            chroot: path(&mut v, "chroot"),
            forbidden_owners: v
                .get("forbidden_owners", WANT_UIDS, values::uids)
                .unwrap_or_default(),
        },
        prologue: hook(
            &mut v,
            [
                "prologue",
                "prologue_user",
                "prologue_group",
                "prologue_timeout",
            ],
        ),
        epilogue: hook(
            &mut v,
            [
                "epilogue",
                "epilogue_user",
                "epilogue_group",
                "epilogue_timeout",
            ],
        ),
        linger: yes(&mut v, "linger", true),
        preserve_env: v
            .get(
                "preserve_env_variables",
                "names of variables, without those that loaders and shells obey (LD_*, MALLOC_*, \
                 GCONV_PATH, GLIBC_TUNABLES, BASH_ENV, ENV, IFS)",
                |value| match values::words(value).next() {
                    // Site files have the key without a value.
                    None => Some(Vec::new()),
                    Some(_) => values::list(value, values::variable),
                },
            )
            .unwrap_or_default(),
        front: front(&mut v),
    };
    let mapper = files
        .iter()
        .position(|kind| *kind == FileKind::Mapper)
        .and_then(|place| settings.policy_files.get(place))
        .map(|program| (program.clone(), mapper_timeout));
    let steps = steps(&mut v, &files, &settings, &slot_accounts);
    let config = Config {
        may_omit_key: v
            .get(
                "omission_private_key_white_list",
                WANT_CALLERS,
                values::callers,
            )
            .unwrap_or_default(),
        caller_executables: v
            .get(
                "caller_executables",
                "absolute paths, with * if need be",
                |value| values::list(value, |word| word.starts_with('/').then(|| word.to_owned())),
            )
            .unwrap_or_default(),
        hours: hours(&mut v),
        steps,
        slot_accounts,
        gridmap_patterns: yes(&mut v, "gridmap_patterns", false),
        mapper,
        files,
        callers,
        settings,
    };
    legacy(&mut v);
    together(&mut v, &config);
    let mut errors = v.errors;
    // What is wrong with a line is more telling than what is missing.
    errors.sort_by_key(|error| (error.line == 0, error.line));
    if errors.is_empty() {
        Ok(config)
    } else {
        Err(errors)
    }
}

fn path(v: &mut Values<'_>, key: &'static str) -> Option<PathBuf> {
    v.get(key, WANT_PATH, values::path)
}

fn yes(v: &mut Values<'_>, key: &'static str, otherwise: bool) -> bool {
    v.get(key, WANT_YES, values::yes).unwrap_or(otherwise)
}

fn seconds(v: &mut Values<'_>, key: &'static str, otherwise: u32) -> u32 {
    v.get(key, WANT_SECONDS, values::seconds)
        .unwrap_or(otherwise)
}

fn names(v: &mut Values<'_>, key: &'static str) -> Vec<String> {
    v.get(key, WANT_NAMES, values::names).unwrap_or_default()
}

fn targets(v: &mut Values<'_>) -> Targets {
    let targets = Targets {
        uid_min: v
            .get("target_uid_min", WANT_UID, values::uid)
            .unwrap_or(1000),
        uid_max: v
            .get("target_uid_max", WANT_UID, values::uid)
            .unwrap_or(MAX_UID),
        prefixes: names(v, "account_prefixes"),
        forbidden: names(v, "forbidden_accounts"),
        dynamic_uids: v.get(
            "dynamic_uids",
            "FIRST-LAST, from 1000 up, at most 65536 of them, without 65534",
            values::uid_range,
        ),
    };
    if targets.uid_min > targets.uid_max {
        let line = v.line_of("target_uid_max").max(v.line_of("target_uid_min"));
        let problem = Problem::BadValue("target_uid_max", "at least target_uid_min");
        v.complain(line, problem);
    }
    targets
}

/// Bans first: they are judged first. The files of the maps in the order of their keys here.
fn policy_files(v: &mut Values<'_>) -> (Vec<FileKind>, Vec<PathBuf>) {
    let bans = v
        .get("ban_lists", "at most 16 absolute paths", |value| {
            values::paths(value).filter(|list| list.len() <= 16)
        })
        .unwrap_or_default();
    let maps = [
        ("gridmap", FileKind::Gridmap),
        ("vomsmap", FileKind::Vomsmap),
        ("tokenmap", FileKind::Tokenmap),
        ("groupmapfile", FileKind::Groupmap),
        ("mapper", FileKind::Mapper),
    ];
    let mut files: Vec<_> = bans
        .into_iter()
        .map(|file| (FileKind::Bans, file))
        .collect();
    for (key, kind) in maps {
        files.extend(path(v, key).map(|file| (kind, file)));
    }
    files.into_iter().unzip()
}

fn steps(
    v: &mut Values<'_>,
    files: &[FileKind],
    settings: &Settings,
    slot_accounts: &[NamePattern],
) -> Vec<Step> {
    let has = |step| match step {
        Step::Gridmap => files.contains(&FileKind::Gridmap),
        Step::Vomsmap => files.contains(&FileKind::Vomsmap),
        Step::Tokenmap => files.contains(&FileKind::Tokenmap),
        Step::Mapper => files.contains(&FileKind::Mapper),
        Step::Slot => !slot_accounts.is_empty(),
        Step::Dynamic => settings.targets.dynamic_uids.is_some(),
    };
    let configured = Step::ALL.into_iter().filter(|(_, step)| has(*step));
    let order = v.get(
        "mapping",
        "an order of gridmap, vomsmap, tokenmap, mapper, slot, dynamic",
        |value| {
            let order = values::list(value, |word| {
                let known = Step::ALL.into_iter().find(|(name, _)| *name == word);
                known.map(|(_, step)| step)
            })?;
            let twice = |(place, step)| order.iter().take(place).any(|before| before == step);
            (!order.iter().enumerate().any(twice)).then_some(order)
        },
    );
    let Some(order) = order else {
        let steps: Vec<_> = configured.map(|(_, step)| step).collect();
        let tried = [
            "gridmap",
            "vomsmap",
            "tokenmap",
            "mapper",
            "slot_accounts",
            "dynamic_uids",
            "mapping",
        ];
        if steps.is_empty() && tried.iter().all(|key| v.find(key).is_none()) {
            v.complain(0, Problem::Missing("gridmap or dynamic_uids"));
        }
        return steps;
    };
    let line = v.line_of("mapping");
    for (name, step) in Step::ALL {
        match (order.contains(&step), has(step)) {
            (true, false) => {
                let what = format!("mapping names {name}, for which nothing is configured");
                v.complain(line, Problem::Conflict(what));
            }
            (false, true) => {
                let what =
                    format!("mapping does not name {name}, for which something is configured");
                v.complain(line, Problem::Conflict(what));
            }
            _ => {}
        }
    }
    order
}

fn verifier(v: &mut Values<'_>) -> VerifierSettings {
    let mut words = Vec::new();
    let mut directories = Vec::new();
    let mut files = Vec::new();
    match path(v, "certdir") {
        Some(certdir) => {
            words.push(certdir.display().to_string());
            directories.push(certdir);
        }
        None if v.find("certdir").is_none() => v.complain(0, Problem::Missing("certdir")),
        None => {}
    }
    if let Some(vomsdir) = path(v, "vomsdir") {
        words.push(format!("vomsdir={}", vomsdir.display()));
        directories.push(vomsdir);
    }
    let limited = values::one_of(&["allow", "deny", "require"]);
    let limited = v.get("limited_proxy", "allow, deny or require", limited);
    words.extend(limited.map(|value| format!("limited-proxy={value}")));
    for (key, word) in [
        ("accept_gt3", "accept-gt3"),
        ("accept_legacy", "accept-legacy"),
        ("accept_plain_users", "accept-plain-users"),
        ("allow_sha1", "allow-sha1"),
        ("require_crl", "require-crl"),
        ("allow_missing_namespace", "allow-missing-namespace"),
    ] {
        let value = v.get(key, WANT_YES, values::yes);
        words.extend(value.map(|yes| format!("{word}={}", if yes { "yes" } else { "no" })));
    }
    for (key, word) in [
        ("minimum_rsa_bits", "minimum-rsa-bits"),
        ("minimum_proxy_rsa_bits", "minimum-proxy-rsa-bits"),
    ] {
        let bits = v.get(key, "a number from 1024 to 16384", |value| {
            values::within(value, 1024, 16_384)
        });
        words.extend(bits.map(|bits| format!("{word}={bits}")));
    }
    for (key, word) in [
        ("minimum_left", "minimum-left"),
        ("maximum_leaf_lifetime", "maximum-leaf-lifetime"),
        ("maximum_ac_lifetime", "maximum-ac-lifetime"),
    ] {
        let limit = v.get(key, WANT_SECONDS, values::seconds);
        words.extend(limit.map(|limit| format!("{word}={limit}")));
    }
    let levels = v.get(
        "maximum_proxy_lifetime",
        "seconds, one number for each level of proxies",
        |value| values::list(value, values::seconds),
    );
    for limit in levels.unwrap_or_default() {
        words.push(format!("maximum-proxy-lifetime={limit}"));
    }
    let host = v.get("host", "one printable word", values::word);
    words.extend(host.map(|host| format!("host={host}")));
    tokens(v, &mut words, &mut files);
    VerifierSettings {
        words,
        directories,
        files,
    }
}

fn tokens(v: &mut Values<'_>, words: &mut Vec<String>, files: &mut Vec<PathBuf>) {
    let issuers = v.get(
        "token_issuers",
        "words https://ISSUER=/PATH/OF/JWKS, without commas",
        |value| values::list(value, values::token_issuer),
    );
    for (issuer, file) in issuers.unwrap_or_default() {
        words.push(format!("issuer={issuer}"));
        words.push(format!("jwks={}", file.display()));
        files.push(file);
    }
    for (key, word) in [("token_audience", "audience"), ("token_scope", "scope")] {
        let list = v.get(key, "printable words", |value| {
            values::list(value, values::word)
        });
        for value in list.unwrap_or_default() {
            words.push(format!("{word}={value}"));
        }
    }
    let limit = v.get("maximum_token_lifetime", WANT_SECONDS, values::seconds);
    words.extend(limit.map(|limit| format!("maximum-token-lifetime={limit}")));
}

fn audit(v: &mut Values<'_>) -> AuditSettings {
    let file = path(v, "log_file");
    let to_file = v
        .get(
            "log_destination",
            "syslog or file",
            values::one_of(&["syslog", "file"]),
        )
        .is_some_and(|destination| destination == "file");
    if to_file && v.find("log_file").is_none() {
        v.complain(v.line_of("log_destination"), Problem::Missing("log_file"));
    }
    let facility = v
        .get(
            "syslog_facility",
            "a facility such as daemon or LOG_LOCAL0",
            values::facility,
        )
        .map_or(10, |(number, _)| number);
    AuditSettings {
        file,
        max_bytes: v
            .get("log_max_size", "bytes, from 64K, or 0", |value| {
                values::size(value).filter(|size| *size == 0 || *size >= 64 << 10)
            })
            .unwrap_or(LOG_MAX_SIZE),
        keep: v
            .get("log_keep", "a number from 0 to 99", |value| {
                values::within(value, 0, 99)
            })
            .unwrap_or(LOG_KEEP),
        syslog_facility: (!to_file).then_some(facility),
    }
}

fn limits(v: &mut Values<'_>) -> LimitRules {
    let nice = v.get("nice_min", "a number from 0 to 19", |value| {
        values::within(value, 0, 19).and_then(|nice| u8::try_from(nice).ok())
    });
    LimitRules {
        rlimits: v
            .get(
                "limits",
                "words NAME=MOST, with the names of prlimit and K, M, G, T or unlimited",
                |value| {
                    let limits = values::list(value, values::limit)?;
                    let twice = |(place, limit): (usize, &(u32, u64))| {
                        limits.iter().take(place).any(|before| before.0 == limit.0)
                    };
                    (!limits.iter().enumerate().any(twice)).then_some(limits)
                },
            )
            .unwrap_or_default(),
        nice_min: nice.unwrap_or(0),
        memory_bytes: v.get(
            "memory_limit",
            "bytes, from 1M, with K, M, G or T",
            |value| values::size(value).filter(|bytes| *bytes >= 1 << 20),
        ),
        pids: v.get("process_limit", "a number from 2", |value| {
            values::within(value, 2, u32::MAX)
        }),
        cpu_percent: v.get(
            "cpu_limit",
            "a number of processors such as 2 or 0.5",
            values::hundredths,
        ),
    }
}

fn hook(v: &mut Values<'_>, keys: [&'static str; 4]) -> Option<Hook> {
    let [program, user, group, timeout] = keys;
    let one = |value: &str| values::names(value).filter(|names| names.len() == 1)?.pop();
    let user = v.get(user, "the name of one account", one);
    let group = v.get(group, "the name of one group", one);
    let timeout = v
        .get(timeout, "seconds, from 1 to 86400", |value| {
            values::within(value, 1, 86_400)
        })
        .unwrap_or(HOOK_TIMEOUT);
    Some(Hook {
        program: path(v, program)?,
        user,
        group,
        timeout,
    })
}

fn hours(v: &mut Values<'_>) -> Option<Hours> {
    let zone = v
        .get(
            "allowed_hours_zone",
            "local, UTC or a zone such as Europe/Berlin",
            Zone::parse,
        )
        .unwrap_or_default();
    v.get(
        "allowed_hours",
        "windows such as Mon-Fri 20:00-06:00, Sat, Sun",
        |value| Hours::parse(value, zone),
    )
}

/// The words for the front of the one-shot form; what is left to default is said, too.
fn front(v: &mut Values<'_>) -> Vec<String> {
    let mut words = Vec::new();
    for (key, otherwise) in [
        ("create_target_proxy", true),
        ("prohibit_exec_via_symlink", false),
        ("pedantic_security_checks", false),
        ("silent_logging", false),
        ("logging_only", false),
    ] {
        let value = if yes(v, key, otherwise) { "yes" } else { "no" };
        words.push(format!("{key}={value}"));
    }
    for (key, wanted, choices) in [
        (
            "input_lock_mechanism",
            "flock, fcntl or disabled",
            &["flock", "fcntl", "disabled"][..],
        ),
        (
            "target_lock_mechanism",
            "flock, fcntl or disabled",
            &["flock", "fcntl", "disabled"],
        ),
        ("target_proxy_place", "run or home", &["run", "home"]),
    ] {
        let value = v.get(key, wanted, values::one_of(choices));
        let value = value.unwrap_or_else(|| choices.first().copied().unwrap_or_default());
        words.push(format!("{key}={value}"));
    }
    let level = v.get("log_level", "a number from 0 to 5", |value| {
        values::within(value, 0, 5)
    });
    words.push(format!("log_level={}", level.unwrap_or(3)));
    let facility = v
        .find("syslog_facility")
        .and_then(|(value, _)| values::facility(value));
    words.extend(facility.map(|(_, name)| format!("syslog_facility={name}")));
    let path = v.get(
        "command_path",
        "absolute paths, with colons between them",
        values::paths,
    );
    let path = path.map_or_else(
        || COMMAND_PATH.to_owned(),
        |list| {
            let list: Vec<_> = list.iter().map(|dir| dir.display().to_string()).collect();
            list.join(":")
        },
    );
    words.push(format!("command_path={path}"));
    words
}

/// Keys of gLExec that have one value, or none that matters, here.
fn legacy(v: &mut Values<'_>) {
    v.get(
        "use_lcas",
        "no: this program does not use LCAS; write bans into ban_lists",
        |value| values::yes(value).filter(|yes| !yes),
    );
    // Names of policies of LCMAPS; here there is one policy for both modes.
    for key in ["lcmaps_get_account_policy", "lcmaps_verify_account_policy"] {
        v.get(key, "names of policies, separated by colons", |value| {
            let sound = |name: &str| {
                !name.is_empty()
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
            };
            value
                .split(':')
                .all(|name| sound(name.trim()))
                .then_some(())
        });
    }
}

/// What no single value tells.
fn together(v: &mut Values<'_>, config: &Config) {
    // Payload accounts must not become callers by a mistake in a list (requirement G11).
    for (key, list) in [
        ("user_white_list", &config.callers),
        ("omission_private_key_white_list", &config.may_omit_key),
    ] {
        let slot = list
            .iter()
            .filter(|pattern| **pattern != NamePattern::Anyone)
            .find(|pattern| {
                config
                    .slot_accounts
                    .iter()
                    .any(|slot| pattern.overlaps(slot))
            });
        if slot.is_some() {
            let what = format!(
                "{key} and slot_accounts name the same account; pilots and payloads need separate accounts"
            );
            v.complain(v.line_of(key), Problem::Conflict(what));
        }
    }
    for (key, needs) in [
        ("groupmapfile", "vomsmap, dynamic_uids or tokenmap"),
        ("mapper_timeout", "mapper"),
        ("prologue_user", "prologue"),
        ("prologue_group", "prologue"),
        ("prologue_timeout", "prologue"),
        ("epilogue_user", "epilogue"),
        ("epilogue_group", "epilogue"),
        ("epilogue_timeout", "epilogue"),
        ("allowed_hours_zone", "allowed_hours"),
        ("tokenmap", "token_issuers"),
        ("token_issuers", "token_audience"),
        ("token_audience", "token_issuers"),
        ("maximum_token_lifetime", "token_issuers"),
        ("maximum_ac_lifetime", "vomsdir"),
        ("vomsmap", "vomsdir"),
        ("token_scope", "token_issuers"),
        ("gridmapdir_min_idle", "gridmapdir"),
    ] {
        let met = needs.split([',', ' ']).any(|word| v.find(word).is_some());
        if v.find(key).is_some() && !met {
            let what = format!("{key} does nothing without {needs}");
            v.complain(v.line_of(key), Problem::Conflict(what));
        }
    }
}
