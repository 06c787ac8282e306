//! What configuration and policy files say of a name, decided by the helper's own code, in this process: for names and
//! attributes of which there is no credential.

use std::fs::File;
use std::os::fd::OwnedFd;

use launch_protocol::broker::Refusal;
use launch_protocol::policy::{Case, CredentialKind, Decision, Party, Purpose};
use sailplane_policy::{Judge, Verdict};

use super::ground::{self, Ground};
use super::results::unix_now;

/// What the files make of somebody.
#[derive(Debug)]
pub(super) enum Judged {
    /// An account, and the line that says so.
    Account {
        /// Its name.
        name: String,
        /// File and line.
        source: String,
    },
    /// An account of this pool, and the line that says so.
    Pool {
        /// What its accounts are called, without the number.
        prefix: String,
        /// File and line.
        source: String,
    },
    /// Any free number.
    Dynamic,
    /// None.
    Refused(Refusal),
}

/// Decides for somebody of this name with these attributes.
///
/// # Errors
/// One sentence: why the files cannot be asked.
pub(super) fn of(ground: &Ground, dn: &str, fqans: &[String]) -> Result<Judged, String> {
    let open = |path: &std::path::Path| {
        File::open(path)
            .map_err(|error| format!("cannot read {}: {}", path.display(), ground::words(&error)))
    };
    let config = open(&ground.config_path)?;
    let mut judge = Judge::default();
    let settings = match judge.read(&config) {
        Ok(settings) => settings,
        Err(refusal) => return Ok(Judged::Refused(refusal)),
    };
    let files: Vec<OwnedFd> = settings
        .policy_files
        .iter()
        .map(|path| open(path).map(OwnedFd::from))
        .collect::<Result<_, _>>()?;
    let files = match judge.load(&open(&ground.config_path)?, files) {
        Ok(Some(files)) => files,
        Ok(None) => return Err("the configuration changes while it is read".to_owned()),
        Err(refusal) => return Ok(Judged::Refused(refusal)),
    };
    let party = Party {
        kind: CredentialKind::Proxy,
        identity: dn.to_owned(),
        fqans: fqans.to_vec(),
        issuers: Vec::new(),
        limited: false,
        not_after: i64::MAX,
    };
    let case = Case {
        purpose: Purpose::Run,
        // A site may require one; whose it is does not matter to the maps.
        pilot: Some(Party {
            identity: "/O=sailplane-site-test/CN=Pilot".to_owned(),
            fqans: Vec::new(),
            ..party.clone()
        }),
        holder: party,
        caller_uid: ground.caller_uid().unwrap_or(u32::MAX),
        caller_name: ground
            .caller
            .as_ref()
            .ok()
            .map(|account| account.name.clone()),
        slot_account: None,
        now_unix: unix_now(),
    };
    match files.decide(&case) {
        Ok(Verdict::Decided(Decision::Account { name, source, .. })) => {
            Ok(Judged::Account { name, source })
        }
        Ok(Verdict::Decided(Decision::Pool { prefix, source, .. })) => {
            Ok(Judged::Pool { prefix, source })
        }
        Ok(Verdict::Decided(Decision::Dynamic { .. })) => Ok(Judged::Dynamic),
        Ok(Verdict::Mapper(_)) => {
            Err("the external mapper decides, which is asked only with a credential".to_owned())
        }
        Err(refusal) => Ok(Judged::Refused(refusal)),
    }
}
