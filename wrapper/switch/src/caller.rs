//! May this caller call? (requirements G11, M3)

use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::account::Caller;
use crate::config::{CallerPattern, Config, NOBODY};
use crate::error::StartupError;
use crate::mapping::{Known, LOOKED_UP_AT_START};
use crate::names::{Lookup, Query};

/// Looks up the caller, every account that `user_white_list` names, and the first dynamic uids, all
/// in one unprivileged child; then judges.
pub(crate) fn authorise(
    uid: u32,
    config: &Config,
    null: BorrowedFd<'_>,
) -> Result<(Caller, Known), StartupError> {
    let listed = config.callers.iter().filter_map(|pattern| match pattern {
        CallerPattern::Name(name) => Some(Query::Name(name.clone())),
        _ => None,
    });
    let dynamic = config.dynamic_uids.into_iter().flat_map(|(first, last)| {
        (first..=last)
            .take(usize::try_from(LOOKED_UP_AT_START).unwrap_or(0))
            .map(Query::Uid)
    });
    let queries: Vec<_> = std::iter::once(Query::Uid(uid))
        .chain(listed)
        .chain(dynamic)
        .collect();
    let now = Instant::now();
    let answers = Lookup::start(&queries, null)
        .map_err(|errno| StartupError::System("starting a look-up", errno))?
        .wait()
        .map_err(|failed| StartupError::Names(failed.0))?;

    let name = answers.first().cloned().flatten().map(|entry| entry.name);
    let listed: Vec<_> = queries
        .iter()
        .zip(&answers)
        .filter(|(query, _)| matches!(query, Query::Name(_)))
        .filter_map(|(_, answer)| answer.as_ref())
        .collect();
    if let Some(entry) = listed.iter().find(|entry| config.is_dynamic(entry.uid)) {
        return Err(StartupError::ListedTarget(entry.name.clone()));
    }
    let caller = Caller {
        uid,
        name,
        listed: listed.iter().map(|entry| entry.uid).collect(),
    };
    judge(&caller, config)?;
    let mut known = Known::new(std::process::id());
    known.learn_all(&queries, answers, now);
    Ok((caller, known))
}

fn judge(caller: &Caller, config: &Config) -> Result<(), StartupError> {
    let admitted = config
        .callers
        .iter()
        .any(|pattern| match (pattern, &caller.name) {
            (CallerPattern::Anyone, _) => true,
            // By number, so that two names for one number are one caller.
            (CallerPattern::Name(_), _) if caller.listed.contains(&caller.uid) => true,
            (pattern, Some(name)) => pattern.matches(name),
            (_, None) => false,
        });
    if !admitted {
        return Err(StartupError::CallerNotListed(
            caller.uid,
            caller.name.clone(),
        ));
    }
    let unfit = |why| Err(StartupError::CallerUnfit(caller.uid, why));
    if caller.uid == NOBODY {
        return unfit("nobody is the verifier's account");
    }
    if config.is_dynamic(caller.uid) {
        return unfit("its number lies in dynamic_uids, so it may be a payload");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(list: &str) -> Config {
        let text = format!(
            "[switch]\nuser_white_list={list}\ncertdir=/c\nexecute_dirs=/x\ndynamic_uids=60000-60009\n"
        );
        Config::parse(text.as_bytes()).expect("good")
    }

    fn caller(uid: u32, name: Option<&str>, listed: &[u32]) -> Caller {
        Caller {
            uid,
            name: name.map(str::to_owned),
            listed: listed.to_vec(),
        }
    }

    #[test]
    fn g11_only_listed_callers_are_admitted() {
        assert!(judge(&caller(2000, Some("pilot"), &[2000]), &config("pilot")).is_ok());
        assert!(judge(&caller(2001, Some("glide07"), &[]), &config(".glide")).is_ok());
        assert!(judge(&caller(2002, None, &[]), &config("*")).is_ok());
        for bad in [
            caller(2002, Some("eve"), &[2000]),
            caller(2002, None, &[2000]),
        ] {
            let error = judge(&bad, &config("pilot .glide")).expect_err("not listed");
            assert_eq!((error.status(), error.code()), (203, "caller.not_listed"));
        }
    }

    #[test]
    fn s23_payload_accounts_and_nobody_never_call() {
        for uid in [60_003, NOBODY] {
            let error = judge(&caller(uid, None, &[]), &config("*")).expect_err("unfit");
            assert_eq!((error.status(), error.code()), (203, "caller.unfit"));
        }
    }
}
