//! What tests share.

use launch_protocol::policy::{
    AuditSettings, Isolation, LimitRules, Required, Settings, Targets, VerifierSettings,
};

/// A site with pilot `pilot`, uids to 70000, ten of them dynamic.
pub(crate) fn settings() -> Settings {
    Settings {
        caller_names: vec!["pilot".into()],
        caller_prefixes: Vec::new(),
        caller_groups: Vec::new(),
        targets: Targets {
            uid_min: 1000,
            uid_max: 70_000,
            prefixes: Vec::new(),
            forbidden: Vec::new(),
            dynamic_uids: Some((60_000, 60_009)),
        },
        execute_dirs: vec!["/scratch".into()],
        libexec: None,
        rundir: "/run/sailplane".into(),
        gridmapdir: None,
        gridmapdir_min_idle: 0,
        policy_files: Vec::new(),
        verifier: VerifierSettings {
            words: Vec::new(),
            directories: Vec::new(),
            files: Vec::new(),
        },
        required: Required::User,
        audit: AuditSettings::default(),
        warm_time: 30,
        kill_grace: 10,
        orphan_grace: 0,
        kill_before_expiry: 60,
        limits: LimitRules::default(),
        isolation: Isolation::default(),
        prologue: None,
        epilogue: None,
        linger: true,
        preserve_env: Vec::new(),
        front: Vec::new(),
    }
}
