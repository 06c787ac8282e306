//! ClassAd commands (1200) of a shadow that has lost its job: what it asks and what it is told (protocol page 03,
//! section 8). Pure.

use cedar::claim::{ClaimId, ClaimIdError};
use cedar::sinful::{Sinful, SinfulError};
use classad::ClassAd;

use crate::slot::Berth;

/// What is asked.
#[derive(Debug)]
pub(super) enum Ask {
    /// CA_LOCATE_STARTER: where is my job?
    Locate {
        /// `ClaimId`.
        claim: ClaimId,
        /// `GlobalJobId`.
        global_job_id: String,
        /// `ScheddIpAddr`.
        schedd: Sinful,
    },
    /// CA_RECONNECT_JOB: this connection is the syscall socket from now on.
    Reconnect(Box<ClassAd>),
}

/// What cannot be answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// It is something else.
    #[error("the ClassAd command {0:?} is not served here")]
    Unknown(String),
    /// An attribute is missing.
    #[error("the command has no {0}")]
    Missing(&'static str),
    /// The claim id is none.
    #[error("ClaimId is malformed: {0}")]
    Claim(#[from] ClaimIdError),
    /// The address is none.
    #[error("ScheddIpAddr is malformed: {0}")]
    Schedd(#[from] SinfulError),
}

/// Names of results (`htcondor:src/condor_utils/classad_command_util.cpp`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The job is not here: the shadow gives it up.
    NotThere,
    /// The request is none.
    Invalid,
}

impl Failure {
    const fn word(self) -> &'static str {
        match self {
            Self::NotThere => "Failure",
            Self::Invalid => "InvalidRequest",
        }
    }
}

/// Reads the command's ad.
pub(super) fn read(ad: ClassAd) -> Result<Ask, AskError> {
    let command = ad.string("Command").unwrap_or_default();
    let text = |name: &'static str| {
        ad.string(name)
            .filter(|text| !text.is_empty())
            .ok_or(AskError::Missing(name))
    };
    if command.eq_ignore_ascii_case("CA_LOCATE_STARTER") {
        return Ok(Ask::Locate {
            claim: ClaimId::parse(&text("ClaimId")?)?,
            global_job_id: text("GlobalJobId")?,
            schedd: Sinful::parse(&text("ScheddIpAddr")?)?,
        });
    }
    if command.eq_ignore_ascii_case("CA_RECONNECT_JOB") {
        return Ok(Ask::Reconnect(Box::new(ad)));
    }
    Err(AskError::Unknown(command))
}

/// To a shadow whose job is here.
pub(super) fn located(berth: &Berth) -> ClassAd {
    let mut ad = ClassAd::new();
    for name in [
        "StarterIpAddr",
        "HasReconnect",
        "CondorVersion",
        "CondorPlatform",
        "Name",
        "Machine",
    ] {
        if let Some(expr) = berth.starter.get(name) {
            ad.insert(name, expr.clone());
        }
    }
    ad.insert("GlobalJobId", berth.global_job_id.as_str());
    ad.insert("JobId", berth.job_id.as_str());
    success(ad)
}

/// To a shadow that is taken back.
pub(super) fn reconnected(berth: &Berth, now: i64) -> ClassAd {
    let mut ad = ClassAd::clone(&berth.starter);
    ad.insert("MyCurrentTime", now);
    success(ad)
}

fn success(mut ad: ClassAd) -> ClassAd {
    ad.insert("MyType", "Reply");
    ad.insert("TargetType", "Command");
    ad.insert("Result", "Success");
    ad
}

/// To one that is not.
pub(super) fn failed(failure: Failure, why: &str) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("MyType", "Reply");
    ad.insert("TargetType", "Command");
    ad.insert("Result", failure.word());
    ad.insert("ErrorString", why);
    ad
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cedar::{Coding, MessageReader};

    use super::*;
    use crate::transfer::testing::recorded;

    fn ad(body: &[u8]) -> ClassAd {
        MessageReader::new(Coding::Encrypted, body).ad().unwrap()
    }

    fn berth(starter: ClassAd) -> Berth {
        Berth {
            starter: Arc::new(starter),
            global_job_id: "pool@h#60.0#1".to_owned(),
            job_id: "60.0".to_owned(),
            reconnects: tokio::sync::mpsc::channel(1).0,
        }
    }

    #[test]
    fn recorded_requests_are_understood() {
        for name in [
            "exec-reconnect-locate-starter",
            "exec-reconnect2-locate-starter",
        ] {
            let messages = recorded(name);
            let Ask::Locate {
                claim,
                global_job_id,
                schedd,
            } = read(ad(&messages[0].body)).unwrap()
            else {
                panic!("{name}: something else");
            };
            assert!(claim.session_id().starts_with("<127.0.0.1:21488"), "{name}");
            assert!(global_job_id.starts_with("pool@127-0-0-1.test#"), "{name}");
            assert_eq!(schedd.host(), "127.0.0.1", "{name}");
        }
        for name in [
            "exec-reconnect-job",
            "exec-reconnect2-job",
            "exec-mini-reconnect-job",
        ] {
            let messages = recorded(name);
            let Ask::Reconnect(ad) = read(ad(&messages[0].body)).unwrap() else {
                panic!("{name}: something else");
            };
            assert!(ad.contains("TransferKey") && ad.contains("TransferSocket"));
        }
    }

    #[test]
    fn a_recorded_shadow_finds_in_our_answers_what_it_was_told_then() {
        // The pilot of the recording was taken back with exactly these attributes.
        let theirs = ad(&recorded("exec-mini-reconnect-job")[1].body);
        let mut starter = theirs.clone();
        for name in ["Result", "MyType", "TargetType"] {
            starter.remove(name);
        }
        let ours = reconnected(&berth(starter), 5);
        for (name, expr) in theirs.iter() {
            assert_eq!(ours.get(name.as_str()), Some(expr), "{name}");
        }
        let real = ad(&recorded("exec-reconnect-locate-starter")[1].body);
        let found = located(&berth(real.clone()));
        for name in ["Result", "StarterIpAddr", "HasReconnect", "MyType"] {
            assert_eq!(found.get(name), real.get(name), "{name}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = |lines: &str| {
            read(ClassAd::parse_old(lines).unwrap())
                .unwrap_err()
                .to_string()
        };
        assert!(text("Command = \"CA_LOCATE_STARTER\"").contains("ClaimId"));
        assert!(text("Command = \"CA_UPDATE_MACHINE_AD\"").contains("CA_UPDATE_MACHINE_AD"));
        assert!(text("A = 1").contains("not served"));
    }
}
