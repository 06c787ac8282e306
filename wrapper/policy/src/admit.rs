//! May this account call? (requirements G11, S23)

use launch_protocol::broker::Refusal;
use launch_protocol::policy::Caller;

use crate::config::{Config, NOBODY, NamePattern};
use crate::pattern::Pattern;
use crate::refuse::{caller as refused, site};
use crate::target::Target;

/// A possible payload account and where it is named.
pub(crate) struct Possible<'a> {
    pub(crate) target: &'a Target,
    pub(crate) source: String,
}

/// Judges the caller; `true`: it need not present a private key.
pub(crate) fn admit(
    config: &Config,
    caller: &Caller,
    possible: &[Possible<'_>],
) -> Result<bool, Refusal> {
    lists_are_sound(config, caller, possible)?;
    let name = caller.name.as_deref();
    let shown = format!("uid {} ({})", caller.uid, name.unwrap_or("no name"));
    let listed = |patterns: &[NamePattern]| {
        patterns.iter().any(|pattern| match pattern {
            NamePattern::Anyone => true,
            // By number, so that two names for one number are one caller.
            NamePattern::Name(name) => caller
                .listed_users
                .iter()
                .any(|(known, uid)| known == name && *uid == caller.uid),
            NamePattern::Pool(_) => name.is_some_and(|name| pattern.matches(name)),
        })
    };
    let by_group = caller
        .listed_groups
        .iter()
        .any(|(_, gid)| caller.groups.contains(gid));
    if !listed(&config.callers) && !by_group {
        return Err(refused(
            "caller.not_listed",
            format!("{shown} is not in user_white_list or group_white_list of the configuration"),
        ));
    }
    let unfit = |why: &str| {
        Err(refused(
            "caller.unfit",
            format!("{shown} may not call this program: {why}"),
        ))
    };
    if caller.uid == NOBODY {
        return unfit("nobody is the verifier's account");
    }
    if config.is_dynamic(caller.uid) {
        return unfit("its number lies in dynamic_uids, so it may be a payload");
    }
    let payload = possible
        .iter()
        .find(|possible| name.is_some_and(|name| pattern_of(possible.target).matches(name)));
    if let Some(payload) = payload {
        return unfit(&format!("{} maps payloads to this account", payload.source));
    }
    if let Some(name) =
        name.filter(|name| config.slot_accounts.iter().any(|slot| slot.matches(name)))
    {
        return unfit(&format!(
            "slot_accounts names {name}, so it may be a payload"
        ));
    }
    if !config.caller_executables.is_empty() {
        let program = caller.executable.as_deref().and_then(|path| path.to_str());
        let allowed = program.is_some_and(|program| {
            let fits = |text: &String| Pattern::parse(text).is_some_and(|one| one.matches(program));
            config.caller_executables.iter().any(fits)
        });
        if !allowed {
            let program = program.unwrap_or("a program that cannot be told");
            return Err(refused(
                "caller.executable",
                format!("{program} is not in caller_executables of the configuration"),
            ));
        }
    }
    let omit = config
        .may_omit_key
        .iter()
        .any(|pattern| name.is_some_and(|name| pattern.matches(name)));
    Ok(omit)
}

/// No account that may call is one that payloads run as.
fn lists_are_sound(
    config: &Config,
    caller: &Caller,
    possible: &[Possible<'_>],
) -> Result<(), Refusal> {
    let both = |who: &str, source: &str| {
        site(
            "conf.listed_target",
            format!(
                "user_white_list names {who}, which is also a possible payload account ({source}); \
                 use separate accounts for pilots and payloads"
            ),
        )
    };
    let dynamic = caller
        .listed_users
        .iter()
        .find(|(_, uid)| config.is_dynamic(*uid));
    if let Some((name, _)) = dynamic {
        return Err(both(name, "dynamic_uids"));
    }
    for possible in possible {
        let target = pattern_of(possible.target);
        let listed = config
            .callers
            .iter()
            .find(|pattern| **pattern != NamePattern::Anyone && pattern.overlaps(&target));
        match listed {
            Some(NamePattern::Name(name)) => return Err(both(name, &possible.source)),
            Some(NamePattern::Pool(prefix)) => {
                return Err(both(&format!(".{prefix}"), &possible.source));
            }
            _ => {}
        }
    }
    Ok(())
}

fn pattern_of(target: &Target) -> NamePattern {
    match target {
        Target::Account(name) => NamePattern::Name(name.clone()),
        Target::Pool(prefix) => NamePattern::Pool(prefix.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(lines: &str) -> Config {
        let text = format!("[switch]\ncertdir=/c\ndynamic_uids=60000-60009\n{lines}\n");
        Config::parse(text.as_bytes()).expect("good")
    }

    fn caller(uid: u32, name: Option<&str>) -> Caller {
        Caller {
            uid,
            name: name.map(str::to_owned),
            groups: vec![500],
            executable: Some("/usr/bin/sailplane".into()),
            listed_users: vec![("pilot".into(), 2000)],
            listed_groups: vec![("pilots".into(), 700)],
        }
    }

    fn code(lines: &str, caller: &Caller) -> String {
        admit(&config(lines), caller, &[]).map_or_else(|refusal| refusal.code, |_| "ok".to_owned())
    }

    #[test]
    fn g11_only_listed_callers_are_admitted() {
        let list = "user_white_list=pilot .glide";
        assert_eq!(code(list, &caller(2000, Some("pilot"))), "ok");
        // Another name for the same number.
        assert_eq!(code(list, &caller(2000, Some("toor"))), "ok");
        assert_eq!(code(list, &caller(2001, Some("glide07"))), "ok");
        assert_eq!(code("user_white_list=*", &caller(2002, None)), "ok");
        for bad in [
            caller(2002, Some("eve")),
            caller(2002, None),
            caller(2003, Some("glide")),
        ] {
            assert_eq!(code(list, &bad), "caller.not_listed");
        }
        // The name alone, with another number, is somebody else.
        assert_eq!(
            code(list, &caller(2009, Some("pilot"))),
            "caller.not_listed"
        );
    }

    #[test]
    fn g11_members_of_a_listed_group_are_admitted() {
        let mut member = caller(2002, Some("eve"));
        assert_eq!(
            code("group_white_list=pilots", &member),
            "caller.not_listed"
        );
        member.groups.push(700);
        assert_eq!(code("group_white_list=pilots", &member), "ok");
    }

    #[test]
    fn s23_payload_accounts_and_nobody_never_call() {
        for uid in [60_003, NOBODY] {
            assert_eq!(
                code("user_white_list=*", &caller(uid, None)),
                "caller.unfit"
            );
        }
        let slot = "user_white_list=*\nslot_accounts=.slot";
        assert_eq!(code(slot, &caller(3000, Some("slot7"))), "caller.unfit");
        let target = Target::Account("alice".into());
        let possible = [Possible {
            target: &target,
            source: "/etc/map:3".into(),
        }];
        let refusal = admit(
            &config("user_white_list=*"),
            &caller(3001, Some("alice")),
            &possible,
        )
        .expect_err("a payload account");
        assert!(refusal.code == "caller.unfit" && refusal.message.contains("/etc/map:3"));
    }

    #[test]
    fn g11_a_listed_caller_that_is_a_possible_target_stops_everything() {
        let pilot = caller(2000, Some("pilot"));
        for (list, target) in [
            ("pilot", Target::Account("pilot".into())),
            (".glide", Target::Account("glide3".into())),
            ("glide3", Target::Pool("glide".into())),
            (".glide", Target::Pool("glide".into())),
        ] {
            let possible = [Possible {
                target: &target,
                source: "/etc/map:3".into(),
            }];
            let config = config(&format!("user_white_list={list} pilot"));
            let refusal = admit(&config, &pilot, &possible).expect_err("a mistake");
            assert_eq!(refusal.code, "conf.listed_target", "{list}");
            assert!(
                refusal.message.contains("/etc/map:3"),
                "{}",
                refusal.message
            );
        }
        let mut dynamic = pilot;
        dynamic.listed_users.push(("odd".into(), 60_001));
        assert_eq!(
            code("user_white_list=pilot odd", &dynamic),
            "conf.listed_target"
        );
    }

    #[test]
    fn only_from_allowed_programs_if_so_configured() {
        let lines = |list: &str| format!("user_white_list=pilot\ncaller_executables={list}");
        let mut pilot = caller(2000, Some("pilot"));
        assert_eq!(code(&lines("/usr/bin/sailplane"), &pilot), "ok");
        assert_eq!(code(&lines("/opt/x,/usr/*/sailplane"), &pilot), "ok");
        assert_eq!(code(&lines("/usr/bin/sail"), &pilot), "caller.executable");
        pilot.executable = None;
        assert_eq!(
            code(&lines("/usr/bin/sailplane"), &pilot),
            "caller.executable"
        );
    }

    #[test]
    fn c3_the_key_may_be_left_out_by_few() {
        let lines = "user_white_list=*\nomission_private_key_white_list=tomcat";
        assert_eq!(
            admit(&config(lines), &caller(91, Some("tomcat")), &[]),
            Ok(true)
        );
        assert_eq!(
            admit(&config(lines), &caller(92, Some("pilot2")), &[]),
            Ok(false)
        );
    }
}
