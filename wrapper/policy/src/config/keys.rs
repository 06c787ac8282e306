//! The keys that are known. Each may stand in either section, once.

/// What a word before `=` is.
pub(super) enum Known {
    Key(&'static str),
    /// A key of gLExec for what works differently here, and what to do instead.
    Replaced(&'static str, &'static str),
    No,
}

pub(super) fn find(word: &str) -> Known {
    if let Some(key) = GLEXEC.iter().chain(&SWITCH).find(|key| **key == word) {
        return Known::Key(key);
    }
    REPLACED
        .iter()
        .find(|(key, _)| *key == word)
        .map_or(Known::No, |(key, instead)| Known::Replaced(key, instead))
}

/// Those of an existing gLExec configuration (requirement G10).
pub(super) const GLEXEC: [&str; 24] = [
    "log_destination",
    "log_file",
    "log_level",
    "silent_logging",
    "syslog_facility",
    "user_white_list",
    "group_white_list",
    "linger",
    "use_lcas",
    "create_target_proxy",
    "target_lock_mechanism",
    "input_lock_mechanism",
    "preserve_env_variables",
    "omission_private_key_white_list",
    "prohibit_exec_via_symlink",
    "pedantic_security_checks",
    "certdir",
    "vomsdir",
    "lcmaps_get_account_policy",
    "lcmaps_verify_account_policy",
    "epilogue",
    "epilogue_user",
    "epilogue_group",
    "epilogue_timeout",
];

/// What gLExec does not have.
pub(super) const SWITCH: [&str; 64] = [
    "caller_executables",
    "credential_required",
    "ban_lists",
    "allowed_hours",
    "allowed_hours_zone",
    "forbidden_accounts",
    "account_prefixes",
    "target_uid_min",
    "target_uid_max",
    "mapping",
    "gridmap",
    "gridmap_patterns",
    "vomsmap",
    "tokenmap",
    "groupmapfile",
    "gridmapdir",
    "gridmapdir_min_idle",
    "slot_accounts",
    "dynamic_uids",
    "mapper",
    "mapper_timeout",
    "execute_dirs",
    "libexec",
    "rundir",
    "warm_time",
    "kill_grace",
    "orphan_grace",
    "kill_before_expiry",
    "limits",
    "nice_min",
    "memory_limit",
    "process_limit",
    "cpu_limit",
    "private_tmp",
    "private_pid",
    "chroot",
    "forbidden_owners",
    "prologue",
    "prologue_user",
    "prologue_group",
    "prologue_timeout",
    "log_max_size",
    "log_keep",
    "command_path",
    "target_proxy_place",
    "logging_only",
    "limited_proxy",
    "accept_gt3",
    "accept_legacy",
    "accept_plain_users",
    "allow_sha1",
    "require_crl",
    "allow_missing_namespace",
    "minimum_rsa_bits",
    "minimum_proxy_rsa_bits",
    "minimum_left",
    "maximum_proxy_lifetime",
    "maximum_leaf_lifetime",
    "maximum_ac_lifetime",
    "host",
    "token_issuers",
    "token_audience",
    "token_scope",
    "maximum_token_lifetime",
];

const LCAS: &str = "LCAS has no part in this program; write bans into ban_lists";
const LCMAPS_LOG: &str = "LCMAPS has no part in this program; see log_destination and log_file";

const REPLACED: [(&str, &str); 11] = [
    ("lock_mechanism", "the key is target_lock_mechanism"),
    (
        "lcmaps_db_file",
        "LCMAPS has no part in this program; write mappings into gridmap, vomsmap, groupmapfile, \
         gridmapdir or mapper, and bans into ban_lists",
    ),
    ("lcmaps_log_file", LCMAPS_LOG),
    ("lcmaps_log_level", LCMAPS_LOG),
    ("lcmaps_debug_level", LCMAPS_LOG),
    ("lcas_db_file", LCAS),
    ("lcas_log_file", LCAS),
    ("lcas_log_level", LCAS),
    ("lcas_debug_level", LCAS),
    (
        "user_identity_switch_by",
        "this program always switches itself; see logging_only",
    ),
    ("glexec_log_file", "the key is log_file"),
];
